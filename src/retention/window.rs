//! Durations as retention rules state them: `12h`, `7d`, `2w`, `3m`, `1y6m`.

use crate::error::{Error, Result};
use jiff::{Span, Timestamp, Zoned};
use std::fmt;
use std::str::FromStr;

/// A length of time by the calendar: a month is as long as the month is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    years: u16,
    months: u16,
    weeks: u16,
    days: u16,
    hours: u16,
}

/// The largest number before a unit: far beyond any history, and within the calendar's range.
const MAX_NUMBER: u16 = 9999;

impl Window {
    /// Returns the moment that lies this long before `end`; the calendar's first where it does not go so far.
    pub fn start(&self, end: &Zoned) -> Timestamp {
        let span =
            Span::new().years(self.years).months(self.months).weeks(self.weeks).days(self.days).hours(self.hours);
        end.checked_sub(span).map_or(Timestamp::MIN, |start| start.timestamp())
    }
}

impl FromStr for Window {
    type Err = Error;

    /// Parses numbers, each with its unit: `y`, `m` (months), `w`, `d`, `h`, in that order, each at most once.
    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            || Error::usage(format!("`{text}` is no duration: write 12h, 7d, 2w, 3m (months), 1y6m; at least an hour"));
        let mut window = Window::default();
        let mut rest = text;
        for (unit, field) in [
            ('y', &mut window.years),
            ('m', &mut window.months),
            ('w', &mut window.weeks),
            ('d', &mut window.days),
            ('h', &mut window.hours),
        ] {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let Some(after) = rest[digits..].strip_prefix(unit) else { continue };
            *field = rest[..digits].parse().ok().filter(|number| *number <= MAX_NUMBER).ok_or_else(wrong)?;
            rest = after;
        }
        if rest.is_empty() && window != Window::default() { Ok(window) } else { Err(wrong()) }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [(self.years, 'y'), (self.months, 'm'), (self.weeks, 'w'), (self.days, 'd'), (self.hours, 'h')];
        parts.iter().filter(|(number, _)| *number > 0).try_for_each(|(number, unit)| write!(f, "{number}{unit}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_alike() {
        for text in ["7d", "3m", "1y6m", "2w", "12h", "1y2m3w4d5h", "9999y"] {
            assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
        }
        assert_eq!("0y07d".parse::<Window>().unwrap().to_string(), "7d");
    }

    #[test]
    fn nonsense_is_no_duration() {
        for text in [
            "",
            "0d",
            "0y0h",
            "7",
            "d",
            "-7d",
            "7d3m",
            "1d1d",
            "1.5d",
            "7 d",
            "7D",
            "5s",
            "10000d",
            "99999999999y",
            "7d7",
        ] {
            let error = text.parse::<Window>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")) && error.contains("1y6m"), "{text}: {error}");
        }
    }

    #[test]
    fn windows_follow_the_calendar() {
        let start =
            |window: &str, end: &str| window.parse::<Window>().unwrap().start(&end.parse().unwrap()).to_string();
        let end = "2026-03-31T12:00:00+02:00[Europe/Berlin]";
        // Summer time began on the 29th: days keep the hour on the wall, hours do not.
        assert_eq!(start("3d", end), "2026-03-28T11:00:00Z");
        assert_eq!(start("72h", end), "2026-03-28T10:00:00Z");
        assert_eq!(start("1m", end), "2026-02-28T11:00:00Z");
        assert_eq!(start("1y", end), "2025-03-31T10:00:00Z");
        assert_eq!(start("1y1m1w1d1h", end), "2025-02-20T10:00:00Z");
        assert_eq!(start("9999y", "-000001-01-01T00:00:00+00:00[UTC]"), Timestamp::MIN.to_string());
    }
}
