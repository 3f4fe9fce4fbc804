//! The list of snapshots, with a copy in the cache so that a thousand of them are one file to read.

use super::Repository;
use super::marks::Marks;
use super::objects::{object_id, open_object};
use crate::error::{Error, ErrorKind, Result};
use crate::format::codec::{self, Bytes};
use crate::format::header::Kind;
use crate::format::snapshot::{MAX_SNAPSHOT_BYTES, Snapshot};
use crate::id::ObjectId;
use crate::store::{Object, ObjectKind};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// The cache's file; its name has the version of its content.
const CACHE_FILE: &str = "snapshots-1";

/// A snapshot and the object it is stored as.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its object.
    pub id: ObjectId,
    /// Its content; without the texts of its troubles where it came from the cache.
    pub snapshot: Arc<Snapshot>,
}

#[derive(Serialize, Deserialize)]
struct Cached {
    id: ObjectId,
    plain: Bytes,
}

impl Repository {
    /// Reads one snapshot whole.
    pub fn snapshot(&self, id: ObjectId) -> Result<Snapshot> {
        let object = Object::Snapshot(id);
        let damaged = |error: Error| match error.kind() {
            ErrorKind::Damaged => Error::damaged(format!("Cannot read {object}: run `bakfs check`")).because(error),
            _ => error,
        };
        let bytes = self.store.read_whole(object, MAX_SNAPSHOT_BYTES as u64 + 4096)?;
        if object_id(&bytes) != id {
            // A good snapshot under another's name would hide that one.
            return Err(damaged(Error::damaged("Its bytes are not those its name stands for (SHA-256)")));
        }
        let plain = open_object(&self.keys, Kind::Snapshot, self.id, bytes, MAX_SNAPSHOT_BYTES).map_err(damaged)?;
        Snapshot::decode(&plain).map_err(|error| damaged(Error::damaged("It makes no sense").because(error)))
    }

    /// Lists the snapshots, oldest first; equal times are ordered by id. Forgotten ones are left out; a
    /// damaged one is a warning.
    pub fn snapshots(&self) -> Result<Vec<Listed>> {
        self.snapshots_known(&[])
    }

    /// Like [`Self::snapshots`], reading only those that are not in `known`.
    pub fn snapshots_known(&self, known: &[Listed]) -> Result<Vec<Listed>> {
        let (mut all, marks) = self.listed(known)?;
        let forgotten = marks.forgotten();
        all.retain(|listed| !forgotten.contains(&listed.id));
        Ok(all)
    }

    /// Lists the snapshots that are forgotten and can be brought back.
    pub fn forgotten_snapshots(&self) -> Result<Vec<Listed>> {
        let (mut all, marks) = self.listed(&[])?;
        let forgotten = marks.forgotten();
        all.retain(|listed| forgotten.contains(&listed.id));
        Ok(all)
    }

    /// Lists the snapshots, forgotten ones too.
    pub fn all_snapshots(&self) -> Result<Vec<Listed>> {
        Ok(self.listed(&[])?.0)
    }

    /// Lists what are snapshots, and the marks that say so. The marks are read last: what a prune removes
    /// meanwhile is told by its verdict.
    fn listed(&self, known: &[Listed]) -> Result<(Vec<Listed>, Marks)> {
        let mut stored = self.store.list(ObjectKind::Snapshot)?;
        let marks = self.marks()?;
        for (id, reason) in &marks.unreadable {
            self.warn(format!("{} cannot be read: run `bakfs repair`: {reason}", Object::Mark(*id)));
        }
        let void = marks.void();
        stored.retain(|object| !void.contains(&object.id));
        let mut have: HashMap<ObjectId, Arc<Snapshot>> =
            known.iter().map(|listed| (listed.id, listed.snapshot.clone())).collect();
        if known.is_empty() {
            have = self.cached_snapshots();
        }
        let mut changed = have.len() != stored.len();
        let mut all = Vec::with_capacity(stored.len());
        for object in stored {
            let snapshot = match have.get(&object.id) {
                Some(snapshot) => snapshot.clone(),
                None => match self.snapshot(object.id) {
                    Ok(mut snapshot) => {
                        changed = true;
                        snapshot.troubles = Vec::new();
                        Arc::new(snapshot)
                    }
                    // Removed since it was listed.
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => {
                        self.warnings.lock().push(error.chain());
                        continue;
                    }
                },
            };
            all.push(Listed { id: object.id, snapshot });
        }
        all.sort_by_key(|listed: &Listed| (listed.snapshot.time, listed.id));
        if changed {
            self.cache_snapshots(&all);
        }
        Ok((all, marks))
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

    fn cache_snapshots(&self, all: &[Listed]) {
        let Some(cache) = &self.cache else { return };
        let cached: Vec<_> =
            all.iter().map(|listed| Cached { id: listed.id, plain: Bytes(listed.snapshot.encode()) }).collect();
        let body = codec::encode(&cached);
        let mut bytes = blake3::hash(&body).as_bytes().to_vec();
        bytes.extend_from_slice(&body);
        cache.write_file(CACHE_FILE, &bytes);
    }
}
