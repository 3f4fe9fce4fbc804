//! A tree that hangs, breaks or panics hurts the requests it was asked for and no others.
#![allow(clippy::unwrap_used)]
mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bakfs_mount::Options;
use bakfs_mount::tree::{Ino, ROOT_INO};
use support::{Model, Mounted, eventually, pattern};

fn impatient() -> Options {
    Options { deadline: Duration::from_millis(300), ..Options::default() }
}

fn eio<A: std::fmt::Debug>(result: std::io::Result<A>) {
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EIO));
}

/// A directory with a file, a link and a subdirectory, and a file elsewhere.
fn sample() -> (Model, [Ino; 4]) {
    let tree = Model::new();
    let dir = tree.dir(ROOT_INO, "dir");
    let file = tree.file(dir, "file", pattern(1, 10_000));
    let link = tree.link(dir, "link", "file");
    let sub = tree.dir(dir, "sub");
    tree.file(sub, "inner", *b"inner");
    tree.file(ROOT_INO, "other", *b"other");
    (tree, [dir, file, link, sub])
}

#[test]
fn everything_is_answered_when_nothing_is_in_memory() {
    let (tree, [_, file, ..]) = sample();
    tree.set_xattr(file, "user.a", b"1");
    let dir = tree.dir(ROOT_INO, "many");
    (0..3000).for_each(|i| {
        tree.file(dir, &format!("file-{i:04}"), pattern(i, 5000));
    });
    tree.set_cold(true);
    let mounted = Mounted::new(tree);
    let root = mounted.path();
    assert!(fs::read(root.join("dir/file")).unwrap()[..] == mounted.tree.bytes(file)[..]);
    assert_eq!(fs::read_link(root.join("dir/link")).unwrap().to_str(), Some("file"));
    assert_eq!(fs::read_dir(root.join("many")).unwrap().count(), 3000);
    let mut value = [0; 8];
    assert_eq!(rustix::fs::getxattr(root.join("dir/file"), "user.a", &mut value), Ok(1));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for i in (thread..3000).step_by(8) {
                    let read = fs::read(root.join(format!("many/file-{i:04}"))).unwrap();
                    assert!(read == pattern(i, 5000), "file {i}");
                }
            });
        }
    });
    let requests = mounted.mount.requests();
    assert!(requests.handed_over > 0 && requests.expired == 0, "{requests:?}");
}

#[test]
fn every_stalled_operation_is_answered_with_eio_and_leaves_no_reference() {
    let (tree, [_, file, link, sub]) = sample();
    tree.set_xattr(file, "user.a", b"1");
    let mounted = Mounted::alone(tree, &impatient());
    let path = mounted.path().join("dir");
    let opened = File::open(path.join("file")).unwrap();
    let _ = fs::symlink_metadata(path.join("link")).unwrap();
    let _ = fs::metadata(path.join("sub")).unwrap();
    for ino in [file, link, sub] {
        mounted.tree.stall(ino);
    }
    let mut buffer = [0; 10];
    eio(opened.read_at(&mut buffer, 0));
    eio(rustix::fs::seek(&opened, rustix::fs::SeekFrom::Data(0)).map_err(Into::into));
    eio(rustix::fs::getxattr(path.join("file"), "user.a", &mut buffer).map_err(Into::into));
    eio(rustix::fs::listxattr(path.join("file"), &mut buffer).map_err(Into::into));
    eio(fs::read_link(path.join("link")));
    eio(fs::metadata(path.join("sub/inner")));
    eio(fs::read_dir(path.join("sub")).unwrap().next().unwrap());
    assert_eq!(fs::read(mounted.path().join("other")).unwrap(), b"other");
    let requests = mounted.mount.requests();
    assert!(requests.expired >= 7, "{requests:?}");
    eventually("all late", || mounted.tree.blocked.load(SeqCst) >= 7);

    mounted.tree.release_all();
    eventually("late results dropped", || mounted.tree.blocked.load(SeqCst) == 0);
    assert_eq!(fs::read(path.join("sub/inner")).unwrap(), b"inner");
    assert_eq!(fs::read(path.join("file")).unwrap().len(), 10_000);
    drop(opened);
    eventually("no reference left", || {
        mounted.make_kernel_forget(2);
        mounted.tree.referred().is_empty()
    });
}

#[test]
fn more_stalled_requests_than_threads_all_end_and_the_rest_is_served() {
    let tree = Model::new();
    let dir = tree.dir(ROOT_INO, "dir");
    let stalled: Vec<Ino> = (0..150).map(|i| tree.file(dir, &format!("s{i}"), pattern(i, 100))).collect();
    tree.file(dir, "waiting", *b"waiting");
    tree.file(dir, "ready", *b"ready");
    let mounted = Mounted::with(tree, &impatient());
    let path = mounted.path().join("dir");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 152);
    stalled.iter().for_each(|&ino| mounted.tree.stall(ino));
    std::thread::scope(|scope| {
        for i in 0..150 {
            let path = &path;
            scope.spawn(move || eio(fs::read(path.join(format!("s{i}")))));
        }
        eventually("64 threads stuck", || mounted.tree.blocked.load(SeqCst) >= 64);
        assert_eq!(fs::read(path.join("ready")).unwrap(), b"ready");
    });
    // Threads lost in stalled requests were replaced: what has to wait, but can, is served.
    mounted.tree.set_cold(true);
    eventually("a waiting request served", || fs::read(path.join("waiting")).is_ok_and(|b| b == b"waiting"));
}

