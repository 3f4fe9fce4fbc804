//! Promise: work is proportional to change.

use bakfs_testing::cli::Bakfs;
use bakfs_testing::{noise, process};
use rustix::fs::{CWD, FileType, Mode};
use std::ffi::OsStr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

fn plant(dir: &Path) -> u64 {
    for folder in 0..20 {
        let path = dir.join(format!("folder-{folder}"));
        std::fs::create_dir(&path).unwrap();
        for file in 0..50 {
            std::fs::write(path.join(format!("file-{file}")), noise(folder * 50 + file, 3000)).unwrap();
        }
    }
    for large in 0..8 {
        std::fs::write(dir.join(format!("large-{large}")), noise(large, 8 << 20)).unwrap();
    }
    bakfs_testing::until_settled(dir);
    1008
}

/// Runs a backup in a shell, and returns the bytes it passed through read(2) (proc(5), `rchar`: a
/// process that ended is counted with the one that waited for it).
fn backup_rchar(bakfs: &Bakfs, source: &Path) -> u64 {
    let mut shell = bakfs.wrap("sh");
    shell.args(["-c", "\"$0\" -q backup \"$1\" && cat /proc/$$/io", env!("CARGO_BIN_EXE_bakfs")]);
    shell.arg(source);
    let text = process::run(shell).expect(0).text();
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
    line.parse().unwrap()
}

#[test]
fn a_backup_of_an_unchanged_tree_reads_and_adds_nothing() {
    let bakfs = Bakfs::new();
    // Not where other tests come and go: the folders above the source are part of the tree.
    let above = tempfile::tempdir_in("/srv").unwrap();
    let source = above.path().join("source");
    std::fs::create_dir(&source).unwrap();
    let files = plant(&source);
    let first = bakfs.backup([&source]);
    assert_eq!(first.number("files_new"), files);
    assert!(first.number("read_bytes") >= 64 << 20);
    let packs = bakfs.objects("packs");
    let (before, snapshots) = (bakfs.repo_bytes(), bakfs.objects("snapshots").len());

    let second = bakfs.backup([&source]);
    assert_eq!(bakfs.objects("packs"), packs, "no pack may be added");
    assert_eq!(bakfs.objects("snapshots").len(), snapshots + 1);
    for (field, expected) in [
        ("read_bytes", 0),
        ("added_bytes", 0),
        ("files_new", 0),
        ("files_changed", 0),
        ("files_unmodified", files),
        ("errors", 0),
    ] {
        assert_eq!(second.number(field), expected, "{field}");
    }
    let grown = bakfs.repo_bytes() - before;
    assert!(grown < 16 << 10, "an empty day adds {grown} bytes");
    let read = backup_rchar(&bakfs, &source);
    assert!(read < 8 << 20, "an unchanged tree of 64 MiB made bakfs read {read} bytes");
}

#[test]
fn a_changed_file_is_the_only_one_read() {
    let bakfs = Bakfs::new();
    let source = bakfs.make_dir("source");
    let files = plant(&source);
    bakfs.backup([&source]);
    std::fs::write(source.join("folder-3/file-7"), noise(99_999, 5000)).unwrap();
    std::fs::write(source.join("folder-3/new"), noise(99_998, 2000)).unwrap();
    let second = bakfs.backup([&source]);
    for (field, expected) in
        [("read_bytes", 7000), ("files_new", 1), ("files_changed", 1), ("files_unmodified", files - 1)]
    {
        assert_eq!(second.number(field), expected, "{field}");
    }
}

#[test]
fn one_byte_of_a_large_file_adds_a_small_part_of_it() {
    let bakfs = Bakfs::new();
    let source = bakfs.make_dir("source");
    let mut bytes = noise(5, 40 << 20);
    std::fs::write(source.join("large"), &bytes).unwrap();
    bakfs.backup([&source]);
    let before = bakfs.repo_bytes();
    bytes.insert(11 << 20, 0x5A);
    std::fs::write(source.join("large"), &bytes).unwrap();
    bakfs.backup([&source]);
    let grown = bakfs.repo_bytes() - before;
    // The chunk it lies in, at most its successor too, and metadata.
    assert!(grown < 3 << 20, "one inserted byte of 40 MiB adds {grown} bytes");
}

#[test]
fn the_same_content_is_stored_once() {
    let bakfs = Bakfs::new();
    let source = bakfs.make_dir("source");
    std::fs::write(source.join("one"), noise(5, 12 << 20)).unwrap();
    bakfs.backup([&source]);
    let before = bakfs.repo_bytes();
    std::fs::write(source.join("two"), noise(5, 12 << 20)).unwrap();
    std::fs::rename(source.join("one"), source.join("moved")).unwrap();
    bakfs.backup([&source]);
    let grown = bakfs.repo_bytes() - before;
    assert!(grown < 64 << 10, "a copy and a rename of 12 MiB add {grown} bytes");
}

