//! Drives the real binary in a world of its own: repository, cache, configuration and home are
//! temporary, and nothing of the machine's environment is seen.

use super::process::{Outcome, Running, run, start, tool};
use super::servers::Place;
use super::{SOON, until};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's `nobody`: the ordinary user of the tests.
pub const NOBODY: u32 = 65534;

/// Returns the program under test: `BAKFS_TEST_PROGRAM` names another, such as an earlier one that a new test must fail
/// on. Otherwise it is the one Cargo has built for the test: it names that where it runs the test, and builds it beside
/// the folder of the tests' executables.
pub fn program() -> PathBuf {
    let named = ["BAKFS_TEST_PROGRAM", "CARGO_BIN_EXE_bakfs"].into_iter().find_map(std::env::var_os);
    named.map_or_else(
        || {
            let test = std::env::current_exe().unwrap();
            let program = test.parent().and_then(Path::parent).unwrap().join("bakfs");
            assert!(
                program.is_file(),
                "{program:?} is missing: `cargo build` makes it, BAKFS_TEST_PROGRAM names another"
            );
            program
        },
        PathBuf::from,
    )
}

/// One user's bakfs.
pub struct Bakfs {
    dir: tempfile::TempDir,
    binary: PathBuf,
    uid: Option<u32>,
    repo: Option<PathBuf>,
    /// Variables of the place the repository is at.
    of_place: Vec<(String, String)>,
}

impl Bakfs {
    /// Makes a world with a fresh repository for the user who runs the tests.
    pub fn new() -> Bakfs {
        let bakfs = Bakfs::empty();
        bakfs.ok(["init"]);
        bakfs
    }

    /// Makes a world with a fresh repository and an empty folder to be backed up.
    pub fn with_source() -> (Bakfs, PathBuf) {
        let bakfs = Bakfs::new();
        let source = bakfs.make_dir("source");
        (bakfs, source)
    }

    /// Makes a world without a repository for the user who runs the tests.
    pub fn empty() -> Bakfs {
        let dir = tempfile::Builder::new().prefix("bakfs-test-").tempdir().unwrap();
        let repo = Some(dir.path().join("repo"));
        let binary = program();
        let bakfs = Bakfs { dir, binary, uid: None, repo, of_place: Vec::new() };
        bakfs.furnish();
        bakfs
    }

    /// Makes a world whose repository is, or will be, at a server.
    pub fn at(place: &Place) -> Bakfs {
        let mut bakfs = Bakfs::empty();
        bakfs.repo = Some(PathBuf::from(&place.url));
        bakfs.of_place = place.environment.clone();
        bakfs
    }

    /// Makes a world with a fresh repository for the ordinary user `nobody`.
    pub fn as_nobody() -> Bakfs {
        let mut bakfs = Bakfs::first_time();
        bakfs.repo = Some(bakfs.path("repo"));
        bakfs.ok(["init"]);
        bakfs
    }

    /// Makes the world of a `nobody` who has never used bakfs and names no repository. They get a copy
    /// of the binary that they can reach.
    pub fn first_time() -> Bakfs {
        super::need_root();
        // What udev's rule for fuse does wherever there is a udev (99-fuse3.rules).
        std::fs::set_permissions("/dev/fuse", PermissionsExt::from_mode(0o666)).unwrap();
        let dir = tempfile::Builder::new().prefix("bakfs-test-").tempdir().unwrap();
        let binary = dir.path().join("bakfs");
        std::fs::copy(program(), &binary).unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        let bakfs = Bakfs { dir, binary, uid: Some(NOBODY), repo: None, of_place: Vec::new() };
        bakfs.furnish();
        bakfs
    }

    fn furnish(&self) {
        for name in ["home", "config", "data", "cache", "state", "run", "mnt"] {
            self.make_dir(name);
        }
        std::fs::set_permissions(self.path("run"), PermissionsExt::from_mode(0o700)).unwrap();
    }

