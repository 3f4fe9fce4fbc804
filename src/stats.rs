//! How much there is, and how much of it is stored.

use crate::error::Result;
use crate::format::header::Kind;
use crate::id::ObjectId;
use crate::repo::Repository;
use crate::repo::shared::dated::timestamp;
use crate::repo::shared::listed::{ListedSnapshot, Named};
use crate::store::ObjectKind;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
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

impl Stats {
    /// Returns how many bytes of files there are for one that is stored.
    pub fn ratio(&self) -> f64 {
        match self.stored_bytes() {
            0 => 1.0,
            stored => self.content_bytes as f64 / stored as f64,
        }
    }
}

/// What is stored of content or of trees.
#[derive(Serialize)]
struct Kept {
    packs: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunks: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pages: Option<u64>,
    plain_bytes: u64,
    stored_bytes: u64,
}

impl Serialize for Stats {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kept = |at: usize| Kept {
            packs: self.packs[at],
            chunks: (at == 0).then_some(self.chunks[0]),
            pages: (at == 1).then_some(self.chunks[1]),
            plain_bytes: self.plain_bytes[at],
            stored_bytes: self.pack_bytes[at],
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("snapshots", &self.snapshots)?;
        map.serialize_entry("files", &self.files)?;
        map.serialize_entry("directories", &self.directories)?;
        map.serialize_entry("content_bytes", &self.content_bytes)?;
        map.serialize_entry("stored_bytes", &self.stored_bytes())?;
        map.serialize_entry("ratio", &self.ratio())?;
        map.serialize_entry("data", &kept(0))?;
        map.serialize_entry("trees", &kept(1))?;
        map.serialize_entry("index_bytes", &self.index_bytes)?;
        map.serialize_entry("other_bytes", &self.other_bytes)?;
        map.end()
    }
}

/// What one snapshot holds, and what it added.
pub struct SnapshotStats<'a>(pub Named<'a>);

impl Serialize for SnapshotStats<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Named { listed, name } = self.0;
        let (snapshot, summary) = (&listed.snapshot, &listed.snapshot.summary);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", name)?;
        map.serialize_entry("id", &listed.id)?;
        map.serialize_entry("time", &timestamp(snapshot.time).to_string())?;
        map.serialize_entry("files", &summary.without_directories())?;
        map.serialize_entry("directories", &summary.directories())?;
        map.serialize_entry("content_bytes", &snapshot.root.total_bytes)?;
        map.serialize_entry("files_new", &summary.files_new)?;
        map.serialize_entry("files_changed", &summary.files_changed)?;
        map.serialize_entry("files_unmodified", &summary.files_unmodified)?;
        map.serialize_entry("added_bytes", &summary.added_bytes)?;
        map.serialize_entry("packed_bytes", &summary.packed_bytes)?;
        map.serialize_entry("errors", &summary.errors)?;
        map.end()
    }
}

/// Counts a repository. Chunks are counted by the records of the index: a chunk two writers stored at
/// once counts twice. Memory: about 100 bytes for each pack.
pub fn run(repository: &Repository, snapshots: &[ListedSnapshot]) -> Result<Stats> {
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
