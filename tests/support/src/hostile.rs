//! Plants a tree of everything a file system may legally hold. The same scale gives the same tree,
//! change times and birth times excepted.

use super::noise;
use rustix::fs::{AtFlags, CWD, Dev, Dir, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// The folder of files too long to be read byte by byte; for tools that skip holes only.
pub const HUGE: &str = "huge";
/// The folder of paths longer than `PATH_MAX`; for tools that walk by directory handles only.
pub const DEEP: &str = "deep";
/// The folder of pipes, sockets and devices.
pub const SPECIAL: &str = "special";

/// How much of the tree there is.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Entries of the one large directory.
    pub entries: u32,
    /// Length of the compressible file, in MiB.
    pub compressible_mib: usize,
    /// Directories of 200-byte names below one another; 21 and more pass `PATH_MAX` (4096).
    pub depth: usize,
}

impl Scale {
    /// The scale the promises are tested at.
    pub const FULL: Scale = Scale { entries: 5000, compressible_mib: 40, depth: 30 };
    /// Everything once, for tests about something else.
    pub const SMALL: Scale = Scale { entries: 50, compressible_mib: 1, depth: 22 };
}

/// Plants the tree in the existing directory `root`, as root.
pub fn plant(root: &Path, scale: Scale) {
    super::need_root();
    names(&dir(root, "names"));
    deep(&dir(root, DEEP), scale.depth);
    special(&dir(root, SPECIAL));
    modes(&dir(root, "modes"));
    symlinks(&dir(root, "symlinks"));
    hard_links(&dir(root, "links-a"), &dir(root, "links-b"));
    attributes(&dir(root, "xattrs"));
    acls(&dir(root, "acls"));
    sizes(&dir(root, "sizes"), scale);
    sparse(&dir(root, "sparse"));
    huge(&dir(root, HUGE));
    let many = dir(root, "many");
    for index in 0..scale.entries {
        write(&many.join(format!("entry-{index:07}")), format!("{index}\n").as_bytes());
    }
    std::fs::create_dir(root.join("empty")).unwrap();
    let root = open_dir(CWD, root.as_os_str().as_bytes());
    set_times(&root, &mut 1);
    times(&root);
    // Blocks are allocated when data is written back: `st_blocks` settles.
    rustix::fs::syncfs(&root).unwrap();
}

