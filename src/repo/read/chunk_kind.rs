//! What chunks are of.

use crate::format::header::Kind;

/// What a chunk is of; its id is made with another key for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkKind {
    /// A file's content.
    Data,
    /// A page of a tree.
    Page,
}

impl ChunkKind {
    /// Returns the kind of packs that hold such chunks.
    pub fn pack_kind(self) -> Kind {
        match self {
            ChunkKind::Data => Kind::DataPack,
            ChunkKind::Page => Kind::TreePack,
        }
    }
}
