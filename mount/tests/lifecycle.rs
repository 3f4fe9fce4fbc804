//! How a mount begins and ends: as root and as an ordinary user, busy, killed, and replaced.
#![allow(clippy::unwrap_used)]
mod support;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bakfs_mount::tree::ROOT_INO;
use bakfs_mount::{Mount, MountError, Options};
use rustix::mount::{UnmountFlags, unmount};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use support::{Model, Mounted, eventually, pattern};

fn hello() -> Model {
    let tree = Model::new();
    tree.file(ROOT_INO, "hello", *b"world");
    tree.file(ROOT_INO, "big", pattern(1, 3_000_000));
    tree
}

fn errno<A: std::fmt::Debug>(result: std::io::Result<A>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

/// The line of a mount in /proc/self/mountinfo.
fn mountinfo(path: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let place = format!(" {} ", path.display());
    table.lines().find(|line| line.contains(&place)).map(str::to_owned)
}

#[test]
fn a_mount_shows_its_name_and_options_and_is_gone_after_unmounting() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { fs_name: "repo at /a b".into(), ..Options::default() };
    let mount = Mount::start(Arc::new(hello()), dir.path(), &options).unwrap();
    let line = mountinfo(mount.path()).unwrap();
    for part in [" fuse.bakfs repo\\040at\\040/a\\040b ", " ro,nosuid,nodev,noatime", "default_permissions"] {
        assert!(line.contains(part), "{part:?} in {line:?}");
    }
    assert!(!line.contains("allow_other"));
    let device = line.split(' ').nth(2).unwrap();
    let read_ahead = fs::read_to_string(format!("/sys/class/bdi/{device}/read_ahead_kb")).unwrap();
    assert_eq!(read_ahead.trim(), "2048");
    let second = Mount::start(Arc::new(hello()), dir.path(), &options).map(drop);
    assert!(matches!(second, Err(MountError::Occupied { .. })), "{second:?}");
    mount.unmount().unwrap();
    assert_eq!(mountinfo(mount.path()), None);
    mount.wait();
    assert!(!mount.is_serving());
    mount.unmount().unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_busy_mount_is_not_unmounted_but_lazily() {
    let mounted = Mounted::new(hello());
    let mut file = File::open(mounted.path().join("big")).unwrap();
    let refused = mounted.mount.unmount();
    assert!(matches!(refused, Err(MountError::Busy(_))), "{refused:?}");
    assert!(mounted.mount.is_serving());
    mounted.mount.unmount_lazily().unwrap();
    assert_eq!(fs::read_dir(mounted.path()).unwrap().count(), 0);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert!(bytes == pattern(1, 3_000_000));
    drop(file);
    mounted.mount.wait();
}

#[test]
fn a_mount_taken_away_ends_and_leaves_its_successor_alone() {
    let dir = tempfile::tempdir().unwrap();
    let first = Mount::start(Arc::new(hello()), dir.path(), &Options::default()).unwrap();
    unmount(first.path(), UnmountFlags::empty()).unwrap();
    first.wait();
    let second = Mount::start(Arc::new(hello()), dir.path(), &Options::default()).unwrap();
    first.unmount().unwrap();
    drop(first);
    assert_eq!(fs::read(dir.path().join("hello")).unwrap(), b"world");
    second.unmount().unwrap();
}

#[test]
fn a_mount_that_was_taken_away_lazily_leaves_its_successor_alone() {
    // By itself, and by others.
    for by_itself in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let first = Mount::start(Arc::new(hello()), dir.path(), &Options::default()).unwrap();
        let file = File::open(dir.path().join("hello")).unwrap();
        match by_itself {
            true => first.unmount_lazily().unwrap(),
            false => unmount(first.path(), UnmountFlags::DETACH).unwrap(),
        }
        assert!(first.is_serving() && !first.is_in_place());
        let second = Mount::start(Arc::new(hello()), dir.path(), &Options::default()).unwrap();
        first.unmount().unwrap();
        first.unmount_lazily().unwrap();
        assert!(second.is_in_place());
        assert_eq!(fs::read(dir.path().join("hello")).unwrap(), b"world");
        drop(file);
        first.wait();
        second.unmount().unwrap();
    }
}

