//! The walk: takes the stored tree in order, makes directories, and cuts the rest into pieces of work.

use super::contents::{Work, Writers};
use super::filter::Verdict;
use super::tree::Folder;
use super::{Options, Restore};
use crate::error::{Error, ErrorKind, Result};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Content, Directory, Entry, Node};
use crate::quantity::noun;
use crate::repo::Repository;
use crate::repo::read::tree::Leaf;
use crate::source::stat::Kind;
use crate::store::Wait;
use crossbeam_channel::Sender;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A run of files ends when it has this many bytes; a longer file is written by several threads.
const RUN_BYTES: u64 = 4 << 20;
/// One of the ranges of a large file has about this many bytes that are no hole.
pub(super) const PART_BYTES: u64 = 4 << 20;

/// The work of this restore and who does it.
pub(super) type Workers<'a> = (&'a Writers<'a>, Sender<Work>);

/// A directory the walk is in.
struct Level {
    folder: Arc<Folder>,
    directory: Directory,
    /// The next entry, and the one behind the last.
    position: u64,
    end: u64,
    leaf: Option<Leaf>,
    verdict: Verdict,
    path_len: usize,
    /// Entries that could not be read, and why the first.
    lost: u64,
    failure: Option<Error>,
}

/// A walk through a tree.
pub(super) struct Walk<'a> {
    job: &'a Restore<'a>,
    options: &'a Options,
    workers: Workers<'a>,
    levels: Vec<Level>,
    /// Of the directory it is in, absolute.
    path: Vec<u8>,
}

impl Level {
    /// Returns the page with the next entry that can be read.
    fn leaf(&mut self, repository: &Repository) -> Option<Leaf> {
        if let Some(leaf) = self.leaf.as_ref().filter(|leaf| leaf.entry(self.position).is_some()) {
            return (self.position < self.end).then(|| leaf.clone());
        }
        while self.position < self.end {
            match repository.leaf_at(&self.directory, self.position, Wait::Allowed) {
                Ok(Some(leaf)) => {
                    self.leaf = Some(leaf.clone());
                    return Some(leaf);
                }
                Ok(None) => {
                    self.lost += self.end - self.position;
                    self.position = self.end;
                    self.failure.get_or_insert_with(|| Error::damaged("it ends too early: run `bakfs check`"));
                }
                // How long the page is, only the page itself says.
                Err(error) => {
                    self.lost += 1;
                    self.position += 1;
                    self.failure.get_or_insert(error);
                }
            }
        }
        None
    }
}

impl<'a> Walk<'a> {
    pub(super) fn new(job: &'a Restore<'a>, options: &'a Options, workers: Workers<'a>) -> Self {
        Walk { job, options, workers, levels: Vec::new(), path: Vec::new() }
    }

    /// Walks through what is to be restored. Fails when the way there cannot be read.
    pub(super) fn run(mut self, snapshot: &Snapshot, root: Arc<Folder>) -> Result<()> {
        self.start(snapshot, root)?;
        while let Some(level) = self.levels.last_mut() {
            if self.job.has_failed() {
                break;
            }
            match level.leaf(self.job.repository) {
                Some(leaf) => self.page(&leaf),
                None => self.leave(),
            }
        }
        Ok(())
    }

    /// Enters the directories above what is to be restored, each for one entry only.
    fn start(&mut self, snapshot: &Snapshot, root: Arc<Folder>) -> Result<()> {
        let start = self.options.filter.start();
        self.push(root, snapshot.root, start);
        let path = &self.options.path;
        let mut names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").peekable();
        while let (Some(name), Some(level)) = (names.next(), self.levels.last_mut()) {
            let found = self.job.repository.find_entry(&level.directory, name, Wait::Allowed)?;
            let Some((leaf, position)) = found else { break };
            (level.position, level.end) = (position, position + 1);
            let Some(entry) = leaf.entry(position).filter(|_| names.peek().is_some()) else { break };
            let Node::Directory(directory) = entry.node else { break };
            level.position = level.end;
            let folder = level.folder.below(&entry.name, &entry.meta);
            let verdict = self.verdict(entry);
            self.extend_path(entry);
            if self.is_repository() {
                return Err(is_repository());
            }
            self.push(folder, directory, verdict);
        }
        Ok(())
    }

    fn push(&mut self, folder: Arc<Folder>, directory: Directory, verdict: Verdict) {
        self.levels.push(Level {
            folder,
            directory,
            position: 0,
            end: if verdict == Verdict::LeftOut { 0 } else { directory.entries },
            leaf: None,
            verdict,
            path_len: self.path.len(),
            lost: 0,
            failure: None,
        });
    }

    fn extend_path(&mut self, entry: &Entry) {
        self.path.push(b'/');
        self.path.extend_from_slice(&entry.name);
    }

    /// Leaves the directory it is in.
    fn leave(&mut self) {
        let Some(level) = self.levels.pop() else { return };
        if let Some(error) = level.failure {
            let entries = level.directory.entries;
            let message = format!("{} of its {entries} {} could not be read", level.lost, noun(entries, "entry"));
            self.trouble(&level.folder, Error::new(error.kind(), message).because(error));
        }
        self.job.release(level.folder);
        self.path.truncate(self.levels.last().map_or(0, |level| level.path_len));
    }

