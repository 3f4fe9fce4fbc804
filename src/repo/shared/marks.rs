//! Marks as a whole: what all programs that share the repository have told one another so far.

use crate::error::{Error, ErrorKind, Result};
use crate::format::feature::{Act, Feature};
use crate::format::header::Kind;
use crate::format::mark::{
    AnyMark, Bundled, Condemn, Forget, MAX_MARK_BYTES, Mark, MarkId, SessionKind, SessionMark, Verdict,
};
use crate::format::tree::Time;
use crate::id::ObjectId;
use crate::repo::Repository;
use crate::repo::objects::seal_object;
use crate::repo::parallel;
use crate::repo::shared::foreign;
use crate::repo::write::put::put_anew;
use crate::store::{Object, ObjectKind};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// How often marks are listed again because one was removed before it could be read.
const MAX_LISTINGS: usize = 20;

/// All marks, as one listing shows them.
#[derive(Debug, Default)]
pub struct Marks {
    all: Vec<(ObjectId, Arc<Mark>)>,
    /// Those that cannot be read, with the reason.
    pub unreadable: Vec<(ObjectId, String)>,
    /// Those of them that verify, and are of a kind that no feature explains: a newer bakfs has written them.
    pub newer: HashSet<ObjectId>,
    /// Those of kinds that a feature adds which this bakfs does not know: it may do without them where it may do without
    /// the feature.
    explained: Vec<ObjectId>,
    /// Objects that are no marks of this repository, with the reason: they say nothing.
    pub foreign: Vec<(ObjectId, String)>,
    /// Those that were given up and have appeared all the same: they say nothing.
    pub recalled: Vec<ObjectId>,
}

/// A pinned snapshot.
#[derive(Debug, Clone)]
pub struct Pin<'a> {
    /// The mark's object.
    pub mark: ObjectId,
    /// When it was pinned.
    pub time: Time,
    /// Why, in the words of whoever has pinned it.
    pub reason: &'a str,
}

