//! `bakfs restore` brings back what was backed up, again and again, and nothing outside its target.

use crate::world::{Restored, World, assert_same, build_large_zoo, join, noise, show};
use bakfs_testing::device::Device;
use bakfs_testing::need_root;
use bakfs_testing::process::{run, tool};
use rustix::fs::{Mode, OFlags, XattrFlags};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

#[test]
fn everything_comes_back() {
    need_root();
    let world = World::new();
    build_large_zoo(&world.source);
    world.back_up();
    let restored = world.restore("latest", "target", &[], 0);
    assert_same(&world.source, &restored.root);
    // The directories on the way have their own attributes too.
    let shown = |path: &Path| fs::metadata(path).map(|meta| (meta.mode(), meta.mtime_nsec())).unwrap();
    let above = world.source.parent().unwrap();
    assert_eq!(shown(&join(&world.at("target"), above)).0, shown(above).0);
    assert_eq!(restored.count("errors"), 0);
    assert_eq!(restored.count("hard_links"), 43);

    // Once more: all is there, and nothing is written.
    let again = world.restore("latest", "target", &[], 0);
    assert_same(&world.source, &again.root);
    assert_eq!((again.count("files_written"), again.count("written_bytes")), (0, 0));
    assert_eq!(again.count("files_kept"), restored.count("files_written"));
    assert_eq!(again.count("files"), restored.count("files"));
}

#[test]
fn a_repeated_restore_writes_only_what_is_missing() {
    let world = World::new();
    for number in 0..50 {
        fs::create_dir_all(world.source.join(format!("d{}", number % 5))).unwrap();
        fs::write(world.source.join(format!("d{}/f{number}", number % 5)), noise(1000 + number)).unwrap();
    }
    fs::write(world.source.join("large"), noise(9 << 20)).unwrap();
    fs::hard_link(world.source.join("d0/f0"), world.source.join("d1/link")).unwrap();
    world.back_up();
    let first = world.restore("latest", "target", &[], 0);
    assert_eq!((first.count("files_written"), first.count("files_kept")), (51, 0));
    let at = |name: &str| first.root.join(name);

    fs::remove_file(at("d0/f5")).unwrap();
    fs::remove_dir_all(at("d2")).unwrap();
    fs::File::options().write(true).open(at("large")).unwrap().set_len(1 << 20).unwrap();
    fs::write(at("d3/f3"), "other content, another length").unwrap();
    fs::set_permissions(at("d4/f4"), fs::Permissions::from_mode(0o777)).unwrap();
    rustix::fs::setxattr(at("d4/f9"), "user.more", b"1", XattrFlags::empty()).unwrap();
    fs::remove_file(at("d1/link")).unwrap();
    fs::write(at("d1/link"), noise(1000)).unwrap();
    fs::write(at("d1/.bakfs-partial-0123456789abcdef"), "someone else's").unwrap();

    let second = world.restore("latest", "target", &[], 0);
    fs::remove_file(at("d1/.bakfs-partial-0123456789abcdef")).unwrap();
    // The name that was removed is in a directory that had to be changed again: only its time tells.
    let third = world.restore("latest", "target", &[], 0);
    assert_same(&world.source, &third.root);
    // d0/f5, ten files of d2, large, d3/f3, and d4/f4, which everybody could write to.
    assert_eq!((second.count("files_written"), second.count("files_kept")), (14, 37));
    assert_eq!(second.count("files_replaced"), 4, "the older file of d1/link too");
    assert_eq!((third.count("files_written"), third.count("files_kept")), (0, 51));
}

