//! A restore over what is there: it is looked at, not believed.

use crate::world::{World, assert_same, join, noise};
use bakfs_testing::cli::json_of;
use bakfs_testing::device::Device;
use bakfs_testing::need_root;
use bakfs_testing::process::{run, tool};
use bakfs_testing::users::{NOBODY, acting_as};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Writes over the start of a file and gives it the modification time it had.
fn disguise(path: &Path, content: &[u8]) {
    let file = fs::File::options().write(true).open(path).unwrap();
    let time = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(content, 0).unwrap();
    file.set_modified(time).unwrap();
}

/// At the target, above it and below it, and whether it is tried or done.
#[test]
fn what_is_in_the_way_is_named_with_the_next_step() {
    let world = World::new();
    fs::create_dir(world.source.join("dir")).unwrap();
    fs::write(world.source.join("dir/file"), "x").unwrap();
    world.back_up();
    fs::write(world.at("plain"), "").unwrap();
    std::os::unix::fs::symlink("nowhere", world.at("dangling")).unwrap();
    for (target, found) in [
        ("plain", "plain is no directory"),
        ("plain/sub", "plain is no directory"),
        ("plain/sub/deep", "plain is no directory"),
        ("dangling", "dangling is a symbolic link that leads to no directory"),
        ("dangling/sub", "dangling is a symbolic link that leads to no directory"),
    ] {
        for option in ["--sync", "--dry-run"] {
            let target = world.at(target);
            let outcome = world.bakfs.run(["restore", option, "latest", target.to_str().unwrap()]).expect(1);
            outcome.says(&format!("/{found}: ")).says("name a directory as TARGET").says("`bakfs dump SNAP:PATH`");
        }
    }
    assert!(!world.at("nowhere").exists());
    world
        .bakfs
        .run(["restore", "latest", "/proc/nothing/here"])
        .expect(1)
        .says("could not be made: name another as TARGET");
    world
        .bakfs
        .run(["man", world.at("plain/pages").to_str().unwrap()])
        .expect(1)
        .says(": name a folder, which is made");
    // A file where a directory shall be, and the reverse; one that is not empty goes for no option.
    let below = |name: &str| world.at("target").join(world.source.join(name).strip_prefix("/").unwrap());
    fs::create_dir_all(below("")).unwrap();
    fs::write(below("dir"), "in the way").unwrap();
    let restore = |options: &[&str], code: i32| {
        let mut command = world.bakfs.command(["restore", "latest"]);
        command.args(options).arg(world.at("target"));
        run(command).expect(code)
    };
    restore(&[], 3)
        .says("dir: a file of this name is in the way: remove it, say --replace-types, or restore into another");
    fs::remove_file(below("dir")).unwrap();
    fs::create_dir_all(below("dir/file")).unwrap();
    restore(&[], 3).says("file: a directory of this name is in the way: remove it, say --replace-types");
    fs::write(below("dir/file/kept"), "mine").unwrap();
    restore(&["--replace-types"], 3)
        .says("in the way, and is not empty: move it away, or restore into another directory");
    assert_eq!(fs::read(below("dir/file/kept")).unwrap(), b"mine");
    fs::remove_file(below("dir/file/kept")).unwrap();
    restore(&["--replace-types"], 0);
    assert_eq!(fs::read(below("dir/file")).unwrap(), b"x");
}

#[test]
fn content_is_compared_whatever_length_and_time_say() {
    let world = World::new();
    for name in ["a", "b", "kept"] {
        fs::write(world.source.join(name), format!("{name}{name}{name}{name}")).unwrap();
    }
    fs::write(world.source.join("large"), noise(12 << 20)).unwrap();
    fs::File::create(world.source.join("hole")).unwrap().set_len(8 << 20).unwrap();
    world.back_up();
    let first = world.restore("latest", "target", &[], 0);
    let at = |name: &str| first.root.join(name);
    for name in ["a", "large", "hole"] {
        disguise(&at(name), b"EVIL");
    }
    let line = |name: &str, what: &str| format!("{}: {what}", at(name).display());
    let said = |options: &[&str]| {
        let mut command = world.bakfs.command(["restore", "latest"]);
        command.args(options).arg(world.at("target"));
        run(command).expect(0).text()
    };
    let dry = said(&["--dry-run"]);
    for name in ["a", "large", "hole"] {
        assert!(dry.contains(&line(name, "would be replaced")), "{name}: {dry}");
    }
    assert_eq!(fs::read(at("a")).unwrap(), b"EVIL", "a dry run writes nothing");
    let told = said(&["-v"]);
    for name in ["a", "large", "hole"] {
        assert!(told.contains(&line(name, "replaced")), "{name}: {told}");
    }
    assert!(told.contains("Replaced 3 files that differed") && told.contains("Kept     2 files, equal"), "{told}");
    assert!(!told.contains(&line("b", "")) && !told.contains(&line("kept", "")), "{told}");
    assert_same(&world.source, &first.root);
    let again = world.restore("latest", "target", &[], 0);
    assert_eq!((again.count("files_replaced"), again.count("files_kept"), again.count("written_bytes")), (0, 5, 0));
}

