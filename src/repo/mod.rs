//! The only room that holds keys and store together: opening a repository, reading and adding to it.

#[cfg(test)]
mod golden;
pub mod index;
pub mod objects;
pub mod open;
mod parallel;
pub mod read;
pub mod shared;
pub mod unlock;
pub mod write;

use crate::crypto::keys::Keys;
use crate::error::{ErrorKind, Result};
use crate::format::config::Config;
use crate::format::header::Suite;
use crate::format::mark::Mark;
use crate::format::page::Page;
use crate::format::tree::Extent;
use crate::id::{ChunkId, ObjectId};
use crate::known::Visited;
use crate::repo::index::Index;
use crate::repo::index::cache::Cache;
use crate::repo::index::load::IndexLoad;
use crate::repo::index::on_demand::OpenPieces;
use crate::repo::read::chunks::{FrameCache, Openers};
use crate::repo::read::tree::PageCache;
use crate::repo::read::verified::Reads;
use crate::repo::shared::session::Process;
use crate::repo::shared::{seen, snapshots};
use crate::store::{Object, Store};
use lru::LruCache;
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, HashSet};
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

impl Default for Memory {
    fn default() -> Self {
        Memory { frames_bytes: 32 << 20, pages_bytes: 24 << 20 }
    }
}

/// What goes wrong without making a repository unusable.
#[derive(Debug, Default)]
pub struct Warnings {
    texts: Mutex<Vec<String>>,
    is_history_shrunk: AtomicBool,
}

impl Warnings {
    /// Takes the texts.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.texts.lock())
    }

    /// Returns whether snapshots that were seen here were missing when they were listed last.
    pub fn is_history_shrunk(&self) -> bool {
        self.is_history_shrunk.load(Ordering::Relaxed)
    }
}

/// An unlocked repository with its index.
pub struct Repository {
    pub(crate) id: [u8; 16],
    pub(crate) suite: Suite,
    pub(crate) config: Config,
    pub(crate) keys: Keys,
    pub(crate) store: Arc<dyn Store>,
    cache: Option<Cache>,
    index: RwLock<Arc<Index>>,
    index_load: IndexLoad,
    /// At most so much of an index on demand comes into the cache.
    index_max_bytes: u64,
    /// Whether the cache did not take a segment of the index, whatever room there seems to be.
    is_cache_useless: AtomicBool,
    open_pieces: Arc<OpenPieces>,
    /// Whether the cached index was made again; held while that is done.
    cache_distrusted: Mutex<bool>,
    /// Whether a chunk could not be read by what an index digest may have said.
    digests_distrusted: AtomicBool,
    warnings: Arc<Warnings>,
    openers: Openers,
    reads: Reads,
    frames: FrameCache,
    pages: PageCache,
    extent_pages: Mutex<LruCache<ChunkId, Arc<Page<Extent>>>>,
    pub(crate) process: Process,
    known_marks: Mutex<HashMap<ObjectId, Arc<Mark>>>,
    /// Objects in `marks/` that are none, and why.
    foreign_marks: Mutex<HashMap<ObjectId, String>>,
    known_snapshots: Mutex<snapshots::Known>,
    /// Where this machine keeps what it has seen here.
    known: Option<Visited>,
    lost: Mutex<seen::Lost>,
    /// While this process writes: the packs that something new may rely on.
    reliable: RwLock<Option<HashSet<ObjectId>>>,
}

impl Repository {
    /// Returns the repository's id.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// Returns how its objects are sealed.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Returns its keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
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
        self.process = process;
    }

    /// Returns the index as it is now.
    pub fn index(&self) -> Arc<Index> {
        self.index.read().clone()
    }

    /// Adds something that went wrong without making the repository unusable.
    pub(crate) fn warn(&self, text: String) {
        let mut warnings = self.warnings.texts.lock();
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// From now on only these packs count as having what they have.
    fn rely_on(&self, packs: HashSet<ObjectId>) {
        *self.reliable.write() = Some(packs);
    }

    /// Adds a pack this process has stored.
    fn rely_on_one(&self, id: ObjectId) {
        if let Some(reliable) = &mut *self.reliable.write() {
            reliable.insert(id);
        }
    }

    /// Returns whether a chunk is stored where something new may rely on it.
    pub fn holds(&self, id: &ChunkId) -> bool {
        let index = self.index();
        let reliable = self.reliable.read();
        if reliable.is_none() && !self.reads.has_suspects() {
            return index.contains(id);
        }
        index.find_all(id).map(|place| place.pack.id).any(|pack| {
            reliable.as_ref().is_none_or(|reliable| reliable.contains(&pack)) && !self.reads.is_suspect(&pack)
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
