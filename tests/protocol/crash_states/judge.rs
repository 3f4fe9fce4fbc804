//! What a repository that a crash has left must show, and that the next runs need nothing.

use super::work::World;
use bakfs::check::{self, Subject};
use bakfs::error::Error;
use bakfs::format::index::Segment;
use bakfs::format::mark::Mark;
use bakfs::format::snapshot::Snapshot;
use bakfs::id::ObjectId;
use bakfs::monitor::Silent;
use bakfs::repo::Repository;
use bakfs::store::{Object, ObjectKind};
use bakfs_testing::library::{self, Shown};
use bakfs_testing::stores::{MemStore, Objects};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// What is known of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    /// It was reported as committed, or as brought back: it must be shown.
    Shown,
    /// It was reported as forgotten: it must not be shown.
    Hidden,
    /// A run that would have changed that has not ended.
    Either,
}

/// What must be so after a crash, by what was reported before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Expected {
    /// Every snapshot there may be.
    pub fates: BTreeMap<ObjectId, Fate>,
    /// Those that were reported as committed.
    pub committed: BTreeSet<ObjectId>,
    /// Those that were reported as pinned.
    pub pinned: BTreeSet<ObjectId>,
    /// An index object that is damaged and of which no repair has reported the end.
    pub damaged: Option<String>,
}

/// What a repository shows.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    shown: BTreeMap<ObjectId, blake3::Hash>,
    pinned: BTreeSet<ObjectId>,
    /// Objects in which damage was found.
    damaged: BTreeSet<String>,
    /// Whether snapshots need packs that only their own directories tell of.
    is_unnamed: bool,
    errors: Vec<String>,
}

/// Returns a hash of all that a snapshot shows.
pub fn digest(snapshot: &Snapshot, shown: &Shown) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&snapshot.encode());
    for (path, (entry, bytes)) in &shown.files {
        hasher.update(path).update(format!("{entry:?}").as_bytes()).update(bytes.as_deref().unwrap_or_default());
    }
    hasher.finalize()
}

/// Opens what a crash has left without a cache, reads all of it and checks it.
pub fn look(objects: Objects) -> Seen {
    let mut seen = Seen::default();
    if let Err(error) = look_into(objects, &mut seen) {
        seen.errors.push(error.chain());
    }
    seen
}

fn look_into(objects: Objects, seen: &mut Seen) -> Result<(), Error> {
    let repository = library::open(Arc::new(MemStore::of(objects)))?;
    for listed in repository.snapshots()? {
        let snapshot = repository.snapshot(listed.id)?;
        let shown = library::read_snapshot(&repository, &snapshot);
        let name = &snapshot.name;
        seen.errors.extend(shown.errors.iter().map(|error| format!("{name}: {error}")));
        seen.shown.insert(listed.id, digest(&snapshot, &shown));
    }
    let warnings = repository.take_warnings();
    seen.pinned = repository.marks()?.pins().into_keys().collect();
    let report = check::run(&repository, check::Options { read: None, threads: 1 }, None, &Silent)?;
    for finding in &report.findings {
        match finding.subject {
            Subject::Object(object @ Object::Index(_)) if finding.affected.is_empty() => {
                seen.damaged.insert(object.path());
            }
            Subject::Index if finding.problems.iter().all(|problem| problem.starts_with("no index object names")) => {
                seen.is_unnamed = true;
            }
            _ => seen.errors.push(format!("check: {}: {:?}", finding.subject, finding.problems)),
        }
    }
    let is_told = |warning: &&String| !seen.damaged.iter().any(|object| warning.contains(object));
    seen.errors.extend(warnings.iter().filter(is_told).map(|warning| format!("warning: {warning}")));
    Ok(())
}

impl Seen {
    /// Returns what is not as it must be.
    pub fn breaches(&self, expected: &Expected, world: &World) -> Vec<String> {
        let mut breaches = self.errors.clone();
        for (id, fate) in &expected.fates {
            match (fate, self.shown.contains_key(id)) {
                (Fate::Shown, false) => breaches.push(format!("lost: {id} was reported and is not shown")),
                (Fate::Hidden, true) => breaches.push(format!("forgotten: {id} is shown")),
                _ => {}
            }
        }
        for (id, shown) in &self.shown {
            if !world.is_true(id, shown) {
                breaches.push(format!("changed: {id} is not what it was"));
            }
            if !expected.fates.contains_key(id) {
                breaches.push(format!("invented: nobody stored {id}"));
            }
        }
        breaches.extend(expected.pinned.difference(&self.pinned).map(|id| format!("unpinned: {id}")));
        let told = self.damaged.iter().filter(|object| Some(*object) != expected.damaged.as_ref());
        breaches.extend(told.map(|object| format!("check: {object} is damaged")));
        if self.is_unnamed && expected.damaged.is_none() {
            breaches.push("check: the index does not name what snapshots need".into());
        }
        breaches
    }
}

