//! Bundles: marks with copies of what snapshots and small index objects say, so that a machine that never saw the
//! repository reads a thousand of them with one request.
//!
//! They are written where every request takes a round trip. In a local folder a snapshot is read in some 30 us, once,
//! and the bundle would cost two syncs. A bundle is advice: what it says of objects that are not listed counts for
//! nothing, and what it does not say is read from the objects. It is sealed as they are, and as true.

use crate::error::{ErrorKind, Result};
use crate::format::codec::Bytes;
use crate::format::mark::{Bundle, Bundled, IndexBundle, Mark};
use crate::format::snapshot::Snapshot;
use crate::id::ObjectId;
use crate::repo::Repository;
use crate::repo::index::Loaded;
use crate::repo::index::cache;
use crate::repo::parallel;
use crate::repo::shared::listed::ListedSnapshot;
use crate::repo::shared::marks::Marks;
use crate::store::{self, ObjectKind};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A backup writes a bundle once more objects than this are in none: each of them costs a new machine a request.
const MAX_UNBUNDLED: usize = 4;
/// No bundle holds more: about 8 000 snapshots.
const MAX_BUNDLE_BYTES: usize = 4 << 20;
/// A bundle with less that counts is written anew together with what is new.
const SMALL_BUNDLE_BYTES: usize = MAX_BUNDLE_BYTES / 2;
/// A longer index object is no part of a bundle: this one tells of some 250 chunks.
const MAX_BUNDLED_INDEX_BYTES: usize = 16 << 10;
/// Index bundles have no more than about this together: every program that looks at marks reads them.
const MAX_INDEX_BUNDLES_BYTES: usize = 8 << 20;
/// So many index objects are read for a bundle at a time, at most.
const MAX_FRESH: usize = 256;

/// Returns what bundles say of the snapshots that are `wanted`.
pub fn snapshots(marks: &Marks, wanted: &HashSet<ObjectId>) -> HashMap<ObjectId, Arc<Snapshot>> {
    let entries = marks.bundles().flat_map(|(_, bundle)| bundle);
    let wanted = entries.filter(|entry| wanted.contains(&entry.id));
    wanted.filter_map(|entry| Some((entry.id, Arc::new(Snapshot::decode(&entry.plain).ok()?)))).collect()
}

fn ids_of<'a>(bundles: impl Iterator<Item = (ObjectId, &'a [Bundled])>) -> HashSet<ObjectId> {
    bundles.flat_map(|(_, bundle)| bundle).map(|entry| entry.id).collect()
}

impl Repository {
    /// Writes bundles of all snapshots where more than [`MAX_UNBUNDLED`] are in none, and then of small index objects,
    /// and removes those they replace. That it could not be done costs later readers requests, and is no error.
    pub(in crate::repo) fn keep_bundle(&self, all: &[ListedSnapshot], marks: &Marks) {
        if !self.store.is_far() {
            return;
        }
        if let Err(error) = self.write_bundles(all, marks) {
            tracing::debug!("The bundles were not written: {}", error.chain());
        }
    }

    fn write_bundles(&self, all: &[ListedSnapshot], marks: &Marks) -> Result<()> {
        let bundled = ids_of(marks.bundles());
        let new = all.iter().filter(|listed| !bundled.contains(&listed.id));
        let fresh: HashMap<ObjectId, Bytes> = new.map(|listed| (listed.id, Bytes(listed.snapshot.encode()))).collect();
        if fresh.len() <= MAX_UNBUNDLED {
            return Ok(());
        }
        let stored = all.iter().map(|listed| listed.id).collect();
        self.renew(marks.bundles(), &stored, fresh, |snapshots| Mark::Bundle(Bundle { snapshots }))?;
        // Asked for as rarely: it takes a listing.
        self.write_index_bundles(marks)
    }