#[test]
fn nothing_is_written_through_a_symbolic_link() {
    let world = World::new();
    fs::create_dir_all(world.source.join("a/deep")).unwrap();
    fs::write(world.source.join("a/deep/file"), "content").unwrap();
    fs::write(world.source.join("b"), "b").unwrap();
    fs::write(world.source.join("c"), "c").unwrap();
    world.back_up();
    let root = join(&world.at("target"), &world.source);
    fs::create_dir_all(&root).unwrap();
    let outside = world.at("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("b"), "not to be touched").unwrap();
    symlink(&outside, root.join("a")).unwrap();
    symlink(outside.join("b"), root.join("b")).unwrap();

    let restored = world.restore("latest", "target", &[], 3);
    assert_eq!(restored.count("errors"), 2, "{}", restored.said);
    for name in ["a", "b"] {
        let line = format!("{}: ", root.join(name).display());
        let said = restored.said.lines().find(|said| said.contains(&line)).unwrap();
        assert!(said.contains("symbolic link"), "{said}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read(outside.join("b")).unwrap(), b"not to be touched");
    assert_eq!(fs::read(root.join("c")).unwrap(), b"c");

    // When that is asked for the links make way, and what they lead to stays.
    let restored = world.restore("latest", "target", &["--replace-types"], 0);
    assert_same(&world.source, &restored.root);
    assert_eq!(fs::read(outside.join("b")).unwrap(), b"not to be touched");
}

/// Returns the repository's packs, the longest first.
fn packs(world: &World) -> Vec<PathBuf> {
    let folders = fs::read_dir(world.at("repo/packs")).unwrap();
    let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    let mut packs: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    packs.sort_by_key(|pack| std::cmp::Reverse(fs::metadata(pack).unwrap().len()));
    packs
}

fn flip(path: &Path, offset: u64) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

#[test]
fn damage_costs_the_files_it_concerns_and_no_others() {
    let world = World::new();
    for (name, len) in [("1 small", 3 << 20), ("2 large", 12 << 20), ("3 good", 300 << 10), ("4 good", 9 << 20)] {
        fs::write(world.source.join(name), noise(len).iter().map(|byte| byte ^ name.as_bytes()[0]).collect::<Vec<_>>())
            .unwrap();
    }
    fs::hard_link(world.source.join("1 small"), world.source.join("5 link")).unwrap();
    world.back_up();
    let data = &packs(&world)[0];
    // Short chunks wait for others to share a frame with: so far from the borders each byte is of one file, wherever
    // the repository's own cut points lie.
    flip(data, 100 << 10);
    flip(data, 9 << 20);
    let restored = world.restore("latest", "target", &[], 3);
    for (name, is_bad) in [("1 small", true), ("2 large", true), ("3 good", false), ("4 good", false), ("5 link", true)]
    {
        let (source, copy) = (world.source.join(name), restored.root.join(name));
        assert_eq!(restored.said.contains(&format!("{}: ", copy.display())), is_bad, "{name}: {}", restored.said);
        match is_bad {
            true => assert!(!copy.exists(), "{name}"),
            false => assert_eq!(fs::read(&source).unwrap(), fs::read(&copy).unwrap(), "{name}"),
        }
    }
    assert_eq!(restored.count("errors"), 3, "{}", restored.said);
    // Nothing begun is left either, and what was there before stays.
    assert_eq!(fs::read_dir(&restored.root).unwrap().count(), 2);
    fs::write(restored.root.join("2 large"), "an older state").unwrap();
    let again = world.restore("latest", "target", &[], 3);
    assert_eq!(fs::read(again.root.join("2 large")).unwrap(), b"an older state");
    assert_eq!(fs::read_dir(&restored.root).unwrap().count(), 3);
}

#[test]
fn a_damaged_page_costs_the_entries_in_it() {
    let world = World::new();
    for number in 0..6000 {
        fs::write(world.source.join(format!("{number:04}")), "").unwrap();
    }
    world.back_up();
    // All content is empty: the only pack is one of pages. The page all others are found by is at its end.
    let [tree] = &packs(&world)[..] else { panic!("one pack is expected") };
    flip(tree, fs::metadata(tree).unwrap().len() / 4);
    let restored = world.restore("latest", "target", &[], 3);
    let said = restored.said.lines().find(|line| line.contains("of its 6000 entries could not be read")).unwrap();
    assert!(said.contains(&format!("{}: ", restored.root.display())), "{said}");
    let lost: u64 = said.split(": ").nth(2).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((1..6000).contains(&lost), "{said}");
    assert_eq!(fs::read_dir(&restored.root).unwrap().count() as u64, 6000 - lost);
}

#[test]
fn an_ordinary_user_gets_the_content() {
    need_root();
    let world = World::new();
    fs::create_dir_all(world.source.join("locked/below")).unwrap();
    fs::write(world.source.join("locked/below/file"), "content").unwrap();
    fs::write(world.source.join("setuid"), "s").unwrap();
    fs::write(world.source.join("one"), "1").unwrap();
    fs::hard_link(world.source.join("one"), world.source.join("locked/one")).unwrap();
    fs::set_permissions(world.source.join("setuid"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(world.source.join("locked"), fs::Permissions::from_mode(0o500)).unwrap();
    world.back_up();
    let program = world.at("bakfs");
    fs::copy(env!("CARGO_BIN_EXE_bakfs"), &program).unwrap();
    fs::set_permissions(world.at("."), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(world.at("mine")).unwrap();
    for name in ["repo", "cache", "config", "mine"] {
        tool("chown", [OsStr::new("-R"), OsStr::new("65534:65534"), world.at(name).as_os_str()]).expect(0);
    }
    let restore = || {
        let mut command = world.bakfs.wrap("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program);
        command.args(["restore", "latest"]).arg(world.at("mine/target"));
        run(command).expect(0)
    };
    restore();
    let root = join(&world.at("mine/target"), &world.source);
    for (name, mode) in [("locked/below/file", 0o644), ("setuid", 0o755), ("one", 0o644), ("locked", 0o500)] {
        let meta = fs::metadata(root.join(name)).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (65534, 65534, mode), "{name}");
        if !meta.is_dir() {
            assert_eq!(fs::read(root.join(name)).unwrap(), fs::read(world.source.join(name)).unwrap());
        }
    }
    assert_eq!(fs::metadata(root.join("one")).unwrap().nlink(), 2);
    // What is missing in a directory that lets nobody write can be brought back all the same.
    fs::remove_file(root.join("locked/one")).unwrap();
    fs::remove_dir_all(root.join("locked/below")).unwrap();
    restore();
    assert_eq!(fs::read(root.join("locked/below/file")).unwrap(), b"content");
    assert_eq!(fs::metadata(root.join("locked/one")).unwrap().nlink(), 2);
}

#[test]
fn parts_of_a_snapshot_come_back_alone() {
    let world = World::new();
    for name in ["a/x.conf", "a/y.txt", "a/sub/z.conf", "b/x.conf", "c/only.txt"] {
        fs::create_dir_all(world.source.join(name).parent().unwrap()).unwrap();
        fs::write(world.source.join(name), name).unwrap();
    }
    fs::set_permissions(world.source.join("a"), fs::Permissions::from_mode(0o710)).unwrap();
    world.back_up();
    let files = |restored: &Restored| -> Vec<String> {
        let shown = show(&restored.root);
        let paths = shown.keys().map(|path| String::from_utf8(path.clone()).unwrap());
        paths.filter(|path| !path.is_empty()).collect()
    };
    let of = |path: &str| format!("latest:{}{path}", world.source.display());
    let table: [(&str, &[&str], &[&str]); 7] = [
        ("/a/sub/z.conf", &[], &["/a", "/a/sub", "/a/sub/z.conf"]),
        ("/a/", &[], &["/a", "/a/sub", "/a/sub/z.conf", "/a/x.conf", "/a/y.txt"]),
        ("", &["--include", "*.conf"], &["/a", "/a/sub", "/a/sub/z.conf", "/a/x.conf", "/b", "/b/x.conf"]),
        ("", &["--include", "a/", "--exclude", "sub"], &["/a", "/a/x.conf", "/a/y.txt"]),
        ("", &["--include", "*.conf", "--include", "!x.*"], &["/a", "/a/sub", "/a/sub/z.conf"]),
        ("/b", &["--exclude", "*"], &[]),
        ("", &["--dry-run"], &[]),
    ];
    for (number, (path, options, expected)) in table.iter().enumerate() {
        let restored = world.restore(&of(path), &format!("target{number}"), options, 0);
        if expected.is_empty() {
            assert!(!restored.root.exists(), "{path} {options:?}");
            continue;
        }
        assert_eq!(files(&restored), *expected, "{path} {options:?}");
        let (source, copy) = (show(&world.source), show(&restored.root));
        for path in *expected {
            assert_eq!(copy[path.as_bytes()], source[path.as_bytes()], "{path}");
        }
    }
    // Only the first path is counted, not those on the way.
    assert_eq!(world.restore(&of("/b/x.conf"), "one", &[], 0).count("files"), 1);
    assert_eq!(world.restore(&of(""), "none", &["--dry-run"], 0).count("files"), 5);
}

#[test]
fn holes_stay_holes_and_zeros_stay_zeros() {
    let world = World::new();
    let sparse = fs::File::create(world.source.join("sparse")).unwrap();
    sparse.write_all_at(&noise(5 << 20), 1 << 39).unwrap();
    sparse.write_all_at(&[0; 1 << 20], (1 << 39) + (64 << 20)).unwrap();
    sparse.set_len(1 << 40).unwrap();
    sparse.sync_all().unwrap();
    fs::File::create(world.source.join("all hole")).unwrap().set_len(1 << 40).unwrap();
    world.back_up();
    let restored = world.restore("latest", "target", &["--sync"], 0);
    assert_eq!(restored.count("written_bytes"), 6 << 20);
    for name in ["sparse", "all hole"] {
        let (source, copy) = (world.source.join(name), restored.root.join(name));
        let blocks = |path: &Path| fs::metadata(path).map(|meta| (meta.len(), meta.blocks())).unwrap();
        assert_eq!(blocks(&source), blocks(&copy), "{name}");
    }
    assert_same(&world.source, &restored.root);
}

#[test]
fn a_tree_of_4000_levels_comes_back_with_few_open_files() {
    let world = World::new();
    let open = |dir: &rustix::fd::OwnedFd| rustix::fs::openat(dir, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
    let start = |path: &Path| rustix::fs::open(path, OFlags::DIRECTORY, Mode::empty()).unwrap();
    // The source lies a little below /, and 4096 is as deep as a backup goes.
    const LEVELS: u32 = 4080;
    let mut dir = start(&world.source);
    for level in 0..LEVELS {
        rustix::fs::mkdirat(&dir, "d", Mode::from_raw_mode(0o700)).unwrap();
        dir = open(&dir);
        if level % 512 == 0 {
            let file = rustix::fs::openat(&dir, "z", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
            rustix::io::write(&file, b"deep").unwrap();
        }
    }
    world.back_up();
    let script = "ulimit -n 700; exec \"$0\" restore latest \"$1\"";
    let mut shell = world.bakfs.wrap("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_bakfs")]).arg(world.at("target"));
    run(shell).expect(0);
    let root = join(&world.at("target"), &world.source);
    let (mut from, mut to) = (start(&world.source), start(&root));
    for level in 0..LEVELS {
        (from, to) = (open(&from), open(&to));
        let time = |dir| rustix::fs::fstat(dir).map(|stat| (stat.st_mtime, stat.st_mtime_nsec)).unwrap();
        assert_eq!(time(&from), time(&to), "level {level}");
        assert_eq!(rustix::fs::statat(&to, "z", rustix::fs::AtFlags::empty()).is_ok(), level % 512 == 0);
    }
}

#[test]
fn what_cannot_be_restored_at_all_says_why() {
    let world = World::new();
    fs::write(world.source.join("file"), "f").unwrap();
    world.back_up();
    fs::write(world.at("a file"), "").unwrap();
    let inside = world.at("repo/packs/new");
    symlink(world.at("repo"), world.at("detour")).unwrap();
    let (target, file, detour) = (world.at("target"), world.at("a file"), world.at("detour/new"));
    let table: [(&[&str], &Path, i32, &str); 7] = [
        (&["yesteryear"], &target, 1, "bakfs snapshots"),
        (&["latest:/no/such"], &target, 1, "/no/such is not in the snapshot"),
        (&["latest"], &file, 1, "a file"),
        (&["latest"], &inside, 1, "in the repository"),
        (&["latest"], &detour, 1, "in the repository"),
        (&["latest", "--include", "["], &target, 2, "--include"),
        (&["latest", "--exclude", "["], &target, 2, "--exclude"),
    ];
    for (args, target, code, text) in table {
        world.bakfs.run([&["restore"], args, &[target.to_str().unwrap()]].concat()).expect(code).says(text);
    }
    assert!(!target.exists() && !inside.exists() && !detour.exists());
}

#[test]
fn the_repository_itself_is_not_overwritten() {
    let world = World::new();
    fs::create_dir(world.source.join("repo")).unwrap();
    fs::write(world.source.join("repo/config"), "of another time").unwrap();
    fs::write(world.source.join("file"), "f").unwrap();
    let repo = join(&world.at("target"), &world.source).join("repo");
    let repo = repo.to_str().unwrap();
    world.bakfs.ok(["--repo", repo, "init"]);
    world.bakfs.ok(["--repo", repo, "backup", world.source.to_str().unwrap()]);
    let restored = world.restore("latest", "target", &["--repo", repo, "--replace-types"], 3);
    assert!(restored.said.contains(&format!("{repo}: is the repository itself")), "{}", restored.said);
    assert_eq!(fs::read(restored.root.join("file")).unwrap(), b"f");
    let inside = format!("latest:{}/repo/config", world.source.display());
    let restored = world.restore(&inside, "target", &["--repo", repo], 1);
    assert!(restored.said.contains("is the repository itself"), "{}", restored.said);
    world.bakfs.ok(["--repo", repo, "snapshots"]);
    // Elsewhere it is a directory like any other.
    world.restore(&inside, "elsewhere", &["--repo", repo], 0);
}

#[test]
fn a_full_disk_stops_the_restore_and_room_lets_it_go_on() {
    need_root();
    let world = World::new();
    for number in 0..30 {
        fs::write(world.source.join(number.to_string()), noise(200 << 10)).unwrap();
    }
    fs::write(world.source.join("large"), noise(8 << 20)).unwrap();
    world.back_up();
    let _disk = Device::memory(&world.at("disk"), 4);
    let stopped = world.restore("latest", "disk/target", &[], 1);
    assert!(stopped.said.contains("make room and repeat"), "{}", stopped.said);
    assert_eq!(stopped.said.lines().count(), 1, "{}", stopped.said);
    for file in fs::read_dir(&stopped.root).unwrap() {
        let file = file.unwrap();
        // No half file under its name.
        let source = fs::read(world.source.join(file.file_name())).unwrap();
        assert!(fs::read(file.path()).unwrap() == source, "{:?}", file.file_name());
    }
    tool("mount", ["-o".as_ref(), "remount,size=64m".as_ref(), world.at("disk").as_os_str()]).expect(0);
    let restored = world.restore("latest", "disk/target", &[], 0);
    assert!(restored.count("files_kept") > 0);
    for file in fs::read_dir(&world.source).unwrap() {
        let file = file.unwrap();
        assert!(fs::read(file.path()).unwrap() == fs::read(restored.root.join(file.file_name())).unwrap());
    }
}
