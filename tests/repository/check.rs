//! Promise: `check --read-data` notices every change of a stored object, names it, and names the paths
//! that cannot be read and no others. What it says to do next works.

use bakfs::repo::open::Options;
use bakfs::repo::read::chunk_kind::ChunkKind;
use bakfs::repo::{Memory, Repository};
use bakfs::store::Wait;
use bakfs_testing::cli::{Bakfs, json_of};
use bakfs_testing::process::Outcome;
use bakfs_testing::{files_below, noise};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn world(encryption: &str) -> (Bakfs, PathBuf) {
    let bakfs = Bakfs::empty();
    bakfs.ok(["init", "--encryption", encryption]);
    let source = bakfs.make_dir("source");
    for file in 0..4 {
        std::fs::write(source.join(format!("large{file}")), noise(file, 300_000)).unwrap();
        std::fs::write(source.join(format!("small{file}")), noise(100 + file, 900)).unwrap();
    }
    std::fs::create_dir(source.join("folder")).unwrap();
    // More extents than an entry holds itself.
    std::fs::write(source.join("folder/list"), noise(50, 5_000_000)).unwrap();
    at(&bakfs, 1, &source);
    std::fs::write(source.join("folder/new"), noise(60, 20_000)).unwrap();
    at(&bakfs, 2, &source);
    (bakfs, source)
}

fn at(bakfs: &Bakfs, day: u32, source: &Path) {
    bakfs.backup_at(&format!("2026-03-0{day}T03:00:00Z"), source);
}

/// Replaces an object's bytes (`None` removes it), looks, and puts it right again.
fn with_bytes<T>(object: &Path, bytes: Option<&[u8]>, look: impl FnOnce() -> T) -> T {
    let original = std::fs::read(object).unwrap();
    std::fs::remove_file(object).unwrap();
    if let Some(bytes) = bytes {
        std::fs::write(object, bytes).unwrap();
    }
    let seen = look();
    let _ = std::fs::remove_file(object);
    std::fs::write(object, original).unwrap();
    seen
}

fn damages(original: &[u8]) -> Vec<(String, Vec<u8>)> {
    let len = original.len();
    let flips = [0, 8, 9, 10, 11, 13, 20, 40, 70, 100, 130, len / 3, len / 2, len - 30, len - 12, len - 1];
    let flip = |at: &usize| {
        let mut bytes = original.to_vec();
        bytes[*at] ^= 0x10;
        (format!("flip at {at}"), bytes)
    };
    let cut = |len: usize| (format!("cut to {len}"), original[..len].to_vec());
    let mut all: Vec<_> = flips.iter().filter(|at| **at < len).map(flip).collect();
    all.extend([0, 10, len / 2, len - 1].map(cut));
    all.push(("longer".into(), [original, b"x"].concat()));
    all
}

fn text(outcome: &Outcome) -> String {
    format!("{}{}", outcome.text(), outcome.stderr)
}

fn id(object: &Path) -> &str {
    object.file_name().unwrap().to_str().unwrap()
}

#[test]
fn every_change_of_every_object_is_noticed_and_named() {
    for encryption in ["aes256", "none"] {
        let (bakfs, _) = world(encryption);
        bakfs.ok(["check"]);
        bakfs.ok(["check", "--read-data"]);
        let mut tried = 0;
        for (object, _) in ["packs", "index", "snapshots", "keys"].iter().flat_map(|kind| bakfs.objects(kind)) {
            for (what, bytes) in damages(&std::fs::read(&object).unwrap()) {
                let outcome = with_bytes(&object, Some(&bytes), || bakfs.run(["check", "--read-data"])).expect(1);
                assert!(text(&outcome).contains(id(&object)), "{what} of {object:?}: {outcome}");
                tried += 1;
            }
        }
        assert!(tried > 100, "{tried}");
        let config = bakfs.repo().join("config");
        for (what, bytes) in damages(&std::fs::read(&config).unwrap()) {
            let outcome = with_bytes(&config, Some(&bytes), || bakfs.run(["check", "--read-data"])).refused();
            assert!(text(&outcome).contains("configuration"), "{what}: {outcome}");
        }
        bakfs.ok(["check", "--read-data"]);
    }
}

