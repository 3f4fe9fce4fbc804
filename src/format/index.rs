//! Index segments: which pack, frame and place a chunk has. Looked up in place, in stored or mapped bytes.
//!
//! ```text
//!  0  8  "BAKFSIDX"          16  4  frames (F)
//!  8  4  version (1)         20  4  chunks (C)
//! 12  4  packs (P)           24 40  0
//! 64     P packs:  id (32), kind (1), 0 (7), length (8)
//!        F frames: pack (4), number (4), offset (4), stored length (4), plaintext length (4), codec (1), 0 (3)
//!        C chunks: id (32), frame (4), offset (4), length (4); sorted by id
//! ```

use super::codec::DecodeError;
use super::frame::MAX_FRAME_BYTES;
use super::header::Kind;
use super::pack::{u32_at, u64_at};
use crate::id::{ChunkId, ObjectId};

const SEGMENT_MAGIC: &[u8; 8] = b"BAKFSIDX";
const HEAD_BYTES: usize = 64;
const PACK_BYTES: usize = 48;
const FRAME_BYTES: usize = 24;
const CHUNK_BYTES: usize = 44;
/// After so many guesses by the first bytes of an id the middle is guessed.
const MAX_INTERPOLATIONS: u32 = 4;

/// One pack of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackEntry {
    /// The pack.
    pub id: ObjectId,
    /// [`Kind::DataPack`] or [`Kind::TreePack`].
    pub kind: Kind,
    /// Its whole length.
    pub len_bytes: u64,
}

/// One frame of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameEntry {
    /// Position of its pack in the segment.
    pub pack: u32,
    /// Its number in the pack.
    pub number: u32,
    /// From the start of the pack.
    pub offset: u32,
    /// With the seal.
    pub stored_bytes: u32,
    /// After decoding.
    pub plain_bytes: u32,
    /// How it is encoded.
    pub codec: u8,
}

/// One chunk of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkEntry {
    /// The chunk.
    pub id: ChunkId,
    /// Position of its frame in the segment.
    pub frame: u32,
    /// From the start of the frame's plaintext.
    pub offset: u32,
    /// Its length.
    pub len_bytes: u32,
}

/// A segment being made.
#[derive(Debug, Default, Clone)]
pub struct SegmentBuilder {
    /// Packs, in any order.
    pub packs: Vec<PackEntry>,
    /// Frames, in any order.
    pub frames: Vec<FrameEntry>,
    /// Chunks, in any order.
    pub chunks: Vec<ChunkEntry>,
}

fn count(len: usize) -> u32 {
    u32::try_from(len).expect("a segment holds fewer than 2^32 records")
}

impl SegmentBuilder {
    /// Sorts the chunks and encodes the segment.
    pub fn encode(mut self) -> Vec<u8> {
        self.chunks.sort_unstable_by_key(|chunk| chunk.id);
        let mut bytes = segment_head(self.packs.len(), self.frames.len(), self.chunks.len()).to_vec();
        bytes
            .reserve(self.packs.len() * PACK_BYTES + self.frames.len() * FRAME_BYTES + self.chunks.len() * CHUNK_BYTES);
        for pack in &self.packs {
            bytes.extend_from_slice(&pack.encode());
        }
        for frame in &self.frames {
            bytes.extend_from_slice(&frame.encode());
        }
        for chunk in &self.chunks {
            bytes.extend_from_slice(&chunk.encode());
        }
        bytes
    }
}

/// Encodes the head of a segment.
pub fn segment_head(packs: usize, frames: usize, chunks: usize) -> [u8; HEAD_BYTES] {
    let mut bytes = [0; HEAD_BYTES];
    bytes[..8].copy_from_slice(SEGMENT_MAGIC);
    bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
    bytes[12..16].copy_from_slice(&count(packs).to_le_bytes());
    bytes[16..20].copy_from_slice(&count(frames).to_le_bytes());
    bytes[20..24].copy_from_slice(&count(chunks).to_le_bytes());
    bytes
}

