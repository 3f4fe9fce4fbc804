//! Deleting what a verdict names: snapshots, then the index without its packs, then the packs, then the marks.

use super::catalog::Catalog;
use crate::error::Result;
use crate::format::index::{ChunkEntry, FrameEntry, Segment, SegmentBuilder};
use crate::format::mark::{Mark, MarkId, SessionKind, SessionMark, Verdict};
use crate::id::ObjectId;
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::repo::index::segment::SEGMENT_CHUNKS;
use crate::repo::shared::marks::Marks;
use crate::store::{Names, Object, ObjectKind};
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// Index objects of fewer chunks are small.
const SMALL_OBJECT_CHUNKS: usize = SEGMENT_CHUNKS / 8;
/// So many small index objects are merged.
const MANY_SMALL_OBJECTS: usize = 16;

/// What was deleted.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Swept {
    /// Packs that were deleted.
    #[serde(rename = "deleted_packs")]
    pub packs: u64,
    /// Their stored length.
    #[serde(rename = "deleted_bytes")]
    pub pack_bytes: u64,
    /// Snapshots that were deleted.
    #[serde(rename = "removed_snapshots")]
    pub snapshots: u64,
    /// Index objects that were replaced.
    #[serde(rename = "rewritten_index_objects")]
    pub index_objects: u64,
}

/// Carries a verdict out, which removes the snapshots `removed`: it tells of those of earlier prunes as well. Every step
/// may be repeated; whoever dies in between leaves the rest to the next prune.
pub fn carry_out(
    repository: &Repository,
    catalog: &mut Catalog,
    verdict: &Verdict,
    removed: &HashSet<ObjectId>,
    monitor: &dyn Monitor,
) -> Result<Swept> {
    let store = repository.store();
    // What was revoked and has appeared is no snapshot.
    let stored: HashSet<_> = store.list(ObjectKind::Snapshot)?.iter().map(|listed| listed.id).collect();
    for id in removed.iter().chain(verdict.revoked.iter().filter(|id| stored.contains(*id))) {
        store.delete(Object::Snapshot(*id))?;
    }
    store.barrier(Names::Mine)?;
    let gone: HashSet<ObjectId> = verdict.packs.iter().copied().collect();
    catalog.update(repository)?;
    let index_objects = rewrite_index(repository, catalog, &gone)?;
    let mut swept = Swept { snapshots: removed.len() as u64, index_objects, ..Swept::default() };
    for id in &verdict.packs {
        let Some(len_bytes) = catalog.packs().get(id) else { continue };
        store.delete(Object::Pack(*id))?;
        swept.packs += 1;
        swept.pack_bytes += len_bytes;
        monitor.advance(1, *len_bytes);
    }
    store.barrier(Names::Mine)?;
    Ok(swept)
}

/// Replaces the index objects that name packs which are `gone` or not there, and merges small ones where there are
/// many; returns how many were replaced.
pub fn rewrite_index(repository: &Repository, catalog: &Catalog, gone: &HashSet<ObjectId>) -> Result<u64> {
    let stays = |segment: &Segment<_>, at: usize| {
        segment.pack(at).is_some_and(|pack| catalog.packs().contains_key(&pack.id) && !gone.contains(&pack.id))
    };
    let small: Vec<_> = catalog.objects().filter(|(_, segment)| segment.chunk_count() < SMALL_OBJECT_CHUNKS).collect();
    let merge = small.len() >= MANY_SMALL_OBJECTS;
    let is_old = |segment: &Segment<_>| {
        (merge && segment.chunk_count() < SMALL_OBJECT_CHUNKS)
            || (0..segment.pack_count()).any(|at| !stays(segment, at))
    };
    let stored: HashSet<_> = {
        let listed = repository.store().list(ObjectKind::Index)?;
        listed.into_iter().map(|listed| listed.id).collect()
    };
    let mut new = SegmentBuilder::default();
    let mut old = Vec::new();
    for (id, segment) in catalog.objects().filter(|(id, segment)| stored.contains(id) && is_old(segment)) {
        // Before it grows: no object may be longer than a reader takes, however often it is rewritten.
        if !new.packs.is_empty() && new.chunks.len() + segment.chunk_count() > SEGMENT_CHUNKS {
            repository.put_index(std::mem::take(&mut new).encode())?;
        }
        append(&mut new, segment, |at| stays(segment, at));
        catalog.release_memory();
        old.push(id);
    }
    if !new.packs.is_empty() {
        repository.put_index(new.encode())?;
    }
    for id in &old {
        repository.store().delete(Object::Index(*id))?;
    }
    repository.store().barrier(Names::Mine)?;
    Ok(old.len() as u64)
}

