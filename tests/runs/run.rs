//! Promises of `bakfs run`: hooks around the reading of data, the last of which always runs; never two runs of one
//! profile; each history thinned by its own rules; trouble told once, and success not at all.

use bakfs_testing::device::Device;
use bakfs_testing::machine::{Machine, below, silent};
use bakfs_testing::process::tool;
use bakfs_testing::{SOON, until};

const WEB: &str = "[profile.web]\nsources = [\"@/source\"]\nschedule = [\"daily\"]\n";

/// Makes a machine with one source and one profile `web`, to which `text` is added.
fn web(text: &str) -> Machine {
    let machine = Machine::new(&format!("{WEB}{text}"));
    machine.write("source/page", "hello\n");
    machine
}

#[test]
fn a_run_is_silent_and_its_snapshot_is_in_the_mount() {
    let machine = web("");
    silent(&machine.ok(["run", "--periodicity", "daily"]));
    assert_eq!(machine.snapshots()[0].1, ["daily", "web"]);
    let mount = machine.mount();
    let shown = below(&mount.path().join("latest"), &machine.path("source/page"));
    assert_eq!(std::fs::read_to_string(shown).unwrap(), "hello\n");
    let of_web = std::fs::read_dir(mount.path().join("tags/web")).unwrap();
    let names: Vec<_> = of_web.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.iter().filter(|name| name.starts_with('2')).count(), 1, "{names:?}");
    assert!(names.contains(&"latest".to_string()), "{names:?}");
}

#[test]
fn hooks_run_in_their_order_and_are_told_what_became_of_it() {
    let hooks = "[profile.web.hooks]\n\
                 before = 'echo \"before $BAKFS_PROFILE $BAKFS_PERIODICITY [$BAKFS_OUTCOME]\" >> @/hooks'\n\
                 after = 'echo \"after $BAKFS_OUTCOME $BAKFS_SNAPSHOT $BAKFS_FILES\" >> @/hooks'\n\
                 on-failure = 'echo \"on-failure $BAKFS_OUTCOME: $BAKFS_ERROR\" >> @/hooks'\n\
                 finally = ['/bin/sh', '-c', 'echo \"finally $BAKFS_OUTCOME\" >> @/hooks']\n";
    let machine = web(hooks);
    silent(&machine.ok(["run", "--periodicity", "daily"]));
    let run = machine.last_run("web");
    let snapshot = run["snapshot"].as_str().unwrap();
    let files = run["files"].as_u64().unwrap();
    let told = format!("before web daily []\nafter success {snapshot} {files}\nfinally success\n");
    assert_eq!(machine.text("hooks"), told);

    // A snapshot that lacks a source: a failure for hooks, and for whoever reads the exit code.
    std::fs::remove_file(machine.path("hooks")).unwrap();
    let sources = WEB.replace("\"@/source\"", "\"@/source\", \"@/missing\"");
    machine.configure(&format!("{sources}{hooks}"));
    machine.run(["run", "web"]).expect(3).says("missing");
    let told = machine.text("hooks");
    assert!(told.contains("on-failure incomplete: ") && told.contains("/missing"), "{told}");
    assert!(told.ends_with("finally incomplete\n") && !told.contains("after"), "{told}");
    assert_eq!(machine.snapshots().last().unwrap().1, ["incomplete", "manual", "web"]);
}

#[test]
fn a_first_hook_that_fails_or_hangs_ends_the_run_before_anything_is_read() {
    let machine = web("[profile.web.hooks]\nbefore = 'echo no database; exit 7'\nfinally = 'touch @/off'\n");
    machine.profile("other", "sources = ['@/source']\n");
    let outcome = machine.run(["run", "--all"]).expect(1).says("The hook `before` failed").says("no database");
    assert!(!outcome.stderr.contains("other"), "the other profile still runs: {outcome}");
    assert!(machine.path("off").exists());
    assert_eq!(machine.tagged("web").len(), 0);
    assert_eq!(machine.tagged("other").len(), 1);

    machine.configure(&format!("{WEB}[profile.web.hooks]\nbefore = 'sleep 1000'\ntimeout = '1s'\n"));
    machine.run(["run", "web"]).expect(1).says("did not end within 1 second and was killed");
    assert_eq!(machine.tagged("web").len(), 0);
}

