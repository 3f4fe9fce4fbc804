//! Snapshots that this machine has seen at the place and that are not listed any more.
//!
//! A listing may be short, and whoever can write to a place can put an older state of the repository back: neither can
//! be told from what is there. A snapshot that was seen and is gone is explained by a verdict that removes it, or a
//! recall; else it is missing.

use crate::error::{Error, ErrorKind, Result};
use crate::id::ObjectId;
use crate::known::{History, Seen};
use crate::quantity::{are, counted};
use crate::repo::Repository;
use crate::repo::parallel;
use crate::repo::shared::dated;
use crate::repo::shared::listed::ListedSnapshot;
use crate::repo::shared::marks::Marks;
use crate::store::{self, Object};
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// No more snapshots that are missing are told one by one.
const MAX_TOLD: usize = 10;
/// How often marks are read again for what explains that a snapshot is gone: the verdict that does may have been
/// replaced by a later one between their listing and its reading.
const MAX_LOOKS: usize = 3;

/// What the last listing lacked.
#[derive(Default)]
pub(in crate::repo) struct Lost {
    missing: Vec<Seen>,
    /// Whose loss is among the warnings already.
    told: HashSet<ObjectId>,
    /// The first failure to read a snapshot that is there, which says nothing of what is stored.
    unread: Option<(ErrorKind, String)>,
}

impl Repository {
    /// Returns what was seen here before, by this process or another. To be asked before a listing: what others see
    /// after it is no loss.
    pub(in crate::repo) fn history(&self) -> Option<History> {
        self.shared.known.as_ref()?.history(self.keys())
    }

    /// Lists the snapshots and returns those that were seen here once and are gone, with nothing that explains it;
    /// oldest first. None where nothing is known of the place.
    pub fn missing_snapshots(&self) -> Result<Vec<Seen>> {
        if self.shared.known.is_some() {
            self.listed()?;
        }
        Ok(self.missing())
    }

    /// Returns the same by the last listing that was made.
    pub fn missing(&self) -> Vec<Seen> {
        self.shared.lost.lock().missing.clone()
    }

    /// Fails if the last listing lacked snapshots, before what must not be done by a history that is not whole.
    pub fn require_no_missing(&self, what: &str, next: &str) -> Result<()> {
        let missing = self.missing();
        let Some(first) = missing.last() else { return Ok(()) };
        Err(Error::damaged(format!(
            "{what}: {} that {} here {} missing, the newest {}: bring back what is missing from a copy, or {next}",
            counted(missing.len(), "snapshot"),
            if missing.len() == 1 { "was" } else { "were" },
            are(missing.len()),
            first.name.escape_debug()
        )))
    }

    /// Notes that the last listing has snapshots that could not be read, for a reason that is none of theirs.
    pub(in crate::repo) fn note_unread(&self, failure: Option<&Error>) {
        self.shared.lost.lock().unread = failure.map(|error| (error.kind(), error.chain()));
    }

    /// Fails if the last listing had snapshots that could not be read, before another is taken for the newest.
    pub fn require_all_read(&self, what: &str, next: &str) -> Result<()> {
        match &self.shared.lost.lock().unread {
            None => Ok(()),
            Some((kind, why)) => Err(Error::new(*kind, format!("{what}: {why}. Mend that, or {next}"))),
        }
    }

    /// From now on takes what is missing for removed: whoever says so knows why it is gone.
    pub fn accept_missing(&self) -> Result<()> {
        let missing: Vec<_> = self.missing_snapshots()?.iter().map(|seen| seen.id).collect();
        if let (Some(known), Some(mut history)) = (&self.shared.known, self.history()) {
            history.remove(&missing);
            known.keep(&history, self.keys());
        }
        self.tell_missing(Vec::new());
        Ok(())
    }

