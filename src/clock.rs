//! Which times are believed.

use jiff::{SignedDuration, Timestamp};
use std::time::SystemTime;

/// How far a time may lie after the present before it is not believed. Machines in distant
/// time zones whose clocks are set by hand to local time are still believed.
pub const AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// How far a time this machine has noted itself may lie after the present before it is not believed: a clock is set
/// right by steps of moments.
pub const STEP_SECS: i64 = 300;

/// No clock that is right says an earlier time than this: bakfs is younger.
const EARLIEST: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// Returns whether a machine's clock is certainly behind.
pub fn is_behind(now: Timestamp) -> bool {
    now < EARLIEST
}

/// Returns the time in seconds since 1970; 0 for a clock before that.
pub fn now_secs() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs())
}

/// Returns the last moment that is believed.
pub fn last_believed(now: Timestamp) -> Timestamp {
    now.checked_add(AHEAD).unwrap_or(Timestamp::MAX)
}

/// Returns whether a time lies more than [`AHEAD`] after the present: what is dated so takes nobody's place.
pub fn is_ahead(time: Timestamp, now: Timestamp) -> bool {
    time > last_believed(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_ahead_is_believed_and_no_more() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-11-20T12:00:00Z");
        for (time, expected) in [
            ("2026-11-21T12:00:00Z", false),
            ("2026-11-21T12:00:00.000000001Z", true),
            ("1970-01-01T00:00:00Z", false),
            ("9999-01-01T00:00:00Z", true),
        ] {
            assert_eq!(is_ahead(at(time), now), expected, "{time}");
        }
        assert!(!is_ahead(Timestamp::MAX, Timestamp::MAX));
        assert!(is_behind(at("2025-12-31T23:59:59Z")) && !is_behind(at("2026-01-01T00:00:00Z")));
    }
}