#[test]
fn maintenance_mode_goes_off_also_after_a_run_that_was_killed() {
    let hooks = "[profile.web.hooks]\nbefore = 'echo on >> @/mode; while [ -e @/hold ]; do sleep 0.05; done'\n\
                 finally = 'echo off >> @/mode'\n";
    let machine = web(hooks);
    let begin = |mode: &str| {
        machine.write("hold", "");
        std::fs::remove_file(machine.path("mode")).ok();
        let running = machine.start(["run", "web"]);
        until("the first hook runs", SOON, || machine.text("mode") == "on\n");
        tool("kill", [mode, &running.pid().to_string()]).expect(0);
        running.finish()
    };
    // Asked to end: at once.
    assert_eq!(begin("-TERM").code, 128 + 15);
    assert_eq!(machine.text("mode"), "on\noff\n");
    // Killed: by what the timer's ExecStopPost calls, once.
    begin("-KILL").expect(128 + 9);
    assert_eq!(machine.text("mode"), "on\n");
    machine.ok(["run", "--recover"]).says("killed before it had ended");
    silent(&machine.ok(["run", "--recover"]));
    assert_eq!(machine.text("mode"), "on\noff\n");
    // Killed: by the next run, before its own begins.
    begin("-KILL").expect(128 + 9);
    std::fs::remove_file(machine.path("hold")).unwrap();
    machine.ok(["run", "web"]).says("killed before it had ended");
    assert_eq!(machine.text("mode"), "on\noff\non\noff\n");
    // A last hook that fails is owed until it succeeds.
    machine.configure(&format!("{WEB}[profile.web.hooks]\nfinally = 'test -e @/mended && echo mended >> @/mode'\n"));
    machine.run(["run", "web"]).expect(3).says("The hook `finally` failed");
    // It is tried again, and the run that it failed after is not said to have been killed.
    let again = machine.run(["run", "--recover"]).expect(1).says("finally").says("exit code 1");
    assert!(!again.stderr.contains("killed"), "{again}");
    // What the configuration has become meanwhile does not matter.
    machine.configure("[profile.renamed]\nsorces = 1\n");
    machine.run(["run", "--recover"]).expect(1).says("web: The last hook");
    machine.write("mended", "");
    machine.ok(["run", "--recover"]);
    machine.ok(["run", "--recover"]);
    assert_eq!(machine.text("mode").matches("mended").count(), 1);
}

#[test]
fn never_two_runs_of_one_profile_at_once() {
    let machine = web("[profile.web.hooks]\nbefore = 'touch @/begun; while [ -e @/hold ]; do sleep 0.05; done'\n");
    machine.profile("other", "sources = ['@/source']\nschedule = ['daily']\n");
    machine.write("hold", "");
    let first = machine.start(["run", "--periodicity", "daily", "web"]);
    until("the first run has begun", SOON, || machine.path("begun").exists());
    // Of the same kind: it is left out, and that is no failure.
    machine.ok(["run", "--periodicity", "daily", "web"]).says("is still being run (daily since 2");
    machine.ok(["run", "--periodicity", "daily", "--all"]);
    assert_eq!(machine.tagged("other").len(), 1, "the other profile runs meanwhile");
    // Of another kind: it waits for its turn.
    let mut second = machine.start(["run", "web"]);
    assert!(!second.ended());
    std::fs::remove_file(machine.path("hold")).unwrap();
    first.finish().expect(0);
    second.finish().expect(0);
    assert_eq!(machine.tagged("web").len(), 2);
}

#[test]
fn each_kind_of_run_is_a_history_of_its_own_and_runs_by_hand_are_left_alone() {
    let rules = "[profile.web]\nsources = ['@/source']\nschedule = ['hourly', 'daily', 'weekly', 'shutdown']\n\
                 keep = { last = 4 }\nweekly = { keep = { last = 2 } }\nshutdown = { keep = { last = 1 } }\n\
                 check = { every = 'never' }\nprune = { every = 'never' }\n";
    let machine = Machine::new(rules);
    machine.write("source/page", "hello\n");
    machine.profile("twin", "sources = ['@/source']\nkeep = { last = 1 }\ncheck = { every = 'never' }\n");
    for day in 1..=4 {
        let at = |hour: u32| format!("2026-03-{day:02} {hour:02}:00:00");
        for (hour, kind) in [(1, "hourly"), (2, "hourly"), (3, "daily"), (4, "weekly"), (5, "shutdown")] {
            silent(&machine.run_at(&at(hour), ["run", "--periodicity", kind, "web"]).expect(0));
        }
        silent(&machine.run_at(&at(6), ["run", "web"]).expect(0));
        silent(&machine.run_at(&at(7), ["run", "twin", "--periodicity", "daily"]).expect(0));
    }
    let kept = |tag: &str| machine.tagged(tag).len();
    let of = |profile: &str, kind: &str| {
        let has = |tags: &[String], tag: &str| tags.iter().any(|known| known == tag);
        machine.snapshots().iter().filter(|(_, tags)| has(tags, profile) && has(tags, kind)).count()
    };
    assert_eq!(
        of("web", "hourly") + of("web", "daily"),
        4,
        "they share the profile's rules: {:?}",
        machine.snapshots()
    );
    assert_eq!((of("web", "weekly"), of("web", "shutdown"), of("web", "manual")), (2, 1, 4));
    assert_eq!((kept("twin"), kept("web")), (1, 11));
}