    fn write_index_bundles(&self, marks: &Marks) -> Result<()> {
        let bundles = marks.index_bundles().flat_map(|(_, bundle)| bundle);
        if bundles.map(room_bytes).sum::<usize>() > MAX_INDEX_BUNDLES_BYTES {
            return Ok(());
        }
        let listed = self.store.list(ObjectKind::Index)?;
        let bundled = ids_of(marks.index_bundles());
        let is_new = |listed: &&store::ListedObject| is_small(listed) && !bundled.contains(&listed.id);
        let new: Vec<ObjectId> = listed.iter().filter(is_new).take(MAX_FRESH).map(|listed| listed.id).collect();
        if new.len() <= MAX_UNBUNDLED {
            return Ok(());
        }
        let read = parallel::for_each(&*self.store, parallel::SMALL, &new, |id| match self.read_index_object(*id) {
            Ok(plain) => Ok(Some((*id, Bytes(plain))).filter(|(_, plain)| plain.len() <= MAX_BUNDLED_INDEX_BYTES)),
            // Whoever needs it is told.
            Err(error) if error.kind() == ErrorKind::NotFound || self.is_damage(&error) => Ok(None),
            Err(error) => Err(error),
        })?;
        let stored = listed.iter().map(|listed| listed.id).collect();
        let fresh: HashMap<_, _> = read.into_iter().flatten().collect();
        if fresh.is_empty() {
            return Ok(());
        }
        self.renew(marks.index_bundles(), &stored, fresh, |objects| Mark::IndexBundle(IndexBundle { objects }))
    }

    /// Writes bundles of what is `fresh` and of what small ones say of objects that are `stored`. The small ones are
    /// then removed.
    fn renew<'a>(
        &self,
        bundles: impl Iterator<Item = (ObjectId, &'a [Bundled])>,
        stored: &HashSet<ObjectId>,
        mut fresh: HashMap<ObjectId, Bytes>,
        mark: impl Fn(Vec<Bundled>) -> Mark,
    ) -> Result<()> {
        let mut replaced = Vec::new();
        for (mark, bundle) in bundles {
            let counting: Vec<_> = bundle.iter().filter(|entry| stored.contains(&entry.id)).collect();
            if counting.iter().map(|entry| room_bytes(entry)).sum::<usize>() < SMALL_BUNDLE_BYTES {
                replaced.push(mark);
                fresh.extend(counting.into_iter().map(|entry| (entry.id, entry.plain.clone())));
            }
        }
        let mut entries: Vec<_> = fresh.into_iter().map(|(id, plain)| Bundled { id, plain }).collect();
        entries.sort_unstable_by_key(|entry| entry.id);
        // One that fills a bundle alone is read from its own object.
        entries.retain(|entry| room_bytes(entry) <= MAX_BUNDLE_BYTES);
        let mut rest = &entries[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |entry: &&Bundled| {
                bytes += room_bytes(entry);
                bytes <= MAX_BUNDLE_BYTES
            };
            let (now, later) = rest.split_at(rest.iter().take_while(fits).count());
            self.put_mark(mark(now.to_vec()))?;
            rest = later;
        }
        // What replaces them is durable.
        replaced.into_iter().try_for_each(|mark| self.delete_mark(mark))
    }

    /// Takes those of index objects out of `missing` that bundles tell of; nothing where they are few.
    pub(in crate::repo) fn bundled_segments(&self, missing: &mut Vec<store::ListedObject>) -> Vec<Arc<Loaded>> {
        if missing.iter().filter(|listed| is_small(listed)).count() <= MAX_UNBUNDLED {
            return Vec::new();
        }
        // Whoever needs the marks is told what is wrong with them.
        let Ok(marks) = self.marks() else { return Vec::new() };
        let mut wanted: HashSet<ObjectId> = missing.iter().map(|listed| listed.id).collect();
        let mut segments = Vec::new();
        for entry in marks.index_bundles().flat_map(|(_, bundle)| bundle) {
            // What makes no sense is read from the object itself.
            if wanted.contains(&entry.id)
                && let Ok(loaded) = cache::heap(entry.plain.0.clone(), vec![entry.id])
            {
                wanted.remove(&entry.id);
                segments.push(Arc::new(Loaded { is_bundled: true, ..loaded }));
            }
        }
        missing.retain(|listed| wanted.contains(&listed.id));
        match &self.cache {
            Some(cache) if segments.len() > 1 => cache.gather(segments),
            _ => segments,
        }
    }
}

fn is_small(listed: &store::ListedObject) -> bool {
    listed.len_bytes <= MAX_BUNDLED_INDEX_BYTES as u64
}

/// Returns the room an entry takes in a bundle: its name, the length of its text, and its text.
fn room_bytes(entry: &Bundled) -> usize {
    entry.plain.len() + 40
}
