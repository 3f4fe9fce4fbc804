//! Lists directories ahead of their use, on several threads, within a bound.
//!
//! The caller asks for the directories it will need as soon as it knows them and takes each listing
//! when it comes to it; scanner threads work ahead in the order of a depth-first walk. What they hold
//! ready, entries and open directories, is bounded by the window. A caller never waits for room: what
//! no thread has begun it scans itself, and a thread that works on what the caller waits for goes on.

use super::disk::Disk;
use super::listing::{DirRef, Listing};
use super::stat::Stat;
use super::{Names, Source};
use crate::error::{Error, ErrorKind, Result};
use parking_lot::{Condvar, Mutex};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;

/// Enough threads to keep a disk busy whose directories are not cached.
pub const DEFAULT_THREADS: usize = 8;

/// Enough entries held ready that threads seldom pause: some 16 MiB.
pub const DEFAULT_WINDOW_ENTRIES: usize = 1 << 16;

/// Scanner threads and what they have been asked for; they end when this is dropped.
#[derive(Debug)]
pub struct Walk<S: Source = Disk> {
    shared: Arc<Shared<S>>,
    threads: Vec<JoinHandle<()>>,
}

/// A directory that has been asked for. Dropped untaken, it is not scanned, or what was found is forgotten.
#[derive(Debug)]
#[must_use]
pub struct Ticket<S: Source = Disk> {
    shared: Arc<Shared<S>>,
    job: Arc<DirToScan<S>>,
}

#[derive(Debug)]
struct Shared<S: Source> {
    source: Arc<S>,
    state: Mutex<State<S>>,
    /// Rung when there may be something to scan and room for it.
    work: Condvar,
    /// Rung when a scan that waits for room may go on.
    room: Condvar,
    window_entries: usize,
    window_dirs: usize,
}

#[derive(Debug)]
struct State<S: Source> {
    /// What is to be scanned: the siblings asked for last are scanned first, siblings in the order asked for.
    queue: Vec<Siblings<S>>,
    /// Entries scanned, or being scanned, and not taken yet.
    ready_entries: usize,
    /// The most `ready_entries` there ever were.
    peak_entries: usize,
    /// Directories scanned, or being scanned, and not taken yet: each is an open file.
    ready_dirs: usize,
    closed: bool,
}

/// Directories of one parent, which is told by its address alone: it is held by what is not scanned yet.
#[derive(Debug)]
struct Siblings<S: Source> {
    parent: usize,
    jobs: VecDeque<Arc<DirToScan<S>>>,
}

/// One directory to scan. Its lock is never held together with that of [`State`].
#[derive(Debug)]
struct DirToScan<S: Source> {
    progress: Mutex<Progress<S>>,
    done: Condvar,
    /// What its ticket's holder wishes: one of the constants below. Changed, then [`Shared::room`] rung.
    wish: AtomicU8,
}

/// The listing will be taken some time.
const LATER: u8 = 0;
/// The caller waits: room or not.
const NOW: u8 = 1;
/// Nobody will take it.
const NEVER: u8 = 2;

#[derive(Debug)]
enum Progress<S: Source> {
    Asked(DirRef<S::Dir>),
    Scanning,
    Done {
        result: Result<Listing<S::Dir>>,
        entries: usize,
    },
    /// Taken by the caller, or given up.
    Gone,
}

impl Walk {
    /// Starts a walk of the disk.
    pub fn new(threads: usize, window_entries: usize) -> Walk {
        Walk::of(Arc::default(), threads, window_entries)
    }
}

