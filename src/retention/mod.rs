//! Which snapshots retention rules keep, and why. Pure: what is decided depends on the arguments alone.
//!
//! Every rule chooses by itself, and a snapshot is kept if any rule chooses it, so that a further rule
//! never keeps less. Windows count back from the newest snapshot of the group and not from the present:
//! backups that have stopped never empty a history.
//!
//! Incomplete snapshots take no place from complete ones: each rule chooses twice, among all of a group and among the
//! complete ones alone. Nights without their database never push out those that have it, and what they do have is
//! kept as long as the rules say.

pub mod group;
pub mod rule;

use crate::clock::is_ahead;
use crate::id::ObjectId;
use crate::quantity::time::Window;
use group::{GroupBy, Key};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rule::{Count, Level, Limit, Rule};
use std::collections::{BTreeMap, HashSet};
use std::fmt;

/// What rules look at in a snapshot.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Its object.
    pub id: ObjectId,
    /// The time it stands for.
    pub time: Timestamp,
    /// Its host.
    pub host: String,
    /// Its sources, in any order.
    pub sources: Vec<Vec<u8>>,
    /// Its tags, in any order.
    pub tags: Vec<String>,
    /// Whether somebody said that it must stay.
    pub is_pinned: bool,
    /// Whether something could not be read when it was made.
    pub has_errors: bool,
    /// Whether it lacks a dump or a whole source.
    pub is_incomplete: bool,
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A rule chose it.
    Rule {
        /// The rule.
        rule: Rule,
        /// Its rank among those the rule counts, from 1; 0 where it does not count.
        rank: u32,
        /// It is the oldest, and keeps a place its rule has left.
        is_oldest: bool,
    },
    /// It is pinned.
    Pinned,
    /// Its time lies after the present, so no rule has judged it.
    Ahead,
    /// It is the newest one without errors, and a rule chose a newer one that has some.
    Complete,
}

/// A snapshot and why it is kept.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Its place in the list that was given.
    pub at: usize,
    /// Why it is kept; empty if nothing keeps it.
    pub reasons: Vec<Reason>,
}

/// One group and what becomes of it.
#[derive(Debug, Clone)]
pub struct Group {
    /// What its snapshots have in common.
    pub key: Key,
    /// Its snapshots, newest first.
    pub decisions: Vec<Decision>,
}

impl Group {
    /// Returns whether snapshots would go without any rule keeping a single one.
    pub fn is_emptied(&self) -> bool {
        let is_rule = |reason: &Reason| matches!(reason, Reason::Rule { .. });
        !self.decisions.iter().any(|decision| decision.reasons.iter().any(is_rule))
            && self.decisions.iter().any(|decision| decision.reasons.is_empty())
    }
}

/// Decides for every snapshot what keeps it. The answer's groups are sorted by what they have in common.
///
/// Periods are those of `zone`. `now` only ever keeps more: snapshots that are ahead of it ([`is_ahead`]) are kept
/// and take nobody's place. Should it be wrong itself, too early a time keeps all that is ahead of it besides what the
/// rules keep of the rest, and too late a one changes nothing.
pub fn decide(snapshots: &[Snapshot], rules: &[Rule], by: GroupBy, zone: &TimeZone, now: Timestamp) -> Vec<Group> {
    let mut groups: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    for (at, snapshot) in snapshots.iter().enumerate() {
        groups.entry(by.key(snapshot)).or_default().push(at);
    }
    let decide = |(key, mut members): (Key, Vec<usize>)| {
        members.sort_by_key(|at| std::cmp::Reverse((snapshots[*at].time, snapshots[*at].id)));
        let history: Vec<&Snapshot> = members.iter().map(|at| &snapshots[*at]).collect();
        let reasons = decide_group(&history, rules, zone, now);
        let decisions = members.into_iter().zip(reasons).map(|(at, reasons)| Decision { at, reasons }).collect();
        Group { key, decisions }
    };
    groups.into_iter().map(decide).collect()
}

/// Decides for one group, newest first.
fn decide_group(history: &[&Snapshot], rules: &[Rule], zone: &TimeZone, now: Timestamp) -> Vec<Vec<Reason>> {
    let ahead = history.iter().take_while(|snapshot| is_ahead(snapshot.time, now)).count();
    let judged = Judged::new(&history[ahead..], zone);
    let mut reasons: Vec<Vec<Reason>> = vec![Vec::new(); history.len()];
    for rule in rules {
        for (at, rank, is_oldest) in judged.chosen(rule) {
            reasons[ahead + at].push(Reason::Rule { rule: rule.clone(), rank, is_oldest });
        }
    }
    let complete: Vec<usize> = (ahead..history.len()).filter(|at| !history[*at].is_incomplete).collect();
    if complete.len() < history.len() - ahead {
        let alone: Vec<&Snapshot> = complete.iter().map(|at| history[*at]).collect();
        let judged = Judged::new(&alone, zone);
        for rule in rules {
            for (place, rank, is_oldest) in judged.chosen(rule) {
                let reasons = &mut reasons[complete[place]];
                if !reasons.iter().any(|reason| matches!(reason, Reason::Rule { rule: known, .. } if known == rule)) {
                    reasons.push(Reason::Rule { rule: rule.clone(), rank, is_oldest });
                }
            }
        }
    }
    // One that lacks something never stands for the last one that lacks nothing.
    let complete = history[ahead..].iter().position(|snapshot| !snapshot.has_errors).map(|at| ahead + at);
    let complete =
        complete.filter(|at| reasons[*at].is_empty() && reasons[..*at].iter().any(|newer| !newer.is_empty()));
    if let Some(at) = complete {
        reasons[at].push(Reason::Complete);
    }
    for (at, snapshot) in history.iter().enumerate() {
        reasons[at].extend((at < ahead).then_some(Reason::Ahead));
        reasons[at].extend(snapshot.is_pinned.then_some(Reason::Pinned));
    }
    reasons
}

