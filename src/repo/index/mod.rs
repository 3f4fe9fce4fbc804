//! Where every chunk is: segments mapped from the local cache, looked up in place, or in pieces in the store.

pub mod cache;
pub mod live;
pub mod load;
pub mod location;
pub mod on_demand;
pub mod pieces;
pub mod segment;

use crate::error::Result;
use crate::format::index::{PackEntry, Segment};
use crate::id::{ChunkId, ObjectId};
use crate::repo::index::location::{Location, locate};
use crate::repo::index::on_demand::{LazySegment, Probe};
use crate::store::Wait;
use std::collections::HashSet;
use std::sync::Arc;

/// A segment's bytes: a mapped file of the cache, or memory where there is no cache.
#[derive(Debug)]
pub enum SegmentBytes {
    /// A file that is never changed, only replaced or removed.
    Mapped(memmap2::Mmap),
    /// Memory.
    Heap(Vec<u8>),
}

impl SegmentBytes {
    /// Unmaps what lookups have touched, until they touch it again: the kernel maps 64 KiB around each.
    pub fn release_memory(&self) {
        if let SegmentBytes::Mapped(map) = self {
            // SAFETY: a shared mapping of a file nobody changes, only ever read: what is unmapped here is
            // mapped again, with the same bytes, by whoever reads it (madvise(2), MADV_DONTNEED).
            let advised = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
            if let Err(error) = advised {
                tracing::debug!(%error, "A segment of the index stays in memory");
            }
        }
    }
}

impl AsRef<[u8]> for SegmentBytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            SegmentBytes::Mapped(map) => map,
            SegmentBytes::Heap(bytes) => bytes,
        }
    }
}

/// A segment and the index objects of the repository it stands for.
#[derive(Debug)]
pub struct Loaded {
    /// The tables.
    pub segment: Segment<SegmentBytes>,
    /// The index objects whose content this is; empty for packs no index object names.
    pub covers: Vec<ObjectId>,
    /// Whether it was taken from bundles: only who reads takes their word for what index objects say.
    pub is_bundled: bool,
}

/// All segments: those that are here whole, and those of which pieces are fetched as they are needed.
#[derive(Debug, Clone, Default)]
pub struct Index {
    segments: Vec<Arc<Loaded>>,
    lazy: Vec<Arc<LazySegment>>,
}

impl Index {
    /// Joins segments, the largest first: most lookups end there.
    pub fn new(mut segments: Vec<Arc<Loaded>>) -> Self {
        segments.sort_by_key(|loaded| std::cmp::Reverse(loaded.segment.chunk_count()));
        Index { segments, lazy: Vec::new() }
    }

    /// Adds segments that are not here.
    pub fn with_lazy(mut self, lazy: Vec<Arc<LazySegment>>) -> Self {
        self.lazy.extend(lazy);
        self
    }

    /// Returns the segments that are not here.
    pub fn lazy(&self) -> &[Arc<LazySegment>] {
        &self.lazy
    }

    /// Returns the index objects this index stands for.
    pub fn covers(&self) -> HashSet<ObjectId> {
        let whole = self.segments.iter().flat_map(|loaded| loaded.covers.iter().copied());
        whole.chain(self.lazy.iter().map(|lazy| lazy.id())).collect()
    }

    /// Returns an index with whole segments in the place of those that are not here, where `other` has them.
    pub fn with_whole_of(mut self, other: &Index) -> Self {
        for loaded in &other.segments {
            let is_it = |lazy: &Arc<LazySegment>| loaded.covers == [lazy.id()];
            if let Some(at) = self.lazy.iter().position(is_it) {
                self.lazy.remove(at);
                self.segments.push(loaded.clone());
            }
        }
        Index::new(self.segments).with_lazy(self.lazy)
    }

    /// Returns the segments that are here whole.
    pub fn segments(&self) -> &[Arc<Loaded>] {
        &self.segments
    }

