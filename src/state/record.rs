//! What is kept of runs. Times are whole seconds since 1970-01-01T00:00:00Z.

use crate::settings::Periodicity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// The last runs, oldest first.
    pub runs: Vec<Run>,
}

impl ProfileState {
    /// Adds a run.
    pub fn add(&mut self, run: Run) {
        if run.outcome == Outcome::Success {
            self.last_success_secs = Some(run.ended_secs);
        }
        if run.snapshot.is_some() {
            self.last_snapshot_secs.insert(run.periodicity, run.ended_secs);
        }
        self.runs.push(run);
        let surplus = self.runs.len().saturating_sub(MAX_RUNS);
        self.runs.drain(..surplus);
    }

    /// Returns the newest run.
    pub fn last(&self) -> Option<&Run> {
        self.runs.last()
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
