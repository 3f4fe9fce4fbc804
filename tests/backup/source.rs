//! What is read from the disk being backed up is what is there, and nothing else, whatever happens meanwhile.

use bakfs::error::ErrorKind;
use bakfs::format::codec::Bytes;
use bakfs::format::tree::{Time, Xattr};
use bakfs::source::disk::Disk;
use bakfs::source::listing::Listing;
use bakfs::source::read::{self, Segment};
use bakfs::source::stat::{Kind, Stat};
use bakfs::source::walk::Walk;
use bakfs::source::{exclude, xattr};
use bakfs_testing::need_root;
use bakfs_testing::users::{NOBODY, acting_as};
use bakfs_testing::zoo::CAPABILITY;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// u::rw-, u:4711:rwx, g::r--, m::rwx, o::--- as the kernel takes it (linux/posix_acl_xattr.h).
const ACL: &[u8; 44] = b"\x02\0\0\0\
    \x01\0\x06\0\xff\xff\xff\xff\x02\0\x07\0\x67\x12\0\0\x04\0\x04\0\xff\xff\xff\xff\
    \x10\0\x07\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";

fn list(path: &Path) -> Listing {
    Walk::new(0, 1).request_root(path).take().unwrap()
}

fn names(listing: &Listing) -> Vec<&[u8]> {
    listing.entries.iter().map(|entry| &*entry.name).collect()
}

fn set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

#[test]
fn every_type_and_all_its_numbers_are_told() {
    need_root();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("dir")).unwrap();
    fs::write(at("file"), b"content").unwrap();
    fs::hard_link(at("file"), at("hard")).unwrap();
    symlink("nowhere/at all", at("link")).unwrap();
    for (name, kind, device) in [
        ("fifo", FileType::Fifo, 0),
        ("socket", FileType::Socket, 0),
        ("char", FileType::CharacterDevice, rustix::fs::makedev(1, 259)),
        ("block", FileType::BlockDevice, rustix::fs::makedev(4095, 7)),
    ] {
        rustix::fs::mknodat(CWD, at(name), kind, Mode::RUSR, device).unwrap();
    }
    for (name, mode) in [("dir", 0o3711), ("file", 0o6755), ("fifo", 0), ("socket", 0o1777)] {
        rustix::fs::chmod(at(name), Mode::from_raw_mode(mode)).unwrap();
    }
    std::os::unix::fs::lchown(at("link"), Some(4711), Some(u32::MAX - 1)).unwrap();
    let then = Timespec { tv_sec: -5, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: then, last_modification: then };
    rustix::fs::utimensat(CWD, at("link"), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();

    let listing = list(dir.path());
    assert!(listing.errors.is_empty() && listing.incomplete.is_none());
    let expected: [(&str, Kind); 8] = [
        ("block", Kind::BlockDevice),
        ("char", Kind::CharDevice),
        ("dir", Kind::Directory),
        ("fifo", Kind::Fifo),
        ("file", Kind::File),
        ("hard", Kind::File),
        ("link", Kind::Symlink),
        ("socket", Kind::Socket),
    ];
    assert_eq!(listing.entries.len(), expected.len());
    for (entry, (name, kind)) in listing.entries.iter().zip(expected) {
        let (stat, real) = (&entry.stat, fs::symlink_metadata(at(name)).unwrap());
        assert_eq!((&*entry.name, stat.kind), (name.as_bytes(), kind));
        assert_eq!((stat.mode, stat.uid, stat.gid), (real.mode() & 0o7777, real.uid(), real.gid()), "{name}");
        assert_eq!((stat.ino, stat.dev, u64::from(stat.nlink)), (real.ino(), real.dev(), real.nlink()), "{name}");
        assert_eq!((stat.size_bytes, stat.blocks), (real.size(), real.blocks()), "{name}");
        assert_eq!((stat.mtime.secs, i64::from(stat.mtime.nanos)), (real.mtime(), real.mtime_nsec()), "{name}");
        assert_eq!((stat.ctime.secs, i64::from(stat.ctime.nanos)), (real.ctime(), real.ctime_nsec()), "{name}");
        assert_eq!(stat.btime.is_some(), real.created().is_ok(), "{name}");
        assert_eq!(rustix::fs::makedev(stat.rdev_major, stat.rdev_minor), real.rdev(), "{name}");
        assert!(!stat.automount);
    }
    let [block, _, directory, fifo, file, hard, link, _] = &listing.entries[..] else { unreachable!() };
    assert_eq!((block.stat.rdev_major, block.stat.rdev_minor), (4095, 7));
    assert_eq!((directory.stat.mode, file.stat.mode, fifo.stat.mode), (0o3711, 0o6755, 0));
    assert_eq!((link.stat.uid, link.stat.gid), (4711, u32::MAX - 1));
    assert_eq!(link.stat.mtime, Time { secs: -5, nanos: 123_456_789 });
    assert!(file.stat.is_same_file(&hard.stat) && !file.stat.is_same_file(&link.stat));
    assert_eq!(&*read::read_link(listing.dir.as_fd(), b"link").unwrap(), b"nowhere/at all");
    let not_a_link = read::read_link(listing.dir.as_fd(), b"file").unwrap_err();
    assert_eq!(not_a_link.kind(), ErrorKind::Replaced);

    let meta = file.stat.to_meta(Vec::new());
    assert_eq!((meta.mode, meta.nlink, meta.link_device, meta.marks), (0o6755, 2, file.stat.dev, 0));
    assert_eq!(directory.stat.to_meta(Vec::new()).link_device, 0, "a directory's links join no names");
    assert_eq!(fifo.stat.to_meta(Vec::new()).link_device, 0, "one link joins no names");
}

