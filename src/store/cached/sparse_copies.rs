//! The sparse copies in use: files of the folder, or of memory where there is no folder.

use super::folder::{Folder, warn};
use super::sparse_copy::{MAX_OBJECT_BYTES, SparseCopy, blocks_of};
use crate::error::Error;
use crate::store::Object;
use lru::LruCache;
use parking_lot::Mutex;
use rustix::fs::MemfdFlags;
use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// SparseCopies that are kept open.
const MAX_OPEN: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
/// Objects whose length was told and that are not open.
const MAX_LENGTHS: NonZeroUsize = NonZeroUsize::new(8192).expect("not zero");
/// What may be kept in memory.
const MAX_MEMORY_BYTES: u64 = 48 << 20;

/// All sparse copies of a store.
#[derive(Debug)]
pub(super) struct SparseCopies {
    pub(super) folder: Option<Folder>,
    open: Mutex<LruCache<Object, Arc<SparseCopy>>>,
    lengths: Mutex<LruCache<Object, u64>>,
}

impl SparseCopies {
    /// Uses a folder. Without one, or a bound of 0, memory has to do.
    pub(super) fn new(folder: Option<&Path>, max_bytes: u64) -> Self {
        let folder = folder.filter(|_| max_bytes > 0).and_then(|path| {
            let path = path.join("objects");
            Folder::open(&path, max_bytes).inspect_err(|error| warn(&path, error)).ok()
        });
        let open = Mutex::new(LruCache::new(MAX_OPEN));
        SparseCopies { folder, open, lengths: Mutex::new(LruCache::new(MAX_LENGTHS)) }
    }

    /// Returns how much may be kept.
    pub(super) fn max_bytes(&self) -> u64 {
        self.folder.as_ref().map_or(MAX_MEMORY_BYTES, |folder| folder.max_bytes)
    }

    /// Takes in how long an object is said to be.
    pub(super) fn expect_len(&self, object: Object, len_bytes: u64) {
        self.lengths.lock().put(object, len_bytes);
    }

    /// Returns how long an object is said to be.
    pub(super) fn expected_len(&self, object: Object) -> Option<u64> {
        self.lengths.lock().get(&object).copied().filter(|len| *len <= MAX_OBJECT_BYTES)
    }

    /// Returns a sparse copy that is in use, without waiting.
    pub(super) fn in_use(&self, object: Object) -> Option<Arc<SparseCopy>> {
        self.open.lock().get(&object).cloned()
    }

    /// Returns the sparse copy of an object, if it has one.
    pub(super) fn existing(&self, object: Object) -> Option<Arc<SparseCopy>> {
        if let Some(copy) = self.in_use(object).filter(|copy| !copy.is_gone()) {
            return Some(copy);
        }
        let copy = self.folder.as_ref().filter(|folder| folder.is_usable())?.copy(object, false).ok()??;
        Some(self.enter(copy))
    }

    /// Returns the sparse copy of an object, making it; `None` if not even memory is to be had.
    pub(super) fn make(&self, object: Object) -> Option<Arc<SparseCopy>> {
        if let Some(copy) = self.in_use(object) {
            return Some(copy);
        }
        if let Some(folder) = self.folder.as_ref().filter(|folder| folder.is_usable()) {
            match folder.copy(object, true) {
                Ok(Some(copy)) => return Some(self.enter(copy)),
                Ok(None) => {}
                Err(error) => folder.fail(&error),
            }
        }
        let file = rustix::fs::memfd_create("bakfs", MemfdFlags::CLOEXEC).ok()?;
        Some(self.enter(SparseCopy::new(object, File::from(file), true).ok()?))
    }

    /// Adds a sparse copy, unless somebody else was faster.
    fn enter(&self, copy: SparseCopy) -> Arc<SparseCopy> {
        let mut open = self.open.lock();
        if let Some(other) = open.get(&copy.object)
            && !other.is_gone()
        {
            return other.clone();
        }
        let copy = Arc::new(copy);
        open.put(copy.object, copy.clone());
        copy
    }

