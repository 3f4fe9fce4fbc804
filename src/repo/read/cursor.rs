//! One directory, page by page: past damage, and past pages another directory shares.

use crate::error::{Error, Result};
use crate::format::page::Page;
use crate::format::tree::{Directory, Entry};
use crate::id::ChunkId;
use crate::quantity::counted;
use crate::repo::Repository;
use crate::store::Wait;
use std::sync::Arc;

/// What a cursor is at.
pub enum Head<'c> {
    /// The end.
    End,
    /// A page that is not read yet.
    Page {
        /// Its level is at most this.
        level: u32,
    },
    /// An entry.
    Entry(&'c Entry),
}

/// Names whose entries cannot be read: from the first on, up to and without the second (`None`: to the end).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The first name.
    pub from: Vec<u8>,
    /// The first name behind it.
    pub to: Option<Vec<u8>>,
}

impl Gap {
    /// Returns whether a name lies in the gap.
    pub fn holds(&self, name: &[u8]) -> bool {
        name >= &self.from[..] && self.to.as_ref().is_none_or(|to| name < &to[..])
    }
}

struct Frame {
    id: ChunkId,
    page: Arc<Page<Entry>>,
    at: usize,
}

/// A place in a directory. Holds one page a level, at most [`crate::format::page::MAX_LEVEL`] and the leaf.
pub struct Cursor<'a> {
    repository: &'a Repository,
    root: Option<Directory>,
    stack: Vec<Frame>,
}

impl<'a> Cursor<'a> {
    /// Starts before the root page of a directory.
    pub fn new(repository: &'a Repository, directory: &Directory) -> Self {
        Cursor { repository, root: Some(*directory), stack: Vec::new() }
    }

    /// Returns what comes next.
    pub fn head(&self) -> Head<'_> {
        if self.root.is_some() {
            return Head::Page { level: u32::MAX };
        }
        match self.stack.last().map(|frame| (&*frame.page, frame.at)) {
            None => Head::End,
            Some((Page::Leaf(entries), at)) => Head::Entry(&entries[at]),
            Some((Page::Inner { level, .. }, _)) => Head::Page { level: level - 1 },
        }
    }

    /// Returns the page [`Self::skip`] would pass: one not read, or a leaf at whose first entry this is.
    pub fn whole_page(&self) -> Option<ChunkId> {
        if let Some(root) = &self.root {
            return Some(root.page);
        }
        let frame = self.stack.last()?;
        match &*frame.page {
            Page::Leaf(_) => (frame.at == 0).then_some(frame.id),
            Page::Inner { children, .. } => Some(children[frame.at].page),
        }
    }

    /// Passes the page [`Self::whole_page`] tells.
    pub fn skip(&mut self) {
        if self.root.take().is_some() {
            return;
        }
        if self.stack.last().is_some_and(|frame| matches!(*frame.page, Page::Leaf(_))) {
            self.stack.pop();
        }
        self.pass();
    }

    /// Passes an entry, or a page that is not read.
    pub fn pass(&mut self) {
        self.root = None;
        if let Some(frame) = self.stack.last_mut() {
            frame.at += 1;
        }
        self.leave_finished();
    }

    fn leave_finished(&mut self) {
        while let Some(frame) = self.stack.last() {
            let len = match &*frame.page {
                Page::Leaf(entries) => entries.len(),
                Page::Inner { children, .. } => children.len(),
            };
            if frame.at < len {
                break;
            }
            self.stack.pop();
            if let Some(parent) = self.stack.last_mut() {
                parent.at += 1;
            }
        }
    }

    /// Reads the page that comes next. One that cannot be read is passed and told with the names it hides.
    pub fn read(&mut self) -> Result<(), (Gap, Error)> {
        let (id, above, items, from) = match (&self.root, self.stack.last()) {
            (Some(root), _) => (root.page, u32::MAX, root.entries, Vec::new()),
            (None, Some(Frame { page, at, .. })) => match &**page {
                Page::Inner { level, children } => {
                    let child = &children[*at];
                    (child.page, *level, child.items, child.first.0.clone())
                }
                Page::Leaf(_) => return Ok(()),
            },
            (None, None) => return Ok(()),
        };
        match self.open(&id, above, items) {
            Ok(page) => {
                self.root = None;
                self.stack.push(Frame { id, page, at: 0 });
                if matches!(&*self.stack[self.stack.len() - 1].page, Page::Leaf(entries) if entries.is_empty()) {
                    self.stack.pop();
                    self.pass();
                }
                Ok(())
            }
            Err(error) => {
                self.pass();
                Err((Gap { from, to: self.next_name() }, error))
            }
        }
    }

    /// Levels fall with every step, so that no chain of pages is longer than there are levels.
    fn open(&self, id: &ChunkId, above: u32, items: u64) -> Result<Arc<Page<Entry>>> {
        let page = self.repository.page(id, Wait::Allowed)?;
        let (level, found) = match &*page {
            Page::Leaf(entries) => (0, entries.len() as u64),
            Page::Inner { level, children } => (*level, children.iter().map(|child| child.items).sum()),
        };
        if level >= above {
            return Err(Error::damaged(format!("Page {id} is of the wrong level: run `bakfs check`")));
        }
        if found != items {
            return Err(Error::damaged(format!(
                "Page {id} has {} instead of {items}: run `bakfs check`",
                counted(found, "entry")
            )));
        }
        Ok(page)
    }

    fn next_name(&self) -> Option<Vec<u8>> {
        let frame = self.stack.last()?;
        Some(match &*frame.page {
            Page::Leaf(entries) => entries[frame.at].name.0.clone(),
            Page::Inner { children, .. } => children[frame.at].first.0.clone(),
        })
    }
}