#[test]
fn names_are_bytes_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected: Vec<Vec<u8>> = (1..=255).filter(|byte| !b"/.".contains(byte)).map(|byte| vec![byte]).collect();
    expected.extend([vec![b'x'; 255], vec![0xff; 255], b"...".to_vec(), b"\x1b[31m\n".to_vec(), b"e\xcc\x81".to_vec()]);
    for name in &expected {
        fs::write(dir.path().join(OsStr::from_bytes(name)), name).unwrap();
    }
    expected.sort();
    let listing = list(dir.path());
    assert_eq!(names(&listing), expected);
    for entry in &listing.entries {
        let file = read::open(listing.dir.as_fd(), &entry.name, &entry.stat).unwrap();
        let mut content = vec![0; 300];
        let len = file.read_at(0, &mut content).unwrap();
        assert_eq!(content[..len], *entry.name);
    }
}

#[test]
fn extended_attributes_are_read_raw_and_sorted() {
    need_root();
    let dir = tempfile::tempdir().unwrap();
    let (file, link, fifo) = (dir.path().join("file"), dir.path().join("link"), dir.path().join("fifo"));
    fs::write(&file, b"").unwrap();
    symlink("file", &link).unwrap();
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
    let long = vec![0xa5; 3000];
    let values: [(&str, &[u8]); 6] = [
        ("security.capability", CAPABILITY),
        ("system.posix_acl_access", ACL),
        ("trusted.overlay", b"y"),
        ("user.empty", b""),
        ("user.long", &long),
        ("user.\u{fc}\n", b"\0\xff"),
    ];
    for (name, value) in values.iter().rev() {
        set(&file, name, value);
    }
    for path in [&link, &fifo, &dir.path().to_path_buf()] {
        set(path, "trusted.mine", path.as_os_str().as_bytes());
    }
    let stored = |name: &str, value: &[u8]| Xattr { name: Bytes(name.into()), value: Bytes(value.into()) };
    let expected: Vec<Xattr> = values.iter().map(|(name, value)| stored(name, value)).collect();

    let listing = list(dir.path());
    let stat = Stat::at(listing.dir.as_fd(), b"file").unwrap();
    let opened = read::open(listing.dir.as_fd(), b"file", &stat).unwrap();
    for found in [opened.xattrs(), xattr::of_name(listing.dir.as_fd(), b"file")] {
        assert!(found.errors.is_empty(), "{:?}", found.errors);
        assert_eq!(found.list, expected);
    }
    for (found, path) in [
        (xattr::of_name(listing.dir.as_fd(), b"link"), &link),
        (xattr::of_name(listing.dir.as_fd(), b"fifo"), &fifo),
        (xattr::of_fd(listing.dir.as_fd()), &dir.path().to_path_buf()),
    ] {
        assert!(found.errors.is_empty(), "{:?}", found.errors);
        assert_eq!(found.list, [stored("trusted.mine", path.as_os_str().as_bytes())]);
    }
    let gone = xattr::of_name(listing.dir.as_fd(), b"gone");
    assert_eq!((gone.list.len(), gone.errors.len()), (0, 1));
}

