//! What can be done with a repository, each workload with what must be true when it says that it is done, and
//! afterwards in any case. Faults are injected elsewhere.

use super::library::{self, History, Shown, Source, TINY_CHUNKS};
use super::stores::{MemStore, Objects};
use bakfs::error::Result;
use bakfs::format::header::Suite;
use bakfs::monitor::Silent;
use bakfs::repair;
use bakfs::restore;
use bakfs::store::Store;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What a workload says that it has done.
pub enum Claim {
    /// A snapshot of this name is committed.
    Committed(String),
    /// The snapshot is restored here.
    Restored(tempfile::TempDir),
    /// All that is stored is sound.
    Sound,
    /// This is what is stored.
    Shown(History),
    /// The snapshot of this name is not shown any more.
    Forgotten(String),
    /// What nothing needs is deleted.
    Pruned,
    /// The index is made again.
    Repaired,
    /// Something was not done, and said so.
    Incomplete,
}

/// What was done before a workload besides backups.
#[derive(PartialEq)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// A backup was killed before its index was stored.
    KilledBackup,
    /// The oldest snapshot was forgotten.
    Forgotten,
    /// The index was lost.
    NoIndex,
}

/// What a workload starts from: objects that are durable, and those a killed process left.
pub struct World {
    source: Source,
    /// What is there whatever happens.
    pub durable: Objects,
    /// What a killed process has left.
    pub unsynced: Objects,
    /// What the durable objects show.
    history: History,
    /// What a backup of the source as it is now shows.
    today: Shown,
}

/// The workload after which the oldest snapshot may be gone.
pub const FORGET: &str = "forget";
/// The workload that starts from a lost index.
pub const REPAIR: &str = "repair";

/// A name, what it starts from, and what it does with a store.
pub type Workload = (&'static str, fn() -> World, fn(&World, Arc<dyn Store>) -> Result<Claim>);

/// All of them.
pub const WORKLOADS: &[Workload] = &[
    ("first backup", || World::new(0, Left::Nothing), backup),
    ("next backup", || World::new(1, Left::Nothing), backup),
    ("backup after a killed one", || World::new(0, Left::KilledBackup), backup),
    ("restore", || World::new(1, Left::Nothing), restore),
    ("check", || World::new(1, Left::Nothing), check),
    ("reading", || World::new(1, Left::Nothing), read),
    (FORGET, || World::new(2, Left::Nothing), forget),
    ("prune", || World::new(3, Left::Forgotten), prune),
    (REPAIR, || World::new(2, Left::NoIndex), repair),
];

fn backup(world: &World, store: Arc<dyn Store>) -> Result<Claim> {
    let repository = library::open(store)?;
    let outcome = library::back_up(&repository, &world.source.path(), 9)?;
    Ok(match outcome.snapshot.summary.errors {
        0 => Claim::Committed(outcome.snapshot.name),
        _ => Claim::Incomplete,
    })
}

fn restore(world: &World, store: Arc<dyn Store>) -> Result<Claim> {
    let repository = library::open(store)?;
    let snapshots = repository.snapshots()?;
    let Some(listed) = snapshots.last() else { return Ok(Claim::Incomplete) };
    let target = tempfile::tempdir().unwrap();
    let options = restore::Options { path: path_bytes(&world.source.path()), ..restore::Options::default() };
    let outcome = restore::run(&repository, &listed.snapshot, &options, target.path(), &Silent)?;
    Ok(if outcome.errors == 0 { Claim::Restored(target) } else { Claim::Incomplete })
}

fn check(_: &World, store: Arc<dyn Store>) -> Result<Claim> {
    let repository = library::open(store)?;
    let report = library::check(&repository)?;
    Ok(if report.findings.is_empty() { Claim::Sound } else { Claim::Incomplete })
}

fn read(_: &World, store: Arc<dyn Store>) -> Result<Claim> {
    let repository = library::open(store)?;
    library::read_all(&repository).map(Claim::Shown)
}

fn forget(_: &World, store: Arc<dyn Store>) -> Result<Claim> {
    let repository = library::open(store)?;
    library::forget_oldest(&repository).map(Claim::Forgotten)
}

fn prune(_: &World, store: Arc<dyn Store>) -> Result<Claim> {
    let repository = library::open(store)?;
    library::prune(&repository).map(|_| Claim::Pruned)
}

fn repair(_: &World, store: Arc<dyn Store>) -> Result<Claim> {
    let repository = library::open(store)?;
    repair::run(&repository, &repair::Options::default(), &Silent).map(|_| Claim::Repaired)
}

fn path_bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_encoded_bytes().to_vec()
}

/// Returns names and contents of regular files below a folder.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let name = |path: &Path| path.strip_prefix(dir).unwrap().display().to_string();
    super::files_below(dir).iter().map(|(path, _)| (name(path), std::fs::read(path).unwrap())).collect()
}

impl World {
    /// So many days are stored.
    pub fn new(days: i64, left: Left) -> World {
        let source = Source::new();
        let store = Arc::new(MemStore::default());
        library::init(&*store, Suite::Aes256GcmSiv, 0, TINY_CHUNKS).unwrap();
        for day in 0..days {
            let repository = library::open(store.clone()).unwrap();
            library::back_up(&repository, &source.path(), day).unwrap();
            library::plant(&source.path(), day as u64 + 1);
        }
        if left == Left::Forgotten {
            library::forget_oldest(&library::open(store.clone()).unwrap()).unwrap();
        }
        library::plant(&source.path(), 9);
        let mut durable = store.objects();
        let history = library::read_all(&library::open(store.clone()).unwrap()).unwrap();
        let repository = library::open(store.clone()).unwrap();
        let name = library::back_up(&repository, &source.path(), 9).unwrap().snapshot.name;
        let mut all = library::read_all(&library::open(store.clone()).unwrap()).unwrap();
        let (_, today) = all.snapshots.remove(&name).unwrap();
        if left == Left::NoIndex {
            durable.retain(|path, _| !path.starts_with("index/"));
        }
        let unsynced = match left {
            Left::KilledBackup => store.objects().into_iter().filter(|(path, _)| path.starts_with("packs/")).collect(),
            _ => Objects::new(),
        };
        World { source, durable, unsynced, history, today }
    }

