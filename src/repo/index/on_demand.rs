//! Index objects that stay far away: a lookup opens the pieces it needs, and those are kept.
//!
//! Ids are evenly spread, so where a chunk's record is can be told from its first bytes to within a few hundred
//! records: a lookup takes one or two pieces for the chunk, one for its frame and one for its pack.

use crate::crypto::seal::{Opener, TAG_BYTES};
use crate::crypto::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::header::{HEADER_BYTES, Header, Kind, MAX_SLOT_BYTES, PIECES_VERSION};
use crate::format::index::{ChunkEntry, FrameEntry, PackEntry, Tables, Window};
use crate::id::{ChunkId, ObjectId};
use crate::repo::index::location::Location;
use crate::repo::index::pieces::{Layout, PIECE_BYTES, check_head, number_at};
use crate::repo::index::segment::MAX_INDEX_BYTES;
use crate::store::fresh::with_fresh_copy;
use crate::store::{ListedObject, Object, Store, Wait};
use lru::LruCache;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Opened pieces that are kept in memory: 8 MiB.
const OPEN_PIECES: NonZeroUsize = NonZeroUsize::new(128).expect("not zero");
/// A table of packs of at most so many pieces is asked for whole: 5 461 packs.
const PACKS_PIECES: u64 = 4;
/// So many places of one chunk are looked at in an index object, which may name as many as its writer likes.
const MAX_PLACES: usize = 64;
/// What is read at first: the header, and the first piece.
const HEAD_BYTES: u64 = (HEADER_BYTES + MAX_SLOT_BYTES + TAG_BYTES) as u64 + PIECE_BYTES;

type PieceKey = (ObjectId, u32);

/// Opened pieces of all index objects, the most recently used.
pub struct OpenPieces(Mutex<LruCache<PieceKey, Arc<Vec<u8>>>>);

impl Default for OpenPieces {
    fn default() -> Self {
        OpenPieces(Mutex::new(LruCache::new(OPEN_PIECES)))
    }
}

impl OpenPieces {
    fn get(&self, id: ObjectId, number: u32) -> Option<Arc<Vec<u8>>> {
        self.0.lock().get(&(id, number)).cloned()
    }

    fn put(&self, id: ObjectId, number: u32, piece: Arc<Vec<u8>>) {
        self.0.lock().put((id, number), piece);
    }
}

/// An index object that is looked up where it is stored.
pub struct LazySegment {
    listed: ListedObject,
    store: Arc<dyn Store>,
    opener: Opener,
    layout: Layout,
    tables: Tables,
    opened: Arc<OpenPieces>,
    pack_bytes: OnceLock<u64>,
}

impl std::fmt::Debug for LazySegment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LazySegment").field("listed", &self.listed).field("tables", &self.tables).finish()
    }
}

impl LazySegment {
    /// Reads the head of an index object; `None` if it is not in pieces. A copy that does not verify is fetched anew,
    /// once.
    pub fn open(
        store: &Arc<dyn Store>,
        vault: &Vault,
        listed: ListedObject,
        opened: &Arc<OpenPieces>,
    ) -> Result<Option<Self>> {
        let object = Object::Index(listed.id);
        with_fresh_copy(&**store, object, 0..HEAD_BYTES.min(listed.len_bytes), || {
            Self::open_once(store, vault, listed, opened).map_err(|error| match error.kind() {
                ErrorKind::Damaged => Error::damaged(format!("Cannot read {object}")).because(error),
                _ => error,
            })
        })
    }

    fn open_once(
        store: &Arc<dyn Store>,
        vault: &Vault,
        listed: ListedObject,
        opened: &Arc<OpenPieces>,
    ) -> Result<Option<Self>> {
        let object = Object::Index(listed.id);
        store.expect_len(object, listed.len_bytes);
        let mut head = vec![0; HEAD_BYTES.min(listed.len_bytes) as usize];
        store.read_at(object, 0, &mut head, Wait::Allowed)?;
        let header = Header::decode(&head).map_err(|error| Error::damaged("It cannot be read").because(error))?;
        if !vault.is_of(&header, Kind::Index) {
            return Err(Error::damaged("It is an object of another kind or repository"));
        }
        if header.version != PIECES_VERSION {
            return Ok(None);
        }
        let layout = Layout::of_object(header.len_bytes() as u64, listed.len_bytes)
            .filter(|layout| layout.plain_bytes <= MAX_INDEX_BYTES as u64)
            .ok_or_else(|| Error::damaged("Its length is out of range"))?;
        let opener = vault.opener(&header).map_err(|error| Error::damaged("It does not verify").because(error))?;
        let first = layout.stored(0);
        let piece = layout.open(&opener, 0, &mut head[first.start as usize..first.end as usize])?.to_vec();
        let tables = check_head(&piece, &layout)?;
        opened.put(listed.id, 0, Arc::new(piece));
        let (store, opened) = (store.clone(), opened.clone());
        let segment = LazySegment { listed, store, opener, layout, tables, opened, pack_bytes: OnceLock::new() };
        segment.want(segment.packs_range());
        // The first piece has the packs of all but the strangest.
        let _ = segment.add_up_packs(Wait::Never);
        Ok(Some(segment))
    }

