//! Pushes the pages of small files into the kernel's cache before they are asked for.
//!
//! A round trip to this process costs tens of microseconds, more than the files themselves. Once two
//! small files of one directory were read, a thread of its own hands the kernel the others, so that a
//! reader going through the directory finds them in the cache. Once one directory was read through, its
//! relatives are pushed as soon as they are listed, for a while. A listing alone starts nothing.

mod plan;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::guard::guarded;
use crate::requests::Counters;
use crate::threads::Threads;
use crate::tree::{Fault, Ino, Neighbour, Tree, Wait};
use plan::{Plan, Step};

/// The largest file that is pushed.
pub(crate) const MAX_FILE_BYTES: u64 = 128 << 10;

/// Files asked of the tree at a time.
const BATCH: usize = 128;

/// Where pages go.
pub(crate) trait Store: Send + 'static {
    /// Puts a whole file into the kernel's cache; an inode the kernel does not know is no error.
    fn store(&self, ino: Ino, bytes: &[u8]) -> io::Result<()>;
}

/// What the receiving threads tell the pushing thread.
pub(crate) struct Pusher {
    plan: Mutex<Plan>,
    work: Condvar,
}

impl Pusher {
    pub(crate) fn new() -> Arc<Pusher> {
        Arc::new(Pusher { plan: Mutex::default(), work: Condvar::new() })
    }

    /// Takes note that the kernel had to ask for a file's beginning.
    pub(crate) fn note_read<T: Tree>(&self, tree: &T, ino: Ino) {
        // The read itself has been answered; a fault here only means that nothing is pushed.
        let _ = guarded(|| {
            let small = tree.attr(ino, Wait::Never)?.size_bytes <= MAX_FILE_BYTES;
            if let Some(dir) = tree.dir_of(ino).filter(|_| small) {
                self.note(|plan, now| plan.note_read(dir, ino, now, |dir| tree.parent(dir, Wait::Never).ok()));
            }
            Ok(())
        });
    }

    /// Takes note that the kernel has seen a whole directory.
    pub(crate) fn note_listed<T: Tree>(&self, tree: &T, dir: Ino) {
        let _ = guarded(|| {
            self.note(|plan, now| plan.note_listed(dir, now, |dir| tree.parent(dir, Wait::Never).ok()));
            Ok(())
        });
    }

    fn note(&self, take: impl FnOnce(&mut Plan, Instant) -> bool) {
        let mut plan = self.plan.lock();
        if take(&mut plan, Instant::now()) && plan.idle {
            plan.idle = false;
            drop(plan);
            self.work.notify_one();
        }
    }

    /// Ends the pushing thread.
    pub(crate) fn stop(&self) {
        self.plan.lock().stop = true;
        self.work.notify_one();
    }

    /// Starts the pushing thread.
    pub(crate) fn start<T: Tree>(
        self: &Arc<Self>,
        tree: Arc<T>,
        store: impl Store,
        counters: Arc<Counters>,
        threads: &Threads,
    ) -> io::Result<()> {
        let pusher = self.clone();
        threads.spawn("bakfs-push", move || pusher.run(&*tree, &store, &counters))
    }

    fn run<T: Tree>(&self, tree: &T, store: &impl Store, counters: &Counters) {
        let mut bytes = Vec::new();
        while let Some(step) = self.next_step() {
            match step {
                Step::List(dir, from) => {
                    let found = guarded(|| {
                        let found = tree.small_files(dir, from, BATCH, MAX_FILE_BYTES)?;
                        tree.want(&found.0);
                        Ok(found)
                    });
                    self.plan.lock().listed(dir, from, found);
                }
                Step::Push(dir, file) => {
                    // No lock is held here: storing waits for a READ of the same page, which another
                    // thread must be able to answer.
                    let pushed = push(tree, store, file, &mut bytes);
                    let mut plan = self.plan.lock();
                    match pushed {
                        Ok(true) => {
                            plan.pushed(dir, file);
                            Counters::add(&counters.pushed_files, 1);
                            Counters::add(&counters.pushed_bytes, file.size_bytes);
                        }
                        Ok(false) => {}
                        Err(fault) => {
                            tracing::debug!(inode = file.ino, %fault, "Reading a file ahead failed");
                            plan.give_up(dir);
                        }
                    }
                }
            }
        }
    }

    fn next_step(&self) -> Option<Step> {
        let mut plan = self.plan.lock();
        loop {
            if plan.stop {
                return None;
            }
            if let Some(step) = plan.next_step(Instant::now()) {
                return Some(step);
            }
            plan.idle = true;
            self.work.wait(&mut plan);
            plan.idle = false;
        }
    }
}

/// Stores a whole file, so that its last page is complete too; false when the tree gave another length.
fn push<T: Tree>(tree: &T, store: &impl Store, file: Neighbour, bytes: &mut Vec<u8>) -> Result<bool, Fault> {
    bytes.clear();
    // A length beyond `MAX_FILE_BYTES` was not asked for, and one beyond the inode's would grow it.
    let len = u32::try_from(file.size_bytes).map_err(|_| Fault::Invalid)?;
    guarded(|| tree.read(file.ino, 0, len, Wait::Allowed, bytes))?;
    if bytes.len() as u64 != file.size_bytes {
        return Ok(false);
    }
    store.store(file.ino, bytes).map_err(|error| Fault::Damaged(error.to_string()))?;
    Ok(true)
}
