//! Requests that have to wait: an elastic set of I/O threads, and a watchdog over all of them.
//!
//! A reader of a FUSE mount cannot be killed while its request is unanswered, so every request that
//! was handed over is answered with EIO when its deadline passes, whether it runs or is still queued.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::threads::Threads;
use crate::tree::{Failure, Ino};

/// What bounds the requests that wait.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// When a request is answered with EIO.
    pub(crate) deadline: Duration,
    /// Threads that may serve at a time.
    pub(crate) max_threads: usize,
    /// How long an I/O thread stays without work.
    pub(crate) idle: Duration,
}

/// Threads that may be stuck in requests already answered with EIO, per thread that may serve.
const LOST_PER_THREAD: usize = 7;

/// The owned reply of one request; whoever takes it answers.
pub(crate) struct Pending<R>(Mutex<Option<R>>);

impl<R> Pending<R> {
    pub(crate) fn new(reply: R) -> Arc<Pending<R>> {
        Arc::new(Pending(Mutex::new(Some(reply))))
    }

    /// Takes the reply; `None` when the request has been answered.
    pub(crate) fn take(&self) -> Option<R> {
        self.0.lock().take()
    }

    /// Works on the reply while it is still owed; `None` when the request has been answered.
    pub(crate) fn with<A>(&self, work: impl FnOnce(&mut R) -> A) -> Option<A> {
        self.0.lock().as_mut().map(work)
    }
}

/// A request that can be answered with EIO.
pub(crate) trait Expire: Send + Sync {
    /// Answers with EIO unless the request has been answered.
    fn expire(&self);
}

type Work = Box<dyn FnOnce() + Send>;

struct Request {
    due: Instant,
    operation: &'static str,
    ino: Ino,
    /// `None` while it runs.
    work: Option<Work>,
    pending: Arc<dyn Expire>,
}

#[derive(Default)]
struct State {
    /// By number, which grows in the order of arrival and so of deadlines.
    jobs: BTreeMap<u64, Request>,
    queue: VecDeque<u64>,
    next: u64,
    idle: usize,
    /// Threads that serve: all but those stuck in an expired request.
    serving: usize,
    lost: usize,
    stop: bool,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    watch: Condvar,
    limits: Limits,
    on_expire: Box<dyn Fn(&Failure) + Send + Sync>,
    threads: Threads,
}

/// The I/O threads and their watchdog; they end when this is dropped.
pub(crate) struct Workers(Arc<Shared>);

impl Workers {
    /// Starts the watchdog; I/O threads start when there is work. Fails when no thread can be started.
    pub(crate) fn start(
        limits: Limits,
        threads: &Threads,
        on_expire: impl Fn(&Failure) + Send + Sync + 'static,
    ) -> io::Result<Workers> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            watch: Condvar::new(),
            limits,
            on_expire: Box::new(on_expire),
            threads: threads.clone(),
        });
        let watched = shared.clone();
        threads.spawn("bakfs-watchdog", move || watched.watch())?;
        Ok(Workers(shared))
    }

    /// Queues a request's work. `operation` and `ino` are for the log line of a missed deadline.
    pub(crate) fn submit(
        &self,
        operation: &'static str,
        ino: Ino,
        pending: Arc<dyn Expire>,
        work: impl FnOnce() + Send + 'static,
    ) {
        let shared = &self.0;
        let mut state = shared.state.lock();
        let number = state.next;
        state.next += 1;
        let due = Instant::now() + shared.limits.deadline;
        state.jobs.insert(number, Request { due, operation, ino, work: Some(Box::new(work)), pending });
        state.queue.push_back(number);
        if state.jobs.len() == 1 {
            shared.watch.notify_one();
        }
        Shared::staff(shared, &mut state);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.stop = true;
        state.queue.clear();
        let owed: Vec<_> = std::mem::take(&mut state.jobs).into_values().collect();
        state.lost += owed.iter().filter(|job| job.work.is_none()).count();
        drop(state);
        self.0.work.notify_all();
        self.0.watch.notify_all();
        owed.iter().for_each(|job| job.pending.expire());
    }
}

impl Shared {
    /// Wakes or starts a thread for queued work.
    fn staff(self: &Arc<Shared>, state: &mut State) {
        let max = self.limits.max_threads;
        let may_grow = state.serving < max && state.lost < max * LOST_PER_THREAD;
        if state.idle >= state.queue.len() || !may_grow {
            self.work.notify_one();
            return;
        }
        let worker = self.clone();
        match self.threads.spawn("bakfs-io", move || worker.serve()) {
            Ok(()) => state.serving += 1,
            // The request stays queued for the threads there are; the watchdog answers it otherwise.
            Err(error) => tracing::warn!(%error, "Starting an I/O thread of the mount failed"),
        }
    }

