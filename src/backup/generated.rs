//! Dumps: folders and files that no disk holds, and what of them is still to be made.

use super::content::Cutter;
use super::{own_ids, roots};
use crate::error::{Error, Result};
use crate::source::generated::{Content, Generated, Replaced};
use std::collections::{HashSet, VecDeque};
use std::io::Read;
use std::path::{Path, PathBuf};

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

impl Dumps {
    /// Takes standard input, or another stream, as the file `name`: all that is backed up. Fails where that is no
    /// absolute path.
    pub(super) fn of_input(name: &Path, input: Box<dyn Read + Send>) -> Result<Self> {
        let path: Vec<_> = roots::names(name).collect();
        if !name.is_absolute() || path.is_empty() || path.len() != name.components().count() - 1 {
            return Err(Error::usage(format!(
                "`{}` cannot name the stream: give it an absolute path, as /db/shop.sql",
                name.display()
            )));
        }
        let content = Content::Input(Box::new(|| Ok(input)));
        let stream = Generated { path, owner: own_ids(), is_note: false, lacks: Default::default(), content };
        Ok(Dumps { generated: vec![stream], ..Dumps::default() })
    }

    /// Returns whether nothing is made, nor should have been.
    pub(super) fn is_empty(&self) -> bool {
        self.generated.is_empty() && self.failed.is_empty()
    }
}

/// Dumps that are still to be made, and how it went with those before.
pub struct PendingDumps<'a> {
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

impl<'a> PendingDumps<'a> {
    /// Takes what is to be made.
    pub fn new(generated: Vec<Generated>, cutter: &'a Cutter) -> Self {
        PendingDumps { waiting: generated.into(), open: Vec::new(), cutter, whole: HashSet::new(), made: 0, missing: 0 }
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
