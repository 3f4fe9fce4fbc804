//! What processes share through a repository: snapshots and their names, marks, sessions.

pub mod bundle;
pub mod dated;
pub mod foreign;
pub mod forget;
pub mod listed;
pub mod marks;
pub mod names;
pub mod scope;
pub mod seen;
pub mod session;
pub mod snapshots;

use crate::format::mark::Mark;
use crate::id::ObjectId;
use crate::known::Visited;
use crate::repo::features::Features;
use parking_lot::{Mutex, RwLock};
use session::Process;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What an open repository knows of what others do there, and of what was there before.
pub struct Shared {
    pub(crate) process: Process,
    known_marks: Mutex<HashMap<ObjectId, Arc<Mark>>>,
    /// Objects in `marks/` that are none, and why.
    foreign_marks: Mutex<HashMap<ObjectId, String>>,
    known_snapshots: Mutex<snapshots::KnownSnapshots>,
    /// Where this machine keeps what it has seen here.
    pub(in crate::repo) known: Option<Visited>,
    /// The features that marks or this machine's memory have told of.
    pub(in crate::repo) features: Mutex<Features>,
    lost: Mutex<seen::Lost>,
    /// While this process writes: the packs that something new may rely on.
    pub(in crate::repo) reliable: RwLock<Option<HashSet<ObjectId>>>,
}

impl Shared {
    /// Makes one that has seen nothing yet.
    pub fn new(known: Option<Visited>, features: Features) -> Self {
        Shared {
            features: Mutex::new(features),
            process: Process::this(),
            known_marks: Mutex::default(),
            foreign_marks: Mutex::default(),
            known_snapshots: Mutex::default(),
            known,
            lost: Mutex::default(),
            reliable: RwLock::default(),
        }
    }

    /// From now on only these packs count as having what they have.
    pub(in crate::repo) fn rely_on(&self, packs: HashSet<ObjectId>) {
        *self.reliable.write() = Some(packs);
    }

    /// Adds a pack this process has stored.
    pub(in crate::repo) fn rely_on_one(&self, id: ObjectId) {
        if let Some(reliable) = &mut *self.reliable.write() {
            reliable.insert(id);
        }
    }
}
