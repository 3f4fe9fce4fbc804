//! What is restored is what was stored, and lies below the target.

use bakfs::error::{Error, ErrorKind};
use bakfs::format::codec::Bytes;
use bakfs::format::tree::{Content, Entry, Meta, Node, Time, Xattr};
use bakfs::restore::Overwrite;
use bakfs::restore::file::File;
use bakfs::restore::options::Options;
use bakfs::restore::owners::Owners;
use bakfs::restore::target::{Dir, How, Id, Target};
use bakfs::source::listing::Listing;
use bakfs::source::read;
use bakfs::source::stat::{Kind, Stat};
use bakfs::source::walk::Walk;
use bakfs::source::xattr;
use bakfs_testing::need_root;
use bakfs_testing::users::{NOBODY, acting_as};
use bakfs_testing::zoo::{ACL, build_zoo};
use rustix::fs::{Mode, XattrFlags};
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

fn list(path: &Path) -> Listing {
    Walk::new(0, 1).request_root(path).take().unwrap()
}

fn target(path: &Path, overwrite: bool) -> Dir {
    let options = Options { replace_types: overwrite, owners: Owners::numeric(), dry_run: false, ..Options::default() };
    Target::open(path, options).unwrap().root()
}

fn meta(size_bytes: u64) -> Meta {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Meta { mode: 0o640, uid, gid, size_bytes, mtime: Time { secs: 1_000_000_000, nanos: 1 }, ..Meta::default() }
}

fn entry(name: &str, node: Node) -> Entry {
    Entry { name: Bytes(name.into()), meta: meta(0), node }
}

fn regular(name: &str) -> Entry {
    entry(name, Node::File(Content::Extents(Vec::new())))
}

fn link_to(path: &Path) -> Node {
    Node::Symlink(Bytes(path.as_os_str().as_bytes().into()))
}

/// Begins a regular file, beside the one that is there, if one is.
fn begin(dir: &Dir, name: &[u8]) -> Result<File, Error> {
    if let Some(file) = dir.create_file(name)? {
        return Ok(file);
    }
    if let Some(there) = dir.look(name)? {
        dir.make_way(name, there.kind, Kind::File)?;
    }
    dir.replace_file(name)
}

/// Makes what is no regular file and no directory.
fn make(dir: &Dir, entry: &Entry) -> Result<Vec<Error>, Error> {
    dir.make_node(entry, Overwrite::IfChanged, false).map(|(_, errors)| errors)
}

fn id(dir: &Dir, name: &str) -> Id {
    dir.look(name.as_bytes()).unwrap().map(|there| (there.dev, there.ino)).unwrap()
}

fn write(dir: &Dir, name: &str, content: &[u8]) {
    let meta = meta(content.len() as u64);
    let file = begin(dir, name.as_bytes()).unwrap();
    file.write_at(0, content).unwrap();
    assert_none(&file.finish(&meta).unwrap());
}

fn assert_none(errors: &[Error]) {
    assert!(errors.is_empty(), "{errors:?}");
}

fn node_of(dir: &Listing, name: &[u8], stat: &Stat) -> Node {
    let (major, minor) = (stat.rdev_major, stat.rdev_minor);
    match stat.kind {
        Kind::Symlink => Node::Symlink(read::read_link(dir.dir.as_fd(), name).unwrap()),
        Kind::Fifo => Node::Fifo,
        Kind::Socket => Node::Socket,
        Kind::CharDevice => Node::CharDevice { major, minor },
        Kind::BlockDevice => Node::BlockDevice { major, minor },
        _ => Node::File(Content::Extents(Vec::new())),
    }
}

/// Restores a directory straight from another, as far as that is possible without a repository.
fn copy(from: &Path, to: &Dir) {
    let listing = list(from);
    for scanned in &listing.entries {
        let (name, stat) = (&scanned.name, &scanned.stat);
        let path = from.join(OsStr::from_bytes(name));
        let meta = stat.to_meta(xattr::of_name(listing.dir.as_fd(), name).list);
        match stat.kind {
            Kind::Directory => {
                let dir = to.make_dir(name).unwrap();
                copy(&path, &dir);
                assert_none(&dir.finish(&meta));
            }
            Kind::File => {
                let there = to.look(name).unwrap().and_then(|there| to.open_old(name, &there));
                if let Some(old) = there.filter(|old| to.may_stay(old, &meta)) {
                    assert_none(&old.keep(&meta));
                    continue;
                }
                let file = begin(to, name).unwrap();
                let source = read::open(listing.dir.as_fd(), name, stat).unwrap();
                for segment in source.segments().map(|segment| segment.unwrap()).filter(|run| !run.is_hole) {
                    let mut data = vec![0; segment.len_bytes as usize];
                    source.read_at(segment.offset, &mut data).unwrap();
                    file.write_at(segment.offset, &data).unwrap();
                }
                assert_none(&file.finish(&meta).unwrap());
            }
            _ => {
                let node = node_of(&listing, name, stat);
                assert_none(&make(to, &Entry { name: name.clone(), meta, node }).unwrap());
            }
        }
    }
}

