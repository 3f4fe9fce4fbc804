//! Values that may be written in more than one way.

use crate::error::{Error, Result};
use crate::quantity::time::{Duration, Jitter, Window};
use crate::quantity::{Share, parse_share};
use crate::retention::rule::{self, Count, Level, Limit, Rule, TagList};

use crate::text;
use serde::de::{Error as _, SeqAccess, Visitor, value};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::path::Path;

/// Refuses a path that means another place where another program begins the run.
pub fn check_absolute(key: &str, path: Option<&Path>) -> Result<()> {
    let Some(path) = path.filter(|path| !path.is_absolute()) else { return Ok(()) };
    let why = text::unexpanded(path).map_or(String::new(), |why| format!(" ({why})"));
    Err(Error::usage(format!("{key}: `{}` must be an absolute path{why}", path.display())))
}

/// A command: a line for `/bin/sh -c`, or a program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a command: a line for the shell, or a list of a program and its arguments")]
pub enum Command {
    /// A line for the shell.
    Line(String),
    /// A program and its arguments.
    Program(Vec<String>),
}

impl Command {
    /// Returns the program and its arguments; none where the command is empty.
    pub fn arguments(&self) -> Vec<String> {
        match self {
            Command::Line(line) if line.trim().is_empty() => Vec::new(),
            Command::Line(line) => vec!["/bin/sh".into(), "-c".into(), line.clone()],
            Command::Program(words) => words.clone(),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Line(line) => f.write_str(line),
            Command::Program(words) => f.write_str(&words.join(" ")),
        }
    }
}

/// One text or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a text, or a list of texts")]
pub enum Strings {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Strings {
    /// Returns them all.
    pub fn list(&self) -> Vec<String> {
        match self {
            Strings::One(text) => vec![text.clone()],
            Strings::Many(list) => list.clone(),
        }
    }
}

/// Reads a text or a bare number, as which people write what needs a unit: who knows what it should be says so.
pub(super) struct Written(pub String);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsText;
        impl Visitor<'_> for AsText {
            type Value = Written;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Written, E> {
                Ok(Written(text.to_string()))
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Written, E> {
                Ok(Written(number.to_string()))
            }
            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Written, E> {
                Ok(Written(number.to_string()))
            }
        }
        deserializer.deserialize_any(AsText)
    }
}

impl<'de> Deserialize<'de> for Jitter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Written::deserialize(deserializer)?.0.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Written::deserialize(deserializer)?.0.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Written::deserialize(deserializer)?.0;
        text.parse().map_err(|error: Error| D::Error::custom(error.chain()))
    }
}

/// Reads a share, which may be written as a bare number to be told what that lacks.
pub(super) fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Share>, D::Error> {
    let text = Written::deserialize(deserializer)?.0;
    parse_share(&text).map(Some).map_err(D::Error::custom)
}

/// One number, or several: `7`, `"6/2"`, `"unlimited"`, `[6, "6/2"]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Counts(Vec<String>);

struct CountsVisitor;