#[test]
fn holes_are_told_and_never_read() {
    const MIB: u64 = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, len: u64, runs: &[u64]| {
        let file = File::create(dir.path().join(name)).unwrap();
        file.set_len(len).unwrap();
        for &offset in runs {
            file.write_all_at(&[7; MIB as usize], offset).unwrap();
        }
        file.sync_all().unwrap();
    };
    write("dense", MIB, &[0]);
    write("hole", 1 << 40, &[]);
    write("sparse", 100 * MIB + 1, &[0, 10 * MIB, 99 * MIB]);
    write("empty", 0, &[]);
    let listing = list(dir.path());
    let segments = |name: &str| -> Vec<(u64, u64, bool)> {
        let stat = Stat::at(listing.dir.as_fd(), name.as_bytes()).unwrap();
        let file = read::open(listing.dir.as_fd(), name.as_bytes(), &stat).unwrap();
        let triple = |Segment { offset, len_bytes, is_hole }| (offset, len_bytes, is_hole);
        file.segments().map(|segment| triple(segment.unwrap())).collect()
    };
    assert_eq!(segments("dense"), [(0, MIB, false)]);
    assert_eq!(segments("empty"), []);
    assert_eq!(segments("hole"), [(0, 1 << 40, true)]);
    let sparse = segments("sparse");
    let expected = [
        (0, MIB, false),
        (MIB, 9 * MIB, true),
        (10 * MIB, MIB, false),
        (11 * MIB, 88 * MIB, true),
        (99 * MIB, MIB, false),
        (100 * MIB, 1, true),
    ];
    assert_eq!(sparse, expected);
}