#[test]
fn dropping_a_mount_unmounts_it_and_an_early_end_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..20 {
        drop(Mount::start(Arc::new(hello()), dir.path(), &Options::default()).unwrap());
        assert_eq!(mountinfo(&dir.path().canonicalize().unwrap()), None);
    }
    let mount = Mount::start(Arc::new(hello()), dir.path(), &Options::default()).unwrap();
    let file = File::open(dir.path().join("hello")).unwrap();
    drop(mount);
    assert_eq!(mountinfo(&dir.path().canonicalize().unwrap()), None, "lazily, as a file is open");
    drop(file);
}

/// The environment variable that turns [`serving_process`] into a server.
const SERVE_AT: &str = "BAKFS_TEST_SERVE_AT";

/// The body of the processes that [`start_process`] starts, which are killed.
#[test]
fn serving_process() {
    let Some(path) = std::env::var_os(SERVE_AT) else {
        return;
    };
    let mount = Mount::start(Arc::new(hello()), Path::new(&path), &Options::default()).unwrap();
    println!("\nserving");
    mount.wait();
}

/// A serving process that leaves nothing behind however the test ends.
struct Server {
    child: Child,
    path: PathBuf,
}

impl Server {
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        // Fails where the test has come as far as to unmount.
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}

fn start_process(path: &Path) -> Server {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "serving_process", "--nocapture"])
        .env(SERVE_AT, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let server = Server { child, path: path.to_path_buf() };
    assert!(lines.any(|line| line.unwrap() == "serving"));
    server
}

#[test]
fn after_its_server_was_killed_a_mount_is_named_dead_and_can_be_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let hello = dir.path().join("hello");
    for clean in ["fusermount3", "umount"] {
        let mut server = start_process(dir.path());
        assert_eq!(fs::read(&hello).unwrap(), b"world");
        let opened = File::open(dir.path().join("big")).unwrap();
        server.kill();
        assert_eq!(errno((&opened).read(&mut [0; 10])), libc::ENOTCONN);
        let dead = Mount::start(Arc::new(self::hello()), dir.path(), &Options::default()).map(drop).unwrap_err();
        assert!(matches!(dead, MountError::Dead(_)), "{dead}");
        eventually("no silent empty directory", || {
            fs::read_dir(dir.path()).is_err_and(|e| e.raw_os_error() == Some(libc::ENOTCONN))
        });
        assert!(dead.to_string().contains("umount -l"), "{dead}");
        let flag = if clean == "umount" { "-l" } else { "-uz" };
        assert!(Command::new(clean).arg(flag).arg(dir.path()).status().unwrap().success());
        let mount = Mount::start(Arc::new(self::hello()), dir.path(), &Options::default()).unwrap();
        assert_eq!(fs::read(&hello).unwrap(), b"world");
        drop(opened);
        // Whoever looks at all mounts of the machine holds each for a moment.
        eventually("it is unmounted", || mount.unmount().is_ok());
    }
}

/// The environment variable that says that the test runs in mounts of its own.
const APART: &str = "BAKFS_TEST_APART";

/// Runs a test again in a process with mounts of its own, where every user may open /dev/fuse, as udev
/// has it everywhere but on some minimal machines. Returns true in that process.
fn runs_apart(test: &str) -> bool {
    if std::env::var_os(APART).is_some() {
        return true;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs none \"$1\" && mknod -m 666 \"$1/fuse\" c 10 229 && \
                  mount --bind \"$1/fuse\" /dev/fuse && exec \"$2\" --exact \"$3\" --nocapture";
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(APART, "1")
        .status();
    assert!(status.unwrap().success());
    false
}

/// Runs a piece of the test as another user: identities belong to threads in Linux (credentials(7)),
/// and the threads and processes started from here inherit them.
fn as_user<A: Send>(id: u32, work: impl FnOnce() -> A + Send) -> A {
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            let (gid, uid) = (rustix::fs::Gid::from_raw(id), rustix::fs::Uid::from_raw(id));
            set_thread_groups(&[gid]).unwrap();
            set_thread_res_gid(gid, gid, gid).unwrap();
            set_thread_res_uid(uid, uid, uid).unwrap();
            work()
        });
        worker.join().unwrap()
    })
}

