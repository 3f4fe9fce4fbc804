//! Promises: jobs of one process know nothing of one another, and one is stopped while another goes on; a run unlocks its
//! repository once, and goes on with no other.

use bakfs::access::Access;
use bakfs::error::ErrorKind;
use bakfs::format::header::Suite;
use bakfs::id::RepositoryId;
use bakfs::job::{Event, Job, Ran, Stop};
use bakfs::monitor::Silent;
use bakfs::settings::{Periodicity, Profile, Settings};
use bakfs::state::{Outcome, Run, StateDir};
use bakfs_testing::cli::Bakfs;
use bakfs_testing::process::run;
use bakfs_testing::{SOON, until};
use std::path::{Path, PathBuf};

/// A folder with a repository without encryption and two profiles. Each waits in its first hook until its file `go` is
/// there, and leaves a line in its file `off` when it ends.
struct World {
    folder: tempfile::TempDir,
    profiles: Vec<Profile>,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display().to_string();
        std::fs::create_dir(folder.path().join("source")).unwrap();
        std::fs::write(folder.path().join("source/file"), "content").unwrap();
        let profile = |name: &str| {
            format!(
                "[profile.{name}]\nsources = ['{at}/source']\nhooks.before = 'touch {at}/{name}.on; \
                 while [ ! -e {at}/{name}.go ]; do sleep 0.02; done'\nhooks.finally = 'echo off >> {at}/{name}.off'\n"
            )
        };
        let text = format!("repo = '{at}/repo'\nstate-dir = '{at}/state'\n{}{}", profile("one"), profile("other"));
        std::fs::write(folder.path().join("bakfs.toml"), text).unwrap();
        bakfs::repo::open::init_with_id(&folder.path().join("repo"), RepositoryId([7; 16]), Suite::Plain, &[]).unwrap();
        let settings = Settings::read(&folder.path().join("bakfs.toml")).unwrap();
        let profiles = ["one", "other"].map(|name| settings.profile(name).unwrap().clone()).to_vec();
        World { folder, profiles }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn state(&self) -> StateDir {
        StateDir::new(self.path("state"))
    }