impl<'de> Visitor<'de> for CountsVisitor {
    type Value = Counts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of snapshots: 7, \"6/2\", \"unlimited\", or a list of such")
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Counts, E> {
        Ok(Counts(vec![number.to_string()]))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Counts, E> {
        Ok(Counts(vec![number.to_string()]))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Counts, E> {
        Ok(Counts(vec![text.to_string()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Counts, A::Error> {
        let mut all = Vec::new();
        while let Some(counts) = list.next_element::<Counts>()? {
            all.extend(counts.0);
        }
        Ok(Counts(all))
    }
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountsVisitor)
    }
}

/// What is kept, as it is written: the rules of `bakfs forget` without `--keep-`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct KeepTable {
    last: Counts,
    hourly: Counts,
    daily: Counts,
    weekly: Counts,
    monthly: Counts,
    quarterly: Counts,
    yearly: Counts,
    within: Option<Window>,
    hourly_within: Option<Window>,
    daily_within: Option<Window>,
    weekly_within: Option<Window>,
    monthly_within: Option<Window>,
    quarterly_within: Option<Window>,
    yearly_within: Option<Window>,
    tag: Option<Strings>,
}

/// Rules of what is kept. At least one of them keeps something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// The rules; each by itself keeps what it chooses.
    pub rules: Vec<Rule>,
}

impl KeepTable {
    fn rules(&self) -> Result<Vec<Rule>> {
        let mut rules = Vec::new();
        for text in &self.last.0 {
            rules.push(Rule::Last(text.parse::<Limit>()?));
        }
        let counts = [&self.hourly, &self.daily, &self.weekly, &self.monthly, &self.quarterly, &self.yearly];
        for (level, counts) in Level::ALL.into_iter().zip(counts) {
            for text in &counts.0 {
                rules.push(Rule::Level(level, text.parse::<Count>()?));
            }
        }
        rules.extend(self.within.map(Rule::Within));
        let windows = [
            self.hourly_within,
            self.daily_within,
            self.weekly_within,
            self.monthly_within,
            self.quarterly_within,
            self.yearly_within,
        ];
        for (level, window) in Level::ALL.into_iter().zip(windows) {
            rules.extend(window.map(|window| Rule::LevelWithin(level, window)));
        }
        for tags in self.tag.iter().flat_map(Strings::list) {
            rules.push(Rule::Tags(tags.parse::<TagList>()?));
        }
        rule::check(&rules)?;
        let keeps_nothing = |rule: &Rule| match rule {
            Rule::Last(limit) => *limit == Limit::Count(0),
            Rule::Level(_, count) => count.limit == Limit::Count(0),
            // A tag keeps what has it, which may be nothing.
            Rule::Tags(_) => true,
            Rule::Within(_) | Rule::LevelWithin(..) => false,
        };
        if rules.iter().all(keeps_nothing) {
            return Err(Error::usage(
                "these rules would let every snapshot go: keep at least one, as in `keep = { daily = 14 }`, \
                 or leave `keep` out to keep all",
            ));
        }
        Ok(rules)
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = KeepTable::deserialize(deserializer)?;
        let rules = table.rules().map_err(|error| value_error::<D>(&error))?;
        Ok(Keep { rules })
    }
}

fn value_error<'de, D: Deserializer<'de>>(error: &Error) -> D::Error {
    D::Error::custom(value::Error::custom(error.chain()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Holder {
        keep: Keep,
    }

    fn keep(text: &str) -> Result<Vec<String>, String> {
        let holder: Holder = toml::from_str(text).map_err(|error| error.message().to_string())?;
        Ok(holder.keep.rules.iter().map(|rule| format!("{rule:?}")).collect())
    }

    #[test]
    fn rules_are_those_of_forget() {
        let text = "keep = { last = 3, daily = 14, monthly = [\"12/2\", 3], daily-within = \"3m\", tag = \"a,b\" }";
        assert_eq!(keep(text).unwrap().len(), 6);
        for (text, told) in [
            ("keep = {}", "keep at least one"),
            ("keep = { daily = 0, tag = \"x\" }", "keep at least one"),
            ("keep = { daily = -1 }", "`-1` is no number"),
            ("keep = { daily = [7, 8] }", "contradict"),
            ("keep = { dayly = 7 }", "unknown field `dayly`"),
            ("keep = { within = \"3 days\" }", "is no duration"),
            ("keep = { daily = 1.5 }", "a number of snapshots"),
        ] {
            let error = keep(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn times_on_the_clock_have_units_that_cannot_be_mistaken() {
        for (text, secs) in [("90s", 90), ("10min", 600), ("2h", 7200), ("7d", 604_800), ("1w", 604_800)] {
            assert_eq!(text.parse::<Duration>().unwrap().secs, Some(secs), "{text}");
        }
        assert_eq!("never".parse::<Duration>().unwrap().secs, None);
        for text in ["", "10", "10m", "-1s", "1 month", "99999999999999999999s", "9999999d"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
        for (text, secs) in [("0s", 0), ("0", 0), ("0 min", 0), ("00d", 0), ("never", 0), ("5min", 300), ("5 min", 300)]
        {
            assert_eq!(text.parse::<Jitter>().unwrap().secs, secs, "{text}");
        }
        assert!("0x".parse::<Jitter>().is_err());
        assert_eq!("90".parse::<Duration>().unwrap_err(), "`90` has no unit: write 90s, 90min, 90h or 90d");
        for text in ["90s", "10min", "25h", "7d", "never"] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn commands_are_lines_or_lists() {
        #[derive(Deserialize)]
        struct Holder {
            run: Command,
        }
        let read = |text: &str| toml::from_str::<Holder>(text).map(|holder| holder.run.arguments());
        assert_eq!(read("run = 'a b'").unwrap(), ["/bin/sh", "-c", "a b"]);
        assert_eq!(read("run = ['a', 'b c']").unwrap(), ["a", "b c"]);
        assert!(read("run = 7").err().unwrap().message().contains("a command"));
    }
}
