//! What reading tells about packs: which frames of them verified, so that a pack read whole by and by
//! counts as verified; and which packs looked damaged, so that nothing new relies on them.
//!
//! Cost: a bit a frame and an uncontended lock per frame that is decoded; about 300 bytes a pack.

use crate::clock::now_secs;
use crate::crypto::seal::Opener;
use crate::format::index::{FrameEntry, PackEntry};
use crate::id::{ChunkId, ObjectId};
use crate::repo::Repository;
use crate::repo::parallel;
use crate::repo::read::chunk_kind::ChunkKind;
use crate::repo::read::ledger::Ledger;
use crate::repo::read::pack::read_directory;
use crate::store::{Object, Wait};
use parking_lot::{Mutex, RwLock};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Packs that may be complete and wait for a look at their directory.
const MAX_CANDIDATES: usize = 1 << 16;

/// Frames of a pack that verified.
#[derive(Default)]
struct Seen {
    since_secs: u64,
    bits: Vec<u64>,
    frames: u32,
    stored_bytes: u64,
    is_candidate: bool,
    /// How many there were when the pack was looked at last.
    looked_frames: u32,
    /// How many the pack has, once its directory was read.
    all_frames: Option<usize>,
}

/// A pack whose key is unwrapped.
pub struct OpenPack {
    /// Opens its frames.
    pub opener: Opener,
    entry: PackEntry,
    seen: Mutex<Seen>,
}

/// What reads told since they were last written down.
#[derive(Default)]
pub struct Reads {
    candidates: Mutex<Vec<Arc<OpenPack>>>,
    suspects: RwLock<HashSet<ObjectId>>,
    has_suspects: AtomicBool,
    has_news: AtomicBool,
}

impl OpenPack {
    /// Makes one of which nothing was read yet.
    pub fn new(opener: Opener, entry: PackEntry) -> Self {
        OpenPack { opener, entry, seen: Mutex::default() }
    }

    /// Notes that a frame was read from the store and verified.
    pub fn saw(self: &Arc<Self>, frame: &FrameEntry, reads: &Reads) {
        let mut seen = self.seen.lock();
        let (word, bit) = (frame.number as usize / 64, 1 << (frame.number % 64));
        // No frame is shorter than its seal: what lies beyond is no number of a frame.
        if u64::from(frame.number) > self.entry.len_bytes / 16 {
            return;
        }
        if seen.bits.len() <= word {
            seen.bits.resize(word + 1, 0);
        }
        if seen.bits[word] & bit != 0 {
            return;
        }
        if seen.frames == 0 {
            seen.since_secs = now_secs();
        }
        seen.bits[word] |= bit;
        seen.frames += 1;
        seen.stored_bytes += u64::from(frame.stored_bytes);
        if !seen.is_candidate && seen.stored_bytes >= self.entry.len_bytes / 2 {
            seen.is_candidate = true;
            drop(seen);
            let mut candidates = reads.candidates.lock();
            if candidates.len() < MAX_CANDIDATES {
                candidates.push(self.clone());
            }
        }
    }

    /// Returns since when all of the pack was verified, and begins anew; `None` if something is left.
    fn complete(&self, repository: &Repository) -> Option<u64> {
        let all_frames = self.look(repository)?;
        let mut seen = self.seen.lock();
        (seen.frames as usize == all_frames).then(|| std::mem::take(&mut *seen).since_secs)
    }

    /// Returns how many frames the pack has, by its own directory, which is read and so verified too. Only a pack of
    /// which more was read since the last time is looked at.
    fn look(&self, repository: &Repository) -> Option<usize> {
        {
            let mut seen = self.seen.lock();
            if seen.all_frames.is_some() || seen.looked_frames == seen.frames {
                return seen.all_frames;
            }
            seen.looked_frames = seen.frames;
        }
        let (store, id, len_bytes) = (&*repository.store, self.entry.id, self.entry.len_bytes);
        let object = Object::Pack(id);
        // What was read from a copy verifies what was stored when the copy was made.
        let copied_secs = store.copied_since_secs(object).unwrap_or(u64::MAX);
        // Far away no question is spent on the length: a directory is found at no other.
        if !store.is_far() && store.len_bytes(object).ok()? != len_bytes {
            return None;
        }
        let (_, directory) = read_directory(store, &repository.vault, id, len_bytes).ok()?;
        let mut seen = self.seen.lock();
        seen.since_secs = seen.since_secs.min(copied_secs);
        seen.all_frames = Some(directory.frames.len());
        seen.all_frames
    }
}

