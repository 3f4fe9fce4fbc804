//! A file is taken over unread only when the clock of its own file system proves that it is unchanged; and what looks
//! like another file because its file system forgets inode numbers is still backed up.

use bakfs::source::read;
use bakfs::source::walk::Walk;
use bakfs_testing::cli::{Bakfs, Summary, json_of};
use bakfs_testing::need_root;
use bakfs_testing::process::tool;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A time long ago, when nothing of a test has begun.
const THEN: i64 = 1_700_000_000;
const YEAR_2040: i64 = 2_208_988_800;

/// Makes an ext4 image with these files, their last changes at these times (seconds, nanoseconds), and all the rest at
/// the first one's.
fn image(path: &Path, inode_bytes: u32, files: &[(&str, &str, (i64, u32))]) {
    let content = tempfile::tempdir().unwrap();
    for (name, text, _) in files {
        fs::write(content.path().join(name), text).unwrap();
    }
    fs::File::create(path).unwrap().set_len(4 << 20).unwrap();
    let inode = inode_bytes.to_string();
    let args = ["-q", "-F", "-O", "^has_journal", "-I", &inode, "-d"].map(Path::new);
    tool("mkfs.ext4", args.into_iter().chain([content.path(), path])).expect(0);
    let oldest = files[0].2;
    let mut script = String::new();
    let all = files.iter().map(|(name, _, at)| (format!("/{name}"), *at));
    for (name, (secs, nanos)) in all.chain(["/", "/lost+found"].map(|name| (name.to_string(), oldest))) {
        for field in ["ctime", "mtime"] {
            // The two lowest bits are of the seconds (Documentation/filesystems/ext4/inodes.rst).
            let (low, extra) = (secs & 0xffff_ffff, (nanos << 2) | (((secs + (1 << 31)) >> 32) as u32 & 3));
            script += &format!("set_inode_field {name} {field} {low:#x}\n");
            if inode_bytes > 128 {
                script += &format!("set_inode_field {name} {field}_extra {extra:#x}\n");
            }
        }
    }
    let commands = content.path().join("commands");
    fs::write(&commands, script).unwrap();
    tool("debugfs", [Path::new("-w"), Path::new("-f"), &commands, path]).expect(0);
}

/// Copies an image with other bytes in the place of some: a change that nothing but the content tells.
fn copy_with(from: &Path, to: &Path, changes: &[(&str, &str)]) {
    let mut bytes = fs::read(from).unwrap();
    for (old, new) in changes {
        let at = bytes.windows(old.len()).position(|window| window == old.as_bytes()).unwrap();
        bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
    }
    fs::write(to, bytes).unwrap();
}

struct Nights {
    bakfs: Bakfs,
    snap: PathBuf,
}

impl Nights {
    fn new() -> Nights {
        need_root();
        let bakfs = Bakfs::new();
        let snap = bakfs.make_dir("snap");
        Nights { bakfs, snap }
    }

    /// Backs an image up, through whatever loop device is free.
    fn night(&self, image: &Path) -> Summary {
        let options = ["-o", "loop,ro"].map(Path::new);
        tool("mount", options.into_iter().chain([image, &self.snap])).expect(0);
        let outcome = self.bakfs.backup_outcome([&self.snap]);
        tool("umount", [&self.snap]).expect(0);
        Summary(json_of(outcome.expect(0)))
    }

    fn content(&self, name: &str) -> String {
        self.bakfs.ok(["dump".to_string(), format!("latest:{}/{name}", self.snap.display())]).text()
    }
}

#[test]
fn a_change_in_the_tick_of_the_newest_one_is_found_in_every_later_snapshot_of_the_disk() {
    let nights = Nights::new();
    let (first, snapshot) = (nights.bakfs.path("first"), nights.bakfs.path("snapshot"));
    // Whole seconds: what is within two of them of the newest change may be another state.
    image(
        &first,
        128,
        &[("old", "old A", (THEN - 10, 0)), ("near", "near A", (THEN - 1, 0)), ("db", "db A", (THEN, 0))],
    );
    fs::copy(&first, &snapshot).unwrap();
    assert_eq!(nights.night(&snapshot).number("files_new"), 3);
    copy_with(&first, &snapshot, &[("db A", "db B"), ("near A", "near B"), ("old A", "old B")]);
    // Another loop device, as every night's snapshot is another device.
    let other = tool("losetup", [Path::new("-f"), Path::new("--show"), &first]).expect(0).text();
    let summary = nights.night(&snapshot);
    tool("losetup", ["-d", other.trim()]).expect(0);
    assert_eq!((nights.content("db"), nights.content("near")), ("db B".into(), "near B".into()));
    assert_eq!(nights.content("old"), "old A", "what has a proof is not read");
    assert_eq!((summary.number("files_unmodified"), summary.number("read_bytes")), (1, 10));

    // Without what the cache knows, the parent's tree tells the same.
    fs::remove_dir_all(nights.bakfs.path("cache")).unwrap();
    copy_with(&first, &snapshot, &[("db A", "db C"), ("old A", "old C")]);
    let summary = nights.night(&snapshot);
    assert_eq!((nights.content("db"), nights.content("old")), ("db C".into(), "old A".into()));
    assert_eq!(summary.number("files_unmodified"), 1);
}

