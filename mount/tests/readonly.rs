//! Nothing that changes a file succeeds on a mount, and extended attributes and ACLs are those of the tree.
#![allow(clippy::unwrap_used)]
mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use bakfs_mount::Options;
use bakfs_mount::tree::{Kind, ROOT_INO};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_NOW, XattrFlags};
use rustix::io::Errno;
use support::{Model, Mounted, pattern};

fn every_kind() -> Model {
    let tree = Model::new();
    tree.file(ROOT_INO, "file", pattern(1, 5000));
    tree.dir(ROOT_INO, "dir");
    tree.file(ROOT_INO, "file2", *b"x");
    tree.dir(ROOT_INO, "dir2");
    tree.link(ROOT_INO, "link", "file");
    tree.special(ROOT_INO, "fifo", Kind::Fifo, 0);
    tree.special(ROOT_INO, "socket", Kind::Socket, 0);
    tree.special(ROOT_INO, "char", Kind::CharDevice, 0x0103);
    tree.special(ROOT_INO, "block", Kind::BlockDevice, 0x0800);
    tree
}

type Attempt = (&'static str, fn(&Path) -> Result<(), Errno>);

fn ok<A>(_: A) {}

/// Calls that would change what a path names, of whatever kind it is.
const ON_ANY: &[Attempt] = &[
    ("chmod", |p| rustix::fs::chmod(p, Mode::RUSR)),
    ("chown", |p| rustix::fs::chownat(CWD, p, None, Some(rustix::fs::Gid::ROOT), AtFlags::SYMLINK_NOFOLLOW)),
    ("utimensat", |p| {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        rustix::fs::utimensat(CWD, p, &times, AtFlags::SYMLINK_NOFOLLOW)
    }),
    ("setxattr", |p| rustix::fs::lsetxattr(p, "trusted.a", b"1", XattrFlags::empty())),
    ("removexattr", |p| rustix::fs::lremovexattr(p, "trusted.a")),
    ("link", |p| rustix::fs::linkat(CWD, p, CWD, p.with_file_name("new"), AtFlags::empty())),
    ("rename away", |p| rustix::fs::rename(p, p.with_file_name("new"))),
    ("rename over", |p| {
        let other = if p.ends_with("dir") { "dir2" } else { "file2" };
        rustix::fs::rename(p, p.with_file_name(other))
    }),
    ("exchange", |p| rustix::fs::renameat_with(CWD, p, CWD, p.with_file_name("char"), RenameFlags::EXCHANGE)),
    ("unlink", |p| match p.ends_with("dir") {
        true => rustix::fs::rmdir(p),
        false => rustix::fs::unlink(p),
    }),
];

/// Calls that would make something new beside a path.
const BESIDE: &[Attempt] = &[
    ("create", |p| rustix::fs::open(p, OFlags::WRONLY | OFlags::CREATE, Mode::RWXU).map(ok)),
    ("create read-only", |p| rustix::fs::open(p, OFlags::CREATE | OFlags::EXCL, Mode::RWXU).map(ok)),
    ("mkdir", |p| rustix::fs::mkdir(p, Mode::RWXU)),
    ("symlink", |p| rustix::fs::symlink("x", p)),
    ("mknod fifo", |p| rustix::fs::mknodat(CWD, p, FileType::Fifo, Mode::RWXU, 0)),
    ("mknod file", |p| rustix::fs::mknodat(CWD, p, FileType::RegularFile, Mode::RWXU, 0)),
    ("mknod device", |p| rustix::fs::mknodat(CWD, p, FileType::CharacterDevice, Mode::RWXU, 259)),
];

/// Calls that would write into a regular file.
const ON_FILE: &[Attempt] = &[
    ("open to write", |p| rustix::fs::open(p, OFlags::WRONLY, Mode::empty()).map(ok)),
    ("open to read and write", |p| rustix::fs::open(p, OFlags::RDWR, Mode::empty()).map(ok)),
    ("open to append", |p| rustix::fs::open(p, OFlags::WRONLY | OFlags::APPEND, Mode::empty()).map(ok)),
    ("open to truncate", |p| rustix::fs::open(p, OFlags::RDONLY | OFlags::TRUNC, Mode::empty()).map(ok)),
    ("truncate", |p| {
        let error = fs::OpenOptions::new().write(true).truncate(true).open(p).unwrap_err();
        Err(Errno::from_io_error(&error).unwrap())
    }),
];

#[test]
fn every_change_is_refused_with_erofs() {
    let mounted = Mounted::new(every_kind());
    let root = mounted.path();
    let check = |name: &str, path: &Path, attempts: &[Attempt]| {
        for (call, attempt) in attempts {
            // chmod follows links, and this one leads to a file of the same mount.
            assert_eq!(attempt(path), Err(Errno::ROFS), "{call} on {name}");
        }
    };
    for name in ["file", "dir", "link", "fifo", "socket", "char", "block"] {
        let attempts: Vec<Attempt> = ON_ANY
            .iter()
            .filter(|(call, _)| (name, *call) != ("char", "exchange") && (name, *call) != ("dir", "link"))
            .copied()
            .collect();
        check(name, &root.join(name), &attempts);
    }
    check("a new name", &root.join("new"), BESIDE);
    check("a new name below", &root.join("dir/new"), BESIDE);
    check("file", &root.join("file"), ON_FILE);
    check("link", &root.join("link"), ON_FILE);
    let tmpfile = OFlags::TMPFILE | OFlags::WRONLY;
    let refused = rustix::fs::open(root.join("dir"), tmpfile, Mode::RWXU).map(ok).unwrap_err();
    assert!([Errno::ROFS, Errno::OPNOTSUPP].contains(&refused), "{refused}");

    let file = File::open(root.join("file")).unwrap();
    let by_descriptor = [
        rustix::fs::fchmod(&file, Mode::RUSR).unwrap_err(),
        rustix::fs::fsetxattr(&file, "trusted.a", b"1", XattrFlags::empty()).unwrap_err(),
    ];
    assert_eq!(by_descriptor, [Errno::ROFS; 2]);
    assert!(rustix::fs::ftruncate(&file, 0).is_err());
    assert!(rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 10).is_err());
    assert!(rustix::fs::ioctl_ficlone(&file, &file).is_err());
    assert!(rustix::io::write(&file, b"x").is_err());
    // SAFETY: the mapping is refused, and would not be used if it were not.
    let mapped = unsafe {
        let both = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
        rustix::mm::mmap(std::ptr::null_mut(), 4096, both, rustix::mm::MapFlags::SHARED, &file, 0)
    };
    assert_eq!(mapped.unwrap_err(), Errno::ACCESS);
    assert_eq!(fs::read(root.join("file")).unwrap(), pattern(1, 5000));
}

