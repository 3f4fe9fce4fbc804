//! Promise: everything is verified in turn, oldest first, at a bounded cost; what restores and mounts
//! verify counts; an interrupted check keeps what it has done.

use bakfs::clock::now_secs;
use bakfs::format::config::CHUNK_SIZES;
use bakfs::format::header::{Kind, Suite};
use bakfs::format::index::PackEntry;
use bakfs::format::tree::{Content, Entry, Node};
use bakfs::repo::Repository;
use bakfs::store::cached::CachedStore;
use bakfs::store::{Hints, Object, Store, Wait};
use bakfs_testing::cli::{Bakfs, json_of};
use bakfs_testing::far::FarStore;
use bakfs_testing::library;
use bakfs_testing::stores::MemStore;
use bakfs_testing::{SOON, noise, until};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DAYS: u64 = 6;

/// A repository of some days, each with packs of its own.
fn world() -> (Bakfs, PathBuf) {
    let bakfs = Bakfs::empty();
    bakfs.ok(["init", "--encryption", "none"]);
    let source = bakfs.make_dir("source");
    for day in 1..=DAYS {
        std::fs::write(source.join(format!("day{day}")), noise(day, 200_000)).unwrap();
        let time = format!("2026-03-0{day}T03:00:00Z");
        bakfs.backup([OsStr::new("--time"), OsStr::new(&time), source.as_os_str()]);
    }
    (bakfs, source)
}

