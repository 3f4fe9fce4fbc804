//! Writes stored trees back to a disk.
//!
//! ```text
//!  walk (one thread, in tree order: makes directories) --work, bounded--> writers (one a core)
//! ```
//!
//! A piece of work is a run of files of one directory page, or a range of a large file. It comes in tree
//! order, which is the order of content in the packs, so that the cache of frames decodes each of them
//! once. Directories get their attributes when the last thing below them is done.

pub mod attributes;
mod contents;
mod filter;
mod links;
pub mod owners;
pub mod target;
mod tree;
mod walk;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Entry, Node};
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::source::walk::raise_open_files_limit;
use contents::{Work, Writers};
use crossbeam_channel::bounded;
pub use filter::Filter;
use owners::Owners;
use parking_lot::Mutex;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use target::{Dir, Target};
use tree::{Closed, Folder};
use walk::Walk;

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
    /// Whether what is in the way and of another type is removed.
    pub overwrite: bool,
    /// Whether owners are taken by number where their names mean others on this machine.
    pub numeric_owner: bool,
    /// Whether nothing is written.
    pub dry_run: bool,
    /// Whether to wait until everything is on the disk.
    pub sync: bool,
}

/// What came of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Files of every type that are there now, hard links and directories included.
    pub files: u64,
    /// Bytes of the regular files among them, holes included.
    pub content_bytes: u64,
    /// Regular files that were written.
    pub files_written: u64,
    /// Bytes written into them: without holes.
    pub written_bytes: u64,
    /// Regular files that were there already.
    pub files_kept: u64,
    /// Hard links made, or there already.
    pub hard_links: u64,
    /// What could not be restored, each named through the monitor.
    pub errors: u64,
}

/// Counters of [`Outcome`], kept by all threads.
#[derive(Default)]
struct Counts {
    files: AtomicU64,
    content_bytes: AtomicU64,
    files_written: AtomicU64,
    written_bytes: AtomicU64,
    files_kept: AtomicU64,
    hard_links: AtomicU64,
    errors: AtomicU64,
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
            written_bytes: get(&self.written_bytes),
            files_kept: get(&self.files_kept),
            hard_links: get(&self.hard_links),
            errors: get(&self.errors),
        }
    }
}

/// What all threads share.
struct Job<'a> {
    repository: &'a Repository,
    monitor: &'a dyn Monitor,
    target: &'a Path,
    /// Where the repository lies below the target, as an absolute path in the snapshot.
    repository_path: Option<Vec<u8>>,
    counts: Counts,
    /// What makes going on useless.
    failure: Mutex<Option<Error>>,
    has_failed: AtomicBool,
}

impl Job<'_> {
    /// Names what could not be restored: `name` in `folder`, or `folder` itself where it is empty.
    fn trouble(&self, folder: &Folder, name: &[u8], error: Error) {
        if error.kind() == ErrorKind::Full {
            self.failure.lock().get_or_insert(error);
            self.has_failed.store(true, Ordering::Relaxed);
            return;
        }
        add(&self.counts.errors, 1);
        let mut path = folder.path();
        if !path.is_empty() && !name.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let path = self.target.join(std::ffi::OsString::from_vec(path));
        self.monitor.trouble(&path, &error.chain());
    }

    /// Notes that a file of any type is there, of which `reported_bytes` were told as progress before.
    fn done(&self, entry: &Entry, reported_bytes: u64) {
        let bytes = if matches!(entry.node, Node::File(_)) { entry.meta.size_bytes } else { 0 };
        add(&self.counts.files, 1);
        add(&self.counts.content_bytes, bytes);
        self.monitor.advance(1, bytes.saturating_sub(reported_bytes));
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
    let job = Job {
        repository,
        monitor,
        target,
        repository_path: place(repository, target)?,
        counts: Counts::default(),
        failure: Mutex::default(),
        has_failed: AtomicBool::new(false),
    };
    if options.dry_run {
        Walk::new(&job, options, None).run(snapshot, Folder::root(None, None))?;
        return Ok(job.counts.outcome());
    }
    raise_open_files_limit();
    let named = |list: &[(u32, crate::format::codec::Bytes)]| -> Vec<_> {
        list.iter().map(|(number, name)| (*number, name.0.clone())).collect()
    };
    let owners = match options.numeric_owner {
        true => Owners::numeric(),
        false => Owners::by_name(&named(&snapshot.users), &named(&snapshot.groups))?,
    };
    let is_new = !target.exists();
    let opened = Target::open(target, target::Options { overwrite: options.overwrite, owners })?;
    let root = Folder::root(Some(opened.root()), is_new.then(|| snapshot.root_meta.clone()));
    let (work, work_in) = bounded::<Work>(MAX_WORK);
    let writers = Writers::new(&job);
    let walked = std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        // Who waits for a network leaves the cores to others.
        let threads = cores.max(repository.store().connections().min(MAX_WAITING_THREADS));
        for _ in 0..threads {
            let (writers, work_in) = (&writers, work_in.clone());
            let writer = std::thread::Builder::new().name("restore".into());
            writer.spawn_scoped(scope, move || writers.serve(&work_in)).context(|| "Cannot start a thread".into())?;
        }
        drop(work_in);
        Walk::new(&job, options, Some((&writers, work))).run(snapshot, root)
    });
    walked?;
    drop(writers);
    if let Some(error) = job.failure.into_inner() {
        let message = format!(
            "No room left at {}: make room and repeat the restore, it goes on where it stopped",
            target.display()
        );
        return Err(Error::new(ErrorKind::Full, message).because(error));
    }
    if options.sync {
        opened.sync()?;
    }
    Ok(job.counts.outcome())
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
