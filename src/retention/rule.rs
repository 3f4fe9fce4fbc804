//! Retention rules, as they are written and as they are read.

use crate::error::{Error, Result};
use crate::quantity::time::Window;
use jiff::civil::{Date, DateTime, date};
use std::fmt;
use std::str::FromStr;

/// A unit of the calendar that snapshots are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Hours of the clock on the wall: one that a change to winter time repeats counts once.
    Hourly,
    /// Days.
    Daily,
    /// Weeks that begin on Monday (ISO 8601).
    Weekly,
    /// Months.
    Monthly,
    /// Quarters of a year: from January, April, July, October.
    Quarterly,
    /// Years.
    Yearly,
}

/// The day from which days and weeks are counted: a Monday.
const FIRST_DAY: Date = date(1, 1, 1);

impl Level {
    /// All of them, shortest first.
    pub const ALL: [Level; 6] =
        [Level::Hourly, Level::Daily, Level::Weekly, Level::Monthly, Level::Quarterly, Level::Yearly];

    /// Returns the word in rules.
    pub fn word(self) -> &'static str {
        match self {
            Level::Hourly => "hourly",
            Level::Daily => "daily",
            Level::Weekly => "weekly",
            Level::Monthly => "monthly",
            Level::Quarterly => "quarterly",
            Level::Yearly => "yearly",
        }
    }

    /// Returns the number of the period a local time lies in, where `step` periods in a row are one.
    ///
    /// Numbers depend on the calendar alone, so a snapshot's period never shifts as others come and go:
    /// every second month is January with February, March with April; days and weeks are counted from
    /// 1 January of the year 1.
    pub fn period(self, local: DateTime, step: u32) -> i64 {
        let months = i64::from(local.year()) * 12 + i64::from(local.month()) - 1;
        let days = || i64::from((local.date() - FIRST_DAY).get_days());
        let number = match self {
            Level::Hourly => days() * 24 + i64::from(local.hour()),
            Level::Daily => days(),
            Level::Weekly => days().div_euclid(7),
            Level::Monthly => months,
            Level::Quarterly => months.div_euclid(3),
            Level::Yearly => i64::from(local.year()),
        };
        number.div_euclid(i64::from(step.max(1)))
    }
}

/// How many to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// At most so many.
    Count(u32),
    /// All there are.
    Unlimited,
}

/// What `--keep-daily` and its like take: `7`, `unlimited`, or `6/2` for six, one of every second period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub limit: Limit,
    /// How many periods of the level in a row count as one; at least 1.
    pub step: u32,
}

/// Tags that a snapshot must have all of, as `--keep-tag` takes them: `release` or `release,db`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagList(pub Vec<String>);

/// One rule. A snapshot is kept if any rule keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// The newest ones.
    Last(Limit),
    /// The newest one of each of the newest periods that have any.
    Level(Level, Count),
    /// All that are less old than this, counted back from the newest.
    Within(Window),
    /// The newest one of each period, of those less old than this.
    LevelWithin(Level, Window),
    /// All that have each of these tags.
    Tags(TagList),
}

/// Refuses a level that is counted twice with the same step: one of the two numbers is not meant.
pub fn check(rules: &[Rule]) -> Result<()> {
    for (at, rule) in rules.iter().enumerate() {
        let Rule::Level(level, count) = rule else { continue };
        for earlier in &rules[..at] {
            let Rule::Level(other, earlier) = earlier else { continue };
            if other == level && earlier.step == count.step {
                let flag = format!("--keep-{}", level.word());
                return Err(Error::usage(format!(
                    "{flag} {earlier} and {flag} {count} contradict each other: give one of them"
                )));
            }
        }
    }
    Ok(())
}

impl FromStr for Limit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "unlimited" => Ok(Limit::Unlimited),
            _ => number(text).map(Limit::Count).ok_or_else(|| {
                Error::usage(format!("`{text}` is no number of snapshots: write 0 or more, or `unlimited`"))
            }),
        }
    }
}

impl FromStr for Count {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (limit, step) = match text.split_once('/') {
            None => (text, Some(1)),
            Some((limit, step)) => (limit, number(step).filter(|step| (1..=MAX_STEP).contains(step))),
        };
        match (limit.parse(), step) {
            (Ok(limit), Some(step)) => Ok(Count { limit, step }),
            _ => Err(Error::usage(format!(
                "`{text}` is no number of snapshots: write 7, `unlimited`, or 6/2 for six, one of every second period"
            ))),
        }
    }
}

impl FromStr for TagList {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let tags: Vec<String> = text.split(',').map(|tag| tag.trim().to_string()).collect();
        if tags.iter().any(String::is_empty) {
            return Err(Error::usage(format!("`{text}` names an empty tag: write one tag, or several as `a,b`")));
        }
        Ok(TagList(tags))
    }
}

/// The most periods that count as one.
const MAX_STEP: u32 = 1000;

/// Parses digits alone.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Count(count) => write!(f, "{count}"),
            Limit::Unlimited => f.write_str("unlimited"),
        }
    }
}

impl fmt::Display for TagList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            1 => write!(f, "{}", self.limit),
            step => write!(f, "{}/{step}", self.limit),
        }
    }
}

