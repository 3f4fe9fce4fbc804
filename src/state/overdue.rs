//! How profiles and repositories stand: what is well, what has failed, and what has not happened for too long.

use super::{Outcome, ProfileState, RepositoryState, Run, StateDir};
use crate::clock::is_ahead;
use crate::settings::{Periodicity, Profile, Settings};
use jiff::Zoned;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

/// What a run may be late beyond half of its period.
const GRACE_SECS: i64 = 3600;
/// Growth is summed over this time.
const WEEK_SECS: i64 = 7 * 86_400;

/// What is known of a configured profile.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Its runs.
    pub state: ProfileState,
    /// Where its repository is, without secrets.
    pub repository: String,
    /// When its configuration file was last changed.
    pub written_secs: Option<i64>,
    /// What runs it now.
    pub running: Option<String>,
}

/// What is known of all that is configured.
#[derive(Debug, Clone, Default)]
pub struct States {
    /// Profiles by name.
    pub profiles: BTreeMap<String, Known>,
    /// Repositories by place.
    pub repositories: BTreeMap<String, RepositoryState>,
}

impl States {
    /// Reads what is known; `place_of` says where a profile's repository is, without secrets.
    pub fn read(dir: &StateDir, settings: &Settings, place_of: impl Fn(&Profile) -> String) -> Self {
        let mut states = States::default();
        for (name, profile) in &settings.profiles {
            let repository = place_of(profile);
            states.repositories.entry(repository.clone()).or_insert_with(|| dir.repository(&repository));
            let written_secs = std::fs::metadata(&profile.file).ok().map(|file| file.mtime());
            let running = dir.running(name);
            let known = Known { state: dir.profile(name), repository, written_secs, running };
            states.profiles.insert(name.clone(), known);
        }
        states
    }
}

/// How a profile stands, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The last run has succeeded, not too long ago.
    Ok,
    /// The last success is too long ago, or there should have been one.
    Overdue,
    /// The last run made no snapshot.
    Failed,
    /// The last run's snapshot lacks something, or what follows it has failed.
    Incomplete,
    /// There was no run yet.
    NeverRun,
    /// It is being run.
    Running,
}

impl Standing {
    /// Returns its words.
    pub fn word(self) -> &'static str {
        match self {
            Standing::Ok => "ok",
            Standing::Overdue => "overdue",
            Standing::Failed => "failed",
            Standing::Incomplete => "incomplete",
            Standing::NeverRun => "never run",
            Standing::Running => "running",
        }
    }
}

/// How a profile stands.
#[derive(Debug, Clone)]
pub struct ProfileStanding {
    /// The word for it.
    pub standing: Standing,
    /// Whether its last success is too long ago.
    pub is_overdue: bool,
    /// Whether somebody must look after it: also while it is being run once more.
    pub is_trouble: bool,
    /// When it runs next, if the clock says so.
    pub next: Option<Zoned>,
    /// What its runs of the last seven days have added, as stored.
    pub week_packed_bytes: u64,
}

/// How a repository stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepositoryStanding {
    /// Whether its last verification is too long ago.
    pub is_check_overdue: bool,
    /// Whether somebody must look after it.
    pub is_trouble: bool,
}

/// Returns the longest time between two scheduled runs of a profile; `None` where the clock does not say.
fn period_secs(profile: &Profile) -> Option<i64> {
    profile.schedule.iter().filter_map(|periodicity| periodicity.longest_hours()).min().map(|hours| hours * 3600)
}

fn with_grace(now: &Zoned, period_secs: i64) -> i64 {
    now.timestamp().as_second().saturating_sub(period_secs.saturating_mul(3) / 2 + GRACE_SECS)
}

/// Returns the moment after which a profile must have succeeded: `max-age` ago, or else one and a half of its shortest
/// period and an hour ago.
fn due_secs(profile: &Profile, now: &Zoned) -> Option<i64> {
    match profile.max_age {
        Some(window) => Some(window.start(now).as_second()),
        None => period_secs(profile).map(|secs| with_grace(now, secs)),
    }
}

/// Returns a moment that was noted, unless it lies more than a day ahead: what a clock that was wrong has noted
/// promises nothing.
fn if_believed(secs: Option<i64>, now: &Zoned) -> Option<i64> {
    secs.filter(|secs| jiff::Timestamp::from_second(*secs).is_ok_and(|time| !is_ahead(time, now.timestamp())))
}

/// Judges a profile. One that has never succeeded is overdue when its configuration is older than it may be without.
pub fn judge_profile(settings: &Settings, profile: &Profile, known: &Known, now: &Zoned) -> ProfileStanding {
    let since_secs = if_believed(known.state.last_success_secs, now).or(known.written_secs);
    let is_overdue = due_secs(profile, now).zip(since_secs).is_some_and(|(due, since)| since < due);
    let last = known.state.last().map(|run| run.outcome);
    let standing = match last {
        _ if known.running.is_some() => Standing::Running,
        _ if is_overdue => Standing::Overdue,
        None => Standing::NeverRun,
        Some(Outcome::Success) => Standing::Ok,
        Some(Outcome::Incomplete) => Standing::Incomplete,
        Some(Outcome::Failed) => Standing::Failed,
    };
    let week_ago = now.timestamp().as_second() - WEEK_SECS;
    let this_week = known.state.runs.iter().filter(|run| run.ended_secs >= week_ago);
    let next = |periodicity: &Periodicity| settings.schedule.next(*periodicity, now);
    ProfileStanding {
        standing,
        is_overdue,
        is_trouble: is_overdue || last.is_some_and(|outcome| outcome != Outcome::Success),
        next: profile.schedule.iter().filter_map(next).min(),
        week_packed_bytes: this_week.map(|run| run.packed_bytes).fold(0, u64::saturating_add),
    }
}

/// Judges the repository at a place. A profile verifies it when it runs, at most as often as it says: when that has not
/// happened for one and a half times as long and an hour, it is overdue.
pub fn judge_repository(settings: &Settings, states: &States, place: &str, now: &Zoned) -> RepositoryStanding {
    let known = states.repositories.get(place);
    let last_check_secs = if_believed(known.and_then(|state| state.last_check_secs), now);
    let is_missed = |(name, known): (&String, &Known)| {
        let profile = settings.profiles.get(name)?;
        let every_secs = i64::try_from(profile.check_every_secs?).unwrap_or(i64::MAX);
        let due_secs = with_grace(now, every_secs.max(period_secs(profile)?));
        // What was never verified counts from the profile's configuration on, once there is something to verify.
        let first_secs = known.written_secs.filter(|_| known.state.last_success_secs.is_some());
        Some(last_check_secs.or(first_secs)? < due_secs)
    };
    let mut here = states.profiles.iter().filter(|(_, known)| known.repository == place);
    let is_check_overdue = here.any(|profile| is_missed(profile).unwrap_or(false));
    let is_damaged = known.is_some_and(|state| state.is_damaged);
    RepositoryStanding { is_check_overdue, is_trouble: is_check_overdue || is_damaged }
}

impl Known {
    /// Returns the newest run that made a snapshot.
    pub fn last_snapshot(&self) -> Option<&Run> {
        self.state.runs.iter().rfind(|run| run.snapshot.is_some())
    }
}

#[cfg(test)]
pub(super) mod tests;
