//! Lengths of time as people write them: whole numbers, each with its unit, the longest first: `90s`, `10min`, `2 weeks`,
//! `1y6mo`. All options, keys and names of snapshots read them here. `m` is months in the rules of what is kept, as
//! restic has it, and is refused elsewhere, where it might be minutes.

use crate::error::{Error, Result};
use jiff::{Span, Timestamp, Zoned};
use std::fmt;
use std::str::FromStr;

/// The spellings of each unit, the longest unit first.
const UNITS: [&[&str]; 7] = [
    &["y", "yr", "year", "years"],
    &["mo", "month", "months"],
    &["w", "wk", "week", "weeks"],
    &["d", "day", "days"],
    &["h", "hr", "hrs", "hour", "hours"],
    &["min", "mins", "minute", "minutes"],
    &["s", "sec", "secs", "second", "seconds"],
];
const MONTHS: usize = 1;
/// The seconds of the units from weeks on, which are as long whenever they are.
const SECS: [u64; 5] = [7 * 86_400, 86_400, 3600, 60, 1];
/// The largest number before a unit of the calendar: far beyond any history, and within its range.
const MAX_NUMBER: u64 = 9999;
/// The longest time on the clock.
const MAX_SECS: u64 = 10 * 366 * 86_400;

/// What `m` stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Months,
    Unclear,
}

/// Why a text is no length of time.
enum Wrong {
    Nonsense,
    /// A number alone.
    NoUnit(u64),
    /// `m`, where it may be minutes or months: the number before it.
    Unclear(u64),
}

/// Reads the number before each unit.
fn numbers(text: &str, m: Meaning) -> std::result::Result<[Option<u64>; 7], Wrong> {
    let mut numbers = [None; 7];
    let (mut rest, mut next) = (text, 0);
    loop {
        let (digits, after) = rest.split_at(rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len());
        let number = digits.parse().map_err(|_| Wrong::Nonsense)?;
        let after = after.trim_start();
        let (unit, after) = after.split_at(after.len() - after.trim_start_matches(|c: char| c.is_alphabetic()).len());
        let at = match unit {
            "" if next == 0 && after.is_empty() => return Err(Wrong::NoUnit(number)),
            "m" if m == Meaning::Unclear => return Err(Wrong::Unclear(number)),
            "m" => MONTHS,
            _ => UNITS.iter().position(|spellings| spellings.contains(&unit)).ok_or(Wrong::Nonsense)?,
        };
        if at < next {
            return Err(Wrong::Nonsense);
        }
        numbers[at] = Some(number);
        (rest, next) = (after.trim_start(), at + 1);
        if rest.is_empty() {
            return Ok(numbers);
        }
    }
}

fn unclear(text: &str, number: u64) -> String {
    format!("`{text}` may be minutes or months: write `{number}min` or `{number}mo`")
}

/// A length of time by the calendar: a month is as long as the month is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window([u16; 7]);

impl Window {
    /// Returns the moment that lies this long before `end`; the calendar's first where it does not go so far.
    pub fn start(&self, end: &Zoned) -> Timestamp {
        let [years, months, weeks, days, hours, mins, secs] = self.0;
        let span = Span::new().years(years).months(months).weeks(weeks).days(days);
        let span = span.hours(hours).minutes(mins).seconds(secs);
        end.checked_sub(span).map_or(Timestamp::MIN, |start| start.timestamp())
    }

    fn of(numbers: [Option<u64>; 7]) -> Option<Self> {
        let mut window = Window::default();
        for (part, number) in window.0.iter_mut().zip(numbers) {
            *part = u16::try_from(number.unwrap_or(0)).ok().filter(|number| u64::from(*number) <= MAX_NUMBER)?;
        }
        Some(window)
    }

    /// Reads how long ago something was, or how old it may be: any unit, and no `m`.
    pub fn parse_age(text: &str) -> std::result::Result<Self, String> {
        let wrong = || format!("`{text}` is no length of time: write `30d`, `12h`, `90min` or `2 weeks`");
        match numbers(text, Meaning::Unclear) {
            Ok(numbers) => Window::of(numbers).ok_or_else(wrong),
            Err(Wrong::Unclear(number)) => Err(unclear(text, number)),
            Err(Wrong::NoUnit(number)) => Err(format!("`{text}` has no unit: write `{number}d` or `{number}h`")),
            Err(Wrong::Nonsense) => Err(wrong()),
        }
    }
}

impl FromStr for Window {
    type Err = Error;

