//! What must be done after a run whatever becomes of it, noted before it begins: "maintenance mode off" is run by the
//! next run, or by the timer, when the run itself was killed.

use super::{Readers, StateDir, load, write_whole};
use crate::error::{Context, Error, Result};
use crate::settings::Periodicity;
use crate::trust::file::require_unchangeable;
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
    /// How the last hook has failed already, of a run that came to its end.
    #[serde(default)]
    pub failure: Option<String>,
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
        write_whole(&path, &text, Readers::Owner)
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

    /// Returns the profiles whose runs owe something.
    pub fn owing(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path().join("pending")) else { return Vec::new() };
        let names = entries.flatten().map(|entry| entry.file_name());
        names.filter_map(|name| Some(name.to_str()?.strip_suffix(".json")?.to_string())).collect()
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
