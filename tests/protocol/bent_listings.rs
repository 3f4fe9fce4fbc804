//! Promise: a store that shows an older or a smaller state of itself costs nothing that is known of, and marks that
//! come back after they were deleted say nothing that was taken back.

use bakfs::backup;
use bakfs::error::{Error, ErrorKind, Result};
use bakfs::format::header::Suite;
use bakfs::format::tree::Time;
use bakfs::id::ObjectId;
use bakfs::monitor::{Monitor, Silent};
use bakfs::repo::open::Options;
use bakfs::repo::write::WriteOptions;
use bakfs::repo::{Memory, Repository};
use bakfs::store::{Decorator, ListedObject, Object, ObjectKind, Store, Wait};
use bakfs_testing::library::{self, TINY_CHUNKS, size};
use bakfs_testing::stores::{MemStore, Objects};
use bakfs_testing::{Dice, noise};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Kinds whose listings may be bent.
const KINDS: [ObjectKind; 4] = [ObjectKind::Pack, ObjectKind::Index, ObjectKind::Snapshot, ObjectKind::Mark];

/// How a store bends what it shows.
#[derive(Debug, Clone)]
enum Bend {
    /// Listings of a kind lack these objects, always; `is_deaf` tells that they are not found by their names either.
    Lacks { kind: ObjectKind, objects: HashSet<ObjectId>, is_deaf: bool },
    /// Each listing of a kind lacks about one in so many of the objects that may be hidden, others each time.
    Flickers { kind: ObjectKind, one_in: u64, hidable: Option<HashSet<ObjectId>> },
    /// Listings of a kind show an older state, always, and what is not in it only if it may not be hidden.
    IsOlder { kind: ObjectKind, state: Vec<ListedObject>, hidable: Option<HashSet<ObjectId>> },
    /// One listing in so many shows what the store was one or more changes ago.
    Lags { one_in: u64 },
}

/// A store as one machine sees it.
struct BentStore {
    inner: Arc<MemStore>,
    /// What listings showed after each change of anybody.
    past: Arc<Mutex<Vec<Objects>>>,
    bend: Bend,
    dice: Mutex<Dice>,
    /// Listings that lagged and were wrong.
    lagged: AtomicU64,
}

fn ids(objects: &Objects, kind: ObjectKind) -> Vec<ListedObject> {
    MemStore::of(objects.clone()).list(kind).unwrap()
}

impl BentStore {
    fn changed(&self) {
        if matches!(self.bend, Bend::Lags { .. }) {
            self.past.lock().push(self.inner.objects());
        }
    }
}

impl Decorator for BentStore {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    fn put(&self, object: Object, bytes: &[u8]) -> Result<()> {
        self.inner.put(object, bytes).inspect(|()| self.changed())
    }

    fn len_bytes(&self, object: Object) -> Result<u64> {
        self.hear(object)?;
        self.inner.len_bytes(object)
    }

    fn read_at(&self, object: Object, offset: u64, buffer: &mut [u8], wait: Wait) -> Result<()> {
        self.hear(object)?;
        self.inner.read_at(object, offset, buffer, wait)
    }

    fn read_through(&self, object: Object, range: Range<u64>, each: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
        self.hear(object)?;
        self.inner.read_through(object, range, each)
    }

