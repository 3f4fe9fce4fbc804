//! The records of runs.

use super::now_secs;
use crate::error::Error;
use crate::settings::Periodicity;
use crate::state::pending::Pending;
use crate::state::{Outcome, Run, StateDir};

/// How it begins that the folder of states is full or cannot be written, which is no reason not to make a snapshot.
const UNNOTED: &str = "What this run does cannot be noted, so that `bakfs status` and catching up go by what is old (make \
                       room there, or mend the folder)";

/// Keeps the record of a run to the repository of an id, as far as that is known, and after it what is left to be done:
/// nothing, or its last hook once more. What cannot be kept is a problem of the run.
pub(super) fn record(state: &StateDir, run: &mut Run, id: Option<&str>, left: Option<&Pending>) {
    run.judge();
    let mut known = state.profile(&run.profile);
    known.turn_to(&run.repository, id);
    known.add(run.clone());
    let kept = state.keep_profile(&known);
    // Otherwise the next run would take it for one that was killed.
    let noted = match left {
        None => state.settle(&run.profile),
        Some(left) => state.owe(&run.profile, left),
    };
    [kept, noted].into_iter().filter_map(Result::err).for_each(|error| unnoted(run, &error));
    run.judge();
}

/// Makes it a problem of a run that something of it cannot be noted; what follows of the same is no other problem.
pub(super) fn unnoted(run: &mut Run, error: &Error) {
    if !run.problems.iter().any(|problem| problem.starts_with(UNNOTED)) {
        run.problems.push(format!("{UNNOTED}: {}", error.chain()));
    }
}

/// Makes the record of a run that could not begin.
pub fn not_begun(profile: &str, periodicity: Periodicity, place: &str, error: &Error) -> Run {
    let mut run = blank(profile, periodicity, place);
    run.problems.push(error.chain());
    run
}

pub(super) fn blank(profile: &str, periodicity: Periodicity, place: &str) -> Run {
    Run {
        profile: profile.to_string(),
        periodicity,
        repository: place.to_string(),
        started_secs: now_secs(),
        ended_secs: now_secs(),
        outcome: Outcome::Failed,
        snapshot: None,
        snapshot_id: None,
        problems: Vec::new(),
        notes: Vec::new(),
        files: 0,
        content_bytes: 0,
        added_bytes: 0,
        packed_bytes: 0,
        dumps: Vec::new(),
        forgotten: 0,
        checked: false,
        pruned: false,
    }
}