#[test]
fn what_took_a_files_name_is_never_read() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("file"), dir.path().join("other"));
    fs::write(&path, b"mine").unwrap();
    fs::write(&other, b"a secret of somebody else").unwrap();
    let listing = list(dir.path());
    let stat = listing.entries[0].stat.clone();
    let fd = Arc::clone(&listing.dir);
    let open = move || {
        let (fd, stat) = (Arc::clone(&fd), stat.clone());
        let (done, result) = std::sync::mpsc::channel();
        // On a thread of its own, so that blocking in open(2) fails the test instead of hanging it.
        std::thread::spawn(move || done.send(read::open(fd.as_fd(), b"file", &stat).map(drop)));
        result.recv_timeout(Duration::from_secs(120)).expect("opening must never block")
    };
    open().unwrap();
    let swaps: [&dyn Fn(); 5] = [
        &|| rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap(),
        &|| rustix::fs::mknodat(CWD, &path, FileType::Socket, Mode::RWXU, 0).unwrap(),
        &|| symlink(&other, &path).unwrap(),
        &|| fs::hard_link(&other, &path).unwrap(),
        &|| fs::create_dir(&path).unwrap(),
    ];
    for (number, swap) in swaps.iter().enumerate() {
        // Renamed, not removed: its inode number stays taken.
        fs::rename(&path, dir.path().join(format!("old{number}"))).unwrap();
        swap();
        assert_eq!(open().unwrap_err().kind(), ErrorKind::Replaced, "swap {number}");
    }
    fs::remove_dir(&path).unwrap();
    assert_eq!(open().unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let changes: [&dyn Fn(); 5] = [
        &|| File::options().append(true).open(&path).unwrap().write_all_at(b"x", 0).unwrap(),
        &|| File::options().write(true).open(&path).unwrap().set_len(10).unwrap(),
        &|| File::options().write(true).open(&path).unwrap().set_len(9000).unwrap(),
        &|| rustix::fs::chmod(&path, Mode::RUSR).unwrap(),
        &|| fs::hard_link(&path, dir.path().join("second")).unwrap(),
    ];
    for (number, change) in changes.iter().enumerate() {
        fs::write(&path, [1; 5000]).unwrap();
        let listing = list(dir.path());
        let seen = &listing.entries[0].stat;
        let file = read::open(listing.dir.as_fd(), b"file", seen).unwrap();
        assert!(file.stat().unwrap().same_as(seen) && file.opened_as().same_as(seen));
        assert!(file.stat().unwrap().same_file_version(&seen.to_meta(Vec::new())));
        change();
        let now = file.stat().unwrap();
        assert!(!now.same_as(seen), "change {number}");
        assert!(!now.same_file_version(&seen.to_meta(Vec::new())), "change {number}");
        let len: u64 = file.segments().map(|segment| segment.unwrap().len_bytes).sum();
        assert_eq!(len, 5000, "what is read ends where the file ended when it was opened");
        assert_eq!(file.read_at(0, &mut [0; 5000]).unwrap() as u64, now.size_bytes.min(5000));
    }
}

#[test]
fn a_replaced_directory_is_refused() {
    for threads in [0, 3] {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("canary"), b"").unwrap();
        let at = |name: &str| dir.path().join(name);
        let kinds = ["symlink", "directory", "file", "gone", "same"];
        for name in kinds {
            fs::create_dir(at(name)).unwrap();
        }
        let listing = list(dir.path());
        for name in &kinds[..4] {
            fs::rename(at(name), at(&format!("was {name}"))).unwrap();
        }
        symlink(outside.path(), at("symlink")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        fs::write(at("file"), b"").unwrap();
        let walk = Walk::new(threads, 100);
        let request = |name: &str| {
            let entry = listing.entries.iter().find(|entry| *entry.name == *name.as_bytes()).unwrap();
            walk.request(&listing.dir, &entry.name, &entry.stat)
        };
        let tickets: Vec<_> = kinds.map(request).into();
        let result: Vec<_> =
            tickets.into_iter().map(|ticket| ticket.take().map_err(|error| error.kind()).map(drop)).collect();
        let replaced = Err(ErrorKind::Replaced);
        assert_eq!(result, [replaced, replaced, replaced, Err(ErrorKind::NotFound), Ok(())], "{threads} threads");
        let root = walk.request_root(&at("symlink")).take();
        assert!(root.is_err(), "a root that is a symbolic link is not followed");
    }
}