impl Marks {
    fn find<'a, T>(&'a self, take: impl Fn(&'a Mark) -> Option<T> + 'a) -> impl Iterator<Item = (ObjectId, T)> + 'a {
        self.all.iter().filter_map(move |(object, mark)| Some((*object, take(mark)?)))
    }

    /// Returns the sessions of a kind that have not ended, fenced ones included.
    pub fn sessions(&self, kind: SessionKind) -> impl Iterator<Item = (ObjectId, &SessionMark)> {
        self.find(move |mark| match mark {
            Mark::Session(session) if session.kind == kind => Some(session),
            _ => None,
        })
    }

    /// Returns whether a session was fenced.
    pub fn is_fenced(&self, session: &MarkId) -> bool {
        self.all.iter().any(|(_, mark)| matches!(&**mark, Mark::Fence { session: fenced } if fenced == session))
    }

    /// Returns the snapshots that prunes have begun to remove.
    pub fn condemned_snapshots(&self) -> HashSet<ObjectId> {
        self.condemned().flat_map(|(_, condemn)| condemn.snapshots.iter().copied()).collect()
    }

    /// Returns whether a session has not ended and was not fenced.
    pub fn is_open(&self, session: &MarkId) -> bool {
        let is_there = |mark: &Mark| matches!(mark, Mark::Session(found) if found.id == *session);
        self.all.iter().any(|(_, mark)| is_there(mark)) && !self.is_fenced(session)
    }

    /// Returns the snapshots that sessions are about to store, each with its session: (session, snapshot).
    pub fn intents(&self) -> impl Iterator<Item = (ObjectId, (MarkId, ObjectId))> {
        self.find(|mark| match mark {
            Mark::Intent { session, snapshot } => Some((*session, *snapshot)),
            _ => None,
        })
    }

    /// Returns what was forgotten at once, each time that was not undone.
    pub fn forgets(&self) -> impl Iterator<Item = (ObjectId, &Forget)> {
        self.find(|mark| match mark {
            Mark::Forget(forget) => Some(forget),
            _ => None,
        })
    }

    /// Returns the pinned snapshots.
    pub fn pins(&self) -> HashMap<ObjectId, Pin<'_>> {
        let pins = self.find(|mark| match mark {
            Mark::Pin { snapshot, time, reason } => Some((*snapshot, (*time, reason))),
            _ => None,
        });
        pins.map(|(mark, (snapshot, (time, reason)))| (snapshot, Pin { mark, time, reason })).collect()
    }

    /// Returns what prunes have condemned and not yet deleted.
    pub fn condemned(&self) -> impl Iterator<Item = (ObjectId, &Condemn)> {
        self.find(|mark| match mark {
            Mark::Condemn(condemn) => Some(condemn),
            _ => None,
        })
    }

    /// Returns the backups that may rely on what is condemned; `None` until its prune has listed them.
    pub fn census(&self, condemn: &MarkId) -> Option<&[MarkId]> {
        self.all.iter().find_map(|(_, mark)| match &**mark {
            Mark::Census { condemn: of, sessions } if of == condemn => Some(&sessions[..]),
            _ => None,
        })
    }

    /// Returns the verdicts.
    pub fn verdicts(&self) -> impl Iterator<Item = (ObjectId, &Verdict)> {
        self.find(|mark| match mark {
            Mark::Verdict(verdict) => Some(verdict),
            _ => None,
        })
    }

    /// Returns whether there is something that was recalled, or says so, which a verdict takes over.
    pub fn has_recalls(&self) -> bool {
        !self.recalled.is_empty() || self.all.iter().any(|(_, mark)| matches!(&**mark, Mark::Recall { .. }))
    }

    /// Returns the names that were given up, of marks and of snapshots: by those who did, and by verdicts since.
    pub fn given_up(&self) -> impl Iterator<Item = ObjectId> {
        self.all
            .iter()
            .flat_map(|(_, mark)| match &**mark {
                Mark::Recall { objects } => &objects[..],
                Mark::Verdict(verdict) => &verdict.revoked[..],
                _ => &[],
            })
            .copied()
    }

    /// Returns the bundles of snapshots.
    pub fn bundles(&self) -> impl Iterator<Item = (ObjectId, &[Bundled])> {
        self.find(|mark| match mark {
            Mark::Bundle(bundle) => Some(&bundle.snapshots[..]),
            _ => None,
        })
    }

    /// Returns the bundles of index objects.
    pub fn index_bundles(&self) -> impl Iterator<Item = (ObjectId, &[Bundled])> {
        self.find(|mark| match mark {
            Mark::IndexBundle(bundle) => Some(&bundle.objects[..]),
            _ => None,
        })
    }

    /// Returns the records of features.
    pub fn features(&self) -> impl Iterator<Item = (ObjectId, &Feature)> {
        self.find(|mark| if let Mark::Feature(feature) = mark { Some(feature) } else { None })
    }

    /// Sorts marks that are of unknown kinds into those that a feature explains and others.
    fn sort_newer(&mut self, newer: Vec<(ObjectId, u32)>) {
        let kinds: HashSet<u32> = self.features().flat_map(|(_, feature)| feature.marks.iter().copied()).collect();
        for (id, kind) in newer {
            if kinds.contains(&kind) {
                self.explained.push(id);
            } else {
                self.newer.insert(id);
                self.unreadable.push((id, of_unknown_kind(id, kind).chain()));
            }
        }
    }

    /// Leaves out what was recalled. A verdict that was recalled revokes nothing; one that a later verdict revokes
    /// revokes no more than that one.
    fn heed_recalls(&mut self) {
        let recalls = self.find(|mark| if let Mark::Recall { objects } = mark { Some(objects) } else { None });
        let recalled: HashSet<ObjectId> = recalls.flat_map(|(_, objects)| objects.iter().copied()).collect();
        let verdicts = self.verdicts().filter(|(id, _)| !recalled.contains(id));
        let revoked: Vec<_> = verdicts.flat_map(|(_, verdict)| verdict.revoked.iter().copied()).collect();
        let recalled: HashSet<ObjectId> = recalled.into_iter().chain(revoked).collect();
        self.unreadable.retain(|(id, _)| !recalled.contains(id));
        // What was raised stays raised.
        let counts = |(id, mark): &(ObjectId, Arc<Mark>)| !recalled.contains(id) || matches!(**mark, Mark::Feature(_));
        self.recalled = self.all.iter().filter(|mark| !counts(mark)).map(|(id, _)| *id).collect();
        self.all.retain(counts);
    }

    /// Returns the objects of all marks a predicate approves of.
    pub fn objects_of(&self, wanted: impl Fn(&Mark) -> bool) -> Vec<ObjectId> {
        self.all.iter().filter(|(_, mark)| wanted(mark)).map(|(object, _)| *object).collect()
    }

    /// Returns the snapshots that are forgotten and can be brought back.
    ///
    /// One that was pinned at the same time is not forgotten: what keeps wins.
    pub fn forgotten(&self) -> HashSet<ObjectId> {
        let pins = self.pins();
        let all = self.forgets().flat_map(|(_, forget)| forget.snapshots.iter().copied());
        all.filter(|id| !pins.contains_key(id)).collect()
    }

    /// Returns the objects that are no snapshots any more, or never were.
    ///
    /// What a verdict removes counts only while the condemn mark that names it is listed: a verdict that appears late
    /// must not hide what was brought back, nor does what it says of earlier prunes.
    pub fn void(&self) -> HashSet<ObjectId> {
        let open: HashMap<_, _> = self.condemned().map(|(_, condemn)| (condemn.id, &condemn.snapshots)).collect();
        let mut void: HashSet<_> = self.given_up().collect();
        for (_, verdict) in self.verdicts() {
            if let Some(condemned) = open.get(&verdict.condemn) {
                let condemned: HashSet<_> = condemned.iter().collect();
                void.extend(verdict.removed.iter().filter(|id| condemned.contains(id)).copied());
            }
        }
        void
    }

    /// Returns the snapshots prunes have seen and left there.
    pub fn kept(&self) -> HashSet<ObjectId> {
        self.verdicts().flat_map(|(_, verdict)| verdict.kept.iter().copied()).collect()
    }

    /// Returns the objects of all marks that were listed, whatever they say.
    pub fn objects(&self) -> impl Iterator<Item = ObjectId> {
        let unreadable = self.unreadable.iter().map(|(id, _)| *id);
        let silent = self.recalled.iter().chain(&self.explained).copied();
        self.all.iter().map(|(id, _)| *id).chain(silent).chain(unreadable)
    }

    /// Returns the snapshots whose absence is explained: prunes have removed them, or they never counted.
    pub fn removed(&self) -> HashSet<ObjectId> {
        let removed = self.verdicts().flat_map(|(_, verdict)| verdict.removed.iter().copied());
        removed.chain(self.given_up()).collect()
    }

    /// Returns the packs nothing new may rely on.
    pub fn condemned_packs(&self) -> HashSet<ObjectId> {
        self.condemned().flat_map(|(_, condemn)| condemn.packs.iter().copied()).collect()
    }

    /// Fails if a newer bakfs has written a mark of a kind that no feature explains.
    pub fn require_known(&self) -> Result<()> {
        match self.unreadable.iter().find(|(id, _)| self.newer.contains(id)) {
            None => Ok(()),
            Some((_, reason)) => {
                let message = format!("What other programs are doing is not known, so nothing is removed: {reason}");
                Err(Error::new(ErrorKind::Unsupported, message))
            }
        }
    }

    /// Fails if a mark cannot be read: what it says may be what forbids to go on.
    pub fn require_whole(&self) -> Result<()> {
        self.require_known()?;
        match self.unreadable.first() {
            None => Ok(()),
            Some((id, reason)) => Err(Error::damaged(format!(
                "{} cannot be read, so what other programs are doing is not known: wait until no backup and no prune \
                 runs, then run `bakfs repair`: {reason}",
                Object::Mark(*id)
            ))),
        }
    }
}

