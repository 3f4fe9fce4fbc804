//! Writing files: runs of small ones, ranges of large ones, and the links between names.

use super::file::{File, Old};
use super::links::{self, Claim, Key, Links, NameAt};
use super::overwrite::Fate;
use super::target::{Dir, How};
use super::tree::{Closed, Folder};
use super::{Restore, add};
use crate::error::{Error, ErrorKind, Result};
use crate::format::tree::{Content, Entry, Node};
use crate::repo::read::tree::Leaf;
use crate::source::stat::Kind;
use crossbeam_channel::Receiver;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

/// What is done with a large file.
enum Task {
    /// It is written; what is right in the file that it replaces is taken from there.
    Write { file: File, old: Option<Old>, how: How },
    /// The file that is there is compared.
    Compare { old: Old, differs: AtomicBool },
}

/// A file that several threads work on. Whoever has the last reference completes it.
pub(super) struct Large {
    folder: Arc<Folder>,
    dir: Dir,
    leaf: Leaf,
    position: u64,
    link: Option<Key>,
    task: Task,
    written_bytes: AtomicU64,
    reported_bytes: AtomicU64,
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

/// What came of a file that is no directory.
pub(super) struct Made {
    how: How,
    /// Attributes that could not be set.
    errors: Vec<Error>,
    written_bytes: u64,
}

impl Made {
    fn unwritten(how: How, errors: Vec<Error>) -> Made {
        Made { how, errors, written_bytes: 0 }
    }
}

/// What is to be done for a regular file.
enum Plan {
    Write(File),
    Compare(Old),
    Replace(Option<Old>),
    /// Nothing, of which this comes.
    Done(How),
}

/// What the writing threads share.
pub(super) struct Writers<'a> {
    pub(super) job: &'a Restore<'a>,
    links: Links,
    /// Which files are made anew, whatever is there; all others are done.
    only: Option<HashSet<Key>>,
}

impl<'a> Writers<'a> {
    pub(super) fn new(job: &'a Restore<'a>, only: Option<HashSet<Key>>) -> Self {
        Writers { job, links: Links::default(), only }
    }

