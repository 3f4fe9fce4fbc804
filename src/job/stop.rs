//! Ending jobs from another thread: their programs are killed, the last hook of the one under way is run, and its record
//! kept, without waiting for the thread that makes it.

use super::now_secs;
use super::record::record;
use crate::process;
use crate::state::pending::Pending;
use crate::state::{Run, StateDir};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;

/// What ends the jobs that are made with it, one after the other. Clones end the same ones.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    programs: process::Stop,
    /// Held while a last hook runs: who stops a run and the run itself never run it both.
    last_hook: Mutex<()>,
    /// The run that is under way, as far as it has come.
    under_way: Mutex<Option<Run>>,
}

impl Stop {
    /// Ends the run that is under way, for `why`: its programs are killed, its last hook is run unless it has been, and
    /// its record is kept. No other job begins with this one. Returns the record.
    pub fn end(&self, state: &StateDir, why: &str) -> Option<Run> {
        // Whoever sees that it is stopped waits for this: until then the profile is locked.
        let _turn = self.0.last_hook.lock();
        self.0.programs.stop();
        let mut run = self.0.under_way.lock().take()?;
        run.ended_secs = now_secs();
        run.problems.insert(0, why.to_string());
        run.judge();
        let mut left = None;
        match state.owed(&run.profile) {
            Ok(Some(owed)) if owed.process == std::process::id() && !owed.finally.is_empty() => {
                let result = super::hooks::run_owed(&owed, &run, &|line| tracing::info!("{}: {line}", run.profile));
                let failure = result.err().map(|error| error.chain());
                run.problems.extend(failure.clone());
                left = failure.map(|failure| Pending { failure: Some(failure), run: None, ..owed });
            }
            Ok(_) => {}
            Err(error) => run.problems.push(error.chain()),
        }
        record(state, &mut run, None, left.as_ref());
        Some(run)
    }

    /// Returns whether it has been used.
    pub fn is_stopped(&self) -> bool {
        self.0.programs.is_stopped()
    }

    /// Returns what ends the programs of its jobs.
    pub(super) fn programs(&self) -> &process::Stop {
        &self.0.programs
    }

    /// Waits until nobody else runs a last hook.
    pub(super) fn last_hook(&self) -> MutexGuard<'_, ()> {
        self.0.last_hook.lock()
    }

    /// Takes that a run is under way.
    pub(super) fn begin(&self, run: &Run) {
        *self.0.under_way.lock() = Some(run.clone());
    }

    /// Takes how far the run has come, unless it was taken over.
    pub(super) fn goes_on(&self, run: &Run) {
        if let Some(known) = &mut *self.0.under_way.lock() {
            known.clone_from(run);
        }
    }

    /// Takes that the run has ended; returns false where it was taken over.
    pub(super) fn finish(&self) -> bool {
        self.0.under_way.lock().take().is_some()
    }
}
