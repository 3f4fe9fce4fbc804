//! What is read through the kernel is what the tree holds.
#![allow(clippy::unwrap_used)]
mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

use bakfs_mount::Options;
use bakfs_mount::tree::{Kind, ROOT_INO, Time, Tree, Wait};
use rustix::fs::SeekFrom as Seeking;
use rustix::io::Errno;
use support::{Model, Mounted, eventually, pattern};

#[test]
fn a_large_directory_is_listed_whole_and_from_any_place() {
    let tree = Model::new();
    let day = tree.dir(ROOT_INO, "day");
    for i in 0..20_000 {
        tree.file(day, &format!("file-{i:05}"), format!("content {i}").into_bytes());
    }
    let mounted = Mounted::alone(tree, &Options::default());
    let path = mounted.path().join("day");
    let names: BTreeSet<_> =
        fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let expected: BTreeSet<_> = (0..20_000).map(|i| format!("file-{i:05}")).collect();
    assert!(names == expected);
    for i in [0, 1, 9_999, 19_999] {
        let text = fs::read_to_string(path.join(format!("file-{i:05}"))).unwrap();
        assert_eq!(text, format!("content {i}"));
    }

    // seekdir(3) to a remembered place, before and after the kernel has dropped the listing.
    let mut dir = rustix::fs::Dir::read_from(File::open(&path).unwrap()).unwrap();
    let mut places = Vec::new();
    while let Some(entry) = dir.read() {
        let entry = entry.unwrap();
        places.push((entry.offset(), entry.file_name().to_bytes().to_vec(), entry.ino()));
    }
    assert_eq!(places.len(), 20_002);
    assert_eq!((&places[0].1[..], places[0].2), (&b"."[..], day));
    assert_eq!((&places[1].1[..], places[1].2), (&b".."[..], ROOT_INO));
    for dropping in [false, true] {
        if dropping {
            mounted.make_kernel_forget(1);
        }
        for place in [0, 1, 2, 777, 12_345, 20_000] {
            dir.seek(places[place].0).unwrap();
            let next = dir.read().unwrap().unwrap();
            assert_eq!(next.file_name().to_bytes(), &places[place + 1].1[..]);
        }
    }
}

#[test]
fn listing_again_asks_nothing() {
    let tree = Model::new();
    let day = tree.dir(ROOT_INO, "day");
    for d in 0..20 {
        let dir = tree.dir(day, &format!("d{d}"));
        (0..50).for_each(|i| {
            tree.file(dir, &format!("f{i}"), *b"x");
        });
    }
    let mounted = Mounted::new(tree);
    let find = || {
        let path = mounted.path().join("day");
        let out = std::process::Command::new("find").arg(&path).args(["-printf", "%s %m %T@\\n"]).output();
        out.unwrap().stdout
    };
    let walked = || mounted.tree.walked.load(std::sync::atomic::Ordering::SeqCst);
    let first = find();
    let (asked, opens) = (walked(), mounted.mount.requests().opens);
    assert_eq!(first.split(|&b| b == b'\n').count(), 1 + 20 + 20 * 50 + 1);
    assert!(asked < 60, "{asked} calls for 21 directories");
    assert!(find() == first);
    assert_eq!((walked(), mounted.mount.requests().opens), (asked, opens));
    assert!(opens <= 1, "{opens} OPENDIRs");
}

#[test]
fn bytes_are_equal_however_they_are_read() {
    let tree = Model::new();
    let bytes = pattern(7, 5_000_001);
    tree.file(ROOT_INO, "big", bytes.clone());
    tree.file(ROOT_INO, "empty", []);
    let mounted = Mounted::alone(tree, &Options::default());
    let path = mounted.path().join("big");
    let file = File::open(&path).unwrap();
    let mut state = 99u64;
    for _ in 0..300 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (offset, len) = ((state >> 33) % 5_010_000, (state >> 20) as usize % 200_000);
        let mut buffer = vec![0; len];
        let read = file.read_at(&mut buffer, offset).unwrap();
        let start = (offset as usize).min(bytes.len());
        let expected = &bytes[start..(start + len).min(bytes.len())];
        assert!(read == expected.len() && buffer[..read] == *expected, "{len} bytes at {offset}");
    }
    mounted.make_kernel_forget(1);
    assert!(fs::read(&path).unwrap() == bytes);
    assert_eq!(fs::read(mounted.path().join("empty")).unwrap(), b"");

    mounted.make_kernel_forget(1);
    // SAFETY: maps a file that never changes, read-only and private, for its whole length.
    let mapped = unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            bytes.len(),
            rustix::mm::ProtFlags::READ,
            rustix::mm::MapFlags::PRIVATE,
            &file,
            0,
        )
    };
    // SAFETY: the mapping above has this length and lives until munmap below.
    let view = unsafe { std::slice::from_raw_parts(mapped.unwrap().cast::<u8>(), bytes.len()) };
    assert!(view[4_999_000..] == bytes[4_999_000..] && view[..4096] == bytes[..4096]);
    assert!(view == &bytes[..]);
    // SAFETY: unmaps what was mapped above; `view` is not used afterwards.
    unsafe { rustix::mm::munmap(view.as_ptr().cast_mut().cast(), bytes.len()) }.unwrap();

    mounted.make_kernel_forget(1);
    let mut copy = tempfile::tempfile().unwrap();
    let mut offset = 0;
    while rustix::fs::sendfile(&copy, &file, Some(&mut offset), 1 << 20).unwrap() > 0 {}
    let mut sent = Vec::new();
    copy.seek(SeekFrom::Start(0)).unwrap();
    copy.read_to_end(&mut sent).unwrap();
    assert!(sent == bytes);
}