#[test]
fn paths_longer_than_path_max_are_walked() {
    const LEVELS: usize = 60;
    let dir = tempfile::tempdir().unwrap();
    let name = "n".repeat(200);
    let mut fd: OwnedFd = File::open(dir.path()).unwrap().into();
    for _ in 0..LEVELS {
        rustix::fs::mkdirat(&fd, &*name, Mode::RWXU).unwrap();
        fd = rustix::fs::openat(&fd, &*name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let deepest = rustix::fs::openat(&fd, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
    rustix::io::write(&deepest, b"deep").unwrap();
    let walk = Walk::new(2, 10);
    let mut listing = walk.request_root(dir.path()).take().unwrap();
    for _ in 0..LEVELS {
        let entry = &listing.entries[0];
        assert_eq!(*entry.name, *name.as_bytes());
        listing = walk.request(&listing.dir, &entry.name, &entry.stat).take().unwrap();
    }
    let file = read::open(listing.dir.as_fd(), b"file", &listing.entries[0].stat).unwrap();
    let mut content = [0; 8];
    assert_eq!(file.read_at(0, &mut content).unwrap(), 4);
    assert!(xattr::of_name(listing.dir.as_fd(), b"file").errors.is_empty(), "names in /proc are short");
}

#[test]
fn a_directory_of_a_hundred_thousand_entries_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let fd = File::open(dir.path()).unwrap();
    for number in 0..100_000 {
        rustix::fs::symlinkat("x", &fd, format!("{number:05}")).unwrap();
    }
    let walk = Walk::new(2, 1000);
    let listing = walk.request_root(dir.path()).take().unwrap();
    assert!(listing.entries.iter().zip(0..).all(|(entry, number)| *entry.name == *format!("{number:05}").as_bytes()));
    assert_eq!(listing.entries.len(), 100_000);
}

/// Makes directories, each in the root or an earlier one, with so many files.
fn build(root: &Path, dirs: &[(usize, usize)]) {
    let mut paths: Vec<PathBuf> = vec![root.into()];
    for (number, &(parent, files)) in dirs.iter().enumerate() {
        let path = paths[parent % paths.len()].join(format!("d{number}"));
        fs::create_dir(&path).unwrap();
        for file in 0..files {
            fs::write(path.join(format!("f{file}")), b"").unwrap();
        }
        paths.push(path);
    }
}

/// Walks depth first as a backup does, asking for all subdirectories of a directory before entering the first.
fn walk_all(walk: &Walk, listing: Listing, path: &Path, seen: &mut Vec<PathBuf>) {
    let is_dir = |stat: &Stat| stat.kind == Kind::Directory;
    let dirs = listing.entries.iter().filter(|entry| is_dir(&entry.stat));
    let mut tickets: std::collections::VecDeque<_> =
        dirs.map(|entry| walk.request(&listing.dir, &entry.name, &entry.stat)).collect();
    for entry in &listing.entries {
        let path = path.join(OsStr::from_bytes(&entry.name));
        seen.push(path.clone());
        if is_dir(&entry.stat) {
            let below = tickets.pop_front().unwrap().take().unwrap();
            walk_all(walk, below, &path, seen);
        }
    }
}

fn expected_order(path: &Path, seen: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        seen.push(entry.path());
        if entry.file_type().unwrap().is_dir() {
            expected_order(&entry.path(), seen);
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 48, ..Default::default() })]

    #[test]
    fn every_entry_is_seen_once_in_order_within_the_window(
        dirs in proptest::collection::vec((0usize..1000, 0usize..12), 1..60),
        threads in 0usize..6,
        window in 1usize..40,
    ) {
        let dir = tempfile::tempdir().unwrap();
        build(dir.path(), &dirs);
        let walk = Walk::new(threads, window);
        let root = walk.request_root(dir.path()).take().unwrap();
        let (mut seen, mut expected) = (Vec::new(), Vec::new());
        walk_all(&walk, root, dir.path(), &mut seen);
        expected_order(dir.path(), &mut expected);
        proptest::prop_assert_eq!(seen, &expected[..]);
        // Only the directory that is waited for may exceed the window.
        let below = |path: &Path| fs::read_dir(path).map_or(0, |entries| entries.count());
        let largest = expected.iter().map(|path| below(path)).max().unwrap_or(0).max(below(dir.path()));
        proptest::prop_assert!(walk.peak_entries() <= window + largest, "{} at a time", walk.peak_entries());
    }
}