    fn read_whole(&self, object: Object, max_bytes: u64) -> Result<Vec<u8>> {
        self.hear(object)?;
        self.inner.read_whole(object, max_bytes)
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<ListedObject>> {
        let mut listed = self.inner.list(kind)?;
        let mut dice = self.dice.lock();
        match &self.bend {
            Bend::Lacks { kind: bent, objects, .. } if *bent == kind => {
                listed.retain(|listed| !objects.contains(&listed.id));
            }
            Bend::Flickers { kind: bent, one_in, hidable } if *bent == kind => {
                let may_hide = |id: &ObjectId| hidable.as_ref().is_none_or(|hidable| hidable.contains(id));
                listed.retain(|listed| !may_hide(&listed.id) || dice.below(*one_in) != 0);
            }
            Bend::IsOlder { kind: bent, state, hidable } if *bent == kind => {
                let shown: HashSet<_> = state.iter().map(|listed| listed.id).collect();
                let may_hide = |id: &ObjectId| hidable.as_ref().is_none_or(|hidable| hidable.contains(id));
                listed.retain(|listed| !may_hide(&listed.id) && !shown.contains(&listed.id));
                listed.extend(state);
            }
            Bend::Lags { one_in } if dice.below(*one_in) == 0 => {
                let past = self.past.lock();
                let back = 1 + dice.below(6) as usize;
                if let Some(objects) = past.len().checked_sub(1 + back).map(|at| &past[at]) {
                    let now: HashSet<_> = listed.iter().map(|listed| listed.id).collect();
                    listed = ids(objects, kind);
                    let then: HashSet<_> = listed.iter().map(|listed| listed.id).collect();
                    self.lagged.fetch_add(u64::from(then != now), Ordering::Relaxed);
                }
            }
            _ => {}
        }
        Ok(listed)
    }

    fn delete(&self, object: Object) -> Result<()> {
        self.inner.delete(object).inspect(|()| self.changed())
    }
}

impl BentStore {
    fn hear(&self, object: Object) -> Result<()> {
        let Bend::Lacks { kind, objects, is_deaf: true } = &self.bend else { return Ok(()) };
        match objects.iter().any(|id| kind.object(*id) == object) {
            true => Err(Error::new(ErrorKind::NotFound, format!("{object} is not shown"))),
            false => Ok(()),
        }
    }
}

/// A machine: its folder of what it knows, and its source.
struct Machine {
    host: &'static str,
    known: PathBuf,
    source: PathBuf,
}

impl Machine {
    fn open(&self, store: Arc<dyn Store>) -> Result<Arc<Repository>> {
        let memory = Memory { frames_bytes: 1 << 20, pages_bytes: 1 << 20 };
        let options = Options { memory, known: Some(&self.known), ..Options::default() };
        Repository::unlock(store, &options, |_| Ok(Vec::new())).map(Arc::new)
    }

    fn change_source(&self, day: i64) {
        let number = day as u64 * 2 + u64::from(self.host == "b");
        std::fs::write(self.source.join("changing"), noise(number, 3000)).unwrap();
        std::fs::write(self.source.join(format!("kept-{}", day % 3)), noise(number % 7, 1500)).unwrap();
    }

    fn back_up(&self, repository: &Arc<Repository>, day: i64, monitor: &dyn Monitor) -> Result<ObjectId> {
        let options = backup::Options {
            paths: vec![self.source.clone()],
            host: self.host.into(),
            time: Some(Time { secs: 1_772_334_000 + day * 86_400, nanos: 0 }),
            write: WriteOptions { threads: 1, ..WriteOptions::default() },
            ..backup::Options::default()
        };
        backup::run(repository, &options, monitor).map(|outcome| outcome.id.unwrap())
    }
}

/// What was promised.
#[derive(Debug, Clone, Default)]
struct Promised {
    shown: BTreeSet<ObjectId>,
    forgotten: BTreeSet<ObjectId>,
}

/// A world of two machines that back up to one store in memory.
struct World {
    dir: tempfile::TempDir,
    store: Arc<MemStore>,
    past: Arc<Mutex<Vec<Objects>>>,
    machines: [Machine; 2],
    promised: Promised,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("bakfs-bent-").tempdir().unwrap();
        let store = Arc::new(MemStore::default());
        library::init(&*store, Suite::Plain, 7, TINY_CHUNKS).unwrap();
        let machines = ["a", "b"].map(|host| {
            let machine = Machine {
                host,
                known: dir.path().join(host).join("known"),
                source: dir.path().join(host).join("source"),
            };
            std::fs::create_dir_all(&machine.source).unwrap();
            machine
        });
        World { dir, store, past: Arc::default(), machines, promised: Promised::default() }
    }

    fn bent(&self, bend: Bend, seed: u64) -> Arc<BentStore> {
        let dice = Mutex::new(Dice::new(seed));
        Arc::new(BentStore {
            inner: self.store.clone(),
            past: self.past.clone(),
            bend,
            dice,
            lagged: AtomicU64::new(0),
        })
    }

