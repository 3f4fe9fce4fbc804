//! Whether everything that is stored is what it should be, and what damage means for the snapshots.
//!
//! Memory: one index object at a time, about 64 bytes for each distinct page of a tree and 64 for each pack,
//! 16 MiB for each thread that reads packs, and what is damaged. A chunk costs nothing on the heap: the index
//! is a mapped file.

mod damage;
mod objects;
mod packs;
mod paths;
mod report;
mod trees;
pub mod uncached;

use crate::clock::now_secs;
use crate::error::{Error, Result};
use crate::id::{ChunkId, ObjectId};
use crate::monitor::Monitor;
use crate::quantity::Share;
use crate::repo::Repository;
use crate::repo::index::Index;
use crate::repo::read::ledger::Ledger;
use crate::store::{Object, ObjectKind};
use damage::Damage;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::{HashMap, HashSet};

pub use objects::check_unopened;
pub use report::at;

/// How thorough a check is.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Which packs to read whole; those that looked damaged before are always read.
    pub read: Option<Selection>,
    /// Threads to work on.
    pub threads: usize,
}

/// Packs to read whole, so that every frame and chunk of them is verified: the oldest first.
#[derive(Debug, Clone, Copy)]
pub struct Selection {
    /// How much at most, and one pack.
    pub share: Share,
    /// Only packs that were last verified before this second since 1970, or never.
    pub before_secs: Option<u64>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
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
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What is damaged.
    #[serde(rename = "object")]
    pub subject: Subject,
    /// Whether nothing at all can be read of it.
    #[serde(skip)]
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
/// How often a check begins anew because a prune ran meanwhile.
const MAX_AGAIN: usize = 3;

/// What a check found and saw.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Damage, in the order of objects.
    pub findings: Vec<Finding>,
    /// Objects that no program with the repository's key has written, and why: they do no harm.
    #[serde(serialize_with = "report::names")]
    pub foreign: Vec<(Object, String)>,
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
    /// Packs that were read whole.
    pub packs_read: u64,
    /// Their length.
    pub read_bytes: u64,
    /// Chunks that packs hold, as verified by reading them.
    pub chunks_read: u64,
    /// Packs that are set aside: damaged, with nothing in them that is not elsewhere too or lost.
    pub set_aside_packs: u64,
    /// What is known of the time when packs were verified.
    #[serde(flatten)]
    pub verified: Verified,
    /// Whether `bakfs repair` has something to do.
    #[serde(skip)]
    pub is_repairable: bool,
}

/// How much of the packs was verified, and when, by this machine.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Verified {
    /// Packs that were verified.
    #[serde(rename = "verified_packs")]
    pub packs: u64,
    /// Their length.
    #[serde(rename = "verified_bytes")]
    pub pack_bytes: u64,
    /// When the one that was verified longest ago was, in seconds since 1970.
    #[serde(rename = "oldest_verified", serialize_with = "report::moment")]
    pub oldest_secs: Option<u64>,
}

/// Writes an error without the advice to check.
fn told(error: &Error) -> String {
    told_text(&error.chain())
}