    /// Makes a folder of the world, owned by its user, and returns its path.
    pub fn make_dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        if let Some(uid) = self.uid {
            chown(&path, Some(uid), Some(uid)).unwrap();
        }
        path
    }

    /// Returns a path in the world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns the repository's folder: the one that is named, or else the ordinary user's default.
    pub fn repo(&self) -> PathBuf {
        self.repo.clone().unwrap_or_else(|| self.path("data/bakfs/repo"))
    }

    /// Returns the command `bakfs ARGS` as the world's user.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.wrap(&self.binary);
        command.args(args);
        command
    }

    /// Returns another program's command as the world's user, in its environment.
    pub fn wrap(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match self.uid {
            None => Command::new(program),
            Some(uid) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={uid}")).arg(format!("--regid={uid}"));
                command.args(["--clear-groups", "--"]).arg(program);
                command
            }
        };
        command.env_clear();
        for (name, value) in self.environment() {
            command.env(name, value);
        }
        command.envs(self.of_place.iter().cloned());
        command.current_dir(self.dir.path());
        command
    }

    fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut all: Vec<(&'static str, OsString)> = [
            ("HOME", "home"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_DATA_HOME", "data"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_RUNTIME_DIR", "run"),
            ("BAKFS_CONFIG_DIR", "config"),
            ("BAKFS_CACHE_DIR", "cache"),
            ("BAKFS_STATE_DIR", "state"),
            ("BAKFS_LOG_DIR", "log"),
        ]
        .map(|(name, dir)| (name, self.path(dir).into_os_string()))
        .into();
        all.extend(self.repo.iter().map(|repo| ("BAKFS_REPO", repo.clone().into_os_string())));
        let path = std::env::var_os("PATH").unwrap();
        all.extend([("PATH", path), ("TZ", "UTC".into()), ("LC_ALL", "C.UTF-8".into())]);
        all.extend(std::env::var_os("TMPDIR").map(|dir| ("TMPDIR", dir)));
        all
    }

    /// Runs `bakfs ARGS`.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Outcome {
        run(self.command(args))
    }

    /// Starts `bakfs ARGS`.
    pub fn start<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Running {
        start(self.command(args), false)
    }

    /// Runs `bakfs ARGS`, which must succeed.
    #[track_caller]
    pub fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Outcome {
        self.run(args).expect(0)
    }

    /// Runs `bakfs --json ARGS`, which must succeed, and returns the JSON it prints.
    #[track_caller]
    pub fn json<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Value {
        json_of(self.run(with_json(args)).expect(0))
    }

    /// Backs up folders with further options, which must succeed.
    #[track_caller]
    pub fn backup<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Summary {
        let outcome = self.backup_outcome(args).expect(0);
        Summary(json_of(outcome))
    }

    /// Backs up a folder as of a time (RFC 3339), which must succeed.
    #[track_caller]
    pub fn backup_at(&self, time: &str, source: &Path) -> Summary {
        self.backup([OsStr::new("--time"), OsStr::new(time), source.as_os_str()])
    }

    /// Backs up folders with further options, whatever comes of it.
    pub fn backup_outcome<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Outcome {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        self.run(with_json([OsString::from("backup")].into_iter().chain(args)))
    }

    /// Returns the objects of a kind (`packs`, `snapshots`, ...) with their lengths.
    pub fn objects(&self, kind: &str) -> Vec<(PathBuf, u64)> {
        let dir = self.repo().join(kind);
        assert!(dir.is_dir(), "{} is no folder of the repository", dir.display());
        super::files_below(&dir)
    }

    /// Returns the repository's length in bytes.
    pub fn repo_bytes(&self) -> u64 {
        super::files_below(&self.repo()).iter().map(|(_, len)| len).sum()
    }

    /// Mounts the history at the world's `mnt`.
    #[track_caller]
    pub fn mount(&self) -> Mounted<'_> {
        self.mount_with(&[], self.path("mnt"))
    }

    /// Mounts the history at `dir` with further options.
    #[track_caller]
    pub fn mount_with(&self, options: &[&str], dir: PathBuf) -> Mounted<'_> {
        let args = ["mount"].iter().chain(options).map(OsStr::new).chain([dir.as_os_str()]);
        self.ok(args);
        let mounted = Mounted { bakfs: self, dir };
        assert!(is_mounted(mounted.path()), "`bakfs mount` returned before the mount was there");
        mounted
    }

    /// Takes charge of a mount that was made in another way.
    pub fn adopt(&self, dir: PathBuf) -> Mounted<'_> {
        Mounted { bakfs: self, dir }
    }
}

