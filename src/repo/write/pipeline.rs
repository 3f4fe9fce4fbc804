//! What the stages of a writer share.

use crate::error::Error;
use crate::id::ChunkId;
use crate::repo::Repository;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What all stages share.
pub struct Pipeline {
    /// Where to.
    pub repository: Arc<Repository>,
    /// Chunks on their way, not yet in the repository's index.
    pub pending: Mutex<HashSet<ChunkId>>,
    /// What was stored.
    pub packed_bytes: AtomicU64,
    failure: Mutex<Option<Error>>,
}

impl Pipeline {
    /// Makes one into a repository, in which nothing is under way.
    pub fn new(repository: Arc<Repository>) -> Self {
        Pipeline { repository, pending: Mutex::default(), packed_bytes: AtomicU64::new(0), failure: Mutex::default() }
    }

    /// Takes the first failure, if any stage has failed.
    pub fn take_failure(&self) -> Option<Error> {
        self.failure.lock().take()
    }

    /// Tells that a stage has failed: the first failure is the writer's.
    pub fn fail(&self, error: Error) {
        self.failure.lock().get_or_insert(error);
    }

    /// Returns whether any stage has failed.
    pub fn has_failed(&self) -> bool {
        self.failure.lock().is_some()
    }
}
