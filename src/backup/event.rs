//! What the director tells the assembler: the steps of building a tree, in its order.

use super::content::Piece;
use crate::error::Error;
use crate::format::codec::Bytes;
use crate::format::tree::{Entry, Meta, Node};
use crate::source::stat::Stat;
use crossbeam_channel::Receiver;

/// How an entry compares with the parent snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The parent does not have it.
    New,
    /// The parent has another state of it.
    Changed,
    /// Taken over from the parent.
    Unmodified,
}

/// One step of building the tree.
pub enum Event {
    /// A directory begins.
    Enter(Bytes, Box<Meta>),
    /// The directory that began last is complete.
    Leave,
    /// The directory of the root that began last is complete, and comes among the others by its name.
    LeaveEarly,
    /// A finished entry of the directory that is open.
    Entry(Box<Entry>, Change),
    /// An entry of the directory that is open, as the parent snapshot has it; counted by [`Event::Counted`].
    Reused(Box<Entry>),
    /// What was reused.
    Counted(Counts),
    /// A file whose content comes through a channel, and the permit to give back afterwards.
    File {
        /// Its name.
        name: Bytes,
        /// What it was when the directory was listed.
        stat: Box<Stat>,
        /// New or changed.
        change: Change,
        /// Its content; `None` in a dry run.
        pieces: Option<Receiver<Piece>>,
        /// What the budget is given back.
        permit_bytes: u64,
    },
    /// Another name of a file that was handed over before.
    Link(Bytes, Box<Stat>, Change),
    /// Something of this name in the directory that is open could not be read.
    Trouble(Bytes, String),
    /// The walk cannot go on.
    Failed(Error),
}

/// The assembler has stopped: there is nobody to tell.
pub struct Stopped;

/// What was taken over, counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Entries of every type.
    pub entries: u64,
    /// Those that are no directories.
    pub files: u64,
    /// Content of the regular files.
    pub bytes: u64,
    /// Whether any has extended attributes.
    pub has_xattrs: bool,
}

impl Counts {
    /// Counts an entry that is no directory.
    pub(super) fn add(&mut self, entry: &Entry) {
        if matches!(entry.node, Node::Directory(_)) {
            return;
        }
        self.entries += 1;
        self.files += 1;
        let bytes = if matches!(entry.node, Node::File(_)) { entry.meta.size_bytes } else { 0 };
        self.bytes = self.bytes.saturating_add(bytes);
        self.has_xattrs |= !entry.meta.xattrs.is_empty();
    }
}

pub(super) fn without_slash(path: &[u8]) -> &[u8] {
    path.strip_prefix(b"/").unwrap_or(path)
}
