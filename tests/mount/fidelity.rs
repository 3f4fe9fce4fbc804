//! Promise: the mount shows exactly the source, and `restore` brings exactly the source back, as the
//! kernel and the standard tools see it.

use bakfs_testing::cli::Bakfs;
use bakfs_testing::compare::{self, Rules};
use bakfs_testing::device::Device;
use bakfs_testing::hostile::{self, DEEP, HUGE, SPECIAL, Scale};
use bakfs_testing::tools;
use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A world with a file system that takes everything the hostile tree has.
struct World {
    device: Device,
    bakfs: Bakfs,
}

impl World {
    fn new() -> World {
        bakfs_testing::need_root();
        let bakfs = Bakfs::new();
        let device = Device::ext4(&bakfs.path("image"), &bakfs.path("fs"), 6 << 10);
        World { device, bakfs }
    }

    fn hostile() -> (World, PathBuf) {
        let world = World::new();
        let source = world.device.path().join("source");
        std::fs::create_dir(&source).unwrap();
        hostile::plant(&source, Scale::FULL);
        (world, source)
    }

    fn scratch(&self, name: &str) -> PathBuf {
        self.device.path().join(name)
    }
}

#[test]
fn the_mount_of_a_hostile_tree_is_the_tree() {
    let (world, source) = World::hostile();
    let summary = world.bakfs.backup([&source]);
    assert_eq!(summary.number("errors"), 0);
    let mount = world.bakfs.mount();
    let shown = mount.at("latest", &source);
    let report = compare::trees(&source, &shown, Rules::MOUNT);
    report.assert_same("source and mount");
    assert!(report.names > 5_700, "only {} names", report.names);
    eprintln!("{} names, {} bytes compared", report.names, report.content_bytes);
}

#[test]
fn the_tools_find_no_difference_in_a_hostile_tree() {
    let (world, source) = World::hostile();
    world.bakfs.backup([&source]);
    let mount = world.bakfs.mount();
    let shown = mount.at("latest", &source);
    tools::nothing("find", tools::find(&source, &shown, true));
    tools::nothing("du", tools::du(&source, &shown));
    tools::nothing("rsync", tools::rsync(&source, &shown, &[HUGE, DEEP]));
    tools::nothing("diff", tools::diff(&source, &shown, &[HUGE, DEEP, SPECIAL, "fifo"]));
    let archive = world.scratch("archive.tar");
    tools::nothing("tar", tools::tar_compare(&source, &shown, &archive, &[HUGE, DEEP]));
}

#[test]
fn sparse_archives_and_copies_out_of_the_mount_are_the_source() {
    let (world, source) = World::hostile();
    world.bakfs.backup([&source]);
    let mount = world.bakfs.mount();
    let shown = mount.at("latest", &source);

    let archive = world.scratch("huge.tar");
    tools::nothing("tar -S", tools::tar_create(&shown.join(HUGE), &archive, &[]));
    let archive_bytes = std::fs::metadata(&archive).unwrap().len();
    assert!(archive_bytes < 2 << 20, "2 TiB of holes made an archive of {archive_bytes} bytes");
    let unpacked = world.scratch("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    let args = ["-x", "-S", "-f"].map(OsStr::new).into_iter().chain([
        archive.as_os_str(),
        OsStr::new("-C"),
        unpacked.as_os_str(),
    ]);
    bakfs_testing::process::tool("tar", args).expect(0);
    compare::trees(&source.join(HUGE), &unpacked, Rules::CP).assert_same("the unpacked archive");

    let copy = world.scratch("copy");
    tools::copy_without(&shown, &copy, &[DEEP]);
    let everything_else = world.scratch("reference");
    tools::copy_without(&source, &everything_else, &[DEEP]);
    compare::trees(&everything_else, &copy, Rules::CP).assert_same("cp -a from the mount");
}

/// The most of /usr/share that is copied: its first folders by name that together fit.
const SHARE_LIMIT_BYTES: u64 = 600 << 20;

/// Copies /etc and /usr/share (or the part of it that fits) below `dir`.
fn copy_of_the_machine(dir: &Path) {
    tools::copy(Path::new("/etc"), &dir.join("etc"));
    std::fs::create_dir(dir.join("share")).unwrap();
    let mut names: Vec<_> = std::fs::read_dir("/usr/share").unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let (mut taken, mut left_out) = (0, Vec::new());
    for path in names {
        let size = bakfs_testing::process::tool("du", [OsStr::new("-sb"), path.as_os_str()]);
        let len: u64 = size.text().split('\t').next().unwrap().parse().unwrap();
        if taken + len > SHARE_LIMIT_BYTES {
            left_out.push(path);
            continue;
        }
        taken += len;
        tools::copy(&path, &dir.join("share").join(path.file_name().unwrap()));
    }
    eprintln!("{} MiB of /usr/share, without {left_out:?}", taken >> 20);
}

