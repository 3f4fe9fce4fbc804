//! A repository on a disk that several users share: each can read what the others have written, root takes nothing from
//! its owner, and what somebody may not read is neither damaged nor lost.

use bakfs_testing::cli::program;
use bakfs_testing::need_root;
use bakfs_testing::process::{Outcome, run};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Users every Debian has, `daemon` and `backup`: fusermount3 wants a name.
const ANNA: u32 = 1;
const BERT: u32 = 34;
const GROUP: u32 = 4710;

/// A disk that users share, and their own folders.
struct Shared(tempfile::TempDir);

impl Shared {
    fn new() -> Shared {
        need_root();
        // What udev's rule for fuse does wherever there is a udev (99-fuse3.rules).
        fs::set_permissions("/dev/fuse", PermissionsExt::from_mode(0o666)).unwrap();
        let shared = Shared(tempfile::Builder::new().prefix("bakfs-test-").tempdir().unwrap());
        fs::set_permissions(shared.0.path(), PermissionsExt::from_mode(0o755)).unwrap();
        fs::copy(program(), shared.at("bakfs")).unwrap();
        for uid in [0, ANNA, BERT] {
            let home = shared.at(&uid.to_string());
            ["mnt", "source"].iter().for_each(|name| fs::create_dir_all(home.join(name)).unwrap());
            fs::write(home.join("source/file"), format!("of {uid}")).unwrap();
            for path in [home.join("mnt"), home.join("source"), home.clone()] {
                chown(path, Some(uid), Some(uid)).unwrap();
            }
        }
        shared
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn repo(&self) -> PathBuf {
        self.at("disk/repo")
    }

    fn disk(&self, owner: u32, group: u32, mode: u32) {
        fs::create_dir(self.at("disk")).unwrap();
        chown(self.at("disk"), Some(owner), Some(group)).unwrap();
        fs::set_permissions(self.at("disk"), PermissionsExt::from_mode(mode)).unwrap();
    }

    fn source(&self, uid: u32) -> PathBuf {
        self.at(&format!("{uid}/source"))
    }

    /// Runs `bakfs ARGS` as a user who is in the group, with a umask that keeps all others out.
    fn run<S: AsRef<OsStr>>(&self, uid: u32, args: impl IntoIterator<Item = S>) -> Outcome {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={uid}"), format!("--regid={uid}"), format!("--groups={GROUP}")]);
        command.args(["--", "sh", "-c", "umask 077; exec \"$0\" \"$@\""]).arg(self.at("bakfs")).args(args);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("TZ", "UTC");
        command.env("BAKFS_REPO", self.repo()).current_dir(self.at(&uid.to_string()));
        for name in
            ["HOME", "XDG_RUNTIME_DIR", "BAKFS_CONFIG_DIR", "BAKFS_CACHE_DIR", "BAKFS_STATE_DIR", "BAKFS_LOG_DIR"]
        {
            let below = if name == "HOME" { String::new() } else { name.to_lowercase() };
            command.env(name, self.at(&uid.to_string()).join(below));
        }
        run(command)
    }

    #[track_caller]
    fn backup(&self, uid: u32) -> Outcome {
        self.run(uid, ["backup".as_ref(), self.source(uid).as_os_str()]).expect(0)
    }

    /// Returns every file and folder of the repository with owner, group and mode.
    fn objects(&self) -> Vec<(PathBuf, u32, u32, u32)> {
        let mut all = Vec::new();
        let mut pending = vec![self.repo()];
        while let Some(path) = pending.pop() {
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            all.push((path, meta.uid(), meta.gid(), meta.mode()));
        }
        all
    }

    fn dump(&self, reader: u32, of: u32) -> String {
        let path = format!("latest:{}", self.source(of).join("file").display());
        self.run(reader, ["dump", &path]).expect(0).text()
    }
}

fn is_folder(mode: u32) -> bool {
    mode & libc::S_IFMT == libc::S_IFDIR
}

#[test]
fn members_of_a_group_use_one_repository() {
    for setgid in [0o2000, 0] {
        let shared = Shared::new();
        shared.disk(ANNA, GROUP, 0o2770);
        fs::create_dir(shared.repo()).unwrap();
        chown(shared.repo(), Some(ANNA), Some(GROUP)).unwrap();
        fs::set_permissions(shared.repo(), PermissionsExt::from_mode(0o770 | setgid)).unwrap();
        shared.run(ANNA, ["init", "--encryption", "none"]).expect(0);
        shared.backup(ANNA);
        shared.backup(BERT);
        assert_eq!(shared.dump(ANNA, BERT), format!("of {BERT}"));
        // Each forgets, prunes, checks and mounts what the other has made.
        shared.backup(ANNA);
        for (user, other) in [(BERT, ANNA), (ANNA, BERT)] {
            shared.run(user, ["check", "--read-data"]).expect(0);
            let mnt = shared.at(&format!("{user}/mnt"));
            shared.run(user, ["mount".as_ref(), mnt.as_os_str()]).expect(0);
            let entered = shared.run(user, ["ls", "latest"]).expect(0);
            shared.run(user, ["umount".as_ref(), mnt.as_os_str()]).expect(0);
            assert!(!entered.stdout.is_empty());
            shared.run(user, ["forget", "--keep-last", "1"]).expect(0);
            shared.run(user, ["prune"]).expect(0);
            shared.backup(other);
            shared.run(user, ["repair", "--dry-run"]).expect(0);
        }
        for (path, _, gid, mode) in shared.objects() {
            let wanted = if is_folder(mode) { 0o770 | setgid } else { 0o440 };
            assert_eq!((gid, mode & 0o7777), (GROUP, wanted), "{}", path.display());
        }
    }
}

#[test]
fn root_takes_nothing_from_the_owner_of_a_repository() {
    let shared = Shared::new();
    shared.disk(ANNA, ANNA, 0o755);
    shared.run(ANNA, ["init", "--encryption", "none"]).expect(0);
    shared.backup(ANNA);
    shared.backup(0);
    shared.run(0, ["forget", "--keep-last", "1"]).expect(0);
    shared.run(0, ["prune"]).expect(0);
    for (path, uid, gid, mode) in shared.objects() {
        let wanted = if is_folder(mode) { 0o700 } else { 0o400 };
        assert_eq!((uid, gid, mode & 0o777), (ANNA, ANNA, wanted), "{}", path.display());
    }
    assert_eq!(shared.dump(ANNA, 0), "of 0");
    shared.run(ANNA, ["check", "--read-data"]).expect(0);
    shared.backup(ANNA);
}

#[test]
fn what_belongs_to_somebody_else_is_neither_damaged_nor_lost() {
    let shared = Shared::new();
    shared.disk(ANNA, ANNA, 0o755);
    shared.run(ANNA, ["init", "--encryption", "none"]).expect(0);
    shared.backup(ANNA);
    shared.backup(0);
    let newest = |kind: &str| {
        let all = fs::read_dir(shared.repo().join(kind)).unwrap().map(|entry| entry.unwrap().path());
        all.max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap()).unwrap()
    };
    let target = shared.at(&format!("{ANNA}/target"));
    let restore = ["restore".as_ref(), "latest".as_ref(), target.as_os_str()];
    let advice = "belongs to root and the repository to user 1: `chown -R --reference=";
    let shows_no_damage = |outcome: Outcome, what: &str| {
        let told = format!("{}{}", outcome.text(), outcome.stderr).to_lowercase();
        assert!(!told.contains("damaged") && !told.contains("lost"), "{what}: {outcome}");
        outcome.says(advice)
    };
    let own = |path: &Path, uid| chown(path, Some(uid), Some(uid)).unwrap();
    let pack = newest("packs").join(fs::read_dir(newest("packs")).unwrap().next().unwrap().unwrap().file_name());
    for object in [newest("snapshots"), newest("index"), pack] {
        own(&object, 0);
        // What this user's cache knows already needs no file.
        fs::remove_dir_all(shared.at(&format!("{ANNA}/bakfs_cache_dir"))).unwrap();
        let name = object.display().to_string();
        shows_no_damage(shared.run(ANNA, ["check"]), &name).expect(1);
        shows_no_damage(shared.run(ANNA, ["repair", "--dry-run"]), &name).expect(1);
        let restored = shared.run(ANNA, restore).says(advice);
        assert!(matches!(restored.code, 1 | 3) && (restored.code == 1 || !name.contains("snapshots")), "{restored}");
        let _ = fs::remove_dir_all(&target);
        own(&object, ANNA);
        shared.run(ANNA, ["check", "--read-data"]).expect(0);
    }
    shared.run(ANNA, restore).expect(0);
}
