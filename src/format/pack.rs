//! Packs: frames of chunks, and a directory that tells where each chunk is.
//!
//! ```text
//! pack      = header, frame 0, ..., frame n-1, directory, trailer
//! frame     = encoded plaintext, seal (16)
//! directory = encoded plaintext, seal (16); sealed under number n
//! trailer   = stored length of the directory (4), its codec (1), 0 0 0, its plaintext length (4), n (4), MAGIC (8)
//! ```

use super::codec::DecodeError;
use super::frame::MAX_FRAME_BYTES;
use super::header::MAGIC;
use crate::id::ChunkId;

/// Length of a pack's trailer.
pub const TRAILER_BYTES: usize = 24;
/// A pack is closed when it has reached this size.
pub const TARGET_PACK_BYTES: usize = 32 << 20;
/// A pack is closed when its directory has reached this size: many small chunks compress well, and neither
/// directory nor index object may grow past what a reader takes.
pub const TARGET_DIRECTORY_BYTES: usize = 8 << 20;
/// No pack is larger.
pub const MAX_PACK_BYTES: u64 = 128 << 20;
/// Stored length of a frame's record in a directory.
pub const FRAME_RECORD_BYTES: usize = 16;
/// Stored length of a chunk's record in a directory.
pub const CHUNK_RECORD_BYTES: usize = 44;
/// No directory is larger: above what 128 MiB of the smallest frames need.
pub const MAX_DIRECTORY_BYTES: u32 = 32 << 20;

/// Where a frame lies in its pack and how to decode it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRecord {
    /// From the start of the pack.
    pub offset: u32,
    /// With the seal.
    pub stored_bytes: u32,
    /// After decoding.
    pub plain_bytes: u32,
    /// [`super::frame::RAW`] or [`super::frame::ZSTD`].
    pub codec: u8,
}

/// Where a chunk lies in its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRecord {
    /// The chunk.
    pub id: ChunkId,
    /// Its frame's number in the pack.
    pub frame: u32,
    /// From the start of the frame's plaintext.
    pub offset: u32,
    /// Its length.
    pub len_bytes: u32,
}

/// A pack's directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    /// Frames by number.
    pub frames: Vec<FrameRecord>,
    /// Chunks in the order they were written.
    pub chunks: Vec<ChunkRecord>,
}

/// Reads a little-endian number at an offset the caller has checked.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("4 bytes"))
}

/// Reads a little-endian number at an offset the caller has checked.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("8 bytes"))
}

impl Directory {
    /// Encodes the directory: frame count, chunk count, frame records, chunk records.
    pub fn encode(&self) -> Vec<u8> {
        let count = |len: usize| u32::try_from(len).expect("a pack holds far fewer than 2^32 of them");
        let len = 8 + self.frames.len() * FRAME_RECORD_BYTES + self.chunks.len() * CHUNK_RECORD_BYTES;
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(&count(self.frames.len()).to_le_bytes());
        bytes.extend_from_slice(&count(self.chunks.len()).to_le_bytes());
        for frame in &self.frames {
            bytes.extend_from_slice(&frame.offset.to_le_bytes());
            bytes.extend_from_slice(&frame.stored_bytes.to_le_bytes());
            bytes.extend_from_slice(&frame.plain_bytes.to_le_bytes());
            bytes.extend_from_slice(&[frame.codec, 0, 0, 0]);
        }
        for chunk in &self.chunks {
            bytes.extend_from_slice(&chunk.id.0);
            bytes.extend_from_slice(&chunk.frame.to_le_bytes());
            bytes.extend_from_slice(&chunk.offset.to_le_bytes());
            bytes.extend_from_slice(&chunk.len_bytes.to_le_bytes());
        }
        bytes
    }

    /// Decodes and checks a directory: every frame within the pack, every chunk within its frame.
    pub fn decode(bytes: &[u8], pack_bytes: u64) -> Result<Self, DecodeError> {
        let wrong = |reason: &str| DecodeError { what: "pack directory", reason: reason.into() };
        if bytes.len() < 8 {
            return Err(wrong("it is too short"));
        }
        let (frames, chunks) = (u32_at(bytes, 0) as usize, u32_at(bytes, 4) as usize);
        let frames_end = 8 + frames as u64 * FRAME_RECORD_BYTES as u64;
        if frames_end + chunks as u64 * CHUNK_RECORD_BYTES as u64 != bytes.len() as u64 {
            return Err(wrong("its length does not fit its counts"));
        }
        let (frame_bytes, chunk_bytes) = bytes[8..].split_at(frames * FRAME_RECORD_BYTES);
        let frames: Vec<_> = frame_bytes
            .chunks_exact(FRAME_RECORD_BYTES)
            .map(|record| FrameRecord {
                offset: u32_at(record, 0),
                stored_bytes: u32_at(record, 4),
                plain_bytes: u32_at(record, 8),
                codec: record[12],
            })
            .collect();
        for frame in &frames {
            if u64::from(frame.offset) + u64::from(frame.stored_bytes) > pack_bytes
                || frame.plain_bytes as usize > MAX_FRAME_BYTES
            {
                return Err(wrong("a frame lies outside the pack or is too long"));
            }
        }
        let chunks: Vec<_> = chunk_bytes
            .chunks_exact(CHUNK_RECORD_BYTES)
            .map(|record| ChunkRecord {
                id: ChunkId(record[..32].try_into().expect("32 bytes")),
                frame: u32_at(record, 32),
                offset: u32_at(record, 36),
                len_bytes: u32_at(record, 40),
            })
            .collect();
        for chunk in &chunks {
            let frame = frames.get(chunk.frame as usize).ok_or_else(|| wrong("a chunk names no frame"))?;
            if u64::from(chunk.offset) + u64::from(chunk.len_bytes) > u64::from(frame.plain_bytes) {
                return Err(wrong("a chunk lies outside its frame"));
            }
        }
        Ok(Directory { frames, chunks })
    }
}

/// The last bytes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Stored length of the directory, with its seal.
    pub directory_bytes: u32,
    /// The directory's codec.
    pub codec: u8,
    /// The directory's plaintext length.
    pub plain_bytes: u32,
    /// The number the directory is sealed under: the count of frames.
    pub number: u32,
}

impl Trailer {
    /// Encodes the trailer.
    pub fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[..4].copy_from_slice(&self.directory_bytes.to_le_bytes());
        bytes[4] = self.codec;
        bytes[8..12].copy_from_slice(&self.plain_bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..].copy_from_slice(&MAGIC);
        bytes
    }

    /// Decodes and checks a trailer.
    pub fn decode(bytes: &[u8; TRAILER_BYTES]) -> Result<Self, DecodeError> {
        let trailer = Trailer {
            directory_bytes: u32_at(bytes, 0),
            codec: bytes[4],
            plain_bytes: u32_at(bytes, 8),
            number: u32_at(bytes, 12),
        };
        let sane = bytes[16..] == MAGIC
            && bytes[5..8] == [0; 3]
            && trailer.directory_bytes <= MAX_DIRECTORY_BYTES
            && trailer.plain_bytes <= MAX_DIRECTORY_BYTES;
        sane.then_some(trailer)
            .ok_or(DecodeError { what: "pack trailer", reason: "the pack is cut off or was changed".into() })
    }
}