#[test]
fn extended_attributes_are_shown_and_missing_ones_are_enodata() {
    let tree = Model::new();
    let file = tree.file(ROOT_INO, "file", *b"x");
    tree.file(ROOT_INO, "bare", *b"x");
    let long = pattern(1, 3000);
    let values = BTreeMap::from([("user.empty", &b""[..]), ("user.long", &long), ("trusted.t", b"\0\xff")]);
    values.iter().for_each(|(name, value)| tree.set_xattr(file, name, value));
    let mounted = Mounted::new(tree);
    let (file, bare) = (mounted.path().join("file"), mounted.path().join("bare"));
    let mut buffer = vec![0; 10_000];
    for (name, value) in &values {
        assert_eq!(rustix::fs::getxattr_query(&file, *name), Ok(value.len()), "{name}");
        let got = rustix::fs::getxattr(&file, *name, &mut buffer[..]).unwrap();
        assert!(buffer[..got] == **value, "{name}");
    }
    assert_eq!(rustix::fs::getxattr(&file, "user.long", &mut buffer[..2999]), Err(Errno::RANGE));
    assert_eq!(rustix::fs::getxattr(&file, "user.none", &mut buffer[..]), Err(Errno::NODATA));
    assert_eq!(rustix::fs::getxattr(&bare, "user.empty", &mut buffer[..]), Err(Errno::NODATA));
    let listed = rustix::fs::listxattr(&file, &mut buffer[..]).unwrap();
    assert_eq!(&buffer[..listed], b"trusted.t\0user.empty\0user.long\0");
    assert_eq!(rustix::fs::listxattr(&file, &mut buffer[..5]), Err(Errno::RANGE));
    assert_eq!(rustix::fs::listxattr(&bare, &mut buffer[..]), Ok(0));
}