    /// Returns what is not as it was promised, by a machine that was never there.
    fn breaches(&self, promised: &Promised) -> Vec<String> {
        let repository = library::open(self.store.clone()).unwrap();
        let listed = repository.snapshots().unwrap();
        let mut breaches: Vec<String> = Vec::new();
        for id in &promised.shown {
            if !listed.iter().any(|listed| listed.id == *id) {
                breaches.push(format!("{id} is not shown"));
            }
        }
        for listed in listed.iter().filter(|listed| promised.shown.contains(&listed.id)) {
            let shown = library::read_snapshot(&repository, &listed.snapshot);
            breaches.extend(shown.errors.iter().map(|error| format!("{}: {error}", listed.id)));
        }
        breaches.extend(repository.take_warnings());
        breaches
    }

    /// Looks as a machine does each time it is there; returns what it misses.
    fn missed(&self, machine: &Machine) -> usize {
        machine.open(self.store.clone()).unwrap().missing_snapshots().unwrap().len()
    }
}

/// A moment of a history: what is stored, promised, and known.
struct Moment {
    objects: Objects,
    promised: Promised,
    /// Copies of what the machines know.
    known: [PathBuf; 2],
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for (file, _) in bakfs_testing::files_below(from) {
        bakfs_testing::write(&to.join(file.strip_prefix(from).unwrap()), std::fs::read(&file).unwrap());
    }
}

/// Runs something once, in the middle of a backup.
struct Meanwhile<F>(Mutex<Option<F>>);

impl<F: FnOnce() + Send> Monitor for Meanwhile<F> {
    fn trouble(&self, _: &Path, _: &str) {}

    fn advance(&self, _: u64, _: u64) {
        let act = self.0.lock().take();
        act.into_iter().for_each(|act| act());
    }
}

/// Two machines that back up, forget, bring back and prune, with a moment after each act.
fn history(world: &mut World) -> Vec<Moment> {
    let mut moments = Vec::new();
    let mut dice = Dice::new(1);
    for day in 0..10 {
        for at in 0..2 {
            let machine = &world.machines[at];
            let repository = machine.open(world.store.clone()).unwrap();
            machine.change_source(day);
            let forgettable: Vec<_> = world.promised.shown.iter().copied().collect();
            if day > 1 && dice.below(2) == 0 {
                let id = forgettable[dice.below(forgettable.len() as u64) as usize];
                repository.forget(&[id]).unwrap();
                world.promised.shown.remove(&id);
                world.promised.forgotten.insert(id);
            }
            // Now and then a prune beside the backup, which condemns and waits.
            let prune = || drop(library::prune_waiting(&machine.open(world.store.clone()).unwrap()).unwrap());
            let beside = Meanwhile(Mutex::new((dice.below(3) == 0).then_some(prune)));
            let id = machine.back_up(&repository, day, &beside).unwrap();
            world.promised.shown.insert(id);
            let hidden = repository.forgotten_snapshots().unwrap();
            if let Some(listed) = hidden.first().filter(|_| dice.below(2) == 0) {
                let back = repository.undo_forget(&[listed.id]).unwrap().is_empty();
                if back {
                    world.promised.forgotten.remove(&listed.id);
                    world.promised.shown.insert(listed.id);
                }
            }
            if dice.below(3) == 0 {
                library::prune_waiting(&repository).unwrap();
            }
            // Both have been there since.
            assert_eq!(world.machines.iter().map(|machine| world.missed(machine)).sum::<usize>(), 0);
            let number = moments.len();
            let known = [0, 1].map(|at| world.dir.path().join(format!("moment-{number}-{at}")));
            for (machine, copy) in world.machines.iter().zip(&known) {
                copy_dir(&machine.known, copy);
            }
            assert_eq!(world.breaches(&world.promised), [""; 0]);
            moments.push(Moment { objects: world.store.objects(), promised: world.promised.clone(), known });
        }
    }
    moments
}

/// Returns the snapshots that something listed speaks of: those a verdict keeps, and the parents of the others.
fn spoken_of(objects: &Objects) -> HashSet<ObjectId> {
    let repository = library::open(Arc::new(MemStore::of(objects.clone()))).unwrap();
    repository.marks().unwrap().kept()
}

