//! Index objects: a segment cut into pieces that are sealed one by one, so that each can be read without the others.
//!
//! ```text
//! object = header (version 2), piece 0, ..., piece n-1
//! piece  = 65 536 bytes of the segment, the last one as many as are left, seal (16)
//! ```

use crate::crypto::seal::{FramePlace, Opener, Role, Sealer, TAG_BYTES};
use crate::crypto::vault::Vault;
use crate::error::{Error, Result};
use crate::format::frame::RAW;
use crate::format::index::Tables;
use crate::quantity::counted;
use std::ops::Range;

/// How much of the segment a piece holds: about 1 490 chunks, which costs one round trip and 10 us to open.
pub const PIECE_BYTES: u64 = 64 << 10;
const STORED_PIECE_BYTES: u64 = PIECE_BYTES + TAG_BYTES as u64;

/// Where the pieces of an object are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    header_bytes: u64,
    /// Length of the segment.
    pub plain_bytes: u64,
}

impl Layout {
    /// Tells from the length of an object with such a header how long the segment in it is; `None` if no object is
    /// so long.
    pub fn of_object(header_bytes: u64, object_bytes: u64) -> Option<Self> {
        let body_bytes = object_bytes.checked_sub(header_bytes).filter(|bytes| *bytes > 0)?;
        let last_bytes = match body_bytes % STORED_PIECE_BYTES {
            0 => 0,
            rest => rest.checked_sub(TAG_BYTES as u64).filter(|bytes| *bytes > 0)?,
        };
        Some(Layout { header_bytes, plain_bytes: body_bytes / STORED_PIECE_BYTES * PIECE_BYTES + last_bytes })
    }

    /// Returns the number of pieces.
    pub fn count(&self) -> u32 {
        u32::try_from(self.plain_bytes.div_ceil(PIECE_BYTES)).expect("an index object is far below 4 GiB")
    }

    /// Returns what of the segment a piece holds.
    pub fn plain(&self, number: u32) -> Range<u64> {
        let start = u64::from(number) * PIECE_BYTES;
        start..(start + PIECE_BYTES).min(self.plain_bytes)
    }

    /// Returns where in the object a piece is, with its seal.
    pub fn stored(&self, number: u32) -> Range<u64> {
        let plain = self.plain(number);
        let start = self.header_bytes + u64::from(number) * STORED_PIECE_BYTES;
        start..start + (plain.end - plain.start) + TAG_BYTES as u64
    }

    /// Returns where in the object the pieces are that hold a range of the segment.
    pub fn stored_range(&self, plain: &Range<u64>) -> Range<u64> {
        let last = plain.end.min(self.plain_bytes).saturating_sub(1).max(plain.start);
        self.stored(number_at(plain.start)).start..self.stored(number_at(last)).end
    }

    fn place(&self, number: u32) -> FramePlace {
        let plain = self.plain(number);
        FramePlace { role: Role::Frame, number, codec: RAW, plain_bytes: (plain.end - plain.start) as u32 }
    }

    /// Opens a piece in place.
    pub fn open<'a>(&self, opener: &Opener, number: u32, sealed: &'a mut [u8]) -> Result<&'a mut [u8]> {
        opener.open(self.place(number), sealed).map_err(|error| {
            Error::damaged(format!("Piece {number} of {} does not verify", self.count())).because(error)
        })
    }
}

/// Returns the number of the piece that holds a byte of the segment.
pub fn number_at(plain_offset: u64) -> u32 {
    u32::try_from(plain_offset / PIECE_BYTES).expect("an index object is far below 4 GiB")
}

/// Seals a segment.
pub fn seal_pieces(vault: &Vault, plain: &[u8]) -> Vec<u8> {
    seal_with(vault.sealer_of_pieces(), plain)
}

pub(in crate::repo) fn seal_with(mut sealer: Sealer, plain: &[u8]) -> Vec<u8> {
    let mut bytes = sealer.header().encode();
    let pieces = plain.chunks(PIECE_BYTES as usize);
    bytes.reserve(plain.len() + pieces.len() * TAG_BYTES);
    for piece in pieces {
        let from = bytes.len();
        bytes.extend_from_slice(piece);
        sealer.seal(Role::Frame, RAW, piece.len() as u32, &mut bytes, from);
    }
    bytes
}

/// Opens all pieces of an object, in the memory it is in. That none is missing at the end is told by the counts in
/// the segment's head.
pub fn open_pieces(opener: &Opener, header_bytes: usize, mut bytes: Vec<u8>, max_bytes: usize) -> Result<Vec<u8>> {
    let layout = Layout::of_object(header_bytes as u64, bytes.len() as u64)
        .filter(|layout| layout.plain_bytes <= max_bytes as u64)
        .ok_or_else(|| Error::damaged("Its length is out of range"))?;
    for number in 0..layout.count() {
        let stored = layout.stored(number);
        let stored = stored.start as usize..stored.end as usize;
        let plain_bytes = layout.open(opener, number, &mut bytes[stored.clone()])?.len();
        bytes.copy_within(stored.start..stored.start + plain_bytes, layout.plain(number).start as usize);
    }
    bytes.truncate(layout.plain_bytes as usize);
    check_head(&bytes, &layout)?;
    Ok(bytes)
}

/// Reads the head at the start of the first piece, and checks that the tables it tells of fill the object.
pub fn check_head(head: &[u8], layout: &Layout) -> Result<Tables> {
    let tables =
        Tables::decode(head).map_err(|error| Error::damaged("What is in it is no index segment").because(error))?;
    if tables.segment_bytes() == layout.plain_bytes {
        return Ok(tables);
    }
    Err(Error::damaged(format!(
        "It holds {} of a segment of {}: its end is cut off, or it is another's",
        counted(layout.plain_bytes, "byte"),
        tables.segment_bytes()
    )))
}
