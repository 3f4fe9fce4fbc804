//! What is kept of runs. Times are whole seconds since 1970-01-01T00:00:00Z.

use super::belief::Belief;
use crate::clock::STEP_SECS;
use crate::settings::Periodicity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The most runs that are kept of a profile.
const MAX_RUNS: usize = 100;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// All was done.
    Success,
    /// The snapshot is committed but lacks something, or what follows it has failed.
    Incomplete,
    /// No snapshot was made.
    Failed,
}

impl Outcome {
    /// Returns its word.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Incomplete => "incomplete",
            Outcome::Failed => "failed",
        }
    }
}

/// One run of a profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The profile.
    pub profile: String,
    /// The kind of run.
    pub periodicity: Periodicity,
    /// Where its repository is, without secrets.
    pub repository: String,
    /// When it began.
    pub started_secs: i64,
    /// When it ended.
    pub ended_secs: i64,
    /// How it ended.
    pub outcome: Outcome,
    /// The snapshot's dated name.
    pub snapshot: Option<String>,
    /// The snapshot's id.
    pub snapshot_id: Option<String>,
    /// What went wrong, most important first: sentences for people.
    pub problems: Vec<String>,
    /// What is so until somebody changes it, and has kept the run from nothing: sentences for people.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Files of every type in the snapshot.
    pub files: u64,
    /// Their content.
    pub content_bytes: u64,
    /// What was new, before compression.
    pub added_bytes: u64,
    /// The same, as stored.
    pub packed_bytes: u64,
    /// Dumps in the snapshot: path and length.
    pub dumps: Vec<(String, u64)>,
    /// Snapshots that were forgotten.
    pub forgotten: u64,
    /// Whether this run verified.
    pub checked: bool,
    /// Whether this run pruned.
    pub pruned: bool,
}

/// What is known of a profile.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProfileState {
    /// Its name.
    pub name: String,
    /// When a run last succeeded, by its end.
    pub last_success_secs: Option<i64>,
    /// When a run of each kind last made a snapshot, by its end.
    #[serde(default)]
    pub last_snapshot_secs: BTreeMap<Periodicity, i64>,
    /// When the last run of each kind that made a snapshot began.
    #[serde(default)]
    pub last_started_secs: BTreeMap<Periodicity, i64>,
    /// The repository that all of the above is of: where it is; `None` where nobody has noted that yet.
    #[serde(default)]
    pub repository: Option<String>,
    /// The ids of the repositories that runs went to, by their places.
    #[serde(default)]
    pub repository_ids: BTreeMap<String, String>,
    /// The configuration whose runs these are; `None` where nobody has noted that yet.
    #[serde(default)]
    pub configuration: Option<String>,
    /// The last runs, oldest first.
    pub runs: Vec<Run>,
}

/// Returns whether two places are one, however they are written.
fn is_same_place(one: &str, other: &str) -> bool {
    Path::new(one) == Path::new(other)
}

impl Run {
    /// A run in which anything went wrong is no success, and one without a snapshot has failed.
    pub fn judge(&mut self) {
        if self.outcome == Outcome::Success && !self.problems.is_empty() {
            self.outcome = Outcome::Incomplete;
        }
        if self.snapshot.is_none() {
            self.outcome = Outcome::Failed;
        }
    }
}

impl ProfileState {
    /// Adds a run to the repository these states are of, or were turned to.
    pub fn add(&mut self, run: Run) {
        if run.outcome == Outcome::Success {
            self.last_success_secs = Some(run.ended_secs);
        }
        if run.snapshot.is_some() {
            self.last_snapshot_secs.insert(run.periodicity, run.ended_secs);
            self.last_started_secs.insert(run.periodicity, run.started_secs);
        }
        self.runs.push(run);
        let surplus = self.runs.len().saturating_sub(MAX_RUNS);
        self.runs.drain(..surplus);
    }

    /// Turns to the repository at a place: what runs have put into another one, also into one that was lost and made
    /// anew at the same place, is no success of this one. An id that is not known is taken for the same.
    pub fn turn_to(&mut self, place: &str, id: Option<&str>) {
        let is_anew = id.is_some_and(|id| self.id_at(place).is_some_and(|known| known != id));
        let is_here = match &self.repository {
            Some(known) => is_same_place(known, place),
            None => self.runs.iter().all(|run| is_same_place(&run.repository, place)),
        };
        if is_anew {
            self.runs.retain(|run| !is_same_place(&run.repository, place));
        }
        if is_anew || !is_here {
            let mut here = ProfileState::default();
            self.runs.iter().filter(|run| is_same_place(&run.repository, place)).for_each(|run| here.add(run.clone()));
            self.last_success_secs = here.last_success_secs;
            self.last_snapshot_secs = here.last_snapshot_secs;
            self.last_started_secs = here.last_started_secs;
        }
        self.repository = Some(place.to_string());
        if let Some(id) = id {
            self.repository_ids.retain(|known, _| !is_same_place(known, place));
            self.repository_ids.insert(place.to_string(), id.to_string());
        }
    }