#[test]
fn another_image_at_the_same_place_is_read() {
    let nights = Nights::new();
    let paths = ["first", "template", "clone"].map(|name| nights.bakfs.path(name));
    let [first, template, clone] = &paths;
    image(first, 128, &[("old", "old A", (THEN - 10, 0)), ("db", "db A", (THEN, 0))]);
    nights.night(first);
    // The same UUID, as machines made from one template have.
    copy_with(first, clone, &[("old A", "old B")]);
    nights.night(clone);
    assert_eq!(nights.content("old"), "old B");
    // Another UUID in the same file.
    copy_with(first, template, &[("old A", "old C")]);
    tool("tune2fs", ["-U".as_ref(), "random".as_ref(), template.as_os_str()]).expect(0);
    fs::rename(template, clone).unwrap();
    nights.night(clone);
    assert_eq!(nights.content("old"), "old C");
}

#[test]
fn another_image_does_not_lend_its_attributes_to_a_folder() {
    let nights = Nights::new();
    let paths = ["first", "second"].map(|name| nights.bakfs.path(name));
    image(&paths[0], 256, &[("old", "old A", (THEN - 10, 0)), ("db", "db A", (THEN, 0))]);
    fs::copy(&paths[0], &paths[1]).unwrap();
    let mark = |text: &str, path: &Path| {
        let command = format!("ea_set /lost+found user.mark {text}");
        tool("debugfs", [Path::new("-w"), Path::new("-R"), Path::new(&command), path]).expect(0);
    };
    mark("one", &paths[0]);
    mark("two", &paths[1]);
    paths.iter().for_each(|path| drop(nights.night(path)));
    let target = nights.bakfs.path("target");
    nights.bakfs.ok(["restore".as_ref(), "latest".as_ref(), target.as_os_str()]);
    let restored = target.join(nights.snap.strip_prefix("/").unwrap()).join("lost+found");
    let mut value = [0; 8];
    let len = rustix::fs::lgetxattr(&restored, "user.mark", &mut value).unwrap();
    assert_eq!(&value[..len], b"two");
}

#[test]
fn times_of_another_clock_are_compared_with_one_another() {
    let nights = Nights::new();
    let (first, second) = (nights.bakfs.path("first"), nights.bakfs.path("image"));
    let files = [
        ("a", "a one", (YEAR_2040, 1)),
        ("b", "b one", (YEAR_2040 + 60, 970_000_000)),
        ("c", "c one", (YEAR_2040 + 61, 5)),
    ];
    image(&first, 256, &files);
    fs::copy(&first, &second).unwrap();
    nights.night(&second);
    copy_with(&first, &second, &[("a one", "a two"), ("b one", "b two"), ("c one", "c two")]);
    nights.night(&second);
    // 30 ms before the newest change, and a minute before it.
    let now = ["a", "b", "c"].map(|name| nights.content(name));
    assert_eq!(now, ["a one", "b two", "c two"]);

    // One time of the future proves nothing of those of the past.
    let files = [("a", "a one", (THEN, 1)), ("b", "b one", (THEN + 60, 1)), ("c", "c one", (YEAR_2040, 1))];
    image(&first, 256, &files);
    fs::copy(&first, &second).unwrap();
    nights.night(&second);
    copy_with(&first, &second, &[("a one", "a two"), ("b one", "b two"), ("c one", "c two")]);
    nights.night(&second);
    assert_eq!(["a", "b", "c"].map(|name| nights.content(name)), ["a one", "b two", "c two"]);
}

