//! Promise: nothing on the mount can be changed, by anyone, in any way, and every refusal is one that a
//! kernel file system mounted read-only would give.

use bakfs_testing::cli::Bakfs;
use bakfs_testing::compare::{self, Rules};
use bakfs_testing::device::Device;
use bakfs_testing::users::{NOBODY, ROOT, User, acting_as};
use rustix::fs::{
    Access, AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags,
};
use rustix::io::{Errno, Result};
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What a call needs: the file it is aimed at, a free name beside it, a file elsewhere.
struct Aim {
    target: PathBuf,
    free: PathBuf,
    outside: PathBuf,
}

type Call = fn(&Aim) -> Result<()>;

const RW: Mode = Mode::from_raw_mode(0o666);

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let always = OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags | always, RW)
}

fn reading(aim: &Aim) -> Result<OwnedFd> {
    open(&aim.target, OFlags::RDONLY)
}

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> Result<()> {
    rustix::fs::renameat_with(CWD, from, CWD, to, flags)
}

fn set(aim: &Aim, name: &str, value: &[u8]) -> Result<()> {
    rustix::fs::lsetxattr(&aim.target, name, value, XattrFlags::empty())
}

fn own(aim: &Aim, flags: AtFlags) -> Result<()> {
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    rustix::fs::chownat(CWD, &aim.target, Some(uid), Some(gid), flags)
}

const CALLS: [(&str, Call); 38] = [
    ("open O_WRONLY", |aim| open(&aim.target, OFlags::WRONLY).map(drop)),
    ("open O_RDWR", |aim| open(&aim.target, OFlags::RDWR).map(drop)),
    ("open O_APPEND", |aim| open(&aim.target, OFlags::WRONLY | OFlags::APPEND).map(drop)),
    ("open O_TRUNC", |aim| open(&aim.target, OFlags::WRONLY | OFlags::TRUNC).map(drop)),
    ("open O_RDONLY|O_TRUNC", |aim| open(&aim.target, OFlags::RDONLY | OFlags::TRUNC).map(drop)),
    ("open O_CREAT", |aim| open(&aim.free, OFlags::WRONLY | OFlags::CREATE).map(drop)),
    ("open O_CREAT|O_EXCL", |aim| open(&aim.free, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL).map(drop)),
    ("open O_TMPFILE", |aim| open(&aim.target, OFlags::RDWR | OFlags::TMPFILE).map(drop)),
    ("open O_TMPFILE beside", |aim| open(aim.target.parent().unwrap(), OFlags::RDWR | OFlags::TMPFILE).map(drop)),
    ("access W_OK", |aim| rustix::fs::accessat(CWD, &aim.target, Access::WRITE_OK, AtFlags::EACCESS)),
    ("mkdir", |aim| rustix::fs::mkdir(&aim.free, Mode::from_raw_mode(0o777))),
    ("mknod FIFO", |aim| rustix::fs::mknodat(CWD, &aim.free, FileType::Fifo, RW, 0)),
    ("mknod file", |aim| rustix::fs::mknodat(CWD, &aim.free, FileType::RegularFile, RW, 0)),
    ("mknod device", |aim| {
        let null = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(CWD, &aim.free, FileType::CharacterDevice, RW, null)
    }),
    ("bind a socket", |aim| {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(&aim.free)?)
    }),
    ("symlink", |aim| rustix::fs::symlink("target", &aim.free)),
    ("link inside", |aim| rustix::fs::linkat(CWD, &aim.target, CWD, &aim.free, AtFlags::empty())),
    ("link from outside", |aim| rustix::fs::linkat(CWD, &aim.outside, CWD, &aim.free, AtFlags::empty())),
    ("rename inside", |aim| rename(&aim.target, &aim.free, RenameFlags::empty())),
    ("rename RENAME_NOREPLACE", |aim| rename(&aim.target, &aim.free, RenameFlags::NOREPLACE)),
    ("rename RENAME_EXCHANGE", |aim| rename(&aim.target, &aim.target, RenameFlags::EXCHANGE)),
    ("rename from outside", |aim| rename(&aim.outside, &aim.free, RenameFlags::empty())),
    ("chmod", |aim| rustix::fs::chmod(&aim.target, RW)),
    ("fchmod", |aim| rustix::fs::fchmod(reading(aim)?, RW)),
    ("chown", |aim| own(aim, AtFlags::empty())),
    ("lchown", |aim| own(aim, AtFlags::SYMLINK_NOFOLLOW)),
    ("utimensat", |aim| {
        let time = Timespec { tv_sec: 5, tv_nsec: 5 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, &aim.target, &times, AtFlags::SYMLINK_NOFOLLOW)
    }),
    ("ftruncate", |aim| rustix::fs::ftruncate(reading(aim)?, 1)),
    ("write", |aim| rustix::io::pwrite(reading(aim)?, b"x", 0).map(drop)),
    ("fallocate", |aim| rustix::fs::fallocate(reading(aim)?, FallocateFlags::empty(), 0, 9)),
    ("setxattr user", |aim| set(aim, "user.new", b"x")),
    ("setxattr trusted", |aim| set(aim, "trusted.new", b"x")),
    ("setxattr ACL", |aim| {
        use bakfs_testing::hostile::{acl, tag};
        let list = [tag::USER_OBJ, tag::GROUP_OBJ, tag::OTHER].map(|kind| (kind, 7, tag::NO_ID));
        set(aim, "system.posix_acl_access", &acl(&list))
    }),
    ("removexattr", |aim| rustix::fs::lremovexattr(&aim.target, "user.old")),
    ("FICLONE", |aim| {
        let neighbour = aim.target.with_file_name("file");
        rustix::fs::ioctl_ficlone(reading(aim)?, open(&neighbour, OFlags::RDONLY)?)
    }),
    ("FS_IOC_SETFLAGS", |aim| rustix::fs::ioctl_setflags(reading(aim)?, rustix::fs::IFlags::NODUMP)),
    ("unlink", |aim| rustix::fs::unlink(&aim.target)),
    ("rmdir", |aim| rustix::fs::rmdir(&aim.target)),
];

