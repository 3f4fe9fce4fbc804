//! Keeps idle processors awake while requests follow one another closely.
//!
//! A request is two wake-ups, of the server and then of its reader, and where an idle processor halts,
//! waking it costs more than answering: on a virtual machine with 2 processors a cold `find` of 55 000
//! files took 0.76 s with halts and 0.44 s without, `cp -a` with extended attributes 13 s and 8 s. While
//! there is a storm of requests this asks the kernel for idle processors that answer at once, as any
//! program may that is permitted to (root): an idle processor then still gives way to all work there is.
//! Documentation/power/pm_qos_interface.rst describes the device.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::threads::Threads;

/// Bounds the time idle processors need to wake up for as long as it is held open.
const DEVICE: &str = "/dev/cpu_dma_latency";

/// Names what puts idle processors to sleep.
const IDLE_DRIVER: &str = "/sys/devices/system/cpu/cpuidle/current_driver";

/// A storm is this many requests within [`STORM_BEGINS`], and lasts while as many come within each [`STORM_ENDS`].
const STORM_REQUESTS: u64 = 32;
const STORM_BEGINS: Duration = Duration::from_millis(20);
const STORM_ENDS: Duration = Duration::from_millis(50);

/// What the kernel is asked for: a time in microseconds, as it wants a text of ten characters.
type Latency = &'static [u8; 10];

/// Idle processors run on: a virtual machine's has no state between that and a halt (cpuidle's haltpoll).
const POLL: Latency = b"0x00000000";

/// Shallow sleep only (C1 of common processors takes 1 or 2 microseconds to leave).
const SHALLOW: Latency = b"0x00000002";

#[derive(Default)]
struct State {
    /// When requests were last counted up to a multiple of [`STORM_REQUESTS`].
    counted: Option<Instant>,
    storm: bool,
    stop: bool,
}

struct Shared {
    requests: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

/// Told of every request; ends its thread when it is dropped.
pub(crate) struct Awake(Arc<Shared>);

impl Awake {
    /// Starts the thread that holds the device during storms, if there is one that may be opened.
    pub(crate) fn start(threads: &Threads) -> io::Result<Awake> {
        let driver = std::fs::read_to_string(IDLE_DRIVER).unwrap_or_default();
        Awake::with(threads, DEVICE.into(), if driver.trim() == "haltpoll" { POLL } else { SHALLOW })
    }

    fn with(threads: &Threads, device: PathBuf, latency: Latency) -> io::Result<Awake> {
        let shared = Arc::new(Shared { requests: AtomicU64::new(0), state: Mutex::default(), changed: Condvar::new() });
        let held = shared.clone();
        threads.spawn("bakfs-awake", move || held.hold(&device, latency))?;
        Ok(Awake(shared))
    }

    /// Takes note of a request.
    pub(crate) fn note(&self) {
        let number = self.0.requests.fetch_add(1, Ordering::Relaxed) + 1;
        if number.is_multiple_of(STORM_REQUESTS) {
            let mut state = self.0.state.lock();
            if !state.storm && state.is_storm(Instant::now()) {
                state.storm = true;
                self.0.changed.notify_one();
            }
        }
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.state.lock().stop = true;
        self.0.changed.notify_one();
    }
}

impl State {
    /// Returns whether [`STORM_REQUESTS`] requests, the last one now, came fast enough.
    fn is_storm(&mut self, now: Instant) -> bool {
        let before = self.counted.replace(now);
        before.is_some_and(|before| now.duration_since(before) < STORM_BEGINS)
    }
}

impl Shared {
    /// The life of the thread: waits for storms, and for the end of each.
    fn hold(&self, device: &PathBuf, latency: Latency) {
        let mut state = self.state.lock();
        loop {
            self.changed.wait_while(&mut state, |state| !state.storm && !state.stop);
            if state.stop {
                return;
            }
            let held = match MutexGuard::unlocked(&mut state, || ask(device, latency)) {
                Ok(held) => held,
                Err(error) => {
                    // An ordinary user's mount; `storm` stays, so that nobody asks again.
                    tracing::debug!(%error, device = %device.display(), "Idle processors sleep as they are set to");
                    return;
                }
            };
            let mut before = self.requests.load(Ordering::Relaxed);
            while !state.stop {
                self.changed.wait_for(&mut state, STORM_ENDS);
                let now = self.requests.load(Ordering::Relaxed);
                if now - before < STORM_REQUESTS {
                    break;
                }
                before = now;
            }
            // The kernel takes the wish back when the device is closed.
            drop(held);
            state.storm = false;
        }
    }
}

fn ask(device: &PathBuf, latency: Latency) -> io::Result<File> {
    let mut held = OpenOptions::new().write(true).open(device)?;
    held.write_all(latency)?;
    Ok(held)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_storm_is_many_requests_in_a_short_time() {
        let (mut state, begun) = (State::default(), Instant::now());
        let mut is_storm = |millis| state.is_storm(begun + Duration::from_millis(millis));
        assert!(!is_storm(0), "what came before the first count is not known");
        assert!(is_storm(19));
        assert!(!is_storm(39));
        assert!(is_storm(40));
    }

    #[test]
    fn the_device_is_held_open_for_the_storm_alone() {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path().join("device");
        mknodat(CWD, &device, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let awake = Arc::new(Awake::with(&Threads::default(), device.clone(), POLL).unwrap());
        for _ in 0..2 {
            let noted = awake.clone();
            let storm = std::thread::spawn(move || {
                while Arc::strong_count(&noted) > 1 && !noted.0.state.lock().storm {
                    noted.note()
                }
            });
            // Opens when the writer does, and ends when the writer closes.
            let mut said = Vec::new();
            File::open(&device).unwrap().read_to_end(&mut said).unwrap();
            assert_eq!(said, POLL);
            storm.join().unwrap();
        }
    }

    #[test]
    fn a_device_that_cannot_be_opened_is_asked_for_once() {
        let dir = tempfile::tempdir().unwrap();
        let awake = Awake::with(&Threads::default(), dir.path().join("none"), POLL).unwrap();
        while Arc::strong_count(&awake.0) > 1 {
            awake.note();
        }
        (0..STORM_REQUESTS).for_each(|_| awake.note());
        assert!(awake.0.state.lock().storm);
    }
}
