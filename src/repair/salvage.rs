//! Damaged packs: what of them is right is copied to new packs.

use super::Report;
use super::index::Survey;
use crate::error::Result;
use crate::format::frame::Encoder;
use crate::format::header::Kind;
use crate::format::index::{PackEntry, SegmentBuilder};
use crate::format::pack::ChunkRecord;
use crate::id::ChunkId;
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::repo::index::segment::add_pack;
use crate::repo::read::pack_scan::{PackReader, Witness};
use crate::repo::write::pack::{PackBuilder, PlainFrame};
use crate::repo::write::{DEFAULT_LEVEL, FRAME_BYTES};
use crate::store::Names;
use std::collections::HashSet;

/// Copies chunks out of damaged packs.
pub struct Salvage<'a> {
    repository: &'a Repository,
    survey: &'a Survey,
    dry_run: bool,
    encoder: Encoder,
    frame: PlainFrame,
    pack: Option<PackBuilder>,
    saved: HashSet<ChunkId>,
    saved_bytes: u64,
    stored: SegmentBuilder,
}

impl<'a> Salvage<'a> {
    /// Starts with nothing.
    pub fn new(repository: &'a Repository, survey: &'a Survey, dry_run: bool) -> Self {
        Salvage {
            repository,
            survey,
            dry_run,
            encoder: Encoder::new(DEFAULT_LEVEL),
            frame: PlainFrame::default(),
            pack: None,
            saved: HashSet::new(),
            saved_bytes: 0,
            stored: SegmentBuilder::default(),
        }
    }

    /// Reads all damaged packs and copies what no sound pack has. Content and tree pages go to packs of their own.
    pub fn run(&mut self, monitor: &dyn Monitor) -> Result<()> {
        let index = self.repository.index();
        let mut packs: Vec<_> = self.survey.aside.iter().copied().collect();
        packs.sort_unstable();
        monitor.expect(0, packs.iter().map(|pack| self.survey.packs[pack]).sum());
        let mut reader = PackReader::default();
        for kind in [Kind::DataPack, Kind::TreePack] {
            for pack in &packs {
                let mut saver = Saver { salvage: self, kind, monitor };
                let len_bytes = saver.salvage.survey.packs[pack];
                reader.read(saver.salvage.repository, &index, *pack, len_bytes, &mut saver)?;
            }
            self.end_frame(kind)?;
            self.end_pack()?;
        }
        Ok(())
    }

    /// Makes what was copied durable, and returns the records of the new packs.
    pub fn finish(self, report: &mut Report) -> Result<SegmentBuilder> {
        report.saved_chunks = self.saved.len() as u64;
        report.saved_bytes = self.saved_bytes;
        if !self.stored.packs.is_empty() {
            self.repository.store().barrier(Names::Mine)?;
        }
        Ok(self.stored)
    }

    fn end_frame(&mut self, kind: Kind) -> Result<()> {
        let frame = std::mem::take(&mut self.frame);
        if frame.chunks.is_empty() {
            return Ok(());
        }
        let vault = self.repository.vault();
        let pack = self.pack.get_or_insert_with(|| PackBuilder::new(vault, kind));
        let mut encoded = Vec::with_capacity(frame.bytes.len());
        let codec = self.encoder.encode(&frame.bytes, &mut encoded);
        let plain_bytes = u32::try_from(frame.bytes.len()).expect("a frame is at most 4 MiB and 256 KiB");
        pack.append(codec, &encoded, plain_bytes, &frame.chunks);
        if pack.is_full() { self.end_pack() } else { Ok(()) }
    }

    fn end_pack(&mut self) -> Result<()> {
        let Some(pack) = self.pack.take() else { return Ok(()) };
        let mut pack = pack.finish();
        if !self.dry_run {
            pack = self.repository.put_pack(pack)?;
        }
        add_pack(&mut self.stored, pack.entry, &pack.directory);
        Ok(())
    }
}

/// Hears what is right in packs of one kind.
struct Saver<'s, 'a> {
    salvage: &'s mut Salvage<'a>,
    kind: Kind,
    monitor: &'s dyn Monitor,
}

impl Witness for Saver<'_, '_> {
    fn advance(&mut self, bytes: u64) {
        self.monitor.advance(0, bytes / 2);
    }

    fn problem(&mut self, _problem: String) {}

    fn frame_problem(&mut self, _number: u32, _problem: String) {}

    fn lost(&mut self, _problem: String) {}

    fn frame(&mut self, pack: &PackEntry, plain: &[u8], chunks: &[ChunkRecord]) -> Result<()> {
        if pack.kind != self.kind {
            return Ok(());
        }
        let salvage = &mut *self.salvage;
        for chunk in chunks {
            if salvage.saved.contains(&chunk.id) || salvage.survey.has_sound_place(salvage.repository, &chunk.id) {
                continue;
            }
            let bytes = &plain[chunk.offset as usize..(chunk.offset + chunk.len_bytes) as usize];
            // A long chunk stays a frame of its own.
            if !salvage.frame.bytes.is_empty() && salvage.frame.bytes.len() + bytes.len() > FRAME_BYTES {
                salvage.end_frame(self.kind)?;
            }
            salvage.saved.insert(chunk.id);
            salvage.saved_bytes += bytes.len() as u64;
            salvage.frame.bytes.extend_from_slice(bytes);
            salvage.frame.chunks.push((chunk.id, chunk.len_bytes));
        }
        Ok(())
    }
}
