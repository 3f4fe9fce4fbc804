//! What reading will take from a store far away: asked for beforehand, and told.

use crate::error::Result;
use crate::format::tree::{Content, Extent};
use crate::id::{ChunkId, ObjectId};
use crate::repo::Repository;
use crate::store::{Object, Wait};
use std::ops::Range;

/// Frames of one pack no further apart than this are asked for as one range.
const GAP_BYTES: u64 = 64 << 10;
/// For so many chunks the parts of the index are asked for that tell where they are.
const MAX_LOOKUPS: u32 = 16;

impl Repository {
    /// Calls `each` for the stored bytes of a range of a file, a run of neighbouring frames at a time, and `unplaced`
    /// for every chunk whose place is in a part of the index that is not here.
    fn for_each_stored_run(
        &self,
        content: &Content,
        range: Range<u64>,
        each: &mut dyn FnMut(ObjectId, Range<u64>),
        unplaced: &mut dyn FnMut(&Extent),
    ) -> Result<()> {
        let mut run: Option<(ObjectId, Range<u64>)> = None;
        self.for_each_extent(content, range.start, range.end, Wait::Allowed, &mut |_, extent| {
            if extent.is_hole() {
                return Ok(true);
            }
            let location = match self.place(&extent.chunk, Wait::Never) {
                Ok(Some(location)) => location,
                // A chunk that is nowhere is told by the read itself.
                Ok(None) => return Ok(true),
                Err(_) => {
                    unplaced(extent);
                    return Ok(true);
                }
            };
            let start = u64::from(location.frame.offset);
            let end = start + u64::from(location.frame.stored_bytes);
            match &mut run {
                Some((pack, run))
                    if *pack == location.pack.id && start >= run.start && start <= run.end + GAP_BYTES =>
                {
                    run.end = run.end.max(end);
                }
                _ => {
                    self.store.expect_len(Object::Pack(location.pack.id), location.pack.len_bytes);
                    if let Some((pack, run)) = run.replace((location.pack.id, start..end)) {
                        each(pack, run);
                    }
                }
            }
            Ok(true)
        })?;
        if let Some((pack, run)) = run {
            each(pack, run);
        }
        Ok(())
    }

    /// Asks the store for a page of a directory that will be read soon. Only a hint.
    pub fn want_page(&self, id: &ChunkId) {
        match self.place(id, Wait::Never) {
            Ok(Some(location)) => {
                let start = u64::from(location.frame.offset);
                let frame = start..start + u64::from(location.frame.stored_bytes);
                self.store.expect_len(Object::Pack(location.pack.id), location.pack.len_bytes);
                self.store.want(Object::Pack(location.pack.id), frame);
            }
            Ok(None) => {}
            Err(_) => self.index().want(id),
        }
    }

    /// Asks the store for a range of a file that will be read soon. Only a hint: what goes wrong is told by the read.
    pub fn want_content(&self, content: &Content, range: Range<u64>) {
        let index = self.index();
        let mut lookups = MAX_LOOKUPS;
        let asked = self.for_each_stored_run(
            content,
            range,
            &mut |pack, run| self.store.want(Object::Pack(pack), run),
            &mut |extent| {
                if lookups > 0 {
                    lookups -= 1;
                    index.want(&extent.chunk);
                }
            },
        );
        if let Err(error) = asked {
            tracing::debug!("Reading ahead ends: {}", error.chain());
        }
    }

    /// Asks the store for a range of a file that is read now, if it has several chunks: their requests go at the same
    /// time then, and not one after another as they are read. Only a hint.
    pub fn want_chunks(&self, content: &Content, range: Range<u64>) {
        let mut chunks = 0;
        let counted = self.for_each_extent(content, range.start, range.end, Wait::Allowed, &mut |_, extent| {
            chunks += u32::from(!extent.is_hole());
            Ok(chunks < 2)
        });
        if counted.is_ok() && chunks > 1 {
            self.want_content(content, range);
        }
    }

    /// Returns how many bytes reading a file of `size_bytes` would fetch from afar now. Chunks whose places are not
    /// known here yet count with their whole length, as if they did not compress.
    pub fn fetch_bytes(&self, content: &Content, size_bytes: u64) -> Result<u64> {
        let (mut fetch_bytes, mut unplaced_bytes) = (0, 0);
        self.for_each_stored_run(
            content,
            0..size_bytes,
            &mut |pack, run| fetch_bytes = self.store.absent_bytes(Object::Pack(pack), run).saturating_add(fetch_bytes),
            &mut |extent| unplaced_bytes = extent.len_bytes.saturating_add(unplaced_bytes),
        )?;
        Ok(unplaced_bytes.saturating_add(fetch_bytes))
    }
}
