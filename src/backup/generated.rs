//! Dumps: folders and files that no disk holds, and what of them is still to be made.

use super::content::Cutter;
use crate::error::Error;
use crate::source::generated::{Generated, Replaced};
use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;

/// What is made while it is backed up.
#[derive(Default)]
pub struct Dumps {
    /// What is made, sorted by path.
    pub generated: Vec<Generated>,
    /// What cannot be made: where it would be, and why.
    pub failed: Vec<(PathBuf, Error)>,
    /// What is left out where the dumps that stand for it are whole.
    pub replaced: Vec<Replaced>,
}

/// What is still to be made.
pub struct Making<'a> {
    pub(super) waiting: VecDeque<Generated>,
    /// The folders that are open, from the root on.
    pub(super) open: Vec<Vec<u8>>,
    pub(super) cutter: &'a Cutter,
    /// What was made whole.
    pub whole: HashSet<Vec<Vec<u8>>>,
    /// How much was made.
    pub made: u64,
    /// What is missing.
    pub missing: u64,
}

impl<'a> Making<'a> {
    /// Takes what is to be made.
    pub fn new(generated: Vec<Generated>, cutter: &'a Cutter) -> Self {
        Making { waiting: generated.into(), open: Vec::new(), cutter, whole: HashSet::new(), made: 0, missing: 0 }
    }

    /// Returns whether something is to be made at this name of the root.
    pub fn is_at(&self, name: &[u8]) -> bool {
        self.waiting.iter().any(|next| next.path.first().is_some_and(|top| &top[..] == name))
    }

    /// Returns the owner of all that is made below a folder; `None` where they differ.
    pub(super) fn owner_below(&self, first: &Generated, depth: usize) -> Option<(u32, u32)> {
        let prefix = &first.path[..depth];
        let mut below = self.waiting.iter().take_while(|next| next.path.starts_with(prefix));
        below.all(|next| next.owner == first.owner).then_some(first.owner)
    }
}
