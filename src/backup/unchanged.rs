//! Directories that so far are as the parent snapshot has them.
//!
//! Of a directory in which nothing has changed nothing needs to be built again: its entry is taken over
//! with the pages below it. Whether that is so is known at its end, so directories are held back until
//! the first difference in them, which releases them all.

use super::event::{Counts, Event};
use super::parent::ParentEntry;
use crate::format::codec::Bytes;
use crate::format::tree::Meta;
use crate::repo::read::tree::Leaf;

/// Pages kept for directories held back: some 16 MiB. More than that are told at once.
const MAX_LEAVES: usize = 256;

/// A directory that is open, and the pages its first `reused` entries are on, the parent's.
struct Open {
    name: Bytes,
    meta: Box<Meta>,
    leaves: Vec<Leaf>,
    reused: u64,
    counts: Counts,
}

impl Open {
    fn events(self) -> impl Iterator<Item = Event> {
        let mut entries = Vec::new();
        for leaf in &self.leaves {
            let left = usize::try_from(self.reused - leaf.first).unwrap_or(usize::MAX);
            entries.extend(leaf.entries().iter().take(left).cloned());
        }
        let reused = entries.into_iter().map(|entry| Event::Reused(Box::new(entry)));
        std::iter::once(Event::Enter(self.name, self.meta)).chain(reused).chain([Event::Counted(self.counts)])
    }
}

/// The directories that are held back, each in the one before.
#[derive(Default)]
pub struct Unchanged {
    open: Vec<Open>,
    leaves: usize,
}

impl Unchanged {
    /// Holds a directory back that begins; returns its level.
    pub fn open(&mut self, name: Bytes, meta: Box<Meta>) -> usize {
        self.open.push(Open { name, meta, leaves: Vec::new(), reused: 0, counts: Counts::default() });
        self.open.len()
    }

    /// Takes over the next entry of the innermost directory; false where that is not held back, the
    /// parent has other entries before, or too much is held back.
    pub fn reuse(&mut self, known: ParentEntry<'_>) -> bool {
        let Some(open) = self.open.last_mut().filter(|open| open.reused == known.position) else {
            return false;
        };
        if open.leaves.last().is_none_or(|leaf| leaf.first != known.leaf.first) {
            if self.leaves >= MAX_LEAVES {
                return false;
            }
            open.leaves.push(known.leaf.clone());
            self.leaves += 1;
        }
        open.reused += 1;
        open.counts.add(known.entry);
        true
    }

    /// Ends a directory of that level. Returns what was reused if it is still held back and whole: the
    /// parent's `entries`, and `holds` its pages.
    pub fn close(&mut self, level: usize, holds: impl FnOnce() -> bool, entries: u64) -> Option<Counts> {
        if self.open.len() < level || self.open.last()?.reused != entries || !holds() {
            return None;
        }
        let open = self.open.pop()?;
        self.leaves -= open.leaves.len();
        // With itself; of what is below it each directory has counted its own.
        let has_xattrs = open.counts.has_xattrs || !open.meta.xattrs.is_empty();
        Some(Counts { entries: open.counts.entries + 1, has_xattrs, ..open.counts })
    }

    /// Ends holding back: returns the events that were not told.
    pub fn release(&mut self) -> impl Iterator<Item = Event> + use<> {
        self.leaves = 0;
        std::mem::take(&mut self.open).into_iter().flat_map(Open::events)
    }
}