#[test]
fn what_goes_on_under_one_mount_is_not_read_again_and_a_new_mount_reads_the_newest() {
    let nights = Nights::new();
    let disk = nights.bakfs.path("disk");
    image(&disk, 256, &[("a", "one", (THEN, 1)), ("b", "two", (THEN + 1, 1))]);
    let mount = || tool("mount", ["-o".as_ref(), "loop".as_ref(), disk.as_os_str(), nights.snap.as_os_str()]).expect(0);
    let again = || nights.bakfs.backup([&nights.snap]).number("read_bytes");
    mount();
    assert_eq!((again(), again(), again()), (6, 0, 0));
    tool("umount", [&nights.snap]).expect(0);
    mount();
    assert_eq!((again(), again()), (3, 0));
    tool("umount", [&nights.snap]).expect(0);
}

/// A mounted btrfs with the subvolume `live`, unmounted when dropped.
struct Btrfs(PathBuf);

impl Btrfs {
    fn new(bakfs: &Bakfs) -> Btrfs {
        need_root();
        let (image, top) = (bakfs.path("btrfs"), bakfs.make_dir("top"));
        fs::File::create(&image).unwrap().set_len(128 << 20).unwrap();
        tool("mkfs.btrfs", ["-q".as_ref(), image.as_os_str()]).expect(0);
        let table = fs::read_to_string("/proc/filesystems").unwrap();
        let btrfs = Btrfs(top);
        let mounted = tool("mount", ["-o".as_ref(), "loop".as_ref(), image.as_os_str(), btrfs.0.as_os_str()]);
        assert!(mounted.code == 0 || !table.contains("btrfs"), "{mounted}");
        btrfs
    }

    /// Returns whether the kernel has btrfs; says so if not.
    fn is_there(&self) -> bool {
        let is_there = bakfs_testing::cli::is_mounted(&self.0);
        if !is_there {
            eprintln!("SKIPPED: this kernel has no btrfs");
        }
        is_there
    }

    fn subvolume(&self, args: &[&str]) {
        let mut command = std::process::Command::new("btrfs");
        command.arg("subvolume").args(args).current_dir(&self.0);
        bakfs_testing::process::run(command).expect(0);
    }
}

impl Drop for Btrfs {
    fn drop(&mut self) {
        let _ = tool("umount", [&self.0]);
    }
}

#[test]
fn nightly_snapshots_of_btrfs_are_read_once() {
    let bakfs = Bakfs::new();
    let btrfs = Btrfs::new(&bakfs);
    if !btrfs.is_there() {
        return;
    }
    btrfs.subvolume(&["create", "live"]);
    (0..40).for_each(|number| fs::write(btrfs.0.join(format!("live/{number}")), "some bytes").unwrap());
    let snap = btrfs.0.join("snap");
    let night = |from: &str| {
        btrfs.subvolume(&["snapshot", "-r", from, "snap"]);
        let summary = bakfs.backup([&snap]);
        btrfs.subvolume(&["delete", "snap"]);
        summary.number("read_bytes")
    };
    // The newest changes may lie within a tick of the snapshot.
    bakfs_testing::until_settled(&btrfs.0.join("live"));
    assert_eq!((night("live"), night("live"), night("live")), (400, 0, 0));
    fs::write(btrfs.0.join("live/7"), "other bits").unwrap();
    assert_eq!(night("live"), 10);
    // Another subvolume has its own inode numbers from 256 on, and is another file system.
    btrfs.subvolume(&["create", "other"]);
    (0..40).for_each(|number| fs::write(btrfs.0.join(format!("other/{number}")), "more bytes").unwrap());
    assert_eq!(night("other"), 400);
}

#[test]
fn subvolumes_that_are_left_out_with_other_file_systems_are_told() {
    let bakfs = Bakfs::new();
    let btrfs = Btrfs::new(&bakfs);
    if !btrfs.is_there() {
        return;
    }
    btrfs.subvolume(&["create", "live"]);
    (0..7).for_each(|number| btrfs.subvolume(&["create", &format!("live/sub{number}")]));
    let live = btrfs.0.join("live");
    let run = |more: &[&str]| {
        let args = ["backup", "-x"].iter().chain(more).map(std::ffi::OsStr::new);
        bakfs.ok(args.chain([live.as_os_str()])).stderr
    };
    let told = run(&[]);
    assert!(told.contains("7 subvolumes are not in the backup") && told.contains("and 2 more"), "{told}");
    assert_eq!(told.matches("subvolumes").count(), 1, "{told}");
    assert!(told.contains(&format!("{}/sub0", live.display())), "{told}");
    assert!(!run(&["--exclude", "sub*"]).contains("subvolume"));
    // What is mounted there is another file system, as it was said.
    assert!(!bakfs.ok(["backup".as_ref(), live.as_os_str()]).stderr.contains("subvolume"));
}