    /// Returns the id of the repository that runs went to at a place, where that is known.
    pub fn id_at(&self, place: &str) -> Option<&str> {
        self.repository_ids.iter().find(|(known, _)| is_same_place(known, place)).map(|(_, id)| &**id)
    }

    /// Returns what is known of the runs to one repository alone.
    pub fn of_repository(mut self, place: &str, id: Option<&str>) -> Self {
        self.turn_to(place, id);
        self.runs.retain(|run| is_same_place(&run.repository, place));
        self
    }

    /// Returns whether the run that made the same snapshot is recorded already.
    pub fn has(&self, run: &Run) -> bool {
        run.snapshot_id.is_some() && self.runs.iter().any(|known| known.snapshot_id == run.snapshot_id)
    }

    /// Returns the newest run.
    pub fn last(&self) -> Option<&Run> {
        self.runs.last()
    }

    /// Returns the runs whose times are believed, newest first: none that is dated after the present, and none that is
    /// dated after a run that came later.
    pub fn believed<'a>(&'a self, belief: &'a Belief) -> impl Iterator<Item = &'a Run> {
        let mut latest_secs = i64::MAX;
        self.runs.iter().rev().filter(move |run| {
            let is_believed = belief.is_believed(run.ended_secs) && run.ended_secs <= latest_secs;
            if is_believed {
                latest_secs = latest_secs.min(run.started_secs.saturating_add(STEP_SECS));
            }
            is_believed
        })
    }

    /// Returns the first that is believed of what runs say, newest first, or else what was noted of a run that is not
    /// among them any more.
    fn believed_moment(
        &self,
        belief: &Belief,
        moment: impl Fn(&Run) -> Option<i64>,
        noted: Option<i64>,
    ) -> Option<i64> {
        let of_run = self.believed(belief).find_map(&moment);
        let is_older = |secs: &i64| !self.runs.iter().any(|run| moment(run) == Some(*secs));
        let first = self.runs.first().map_or(i64::MAX, |run| run.started_secs.saturating_add(STEP_SECS));
        of_run.or(noted.filter(is_older).filter(|secs| belief.is_believed(*secs) && *secs <= first))
    }

    /// Returns when a run last succeeded, by its end.
    pub fn last_success(&self, belief: &Belief) -> Option<i64> {
        let moment = |run: &Run| (run.outcome == Outcome::Success).then_some(run.ended_secs);
        self.believed_moment(belief, moment, self.last_success_secs)
    }

    /// Returns when the last run of a kind began that made a snapshot.
    pub fn last_started(&self, periodicity: Periodicity, belief: &Belief) -> Option<i64> {
        let moment = |run: &Run| (run.periodicity == periodicity && run.snapshot.is_some()).then_some(run.started_secs);
        let noted = self.last_started_secs.get(&periodicity).or(self.last_snapshot_secs.get(&periodicity));
        self.believed_moment(belief, moment, noted.copied())
    }

    /// Returns all moments that are noted.
    pub fn moments(&self) -> impl Iterator<Item = i64> {
        let of_runs = self.runs.iter().map(|run| run.ended_secs);
        let noted = self.last_started_secs.values().chain(self.last_snapshot_secs.values());
        of_runs.chain(noted.copied()).chain(self.last_success_secs)
    }
}

/// What is known of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryState {
    /// Where it is, without secrets.
    pub place: String,
    /// When it was last verified by a run.
    pub last_check_secs: Option<i64>,
    /// Whether that found damage.
    pub is_damaged: bool,
    /// Its packs' length then.
    pub pack_bytes: u64,
    /// How much of them was ever verified.
    pub verified_bytes: u64,
    /// When the pack that was verified longest ago was; `None` where some never was.
    pub oldest_verified_secs: Option<i64>,
    /// When it was last pruned by a run.
    pub last_prune_secs: Option<i64>,
}

impl RepositoryState {
    /// Returns all moments that are noted.
    pub fn moments(&self) -> impl Iterator<Item = i64> {
        self.last_check_secs.into_iter().chain(self.last_prune_secs).chain(self.oldest_verified_secs)
    }

    /// Leaves out the moments that are not believed.
    pub fn believed(mut self, belief: &Belief) -> Self {
        for moment in [&mut self.last_check_secs, &mut self.last_prune_secs, &mut self.oldest_verified_secs] {
            *moment = moment.filter(|secs| belief.is_believed(*secs));
        }
        self
    }
}

#[cfg(test)]
mod tests;