#[test]
fn what_is_equal_is_not_fetched_and_what_differs_is() {
    let world = World::new();
    fs::write(world.source.join("large"), noise(24 << 20)).unwrap();
    fs::write(world.source.join("small"), noise(1000).repeat(3)).unwrap();
    world.back_up();
    let first = world.restore("latest", "target", &[], 0);
    // Without the packs of content what is there can be compared, and given its time.
    let packs = world.at("repo/packs");
    let away = world.at("packs away");
    let largest = |dir: &Path| {
        let below = fs::read_dir(dir).unwrap().flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
        below.map(|pack| pack.unwrap()).max_by_key(|pack| pack.metadata().unwrap().len()).unwrap().path()
    };
    let pack = largest(&packs);
    fs::create_dir(&away).unwrap();
    fs::rename(&pack, away.join("pack")).unwrap();
    fs::File::open(first.root.join("large")).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    assert_eq!(world.restore("latest", "target", &[], 0).count("files_kept"), 2);
    // One byte that differs costs the chunk it is in: the rest of the file comes from the target.
    disguise(&first.root.join("large"), b"X");
    let lacking = world.restore("latest", "target", &[], 3);
    assert_eq!(lacking.count("files_kept"), 1, "{}", lacking.said);
    fs::rename(away.join("pack"), &pack).unwrap();
    let healed = world.restore("latest", "target", &[], 0);
    assert_eq!((healed.count("files_replaced"), healed.count("written_bytes")), (1, 24 << 20));
    assert_same(&world.source, &healed.root);
}

#[test]
fn what_another_user_planted_becomes_nothing() {
    need_root();
    let world = World::new();
    fs::create_dir(world.source.join("bin")).unwrap();
    let genuine = b"#!/bin/true genuine-program-0001\n";
    for (name, mode) in [("bin/tool", 0o4755), ("bin/plain", 0o644)] {
        fs::write(world.source.join(name), genuine).unwrap();
        set_mode(&world.source.join(name), mode);
    }
    world.back_up();
    let root = join(&world.at("target"), &world.source);
    fs::create_dir_all(&root).unwrap();
    set_mode(&world.at("."), 0o755);
    chown(&root, Some(65534), Some(65534)).unwrap();
    let time = fs::metadata(world.source.join("bin/tool")).unwrap().modified().unwrap();
    // Of the same length, content and time, and held open by who has planted it.
    let plant = |name: &str, content: &[u8]| {
        let mut file = fs::File::create(root.join(name)).unwrap();
        file.write_all(content).unwrap();
        file.set_modified(time).unwrap();
        file
    };
    let (tool, plain) = acting_as(NOBODY, || {
        fs::create_dir(root.join("bin")).unwrap();
        set_mode(&root.join("bin"), 0o777);
        (plant("bin/tool", b"#!/bin/true TROJAN!-program-0001\n"), plant("bin/plain", genuine))
    });
    let restored = world.restore("latest", "target", &[], 0);
    assert_eq!(restored.count("files_replaced"), 2);
    acting_as(NOBODY, || {
        tool.write_all_at(b"afterwards", 0).unwrap();
        plain.write_all_at(b"afterwards", 0).unwrap();
        assert!(fs::write(root.join("bin/more"), "x").is_err(), "the folder is root's");
    });
    for (name, mode) in [("bin/tool", 0o4755), ("bin/plain", 0o644)] {
        let meta = fs::metadata(root.join(name)).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o7777), (0, mode), "{name}");
        assert_eq!(fs::read(root.join(name)).unwrap(), genuine, "{name}");
    }
    // A right file that everybody may write to is made anew too.
    set_mode(&root.join("bin/plain"), 0o666);
    let open = acting_as(NOBODY, || fs::File::options().write(true).open(root.join("bin/plain")).unwrap());
    assert_eq!(world.restore("latest", "target", &[], 0).count("files_replaced"), 1);
    open.write_all_at(b"afterwards", 0).unwrap();
    assert_same(&world.source, &root);
}