/// What one name more may add, whatever the directory's size (issue 2, "Speed and memory").
const ONE_NAME_LIMIT_BYTES: u64 = 64 << 10;

#[test]
fn one_name_more_in_a_directory_of_many_adds_little() {
    let bakfs = Bakfs::new();
    let source = bakfs.make_dir("source");
    let many = source.join("many");
    std::fs::create_dir(&many).unwrap();
    for index in 0..100_000 {
        std::fs::File::create(many.join(format!("message-{index:08}.eml"))).unwrap();
    }
    let first = bakfs.backup([&source]);
    assert_eq!(first.number("files_new"), 100_000);
    let mut before = bakfs.repo_bytes();
    for name in ["message-00050000.new", "a-first-one", "zzz-a-last-one"] {
        std::fs::write(many.join(name), b"").unwrap();
        bakfs.backup([&source]);
        let grown = bakfs.repo_bytes() - before;
        assert!(grown < ONE_NAME_LIMIT_BYTES, "one name more adds {grown} bytes");
        before = bakfs.repo_bytes();
    }
    let mount = bakfs.mount();
    let shown = mount.at("latest", &many);
    assert_eq!(std::fs::read_dir(shown).unwrap().count(), 100_003);
}

/// Directories of every shape: nested, empty, of many pages; files of several names, links, a FIFO.
fn shapes(dir: &Path) {
    for folder in ["deep/one/two/three", "deep/one/side", "empty", "wide", "zoo"] {
        std::fs::create_dir_all(dir.join(folder)).unwrap();
    }
    for file in 0..3000 {
        std::fs::write(dir.join(format!("wide/file-{file:04}")), noise(file, 10)).unwrap();
    }
    for file in ["deep/one/two/three/leaf", "deep/one/two/last", "deep/one/side/file", "zoo/named"] {
        std::fs::write(dir.join(file), noise(7, 5000)).unwrap();
    }
    std::fs::hard_link(dir.join("zoo/named"), dir.join("deep/other-name")).unwrap();
    symlink("leaf", dir.join("deep/one/two/three/link")).unwrap();
    rustix::fs::mknodat(CWD, dir.join("zoo/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
}

type Change = (&'static str, fn(&Path));

#[test]
fn a_tree_taken_over_in_part_is_the_tree_read_anew() {
    let bakfs = Bakfs::new();
    let source = bakfs.make_dir("source");
    shapes(&source);
    let changes: [Change; 11] = [
        ("nothing", |_| {}),
        ("a file deep down", |dir| std::fs::write(dir.join("deep/one/two/three/leaf"), b"new").unwrap()),
        ("the last of many names", |dir| std::fs::remove_file(dir.join("wide/file-2999")).unwrap()),
        ("the first of many names", |dir| std::fs::remove_file(dir.join("wide/file-0000")).unwrap()),
        ("a name between many", |dir| std::fs::write(dir.join("wide/file-1500-new"), b"").unwrap()),
        ("a directory's mode", |dir| {
            std::fs::set_permissions(dir.join("deep/one"), PermissionsExt::from_mode(0o700)).unwrap();
        }),
        ("a name more of a file", |dir| std::fs::hard_link(dir.join("zoo/named"), dir.join("empty/third")).unwrap()),
        ("a file that becomes a directory", |dir| {
            std::fs::remove_file(dir.join("deep/one/two/last")).unwrap();
            std::fs::create_dir(dir.join("deep/one/two/last")).unwrap();
        }),
        ("a directory moved", |dir| std::fs::rename(dir.join("deep/one/side"), dir.join("zoo/side")).unwrap()),
        ("a tree gone", |dir| std::fs::remove_dir_all(dir.join("deep/one")).unwrap()),
        ("nothing again", |_| {}),
    ];
    let backup = |host: &str| bakfs.backup([OsStr::new("--host"), OsStr::new(host), source.as_os_str()]);
    bakfs_testing::until_settled(&source);
    backup("daily");
    for (number, (what, change)) in changes.into_iter().enumerate() {
        change(&source);
        bakfs_testing::until_settled(&source);
        let built = backup("daily");
        // Another host has no parent: all is read.
        let read = backup(&format!("anew-{number}"));
        for field in ["files", "content_bytes", "errors"] {
            assert_eq!(built.number(field), read.number(field), "{field} after {what}");
        }
        let counted = ["files_new", "files_changed", "files_unmodified"].map(|field| built.number(field));
        assert_eq!(counted.iter().sum::<u64>(), read.number("files_new"), "after {what}");
        assert!(counted[2] + 8 > read.number("files_new"), "{what} makes {counted:?}");
        // Above the source lies a folder that other tests change.
        let snapshots = [built.snapshot(), read.snapshot()].map(OsStr::new);
        bakfs.run([OsStr::new("diff"), snapshots[0], snapshots[1], source.as_os_str()]).expect(0);
    }
    bakfs.ok(["check", "--read-data"]);
}
