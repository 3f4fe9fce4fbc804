//! The index of an open repository: loaded, refreshed, made again where it was wrong.

use crate::error::{Error, ErrorKind, Result};
use crate::format::header::Kind;
use crate::format::index::{Segment, SegmentBuilder};
use crate::id::ObjectId;
use crate::repo::index::load::IndexLoad;
use crate::repo::index::on_demand::OpenPieces;
use crate::repo::index::segment::{MAX_INDEX_BYTES, MAX_INDEX_OBJECT_BYTES, SEGMENT_CHUNKS, add_pack};
use crate::repo::index::{Index, Loaded, cache};
use crate::repo::read::pack;
use crate::repo::{Repository, objects, parallel};
use crate::store::{ListedObject, Object, ObjectKind};
use parking_lot::{Mutex, RwLock};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Directories of packs that are read before any of them is taken in: memory is bounded by them.
const DIRECTORIES_READ: usize = 64;
/// How often a listing is made again because an index object it shows was removed.
const MAX_LISTINGS: usize = 20;

/// The index of an open repository, which changes while it is open.
pub struct LiveIndex {
    pub(in crate::repo) current: RwLock<Arc<Index>>,
    pub(in crate::repo) load: IndexLoad,
    /// At most so much of an index on demand comes into the cache.
    pub(in crate::repo) max_bytes: u64,
    /// Whether the cache did not take a segment of the index, whatever room there seems to be.
    pub(in crate::repo) is_cache_useless: AtomicBool,
    pub(in crate::repo) open_pieces: Arc<OpenPieces>,
    /// Whether the cached index was made again; held while that is done.
    cache_distrusted: Mutex<bool>,
    /// Whether a chunk could not be read by what an index bundle may have said.
    bundles_distrusted: AtomicBool,
}

impl LiveIndex {
    /// Makes one of which nothing is loaded yet.
    pub fn new(load: IndexLoad, max_bytes: u64) -> Self {
        LiveIndex {
            current: RwLock::default(),
            load,
            max_bytes,
            is_cache_useless: AtomicBool::new(false),
            open_pieces: Arc::default(),
            cache_distrusted: Mutex::new(false),
            bundles_distrusted: AtomicBool::new(false),
        }
    }
}

impl Repository {
    /// Takes new index objects in and forgets those that are gone.
    pub fn refresh_index(&self) -> Result<()> {
        let index = self.load_index(&self.index(), self.live.load)?;
        let mut current = self.live.current.write();
        let index = index.with_whole_of(&current);
        *current = Arc::new(index);
        Ok(())
    }

    /// Reads the index again if the repository has other index objects than `seen` stands for. Returns
    /// whether the index is another one now.
    pub(in crate::repo) fn refresh_stale_index(&self, seen: &Arc<Index>) -> Result<bool> {
        // One at a time: of many readers that miss the same pack the first looks for all.
        let _turn = self.live.cache_distrusted.lock();
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
        let mut bundled = Vec::new();
        if load == IndexLoad::OnDemand && !self.live.bundles_distrusted.load(Ordering::Relaxed) {
            bundled = self.bundled_segments(&mut missing);
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
            // What no index object names is not to look as if one did, nor what a bundle says as if an object did.
            let is_own = |loaded: &Arc<Loaded>| !loaded.covers.is_empty() && !loaded.is_bundled;
            let (own, others) = segments.into_iter().partition(is_own);
            segments = cache.compact(own);
            segments.extend::<Vec<_>>(others);
        }
        segments.extend(bundled);
        let mut index = Index::new(segments).with_lazy(lazy);
        if (damaged || wanted.is_empty()) && index.lazy().is_empty() {
            index = self.adopt_packs(index)?;
        }
        Ok(index)
    }

    pub(in crate::repo) fn keep_segment(&self, plain: Vec<u8>, covers: Vec<ObjectId>) -> Result<Loaded> {
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

    pub(in crate::repo) fn open_index_object(&self, id: ObjectId, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let damaged = |error| Error::damaged(format!("Cannot read {}", Object::Index(id))).because(error);
        let plain = objects::open_object(&self.vault, Kind::Index, bytes, MAX_INDEX_BYTES).map_err(damaged)?;
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
    fn with_packs(&self, mut index: Index, packs: &[ListedObject]) -> Result<(Index, Vec<String>)> {
        let mut builder = SegmentBuilder::default();
        let mut troubles = Vec::new();
        for packs in packs.chunks(DIRECTORIES_READ) {
            let read = parallel::for_each(&*self.store, parallel::SMALL, packs, |pack| {
                let read = pack::read_directory(&*self.store, &self.vault, pack.id, pack.len_bytes);
                Ok(read.map_err(|error| error.chain()))
            })?;
            for pack in read {
                match pack {
                    Ok((entry, directory)) => add_pack(&mut builder, entry, &directory),
                    Err(reason) => troubles.push(reason),
                }
                // A writer stores what was adopted, and no index object may be longer than a reader takes.
                if builder.chunks.len() >= SEGMENT_CHUNKS {
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
    pub(in crate::repo) fn adopt(
        &self,
        listed: &[ListedObject],
        is_condemned: impl Fn(&ObjectId) -> bool,
    ) -> Result<()> {
        let mut index = Index::clone(&self.index());
        if index.unnamed_packs().any(|pack| is_condemned(&pack.id)) {
            index = index.without_unnamed();
        }
        let named: HashSet<ObjectId> = index.packs().map(|pack| pack.id).collect();
        // Which packs no index object names is only told by all that do.
        let listed = if index.lazy().is_empty() { listed } else { &[] };
        let is_left = |pack: &ListedObject| !named.contains(&pack.id) && !is_condemned(&pack.id);
        let left: Vec<_> = listed.iter().filter(|pack| is_left(pack)).copied().collect();
        let (index, troubles) = self.with_packs(index, &left)?;
        for reason in troubles {
            tracing::debug!("A pack that no index object names is left alone: {reason}");
        }
        *self.live.current.write() = Arc::new(index);
        Ok(())
    }

    /// Drops a segment whose packs an index object names by now.
    pub(in crate::repo) fn forget_segment(&self, old: &Arc<Loaded>) {
        let mut index = self.live.current.write();
        let next = index.without(old);
        *index = Arc::new(next);
    }

    /// Makes the index again from the repository, once; who comes meanwhile waits, and others read on. Segments that
    /// may not come here whole are looked up where they are.
    /// Returns whether it is another than `seen` now.
    pub(in crate::repo) fn distrust_cache(&self, seen: &Arc<Index>) -> Result<bool> {
        let mut is_done = self.live.cache_distrusted.lock();
        let is_bundled = seen.segments().iter().any(|loaded| loaded.is_bundled);
        if *is_done || (self.cache.is_none() && seen.lazy().is_empty() && !is_bundled) {
            return Ok(!Arc::ptr_eq(seen, &self.index()));
        }
        tracing::warn!("A chunk could not be read by the cached index: it is made again");
        if let Some(cache) = &self.cache {
            cache.clear();
        }
        self.live.bundles_distrusted.store(true, Ordering::Relaxed);
        let mut index = self.load_index(&Index::default(), self.live.load)?;
        if !index.lazy().is_empty() && self.may_come_whole(index.lazy()) {
            index = self.load_index(&index, IndexLoad::Whole)?;
        }
        if index.lazy().is_empty() {
            // Packs whose index object was lost are found by their own directories.
            index = self.adopt_packs(index)?;
        }
        *self.live.current.write() = Arc::new(index);
        *is_done = true;
        Ok(true)
    }
}