    /// Returns the index object.
    pub fn id(&self) -> ObjectId {
        self.listed.id
    }

    /// Returns the index object and its length.
    pub fn listed(&self) -> ListedObject {
        self.listed
    }

    /// Returns how long its packs are together, if that is known; never waits.
    pub fn pack_bytes(&self) -> Option<u64> {
        self.pack_bytes.get().copied()
    }

    /// Adds up how long its packs are, unless that is known.
    pub fn add_up_packs(&self, wait: Wait) -> Result<()> {
        if self.pack_bytes.get().is_some() {
            return Ok(());
        }
        let sum = (0..self.tables.packs).try_fold(0u64, |sum, at| {
            let pack = PackEntry::decode(&self.record(self.tables.pack_offset(at), wait)?);
            Ok::<_, Error>(pack.map_or(sum, |pack| sum.saturating_add(pack.len_bytes)))
        })?;
        self.pack_bytes.get_or_init(|| sum);
        Ok(())
    }

    fn packs_range(&self) -> Range<u64> {
        let (start, end) = (self.tables.pack_offset(0), self.tables.frame_offset(0));
        start..end.min(start + PACKS_PIECES * PIECE_BYTES)
    }

    /// Asks the store for the pieces of a range of the segment, unless they are opened.
    fn want(&self, plain: Range<u64>) {
        if plain.is_empty() {
            return;
        }
        let mut numbers = number_at(plain.start)..=number_at(plain.end - 1);
        if !numbers.all(|number| self.opened.0.lock().contains(&(self.listed.id, number))) {
            self.store.want(Object::Index(self.listed.id), self.layout.stored_range(&plain));
        }
    }

    /// Asks the store for the pieces where a chunk's record is but for one of 20 chunks.
    pub fn want_chunk(&self, id: &ChunkId) {
        let chunks = self.tables.chunks;
        let Some(guess) = Window::new(chunks, id).guess() else { return };
        // Of `chunks` ids drawn at random so many are below a given one, give or take three times the deviation
        // of the binomial distribution.
        let share = guess as f64 / chunks as f64;
        let off = (3.0 * (chunks as f64 * share * (1.0 - share)).sqrt()) as usize + 1;
        let records = guess.saturating_sub(off)..(guess + off).min(chunks);
        self.want(self.tables.chunk_offset(records.start)..self.tables.chunk_offset(records.end));
    }

    fn open_piece(&self, number: u32, wait: Wait) -> Result<Vec<u8>> {
        let (object, range) = (Object::Index(self.listed.id), self.layout.stored(number));
        let mut piece = vec![0; (range.end - range.start) as usize];
        self.store.read_at(object, range.start, &mut piece, wait)?;
        let plain_bytes = self
            .layout
            .open(&self.opener, number, &mut piece)
            .map_err(|error| Error::damaged(format!("{object} is damaged: run `bakfs check`")).because(error))?
            .len();
        piece.truncate(plain_bytes);
        Ok(piece)
    }

    /// Returns an opened piece. A copy that does not verify is fetched anew, once.
    fn piece(&self, number: u32, wait: Wait) -> Result<Arc<Vec<u8>>> {
        if let Some(piece) = self.opened.get(self.listed.id, number) {
            return Ok(piece);
        }
        let object = Object::Index(self.listed.id);
        let read = || self.open_piece(number, wait);
        let piece = Arc::new(with_fresh_copy(&*self.store, object, self.layout.stored(number), read)?);
        self.opened.put(self.listed.id, number, piece.clone());
        Ok(piece)
    }

    /// Reads a record, which may lie in two pieces.
    fn record<const N: usize>(&self, offset: u64, wait: Wait) -> Result<[u8; N]> {
        let mut record = [0; N];
        let mut filled = 0;
        while filled < N {
            let at = offset + filled as u64;
            let piece = self.piece(number_at(at), wait)?;
            let part = piece.get((at % PIECE_BYTES) as usize..).unwrap_or_default();
            let count = part.len().min(N - filled);
            if count == 0 {
                return Err(Error::damaged(format!("{} is too short", Object::Index(self.listed.id))));
            }
            record[filled..filled + count].copy_from_slice(&part[..count]);
            filled += count;
        }
        Ok(record)
    }

    fn id_at(&self, at: usize, wait: Wait) -> Result<[u8; 32]> {
        self.record(self.tables.chunk_offset(at), wait)
    }