const KINDS: [&str; 7] = ["file", "dir", "symlink", "fifo", "socket", "char", "block"];

/// Plants one of each kind, open to everyone, with a user attribute where the kind may have one.
fn plant(root: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(root.join("file"), b"content").unwrap();
    std::fs::create_dir(root.join("dir")).unwrap();
    std::os::unix::fs::symlink("file", root.join("symlink")).unwrap();
    let nodes = [
        ("fifo", FileType::Fifo, 0),
        ("socket", FileType::Socket, 0),
        ("char", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        ("block", FileType::BlockDevice, rustix::fs::makedev(7, 200)),
    ];
    for (name, kind, device) in nodes {
        rustix::fs::mknodat(CWD, root.join(name), kind, RW, device).unwrap();
    }
    for name in ["file", "dir"] {
        rustix::fs::setxattr(root.join(name), "user.old", b"old", XattrFlags::empty()).unwrap();
    }
    for name in KINDS.into_iter().filter(|name| *name != "symlink") {
        std::fs::set_permissions(root.join(name), PermissionsExt::from_mode(0o777)).unwrap();
    }
    std::fs::set_permissions(root, PermissionsExt::from_mode(0o777)).unwrap();
}

fn attempt(call: Call, kind: &str, root: &Path, outside: &Path) -> Result<()> {
    let aim = Aim { target: root.join(kind), free: root.join("new"), outside: outside.to_owned() };
    call(&aim)
}

#[test]
fn nothing_on_the_mount_can_be_changed() {
    bakfs_testing::need_root();
    let bakfs = Bakfs::new();
    open_to_all(&bakfs.path("."));
    let source = bakfs.make_dir("source");
    plant(&source);
    let outside = bakfs.path("outside");
    std::fs::write(&outside, b"outside").unwrap();
    bakfs.backup([&source]);
    let mount = bakfs.mount_with(&["--allow-other"], bakfs.path("mnt"));
    let shown = mount.at("latest", &source);
    let kernel = Device::read_only_view(&source, &bakfs.path("read-only"));
    let mut wrong = String::new();
    for user in [ROOT, NOBODY] {
        for (name, call) in CALLS {
            for kind in KINDS {
                let [ours, kernels] = [shown.as_path(), kernel.path()]
                    .map(|root| acting_as(user, || attempt(call, kind, root, &outside)));
                let refused = matches!(ours, Err(Errno::ROFS | Errno::PERM | Errno::ACCESS));
                if !refused && ours != kernels {
                    let _ = writeln!(wrong, "{name} on {kind} as {user:?}: {ours:?}, not {kernels:?}");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    compare::trees(&source, &shown, Rules::MOUNT).assert_same("the mount afterwards");
    assert!(outside.exists());
}

fn open_to_all(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn writable_maps_of_the_mount_are_refused() {
    bakfs_testing::need_root();
    let bakfs = Bakfs::new();
    let source = bakfs.make_dir("source");
    plant(&source);
    bakfs.backup([&source]);
    let mount = bakfs.mount();
    let file = std::fs::File::open(mount.at("latest", &source).join("file")).unwrap();
    // SAFETY: the map is not expected to come about; nothing would touch it.
    let map = unsafe { memmap2::MmapMut::map_mut(&file) };
    assert_eq!(map.err().and_then(|error| error.raw_os_error()), Some(libc::EACCES));
    // SAFETY: the mount's files never change, and the map is dropped before the unmount.
    let private = unsafe { memmap2::MmapOptions::new().map_copy(&file) };
    let mut private = private.unwrap();
    private[0] = b'C';
    assert_eq!(&private[..], b"Content");
    assert_eq!(std::fs::read(mount.at("latest", &source).join("file")).unwrap(), b"content");
}

/// The table is worth something: on a writable file system most calls succeed.
#[test]
fn the_calls_change_a_writable_tree() {
    bakfs_testing::need_root();
    let users: [User; 2] = [ROOT, NOBODY];
    for user in users {
        let mut succeeded = std::collections::BTreeSet::new();
        for (name, call) in CALLS {
            for kind in KINDS {
                let dir = tempfile::tempdir().unwrap();
                open_to_all(dir.path());
                let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
                std::fs::create_dir(&root).unwrap();
                std::fs::write(&outside, b"outside").unwrap();
                plant(&root);
                if acting_as(user, || attempt(call, kind, &root, &outside)).is_ok() {
                    succeeded.insert(name);
                }
            }
        }
        let least = if user.uid == 0 { 30 } else { 17 };
        assert!(succeeded.len() >= least, "only {} succeed as {user:?}: {succeeded:?}", succeeded.len());
    }
}