    fn run(&self, at: usize, stop: &Stop) -> Ran {
        let access = Access {
            repo: Some(self.path("repo").into()),
            config: Some(self.path("bakfs.toml")),
            cache_dir: Some(self.path("cache")),
            ..Access::default()
        };
        let (profile, state) = (&self.profiles[at], self.state());
        let job = Job {
            profile,
            periodicity: Periodicity::Manual,
            access: &access,
            place: self.path("repo").display().to_string(),
            allow_empty: false,
            state: &state,
            stop,
            tell: &|event| assert!(!matches!(event, Event::Killed(_) | Event::Made(_))),
            monitor: &Silent,
        };
        job.run(|| ()).unwrap()
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn last(&self, at: usize) -> Run {
        self.state().profile(&self.profiles[at].name).last().unwrap().clone()
    }
}

fn is_there(path: &Path) -> bool {
    path.exists()
}

#[test]
fn one_job_is_stopped_and_another_in_the_same_process_goes_on() {
    let world = World::new();
    let (stop, other) = (Stop::default(), Stop::default());
    std::thread::scope(|scope| {
        let stopped = scope.spawn(|| world.run(0, &stop));
        let running = scope.spawn(|| world.run(1, &other));
        until("both jobs are in their first hooks", SOON, || {
            is_there(&world.path("one.on")) && is_there(&world.path("other.on"))
        });
        let run = stop.end(&world.state(), "It was stopped by a test").unwrap();
        assert_eq!((run.profile.as_str(), run.outcome), ("one", Outcome::Failed));
        assert_eq!(run.problems[0], "It was stopped by a test");
        assert_eq!(world.text("one.off"), "off\n", "the last hook is run before the stop returns");
        assert_eq!(world.last(0), run, "its record is kept");
        let Ran::Stopped(lock) = stopped.join().unwrap() else { panic!("it was stopped") };
        // Until who has stopped it lets it go, nobody else runs the profile, or its last hook.
        let taken = world.state().lock("one", Periodicity::Daily, std::time::Duration::ZERO);
        assert_eq!(taken.unwrap_err().kind(), ErrorKind::Busy);
        drop(lock);
        assert!(!is_there(&world.path("other.off")), "the other job has not ended");
        std::fs::write(world.path("other.go"), "").unwrap();
        let Ran::Ended(run) = running.join().unwrap() else { panic!("the other job has ended by itself") };
        assert_eq!((run.outcome, run.files), (Outcome::Success, 1), "{run:?}");
        assert_eq!(world.text("other.off"), "off\n");
    });
    assert_eq!(world.text("one.off"), "off\n", "and once");
    // What stops jobs stops those that come later too; another one does not.
    std::fs::write(world.path("one.go"), "").unwrap();
    assert!(matches!(world.run(0, &stop), Ran::Stopped(_)));
    assert!(matches!(world.run(0, &Stop::default()), Ran::Ended(Run { outcome: Outcome::Success, .. })));
}

#[test]
fn a_run_with_its_check_and_prune_unlocks_its_repository_once() {
    let bakfs = Bakfs::empty();
    let at = bakfs.path("").display().to_string().trim_end_matches('/').to_string();
    std::fs::create_dir_all(bakfs.path("source")).unwrap();
    std::fs::write(bakfs.path("source/file"), "content").unwrap();
    std::fs::write(bakfs.path("pw"), "secret").unwrap();
    std::fs::set_permissions(bakfs.path("pw"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let config = bakfs.path("once.toml");
    let text = format!(
        "repo = '{}'\npassword-file = '{at}/pw'\n[profile.web]\nsources = ['{at}/source']\ncheck = {{ every = '1h' }}\n\
         prune = {{ every = '1h' }}\n",
        bakfs.repo().display()
    );
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let mut init = bakfs.command(["--config", config, "init"]);
    init.env_remove("BAKFS_REPO");
    run(init).expect(0);
    let trace = bakfs.path("trace");
    let mut command = bakfs.wrap("strace");
    command.args(["-f", "-qq", "-e", "trace=open,openat", "-o"]).arg(&trace).arg(bakfs_testing::cli::program());
    command.args(["--config", config, "--json", "run", "web"]).env_remove("BAKFS_REPO");
    let outcome = run(command);
    let told: serde_json::Value = serde_json::from_str(&outcome.expect(0).text()).unwrap();
    assert_eq!((&told[0]["checked"], &told[0]["pruned"]), (&true.into(), &true.into()), "{told}");
    let trace = std::fs::read_to_string(trace).unwrap();
    let opened = |path: &Path| trace.matches(&format!("\"{}\"", path.display())).count();
    assert_eq!(opened(&bakfs.path("pw")), 1, "the passphrase is read once");
    let slots = bakfs.objects("keys");
    assert!(
        slots.len() == 2 && slots.iter().all(|(slot, _)| opened(slot) == 2),
        "once to unlock it, once by the check"
    );
    assert_eq!(opened(&bakfs.repo().join("config")), 3, "and later only to see that it is the same repository");
}

#[test]
fn a_run_whose_repository_is_exchanged_meanwhile_neither_checks_nor_prunes_another() {
    let bakfs = Bakfs::empty();
    let at = bakfs.path("").display().to_string().trim_end_matches('/').to_string();
    std::fs::create_dir_all(bakfs.path("source")).unwrap();
    std::fs::write(bakfs.path("source/file"), "content").unwrap();
    let config = bakfs.path("exchanged.toml");
    for (hook, said) in
        [("mv {at}/r {at}/away; mv {at}/other {at}/r", "another one"), ("mv {at}/r {at}/away", "not there any more")]
    {
        for name in ["r", "other"] {
            bakfs.ok(["--repo", &format!("{at}/{name}"), "init", "--encryption", "none"]);
        }
        let text = format!(
            "repo = '{at}/r'\n[profile.web]\nsources = ['{at}/source']\ncheck = {{ every = '1h' }}\nprune = {{ every = '1h' \
             }}\nhooks.finally = '{}'\n",
            hook.replace("{at}", &at)
        );
        std::fs::write(&config, text).unwrap();
        std::fs::set_permissions(&config, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let outcome = bakfs.run(["--config", config.to_str().unwrap(), "--json", "run", "web"]).expect(3);
        let told: serde_json::Value = serde_json::from_str(&outcome.text()).unwrap();
        assert_eq!((&told[0]["checked"], &told[0]["pruned"]), (&false.into(), &false.into()), "{told}");
        let problems = told[0]["problems"].as_array().unwrap();
        assert_eq!(problems.iter().filter(|problem| problem.as_str().unwrap().contains(said)).count(), 2, "{told}");
        for name in ["r", "other", "away"] {
            let _ = std::fs::remove_dir_all(format!("{at}/{name}"));
        }
    }
}
