//! The end of a backup: its snapshot, stored under a name nobody else has.

use super::Repository;
use super::objects::{object_id, seal_object};
use super::put::Attempts;
use super::session::Session;
use super::snapshots::Listed;
use crate::error::{ErrorKind, Result};
use crate::format::header::Kind;
use crate::format::snapshot::Snapshot;
use crate::id::ObjectId;
use crate::store::{Names, Object};

impl Repository {
    /// Stores a snapshot whose tree is durable, and makes it durable too.
    ///
    /// Its name becomes unique among all snapshots: whoever sees after storing that another has
    /// stored the same name stores its snapshot again under a longer name, and of two writers at
    /// least one sees the other.
    pub fn commit(&self, session: &mut Session, mut snapshot: Snapshot) -> Result<(ObjectId, Snapshot)> {
        let plain_name = snapshot.name.clone();
        if self.has_seen_name(&plain_name) {
            snapshot.name = unique(&plain_name);
        }
        let id = self.put_snapshot(session, &snapshot)?;
        // One listing tells both: whether a prune has fenced the session, and whether the name is another's.
        self.know_snapshot(id, &snapshot);
        let (all, marks) = self.listed().inspect_err(|_| self.take_snapshot_back(id))?;
        if let Err(error) = session.check_by(&marks) {
            self.take_back(id)?;
            return Err(error);
        }
        let is_other = |listed: &Listed| listed.id != id && listed.snapshot.name == snapshot.name;
        if !all.iter().any(is_other) {
            self.keep_digest(&all, &marks);
            return Ok((id, snapshot));
        }
        snapshot.name = unique(&plain_name);
        let renamed = self.put_renamed(session, &snapshot).inspect_err(|_| self.take_snapshot_back(id))?;
        // Its name is another's: should it stay, it is shown with its id.
        self.take_snapshot_back(id);
        Ok((renamed, snapshot))
    }

    /// Stores a snapshot under a name that is random, and takes it back if the session was fenced.
    fn put_renamed(&self, session: &mut Session, snapshot: &Snapshot) -> Result<ObjectId> {
        let id = self.put_snapshot(session, snapshot)?;
        if let Err(error) = session.check() {
            self.take_back(id)?;
            return Err(error);
        }
        Ok(id)
    }

    /// Removes a snapshot of which a failure will be told; one that stays all the same is whole.
    fn take_snapshot_back(&self, id: ObjectId) {
        if let Err(error) = self.take_back(id) {
            tracing::warn!("A snapshot that is not reported stays: {}", error.chain());
        }
    }

    /// Announces a snapshot and stores it. It counts once the session was seen not to be fenced after that: a prune
    /// that has fenced it and did not see the snapshot has revoked it by its name.
    ///
    /// An object of which nobody knows whether it will appear is recalled, and the snapshot stored as another one.
    fn put_snapshot(&self, session: &mut Session, snapshot: &Snapshot) -> Result<ObjectId> {
        let mut attempts = Attempts::default();
        loop {
            let bytes = seal_object(&self.keys, Kind::Snapshot, self.suite, self.id, &snapshot.encode());
            let id = object_id(&bytes);
            session.announce(id)?;
            let put = |repository: &Repository| {
                let stored = repository.store.put(Object::Snapshot(id), &bytes);
                let durable = stored.and_then(|()| repository.store.barrier(Names::Mine));
                durable.inspect_err(|_| repository.take_snapshot_back(id))
            };
            match session.risk(|repository, _| put(repository)) {
                Ok(()) => return Ok(id),
                Err(error) if error.kind() == ErrorKind::Uncertain => {
                    // From now on it is no snapshot, whenever it appears: the session may end.
                    if session.risk(|repository, _| repository.recall(id)).is_err()
                        || !attempts.may_go_on(&*self.store, &error)
                    {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes a snapshot that is announced still: should a power cut bring it back after its announcement is
    /// gone, no prune would know of it.
    fn take_back(&self, id: ObjectId) -> Result<()> {
        self.store.delete(Object::Snapshot(id))?;
        self.store.barrier(Names::Mine)
    }
}

fn unique(name: &str) -> String {
    let mut random = [0; 3];
    crate::crypto::keys::fill_random(&mut random);
    format!("{name}-{}", crate::id::to_hex(&random))
}
