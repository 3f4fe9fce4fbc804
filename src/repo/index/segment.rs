//! Segments of the index as they are written: how long, and of which packs.

use crate::error::{Error, Result};
use crate::format::index::{ChunkEntry, FrameEntry, PackEntry, SegmentBuilder};
use crate::format::pack::Directory;

/// The longest index object: 256 Ki chunks, each in a frame of its own, and room to spare.
pub const MAX_INDEX_BYTES: usize = 48 << 20;
/// Its length as stored: with its header, and a seal for each of 768 pieces.
pub const MAX_INDEX_OBJECT_BYTES: u64 = MAX_INDEX_BYTES as u64 + (16 << 10);

/// Refuses an index object that no reader would take.
pub fn check_index_len(plain_bytes: usize) -> Result<()> {
    if plain_bytes <= MAX_INDEX_BYTES {
        return Ok(());
    }
    Err(Error::usage(format!("An index object of {plain_bytes} bytes would be longer than a reader takes")))
}
/// An index segment is stored when it has this many chunks, so that memory stays bounded and a killed
/// first backup keeps what it has done.
pub const SEGMENT_CHUNKS: usize = 256 << 10;

/// Adds a pack's directory to a segment.
pub(crate) fn add_pack(builder: &mut SegmentBuilder, entry: PackEntry, directory: &Directory) {
    let u32_of = |len: usize| u32::try_from(len).expect("a segment holds fewer than 2^32 records");
    let (pack, first_frame) = (u32_of(builder.packs.len()), u32_of(builder.frames.len()));
    builder.packs.push(entry);
    for (number, frame) in directory.frames.iter().enumerate() {
        builder.frames.push(FrameEntry {
            pack,
            number: u32_of(number),
            offset: frame.offset,
            stored_bytes: frame.stored_bytes,
            plain_bytes: frame.plain_bytes,
            codec: frame.codec,
        });
    }
    for chunk in &directory.chunks {
        builder.chunks.push(ChunkEntry {
            id: chunk.id,
            frame: first_frame + chunk.frame,
            offset: chunk.offset,
            len_bytes: chunk.len_bytes,
        });
    }
}
