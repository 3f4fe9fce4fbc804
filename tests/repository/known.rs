//! Promise: whoever can write to a place can neither exchange the repository there nor take its newest snapshots away
//! without every command saying so; and who prunes, copies and makes repositories as usual is told nothing.

use bakfs::crypto::keys::{Keys, Secret};
use bakfs::crypto::recovery;
use bakfs::format::config::{CHUNK_SIZES, Config};
use bakfs::format::header::Suite;
use bakfs::format::tree::Time;
use bakfs::id::RepositoryId;
use bakfs_testing::cli::{Bakfs, is_mounted};
use bakfs_testing::process::{Outcome, run};
use bakfs_testing::write;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SECRET: &str = "a line only the owner of the key may read";

/// How the repository of a world is unlocked.
#[derive(Debug, Clone, Copy, PartialEq)]
enum By {
    KeyFile,
    /// A written key and no passphrase, which takes as long as it is meant to.
    PasswordFile,
}

struct World {
    bakfs: Bakfs,
    source: PathBuf,
    restored: std::cell::Cell<u32>,
}

impl World {
    /// Makes a repository with a profile, and three nights of backups.
    fn new(by: By) -> World {
        let bakfs = Bakfs::empty();
        let source = bakfs.make_dir("source");
        let restored = std::cell::Cell::new(0);
        let world = World { bakfs, source, restored };
        let mut text = format!("repo = {:?}\n", world.bakfs.repo());
        if by == By::PasswordFile {
            let path = world.bakfs.path("passphrase");
            write(&path, recovery::to_text(&Secret([5; 32])).as_str());
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            text += &format!("password-file = {path:?}\n");
        }
        text += &format!("[profile.p]\nsources = [{:?}]\nschedule = ['daily']\nkeep = {{ daily = 3 }}\n", world.source);
        write(&world.bakfs.path("config/bakfs.toml"), text);
        world.bakfs.ok(["init"]);
        world
    }

    fn with_nights(by: By) -> (World, Vec<String>) {
        let world = World::new(by);
        let names = (1..=3).map(|day| world.night(day)).collect();
        (world, names)
    }

    /// Backs up as of a day.
    fn night(&self, day: u32) -> String {
        write(&self.source.join("file"), format!("{SECRET}, day {day}"));
        self.bakfs.backup_at(&format!("2026-11-{day:02}T03:00:00Z"), &self.source).snapshot().to_owned()
    }

    fn run(&self, line: &str) -> Outcome {
        run(self.command(line))
    }

    /// Makes the command of a line, in which `@` is the source's file and `%` a new folder.
    fn command(&self, line: &str) -> Command {
        let number = self.restored.replace(self.restored.get() + 1);
        let words = line.split(' ').map(|word| {
            let file = self.source.join("file");
            let target = self.bakfs.path(&format!("target-{number}"));
            word.replace('@', file.to_str().unwrap()).replace('%', target.to_str().unwrap())
        });
        self.bakfs.command(words)
    }

    /// Returns a command of somebody who has neither key nor memory of this machine: another machine, or an attacker.
    fn stranger(&self, line: &str) -> Command {
        let folder = self.bakfs.make_dir("stranger");
        let mut command = self.command(line);
        for variable in ["BAKFS_CONFIG_DIR", "BAKFS_STATE_DIR", "BAKFS_CACHE_DIR", "HOME"] {
            command.env(variable, &folder);
        }
        command
    }

    /// Returns a command of another machine with the same configuration and key.
    fn other_machine(&self, line: &str) -> Command {
        let folder = self.bakfs.make_dir("other");
        let mut command = self.command(line);
        command.env("BAKFS_STATE_DIR", &folder).env("BAKFS_CACHE_DIR", &folder);
        command
    }

    /// Replaces the repository by one without encryption that a stranger has made, with a snapshot of theirs.
    fn exchange(&self) {
        std::fs::rename(self.bakfs.repo(), self.bakfs.path("stolen")).unwrap();
        run(self.stranger("init --encryption none")).expect(0);
        run(self.stranger("backup @")).expect(0);
    }

