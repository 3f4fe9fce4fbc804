//! Small files of a directory that is being read are in the kernel's cache before they are asked for.
#![allow(clippy::unwrap_used)]
mod support;

use std::fs;
use std::path::Path;

use bakfs_mount::tree::{Ino, ROOT_INO};
use bakfs_mount::{Options, Requests};
use support::{Model, Mounted, drop_kernel_caches, eventually, pattern};

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
fn reading_a_directory_takes_few_requests_and_reading_it_again_none() {
    let (tree, _, files) = many_files(200, 3000);
    let mounted = Mounted::new(tree);
    let dir = mounted.path().join("dir");
    let read = read_all(&dir);
    for (ino, (name, bytes)) in files.iter().zip(&read) {
        assert!(bytes[..] == mounted.tree.bytes(*ino)[..], "{name}");
    }
    let first = mounted.mount.requests();
    assert!(first.reads < 150, "{first:?}");
    assert!(first.opens <= 2, "one OPEN and one OPENDIR: {first:?}");
    let again = read_all(&dir);
    assert!(again == read);
    let second = mounted.mount.requests();
    assert_eq!(second.reads, first.reads);
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
    let (tree, _, _) = many_files(200, 3000);
    let mounted = Mounted::new(tree);
    let dir = mounted.path().join("dir");
    read_all(&dir);
    let before = mounted.mount.requests();
    drop_kernel_caches(1);
    let read = read_all(&dir);
    assert_eq!(read.len(), 200);
    let (reads, _) = since(mounted.mount.requests(), before);
    assert!(reads < 150, "{reads} READs");
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
