//! What is to be fetched: what somebody waits for first, then what readers will come to, then what was prefetched for.

use super::sparse_copy::{InFlight, SparseCopy};
use crate::store::Object;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Wishes beyond these drop the oldest.
const MAX_WISHES: usize = 512;
/// A thread without work ends.
const IDLE: Duration = Duration::from_secs(10);

/// Bytes somebody may read soon.
#[derive(Debug, Clone)]
pub(super) struct Prefetch {
    pub(super) object: Object,
    pub(super) range: Range<u64>,
    /// Whether a reader is on its way there: otherwise somebody above has said so.
    pub(super) is_ahead: bool,
}

/// The next thing to do.
pub(super) enum Task {
    /// A request somebody waits for.
    Fly(Arc<SparseCopy>, Arc<InFlight>),
    /// A prefetch; [`Queue::prefetch_done`] follows.
    Grant(Prefetch),
}

#[derive(Default)]
struct Waiting {
    requests: VecDeque<(Arc<SparseCopy>, Arc<InFlight>)>,
    ahead: VecDeque<Prefetch>,
    wanted: VecDeque<Prefetch>,
    /// Threads there are, those of them without work, and those that grant a prefetch.
    threads: usize,
    idle: usize,
    granting: usize,
    is_closed: bool,
}

impl Waiting {
    fn prefetches(&mut self, is_ahead: bool) -> &mut VecDeque<Prefetch> {
        if is_ahead { &mut self.ahead } else { &mut self.wanted }
    }

    /// Returns how many threads have something to do beside those that do it.
    fn tasks(&self, max_granting: usize) -> usize {
        let grants = max_granting.saturating_sub(self.granting);
        self.requests.len() + grants.min(self.ahead.len() + self.wanted.len())
    }
}

/// The queue of a store, and its threads.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    ready: Condvar,
    connections: usize,
    max_wished_bytes: u64,
}

impl Queue {
    /// Makes a queue for so many requests at a time.
    pub(super) fn new(connections: usize, max_wished_bytes: u64) -> Self {
        Queue { waiting: Mutex::default(), ready: Condvar::new(), connections, max_wished_bytes }
    }

    /// One connection is kept free for those who wait.
    fn max_granting(&self) -> usize {
        (self.connections - 1).max(1)
    }

    /// Adds a request somebody waits for. Returns whether a thread is needed, which the caller starts.
    #[must_use]
    pub(super) fn fly(&self, copy: &Arc<SparseCopy>, request: Arc<InFlight>) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.requests.push_back((copy.clone(), request));
        self.wake(&mut waiting)
    }

    /// Adds a prefetch, or adds it to one that is at most `gap_bytes` away. Returns whether a thread is needed.
    #[must_use]
    pub(super) fn prefetch(&self, prefetch: Prefetch, gap_bytes: u64) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.is_closed {
            return false;
        }
        let gap_bytes = if prefetch.is_ahead { 0 } else { gap_bytes };
        let prefetches = waiting.prefetches(prefetch.is_ahead);
        let near = |other: &&mut Prefetch| {
            other.object == prefetch.object
                && prefetch.range.start <= other.range.end.saturating_add(gap_bytes)
                && other.range.start <= prefetch.range.end.saturating_add(gap_bytes)
        };
        match prefetches.iter_mut().rev().find(near) {
            Some(other) => {
                other.range = other.range.start.min(prefetch.range.start)..other.range.end.max(prefetch.range.end);
            }
            None => prefetches.push_back(prefetch),
        }
        let mut prefetched_bytes: u64 =
            prefetches.iter().map(|prefetch| prefetch.range.end - prefetch.range.start).sum();
        while prefetches.len() > 1 && (prefetches.len() > MAX_WISHES || prefetched_bytes > self.max_wished_bytes) {
            let oldest = prefetches.pop_front().expect("there is more than one");
            prefetched_bytes -= oldest.range.end - oldest.range.start;
        }
        self.wake(&mut waiting)
    }

    /// Puts back what is left of a prefetch, as the next to be granted.
    #[must_use]
    pub(super) fn prefetch_on(&self, prefetch: Prefetch) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.is_closed {
            return false;
        }
        waiting.prefetches(prefetch.is_ahead).push_front(prefetch);
        self.wake(&mut waiting)
    }

    fn wake(&self, waiting: &mut Waiting) -> bool {
        self.ready.notify_one();
        let is_needed = waiting.tasks(self.max_granting()) > waiting.idle && waiting.threads < self.connections;
        waiting.threads += usize::from(is_needed);
        is_needed
    }

    /// Takes that a thread that was needed could not be started; returns whether there is none.
    pub(super) fn thread_failed(&self) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.threads -= 1;
        waiting.threads == 0
    }

    /// Returns a request somebody waits for, without waiting.
    pub(super) fn next_flight(&self) -> Option<(Arc<SparseCopy>, Arc<InFlight>)> {
        self.waiting.lock().requests.pop_front()
    }

    /// Waits for something to do; `None` ends the thread, which counts no more.
    pub(super) fn next(&self) -> Option<Task> {
        let mut waiting = self.waiting.lock();
        loop {
            if let Some(task) = self.take(&mut waiting) {
                return Some(task);
            }
            let is_idle = !waiting.is_closed && {
                waiting.idle += 1;
                let timed_out = self.ready.wait_for(&mut waiting, IDLE).timed_out();
                waiting.idle -= 1;
                !timed_out
            };
            if !is_idle && waiting.tasks(self.max_granting()) == 0 {
                waiting.threads -= 1;
                return None;
            }
        }
    }

    fn take(&self, waiting: &mut Waiting) -> Option<Task> {
        if let Some((copy, request)) = waiting.requests.pop_front() {
            return Some(Task::Fly(copy, request));
        }
        if waiting.granting >= self.max_granting() {
            return None;
        }
        let prefetch = waiting.ahead.pop_front().or_else(|| waiting.wanted.pop_front())?;
        waiting.granting += 1;
        Some(Task::Grant(prefetch))
    }

    /// Takes that a prefetch was granted.
    pub(super) fn prefetch_done(&self) {
        self.waiting.lock().granting -= 1;
    }

    /// Drops all prefetches and lets the threads end.
    pub(super) fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.is_closed = true;
        waiting.ahead.clear();
        waiting.wanted.clear();
        self.ready.notify_all();
    }
}