    /// Replaces the configuration by one that says that nothing was ever encrypted, with the id of the old one.
    fn forge(&self) {
        let config = self.bakfs.repo().join("config");
        let bytes = std::fs::read(&config).unwrap();
        let id = RepositoryId(bytes[16..32].try_into().unwrap());
        let created = Time { secs: 1_700_000_000, nanos: 0 };
        let forged = Config { created, features: Vec::new(), chunk_sizes: CHUNK_SIZES, open_key: Some([3; 32]) };
        let keys = Keys::derive(&Secret([3; 32]));
        std::fs::remove_file(&config).unwrap();
        write(&config, forged.encode(id, Suite::Plain, |bytes| keys.config_mac(bytes)));
    }

    fn known(&self) -> PathBuf {
        self.bakfs.path("state/known")
    }

    fn snapshot_path(&self, name: &str) -> PathBuf {
        let list = self.bakfs.json(["snapshots"]);
        let found = list.as_array().unwrap().iter().find(|one| one["name"] == name);
        self.bakfs.repo().join("snapshots").join(found.unwrap()["id"].as_str().unwrap())
    }

    /// Returns a line's outcome, which must neither fail nor say anything of history.
    #[track_caller]
    fn is_well(&self, line: &str) {
        let outcome = self.run(line).expect(0);
        assert!(!outcome.stderr.contains("missing") && !outcome.stderr.contains("shrunk"), "{outcome}");
    }
}

/// Every command that opens a repository, with the exit code it has where history has shrunk.
const COMMANDS: [(&str, i32); 19] = [
    ("snapshots", 3),
    ("ls latest", 3),
    ("find file", 3),
    ("dump latest:@", 1),
    ("dump --accept-missing latest:@", 3),
    ("restore latest %", 1),
    ("restore latest~0 %", 1),
    ("restore today %", 1),
    ("restore 2026-11-28 %", 1),
    ("restore --accept-missing latest %", 3),
    ("diff latest latest", 3),
    ("stats", 3),
    ("pin latest", 3),
    ("unpin latest", 3),
    ("check", 3),
    ("repair", 3),
    ("forget --keep-last 1", 1),
    ("forget --prune latest", 1),
    ("prune", 1),
];

#[test]
fn a_repository_whose_encryption_went_down_is_refused_by_every_command() {
    for (by, is_forged) in
        [(By::KeyFile, false), (By::KeyFile, true), (By::PasswordFile, false), (By::PasswordFile, true)]
    {
        let world = World::new(by);
        world.night(1);
        world.run("run --all").expect(0);
        match is_forged {
            true => world.forge(),
            false => world.exchange(),
        }
        let before = bakfs_testing::files_below(&world.bakfs.repo());
        let mnt = world.bakfs.path("mnt");
        let mount = format!("mount {}", mnt.display());
        let more = ["backup @", "run --all", "config check", "status", "--accept-unencrypted snapshots", &mount];
        for line in COMMANDS.iter().map(|(line, _)| *line).chain(more) {
            let refused = world.run(line).expect(1);
            let told = format!("{}{}", refused.stderr, refused.text());
            assert!(told.contains("not encrypted"), "{by:?} {is_forged}: {refused}");
            assert!(!refused.text().contains("sound"), "{refused}");
        }
        assert!(!is_mounted(&mnt));
        assert_eq!(bakfs_testing::files_below(&world.bakfs.repo()), before, "nothing was written there");
    }
}

#[test]
fn an_open_repository_is_refused_where_somebody_has_a_credential_though_nothing_was_seen_before() {
    for (by, is_forged) in [(By::KeyFile, true), (By::PasswordFile, false), (By::PasswordFile, true)] {
        let world = World::new(by);
        world.night(1);
        match is_forged {
            true => world.forge(),
            false => world.exchange(),
        }
        std::fs::remove_dir_all(world.known()).unwrap();
        let expected = if by == By::KeyFile { "there is a key file" } else { "a passphrase or key is given" };
        for line in ["snapshots", "backup @", "check", "status", "config check"] {
            let refused = world.run(line).expect(1);
            assert!(format!("{}{}", refused.stderr, refused.text()).contains(expected), "{refused}");
        }
    }
}