    /// Returns an index with one more segment.
    pub fn with(&self, loaded: Loaded) -> Self {
        let mut segments = self.segments.clone();
        segments.push(Arc::new(loaded));
        Index::new(segments).with_lazy(self.lazy.clone())
    }

    /// Returns the segments of packs no index object names.
    pub fn unnamed(&self) -> impl Iterator<Item = &Arc<Loaded>> {
        self.segments.iter().filter(|loaded| loaded.covers.is_empty())
    }

    /// Returns the packs no index object names.
    pub fn unnamed_packs(&self) -> impl Iterator<Item = PackEntry> + '_ {
        self.unnamed().flat_map(|loaded| (0..loaded.segment.pack_count()).filter_map(|at| loaded.segment.pack(at)))
    }

    /// Returns an index without a segment.
    pub fn without(&self, old: &Arc<Loaded>) -> Self {
        let segments = self.segments.iter().filter(|loaded| !Arc::ptr_eq(loaded, old)).cloned().collect();
        Index { segments, lazy: self.lazy.clone() }
    }

    /// Returns an index without the packs no index object names.
    pub fn without_unnamed(&self) -> Self {
        let is_named = |loaded: &&Arc<Loaded>| !loaded.covers.is_empty();
        Index { segments: self.segments.iter().filter(is_named).cloned().collect(), lazy: self.lazy.clone() }
    }

    /// Finds a chunk in the segments that are here whole. A place whose records make no sense counts as none.
    pub fn find(&self, id: &ChunkId) -> Option<Location> {
        self.segments.iter().find_map(|loaded| {
            let chunk = loaded.segment.find(id)?;
            locate(&loaded.segment, chunk)
        })
    }

    /// Finds every place a chunk has: damage at one may be healed by another. Segments that are not here are asked
    /// last, and only by who goes on so far; their failures stand among the places.
    pub fn places<'a>(&'a self, id: &'a ChunkId, wait: Wait) -> impl Iterator<Item = Result<Location>> + 'a {
        self.find_all(id).map(Ok).chain(Probe::new(&self.lazy, id, wait))
    }

    /// Asks for what looking a chunk up will take from segments that are not here, and does not wait. Only a hint.
    pub fn want(&self, id: &ChunkId) {
        if !self.lazy.is_empty() && !self.contains(id) {
            self.lazy.iter().for_each(|lazy| lazy.want_chunk(id));
        }
    }

    /// Finds every place a chunk has in the segments that are here whole.
    pub fn find_all<'a>(&'a self, id: &'a ChunkId) -> impl Iterator<Item = Location> + 'a {
        self.segments
            .iter()
            .flat_map(move |loaded| loaded.segment.find_all(id).filter_map(|chunk| locate(&loaded.segment, chunk)))
    }

    /// Returns whether a chunk is known to the segments that are here whole.
    pub fn contains(&self, id: &ChunkId) -> bool {
        self.find(id).is_some()
    }

    /// Gives back the memory lookups have taken.
    pub fn release_memory(&self) {
        self.segments.iter().for_each(|loaded| loaded.segment.bytes().release_memory());
    }

    /// Returns all packs of the segments that are here whole, those named by two of them twice.
    pub fn packs(&self) -> impl Iterator<Item = PackEntry> + '_ {
        self.segments
            .iter()
            .flat_map(|loaded| (0..loaded.segment.pack_count()).filter_map(|at| loaded.segment.pack(at)))
    }

    /// Returns how long all packs are together, as far as that is known here; those named by two segments count twice.
    pub fn pack_bytes(&self) -> u64 {
        let lazy = self.lazy.iter().filter_map(|lazy| lazy.pack_bytes());
        lazy.chain(self.packs().map(|pack| pack.len_bytes)).fold(0, u64::saturating_add)
    }

    /// Returns the number of chunks of the segments that are here whole, those of two of them counted twice.
    pub fn chunk_count(&self) -> u64 {
        self.segments.iter().map(|loaded| loaded.segment.chunk_count() as u64).sum()
    }
}
