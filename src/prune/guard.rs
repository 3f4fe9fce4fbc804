//! Whether a listing may be believed: nothing is deleted because it lacks what something else speaks of.
//!
//! What a listing lacks is looked for by its name: if it is there the listing was short, and a later prune may go on. If
//! it is not, that is a trouble where whoever speaks of it knows that it must be there.

use super::Prune;
use crate::error::{Error, ErrorKind, Result};
use crate::format::feature::Act;
use crate::format::mark::{Mark, Verdict};
use crate::id::ObjectId;
use crate::quantity::counted;
use crate::repo::shared::listed::ListedSnapshot;
use crate::repo::shared::marks::Marks;
use crate::store::{Names, Object, ObjectKind};
use std::collections::{HashMap, HashSet};

/// So often marks are listed where a listing lacks some that are there.
const MAX_LISTINGS: usize = 4;
/// So many removed snapshots verdicts remember: with four profiles and a snapshot a day, three years.
const MAX_REMOVED: usize = 4096;

/// What this prune has seen so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// Marks of its last listing.
    marks: HashSet<ObjectId>,
    /// Snapshots of all its listings.
    snapshots: HashSet<ObjectId>,
    /// What is gone, as whoever runs the prune says.
    accepted: HashSet<ObjectId>,
}

/// How sure it is that a snapshot must be there which something speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    /// It may have been removed since: only if it is found by its name the listing is short.
    IfFound,
    /// Nothing but a prune removes it, and none says that it has.
    Always,
}

/// Tells that a listing lacks an object that is there.
pub fn short_listing(of: &str, object: &Object) -> Error {
    let message = format!("A listing of {of} lacks {object}, which is there, so nothing is deleted: try again");
    Error::new(ErrorKind::Busy, message)
}