/// Bends a store by dice. `hidable` are the snapshots that may be hidden.
fn draw_bend(dice: &mut Dice, moments: &[Moment], now: usize, hidable: HashSet<ObjectId>) -> Bend {
    let kind = KINDS[dice.below(4) as usize];
    let hidable = (kind == ObjectKind::Snapshot).then_some(hidable);
    let there = ids(&moments[now].objects, kind);
    match dice.below(3) {
        0 => {
            let may_hide = |id: &ObjectId| hidable.as_ref().is_none_or(|hidable| hidable.contains(id));
            let share = 1 + dice.below(4);
            let lacking = there.iter().map(|listed| listed.id).filter(may_hide);
            let objects = lacking.filter(|_| dice.below(4) < share).collect();
            Bend::Lacks { kind, objects, is_deaf: dice.below(2) == 0 }
        }
        1 => Bend::Flickers { kind, one_in: 1 + dice.below(4), hidable },
        _ => {
            let then = &moments[dice.below(now as u64 + 1) as usize].objects;
            Bend::IsOlder { kind, state: ids(then, kind), hidable }
        }
    }
}

/// What a machine does while the store is bent.
#[derive(Debug, Clone, Copy)]
enum Act {
    Prune,
    ForgetAndPrune,
    BackUp,
    BackUpBesideAPrune,
    Undo,
}

const ACTS: [Act; 6] = [Act::Prune, Act::ForgetAndPrune, Act::BackUp, Act::BackUpBesideAPrune, Act::Undo, Act::Prune];

struct Tally {
    refused: u64,
    done: u64,
    failures: Vec<String>,
}

/// Acts in a store that is bent; what was acknowledged is promised from then on.
fn act(act: Act, world: &World, machine: &Machine, bent: &Arc<BentStore>, promised: &mut Promised) -> Result<()> {
    let open = || machine.open(bent.clone());
    match act {
        Act::Prune => drop(library::prune_waiting(&open()?)?),
        Act::ForgetAndPrune => {
            let repository = open()?;
            if let Some(oldest) = repository.snapshots()?.first() {
                promised.shown.remove(&oldest.id);
                repository.forget(&[oldest.id])?;
            }
            library::prune_waiting(&repository)?;
        }
        Act::BackUp => {
            machine.change_source(3);
            promised.shown.insert(machine.back_up(&open()?, 400, &Silent)?);
        }
        Act::BackUpBesideAPrune => {
            // Content that only forgotten snapshots have, read again while the other machine prunes by a bent listing.
            machine.change_source(2);
            let repository = machine.open(world.store.clone())?;
            let prune = || drop(open().and_then(|repository| library::prune_waiting(&repository)));
            let beside = Meanwhile(Mutex::new(Some(prune)));
            promised.shown.insert(machine.back_up(&repository, 401, &beside)?);
        }
        Act::Undo => {
            let repository = open()?;
            let hidden: Vec<_> = repository.forgotten_snapshots()?.iter().map(|listed| listed.id).collect();
            let late = repository.undo_forget(&hidden)?;
            promised.shown.extend(hidden.into_iter().filter(|id| !late.contains(id)));
        }
    }
    Ok(())
}

