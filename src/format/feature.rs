//! Features: what a repository has that not every bakfs knows, and who has to know it.
//!
//! A program reads the records of features that it does not know, so their layout never changes.

use super::codec::Bytes;
use super::tree::Time;
use serde::{Deserialize, Serialize};

/// The numbers of the features that this bakfs knows.
pub const KNOWN: &[u32] = &[];

/// The number of the last kind of mark that every repository may have: features add those above it.
pub const LAST_COMMON_MARK: u32 = 11;

/// The longest name, and the longest version, of a record that is written.
pub const MAX_NAME_BYTES: usize = 64;
/// The longest text.
pub const MAX_TEXT_BYTES: usize = 512;

/// What is done with a repository, as far as a feature may forbid it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Reading: listing, restoring, mounting, checking.
    Read,
    /// Adding: backups, pins, keys.
    Add,
    /// Hiding, rewriting and removing: forgetting, pruning, repairing, taking keys away.
    Remove,
}

/// Who has to know a feature. Whoever must know it to read must know it to write, and so on (ext4 has the same steps as
/// compatible, read-only compatible and incompatible features). The number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Required {
    /// Nobody: who does not know it does no harm.
    ByNobody = 0,
    /// Whoever removes.
    ToRemove = 1,
    /// Whoever writes.
    ToWrite = 2,
    /// Whoever reads, and so everybody.
    ToRead = 3,
}

impl Required {
    /// Returns what has to be done by whoever has to know it, as `bakfs debug` tells it.
    pub fn word(self) -> &'static str {
        match self {
            Required::ByNobody => "nothing",
            Required::ToRemove => "remove",
            Required::ToWrite => "write",
            Required::ToRead => "read",
        }
    }
}

/// A feature, as its record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature {
    /// What programs know it by.
    pub number: u32,
    /// Who has to know it, see [`Required`]; a number above all of these means everybody.
    pub required: u32,
    /// Its name: at most [`MAX_NAME_BYTES`] of lower-case letters, digits and dashes.
    pub name: String,
    /// The first version of bakfs that knows it.
    pub since: String,
    /// What it is for, as a sentence for people: at most [`MAX_TEXT_BYTES`].
    pub text: String,
    /// The kinds of marks it adds: whoever may do without the feature may do without them.
    pub marks: Vec<u32>,
    /// What only who knows the feature reads.
    pub parameters: Bytes,
    /// When it was raised, by the clock of who did it.
    pub time: Time,
    /// Where.
    pub host: String,
}

impl Feature {
    /// Returns who has to know it.
    pub fn required(&self) -> Required {
        match self.required {
            0 => Required::ByNobody,
            1 => Required::ToRemove,
            2 => Required::ToWrite,
            _ => Required::ToRead,
        }
    }

    /// Returns whether whoever does not know it must leave something be.
    pub fn forbids(&self, act: Act) -> bool {
        let least = match act {
            Act::Remove => Required::ToRemove,
            Act::Add => Required::ToWrite,
            Act::Read => Required::ToRead,
        };
        self.required() >= least
    }

    /// Returns whether two records are of the same feature and say the same of it, whoever has written them.
    pub fn is_same(&self, other: &Feature) -> bool {
        let said = |feature: &Feature| Feature { time: self.time, host: String::new(), ..feature.clone() };
        said(self) == said(other)
    }

    /// Returns why it cannot be raised.
    pub fn refused(&self) -> Option<String> {
        let is_word = |text: &str, others: &str| {
            let is_right = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || others.contains(char);
            !text.is_empty() && text.len() <= MAX_NAME_BYTES && text.chars().all(is_right)
        };
        if !is_word(&self.name, "-") {
            Some(format!("its name needs 1 to {MAX_NAME_BYTES} lower-case letters, digits and dashes"))
        } else if !is_word(&self.since, ".-+") {
            Some("the first version that knows it needs to be one, as 1.2.0".into())
        } else if self.text.is_empty() || self.text.len() > MAX_TEXT_BYTES || self.text.chars().any(char::is_control) {
            Some(format!("its text needs 1 to {MAX_TEXT_BYTES} bytes in one line"))
        } else if self.required > Required::ToRead as u32 {
            Some(format!("nothing is known of its class {}", self.required))
        } else {
            let kind = self.marks.iter().find(|kind| **kind <= LAST_COMMON_MARK)?;
            Some(format!(
                "the marks of kind {kind} are not its own: those up to {LAST_COMMON_MARK} belong to every repository"
            ))
        }
    }
}

/// Returns a record's text as people may be shown it: short, and without what a terminal would obey.
pub fn shown(text: &str) -> String {
    let one = |char: char| match char {
        '"' | '\'' | '\\' => char.to_string(),
        _ => char.escape_debug().to_string(),
    };
    text.chars().take(MAX_TEXT_BYTES).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(required: u32) -> Feature {
        Feature {
            number: 9001,
            required,
            name: "write-only-keys".into(),
            since: "9.1.0".into(),
            text: "Keys that add snapshots and read none.".into(),
            marks: vec![40],
            parameters: Bytes::default(),
            time: Time { secs: 1, nanos: 0 },
            host: "here".into(),
        }
    }

    #[test]
    fn a_class_forbids_what_is_above_it_and_one_that_is_unknown_everything() {
        let forbidden = |required| [Act::Read, Act::Add, Act::Remove].map(|act| feature(required).forbids(act));
        assert_eq!(forbidden(0), [false, false, false]);
        assert_eq!(forbidden(1), [false, false, true]);
        assert_eq!(forbidden(2), [false, true, true]);
        assert_eq!(forbidden(3), [true, true, true]);
        assert_eq!(forbidden(4), [true, true, true]);
        assert_eq!(forbidden(u32::MAX), [true, true, true]);
    }

    #[test]
    fn what_is_raised_can_be_told_by_programs_that_do_not_know_it() {
        assert_eq!(feature(3).refused(), None);
        let wrong = [
            Feature { name: String::new(), ..feature(1) },
            Feature { name: "Two words".into(), ..feature(1) },
            Feature { name: "a".repeat(65), ..feature(1) },
            Feature { since: String::new(), ..feature(1) },
            Feature { text: "two\nlines".into(), ..feature(1) },
            Feature { text: String::new(), ..feature(1) },
            Feature { marks: vec![40, 7], ..feature(1) },
            feature(4),
        ];
        for feature in wrong {
            assert!(feature.refused().is_some(), "{feature:?}");
        }
        assert_eq!(shown("it's \"so\"\u{1b}[2J\u{202e}\n"), "it's \"so\"\\u{1b}[2J\\u{202e}\\n");
        assert!(feature(1).is_same(&Feature { time: Time { secs: 2, nanos: 0 }, host: "there".into(), ..feature(1) }));
        assert!(!feature(1).is_same(&feature(2)));
    }
}
