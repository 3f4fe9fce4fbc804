//! Looking after a run that was killed: its record, and its last hook.

use super::record::{blank, record};
use super::stop::Stop;
use super::{hooks, now_secs};
use crate::error::ErrorKind;
use crate::settings::Periodicity;
use crate::state::pending::Pending;
use crate::state::{Run, StateDir};
use std::time::Duration;

/// What came of looking after a run that was killed.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Its record, where it had none.
    pub killed: Option<Run>,
    /// What went wrong now.
    pub problems: Vec<String>,
}

/// Records a killed run of a profile and runs the last hook it owes, unless a run of it is under way: that needs nothing
/// of the configuration.
pub fn recover(state: &StateDir, profile: &str, stop: &Stop, log: &dyn Fn(&str)) -> Recovered {
    match state.lock(profile, Periodicity::Manual, Duration::ZERO) {
        Ok(_lock) => settle_owed(state, profile, stop, log),
        Err(error) if error.kind() == ErrorKind::Busy => Recovered::default(),
        Err(error) => Recovered { killed: None, problems: vec![error.chain()] },
    }
}

/// Records a run that was killed before it could be, and runs its last hook. Only the holder of the profile's lock may.
pub(super) fn settle_owed(state: &StateDir, profile: &str, stop: &Stop, log: &dyn Fn(&str)) -> Recovered {
    let owed = match state.owed(profile) {
        Ok(None) => return Recovered::default(),
        Ok(Some(owed)) => owed,
        Err(error) => return Recovered { killed: None, problems: vec![error.chain()] },
    };
    let mut killed = owed.killed(now_secs()).filter(|run| !state.profile(profile).has(run));
    let name = match (&killed, &owed.failure) {
        (Some(_), _) | (None, None) => "a killed run",
        (None, Some(_)) => "an earlier run, which had failed then too",
    };
    let _turn = stop.last_hook();
    let mut left = None;
    let mut problems = Vec::new();
    if !owed.finally.is_empty() {
        log(&format!("the last hook of {name}: it is run now"));
        let earlier = killed.clone().unwrap_or_else(|| {
            let mut earlier = blank(profile, owed.periodicity, "");
            earlier
                .problems
                .push(owed.failure.clone().unwrap_or_else(|| "The run was killed before it had ended".into()));
            earlier
        });
        if let Err(error) = hooks::run_owed(&owed, &earlier, log) {
            problems.push(format!("The last hook of {name}: {}", error.chain()));
            left = Some(Pending { failure: Some(error.chain()), run: None, ..owed });
        }
    }
    if let Some(run) = &mut killed {
        log("an earlier run was killed");
        record(state, run, None, left.as_ref());
    } else {
        let noted = left.map_or_else(|| state.settle(profile), |left| state.owe(profile, &left));
        problems.extend(noted.err().map(|error| error.chain()));
    }
    Recovered { killed, problems }
}