impl<S: Source> Walk<S> {
    /// Starts `threads` scanner threads, which hold at most `window_entries` entries ready: only what the
    /// caller waits for may exceed them. Without threads the caller scans everything itself.
    pub fn of(source: Arc<S>, threads: usize, window_entries: usize) -> Walk<S> {
        let state = State { queue: Vec::new(), ready_entries: 0, peak_entries: 0, ready_dirs: 0, closed: false };
        let shared = Arc::new(Shared {
            source,
            state: Mutex::new(state),
            work: Condvar::new(),
            room: Condvar::new(),
            window_entries: window_entries.max(1),
            window_dirs: window_dirs(),
        });
        let spawn = |number| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("scan-{number}")).spawn(move || shared.scan_ahead()).ok()
        };
        let threads = (0..threads).map_while(spawn).collect();
        Walk { shared, threads }
    }

    /// Asks for the directory `name` in `parent`, seen there as `seen`.
    pub fn request(&self, parent: &Arc<S::Dir>, name: &[u8], seen: &Stat) -> Ticket<S> {
        self.ask(DirRef::Below { parent: Arc::clone(parent), name: name.into(), seen: seen.clone() })
    }

    /// Asks for the directory at `path`. Symbolic links on the way to it are followed, itself it must be none.
    pub fn request_root(&self, path: &Path) -> Ticket<S> {
        self.ask(DirRef::Root(path.into()))
    }

    /// Returns the most entries that were ever held ready at a time.
    pub fn peak_entries(&self) -> usize {
        self.shared.state.lock().peak_entries
    }

    fn ask(&self, at: DirRef<S::Dir>) -> Ticket<S> {
        let parent = match &at {
            DirRef::Root(_) => 0,
            DirRef::Below { parent, .. } => Arc::as_ptr(parent) as usize,
        };
        let job = Arc::new(DirToScan {
            progress: Mutex::new(Progress::Asked(at)),
            done: Condvar::new(),
            wish: AtomicU8::new(LATER),
        });
        if !self.threads.is_empty() {
            let mut state = self.shared.state.lock();
            match state.queue.last_mut() {
                Some(siblings) if siblings.parent == parent => siblings.jobs.push_back(Arc::clone(&job)),
                _ => state.queue.push(Siblings { parent, jobs: VecDeque::from([Arc::clone(&job)]) }),
            }
            drop(state);
            self.shared.work.notify_one();
        }
        Ticket { shared: Arc::clone(&self.shared), job }
    }
}

impl<S: Source> Drop for Walk<S> {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.work.notify_all();
        self.shared.room.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has given its directory back to whoever asked for it.
            let _ = thread.join();
        }
    }
}

impl<S: Source> Ticket<S> {
    /// Returns the listing: scanned ahead, waited for, or scanned now by this thread.
    ///
    /// Fails with [`ErrorKind::Replaced`] when the name leads to another directory, or to none, since its
    /// parent was listed, and with [`ErrorKind::NotFound`] when it is gone.
    pub fn take(self) -> Result<Listing<S::Dir>> {
        let job = &*self.job;
        let mut progress = job.progress.lock();
        if matches!(*progress, Progress::Scanning) {
            drop(progress);
            self.shared.wish(job, NOW);
            progress = job.progress.lock();
            job.done.wait_while(&mut progress, |progress| matches!(progress, Progress::Scanning));
        }
        match std::mem::replace(&mut *progress, Progress::Gone) {
            Progress::Done { result, entries } => {
                drop(progress);
                self.shared.release(entries);
                result
            }
            Progress::Asked(at) => {
                drop(progress);
                self.shared.source.list(&at).map(Names::look)
            }
            Progress::Scanning | Progress::Gone => Err(Error::new(ErrorKind::Io, "was already taken")),
        }
    }
}

impl<S: Source> Drop for Ticket<S> {
    fn drop(&mut self) {
        let before = std::mem::replace(&mut *self.job.progress.lock(), Progress::Gone);
        match before {
            Progress::Done { entries, .. } => self.shared.release(entries),
            Progress::Scanning => self.shared.wish(&self.job, NEVER),
            Progress::Asked(_) | Progress::Gone => {}
        }
    }
}

impl<S: Source> Shared<S> {
    /// The life of a scanner thread.
    fn scan_ahead(&self) {
        while let Some(job) = self.next_job() {
            let at = match &mut *job.progress.lock() {
                progress @ Progress::Asked(_) => std::mem::replace(progress, Progress::Scanning),
                _ => Progress::Gone,
            };
            let mut claim = Claim { shared: self, job: &job, entries: 0, outcome: at };
            if let Progress::Asked(at) = &claim.outcome {
                let names = self.source.list(at);
                let entries = names.as_ref().map_or(0, Names::count);
                if claim.reserve(entries) {
                    claim.outcome = Progress::Done { result: names.map(Names::look), entries };
                }
            }
        }
    }

