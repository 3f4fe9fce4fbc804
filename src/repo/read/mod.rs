//! Reading: chunks, trees and packs, verified as they are read.

pub mod chunk_kind;
pub mod chunks;
pub mod cursor;
pub mod described;
pub mod ledger;
pub mod pack;
pub mod pack_scan;
pub mod prefetch;
pub mod tree;
pub mod verified;
pub mod walk;

use crate::format::page::Page;
use crate::format::tree::Extent;
use crate::id::ChunkId;
use crate::repo::Memory;
use chunks::{FrameCache, Openers};
use lru::LruCache;
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::Arc;
use tree::PageCache;
use verified::Reads;

/// Pages of extents that are kept: each lists about 500 chunks, 128 MiB of a large file.
const EXTENT_PAGES: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");

/// What was read of an open repository and is kept in memory.
pub struct ReadCaches {
    openers: Openers,
    pub(in crate::repo) reads: Reads,
    frames: FrameCache,
    pages: PageCache,
    extent_pages: Mutex<LruCache<ChunkId, Arc<Page<Extent>>>>,
}

impl ReadCaches {
    /// Makes empty ones.
    pub fn new(memory: Memory) -> Self {
        ReadCaches {
            openers: Openers::default(),
            reads: Reads::default(),
            frames: FrameCache::new(memory.frames_bytes),
            pages: PageCache::new(memory.pages_bytes),
            extent_pages: Mutex::new(LruCache::new(EXTENT_PAGES)),
        }
    }
}
