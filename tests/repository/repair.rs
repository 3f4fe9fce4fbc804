//! Promise: `bakfs repair` makes the index name what can be read and nothing else, deletes nothing good,
//! and the next backup stores again what the source still has.

use bakfs_testing::cli::{Bakfs, json_of};
use bakfs_testing::noise;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

const DATA_PACK: u8 = 3;
const TREE_PACK: u8 = 4;

/// Two days of files, small ones too.
fn world(encryption: &str) -> (Bakfs, PathBuf) {
    let bakfs = Bakfs::empty();
    bakfs.ok(["init", "--encryption", encryption]);
    let source = bakfs.make_dir("source");
    fill(&bakfs, &source);
    (bakfs, source)
}

/// Fills a source and backs it up on two days.
fn fill(bakfs: &Bakfs, source: &Path) {
    for file in 0..8u64 {
        std::fs::write(source.join(format!("large{file}")), noise(file, 300_000)).unwrap();
        std::fs::create_dir(source.join(format!("folder{file}"))).unwrap();
        std::fs::write(source.join(format!("folder{file}/small")), noise(100 + file, 900)).unwrap();
    }
    at(bakfs, 1, source);
    std::fs::write(source.join("folder0/new"), noise(60, 400_000)).unwrap();
    at(bakfs, 2, source);
}

fn at(bakfs: &Bakfs, day: u32, source: &Path) {
    let time = format!("2026-03-0{day}T03:00:00Z");
    bakfs.backup([OsStr::new("--time"), OsStr::new(&time), source.as_os_str()]);
}

fn objects(bakfs: &Bakfs, kind: &str) -> Vec<PathBuf> {
    bakfs.objects(kind).into_iter().map(|(path, _)| path).collect()
}

/// Returns the longest pack of a kind.
fn pack(bakfs: &Bakfs, kind: u8) -> PathBuf {
    let is_kind = |(path, _): &(PathBuf, u64)| std::fs::read(path).unwrap()[9] == kind;
    bakfs.objects("packs").into_iter().filter(is_kind).max_by_key(|(_, len)| *len).unwrap().0
}

fn replace(object: &Path, bytes: &[u8]) {
    let _ = std::fs::remove_file(object);
    std::fs::write(object, bytes).unwrap();
}

fn flip(object: &Path, at: usize) {
    let mut bytes = std::fs::read(object).unwrap();
    bytes[at] ^= 1;
    replace(object, &bytes);
}