fn users_directory(id: u32) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("mnt");
    fs::create_dir(&path).unwrap();
    chown(&path, Some(id), Some(id)).unwrap();
    (dir, path)
}

#[test]
fn an_ordinary_user_mounts_for_himself_alone() {
    if !runs_apart("an_ordinary_user_mounts_for_himself_alone") {
        return;
    }
    const NOBODY: u32 = 65534;
    let (_dir, path) = users_directory(NOBODY);
    let mount = as_user(NOBODY, || {
        let mount = Mount::start(Arc::new(hello()), &path, &Options::default()).unwrap();
        assert_eq!(fs::read(path.join("hello")).unwrap(), b"world");
        assert!(fs::read(path.join("big")).unwrap() == pattern(1, 3_000_000));
        mount
    });
    let line = mountinfo(mount.path()).unwrap();
    for part in [" fuse.bakfs bakfs ", " ro,nosuid,nodev,noatime", "default_permissions", "user_id=65534"] {
        assert!(line.contains(part), "{part:?} in {line:?}");
    }
    assert_eq!(errno(fs::read_dir(&path).map(drop)), libc::EACCES, "not even root");
    assert_eq!(errno(fs::read(path.join("hello"))), libc::EACCES);
    assert_eq!(as_user(1234, || errno(fs::read(path.join("hello")))), libc::EACCES);
    as_user(NOBODY, || {
        let file = File::open(path.join("hello")).unwrap();
        let busy = mount.unmount();
        assert!(matches!(busy, Err(MountError::Busy(_))), "{busy:?}");
        drop(file);
        mount.unmount().unwrap();
    });
    assert_eq!(mountinfo(&path), None);
}

#[test]
fn opening_to_others_is_refused_to_an_ordinary_user_with_the_way_out() {
    if !runs_apart("opening_to_others_is_refused_to_an_ordinary_user_with_the_way_out") {
        return;
    }
    const NOBODY: u32 = 65534;
    let (_dir, path) = users_directory(NOBODY);
    let options = Options { allow_other: true, ..Options::default() };
    let permitted = fs::read_to_string("/etc/fuse.conf")
        .is_ok_and(|conf| conf.lines().any(|line| line.trim() == "user_allow_other"));
    let started = as_user(NOBODY, || Mount::start(Arc::new(hello()), &path, &options));
    match started {
        Ok(mount) => {
            assert!(permitted);
            assert_eq!(fs::read(path.join("hello")).unwrap(), b"world");
            mount.unmount().unwrap();
        }
        Err(error) => {
            assert!(!permitted && matches!(error, MountError::AllowOther), "{error}");
            assert!(error.to_string().contains("/etc/fuse.conf"));
        }
    }
    let foreign = as_user(1234, || Mount::start(Arc::new(hello()), &path, &Options::default()).map(drop));
    assert!(
        matches!(&foreign, Err(MountError::Refused { reason, .. }) if reason.contains("write access")),
        "{foreign:?}"
    );
}

#[test]
fn others_enter_a_mount_of_root_only_with_allow_other() {
    for allow_other in [false, true] {
        let mounted = Mounted::with(hello(), &Options { allow_other, ..Options::default() });
        let read = as_user(1234, || fs::read(mounted.path().join("hello")));
        match allow_other {
            true => assert_eq!(read.unwrap(), b"world"),
            false => assert_eq!(errno(read), libc::EACCES),
        }
    }
}