/// Compares everything a restore can set.
fn assert_same(one: &Path, two: &Path) {
    let (one, two) = (list(one), list(two));
    let names = |listing: &Listing| listing.entries.iter().map(|entry| entry.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&one), names(&two));
    assert_eq!(one.stat.mtime, two.stat.mtime);
    assert_eq!(xattr::of_fd(one.dir.as_fd()).list, xattr::of_fd(two.dir.as_fd()).list);
    for (a, b) in one.entries.iter().zip(&two.entries) {
        let name = a.name.escape_ascii().to_string();
        let key = |stat: &Stat| (stat.kind, stat.mode, stat.uid, stat.gid, stat.mtime);
        assert_eq!(key(&a.stat), key(&b.stat), "{name}");
        assert_eq!((a.stat.rdev_major, a.stat.rdev_minor), (b.stat.rdev_major, b.stat.rdev_minor), "{name}");
        let xattrs = |listing: &Listing| xattr::of_name(listing.dir.as_fd(), &a.name).list;
        assert_eq!(xattrs(&one), xattrs(&two), "{name}");
        if a.stat.kind == Kind::File {
            let content = |listing: &Listing, stat: &Stat| {
                let file = read::open(listing.dir.as_fd(), &a.name, stat).unwrap();
                let mut data = vec![0; stat.size_bytes as usize];
                assert_eq!(file.read_at(0, &mut data).unwrap(), data.len());
                data
            };
            assert!(content(&one, &a.stat) == content(&two, &b.stat), "{name}");
            assert_eq!(a.stat.blocks, b.stat.blocks, "{name}");
        } else if a.stat.kind == Kind::Symlink {
            assert_eq!(node_of(&one, &a.name, &a.stat), node_of(&two, &a.name, &b.stat), "{name}");
        }
    }
}

#[test]
fn everything_comes_back() {
    need_root();
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    build_zoo(from.path());
    let restored = to.path().join("made/on the way");
    let root = target(&restored, false);
    copy(from.path(), &root);
    assert_none(&root.finish(&list(from.path()).stat.to_meta(Vec::new())));
    let compare = |one: &Path, two: &Path| {
        for below in ["", "dir", "dir/read-only", "dir/read-only/below"] {
            assert_same(&one.join(below), &two.join(below));
        }
    };
    compare(from.path(), &restored);
    // Once more over what is there: nothing is written again, and nothing changes.
    let inode = |name: &str| fs::metadata(restored.join(name)).unwrap().ino();
    let before = ["sparse", "dir/read-only/file", "fifo"].map(inode);
    copy(from.path(), &root);
    assert_none(&root.finish(&list(from.path()).stat.to_meta(Vec::new())));
    compare(from.path(), &restored);
    assert_eq!(["sparse", "dir/read-only/file", "fifo"].map(inode), before);
}

