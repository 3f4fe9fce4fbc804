//! A long cable: bytes come out a fixed time after they went in, as many at a time as it carries.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes on their way through one direction of a connection; a sender waits while there are more. At 15 ms
/// one way that is 1 GiB/s.
const FLIGHT_MAX_BYTES: usize = 16 << 20;

/// Bytes taken from a socket at a time.
pub const PIECE_MAX_BYTES: usize = 64 << 10;

/// What lies between client and proxy. Both directions are alike; connections share the bandwidth of each.
#[derive(Debug, Clone, Copy, Default)]
pub struct Length {
    /// From a request to its answer; opening a connection takes as long.
    pub round_trip: Duration,
    /// Of each direction, over all connections; unlimited without.
    pub bytes_per_sec: Option<u64>,
}

impl Length {
    /// A cable without bandwidth limit.
    pub fn of_millis(round_trip_ms: u64) -> Length {
        Length { round_trip: Duration::from_millis(round_trip_ms), bytes_per_sec: None }
    }

    /// Returns whether the cable neither delays nor limits.
    pub fn is_none(&self) -> bool {
        self.round_trip.is_zero() && self.bytes_per_sec.is_none()
    }
}

/// One direction of the cable, shared by all connections.
#[derive(Debug)]
pub struct Lane {
    one_way: Duration,
    bytes_per_sec: Option<u64>,
    free_at: Mutex<Instant>,
}

impl Lane {
    /// Makes one direction of a cable.
    pub fn new(length: Length) -> Arc<Lane> {
        let one_way = length.round_trip / 2;
        Arc::new(Lane { one_way, bytes_per_sec: length.bytes_per_sec, free_at: Mutex::new(Instant::now()) })
    }

    /// Returns when bytes that go in now come out.
    fn due(&self, len_bytes: usize) -> Instant {
        let now = Instant::now();
        let Some(rate) = self.bytes_per_sec else { return now + self.one_way };
        let mut free_at = lock(&self.free_at);
        *free_at = now.max(*free_at) + Duration::from_secs_f64(len_bytes as f64 / rate.max(1) as f64);
        *free_at + self.one_way
    }

    /// Opens one connection's direction; nothing comes out before `not_before`.
    pub fn open(self: &Arc<Lane>, not_before: Instant) -> (Near, Far) {
        let pipe = Arc::new(Pipe::default());
        let near = Near { lane: self.clone(), pipe: pipe.clone(), not_before };
        (near, Far { pipe, rest: Vec::new(), taken: 0 })
    }
}

/// How a direction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// In order (FIN).
    Closed,
    /// With a reset (RST).
    Reset,
}

/// What comes out of the cable.
pub enum Piece {
    /// Some bytes.
    Bytes(Vec<u8>),
    /// Nothing more.
    End(End),
}

#[derive(Default)]
struct Pipe {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(Instant, Piece)>,
    flight_bytes: usize,
    is_abandoned: bool,
}

/// The end bytes go into.
pub struct Near {
    lane: Arc<Lane>,
    pipe: Arc<Pipe>,
    not_before: Instant,
}

/// The end bytes come out of.
pub struct Far {
    pipe: Arc<Pipe>,
    rest: Vec<u8>,
    taken: usize,
}

impl Near {
    /// Sends bytes on their way; waits only while too many are on it.
    pub fn send(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        let mut state = lock(&self.pipe.state);
        while state.flight_bytes >= FLIGHT_MAX_BYTES && !state.is_abandoned {
            state = self.pipe.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_abandoned {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let due = self.lane.due(bytes.len()).max(self.not_before);
        state.flight_bytes += bytes.len();
        state.queue.push_back((due, Piece::Bytes(bytes)));
        self.pipe.changed.notify_all();
        Ok(())
    }

    /// Ends the direction, after what is on its way.
    pub fn end(&mut self, how: End) {
        let due = self.lane.due(0).max(self.not_before);
        lock(&self.pipe.state).queue.push_back((due, Piece::End(how)));
        self.pipe.changed.notify_all();
    }
}

impl Drop for Near {
    fn drop(&mut self) {
        self.end(End::Closed);
    }
}

impl Write for Near {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = &bytes[..bytes.len().min(PIECE_MAX_BYTES)];
        self.send(part.to_vec())?;
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Far {
    /// Waits for the next piece and for its time.
    pub fn receive(&mut self) -> Piece {
        let mut state = lock(&self.pipe.state);
        loop {
            let Some((due, _)) = state.queue.front() else {
                state = self.pipe.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let due = *due;
            let now = Instant::now();
            if due > now {
                drop(state);
                std::thread::sleep(due - now);
                state = lock(&self.pipe.state);
            }
            let Some((_, piece)) = state.queue.pop_front() else { continue };
            if let Piece::Bytes(bytes) = &piece {
                state.flight_bytes -= bytes.len();
            }
            self.pipe.changed.notify_all();
            return piece;
        }
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        lock(&self.pipe.state).is_abandoned = true;
        self.pipe.changed.notify_all();
    }
}

impl Read for Far {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.rest.len() {
            match self.receive() {
                Piece::Bytes(bytes) => (self.rest, self.taken) = (bytes, 0),
                Piece::End(End::Closed) => return Ok(0),
                Piece::End(End::Reset) => return Err(io::ErrorKind::ConnectionReset.into()),
            }
        }
        let len = buffer.len().min(self.rest.len() - self.taken);
        buffer[..len].copy_from_slice(&self.rest[self.taken..self.taken + len]);
        self.taken += len;
        Ok(len)
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
