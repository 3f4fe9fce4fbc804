//! The mount at its place, and those that were there before and still have users.

use crate::view::View;
use bakfs_mount::{Mount, MountError, Options, Requests, Threads};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The mount at its place, and those that were there before and still have users.
pub(super) struct Served {
    /// Held while another takes its place.
    current: Mutex<Arc<Mount>>,
    earlier: Mutex<Vec<Arc<Mount>>>,
    /// Those of all mounts and of what they show.
    threads: Mutex<Vec<Threads>>,
    options: Options,
}

impl Served {
    pub(super) fn new(mount: Mount, view: &View, options: Options) -> Self {
        let threads = Mutex::new(vec![mount.threads(), view.threads()]);
        Served { current: Mutex::new(Arc::new(mount)), earlier: Mutex::default(), threads, options }
    }

    pub(super) fn current(&self) -> Arc<Mount> {
        self.current.lock().clone()
    }

    /// Waits until the mount has ended, whoever ended it, and nobody is left in an earlier one.
    pub(super) fn wait(&self) {
        loop {
            let mount = self.current();
            mount.wait();
            if Arc::ptr_eq(&mount, &self.current()) {
                break;
            }
        }
        let earlier = std::mem::take(&mut *self.earlier.lock());
        earlier.iter().for_each(|mount| mount.wait());
    }

    /// Waits for the same, for at most `max`; says whether it is so.
    pub(super) fn wait_for(&self, max: Duration) -> bool {
        let until = Instant::now() + max;
        let left = || until.saturating_duration_since(Instant::now());
        loop {
            let mount = self.current();
            if !mount.wait_for(left()) {
                return false;
            }
            if Arc::ptr_eq(&mount, &self.current()) {
                break;
            }
        }
        let earlier = self.earlier.lock().clone();
        earlier.iter().all(|mount| mount.wait_for(left()))
    }

    /// Waits for the end of all threads of mounts that have ended, until then; says whether none is left.
    pub(super) fn wait_for_threads(&self, until: Instant) -> bool {
        let threads = self.threads.lock().clone();
        threads.iter().all(|threads| threads.wait_for_end(until.saturating_duration_since(Instant::now())))
    }

    /// Unmounts, busy or not: who ends it wants the directory back.
    pub(super) fn unmount(&self) -> Result<(), MountError> {
        let mount = self.current();
        mount.unmount().or_else(|_| mount.unmount_lazily())
    }

    /// Mounts another view at the same place.
    pub(super) fn renew(&self, view: Arc<View>) -> Result<(), MountError> {
        let mut current = self.current.lock();
        let threads = view.threads();
        let new = Arc::new(current.replace(view, &self.options)?);
        let mut all = self.threads.lock();
        all.retain(|threads| !threads.wait_for_end(Duration::ZERO));
        all.extend([new.threads(), threads]);
        let old = std::mem::replace(&mut *current, new);
        let mut earlier = self.earlier.lock();
        earlier.retain(|mount| mount.is_serving());
        earlier.push(old);
        Ok(())
    }

    /// Returns what the kernel has asked the mount at its place for.
    pub(super) fn requests(&self) -> Requests {
        self.current().requests()
    }
}