#[test]
fn large_files_come_in_large_reads() {
    let tree = Model::new();
    tree.file(ROOT_INO, "big", pattern(3, 64 << 20));
    let mounted = Mounted::new(tree);
    let mut sink = std::io::sink();
    let mut file = File::open(mounted.path().join("big")).unwrap();
    assert_eq!(std::io::copy(&mut file, &mut sink).unwrap(), 64 << 20);
    sink.flush().unwrap();
    let reads = mounted.mount.requests().reads;
    assert!(reads < 200, "{reads} READs for 64 MiB");
}

#[test]
fn every_kind_of_file_shows_its_attributes() {
    let tree = Model::new();
    let dir = tree.dir(ROOT_INO, "dir");
    let kinds = [
        (tree.link(dir, "link", "some/where"), "link"),
        (tree.special(dir, "fifo", Kind::Fifo, 0), "fifo"),
        (tree.special(dir, "socket", Kind::Socket, 0), "socket"),
        // new_encode_dev (include/linux/kdev_t.h): major 8, minor 0x12345.
        (tree.special(dir, "block", Kind::BlockDevice, 0x1230_0845), "block"),
        (tree.special(dir, "char", Kind::CharDevice, 0x0103), "char"),
        (tree.file(dir, "file", pattern(1, 1000)), "file"),
        (tree.dir(dir, "sub"), "sub"),
    ];
    let file = kinds[5].0;
    tree.change(file, |node| {
        node.attr.perm = 0o7751;
        (node.attr.uid, node.attr.gid, node.attr.nlink) = (1234, 4_000_000_000, 7);
        node.attr.mtime = Time { secs: -86_400 * 365 * 60, nanos: 999_999_999 };
    });
    let mounted = Mounted::new(tree);
    let path = mounted.path().join("dir");
    for (ino, name) in kinds {
        let expected = mounted.tree.attr(ino, Wait::Never).unwrap();
        let meta = fs::symlink_metadata(path.join(name)).unwrap();
        let shown =
            (meta.ino(), meta.mode() & 0o7777, meta.nlink() as u32, meta.uid(), meta.gid(), meta.size(), meta.blocks());
        let held = (
            ino,
            u32::from(expected.perm),
            expected.nlink,
            expected.uid,
            expected.gid,
            expected.size_bytes,
            expected.blocks,
        );
        assert_eq!(shown, held, "{name}");
        for (secs, nanos, time) in [
            (meta.atime(), meta.atime_nsec(), expected.atime),
            (meta.mtime(), meta.mtime_nsec(), expected.mtime),
            (meta.ctime(), meta.ctime_nsec(), expected.ctime),
        ] {
            assert_eq!((secs, nanos), (time.secs, i64::from(time.nanos)), "{name}");
        }
    }
    let meta = |name| fs::symlink_metadata(path.join(name)).unwrap();
    assert_eq!(fs::read_link(path.join("link")).unwrap(), Path::new("some/where"));
    assert!(meta("fifo").file_type().is_fifo() && meta("socket").file_type().is_socket());
    assert_eq!(meta("block").rdev(), rustix::fs::makedev(8, 0x12345));
    assert_eq!(meta("char").rdev(), rustix::fs::makedev(1, 3));
    assert!(meta("block").file_type().is_block_device() && meta("sub").is_dir());
    assert_eq!(fs::read(path.join("char")).unwrap_err().raw_os_error(), Some(libc::EACCES), "nodev");
    assert_eq!(fs::metadata(path.join("sub/..")).unwrap().ino(), dir);

    let usage = rustix::fs::statvfs(&path).unwrap();
    assert_eq!((usage.f_bsize, usage.f_blocks, usage.f_bfree), (4096, 12_345_678u64.div_ceil(4096), 0));
    assert_eq!((usage.f_files, usage.f_ffree, usage.f_namemax), (9, 0, 255));
    let flags = rustix::fs::StatVfsMountFlags::RDONLY
        | rustix::fs::StatVfsMountFlags::NOSUID
        | rustix::fs::StatVfsMountFlags::NODEV;
    assert!(usage.f_flag.contains(flags));
}

