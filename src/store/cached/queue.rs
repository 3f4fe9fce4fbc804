//! What is to be fetched: what somebody waits for first, then what readers will come to, then what was wished for.

use super::mirror::{Flight, Mirror};
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
pub(super) struct Wish {
    pub(super) object: Object,
    pub(super) range: Range<u64>,
    /// Whether a reader is on its way there: otherwise somebody above has said so.
    pub(super) is_ahead: bool,
}

/// The next thing to do.
pub(super) enum Task {
    /// A request somebody waits for.
    Fly(Arc<Mirror>, Arc<Flight>),
    /// A wish; [`Queue::wish_done`] follows.
    Grant(Wish),
}

#[derive(Default)]
struct Waiting {
    flights: VecDeque<(Arc<Mirror>, Arc<Flight>)>,
    ahead: VecDeque<Wish>,
    wanted: VecDeque<Wish>,
    /// Threads there are, those of them without work, and those that grant a wish.
    threads: usize,
    idle: usize,
    granting: usize,
    is_closed: bool,
}

impl Waiting {
    fn wishes(&mut self, is_ahead: bool) -> &mut VecDeque<Wish> {
        if is_ahead { &mut self.ahead } else { &mut self.wanted }
    }

    /// Returns how many threads have something to do beside those that do it.
    fn tasks(&self, max_granting: usize) -> usize {
        let grants = max_granting.saturating_sub(self.granting);
        self.flights.len() + grants.min(self.ahead.len() + self.wanted.len())
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
    pub(super) fn fly(&self, mirror: &Arc<Mirror>, flight: Arc<Flight>) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.flights.push_back((mirror.clone(), flight));
        self.wake(&mut waiting)
    }

    /// Adds a wish, or adds it to one that is at most `gap_bytes` away. Returns whether a thread is needed.
    #[must_use]
    pub(super) fn wish(&self, wish: Wish, gap_bytes: u64) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.is_closed {
            return false;
        }
        let gap_bytes = if wish.is_ahead { 0 } else { gap_bytes };
        let wishes = waiting.wishes(wish.is_ahead);
        let near = |other: &&mut Wish| {
            other.object == wish.object
                && wish.range.start <= other.range.end.saturating_add(gap_bytes)
                && other.range.start <= wish.range.end.saturating_add(gap_bytes)
        };
        match wishes.iter_mut().rev().find(near) {
            Some(other) => {
                other.range = other.range.start.min(wish.range.start)..other.range.end.max(wish.range.end);
            }
            None => wishes.push_back(wish),
        }
        let mut wished_bytes: u64 = wishes.iter().map(|wish| wish.range.end - wish.range.start).sum();
        while wishes.len() > 1 && (wishes.len() > MAX_WISHES || wished_bytes > self.max_wished_bytes) {
            let oldest = wishes.pop_front().expect("there is more than one");
            wished_bytes -= oldest.range.end - oldest.range.start;
        }
        self.wake(&mut waiting)
    }

    /// Puts back what is left of a wish, as the next to be granted.
    #[must_use]
    pub(super) fn wish_on(&self, wish: Wish) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.is_closed {
            return false;
        }
        waiting.wishes(wish.is_ahead).push_front(wish);
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
    pub(super) fn next_flight(&self) -> Option<(Arc<Mirror>, Arc<Flight>)> {
        self.waiting.lock().flights.pop_front()
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
        if let Some((mirror, flight)) = waiting.flights.pop_front() {
            return Some(Task::Fly(mirror, flight));
        }
        if waiting.granting >= self.max_granting() {
            return None;
        }
        let wish = waiting.ahead.pop_front().or_else(|| waiting.wanted.pop_front())?;
        waiting.granting += 1;
        Some(Task::Grant(wish))
    }

    /// Takes that a wish was granted.
    pub(super) fn wish_done(&self) {
        self.waiting.lock().granting -= 1;
    }

    /// Drops all wishes and lets the threads end.
    pub(super) fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.is_closed = true;
        waiting.ahead.clear();
        waiting.wanted.clear();
        self.ready.notify_all();
    }
}