/// Backs up, forgets the oldest snapshot and prunes what a crash has left, after a repair if an index object is
/// damaged. Everything else that was there must be there, the new snapshot too, and nothing that nobody needs.
pub fn goes_on(world: &World, objects: Objects, expected: &Expected) -> Result<(), String> {
    let store = Arc::new(MemStore::of(objects));
    let open = || library::open(store.clone()).map_err(|error| error.chain());
    let said = |what: &str| {
        let what = what.to_owned();
        move |error: Error| format!("the next {what} fails: {}", error.chain())
    };
    let repair = |store: &Arc<MemStore>| -> Result<(), String> {
        let repository = library::open(store.clone()).map_err(|error| error.chain())?;
        bakfs::repair::run(&repository, &Default::default(), &Silent).map(drop).map_err(said("repair"))
    };
    if expected.damaged.is_some() {
        repair(&store)?;
    }
    let mut expected = Expected { damaged: None, ..expected.clone() };
    let (id, digest) = world.back_up(&open()?, super::work::LAST_DAY).map_err(said("backup"))?;
    world.learn(id, digest);
    expected.fates.insert(id, Fate::Shown);
    // A prune that has nothing to delete leaves the marks of the dead to the next that has.
    let repository = open()?;
    let pinned: HashSet<_> = repository.marks().map_err(said("listing"))?.pins().into_keys().collect();
    let shown = repository.snapshots().map_err(said("listing"))?;
    let oldest = shown.iter().map(|listed| listed.id).find(|id| !pinned.contains(id)).ok_or("all are pinned")?;
    repository.forget(&[oldest]).map_err(said("forget"))?;
    expected.fates.insert(oldest, Fate::Hidden);
    library::prune(&open()?).map_err(said("prune"))?;
    let after = store.after_power_cut();
    let breaches = look(after.clone()).breaches(&expected, world);
    if !breaches.is_empty() {
        return Err(format!("after the next backup and prune: {breaches:?}"));
    }
    let repository = library::open(Arc::new(MemStore::of(after))).map_err(|error| error.chain())?;
    let report = library::check(&repository).map_err(said("check"))?;
    if !report.findings.is_empty() || report.leftover_packs != 0 {
        return Err(format!("after the next prune: {} leftovers, {:?}", report.leftover_packs, report.findings));
    }
    let garbage = garbage(&repository).map_err(said("listing"))?;
    if garbage.is_empty() { Ok(()) } else { Err(format!("after the next prune there still is: {garbage:?}")) }
}

/// Returns what a prune should have collected.
fn garbage(repository: &Repository) -> Result<Vec<String>, Error> {
    let store = repository.store();
    let listed = |kind| -> Result<HashSet<ObjectId>, Error> {
        Ok(store.list(kind)?.into_iter().map(|listed| listed.id).collect())
    };
    let (packs, snapshots) = (listed(ObjectKind::Pack)?, listed(ObjectKind::Snapshot)?);
    let mut garbage = Vec::new();
    let mut named = HashSet::new();
    for id in listed(ObjectKind::Index)? {
        let plain = repository.read_index_object(id)?;
        let segment = Segment::new(&plain[..], plain.len()).map_err(|error| Error::damaged("index").because(error))?;
        named.extend((0..segment.pack_count()).filter_map(|at| segment.pack(at)).map(|pack| pack.id));
    }
    garbage.extend(named.symmetric_difference(&packs).map(|pack| format!("{} or its name", Object::Pack(*pack))));
    let mut verdicts = 0;
    for id in listed(ObjectKind::Mark)? {
        let mark = repository.read_mark(id)?;
        let is_needed = match &mark {
            Mark::Pin { .. } => true,
            Mark::Forget(forget) => forget.snapshots.iter().any(|id| snapshots.contains(id)),
            Mark::Verdict(_) => {
                verdicts += 1;
                verdicts == 1
            }
            _ => false,
        };
        if !is_needed {
            garbage.push(format!("{mark:?}"));
        }
    }
    Ok(garbage)
}