impl PackEntry {
    /// Encodes one record.
    pub fn encode(&self) -> [u8; PACK_BYTES] {
        let mut bytes = [0; PACK_BYTES];
        bytes[..32].copy_from_slice(&self.id.0);
        bytes[32] = self.kind as u8;
        bytes[40..].copy_from_slice(&self.len_bytes.to_le_bytes());
        bytes
    }

    /// Decodes one record; `None` if its kind is no pack's.
    pub fn decode(record: &[u8; PACK_BYTES]) -> Option<Self> {
        let kind = match record[32] {
            3 => Kind::DataPack,
            4 => Kind::TreePack,
            _ => return None,
        };
        let id = ObjectId(*record.first_chunk().expect("32 bytes"));
        Some(PackEntry { id, kind, len_bytes: u64_at(record, 40) })
    }
}

impl FrameEntry {
    /// Encodes one record.
    pub fn encode(&self) -> [u8; FRAME_BYTES] {
        let mut bytes = [0; FRAME_BYTES];
        let words = [self.pack, self.number, self.offset, self.stored_bytes, self.plain_bytes];
        for (at, word) in words.into_iter().enumerate() {
            bytes[at * 4..at * 4 + 4].copy_from_slice(&word.to_le_bytes());
        }
        bytes[20] = self.codec;
        bytes
    }

    /// Decodes one record; `None` if no frame is so long.
    pub fn decode(record: &[u8; FRAME_BYTES]) -> Option<Self> {
        let [pack, number, offset, stored_bytes, plain_bytes] = [0, 4, 8, 12, 16].map(|at| u32_at(record, at));
        let is_sane = plain_bytes as usize <= MAX_FRAME_BYTES && stored_bytes as usize <= MAX_FRAME_BYTES + 4096;
        is_sane.then_some(FrameEntry { pack, number, offset, stored_bytes, plain_bytes, codec: record[20] })
    }
}

impl ChunkEntry {
    /// Encodes one record.
    pub fn encode(&self) -> [u8; CHUNK_BYTES] {
        let mut bytes = [0; CHUNK_BYTES];
        bytes[..32].copy_from_slice(&self.id.0);
        bytes[32..36].copy_from_slice(&self.frame.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.offset.to_le_bytes());
        bytes[40..].copy_from_slice(&self.len_bytes.to_le_bytes());
        bytes
    }

    /// Decodes one record.
    pub fn decode(record: &[u8; CHUNK_BYTES]) -> Self {
        ChunkEntry {
            id: ChunkId(*record.first_chunk().expect("32 bytes")),
            frame: u32_at(record, 32),
            offset: u32_at(record, 36),
            len_bytes: u32_at(record, 40),
        }
    }
}

/// How long the tables of a segment are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tables {
    /// Number of packs.
    pub packs: usize,
    /// Number of frames.
    pub frames: usize,
    /// Number of chunks.
    pub chunks: usize,
}

impl Tables {
    /// Reads the head of a segment.
    pub fn decode(head: &[u8]) -> Result<Self, DecodeError> {
        if head.len() < HEAD_BYTES || head[..8] != *SEGMENT_MAGIC || u32_at(head, 8) != 1 {
            return Err(wrong("it does not start like one"));
        }
        let [packs, frames, chunks] = [12, 16, 20].map(|at| u32_at(head, at) as usize);
        Ok(Tables { packs, frames, chunks })
    }

    /// Returns where a pack is in the segment.
    pub fn pack_offset(&self, at: usize) -> u64 {
        HEAD_BYTES as u64 + at as u64 * PACK_BYTES as u64
    }

    /// Returns where a frame is in the segment.
    pub fn frame_offset(&self, at: usize) -> u64 {
        self.pack_offset(self.packs) + at as u64 * FRAME_BYTES as u64
    }

    /// Returns where a chunk is in the segment.
    pub fn chunk_offset(&self, at: usize) -> u64 {
        self.frame_offset(self.frames) + at as u64 * CHUNK_BYTES as u64
    }

    /// Returns the length of the segment.
    pub fn segment_bytes(&self) -> u64 {
        self.chunk_offset(self.chunks)
    }
}

/// The records among which a chunk is looked for. Ids are evenly spread, so a guess by its first bytes is near it;
/// after a few the middle is guessed, so that no choice of ids makes it slow.
#[derive(Debug, Clone)]
pub struct Window {
    /// The first record that may be it.
    pub low: usize,
    /// The end of those that may be it.
    pub high: usize,
    wanted: u64,
    prefixes: (u64, u64),
    guesses: u32,
}

