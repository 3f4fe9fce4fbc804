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
}

/// A segment's bytes, wherever they are, with lookups that read them in place.
#[derive(Debug, Clone)]
pub struct Segment<B> {
    bytes: B,
    packs: usize,
    frames: usize,
    chunks: usize,
}

impl<B: AsRef<[u8]>> Segment<B> {
    /// Checks that the tables fill the first `len` bytes exactly; records are checked when they are read.
    pub fn new(bytes: B, len: usize) -> Result<Self, DecodeError> {
        let wrong = |reason: &str| DecodeError { what: "index segment", reason: reason.into() };
        let head = bytes.as_ref();
        if len > head.len() || len < HEAD_BYTES || head[..8] != *SEGMENT_MAGIC || u32_at(head, 8) != 1 {
            return Err(wrong("it does not start like one"));
        }
        let [packs, frames, chunks] = [12, 16, 20].map(|at| u64::from(u32_at(head, at)));
        let needed =
            HEAD_BYTES as u64 + packs * PACK_BYTES as u64 + frames * FRAME_BYTES as u64 + chunks * CHUNK_BYTES as u64;
        if needed != len as u64 {
            return Err(wrong("its length does not fit its counts"));
        }
        Ok(Segment { packs: packs as usize, frames: frames as usize, chunks: chunks as usize, bytes })
    }

    /// Returns what holds the segment.
    pub fn bytes(&self) -> &B {
        &self.bytes
    }

    /// Returns the segment's own bytes.
    pub fn encoded_bytes(&self) -> &[u8] {
        &self.bytes.as_ref()[..self.chunks_offset() + self.chunks * CHUNK_BYTES]
    }

    /// Returns the number of packs.
    pub fn pack_count(&self) -> usize {
        self.packs
    }

    /// Returns the number of frames.
    pub fn frame_count(&self) -> usize {
        self.frames
    }

    /// Returns the number of chunks.
    pub fn chunk_count(&self) -> usize {
        self.chunks
    }

    fn record(&self, table_offset: usize, record_bytes: usize, at: usize) -> &[u8] {
        let start = table_offset + at * record_bytes;
        &self.bytes.as_ref()[start..start + record_bytes]
    }

    fn chunks_offset(&self) -> usize {
        HEAD_BYTES + self.packs * PACK_BYTES + self.frames * FRAME_BYTES
    }

    /// Returns one pack; `None` if there is no such position or its kind is no pack's.
    pub fn pack(&self, at: usize) -> Option<PackEntry> {
        if at >= self.packs {
            return None;
        }
        let record = self.record(HEAD_BYTES, PACK_BYTES, at);
        let kind = match record[32] {
            3 => Kind::DataPack,
            4 => Kind::TreePack,
            _ => return None,
        };
        let id = ObjectId(record[..32].try_into().expect("32 bytes"));
        Some(PackEntry { id, kind, len_bytes: u64_at(record, 40) })
    }

    /// Returns one frame; `None` if there is no such position or its record makes no sense.
    pub fn frame(&self, at: usize) -> Option<FrameEntry> {
        if at >= self.frames {
            return None;
        }
        let record = self.record(HEAD_BYTES + self.packs * PACK_BYTES, FRAME_BYTES, at);
        let frame = FrameEntry {
            pack: u32_at(record, 0),
            number: u32_at(record, 4),
            offset: u32_at(record, 8),
            stored_bytes: u32_at(record, 12),
            plain_bytes: u32_at(record, 16),
            codec: record[20],
        };
        let sane = (frame.pack as usize) < self.packs
            && frame.plain_bytes as usize <= MAX_FRAME_BYTES
            && frame.stored_bytes as usize <= MAX_FRAME_BYTES + 4096;
        sane.then_some(frame)
    }

    /// Returns one chunk; `None` if there is no such position.
    pub fn chunk(&self, at: usize) -> Option<ChunkEntry> {
        if at >= self.chunks {
            return None;
        }
        let record = self.record(self.chunks_offset(), CHUNK_BYTES, at);
        Some(ChunkEntry {
            id: ChunkId(record[..32].try_into().expect("32 bytes")),
            frame: u32_at(record, 32),
            offset: u32_at(record, 36),
            len_bytes: u32_at(record, 40),
        })
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
        let end = (found + 1..self.chunks).take_while(is_it).last().map_or(found + 1, |last| last + 1);
        first..end
    }

    /// Finds a record: ids are evenly spread, so the first guess is within a page or two of it.
    fn position(&self, id: &ChunkId) -> Option<usize> {
        let table = &self.bytes.as_ref()[self.chunks_offset()..];
        let id_at = |at: usize| &table[at * CHUNK_BYTES..at * CHUNK_BYTES + 32];
        let prefix = |bytes: &[u8]| u64_at(bytes, 0).swap_bytes();
        let wanted = prefix(&id.0);
        let (mut low, mut high) = (0, self.chunks);
        let (mut low_prefix, mut high_prefix) = (0u64, u64::MAX);
        let mut guesses = 0;
        while low < high {
            // Interpolates a few times, then bisects, so that no choice of ids makes it slow.
            let middle = if guesses < 4 && high_prefix > low_prefix && wanted >= low_prefix {
                let share = u128::from(wanted - low_prefix) * (high - low) as u128;
                low + ((share / (u128::from(high_prefix - low_prefix) + 1)) as usize).min(high - low - 1)
            } else {
                low + (high - low) / 2
            };
            guesses += 1;
            match id_at(middle).cmp(&id.0) {
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Less => {
                    low = middle + 1;
                    low_prefix = prefix(id_at(middle));
                }
                std::cmp::Ordering::Greater => {
                    high = middle;
                    high_prefix = prefix(id_at(middle));
                }
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
