//! A bound on bytes per second, over all connections together.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// What may go at once after a pause.
const BURST: Duration = Duration::from_millis(200);
/// The largest piece let through at once under a bound.
pub(super) const PIECE_BYTES: usize = 16 << 10;

/// Lets bytes through at a bounded rate, in the order they are asked for.
pub(super) struct Limit {
    bytes_per_sec: u64,
    /// When the bytes let through so far have all gone at the bounded rate.
    paid_until: Mutex<Option<Instant>>,
}

impl Limit {
    pub fn new(bytes_per_sec: u64) -> Self {
        Limit { bytes_per_sec: bytes_per_sec.max(1), paid_until: Mutex::new(None) }
    }

    /// Takes room for bytes; returns when they may go.
    pub fn reserve(&self, len_bytes: usize, now: Instant) -> Instant {
        let mut paid_until = self.paid_until.lock();
        let start = paid_until.map_or(now, |paid| paid.max(now.checked_sub(BURST).unwrap_or(now)));
        *paid_until = Some(start + Duration::from_secs_f64(len_bytes as f64 / self.bytes_per_sec as f64));
        start.max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_at_the_bounded_rate_after_a_small_burst() {
        let limit = Limit::new(1_000_000);
        let begin = Instant::now();
        let mut now = begin;
        for _ in 0..1000 {
            now = limit.reserve(10_000, now);
        }
        let secs = (now - begin).as_secs_f64();
        assert!((9.7..10.1).contains(&secs), "{secs}");
        // A pause is not saved up beyond the burst.
        now += Duration::from_secs(100);
        let after_pause = now;
        for _ in 0..100 {
            now = limit.reserve(10_000, now);
        }
        let secs = (now - after_pause).as_secs_f64();
        assert!((0.7..1.0).contains(&secs), "{secs}");
    }
}
