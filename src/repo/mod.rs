//! The only room that holds keys and store together: opening a repository, reading and adding to it.

pub mod features;
#[cfg(test)]
mod golden;
pub mod index;
pub mod objects;
pub mod open;
mod parallel;
pub mod read;
pub mod shared;
pub mod slots;
pub mod stored;
pub mod unlock;
pub mod write;

use crate::crypto::keys::Keys;
use crate::crypto::vault::Vault;
use crate::error::{ErrorKind, Result};
use crate::format::config::Config;
use crate::format::header::Suite;
use crate::id::{ChunkId, RepositoryId};
use crate::repo::index::Index;
use crate::repo::index::cache::Cache;
use crate::repo::index::live::LiveIndex;
use crate::repo::read::ReadCaches;
use crate::repo::shared::Shared;
use crate::repo::shared::session::Process;
use crate::store::{Object, Store};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How much memory a repository's caches may take.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Decoded frames.
    pub frames_bytes: usize,
    /// Decoded pages of directories.
    pub pages_bytes: usize,
}

impl Memory {
    /// That of what lives for weeks beside what the machine is for, as a mount, and of what reads everything once.
    pub const SMALL: Memory = Memory { frames_bytes: 16 << 20, pages_bytes: 8 << 20 };
}

impl Default for Memory {
    fn default() -> Self {
        Memory { frames_bytes: 32 << 20, pages_bytes: 24 << 20 }
    }
}

/// What goes wrong without making a repository unusable.
#[derive(Debug, Default)]
pub struct Warnings {
    texts: Mutex<Vec<String>>,
    /// What is so until somebody changes it, and keeps nothing from being done.
    notes: Mutex<Vec<String>>,
    is_history_shrunk: AtomicBool,
}

impl Warnings {
    /// Takes the texts, those of [`Warnings::take_notes`] among them.
    pub fn take(&self) -> Vec<String> {
        let texts = std::mem::take(&mut *self.texts.lock());
        texts.into_iter().chain(self.take_notes()).collect()
    }

    /// Takes what nothing failed of: a state of the repository that lasts until somebody changes it, such as a snapshot
    /// dated in the future. Told each time as a warning it would be an alarm that never ends.
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.lock())
    }

    /// Returns whether snapshots that were seen here were missing when they were listed last.
    pub fn is_history_shrunk(&self) -> bool {
        self.is_history_shrunk.load(Ordering::Relaxed)
    }
}

fn add(texts: &mut Vec<String>, text: String) {
    if !texts.contains(&text) {
        texts.push(text);
    }
}

/// An unlocked repository with its index: who it is, its index, what was read of it, and what processes share through it.
pub struct Repository {
    vault: Arc<Vault>,
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn Store>,
    cache: Option<Cache>,
    live: LiveIndex,
    caches: ReadCaches,
    pub(crate) shared: Shared,
    warnings: Arc<Warnings>,
}

impl Repository {
    /// Returns the repository's id.
    pub fn id(&self) -> RepositoryId {
        self.vault.repository()
    }

    /// Returns how its objects are sealed.
    pub fn suite(&self) -> Suite {
        self.vault.suite()
    }

    /// Returns its keys.
    pub fn keys(&self) -> &Keys {
        self.vault.keys()
    }

    /// Returns what seals and opens its objects.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Returns its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns where its objects are kept.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Looks for each of some objects by its name, whatever listings show; returns those that are there.
    pub fn find_stored(&self, objects: &[Object]) -> Result<Vec<Object>> {
        let found =
            parallel::for_each(&*self.store, parallel::SMALL, objects, |object| match self.store.len_bytes(*object) {
                Ok(_) => Ok(Some(*object)),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            })?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Tells others of another process than this one: for a program that simulates many.
    pub fn act_as(&mut self, process: Process) {
        self.shared.process = process;
    }

    /// Returns the index as it is now.
    pub fn index(&self) -> Arc<Index> {
        self.live.current.read().clone()
    }

    /// Adds something that went wrong without making the repository unusable.
    pub(crate) fn warn(&self, text: String) {
        add(&mut self.warnings.texts.lock(), text);
    }

    /// Adds something that is so and keeps nothing from being done ([`Warnings::take_notes`]).
    pub(crate) fn note(&self, text: String) {
        add(&mut self.warnings.notes.lock(), text);
    }

    /// Returns whether a chunk is stored where something new may rely on it.
    pub fn holds(&self, id: &ChunkId) -> bool {
        let index = self.index();
        let reliable = self.shared.reliable.read();
        if reliable.is_none() && !self.caches.reads.has_suspects() {
            return index.contains(id);
        }
        index.find_all(id).map(|place| place.pack.id).any(|pack| {
            reliable.as_ref().is_none_or(|reliable| reliable.contains(&pack)) && !self.caches.reads.is_suspect(&pack)
        })
    }

    /// Returns where what goes wrong is collected; it outlives the repository.
    pub fn warnings(&self) -> &Arc<Warnings> {
        &self.warnings
    }

    /// Takes what went wrong without making the repository unusable.
    pub fn take_warnings(&self) -> Vec<String> {
        self.warnings.take()
    }
}
