//! The mirrors in use: files of the folder, or of memory where there is no folder.

use super::folder::{Folder, warn};
use super::mirror::{MAX_OBJECT_BYTES, Mirror, blocks_of};
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

/// Mirrors that are kept open.
const MAX_OPEN: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
/// Objects whose length was told and that are not open.
const MAX_LENGTHS: NonZeroUsize = NonZeroUsize::new(8192).expect("not zero");
/// What may be kept in memory.
const MAX_MEMORY_BYTES: u64 = 48 << 20;

/// All mirrors of a store.
#[derive(Debug)]
pub(super) struct Mirrors {
    pub(super) folder: Option<Folder>,
    open: Mutex<LruCache<Object, Arc<Mirror>>>,
    lengths: Mutex<LruCache<Object, u64>>,
}

impl Mirrors {
    /// Uses a folder. Without one, or a bound of 0, memory has to do.
    pub(super) fn new(folder: Option<&Path>, max_bytes: u64) -> Self {
        let folder = folder.filter(|_| max_bytes > 0).and_then(|path| {
            let path = path.join("objects");
            Folder::open(&path, max_bytes).inspect_err(|error| warn(&path, error)).ok()
        });
        let open = Mutex::new(LruCache::new(MAX_OPEN));
        Mirrors { folder, open, lengths: Mutex::new(LruCache::new(MAX_LENGTHS)) }
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

    /// Returns a mirror that is in use, without waiting.
    pub(super) fn in_use(&self, object: Object) -> Option<Arc<Mirror>> {
        self.open.lock().get(&object).cloned()
    }

    /// Returns the mirror of an object, if it has one.
    pub(super) fn existing(&self, object: Object) -> Option<Arc<Mirror>> {
        if let Some(mirror) = self.in_use(object).filter(|mirror| !mirror.is_gone()) {
            return Some(mirror);
        }
        let mirror = self.folder.as_ref().filter(|folder| folder.is_usable())?.mirror(object, false).ok()??;
        Some(self.enter(mirror))
    }

    /// Returns the mirror of an object, making it; `None` if not even memory is to be had.
    pub(super) fn make(&self, object: Object) -> Option<Arc<Mirror>> {
        if let Some(mirror) = self.in_use(object) {
            return Some(mirror);
        }
        if let Some(folder) = self.folder.as_ref().filter(|folder| folder.is_usable()) {
            match folder.mirror(object, true) {
                Ok(Some(mirror)) => return Some(self.enter(mirror)),
                Ok(None) => {}
                Err(error) => folder.fail(&error),
            }
        }
        let file = rustix::fs::memfd_create("bakfs", MemfdFlags::CLOEXEC).ok()?;
        Some(self.enter(Mirror::new(object, File::from(file), true).ok()?))
    }

    /// Adds a mirror, unless somebody else was faster.
    fn enter(&self, mirror: Mirror) -> Arc<Mirror> {
        let mut open = self.open.lock();
        if let Some(other) = open.get(&mirror.object)
            && !other.is_gone()
        {
            return other.clone();
        }
        let mirror = Arc::new(mirror);
        open.put(mirror.object, mirror.clone());
        mirror
    }

    /// Uses a mirror no more.
    pub(super) fn leave(&self, mirror: &Arc<Mirror>) {
        let mut open = self.open.lock();
        if open.peek(&mirror.object).is_some_and(|other| Arc::ptr_eq(other, mirror)) {
            open.pop(&mirror.object);
        }
    }

    /// Removes the copy of an object.
    pub(super) fn remove(&self, object: Object) -> bool {
        let was_open = self.open.lock().pop(&object).is_some();
        self.folder.as_ref().is_some_and(|folder| folder.remove(object)) || was_open
    }

    /// Has room for bytes that came for a mirror: others may have to go, the mirror itself among them.
    pub(super) fn make_room(&self, mirror: &Mirror, bytes: u64) {
        match &self.folder {
            Some(folder) if !mirror.is_memory => {
                if folder.wrote(bytes) {
                    self.tidy();
                }
            }
            _ => self.bound_memory(bytes),
        }
    }

    fn bound_memory(&self, bytes: u64) {
        let mut open = self.open.lock();
        let held = |mirror: &Arc<Mirror>| match mirror.is_memory {
            true => mirror.kept_bytes.load(Ordering::Relaxed),
            false => 0,
        };
        let mut total_bytes = bytes + open.iter().map(|(_, mirror)| held(mirror)).sum::<u64>();
        while total_bytes > MAX_MEMORY_BYTES {
            let oldest = open.iter().rev().find(|(_, mirror)| mirror.is_memory).map(|(object, _)| *object);
            let Some(mirror) = oldest.and_then(|object| open.pop(&object)) else { return };
            total_bytes -= held(&mirror);
        }
    }

    /// Gives up some of what there is, when the file system is full.
    pub(super) fn shrink(&self) {
        if let Some(folder) = &self.folder {
            folder.shrink();
            self.tidy();
        }
    }

    /// Takes that a mirror could not be written to: for a while memory has to do.
    pub(super) fn fail(&self, mirror: &Arc<Mirror>, error: std::io::Error) {
        self.leave(mirror);
        if let Some(folder) = self.folder.as_ref().filter(|_| !mirror.is_memory) {
            folder.fail(&Error::io("Cannot write there", error));
        }
    }

    /// Forgets bytes that did not verify. A mirror that cannot forget them is passed by.
    pub(super) fn distrust(&self, mirror: &Arc<Mirror>, range: &Range<u64>) {
        if let Err(error) = mirror.distrust(&blocks_of(range)) {
            self.fail(mirror, error);
        }
    }

    /// Closes mirrors whose files were removed, so that their room is free.
    pub(super) fn tidy(&self) {
        let all: Vec<_> = self.open.lock().iter().map(|(_, mirror)| mirror.clone()).collect();
        all.iter().filter(|mirror| mirror.is_gone()).for_each(|mirror| self.leave(mirror));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ObjectId;

    #[test]
    fn a_copy_that_cannot_be_marked_as_wrong_is_passed_by() {
        let folder = tempfile::tempdir().unwrap();
        let mirrors = Mirrors::new(Some(folder.path()), 1 << 30);
        let object = Object::Pack(ObjectId([1; 32]));
        let has = |mirror: &Mirror| mirror.state.lock().has(&(0..1));
        let mirror = mirrors.make(object).unwrap();
        mirror.write(0, &[7; 4096]).unwrap();
        mirror.publish(&(0..1)).unwrap();
        mirrors.open.lock().clear();
        let path = std::fs::read_dir(folder.path().join("objects")).unwrap().next().unwrap().unwrap().path();
        // As one on a file system that has turned read-only.
        let mirror = mirrors.enter(Mirror::new(object, File::open(path).unwrap(), false).unwrap());
        assert!(has(&mirror));
        mirrors.distrust(&mirror, &(0..10));
        assert!(mirrors.existing(object).is_none());
        let mirror = mirrors.make(object).unwrap();
        assert!(mirror.is_memory && !has(&mirror));
    }
}
