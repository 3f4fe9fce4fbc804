//! Fetching index objects: several at a time where the store is far away, whole or only their heads.

use crate::error::{ErrorKind, Result};
use crate::id::{ChunkId, ObjectId};
use crate::quantity::counted;
use crate::repo::Repository;
use crate::repo::index::location::Location;
use crate::repo::index::on_demand::LazySegment;
use crate::repo::index::pieces::PIECE_BYTES;
use crate::repo::index::segment::MAX_INDEX_OBJECT_BYTES;
use crate::repo::index::{Index, Loaded, SegmentBytes};
use crate::repo::parallel;
use crate::store::fresh::with_fresh_copy;
use crate::store::{ListedObject, Object, Wait};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Index objects up to this length are always fetched whole: a head and a lookup take as much.
const SMALL_BYTES: u64 = 4 * PIECE_BYTES;
/// How much of index objects may be in memory while they are opened, if not one alone is longer.
const MEMORY_BYTES: u64 = 64 << 20;
/// The part of the cache that an index on demand may take: a longer one is read by pieces.
pub(in crate::repo) const CACHE_PART: u64 = 4;
/// How much of an index on demand may be in memory, where the cache does not take it.
const HEAP_BYTES: u64 = 16 << 20;

/// How an index far away is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IndexLoad {
    /// Whole, before anything is looked up.
    #[default]
    Whole,
    /// By pieces, as they are needed: for readers that must be ready after a few requests.
    OnDemand,
}

/// What came of fetching index objects.
#[derive(Default)]
pub(in crate::repo) struct Fetched {
    /// Those that were fetched.
    pub whole: Vec<Arc<Loaded>>,
    /// Those of which only the head was fetched.
    pub lazy: Vec<Arc<LazySegment>>,
    /// Those that cannot be read, and why.
    pub damaged: Vec<(Object, String)>,
}

impl Repository {
    /// Fetches index objects, several at a time as memory allows.
    pub(in crate::repo) fn fetch_index(&self, listed: &[ListedObject], load: IndexLoad) -> Result<Fetched> {
        let mut fetched = Fetched::default();
        let is_lazy = |listed: &ListedObject| load == IndexLoad::OnDemand && listed.len_bytes > SMALL_BYTES;
        let (heads, mut whole): (Vec<ListedObject>, Vec<ListedObject>) = listed.iter().copied().partition(is_lazy);
        let opened = self.for_each_listed(parallel::SMALL, &heads, |listed| {
            LazySegment::open(&self.store, &self.vault, listed, &self.live.open_pieces)
        })?;
        for (listed, segment) in opened {
            match segment {
                Ok(Some(lazy)) => fetched.lazy.push(Arc::new(lazy)),
                Ok(None) => whole.push(listed),
                Err(reason) => fetched.damaged.push((Object::Index(listed.id), reason)),
            }
        }
        let longest_bytes = whole.iter().map(|listed| listed.len_bytes).max().unwrap_or(0).max(1);
        let at_once = (MEMORY_BYTES / longest_bytes).clamp(1, parallel::SMALL as u64) as usize;
        for (listed, segment) in self.for_each_listed(at_once, &whole, |listed| self.fetch_whole(listed))? {
            match segment {
                Ok(loaded) => fetched.whole.push(Arc::new(loaded)),
                Err(reason) => fetched.damaged.push((Object::Index(listed.id), reason)),
            }
        }
        Ok(fetched)
    }

    /// Does something with each index object, and tells damage apart from other failures.
    fn for_each_listed<R: Send>(
        &self,
        at_once: usize,
        listed: &[ListedObject],
        work: impl Fn(ListedObject) -> Result<R> + Sync,
    ) -> Result<Vec<(ListedObject, Result<R, String>)>> {
        parallel::for_each(&*self.store, at_once, listed, |listed| match work(*listed) {
            Ok(done) => Ok((*listed, Ok(done))),
            Err(error) if error.kind() == ErrorKind::Damaged => Ok((*listed, Err(error.chain()))),
            Err(error) => Err(error),
        })
    }

    fn fetch_whole(&self, listed: ListedObject) -> Result<Loaded> {
        let object = Object::Index(listed.id);
        let (id, len_bytes) = (listed.id, listed.len_bytes);
        // A store with a cache makes several requests of a long read at a time, and none for what it has.
        let is_kept = self.store.is_far() && (SMALL_BYTES + 1..=MAX_INDEX_OBJECT_BYTES).contains(&len_bytes);
        let plain = if is_kept {
            self.store.expect_len(object, len_bytes);
            with_fresh_copy(&*self.store, object, 0..len_bytes, || {
                let mut bytes = vec![0; len_bytes as usize];
                self.store.read_at(object, 0, &mut bytes, Wait::Allowed)?;
                self.open_index_object(id, bytes)
            })?
        } else {
            self.read_index_object(id)?
        };
        let loaded = self.keep_segment(plain, vec![id])?;
        if is_on_heap(&loaded) {
            self.live.is_cache_useless.store(true, Ordering::Relaxed);
        }
        Ok(loaded)
    }