    /// Uses a sparse copy no more.
    pub(super) fn leave(&self, copy: &Arc<SparseCopy>) {
        let mut open = self.open.lock();
        if open.peek(&copy.object).is_some_and(|other| Arc::ptr_eq(other, copy)) {
            open.pop(&copy.object);
        }
    }

    /// Removes the copy of an object.
    pub(super) fn remove(&self, object: Object) -> bool {
        let was_open = self.open.lock().pop(&object).is_some();
        self.folder.as_ref().is_some_and(|folder| folder.remove(object)) || was_open
    }

    /// Has room for bytes that came for a sparse copy: others may have to go, the sparse copy itself among them.
    pub(super) fn make_room(&self, copy: &SparseCopy, bytes: u64) {
        match &self.folder {
            Some(folder) if !copy.is_memory => {
                if folder.wrote(bytes) {
                    self.tidy();
                }
            }
            _ => self.bound_memory(bytes),
        }
    }

    fn bound_memory(&self, bytes: u64) {
        let mut open = self.open.lock();
        let held = |copy: &Arc<SparseCopy>| match copy.is_memory {
            true => copy.kept_bytes.load(Ordering::Relaxed),
            false => 0,
        };
        let mut total_bytes = bytes + open.iter().map(|(_, copy)| held(copy)).sum::<u64>();
        while total_bytes > MAX_MEMORY_BYTES {
            let oldest = open.iter().rev().find(|(_, copy)| copy.is_memory).map(|(object, _)| *object);
            let Some(copy) = oldest.and_then(|object| open.pop(&object)) else { return };
            total_bytes -= held(&copy);
        }
    }

    /// Gives up some of what there is, when the file system is full.
    pub(super) fn shrink(&self) {
        if let Some(folder) = &self.folder {
            folder.shrink();
            self.tidy();
        }
    }

    /// Takes that a sparse copy could not be written to: for a while memory has to do.
    pub(super) fn fail(&self, copy: &Arc<SparseCopy>, error: std::io::Error) {
        self.leave(copy);
        if let Some(folder) = self.folder.as_ref().filter(|_| !copy.is_memory) {
            folder.fail(&Error::io("Cannot write there", error));
        }
    }

    /// Forgets bytes that did not verify. A sparse copy that cannot forget them is passed by.
    pub(super) fn distrust(&self, copy: &Arc<SparseCopy>, range: &Range<u64>) {
        if let Err(error) = copy.distrust(&blocks_of(range)) {
            self.fail(copy, error);
        }
    }

    /// Closes sparse copies whose files were removed, so that their room is free.
    pub(super) fn tidy(&self) {
        let all: Vec<_> = self.open.lock().iter().map(|(_, copy)| copy.clone()).collect();
        all.iter().filter(|copy| copy.is_gone()).for_each(|copy| self.leave(copy));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ObjectId;

    #[test]
    fn a_copy_that_cannot_be_marked_as_wrong_is_passed_by() {
        let folder = tempfile::tempdir().unwrap();
        let copies = SparseCopies::new(Some(folder.path()), 1 << 30);
        let object = Object::Pack(ObjectId([1; 32]));
        let has = |copy: &SparseCopy| copy.state.lock().has(&(0..1));
        let copy = copies.make(object).unwrap();
        copy.write(0, &[7; 4096]).unwrap();
        copy.publish(&(0..1)).unwrap();
        copies.open.lock().clear();
        let path = std::fs::read_dir(folder.path().join("objects")).unwrap().next().unwrap().unwrap().path();
        // As one on a file system that has turned read-only.
        let copy = copies.enter(SparseCopy::new(object, File::open(path).unwrap(), false).unwrap());
        assert!(has(&copy));
        copies.distrust(&copy, &(0..10));
        assert!(copies.existing(object).is_none());
        let copy = copies.make(object).unwrap();
        assert!(copy.is_memory && !has(&copy));
    }
}
