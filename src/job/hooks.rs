//! Commands around the reading of data, told what has become of it by their environment.

use crate::error::{Error, Result};
use crate::process::{self, Program, Stop};
use crate::settings::profile;
use crate::settings::values::Command;
use crate::state::pending::Pending;
use crate::state::{Outcome, Run};
use std::time::Duration;

/// The name of the hook that always runs.
const FINALLY: &str = "finally";

/// The hooks of a run.
pub struct Hooks<'a> {
    /// What they are.
    pub hooks: &'a profile::Hooks,
    /// What ends them, but for the one that always runs.
    pub stop: &'a Stop,
    /// Where their words go.
    pub log: &'a dyn Fn(&str),
}

impl Hooks<'_> {
    /// Returns what is owed once a run has begun: its record, and its last hook if it has one.
    pub fn owed(&self, run: &Run) -> Pending {
        Pending {
            periodicity: run.periodicity,
            process: std::process::id(),
            started_secs: run.started_secs,
            finally: self.hooks.finally.as_ref().map(Command::arguments).unwrap_or_default(),
            timeout_secs: self.hooks.timeout_secs,
            failure: None,
            run: Some(run.clone()),
        }
    }

    /// Runs the first hook; its failure is the run's.
    pub fn before(&self, run: &Run) -> Result<()> {
        self.run("before", self.hooks.before.as_ref(), run)
    }

    /// Runs the hook of success.
    pub fn after(&self, run: &Run) -> Result<()> {
        self.run("after", self.hooks.after.as_ref(), run)
    }

    /// Runs the hook of failure.
    pub fn on_failure(&self, run: &Run) -> Result<()> {
        self.run("on-failure", self.hooks.on_failure.as_ref(), run)
    }

    /// Runs the hook that always runs.
    pub fn finally(&self, run: &Run) -> Result<()> {
        self.run(FINALLY, self.hooks.finally.as_ref(), run)
    }

    fn run(&self, name: &str, command: Option<&Command>, run: &Run) -> Result<()> {
        match command {
            Some(command) => {
                let mut program = Program::new(command.arguments());
                program.timeout = self.hooks.timeout_secs.map(Duration::from_secs);
                program.stop = (name != FINALLY).then(|| self.stop.clone());
                hook(name, program, run, self.log)
            }
            None => Ok(()),
        }
    }
}

/// Runs the last hook of a run that was killed.
pub fn run_owed(owed: &Pending, run: &Run, log: &dyn Fn(&str)) -> Result<()> {
    let mut program = Program::new(&owed.finally);
    program.timeout = owed.timeout_secs.map(Duration::from_secs);
    hook(FINALLY, program, run, log)
}

fn hook(name: &str, mut program: Program, run: &Run, log: &dyn Fn(&str)) -> Result<()> {
    for (variable, value) in environment(name, run) {
        program = program.env(variable, value);
    }
    let failed = |error: Error| Error::new(error.kind(), format!("The hook `{name}` failed")).because(error);
    let (status, words) = program.run().map_err(failed)?;
    for line in words.lines() {
        log(&format!("hook {name}: {line}"));
    }
    if status.success() {
        return Ok(());
    }
    Err(failed(process::failed(&program.name(), status, &words)))
}

/// Returns what a hook is told: empty where there is nothing to tell yet.
fn environment(name: &str, run: &Run) -> Vec<(&'static str, String)> {
    let outcome = match (name, run.outcome) {
        ("before", _) => "",
        (_, Outcome::Success) => "success",
        (_, Outcome::Incomplete) => "incomplete",
        (_, Outcome::Failed) => "failed",
    };
    vec![
        ("BAKFS_HOOK", name.to_string()),
        ("BAKFS_PROFILE", run.profile.clone()),
        ("BAKFS_PERIODICITY", run.periodicity.to_string()),
        ("BAKFS_OUTCOME", outcome.to_string()),
        ("BAKFS_SNAPSHOT", run.snapshot.clone().unwrap_or_default()),
        ("BAKFS_SNAPSHOT_ID", run.snapshot_id.clone().unwrap_or_default()),
        ("BAKFS_FILES", run.files.to_string()),
        ("BAKFS_CONTENT_BYTES", run.content_bytes.to_string()),
        ("BAKFS_ADDED_BYTES", run.added_bytes.to_string()),
        ("BAKFS_PACKED_BYTES", run.packed_bytes.to_string()),
        ("BAKFS_ERROR", run.problems.join("\n")),
    ]
}
