//! Writing files: runs of small ones, ranges of large ones, and the links between names.

use super::links::{self, Claim, Key, Links};
use super::target::{Begun, Dir, File};
use super::tree::{Closed, Folder};
use super::{Job, add};
use crate::error::{Error, ErrorKind, Result};
use crate::format::codec::Bytes;
use crate::format::tree::{Content, Entry, Node};
use crate::repo::tree::Leaf;
use crate::store::Wait;
use crossbeam_channel::Receiver;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A piece of work.
pub(super) enum Work {
    /// Files of one page of a directory: all that are no directories and not large.
    Run {
        /// Held until they are done.
        folder: Arc<Folder>,
        dir: Dir,
        leaf: Leaf,
        /// Their positions.
        range: Range<u64>,
    },
    /// A range of a large file, of whole extents.
    Part { large: Arc<Large>, range: Range<u64> },
}

/// A file that several threads write. Whoever has the last reference completes it.
pub(super) struct Large {
    folder: Arc<Folder>,
    leaf: Leaf,
    position: u64,
    link: Option<Key>,
    file: File,
    written_bytes: AtomicU64,
    failure: Mutex<Option<Error>>,
}

impl Large {
    fn entry(&self) -> &Entry {
        self.leaf.entry(self.position).expect("the position was found in this leaf")
    }

    /// Says that the file cannot be completed.
    pub(super) fn fail(&self, error: Error) {
        self.failure.lock().get_or_insert(error);
    }
}

/// What the writing threads share.
pub(super) struct Writers<'a> {
    job: &'a Job<'a>,
    links: Links,
}

impl<'a> Writers<'a> {
    pub(super) fn new(job: &'a Job<'a>) -> Self {
        Writers { job, links: Links::default() }
    }

    /// Does all work there is.
    pub(super) fn serve(&self, work: &Receiver<Work>) {
        let mut buffer = Vec::new();
        for work in work {
            match work {
                _ if self.job.has_failed() => {}
                Work::Run { folder, dir, leaf, range } => {
                    for entry in range.filter_map(|position| leaf.entry(position)) {
                        if !self.job.has_failed() {
                            self.restore(&folder, &dir, entry, &mut buffer);
                        }
                    }
                    self.job.release(folder);
                }
                Work::Part { large, range } => {
                    if large.failure.lock().is_none()
                        && let Node::File(content) = &large.entry().node
                    {
                        match self.fill(&large.file, content, range, &mut buffer, true) {
                            Ok(bytes) => add(&large.written_bytes, bytes),
                            Err(error) => large.fail(error),
                        }
                    }
                    self.complete(large, &mut buffer);
                }
            }
        }
    }

    /// Restores what is no directory.
    fn restore(&self, folder: &Arc<Folder>, dir: &Dir, entry: &Entry, buffer: &mut Vec<u8>) {
        let Some(key) = links::key(&entry.meta) else {
            self.write(folder, dir, entry, buffer);
            return;
        };
        match self.links.claim(key, folder, entry) {
            Claim::Write => {
                let is_written = self.write(folder, dir, entry, buffer);
                self.settle(key, folder, &entry.name, is_written, buffer);
            }
            Claim::Link(first, first_name) => self.link(folder, dir, entry, &first, &first_name, buffer),
            Claim::Waits => {}
        }
    }

    /// Writes a file of any type; returns whether it is there.
    fn write(&self, folder: &Folder, dir: &Dir, entry: &Entry, buffer: &mut Vec<u8>) -> bool {
        let made = match &entry.node {
            Node::File(content) => self.write_file(dir, entry, content, buffer),
            _ => dir.make_node(entry),
        };
        self.note(folder, entry, made, 0)
    }

    fn write_file(&self, dir: &Dir, entry: &Entry, content: &Content, buffer: &mut Vec<u8>) -> Result<Vec<Error>> {
        let meta = &entry.meta;
        match dir.begin_file(&entry.name, meta)? {
            Begun::Done(errors) => {
                add(&self.job.counts.files_kept, 1);
                Ok(errors)
            }
            Begun::Open(file) => {
                let bytes = self.fill(&file, content, 0..meta.size_bytes, buffer, false)?;
                let errors = file.finish(meta)?;
                add(&self.job.counts.files_written, 1);
                add(&self.job.counts.written_bytes, bytes);
                Ok(errors)
            }
        }
    }

    /// Counts and tells what became of a file, of which `reported_bytes` were told as progress before.
    fn note(&self, folder: &Folder, entry: &Entry, made: Result<Vec<Error>>, reported_bytes: u64) -> bool {
        match made {
            Ok(errors) => {
                for error in errors {
                    self.job.trouble(folder, &entry.name, error);
                }
                self.job.done(entry, reported_bytes);
                true
            }
            Err(error) => {
                self.job.trouble(folder, &entry.name, error);
                false
            }
        }
    }