#[test]
fn the_window_holds_while_nothing_is_taken() {
    const FILES: usize = 10;
    let dir = tempfile::tempdir().unwrap();
    for number in 0..300 {
        let path = dir.path().join(format!("{number}"));
        fs::create_dir(&path).unwrap();
        (0..FILES).for_each(|file| fs::write(path.join(format!("{file}")), b"").unwrap());
    }
    let walk = Walk::new(4, 3 * FILES);
    let root = list(dir.path());
    let tickets: Vec<_> = root.entries.iter().map(|entry| walk.request(&root.dir, &entry.name, &entry.stat)).collect();
    // The last is waited for first: no thread has come so far, or it goes on whatever is ready.
    for (number, ticket) in tickets.into_iter().enumerate().rev() {
        if number % 3 == 0 {
            drop(ticket);
        } else {
            assert_eq!(ticket.take().unwrap().entries.len(), FILES);
        }
        // The window, and the one that was waited for.
        assert!(walk.peak_entries() <= 4 * FILES, "{} at a time", walk.peak_entries());
    }
}

#[test]
fn what_a_walk_did_not_finish_is_still_taken() {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path(), &[(0, 5); 50]);
    let walk = Walk::new(3, 7);
    let root = walk.request_root(dir.path()).take().unwrap();
    let tickets: Vec<_> = root.entries.iter().map(|entry| walk.request(&root.dir, &entry.name, &entry.stat)).collect();
    drop(walk);
    for ticket in tickets {
        assert!(ticket.take().unwrap().entries.len() >= 5);
    }
}

#[test]
fn only_a_valid_tag_makes_a_cache() {
    const SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";
    let dir = tempfile::tempdir().unwrap();
    let tag = dir.path().join("CACHEDIR.TAG");
    fs::write(dir.path().join("A"), b"").unwrap();
    let is_cache = || exclude::is_tagged_cache(&Disk::default(), &list(dir.path()));
    assert!(!is_cache());
    for (content, expected) in [
        (SIGNATURE.to_vec(), true),
        ([SIGNATURE, b"\n# made by a test\n"].concat(), true),
        (SIGNATURE[..42].to_vec(), false),
        ([b" ", SIGNATURE].concat(), false),
        (b"".to_vec(), false),
    ] {
        fs::write(&tag, &content).unwrap();
        assert_eq!(is_cache(), expected, "{}", content.escape_ascii());
    }
    fs::write(dir.path().join("real"), SIGNATURE).unwrap();
    fs::remove_file(&tag).unwrap();
    symlink("real", &tag).unwrap();
    assert!(!is_cache(), "a symbolic link is no tag");
}

#[test]
fn what_an_ordinary_user_may_not_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("closed")).unwrap();
    for (name, mode) in [("open", 0o644), ("secret", 0o600)] {
        fs::write(at(name), name).unwrap();
        rustix::fs::chmod(at(name), Mode::from_raw_mode(mode)).unwrap();
    }
    set(&at("secret"), "user.hidden", b"x");
    rustix::fs::chmod(at("closed"), Mode::RWXU).unwrap();
    rustix::fs::chmod(dir.path(), Mode::from_raw_mode(0o755)).unwrap();
    need_root();
    acting_as(NOBODY, || {
        let walk = Walk::new(0, 1);
        // Of another owner, so that the access time cannot be spared, yet readable.
        let listing = walk.request_root(dir.path()).take().unwrap();
        assert_eq!(names(&listing), [&b"closed"[..], b"open", b"secret"]);
        let [closed, open, secret] = &listing.entries[..] else { unreachable!() };
        let mut content = [0; 8];
        let file = read::open(listing.dir.as_fd(), b"open", &open.stat).unwrap();
        assert_eq!(file.read_at(0, &mut content).unwrap(), 4);
        let unread = read::open(listing.dir.as_fd(), b"secret", &secret.stat).unwrap_err();
        let unlisted = walk.request(&listing.dir, b"closed", &closed.stat).take().unwrap_err();
        for error in [unread, unlisted] {
            assert!(error.chain().contains("could not be opened: Permission denied"), "{}", error.chain());
        }
        let hidden = xattr::of_name(listing.dir.as_fd(), b"secret");
        assert_eq!((hidden.list.len(), hidden.errors.len()), (0, 1));
        assert!(hidden.errors[0].chain().contains("user.hidden"), "{}", hidden.errors[0].chain());
    });
}