#[test]
fn holes_are_found_where_they_are() {
    let tree = Model::new();
    let size = 100_000u64;
    tree.sparse(ROOT_INO, "sparse", pattern(5, size as usize), vec![0..4096, 40_960..81_920, 90_112..size]);
    tree.file(ROOT_INO, "dense", pattern(6, 10_000));
    let mounted = Mounted::new(tree);
    let sparse = File::open(mounted.path().join("sparse")).unwrap();
    let seek = |to| rustix::fs::seek(&sparse, to);
    for (from, data, hole) in [
        (0, Ok(4096), Ok(0)),
        (4096, Ok(4096), Ok(40_960)),
        (50_000, Ok(81_920), Ok(50_000)),
        (81_920, Ok(81_920), Ok(90_112)),
        (95_000, Err(Errno::NXIO), Ok(95_000)),
        (size, Err(Errno::NXIO), Err(Errno::NXIO)),
    ] {
        assert_eq!(seek(Seeking::Data(from)), data, "data from {from}");
        assert_eq!(seek(Seeking::Hole(from)), hole, "hole from {from}");
    }
    let dense = File::open(mounted.path().join("dense")).unwrap();
    assert_eq!(rustix::fs::seek(&dense, Seeking::Hole(17)), Ok(10_000));
    assert!(fs::read(mounted.path().join("sparse")).unwrap()[..] == mounted.tree.bytes(2)[..]);
    assert_eq!(fs::metadata(mounted.path().join("sparse")).unwrap().blocks(), (36_864u64 + 8192).div_ceil(512));
}

#[test]
fn names_that_do_not_exist_are_remembered_where_nothing_changes() {
    let tree = Model::new();
    let dir = tree.dir(ROOT_INO, "dir");
    tree.file(dir, "there", *b"x");
    let mounted = Mounted::new(tree);
    let missing = mounted.path().join("dir/missing");
    for _ in 0..3 {
        assert_eq!(fs::metadata(&missing).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }
    assert_eq!(mounted.tree.walked.load(std::sync::atomic::Ordering::SeqCst), 1);
    let long = fs::metadata(mounted.path().join("dir").join("n".repeat(256)));
    assert_eq!(long.unwrap_err().raw_os_error(), Some(libc::ENAMETOOLONG));
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe\n");
    assert_eq!(fs::metadata(mounted.path().join(odd)).unwrap_err().raw_os_error(), Some(libc::ENOENT));
}

#[test]
fn references_return_to_the_root_alone_when_the_kernel_forgets() {
    let tree = Model::new();
    for d in 0..10 {
        let dir = tree.dir(ROOT_INO, &format!("d{d}"));
        (0..100).for_each(|i| {
            tree.file(dir, &format!("f{i}"), *b"x");
        });
    }
    let mounted = Mounted::alone(tree, &Options::default());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let mounted = &mounted;
            scope.spawn(move || {
                for d in (0..10).map(|d| (d + thread) % 10) {
                    let dir = mounted.path().join(format!("d{d}"));
                    let _ = fs::metadata(dir.join("f7")).unwrap();
                    assert_eq!(fs::read_dir(&dir).unwrap().count(), 100);
                    assert_eq!(fs::read(dir.join("f9")).unwrap(), b"x");
                }
            });
        }
    });
    assert!(mounted.tree.referred().len() >= 1010);
    eventually("all references dropped", || {
        mounted.make_kernel_forget(2);
        mounted.tree.referred().is_empty()
    });
    assert_eq!(fs::read(mounted.path().join("d3/f3")).unwrap(), b"x");
}

#[test]
fn ioctls_are_refused_and_syncing_succeeds() {
    let tree = Model::new();
    tree.file(ROOT_INO, "file", *b"x");
    let mounted = Mounted::new(tree);
    let file = File::open(mounted.path().join("file")).unwrap();
    assert_eq!(rustix::fs::ioctl_getflags(&file).unwrap_err(), Errno::NOTTY);
    file.sync_all().unwrap();
    File::open(mounted.path()).unwrap().sync_all().unwrap();
    rustix::fs::access(mounted.path(), rustix::fs::Access::READ_OK).unwrap();
}