/// Adds the global option `--json`.
fn with_json<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Vec<OsString> {
    let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
    [OsString::from("--json")].into_iter().chain(args).collect()
}

/// Returns the JSON a command printed.
#[track_caller]
pub fn json_of(outcome: Outcome) -> Value {
    serde_json::from_slice(&outcome.stdout).unwrap_or_else(|e| panic!("{e} in {outcome}"))
}

/// The closing summary of a backup.
#[derive(Debug)]
pub struct Summary(pub Value);

impl Summary {
    /// Returns a number of the summary.
    #[track_caller]
    pub fn number(&self, field: &str) -> u64 {
        self.0[field].as_u64().unwrap_or_else(|| panic!("no number {field:?} in {}", self.0))
    }

    /// Returns the snapshot's dated name.
    #[track_caller]
    pub fn snapshot(&self) -> &str {
        self.0["snapshot"].as_str().unwrap_or_else(|| panic!("no \"snapshot\" in {}", self.0))
    }
}

/// A mounted history; unmounted by path when dropped.
pub struct Mounted<'a> {
    bakfs: &'a Bakfs,
    dir: PathBuf,
}

impl Mounted<'_> {
    /// Returns the mount point.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Returns where a source path is in a snapshot.
    pub fn at(&self, snapshot: &str, source: &Path) -> PathBuf {
        self.dir.join(snapshot).join(source.strip_prefix("/").unwrap())
    }

    /// Unmounts with `bakfs umount`, which must succeed, and waits until it is gone.
    #[track_caller]
    pub fn unmount(self) {
        self.bakfs.ok([OsStr::new("umount"), self.dir.as_os_str()]);
        until("the mount is gone", SOON, || !is_mounted(&self.dir));
    }

    /// Returns the processes of the binary that serve this mount: their command line names it.
    pub fn daemons(&self) -> Vec<u32> {
        daemons_of(&self.bakfs.binary, &self.dir)
    }

    /// Kills the serving processes (SIGKILL) and waits until they are gone.
    pub fn kill_daemon(&self) {
        let pids = self.daemons();
        assert!(!pids.is_empty(), "no process serves {}", self.dir.display());
        for pid in pids {
            tool("kill", ["-KILL".to_owned(), pid.to_string()]);
        }
        until("the daemon is gone", SOON, || self.daemons().is_empty());
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if !is_mounted(&self.dir) {
            return;
        }
        let _ = self.bakfs.run([OsStr::new("umount"), self.dir.as_os_str()]);
        if is_mounted(&self.dir) {
            let _ = tool("umount", [OsStr::new("-l"), self.dir.as_os_str()]);
        }
    }
}

/// Returns whether something is mounted at a path, without asking what is mounted there.
pub fn is_mounted(dir: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let dir = dir.to_str().unwrap();
    table.lines().any(|line| line.split(' ').nth(4) == Some(dir))
}

/// Returns the options and the type under which a path is mounted.
pub fn mount_options(dir: &Path) -> Option<(String, String)> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|line| line.split(' ').nth(4) == dir.to_str())?;
    let options = line.split(' ').nth(5)?.to_owned();
    let kind = line.split(" - ").nth(1)?.split(' ').next()?.to_owned();
    Some((options, kind))
}

fn daemons_of(binary: &Path, dir: &Path) -> Vec<u32> {
    let wanted = dir.as_os_str().as_encoded_bytes();
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let names_dir = line.split(|byte| *byte == 0).any(|arg| arg == wanted);
        let same = std::fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == binary);
        if names_dir && same {
            pids.push(pid);
        }
    }
    pids
}