fn number(report: &Value, field: &str) -> u64 {
    report[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {report}"))
}

fn flip(object: &Path, at: usize) {
    let mut bytes = std::fs::read(object).unwrap();
    bytes[at] ^= 1;
    std::fs::remove_file(object).unwrap();
    std::fs::write(object, bytes).unwrap();
}

/// Returns the ledger's file.
fn ledger(bakfs: &Bakfs) -> PathBuf {
    let mut folders = std::fs::read_dir(bakfs.path("cache")).unwrap().map(|entry| entry.unwrap().path());
    folders.find(|folder| folder.join("snapshots-1").exists()).unwrap().join("verified-1")
}

#[test]
fn shares_verify_everything_in_turn() {
    let (bakfs, _) = world();
    let packs = bakfs.objects("packs").len() as u64;
    let plain = bakfs.json(["check"]);
    // Each backup has read the pages of the one before, and no content.
    assert_eq!(number(&plain, "packs_read"), 0, "{plain}");
    assert!(number(&plain, "verified_bytes") < 10_000, "{plain}");
    std::fs::remove_file(ledger(&bakfs)).unwrap();
    let plain = bakfs.json(["check"]);
    assert!(number(&plain, "verified_packs") == 0 && plain["oldest_verified"].is_null(), "{plain}");
    let longest = bakfs.objects("packs").iter().map(|(_, len)| *len).max().unwrap();
    let mut verified = 0;
    for night in 1..=5 {
        let report = bakfs.json(["check", "--read-data-subset", "20%"]);
        let bytes = number(&report, "pack_bytes");
        assert!(number(&report, "read_bytes") <= bytes / 5 + longest, "night {night}: a bounded cost: {report}");
        assert!(number(&report, "read_bytes") >= bytes / 5 || number(&report, "verified_packs") == packs);
        assert!(number(&report, "verified_packs") > verified || verified == packs, "night {night}: {report}");
        verified = number(&report, "verified_packs");
    }
    assert_eq!(verified, packs, "five fifths are all");
    let report = bakfs.json(["check", "--max-age", "30d", "--read-data-subset", "50%"]);
    assert_eq!(number(&report, "packs_read"), 0, "all was verified lately: {report}");
    assert_eq!(number(&report, "verified_bytes"), number(&report, "pack_bytes"));
    assert!(report["oldest_verified"].is_string());
    let report = bakfs.json(["check", "--read-data"]);
    assert_eq!(number(&report, "packs_read"), packs, "asked for, everything is read");
    for wrong in ["0%", "200%", "much"] {
        bakfs.run(["check", "--read-data-subset", wrong]).expect(2);
    }
}

#[test]
fn the_ledger_is_only_a_note() {
    let (bakfs, _) = world();
    let packs = bakfs.objects("packs");
    bakfs.ok(["check", "--read-data"]);
    let left = |bakfs: &Bakfs| number(&bakfs.json(["check", "--max-age", "30d"]), "packs_read");
    assert_eq!(left(&bakfs), 0);
    // Damage of the file costs the record it hits, and its loss costs all.
    let path = ledger(&bakfs);
    flip(&path, 16 + 5);
    assert_eq!(left(&bakfs), 1);
    std::fs::write(&path, b"bakfsvf1").unwrap();
    assert_eq!(left(&bakfs), packs.len() as u64);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(left(&bakfs), packs.len() as u64);
    // A pack of another length than was verified is no verified pack, whatever the ledger says.
    let (pack, _) = packs.iter().max_by_key(|(_, len)| *len).unwrap();
    let bytes = std::fs::read(pack).unwrap();
    std::fs::remove_file(pack).unwrap();
    std::fs::write(pack, [&bytes[..], b"x"].concat()).unwrap();
    let report = json_of(bakfs.run(["--json", "check", "--max-age", "30d"]).expect(1));
    assert_eq!(number(&report, "packs_read"), 1, "{report}");
}

#[test]
fn what_looked_damaged_is_read_until_it_is_sound() {
    let (bakfs, source) = world();
    let data = bakfs.objects("packs").into_iter().max_by_key(|(_, len)| *len).unwrap().0;
    flip(&data, 5_000);
    bakfs.ok(["check"]);
    // A restore meets the damage; every later check looks at the pack.
    let target = bakfs.path("target");
    bakfs.run([OsStr::new("restore"), OsStr::new("latest"), target.as_os_str()]).expect(3);
    let outcome = bakfs.run(["check"]).expect(1);
    assert!(outcome.text().contains(data.file_name().unwrap().to_str().unwrap()), "{outcome}");
    assert!(outcome.text().contains(source.to_str().unwrap()), "the path is named: {outcome}");
    bakfs.run(["check"]).expect(1);
    flip(&data, 5_000);
    let report = bakfs.json(["check"]);
    assert_eq!(number(&report, "packs_read"), 1, "{report}");
    assert_eq!(number(&bakfs.json(["check"]), "packs_read"), 0);
}

#[test]
fn an_interrupted_check_keeps_what_it_has_done() {
    let (bakfs, _) = world();
    let packs = bakfs.objects("packs");
    // A pack of content that never ends to open, behind all others in their order.
    let is_content = |path: &&(PathBuf, u64)| std::fs::read(&path.0).unwrap()[9] == 3;
    let (last, _) =
        packs.iter().filter(is_content).max_by_key(|(path, _)| path.file_name().unwrap().to_owned()).unwrap();
    let before = packs.iter().filter(|(path, _)| path.file_name() < last.file_name()).count() as u64;
    assert!(before > 0);
    let bytes = std::fs::read(last).unwrap();
    std::fs::remove_file(last).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, last, rustix::fs::Mode::RUSR).unwrap();
    let mut check = bakfs.start(["check", "--read-data"]);
    let path = ledger(&bakfs);
    let recorded = || std::fs::read(&path).map_or(0, |bytes| (bytes.len() as u64).saturating_sub(16) / 64);
    until("packs are recorded", SOON, || recorded() > 0 || check.ended());
    assert!(!check.ended(), "it waits for the pack");
    let recorded = recorded();
    check.kill();
    check.finish();
    std::fs::remove_file(last).unwrap();
    std::fs::write(last, bytes).unwrap();
    let report = bakfs.json(["check", "--max-age", "1d"]);
    assert!(number(&report, "packs_read") <= packs.len() as u64 - recorded, "{recorded}: {report}");
    assert_eq!(number(&report, "verified_packs"), packs.len() as u64);
}

#[test]
fn a_restore_verifies_what_it_reads() {
    let (bakfs, _) = world();
    let target = bakfs.path("target");
    bakfs.ok([OsStr::new("restore"), OsStr::new("latest"), target.as_os_str()]);
    let report = bakfs.json(["check"]);
    assert!(number(&report, "verified_bytes") > DAYS * 200_000, "all content, and pages: {report}");
    assert_eq!(number(&report, "packs_read"), 0);
    let report = bakfs.json(["check", "--max-age", "30d"]);
    assert!(number(&report, "packs_read") < DAYS, "only what no restore has read: {report}");
    assert_eq!(number(&report, "verified_packs"), number(&report, "packs"));
}