#[test]
fn who_uses_an_open_repository_with_a_passphrase_around_says_so_on_the_command_line() {
    let bakfs = Bakfs::empty();
    bakfs.ok(["init", "--encryption", "none"]);
    bakfs.ok(["snapshots"]);
    let with_passphrase = |args: &[&str], variable: &str| {
        let mut command = bakfs.command(args);
        command.env("BAKFS_PASSWORD", "of something else").env(variable, "1");
        run(command)
    };
    let refused = with_passphrase(&["snapshots"], "BAKFS_ACCEPT_UNENCRYPTED").expect(1);
    refused.says("BAKFS_PASSWORD").says("--accept-unencrypted");
    with_passphrase(&["snapshots", "--accept-unencrypted"], "X").expect(0);
    let mnt = bakfs.path("mnt");
    with_passphrase(&["--accept-unencrypted", "mount", mnt.to_str().unwrap()], "X").expect(0);
    bakfs.adopt(mnt).unmount();
}

#[test]
fn another_repository_at_a_place_is_refused_until_the_place_is_forgotten() {
    for by in [By::KeyFile, By::PasswordFile] {
        let world = World::new(by);
        world.night(1);
        std::fs::rename(world.bakfs.repo(), world.bakfs.path("first")).unwrap();
        // Made elsewhere with the same passphrase, as a whole repository of the same owner is that was brought here.
        let elsewhere = world.bakfs.path("elsewhere");
        let command = |args: &[&str]| {
            let mut command = world.bakfs.command(args);
            command.env("BAKFS_REPO", &elsewhere).arg("--config").arg(world.bakfs.path("config/bakfs.toml"));
            run(command)
        };
        command(&["init"]).expect(0);
        command(&["backup", world.source.to_str().unwrap()]).expect(0);
        std::fs::rename(&elsewhere, world.bakfs.repo()).unwrap();
        for line in ["snapshots", "backup @", "restore latest %", "check", "status", "run --all"] {
            world.run(line).expect(1).says("is another one than before").says("bakfs forget-place");
        }
        let forgot = world.run("forget-place").expect(0);
        assert!(forgot.text().contains(world.bakfs.repo().to_str().unwrap()), "{forgot}");
        assert!(forgot.text().contains(", encrypted"), "{forgot}");
        world.run("forget-place").expect(1).says("Nothing is known of");
        world.is_well("snapshots");
    }
}

#[test]
fn a_place_is_the_same_however_it_is_written() {
    let world = World::new(By::KeyFile);
    world.night(1);
    world.exchange();
    let link = world.bakfs.path("link");
    std::os::unix::fs::symlink(world.bakfs.repo(), &link).unwrap();
    let slash = format!("{}/", world.bakfs.repo().display());
    let url = format!("file://{}", world.bakfs.repo().display());
    for repo in ["repo", "./source/../repo", &slash, link.to_str().unwrap(), &url] {
        world.run(&format!("--repo {repo} snapshots")).expect(1).says("is another one than before");
    }
    world.run("--repo repo/ forget-place").expect(0);
    world.run("--repo link snapshots").expect(0);
}

#[test]
fn who_makes_and_copies_repositories_is_told_nothing() {
    let (world, _) = World::with_nights(By::KeyFile);
    bakfs_testing::process::tool(
        "cp",
        ["-a", world.bakfs.repo().to_str().unwrap(), world.bakfs.path("copy").to_str().unwrap()],
    );
    world.is_well("--repo copy snapshots");
    world.is_well("--repo copy backup @");
    world.is_well("--repo copy forget --keep-last 1 --prune");
    world.is_well("snapshots");
    // The place of one that was removed is free for a new one.
    std::fs::remove_dir_all(world.bakfs.repo()).unwrap();
    world.run("snapshots").expect(1).says("There is no repository");
    world.is_well("init");
    world.is_well("backup @");
    world.is_well("snapshots");
}

#[test]
fn a_repository_that_is_gone_from_its_usual_place_is_not_made_anew_by_a_backup() {
    let bakfs = Bakfs::first_time();
    bakfs.make_dir("source");
    bakfs.ok(["backup", "source"]);
    std::fs::rename(bakfs.repo(), bakfs.path("gone")).unwrap();
    bakfs.run(["backup", "source"]).expect(1).says("has used one");
    assert!(!bakfs.repo().exists());
    bakfs.ok(["init"]);
    bakfs.ok(["backup", "source"]);
}

