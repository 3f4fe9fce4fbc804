//! Promise: `diff` says what a naive comparison of the two source trees says, whatever the trees.

use bakfs_testing::Dice;
use bakfs_testing::cli::{Bakfs, json_of};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// What a path was, as far as `diff` compares it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    kind: u32,
    bytes: Vec<u8>,
    mode: u32,
    mtime: (i64, i64),
}

fn look(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut all = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let bytes = if meta.is_symlink() {
            std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else if meta.is_file() {
            std::fs::read(&path).unwrap()
        } else {
            pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        };
        let mtime = if meta.is_dir() { (0, 0) } else { (meta.mtime(), meta.mtime_nsec()) };
        all.insert(path, Seen { kind: meta.mode() & 0o170000, bytes, mode: meta.mode() & 0o7777, mtime });
    }
    all
}

fn expected(before: &BTreeMap<PathBuf, Seen>, after: &BTreeMap<PathBuf, Seen>) -> BTreeSet<(String, String)> {
    let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let change = |path: &&PathBuf| {
        let word = match (before.get(*path), after.get(*path)) {
            (Some(a), Some(b)) if a == b => return None,
            (Some(a), Some(b)) if a.kind != b.kind => "type",
            (Some(a), Some(b)) if a.bytes != b.bytes => "content",
            (Some(_), Some(_)) => "metadata",
            (None, _) => "added",
            (_, None) => "removed",
        };
        Some((word.to_owned(), path.to_str().unwrap().to_owned()))
    };
    paths.iter().filter_map(change).collect()
}

fn told(bakfs: &Bakfs, before: &str, after: &str, differs: bool) -> BTreeSet<(String, String)> {
    let outcome = bakfs.run(["--json", "diff", before, after]).expect(i32::from(differs));
    let json = json_of(outcome);
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let all = json.as_array().unwrap();
    let set: BTreeSet<_> = all.iter().map(|one| (text(&one["change"]), text(&one["path"]))).collect();
    assert_eq!(set.len(), all.len(), "nothing is told twice");
    set
}

/// Makes something new at a path: a file, a link or a folder with something in it.
fn plant(dice: &mut Dice, path: &Path, depth: u32) {
    match dice.below(if depth < 4 { 10 } else { 7 }) {
        0..=4 => {
            let (seed, len) = (dice.roll(), dice.below(3000) as usize);
            std::fs::write(path, bakfs_testing::noise(seed, len)).unwrap();
        }
        5 => std::fs::write(path, bakfs_testing::noise(dice.roll(), 1_500_000)).unwrap(),
        6 => symlink(format!("target-{}", dice.below(3)), path).unwrap(),
        _ => {
            std::fs::create_dir(path).unwrap();
            for name in 0..dice.below(12) {
                plant(dice, &path.join(format!("n{name}")), depth + 1);
            }
        }
    }
}

fn uproot(path: &Path) {
    if std::fs::symlink_metadata(path).unwrap().is_dir() {
        std::fs::remove_dir_all(path).unwrap();
    } else {
        std::fs::remove_file(path).unwrap();
    }
}

fn change_something(dice: &mut Dice, root: &Path) {
    let all: Vec<_> = look(root).into_keys().filter(|path| path != root).collect();
    let Some(path) = all.get(dice.below(all.len().max(1) as u64) as usize) else { return };
    let meta = std::fs::symlink_metadata(path).unwrap();
    match dice.below(6) {
        0 => uproot(path),
        1 => {
            uproot(path);
            plant(dice, path, 3);
        }
        2 if !meta.is_symlink() => {
            let mode = [0o700, 0o755, 0o750][dice.below(3) as usize];
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        }
        3 if meta.is_file() => {
            let mut bytes = std::fs::read(path).unwrap();
            bytes.extend(b"more");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }
        4 if meta.is_file() => {
            let stamp = std::time::UNIX_EPOCH + std::time::Duration::from_secs(dice.below(1 << 30));
            std::fs::File::open(path).unwrap().set_modified(stamp).unwrap();
        }
        _ => {
            let name = format!("x{}", dice.roll());
            plant(dice, &path.with_file_name(name), 3);
        }
    }
}

#[test]
fn random_trees_differ_as_a_naive_comparison_says() {
    for seed in 0..6 {
        let mut dice = Dice::new(seed);
        let (bakfs, source) = Bakfs::with_source();
        for name in 0..15 {
            plant(&mut dice, &source.join(format!("top{name}")), 0);
        }
        let mut states = Vec::new();
        for day in 1..=3 {
            bakfs.backup_at(&format!("2026-03-0{day}T03:00:00Z"), &source);
            states.push((format!("2026-03-0{day}"), look(&source)));
            for _ in 0..dice.below(25) {
                change_something(&mut dice, &source);
            }
        }
        for (before, a) in &states {
            for (after, b) in &states {
                let wanted = expected(a, b);
                let told = told(&bakfs, before, after, !wanted.is_empty());
                assert!(
                    told == wanted,
                    "seed {seed}, {before} to {after}: too much {:?}, missing {:?}",
                    told.difference(&wanted).collect::<Vec<_>>(),
                    wanted.difference(&told).collect::<Vec<_>>()
                );
            }
        }
    }
}

#[test]
fn few_changes_in_a_large_directory_are_found_whatever_pages_they_move() {
    let (bakfs, source) = Bakfs::with_source();
    for name in 0..6000 {
        std::fs::write(source.join(format!("name{name:06}")), b"").unwrap();
    }
    let backup = |day: u32| bakfs.backup_at(&format!("2026-03-0{day}T03:00:00Z"), &source);
    backup(1);
    let before = look(&source);
    let mut dice = Dice::new(7);
    for _ in 0..40 {
        let name = source.join(format!("name{:06}", dice.below(6000)));
        let _ = std::fs::remove_file(name);
        std::fs::write(source.join(format!("name{:06}b", dice.below(6000))), b"new").unwrap();
    }
    // A whole run of names goes, and one comes that is longer than a page of them.
    for name in 2000..2600 {
        let _ = std::fs::remove_file(source.join(format!("name{name:06}")));
        std::fs::write(source.join(format!("name{:06}c", name + 1000)), b"").unwrap();
    }
    backup(2);
    let wanted = expected(&before, &look(&source));
    assert_eq!(told(&bakfs, "2026-03-01", "2026-03-02", true), wanted);
    let turned = |(word, path): (String, String)| match &*word {
        "added" => ("removed".to_owned(), path),
        "removed" => ("added".to_owned(), path),
        _ => (word, path),
    };
    assert_eq!(told(&bakfs, "2026-03-02", "2026-03-01", true), wanted.into_iter().map(turned).collect());
}