    /// Reads how long something is kept: `y`, `m` or `mo` (months), `w`, `d`, `h`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            || Error::usage(format!("`{text}` is no duration: write 12h, 7d, 2w, 3m (months), 1y6m; at least an hour"));
        // Rules are written closely, as restic reads them.
        if !text.bytes().all(|byte| byte.is_ascii_digit() || b"ymowdh".contains(&byte)) {
            return Err(wrong());
        }
        let numbers = numbers(text, Meaning::Months).map_err(|_| wrong())?;
        let is_short = numbers[5..].iter().any(Option::is_some);
        Window::of(numbers).filter(|window| !is_short && *window != Window::default()).ok_or_else(wrong)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.0.iter().zip(["y", "m", "w", "d", "h", "min", "s"]);
        parts.filter(|(number, _)| **number > 0).try_for_each(|(number, unit)| write!(f, "{number}{unit}"))
    }
}

/// A length of time on the clock: `90s`, `10min`, `2h`, `7d`, `0`, or `never`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duration {
    /// Whole seconds; `None` for `never`.
    pub secs: Option<u64>,
}

impl Duration {
    /// Makes one of whole seconds.
    pub const fn of_secs(secs: u64) -> Self {
        Duration { secs: Some(secs) }
    }

    /// Refuses one that is none, where nothing can be done in no time; `key` is where it is written.
    pub fn require_some(written: Option<Self>, key: &str) -> Result<()> {
        match written {
            Some(Duration { secs: Some(0) }) => {
                Err(Error::usage(format!("{key}: nothing ends in no time: write `10min`, or `never` for no limit")))
            }
            _ => Ok(()),
        }
    }
}

/// A length of time that something waits: as [`Duration`], and `never` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jitter {
    /// Whole seconds.
    pub secs: u64,
}

impl FromStr for Jitter {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        // What was never to begin later begins in time.
        Ok(Jitter { secs: text.parse::<Duration>()?.secs.unwrap_or(0) })
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text == "never" {
            return Ok(Duration { secs: None });
        }
        let wrong = || format!("`{text}` is no length of time: write 90s, 10min, 2h, 7d, 0 or never");
        let numbers = match numbers(text, Meaning::Unclear) {
            // None is the same in every unit.
            Err(Wrong::NoUnit(0)) => return Ok(Duration::of_secs(0)),
            Err(Wrong::NoUnit(_)) => {
                return Err(format!("`{text}` has no unit: write {text}s, {text}min, {text}h or {text}d"));
            }
            Err(Wrong::Unclear(number)) => {
                return Err(format!(
                    "`{text}` may be minutes or months, and months are none here: write `{number}min`"
                ));
            }
            Err(Wrong::Nonsense) => return Err(wrong()),
            Ok(numbers) => numbers,
        };
        let [None, None, clock @ ..] = numbers else { return Err(wrong()) };
        let add =
            |sum: u64, (number, secs): (Option<u64>, u64)| sum.checked_add(number.unwrap_or(0).checked_mul(secs)?);
        let secs = clock.into_iter().zip(SECS).try_fold(0, add).filter(|secs| *secs <= MAX_SECS);
        Ok(Duration { secs: Some(secs.ok_or_else(wrong)?) })
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.secs {
            None => f.write_str("never"),
            Some(secs) if secs % 86_400 == 0 => write!(f, "{}d", secs / 86_400),
            Some(secs) if secs % 3600 == 0 => write!(f, "{}h", secs / 3600),
            Some(secs) if secs % 60 == 0 => write!(f, "{}min", secs / 60),
            Some(secs) => write!(f, "{secs}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_read_as_people_write_them() {
        assert!(Window::parse_age("30d").is_ok() && Window::parse_age("2 weeks").is_ok());
        assert!(Window::parse_age("often").is_err());
    }

    #[test]
    fn minutes_and_months_are_told_apart() {
        for (text, shown) in
            [("3mo", "3m"), ("2 weeks", "2w"), ("90min", "90min"), ("1y 6mo 30 s", "1y6m30s"), ("0d", "")]
        {
            assert_eq!(Window::parse_age(text).unwrap().to_string(), shown);
        }
        for text in ["3m", "1y3m"] {
            let error = Window::parse_age(text).unwrap_err();
            assert!(error.contains("`3min`") && error.contains("`3mo`"), "{error}");
        }
        assert_eq!("1h30min".parse::<Duration>().unwrap(), Duration::of_secs(5400));
        assert!("10m".parse::<Duration>().unwrap_err().contains("`10min`"));
        for text in ["5", "1mo", "1y", "d", "1 fortnight", "99999999999999w", "-1d", "1d1w", "1\u{661}d"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
        for text in ["5", "", "ago", "10000d", "1.5d", "3M", "3min2min"] {
            assert!(Window::parse_age(text).is_err(), "{text}");
        }
    }

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
            "5min",
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
