//! The end of a backup: its snapshot, stored under a name nobody else has.

use crate::error::Result;
use crate::format::header::Kind;
use crate::format::snapshot::Snapshot;
use crate::id::ObjectId;
use crate::repo::Repository;
use crate::repo::objects::{object_id, seal_object};
use crate::repo::shared::listed::ListedSnapshot;
use crate::repo::shared::session::Session;
use crate::repo::write::put::Attempts;
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
        let looked = self.listed().and_then(|(all, marks)| session.check_by(&marks).map(|()| (all, marks)));
        let (all, marks) = looked.inspect_err(|_| self.take_back(session, id))?;
        let is_other = |listed: &ListedSnapshot| listed.id != id && listed.snapshot.name == snapshot.name;
        if !all.iter().any(is_other) {
            self.keep_bundle(&all, &marks);
            return Ok((id, snapshot));
        }
        snapshot.name = unique(&plain_name);
        let renamed = self.put_renamed(session, &snapshot).inspect_err(|_| self.take_back(session, id))?;
        // Its name is another's: should it stay, it is shown with its id.
        self.take_back(session, id);
        Ok((renamed, snapshot))
    }

    /// Stores a snapshot under a name that is random, and takes it back if the session was fenced.
    fn put_renamed(&self, session: &mut Session, snapshot: &Snapshot) -> Result<ObjectId> {
        let id = self.put_snapshot(session, snapshot)?;
        session.check().inspect_err(|_| self.take_back(session, id))?;
        Ok(id)
    }

    /// Announces a snapshot and stores it. It counts once the session was seen not to be fenced after that: a prune
    /// that has fenced it and did not see the snapshot has revoked it by its name.
    ///
    /// An object of which nobody knows whether it will appear is taken back, and the snapshot stored as another one.
    fn put_snapshot(&self, session: &mut Session, snapshot: &Snapshot) -> Result<ObjectId> {
        let mut attempts = Attempts::default();
        loop {
            let bytes = seal_object(&self.vault, Kind::Snapshot, &snapshot.encode());
            let id = object_id(&bytes);
            session.announce(id)?;
            let stored = self.store.put(Object::Snapshot(id), &bytes);
            let Err(error) = stored.and_then(|()| self.store.barrier(Names::Mine)) else { return Ok(id) };
            self.take_back(session, id);
            if session.is_uncertain() || !attempts.may_go_on(&*self.store, &error) {
                return Err(error);
            }
        }
    }

    /// Removes a snapshot of which a failure will be told, now and should it appear at a later time.
    ///
    /// A prune may have seen it, and would miss it: so it is recalled before it goes. Where that fails it stays, for
    /// it is whole, and the session stays open, so that a prune looks after what it has announced.
    fn take_back(&self, session: &mut Session, id: ObjectId) {
        let recalled = session.risk(|repository, _| repository.recall(id));
        let removed = recalled.and_then(|()| self.store.delete(Object::Snapshot(id)));
        if let Err(error) = removed.and_then(|()| self.store.barrier(Names::Mine)) {
            tracing::warn!("A snapshot that is not reported may stay: {}", error.chain());
        }
    }
}

fn unique(name: &str) -> String {
    let mut random = [0; 3];
    crate::random::fill_random(&mut random);
    format!("{name}-{}", crate::id::to_hex(&random))
}
