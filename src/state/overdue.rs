//! How profiles and repositories stand: what is well, what has failed, and what has not happened for too long.

use super::belief::Belief;
use super::{Outcome, ProfileState, RepositoryState, Run, StateDir};
use crate::clock::{STEP_SECS, is_ahead};
use crate::settings::{Periodicity, Profile, Settings};
use jiff::{Timestamp, Zoned};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;

/// What a run may be late beyond half of its period.
const GRACE_SECS: i64 = 3600;
/// Growth is summed over this time.
const WEEK_SECS: i64 = 7 * 86_400;

/// What is known of a configured profile.
#[derive(Debug, Clone, Default)]
pub struct ProfileHistory {
    /// Its runs.
    pub state: ProfileState,
    /// Where its repository is, without secrets.
    pub repository: String,
    /// When its configuration file was last changed.
    pub written_secs: Option<i64>,
    /// What runs it now.
    pub running: Option<String>,
    /// Moments that are not believed although they have passed.
    pub distrusted: BTreeSet<i64>,
}

/// What is known of all that is configured.
#[derive(Debug, Clone, Default)]
pub struct States {
    /// Profiles by name.
    pub profiles: BTreeMap<String, ProfileHistory>,
    /// Repositories by place.
    pub repositories: BTreeMap<String, RepositoryState>,
}

impl States {
    /// Reads what is known, with runs that were killed; `repository_of` says where a profile's repository is, without
    /// secrets, and its id, as far as that is known. What is dated after `now` is remembered as wrong.
    pub fn read(
        dir: &StateDir,
        settings: &Settings,
        now: &Zoned,
        repository_of: impl Fn(&Profile) -> (String, Option<String>),
    ) -> Self {
        let now_secs = now.timestamp().as_second();
        let mut belief = dir.belief(now_secs);
        let mut states = States::default();
        for (name, profile) in &settings.profiles {
            let (repository, id) = repository_of(profile);
            states.repositories.entry(repository.clone()).or_insert_with(|| dir.repository(&repository, id.as_deref()));
            let written_secs = std::fs::metadata(&profile.file).ok().map(|file| file.mtime());
            let mut state = dir.profile(name).of_repository(&repository, id.as_deref());
            let killed = dir.killed(name, now_secs);
            // What ran meanwhile has recorded it.
            let running = dir.running(name);
            killed.filter(|_| running.is_none()).into_iter().for_each(|run| state.add(run));
            let known = ProfileHistory { state, repository, written_secs, running, distrusted: BTreeSet::new() };
            states.profiles.insert(name.clone(), known);
        }
        let of_profiles = states.profiles.values().flat_map(|known| known.state.moments());
        let of_repositories = states.repositories.values().flat_map(RepositoryState::moments);
        dir.note_ahead(&mut belief, of_profiles.chain(of_repositories));
        for state in states.repositories.values_mut() {
            *state = std::mem::take(state).believed(&belief);
        }
        for known in states.profiles.values_mut() {
            known.distrusted.clone_from(&belief.distrusted);
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
    /// When a run last succeeded, as far as that is believed.
    pub last_success_secs: Option<i64>,
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

/// Returns when something was due that happens once in a period, after it has happened: half a period and an hour later.
fn with_grace(since_secs: i64, period_secs: i64) -> i64 {
    since_secs.saturating_add(period_secs.saturating_mul(3) / 2 + GRACE_SECS)
}

/// Returns when a profile is late that was last well at a moment: a `max-age` later, or else one and a half of its
/// shortest period and an hour. Where the schedule has no time for longer than that, as when the clock is set forward
/// over one, it is late half a period and an hour after the next time there is.
fn is_late(settings: &Settings, profile: &Profile, since_secs: i64, now: &Zoned) -> bool {
    let now_secs = now.timestamp().as_second();
    if let Some(window) = profile.max_age {
        return since_secs < window.start(now).as_second();
    }
    period_secs(profile).is_some_and(|period_secs| {
        with_grace(since_secs, period_secs) < now_secs
            && next_after(settings, profile, since_secs, now)
                .is_none_or(|next| with_grace(next.saturating_sub(period_secs), period_secs) < now_secs)
    })
}

/// Returns when the schedule begins a run of the profile after a moment.
fn next_after(settings: &Settings, profile: &Profile, since_secs: i64, now: &Zoned) -> Option<i64> {
    let since = Timestamp::from_second(since_secs).ok()?.to_zoned(now.time_zone().clone());
    let next = |periodicity: &Periodicity| settings.schedule.next(*periodicity, &since);
    profile.schedule.iter().filter_map(next).min().map(|next| next.timestamp().as_second())
}

/// Returns when a configuration was written; long ago where it is dated in the future, for nobody knows how old it is.
fn if_not_ahead(secs: i64, now: &Zoned) -> i64 {
    match Timestamp::from_second(secs) {
        Ok(time) if !is_ahead(time, now.timestamp()) => secs,
        _ => i64::MIN,
    }
}

/// Judges a profile. One that has never succeeded is overdue when its configuration is older than it may be without.
pub fn judge_profile(settings: &Settings, profile: &Profile, known: &ProfileHistory, now: &Zoned) -> ProfileStanding {
    let belief = known.belief(now);
    let last_success_secs = known.state.last_success(&belief);
    let since_secs = last_success_secs.or(known.written_secs.map(|secs| if_not_ahead(secs, now)));
    let is_overdue = since_secs.is_some_and(|since| is_late(settings, profile, since, now));
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
    let this_week = known.state.believed(&belief).filter(|run| run.ended_secs >= week_ago);
    let next = |periodicity: &Periodicity| settings.schedule.next(*periodicity, now);
    ProfileStanding {
        standing,
        last_success_secs,
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
    let now_secs = now.timestamp().as_second();
    let last_check_secs = known.and_then(|state| state.last_check_secs).filter(|secs| *secs <= now_secs + STEP_SECS);
    let is_missed = |(name, known): (&String, &ProfileHistory)| {
        let profile = settings.profiles.get(name)?;
        let every_secs = i64::try_from(profile.check_every_secs?).unwrap_or(i64::MAX);
        let period_secs = period_secs(profile)?;
        // What was never verified counts from the profile's configuration on, once there is something to verify.
        let first_secs = known.written_secs.filter(|_| known.state.last_success_secs.is_some());
        let since_secs = last_check_secs.or(first_secs.map(|secs| if_not_ahead(secs, now)))?;
        let is_late = with_grace(since_secs, every_secs.max(period_secs)) < now_secs;
        // Not before a run has had its time.
        let next = next_after(settings, profile, since_secs, now);
        Some(is_late && next.is_none_or(|next| with_grace(next.saturating_sub(period_secs), period_secs) < now_secs))
    };
    let mut here = states.profiles.iter().filter(|(_, known)| known.repository == place);
    let is_check_overdue = here.any(|profile| is_missed(profile).unwrap_or(false));
    let is_damaged = known.is_some_and(|state| state.is_damaged);
    RepositoryStanding { is_check_overdue, is_trouble: is_check_overdue || is_damaged }
}

impl ProfileHistory {
    /// Returns what is believed of what is noted.
    pub fn belief(&self, now: &Zoned) -> Belief {
        Belief { now_secs: now.timestamp().as_second(), distrusted: self.distrusted.clone() }
    }

    /// Returns the newest run that made a snapshot.
    pub fn last_snapshot(&self) -> Option<&Run> {
        self.state.runs.iter().rfind(|run| run.snapshot.is_some())
    }
}

#[cfg(test)]
pub(super) mod tests;
