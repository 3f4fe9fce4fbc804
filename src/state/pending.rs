//! What must be done after a run whatever becomes of it, noted before it begins: "maintenance mode off" is run by the
//! next run, or by the timer, when the run itself was killed.

use super::{StateDir, load, write_whole};
use crate::error::{Context, Error, Result};
use crate::settings::Periodicity;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A run that has begun and whose last hook has not run yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The kind of run.
    pub periodicity: Periodicity,
    /// The process that runs it.
    pub process: u32,
    /// When it began.
    pub started_secs: i64,
    /// The program and arguments of the last hook, as they were then.
    pub finally: Vec<String>,
    /// How long it may take.
    pub timeout_secs: Option<u64>,
}

impl StateDir {
    fn pending_file(&self, profile: &str) -> PathBuf {
        self.path().join("pending").join(format!("{profile}.json"))
    }

    /// Notes what is owed; durable afterwards.
    pub fn owe(&self, profile: &str, pending: &Pending) -> Result<()> {
        let path = self.pending_file(profile);
        let text = serde_json::to_vec(pending)
            .map_err(|error| Error::io(format!("Cannot write {}", path.display()), std::io::Error::other(error)))?;
        write_whole(&path, &text, 0o600)
    }

    /// Returns what is owed; only the holder of the profile's lock may act on it.
    pub fn owed(&self, profile: &str) -> Option<Pending> {
        load(&self.pending_file(profile))
    }

    /// Notes that nothing is owed any more.
    pub fn settle(&self, profile: &str) -> Result<()> {
        let path = self.pending_file(profile);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done.context(|| format!("Cannot remove {}", path.display())),
        }
    }
}
