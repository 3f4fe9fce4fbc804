//! The list of snapshots, with a copy in the cache so that a thousand of them are one file to read.

use crate::error::{ErrorKind, Result};
use crate::format::codec::{self, Bytes};
use crate::format::snapshot::Snapshot;
use crate::id::ObjectId;
use crate::repo::Repository;
use crate::repo::parallel;
use crate::repo::shared::bundle;
use crate::repo::shared::foreign;
use crate::repo::shared::listed::ListedSnapshot;
use crate::repo::shared::marks::Marks;
use crate::store::ObjectKind;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The cache's file; its name has the version of its content.
const CACHE_FILE: &str = "snapshots-1";

/// What this process knows of the snapshots, by the last listing.
#[derive(Default)]
pub struct KnownSnapshots {
    snapshots: HashMap<ObjectId, Arc<Snapshot>>,
    /// Those in the cache's file.
    cached: HashSet<ObjectId>,
}

/// Leaves out what only a look at the one snapshot needs.
fn trimmed(snapshot: Snapshot) -> Arc<Snapshot> {
    Arc::new(Snapshot { troubles: Vec::new(), ..snapshot })
}

#[derive(Serialize, Deserialize)]
struct Cached {
    id: ObjectId,
    plain: Bytes,
}

impl Repository {
    /// Reads one snapshot whole.
    pub fn snapshot(&self, id: ObjectId) -> Result<Snapshot> {
        self.read_stored(id)
    }

    /// Lists the snapshots, oldest first; equal times are ordered by id. Forgotten ones are left out; a
    /// damaged one is a warning. One that a network does not bring is an error: without it another would be the newest; one
    /// that this machine does not give is a warning, and [`Repository::require_all_read`] fails.
    pub fn snapshots(&self) -> Result<Vec<ListedSnapshot>> {
        let (mut all, marks) = self.listed()?;
        let forgotten = marks.forgotten();
        all.retain(|listed| !forgotten.contains(&listed.id));
        Ok(all)
    }

    /// Lists the snapshots that are forgotten and can be brought back.
    pub fn forgotten_snapshots(&self) -> Result<Vec<ListedSnapshot>> {
        let (mut all, marks) = self.listed()?;
        let forgotten = marks.forgotten();
        all.retain(|listed| forgotten.contains(&listed.id));
        Ok(all)
    }

    /// Says that every snapshot there is is forgotten, and what brings them back; nothing where one is not, or none is.
    pub fn all_forgotten(&self) -> Result<Option<String>> {
        let (all, marks) = self.listed()?;
        let forgotten = marks.forgotten();
        if all.is_empty() || all.iter().any(|listed| !forgotten.contains(&listed.id)) {
            return Ok(None);
        }
        let (what, them) = if all.len() == 1 { ("The only snapshot is", "it") } else { ("All snapshots are", "them") };
        let until = format!("until a prune removes {them}, `bakfs forget --undo` brings {them} back");
        Ok(Some(format!("{what} forgotten: {until}")))
    }

    /// Lists the snapshots, forgotten ones too.
    pub fn all_snapshots(&self) -> Result<Vec<ListedSnapshot>> {
        Ok(self.listed()?.0)
    }