#[test]
fn nights_without_a_source_push_no_good_one_out() {
    let machine = Machine::new(
        "[profile.web]\nsources = ['@/source', '@/uploads']\nschedule = ['daily']\nkeep = { daily = 3 }\n\
         check = { every = 'never' }\nprune = { every = 'never' }\n",
    );
    machine.write("source/page", "hello\n");
    machine.write("uploads/photo", "photo\n");
    let night = |day: u32| machine.run_at(&format!("2026-03-{day:02} 03:00:00"), ["run", "--periodicity", "daily"]);
    (1..=3).for_each(|day| silent(&night(day).expect(0)));
    std::fs::rename(machine.path("uploads"), machine.path("gone")).unwrap();
    for day in 4..=9 {
        night(day).expect(3).says("uploads");
    }
    let good = || machine.snapshots().iter().filter(|(_, tags)| !tags.contains(&"incomplete".to_owned())).count();
    assert_eq!((good(), machine.tagged("incomplete").len()), (3, 3), "{:?}", machine.snapshots());
    std::fs::rename(machine.path("gone"), machine.path("uploads")).unwrap();
    (10..=12).for_each(|day| drop(night(day).expect(0)));
    assert_eq!((good(), machine.tagged("incomplete").len()), (3, 0));
}

#[test]
fn check_and_prune_take_their_share_by_their_own_rules() {
    let machine = web("keep = { last = 1 }\ncheck = { every = '1d' }\nprune = { every = '3d' }\n");
    let mut done = Vec::new();
    for (day, hour) in [(1, 3), (1, 9), (2, 3), (3, 3), (4, 3)] {
        machine.write("source/page", &format!("{day} {hour} {}", "x".repeat(3000)));
        silent(&machine.run_at(&format!("2026-03-{day:02} {hour:02}:00:00"), ["run", "--periodicity", "daily"]));
        let run = machine.last_run("web");
        done.push((run["checked"].as_bool().unwrap(), run["pruned"].as_bool().unwrap()));
    }
    assert_eq!(done, [(true, true), (false, false), (true, false), (true, false), (true, true)]);
    let forgotten = machine.json(["forget", "--undo", "--dry-run"]);
    assert_eq!(forgotten["brought_back"].as_array().unwrap().len(), 0, "the prune has removed what was forgotten");
}

#[test]
fn damage_that_the_nightly_check_finds_is_told() {
    let machine = web("check = { every = '1d', share = '100%' }\n");
    silent(&machine.ok(["run", "web"]));
    let pack = machine.bakfs.objects("packs").into_iter().next().unwrap().0;
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    std::fs::remove_dir_all(machine.path("state/repositories")).unwrap();
    std::fs::remove_dir_all(machine.path("cache")).unwrap();
    let outcome = machine.run(["run", "web"]).expect(3).says("damaged");
    assert!(outcome.stderr.contains("`bakfs check` names what they cost"), "{outcome}");
}

#[test]
fn a_disk_that_fills_up_costs_one_profile_and_nothing_that_was_there() {
    bakfs_testing::need_root();
    let machine = Machine::new(
        "[repository.small]\nrepo = '@/small/repo'\n[profile.small]\nsources = ['@/source']\nrepository = 'small'\n\
         [profile.web]\nsources = ['@/source']\n",
    );
    machine.write("source/page", "hello\n");
    let small = machine.path("small");
    let _device = Device::memory(&small, 8);
    machine.ok(["--repo", "small", "init"]);
    silent(&machine.ok(["run", "--all"]));
    std::fs::write(machine.path("source/noise"), bakfs_testing::noise(1, 20 << 20)).unwrap();
    machine.run(["run", "--all"]).expect(1).says("/small failed: ").says("No room left at");
    assert_eq!(machine.tagged("web").len(), 2, "the other profile has run");
    machine.ok(["--repo", "small", "check", "--read-data"]);
    assert_eq!(machine.json(["--repo", "small", "snapshots"]).as_array().unwrap().len(), 1);
}

