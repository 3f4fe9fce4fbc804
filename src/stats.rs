//! How much there is, and how much of it is stored.

use crate::error::Result;
use crate::format::header::Kind;
use crate::id::ObjectId;
use crate::repo::Repository;
use crate::repo::shared::listed::Listed;
use crate::store::ObjectKind;
use std::collections::HashMap;

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Snapshots that can be read.
    pub snapshots: u64,
    /// Files of all snapshots together that are no directories.
    pub files: u64,
    /// Directories of all snapshots together, without the roots.
    pub directories: u64,
    /// Their content: what a copy of every snapshot would take.
    pub content_bytes: u64,
    /// Packs of content and of tree pages.
    pub packs: [u64; 2],
    /// Their stored length. Packs no index object names count as content.
    pub pack_bytes: [u64; 2],
    /// Distinct chunks of content, and tree pages.
    pub chunks: [u64; 2],
    /// Their length before compression.
    pub plain_bytes: [u64; 2],
    /// Stored length of the index.
    pub index_bytes: u64,
    /// Stored length of snapshots and key slots.
    pub other_bytes: u64,
}

impl Stats {
    /// Returns everything stored.
    pub fn stored_bytes(&self) -> u64 {
        self.pack_bytes[0] + self.pack_bytes[1] + self.index_bytes + self.other_bytes
    }
}

/// Counts a repository. Chunks are counted by the records of the index: a chunk two writers stored at
/// once counts twice. Memory: about 100 bytes for each pack.
pub fn run(repository: &Repository, snapshots: &[Listed]) -> Result<Stats> {
    let mut stats = Stats { snapshots: snapshots.len() as u64, ..Stats::default() };
    for listed in snapshots {
        stats.files = stats.files.saturating_add(listed.snapshot.summary.without_directories());
        stats.directories = stats.directories.saturating_add(listed.snapshot.summary.directories());
        stats.content_bytes = stats.content_bytes.saturating_add(listed.snapshot.root.total_bytes);
    }
    let index = repository.index();
    let lane = |kind: Kind| usize::from(kind == Kind::TreePack);
    let kinds: HashMap<ObjectId, usize> = index.packs().map(|pack| (pack.id, lane(pack.kind))).collect();
    let store = repository.store();
    for listed in store.list(ObjectKind::Pack)? {
        let lane = kinds.get(&listed.id).copied().unwrap_or(0);
        stats.packs[lane] += 1;
        stats.pack_bytes[lane] += listed.len_bytes;
    }
    for loaded in index.segments() {
        let segment = &loaded.segment;
        let lanes: Vec<_> = (0..segment.frame_count())
            .map(|at| segment.frame(at).and_then(|frame| segment.pack(frame.pack as usize)).map(|pack| lane(pack.kind)))
            .collect();
        for chunk in (0..segment.chunk_count()).filter_map(|at| segment.chunk(at)) {
            if let Some(Some(lane)) = lanes.get(chunk.frame as usize) {
                stats.chunks[*lane] += 1;
                stats.plain_bytes[*lane] += u64::from(chunk.len_bytes);
            }
        }
    }
    let total = |kind: ObjectKind| -> Result<u64> { Ok(store.list(kind)?.iter().map(|listed| listed.len_bytes).sum()) };
    stats.index_bytes = total(ObjectKind::Index)?;
    stats.other_bytes = total(ObjectKind::Snapshot)? + total(ObjectKind::Key)? + total(ObjectKind::Mark)?;
    Ok(stats)
}