/// Appends the packs of a segment that stay, with their frames and chunks.
fn append<B: AsRef<[u8]>>(new: &mut SegmentBuilder, segment: &Segment<B>, stays: impl Fn(usize) -> bool) {
    let number = |len: usize| u32::try_from(len).expect("a segment holds fewer than 2^32 records");
    let mut packs = HashMap::new();
    for at in (0..segment.pack_count()).filter(|at| stays(*at)) {
        let Some(pack) = segment.pack(at) else { continue };
        packs.insert(number(at), number(new.packs.len()));
        new.packs.push(pack);
    }
    let mut frames = HashMap::new();
    for at in 0..segment.frame_count() {
        let Some(frame) = segment.frame(at) else { continue };
        let Some(pack) = packs.get(&frame.pack) else { continue };
        frames.insert(number(at), number(new.frames.len()));
        new.frames.push(FrameEntry { pack: *pack, ..frame });
    }
    for chunk in (0..segment.chunk_count()).filter_map(|at| segment.chunk(at)) {
        if let Some(frame) = frames.get(&chunk.frame) {
            new.chunks.push(ChunkEntry { frame: *frame, ..chunk });
        }
    }
}

/// Returns whether there are announcements of sessions that were fenced, or recalls: only a verdict, though it deletes
/// nothing, lets them go.
pub fn has_litter(marks: &Marks) -> bool {
    let kinds = [SessionKind::Backup, SessionKind::Prune];
    let mut sessions = kinds.into_iter().flat_map(|kind| marks.sessions(kind));
    sessions.any(|(_, session)| marks.is_fenced(&session.id)) || marks.has_recalls()
}

/// Removes the marks that have done their duty: what was condemned, older verdicts, forgetting of snapshots that
/// are gone, and the announcements of sessions that were fenced.
///
/// Of these, `marks` are those that were read before the verdict: later ones may be of another prune that has taken
/// this one for dead. `now` are those that were read after it. `listed` are the snapshots' objects that were listed after
/// `marks`, and `removed` those that are gone since.
pub fn clear_marks(
    repository: &Repository,
    marks: &Marks,
    now: &Marks,
    listed: &HashSet<ObjectId>,
    condemned: &[MarkId],
    verdict: &Verdict,
    removed: &HashSet<ObjectId>,
) -> Result<()> {
    let is_gone = |id: &ObjectId| removed.contains(id) || !listed.contains(id);
    // Older verdicts go first: they say of snapshots that are removed now that they are kept, and only while what was
    // condemned is listed does this one contradict them. It condemns and revokes all that they do.
    remove(repository, marks.objects_of(|mark| matches!(mark, Mark::Verdict(old) if old.condemn != verdict.condemn)))?;
    // Then what was condemned: a verdict or census without it says nothing.
    remove(
        repository,
        now.objects_of(|mark| match mark {
            Mark::Condemn(condemn) => condemned.contains(&condemn.id),
            _ => false,
        }),
    )?;
    // A session is announced before its intents, and what is condemned before its census: where the later listing
    // lacks the first, it has ended, and a crash has kept the end of the second from becoming durable.
    let mut open: HashSet<MarkId> = [SessionKind::Backup, SessionKind::Prune]
        .into_iter()
        .flat_map(|kind| now.sessions(kind))
        .map(|(_, session)| session.id)
        .collect();
    open.extend(now.condemned().map(|(_, condemn)| condemn.id).filter(|id| !condemned.contains(id)));
    let index: HashSet<ObjectId> = match marks.index_bundles().next() {
        Some(_) => repository.store().list(ObjectKind::Index)?.iter().map(|listed| listed.id).collect(),
        None => HashSet::new(),
    };
    // The verdict says of them what their recalls did.
    remove(repository, marks.recalled.clone())?;
    let sessions: Vec<_> =
        [SessionKind::Backup, SessionKind::Prune].into_iter().flat_map(|kind| marks.sessions(kind)).collect();
    let living: HashSet<MarkId> = sessions.iter().map(|(_, session)| session.id).collect();
    let is_dead = |session: &SessionMark| marks.is_fenced(&session.id);
    let dead: HashSet<MarkId> =
        sessions.iter().filter(|(_, session)| is_dead(session)).map(|(_, session)| session.id).collect();
    remove(
        repository,
        marks.objects_of(|mark| match mark {
            Mark::Census { condemn, .. } => !open.contains(condemn),
            Mark::Session(session) => dead.contains(&session.id),
            Mark::Forget(forget) => forget.snapshots.iter().all(is_gone),
            Mark::Bundle(bundle) => bundle.snapshots.iter().all(|entry| is_gone(&entry.id)),
            // The prune has merged what it tells of, or will: the next backups tell of what is left.
            Mark::IndexBundle(bundle) => !bundle.objects.iter().any(|entry| index.contains(&entry.id)),
            Mark::Recall { .. } => true,
            _ => false,
        }),
    )?;
    // A session that wakes must miss its own mark before its fence goes.
    remove(
        repository,
        marks.objects_of(|mark| match mark {
            Mark::Intent { session, .. } => dead.contains(session) || !open.contains(session),
            Mark::Fence { session } => dead.contains(session) || !living.contains(session),
            _ => false,
        }),
    )
}

/// Removes marks and makes that durable.
pub fn remove(repository: &Repository, marks: Vec<ObjectId>) -> Result<()> {
    for id in marks {
        repository.delete_mark(id)?;
    }
    repository.store().barrier(Names::Mine)
}