#[test]
fn links_in_the_target_are_never_followed() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("file"), "precious").unwrap();
    symlink(outside.path(), dir.path().join("dir")).unwrap();
    symlink(outside.path().join("file"), dir.path().join("file")).unwrap();
    symlink(outside.path().join("new"), dir.path().join("new")).unwrap();
    let root = target(dir.path(), false);
    for error in [
        root.make_dir(b"dir").unwrap_err(),
        root.enter(b"dir").unwrap_err(),
        begin(&root, b"file").err().unwrap(),
        begin(&root, b"new").err().unwrap(),
        make(&root, &entry("file", Node::Fifo)).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Exists);
        assert!(error.chain().contains("symbolic link"), "{}", error.chain());
    }
    // A link the stored tree brought itself is no way out either, and its attributes are its own.
    let mut link = entry("mine", link_to(outside.path()));
    link.meta.mode = 0;
    assert_none(&make(&root, &link).unwrap());
    assert!(root.make_dir(b"mine").is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_ne!(fs::metadata(outside.path()).unwrap().mtime(), link.meta.mtime.secs);
    assert_eq!(fs::symlink_metadata(dir.path().join("mine")).unwrap().mtime(), link.meta.mtime.secs);

    let root = target(dir.path(), true);
    write(&root.make_dir(b"dir").unwrap(), "file", b"restored");
    write(&root, "file", b"restored");
    assert_eq!(fs::read(outside.path().join("file")).unwrap(), b"precious");
    assert_eq!(fs::read(dir.path().join("dir/file")).unwrap(), b"restored");
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"restored");
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = target(&dir.path().join("target"), true);
    for name in ["", ".", "..", "a/b", "../x", "/x", "a\0", &"x".repeat(256)] {
        let errors = [
            root.make_dir(name.as_bytes()).unwrap_err(),
            root.enter(name.as_bytes()).unwrap_err(),
            begin(&root, name.as_bytes()).unwrap_err(),
            make(&root, &entry(name, Node::Fifo)).unwrap_err(),
            root.hard_link(&regular(name), &root, b"x", (0, 0)).unwrap_err(),
            root.hard_link(&regular("x"), &root, name.as_bytes(), (0, 0)).unwrap_err(),
        ];
        assert!(errors.iter().all(|error| error.kind() == ErrorKind::Damaged), "{name:?}: {errors:?}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(fs::read_dir(dir.path().join("target")).unwrap().count(), 0);
}

#[test]
fn what_is_in_the_way_is_refused_or_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (careful, bold) = (target(dir.path(), false), target(dir.path(), true));
    fs::write(at("file"), "old").unwrap();
    fs::create_dir(at("empty")).unwrap();
    fs::create_dir_all(at("full/of")).unwrap();
    let is_refused = |result: Result<Vec<Error>, Error>| assert_eq!(result.unwrap_err().kind(), ErrorKind::Exists);
    is_refused(careful.make_dir(b"file").map(|_| Vec::new()));
    is_refused(begin(&careful, b"empty").map(|_| Vec::new()));
    is_refused(make(&careful, &entry("file", Node::Fifo)));
    is_refused(make(&careful, &entry("empty", link_to(Path::new("x")))));
    assert_eq!(fs::read(at("file")).unwrap(), b"old");

    bold.make_dir(b"file").unwrap();
    write(&bold, "empty", b"new");
    assert!(at("file").is_dir() && fs::read(at("empty")).unwrap() == b"new");
    assert!(begin(&bold, b"full").is_err(), "a directory with something in it is never removed");
    assert!(at("full/of").is_dir());

    // A link to another place takes the place of a link, as a changed file that of a file.
    assert_none(&make(&careful, &entry("link", link_to(Path::new("one")))).unwrap());
    assert_none(&make(&careful, &entry("link", link_to(Path::new("two")))).unwrap());
    assert_eq!(fs::read_link(at("link")).unwrap(), Path::new("two"));
}