    /// Reads what is left when the power is cut now; what was there before must be there.
    fn survivors(&self, work: &str, objects: Objects) -> Result<History, String> {
        let repository = library::open(Arc::new(MemStore::of(objects))).map_err(|error| error.chain())?;
        let history = library::read_all(&repository).map_err(|error| error.chain())?;
        if !history.is_whole() {
            return Err(format!("unreadable afterwards: {history:?}"));
        }
        for (at, (name, before)) in self.history.snapshots.iter().enumerate() {
            let is_forgotten = work == FORGET && at == 0 && !history.snapshots.contains_key(name);
            if history.snapshots.get(name) != Some(before) && !is_forgotten {
                return Err(format!("{name} is not what it was"));
            }
        }
        let report = library::check(&repository).map_err(|error| error.chain())?;
        // Without an index everything is read, and missed by a check until it is repaired.
        match report.findings.is_empty() || work == REPAIR {
            true => Ok(history),
            false => Err(format!("check: {:?}", report.findings)),
        }
    }

    /// The next backup and the next prune need nothing but to be run.
    fn goes_on(&self, work: &str, mut objects: Objects) -> Result<(), String> {
        if work == REPAIR {
            // A repair waits for sessions of living processes, and here they are of this one.
            objects.retain(|path, _| !path.starts_with("marks/"));
        }
        let store = Arc::new(MemStore::of(objects));
        if work == REPAIR {
            repair(self, store.clone()).map_err(|error| format!("the next repair fails: {}", error.chain()))?;
            self.survivors("", store.after_power_cut())?;
        }
        let name = match backup(self, store.clone()) {
            Ok(Claim::Committed(name)) => name,
            Ok(_) => return Err("the next backup is incomplete".into()),
            Err(error) => return Err(format!("the next backup fails: {}", error.chain())),
        };
        self.holds(&self.survivors(work, store.after_power_cut())?, &name)?;
        prune(self, store.clone()).map_err(|error| format!("the next prune fails: {}", error.chain()))?;
        self.holds(&self.survivors(work, store.after_power_cut())?, &name)
    }

    fn holds(&self, history: &History, name: &str) -> Result<(), String> {
        let source = path_bytes(&self.source.path());
        // The folders above it are everybody's.
        let own =
            |shown: &Shown| shown.files.clone().into_iter().filter(|(path, _)| path.starts_with(&source)).collect();
        let [today, stored]: [BTreeMap<_, _>; 2] = match history.snapshots.get(name) {
            None => return Err(format!("{name} was reported as committed and is not there")),
            Some((_, shown)) => [own(&self.today), own(shown)],
        };
        if today == stored { Ok(()) } else { Err(format!("{name} holds other things")) }
    }

    /// Judges what a workload claims by what the store holds afterwards, and tries whether the next backup and prune
    /// go on from there. Returns whether the claim was of success; an error is a broken promise. Where calls of the
    /// store have failed for good, nothing `may_be_sound`.
    pub fn judge(
        &self,
        work: &str,
        claim: Result<Claim>,
        may_be_sound: bool,
        store: &MemStore,
    ) -> Result<bool, String> {
        let history = self.survivors(work, store.after_power_cut())?;
        self.survivors(work, store.objects())?;
        let is_success = match claim {
            Ok(Claim::Committed(name)) => self.holds(&history, &name).map(|()| true)?,
            Ok(Claim::Restored(target)) => {
                let source = self.source.path();
                let there = contents(&target.path().join(source.strip_prefix("/").unwrap()));
                let (path, len) = (path_bytes(&source), there.len());
                let snapshot = self.history.snapshots.values().last().map(|(_, shown)| shown).unwrap();
                let expected = snapshot.files.iter().filter_map(|(name, (_, bytes))| {
                    let name = name.strip_prefix(&path[..])?.strip_prefix(b"/")?;
                    Some((String::from_utf8(name.to_vec()).unwrap(), bytes.clone()?))
                });
                match there == expected.collect() {
                    true => true,
                    false => return Err(format!("reported as restored, and it is not: {len} files")),
                }
            }
            Ok(Claim::Forgotten(name)) if history.snapshots.contains_key(&name) => {
                return Err(format!("{name} was reported as forgotten and is there"));
            }
            Ok(Claim::Repaired) => self.survivors("", store.after_power_cut()).map(|_| true)?,
            Ok(Claim::Forgotten(_) | Claim::Pruned) => true,
            Ok(Claim::Sound) if may_be_sound => true,
            Ok(Claim::Sound) => return Err("said to be sound although calls of the store failed".into()),
            Ok(Claim::Shown(shown)) => {
                let lies = shown.lies(&self.history);
                if !lies.is_empty() || shown.is_silently_less(&self.history) {
                    return Err(format!("shown wrongly or silently not: {lies:?}"));
                }
                shown.is_whole()
            }
            Ok(Claim::Incomplete) | Err(_) => false,
        };
        self.goes_on(work, store.after_power_cut())?;
        self.goes_on(work, store.objects())?;
        Ok(is_success)
    }
}
