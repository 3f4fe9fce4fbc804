//! What a run has begun, noted before it begins: a run that was killed is told by the next one, by the timer, and by
//! `bakfs status`, and "maintenance mode off" is run whatever becomes of it.

use super::{Run, StateDir, load};
use crate::disk;
use crate::error::{Context, Error, Result};
use crate::settings::Periodicity;
use crate::trust::file::require_unchangeable;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a killed run is told by.
const KILLED: &str = "The run was killed before it had ended (out of memory, a power cut, or `kill -9`)";

/// A run that has begun and has not been recorded yet, or whose last hook has not succeeded yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// The kind of run.
    pub periodicity: Periodicity,
    /// The process that runs it.
    pub process: u32,
    /// When it began.
    pub started_secs: i64,
    /// The program and arguments of the last hook, as they were then; none where it is not owed.
    pub finally: Vec<String>,
    /// How long it may take.
    pub timeout_secs: Option<u64>,
    /// How the last hook has failed already, of a run that came to its end.
    #[serde(default)]
    pub failure: Option<String>,
    /// The run as far as it has come; `None` where it is recorded.
    #[serde(default)]
    pub run: Option<Run>,
}

impl Pending {
    /// Returns the record of the run, should nothing run it any more; `None` where it is recorded.
    pub fn killed(&self, now_secs: i64) -> Option<Run> {
        let mut run = self.run.clone()?;
        run.ended_secs = now_secs.max(run.started_secs);
        run.problems.insert(0, KILLED.into());
        run.judge();
        Some(run)
    }
}

impl StateDir {
    fn pending_file(&self, profile: &str) -> PathBuf {
        self.file("pending", profile)
    }

    /// Notes what is owed; durable afterwards.
    pub fn owe(&self, profile: &str, pending: &Pending) -> Result<()> {
        let path = self.pending_file(profile);
        let text = serde_json::to_vec(pending)
            .map_err(|error| Error::io(format!("Cannot write {}", path.display()), std::io::Error::other(error)))?;
        self.write(&path, &text)
    }

    /// Returns what is owed; only the holder of the profile's lock may act on it. Fails where that cannot be read.
    pub fn owed(&self, profile: &str) -> Result<Option<Pending>> {
        let path = self.pending_file(profile);
        // It names a program that will be run.
        require_unchangeable("state", &path)?;
        match (path.symlink_metadata(), load(&path)) {
            (_, Some(owed)) => Ok(Some(owed)),
            (Err(error), None) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            _ => Err(Error::damaged(format!(
                "What a killed run of `{profile}` still owes cannot be read in {}: see to it that its last hook has \
                 run, then remove that file",
                path.display()
            ))),
        }
    }

    /// Returns the record of a run that was killed and that nobody has told of yet, without touching anything.
    ///
    /// A run holds the lock from before its note is written until after it is gone: who sees the same note before and
    /// after the lock was free has seen what a killed run has left.
    pub fn killed(&self, profile: &str, now_secs: i64) -> Option<Run> {
        let owed = self.owed(profile).ok()??;
        let killed = owed.killed(now_secs).filter(|run| !self.profile(profile).has(run))?;
        if self.running(profile).is_some() || self.is_locked(profile) {
            return None;
        }
        (self.owed(profile).ok()?? == owed).then_some(killed)
    }

    /// Returns the profiles whose runs owe something, of this configuration.
    pub fn owing(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path().join("pending")) else { return Vec::new() };
        let names = entries.flatten().map(|entry| entry.file_name());
        names.filter_map(|name| self.profile_of(name.to_str()?.strip_suffix(".json")?)).collect()
    }

    /// Notes that nothing is owed any more; durable afterwards, so that no power cut makes a run one that was killed.
    pub fn settle(&self, profile: &str) -> Result<()> {
        let path = self.pending_file(profile);
        let removing = || format!("Cannot remove {}", path.display());
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done.and_then(|()| disk::sync_folder(&self.path().join("pending"))).context(removing),
        }
    }
}
