//! How often a profile runs.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A kind of run. Its word is a tag of the snapshots it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Periodicity {
    /// Every hour.
    Hourly,
    /// Every day.
    Daily,
    /// Every week.
    Weekly,
    /// Every month.
    Monthly,
    /// Every second month: January, March, and so on.
    Bimonthly,
    /// When the machine goes down.
    Shutdown,
    /// When somebody asks for it. No rule of the timed ones thins these, and they take no timed one's place.
    Manual,
}

impl Periodicity {
    /// All of them.
    pub const ALL: [Periodicity; 7] = [
        Periodicity::Hourly,
        Periodicity::Daily,
        Periodicity::Weekly,
        Periodicity::Monthly,
        Periodicity::Bimonthly,
        Periodicity::Shutdown,
        Periodicity::Manual,
    ];

    /// Those a schedule may hold: all but by hand.
    pub const SCHEDULED: [Periodicity; 6] = [
        Periodicity::Hourly,
        Periodicity::Daily,
        Periodicity::Weekly,
        Periodicity::Monthly,
        Periodicity::Bimonthly,
        Periodicity::Shutdown,
    ];

    /// Returns its word.
    pub fn word(self) -> &'static str {
        match self {
            Periodicity::Hourly => "hourly",
            Periodicity::Daily => "daily",
            Periodicity::Weekly => "weekly",
            Periodicity::Monthly => "monthly",
            Periodicity::Bimonthly => "bimonthly",
            Periodicity::Shutdown => "shutdown",
            Periodicity::Manual => "manual",
        }
    }

    /// Returns the longest time between two runs in hours; `None` where nobody knows when the next one is.
    pub fn longest_hours(self) -> Option<i64> {
        match self {
            Periodicity::Hourly => Some(1),
            Periodicity::Daily => Some(24),
            Periodicity::Weekly => Some(7 * 24),
            Periodicity::Monthly => Some(31 * 24),
            Periodicity::Bimonthly => Some(62 * 24),
            Periodicity::Shutdown | Periodicity::Manual => None,
        }
    }
}

impl fmt::Display for Periodicity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Periodicity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Periodicity::ALL.into_iter().find(|periodicity| periodicity.word() == text).ok_or_else(|| {
            let words: Vec<_> = Periodicity::ALL.iter().map(|periodicity| periodicity.word()).collect();
            format!("`{text}` is no periodicity: write one of {}", words.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_stored_format() {
        assert_eq!(Periodicity::ALL.map(Periodicity::word), crate::format::snapshot::RUN_TAGS);
    }
}