#[test]
fn etc_and_usr_share_are_the_same_through_the_mount_and_restored() {
    bakfs_testing::need_root();
    let bakfs = Bakfs::new();
    let source = bakfs.make_dir("source");
    copy_of_the_machine(&source);
    // How many blocks a file has is decided when it is written to the disk, not before.
    bakfs_testing::process::tool("sync", [OsStr::new("--file-system"), source.as_os_str()]).expect(0);
    bakfs.backup([&source]);
    let mount = bakfs.mount();
    let shown = mount.at("latest", &source);
    compare::trees(&source, &shown, Rules::MOUNT).assert_same("source and mount");
    tools::nothing("rsync", tools::rsync(&source, &shown, &[]));
    tools::nothing("diff", tools::diff(&source, &shown, &[]));
    tools::nothing("find", tools::find(&source, &shown, true));
    tools::nothing("du", tools::du(&source, &shown));
    let archive = bakfs.path("archive.tar");
    tools::nothing("tar", tools::tar_compare(&source, &shown, &archive, &[]));
    let copy = bakfs.path("copy");
    tools::copy(&shown, &copy);
    compare::trees(&source, &copy, Rules::CP).assert_same("cp -a from the mount");
    mount.unmount();
    let target = bakfs.path("target");
    bakfs.ok([OsStr::new("restore"), OsStr::new("latest"), target.as_os_str()]);
    let restored = target.join(source.strip_prefix("/").unwrap());
    compare::trees(&source, &restored, Rules::COPY).assert_same("restore");
}

/// Damages what was restored: every 5th file is gone, every 7th is cut in half.
fn damage(dir: &Path) -> usize {
    let files = bakfs_testing::files_below(dir);
    let mut damaged = 0;
    for (index, (path, len)) in files.iter().enumerate() {
        if index % 5 == 0 {
            std::fs::remove_file(path).unwrap();
            damaged += 1;
        } else if index % 7 == 0 && *len > 0 {
            std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len / 2).unwrap();
            damaged += 1;
        }
    }
    damaged
}

#[test]
fn restore_brings_a_hostile_tree_back_and_resumes() {
    let (world, source) = World::hostile();
    world.bakfs.backup([&source]);
    let target = world.scratch("target");
    let restore = [OsStr::new("restore"), OsStr::new("latest"), target.as_os_str()];
    world.bakfs.ok(restore);
    let restored = target.join(source.strip_prefix("/").unwrap());
    compare::trees(&source, &restored, Rules::COPY).assert_same("restore");

    let damaged = damage(&restored.join("sizes")) + damage(&restored.join("many"));
    assert!(damaged > 1000);
    let hurt = compare::trees(&source, &restored, Rules::COPY);
    assert!(hurt.differences.len() >= damaged);
    world.bakfs.ok(restore);
    compare::trees(&source, &restored, Rules::COPY).assert_same("resumed restore");
}

#[test]
fn restore_of_one_path_puts_it_at_its_full_path() {
    let bakfs = Bakfs::new();
    let source = bakfs.make_dir("source");
    std::fs::create_dir(source.join("wanted")).unwrap();
    std::fs::write(source.join("wanted/file"), b"wanted").unwrap();
    std::fs::write(source.join("other"), b"other").unwrap();
    bakfs.backup([&source]);
    let target = bakfs.path("target");
    let what = format!("latest:{}", source.join("wanted").display());
    bakfs.ok([OsStr::new("restore"), OsStr::new(&what), target.as_os_str()]);
    let restored = target.join(source.strip_prefix("/").unwrap());
    compare::trees(&source.join("wanted"), &restored.join("wanted"), Rules::COPY).assert_same("one path");
    assert!(!restored.join("other").exists());
}

#[test]
fn restore_never_writes_through_a_symlink_of_the_target() {
    let bakfs = Bakfs::new();
    let source = bakfs.make_dir("source");
    std::fs::create_dir(source.join("folder")).unwrap();
    std::fs::write(source.join("folder/file"), b"from the backup").unwrap();
    bakfs.backup([&source]);
    let elsewhere = bakfs.make_dir("elsewhere");
    std::fs::write(elsewhere.join("victim"), b"precious").unwrap();
    let unharmed = |what: &str| {
        let names = bakfs_testing::files_below(&elsewhere);
        assert_eq!(names, [(elsewhere.join("victim"), 8)], "{what}: written outside the target");
        assert_eq!(std::fs::read(elsewhere.join("victim")).unwrap(), b"precious", "{what}");
    };

    // A folder on the way is a link to a folder outside.
    let target = bakfs.make_dir("target");
    let restored = target.join(source.strip_prefix("/").unwrap());
    std::fs::create_dir_all(&restored).unwrap();
    symlink(&elsewhere, restored.join("folder")).unwrap();
    let restore = [OsStr::new("restore"), OsStr::new("latest"), target.as_os_str()];
    let outcome = bakfs.run(restore);
    unharmed("a folder that is a link");
    assert_ne!(outcome.code, 0, "should say that it could not restore the folder: {outcome}");
    outcome.says("folder");

    // The file itself is a link to a file outside: replaced or refused, never followed.
    std::fs::remove_file(restored.join("folder")).unwrap();
    std::fs::create_dir(restored.join("folder")).unwrap();
    symlink(elsewhere.join("victim"), restored.join("folder/file")).unwrap();
    let outcome = bakfs.run(restore);
    unharmed("a file that is a link");
    if outcome.code == 0 {
        compare::trees(&source, &restored, Rules::COPY).assert_same("restore over a link");
    } else {
        outcome.says("file");
    }
}