fn prefix(id: &[u8]) -> u64 {
    u64_at(id, 0).swap_bytes()
}

impl Window {
    /// Begins with all records.
    pub fn new(chunks: usize, id: &ChunkId) -> Self {
        Window { low: 0, high: chunks, wanted: prefix(&id.0), prefixes: (0, u64::MAX), guesses: 0 }
    }

    /// Guesses a record, or `None` if none is left.
    pub fn guess(&mut self) -> Option<usize> {
        let records = self.high.checked_sub(self.low).filter(|records| *records > 0)?;
        let (low_prefix, high_prefix) = self.prefixes;
        self.guesses += 1;
        if self.guesses > MAX_INTERPOLATIONS || high_prefix <= low_prefix || self.wanted < low_prefix {
            return Some(self.low + records / 2);
        }
        let share = u128::from(self.wanted - low_prefix) * records as u128;
        Some(self.low + ((share / (u128::from(high_prefix - low_prefix) + 1)) as usize).min(records - 1))
    }

    /// Takes that a record is before the one looked for.
    pub fn is_after(&mut self, at: usize, id: &[u8]) {
        (self.low, self.prefixes.0) = (at + 1, prefix(id));
    }

    /// Takes that the one looked for is not after a record.
    pub fn is_not_after(&mut self, at: usize, id: &[u8]) {
        (self.high, self.prefixes.1) = (at, prefix(id));
    }
}

/// A segment's bytes, wherever they are, with lookups that read them in place.
#[derive(Debug, Clone)]
pub struct Segment<B> {
    bytes: B,
    tables: Tables,
}

fn wrong(reason: &str) -> DecodeError {
    DecodeError { what: "index segment", reason: reason.into() }
}

impl<B: AsRef<[u8]>> Segment<B> {
    /// Checks that the tables fill the first `len` bytes exactly; records are checked when they are read.
    pub fn new(bytes: B, len: usize) -> Result<Self, DecodeError> {
        let tables = Tables::decode(bytes.as_ref().get(..len).unwrap_or_default())?;
        if tables.segment_bytes() != len as u64 {
            return Err(wrong("its length does not fit its counts"));
        }
        Ok(Segment { bytes, tables })
    }

    /// Returns what holds the segment.
    pub fn bytes(&self) -> &B {
        &self.bytes
    }

    /// Returns the segment's own bytes.
    pub fn encoded_bytes(&self) -> &[u8] {
        &self.bytes.as_ref()[..self.tables.segment_bytes() as usize]
    }

    /// Returns the number of packs.
    pub fn pack_count(&self) -> usize {
        self.tables.packs
    }

    /// Returns the number of frames.
    pub fn frame_count(&self) -> usize {
        self.tables.frames
    }

    /// Returns the number of chunks.
    pub fn chunk_count(&self) -> usize {
        self.tables.chunks
    }

    fn record<const N: usize>(&self, offset: u64) -> &[u8; N] {
        self.bytes.as_ref()[offset as usize..].first_chunk().expect("the tables fill the segment")
    }

    /// Returns one pack; `None` if there is no such position or its kind is no pack's.
    pub fn pack(&self, at: usize) -> Option<PackEntry> {
        (at < self.tables.packs).then(|| PackEntry::decode(self.record(self.tables.pack_offset(at))))?
    }

    /// Returns one frame; `None` if there is no such position or its record makes no sense.
    pub fn frame(&self, at: usize) -> Option<FrameEntry> {
        let frame =
            (at < self.tables.frames).then(|| FrameEntry::decode(self.record(self.tables.frame_offset(at))))??;
        ((frame.pack as usize) < self.tables.packs).then_some(frame)
    }

    /// Returns one chunk; `None` if there is no such position.
    pub fn chunk(&self, at: usize) -> Option<ChunkEntry> {
        (at < self.tables.chunks).then(|| ChunkEntry::decode(self.record(self.tables.chunk_offset(at))))
    }

