//! Promise: a source that changes while it is backed up is stored as it was at one moment of the backup, or
//! marked and named; and a foreign file never enters. Files grow, shrink, are written in place, replaced and
//! removed, files and directories are swapped for links that lead out, all the time.

use bakfs::format::config::CHUNK_SIZES;
use bakfs::format::header::Suite;
use bakfs::format::tree::{Entry, marks};
use bakfs::id::ChunkId;
use bakfs::repo::Repository;
use bakfs_testing::device::Device;
use bakfs_testing::library;
use bakfs_testing::stores::MemStore;
use bakfs_testing::{Dice, noise};
use parking_lot::Mutex;
use rustix::fs::{CWD, FileType, Mode, RenameFlags};
use std::fs::File;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Files of each version are made of blocks that name it.
const BLOCK_BYTES: usize = 4096;
/// A repository is begun anew after so many backups.
const BACKUPS_PER_REPOSITORY: u64 = 40;
/// What must never be stored.
const CANARY_BYTES: usize = 5000;

/// How a file changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It grows by a block at a time, and begins anew as another file.
    Grows,
    /// It is cut to nothing and written again.
    Rewritten,
    /// It is written over from its beginning to its end.
    WrittenOver,
    /// Another takes its name.
    Replaced,
    /// It is removed, and made again under its name.
    Removed,
}

impl Way {
    /// Returns how many blocks such a file has: one that is written in place has so many that it takes several
    /// reads, with work between them.
    fn blocks(self) -> u64 {
        if matches!(self, Way::Rewritten | Way::WrittenOver) { 768 } else { 24 }
    }
}

const WAYS: [Way; 5] = [Way::Grows, Way::Rewritten, Way::WrittenOver, Way::Replaced, Way::Removed];

/// The version a file has had since, and the one it may have by now.
#[derive(Default)]
struct Versions {
    done: AtomicU64,
    begun: AtomicU64,
}

struct World {
    source: PathBuf,
    outside: PathBuf,
    versions: [Versions; WAYS.len()],
    stopped: AtomicBool,
}

fn block(version: u64) -> Vec<u8> {
    version.to_le_bytes().repeat(BLOCK_BYTES / 8)
}

fn canary() -> Vec<u8> {
    noise(0xCA_4A_47, CANARY_BYTES)
}