#[test]
fn where_nothing_has_extended_attributes_the_kernel_asks_once() {
    let mounted = Mounted::new(every_kind());
    let mut buffer = [0; 100];
    for _ in 0..5 {
        let path = mounted.path().join("file");
        assert_eq!(rustix::fs::getxattr(&path, "user.a", &mut buffer), Err(Errno::OPNOTSUPP));
        assert!(matches!(rustix::fs::listxattr(&path, &mut buffer), Ok(0) | Err(Errno::OPNOTSUPP)));
    }
    assert!(mounted.mount.requests().xattrs <= 2);
}

/// Serialises an access control list as the kernel does (include/uapi/linux/posix_acl_xattr.h).
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&rights.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    value
}

fn can_read(path: &Path, uid: u32, gid: u32) -> bool {
    let mut cat = Command::new("cat");
    cat.arg(path).uid(uid).gid(gid).stdout(Stdio::null()).stderr(Stdio::null());
    cat.status().unwrap().success()
}

#[test]
fn access_lists_are_enforced_as_on_a_real_file_system() {
    const NO_ID: u32 = u32::MAX;
    // user::rw-  user:1234:r--  group::---  mask::rw-  other::---: mode 0660, the group may do nothing.
    let list = acl(&[(1, 6, NO_ID), (2, 4, 1234), (4, 0, NO_ID), (16, 6, NO_ID), (32, 0, NO_ID)]);
    let real = tempfile::tempdir().unwrap();
    fs::set_permissions(real.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let source = real.path().join("listed");
    fs::write(&source, b"secret").unwrap();
    chown(&source, Some(700), Some(5000)).unwrap();
    fs::set_permissions(&source, fs::Permissions::from_mode(0o660)).unwrap();
    let has_acls = rustix::fs::setxattr(&source, "system.posix_acl_access", &list, XattrFlags::empty()).is_ok();

    let tree = Model::new();
    let file = tree.file(ROOT_INO, "listed", *b"secret");
    tree.set_xattr(file, "system.posix_acl_access", &list);
    tree.change(file, |node| (node.attr.perm, node.attr.uid, node.attr.gid) = (0o660, 700, 5000));
    let plain = tree.file(ROOT_INO, "plain", *b"public");
    tree.change(plain, |node| (node.attr.perm, node.attr.uid, node.attr.gid) = (0o640, 700, 5000));
    let mounted = Mounted::with(tree, &Options { allow_other: true, ..Options::default() });
    fs::set_permissions(real.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let shown = mounted.path().join("listed");
    for (who, uid, gid, may) in
        [("owner", 700, 1, true), ("named", 1234, 1, true), ("group", 900, 5000, false), ("other", 900, 1, false)]
    {
        assert_eq!(can_read(&shown, uid, gid), may, "{who}");
        if has_acls {
            assert_eq!(can_read(&source, uid, gid), may, "{who} of the source");
        }
    }
    let plain = mounted.path().join("plain");
    assert!(can_read(&plain, 900, 5000) && !can_read(&plain, 900, 1));
}
