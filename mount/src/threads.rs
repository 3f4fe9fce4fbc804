//! Threads whose end can be waited for, with a bound: one that waits for a disk may never end.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Threads that belong together; clones count the same ones.
#[derive(Clone, Default)]
pub struct Threads(Arc<Shared>);

#[derive(Default)]
struct Shared {
    running: Mutex<usize>,
    ended: Condvar,
}

/// One running thread.
struct Running(Threads);

impl Running {
    fn of(threads: &Threads) -> Self {
        *threads.0.running.lock() += 1;
        Running(threads.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        *self.0.0.running.lock() -= 1;
        self.0.0.ended.notify_all();
    }
}

impl Threads {
    /// Starts a thread; a name has at most 15 bytes (pthread_setname_np(3)). Fails where the system gives none.
    pub fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let running = Running::of(self);
        let run = move || {
            work();
            // By now what the work held is dropped.
            drop(running);
        };
        std::thread::Builder::new().name(name.into()).spawn(run).map(drop)
    }

    /// Waits until none of the threads is left, for at most `max`; says whether none is. Never call it on one of them.
    pub fn wait_for_end(&self, max: Duration) -> bool {
        let until = Instant::now() + max;
        let mut running = self.0.running.lock();
        while *running > 0 {
            if self.0.ended.wait_until(&mut running, until).timed_out() {
                return *running == 0;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn the_end_of_all_is_waited_for_panicking_or_not_and_no_longer_than_asked() {
        let threads = Threads::default();
        assert!(threads.wait_for_end(Duration::ZERO));
        let (release, gate) = channel::<()>();
        let held = Arc::new(());
        let holds = held.clone();
        let of_a_thread = threads.clone();
        threads
            .spawn("first", move || {
                of_a_thread.spawn("second", || panic!("in a thread")).unwrap();
                assert!(gate.recv().is_err());
                drop(holds);
            })
            .unwrap();
        assert!(!threads.wait_for_end(Duration::from_millis(20)));
        drop(release);
        assert!(threads.wait_for_end(Duration::from_secs(60)));
        assert_eq!(Arc::strong_count(&held), 1, "what a thread held is dropped before it counts as ended");
    }
}