    /// Returns whether segments of an index on demand may come here whole.
    pub(in crate::repo) fn may_come_whole(&self, lazy: &[Arc<LazySegment>]) -> bool {
        let bytes = stored_bytes(lazy);
        self.cache_has_room(bytes) || self.heap_has_room(bytes)
    }

    fn cache_has_room(&self, bytes: u64) -> bool {
        let is_useless = self.live.is_cache_useless.load(Ordering::Relaxed) || bytes > self.live.max_bytes;
        !is_useless && self.cache.as_ref().is_some_and(|cache| has_room(cache.folder(), bytes))
    }

    fn heap_has_room(&self, bytes: u64) -> bool {
        let index = self.index();
        let on_heap = index.segments().iter().filter(|loaded| is_on_heap(loaded));
        let held: u64 = on_heap.map(|loaded| loaded.segment.encoded_bytes().len() as u64).sum();
        held + bytes <= HEAP_BYTES
    }

    /// Returns where a chunk is, if the index tells: where looking fails nothing is returned either, for a read of
    /// the chunk looks again and says why. The only error is that the answer is not here for who may not wait.
    pub fn place(&self, id: &ChunkId, wait: Wait) -> Result<Option<Location>> {
        for place in self.index().places(id, wait) {
            match place {
                Ok(location) => return Ok(Some(location)),
                Err(error) if error.kind() == ErrorKind::WouldWait => return Err(error),
                Err(_) => {}
            }
        }
        Ok(None)
    }
}

fn stored_bytes(lazy: &[Arc<LazySegment>]) -> u64 {
    lazy.iter().map(|lazy| lazy.listed().len_bytes).sum()
}

fn is_on_heap(loaded: &Loaded) -> bool {
    matches!(loaded.segment.bytes(), SegmentBytes::Heap(_))
}

/// Returns whether a folder can be written to and its file system takes so many bytes.
fn has_room(folder: &Path, bytes: u64) -> bool {
    let is_writable = rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok();
    let room = rustix::fs::statvfs(folder).map_or(0, |room| room.f_bavail * room.f_frsize);
    is_writable && bytes < room
}

/// Brings an index on demand here by and by, for as long as somebody reads.
pub struct IndexLoader {
    repository: Arc<Repository>,
    /// Index objects that cannot be loaded: they are not fetched again.
    damaged: HashSet<ObjectId>,
    /// How much was left where it is, as the log has it.
    told_bytes: u64,
}

impl IndexLoader {
    /// Makes one that has loaded nothing yet.
    pub fn new(repository: Arc<Repository>) -> Self {
        IndexLoader { repository, damaged: HashSet::new(), told_bytes: 0 }
    }

    /// Fetches what of the index is not here, unless it is longer than the repository lets come; lookups go on
    /// meanwhile, and find each segment here as soon as it is. A failure leaves things as they are, and is a
    /// warning. Returns whether all is here.
    pub fn load(&mut self) -> bool {
        self.load_until(&AtomicBool::new(false))
    }

    /// Does the same until it is over, which is looked at before each request.
    pub fn load_until(&mut self, is_over: &AtomicBool) -> bool {
        let index = self.repository.index();
        let lazy: Vec<_> = index.lazy().iter().filter(|lazy| !self.damaged.contains(&lazy.id())).cloned().collect();
        drop(index);
        for (at, segment) in lazy.iter().enumerate() {
            if is_over.load(Ordering::Relaxed) {
                return false;
            }
            if !self.repository.may_come_whole(&lazy[at..]) {
                self.leave(&lazy[at..], is_over);
                return false;
            }
            match self.repository.fetch_whole(segment.listed()) {
                Ok(loaded) => {
                    let whole = Index::new(vec![Arc::new(loaded)]);
                    let mut index = self.repository.live.current.write();
                    let next = Index::clone(&index).with_whole_of(&whole);
                    *index = Arc::new(next);
                }
                // Gone meanwhile: the next refresh drops it.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    let object = Object::Index(segment.id());
                    self.repository.warn(format!("{object} could not be loaded: {}", error.chain()));
                    if error.kind() != ErrorKind::Damaged {
                        return false;
                    }
                    self.damaged.insert(segment.id());
                }
            }
        }
        self.repository.index().lazy().is_empty()
    }

    /// Takes that segments stay where they are; how much they tell of is found out all the same.
    fn leave(&mut self, lazy: &[Arc<LazySegment>], is_over: &AtomicBool) {
        let bytes = stored_bytes(lazy);
        if self.told_bytes != bytes {
            tracing::info!("The index stays where it is, {} of it", counted(bytes, "byte"));
            self.told_bytes = bytes;
        }
        for segment in lazy.iter().take_while(|_| !is_over.load(Ordering::Relaxed)) {
            if let Err(error) = segment.add_up_packs(Wait::Allowed) {
                tracing::debug!("How much there is cannot be told: {}", error.chain());
            }
        }
    }
}