    /// Finds a chunk.
    pub fn find(&self, id: &ChunkId) -> Option<ChunkEntry> {
        self.chunk(self.position(id)?)
    }

    /// Finds every record of a chunk: packs that were written at the same time may hold the same one.
    pub fn find_all<'a>(&'a self, id: &'a ChunkId) -> impl Iterator<Item = ChunkEntry> + 'a {
        self.positions(id).filter_map(|at| self.chunk(at))
    }

    /// Finds the positions of every record of a chunk.
    pub fn positions(&self, id: &ChunkId) -> std::ops::Range<usize> {
        let Some(found) = self.position(id) else { return 0..0 };
        let is_it = |at: &usize| self.chunk(*at).is_some_and(|chunk| chunk.id == *id);
        let first = (0..found).rev().take_while(is_it).last().unwrap_or(found);
        let end = (found + 1..self.tables.chunks).take_while(is_it).last().map_or(found + 1, |last| last + 1);
        first..end
    }

    /// Finds a record of a chunk.
    fn position(&self, id: &ChunkId) -> Option<usize> {
        let mut window = Window::new(self.tables.chunks, id);
        while let Some(at) = window.guess() {
            let found: &[u8; 32] = self.record(self.tables.chunk_offset(at));
            match found.cmp(&id.0) {
                std::cmp::Ordering::Equal => return Some(at),
                std::cmp::Ordering::Less => window.is_after(at, found),
                std::cmp::Ordering::Greater => window.is_not_after(at, found),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> ChunkId {
        ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    #[test]
    fn finds_every_chunk_and_no_other() {
        for chunks in [0, 1, 2, 3, 100, 5000] {
            let mut builder = SegmentBuilder::default();
            builder.packs.push(PackEntry { id: ObjectId([5; 32]), kind: Kind::DataPack, len_bytes: 77 });
            builder.frames.push(FrameEntry {
                pack: 0,
                number: 3,
                offset: 64,
                stored_bytes: 10,
                plain_bytes: 20,
                codec: 1,
            });
            for n in 0..chunks {
                builder.chunks.push(ChunkEntry { id: id(n), frame: 0, offset: n, len_bytes: 1 });
            }
            let bytes = builder.encode();
            let len = bytes.len();
            let segment = Segment::new(bytes, len).unwrap();
            for n in 0..chunks {
                assert_eq!(segment.find(&id(n)).unwrap().offset, n);
            }
            for n in chunks..chunks + 100 {
                assert!(segment.find(&id(n)).is_none());
            }
            assert!(segment.find(&ChunkId([0; 32])).is_none() && segment.find(&ChunkId([255; 32])).is_none());
            assert_eq!(segment.pack(0).unwrap().len_bytes, 77);
            assert_eq!(segment.frame(0).unwrap().number, 3);
        }
    }

    #[test]
    fn every_record_of_a_chunk_is_found() {
        let mut builder = SegmentBuilder::default();
        for n in 0..400u32 {
            builder.chunks.push(ChunkEntry { id: id(n / 4 * (n % 4 / 3 + 1)), frame: 0, offset: n, len_bytes: 1 });
        }
        let chunks = builder.chunks.clone();
        let bytes = builder.encode();
        let len = bytes.len();
        let segment = Segment::new(bytes, len).unwrap();
        for n in 0..220 {
            let mut found: Vec<_> = segment.find_all(&id(n)).map(|chunk| chunk.offset).collect();
            found.sort_unstable();
            let wanted: Vec<_> = chunks.iter().filter(|chunk| chunk.id == id(n)).map(|chunk| chunk.offset).collect();
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn skewed_ids_are_found_too() {
        let mut builder = SegmentBuilder::default();
        for n in 0..3000u32 {
            let mut id = [0; 32];
            id[30..].copy_from_slice(&(n as u16).to_le_bytes());
            builder.chunks.push(ChunkEntry { id: ChunkId(id), frame: 0, offset: n, len_bytes: 1 });
        }
        let chunks = builder.chunks.clone();
        let bytes = builder.encode();
        let len = bytes.len();
        let segment = Segment::new(bytes, len).unwrap();
        assert!(chunks.iter().all(|chunk| segment.find(&chunk.id) == Some(*chunk)));
    }
}
