//! Storing what is sealed.
//!
//! A put of which nobody knows whether it was done may still take effect at any later time, also after the object
//! was removed again. So it is never made again under the same name: the same content is sealed anew, with a fresh
//! key, and stored under the name that gives. Marks and snapshots whose names are given up so are recalled first:
//! should they appear, they do not count (docs/prune.md). A pack or index object that appears late only takes room.

use crate::error::{Error, ErrorKind, Result};
use crate::format::header::Kind;
use crate::format::mark::Mark;
use crate::id::ObjectId;
use crate::repo::Repository;
use crate::repo::objects::{object_id, seal_object};
use crate::repo::write::pack::FinishedPack;
use crate::store::{Names, Object, ObjectKind, Store};
use std::time::Duration;

/// How many names are tried. The store has made every request several times before it says that it does not know.
const MAX_ATTEMPTS: u32 = 4;
/// Before the second name; twice as long before each further one. A folder of this machine is not waited for.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// An object that was stored.
#[derive(Debug)]
pub struct Put {
    /// Its id.
    pub id: ObjectId,
    /// Its length.
    pub len_bytes: u64,
    kind: ObjectKind,
    /// Names under which the same content may appear too.
    given_up: Vec<ObjectId>,
}

impl Put {
    /// Makes the object durable, and then removes what has appeared under the names that were given up.
    pub fn settle(self, store: &dyn Store) -> Result<()> {
        store.barrier(Names::Mine)?;
        for id in self.given_up {
            if let Err(error) = store.delete(self.kind.object(id)) {
                tracing::debug!("What appears under a name that was given up stays: {}", error.chain());
            }
        }
        Ok(())
    }
}

/// Counts the names that were tried.
#[derive(Debug, Default)]
pub struct Attempts(u32);

impl Attempts {
    /// Returns whether another name is worth trying after this failure, and waits a little before that.
    pub fn may_go_on(&mut self, store: &dyn Store, failure: &Error) -> bool {
        self.0 += 1;
        if failure.kind() != ErrorKind::Uncertain || self.0 == MAX_ATTEMPTS {
            return false;
        }
        tracing::warn!("To be sealed and stored anew: {}", failure.chain());
        if store.is_far() {
            std::thread::sleep(FIRST_PAUSE * (1 << (self.0 - 1)));
        }
        true
    }
}

/// Stores what `seal` makes, anew for every attempt. `give_up` hears each name of which nobody knows whether it will
/// appear; where it fails there is no further attempt.
pub fn put_anew(
    store: &dyn Store,
    kind: ObjectKind,
    seal: &mut dyn FnMut() -> Result<Vec<u8>>,
    give_up: &mut dyn FnMut(ObjectId) -> Result<()>,
) -> Result<Put> {
    let mut given_up = Vec::new();
    let mut attempts = Attempts::default();
    loop {
        let bytes = seal()?;
        let id = object_id(&bytes);
        let Err(error) = store.put(kind.object(id), &bytes) else {
            return Ok(Put { id, len_bytes: bytes.len() as u64, kind, given_up });
        };
        // The last one too: what is told to have failed must have no effect later.
        let is_known = error.kind() != ErrorKind::Uncertain || give_up(id).is_err();
        if is_known || !attempts.may_go_on(store, &error) {
            return Err(error);
        }
        given_up.push(id);
    }
}

impl Repository {
    /// Stores a pack and returns it as it was stored: under another name and key where the first put was not
    /// answered. It is durable after the next barrier.
    ///
    /// What appears late under the first name is left to a prune: another backup may have come to rely on it.
    pub fn put_pack(&self, mut pack: FinishedPack) -> Result<FinishedPack> {
        let mut attempts = Attempts::default();
        loop {
            match self.store.put(Object::Pack(pack.entry.id), &pack.bytes) {
                Ok(()) => return Ok(pack),
                Err(error) if attempts.may_go_on(&*self.store, &error) => {
                    pack = pack.renewed(&self.vault)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Stores an index object. It is durable once it was settled.
    pub fn put_index_object(&self, plain: &[u8]) -> Result<Put> {
        crate::repo::index::segment::check_index_len(plain.len())?;
        let mut seal = || Ok(seal_object(&self.vault, Kind::Index, plain));
        put_anew(&*self.store, ObjectKind::Index, &mut seal, &mut |_| Ok(()))
    }

    /// Says, durably, that an object does not count should it appear.
    pub fn recall(&self, object: ObjectId) -> Result<()> {
        self.put_mark(Mark::Recall { objects: vec![object] }).map(drop)
    }
}
