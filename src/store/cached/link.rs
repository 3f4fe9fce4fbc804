//! How fast the place far away answers: what read-ahead and the size of requests follow.

use std::time::{Duration, Instant};

/// A request up to this length tells what a round trip takes.
const SMALL_BYTES: usize = 256 << 10;
/// Bytes that came in less time tell nothing about the bandwidth; of a stream without end it is seen so often.
const MIN_SAMPLE: Duration = Duration::from_millis(20);
const LONG_SAMPLE: Duration = Duration::from_millis(250);
/// Fewer bytes do not tell that the bandwidth is low: they were all that was asked for.
const MIN_SAMPLE_BYTES: u64 = 1 << 20;
/// What a link is taken for until it was measured.
const FIRST_LATENCY_SECS: f64 = 0.05;
const FIRST_RATE: f64 = 20e6;
/// Bounds of what is asked ahead of a reader.
const DEPTH_BYTES: std::ops::RangeInclusive<u64> = 2 << 20..=64 << 20;
/// A reader that stops has had so much more fetched in vain, in time.
const AHEAD_SECS: f64 = 0.25;
/// Bounds of a request that is part of a long run.
const PIECE_BYTES: std::ops::RangeInclusive<u64> = 512 << 10..=8 << 20;
/// Bounds of what one request more costs, in bytes fetched in vain.
const GAP_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=256 << 10;

/// Latency and bandwidth, as weighted means of what was seen last.
#[derive(Debug)]
pub(super) struct Link {
    latency_secs: f64,
    /// Bytes a second over all connections.
    rate: f64,
    active: u32,
    /// How long there were requests on their way since the last sample, as of when, and what came meanwhile.
    busy: Duration,
    as_of: Instant,
    came_bytes: u64,
}

impl Default for Link {
    fn default() -> Self {
        let (latency_secs, rate) = (FIRST_LATENCY_SECS, FIRST_RATE);
        Link { latency_secs, rate, active: 0, busy: Duration::ZERO, as_of: Instant::now(), came_bytes: 0 }
    }
}

impl Link {
    /// A request begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.pass(now);
        self.active += 1;
    }

    /// Bytes have come.
    pub(super) fn came(&mut self, now: Instant, bytes: usize) {
        self.pass(now);
        self.came_bytes += bytes as u64;
        self.sample();
    }

    /// The first bytes of a request for `asked_bytes` have come after `took`. Where much is asked for the bytes of others
    /// have delayed it, so that it tells only that the latency is lower than it was taken for.
    pub(super) fn answered(&mut self, took: Duration, asked_bytes: usize) {
        let took_secs = took.as_secs_f64();
        if asked_bytes <= SMALL_BYTES || took_secs < self.latency_secs {
            self.latency_secs += (took_secs - self.latency_secs) / 8.0;
        }
    }

    /// A request ends, done or failed.
    pub(super) fn end(&mut self, now: Instant) {
        self.pass(now);
        self.active -= 1;
        self.sample();
    }

    fn pass(&mut self, now: Instant) {
        if self.active > 0 {
            self.busy += now.saturating_duration_since(self.as_of);
        }
        self.as_of = now;
    }

    fn sample(&mut self) {
        if self.busy < if self.active == 0 { MIN_SAMPLE } else { LONG_SAMPLE } {
            return;
        }
        let rate = self.came_bytes as f64 / self.busy.as_secs_f64();
        if rate > self.rate {
            self.rate = f64::midpoint(self.rate, rate);
        } else if self.came_bytes >= MIN_SAMPLE_BYTES {
            self.rate += (rate - self.rate) / 8.0;
        } else if self.active > 0 {
            // A slow link takes longer to tell.
            return;
        }
        (self.busy, self.came_bytes) = (Duration::ZERO, 0);
    }

    fn in_flight_bytes(&self) -> u64 {
        (self.rate * self.latency_secs) as u64
    }

    /// Returns how far to read ahead: four times what is on its way at a time, since half of it may have come before
    /// more is asked for, and what comes in a while, so that requests may be long.
    pub(super) fn depth_bytes(&self) -> u64 {
        let ahead_bytes = (self.rate * AHEAD_SECS) as u64;
        (4 * self.in_flight_bytes() + ahead_bytes).clamp(*DEPTH_BYTES.start(), *DEPTH_BYTES.end())
    }

    /// Returns how long the requests of a long run are: short enough for all connections to have one in what is read
    /// ahead, unless that is very little.
    pub(super) fn piece_bytes(&self, connections: usize) -> u64 {
        (self.depth_bytes() / connections as u64).clamp(*PIECE_BYTES.start(), *PIECE_BYTES.end())
    }

    /// Returns the gap between two ranges over which one request is better than two.
    pub(super) fn gap_bytes(&self, connections: usize) -> u64 {
        (self.in_flight_bytes() / connections as u64).clamp(*GAP_BYTES.start(), *GAP_BYTES.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// Has `count` requests of some bytes follow one another; returns the link.
    fn measured(count: u32, took: Duration, bytes: usize) -> Link {
        let (mut link, mut now) = (Link::default(), Instant::now());
        for _ in 0..count {
            link.begin(now);
            now += took;
            link.answered(took, bytes);
            link.came(now, bytes);
            link.end(now);
        }
        link
    }

    #[test]
    fn depth_follows_latency_times_bandwidth() {
        let slow = measured(100, Duration::from_secs(2), 2 * MIB);
        assert_eq!(slow.depth_bytes(), 2 << 20, "1 MiB/s at 50 ms");
        assert_eq!(slow.gap_bytes(8), 64 << 10);
        let mut link = measured(100, Duration::from_millis(30), 200 << 10);
        let mut now = Instant::now();
        for _ in 0..100 {
            // 16 at a time of 1 MiB in 100 ms are 168 MB/s.
            (0..16).for_each(|_| link.begin(now));
            now += Duration::from_millis(100);
            link.answered(Duration::from_millis(100), MIB);
            link.came(now, 16 * MIB);
            (0..16).for_each(|_| link.end(now));
        }
        let depth = link.depth_bytes() as f64;
        let expected = (4.0 * 0.03 + AHEAD_SECS) * 16.0 * MIB as f64 / 0.1;
        assert!((0.9..1.1).contains(&(depth / expected)), "{depth} instead of {expected}");
        assert_eq!(link.piece_bytes(8), (depth / 8.0) as u64);
    }

    #[test]
    fn a_slow_link_is_known_by_what_comes_in_small_pieces() {
        let (mut link, mut now) = (Link::default(), Instant::now());
        (0..8).for_each(|_| link.begin(now));
        // 60 s of 1 MiB/s.
        for _ in 0..60 * 64 {
            now += Duration::from_secs(1) / 64;
            link.came(now, 16 << 10);
        }
        assert_eq!((link.depth_bytes(), link.piece_bytes(8)), (2 << 20, 512 << 10));
    }

    #[test]
    fn failures_and_pauses_tell_nothing() {
        let mut link = measured(100, Duration::from_millis(30), 200 << 10);
        let depth = link.depth_bytes();
        let now = Instant::now() + Duration::from_secs(3600);
        link.begin(now);
        link.end(now + Duration::from_secs(60));
        link.begin(now + Duration::from_secs(600));
        link.answered(Duration::from_millis(30), 200 << 10);
        link.came(now + Duration::from_millis(600_030), 200 << 10);
        link.end(now + Duration::from_millis(600_030));
        assert_eq!(link.depth_bytes(), depth);
    }
}
