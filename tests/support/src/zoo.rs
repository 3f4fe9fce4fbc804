//! A folder with one of everything a file system can hold.

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

/// A file capability as setcap(8) stores it: cap_net_bind_service=ep (linux/capability.h, revision 2).
pub const CAPABILITY: &[u8; 20] = b"\x01\x00\x00\x02\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// u::rwx, u:4711:rw-, g::r--, m::r-x, o::--- as the kernel takes it (linux/posix_acl_xattr.h).
pub const ACL: &[u8; 44] = b"\x02\0\0\0\
    \x01\0\x07\0\xff\xff\xff\xff\x02\0\x06\0\x67\x12\0\0\x04\0\x04\0\xff\xff\xff\xff\
    \x10\0\x05\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";

/// Makes one of everything; needs root.
pub fn build_zoo(root: &Path) {
    let at = |name: &str| root.join(name);
    for (name, mode) in [("0000", 0), ("0640", 0o640), ("6755", 0o6755), ("2070", 0o2070), ("empty", 0o444)] {
        fs::write(at(name), if name == "empty" { "" } else { name }).unwrap();
        chown(at(name), Some(4711), Some(4712)).unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    for name in [vec![b'x'; 255], vec![0xff, 0xfe, b'\n'], b"-rf *".to_vec()] {
        fs::write(root.join(OsStr::from_bytes(&name)), &name).unwrap();
    }
    let sparse = fs::File::create(at("sparse")).unwrap();
    sparse.write_all_at(&[1; 65536], 1 << 20).unwrap();
    sparse.set_len((8 << 20) + 5).unwrap();
    sparse.sync_all().unwrap();
    symlink("no/such \u{fc}", at("dangling")).unwrap();
    symlink("/", at("root")).unwrap();
    lchown(at("root"), Some(1), Some(2)).unwrap();
    for (name, kind, device) in [
        ("fifo", FileType::Fifo, 0),
        ("socket", FileType::Socket, 0),
        ("char", FileType::CharacterDevice, rustix::fs::makedev(1, 259)),
        ("block", FileType::BlockDevice, rustix::fs::makedev(4095, 7)),
    ] {
        rustix::fs::mknodat(CWD, at(name), kind, Mode::empty(), device).unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(0o4642)).unwrap();
    }
    let set = |name: &str, xattr: &str, value: &[u8]| {
        rustix::fs::lsetxattr(at(name), xattr, value, XattrFlags::empty()).unwrap();
    };
    set("0640", "user.comment", b"\0\xff");
    set("0640", "user.empty", b"");
    set("0640", "system.posix_acl_access", ACL);
    set("6755", "security.capability", CAPABILITY);
    for name in ["root", "fifo", "char"] {
        set(name, "trusted.mine", name.as_bytes());
    }
    fs::create_dir_all(at("dir/read-only/below")).unwrap();
    fs::write(at("dir/read-only/file"), "f").unwrap();
    set("dir", "system.posix_acl_default", ACL);
    set("dir", "user.dir", b"d");
    for (name, mode) in [("dir/read-only/below", 0), ("dir/read-only", 0o555), ("dir", 0o3775)] {
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
}