#[test]
fn objects_that_are_missing_or_swapped_are_named() {
    let (bakfs, _) = world("aes256");
    for (pack, _) in bakfs.objects("packs") {
        for options in [&["check"][..], &["check", "--read-data"]] {
            let outcome = with_bytes(&pack, None, || bakfs.run(options)).expect(1);
            assert!(text(&outcome).contains(id(&pack)) && text(&outcome).contains("missing"), "{outcome}");
        }
    }
    for (index, _) in bakfs.objects("index") {
        let outcome = with_bytes(&index, None, || bakfs.run(["check"])).expect(1);
        assert!(text(&outcome).contains("no index object names packs/"), "{outcome}");
    }
    for kind in ["packs", "index", "snapshots"] {
        let objects = bakfs.objects(kind);
        let [(a, _), (b, _)] = &objects[..2] else { panic!("there are two {kind}") };
        let (first, second) = (std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
        let outcome =
            with_bytes(a, Some(&second), || with_bytes(b, Some(&first), || bakfs.run(["check", "--read-data"])));
        let outcome = outcome.expect(1);
        assert!(text(&outcome).contains(id(a)) && text(&outcome).contains(id(b)), "{outcome}");
    }
    bakfs.ok(["check", "--read-data"]);
}

/// Returns the paths of the second day that a check names.
fn named(report: &Value) -> BTreeSet<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    let paths = findings.flat_map(|finding| finding["affected"].as_array().unwrap());
    let last = paths.filter(|path| path["last"] == "2026-03-02T03-00-00Z");
    last.map(|path| path["path"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_paths_named_are_those_that_cannot_be_read() {
    let (bakfs, source) = world("aes256");
    let mut costly = 0;
    for (pack, len) in bakfs.objects("packs") {
        let original = std::fs::read(&pack).unwrap();
        for per_mille in [20, 200, 400, 600, 800, 950] {
            let mut bytes = original.clone();
            bytes[len as usize * per_mille / 1000] ^= 1;
            with_bytes(&pack, Some(&bytes), || {
                let report = json_of(bakfs.run(["--json", "check", "--read-data"]).expect(1));
                let named = named(&report);
                for (path, _) in files_below(&source) {
                    let dump = bakfs.run(["dump", &format!("2026-03-02:{}", path.display())]);
                    let inside = |folder: &String| path.starts_with(folder);
                    assert_eq!(named.iter().any(inside), dump.code != 0, "{per_mille} of {pack:?}: {path:?}, {report}");
                    if dump.code == 0 {
                        assert!(dump.stdout == std::fs::read(&path).unwrap(), "{path:?}");
                    } else {
                        costly += 1;
                    }
                }
            });
        }
    }
    assert!(costly > 5, "damage costs something: {costly}");
}

#[test]
fn the_way_back_from_a_lost_pack_works() {
    let (bakfs, source) = world("aes256");
    let data = bakfs.objects("packs").into_iter().max_by_key(|(_, len)| *len).unwrap().0;
    std::fs::remove_file(&data).unwrap();
    let outcome = bakfs.run(["check"]).expect(1);
    assert!(text(&outcome).contains("`bakfs repair`") && text(&outcome).contains("`bakfs backup`"), "{outcome}");
    bakfs.run(["repair"]).expect(3);
    at(&bakfs, 3, &source);
    bakfs.ok(["check", "--read-data"]);
    for day in 1..=3 {
        let dump = bakfs.ok(["dump", &format!("2026-03-0{day}:{}", source.join("large0").display())]);
        assert!(dump.stdout == noise(0, 300_000), "day {day}");
    }
}

#[test]
fn what_an_interrupted_backup_leaves_is_no_damage() {
    let (bakfs, source) = world("aes256");
    let kinds = ["index", "snapshots"];
    let before = kinds.map(|kind| bakfs.objects(kind));
    std::fs::write(source.join("later"), noise(70, 50_000)).unwrap();
    at(&bakfs, 3, &source);
    for (kind, before) in kinds.iter().zip(before) {
        let new = bakfs.objects(kind).into_iter().filter(|object| !before.contains(object));
        new.for_each(|(object, _)| std::fs::remove_file(object).unwrap());
    }
    // Its snapshot was never there to be seen.
    std::fs::remove_dir_all(bakfs.path("state/known")).unwrap();
    let report = bakfs.json(["check", "--read-data"]);
    assert_eq!((&report["damaged"], &report["leftover_packs"]), (&false.into(), &2.into()), "{report}");
    assert_eq!(report["snapshots"], 2);
}

#[test]
fn a_damaged_page_of_one_side_makes_no_differences_up() {
    let (bakfs, source) = world("aes256");
    let before: BTreeSet<_> = bakfs.objects("packs").into_iter().collect();
    std::fs::create_dir(source.join("zone")).unwrap();
    std::fs::write(source.join("zone/added"), b"added").unwrap();
    at(&bakfs, 3, &source);
    bakfs.run(["diff", "2026-03-02", "2026-03-03"]).expect(1);
    let new: Vec<_> = bakfs.objects("packs").into_iter().filter(|pack| !before.contains(pack)).collect();
    for (pack, len) in new {
        let mut bytes = std::fs::read(&pack).unwrap();
        // Frame 0 follows the header of 64 bytes and its key slot of 48.
        bytes[120.min(len as usize - 1)] ^= 1;
        let is_tree = bytes[9] == 4;
        let outcome = with_bytes(&pack, Some(&bytes), || bakfs.run(["diff", "2026-03-02", "2026-03-03"]));
        if is_tree {
            // The new root cannot be read: nothing is known to be added or removed.
            assert_eq!((outcome.code, outcome.text().as_str()), (3, ""), "{outcome}");
            assert!(outcome.stderr.contains("bakfs check"), "{outcome}");
        }
    }
}

#[test]
fn readers_go_on_while_damage_makes_another_look_again() {
    let (bakfs, source) = world("none");
    let cache = bakfs.make_dir("own-cache");
    let options =
        Options { cache_base: Some(&cache), memory: Memory { frames_bytes: 0, pages_bytes: 0 }, ..Options::default() };
    for _ in 0..4 {
        let repository = Repository::open(&bakfs.repo(), &options, |_| Ok(Vec::new())).unwrap();
        let snapshot = repository.snapshots().unwrap().pop().unwrap().snapshot;
        let path = source.join("folder/list");
        let entry = repository.resolve(&snapshot, path.as_os_str().as_encoded_bytes()).unwrap().unwrap();
        let bakfs::format::tree::Node::File(content) = &entry.node else { panic!("a file") };
        let missing = bakfs::id::ChunkId([7; 32]);
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut rounds = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) || rounds == 0 {
                    let mut bytes = Vec::new();
                    let size = entry.meta.size_bytes;
                    let read = repository.read_content(content, size, 0, size as usize, Wait::Allowed, &mut bytes);
                    read.unwrap_or_else(|error| panic!("a sound file: {}", error.chain()));
                    rounds += 1;
                }
            });
            let wrong = repository.read_chunk(ChunkKind::Data, &missing, 0..1, Wait::Allowed, &mut Vec::new());
            assert!(wrong.is_err());
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            reader.join().unwrap();
        });
    }
}