    /// Makes a file another name of the first; where that cannot be, a file of its own.
    fn link(
        &self,
        folder: &Folder,
        dir: &Dir,
        entry: &Entry,
        first: &Arc<Folder>,
        first_name: &Bytes,
        buffer: &mut Vec<u8>,
    ) {
        let linked = match first.open() {
            Ok(first) => dir.hard_link(&entry.name, &first, first_name),
            Err(Closed::Failed(_, error)) => Err(error),
            Err(Closed::Told) => return,
        };
        match linked {
            Ok(()) => {
                add(&self.job.counts.hard_links, 1);
                self.job.done(entry, 0);
            }
            Err(error) if matches!(error.kind(), ErrorKind::Exists | ErrorKind::Full) => {
                self.job.trouble(folder, &entry.name, error);
            }
            Err(error) => {
                let message = "became a file of its own instead of one more name of another";
                self.job.trouble(folder, &entry.name, Error::new(error.kind(), message).because(error));
                self.write(folder, dir, entry, buffer);
            }
        }
    }

    /// Lets the other names of a file follow that came while its first was written.
    fn settle(&self, key: Key, folder: &Arc<Folder>, name: &Bytes, is_written: bool, buffer: &mut Vec<u8>) {
        for (folder, entry) in self.links.settle(key, folder, name, is_written) {
            if let Some(dir) = self.job.open(&folder) {
                self.restore(&folder, &dir, &entry, buffer);
            }
            self.job.release(folder);
        }
    }

    /// Writes the extents of a file in a range; returns how many bytes that were. Holes stay holes.
    fn fill(
        &self,
        file: &File,
        content: &Content,
        range: Range<u64>,
        buffer: &mut Vec<u8>,
        is_reported: bool,
    ) -> Result<u64> {
        let repository = self.job.repository;
        let (mut end, mut written_bytes) = (range.start, 0);
        repository.for_each_extent(content, range.start, range.end, Wait::Allowed, &mut |offset, extent| {
            end = offset.saturating_add(extent.len_bytes);
            if !extent.is_hole() {
                buffer.clear();
                repository.read_extent(extent, buffer)?;
                file.write_at(offset, buffer)?;
                written_bytes += extent.len_bytes;
                if is_reported {
                    self.job.monitor.advance(0, extent.len_bytes);
                }
            }
            Ok(true)
        })?;
        if end != range.end {
            return Err(Error::damaged("its extents end before it does: run `bakfs check`"));
        }
        Ok(written_bytes)
    }

    /// Begins a large file; `None` when there is nothing to write into it.
    pub(super) fn begin(&self, folder: &Arc<Folder>, dir: &Dir, leaf: &Leaf, position: u64) -> Option<Arc<Large>> {
        let entry = leaf.entry(position)?;
        let mut buffer = Vec::new();
        let link = links::key(&entry.meta);
        if let Some(key) = link {
            match self.links.claim(key, folder, entry) {
                Claim::Write => {}
                Claim::Link(first, first_name) => {
                    self.link(folder, dir, entry, &first, &first_name, &mut buffer);
                    return None;
                }
                Claim::Waits => return None,
            }
        }
        let made = match dir.begin_file(&entry.name, &entry.meta) {
            Ok(Begun::Open(file)) => {
                return Some(Arc::new(Large {
                    folder: folder.hold(),
                    leaf: leaf.clone(),
                    position,
                    link,
                    file,
                    written_bytes: AtomicU64::new(0),
                    failure: Mutex::default(),
                }));
            }
            Ok(Begun::Done(errors)) => {
                add(&self.job.counts.files_kept, 1);
                Ok(errors)
            }
            Err(error) => Err(error),
        };
        let is_there = self.note(folder, entry, made, 0);
        if let Some(key) = link {
            self.settle(key, folder, &entry.name, is_there, &mut buffer);
        }
        None
    }

    /// Gives a reference back; the last one gives the file its length, attributes and name, or removes it.
    pub(super) fn complete(&self, large: Arc<Large>, buffer: &mut Vec<u8>) {
        // After a failure other parts may have been dropped: the file is removed with its last reference.
        let Some(large) = Arc::into_inner(large).filter(|_| !self.job.has_failed()) else { return };
        let Large { folder, leaf, position, link, file, written_bytes, failure } = large;
        let entry = leaf.entry(position).expect("the position was found in this leaf");
        let bytes = written_bytes.load(Ordering::Relaxed);
        let made = match failure.into_inner() {
            Some(error) => {
                // Removes what was begun.
                drop(file);
                Err(error)
            }
            None => file.finish(&entry.meta).inspect(|_| {
                add(&self.job.counts.files_written, 1);
                add(&self.job.counts.written_bytes, bytes);
            }),
        };
        let is_written = self.note(&folder, entry, made, bytes);
        if let Some(key) = link {
            self.settle(key, &folder, &entry.name, is_written, buffer);
        }
        self.job.release(folder);
    }
}