fn of_unknown_kind(id: ObjectId, kind: u32) -> Error {
    let object = Object::Mark(id);
    let message = format!("{object} is a mark of kind {kind}, which a newer bakfs has written: install the newest");
    Error::new(ErrorKind::Unsupported, message)
}

impl Repository {
    /// Reads all marks, as one listing shows them. Fails with [`ErrorKind::Busy`] where they change all the time, and with
    /// [`ErrorKind::Unsupported`] where a feature that this bakfs does not know forbids to read.
    pub fn marks(&self) -> Result<Marks> {
        let marks = self.all_marks()?;
        self.require(Act::Read, &marks)?;
        Ok(marks)
    }

    /// Reads all marks, whatever features forbid.
    ///
    /// One that was removed after it was listed may have been the one that counts, such as a fence whose session the
    /// listing shows: then they are listed again. One that was gone before a listing only lags in it.
    pub(in crate::repo) fn all_marks(&self) -> Result<Marks> {
        let mut gone = HashSet::new();
        for _ in 0..MAX_LISTINGS {
            let (marks, removed) = self.listed_marks()?;
            if removed.iter().all(|id| gone.contains(id)) {
                return Ok(marks);
            }
            gone.extend(removed);
        }
        Err(Error::new(ErrorKind::Busy, "The marks of other programs change all the time: try again"))
    }

