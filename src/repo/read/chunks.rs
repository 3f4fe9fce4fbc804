//! Reading chunks: from packs through decryption, decompression and verification, with a cache of frames.

use crate::crypto::seal::{FramePlace, Role};
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::Decoder;
use crate::id::{ChunkId, ObjectId};
use crate::repo::Repository;
use crate::repo::index::location::Location;
use crate::repo::read::chunk_kind::ChunkKind;
use crate::repo::read::pack::read_opener;
use crate::repo::read::verified::OpenPack;
use crate::store::fresh::with_fresh_copy;
use crate::store::{Object, Wait};
use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};
use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

/// Unwrapped keys of packs that are kept: 4 096 packs of 32 MiB are 128 GiB.
const MAX_OPENERS: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// How often a chunk that cannot be read is looked for anew. While an index object is damaged, or others write
/// and prune all the time, the index never stays as it was.
const MAX_LOOKS: u32 = 3;

type FrameKey = (ObjectId, u32);

/// A frame in the cache: filled once, by whoever comes first, while the others wait for it.
#[derive(Default)]
struct Slot(Mutex<Option<Arc<Vec<u8>>>>);

struct Slots {
    frames: LruCache<FrameKey, (Arc<Slot>, usize)>,
    used_bytes: usize,
}

/// Decoded frames, the most recently used, up to a number of bytes.
pub struct FrameCache {
    slots: Mutex<Slots>,
    budget_bytes: usize,
}

impl FrameCache {
    /// Makes a cache of at most `budget_bytes` and one frame.
    pub fn new(budget_bytes: usize) -> Self {
        FrameCache { slots: Mutex::new(Slots { frames: LruCache::unbounded(), used_bytes: 0 }), budget_bytes }
    }

    fn slot(&self, key: FrameKey, plain_bytes: usize) -> Arc<Slot> {
        let mut slots = self.slots.lock();
        if let Some((slot, _)) = slots.frames.get(&key) {
            return slot.clone();
        }
        while slots.used_bytes + plain_bytes > self.budget_bytes {
            let Some((_, (_, bytes))) = slots.frames.pop_lru() else {
                break;
            };
            slots.used_bytes -= bytes;
        }
        let slot = Arc::new(Slot::default());
        slots.frames.put(key, (slot.clone(), plain_bytes));
        slots.used_bytes += plain_bytes;
        slot
    }
}

/// Pack keys that were unwrapped.
pub struct Openers(Mutex<LruCache<ObjectId, Arc<OpenPack>>>);

impl Default for Openers {
    fn default() -> Self {
        Openers(Mutex::new(LruCache::new(MAX_OPENERS)))
    }
}

#[derive(Default)]
struct Scratch {
    sealed: Vec<u8>,
    decoder: Decoder,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn would_wait() -> Error {
    Error::new(ErrorKind::WouldWait, "The frame is being read by another thread")
}

impl Repository {
    /// Returns whether a failure tells of what is stored. That of a network, a mount or a right tells of the way there,
    /// and that of a disk of the disk: nothing is damaged or lost by it.
    pub fn is_damage(&self, error: &Error) -> bool {
        matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Foreign | ErrorKind::NotFound)
    }

    /// Returns whether nothing new may rely on what a read has failed of: it is damaged, or a disk does not give it.
    fn casts_doubt(&self, error: &Error) -> bool {
        self.is_damage(error) || (!self.store.is_far() && error.os_error() == Some(libc::EIO))
    }

    fn open_pack(&self, location: &Location, wait: Wait) -> Result<Arc<OpenPack>> {
        if let Some(pack) = self.caches.openers.0.lock().get(&location.pack.id) {
            return Ok(pack.clone());
        }
        let opener = read_opener(&*self.store, &self.vault, &location.pack, wait)?;
        let pack = Arc::new(OpenPack::new(opener, location.pack));
        self.caches.openers.0.lock().put(location.pack.id, pack.clone());
        Ok(pack)
    }

    /// Appends a frame's verified plaintext to `out`. A copy that does not verify is fetched anew, once.
    fn decode_frame(&self, location: &Location, wait: Wait, out: &mut Vec<u8>) -> Result<()> {
        let (start, frame) = (out.len(), &location.frame);
        let range = u64::from(frame.offset)..u64::from(frame.offset) + u64::from(frame.stored_bytes);
        with_fresh_copy(&*self.store, Object::Pack(location.pack.id), range, || {
            out.truncate(start);
            self.decode_stored_frame(location, wait, out)
        })
    }