/// What somebody who can write to a place may take away.
#[derive(Debug, Clone, Copy)]
enum Loss {
    Newest,
    AllButTheOldest,
}

impl Loss {
    /// Takes it away; returns the names that are missing.
    fn happen(self, world: &World, names: &[String], to: &Path) -> Vec<String> {
        let lost = match self {
            Loss::Newest => &names[2..],
            Loss::AllButTheOldest => &names[1..],
        };
        let paths: Vec<_> = lost.iter().map(|name| world.snapshot_path(name)).collect();
        paths.iter().for_each(|path| std::fs::rename(path, to.join(path.file_name().unwrap())).unwrap());
        if let Loss::AllButTheOldest = self {
            for (mark, _) in bakfs_testing::files_below(&world.bakfs.repo().join("marks")) {
                std::fs::remove_file(mark).unwrap();
            }
        }
        lost.to_vec()
    }
}

#[test]
fn snapshots_that_are_gone_are_named_by_every_command_and_stop_what_deletes() {
    for loss in [Loss::Newest, Loss::AllButTheOldest] {
        let (world, names) = World::with_nights(By::PasswordFile);
        world.is_well("prune");
        let away = world.bakfs.make_dir("away");
        let lost = loss.happen(&world, &names, &away);
        let packs = world.bakfs.objects("packs");
        let by_name = [format!("restore {} %", names[0]), format!("dump {}:@", names[0])];
        let by_name = by_name.iter().map(|line| (line.as_str(), 3));
        for (line, code) in COMMANDS.into_iter().chain(by_name).chain([("config check", 1)]) {
            let outcome = world.run(line).expect(code);
            let told = format!("{}{}", outcome.stderr, outcome.text());
            lost.iter().for_each(|name| assert!(told.contains(name), "{loss:?} {name}: {outcome}"));
            assert!(told.contains("--accept-missing"), "{loss:?}: {outcome}");
        }
        let mnt = world.bakfs.path("mnt");
        let mounted = world.run(&format!("mount {}", mnt.display())).expect(0).says("--accept-missing");
        let mount = world.bakfs.adopt(mnt);
        assert!(lost.iter().all(|name| mounted.stderr.contains(name) || !mount.path().join(name).exists()));
        assert!(mounted.stderr.contains(lost.last().unwrap()), "{mounted}");
        mount.unmount();
        // Backups go on.
        world.run("backup @").expect(3).says(&lost[0]);
        let night = world.run("run --all").expect(3).says(&lost[0]).says("Nothing was forgotten");
        assert!(night.stderr.contains("History has shrunk"), "{night}");
        world.run("prune").expect(1).says("nothing is deleted");
        let still: Vec<_> = world.bakfs.objects("packs").into_iter().filter(|pack| packs.contains(pack)).collect();
        assert_eq!(still, packs, "nothing was deleted");
        // Brought back, all is well.
        for (path, _) in bakfs_testing::files_below(&away) {
            std::fs::copy(&path, world.bakfs.repo().join("snapshots").join(path.file_name().unwrap())).unwrap();
        }
        world.is_well("snapshots");
        world.is_well("check --read-data");
        world.is_well("prune");
    }
}

#[test]
fn a_loss_that_is_accepted_is_not_told_again() {
    for line in ["prune --accept-missing", "forget --accept-missing --prune 2026-11-01T03-00-00Z"] {
        let (world, names) = World::with_nights(By::KeyFile);
        std::fs::remove_file(world.snapshot_path(&names[1])).unwrap();
        world.run("prune --accept-missing --dry-run").says(&names[1]);
        world.run("snapshots").expect(3).says(&names[1]);
        let accepted = world.run(line).says(&names[1]);
        assert!(matches!(accepted.code, 0 | 3), "{accepted}");
        world.is_well("snapshots");
        world.is_well("restore latest %");
        world.is_well("prune");
    }
    // What one machine has accepted is told by its prune to the others.
    let (world, names) = World::with_nights(By::KeyFile);
    run(world.other_machine("snapshots")).expect(0);
    std::fs::remove_file(world.snapshot_path(&names[1])).unwrap();
    run(world.other_machine("snapshots")).expect(3).says(&names[1]);
    run(world.other_machine("prune --accept-missing")).expect(0);
    world.is_well("snapshots");
}

