//! A store far away with copies on a local disk: what was read once is read from there, what will be read soon is
//! fetched before, and what several readers want is fetched once.
//!
//! Small objects are kept whole, as files that verify by their names. Of packs and index objects the ranges that
//! were read are kept (`sparse copy`), sealed as they are stored: whoever opens them verifies them, and asks for
//! others by [`super::Hints::distrust`]. Nothing in the folder is needed, and all of it may be removed at any time.

mod bits;
mod fetch;
mod folder;
mod link;
mod queue;
mod sparse_copies;
mod sparse_copy;
mod streams;

use super::local::would_wait;
use super::{Decorator, ListedObject, Object, ObjectKind, Store, Wait, read_through_at_once};
use crate::error::Result;
use crate::id::ObjectId;
use fetch::Fetcher;
use folder::Folder;
use queue::Prefetch;
use sparse_copies::SparseCopies;
use sparse_copy::{blocks_of, bytes_in};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The default bound of a cache, where the file system is large enough for it.
pub const DEFAULT_MAX_BYTES: u64 = 10 << 30;
/// The part of a file system a cache takes at most by default: one tenth.
const DEFAULT_PART: u64 = 10;
/// A small object larger than this part of the bound is not kept.
const SMALL_PART: u64 = 16;

/// Returns how large a cache in a folder may be by default: 10 GiB, or a tenth of the file system if that is less.
pub fn default_max_bytes(folder: &Path) -> u64 {
    let room = folder.ancestors().find_map(|folder| rustix::fs::statvfs(folder).ok());
    room.map_or(DEFAULT_MAX_BYTES, |room| (room.f_blocks * room.f_frsize / DEFAULT_PART).min(DEFAULT_MAX_BYTES))
}

/// A store with a cache.
pub struct CachedStore {
    fetcher: Arc<Fetcher>,
}

impl CachedStore {
    /// Keeps copies in a repository's cache folder, below `objects`, of at most `max_bytes`. Without a folder, with
    /// one that cannot be used, or with a bound of 0, up to 48 MiB are kept in memory.
    pub fn open(inner: Arc<dyn Store>, folder: Option<&Path>, max_bytes: u64) -> Self {
        CachedStore { fetcher: Arc::new(Fetcher::new(inner, SparseCopies::new(folder, max_bytes))) }
    }

    fn folder(&self) -> Option<&Folder> {
        self.fetcher.copies.folder.as_ref()
    }
}

/// What is kept of an object.
enum Copy {
    /// Nothing: it may change.
    None,
    /// All of it.
    Whole(ObjectId),
    /// What was read of it.
    Sparse,
}

fn copy_of(object: Object) -> Copy {
    match object {
        Object::Config => Copy::None,
        Object::Key(id) | Object::Snapshot(id) | Object::Mark(id) => Copy::Whole(id),
        Object::Pack(_) | Object::Index(_) => Copy::Sparse,
    }
}

impl Drop for CachedStore {
    fn drop(&mut self) {
        self.fetcher.close();
    }
}

impl Decorator for CachedStore {
    fn inner(&self) -> &dyn Store {
        &*self.fetcher.inner
    }

    fn read_at(&self, object: Object, offset: u64, buffer: &mut [u8], wait: Wait) -> Result<()> {
        match (copy_of(object), wait) {
            (Copy::Sparse, Wait::Never) if self.fetcher.peek(object, offset, buffer) => Ok(()),
            (_, Wait::Never) => Err(would_wait()),
            (Copy::Sparse, Wait::Allowed) => self.fetcher.read(object, offset, buffer),
            (_, Wait::Allowed) => self.inner().read_at(object, offset, buffer, wait),
        }
    }

    fn read_through(&self, object: Object, range: Range<u64>, each: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
        read_through_at_once(self, object, range, each)
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<ListedObject>> {
        let listed = self.inner().list(kind)?;
        if matches!(kind, ObjectKind::Pack | ObjectKind::Index) {
            listed
                .iter()
                .for_each(|ListedObject { id, len_bytes }| Decorator::expect_len(self, kind.object(*id), *len_bytes));
        }
        self.fetcher.copies.tidy();
        Ok(listed)
    }

    fn delete(&self, object: Object) -> Result<()> {
        self.inner().delete(object)?;
        self.fetcher.copies.remove(object);
        Ok(())
    }

    fn read_whole(&self, object: Object, max_bytes: u64) -> Result<Vec<u8>> {
        let (Copy::Whole(id), Some(folder)) = (copy_of(object), self.folder()) else {
            return self.inner().read_whole(object, max_bytes);
        };
        if let Some(bytes) = folder.read(object, id, max_bytes) {
            return Ok(bytes);
        }
        let bytes = self.inner().read_whole(object, max_bytes)?;
        if bytes.len() as u64 <= folder.max_bytes / SMALL_PART && ObjectId::of(&bytes) == id {
            folder.keep(object, &bytes);
        }
        Ok(bytes)
    }

    fn expect_len(&self, object: Object, len_bytes: u64) {
        self.fetcher.copies.expect_len(object, len_bytes);
    }

    fn want(&self, object: Object, range: Range<u64>) {
        let end = range.end.min(range.start.saturating_add(self.fetcher.max_wished_bytes()));
        if matches!(copy_of(object), Copy::Sparse) && range.start < end {
            self.fetcher.want(Prefetch { object, range: range.start..end, is_ahead: false });
        }
    }

    fn max_wanted_bytes(&self) -> u64 {
        self.fetcher.max_wished_bytes()
    }

    fn absent_bytes(&self, object: Object, range: Range<u64>) -> u64 {
        let copies = &self.fetcher.copies;
        let absent = match copy_of(object) {
            Copy::None => range,
            Copy::Whole(_) if self.folder().is_some_and(|folder| folder.has(object)) => 0..0,
            Copy::Whole(_) => range,
            Copy::Sparse => {
                let blocks = blocks_of(&range);
                let copy = copies.existing(object);
                let known = copy.as_ref().and_then(|copy| copy.state.lock().len_bytes());
                let len_bytes = known.or_else(|| copies.expected_len(object)).unwrap_or(range.end);
                match copy {
                    Some(copy) => return copy.absent_bytes(&blocks, len_bytes),
                    None => bytes_in(&blocks, len_bytes),
                }
            }
        };
        absent.end.saturating_sub(absent.start)
    }

    fn distrust(&self, object: Object, range: Range<u64>) -> bool {
        let copies = &self.fetcher.copies;
        match copy_of(object) {
            Copy::None => false,
            Copy::Whole(_) => copies.remove(object),
            // Whether the bytes came from a copy is not known any more: another reader may have had it fetched anew.
            Copy::Sparse => {
                if let Some(copy) = copies.existing(object) {
                    copies.distrust(&copy, &range);
                }
                true
            }
        }
    }

    fn copied_since_secs(&self, object: Object) -> Option<u64> {
        match copy_of(object) {
            Copy::None => None,
            Copy::Whole(_) => self.folder().is_some_and(|folder| folder.has(object)).then_some(0),
            Copy::Sparse => Some(self.fetcher.copies.existing(object)?.made_secs()),
        }
    }
}