    /// Returns the records that lie in one piece with this one's beginning, as positions.
    fn records_beside(&self, at: usize) -> (u32, Range<usize>) {
        let number = number_at(self.tables.chunk_offset(at));
        let (piece, table) = (self.layout.plain(number), self.tables.chunk_offset(0));
        let record_bytes = self.tables.chunk_offset(1) - table;
        let first = piece.start.saturating_sub(table).div_ceil(record_bytes);
        let end = piece.end.saturating_sub(table) / record_bytes;
        (number, first as usize..end as usize)
    }

    /// Finds the first record that is not before a chunk.
    fn first_not_before(&self, id: &ChunkId, wait: Wait) -> Result<usize> {
        let mut window = Window::new(self.tables.chunks, id);
        while let Some(guess) = window.guess() {
            let (number, beside) = self.records_beside(guess);
            if !beside.contains(&guess) {
                let found = self.id_at(guess, wait)?;
                if found < id.0 {
                    window.is_after(guess, &found);
                } else {
                    window.is_not_after(guess, &found);
                }
                continue;
            }
            let (first, end) = (beside.start.max(window.low), beside.end.min(window.high));
            let (piece, start) = (self.piece(number, wait)?, self.layout.plain(number).start);
            let id_at = |at: usize| {
                let from = (self.tables.chunk_offset(at) - start) as usize;
                piece.get(from..from + 32).unwrap_or_default()
            };
            let (mut low, mut high) = (first, end);
            while low < high {
                let middle = low + (high - low) / 2;
                if id_at(middle) < &id.0[..] { low = middle + 1 } else { high = middle }
            }
            if low > first {
                window.is_after(low - 1, id_at(low - 1));
            }
            if low < end {
                window.is_not_after(low, id_at(low));
            }
        }
        Ok(window.low)
    }

    /// Finds the places a chunk has here, of too many the first. A place whose records make no sense counts as none.
    pub fn find_all(&self, id: &ChunkId, wait: Wait) -> Result<Vec<Location>> {
        let mut places = Vec::new();
        for at in (self.first_not_before(id, wait)?..self.tables.chunks).take(MAX_PLACES) {
            if self.id_at(at, wait)? != id.0 {
                break;
            }
            let chunk = ChunkEntry::decode(&self.record(self.tables.chunk_offset(at), wait)?);
            places.extend(self.locate(chunk, wait)?);
        }
        Ok(places)
    }

    fn locate(&self, chunk: ChunkEntry, wait: Wait) -> Result<Option<Location>> {
        if chunk.frame as usize >= self.tables.frames {
            return Ok(None);
        }
        let offset = |at: usize| self.tables.frame_offset(at);
        if wait == Wait::Allowed {
            // The frame tells the pack; both are asked for at once.
            self.want(offset(chunk.frame as usize)..offset(chunk.frame as usize + 1));
            self.want(self.packs_range());
        }
        let frame = FrameEntry::decode(&self.record(offset(chunk.frame as usize), wait)?);
        let Some(frame) = frame.filter(|frame| (frame.pack as usize) < self.tables.packs) else { return Ok(None) };
        let pack = PackEntry::decode(&self.record(self.tables.pack_offset(frame.pack as usize), wait)?);
        Ok(pack.and_then(|pack| Location { pack, frame, chunk }.sensible()))
    }
}

/// Looks a chunk up in many segments: first in what is here of each, then in all others at the same time.
pub struct Probe<'a> {
    id: &'a ChunkId,
    wait: Wait,
    unseen: std::slice::Iter<'a, Arc<LazySegment>>,
    /// Segments that have to be waited for.
    waiting: VecDeque<&'a Arc<LazySegment>>,
    has_asked: bool,
    found: VecDeque<Result<Location>>,
}

impl<'a> Probe<'a> {
    /// Begins a lookup.
    pub fn new(segments: &'a [Arc<LazySegment>], id: &'a ChunkId, wait: Wait) -> Self {
        let (waiting, found) = (VecDeque::new(), VecDeque::new());
        Probe { id, wait, unseen: segments.iter(), waiting, has_asked: false, found }
    }
}

impl Iterator for Probe<'_> {
    type Item = Result<Location>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(found) = self.found.pop_front() {
                return Some(found);
            }
            let found = if let Some(segment) = self.unseen.next() {
                match segment.find_all(self.id, Wait::Never) {
                    Err(error) if error.kind() == ErrorKind::WouldWait => {
                        self.waiting.push_back(segment);
                        continue;
                    }
                    found => found,
                }
            } else if self.wait == Wait::Never && !self.waiting.is_empty() {
                self.waiting.clear();
                Err(Error::new(ErrorKind::WouldWait, "The index is not here yet"))
            } else {
                if !self.has_asked {
                    self.waiting.iter().for_each(|segment| segment.want_chunk(self.id));
                    self.has_asked = true;
                }
                self.waiting.pop_front()?.find_all(self.id, Wait::Allowed)
            };
            match found {
                Ok(places) => self.found.extend(places.into_iter().map(Ok)),
                Err(error) => self.found.push_back(Err(error)),
            }
        }
    }
}
