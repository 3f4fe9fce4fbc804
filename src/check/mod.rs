//! Whether everything that is stored is what it should be, and what damage means for the snapshots.
//!
//! Memory: one index object at a time, about 64 bytes for each distinct page of a tree, 16 MiB for each
//! thread that reads packs, and what is damaged.

mod damage;
mod objects;
mod packs;
mod paths;
mod trees;

use crate::error::{Error, Result};
use crate::id::ChunkId;
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::repo::index::Index;
use crate::repo::snapshots::Listed;
use crate::store::Object;
use damage::Damage;
use parking_lot::Mutex;

pub use objects::check_unopened;

/// How thorough a check is.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Reads every pack whole and verifies every frame and chunk.
    pub read_data: bool,
    /// Threads to work on.
    pub threads: usize,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A stored object.
    Object(Object),
    /// The index as a whole: chunks that snapshots need and no pack is known to have.
    Index,
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::Object(object) => object.fmt(f),
            Subject::Index => f.write_str("index"),
        }
    }
}

/// What of a file or directory is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The content of a file.
    Content,
    /// Some or all of what is in a directory.
    Entries,
}

/// A path that cannot be read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affected {
    /// The path.
    pub path: Vec<u8>,
    /// What of it.
    pub part: Part,
    /// The oldest snapshot in which it is so.
    pub first: String,
    /// The newest.
    pub last: String,
    /// How many snapshots.
    pub snapshots: u64,
}

/// Damage of one object.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What is damaged.
    pub subject: Subject,
    /// Whether nothing at all can be read of it.
    pub is_lost: bool,
    /// What is wrong with it, at most [`MAX_PROBLEMS`] of it.
    pub problems: Vec<String>,
    /// How much more is wrong.
    pub more_problems: u64,
    /// The paths concerned, at most [`MAX_AFFECTED`].
    pub affected: Vec<Affected>,
    /// Whether there are more.
    pub more_affected: bool,
}

/// The most problems of one object that are told.
pub const MAX_PROBLEMS: usize = 20;
/// The most paths that are told for one object.
pub const MAX_AFFECTED: usize = 1000;

/// What a check found and saw.
#[derive(Debug, Default)]
pub struct Report {
    /// Damage, in the order of objects.
    pub findings: Vec<Finding>,
    /// Snapshots that could be read.
    pub snapshots: u64,
    /// Packs there are.
    pub packs: u64,
    /// Their length.
    pub pack_bytes: u64,
    /// Packs no index object names and no snapshot needs: what an interrupted backup left.
    pub leftover_packs: u64,
    /// Distinct pages of trees that were read.
    pub pages: u64,
    /// Chunks that packs hold, as verified by reading them.
    pub chunks_read: u64,
}

/// Writes an error without the advice to check.
fn told(error: &Error) -> String {
    error.chain().replace(": run `bakfs check --read-data`", "").replace(": run `bakfs check`", "")
}

/// What all parts of a check share.
struct Check<'a> {
    repository: &'a Repository,
    /// Chunks that index objects name.
    index: Index,
    /// Chunks of packs that no index object names.
    spare: Index,
    damage: Mutex<Damage>,
    monitor: &'a dyn Monitor,
    threads: usize,
}

impl Check<'_> {
    /// Tells that a chunk, at any place it has, is not what it should be.
    fn bad_chunk(&self, id: &ChunkId, problem: String) {
        let subject = match self.index.find(id).or_else(|| self.spare.find(id)) {
            Some(location) => Subject::Object(Object::Pack(location.pack.id)),
            None => Subject::Index,
        };
        self.damage.lock().chunk(subject, *id, problem);
    }
}

/// Checks a repository that was opened with an empty cache, so that nothing but what is stored is believed.
pub fn run(repository: &Repository, options: Options, monitor: &dyn Monitor) -> Result<Report> {
    let mut damage = Damage::default();
    let objects = objects::check(repository, &mut damage)?;
    // Told as findings already.
    repository.take_warnings();
    let current = repository.index();
    let (named, unnamed): (Vec<_>, Vec<_>) =
        current.segments().iter().cloned().partition(|loaded| !loaded.covers.is_empty());
    let check = Check {
        repository,
        index: Index::new(named),
        spare: objects::spare_index(repository, unnamed, &objects, &mut damage)?,
        damage: Mutex::new(damage),
        monitor,
        threads: options.threads.max(1),
    };
    let snapshots: Vec<Listed> = objects.snapshots;
    let trees = trees::check(&check, &snapshots)?;
    let chunks_read = if options.read_data { packs::check(&check, &objects.packs)? } else { 0 };
    let mut damage = check.damage.into_inner();
    if damage.has_chunks() {
        let mut all = check.index.segments().to_vec();
        all.extend(check.spare.segments().iter().cloned());
        paths::attribute(repository, &Index::new(all), &snapshots, &mut damage)?;
    }
    repository.take_warnings();
    let leftover = objects.leftover.iter().filter(|id| !trees.needed_spare.contains(id)).count();
    Ok(Report {
        findings: damage.into_findings(),
        snapshots: snapshots.len() as u64,
        packs: objects.packs.len() as u64,
        pack_bytes: objects.packs.values().sum(),
        leftover_packs: leftover as u64,
        pages: trees.pages,
        chunks_read,
    })
}