#[test]
fn what_other_machines_prune_and_take_back_is_no_loss() {
    let (world, names) = World::with_nights(By::KeyFile);
    world.is_well("snapshots");
    // One verdict replaces the other while this machine is away.
    run(world.other_machine(&format!("forget --prune {}", names[0]))).expect(0);
    run(world.other_machine("backup @")).expect(0);
    run(world.other_machine(&format!("forget --prune {}", names[2]))).expect(0);
    for line in ["snapshots", "check", "backup @", "forget --keep-last 1", "prune", "snapshots"] {
        world.is_well(line);
    }
    for line in ["snapshots", "prune", "snapshots"] {
        let outcome = run(world.other_machine(line)).expect(0);
        assert!(!outcome.stderr.contains("missing"), "{outcome}");
    }
    // Of backups that begin at once with one name, all but one take back what they stored first.
    let backups: Vec<_> =
        (0..4).map(|_| world.bakfs.start(["backup", "--time", "2026-11-20T03:00:00Z", "source"])).collect();
    backups.into_iter().for_each(|backup| drop(backup.finish().expect(0)));
    world.is_well("snapshots");
    world.is_well("prune");
    world.is_well("snapshots");
}

#[test]
fn what_is_known_is_for_its_owner_and_tells_no_secret() {
    let (world, names) = World::with_nights(By::PasswordFile);
    let files = bakfs_testing::files_below(&world.known());
    assert_eq!(files.len(), 2, "one for the place, one for the repository: {files:?}");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&world.known()), 0o700);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    for (path, _) in files {
        assert_eq!(mode(&path), 0o600);
        let bytes = std::fs::read(&path).unwrap();
        let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!has(&recovery::to_text(&Secret([5; 32]))));
        assert!(!names.iter().any(|name| has(name)) && !has(&host) && !has("source"));
    }
}

#[test]
fn what_is_known_is_lost_without_harm() {
    let (world, names) = World::with_nights(By::KeyFile);
    type Harm = fn(&Path);
    let harms: [Harm; 5] = [
        |path| std::fs::write(path, b"").unwrap(),
        |path| std::fs::write(path, b"bakfskn9 of a later version").unwrap(),
        |path| {
            let mut bytes = std::fs::read(path).unwrap();
            bytes[20] ^= 1;
            std::fs::write(path, bytes).unwrap();
        },
        |path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
        },
        |path| std::fs::remove_file(path).unwrap(),
    ];
    for harm in harms {
        let files = bakfs_testing::files_below(&world.known());
        assert_eq!(files.len(), 2, "what was lost is made again");
        files.iter().for_each(|(path, _)| harm(path));
        world.run("snapshots").expect(0);
        world.is_well("snapshots");
    }
    // Where nothing can be kept, nothing fails.
    std::fs::remove_dir_all(world.known()).unwrap();
    std::fs::write(world.known(), b"a file").unwrap();
    world.run("backup @").expect(0);
    world.run(&format!("restore {} %", names[0])).expect(0);
    std::fs::remove_file(world.known()).unwrap();
    // And nothing is lost for good: what is seen again is known again.
    world.is_well("snapshots");
    std::fs::remove_file(world.snapshot_path(&names[2])).unwrap();
    world.run("snapshots").expect(3).says(&names[2]);
}

#[test]
fn commands_at_once_lose_nothing_they_have_seen() {
    let world = World::new(By::KeyFile);
    let nights: Vec<_> = (1..=6)
        .map(|day| {
            let time = format!("2026-11-{day:02}T03:00:00Z");
            world.bakfs.start([OsStr::new("backup"), "--time".as_ref(), time.as_ref(), world.source.as_os_str()])
        })
        .collect();
    nights.into_iter().for_each(|night| drop(night.finish().expect(0)));
    world.is_well("snapshots");
    for (path, _) in world.bakfs.objects("snapshots") {
        std::fs::remove_file(path).unwrap();
    }
    let told = world.run("snapshots").expect(3);
    assert_eq!((1..=6).filter(|day| told.stderr.contains(&format!("2026-11-{day:02}T03-00-00Z"))).count(), 6, "{told}");
}
