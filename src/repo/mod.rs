//! The only room that holds keys and store together: opening a repository, reading and adding to it.

pub mod cache;
pub mod commit;
pub mod cursor;
pub mod digest;
pub mod far;
pub mod foreign;
pub mod forget;
pub mod frames;
#[cfg(test)]
mod golden;
pub mod index;
pub mod lazy;
pub mod ledger;
pub mod load;
pub mod marks;
pub mod names;
pub mod objects;
pub mod open;
pub mod pack;
mod parallel;
pub mod pieces;
mod put;
pub mod reads;
pub mod scope;
pub mod seen;
pub mod session;
pub mod snapshots;
pub mod tree;
pub mod unlock;
pub mod upload;
pub mod verify;
pub mod walk;
pub mod walked;
pub mod write;

use crate::crypto::keys::Keys;
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::Config;
use crate::format::header::{Kind, Suite};
use crate::format::index::{ChunkEntry, FrameEntry, Segment, SegmentBuilder};
use crate::format::mark::Mark;
use crate::format::page::Page;
use crate::format::tree::Extent;
use crate::id::{ChunkId, ObjectId};
use crate::known::Visited;
use crate::store::{Listed, Object, ObjectKind, Store};
use cache::Cache;
use frames::{FrameCache, Openers};
use index::{Index, Loaded};
use lazy::OpenPieces;
use lru::LruCache;
use parking_lot::{Mutex, RwLock};
use reads::Reads;
use session::Process;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tree::PageCache;

/// The longest index object: 256 Ki chunks, each in a frame of its own, and room to spare.
pub const MAX_INDEX_BYTES: usize = 48 << 20;
/// Its length as stored: with its header, and a seal for each of 768 pieces.
pub const MAX_INDEX_OBJECT_BYTES: u64 = MAX_INDEX_BYTES as u64 + (16 << 10);

/// Refuses an index object that no reader would take.
pub fn check_index_len(plain_bytes: usize) -> Result<()> {
    if plain_bytes <= MAX_INDEX_BYTES {
        return Ok(());
    }
    Err(Error::usage(format!("An index object of {plain_bytes} bytes would be longer than a reader takes")))
}

/// Directories of packs that are read before any of them is taken in: memory is bounded by them.
const DIRECTORIES_READ: usize = 64;
/// How an index far away is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IndexLoad {
    /// Whole, before anything is looked up.
    #[default]
    Whole,
    /// By pieces, as they are needed: for readers that must be ready after a few requests.
    OnDemand,
}