#[test]
fn what_cannot_be_right_is_refused_with_its_place_and_what_was_meant() {
    let machine = web("");
    for (text, told) in [
        (
            "[profile.web]\nsources = ['/x']\nexlude = ['*.tmp']\n",
            "line 6: there is no key `exlude`: did you mean `exclude`?",
        ),
        ("[profile.web]\nsources = ['/x']\nkeep = { last = 0 }\n", "would let every snapshot go"),
        ("[profile.web]\nsources = ['/x']\nkeep = { dayly = 7 }\n", "did you mean `daily`?"),
        ("[profile.web]\nsources = ['/x']\nschedule = ['sometimes']\n", "hourly"),
        ("[profile.web]\nsources = ['/x']\ntags = ['daily']\n", "a meaning of its own"),
        ("[profile.web]\nsources = ['/x']\n[profile.b]\nsources = ['/x']\ntags = ['web']\n", "the name of a profile"),
        (
            "[[profile.web.command]]\nname = 'x'\nrun = 'a'\n[[profile.web.command]]\nname = 'x'\nrun = 'b'\n",
            "same name",
        ),
    ] {
        machine.configure(text);
        machine.run(["config", "check"]).expect(2).says(told);
        // A mistake in a profile never stands in the way of a restore.
        machine.ok(["snapshots"]);
    }
    // A profile that is wrong costs no other one its night.
    machine.configure(&format!("{WEB}[profile.bad]\nsorces = ['/x']\n"));
    machine.profile("worse", "sources = ['/x']\nkeep = { last = 0 }\n");
    for args in [&["run", "--all"][..], &["run", "--periodicity", "daily"]] {
        let outcome = machine.run(args).expect(1).says("did you mean `sources`?").says("would let every snapshot go");
        assert!(outcome.stderr.contains("this profile was not run"), "{outcome}");
    }
    assert_eq!(machine.tagged("web").len(), 2);
    machine.ok(["run", "web"]);
    machine.run(["run", "bad"]).expect(2).says("did you mean `sources`?");
    machine.run(["config", "check"]).expect(2);
    machine.run(["status"]).expect(1).says("did you mean `sources`?");
    std::fs::remove_file(machine.path("config/profiles.d/worse.toml")).unwrap();
    machine.configure(WEB);
    machine.run(["run", "wbe"]).expect(2).says("did you mean `web`?");
    machine.run(["run"]).expect(2).says("Say what to run");
    machine.profile("web", "sources = ['/x']\n");
    machine.run(["run", "web"]).expect(2).says("give one of them another name");
}

#[test]
fn a_secret_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine { bakfs: bakfs_testing::cli::Bakfs::empty() };
    let secret = machine.write("passphrase", "correct horse\n");
    machine.configure("password-file = \"@/passphrase\"\n[profile.web]\nsources = ['@/source']\n");
    machine.write("source/page", "hello\n");
    machine.ok(["init"]);
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o644)).unwrap();
    let told = format!("chmod 600 {}", secret.display());
    machine.run(["run", "web"]).expect(1).says(&told);
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
    silent(&machine.ok(["run", "web"]));
}

#[test]
fn what_was_missed_is_caught_up_with_once() {
    let machine = web("[profile.weekly-only]\nsources = ['@/source']\nschedule = ['weekly']\n");
    let catch_up = |time: &str| machine.run_at(time, ["run", "--periodicity", "daily", "--catch-up"]).expect(0);
    catch_up("2026-03-01 12:00:00");
    catch_up("2026-03-01 18:00:00");
    assert_eq!(machine.tagged("daily").len(), 1);
    catch_up("2026-03-02 18:00:00");
    assert_eq!((machine.tagged("daily").len(), machine.tagged("weekly-only").len()), (2, 0));
}

