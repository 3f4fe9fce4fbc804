//! Writes stored trees back to a disk.
//!
//! ```text
//!  walk (one thread, in tree order: makes directories) --work, bounded--> writers (one a core)
//! ```
//!
//! A piece of work is a run of files of one directory page, or a range of a large file. It comes in tree
//! order, which is the order of content in the packs, so that the cache of frames decodes each of them
//! once. Directories get their attributes when the last thing below them is done.
//!
//! What is there already is believed of nothing: a file stays when its content is right, chunk by chunk, and
//! nobody could have written to it who may not ([`overwrite`]). There is no note of what an earlier restore has
//! done, so one that was cut short goes on by looking at what is there.

pub mod attributes;
mod compare;
mod contents;
pub mod file;
mod filter;
mod links;
pub mod options;
pub mod overwrite;
pub mod owners;
pub mod target;
mod tree;
mod walk;
pub mod xattrs;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Entry, Node};
use crate::monitor::{Monitor, Told};
use crate::repo::Repository;
use crate::source::walk::raise_open_files_limit;
use contents::{Work, Writers};
use crossbeam_channel::bounded;
pub use filter::{Filter, Unmatched};
pub use overwrite::Overwrite;
use owners::Owners;
use parking_lot::Mutex;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::collections::HashSet;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use target::{Dir, How, Target};
use tree::{Closed, Folder};
use walk::Walk;
use xattrs::XattrFilter;

/// Threads that write while others of them wait for the store; each holds a few MiB.
const MAX_WAITING_THREADS: usize = 16;
/// Pieces of work on their way; each holds at most a page of a directory.
const MAX_WORK: usize = 64;

/// What to restore, and how.
#[derive(Debug, Default)]
pub struct Options {
    /// What to restore, absolute; empty for everything.
    pub path: Vec<u8>,
    /// Which files of it.
    pub filter: Filter,
    /// When a file that is there is replaced.
    pub overwrite: Overwrite,
    /// Whether what is in the way and of another type is removed.
    pub replace_types: bool,
    /// Whose the files become.
    pub owners: OwnersBy,
    /// Which extended attributes they get.
    pub xattrs: XattrFilter,
    /// Whether nothing is written: what is there is compared all the same.
    pub dry_run: bool,
    /// Whether the monitor is told the names of files that are replaced, and of those that are left as they are.
    pub tell_names: bool,
    /// Whether to wait until everything is on the disk.
    pub sync: bool,
}

/// How owners are found on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OwnersBy {
    /// By number in the root of another system: a target other than `/` that has, or gets, an `/etc/passwd` of its
    /// own. Else by name.
    #[default]
    Target,
    /// Whoever has the owner's name on this machine; the number where nobody has it.
    Name,
    /// The number that is stored, as `cp -a` out of a mount.
    Number,
}

/// What came of a restore. Files are of every type but directories, unless it is said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Files of every type that are there now, hard links and directories included.
    pub files: u64,
    /// Bytes of the regular files among them, holes included.
    pub content_bytes: u64,
    /// Files that were written: where nothing was, or in the place of one that differed.
    pub files_written: u64,
    /// Of these those in the place of one that differed.
    pub files_replaced: u64,
    /// Bytes written into them: without holes.
    pub written_bytes: u64,
    /// Files that were there already, and equal.
    pub files_kept: u64,
    /// Files that were there and left as they are, unseen ([`Overwrite`]).
    pub files_skipped: u64,
    /// Directories among the files.
    pub directories: u64,
    /// Hard links made, or there already.
    pub hard_links: u64,
    /// What could not be restored, each named through the monitor.
    pub errors: u64,
    /// Files whose owner or group has another number here than in the snapshot, and one of them.
    pub owners_changed: u64,
    /// One of these owners.
    pub owner_changed: Option<OwnerChange>,
    /// Patterns of the filter that matched nothing.
    pub unmatched: Unmatched,
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("files", &(self.files - self.directories))?;
        map.serialize_entry("directories", &self.directories)?;
        map.serialize_entry("content_bytes", &self.content_bytes)?;
        map.serialize_entry("files_written", &self.files_written)?;
        map.serialize_entry("files_replaced", &self.files_replaced)?;
        map.serialize_entry("written_bytes", &self.written_bytes)?;
        map.serialize_entry("files_kept", &self.files_kept)?;
        map.serialize_entry("files_skipped", &self.files_skipped)?;
        map.serialize_entry("hard_links", &self.hard_links)?;
        map.serialize_entry("errors", &self.errors)?;
        map.serialize_entry("owners_changed", &self.owners_changed)?;
        map.serialize_entry("unmatched_includes", &self.unmatched.includes)?;
        map.end()
    }
}

