//! Forgetting snapshots, bringing them back, and pinning them: all of it by marks, nothing is deleted here.

use crate::error::{Error, ErrorKind, Result};
use crate::format::feature::Act;
use crate::format::mark::{Forget, Mark};
use crate::format::tree::Time;
use crate::id::ObjectId;
use crate::repo::Repository;
use crate::repo::shared::dated;
use crate::store::{Names, Object, ObjectKind};
use std::collections::HashSet;

fn now() -> Time {
    dated::time(jiff::Timestamp::now())
}

impl Repository {
    fn forget_mark(&self, snapshots: Vec<ObjectId>) -> Mark {
        Mark::Forget(Forget { snapshots, time: now(), host: self.shared.process.host.clone() })
    }

    /// Hides snapshots, all or none, until they are brought back or a prune removes them; refuses pinned ones.
    pub fn forget(&self, ids: &[ObjectId]) -> Result<()> {
        let marks = self.marks()?;
        marks.require_whole()?;
        self.require(Act::Remove, &marks)?;
        let pins = marks.pins();
        if let Some(id) = ids.iter().find(|id| pins.contains_key(*id)) {
            return Err(Error::usage(format!(
                "Snapshot {id} is pinned ({}): `bakfs unpin {id}` lets it be forgotten",
                pins[id].reason
            )));
        }
        let hidden = marks.forgotten();
        let ids: Vec<_> = ids.iter().copied().filter(|id| !hidden.contains(id)).collect();
        if !ids.is_empty() {
            self.put_mark(self.forget_mark(ids))?;
        }
        Ok(())
    }

    /// Brings forgotten snapshots back; returns those that stay forgotten because a prune has begun to remove them. Fails
    /// with [`ErrorKind::NotFound`] where no listed mark hides one of them: nothing was done then.
    ///
    /// The marks that hid them never count again, whoever puts them back.
    pub fn undo_forget(&self, ids: &[ObjectId]) -> Result<Vec<ObjectId>> {
        let wanted: HashSet<_> = ids.iter().copied().collect();
        let marks = self.marks()?;
        marks.require_whole()?;
        self.require(Act::Remove, &marks)?;
        let concerned: Vec<_> = marks
            .forgets()
            .filter(|(_, forget)| forget.snapshots.iter().any(|id| wanted.contains(id)))
            .map(|(object, forget)| (object, forget.snapshots.clone()))
            .collect();
        let hidden: HashSet<_> = concerned.iter().flat_map(|(_, ids)| ids).collect();
        if let Some(id) = ids.iter().find(|id| !hidden.contains(id)) {
            let message =
                format!("{} is not forgotten, or a listing lacks the mark that says so", Object::Snapshot(*id));
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        // What stays forgotten is hidden by another mark before the old one goes.
        let staying: Vec<_> =
            concerned.iter().flat_map(|(_, ids)| ids).copied().filter(|id| !wanted.contains(id)).collect();
        if !staying.is_empty() {
            self.put_mark(self.forget_mark(staying))?;
        }
        let concerned: Vec<_> = concerned.into_iter().map(|(object, _)| object).collect();
        self.retract_marks(&concerned)?;
        // Also of marks that a killed process has removed: none of them may come back.
        self.store.barrier(Names::All)?;
        // A prune condemns first and looks at the marks then: at least one of the two sees the other. The objects
        // are listed last, so that a prune that has ended meanwhile is seen by what it has deleted.
        let marks = self.marks()?;
        marks.require_whole()?;
        let hidden = marks.forgotten();
        if let Some(id) = ids.iter().find(|id| hidden.contains(*id)) {
            return Err(Error::new(
                ErrorKind::Busy,
                format!(
                    "{} is hidden by a mark that was not listed a moment ago: run the command again",
                    Object::Snapshot(*id)
                ),
            ));
        }
        let condemned = marks.condemned_snapshots();
        let stored: HashSet<_> = self.store.list(ObjectKind::Snapshot)?.iter().map(|listed| listed.id).collect();
        let late: Vec<_> = ids.iter().copied().filter(|id| condemned.contains(id) || !stored.contains(id)).collect();
        if !late.is_empty() {
            self.put_mark(self.forget_mark(late.clone()))?;
        }
        Ok(late)
    }

    /// Keeps a snapshot from being forgotten. Pinning it again changes the reason.
    pub fn pin(&self, id: ObjectId, reason: &str) -> Result<()> {
        let before = self.marks()?;
        self.require(Act::Add, &before)?;
        self.put_mark(Mark::Pin { snapshot: id, time: now(), reason: reason.into() })?;
        if let Some(pin) = before.pins().get(&id) {
            self.retract_marks(&[pin.mark])?;
        }
        // As for bringing back: a prune may be removing it.
        let marks = self.marks()?;
        marks.require_whole()?;
        let is_condemned = marks.condemned_snapshots().contains(&id);
        if is_condemned || !self.store.list(ObjectKind::Snapshot)?.iter().any(|listed| listed.id == id) {
            self.unpin(id)?;
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("Too late, nothing was pinned: a prune is removing {}", Object::Snapshot(id)),
            ));
        }
        self.store.barrier(Names::Mine)
    }

    /// Takes all pins off a snapshot; returns whether there was one.
    pub fn unpin(&self, id: ObjectId) -> Result<bool> {
        let marks = self.marks()?;
        self.require(Act::Remove, &marks)?;
        let pins = marks.objects_of(|mark| matches!(mark, Mark::Pin { snapshot, .. } if *snapshot == id));
        self.retract_marks(&pins)?;
        self.store.barrier(Names::Mine)?;
        Ok(!pins.is_empty())
    }
}