/// An overlay over two file systems: numbers of its inodes do not last.
struct Overlay {
    folder: tempfile::TempDir,
}

impl Overlay {
    fn new(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Overlay {
        need_root();
        let folder = tempfile::tempdir_in("/srv").unwrap();
        let at = |name: &str| folder.path().join(name);
        for (path, bytes) in files {
            bakfs_testing::write(&at("lower").join(path), bytes);
        }
        fs::create_dir(at("t")).unwrap();
        tool("mount", ["-t".as_ref(), "tmpfs".as_ref(), "none".as_ref(), at("t").as_os_str()]).expect(0);
        ["t/up", "t/work", "t/m"].iter().for_each(|name| fs::create_dir(at(name)).unwrap());
        let [lower, up, work] = ["lower", "t/up", "t/work"].map(|name| at(name).display().to_string());
        let options = format!("lowerdir={lower},upperdir={up},workdir={work}");
        let overlay = Overlay { folder };
        let args = ["-t", "overlay", "none", "-o", &options].map(Path::new);
        tool("mount", args.into_iter().chain([&*overlay.path()])).expect(0);
        overlay
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("t/m")
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = tool("umount", [self.path()]);
        let _ = tool("umount", [self.folder.path().join("t")]);
    }
}

#[test]
fn inodes_whose_numbers_do_not_last_are_looked_at_twice_and_backed_up() {
    let overlay = Overlay::new((0..20).map(|number| (format!("d{number}/f"), b"x".to_vec())));
    let walk = Walk::new(0, 100);
    let listing = walk.request_root(&overlay.path()).take().unwrap();
    let below = walk.request(&listing.dir, b"d0", &listing.entries[0].stat).take().unwrap();
    let number = || fs::symlink_metadata(overlay.path().join("d7")).unwrap().ino();
    let before = number();
    bakfs_testing::until("the kernel has forgotten an inode", bakfs_testing::SOON, || {
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
        number() != before
    });
    for entry in &listing.entries {
        let taken = walk.request(&listing.dir, &entry.name, &entry.stat).take();
        assert_eq!(taken.unwrap().entries.len(), 1, "{:?}", entry.name);
    }
    let mut scanned = below.entries[0].clone();
    scanned.stat.ino += 1;
    read::open(below.dir.as_fd(), b"f", &scanned.stat).unwrap();
    // Another kind of file is none of them.
    fs::remove_file(overlay.path().join("d0/f")).unwrap();
    fs::create_dir(overlay.path().join("d0/f")).unwrap();
    assert!(read::open(below.dir.as_fd(), b"f", &scanned.stat).is_err());
}

#[test]
fn databases_on_an_overlay_are_found() {
    let mut bytes = b"SQLite format 3\0".to_vec();
    bytes.resize(4096, 0);
    let overlay = Overlay::new([("app/app.db".to_string(), bytes)]);
    let excludes = bakfs::source::exclude::Excludes::default();
    let (sources, root) = ([overlay.path()], Path::new("/"));
    let scope = bakfs::machine::survey::Scope {
        sources: &sources,
        excludes: &excludes,
        exclude_caches: true,
        root,
        min_bytes: 1 << 30,
    };
    let mut budget = bakfs::machine::survey::Budget::new(1000, bakfs_testing::SOON);
    assert_eq!(bakfs::machine::survey::survey(&scope, &mut budget).sqlite, [overlay.path().join("app/app.db")]);
}

#[test]
fn what_a_daemon_only_shows_is_kept_as_an_empty_folder() {
    need_root();
    let (bakfs, source) = Bakfs::with_source();
    let (behind, shown, data) =
        (bakfs.make_dir("behind"), bakfs.make_dir("source/lxcfs"), bakfs.make_dir("source/data"));
    fs::write(behind.join("meminfo"), "much").unwrap();
    for (kind, place) in [("lxcfs", &shown), ("sshfs", &data)] {
        let options = format!("subtype={kind}");
        tool("bindfs", ["-o".as_ref(), options.as_ref(), behind.as_os_str(), place.as_os_str()]).expect(0);
    }
    let outcome = bakfs.backup_outcome([&source]);
    let asked = bakfs.backup_outcome([&shown]);
    [&shown, &data].iter().for_each(|place| drop(tool("umount", [place]).expect(0)));
    assert_eq!(json_of(outcome.expect(0))["files_new"], 1);
    assert_eq!(json_of(asked.expect(0))["files_new"], 1, "a source that is named is backed up");
}