#[test]
fn hard_links_become_those_of_the_snapshot() {
    let world = World::new();
    let content = noise(5000);
    for name in ["a", "b", "c", "d", "alone", "apart 1", "apart 2"] {
        fs::write(world.source.join(name), &content).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        fs::File::open(world.source.join(name)).unwrap().set_modified(time).unwrap();
    }
    let large = noise(6 << 20);
    fs::write(world.source.join("large 1"), large).unwrap();
    for (first, second) in [("a", "a2"), ("b", "b2"), ("c", "c2"), ("d", "d2"), ("large 1", "large 2")] {
        fs::hard_link(world.source.join(first), world.source.join(second)).unwrap();
    }
    world.back_up();
    let first = world.restore("latest", "target", &[], 0);
    let at = |name: &str| first.root.join(name);
    let relink = |from: &str, to: &str| {
        fs::remove_file(at(to)).unwrap();
        fs::hard_link(at(from), at(to)).unwrap();
    };
    // Names that should be apart are one file, names of one file are two, and strangers have come to some.
    relink("apart 1", "apart 2");
    relink("a", "b2");
    fs::remove_file(at("c2")).unwrap();
    fs::copy(at("c"), at("c2")).unwrap();
    fs::hard_link(at("alone"), at("stranger")).unwrap();
    fs::hard_link(at("d"), at("stranger of d")).unwrap();
    fs::hard_link(at("large 1"), at("large stranger")).unwrap();
    fs::remove_file(at("large 2")).unwrap();
    let second = world.restore("latest", "target", &[], 0);
    for stranger in ["stranger", "stranger of d", "large stranger"] {
        fs::write(at(stranger), "written afterwards").unwrap();
        fs::remove_file(at(stranger)).unwrap();
    }
    let third = world.restore("latest", "target", &[], 0);
    assert_same(&world.source, &third.root);
    assert_eq!((third.count("files_written"), third.count("hard_links")), (0, 5));
    assert!(second.count("files_kept") > 0);
    assert_eq!(second.count("files"), first.count("files"));
}

#[test]
fn overwriting_can_be_narrowed_and_widened() {
    let world = World::new();
    for name in ["older", "newer", "absent"] {
        fs::write(world.source.join(name), "of the snapshot").unwrap();
    }
    symlink("snapshot", world.source.join("link")).unwrap();
    world.back_up();
    let set_up = |target: &str| {
        let root = join(&world.at(target), &world.source);
        fs::create_dir_all(&root).unwrap();
        for (name, secs) in [("older", 1_000_000_000), ("newer", 5_000_000_000)] {
            fs::write(root.join(name), "mine").unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(secs);
            fs::File::open(root.join(name)).unwrap().set_modified(time).unwrap();
        }
        symlink("mine", root.join("link")).unwrap();
        root
    };
    // Which of older, newer, absent, link are of the snapshot afterwards; replaced and skipped.
    let table = [
        ("always", [true; 4], (3, 0)),
        ("if-changed", [true; 4], (3, 0)),
        ("if-newer", [true, false, true, false], (1, 2)),
        ("never", [false, false, true, false], (0, 3)),
    ];
    for (when, expected, counts) in table {
        let root = set_up(when);
        let restored = world.restore("latest", when, &["--overwrite", when], 0);
        assert_eq!((restored.count("files_replaced"), restored.count("files_skipped")), counts, "{when}");
        let is_of_snapshot = |name: &str| fs::read(root.join(name)).unwrap() == b"of the snapshot";
        let link = fs::read_link(root.join("link")).unwrap() == Path::new("snapshot");
        let found = [is_of_snapshot("older"), is_of_snapshot("newer"), is_of_snapshot("absent"), link];
        assert_eq!(found, expected, "{when}");
    }
    // The old flag had no value.
    for args in [&["restore", "--overwrite", "latest", "x"][..], &["restore", "latest", "x", "--overwrite"]] {
        world.bakfs.run(args).expect(2).says("--replace-types");
    }
    assert!(!Path::new("x").exists());
}