    /// Returns the files that have names which they have not in the snapshot.
    pub(super) fn strangers(self) -> HashSet<Key> {
        self.links.strangers()
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
                    self.part(&large, range, &mut buffer);
                    self.complete(large, &mut buffer);
                }
            }
        }
    }

    fn is_done(&self, key: Option<Key>) -> bool {
        self.only.as_ref().is_some_and(|only| key.is_none_or(|key| !only.contains(&key)))
    }

    /// Restores what is no directory.
    fn restore(&self, folder: &Arc<Folder>, dir: &Dir, entry: &Entry, buffer: &mut Vec<u8>) {
        let key = links::key(&entry.meta);
        if self.is_done(key) {
            return;
        }
        let Some(key) = key else {
            self.write(folder, dir, entry, buffer);
            return;
        };
        match self.links.claim(key, folder, entry) {
            Claim::Write => {
                let how = self.write(folder, dir, entry, buffer);
                self.settle(key, folder, dir, entry, how, buffer);
            }
            Claim::Link(first) => self.link(key, folder, dir, entry, &first, buffer),
            Claim::Waits => {}
        }
    }

    /// Writes a file of any type; returns how it came to be there.
    fn write(&self, folder: &Folder, dir: &Dir, entry: &Entry, buffer: &mut Vec<u8>) -> Option<How> {
        self.job.at(folder, entry);
        let made = match &entry.node {
            Node::File(content) => self.write_file(dir, entry, content, buffer),
            _ => self.write_node(dir, entry),
        };
        self.note(folder, entry, made, 0)
    }

    fn write_node(&self, dir: &Dir, entry: &Entry) -> Result<Made> {
        let made = dir.make_node(entry, self.job.options.overwrite, self.only.is_some());
        made.map(|(how, errors)| Made::unwritten(how, errors))
    }

    /// Says what to do for a regular file.
    fn plan(&self, dir: &Dir, entry: &Entry) -> Result<Plan> {
        let (name, meta, options) = (&*entry.name, &entry.meta, self.job.options);
        loop {
            if !options.dry_run
                && let Some(file) = dir.create_file(name)?
            {
                return Ok(Plan::Write(file));
            }
            let Some(there) = dir.look(name)? else {
                if options.dry_run {
                    return Ok(Plan::Done(How::New));
                }
                continue;
            };
            let fate = options.overwrite.fate(&there, meta);
            if fate == Fate::Skipped {
                return Ok(Plan::Done(How::Skipped));
            } else if there.kind != Kind::File {
                dir.make_way(name, there.kind, Kind::File)?;
                return Ok(Plan::Replace(None));
            } else if fate == Fate::Replaced {
                return Ok(Plan::Replace(None));
            }
            let old = dir.open_old(name, &there);
            let may_stay =
                |old: &Old| self.only.is_none() && old.stat().size_bytes == meta.size_bytes && dir.may_stay(old, meta);
            return Ok(match old {
                Some(old) if may_stay(&old) => Plan::Compare(old),
                old => Plan::Replace(old),
            });
        }
    }

    fn write_file(&self, dir: &Dir, entry: &Entry, content: &Content, buffer: &mut Vec<u8>) -> Result<Made> {
        let (meta, is_dry) = (&entry.meta, self.job.options.dry_run);
        let (file, old, how) = match self.plan(dir, entry)? {
            Plan::Done(how) => return Ok(Made::unwritten(how, Vec::new())),
            Plan::Write(file) => (file, None, How::New),
            Plan::Replace(_) if is_dry => return Ok(Made::unwritten(How::Replaced, Vec::new())),
            Plan::Replace(old) => (dir.replace_file(&entry.name)?, old, How::Replaced),
            Plan::Compare(old) => {
                if self.is_equal(&old, content, 0..meta.size_bytes, buffer)? {
                    let errors = if is_dry { Vec::new() } else { old.keep(meta) };
                    return Ok(Made::unwritten(How::Kept, errors));
                } else if is_dry {
                    return Ok(Made::unwritten(How::Replaced, Vec::new()));
                }
                (dir.replace_file(&entry.name)?, Some(old), How::Replaced)
            }
        };
        let written_bytes = self.fill(&file, content, 0..meta.size_bytes, old.as_ref(), buffer)?;
        file.finish(meta).map(|errors| Made { how, errors, written_bytes })
    }

    /// Counts and tells what became of a file, of which `reported_bytes` were told as progress before.
    fn note(&self, folder: &Folder, entry: &Entry, made: Result<Made>, reported_bytes: u64) -> Option<How> {
        match made {
            Ok(made) => {
                for error in made.errors {
                    self.job.trouble(folder, &entry.name, error);
                }
                self.job.made(folder, entry, made.how, made.written_bytes);
                self.job.done(entry, reported_bytes);
                Some(made.how)
            }
            Err(error) => {
                self.job.trouble(folder, &entry.name, error);
                None
            }
        }
    }

    /// Makes a file another name of the first; where that cannot be, a file of its own.
    fn link(&self, key: Key, folder: &Folder, dir: &Dir, entry: &Entry, first: &NameAt, buffer: &mut Vec<u8>) {
        let linked = match first.folder.open() {
            Ok(first_dir) => self.link_to(dir, entry, first, &first_dir),
            Err(Closed::Failed(_, error)) => Err(error),
            Err(Closed::Told) => return,
        };
        match linked {
            Ok(how) => {
                self.job.linked(folder, entry, how);
                self.job.done(entry, 0);
                self.links.linked(key, dir, &entry.name);
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

    fn link_to(&self, dir: &Dir, entry: &Entry, first: &NameAt, first_dir: &Dir) -> Result<How> {
        if let Some(there) = dir.look(&entry.name)?
            && (there.dev, there.ino) != first.id
            && self.job.options.overwrite.fate(&there, &entry.meta) == Fate::Skipped
        {
            return Ok(How::Skipped);
        }
        dir.hard_link(entry, first_dir, &first.name, first.id)
    }

    /// Lets the other names of a file follow that came while its first was written.
    fn settle(&self, key: Key, folder: &Arc<Folder>, dir: &Dir, entry: &Entry, how: Option<How>, buffer: &mut Vec<u8>) {
        // What was there and stays unseen is no file to make other names of.
        let how = how.filter(|how| *how != How::Skipped);
        let id = dir.look(&entry.name).ok().flatten().map(|there| (there.dev, there.ino));
        let id = id.or(self.job.options.dry_run.then_some((0, 0)));
        let place = how.zip(id).map(|(how, id)| NameAt {
            folder: folder.clone(),
            name: entry.name.clone(),
            id,
            is_kept: how == How::Kept,
            nlink: entry.meta.nlink,
        });
        for (folder, entry) in self.links.settle(key, place) {
            if let Some(dir) = self.job.open(&folder) {
                self.restore(&folder, &dir, &entry, buffer);
            }
            self.job.release(folder);
        }
    }

    /// Begins a large file; `None` when there is nothing to do for it.
    pub(super) fn begin(&self, folder: &Arc<Folder>, dir: &Dir, leaf: &Leaf, position: u64) -> Option<Arc<Large>> {
        let entry = leaf.entry(position)?;
        let mut buffer = Vec::new();
        let link = links::key(&entry.meta);
        if self.is_done(link) {
            return None;
        }
        if let Some(key) = link {
            match self.links.claim(key, folder, entry) {
                Claim::Write => {}
                Claim::Link(first) => {
                    self.link(key, folder, dir, entry, &first, &mut buffer);
                    return None;
                }
                Claim::Waits => return None,
            }
        }
        let is_dry = self.job.options.dry_run;
        let task = match self.plan(dir, entry) {
            Ok(Plan::Write(file)) => Ok(Task::Write { file, old: None, how: How::New }),
            Ok(Plan::Compare(old)) => Ok(Task::Compare { old, differs: AtomicBool::new(false) }),
            Ok(Plan::Replace(_)) if is_dry => Err(Ok(How::Replaced)),
            Ok(Plan::Replace(old)) => match dir.replace_file(&entry.name) {
                Ok(file) => Ok(Task::Write { file, old, how: How::Replaced }),
                Err(error) => Err(Err(error)),
            },
            Ok(Plan::Done(how)) => Err(Ok(how)),
            Err(error) => Err(Err(error)),
        };
        let made = match task {
            Ok(task) => {
                return Some(Arc::new(Large {
                    folder: folder.hold(),
                    dir: dir.clone(),
                    leaf: leaf.clone(),
                    position,
                    link,
                    task,
                    written_bytes: AtomicU64::new(0),
                    reported_bytes: AtomicU64::new(0),
                    failure: Mutex::default(),
                }));
            }
            Err(made) => made.map(|how| Made::unwritten(how, Vec::new())),
        };
        let how = self.note(folder, entry, made, 0);
        if let Some(key) = link {
            self.settle(key, folder, dir, entry, how, &mut buffer);
        }
        None
    }

    fn part(&self, large: &Large, range: Range<u64>, buffer: &mut Vec<u8>) {
        let Node::File(content) = &large.entry().node else { return };
        if large.failure.lock().is_some() {
            return;
        }
        let bytes = range.end - range.start;
        match &large.task {
            Task::Write { file, old, .. } => match self.fill(file, content, range, old.as_ref(), buffer) {
                Ok(written) => add(&large.written_bytes, written),
                Err(error) => return large.fail(error),
            },
            Task::Compare { differs, .. } if differs.load(Ordering::Relaxed) => return,
            Task::Compare { old, differs } => match self.is_equal(old, content, range, buffer) {
                Ok(true) => {}
                Ok(false) => return differs.store(true, Ordering::Relaxed),
                Err(error) => return large.fail(error),
            },
        }
        add(&large.reported_bytes, bytes);
        self.job.at(&large.folder, large.entry());
        self.job.monitor.advance(0, bytes);
    }

    /// Gives a reference back; the last one gives the file its length, attributes and name, or removes it.
    pub(super) fn complete(&self, large: Arc<Large>, buffer: &mut Vec<u8>) {
        // After a failure other parts may have been dropped: the file is removed with its last reference.
        let Some(large) = Arc::into_inner(large).filter(|_| !self.job.has_failed()) else { return };
        let Large { folder, dir, leaf, position, link, task, written_bytes, reported_bytes, failure } = large;
        let entry = leaf.entry(position).expect("the position was found in this leaf");
        let made = match (failure.into_inner(), task) {
            (Some(error), task) => {
                // Removes what was begun.
                drop(task);
                Err(error)
            }
            (None, Task::Write { file, how, .. }) => {
                let written_bytes = written_bytes.into_inner();
                file.finish(&entry.meta).map(|errors| Made { how, errors, written_bytes })
            }
            (None, Task::Compare { old, differs }) => self.compared(&dir, entry, old, differs.into_inner()),
        };
        let how = self.note(&folder, entry, made, reported_bytes.into_inner());
        if let Some(key) = link {
            self.settle(key, &folder, &dir, entry, how, buffer);
        }
        self.job.release(folder);
    }

    /// Keeps or replaces a large file that was compared.
    fn compared(&self, dir: &Dir, entry: &Entry, old: Old, differs: bool) -> Result<Made> {
        match (&entry.node, self.job.options.dry_run) {
            (Node::File(content), false) if differs => {
                let file = dir.replace_file(&entry.name)?;
                let written_bytes = self.fill_by_many(&file, content, entry.meta.size_bytes, &old)?;
                let errors = file.finish(&entry.meta)?;
                Ok(Made { how: How::Replaced, errors, written_bytes })
            }
            (_, _) if differs => Ok(Made::unwritten(How::Replaced, Vec::new())),
            (_, true) => Ok(Made::unwritten(How::Kept, Vec::new())),
            (_, false) => Ok(Made::unwritten(How::Kept, old.keep(&entry.meta))),
        }
    }
}