#[test]
fn what_takes_a_place_is_complete_first() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let root = target(dir.path(), false);
    fs::write(at("file"), "old").unwrap();
    fs::hard_link(at("file"), at("second name")).unwrap();
    let file = begin(&root, b"file").unwrap();
    file.write_at(4, b"tent").unwrap();
    assert_eq!(fs::read_to_string(at("file")).unwrap(), "old");
    file.write_at(0, b"con").unwrap();
    assert_none(&file.finish(&meta(8)).unwrap());
    assert_eq!(fs::read(at("file")).unwrap(), b"con\0tent");
    assert_eq!(fs::read_to_string(at("second name")).unwrap(), "old");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing temporary is left");

    // What is given up leaves nothing, and what a killed restore left is cleared.
    drop(begin(&root, b"new").unwrap());
    drop(begin(&root, b"file").unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    std::mem::forget(begin(&root, b"file").unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    write(&root, "file", b"rewritten");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    assert_eq!(fs::read(at("file")).unwrap(), b"rewritten");
}

#[test]
fn a_file_that_others_could_write_to_may_not_stay() {
    need_root();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let root = target(dir.path(), false);
    // What is done to a file, its wanted mode, and whether it may stay.
    type Change<'a> = &'a dyn Fn(&Path);
    let mode = |mode: u32| move |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let owner = |uid, gid| move |path: &Path| std::os::unix::fs::chown(path, uid, gid).unwrap();
    // Version 2; the owner, nobody, the group, the mask and others: rw-, rw-, r--, rw-, r-- (acl(5)).
    let list = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x06\0\xfe\xff\0\0\x04\0\x04\0\xff\xff\xff\xff\
                 \x10\0\x06\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";
    let acl = |path: &Path| rustix::fs::setxattr(path, "system.posix_acl_access", list, XattrFlags::empty()).unwrap();
    let table: [(&str, Change<'_>, u32, bool); 9] = [
        ("the same", &mode(0o644), 0o644, true),
        ("less", &mode(0o400), 0o644, true),
        ("group", &mode(0o664), 0o644, false),
        ("others", &mode(0o646), 0o644, false),
        ("as wanted", &mode(0o666), 0o666, true),
        ("owner", &owner(Some(65534), None), 0o644, false),
        ("its group", &owner(None, Some(65534)), 0o664, false),
        ("list", &acl, 0o664, false),
        ("second name", &|path| fs::hard_link(path, path.with_extension("2")).unwrap(), 0o644, false),
    ];
    for (name, change, wanted, expected) in table {
        fs::write(at(name), "x").unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(wanted)).unwrap();
        change(&at(name));
        let there = root.look(name.as_bytes()).unwrap().unwrap();
        let old = root.open_old(name.as_bytes(), &there).unwrap();
        assert_eq!(root.may_stay(&old, &Meta { mode: wanted, ..meta(1) }), expected, "{name}");
    }
}

#[test]
fn directories_are_taken_from_those_who_may_not_change_them() {
    need_root();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let root = target(dir.path(), false);
    // Owner and mode of what is there, those of what is restored, and whether it is locked meanwhile.
    for (name, there, wanted, expected) in [
        ("own", (0, 0o755), (0, 0o755), false),
        ("narrower", (0, 0o700), (0, 0o1777), false),
        ("home", (65534, 0o755), (65534, 0o755), false),
        ("planted", (65534, 0o755), (0, 0o755), true),
        ("open", (0, 0o777), (0, 0o755), true),
        ("tmp", (0, 0o1777), (0, 0o1777), false),
        ("tmp without sticky", (0, 0o777), (0, 0o1777), true),
        ("home to be", (0, 0o755), (65534, 0o755), false),
    ] {
        fs::create_dir(at(name)).unwrap();
        std::os::unix::fs::chown(at(name), Some(there.0), None).unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(there.1)).unwrap();
        let wanted = Meta { uid: wanted.0, mode: wanted.1, ..meta(0) };
        let made = root.make_dir(name.as_bytes()).unwrap();
        made.guard(&wanted).unwrap();
        let meanwhile = fs::metadata(at(name)).unwrap();
        let locked = (meanwhile.uid(), meanwhile.mode() & 0o7777) == (0, 0o700);
        assert_eq!(locked && there != (0, 0o700), expected, "{name}");
        assert_none(&made.finish(&wanted));
        let after = fs::metadata(at(name)).unwrap();
        assert_eq!((after.uid(), after.mode() & 0o7777), (wanted.uid, wanted.mode), "{name}");
    }
}

#[test]
fn unwritten_ranges_become_holes() {
    let dir = tempfile::tempdir().unwrap();
    let root = target(dir.path(), false);
    let meta = meta(1 << 40);
    let file = begin(&root, b"sparse").unwrap();
    std::thread::scope(|scope| {
        for offset in [1 << 30, 0, 1 << 35] {
            let file = &file;
            scope.spawn(move || file.write_at(offset, &[7; 4096]).unwrap());
        }
    });
    assert_none(&file.finish(&meta).unwrap());
    let found = fs::metadata(dir.path().join("sparse")).unwrap();
    assert_eq!(found.len(), 1 << 40);
    assert!(found.blocks() * 512 < 1 << 20, "{} blocks", found.blocks());
}