    fn serve(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(number) = state.queue.pop_front() {
                // An expired request has left the table, its number stays in the queue.
                let Some(work) = state.jobs.get_mut(&number).and_then(|job| job.work.take()) else {
                    continue;
                };
                drop(state);
                // Work guards its calls of the tree; should a reply panic, the thread stays counted right.
                if catch_unwind(AssertUnwindSafe(work)).is_err() {
                    tracing::error!("Replying to a request failed");
                }
                state = self.state.lock();
                if state.jobs.remove(&number).is_none() {
                    // Given up while it ran: another thread may have taken this one's place.
                    state.lost -= 1;
                    return;
                }
                continue;
            }
            if state.stop {
                break;
            }
            state.idle += 1;
            let timed_out = self.work.wait_for(&mut state, self.limits.idle).timed_out();
            state.idle -= 1;
            if timed_out && state.queue.is_empty() {
                break;
            }
        }
        state.serving -= 1;
    }

    fn watch(self: &Arc<Shared>) {
        let mut state = self.state.lock();
        while !state.stop {
            let Some(first) = state.jobs.first_entry() else {
                self.watch.wait(&mut state);
                continue;
            };
            let due = first.get().due;
            if due > Instant::now() {
                self.watch.wait_until(&mut state, due);
                continue;
            }
            let job = first.remove();
            if job.work.is_none() {
                state.serving -= 1;
                state.lost += 1;
                if !state.queue.is_empty() {
                    Shared::staff(self, &mut state);
                }
            }
            drop(state);
            // Told before the answer: whoever has it finds it in the log.
            let why = format!("it missed its deadline of {} s", self.limits.deadline.as_secs_f64());
            (self.on_expire)(&Failure { operation: job.operation, ino: job.ino, why });
            job.pending.expire();
            // May hold the last reference to what owns these workers, whose end takes the lock.
            drop(job);
            state = self.state.lock();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::mpsc;

    use super::*;

    /// A reply that counts how often it was an error.
    struct Reply(Arc<AtomicUsize>);

    impl Expire for Pending<Reply> {
        fn expire(&self) {
            if let Some(reply) = self.take() {
                reply.0.fetch_add(1, SeqCst);
            }
        }
    }

    fn eventually(holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn workers(deadline_millis: u64, max_threads: usize) -> Workers {
        let deadline = Duration::from_millis(deadline_millis);
        let limits = Limits { deadline, max_threads, idle: Duration::from_millis(50) };
        Workers::start(limits, &Threads::default(), |_| {}).unwrap()
    }

    #[test]
    fn threads_come_with_work_and_go_without() {
        let workers = workers(60_000, 8);
        let (errors, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..1000 {
            let done = done.clone();
            workers.submit("test", 1, Pending::new(Reply(errors.clone())), move || {
                done.fetch_add(1, SeqCst);
            });
            assert!(workers.0.state.lock().serving <= 8);
        }
        eventually(|| done.load(SeqCst) == 1000);
        eventually(|| workers.0.state.lock().serving == 0);
        workers.submit("test", 1, Pending::new(Reply(errors.clone())), || panic!("in a reply"));
        eventually(|| workers.0.state.lock().jobs.is_empty());
        eventually(|| workers.0.state.lock().serving == 0);
        assert_eq!(errors.load(SeqCst), 0);
    }

    #[test]
    fn running_and_queued_requests_expire_and_lost_threads_are_replaced() {
        let workers = workers(100, 2);
        let errors = Arc::new(AtomicUsize::new(0));
        let (release, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let answered = Pending::new(Reply(errors.clone()));
        assert!(answered.take().is_some());
        workers.submit("answered", 1, answered, || {});
        for _ in 0..10 {
            let gate = gate.clone();
            workers.submit("stuck", 1, Pending::new(Reply(errors.clone())), move || {
                gate.lock().recv().unwrap_err();
            });
        }
        eventually(|| errors.load(SeqCst) == 10);
        let (sender, received) = mpsc::channel();
        workers.submit("free", 1, Pending::new(Reply(errors.clone())), move || sender.send(7).unwrap());
        assert_eq!(received.recv().unwrap(), 7);
        drop(release);
        eventually(|| workers.0.state.lock().lost == 0);
        eventually(|| workers.0.state.lock().serving == 0);
    }

    #[test]
    fn ending_answers_what_is_owed() {
        let workers = workers(60_000, 1);
        let errors = Arc::new(AtomicUsize::new(0));
        let (release, gate) = mpsc::channel::<()>();
        let owed = Pending::new(Reply(errors.clone()));
        workers.submit("running", 1, owed, move || gate.recv().unwrap_err().to_string().clear());
        workers.submit("queued", 1, Pending::new(Reply(errors.clone())), || {});
        drop(workers);
        assert_eq!(errors.load(SeqCst), 2);
        drop(release);
    }
}
