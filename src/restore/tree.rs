//! The directories of a restore: made when first needed, finished when the last thing below them is done.

use super::overwrite::{Fate, Overwrite};
use super::target::{Dir, stays};
use crate::error::{Error, Result};
use crate::format::codec::Bytes;
use crate::format::tree::Meta;
use crate::source::stat::Kind;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// Directories that are kept open; when there are more the first is closed, and opened again when it is needed.
const MAX_OPEN: usize = 256;

/// A directory being restored, with those above it.
///
/// It is held by whoever still has something to do in it: the walk, each piece of work on its way, each
/// directory below it. When nobody holds it any more it gets its attributes and is closed.
pub(super) struct Folder {
    /// `None`: the target directory itself.
    parent: Option<Arc<Folder>>,
    name: Bytes,
    /// What it shall have in the end; nothing is changed without.
    meta: Option<Meta>,
    overwrite: Overwrite,
    holds: AtomicUsize,
    state: Mutex<State>,
    /// Of all directories of the tree those that were opened, the first in front.
    opened: Arc<Mutex<VecDeque<Weak<Folder>>>>,
}

#[derive(Default)]
struct State {
    dir: Option<Dir>,
    is_made: bool,
    has_failed: bool,
    /// Whether it was there and keeps its attributes.
    is_left: bool,
}

/// Why a directory is not open.
pub(super) enum Closed {
    /// This one, itself or above the one that was asked for, could not be made or entered.
    Failed(Arc<Folder>, Error),
    /// The same, and it was said before.
    Told,
}

impl Folder {
    /// Makes the root from the open target, held once. It stays open.
    pub(super) fn root(dir: Dir, meta: Option<Meta>, overwrite: Overwrite) -> Arc<Folder> {
        let state = Mutex::new(State { is_made: true, dir: Some(dir), ..State::default() });
        let (holds, opened) = (AtomicUsize::new(1), Arc::default());
        Arc::new(Folder { parent: None, name: Bytes::default(), meta, overwrite, holds, state, opened })
    }

    /// Makes a directory below this one, held once.
    pub(super) fn below(self: &Arc<Folder>, name: &Bytes, meta: &Meta) -> Arc<Folder> {
        Arc::new(Folder {
            parent: Some(self.hold()),
            name: name.clone(),
            meta: Some(meta.clone()),
            holds: AtomicUsize::new(1),
            state: Mutex::default(),
            overwrite: self.overwrite,
            opened: self.opened.clone(),
        })
    }

    /// Holds it once more.
    pub(super) fn hold(self: &Arc<Folder>) -> Arc<Folder> {
        self.holds.fetch_add(1, Ordering::Relaxed);
        self.clone()
    }

    /// Lets go; calls `finish` for this one and those above that nobody holds any more, the lowest first.
    pub(super) fn release(self: Arc<Folder>, mut finish: impl FnMut(&Arc<Folder>)) {
        let mut folder = self;
        while folder.holds.fetch_sub(1, Ordering::AcqRel) == 1 {
            finish(&folder);
            let Some(parent) = folder.parent.clone() else { return };
            folder.close();
            folder = parent;
        }
    }

    /// Gives a directory that was made its attributes; returns those that could not be set.
    pub(super) fn finish(self: &Arc<Folder>) -> Vec<Error> {
        let is_set = |state: &State| state.is_made && !state.is_left;
        let Some(meta) = self.meta.as_ref().filter(|_| is_set(&self.state.lock())) else { return Vec::new() };
        match self.open() {
            Ok(dir) => dir.finish(meta),
            Err(Closed::Failed(_, error)) => vec![error],
            Err(Closed::Told) => Vec::new(),
        }
    }

    /// Returns it open, made if need be, and those above it too.
    pub(super) fn open(self: &Arc<Folder>) -> Result<Dir, Closed> {
        let mut closed = Vec::new();
        let mut folder = self;
        let mut dir = loop {
            let state = folder.state.lock();
            if state.has_failed {
                return Err(Closed::Told);
            }
            if let Some(dir) = &state.dir {
                break dir.clone();
            }
            closed.push(folder);
            folder = folder.parent.as_ref().expect("the root is open");
        };
        while let Some(folder) = closed.pop() {
            let is_made = folder.state.lock().is_made;
            let made = if is_made { dir.enter(&folder.name).map(|dir| (dir, false)) } else { folder.make(&dir) };
            let mut state = folder.state.lock();
            dir = match made {
                Ok((dir, is_left)) => {
                    state.is_left |= is_left;
                    dir
                }
                Err(error) => {
                    state.has_failed = !is_made;
                    return Err(Closed::Failed(folder.clone(), error));
                }
            };
            state.is_made = true;
            // What is finished, and opened only for a hard link to a file in it, is not kept open.
            if closed.len() < MAX_OPEN && folder.holds.load(Ordering::Acquire) > 0 {
                state.dir = Some(dir.clone());
                drop(state);
                folder.keep_open();
            }
        }
        Ok(dir)
    }

    /// Makes it in the directory above, or enters it and takes it from those who may not change it; returns too
    /// whether it keeps the attributes it has.
    fn make(&self, above: &Dir) -> Result<(Dir, bool)> {
        let there = match self.overwrite {
            Overwrite::Always | Overwrite::IfChanged => None,
            Overwrite::IfNewer | Overwrite::Never => above.look(&self.name)?,
        };
        let meta = self.meta.as_ref();
        let is_left = there.as_ref().zip(meta).is_some_and(|(it, meta)| self.overwrite.fate(it, meta) == Fate::Skipped);
        if let Some(there) = there.filter(|there| is_left && there.kind != Kind::Directory) {
            return Err(stays(there.kind));
        }
        let dir = above.make_dir(&self.name)?;
        if let Some(meta) = meta.filter(|_| !is_left) {
            dir.guard(meta)?;
        }
        Ok((dir, is_left))
    }

    /// Notes that it is open, and closes another where there are many.
    fn keep_open(self: &Arc<Folder>) {
        let mut opened = self.opened.lock();
        opened.push_back(Arc::downgrade(self));
        let first = if opened.len() > MAX_OPEN { opened.pop_front() } else { None };
        drop(opened);
        if let Some(first) = first.and_then(|first| first.upgrade()) {
            first.close();
        }
    }

    /// Closes it until it is needed again.
    fn close(&self) {
        self.state.lock().dir = None;
    }

    /// Returns the path below the target, without a slash at its start.
    pub(super) fn path(&self) -> Vec<u8> {
        let mut names = Vec::new();
        let mut folder = Some(self);
        while let Some(found) = folder {
            names.push(&found.name[..]);
            folder = found.parent.as_deref();
        }
        // The root has no name.
        names.pop();
        names.reverse();
        names.join(&b'/')
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // One after the other: a deep tree must not fill the stack.
        let mut parent = self.parent.take();
        while let Some(folder) = parent {
            parent = Arc::into_inner(folder).and_then(|mut folder| folder.parent.take());
        }
    }
}