/// An owner or group that has another number on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerChange {
    /// The name.
    pub name: Vec<u8>,
    /// Its number in the snapshot.
    pub stored: u32,
    /// Its number here.
    pub here: u32,
}

/// Counters of [`Outcome`], kept by all threads.
#[derive(Default)]
struct Counts {
    files: AtomicU64,
    content_bytes: AtomicU64,
    files_written: AtomicU64,
    files_replaced: AtomicU64,
    written_bytes: AtomicU64,
    files_kept: AtomicU64,
    files_skipped: AtomicU64,
    directories: AtomicU64,
    hard_links: AtomicU64,
    errors: AtomicU64,
    owners_changed: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Counts {
    fn outcome(&self) -> Outcome {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Outcome {
            files: get(&self.files),
            content_bytes: get(&self.content_bytes),
            files_written: get(&self.files_written),
            files_replaced: get(&self.files_replaced),
            written_bytes: get(&self.written_bytes),
            files_kept: get(&self.files_kept),
            files_skipped: get(&self.files_skipped),
            directories: get(&self.directories),
            hard_links: get(&self.hard_links),
            errors: get(&self.errors),
            owners_changed: get(&self.owners_changed),
            ..Outcome::default()
        }
    }
}

/// What all threads share.
struct Restore<'a> {
    repository: &'a Repository,
    snapshot: &'a Snapshot,
    options: &'a Options,
    monitor: &'a dyn Monitor,
    target: &'a Path,
    owners: Owners,
    threads: usize,
    /// Where the repository lies below the target, as an absolute path in the snapshot.
    repository_path: Option<Vec<u8>>,
    counts: Counts,
    owner_changed: Mutex<Option<OwnerChange>>,
    /// Whether this is the second pass, in which only some files are made anew and nothing is counted again.
    is_again: AtomicBool,
    /// What makes going on useless.
    failure: Mutex<Option<Error>>,
    has_failed: AtomicBool,
}

