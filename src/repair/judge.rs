//! Whether a pack is right, and is what the index says.

use crate::error::Result;
use crate::format::index::PackEntry;
use crate::format::pack::{ChunkRecord, Directory};
use crate::id::ObjectId;
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::repo::index::Index;
use crate::repo::read::pack_scan::{Counts, PackReader, Witness};

/// What is to be said of a pack.
pub struct Judged {
    /// Whether all of it is right.
    pub is_sound: bool,
    /// Whether the index says other things of it than it does itself.
    pub differs: bool,
}

struct Judge<'a> {
    index: &'a Index,
    counts: &'a Counts,
    monitor: &'a dyn Monitor,
    judged: Judged,
}

impl Witness for Judge<'_> {
    fn advance(&mut self, bytes: u64) {
        self.monitor.advance(0, bytes);
    }

    fn problem(&mut self, _problem: String) {
        self.judged.is_sound = false;
    }

    fn frame_problem(&mut self, _number: u32, _problem: String) {
        self.judged.is_sound = false;
    }

    fn lost(&mut self, _problem: String) {
        self.judged.is_sound = false;
    }

    fn directory(&mut self, pack: &PackEntry, directory: &Directory) {
        self.judged.differs = self.counts.differ(self.index, pack.id, directory);
    }

    fn frame(&mut self, _pack: &PackEntry, _plain: &[u8], _chunks: &[ChunkRecord]) -> Result<()> {
        Ok(())
    }
}

/// Reads a pack whole and judges it.
pub fn judge(
    repository: &Repository,
    index: &Index,
    counts: &Counts,
    pack: ObjectId,
    len_bytes: u64,
    monitor: &dyn Monitor,
) -> Result<Judged> {
    let mut judge = Judge { index, counts, monitor, judged: Judged { is_sound: true, differs: false } };
    PackReader::default().read(repository, index, pack, len_bytes, &mut judge)?;
    Ok(judge.judged)
}
