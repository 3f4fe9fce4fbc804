//! Snapshots that come and go are seen in a running mount.
#![allow(clippy::unwrap_used)]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bakfs_mount::tree::ROOT_INO;
use support::{Model, Mounted, eventually};

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| name.to_string()).collect()
}

#[test]
fn a_new_snapshot_appears_after_cached_misses_and_listings() {
    let tree = Model::new();
    let hosts = tree.dir(ROOT_INO, "hosts");
    let host = tree.dir(hosts, "web");
    for dir in [hosts, host] {
        tree.change(dir, |node| node.changes = true);
    }
    tree.dir(ROOT_INO, "one");
    let mounted = Mounted::new(tree);
    let root = mounted.path();
    for _ in 0..2 {
        assert_eq!(names(root), set(&["hosts", "one"]));
        assert_eq!(names(&root.join("hosts/web")), set(&[]));
        assert!(!root.join("two").exists() && !root.join("hosts/web/two").exists());
    }
    for (dir, path) in [(ROOT_INO, root.to_path_buf()), (host, root.join("hosts/web"))] {
        let two = mounted.tree.dir(dir, "two");
        mounted.tree.file(two, "file", *b"new");
        mounted.mount.changed(dir, &["two"]).unwrap();
        assert_eq!(fs::read(path.join("two/file")).unwrap(), b"new");
        assert!(names(&path).contains("two"));
    }
}

#[test]
fn a_listing_alone_and_a_lookup_alone_show_the_change() {
    let tree = Model::new();
    tree.dir(ROOT_INO, "one");
    let mounted = Mounted::new(tree);
    assert!(!mounted.path().join("two").exists());
    mounted.tree.dir(ROOT_INO, "two");
    assert!(mounted.path().join("two").exists(), "a miss in a changing directory is not kept");
    names(mounted.path());
    mounted.tree.dir(ROOT_INO, "three");
    mounted.mount.changed::<&str>(ROOT_INO, &[]).unwrap();
    assert_eq!(names(mounted.path()), set(&["one", "three", "two"]));
}

#[test]
fn a_removed_snapshot_disappears_and_a_replaced_link_leads_elsewhere() {
    let tree = Model::new();
    let one = tree.dir(ROOT_INO, "one");
    tree.file(one, "file", *b"1");
    let two = tree.dir(ROOT_INO, "two");
    tree.file(two, "file", *b"2");
    tree.link(ROOT_INO, "latest", "one");
    let mounted = Mounted::new(tree);
    let latest = mounted.path().join("latest");
    assert_eq!(fs::read(latest.join("file")).unwrap(), b"1");
    assert_eq!(fs::read_link(&latest).unwrap(), Path::new("one"));

    mounted.tree.remove(ROOT_INO, "latest");
    mounted.tree.link(ROOT_INO, "latest", "two");
    mounted.tree.remove(ROOT_INO, "one");
    mounted.mount.changed(ROOT_INO, &["latest", "one"]).unwrap();
    assert_eq!(fs::read_link(&latest).unwrap(), Path::new("two"));
    assert_eq!(fs::read(latest.join("file")).unwrap(), b"2");
    assert!(!mounted.path().join("one").exists());
    assert_eq!(names(mounted.path()), set(&["latest", "two"]));
}

#[test]
fn a_link_that_changes_with_time_is_right_without_anybody_saying_so() {
    let tree = Model::new();
    tree.dir(ROOT_INO, "one");
    tree.dir(ROOT_INO, "two");
    tree.link(ROOT_INO, "today", "one");
    let mounted = Mounted::new(tree);
    let today = mounted.path().join("today");
    assert_eq!(fs::read_link(&today).unwrap(), Path::new("one"));
    mounted.tree.remove(ROOT_INO, "today");
    mounted.tree.link(ROOT_INO, "today", "two");
    eventually("today leads to two", || fs::read_link(&today).unwrap() == Path::new("two"));
}

#[test]
fn attributes_that_came_too_late_are_reported() {
    let tree = Model::new();
    let file = tree.file(ROOT_INO, "file", *b"x");
    let mounted = Mounted::new(tree);
    assert!(!mounted.mount.hides_xattrs());
    mounted.tree.set_xattr(file, "user.a", b"1");
    assert!(mounted.mount.hides_xattrs());
}
