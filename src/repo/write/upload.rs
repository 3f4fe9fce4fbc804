//! The last stage of a writer: stores packs, then the index segments that name them.
//!
//! The order of storing is the order of trust: packs are durable before an index names them, and the index before a
//! snapshot needs it. To a store far away several packs go at the same time.

use crate::error::Result;
use crate::format::index::SegmentBuilder;
use crate::repo::Repository;
use crate::repo::index::segment::SEGMENT_CHUNKS;
use crate::repo::write::pack::FinishedPack;
use crate::repo::write::pipeline::Pipeline;
use crate::store::Names;
use crossbeam_channel::Receiver;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// So many packs are on their way at a time, at most: 128 MiB of memory.
const MAX_UPLOADS: usize = 4;
/// To a store far away an index segment goes after so many packs, 1 GiB: a backup that is interrupted leaves fewer for
/// the next one to find by reading their directories.
const FAR_SEGMENT_PACKS: usize = 32;

/// Stores all packs that come, and ends when no more do or something has failed.
pub fn upload(shared: &Pipeline, packs: Receiver<FinishedPack>) {
    let filling = Mutex::new(SegmentBuilder::default());
    let serve = || {
        for pack in &packs {
            if shared.has_failed() {
                return;
            }
            if let Err(error) = store_pack(shared, &filling, pack) {
                return shared.fail(error);
            }
        }
    };
    if let Err(error) = name_unnamed(shared) {
        return shared.fail(error);
    }
    std::thread::scope(|scope| {
        for _ in 1..shared.repository.store.connections().min(MAX_UPLOADS) {
            // Without another thread this one stores them all.
            let _ = std::thread::Builder::new().name("upload".into()).spawn_scoped(scope, serve);
        }
        serve();
    });
    let segment = filling.into_inner();
    if !segment.packs.is_empty()
        && !shared.has_failed()
        && let Err(error) = put_segment(shared, segment)
    {
        shared.fail(error);
    }
}

/// Names packs that an interrupted backup left without an index.
fn name_unnamed(shared: &Pipeline) -> Result<()> {
    let repository = &shared.repository;
    let index = repository.index();
    if index.unnamed().next().is_some() {
        // Another process has put them, and was killed before it could make them durable.
        repository.store.barrier(Names::All)?;
    }
    for loaded in index.unnamed() {
        put_index(shared, loaded.segment.encoded_bytes().to_vec())?;
        repository.forget_segment(loaded);
    }
    Ok(())
}

/// Stores a pack, and an index segment where enough packs were stored by now.
fn store_pack(shared: &Pipeline, filling: &Mutex<SegmentBuilder>, pack: FinishedPack) -> Result<()> {
    let repository = &shared.repository;
    let FinishedPack { entry, directory, .. } = repository.put_pack(pack)?;
    repository.shared.rely_on_one(entry.id);
    shared.packed_bytes.fetch_add(entry.len_bytes, Ordering::Relaxed);
    let full = {
        // Only what is stored comes here: a segment never names a pack that is on its way.
        let mut segment = filling.lock();
        crate::repo::index::segment::add_pack(&mut segment, entry, &directory);
        let is_many = repository.store.is_far() && segment.packs.len() >= FAR_SEGMENT_PACKS;
        let is_full = segment.chunks.len() >= SEGMENT_CHUNKS || is_many;
        is_full.then(|| std::mem::take(&mut *segment))
    };
    full.map_or(Ok(()), |segment| put_segment(shared, segment))
}

fn put_segment(shared: &Pipeline, segment: SegmentBuilder) -> Result<()> {
    let ids: Vec<_> = segment.chunks.iter().map(|chunk| chunk.id).collect();
    shared.repository.store.barrier(Names::Mine)?;
    put_index(shared, segment.encode())?;
    let mut pending = shared.pending.lock();
    for id in ids {
        pending.remove(&id);
    }
    Ok(())
}

fn put_index(shared: &Pipeline, plain: Vec<u8>) -> Result<()> {
    let stored_bytes = shared.repository.put_index(plain)?;
    shared.packed_bytes.fetch_add(stored_bytes, Ordering::Relaxed);
    Ok(())
}

impl Repository {
    /// Stores an index object, makes it durable and takes it into the index. The packs it names must be durable.
    /// Returns its length.
    pub fn put_index(&self, plain: Vec<u8>) -> Result<u64> {
        let put = self.put_index_object(&plain)?;
        let (id, len_bytes) = (put.id, put.len_bytes);
        put.settle(&*self.store)?;
        let loaded = self.keep_segment(plain, vec![id])?;
        let mut index = self.live.current.write();
        let next = index.with(loaded);
        *index = Arc::new(next);
        Ok(len_bytes)
    }
}