/// How often a listing is made again because an index object it shows was removed.
const MAX_LISTINGS: usize = 20;

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
        add(&mut self.warnings.texts.lock(), text);
    }

    /// Adds something that is so and keeps nothing from being done ([`Warnings::take_notes`]).
    pub(crate) fn note(&self, text: String) {
        add(&mut self.warnings.notes.lock(), text);
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

    /// Takes new index objects in and forgets those that are gone.
    pub fn refresh_index(&self) -> Result<()> {
        let index = self.load_index(&self.index(), self.index_load)?;
        let mut current = self.index.write();
        let index = index.with_whole_of(&current);
        *current = Arc::new(index);
        Ok(())
    }

    /// Reads the index again if the repository has other index objects than `seen` stands for. Returns
    /// whether the index is another one now.
    fn refresh_stale_index(&self, seen: &Arc<Index>) -> Result<bool> {
        // One at a time: of many readers that miss the same pack the first looks for all.
        let _turn = self.cache_distrusted.lock();
        if seen.covers() == self.index().covers() {
            let stored: HashSet<_> = self.store.list(ObjectKind::Index)?.iter().map(|listed| listed.id).collect();
            if stored == seen.covers() {
                return Ok(false);
            }
            self.refresh_index()?;
        }
        Ok(seen.covers() != self.index().covers())
    }

    /// Loads the index, of which `current` is known. An object a prune replaces meanwhile is looked for anew.
    fn load_index(&self, current: &Index, load: IndexLoad) -> Result<Index> {
        let mut attempts = 0;
        loop {
            match self.load_listed_index(current, load) {
                Err(error) if error.kind() == ErrorKind::NotFound && attempts < MAX_LISTINGS => attempts += 1,
                loaded => return loaded,
            }
        }
    }

    fn load_listed_index(&self, current: &Index, load: IndexLoad) -> Result<Index> {
        let listed = self.store.list(ObjectKind::Index)?;
        let wanted: HashSet<ObjectId> = listed.iter().map(|listed| listed.id).collect();
        let mut segments: Vec<Arc<Loaded>> = current
            .segments()
            .iter()
            .filter(|loaded| loaded.covers.iter().all(|id| wanted.contains(id)))
            .cloned()
            .collect();
        let mut covered: HashSet<ObjectId> = segments.iter().flat_map(|loaded| loaded.covers.iter().copied()).collect();
        if let Some(cache) = self.cache.as_ref().filter(|_| !wanted.is_subset(&covered)) {
            // Another process may have kept what is new: a backup beside a mount does.
            for loaded in cache.load(|id| wanted.contains(id)) {
                if !loaded.covers.iter().all(|id| covered.contains(id)) {
                    covered.extend(loaded.covers.iter().copied());
                    segments.push(loaded);
                }
            }
        }
        let lazy = current.lazy().iter().filter(|lazy| wanted.contains(&lazy.id())).cloned();
        let mut lazy: Vec<_> = lazy.filter(|lazy| load == IndexLoad::OnDemand && covered.insert(lazy.id())).collect();
        let mut missing: Vec<_> = listed.iter().filter(|listed| !covered.contains(&listed.id)).copied().collect();
        let mut digested = Vec::new();
        if load == IndexLoad::OnDemand && !self.digests_distrusted.load(Ordering::Relaxed) {
            digested = self.digested_segments(&mut missing);
        }
        let fetched = self.fetch_index(&missing, load)?;
        segments.extend(fetched.whole);
        lazy.extend(fetched.lazy);
        let damaged = !fetched.damaged.is_empty();
        // Which packs no index object names is only told by all that do.
        if damaged && !lazy.is_empty() && self.may_come_whole(&lazy) {
            return self.load_listed_index(current, IndexLoad::Whole);
        }
        for (object, reason) in fetched.damaged {
            let rest = match lazy.is_empty() {
                true => "its packs are read instead",
                false => "what only it names cannot be read: run `bakfs repair`",
            };
            self.warn(format!("{object} is damaged, {rest}: {reason}"));
        }
        if let Some(cache) = &self.cache {
            // What no index object names is not to look as if one did, nor what a digest says as if an object did.
            let is_own = |loaded: &Arc<Loaded>| !loaded.covers.is_empty() && !loaded.is_digested;
            let (own, others) = segments.into_iter().partition(is_own);
            segments = cache.compact(own);
            segments.extend::<Vec<_>>(others);
        }
        segments.extend(digested);
        let mut index = Index::new(segments).with_lazy(lazy);
        if (damaged || wanted.is_empty()) && index.lazy().is_empty() {
            index = self.adopt_packs(index)?;
        }
        Ok(index)
    }

    fn keep_segment(&self, plain: Vec<u8>, covers: Vec<ObjectId>) -> Result<Loaded> {
        match &self.cache {
            Some(cache) => cache.add(plain, covers),
            None => cache::heap(plain, covers),
        }
    }

    /// Reads and checks one index object.
    pub fn read_index_object(&self, id: ObjectId) -> Result<Vec<u8>> {
        let bytes = self.store.read_whole(Object::Index(id), MAX_INDEX_OBJECT_BYTES)?;
        self.open_index_object(id, bytes)
    }

    fn open_index_object(&self, id: ObjectId, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let damaged = |error| Error::damaged(format!("Cannot read {}", Object::Index(id))).because(error);
        let plain = objects::open_object(&self.keys, Kind::Index, self.id, bytes, MAX_INDEX_BYTES).map_err(damaged)?;
        Segment::new(&plain, plain.len())
            .map_err(|error| damaged(Error::damaged("It is no segment").because(error)))?;
        Ok(plain)
    }

    /// Adds the packs no segment names, read from their own directories, for as long as this process lives.
    fn adopt_packs(&self, index: Index) -> Result<Index> {
        let known: HashSet<ObjectId> = index.packs().map(|pack| pack.id).collect();
        let listed = self.store.list(ObjectKind::Pack)?;
        let packs: Vec<_> = listed.into_iter().filter(|listed| !known.contains(&listed.id)).collect();
        let (index, troubles) = self.with_packs(index, &packs)?;
        self.warnings.texts.lock().extend(troubles);
        Ok(index)
    }

    /// Adds packs to an index by their own directories; returns what is wrong with those that have none.
    fn with_packs(&self, mut index: Index, packs: &[Listed]) -> Result<(Index, Vec<String>)> {
        let mut builder = SegmentBuilder::default();
        let mut troubles = Vec::new();
        for packs in packs.chunks(DIRECTORIES_READ) {
            let read = parallel::for_each(&*self.store, parallel::SMALL, packs, |pack| {
                let read = pack::read_directory(&*self.store, &self.keys, self.id, pack.id, pack.len_bytes);
                Ok(read.map_err(|error| error.chain()))
            })?;
            for pack in read {
                match pack {
                    Ok((entry, directory)) => add_pack(&mut builder, entry, &directory),
                    Err(reason) => troubles.push(reason),
                }
                // A writer stores what was adopted, and no index object may be longer than a reader takes.
                if builder.chunks.len() >= write::SEGMENT_CHUNKS {
                    index = index.with(cache::heap(std::mem::take(&mut builder).encode(), Vec::new())?);
                }
            }
        }
        if !builder.packs.is_empty() {
            index = index.with(cache::heap(builder.encode(), Vec::new())?);
        }
        Ok((index, troubles))
    }

    /// Takes listed packs that no index object names into the index: an interrupted backup has left them. A writer
    /// that may rely on them names them in an index object of its own. Condemned ones are left alone.
    fn adopt(&self, listed: &[Listed], is_condemned: impl Fn(&ObjectId) -> bool) -> Result<()> {
        let mut index = Index::clone(&self.index());
        if index.unnamed_packs().any(|pack| is_condemned(&pack.id)) {
            index = index.without_unnamed();
        }
        let named: HashSet<ObjectId> = index.packs().map(|pack| pack.id).collect();
        // Which packs no index object names is only told by all that do.
        let listed = if index.lazy().is_empty() { listed } else { &[] };
        let is_left = |pack: &Listed| !named.contains(&pack.id) && !is_condemned(&pack.id);
        let left: Vec<_> = listed.iter().filter(|pack| is_left(pack)).copied().collect();
        let (index, troubles) = self.with_packs(index, &left)?;
        for reason in troubles {
            tracing::debug!("A pack that no index object names is left alone: {reason}");
        }
        *self.index.write() = Arc::new(index);
        Ok(())
    }

    /// Drops a segment whose packs an index object names by now.
    fn forget_segment(&self, old: &Arc<Loaded>) {
        let mut index = self.index.write();
        let next = index.without(old);
        *index = Arc::new(next);
    }

    /// Makes the index again from the repository, once; who comes meanwhile waits, and others read on. Segments that
    /// may not come here whole are looked up where they are.
    /// Returns whether it is another than `seen` now.
    fn distrust_cache(&self, seen: &Arc<Index>) -> Result<bool> {
        let mut is_done = self.cache_distrusted.lock();
        let is_digested = seen.segments().iter().any(|loaded| loaded.is_digested);
        if *is_done || (self.cache.is_none() && seen.lazy().is_empty() && !is_digested) {
            return Ok(!Arc::ptr_eq(seen, &self.index()));
        }
        tracing::warn!("A chunk could not be read by the cached index: it is made again");
        if let Some(cache) = &self.cache {
            cache.clear();
        }
        self.digests_distrusted.store(true, Ordering::Relaxed);
        let mut index = self.load_index(&Index::default(), self.index_load)?;
        if !index.lazy().is_empty() && self.may_come_whole(index.lazy()) {
            index = self.load_index(&index, IndexLoad::Whole)?;
        }
        if index.lazy().is_empty() {
            // Packs whose index object was lost are found by their own directories.
            index = self.adopt_packs(index)?;
        }
        *self.index.write() = Arc::new(index);
        *is_done = true;
        Ok(true)
    }
}

/// Adds a pack's directory to a segment.
pub(crate) fn add_pack(
    builder: &mut SegmentBuilder,
    entry: crate::format::index::PackEntry,
    directory: &crate::format::pack::Directory,
) {
    let u32_of = |len: usize| u32::try_from(len).expect("a segment holds fewer than 2^32 records");
    let (pack, first_frame) = (u32_of(builder.packs.len()), u32_of(builder.frames.len()));
    builder.packs.push(entry);
    for (number, frame) in directory.frames.iter().enumerate() {
        builder.frames.push(FrameEntry {
            pack,
            number: u32_of(number),
            offset: frame.offset,
            stored_bytes: frame.stored_bytes,
            plain_bytes: frame.plain_bytes,
            codec: frame.codec,
        });
    }
    for chunk in &directory.chunks {
        builder.chunks.push(ChunkEntry {
            id: chunk.id,
            frame: first_frame + chunk.frame,
            offset: chunk.offset,
            len_bytes: chunk.len_bytes,
        });
    }
}
