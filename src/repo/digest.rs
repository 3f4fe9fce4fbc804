//! Digests: marks with copies of what snapshots say, so that a machine that never saw the repository reads a thousand
//! snapshots with one request.
//!
//! They are written where every request takes a round trip. In a local folder a snapshot is read in some 30 us, once,
//! and the digest would cost two syncs. A digest is advice: what it says of objects that are not listed counts for
//! nothing, and what it does not say is read from the snapshots. It is sealed as they are, and as true.

use super::Repository;
use super::marks::Marks;
use super::snapshots::Listed;
use crate::error::Result;
use crate::format::codec::Bytes;
use crate::format::mark::{Digest, Digested, Mark};
use crate::format::snapshot::Snapshot;
use crate::id::ObjectId;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A backup writes a digest once more snapshots than this are in none: each of them costs a new machine a request.
const MAX_UNDIGESTED: usize = 4;
/// No digest holds more: about 8 000 snapshots.
const MAX_DIGEST_BYTES: usize = 4 << 20;
/// A digest with less that counts is written anew together with what is new.
const SMALL_DIGEST_BYTES: usize = MAX_DIGEST_BYTES / 2;

/// Returns what digests say of the snapshots that are `wanted`.
pub fn snapshots(marks: &Marks, wanted: &HashSet<ObjectId>) -> HashMap<ObjectId, Arc<Snapshot>> {
    let entries = marks.digests().flat_map(|(_, digest)| &digest.snapshots);
    let wanted = entries.filter(|entry| wanted.contains(&entry.id));
    wanted.filter_map(|entry| Some((entry.id, Arc::new(Snapshot::decode(&entry.plain).ok()?)))).collect()
}

impl Repository {
    /// Writes digests of all snapshots where more than [`MAX_UNDIGESTED`] are in none, and removes those they replace.
    /// That it could not be done costs later readers requests, and is no error.
    pub(super) fn keep_digest(&self, all: &[Listed], marks: &Marks) {
        if !self.store.is_far() {
            return;
        }
        if let Err(error) = self.write_digests(all, marks) {
            tracing::debug!("The digest of the snapshots was not written: {}", error.chain());
        }
    }

    fn write_digests(&self, all: &[Listed], marks: &Marks) -> Result<()> {
        let entries = || marks.digests().flat_map(|(_, digest)| &digest.snapshots);
        let digested: HashSet<ObjectId> = entries().map(|entry| entry.id).collect();
        let new = all.iter().filter(|listed| !digested.contains(&listed.id));
        let mut fresh: HashMap<ObjectId, Bytes> =
            new.map(|listed| (listed.id, Bytes(listed.snapshot.encode()))).collect();
        if fresh.len() <= MAX_UNDIGESTED {
            return Ok(());
        }
        let stored: HashSet<ObjectId> = all.iter().map(|listed| listed.id).collect();
        let mut replaced = Vec::new();
        for (mark, digest) in marks.digests() {
            let counting: Vec<_> = digest.snapshots.iter().filter(|entry| stored.contains(&entry.id)).collect();
            if counting.iter().map(|entry| room_bytes(entry)).sum::<usize>() < SMALL_DIGEST_BYTES {
                replaced.push(mark);
                fresh.extend(counting.into_iter().map(|entry| (entry.id, entry.plain.clone())));
            }
        }
        let mut entries: Vec<_> = fresh.into_iter().map(|(id, plain)| Digested { id, plain }).collect();
        entries.sort_unstable_by_key(|entry| entry.id);
        // One that fills a digest alone is read from its own object.
        entries.retain(|entry| room_bytes(entry) <= MAX_DIGEST_BYTES);
        let mut rest = &entries[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |entry: &&Digested| {
                bytes += room_bytes(entry);
                bytes <= MAX_DIGEST_BYTES
            };
            let (now, later) = rest.split_at(rest.iter().take_while(fits).count());
            self.put_mark(Mark::Digest(Digest { snapshots: now.to_vec() }))?;
            rest = later;
        }
        // What replaces them is durable.
        replaced.into_iter().try_for_each(|mark| self.delete_mark(mark))
    }
}

/// Returns the room an entry takes in a digest: its name, the length of its text, and its text.
fn room_bytes(entry: &Digested) -> usize {
    entry.plain.len() + 40
}