/// Returns every file of a repository but what sessions leave behind, with its bytes.
fn content(bakfs: &Bakfs) -> BTreeMap<PathBuf, Vec<u8>> {
    let all = ["packs", "index", "snapshots", "keys"].iter().flat_map(|kind| objects(bakfs, kind));
    all.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn repair(bakfs: &Bakfs, args: &[&str], code: i32) -> Value {
    json_of(bakfs.run(["--json", "repair"].iter().chain(args)).expect(code))
}

fn number(report: &Value, field: &str) -> u64 {
    report[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {report}"))
}

/// Asserts that all files of a day are those of the source or cannot be read, and returns the latter.
fn lost(bakfs: &Bakfs, day: u32, source: &Path) -> Vec<String> {
    let files =
        bakfs_testing::files_below(source).into_iter().filter(|(path, _)| day > 1 || !path.ends_with("folder0/new"));
    let lost = |(path, _): &(PathBuf, u64)| {
        let dump = bakfs.run(["dump", &format!("2026-03-0{day}:{}", path.display())]);
        assert!(dump.code != 0 || dump.stdout == std::fs::read(path).unwrap(), "{path:?}");
        dump.code != 0
    };
    files.filter(lost).map(|(path, _)| path.to_str().unwrap().to_owned()).collect()
}

/// Like [`lost`], and tells how many.
fn unreadable(bakfs: &Bakfs, day: u32, source: &Path) -> usize {
    lost(bakfs, day, source).len()
}

#[test]
fn damaged_content_is_named_dropped_and_healed_by_the_next_backup() {
    for encryption in ["aes256", "none"] {
        let (bakfs, source) = world(encryption);
        let damaged = pack(&bakfs, DATA_PACK);
        let middle = std::fs::metadata(&damaged).unwrap().len() as usize / 2;
        flip(&damaged, middle);
        let outcome = bakfs.run(["check", "--read-data"]).expect(1);
        // A damaged frame costs a chunk of a large file, or the ends of some that share it with small ones.
        let (first, second) = (lost(&bakfs, 1, &source), lost(&bakfs, 2, &source));
        assert!(!second.is_empty() && second.len() < 15, "{second:?}");
        assert!(outcome.text().contains("`bakfs repair`"), "{outcome}");
        assert!(second.iter().all(|path| outcome.text().contains(path)), "{second:?}: {outcome}");
        let before = content(&bakfs);

        let dry = repair(&bakfs, &["--dry-run"], 3);
        assert!(number(&dry, "lost_chunks") > 0, "{dry}");
        assert!(content(&bakfs) == before, "a dry run changes nothing");
        let done = repair(&bakfs, &[], 3);
        assert_eq!((&done["lost_chunks"], &done["saved_chunks"]), (&dry["lost_chunks"], &dry["saved_chunks"]));
        assert!(second.iter().all(|path| done["lost"].to_string().contains(path)), "{second:?}: {done}");
        let after = content(&bakfs);
        for (path, bytes) in before.iter().filter(|(path, _)| !path.parent().unwrap().ends_with("index")) {
            assert!(after.get(path) == Some(bytes), "{path:?} is left as it was");
        }
        // Everything else is read from sound packs; what is lost is told as before.
        assert_eq!((lost(&bakfs, 1, &source), lost(&bakfs, 2, &source)), (first, second.clone()));
        let outcome = bakfs.run(["check", "--read-data"]).expect(1);
        assert!(outcome.text().contains("no pack has chunk"), "{outcome}");
        assert!(second.iter().all(|path| outcome.text().contains(path)), "{second:?}: {outcome}");
        assert!(!outcome.text().contains(damaged.file_name().unwrap().to_str().unwrap()), "{outcome}");
        let again = repair(&bakfs, &["--read-data"], 3);
        assert_eq!(again["changed"], false, "{again}");
        assert!(content(&bakfs) == after, "a second repair does nothing");

        at(&bakfs, 3, &source);
        let report = bakfs.json(["check", "--read-data"]);
        assert_eq!((&report["damaged"], number(&report, "set_aside_packs")), (&false.into(), 1), "{report}");
        assert!((1..=3).all(|day| unreadable(&bakfs, day, &source) == 0), "older days are whole again");
        assert_eq!(repair(&bakfs, &["--read-data"], 0)["changed"], false);
    }
}

#[test]
fn damage_that_is_known_is_healed_by_a_backup_without_a_repair() {
    let (bakfs, source) = world("aes256");
    let damaged = pack(&bakfs, DATA_PACK);
    let middle = std::fs::metadata(&damaged).unwrap().len() as usize / 2;
    flip(&damaged, middle);
    bakfs.run(["check", "--read-data"]).expect(1);
    at(&bakfs, 3, &source);
    assert!((1..=3).all(|day| unreadable(&bakfs, day, &source) == 0));
    let report = json_of(bakfs.run(["--json", "check"]).expect(1));
    assert!(report["findings"].as_array().unwrap().iter().all(|found| found["affected"] == serde_json::json!([])));
    assert_eq!(number(&repair(&bakfs, &[], 0), "lost_chunks"), 0);
    assert_eq!(bakfs.json(["check", "--read-data"])["damaged"], false);
}

#[test]
fn damaged_pages_of_the_last_snapshot_are_stored_again() {
    for known in [false, true] {
        let bakfs = Bakfs::empty();
        bakfs.ok(["init", "--encryption", "none"]);
        // Not where other tests come and go: the folders above the source are to stay as they are.
        let above = tempfile::tempdir_in("/var/tmp").unwrap();
        let source = above.path().join("source");
        std::fs::create_dir(&source).unwrap();
        fill(&bakfs, &source);
        for tree in objects(&bakfs, "packs").iter().filter(|path| std::fs::read(path).unwrap()[9] == TREE_PACK) {
            flip(tree, 200);
        }
        if known {
            bakfs.run(["check"]).expect(1);
            repair(&bakfs, &[], 3);
        }
        at(&bakfs, 3, &source);
        assert_eq!(unreadable(&bakfs, 3, &source), 0, "known: {known}");
        let report = json_of(bakfs.run(["--json", "check"]));
        let last = report["findings"].to_string().contains("2026-03-03");
        assert!(!last, "the new snapshot is whole: {report}");
        // The directories that have not changed since are whole in the old one too.
        assert_eq!(unreadable(&bakfs, 2, &source), 0, "known: {known}");
    }
}

#[test]
fn a_lost_pack_is_dropped_and_healed() {
    let (bakfs, source) = world("aes256");
    let lost = pack(&bakfs, DATA_PACK);
    std::fs::remove_file(&lost).unwrap();
    bakfs.run(["check"]).expect(1).text().contains("`bakfs repair`").then_some(()).unwrap();
    let done = repair(&bakfs, &[], 3);
    let id = lost.file_name().unwrap().to_str().unwrap();
    assert_eq!(done["missing_packs"], serde_json::json!([id]), "{done}");
    assert!(number(&done, "lost_chunks") > 5);
    assert_eq!(repair(&bakfs, &[], 3)["changed"], false);
    at(&bakfs, 3, &source);
    assert_eq!(bakfs.json(["check", "--read-data"])["damaged"], false);
    assert!((1..=3).all(|day| unreadable(&bakfs, day, &source) == 0));
}

#[test]
fn a_pack_that_was_lost_and_comes_back_is_named_again() {
    let (bakfs, source) = world("aes256");
    let lost = pack(&bakfs, DATA_PACK);
    let bytes = std::fs::read(&lost).unwrap();
    std::fs::remove_file(&lost).unwrap();
    repair(&bakfs, &[], 3);
    replace(&lost, &bytes);
    assert_eq!(number(&repair(&bakfs, &[], 0), "named_packs"), 1);
    assert_eq!(bakfs.json(["check", "--read-data"])["damaged"], false);
    assert_eq!(unreadable(&bakfs, 2, &source), 0);
    // One that was set aside and is brought back as it was gives what is lost.
    flip(&lost, 1000);
    bakfs.run(["check", "--read-data"]).expect(1);
    let gone = number(&repair(&bakfs, &[], 3), "lost_chunks");
    assert!(gone > 0);
    replace(&lost, &bytes);
    assert_eq!(number(&repair(&bakfs, &[], 0), "saved_chunks"), gone);
    assert_eq!(unreadable(&bakfs, 1, &source), 0);
    assert_eq!(bakfs.json(["check", "--read-data"])["damaged"], false);
}

#[test]
fn a_lost_or_damaged_index_is_made_again_from_the_packs() {
    let damages: [&dyn Fn(&Path); 4] = [
        &|object| std::fs::remove_file(object).unwrap(),
        &|object| flip(object, 150),
        &|object| replace(object, b""),
        &|object| replace(object, &[&std::fs::read(object).unwrap()[..], b"x"].concat()),
    ];
    for (case, damage) in damages.iter().enumerate() {
        for all in [false, true] {
            let (bakfs, source) = world("aes256");
            let index = objects(&bakfs, "index");
            index.iter().take(if all { index.len() } else { 1 }).for_each(|object| damage(object));
            let packs = content(&bakfs);
            if case > 0 {
                bakfs.run(["check"]).expect(1);
            }
            let done = repair(&bakfs, &[], 0);
            assert!(number(&done, "named_packs") > 0 && number(&done, "index_written") > 0, "{case} {all}: {done}");
            assert_eq!(repair(&bakfs, &[], 0)["changed"], false);
            let after = content(&bakfs);
            let kept = |path: &PathBuf| path.to_str().unwrap().contains("/packs/");
            assert!(packs.iter().filter(|(path, _)| kept(path)).all(|(path, bytes)| after.get(path) == Some(bytes)));
            assert_eq!(bakfs.json(["check", "--read-data"])["damaged"], false, "{case} {all}");
            assert_eq!(unreadable(&bakfs, 2, &source), 0);
            bakfs.ok(["snapshots"]).stderr.is_empty().then_some(()).expect("no warning is left");
        }
    }
}

#[test]
fn every_part_of_a_pack_may_be_damaged() {
    let (bakfs, source) = world("aes256");
    for (kind, name) in [(DATA_PACK, "content"), (TREE_PACK, "tree")] {
        let damaged = pack(&bakfs, kind);
        let original = std::fs::read(&damaged).unwrap();
        let before = content(&bakfs);
        let len = original.len();
        // Header, key, first frame, directory, trailer; cut off, longer, empty.
        let flips = [20, 70, 130, len - 40, len - 5].map(|at| {
            let mut bytes = original.clone();
            bytes[at] ^= 1;
            bytes
        });
        let cut = [original[..len - 30].to_vec(), [&original[..], b"x"].concat(), Vec::new()];
        for (case, bytes) in flips.into_iter().chain(cut).enumerate() {
            replace(&damaged, &bytes);
            bakfs.run(["check", "--read-data"]).expect(1);
            let outcome = bakfs.run(["--json", "repair"]);
            assert!(matches!(outcome.code, 0 | 3), "{name} {case}: {outcome}");
            let report = json_of(bakfs.run(["--json", "check", "--read-data"]));
            assert_eq!(report["damaged"], outcome.code == 3, "{name} {case}: {outcome} {report}");
            let again = json_of(bakfs.run(["--json", "repair", "--read-data"]));
            assert_eq!(again["changed"], false, "{name} {case}: {again}");
            assert!(std::fs::read(&damaged).unwrap() == bytes, "{name} {case}: the pack is left where it is");
            let backup = bakfs.backup_outcome([source.as_os_str()]).expect(0);
            assert!(!backup.stderr.contains("another length"), "{name} {case}: it is known: {backup}");
            // As it was.
            for path in content(&bakfs).into_keys().filter(|path| !before.contains_key(path)) {
                std::fs::remove_file(path).unwrap();
            }
            before.iter().for_each(|(path, bytes)| replace(path, bytes));
            ["cache", "state/known"].iter().for_each(|name| drop(std::fs::remove_dir_all(bakfs.path(name))));
            bakfs.make_dir("cache");
            assert_eq!(bakfs.json(["check", "--read-data"])["damaged"], false, "{name} {case}");
        }
    }
    assert_eq!(unreadable(&bakfs, 2, &source), 0);
}

#[test]
fn what_cannot_be_repaired_is_named_and_kept() {
    let (bakfs, _) = world("aes256");
    let snapshot = objects(&bakfs, "snapshots").pop().unwrap();
    let original = std::fs::read(&snapshot).unwrap();
    flip(&snapshot, 200);
    let done = repair(&bakfs, &[], 3);
    assert!(done["lost"].to_string().contains(snapshot.file_name().unwrap().to_str().unwrap()), "{done}");
    assert!(snapshot.exists());
    replace(&snapshot, &original);
    // A folder of packs that is not there is a disk that is not there.
    let before = content(&bakfs);
    let packs = objects(&bakfs, "packs");
    packs.iter().for_each(|pack| std::fs::remove_file(pack).unwrap());
    bakfs.run(["repair"]).refused().says("no packs at all");
    packs.iter().for_each(|pack| replace(pack, &before[pack]));
    assert!(content(&bakfs) == before);
    assert_eq!(repair(&bakfs, &[], 0)["changed"], false);
}

#[test]
fn damaged_marks_are_named_and_removed() {
    let (bakfs, source) = world("aes256");
    bakfs.ok(["check"]);
    let mark = bakfs.repo().join("marks").join("ab".repeat(32));
    std::fs::create_dir_all(mark.parent().unwrap()).unwrap();
    std::fs::write(&mark, b"no mark").unwrap();
    let outcome = bakfs.run(["check"]).expect(1);
    assert!(outcome.text().contains(&"ab".repeat(32)), "{outcome}");
    assert_eq!(number(&repair(&bakfs, &["--dry-run"], 0), "index_written"), 0);
    assert!(mark.exists());
    let done = repair(&bakfs, &[], 0);
    assert_eq!(done["damaged_marks"], serde_json::json!(["ab".repeat(32)]), "{done}");
    assert!(!mark.exists());
    bakfs.ok(["check"]);
    assert_eq!(unreadable(&bakfs, 2, &source), 0);
}

#[test]
fn a_prune_keeps_the_copy_that_can_be_read() {
    // Which of two copies comes first is chance: ids of objects are random.
    for round in 0..6 {
        let (bakfs, source) = world("aes256");
        let damaged = pack(&bakfs, DATA_PACK);
        let middle = std::fs::metadata(&damaged).unwrap().len() as usize / 2;
        flip(&damaged, middle);
        bakfs.run(["check", "--read-data"]).expect(1);
        at(&bakfs, 3, &source);
        // Another machine, which knows nothing of the damage, prunes; and one that has repaired it.
        std::fs::remove_dir_all(bakfs.path("cache")).unwrap();
        bakfs.make_dir("cache");
        if round % 2 == 0 {
            repair(&bakfs, &["--read-data"], 0);
        }
        bakfs.ok(["prune", "--max-waste", "0%"]);
        assert!((1..=3).all(|day| unreadable(&bakfs, day, &source) == 0), "round {round}");
        repair(&bakfs, &["--read-data"], 0);
        let report = bakfs.json(["check", "--read-data"]);
        assert_eq!((&report["damaged"], number(&report, "leftover_packs")), (&false.into(), 0), "{report}");
        if round % 2 == 0 {
            assert!(!damaged.exists() && number(&report, "set_aside_packs") == 0, "nothing needs it: {report}");
        }
    }
}