#[test]
fn a_mount_verifies_what_is_read_through_it() {
    let (bakfs, source) = world();
    let mount = bakfs.mount();
    for day in 1..=DAYS {
        let shown = mount.at("latest", &source).join(format!("day{day}"));
        assert!(std::fs::read(shown).unwrap() == noise(day, 200_000));
    }
    mount.unmount();
    let verified = || number(&bakfs.json(["check"]), "verified_bytes");
    until("the mount has told what it has verified", SOON, || verified() > DAYS * 200_000);
}

/// A repository far away, with one file whose pack has many frames.
struct Far {
    store: Arc<FarStore>,
    repository: Arc<Repository>,
    content: Content,
    pack: PackEntry,
    _cache: tempfile::TempDir,
}

const FILE_BYTES: u64 = 8 << 20;

impl Far {
    fn new() -> Self {
        let [cache, source] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        std::fs::write(source.path().join("file"), noise(5, FILE_BYTES as usize)).unwrap();
        let memory = Arc::new(MemStore::default());
        library::init(&*memory, Suite::Aes256GcmSiv, 0, CHUNK_SIZES).unwrap();
        let root = library::back_up(&library::open(memory.clone()).unwrap(), source.path(), 0).unwrap().snapshot.root;
        let store = FarStore::new(memory, 4);
        let repository = library::open_with(store.clone(), Some(cache.path())).unwrap();
        let mut found = None;
        repository.walk(b"", &root, &mut Finder(&mut found)).unwrap();
        let pack = repository.index().packs().find(|pack| pack.kind == Kind::DataPack).unwrap();
        repository.note_reads();
        store.take_count();
        Far { store, repository, content: found.unwrap(), pack, _cache: cache }
    }

    fn read(&self, range: std::ops::Range<u64>) {
        let mut bytes = Vec::new();
        let len = (range.end - range.start) as usize;
        self.repository.read_content(&self.content, FILE_BYTES, range.start, len, Wait::Allowed, &mut bytes).unwrap();
    }

    /// Writes down what was read; returns how many requests that took.
    fn note(&self) -> usize {
        self.store.take_count();
        self.repository.note_reads();
        self.store.take_count()
    }

    fn verified_at(&self) -> Option<u64> {
        self.repository.ledger().unwrap().load().verified_at(&self.pack.id, self.pack.len_bytes, u64::MAX)
    }
}

/// Finds the content of the only file.
struct Finder<'a>(&'a mut Option<Content>);

impl bakfs::repo::read::walk::Visitor for Finder<'_> {
    fn entry(&mut self, _: &[u8], entry: &Entry) -> bakfs::error::Result<bool> {
        if let Node::File(content) = &entry.node {
            *self.0 = Some(content.clone());
        }
        Ok(true)
    }

    fn damage(&mut self, _: &[u8], error: bakfs::error::Error) -> bakfs::error::Result<()> {
        Err(error)
    }
}

#[test]
fn a_pack_that_was_read_in_part_is_asked_for_once() {
    let far = Far::new();
    far.read(0..FILE_BYTES * 3 / 4);
    assert!((1..=2).contains(&far.note()), "its directory");
    assert_eq!(far.note(), 0, "nothing was read since");
    far.read(FILE_BYTES / 2..FILE_BYTES * 7 / 8);
    assert_eq!(far.note(), 0, "its directory is known");
    assert_eq!(far.verified_at(), None);
    far.read(FILE_BYTES * 3 / 4..FILE_BYTES);
    assert_eq!(far.note(), 0);
    assert!(far.verified_at().is_some());
    // What begins anew asks anew.
    far.read(0..FILE_BYTES);
    assert!((1..=2).contains(&far.note()));
}

#[test]
fn what_was_read_from_a_copy_was_verified_when_the_copy_was_made() {
    let far = Far::new();
    far.store.copied_since(1000);
    far.read(0..FILE_BYTES);
    far.note();
    assert_eq!(far.verified_at(), Some(1000));
    let folder = tempfile::tempdir().unwrap();
    let object = Object::Pack(far.pack.id);
    for folder in [Some(folder.path()), None] {
        let cached = CachedStore::open(far.store.clone(), folder, 1 << 30);
        assert_eq!(cached.copied_since_secs(object), None);
        let before = now_secs();
        cached.read_at(object, 0, &mut [0; 100], Wait::Allowed).unwrap();
        let since = cached.copied_since_secs(object).unwrap();
        // The kernel stamps files by a clock that may be a tick behind.
        assert!((before - 1..=now_secs()).contains(&since), "{since}");
    }
}