fn dir(parent: &Path, name: &str) -> PathBuf {
    let path = parent.join(name);
    std::fs::create_dir(&path).unwrap();
    path
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn named(dir: &Path, name: &[u8]) -> PathBuf {
    dir.join(OsStr::from_bytes(name))
}

/// Every legal byte, alone (but for `.`, which is taken) and after another; then the known traps.
fn names(dir: &Path) {
    for byte in (1..=255_u8).filter(|byte| *byte != b'/') {
        if byte != b'.' {
            write(&named(dir, &[byte]), &[byte]);
        }
        write(&named(dir, &[b'a', byte]), &[byte, byte]);
    }
    let traps: [&[u8]; 22] = [
        &[b'n'; 255],
        &[0xFF; 255],
        b"...",
        b"..a",
        b"-rf",
        b"--",
        b"--delete",
        b"trailing space ",
        b"trailing dot.",
        b" leading",
        b"two\nlines",
        b"\n",
        b"\x1b[31mred\x1b[0m\x07",
        b"\r\x08\x7f",
        b"not utf-8 \xff\xfe\xc3\x28",
        b"half a surrogate \xed\xa0\x80",
        "\u{202e}txt.exe".as_bytes(),
        "caf\u{e9}".as_bytes(),
        "cafe\u{301}".as_bytes(),
        "\u{1f4be}\u{200b}".as_bytes(),
        b"quote'\"`$(id)\\;*?[a]{b}~#&|<>!",
        b"C:\\CON.txt",
    ];
    for name in traps {
        // Some are single bytes again: the same file, the same bytes.
        write(&named(dir, name), name);
    }
    write(&named(dir, b"Case"), b"upper");
    write(&named(dir, b"case"), b"lower");
    let nested = named(dir, b"-dir with\nnewline\xff");
    std::fs::create_dir(&nested).unwrap();
    write(&nested.join("inner"), b"inner");
}

/// Directories below one another until no path from the root fits into `PATH_MAX`.
fn deep(dir: &Path, depth: usize) {
    let mut at = open_dir(CWD, dir.as_os_str().as_bytes());
    for level in 0..depth {
        let name = format!("{level:03}-{}", "d".repeat(196));
        rustix::fs::mkdirat(&at, name.as_str(), Mode::from(0o755)).unwrap();
        at = open_dir(at.as_fd(), name.as_bytes());
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::EXCL;
        let file = rustix::fs::openat(&at, "file", flags, Mode::from(0o644)).unwrap();
        rustix::io::write(&file, name.as_bytes()).unwrap();
    }
    rustix::fs::symlinkat("file", &at, "link").unwrap();
}

fn special(dir: &Path) {
    let nodes = [
        ("fifo", FileType::Fifo, 0),
        ("socket", FileType::Socket, 0),
        ("char", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        ("char-large", FileType::CharacterDevice, rustix::fs::makedev(300, 70_000)),
        ("block", FileType::BlockDevice, rustix::fs::makedev(7, 0)),
        ("block-large", FileType::BlockDevice, rustix::fs::makedev(259, 1_048_575)),
        // The device number 0:0 is overlayfs's whiteout.
        ("char-zero", FileType::CharacterDevice, 0),
    ];
    for (name, kind, device) in nodes {
        mknod(&dir.join(name), kind, device);
    }
    std::fs::hard_link(dir.join("fifo"), dir.join("fifo-linked")).unwrap();
    mode(&dir.join("fifo"), 0o600);
    chown(&dir.join("char"), 12, 34);
}

fn mknod(path: &Path, kind: FileType, device: Dev) {
    rustix::fs::mknodat(CWD, path, kind, Mode::from(0o644), device)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

fn chown(path: &Path, uid: u32, gid: u32) {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::fs::chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn modes(dir: &Path) {
    for bits in [0, 0o1, 0o70, 0o200, 0o400, 0o644, 0o777, 0o1644, 0o2755, 0o2644, 0o4755, 0o7777] {
        let file = dir.join(format!("file-{bits:04o}"));
        write(&file, format!("{bits:o}").as_bytes());
        // Owners first: chown(2) drops setuid and setgid.
        chown(&file, 1000 + bits % 7, 4_000_000_000 + bits);
        mode(&file, bits);
        let folder = dir.join(format!("dir-{bits:04o}"));
        std::fs::create_dir(&folder).unwrap();
        write(&folder.join("inside"), b"inside");
        chown(&folder, bits, 65_534);
        mode(&folder, bits);
    }
}

fn symlinks(dir: &Path) {
    let long = [b'x'; 4095];
    let targets: [(&str, &[u8]); 11] = [
        ("to-file", b"file"),
        ("to-dir", b"folder"),
        ("loop", b"loop"),
        ("loop-a", b"loop-b"),
        ("loop-b", b"loop-a"),
        ("dangling", b"no/such/file"),
        ("up", b"../../../../../.."),
        ("absolute", b"/etc/passwd"),
        ("bytes", b"\xff\n\x1b[0m"),
        ("long", &long),
        // Longer than the 60 bytes an ext4 inode holds itself.
        ("medium", &[b'm'; 61]),
    ];
    write(&dir.join("file"), b"target");
    std::fs::create_dir(dir.join("folder")).unwrap();
    write(&dir.join("folder/inside"), b"inside");
    for (name, target) in targets {
        symlink(OsStr::from_bytes(target), dir.join(name)).unwrap();
    }
    chown(&dir.join("dangling"), 77, 88);
    std::fs::hard_link(dir.join("dangling"), dir.join("dangling-linked")).unwrap();
}

fn hard_links(a: &Path, b: &Path) {
    write(&a.join("three"), b"three names");
    std::fs::hard_link(a.join("three"), b.join("three")).unwrap();
    std::fs::hard_link(a.join("three"), b.join("again")).unwrap();
    write(&b.join("large"), &noise(7, 700_000));
    std::fs::hard_link(b.join("large"), a.join("large")).unwrap();
    // Equal in everything but the inode: must not become one file.
    write(&a.join("twin-1"), b"twin");
    write(&a.join("twin-2"), b"twin");
    write(&a.join("nothing-1"), b"");
    write(&a.join("nothing-2"), b"");
    std::fs::hard_link(a.join("nothing-1"), b.join("nothing")).unwrap();
}

fn set_xattr(path: &Path, name: &[u8], value: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
}

fn attributes(dir: &Path) {
    let file = |name: &str| {
        let path = dir.join(name);
        write(&path, name.as_bytes());
        path
    };
    set_xattr(&file("user"), b"user.comment", b"a comment").unwrap();
    set_xattr(&file("empty-value"), b"user.empty", b"").unwrap();
    set_xattr(&file("bytes"), b"user.\xff\n name", b"\0\xff\n\0").unwrap();
    set_xattr(&file("trusted"), b"trusted.overlay.opaque", b"y").unwrap();
    let many = file("many");
    for index in 0..40 {
        let name = format!("user.attribute-{index:02}");
        set_xattr(&many, name.as_bytes(), &noise(index, index as usize)).unwrap();
    }
    let long_name = [b"user.".as_slice(), &[b'n'; 250]].concat();
    set_xattr(&file("long-name"), &long_name, b"255 bytes of name").unwrap();
    let large = file("large");
    // As large as the file system takes: ext4 without `ea_inode` stops near one block.
    let sizes = [60 << 10, 32 << 10, 16 << 10, 8 << 10, 3800, 1000];
    assert!(sizes.iter().any(|len| set_xattr(&large, b"user.large", &noise(9, *len)).is_ok()));
    let program = file("capability");
    mode(&program, 0o755);
    // struct vfs_cap_data, revision 2: cap_net_raw (13), effective (linux/capability.h).
    let words: [u32; 5] = [0x0200_0001, 1 << 13, 0, 0, 0];
    set_xattr(&program, b"security.capability", &words.map(u32::to_le_bytes).concat()).unwrap();
    let folder = dir.join("folder");
    std::fs::create_dir(&folder).unwrap();
    set_xattr(&folder, b"user.on-a-folder", b"yes").unwrap();
    symlink("folder", dir.join("link")).unwrap();
    set_xattr(&dir.join("link"), b"trusted.on-a-link", b"yes").unwrap();
    mknod(&dir.join("fifo"), FileType::Fifo, 0);
    set_xattr(&dir.join("fifo"), b"trusted.on-a-pipe", b"yes").unwrap();
}

/// An access list as the kernel stores it: tag, permissions, id (linux/posix_acl_xattr.h).
pub fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// The tags of access list entries (linux/posix_acl.h).
pub mod tag {
    /// The owner.
    pub const USER_OBJ: u16 = 1;
    /// A named user.
    pub const USER: u16 = 2;
    /// The owning group.
    pub const GROUP_OBJ: u16 = 4;
    /// A named group.
    pub const GROUP: u16 = 8;
    /// The most that named users and groups get.
    pub const MASK: u16 = 16;
    /// Everyone else.
    pub const OTHER: u16 = 32;
    /// The id of the entries that have none.
    pub const NO_ID: u32 = u32::MAX;
}

fn acls(dir: &Path) {
    use tag::{GROUP, GROUP_OBJ, MASK, NO_ID, OTHER, USER, USER_OBJ};
    let list = acl(&[
        (USER_OBJ, 6, NO_ID),
        (USER, 4, 1234),
        (USER, 7, 65_534),
        (GROUP_OBJ, 0, NO_ID),
        (GROUP, 5, 4321),
        (MASK, 5, NO_ID),
        (OTHER, 0, NO_ID),
    ]);
    write(&dir.join("access"), b"access");
    set_xattr(&dir.join("access"), b"system.posix_acl_access", &list).unwrap();
    let folder = dir.join("default");
    std::fs::create_dir(&folder).unwrap();
    set_xattr(&folder, b"system.posix_acl_default", &list).unwrap();
    set_xattr(&folder, b"system.posix_acl_access", &list).unwrap();
    write(&folder.join("inherits"), b"inherits");
    std::fs::create_dir(folder.join("inherits-too")).unwrap();
}

fn sizes(dir: &Path, scale: Scale) {
    let quarter = 256 << 10;
    for len in [0, 1, 4095, 4096, 4097, quarter - 1, quarter, quarter + 1, 3 << 20] {
        write(&dir.join(format!("random-{len}")), &noise(len as u64, len));
    }
    let mut text = Vec::new();
    let mut line = 0_u64;
    while text.len() < scale.compressible_mib << 20 {
        text.extend(format!("{line:012} the quick brown fox jumps over the lazy dog\n").bytes());
        line += 1;
    }
    write(&dir.join("compressible"), &text);
    write(&dir.join("zeros"), &vec![0; 1 << 20]);
}

fn sparse_file(path: &Path, len_bytes: u64, runs: &[(u64, usize)]) {
    let file = std::fs::File::create(path).unwrap();
    for (offset, run_bytes) in runs {
        file.write_all_at(&noise(*offset, *run_bytes), *offset).unwrap();
    }
    file.set_len(len_bytes).unwrap();
}

fn sparse(dir: &Path) {
    const MIB: u64 = 1 << 20;
    sparse_file(&dir.join("hole-only"), 5 * MIB + 123, &[]);
    sparse_file(&dir.join("hole-at-start"), 4 * MIB + 5000, &[(4 * MIB, 5000)]);
    sparse_file(&dir.join("hole-at-end"), 9 * MIB, &[(0, 70_000)]);
    sparse_file(&dir.join("hole-inside"), 3 * MIB + 1, &[(0, 4096), (3 * MIB, 1)]);
    let comb: Vec<_> = (0..200).map(|index| (index * 16_384, 4096)).collect();
    sparse_file(&dir.join("comb"), 200 * 16_384, &comb);
    // Allocated but never written: a hole for readers, not for `st_blocks` (fallocate(2)).
    let reserved = std::fs::File::create(dir.join("reserved")).unwrap();
    let flags = rustix::fs::FallocateFlags::empty();
    rustix::fs::fallocate(&reserved, flags, 0, 2 * MIB).unwrap();
    reserved.write_all_at(b"data", MIB).unwrap();
    let beyond = std::fs::File::create(dir.join("reserved-beyond-the-end")).unwrap();
    let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
    beyond.write_all_at(b"short", 0).unwrap();
    rustix::fs::fallocate(&beyond, flags, 0, MIB).unwrap();
}

fn huge(dir: &Path) {
    const TIB: u64 = 1 << 40;
    let runs = [(0, 4096), (5 << 30, 300_000), (TIB / 2 + 4096, 8192), (TIB - (1 << 20), 65_536)];
    sparse_file(&dir.join("1-tib"), TIB, &runs);
    sparse_file(&dir.join("1-tib-of-nothing"), TIB, &[]);
    sparse_file(&dir.join("4-gib-and-1"), (4 << 30) + 1, &[(4 << 30, 1)]);
}

fn open_dir(at: BorrowedFd<'_>, name: &[u8]) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty()).unwrap()
}

/// Gives everything a time of its own, with nanoseconds, directories after what is in them.
fn set_times(dir: &OwnedFd, count: &mut i64) {
    let mut names: Vec<(CString, FileType)> = Vec::new();
    for entry in Dir::read_from(dir).unwrap() {
        let entry = entry.unwrap();
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    names.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, kind) in names {
        if kind == FileType::Directory {
            set_times(&open_dir(dir.as_fd(), name.to_bytes()), count);
        } else {
            touch(dir, name.to_bytes(), next_time(count));
        }
    }
    touch(dir, b".", next_time(count));
}

fn next_time(count: &mut i64) -> Timespec {
    *count += 1;
    Timespec { tv_sec: 1_500_000_000 + *count * 7919, tv_nsec: *count * 1_234_567 % 1_000_000_000 }
}

fn touch(dir: &OwnedFd, name: &[u8], time: Timespec) {
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Files of times before 1970 and after 2106; the file system keeps the nearest it can.
fn times(root: &OwnedFd) {
    rustix::fs::mkdirat(root, "times", Mode::from(0o755)).unwrap();
    let dir = open_dir(root.as_fd(), b"times");
    let all: [(i64, i64); 10] = [
        (0, 0),
        (0, 1),
        (-1, 999_999_999),
        (-1_000_000_000, 123_456_789),
        (-2_147_483_648, 0),
        (2_147_483_647, 999_999_999),
        (2_147_483_648, 1),
        (4_294_967_295, 999_999_999),
        (4_294_967_296, 5),
        (7_258_118_400, 999_999_999),
    ];
    for (secs, nanos) in all {
        let name = format!("{secs}.{nanos:09}");
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::EXCL;
        drop(rustix::fs::openat(&dir, name.as_str(), flags, Mode::from(0o644)).unwrap());
        touch(&dir, name.as_bytes(), Timespec { tv_sec: secs, tv_nsec: nanos });
    }
    touch(&dir, b".", Timespec { tv_sec: -5, tv_nsec: 7 });
    touch(root, b".", Timespec { tv_sec: 1_000_000_000, tv_nsec: 42 });
}