#[test]
fn nothing_comes_after_off_when_a_run_is_ended() {
    // The switch takes a while to be on: the run is ended in between.
    let machine = web(
        "[profile.web.hooks]\nbefore = 'touch @/begun; while [ -e @/hold ]; do sleep 0.05; done; echo on >> @/mode'\n\
         finally = 'echo off >> @/mode; rm @/hold'\non-failure = 'echo late >> @/mode'\n\
         [profile.web.notify]\nmail = 'root@localhost'\nsendmail = '@/sendmail'\n",
    );
    let sendmail = machine.write("sendmail", "#!/bin/sh\ncat > @/mail\n");
    std::fs::set_permissions(&sendmail, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    machine.write("hold", "");
    let running = machine.start(["run", "web"]);
    until("the first hook runs", SOON, || machine.path("begun").exists());
    tool("kill", ["-TERM", &running.pid().to_string()]).expect(0);
    let outcome = running.finish().expect(128 + 15).says("ended by signal 15");
    assert_eq!(outcome.stderr.matches("bakfs: ").count(), 1, "{outcome}");
    assert_eq!(machine.last_run("web")["outcome"], "failed");
    assert!(machine.text("mail").contains("ended by signal 15"), "{}", machine.text("mail"));
    let hook = || tool("pgrep", ["-f", machine.path("hold").to_str().unwrap()]).text();
    until("the first hook is dead", SOON, || hook().is_empty());
    assert_eq!(machine.text("mode"), "off\n");
    silent(&machine.ok(["run", "--recover"]));
}

#[test]
fn a_source_that_cannot_be_read_is_missing() {
    let bakfs = bakfs_testing::cli::Bakfs::as_nobody();
    let good = bakfs.make_dir("good");
    let closed = bakfs.make_dir("closed");
    std::fs::write(good.join("file"), "x").unwrap();
    std::fs::write(closed.join("secret"), "x").unwrap();
    let secret = closed.join("secret");
    let has_tag = |paths: &[&std::path::Path]| {
        let args = paths.iter().map(|path| path.as_os_str().to_owned());
        let outcome = bakfs.backup_outcome(args);
        let listed = bakfs.json(["snapshots"]);
        let tags = listed.as_array().unwrap().last().unwrap()["tags"].to_string();
        (outcome.code, tags.contains("incomplete"))
    };
    use std::os::unix::fs::PermissionsExt;
    let close = |path: &std::path::Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    assert_eq!(has_tag(&[&good, &closed]), (0, false));
    close(&secret, 0o000);
    assert_eq!(has_tag(&[&good, &closed]), (3, false), "a file of a source that was read");
    assert_eq!(has_tag(&[&good, &secret]), (3, true), "a source that is one file");
    close(&closed, 0o000);
    assert_eq!(has_tag(&[&good, &closed]), (3, true), "a folder");
}

#[test]
fn every_line_of_a_crontab_is_one_that_bakfs_understands() {
    let machine = Machine::new(
        "[schedule]\njitter = '1s'\n[defaults]\nschedule = ['hourly', 'daily', 'weekly', 'monthly', 'bimonthly']\n\
         check = { every = 'never' }\nprune = { every = 'never' }\n[profile.web]\nsources = ['@/source']\n",
    );
    machine.write("source/page", "hello\n");
    let printed = machine.ok(["schedule", "install", "--cron", "--print"]).text();
    let runs = printed.lines().filter_map(|line| Some(line.split_once("/bakfs ")?.1));
    let runs: Vec<&str> = runs.filter(|arguments| arguments.starts_with("run ")).collect();
    assert_eq!(runs.len(), 10, "{printed}");
    for arguments in runs {
        silent(&machine.run(arguments.split_whitespace().map(|word| word.trim_matches('\''))).expect(0));
    }
    // Caught up with is only what has not just run.
    assert_eq!(machine.tagged("web").len(), 5);
}

#[test]
fn a_profile_whose_only_dump_fails_commits_nothing() {
    let machine = Machine::new(
        "[profile.db]\n[[profile.db.command]]\nname = 'x'\nrun = 'echo partly; echo why >&2; exit 3'\n\
         [profile.two]\n[[profile.two.command]]\nname = 'bad'\nrun = 'exit 3'\n\
         [[profile.two.command]]\nname = 'good'\nrun = 'echo whole'\n",
    );
    machine.run(["run", "db"]).expect(1).says("Nothing could be dumped").says("why");
    assert!(machine.snapshots().is_empty());
    machine.run(["run", "two"]).expect(3).says("/databases/command/bad");
    assert_eq!(machine.snapshots()[0].1, ["incomplete", "manual", "two"]);
    let mount = machine.mount();
    let folder = mount.path().join("latest/databases/command");
    assert_eq!(std::fs::read_to_string(folder.join("good")).unwrap(), "whole\n");
    assert!(!folder.join("bad").exists());
    assert!(std::fs::read_to_string(folder.join("bad.json")).unwrap().contains("exit code 3"));
}
