//! Making the index name what can be read and nothing else.
//!
//! What can be read is never deleted. A damaged pack's good chunks are copied to a new pack, and the damaged
//! one is *set aside*: it stays where it is, and the index names it without any frame, so that nobody takes it
//! for a pack whose index was lost. New packs are durable before the new index, and the new index before what
//! it replaces is removed: a repair that is stopped anywhere has done no harm, and the next one goes on.
//!
//! Memory: two index objects (64 bytes a chunk, at most 512 Ki chunks), 100 bytes a pack, 48 bytes for each
//! chunk that is saved or lost, and one pack that is being made. Of an index that is lost as a whole 110 bytes a chunk
//! more: it is read from the packs when the repository is opened.

mod index;
mod judge;
mod salvage;

use crate::error::{Error, ErrorKind, Result};
use crate::format::feature::Act;
use crate::format::mark::{Mark, SessionKind};
use crate::id::ObjectId;
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::repo::features;
use crate::repo::shared::session::{Session, is_surely_dead, told};
use crate::store::{Names, Object};
use index::Survey;
use salvage::Salvage;
use serde::{Serialize, Serializer};
use std::collections::HashSet;
use std::sync::Arc;

/// What to repair, and how.
#[derive(Debug, Default)]
pub struct Options {
    /// Packs in which a check has found something: they are read whole.
    pub suspects: Vec<ObjectId>,
    /// Whether only to say what would be done.
    pub dry_run: bool,
}

/// What a repair did, or would do.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Damaged index objects that were replaced.
    pub damaged_index: Vec<ObjectId>,
    /// Damaged marks that were removed.
    pub damaged_marks: Vec<ObjectId>,
    /// Objects that were removed because no program with the repository's key has written them.
    #[serde(serialize_with = "names")]
    pub foreign: Vec<Object>,
    /// How many of them were left, because what else is there does not open either.
    pub left_foreign: u64,
    /// Packs the index named that are not there: it does not name them any more.
    pub missing_packs: Vec<ObjectId>,
    /// Damaged packs that were set aside.
    pub set_aside_packs: Vec<ObjectId>,
    /// Packs of which neither the index nor they themselves tell what is in them; left as they are.
    pub unreadable_packs: Vec<ObjectId>,
    /// Packs that the index did not name, or named wrongly, and names now.
    pub named_packs: u64,
    /// Chunks that were copied from damaged packs, because no other has them.
    pub saved_chunks: u64,
    /// Their length.
    pub saved_bytes: u64,
    /// Chunks that were in damaged or missing packs and are nowhere now.
    pub lost_chunks: u64,
    /// Index objects that were written.
    pub index_written: u64,
    /// Index objects that were removed.
    pub index_removed: u64,
}

fn names<S: Serializer>(objects: &[Object], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(objects.iter().map(Object::to_string))
}

impl Report {
    /// Returns whether there was anything to do.
    pub fn has_changes(&self) -> bool {
        self.index_written + self.index_removed + self.saved_chunks > 0
            || !self.damaged_marks.is_empty()
            || !self.foreign.is_empty()
    }
}

/// Repairs a repository that was opened with an empty cache. A prune that runs has to end first. What one that was
/// interrupted has condemned may be named again: the next prune looks anew at what is needed of it.
pub fn run(repository: &Arc<Repository>, options: &Options, monitor: &dyn Monitor) -> Result<Report> {
    let session = if options.dry_run { None } else { Some(Session::begin_alone(repository, &is_surely_dead)?) };
    let marks = repository.marks()?;
    repository.require(Act::Remove, &marks)?;
    // What a newer bakfs says may be what forbids to go on, and is not damaged.
    marks.require_known()?;
    if session.is_some() {
        features::keep(repository)?;
    }
    // Their bytes are those of their names and do not verify: another look would find the same.
    let foreign = repository.foreign_objects()?.into_iter().map(|(object, _)| object).collect();
    let mut report = Report { damaged_marks: damaged_marks(repository)?, foreign, ..Report::default() };
    if session.is_some() && !report.damaged_marks.is_empty() {
        require_silence(repository)?;
    }
    repository.refresh_index()?;
    let survey = Survey::new(repository, options, &mut report, monitor)?;
    if !report.foreign.is_empty() && !is_key_proven(repository, &report)? {
        // What is no key slot is none under any configuration.
        let found = report.foreign.len();
        report.foreign.retain(|object| matches!(object, Object::Key(_)));
        report.left_foreign = (found - report.foreign.len()) as u64;
    }
    let mut salvage = Salvage::new(repository, &survey, options.dry_run);
    salvage.run(monitor)?;
    let new_packs = salvage.finish(&mut report)?;
    index::rewrite(repository, &survey, &new_packs, session.as_ref(), &mut report)?;
    let Some(session) = session else { return Ok(report) };
    for mark in &report.damaged_marks {
        repository.store().delete(Object::Mark(*mark))?;
    }
    for object in &report.foreign {
        repository.store().delete(*object)?;
    }
    repository.store().barrier(Names::Mine)?;
    session.end()?;
    Ok(report)
}

/// Returns whether what is stored shows that the configuration belongs to it: under that of another repository, copied here
/// by mistake, every good object would look like somebody else's.
fn is_key_proven(repository: &Repository, report: &Report) -> Result<bool> {
    Ok(report.unreadable_packs.is_empty() && !repository.all_snapshots()?.is_empty())
}

/// Fails while a backup runs: a mark that cannot be read may be the fence that keeps it from committing.
fn require_silence(repository: &Repository) -> Result<()> {
    let marks = repository.marks()?;
    for (_, session) in marks.sessions(SessionKind::Backup) {
        if marks.is_fenced(&session.id) {
            continue;
        }
        if !is_surely_dead(session) {
            let message = format!(
                "A mark is damaged and a backup runs ({}), which it may concern: repair when the backup has ended, or \
                 remove the backup's mark in the repository's folder `marks` if it died on another machine",
                told(session)
            );
            return Err(Error::new(ErrorKind::Busy, message));
        }
        repository.put_mark(Mark::Fence { session: session.id })?;
    }
    Ok(())
}

/// Returns marks that are damaged, looked at twice: a reader that erred once is no reason to remove anything.
fn damaged_marks(repository: &Repository) -> Result<Vec<ObjectId>> {
    let first: HashSet<_> = repository.marks()?.unreadable.into_iter().map(|(id, _)| id).collect();
    if first.is_empty() {
        return Ok(Vec::new());
    }
    Ok(repository.marks()?.unreadable.into_iter().map(|(id, _)| id).filter(|id| first.contains(id)).collect())
}
