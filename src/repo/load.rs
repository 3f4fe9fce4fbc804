//! Fetching index objects: several at a time where the store is far away, whole or only their heads.

use super::index::{Index, Loaded, Location};
use super::lazy::LazySegment;
use super::pieces::PIECE_BYTES;
use super::{IndexLoad, MAX_INDEX_OBJECT_BYTES, Repository, parallel};
use crate::error::{ErrorKind, Result};
use crate::id::ChunkId;
use crate::store::{Listed, Object, Wait};
use std::sync::Arc;

/// Index objects up to this length are always fetched whole: a head and a lookup take as much.
const SMALL_BYTES: u64 = 4 * PIECE_BYTES;
/// How much of index objects may be in memory while they are opened, if not one alone is longer.
const MEMORY_BYTES: u64 = 64 << 20;

/// What came of fetching index objects.
#[derive(Default)]
pub(super) struct Fetched {
    /// Those that were fetched.
    pub whole: Vec<Arc<Loaded>>,
    /// Those of which only the head was fetched.
    pub lazy: Vec<Arc<LazySegment>>,
    /// Those that cannot be read, and why.
    pub damaged: Vec<(Object, String)>,
}

impl Repository {
    /// Fetches index objects, several at a time as memory allows.
    pub(super) fn fetch_index(&self, listed: &[Listed], load: IndexLoad) -> Result<Fetched> {
        let mut fetched = Fetched::default();
        let is_lazy = |listed: &Listed| load == IndexLoad::OnDemand && listed.len_bytes > SMALL_BYTES;
        let (heads, mut whole): (Vec<Listed>, Vec<Listed>) = listed.iter().copied().partition(is_lazy);
        let opened = self.for_each_listed(parallel::SMALL, &heads, |listed| {
            LazySegment::open(&self.store, &self.keys, self.id, listed, &self.open_pieces)
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
        listed: &[Listed],
        work: impl Fn(Listed) -> Result<R> + Sync,
    ) -> Result<Vec<(Listed, Result<R, String>)>> {
        parallel::for_each(&*self.store, at_once, listed, |listed| match work(*listed) {
            Ok(done) => Ok((*listed, Ok(done))),
            Err(error) if error.kind() == ErrorKind::Damaged => Ok((*listed, Err(error.chain()))),
            Err(error) => Err(error),
        })
    }

    fn fetch_whole(&self, listed: Listed) -> Result<Loaded> {
        let object = Object::Index(listed.id);
        let (id, len_bytes) = (listed.id, listed.len_bytes);
        // A store with a cache makes several requests of a long read at a time, and none for what it has.
        let is_kept = self.store.is_far() && (SMALL_BYTES + 1..=MAX_INDEX_OBJECT_BYTES).contains(&len_bytes);
        let plain = if is_kept {
            self.store.expect_len(object, len_bytes);
            let mut bytes = vec![0; len_bytes as usize];
            let read = self.store.read_at(object, 0, &mut bytes, Wait::Allowed);
            match read.and_then(|()| self.open_index_object(id, bytes)) {
                Err(error) if error.kind() == ErrorKind::Damaged && self.store.distrust(object, 0..len_bytes) => {
                    self.read_index_object(id)?
                }
                plain => plain?,
            }
        } else {
            self.read_index_object(id)?
        };
        self.keep_segment(plain, vec![id])
    }

    /// Fetches what of the index is not here, unless it is longer than `max_bytes`; lookups go on meanwhile, and find
    /// each segment here as soon as it is. A failure leaves things as they are, and is only logged. Returns whether
    /// all is here.
    pub fn load_rest_of_index(&self, max_bytes: u64) -> bool {
        let lazy = self.index().lazy().to_vec();
        let rest_bytes: u64 = lazy.iter().map(|lazy| lazy.listed().len_bytes).sum();
        if rest_bytes > max_bytes {
            tracing::info!("The index stays where it is: {rest_bytes} bytes of it are not here");
            return false;
        }
        for segment in lazy {
            match self.fetch_whole(segment.listed()) {
                Ok(loaded) => {
                    let whole = Index::new(vec![Arc::new(loaded)]);
                    let mut index = self.index.write();
                    let next = Index::clone(&index).with_whole_of(&whole);
                    *index = Arc::new(next);
                }
                // Gone meanwhile: the next refresh drops it.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!("The rest of the index could not be loaded: {}", error.chain());
                    return false;
                }
            }
        }
        self.index().lazy().is_empty()
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
