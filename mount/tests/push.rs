//! Small files of a directory that is being read are in the kernel's cache before they are asked for.
#![allow(clippy::unwrap_used)]
mod support;

use std::fs;
use std::path::Path;

use bakfs_mount::tree::{Ino, ROOT_INO};
use bakfs_mount::{Options, Requests};
use support::{Model, Mounted, eventually, pattern};

fn many_files(count: usize, len: usize) -> (Model, Ino, Vec<Ino>) {
    let tree = Model::new();
    let dir = tree.dir(ROOT_INO, "dir");
    let files = (0..count).map(|i| tree.file(dir, &format!("f{i:04}"), pattern(i as u64, len + i))).collect();
    (tree, dir, files)
}

/// Lists a directory and reads its files in that order, as `cp -r` and `tar` do.
fn read_all(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), fs::read(dir.join(name)).unwrap())).collect()
}

fn since(now: Requests, before: Requests) -> (u64, u64) {
    (now.reads - before.reads, now.pushed_files - before.pushed_files)
}

#[test]
fn reading_a_directory_takes_two_requests_and_reading_it_again_none() {
    let (tree, _, files) = many_files(200, 3000);
    let mounted = Mounted::new(tree);
    let dir = mounted.path().join("dir");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 200);
    fs::read(dir.join("f0000")).unwrap();
    fs::read(dir.join("f0001")).unwrap();
    eventually("the others pushed", || mounted.mount.requests().pushed_files == 198);
    let read = read_all(&dir);
    for (ino, (name, bytes)) in files.iter().zip(&read) {
        assert!(bytes[..] == mounted.tree.bytes(*ino)[..], "{name}");
    }
    let first = mounted.mount.requests();
    assert_eq!(first.reads, 2);
    assert!(first.opens <= 2, "one OPEN and one OPENDIR: {first:?}");
    let again = read_all(&dir);
    assert!(again == read);
    let second = mounted.mount.requests();
    assert_eq!((second.reads, second.pushed_files), (first.reads, first.pushed_files));
    assert_eq!((second.lists, second.attrs, second.opens), (first.lists, first.attrs, first.opens));
}

#[test]
fn every_file_is_pushed_and_then_read_without_a_request() {
    let (tree, _, files) = many_files(300, 100);
    let mounted = Mounted::new(tree);
    let dir = mounted.path().join("dir");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 300);
    fs::read(dir.join("f0150")).unwrap();
    fs::read(dir.join("f0151")).unwrap();
    eventually("all others pushed", || mounted.mount.requests().pushed_files == 298);
    let before = mounted.mount.requests();
    for (ino, (name, bytes)) in files.iter().zip(read_all(&dir)) {
        assert!(bytes[..] == mounted.tree.bytes(*ino)[..], "{name}");
    }
    assert_eq!(since(mounted.mount.requests(), before), (0, 0));
}

#[test]
fn nothing_is_pushed_after_a_listing_one_read_or_large_files() {
    let (tree, dir, _) = many_files(50, 100);
    for i in 0..4 {
        tree.file(dir, &format!("large{i}"), pattern(i, 200_000));
    }
    let mounted = Mounted::new(tree);
    let dir = mounted.path().join("dir");
    assert_eq!(fs::read_dir(&dir).unwrap().filter(|e| e.as_ref().unwrap().metadata().is_ok()).count(), 54);
    fs::read(dir.join("f0010")).unwrap();
    for i in 0..4 {
        fs::read(dir.join(format!("large{i}"))).unwrap();
    }
    assert_eq!(mounted.mount.requests().pushed_files, 0);
    assert_eq!(mounted.tree.small_scans.load(std::sync::atomic::Ordering::SeqCst), 0);
    fs::read(dir.join("f0020")).unwrap();
    eventually("the small ones pushed", || mounted.mount.requests().pushed_files == 48);
}

#[test]
fn pushing_can_be_turned_off() {
    let (tree, _, _) = many_files(50, 100);
    let mounted = Mounted::with(tree, &Options { push_small_files: false, ..Options::default() });
    read_all(&mounted.path().join("dir"));
    let requests = mounted.mount.requests();
    assert_eq!((requests.reads, requests.pushed_files), (50, 0));
}

#[test]
fn a_directory_whose_pages_were_dropped_is_pushed_again() {
    let (tree, _, files) = many_files(200, 3000);
    let mounted = Mounted::alone(tree, &Options::default());
    let dir = mounted.path().join("dir");
    let read = |place: usize| fs::read(dir.join(format!("f{place:04}"))).unwrap();
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 200);
    (0..2).for_each(|place| drop(read(place)));
    eventually("all pushed", || mounted.mount.requests().pushed_files == 198);
    mounted.make_kernel_forget(1);
    (0..10).for_each(|place| drop(read(place)));
    eventually("pushed again", || mounted.mount.requests().pushed_files >= 2 * 198 - 10);
    for (place, ino) in files.iter().enumerate() {
        assert!(read(place)[..] == mounted.tree.bytes(*ino)[..]);
    }
}

#[test]
fn directories_beside_one_that_was_read_through_are_pushed_when_they_are_listed() {
    let tree = Model::new();
    let day = tree.dir(ROOT_INO, "day");
    for d in 0..10 {
        let dir = tree.dir(day, &format!("d{d}"));
        (0..3).for_each(|i| {
            tree.file(dir, &format!("f{i}"), pattern(d * 10 + i, 500));
        });
    }
    let mounted = Mounted::new(tree);
    let path = |d: u64| mounted.path().join(format!("day/d{d}"));
    let pushed = || mounted.mount.requests().pushed_files;
    assert_eq!(fs::read_dir(path(0)).unwrap().count(), 3);
    fs::read(path(0).join("f0")).unwrap();
    fs::read(path(0).join("f1")).unwrap();
    eventually("the third pushed", || pushed() == 1);
    for d in 1..10 {
        assert_eq!(fs::read_dir(path(d)).unwrap().count(), 3);
        eventually("all three pushed", || pushed() == 1 + 3 * d);
        for i in 0..3 {
            assert!(fs::read(path(d).join(format!("f{i}"))).unwrap() == pattern(d * 10 + i, 500));
        }
    }
    assert_eq!(mounted.mount.requests().reads, 2);
}

#[test]
fn a_fault_while_pushing_leaves_the_others_readable() {
    let (tree, _, files) = many_files(40, 100);
    tree.set_broken(files[20]);
    tree.set_panicking(files[21]);
    let mounted = Mounted::new(tree);
    let dir = mounted.path().join("dir");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 40);
    for (i, ino) in files.iter().enumerate() {
        let read = fs::read(dir.join(format!("f{i:04}")));
        match i {
            20 | 21 => assert_eq!(read.unwrap_err().raw_os_error(), Some(libc::EIO)),
            _ => assert!(read.unwrap()[..] == mounted.tree.bytes(*ino)[..]),
        }
    }
}