    fn decode_stored_frame(&self, location: &Location, wait: Wait, out: &mut Vec<u8>) -> Result<()> {
        let pack = self.open_pack(location, wait)?;
        let frame = &location.frame;
        let object = Object::Pack(location.pack.id);
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.sealed.resize(frame.stored_bytes as usize, 0);
            self.store.read_at(object, u64::from(frame.offset), &mut scratch.sealed, wait)?;
            let place = FramePlace {
                role: Role::Frame,
                number: frame.number,
                codec: frame.codec,
                plain_bytes: frame.plain_bytes,
            };
            let damaged = |error: Box<dyn std::error::Error + Send + Sync>| {
                Error::damaged(format!("Frame {} of {object} does not verify: run `bakfs check`", frame.number))
                    .because(error)
            };
            let encoded = pack.opener.open(place, &mut scratch.sealed).map_err(|error| damaged(error.into()))?;
            scratch
                .decoder
                .decode(frame.codec, encoded, frame.plain_bytes as usize, out)
                .map_err(|error| damaged(error.into()))?;
            pack.saw(frame, &self.caches.reads);
            Ok(())
        })
    }

    fn cached_frame(&self, location: &Location, wait: Wait) -> Result<Arc<Vec<u8>>> {
        let key = (location.pack.id, location.frame.number);
        let slot = self.caches.frames.slot(key, location.frame.plain_bytes as usize);
        let mut state: MutexGuard<'_, _> = match wait {
            Wait::Never => slot.0.try_lock().ok_or_else(would_wait)?,
            Wait::Allowed => slot.0.lock(),
        };
        if let Some(frame) = &*state {
            return Ok(frame.clone());
        }
        let mut bytes = Vec::with_capacity(location.frame.plain_bytes as usize);
        self.decode_frame(location, wait, &mut bytes)?;
        let frame = Arc::new(bytes);
        *state = Some(frame.clone());
        Ok(frame)
    }

    fn verify(&self, kind: ChunkKind, id: &ChunkId, bytes: &[u8], location: &Location) -> Result<()> {
        let found = match kind {
            ChunkKind::Data => self.keys().chunk_id(bytes),
            ChunkKind::Page => self.keys().page_id(bytes),
        };
        if found == *id {
            return Ok(());
        }
        Err(Error::damaged(format!(
            "Chunk {id} in {} is not what its id says: run `bakfs check`",
            Object::Pack(location.pack.id)
        )))
    }

    fn read_from(
        &self,
        kind: ChunkKind,
        location: &Location,
        range: Range<usize>,
        wait: Wait,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let chunk = &location.chunk;
        let len = chunk.len_bytes as usize;
        if location.pack.kind != kind.pack_kind() || range.end > len {
            return Err(Error::damaged(format!("Chunk {} is of another kind or length than its use says", chunk.id)));
        }
        let start = out.len();
        let alone = chunk.len_bytes == location.frame.plain_bytes;
        if alone && range == (0..len) {
            // A whole frame goes straight to the reader: nobody else needs it soon.
            self.decode_frame(location, wait, out)?;
            return self.verify(kind, &chunk.id, &out[start..], location);
        }
        let frame = self.cached_frame(location, wait)?;
        let bytes = &frame[chunk.offset as usize..chunk.offset as usize + len];
        self.verify(kind, &chunk.id, bytes, location)?;
        out.extend_from_slice(&bytes[range]);
        Ok(())
    }

    /// Returns whether a chunk can be read at one of its places; an error if nobody can tell.
    pub fn is_readable_at(&self, kind: ChunkKind, location: &Location) -> Result<bool> {
        let mut bytes = Vec::new();
        match self.read_from(kind, location, 0..location.chunk.len_bytes as usize, Wait::Allowed, &mut bytes) {
            Ok(()) => Ok(true),
            Err(error) if self.is_damage(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Appends a range of a chunk to `out`, verified. Other places of the chunk are tried when one is damaged.
    pub fn read_chunk(
        &self,
        kind: ChunkKind,
        id: &ChunkId,
        range: Range<usize>,
        wait: Wait,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let start = out.len();
        let mut looks = MAX_LOOKS;
        loop {
            let index = self.index();
            let mut failure = None;
            let mut failed = Vec::new();
            for place in index.places(id, wait) {
                let location = place.as_ref().ok().copied();
                match place.and_then(|location| self.read_from(kind, &location, range.clone(), wait, out)) {
                    Ok(()) => {
                        failed.into_iter().for_each(|pack| self.caches.reads.suspect(pack));
                        return Ok(());
                    }
                    Err(error) if error.kind() == ErrorKind::WouldWait => {
                        out.truncate(start);
                        return Err(error);
                    }
                    Err(error) => {
                        out.truncate(start);
                        let blamed = location.filter(|_| self.casts_doubt(&error));
                        failed.extend(blamed.map(|location| location.pack.id));
                        failure.get_or_insert(error);
                    }
                }
            }
            if wait == Wait::Never {
                return Err(would_wait());
            }
            let is_doubtful = failure.as_ref().is_none_or(|error| self.is_damage(error));
            // A prune may have moved the chunk since the index was read. The cached index itself may be wrong: it
            // is made again once before the repository is blamed.
            if looks > 0 && is_doubtful && (self.refresh_stale_index(&index)? || self.distrust_cache(&index)?) {
                looks -= 1;
                continue;
            }
            failed.into_iter().for_each(|pack| self.caches.reads.suspect(pack));
            let missing = || Error::damaged(format!("Chunk {id} is in no index: run `bakfs check`"));
            return Err(failure.unwrap_or_else(missing));
        }
    }
}