    /// Lists and reads all marks; returns those that were there and those that were removed meanwhile.
    fn listed_marks(&self) -> Result<(Marks, Vec<ObjectId>)> {
        let listed = self.store.list(ObjectKind::Mark)?;
        let known = std::mem::take(&mut *self.shared.known_marks.lock());
        let foreign = std::mem::take(&mut *self.shared.foreign_marks.lock());
        let (mut marks, mut removed) = (Marks::default(), Vec::new());
        let is_known = |id: &ObjectId| known.contains_key(id) || foreign.contains_key(id);
        let unknown: Vec<_> = listed.iter().map(|listed| listed.id).filter(|id| !is_known(id)).collect();
        let read = parallel::for_each(&*self.store, parallel::SMALL, &unknown, |id| match self.read_stored(*id) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Foreign) => Ok(Some(Err(error))),
            mark => mark.map(|mark| Some(Ok(mark))),
        })?;
        let mut newer = Vec::new();
        for id in listed.iter().map(|listed| listed.id) {
            marks.all.extend(known.get(&id).map(|mark| (id, mark.clone())));
            marks.foreign.extend(foreign.get(&id).map(|reason| (id, reason.clone())));
        }
        for (id, mark) in unknown.into_iter().zip(read) {
            match mark {
                Some(Ok(AnyMark::Known(mark))) => marks.all.push((id, Arc::new(mark))),
                Some(Ok(AnyMark::Unknown(kind))) => newer.push((id, kind)),
                Some(Err(error)) if error.kind() == ErrorKind::Foreign => marks.foreign.push((id, error.chain())),
                Some(Err(error)) => marks.unreadable.push((id, error.chain())),
                None => removed.push(id),
            }
        }
        // Equal on all machines, whatever order a store lists in.
        marks.all.sort_by_key(|(object, _)| *object);
        *self.shared.known_marks.lock() = marks.all.iter().cloned().collect();
        *self.shared.foreign_marks.lock() = marks.foreign.iter().cloned().collect();
        marks.sort_newer(newer);
        marks.heed_recalls();
        Ok((marks, removed))
    }

    /// Reads one mark. Fails with [`ErrorKind::Unsupported`] where it is of a kind that this bakfs does not know.
    pub fn read_mark(&self, id: ObjectId) -> Result<Mark> {
        match self.read_stored(id)? {
            AnyMark::Known(mark) => Ok(mark),
            AnyMark::Unknown(kind) => Err(of_unknown_kind(id, kind)),
        }
    }

    /// Tells of marks that cannot be read, and of what is none.
    pub(in crate::repo) fn warn_of(&self, marks: &Marks) {
        for (id, reason) in &marks.unreadable {
            let advice = if marks.newer.contains(id) { "" } else { ": run `bakfs repair`" };
            self.warn(format!("{} cannot be read{advice}: {reason}", Object::Mark(*id)));
        }
        foreign::warning(ObjectKind::Mark, &marks.foreign).into_iter().for_each(|text| self.note(text));
    }

    /// Stores a mark and makes it durable, before anybody can act on its absence.
    pub fn put_mark(&self, mark: Mark) -> Result<ObjectId> {
        self.put_mark_of(&mut || mark.clone())
    }

    /// Stores a mark that is made anew where nobody knows whether the last one was stored. That one is recalled
    /// before the next is made, so that it is as if it had been removed for good.
    pub fn put_mark_of(&self, make: &mut dyn FnMut() -> Mark) -> Result<ObjectId> {
        let made = RefCell::new(None);
        let mut seal = || {
            let mark = make();
            let plain = mark.encode();
            if plain.len() > MAX_MARK_BYTES {
                let len = plain.len();
                return Err(Error::usage(format!("A mark of {len} bytes would be longer than a reader takes")));
            }
            *made.borrow_mut() = Some(mark);
            Ok(seal_object(&self.vault, Kind::Mark, &plain))
        };
        let mut give_up = |name| match &*made.borrow() {
            // Whenever these appear they do no harm. A fence may not be taken back: another prune may have acted on it.
            Some(
                Mark::Recall { .. }
                | Mark::Bundle(_)
                | Mark::IndexBundle(_)
                | Mark::Feature(_)
                | Mark::Fence { .. }
                | Mark::Intent { .. },
            ) => Ok(()),
            _ => self.recall(name),
        };
        let put = put_anew(&*self.store, ObjectKind::Mark, &mut seal, &mut give_up)?;
        let id = put.id;
        put.settle(&*self.store)?;
        let mark = made.into_inner().expect("what was stored was made");
        self.shared.known_marks.lock().insert(id, Arc::new(mark));
        Ok(id)
    }

    /// Takes marks back for good: should they appear again, from a copy or by a store that lags, they say nothing.
    pub fn retract_marks(&self, marks: &[ObjectId]) -> Result<()> {
        if !marks.is_empty() {
            self.put_mark(Mark::Recall { objects: marks.to_vec() })?;
        }
        marks.iter().try_for_each(|mark| self.delete_mark(*mark))
    }

    /// Removes a mark. The removal is durable after the next barrier.
    pub fn delete_mark(&self, id: ObjectId) -> Result<()> {
        self.store.delete(Object::Mark(id))
    }
}