impl World {
    fn new(dir: &Path) -> World {
        let world = World {
            source: dir.join("source"),
            outside: dir.join("outside"),
            versions: Default::default(),
            stopped: AtomicBool::new(false),
        };
        for folder in ["source/folder", "source/twin", "outside"] {
            std::fs::create_dir_all(dir.join(folder)).unwrap();
        }
        for name in ["source/folder/inside", "source/swapped", "source/piped", "source/twin/inside"] {
            std::fs::write(dir.join(name), "honest").unwrap();
        }
        for name in ["inside", "canary"] {
            std::fs::write(world.outside.join(name), canary()).unwrap();
        }
        // What takes the honest names, and gives them back.
        symlink(&world.outside, world.outside.join("to-outside")).unwrap();
        symlink(world.outside.join("canary"), world.outside.join("to-canary")).unwrap();
        rustix::fs::mknodat(CWD, world.outside.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        for at in 0..WAYS.len() {
            world.change(at, &mut Dice::new(at as u64));
        }
        world
    }

    fn file(&self, at: usize) -> PathBuf {
        self.source.join(format!("{:?}", WAYS[at]))
    }

    /// Gives a file its next version.
    fn change(&self, at: usize, dice: &mut Dice) {
        let version = self.versions[at].begun.fetch_add(1, Ordering::SeqCst) + 1;
        let path = self.file(at);
        let (bytes, blocks) = (block(version), WAYS[at].blocks());
        let write = |file: &File, block_number: u64| {
            file.write_all_at(&bytes, block_number * BLOCK_BYTES as u64).unwrap();
        };
        let fill = |file: &File| (0..blocks).for_each(|number| write(file, number));
        match WAYS[at] {
            Way::Grows => {
                let file = File::create(self.outside.join("new")).unwrap();
                std::fs::rename(self.outside.join("new"), &path).unwrap();
                (0..1 + dice.below(blocks)).for_each(|number| write(&file, number));
            }
            Way::Rewritten => fill(&File::create(&path).unwrap()),
            Way::WrittenOver => fill(&File::options().create(true).truncate(false).write(true).open(&path).unwrap()),
            Way::Replaced => {
                fill(&File::create(self.outside.join("replacement")).unwrap());
                std::fs::rename(self.outside.join("replacement"), &path).unwrap();
            }
            Way::Removed => {
                let _ = std::fs::remove_file(&path);
                fill(&File::create_new(&path).unwrap());
            }
        }
        self.versions[at].done.store(version, Ordering::SeqCst);
    }

    /// Swaps an honest name with what leads out, and back.
    fn swap(&self, dice: &mut Dice) {
        let pairs = [("folder", "to-outside"), ("swapped", "to-canary"), ("piped", "pipe"), ("folder", "twin")];
        let (name, other) = pairs[dice.below(4) as usize];
        let other = if other == "twin" { self.source.join(other) } else { self.outside.join(other) };
        for _ in 0..2 {
            rustix::fs::renameat_with(CWD, self.source.join(name), CWD, &other, RenameFlags::EXCHANGE).unwrap();
            pause(dice);
        }
    }

    fn change_all_the_time(&self, seed: u64) {
        let mut dice = Dice::new(seed);
        while !self.stopped.load(Ordering::Relaxed) {
            let at = dice.below(WAYS.len() as u64) as usize;
            // Often for longer than a file is read again: then it must be marked.
            for _ in 0..1 + dice.below(30) {
                self.change(at, &mut dice);
            }
            pause(&mut dice);
        }
    }

    fn swap_all_the_time(&self, seed: u64) {
        let mut dice = Dice::new(seed + 1000);
        while !self.stopped.load(Ordering::Relaxed) {
            self.swap(&mut dice);
        }
    }

    /// Judges a stored file that changes, by what it was before the backup and what it may be after it.
    fn judge(&self, at: usize, entry: &Entry, bytes: &[u8], before: u64, after: u64) -> Result<bool, String> {
        if entry.meta.marks & marks::CHANGED_WHILE_READ != 0 {
            return Ok(false);
        }
        let way = WAYS[at];
        // A write is no more at one moment than the copy of its bytes, one after the other.
        let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        let mut versions: Vec<u64> = words.collect();
        let len = versions.len() * 8;
        versions.dedup();
        let is_moment = match (way, &versions[..]) {
            (_, [] | [_]) => true,
            // The new is written from the beginning, so at no moment it stood behind the old.
            (Way::WrittenOver, [new, old]) => *new == *old + 1,
            _ => false,
        };
        // What it was before the first of the versions it may have had is still there in part.
        let first = if way == Way::WrittenOver { before.saturating_sub(1) } else { before };
        let is_current = versions.iter().all(|version| (first..=after).contains(version));
        let is_whole = match way {
            Way::Replaced | Way::WrittenOver => len == way.blocks() as usize * BLOCK_BYTES,
            _ => len.is_multiple_of(BLOCK_BYTES),
        };
        match len == bytes.len() && is_moment && is_current && is_whole {
            true => Ok(true),
            false => Err(format!("{way:?}: versions {versions:?} of {before} to {after}, {} bytes", bytes.len())),
        }
    }
}

fn pause(dice: &mut Dice) {
    for _ in 0..dice.below(20) {
        std::thread::yield_now();
    }
    if dice.below(4) == 0 {
        std::thread::sleep(std::time::Duration::from_micros(dice.below(1500)));
    }
}

/// What many backups of a changing source saw.
#[derive(Default)]
struct Tally {
    backups: u64,
    consistent: u64,
    marked: u64,
    failures: Vec<String>,
}

fn open(store: &Arc<MemStore>) -> Arc<Repository> {
    library::open(store.clone()).unwrap()
}

/// Returns whether anything of the canary was stored, even if no snapshot shows it.
fn has_canary(repository: &Repository) -> bool {
    let id: ChunkId = repository.keys().chunk_id(&canary());
    repository.index().contains(&id)
}

fn races(world: &World, backups: u64, tally: &Mutex<Tally>) {
    let canary = canary();
    let mut store = Arc::new(MemStore::default());
    for number in 0..backups {
        if number % BACKUPS_PER_REPOSITORY == 0 {
            store = Arc::new(MemStore::default());
            library::init(&*store, Suite::Plain, 0, CHUNK_SIZES).unwrap();
        }
        let before: Vec<u64> = world.versions.iter().map(|versions| versions.done.load(Ordering::SeqCst)).collect();
        let outcome = library::back_up(&open(&store), &world.source, (number % BACKUPS_PER_REPOSITORY) as i64).unwrap();
        let after: Vec<u64> = world.versions.iter().map(|versions| versions.begun.load(Ordering::SeqCst)).collect();
        let repository = open(&store);
        let shown = library::read_snapshot(&repository, &outcome.snapshot);
        let mut failures = shown.errors.clone();
        let mut marked = 0;
        let mut consistent = 0;
        for (path, (entry, bytes)) in &shown.files {
            let path = Path::new(std::str::from_utf8(path).unwrap());
            let Some(bytes) = bytes else { continue };
            if bytes.windows(64).any(|window| *window == canary[..64]) {
                failures.push(format!("{} is the foreign file", path.display()));
            }
            let Some(at) = (0..WAYS.len()).find(|at| world.file(*at) == path) else { continue };
            match world.judge(at, entry, bytes, before[at], after[at]) {
                Ok(true) => consistent += 1,
                Ok(false) => marked += 1,
                Err(failure) => failures.push(failure),
            }
        }
        if has_canary(&repository) {
            failures.push("the foreign file was read and stored".into());
        }
        let summary = &outcome.snapshot.summary;
        if summary.errors < marked || outcome.snapshot.troubles.len() as u64 != summary.errors {
            failures.push(format!("{marked} files are marked and {} named", summary.errors));
        }
        let mut tally = tally.lock();
        tally.backups += 1;
        tally.consistent += consistent;
        tally.marked += marked;
        tally.failures.extend(failures.into_iter().map(|failure| format!("backup {number}: {failure}")));
    }
}

#[test]
fn a_changing_source_is_consistent_or_marked() {
    bakfs_testing::need_root();
    let seed = library::size("SEED", 17, 17);
    let backups = library::size("RACES", 1000, 100_000);
    let tally = Mutex::new(Tally::default());
    let dir = tempfile::tempdir().unwrap();
    let memory = Device::memory(&dir.path().join("memory"), 64);
    let disk = dir.path().join("disk");
    // The times of files are kept otherwise in memory than on a disk.
    for (number, dir) in [disk.as_path(), memory.path()].into_iter().enumerate() {
        std::fs::create_dir_all(dir).unwrap();
        let world = World::new(dir);
        std::thread::scope(|scope| {
            scope.spawn(|| world.change_all_the_time(seed + number as u64));
            scope.spawn(|| world.swap_all_the_time(seed + number as u64));
            let raced = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| races(&world, backups / 2, &tally)));
            world.stopped.store(true, Ordering::Relaxed);
            raced.unwrap();
        });
    }
    let Tally { backups, consistent, marked, failures } = tally.into_inner();
    println!(
        "source races: seed {seed}, {backups} backups, {consistent} changing files as of one moment, {marked} marked and named, {} wrong, 0 foreign",
        failures.len()
    );
    let first: Vec<_> = failures.iter().take(20).collect();
    assert!(failures.is_empty(), "{first:#?}");
    assert!(consistent + marked > backups, "the races were run: {marked} {consistent}");
}