impl Prune<'_> {
    /// Reads all marks. One that was listed before must be gone where it is not listed any more.
    pub fn marks(&mut self) -> Result<Marks> {
        let mut listings = 0;
        loop {
            let marks = self.repository.marks()?;
            self.repository.require(Act::Remove, &marks)?;
            marks.require_whole()?;
            let listed: HashSet<_> = marks.objects().collect();
            let lacking: Vec<_> = self.seen.marks.difference(&listed).copied().map(Object::Mark).collect();
            let stored = self.repository.find_stored(&lacking)?;
            let Some(object) = stored.first() else {
                self.seen.marks = listed;
                return Ok(marks);
            };
            listings += 1;
            if listings == MAX_LISTINGS {
                return Err(short_listing("marks", object));
            }
        }
    }

    /// Lists the objects of snapshots; returns all that this prune has seen so far.
    pub fn stored_snapshots(&mut self) -> Result<HashSet<ObjectId>> {
        let stored = self.repository.store().list(ObjectKind::Snapshot)?;
        self.seen.snapshots.extend(stored.into_iter().map(|listed| listed.id));
        Ok(self.seen.snapshots.clone())
    }

    /// Lists the objects of snapshots and reads them, and refuses a listing that may not be whole.
    pub fn snapshots(&mut self, marks: &Marks) -> Result<(HashSet<ObjectId>, Vec<ListedSnapshot>)> {
        let mut seen = self.seen.snapshots.clone();
        let stored = self.repository.store().list(ObjectKind::Snapshot)?;
        let all = self.repository.all_snapshots()?;
        let listed = stored.iter().map(|listed| listed.id).chain(all.iter().map(|listed| listed.id));
        let mut listed: HashSet<_> = listed.collect();
        self.seen.snapshots.extend(&listed);
        let (mut troubles, foreign) = self.unreadable(marks, &listed, &all)?;
        listed.retain(|id| !foreign.contains(id));
        seen.retain(|id| !foreign.contains(id));
        let lost = self.lost(marks, &listed, &seen)?;
        troubles.extend(lost.iter().map(|(id, who)| format!("{} is gone: {who}", Object::Snapshot(*id))));
        troubles.extend(orphans(marks, &all));
        if listed.is_empty() && !self.catalog.packs().is_empty() && marks.verdicts().next().is_none() {
            troubles.push("no snapshots are listed, and yet there are packs".into());
        }
        if troubles.is_empty() {
            return Ok((listed, all));
        }
        if self.options.accept_missing {
            self.seen.accepted.extend(lost.into_keys());
            if !self.options.dry_run {
                self.repository.accept_missing()?;
            }
            return Ok((listed, all));
        }
        troubles.sort();
        Err(Error::damaged(format!(
            "The list of snapshots may not be whole, and nothing is deleted ({}, the first: {}): \
             bring back what is missing, or run the prune with --accept-missing",
            counted(troubles.len(), "trouble"),
            troubles[0]
        )))
    }

    /// Tells of snapshots that are listed and cannot be read, and which never were snapshots of this repository: nothing
    /// can be lost with those.
    fn unreadable(
        &self,
        marks: &Marks,
        listed: &HashSet<ObjectId>,
        all: &[ListedSnapshot],
    ) -> Result<(Vec<String>, HashSet<ObjectId>)> {
        let readable: HashSet<_> = all.iter().map(|listed| listed.id).collect();
        let void = marks.void();
        let (mut troubles, mut foreign) = (Vec::new(), HashSet::new());
        for id in listed.iter().filter(|id| !void.contains(*id) && !readable.contains(*id)) {
            match self.repository.snapshot(*id) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.kind() == ErrorKind::Foreign => {
                    foreign.insert(*id);
                }
                Err(error) if error.kind() == ErrorKind::Damaged => troubles.push(error.chain()),
                Err(error) => return Err(error),
                // It came after the listing, or could not be read a moment ago.
                Ok(_) => return Err(Error::new(ErrorKind::Busy, "The snapshots change: run the prune again")),
            }
        }
        Ok((troubles, foreign))
    }

    /// Returns the snapshots that must be there and are not, each with who says so; fails if one is there and is not
    /// listed.
    fn lost(
        &self,
        marks: &Marks,
        listed: &HashSet<ObjectId>,
        seen: &HashSet<ObjectId>,
    ) -> Result<HashMap<ObjectId, String>> {
        let mut spoken: HashMap<ObjectId, (Must, String)> = HashMap::new();
        let mut hear = |id: ObjectId, must: Must, who: &dyn Fn() -> String| {
            if !listed.contains(&id) && spoken.get(&id).is_none_or(|(before, _)| *before == Must::IfFound) {
                spoken.insert(id, (must, who()));
            }
        };
        for id in marks.kept() {
            hear(id, Must::Always, &|| "it was there when the last prune looked".into());
        }
        for id in seen {
            hear(*id, Must::Always, &|| "it was there when this prune began".into());
        }
        for id in marks.pins().into_keys() {
            hear(id, Must::Always, &|| "it is pinned".into());
        }
        for id in marks.forgets().flat_map(|(_, forget)| forget.snapshots.iter()) {
            hear(*id, Must::IfFound, &|| "it is forgotten and was not removed".into());
        }
        // Before the first verdict nothing was ever removed.
        let bundled = if marks.verdicts().next().is_none() { Must::Always } else { Must::IfFound };
        for entry in marks.bundles().flat_map(|(_, bundle)| bundle) {
            hear(entry.id, bundled, &|| "a bundle tells of it".into());
        }
        for missing in self.repository.missing() {
            hear(missing.id, Must::Always, &|| "it was here, and nothing says that it was removed".into());
        }
        let removed = marks.removed();
        spoken.retain(|id, _| !removed.contains(id) && !self.seen.accepted.contains(id));
        if spoken.is_empty() {
            return Ok(HashMap::new());
        }
        let objects: Vec<_> = spoken.keys().copied().map(Object::Snapshot).collect();
        let stored = self.repository.find_stored(&objects)?;
        // Also what was recalled since the marks were listed.
        let now = self.repository.marks()?.void();
        let void = marks.void();
        let is_none = |id: &ObjectId| void.contains(id) || now.contains(id);
        if let Some(object) = stored.iter().find(|object| !matches!(object, Object::Snapshot(id) if is_none(id))) {
            return Err(short_listing("snapshots", object));
        }
        let lost = spoken.into_iter().filter(|(id, (must, _))| *must == Must::Always && !is_none(id));
        Ok(lost.map(|(id, (_, who))| (id, who)).collect())
    }

    /// Returns which of some snapshots are there for good: those a verdict has kept, and those that were listed `before`
    /// their announcements were looked for in `marks`, and are not announced. A power cut may take one that is.
    ///
    /// One whose session was fenced or has ended is made durable first: its owner can only recall it.
    pub fn kept(
        &self,
        marks: &Marks,
        snapshots: &[ListedSnapshot],
        before: &HashSet<ObjectId>,
    ) -> Result<HashSet<ObjectId>> {
        let earlier = marks.kept();
        let ids = snapshots.iter().map(|listed| listed.id);
        let ids: HashSet<_> = ids.filter(|id| earlier.contains(id) || before.contains(id)).collect();
        let announced: HashMap<_, _> = marks.intents().map(|(_, (session, snapshot))| (snapshot, session)).collect();
        let is_open = |id: &ObjectId| announced.get(id).is_some_and(|session| marks.is_open(session));
        if ids.iter().any(|id| !earlier.contains(id) && announced.contains_key(id) && !is_open(id)) {
            self.repository.store().barrier(Names::All)?;
        }
        Ok(ids.into_iter().filter(|id| earlier.contains(id) || !is_open(id)).collect())
    }

    /// Returns what a verdict says of removed snapshots: its own first, then those earlier ones tell of and what is
    /// gone by the word of whoever runs this prune; not what is there again.
    pub fn told_removed(&self, marks: &Marks, own: &HashSet<ObjectId>, listed: &HashSet<ObjectId>) -> Vec<ObjectId> {
        let mut told = sorted(own.iter().copied());
        let mut known = own.clone();
        let earlier = marks.verdicts().flat_map(|(_, verdict)| verdict.removed.iter().copied());
        let earlier = sorted(self.seen.accepted.iter().copied()).into_iter().chain(earlier);
        let room = MAX_REMOVED.saturating_sub(told.len());
        told.extend(earlier.filter(|id| !listed.contains(id) && known.insert(*id)).take(room));
        told
    }

    /// Leaves word of the snapshots there are where the last verdict does not say it: in a verdict that deletes nothing,
    /// about a condemn mark that never was.
    pub fn remember(&mut self, session: &crate::repo::shared::session::Session) -> Result<()> {
        let before = self.stored_snapshots()?;
        let marks = self.marks()?;
        // Also those that are to go: the verdict that removes them says so.
        let (listed, all) = self.snapshots(&marks)?;
        let kept = self.kept(&marks, &all, &before)?;
        // What an open one says of its packs and snapshots is still needed.
        let open: HashSet<_> = marks.condemned().map(|(_, condemn)| condemn.id).collect();
        let old: Vec<_> = marks.verdicts().filter(|(_, verdict)| !open.contains(&verdict.condemn)).collect();
        let says_so = match &old[..] {
            [] => kept.is_empty(),
            [(_, last)] => last.kept.len() == kept.len() && last.kept.iter().all(|id| kept.contains(id)),
            _ => false,
        };
        if says_so && self.seen.accepted.is_empty() {
            return Ok(());
        }
        let old: Vec<_> = old.into_iter().map(|(object, _)| object).collect();
        let verdict = Verdict {
            condemn: crate::repo::shared::session::random_id(),
            packs: Vec::new(),
            removed: self.told_removed(&marks, &HashSet::new(), &listed),
            revoked: sorted(marks.given_up().chain(old.iter().copied())),
            kept: sorted(kept),
        };
        session.check()?;
        self.repository.put_mark(Mark::Verdict(verdict))?;
        // As after every verdict: who fences this prune from now on sees it.
        session.check()?;
        super::sweep::remove(self.repository, old)
    }
}