/// Each run takes a moment of a history, bends the store, acts, and looks at the store as it is.
#[test]
fn an_older_or_smaller_listing_costs_nothing_that_is_known_of() {
    let mut world = World::new();
    let moments = history(&mut world);
    let spoken: Vec<_> = moments.iter().map(|moment| spoken_of(&moment.objects)).collect();
    let runs = size("BENT", 100, 1000);
    let seed = size("SEED", 1, 1);
    let mut tally = Tally { refused: 0, done: 0, failures: Vec::new() };
    for run in 0..runs {
        let mut dice = Dice::new(seed * 1_000_000 + run);
        let now = dice.below(moments.len() as u64) as usize;
        let moment = &moments[now];
        let is_first_visit = dice.below(3) == 0;
        let at = dice.below(2) as usize;
        let known = world.dir.path().join(format!("run-{run}"));
        // Who was never there knows only what is stored.
        if !is_first_visit {
            copy_dir(&moment.known[at], &known);
        }
        let machine = Machine { host: ["a", "b"][at], known: known.clone(), source: world.machines[at].source.clone() };
        let hidable = match is_first_visit {
            true => spoken[now].clone(),
            false => ids(&moment.objects, ObjectKind::Snapshot).iter().map(|listed| listed.id).collect(),
        };
        let bend = draw_bend(&mut dice, &moments, now, hidable);
        let act_now = ACTS[dice.below(ACTS.len() as u64) as usize];
        let told = format!("run {run}, moment {now}, first visit {is_first_visit}, {act_now:?} with {}", tell(&bend));
        let scene = World {
            dir: tempfile::tempdir().unwrap(),
            store: Arc::new(MemStore::of(moment.objects.clone())),
            past: Arc::default(),
            machines: ["a", "b"].map(|host| Machine { host, known: known.clone(), source: PathBuf::new() }),
            promised: Promised::default(),
        };
        let mut promised = moment.promised.clone();
        let bent = scene.bent(bend, run);
        let acted = act(act_now, &scene, &machine, &bent, &mut promised);
        match &acted {
            Ok(()) => tally.done += 1,
            Err(_) => tally.refused += 1,
        }
        let mut breaches = scene.breaches(&promised);
        // The truth again: a prune goes on, and still nothing is lost.
        let next = scene.machines[0].open(scene.store.clone()).and_then(|repository| library::prune(&repository));
        breaches.extend(next.err().map(|error| format!("the next prune fails: {}", error.chain())));
        breaches.extend(scene.breaches(&promised));
        if !breaches.is_empty() {
            let acted = acted.err().map(|error| error.chain());
            tally.failures.push(format!("{told} ({acted:?}): {breaches:?}"));
        }
        let _ = std::fs::remove_dir_all(&known);
    }
    println!(
        "bent listings: {runs} runs, {} done, {} refused, {} losses",
        tally.done,
        tally.refused,
        tally.failures.len()
    );
    assert!(tally.failures.is_empty(), "{:#?}", &tally.failures[..tally.failures.len().min(10)]);
    assert!(tally.done * 5 > runs && tally.refused * 20 > runs, "too few of either kind tell much");
}

fn tell(bend: &Bend) -> String {
    match bend {
        Bend::Lacks { kind, objects, is_deaf } => format!("{} {kind:?} hidden, deaf {is_deaf}", objects.len()),
        Bend::Flickers { kind, one_in, .. } => format!("one {kind:?} in {one_in} flickering"),
        Bend::IsOlder { kind, state, .. } => format!("{kind:?} older: {}", state.len()),
        other => format!("{other:?}"),
    }
}

/// Two machines back up each night, forget by a rule, bring back now and then, and prune, while listings lag.
#[test]
fn two_machines_that_prune_never_alarm_one_another() {
    let mut world = World::new();
    let nights = size("NIGHTS", 15, 90);
    let (mut alarms, mut lagged, mut busy, mut prunes, mut undone, mut removed) = (Vec::new(), 0, 0, 0, 0, 0);
    for night in 0..nights as i64 {
        for at in 0..2 {
            let mut dice = Dice::new(night as u64 * 2 + at as u64);
            let bent = world.bent(Bend::Lags { one_in: 20 }, night as u64 * 2 + at as u64);
            let machine = &world.machines[at];
            machine.change_source(night);
            let repository = machine.open(bent.clone()).unwrap();
            world.promised.shown.insert(machine.back_up(&repository, night, &Silent).unwrap());
            // The newest five of this host stay.
            let own: Vec<_> =
                repository.snapshots().unwrap().into_iter().filter(|one| one.snapshot.host == machine.host).collect();
            let gone: Vec<_> = own.iter().rev().skip(5).map(|listed| listed.id).collect();
            repository.forget(&gone).unwrap();
            for id in gone {
                world.promised.shown.remove(&id);
            }
            if dice.below(3) == 0 {
                let hidden: Vec<_> = repository.forgotten_snapshots().unwrap().iter().map(|listed| listed.id).collect();
                if let Ok(late) = repository.undo_forget(&hidden) {
                    let back = hidden.into_iter().filter(|id| !late.contains(id));
                    world.promised.shown.extend(back.inspect(|_| undone += 1));
                }
            }
            alarms.extend(told(&repository, "after the backup"));
            // As the command does: a prune that meets a listing that lags tries again.
            let repository = machine.open(bent.clone()).unwrap();
            for attempt in 0..4 {
                match library::prune(&repository) {
                    Ok(report) => {
                        prunes += 1;
                        removed += report.swept.snapshots;
                        break;
                    }
                    Err(error) if error.kind() == ErrorKind::Busy && attempt < 3 => busy += 1,
                    Err(error) => alarms.push(format!("night {night}, prune of {}: {}", machine.host, error.chain())),
                }
            }
            alarms.extend(told(&repository, "after the prune"));
            lagged += bent.lagged.load(Ordering::Relaxed);
        }
        alarms.extend(
            world
                .machines
                .iter()
                .filter(|machine| world.missed(machine) > 0)
                .map(|machine| format!("night {night}: {} misses snapshots", machine.host)),
        );
        let breaches = world.breaches(&world.promised);
        assert!(breaches.is_empty(), "night {night}: {breaches:?}");
    }
    println!(
        "two machines: {nights} nights, {prunes} prunes, {removed} snapshots removed, {undone} brought back, {lagged} \
         listings lagged, {busy} attempts again, {} false alarms, 0 losses",
        alarms.len()
    );
    assert!(alarms.is_empty(), "{alarms:#?}");
    assert!(removed > nights && undone > 0 && lagged > nights);
}