    /// Lists what are snapshots, and the marks that say so. The marks are read last: what a prune removes
    /// meanwhile is told by its verdict.
    ///
    /// A snapshot is read once. What earlier commands of this machine have read is in the cache, and what no command
    /// of this machine has read, in the bundles; the rest is read from the store.
    pub(in crate::repo) fn listed(&self) -> Result<(Vec<ListedSnapshot>, Marks)> {
        let before = self.history();
        let mut stored = self.store.list(ObjectKind::Snapshot)?;
        let mut marks = self.marks()?;
        let gone = self.look_for_gone(before.as_ref(), &mut stored, &mut marks)?;
        self.warn_of(&marks);
        let void = marks.void();
        stored.retain(|object| !void.contains(&object.id));
        let mut known = self.shared.known_snapshots.lock();
        let unknown = |known: &KnownSnapshots| -> Vec<ObjectId> {
            stored.iter().map(|listed| listed.id).filter(|id| !known.snapshots.contains_key(id)).collect()
        };
        if !unknown(&known).is_empty() {
            self.add_cached(&mut known);
        }
        let wanted: HashSet<_> = unknown(&known).into_iter().collect();
        known.snapshots.extend(bundle::snapshots(&marks, &wanted));
        let foreign = Mutex::new(Vec::new());
        let unread = Mutex::new(None);
        let read =
            parallel::for_each(&*self.store, parallel::SMALL, &unknown(&known), |id| match self.snapshot(*id) {
                Ok(snapshot) => Ok(Some((*id, trimmed(snapshot)))),
                // Removed since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) if error.kind() == ErrorKind::Foreign => {
                    foreign.lock().push((*id, error.chain()));
                    Ok(None)
                }
                // Far away all of it fails: there it is the network.
                Err(error) if !self.is_damage(&error) && self.store.is_far() => Err(error),
                Err(error) => {
                    self.warn(error.chain());
                    if !self.is_damage(&error) {
                        unread.lock().get_or_insert(error);
                    }
                    Ok(None)
                }
            })?;
        self.note_unread(unread.into_inner().as_ref());
        foreign::warning(ObjectKind::Snapshot, &foreign.into_inner()).into_iter().for_each(|text| self.note(text));
        known.snapshots.extend(read.into_iter().flatten());
        let mut all: Vec<_> = stored
            .iter()
            .filter_map(|listed| {
                Some(ListedSnapshot { id: listed.id, snapshot: known.snapshots.get(&listed.id)?.clone() })
            })
            .collect();
        all.sort_by_key(|listed: &ListedSnapshot| (listed.snapshot.time, listed.id));
        known.snapshots = all.iter().map(|listed| (listed.id, listed.snapshot.clone())).collect();
        let is_cached =
            known.snapshots.len() == known.cached.len() && known.snapshots.keys().all(|id| known.cached.contains(id));
        if !is_cached && self.cache_snapshots(&all) {
            known.cached = known.snapshots.keys().copied().collect();
        }
        if let Some(before) = &before {
            self.remember(before, &all, &gone);
        }
        Ok((all, marks))
    }

    /// Takes in what this process has stored.
    pub(in crate::repo) fn know_snapshot(&self, id: ObjectId, snapshot: &Snapshot) {
        self.shared.known_snapshots.lock().snapshots.insert(id, trimmed(snapshot.clone()));
    }

    /// Returns whether the last listing had a snapshot of this name.
    pub(in crate::repo) fn has_seen_name(&self, name: &str) -> bool {
        self.shared.known_snapshots.lock().snapshots.values().any(|snapshot| snapshot.name == name)
    }

    /// Adds what the cache has.
    fn add_cached(&self, known: &mut KnownSnapshots) {
        let cached = self.cached_snapshots();
        known.cached = cached.keys().copied().collect();
        for (id, snapshot) in cached {
            known.snapshots.entry(id).or_insert(snapshot);
        }
    }

    fn cached_snapshots(&self) -> HashMap<ObjectId, Arc<Snapshot>> {
        let cached = self.cache.as_ref().and_then(|cache| cache.read_file(CACHE_FILE));
        let Some(bytes) = cached.filter(|bytes| bytes.len() > 32) else {
            return HashMap::new();
        };
        let (hash, body) = bytes.split_at(32);
        if *blake3::hash(body).as_bytes() != *hash {
            return HashMap::new();
        }
        let cached: Vec<Cached> = codec::decode("cached list of snapshots", body).unwrap_or_default();
        let decode = |cached: Cached| Some((cached.id, Arc::new(Snapshot::decode(&cached.plain).ok()?)));
        cached.into_iter().filter_map(decode).collect()
    }

    /// Keeps a listing in the cache; returns whether there is one.
    fn cache_snapshots(&self, all: &[ListedSnapshot]) -> bool {
        let Some(cache) = &self.cache else { return false };
        let cached: Vec<_> =
            all.iter().map(|listed| Cached { id: listed.id, plain: Bytes(listed.snapshot.encode()) }).collect();
        let body = codec::encode(&cached);
        let mut bytes = blake3::hash(&body).as_bytes().to_vec();
        bytes.extend_from_slice(&body);
        cache.write_file(CACHE_FILE, &bytes);
        true
    }
}