impl Restore<'_> {
    /// Names what could not be restored: `name` in `folder`, or `folder` itself where it is empty.
    fn trouble(&self, folder: &Folder, name: &[u8], error: Error) {
        if error.kind() == ErrorKind::Full {
            self.failure.lock().get_or_insert(error);
            self.has_failed.store(true, Ordering::Relaxed);
            return;
        }
        add(&self.counts.errors, 1);
        self.monitor.trouble(&self.path(folder, name), &error.chain());
    }

    fn path(&self, folder: &Folder, name: &[u8]) -> PathBuf {
        let mut path = folder.path();
        if !path.is_empty() && !name.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        self.target.join(std::ffi::OsString::from_vec(path))
    }

    /// Counts a file that is no directory by how it came to be there.
    fn made(&self, folder: &Folder, entry: &Entry, how: How, written_bytes: u64) {
        let counts = &self.counts;
        match how {
            How::New => add(&counts.files_written, 1),
            How::Replaced => {
                add(&counts.files_written, 1);
                add(&counts.files_replaced, 1);
                if self.is_again.load(Ordering::Relaxed) {
                    // It was counted as kept.
                    counts.files_kept.fetch_sub(1, Ordering::Relaxed);
                }
            }
            How::Kept => add(&counts.files_kept, 1),
            How::Skipped => add(&counts.files_skipped, 1),
        }
        add(&counts.written_bytes, written_bytes);
        self.tell(folder, entry, how);
    }

    /// Counts what had a directory's name and was removed for it.
    fn cleared(&self, folder: &Folder, entry: &Entry) {
        add(&self.counts.files_replaced, 1);
        self.tell(folder, entry, How::Replaced);
    }

    /// Counts one more name of a file.
    fn linked(&self, folder: &Folder, entry: &Entry, how: How) {
        match how {
            _ if self.is_again.load(Ordering::Relaxed) => {}
            How::Skipped => add(&self.counts.files_skipped, 1),
            _ => add(&self.counts.hard_links, 1),
        }
        if how == How::Replaced && !self.is_again.load(Ordering::Relaxed) {
            add(&self.counts.files_replaced, 1);
        }
        self.tell(folder, entry, how);
    }

    /// Tells which file is worked at.
    fn at(&self, folder: &Folder, entry: &Entry) {
        if self.monitor.is_watched() {
            self.monitor.at(&self.path(folder, &entry.name));
        }
    }

    fn tell(&self, folder: &Folder, entry: &Entry, how: How) {
        if self.options.tell_names {
            let told = match how {
                How::Replaced => Told::Replaced,
                How::Skipped => Told::Skipped,
                How::New | How::Kept => return,
            };
            self.monitor.tell(&self.path(folder, &entry.name), told);
        }
    }

    /// Notes that a file of any type is there, of which `reported_bytes` were told as progress before.
    fn done(&self, entry: &Entry, reported_bytes: u64) {
        if self.is_again.load(Ordering::Relaxed) {
            return;
        }
        let bytes = if matches!(entry.node, Node::File(_)) { entry.meta.size_bytes } else { 0 };
        add(&self.counts.files, 1);
        add(&self.counts.directories, u64::from(matches!(entry.node, Node::Directory(_))));
        add(&self.counts.content_bytes, bytes);
        self.note_owner(entry);
        self.monitor.advance(1, bytes.saturating_sub(reported_bytes));
    }

    fn note_owner(&self, entry: &Entry) {
        let (uid, gid) = (entry.meta.uid, entry.meta.gid);
        let (user, group) = (self.owners.user(uid), self.owners.group(gid));
        // An ordinary user's files are the user's own, whatever the numbers.
        if (user, group) == (uid, gid) || !rustix::process::geteuid().is_root() {
            return;
        }
        add(&self.counts.owners_changed, 1);
        let (name, stored, here) = match user != uid {
            true => (self.snapshot.user_name(uid), uid, user),
            false => (self.snapshot.group_name(gid), gid, group),
        };
        let name = name.unwrap_or_default().to_vec();
        self.owner_changed.lock().get_or_insert(OwnerChange { name, stored, here });
    }

    /// Opens a directory; names the one that cannot be.
    fn open(&self, folder: &Arc<Folder>) -> Option<Dir> {
        match folder.open() {
            Ok(dir) => Some(dir),
            Err(Closed::Failed(folder, error)) => {
                self.trouble(&folder, b"", error);
                None
            }
            Err(Closed::Told) => None,
        }
    }

    fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Lets go of a directory, and finishes those that are complete.
    fn release(&self, folder: Arc<Folder>) {
        folder.release(|folder| {
            for error in folder.finish() {
                self.trouble(folder, b"", error);
            }
        });
    }
}

/// Restores a snapshot, or what [`Options::path`] names in it, below `target`, with full source paths.
///
/// What could not be restored is told to the monitor and counted. Fails when there is nothing of that
/// name, the target cannot be used, or its disk is full: repeated, it goes on where it stopped.
///
/// `target` itself gets the attributes of the stored `/` only when it was made by this restore.
pub fn run(
    repository: &Repository,
    snapshot: &Snapshot,
    options: &Options,
    target: &Path,
    monitor: &dyn Monitor,
) -> Result<Outcome> {
    let entry = repository.resolve(snapshot, &options.path)?.ok_or_else(|| {
        let path = options.path.escape_ascii();
        Error::new(ErrorKind::NotFound, format!("{path} is not in the snapshot {}", snapshot.name))
    })?;
    let (files, bytes) = entry.totals();
    monitor.expect(files, bytes);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let job = Restore {
        repository,
        snapshot,
        options,
        monitor,
        target,
        owners: owners_of(repository, snapshot, options, target)?,
        // Who waits for a network leaves the cores to others.
        threads: cores.max(repository.store().connections().min(MAX_WAITING_THREADS)),
        repository_path: place(repository, target)?,
        counts: Counts::default(),
        owner_changed: Mutex::default(),
        is_again: AtomicBool::new(false),
        failure: Mutex::default(),
        has_failed: AtomicBool::new(false),
    };
    raise_open_files_limit();
    let is_new = !target.exists();
    let &Options { replace_types, dry_run, .. } = options;
    let how = options::Options { replace_types, dry_run, owners: job.owners.clone(), xattrs: options.xattrs.clone() };
    let opened = Target::open(target, how)?;
    let root = || Folder::root(opened.root(), is_new.then(|| snapshot.root_meta.clone()), options.overwrite);
    let strangers = pass(&job, root(), None)?;
    if !strangers.is_empty() && !job.has_failed() && !dry_run {
        job.is_again.store(true, Ordering::Relaxed);
        pass(&job, root(), Some(strangers))?;
    }
    let Restore { failure, counts, owner_changed, .. } = job;
    if let Some(error) = failure.into_inner() {
        let message = format!(
            "No room left at {}: make room and repeat the restore, it goes on where it stopped",
            target.display()
        );
        return Err(Error::new(ErrorKind::Full, message).because(error));
    }
    if options.sync && !dry_run {
        opened.sync()?;
    }
    let (owner_changed, unmatched) = (owner_changed.into_inner(), options.filter.unmatched());
    Ok(Outcome { owner_changed, unmatched, ..counts.outcome() })
}