/// The snapshots of a group that rules judge, newest first, with their times on the wall.
struct Judged<'a> {
    history: &'a [&'a Snapshot],
    local: Vec<DateTime>,
    zone: &'a TimeZone,
}

/// A snapshot a rule chose: its place, its rank or 0, and whether it was chosen as the oldest.
type Chosen = (usize, u32, bool);

impl<'a> Judged<'a> {
    fn new(history: &'a [&'a Snapshot], zone: &'a TimeZone) -> Self {
        let local = history.iter().map(|snapshot| zone.to_datetime(snapshot.time)).collect();
        Judged { history, local, zone }
    }

    fn chosen(&self, rule: &Rule) -> Vec<Chosen> {
        let uncounted = |at| (at, 0, false);
        match rule {
            Rule::Last(limit) => {
                let places = (1..=most(*limit)).zip(0..self.history.len());
                places.map(|(rank, at)| (at, rank, false)).collect()
            }
            Rule::Level(level, count) => self.newest_periods(*level, *count),
            Rule::Within(window) => self.within(window).map(uncounted).collect(),
            Rule::LevelWithin(level, window) => {
                let mut seen = HashSet::new();
                self.within(window).filter(|at| seen.insert(level.period(self.local[*at], 1))).map(uncounted).collect()
            }
            Rule::Tags(tags) => {
                let has_all = |at: &usize| tags.0.iter().all(|tag| self.history[*at].tags.contains(tag));
                (0..self.history.len()).filter(has_all).map(uncounted).collect()
            }
        }
    }

    /// Chooses the newest snapshot of each of the newest periods, and the oldest of all while there are
    /// fewer periods than asked for: it will be the past that the rule asks for once there are enough.
    fn newest_periods(&self, level: Level, count: Count) -> Vec<Chosen> {
        let mut seen = HashSet::new();
        let mut chosen = Vec::new();
        for at in 0..self.history.len() {
            let is_new = seen.insert(level.period(self.local[at], count.step));
            let is_oldest = !is_new && at + 1 == self.history.len();
            if (is_new || is_oldest) && chosen.len() < most(count.limit) as usize {
                chosen.push((at, chosen.len() as u32 + 1, is_oldest));
            }
        }
        chosen
    }

    /// Returns the places within a window that ends at the newest snapshot. Where the newest is alone in
    /// it, after a long pause or a clock's jump, the window before the last but one counts as well:
    /// the first backup after a pause does not cost the history before it.
    fn within(&self, window: &Window) -> impl Iterator<Item = usize> + use<> {
        let before = |at: usize| {
            let end = self.history.get(at)?.time.to_zoned(self.zone.clone());
            let start = window.start(&end);
            Some(self.history.iter().take_while(|snapshot| snapshot.time > start).count())
        };
        let places = match before(0) {
            Some(1) => before(1).unwrap_or(1),
            places => places.unwrap_or(0),
        };
        0..places
    }
}

fn most(limit: Limit) -> u32 {
    match limit {
        Limit::Count(count) => count,
        Limit::Unlimited => u32::MAX,
    }
}

impl fmt::Display for Reason {
    /// Writes the rule without `--keep-`, and the place it gives: `daily 3 of 7`, `within 30d`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rule, rank, is_oldest) = match self {
            Reason::Pinned => return f.write_str("pinned"),
            Reason::Ahead => return f.write_str("time in the future"),
            Reason::Complete => return f.write_str("newest without errors"),
            Reason::Rule { rule, rank, is_oldest } => (rule, rank, is_oldest),
        };
        match rule {
            Rule::Last(limit) => write!(f, "last {rank} of {limit}"),
            Rule::Level(level, count) => {
                write!(f, "{} {rank} of {count}{}", level.word(), if *is_oldest { " (oldest)" } else { "" })
            }
            Rule::Within(window) => write!(f, "within {window}"),
            Rule::LevelWithin(level, window) => write!(f, "{} within {window}", level.word()),
            Rule::Tags(tags) => write!(f, "tag {tags}"),
        }
    }
}

#[cfg(test)]
mod tests;