/// Tells of snapshots that were made from one that is in no listing. Prunes wait for backups: one that has removed the
/// parent has seen the child.
///
/// A backup that was killed before it had made its snapshot durable may have been a parent before a power cut took it:
/// as many as are announced and not listed may be gone.
fn orphans(marks: &Marks, all: &[ListedSnapshot]) -> Vec<String> {
    let kept = marks.kept();
    let listed: HashSet<_> = all.iter().map(|listed| listed.id).collect();
    let announced: HashSet<_> = marks.intents().map(|(_, (_, snapshot))| snapshot).collect();
    let names: HashSet<_> = all.iter().map(|listed| &*listed.snapshot.name).collect();
    let new = all.iter().filter(|listed| !kept.contains(&listed.id));
    let parents = new.filter_map(|listed| Some((listed, listed.snapshot.parent.as_deref()?)));
    let orphans: Vec<_> = parents.filter(|(_, parent)| !names.contains(parent)).collect();
    let gone: HashSet<_> = orphans.iter().map(|(_, parent)| *parent).collect();
    if gone.len() <= announced.difference(&listed).count() {
        return Vec::new();
    }
    let told = |(child, parent): (&ListedSnapshot, &str)| {
        format!("snapshot {parent} is gone: {} was made from it, and no prune has removed it", child.snapshot.name)
    };
    orphans.into_iter().map(told).collect()
}

/// Returns ids in their order, each once.
pub fn sorted(ids: impl IntoIterator<Item = ObjectId>) -> Vec<ObjectId> {
    let mut ids: Vec<_> = ids.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