/// Returns what a repository warns of.
fn told(repository: &Repository, when: &str) -> Vec<String> {
    let missing = repository.missing().into_iter().map(|seen| format!("{when}: {} is missing", seen.name));
    missing.collect()
}

/// Whatever marks there ever were come back, in any subset, at any time: nothing that is wanted is hidden, and a prune
/// loses nothing of it.
#[test]
fn marks_that_come_back_hide_and_lose_nothing() {
    let runs = size("REPLAYS", 40, 1000);
    let mut world = World::new();
    let moments = history(&mut world);
    let marks_of = |objects: &Objects| -> BTreeMap<String, Arc<Vec<u8>>> {
        let marks = objects.iter().filter(|(path, _)| path.starts_with("marks/"));
        marks.map(|(path, bytes)| (path.clone(), bytes.clone())).collect()
    };
    let mut failures = Vec::new();
    for run in 0..runs {
        let mut dice = Dice::new(run);
        let now = 1 + dice.below(moments.len() as u64 - 1) as usize;
        let moment = &moments[now];
        let mut objects = moment.objects.clone();
        let (from, share) = (dice.below(now as u64) as usize, 1 + dice.below(4));
        for (path, bytes) in moments[from..now].iter().flat_map(|moment| marks_of(&moment.objects)) {
            if dice.below(4) < share {
                objects.entry(path).or_insert(bytes);
            }
        }
        let scene = World {
            dir: tempfile::tempdir().unwrap(),
            store: Arc::new(MemStore::of(objects)),
            past: Arc::default(),
            machines: ["a", "b"].map(|host| Machine { host, known: moment.known[0].clone(), source: PathBuf::new() }),
            promised: Promised::default(),
        };
        let mut promised = moment.promised.clone();
        let mut breaches = scene.breaches(&promised);
        let at = dice.below(2) as usize;
        let machine = Machine {
            host: ["a", "b"][at],
            known: scene.dir.path().join("known"),
            source: world.machines[at].source.clone(),
        };
        // A prune in the middle of a backup does not wait for those that are gone only.
        machine.change_source(dice.below(12) as i64);
        let prune = || drop(library::prune_waiting(&machine.open(scene.store.clone()).unwrap()));
        let beside = Meanwhile(Mutex::new((dice.below(2) == 0).then_some(prune)));
        match machine.open(scene.store.clone()).and_then(|repository| machine.back_up(&repository, 500, &beside)) {
            Ok(id) => drop(promised.shown.insert(id)),
            Err(error) => breaches.push(format!("the backup fails: {}", error.chain())),
        }
        for _ in 0..2 {
            let pruned = machine.open(scene.store.clone()).and_then(|repository| library::prune(&repository));
            breaches.extend(pruned.err().map(|error| format!("the prune fails: {}", error.chain())));
            breaches.extend(scene.breaches(&promised));
        }
        if !breaches.is_empty() {
            failures.push(format!("run {run}, moment {now}, marks since {from}: {breaches:?}"));
        }
    }
    println!("replayed marks: {runs} runs, {} losses", failures.len());
    assert!(failures.is_empty(), "{:#?}", &failures[..failures.len().min(10)]);
}