/// Walks through the tree once; of the files with several names only `only` are made anew, where that is given.
/// Returns those that were there and have names which they have not in the snapshot.
fn pass(job: &Restore<'_>, root: Arc<Folder>, only: Option<HashSet<links::Key>>) -> Result<HashSet<links::Key>> {
    let (work, work_in) = bounded::<Work>(MAX_WORK);
    let writers = Writers::new(job, only);
    std::thread::scope(|scope| {
        for _ in 0..job.threads {
            let (writers, work_in) = (&writers, work_in.clone());
            let writer = std::thread::Builder::new().name("restore".into());
            writer.spawn_scoped(scope, move || writers.serve(&work_in)).context(|| "Cannot start a thread".into())?;
        }
        drop(work_in);
        Walk::new(job, job.options, (&writers, work)).run(job.snapshot, root)
    })?;
    Ok(writers.strangers())
}

/// Returns whose the files become.
fn owners_of(repository: &Repository, snapshot: &Snapshot, options: &Options, target: &Path) -> Result<Owners> {
    let by_number = match options.owners {
        OwnersBy::Number => true,
        OwnersBy::Name => false,
        OwnersBy::Target => is_other_system(repository, snapshot, options, target)?,
    };
    if by_number {
        return Ok(Owners::numeric());
    }
    let named = |list: &[(u32, crate::format::codec::Bytes)]| -> Vec<_> {
        list.iter().map(|(number, name)| (*number, name.0.clone())).collect()
    };
    Owners::by_name(&named(&snapshot.users), &named(&snapshot.groups))
}

/// Returns whether the target is the root of another system than this one: it has accounts of its own, or gets them
/// by this restore, and there the numbers mean what they meant at the source.
fn is_other_system(repository: &Repository, snapshot: &Snapshot, options: &Options, target: &Path) -> Result<bool> {
    if std::fs::canonicalize(target).is_ok_and(|real| real == Path::new("/")) {
        return Ok(false);
    }
    if target.join("etc/passwd").is_file() {
        return Ok(true);
    }
    let is_below = options.path.is_empty() || Path::new("/etc/passwd").starts_with(path_of(&options.path));
    let found = if is_below { repository.resolve(snapshot, ACCOUNTS)? } else { None };
    Ok(found.is_some_and(|found| matches!(found.node, Node::File(_))) && options.filter.takes_file(ACCOUNTS))
}

/// Where a system has the names of its users (passwd(5)).
const ACCOUNTS: &[u8] = b"/etc/passwd";

fn path_of(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// Returns where the repository lies below the target, as a path from there; refuses a target inside it.
fn place(repository: &Repository, target: &Path) -> Result<Option<Vec<u8>>> {
    let target = std::path::absolute(target).context(|| format!("cannot use the target {}", target.display()))?;
    let found = target.ancestors().find_map(|path| std::fs::canonicalize(path).ok().map(|real| (path, real)));
    let store = std::fs::canonicalize(repository.store().location());
    let (Some((existing, real)), Ok(store)) = (found, store) else { return Ok(None) };
    if real.starts_with(&store) {
        let message = format!("{} lies in the repository: restore into another directory", target.display());
        return Err(Error::new(ErrorKind::Exists, message));
    }
    let below = store.strip_prefix(&real).ok().filter(|_| existing == target);
    Ok(below.map(|below| Path::new("/").join(below).into_os_string().into_vec()))
}
