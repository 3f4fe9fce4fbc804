//! When a failed attempt is made again.

use super::failure::{Cause, Failure};
use std::time::Duration;

/// How often and how long a failure is met with another attempt.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Attempts at one operation.
    pub max_tries: u32,
    /// No attempt begins later than this after the first.
    pub max_elapsed: Duration,
    /// The longest pause after the first attempt; it doubles with each.
    pub first_pause: Duration,
    /// No pause is longer, but for what a server asks for.
    pub max_pause: Duration,
    /// Nothing may move for this long.
    pub stall: Duration,
    /// How long a listing may lag behind.
    pub max_lag: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            max_tries: 8,
            max_elapsed: Duration::from_secs(120),
            first_pause: Duration::from_millis(500),
            max_pause: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            max_lag: Duration::from_secs(120),
        }
    }
}

impl Policy {
    /// Returns how long to wait before the next attempt, or none if there is none. `random` is from 0 to 1: the pause is
    /// anything up to its bound, so that many clients do not come back together (full jitter).
    pub(super) fn pause(&self, failure: &Failure, attempts: u32, elapsed: Duration, random: f64) -> Option<Duration> {
        // An object that ends too early mostly is damaged, and a page about something else mostly comes again; what came
        // may have been cut on the way all the same.
        let max_tries = match failure.cause {
            Cause::Short | Cause::NoListing => self.max_tries.min(3),
            _ => self.max_tries,
        };
        if !failure.is_temporary || attempts >= max_tries {
            return None;
        }
        let bound = self.first_pause.saturating_mul(1 << (attempts - 1).min(20)).min(self.max_pause);
        let pause = bound.mul_f64(random) + failure.retry_after.unwrap_or_default();
        (elapsed + pause <= self.max_elapsed).then_some(pause)
    }
}

/// Returns a number from 0 to 1.
pub(super) fn random() -> f64 {
    let mut bytes = [0; 4];
    crate::random::fill_random(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_end() {
        let policy = Policy::default();
        let failure = Failure::passing(Cause::Busy, "");
        let millis =
            |tries, random| policy.pause(&failure, tries, Duration::ZERO, random).map(|pause| pause.as_millis());
        assert_eq!(
            (1..=8).map(|tries| millis(tries, 1.0)).collect::<Vec<_>>(),
            [Some(500), Some(1000), Some(2000), Some(4000), Some(8000), Some(16000), Some(30000), None]
        );
        assert_eq!(millis(5, 0.0), Some(0));
        assert_eq!(millis(5, 0.25), Some(2000));
        let lasting = Failure::lasting(Cause::Denied, "");
        assert_eq!(policy.pause(&lasting, 1, Duration::ZERO, 0.5), None);
        assert_eq!(policy.pause(&failure, 7, Duration::from_secs(100), 1.0), None, "the time is up");
    }

    #[test]
    fn the_server_is_given_the_time_it_asks_for() {
        let policy = Policy::default();
        let wait = |secs| Failure { retry_after: Some(Duration::from_secs(secs)), ..Failure::passing(Cause::Busy, "") };
        let pause = policy.pause(&wait(20), 1, Duration::ZERO, 0.5).unwrap();
        assert_eq!(pause, Duration::from_millis(20_250));
        assert_eq!(policy.pause(&wait(3600), 1, Duration::ZERO, 0.0), None, "nobody waits an hour");
    }

    #[test]
    fn chance_is_spread() {
        let drawn: Vec<f64> = (0..100).map(|_| random()).collect();
        assert!(drawn.iter().all(|one| (0.0..=1.0).contains(one)));
        assert!(drawn.iter().any(|one| *one < 0.3) && drawn.iter().any(|one| *one > 0.7));
    }
}