#[test]
fn an_include_that_matches_nothing_is_named() {
    let world = World::new();
    fs::create_dir(world.source.join("etc")).unwrap();
    fs::write(world.source.join("etc/site.conf"), "c").unwrap();
    fs::write(world.source.join("big"), "b").unwrap();
    world.back_up();
    let full = world.source.join("etc/site.conf").display().to_string();
    let of = format!("latest:{}", world.source.join("etc").display());
    // What is restored, includes, and those which match nothing.
    let table: [(&str, &[&str], &[&str]); 7] = [
        ("latest", &["nosuch"], &["nosuch"]),
        ("latest", &["*.conf", "nosuch", "big"], &["nosuch"]),
        ("latest", &["*.conf", "!site.*"], &[]),
        ("latest", &["etc/", "site.conf"], &[]),
        (&of, &["big"], &["big"]),
        // A leading slash begins the whole path, also where a part is restored.
        (&of, &[&full], &[]),
        (&of, &["/site.conf"], &["/site.conf"]),
    ];
    for (number, (what, includes, lacking)) in table.iter().enumerate() {
        let options: Vec<&str> = includes.iter().flat_map(|glob| ["--include", glob]).collect();
        let code = if lacking.is_empty() { 0 } else { 3 };
        let restored = world.restore(what, &format!("t{number}"), &options, code);
        for glob in *includes {
            let line = format!("--include {glob} matched nothing");
            assert_eq!(restored.said.contains(&line), lacking.contains(glob), "{glob}: {}", restored.said);
        }
    }
    let quiet = world.bakfs.run(["-q", "restore", "latest", "--exclude", "nosuch", world.at("e").to_str().unwrap()]);
    assert_eq!(quiet.expect(0).stderr, "");
    let outcome = world.bakfs.run(["-v", "restore", "latest", "--exclude", "nosuch", world.at("e").to_str().unwrap()]);
    outcome.expect(0).says("--exclude nosuch matched nothing");
}

/// Runs a script in a mount namespace in which `who` is a user with this number.
fn where_user_is(world: &World, number: u32, script: &str, args: &[&OsStr]) -> bakfs_testing::process::Outcome {
    for (file, line) in
        [("passwd", format!("who:x:{number}:{number}::/:/bin/sh")), ("group", format!("who:x:{number}:"))]
    {
        let own = fs::read_to_string(Path::new("/etc").join(file)).unwrap();
        fs::write(world.at(file), format!("{own}{line}\n")).unwrap();
    }
    let bind = "mount --bind \"$1/passwd\" /etc/passwd && mount --bind \"$1/group\" /etc/group && shift && ";
    let mut shell = world.bakfs.wrap("unshare");
    shell.args(["-m", "sh", "-c", &format!("{bind}{script}")]).arg(bakfs_testing::cli::program()).arg(world.at("."));
    shell.args(args);
    run(shell)
}

#[test]
fn owners_are_those_of_the_restored_accounts() {
    need_root();
    let world = World::new();
    fs::write(world.source.join("data"), "d").unwrap();
    chown(world.source.join("data"), Some(4120), Some(4120)).unwrap();
    let source = world.source.as_os_str();
    where_user_is(&world, 4120, "exec \"$0\" backup \"$1\"", &[source]).expect(0);
    let restore = |target: &str, options: &str| {
        let target = world.at(target);
        let script = format!("exec \"$0\" restore --json latest {options} \"$1\"");
        let outcome = where_user_is(&world, 4115, &script, &[target.as_os_str()]).expect(0);
        let meta = fs::metadata(join(&target, &world.source).join("data")).unwrap();
        (meta.uid(), meta.gid(), outcome)
    };
    // By name, which is told once: it changed a number.
    let (uid, gid, outcome) = restore("by name", "");
    assert_eq!((uid, gid), (4115, 4115));
    outcome.says("1 file got an owner by name").says("who was 4120 and is 4115");
    let (uid, gid, outcome) = restore("by number", "--numeric-owner");
    assert_eq!((uid, gid, outcome.stderr.as_str()), (4120, 4120, ""));
    // In the root of another system numbers are its own.
    fs::create_dir_all(world.at("system/etc")).unwrap();
    fs::write(world.at("system/etc/passwd"), "who:x:4120:4120::/:/bin/sh\n").unwrap();
    let (uid, gid, outcome) = restore("system", "");
    assert_eq!((uid, gid, outcome.stderr.as_str()), (4120, 4120, ""));
    assert_eq!(restore("system", "--owner-by-name").0, 4115);
    // So they are where the restore brings the accounts itself: /etc of this machine, and a file of this user.
    where_user_is(&world, 4120, "exec \"$0\" backup /etc/passwd \"$1\"", &[source]).expect(0);
    assert_eq!(restore("new root", "").0, 4120);
    assert_eq!(restore("without accounts", "--exclude /etc").0, 4115);
    let json = json_of(restore("new root", "").2);
    assert_eq!(json["owners_changed"], 0, "{json}");
}

