//! Promise: the judges of the other tests can fail. A good copy passes each, a damaged one does not.

use bakfs_testing::compare::{self, Rules};
use bakfs_testing::device::Device;
use bakfs_testing::hostile::{self, DEEP, HUGE, SPECIAL, Scale};
use bakfs_testing::tools;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

struct World {
    _device: Device,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let device = Device::ext4(&dir.path().join("image"), &dir.path().join("fs"), 2048);
        World { _device: device, dir }
    }

    fn dir(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join("fs").join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }
}

/// Plants a tree and a copy of it that `cp -a` can make.
fn tree_and_copy(world: &World) -> (PathBuf, PathBuf) {
    let source = world.dir("source");
    hostile::plant(&source, Scale::SMALL);
    std::fs::remove_dir_all(source.join(DEEP)).unwrap();
    let copy = world.dir.path().join("fs/copy");
    tools::copy(&source, &copy);
    (source, copy)
}

#[test]
fn two_plantings_and_a_copy_are_equal() {
    bakfs_testing::need_root();
    let world = World::new();
    let [first, second] = ["first", "second"].map(|name| {
        let dir = world.dir(name);
        hostile::plant(&dir, Scale::SMALL);
        dir
    });
    let report = compare::trees(&first, &second, Rules::COPY);
    report.assert_same("two plantings");
    assert!(report.names > 700, "only {} names planted", report.names);
    drop(second);
    std::fs::remove_dir_all(world.dir("second")).unwrap();

    let (source, copy) = tree_and_copy(&world);
    compare::trees(&source, &copy, Rules::CP).assert_same("a copy");
    // The same tree under two paths is equal in everything.
    compare::trees(&source, &source, Rules::MOUNT).assert_same("a tree and itself");
    assert!(tools::find(&source, &source, true).is_empty());
    tools::nothing("rsync", tools::rsync(&source, &copy, &[HUGE]));
    tools::nothing("diff", tools::diff(&source, &copy, &[HUGE, SPECIAL, "fifo"]));
    let archive = world.dir.path().join("fs/archive.tar");
    tools::nothing("tar", tools::tar_compare(&source, &copy, &archive, &[HUGE]));
    tools::nothing("find", tools::find(&source, &copy, false));
    tools::nothing("du", tools::du(&source, &source));
}

/// Damages a copy in one way, and returns where.
type Damage = fn(&Path) -> PathBuf;

fn retime(path: &Path, time: Timespec) {
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Keeps a path's times while something else about it is changed.
fn quietly(path: &Path, change: impl FnOnce(&Path)) -> PathBuf {
    use std::os::unix::fs::MetadataExt;
    let before = std::fs::symlink_metadata(path).unwrap();
    change(path);
    retime(path, Timespec { tv_sec: before.mtime(), tv_nsec: before.mtime_nsec() });
    path.to_owned()
}

fn patch(path: &Path, bytes: &[u8], offset: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

const DAMAGES: [(&str, Damage); 14] = [
    ("a flipped byte", |root| quietly(&root.join("sizes/random-3145728"), |path| patch(path, b"\0", 2_000_000))),
    ("a byte less", |root| {
        quietly(&root.join("sizes/random-4097"), |path| {
            std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(4096).unwrap();
        })
    }),
    ("a mode", |root| {
        let path = root.join("modes/file-0644");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o645)).unwrap();
        path
    }),
    ("an owner", |root| {
        let path = root.join("sizes/random-1");
        chown(&path, Some(5), None).unwrap();
        path
    }),
    ("one nanosecond", |root| {
        let path = root.join("times/0.000000001");
        retime(&path, Timespec { tv_sec: 0, tv_nsec: 2 });
        path
    }),
    ("a hole filled with zeros", |root| {
        quietly(&root.join("sparse/hole-inside"), |path| patch(path, &[0; 4096], 1 << 20))
    }),
    ("a far byte of a terabyte", |root| quietly(&root.join("huge/1-tib"), |path| patch(path, b"!", (1 << 39) + 5000))),
    ("a lost xattr", |root| {
        let path = root.join("xattrs/user");
        rustix::fs::removexattr(&path, "user.comment").unwrap();
        path
    }),
    ("another access list", |root| {
        let path = root.join("acls/default");
        let list = hostile::acl(&[
            (hostile::tag::USER_OBJ, 7, hostile::tag::NO_ID),
            (hostile::tag::GROUP_OBJ, 5, hostile::tag::NO_ID),
            (hostile::tag::OTHER, 1, hostile::tag::NO_ID),
        ]);
        let name = "system.posix_acl_default";
        rustix::fs::setxattr(&path, name, &list, XattrFlags::empty()).unwrap();
        path
    }),
    ("another link target", |root| {
        quietly(&root.join("symlinks/to-file"), |path| {
            std::fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("file2", path).unwrap();
        })
    }),
    ("a broken hard link", |root| {
        let path = root.join("links-b/large");
        std::fs::rename(&path, root.join("links-b/moved")).unwrap();
        tools::copy(&root.join("links-b/moved"), &path);
        std::fs::remove_file(root.join("links-b/moved")).unwrap();
        path
    }),
    ("a new hard link", |root| {
        let path = root.join("links-a/twin-2");
        std::fs::remove_file(&path).unwrap();
        std::fs::hard_link(root.join("links-a/twin-1"), &path).unwrap();
        path
    }),
    ("a missing name", |root| {
        let path = root.join("many/entry-0000007");
        std::fs::remove_file(&path).unwrap();
        path
    }),
    ("a new name", |root| {
        let path = root.join("empty/new");
        std::fs::write(&path, b"").unwrap();
        path
    }),
];

#[test]
fn every_kind_of_damage_is_found() {
    bakfs_testing::need_root();
    let world = World::new();
    let (source, _) = tree_and_copy(&world);
    for (what, damage) in DAMAGES {
        let copy = world.dir.path().join("fs/damaged");
        tools::copy(&source, &copy);
        let path = damage(&copy);
        let name = path.strip_prefix(&copy).unwrap().to_str().unwrap();
        let report = compare::trees(&source, &copy, Rules::COPY);
        let found = report.differences.iter().any(|line| line.contains(name));
        assert!(found, "{what} at {name} is not found: {:?}", report.differences);
        std::fs::remove_dir_all(&copy).unwrap();
    }
}

#[test]
fn the_tools_find_a_flipped_byte_and_a_mode() {
    bakfs_testing::need_root();
    let world = World::new();
    let (source, copy) = tree_and_copy(&world);
    DAMAGES[0].1(&copy);
    DAMAGES[2].1(&copy);
    let archive = world.dir.path().join("fs/archive.tar");
    let findings = [
        ("rsync", tools::rsync(&source, &copy, &[HUGE]), 2),
        ("diff", tools::diff(&source, &copy, &[HUGE, SPECIAL, "fifo"]), 1),
        ("tar", tools::tar_compare(&source, &copy, &archive, &[HUGE]), 2),
        ("find", tools::find(&source, &copy, false), 1),
    ];
    for (tool, text, least) in findings {
        let places = ["random-3145728", "file-0644"].iter().filter(|name| text.contains(**name));
        assert!(places.count() >= least, "{tool} found too little: {text:?}");
    }
    assert!(!tools::du(&source, &copy.join("sizes")).is_empty());
}