impl Reads {
    /// Takes that something of a pack cannot be read.
    pub fn suspect(&self, pack: ObjectId) {
        if self.suspects.write().insert(pack) {
            self.has_news.store(true, Ordering::Relaxed);
        }
        self.has_suspects.store(true, Ordering::Release);
    }

    /// Returns whether any pack looked damaged.
    pub fn has_suspects(&self) -> bool {
        self.has_suspects.load(Ordering::Acquire)
    }

    /// Returns whether a pack looked damaged.
    pub fn is_suspect(&self, pack: &ObjectId) -> bool {
        self.has_suspects() && self.suspects.read().contains(pack)
    }
}

impl Repository {
    /// Returns whether a chunk is stored where something new may rely on it. Once damage was met nothing is
    /// believed that is not read.
    pub fn may_rely_on(&self, kind: ChunkKind, id: &ChunkId, len_bytes: usize) -> bool {
        if !self.holds(id) {
            return false;
        }
        let mut bytes = Vec::new();
        !self.caches.reads.has_suspects()
            || (self.read_chunk(kind, id, 0..len_bytes, Wait::Allowed, &mut bytes).is_ok() && self.holds(id))
    }

    /// Takes in which packs looked damaged to earlier commands of this machine. Those the index does not
    /// name any more were repaired, or removed by a prune.
    pub fn load_suspects(&self) {
        let Some(ledger) = self.ledger() else { return };
        let mut known: HashSet<_> = ledger.load().suspects().collect();
        if known.is_empty() {
            return;
        }
        let named: HashSet<_> = self.index().packs().map(|pack| pack.id).filter(|pack| known.contains(pack)).collect();
        known.retain(|pack| named.contains(pack));
        known.into_iter().for_each(|pack| self.caches.reads.suspect(pack));
    }

    /// Returns the packs that looked damaged.
    pub fn suspects(&self) -> Vec<ObjectId> {
        self.caches.reads.suspects.read().iter().copied().collect()
    }

    /// Returns the ledger in this repository's cache.
    pub fn ledger(&self) -> Option<Ledger> {
        self.cache.as_ref().map(Ledger::of)
    }

    /// Writes down what reads told since the last time: packs that were read whole, and those that looked
    /// damaged. Long-lived readers do so now and then, others at their end.
    pub fn note_reads(&self) {
        let Some(ledger) = self.ledger() else { return };
        let candidates = std::mem::take(&mut *self.caches.reads.candidates.lock());
        let looks = parallel::for_each(&*self.store, parallel::SMALL, &candidates, |pack| Ok(pack.complete(self)));
        let (mut whole, mut waiting) = (Vec::new(), Vec::new());
        for (pack, since_secs) in candidates.into_iter().zip(looks.unwrap_or_default()) {
            match since_secs {
                Some(since_secs) => whole.push((pack.entry, since_secs)),
                // More may be read of it for as long as its key is kept.
                None if Arc::strong_count(&pack) > 1 => waiting.push(pack),
                None => {}
            }
        }
        self.caches.reads.candidates.lock().extend(waiting);
        let has_news = self.caches.reads.has_news.swap(false, Ordering::Relaxed);
        if whole.is_empty() && !has_news {
            return;
        }
        let suspects = if has_news { self.suspects() } else { Vec::new() };
        let written = ledger.update(|records| {
            for (pack, since_secs) in &whole {
                records.read(pack.id, pack.len_bytes, *since_secs);
            }
            for pack in &suspects {
                records.suspect(*pack, now_secs());
            }
        });
        if !written && has_news {
            self.caches.reads.has_news.store(true, Ordering::Relaxed);
        }
    }
}