#[test]
fn a_restore_cut_short_believes_nothing_it_finds() {
    need_root();
    let world = World::new();
    let large = noise(20 << 20);
    fs::write(world.source.join("large"), &large).unwrap();
    fs::write(world.source.join("small"), noise(70_000)).unwrap();
    world.back_up();
    // As a killed restore or a power cut leaves files: the whole length, zeros at the end, private, or with all
    // attributes.
    let root = join(&world.at("target"), &world.source);
    fs::create_dir_all(&root).unwrap();
    for (name, len) in [("large", 7 << 20), ("small", 4096)] {
        let file = fs::File::create(root.join(name)).unwrap();
        file.write_all_at(&large[..len], 0).unwrap();
        let whole = fs::metadata(world.source.join(name)).unwrap();
        file.set_len(whole.len()).unwrap();
        file.set_modified(whole.modified().unwrap()).unwrap();
    }
    let restored = world.restore("latest", "target", &[], 0);
    assert_eq!(restored.count("files_replaced"), 2);
    assert_same(&world.source, &root);
}

#[test]
fn a_folder_of_another_file_system_keeps_its_place() {
    need_root();
    let world = World::new();
    fs::create_dir(world.source.join("data")).unwrap();
    fs::write(world.source.join("data/file"), "d").unwrap();
    world.back_up();
    let root = join(&world.at("target"), &world.source);
    fs::create_dir_all(root.join("data")).unwrap();
    let disk = Device::memory(&world.at("disk"), 4);
    tool("mount", [OsStr::new("--bind"), disk.path().as_os_str(), root.join("data").as_os_str()]).expect(0);
    let restored = world.restore("latest", "target", &[], 0);
    let found = fs::read(root.join("data/file"));
    tool("umount", [root.join("data").as_os_str()]).expect(0);
    assert_eq!(found.unwrap(), b"d");
    assert_eq!(restored.count("errors"), 0);
    assert!(fs::read_dir(root.join("data")).unwrap().next().is_none(), "it was written to the disk");
}

#[test]
fn a_file_that_stays_stays_also_where_a_directory_is_meant() {
    let world = World::new();
    fs::create_dir(world.source.join("d")).unwrap();
    fs::write(world.source.join("d/f"), "1").unwrap();
    world.back_up();
    for (when, stays) in [("never", true), ("if-newer", true), ("if-changed", false)] {
        let root = join(&world.at(when), &world.source);
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("d"), "mine").unwrap();
        let newer = std::time::UNIX_EPOCH + std::time::Duration::from_secs(5_000_000_000);
        fs::File::open(root.join("d")).unwrap().set_modified(newer).unwrap();
        let options = ["--overwrite", when, "--replace-types"];
        let restored = world.restore("latest", when, &options, if stays { 3 } else { 0 });
        assert_eq!(fs::read(root.join("d")).is_ok_and(|mine| mine == b"mine"), stays, "{when}");
        assert_eq!(restored.said.contains("of this name stays"), stays, "{when}: {}", restored.said);
        assert_eq!(restored.count("files_replaced"), u64::from(!stays), "{when}");
    }
}

#[test]
fn a_file_with_the_name_of_anything_temporary_is_a_file() {
    let world = World::new();
    // As a restore that was killed leaves it, and as earlier versions named it for every file `x`.
    for name in ["x", ".bakfs-partial-52622147992ab4ac", ".bakfs-partial-0123456789abcdef"] {
        fs::write(world.source.join(name), name).unwrap();
    }
    world.back_up();
    let root = world.restore("latest", "target", &[], 0).root;
    fs::write(root.join("x"), "changed").unwrap();
    world.restore("latest", "target", &[], 0);
    assert_same(&world.source, &root);
}