fn told_text(text: &str) -> String {
    text.replace(": run `bakfs check --read-data`", "").replace(": run `bakfs check`", "")
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
/// The ledger tells which packs were verified when, and learns what this check verifies.
pub fn run(
    repository: &Repository,
    options: Options,
    ledger: Option<&Ledger>,
    monitor: &dyn Monitor,
) -> Result<Report> {
    // What a prune removes while a check runs looks like damage: then it is looked at once more.
    for _ in 0..MAX_AGAIN {
        let before = removable(repository)?;
        let report = run_once(repository, options, ledger, monitor)?;
        if report.findings.is_empty() || before.is_subset(&removable(repository)?) {
            return Ok(report);
        }
        repository.refresh_index()?;
    }
    run_once(repository, options, ledger, monitor)
}

/// Returns what a prune removes first: index objects, and snapshots.
fn removable(repository: &Repository) -> Result<HashSet<Object>> {
    let store = repository.store();
    let mut all: HashSet<_> =
        store.list(ObjectKind::Index)?.into_iter().map(|listed| Object::Index(listed.id)).collect();
    all.extend(store.list(ObjectKind::Snapshot)?.into_iter().map(|listed| Object::Snapshot(listed.id)));
    let void = repository.marks()?.void();
    all.retain(|object| !matches!(object, Object::Snapshot(id) if void.contains(id)));
    Ok(all)
}

fn run_once(
    repository: &Repository,
    options: Options,
    ledger: Option<&Ledger>,
    monitor: &dyn Monitor,
) -> Result<Report> {
    let mut damage = Damage::default();
    let objects = objects::check(repository, &mut damage)?;
    // Snapshots that came since the index was loaded are told by index objects that came before them.
    repository.refresh_index()?;
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
    let snapshots = &objects.snapshots;
    let trees = trees::check(&check, snapshots)?;
    let mut readable = objects.packs.clone();
    readable.retain(|id, _| !objects.set_aside.contains(id));
    let mut records = ledger.map(Ledger::load).unwrap_or_default();
    // What the walk of the trees could not read is looked at closely.
    repository.suspects().into_iter().for_each(|pack| records.suspect(pack, now_secs()));
    let chosen = packs::choose(&readable, &records, options.read.as_ref(), now_secs());
    let done = packs::check(&check, &chosen, ledger)?;
    let mut damage = check.damage.into_inner();
    if damage.has_chunks() {
        let mut all = check.index.segments().to_vec();
        all.extend(check.spare.segments().iter().cloned());
        paths::attribute(repository, &Index::new(all), snapshots, &mut damage)?;
    }
    repository.take_warnings();
    let leftover = objects.leftover.iter().filter(|id| !trees.needed_spare.contains(id)).count();
    let findings = damage.into_findings();
    let verified = note(ledger, &readable, &findings);
    let is_repairable = !trees.needed_spare.is_empty()
        || findings.iter().any(|finding| match finding.subject {
            Subject::Object(Object::Mark(id)) => !objects.newer_marks.contains(&id),
            Subject::Object(Object::Pack(_) | Object::Index(_)) => true,
            _ => false,
        });
    Ok(Report {
        findings,
        foreign: objects.foreign,
        snapshots: snapshots.len() as u64,
        packs: objects.packs.len() as u64,
        pack_bytes: objects.packs.values().sum(),
        leftover_packs: leftover as u64,
        pages: trees.pages,
        packs_read: done.packs,
        read_bytes: done.pack_bytes,
        chunks_read: done.chunks,
        set_aside_packs: objects.set_aside.len() as u64,
        verified,
        is_repairable,
    })
}

/// Notes packs in which damage was found without reading them whole, forgets those that are gone, and
/// sums up what is known then.
fn note(ledger: Option<&Ledger>, packs: &HashMap<ObjectId, u64>, findings: &[Finding]) -> Verified {
    let Some(ledger) = ledger else { return Verified::default() };
    let damaged: HashSet<ObjectId> = findings
        .iter()
        .filter_map(|finding| match finding.subject {
            Subject::Object(Object::Pack(id)) => Some(id),
            _ => None,
        })
        .collect();
    ledger.update(|records| {
        records.retain(|pack| packs.contains_key(pack) || damaged.contains(pack));
        damaged.iter().for_each(|pack| records.suspect(*pack, now_secs()));
    });
    let (records, now) = (ledger.load(), now_secs());
    let mut verified = Verified::default();
    for (id, len) in packs {
        if let Some(at) = records.verified_at(id, *len, now) {
            verified.packs += 1;
            verified.pack_bytes += len;
            verified.oldest_secs = Some(verified.oldest_secs.map_or(at, |oldest| oldest.min(at)));
        }
    }
    verified
}