    /// Finds out what has become of snapshots that were seen before and are not listed. Those that are there all the
    /// same are added to the listing. Returns those whose removal is explained; the others are missing.
    pub(in crate::repo) fn look_for_gone(
        &self,
        before: Option<&History>,
        stored: &mut Vec<store::ListedObject>,
        marks: &mut Marks,
    ) -> Result<Vec<ObjectId>> {
        let listed: HashSet<ObjectId> = stored.iter().map(|listed| listed.id).collect();
        let seen = before.map_or(&[][..], |before| &before.seen);
        let gone: Vec<&Seen> = seen.iter().filter(|seen| !listed.contains(&seen.id)).collect();
        if gone.is_empty() {
            self.tell_missing(Vec::new());
            return Ok(Vec::new());
        }
        let mut explained = marks.removed();
        for _ in 1..MAX_LOOKS {
            if gone.iter().all(|seen| explained.contains(&seen.id)) {
                break;
            }
            *marks = self.marks()?;
            explained = marks.removed();
        }
        let (explained, unexplained): (Vec<&Seen>, Vec<&Seen>) =
            gone.into_iter().partition(|seen| explained.contains(&seen.id));
        let found = parallel::for_each(&*self.store, parallel::SMALL, &unexplained, |seen| {
            match self.store.len_bytes(Object::Snapshot(seen.id)) {
                Ok(len_bytes) => Ok(Some(store::ListedObject { id: seen.id, len_bytes })),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        })?;
        let mut missing = Vec::new();
        for (seen, found) in unexplained.into_iter().zip(found) {
            match found {
                Some(found) => {
                    self.note(format!("The list of snapshots lacks {}, which is there", Object::Snapshot(seen.id)));
                    stored.push(found);
                }
                None => missing.push(seen.clone()),
            }
        }
        self.tell_missing(missing);
        Ok(explained.into_iter().map(|seen| seen.id).collect())
    }

    /// Warns of what is missing, of each once.
    fn tell_missing(&self, missing: Vec<Seen>) {
        let mut lost = self.shared.lost.lock();
        let fresh: Vec<Seen> = missing.iter().filter(|seen| lost.told.insert(seen.id)).cloned().collect();
        self.warnings.is_history_shrunk.store(!missing.is_empty(), Ordering::Relaxed);
        lost.missing = missing;
        drop(lost);
        for seen in fresh.iter().rev().take(MAX_TOLD) {
            self.warn(format!(
                "The snapshot {} of {} is missing ({}): it was here, and nothing says that it was removed",
                seen.name.escape_debug(),
                dated::timestamp(seen.time),
                Object::Snapshot(seen.id)
            ));
        }
        if fresh.len() > MAX_TOLD {
            let more = fresh.len() - MAX_TOLD;
            self.warn(format!("{} {} missing likewise", counted(more, "more snapshot"), are(more)));
        }
        if !fresh.is_empty() {
            self.warn(format!(
                "The history at {} has shrunk: bring it back from a copy. Until then nothing is forgotten or pruned, and \
                 `latest` is not restored; `bakfs prune --accept-missing` takes what is left for all there is",
                self.store.location()
            ));
        }
    }

    /// Keeps what a listing has shown, and what of earlier ones was removed since.
    pub(in crate::repo) fn remember(&self, before: &History, all: &[ListedSnapshot], gone: &[ObjectId]) {
        let known: HashSet<ObjectId> = before.seen.iter().map(|seen| seen.id).collect();
        if gone.is_empty() && all.iter().all(|listed| known.contains(&listed.id)) {
            return;
        }
        // As others have left it meanwhile. Of two that write at once one may be forgotten; what was forgotten since by
        // `bakfs forget-place` is not made anew.
        let (Some(place), Some(mut history)) = (&self.shared.known, self.history()) else { return };
        let meanwhile: HashSet<ObjectId> =
            history.removed.iter().copied().filter(|id| !before.removed.contains(id)).collect();
        let there = all.iter().filter(|listed| !meanwhile.contains(&listed.id));
        history.add(
            there.map(|ListedSnapshot { id, snapshot }| Seen::new(*id, snapshot.time, &snapshot.name, &snapshot.host)),
        );
        history.remove(gone);
        place.keep(&history, self.keys());
    }
}