    /// Says what becomes of an entry of the directory it is in.
    fn verdict(&mut self, entry: &Entry) -> Verdict {
        let Some(level) = self.levels.last() else { return Verdict::LeftOut };
        let (above, len) = (level.verdict, self.path.len());
        if self.options.filter.is_empty() {
            return above;
        }
        self.extend_path(entry);
        let is_directory = matches!(entry.node, Node::Directory(_));
        let verdict = self.options.filter.verdict(above, &self.path, is_directory);
        self.path.truncate(len);
        verdict
    }

    /// Takes the entries of a page, up to its end or the first directory.
    fn page(&mut self, leaf: &Leaf) {
        let Some(level) = self.levels.last() else { return };
        let (mut from, end) = (level.position, level.end.min(leaf.first + leaf.entries().len() as u64));
        let mut bytes = 0;
        for at in level.position..end {
            let Some(entry) = leaf.entry(at) else { break };
            let verdict = self.verdict(entry);
            match &entry.node {
                _ if verdict == Verdict::LeftOut => {
                    self.send_run(leaf, from, at);
                    self.skip(entry);
                }
                Node::Directory(directory) => {
                    self.send_run(leaf, from, at);
                    return self.enter(entry, directory, verdict, at + 1);
                }
                Node::File(content) if entry.meta.size_bytes > RUN_BYTES => {
                    self.send_run(leaf, from, at);
                    self.split(leaf, at, entry, content);
                }
                _ => {
                    bytes = entry.meta.size_bytes.saturating_add(bytes);
                    if bytes < RUN_BYTES {
                        continue;
                    }
                    self.send_run(leaf, from, at + 1);
                }
            }
            (from, bytes) = (at + 1, 0);
        }
        self.send_run(leaf, from, end);
        self.go_on(end);
    }

    /// Goes on in this directory at a position.
    fn go_on(&mut self, position: u64) {
        if let Some(level) = self.levels.last_mut() {
            // Further where the directory itself turned out to be unusable.
            level.position = level.position.max(position);
        }
    }

    /// Tells the monitor that an entry needs no work.
    fn skip(&self, entry: &Entry) {
        let (files, bytes) = entry.totals();
        if !self.job.is_again.load(Ordering::Relaxed) {
            self.job.monitor.advance(files, bytes);
        }
    }

    /// Enters a directory; the walk goes on behind it later.
    fn enter(&mut self, entry: &Entry, directory: &Directory, verdict: Verdict, behind: u64) {
        self.go_on(behind);
        let Some(level) = self.levels.last() else { return };
        let folder = level.folder.below(&entry.name, &entry.meta);
        self.extend_path(entry);
        if self.is_repository() {
            self.trouble(&folder, is_repository());
            return self.turn_back(folder, entry);
        }
        if verdict == Verdict::Taken {
            let takes_place = self.takes_place(entry);
            if self.job.open(&folder).is_none() {
                return self.turn_back(folder, entry);
            }
            if takes_place && let Some(level) = self.levels.last() {
                self.job.cleared(&level.folder, entry);
            }
            self.job.done(entry, 0);
        }
        self.push(folder, *directory, verdict);
    }

    /// Returns whether something of another type is removed for a directory.
    fn takes_place(&self, entry: &Entry) -> bool {
        let is_asked = self.job.options.replace_types && !self.job.is_again.load(Ordering::Relaxed);
        let there = || self.job.open(&self.levels.last()?.folder)?.look(&entry.name).ok()?;
        is_asked && there().is_some_and(|there| there.kind != Kind::Directory)
    }

    /// Leaves a directory out after all.
    fn turn_back(&mut self, folder: Arc<Folder>, entry: &Entry) {
        self.skip(entry);
        self.job.release(folder);
        self.path.truncate(self.levels.last().map_or(0, |level| level.path_len));
    }

    /// Names what a directory lacks; the second pass, which meets it again, is silent.
    fn trouble(&self, folder: &Folder, error: Error) {
        if !self.job.is_again.load(Ordering::Relaxed) {
            self.job.trouble(folder, b"", error);
        }
    }

    fn is_repository(&self) -> bool {
        self.job.repository_path.as_ref().is_some_and(|path| *path == self.path)
    }

    /// Hands files over, which are no directories.
    fn send_run(&mut self, leaf: &Leaf, from: u64, to: u64) {
        let Some(level) = self.levels.last_mut().filter(|level| from < to && level.position < level.end) else {
            return;
        };
        let (_, work) = &self.workers;
        match self.job.open(&level.folder) {
            Some(dir) => {
                let run = Work::Run { folder: level.folder.hold(), dir, leaf: leaf.clone(), range: from..to };
                // Nobody takes it where a thread could not be started, which is told.
                let _ = work.send(run);
            }
            None => level.position = level.end,
        }
    }

    /// Hands a large file over in ranges.
    fn split(&mut self, leaf: &Leaf, at: u64, entry: &Entry, content: &Content) {
        let Some(level) = self.levels.last_mut().filter(|level| level.position < level.end) else { return };
        let (writers, work) = &self.workers;
        let Some(dir) = self.job.open(&level.folder) else {
            level.position = level.end;
            return;
        };
        let Some(large) = writers.begin(&level.folder, &dir, leaf, at) else { return };
        let cut = writers.each_part(content, entry.meta.size_bytes, &mut |range| {
            let _ = work.send(Work::Part { large: large.clone(), range });
        });
        if let Err(error) = cut {
            large.fail(error);
        }
        writers.complete(large, &mut Vec::new());
    }
}

fn is_repository() -> Error {
    Error::new(
        ErrorKind::Exists,
        "is the repository itself, which is not written to: restore it into another directory",
    )
}