#[test]
fn hard_links_join_names_again() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let root = target(dir.path(), false);
    let below = root.make_dir(b"below").unwrap();
    write(&root, "one", b"content");
    let one = id(&root, "one");
    assert_eq!(below.hard_link(&regular("two"), &root, b"one", one).unwrap(), How::New);
    assert_eq!(below.hard_link(&regular("two"), &root, b"one", one).unwrap(), How::Kept);
    fs::write(at("three"), "an older file").unwrap();
    assert_eq!(root.hard_link(&regular("three"), &below, b"two", one).unwrap(), How::Replaced);
    // What has taken the first name meanwhile is not linked.
    assert!(root.hard_link(&regular("four"), &root, b"one", (0, 0)).is_err() && !at("four").exists());
    let inodes = ["one", "below/two", "three"].map(|name| fs::metadata(at(name)).unwrap().ino());
    assert!(inodes.iter().all(|ino| *ino == inodes[0]));
    assert_eq!(fs::metadata(at("one")).unwrap().nlink(), 3);
    // Of a symbolic link the link itself gets a second name, not what it leads to.
    let link = |name| entry(name, link_to(Path::new("one")));
    assert_none(&make(&root, &link("link")).unwrap());
    root.hard_link(&link("link two"), &root, b"link", id(&root, "link")).unwrap();
    assert_eq!(fs::read_link(at("link two")).unwrap(), Path::new("one"));
    assert_eq!(root.hard_link(&regular("below"), &root, b"one", one).unwrap_err().kind(), ErrorKind::Exists);
    assert_eq!(root.hard_link(&regular("four"), &root, b"gone", one).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn attributes_that_cannot_be_set_are_named_and_inherited_ones_removed() {
    let dir = tempfile::tempdir().unwrap();
    rustix::fs::setxattr(dir.path(), "system.posix_acl_default", ACL, XattrFlags::empty()).unwrap();
    let root = target(dir.path(), false);
    let mut meta = meta(0);
    let xattr = |name: &str| Xattr { name: Bytes(name.into()), value: Bytes(b"v".into()) };
    meta.xattrs = vec![xattr("nonsense.space"), xattr("user.good")];
    let errors = begin(&root, b"file").unwrap().finish(&meta).unwrap();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].chain().contains("nonsense.space"), "{}", errors[0].chain());
    let found = xattr::of_name(list(dir.path()).dir.as_fd(), b"file").list;
    assert_eq!(found, [xattr("user.good")]);
    assert_eq!(fs::metadata(dir.path().join("file")).unwrap().mode() & 0o7777, meta.mode);
}

#[test]
fn paths_longer_than_path_max_are_restored() {
    let dir = tempfile::tempdir().unwrap();
    let mut deep = target(dir.path(), false);
    let name = [b'n'; 200];
    let mut dirs = Vec::new();
    for _ in 0..40 {
        deep = deep.make_dir(&name).unwrap();
        dirs.push(deep.clone());
    }
    write(&deep, "file", b"deep");
    assert_none(&make(&deep, &entry("link", link_to(Path::new("file")))).unwrap());
    for dir in dirs.iter().rev() {
        assert_none(&dir.finish(&Meta { mode: 0o700, ..meta(0) }));
    }
    let mut fd: OwnedFd = fs::File::open(dir.path()).unwrap().into();
    for _ in 0..40 {
        fd = rustix::fs::openat(&fd, &name[..], rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let stat = Stat::at(fd.as_fd(), b"file").unwrap();
    assert_eq!((stat.size_bytes, stat.mtime), (4, meta(0).mtime));
    assert_eq!(Stat::at(fd.as_fd(), b"link").unwrap().mtime, meta(0).mtime);
    assert_eq!(Stat::of(fd.as_fd()).unwrap().mtime, meta(0).mtime);
}

#[test]
fn an_ordinary_user_restores_what_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(65534), None).unwrap();
    let at = |name: &str| dir.path().join(name);
    need_root();
    acting_as(NOBODY, || {
        let root = target(dir.path(), false);
        let root_owned = Meta { mode: 0o6755, uid: 0, gid: 4712, ..meta(0) };
        let errors = begin(&root, b"file").unwrap().finish(&root_owned).unwrap();
        assert_none(&errors);
        let sub = root.make_dir(b"dir").unwrap();
        write(&sub, "below", b"content");
        assert_none(&sub.finish(&Meta { mode: 0o2555, ..root_owned.clone() }));
        // Attributes that take root are named, the others are set.
        let xattr = |name: &str| Xattr { name: Bytes(name.into()), value: Bytes(b"v".into()) };
        let meta = Meta { xattrs: vec![xattr("trusted.a"), xattr("user.b")], ..root_owned };
        let errors = begin(&root, b"attributes").unwrap().finish(&meta).unwrap();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].chain().contains("trusted.a"));
        let device = make(&root, &entry("null", Node::CharDevice { major: 1, minor: 3 })).unwrap_err();
        assert!(device.chain().contains("takes root"), "{}", device.chain());
        for node in [Node::Fifo, Node::Socket, link_to(Path::new("x"))] {
            let name = format!("{node:?}");
            assert_none(&make(&root, &entry(&name[..4], node)).unwrap());
        }
    });
    let mode = |name: &str| fs::metadata(at(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("file"), mode("dir")), (0o755, 0o555), "setuid would now lend another user's rights");
    assert_eq!(fs::metadata(at("file")).unwrap().uid(), 65534);
}