impl fmt::Display for Rule {
    /// Writes it as the option of `bakfs forget` that says the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Last(limit) => write!(f, "--keep-last {limit}"),
            Rule::Level(level, count) => write!(f, "--keep-{} {count}", level.word()),
            Rule::Within(window) => write!(f, "--keep-within {window}"),
            Rule::LevelWithin(level, window) => write!(f, "--keep-{}-within {window}", level.word()),
            Rule::Tags(tags) => write!(f, "--keep-tag {tags}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> Result<Count> {
        text.parse()
    }

    #[test]
    fn counts_are_read_and_written_alike() {
        for text in ["0", "7", "unlimited", "6/2", "unlimited/3", "4294967295/1000"] {
            assert_eq!(count(text).unwrap().to_string(), text);
        }
        assert_eq!(count("6/1").unwrap(), count("6").unwrap());
        for text in ["", "-1", "+1", "7/0", "7/", "/2", "7/-2", "1e3", " 7", "seven", "4294967296", "1/1001", "1/2/3"] {
            assert!(count(text).unwrap_err().to_string().contains(&format!("`{text}`")), "{text}");
        }
        for text in ["-1", "6/2", "all"] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
        assert_eq!("b,a".parse::<TagList>().unwrap().to_string(), "b,a");
        for text in ["", ",", "a,", "a,,b"] {
            assert!(text.parse::<TagList>().is_err(), "{text}");
        }
    }

    #[test]
    fn one_number_a_level_and_step() {
        let level = |level, text: &str| Rule::Level(level, count(text).unwrap());
        let month = |text: &str| level(Level::Monthly, text);
        check(&[month("6"), month("6/2"), month("unlimited/12"), level(Level::Daily, "6")]).unwrap();
        for (one, other) in [("7", "unlimited"), ("7", "7"), ("6/2", "0/2"), ("6/1", "6")] {
            let error = check(&[month(one), level(Level::Daily, "1"), month(other)]).unwrap_err();
            assert!(error.to_string().contains("--keep-monthly"), "{error}");
        }
    }

    #[test]
    fn rules_are_written_as_the_options_that_say_the_same() {
        let window = "1y6m".parse().unwrap();
        for (rule, option) in [
            (Rule::Last(Limit::Unlimited), "--keep-last unlimited"),
            (Rule::Level(Level::Monthly, count("6/2").unwrap()), "--keep-monthly 6/2"),
            (Rule::Within(window), "--keep-within 1y6m"),
            (Rule::LevelWithin(Level::Daily, window), "--keep-daily-within 1y6m"),
            (Rule::Tags("a,b".parse().unwrap()), "--keep-tag a,b"),
        ] {
            assert_eq!(rule.to_string(), option);
        }
    }

    #[test]
    fn periods_are_those_of_the_calendar() {
        let at = |text: &str| text.parse::<DateTime>().unwrap();
        let same =
            |level: Level, step, one: &str, other: &str| level.period(at(one), step) == level.period(at(other), step);
        for (level, step, one, other, expected) in [
            (Level::Hourly, 1, "2026-11-20T03:00", "2026-11-20T03:59", true),
            (Level::Hourly, 1, "2026-11-20T03:59", "2026-11-20T04:00", false),
            (Level::Hourly, 6, "2026-11-20T00:00", "2026-11-20T05:59", true),
            (Level::Hourly, 6, "2026-11-20T05:59", "2026-11-20T06:00", false),
            (Level::Daily, 1, "2026-11-20T00:00", "2026-11-20T23:59", true),
            // ISO week 53 of 2026 goes from Monday 28 December to Sunday 3 January.
            (Level::Weekly, 1, "2026-12-28T00:00", "2027-01-03T23:59", true),
            (Level::Weekly, 1, "2026-12-27T23:59", "2026-12-28T00:00", false),
            (Level::Monthly, 1, "2026-02-28T23:00", "2026-03-01T00:00", false),
            (Level::Monthly, 1, "2025-02-28T23:00", "2026-02-28T23:00", false),
            (Level::Monthly, 2, "2026-01-01T00:00", "2026-02-28T23:00", true),
            (Level::Monthly, 2, "2026-02-28T23:00", "2026-03-01T00:00", false),
            (Level::Quarterly, 1, "2026-04-01T00:00", "2026-06-30T23:59", true),
            (Level::Quarterly, 1, "2026-03-31T23:59", "2026-04-01T00:00", false),
            (Level::Quarterly, 2, "2026-01-01T00:00", "2026-06-30T23:59", true),
            (Level::Yearly, 1, "2026-01-01T00:00", "2026-12-31T23:59", true),
            (Level::Yearly, 5, "2025-01-01T00:00", "2029-12-31T23:59", true),
            (Level::Yearly, 5, "2024-12-31T23:59", "2025-01-01T00:00", false),
        ] {
            assert_eq!(same(level, step, one, other), expected, "{level:?}/{step}: {one} and {other}");
        }
        let mut day = date(-1, 12, 1);
        while day < date(3, 2, 1) {
            let week = |day: Date| Level::Weekly.period(day.at(12, 0, 0, 0), 1);
            let next = day.tomorrow().unwrap();
            assert_eq!(week(day) == week(next), day.iso_week_date().week() == next.iso_week_date().week(), "{day}");
            assert!(week(next) >= week(day));
            day = next;
        }
    }
}