#[test]
fn a_killed_reader_goes() {
    let (tree, [_, file, ..]) = sample();
    tree.stall(file);
    let mounted = Mounted::with(tree, &impatient());
    let mut reader = Command::new("cat").arg(mounted.path().join("dir/file")).spawn().unwrap();
    eventually("the reader waits", || mounted.tree.blocked.load(SeqCst) > 0);
    reader.kill().unwrap();
    assert_eq!(reader.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert_eq!(fs::read(mounted.path().join("other")).unwrap(), b"other");
}

#[test]
fn damage_and_panics_are_eio_for_that_file_alone() {
    let (tree, [_, file, link, sub]) = sample();
    tree.set_broken(file);
    tree.set_panicking(link);
    tree.set_panicking(sub);
    let mounted = Mounted::new(tree);
    let path = mounted.path().join("dir");
    for _ in 0..5 {
        eio(fs::read(path.join("file")));
        eio(fs::read_link(path.join("link")));
        eio(fs::metadata(path.join("sub/inner")));
        eio(fs::read_dir(path.join("sub")).unwrap().next().unwrap());
    }
    mounted.tree.set_cold(true);
    eio(fs::read(path.join("file")));
    eio(fs::metadata(path.join("sub/x")));
    assert_eq!(fs::read(mounted.path().join("other")).unwrap(), b"other");
}

#[test]
fn eio_is_only_said_by_who_was_allowed_to_wait() {
    let (tree, [_, file, link, sub]) = sample();
    tree.set_xattr(file, "user.a", b"1");
    tree.set_shaky(true);
    let mounted = Mounted::new(tree);
    let path = mounted.path().join("dir");
    let opened = File::open(path.join("file")).unwrap();
    let read = fs::read(path.join("file")).unwrap();
    assert!(read[..] == mounted.tree.bytes(file)[..]);
    assert_eq!(rustix::fs::seek(&opened, rustix::fs::SeekFrom::Hole(0)), Ok(10_000));
    let mut value = [0; 16];
    assert_eq!(rustix::fs::getxattr(path.join("file"), "user.a", &mut value), Ok(1));
    assert_eq!(rustix::fs::listxattr(path.join("file"), &mut value), Ok(7));
    assert_eq!(fs::read_link(path.join("link")).unwrap().to_str(), Some("file"));
    assert!(fs::metadata(path.join("sub")).unwrap().is_dir());
    assert_eq!(fs::read_dir(&path).unwrap().filter(|entry| entry.as_ref().is_ok()).count(), 3);
    assert_eq!(fs::read_dir(path.join("sub")).unwrap().next().unwrap().unwrap().file_name(), "inner");
    assert_eq!(fs::read(path.join("none")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    let requests = mounted.mount.requests();
    assert!(requests.handed_over > 0 && requests.expired == 0, "{requests:?}");
    // What is damaged for those too who may wait is told.
    for ino in [file, link, sub] {
        mounted.tree.set_broken(ino);
    }
    eio(rustix::fs::seek(&opened, rustix::fs::SeekFrom::Data(0)).map_err(Into::into));
}

#[test]
fn a_directory_is_listed_whose_parent_is_not_in_memory() {
    let (tree, [dir, ..]) = sample();
    let mounted = Mounted::new(tree);
    // The kernel knows of the directory, and of nothing in it.
    assert!(fs::metadata(mounted.path().join("dir")).unwrap().is_dir());
    let before = mounted.mount.requests().handed_over;
    mounted.tree.set_cold(true);
    let names: Vec<_> =
        fs::read_dir(mounted.path().join("dir")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["file", "link", "sub"]);
    let listed = std::process::Command::new("ls").arg("-ai").arg(mounted.path().join("dir")).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let dots: Vec<_> = listed.lines().take(2).map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(dots, [[&*dir.to_string(), "."], [&*ROOT_INO.to_string(), ".."]]);
    assert!(mounted.mount.requests().handed_over > before);
}

#[test]
fn a_listing_that_stalls_half_way_leaves_no_reference() {
    let tree = Model::new();
    let dir = tree.dir(ROOT_INO, "dir");
    let files: Vec<Ino> = (0..10).map(|i| tree.file(dir, &format!("f{i}"), *b"x")).collect();
    let mounted = Mounted::alone(tree, &impatient());
    let path = mounted.path().join("dir");
    mounted.tree.set_cold(true);
    mounted.tree.stall(files[5]);
    eio(fs::read_dir(&path).unwrap().next().unwrap());
    mounted.tree.release_all();
    eventually("the late listing dropped", || mounted.tree.blocked.load(SeqCst) == 0);
    eventually("no reference left", || {
        mounted.make_kernel_forget(2);
        mounted.tree.referred().is_empty()
    });
    assert_eq!(fs::read_dir(&path).unwrap().count(), 10);
}
