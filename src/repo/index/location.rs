//! Where a chunk is, as a segment of the index tells.

use crate::format::header::Kind;
use crate::format::index::{ChunkEntry, FrameEntry, PackEntry, Segment};

/// Where a chunk is.
#[derive(Debug, Clone, Copy)]
pub struct Location {
    /// Its pack.
    pub pack: PackEntry,
    /// Its frame.
    pub frame: FrameEntry,
    /// Its place in the frame.
    pub chunk: ChunkEntry,
}

/// Returns the place a record tells; `None` if its records make no sense.
pub fn locate<B: AsRef<[u8]>>(segment: &Segment<B>, chunk: ChunkEntry) -> Option<Location> {
    let frame = segment.frame(chunk.frame as usize)?;
    let pack = segment.pack(frame.pack as usize)?;
    Location { pack, frame, chunk }.sensible()
}

impl Location {
    /// Returns it if each part lies within the next.
    pub fn sensible(self) -> Option<Self> {
        let Location { pack, frame, chunk } = &self;
        let fits = u64::from(chunk.offset) + u64::from(chunk.len_bytes) <= u64::from(frame.plain_bytes)
            && u64::from(frame.offset) + u64::from(frame.stored_bytes) <= pack.len_bytes
            && matches!(pack.kind, Kind::DataPack | Kind::TreePack);
        fits.then_some(self)
    }
}