#[test]
fn more_bytes_than_can_be_counted_are_no_damage() {
    bakfs_testing::need_root();
    let (bakfs, source) = Bakfs::with_source();
    // Three of them have more bytes than 64 bits count; tmpfs, XFS and btrfs let everybody make them.
    let disk = bakfs_testing::device::Device::memory(&source.join("tmp"), 4);
    for name in [".x1", ".x2", ".x3"] {
        let file = std::fs::File::create(disk.path().join(name)).unwrap();
        file.set_len(9_223_372_036_854_771_712).unwrap();
    }
    std::fs::write(disk.path().join("data"), "precious").unwrap();
    for _ in 0..2 {
        bakfs.backup([&source]);
        bakfs.ok(["check", "--read-data"]);
    }
    assert!(!bakfs.ok(["repair"]).text().contains("Lost"));
    for args in [&["stats"][..], &["stats", "latest"], &["snapshots"], &["ls", "-lR", "latest"], &["find", ".x1"]] {
        bakfs.ok(args);
    }
    // An archive comes to its end: holes have no bytes in it.
    let data = format!("{}/tmp/data", source.display());
    let archive = bakfs.ok(["dump", "--archive", "tar", "latest"]).stdout;
    assert!(archive.len() < 1 << 20, "{} bytes", archive.len());
    let path = bakfs.path("archive.tar");
    std::fs::write(&path, archive).unwrap();
    let mut tar = std::process::Command::new("tar");
    tar.arg("-xOf").arg(&path).arg(&data[1..]);
    assert_eq!(bakfs_testing::process::run(tar).expect(0).text(), "precious");
    let target = disk.path().join("target");
    let restored = bakfs.ok(["-q".as_ref(), "restore".as_ref(), "latest".as_ref(), target.as_os_str()]);
    assert_eq!(restored.stderr, "");
    bakfs.ok(["restore".as_ref(), "latest".as_ref(), target.as_os_str()]);
}

#[test]
fn attributes_without_number_cost_nothing_else() {
    bakfs_testing::need_root();
    let (bakfs, source) = Bakfs::with_source();
    // tmpfs, XFS and btrfs let everybody give a file more attributes than a page of a directory holds.
    let disk = bakfs_testing::device::Device::memory(&source.join("tmp"), 32);
    for name in ["file", "other"] {
        std::fs::write(disk.path().join(name), name).unwrap();
    }
    let value = vec![7; 65_000];
    for number in 0..80 {
        let set = |path: &Path, name: &str| rustix::fs::setxattr(path, name, &value, rustix::fs::XattrFlags::empty());
        if set(&disk.path().join("file"), &format!("user.a{number}")).is_err() {
            assert!(number == 0, "the file system takes some attributes and not others");
            return eprintln!("memory has no attributes here: nothing was tried");
        }
    }
    let outcome = bakfs.backup_outcome([&source]).expect(3);
    outcome.says("of its 80 extended attributes were left out");
    bakfs.ok(["check", "--read-data"]);
    let target = bakfs.path("target");
    let other = format!("latest:{}", disk.path().join("other").display());
    bakfs.ok(["restore".as_ref(), other.as_ref(), target.as_os_str()]);
    let restored = target.join(disk.path().strip_prefix("/").unwrap()).join("other");
    assert_eq!(std::fs::read(restored).unwrap(), b"other");
}