    /// Waits for a directory to scan and for room to hold it, and counts it; none when the walk is over.
    fn next_job(&self) -> Option<Arc<DirToScan<S>>> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            let has_room = state.ready_entries < self.window_entries && state.ready_dirs < self.window_dirs;
            if has_room && let Some(job) = state.pop() {
                state.ready_dirs += 1;
                let is_more = !state.queue.is_empty();
                drop(state);
                if is_more {
                    self.work.notify_one();
                }
                return Some(job);
            }
            self.work.wait(&mut state);
        }
    }

    /// Gives back the room of one directory.
    fn release(&self, entries: usize) {
        let mut state = self.state.lock();
        state.ready_entries -= entries;
        state.ready_dirs -= 1;
        let is_work = !state.queue.is_empty();
        drop(state);
        if is_work {
            self.work.notify_one();
        }
        self.room.notify_all();
    }

    /// Tells the thread that scans `job` what is wished.
    fn wish(&self, job: &DirToScan<S>, wish: u8) {
        // Under the lock, so that it is not missed between a look at it and the wait for `room`.
        let state = self.state.lock();
        job.wish.store(wish, Ordering::Relaxed);
        drop(state);
        self.room.notify_all();
    }
}

impl<S: Source> State<S> {
    /// Returns whether a scan that found so many entries goes on or is given up; nothing while it must wait.
    fn decide(&self, wish: u8, entries: usize, window_entries: usize) -> Option<bool> {
        if self.closed || wish == NEVER {
            Some(false)
        } else {
            (wish == NOW || self.ready_entries + entries <= window_entries).then_some(true)
        }
    }

    fn pop(&mut self) -> Option<Arc<DirToScan<S>>> {
        loop {
            match self.queue.last_mut()?.jobs.pop_front() {
                Some(job) => return Some(job),
                None => drop(self.queue.pop()),
            }
        }
    }
}

/// A directory being scanned by a thread. When dropped it leaves the outcome behind: the listing, or the
/// place again, for the caller to scan, when the walk ended or the thread panicked.
struct Claim<'a, S: Source> {
    shared: &'a Shared<S>,
    job: &'a DirToScan<S>,
    entries: usize,
    outcome: Progress<S>,
}

impl<S: Source> Claim<'_, S> {
    /// Waits for room for so many entries, or for the caller to wait for them; returns whether to go on.
    fn reserve(&mut self, entries: usize) -> bool {
        let mut state = self.shared.state.lock();
        loop {
            let wish = self.job.wish.load(Ordering::Relaxed);
            if let Some(goes_on) = state.decide(wish, entries, self.shared.window_entries) {
                if goes_on {
                    state.ready_entries += entries;
                    state.peak_entries = state.peak_entries.max(state.ready_entries);
                    self.entries = entries;
                }
                return goes_on;
            }
            self.shared.room.wait(&mut state);
        }
    }
}

impl<S: Source> Drop for Claim<'_, S> {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut self.outcome, Progress::Gone);
        let is_done = matches!(outcome, Progress::Done { .. });
        let mut progress = self.job.progress.lock();
        let is_awaited = matches!(*progress, Progress::Scanning);
        if is_awaited {
            *progress = outcome;
            self.job.done.notify_one();
        }
        drop(progress);
        if !(is_awaited && is_done) {
            self.shared.release(self.entries);
        }
    }
}

/// Raises the number of files this process may have open to its hard limit (getrlimit(2)); a walk holds
/// one open per level and per directory held ready.
pub fn raise_open_files_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Without it the lower limit holds, and the window follows that.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Returns how many directories may be held open ahead of their use: a quarter of what the process may open.
fn window_dirs() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    (limit / 4).clamp(1, 1024) as usize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_scan_waits_for_room_unless_it_is_waited_for() {
        let state =
            |closed| State::<Disk> { queue: Vec::new(), ready_entries: 8, peak_entries: 8, ready_dirs: 0, closed };
        for (wish, entries, expected) in [
            (LATER, 2, Some(true)),
            (LATER, 3, None),
            (NOW, 3, Some(true)),
            (NEVER, 2, Some(false)),
            (NEVER, 3, Some(false)),
        ] {
            assert_eq!(state(false).decide(wish, entries, 10), expected, "{wish} {entries}");
            assert_eq!(state(true).decide(wish, entries, 10), Some(false), "{wish} {entries}");
        }
    }

    #[test]
    fn a_thread_that_gives_up_returns_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let walk = Walk::new(0, 10);
        let ticket = walk.request_root(dir.path());
        let taken = std::mem::replace(&mut *ticket.job.progress.lock(), Progress::Scanning);
        walk.shared.state.lock().ready_dirs += 1;
        drop(Claim { shared: &walk.shared, job: &ticket.job, entries: 0, outcome: taken });
        assert_eq!(walk.shared.state.lock().ready_dirs, 0);
        assert!(ticket.take().unwrap().entries.is_empty());
    }
}
