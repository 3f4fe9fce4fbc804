//! What the processes do whose crashes are looked at, and what they report.

use super::disk::{Bytes, Recorder, Step};
use super::judge::{Expected, Fate, digest};
use bakfs::error::{Error, Result};
use bakfs::format::header::{Kind, Suite};
use bakfs::format::mark::Mark;
use bakfs::id::ObjectId;
use bakfs::monitor::Silent;
use bakfs::repo::Repository;
use bakfs::repo::objects::{object_id, seal_object};
use bakfs::store::Object;
use bakfs_testing::library::{self, TINY_CHUNKS};
use bakfs_testing::noise;
use bakfs_testing::stores::{MemStore, Objects};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

/// The day of the backups that only follow a crash.
pub const LAST_DAY: i64 = 900;

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Backs up what has changed.
    Backup,
    /// Forgets the oldest snapshot that is shown and not pinned.
    Forget,
    /// Brings all forgotten snapshots back.
    Undo,
    /// Prunes, copying what is needed out of every pack that is not all needed.
    Prune,
    /// Repairs the index, an object of which was damaged just before.
    Repair,
    /// Pins the newest snapshot.
    Pin,
}

impl Act {
    /// All of them.
    pub const ALL: [Act; 6] = [Act::Backup, Act::Forget, Act::Undo, Act::Prune, Act::Repair, Act::Pin];
}

/// What is backed up, and what is known of all snapshots.
pub struct World {
    dir: tempfile::TempDir,
    /// Held while the source is changed and backed up.
    source: Mutex<()>,
    /// What every snapshot showed when nothing had crashed.
    truth: RwLock<HashMap<ObjectId, blake3::Hash>>,
}

/// What a process did, and what it reported.
pub struct Done {
    /// Its changes.
    pub steps: Vec<Step>,
    /// What must be so while it runs.
    pub during: Expected,
    /// What must be so after it has reported its success.
    pub after: Expected,
}

impl World {
    /// Plants a source.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("bakfs-crash-").tempdir().unwrap();
        let world = World { dir, source: Mutex::new(()), truth: RwLock::default() };
        std::fs::create_dir_all(world.path().join("still")).unwrap();
        std::fs::write(world.path().join("still/text"), "row row row your boat ".repeat(60)).unwrap();
        std::fs::write(world.path().join("still/noise"), noise(1, 1500)).unwrap();
        world
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    /// Notes what a snapshot shows.
    pub fn learn(&self, id: ObjectId, digest: blake3::Hash) {
        self.truth.write().insert(id, digest);
    }

    /// Returns whether a snapshot shows what it showed when nothing had crashed.
    pub fn is_true(&self, id: &ObjectId, digest: &blake3::Hash) -> bool {
        self.truth.read().get(id) == Some(digest)
    }

    /// Makes a repository with snapshots of so many days, of which the first is forgotten.
    pub fn start(&self, suite: Suite, days: i64) -> (Objects, Expected) {
        let store = Arc::new(MemStore::default());
        library::init(&*store, suite, 3, TINY_CHUNKS).unwrap();
        let mut expected = Expected::default();
        for day in 0..days {
            let (id, digest) = self.back_up(&library::open(store.clone()).unwrap(), day).unwrap();
            self.learn(id, digest);
            expected.fates.insert(id, Fate::Shown);
            expected.committed.insert(id);
            if day == 0 {
                library::open(store.clone()).unwrap().forget(&[id]).unwrap();
                expected.fates.insert(id, Fate::Hidden);
            }
        }
        (store.objects(), expected)
    }

    /// Backs the source up as it is on a day; returns the snapshot and what it shows.
    pub fn back_up(&self, repository: &Arc<Repository>, day: i64) -> Result<(ObjectId, blake3::Hash)> {
        let turn = self.source.lock();
        let changing = noise(100 + day as u64, 900);
        std::fs::write(self.path().join("changing"), &changing).unwrap();
        std::fs::write(self.path().join(if day % 2 == 0 { "even" } else { "odd" }), format!("day {day}")).unwrap();
        let outcome = library::back_up(repository, &self.path(), day)?;
        drop(turn);
        let id = outcome.id.expect("no dry run");
        let fresh = library::open(repository.store().clone())?;
        let snapshot = fresh.snapshot(id)?;
        let shown = library::read_snapshot(&fresh, &snapshot);
        let path = self.path().join("changing");
        let stored = shown.files.get(path.as_os_str().as_encoded_bytes()).and_then(|(_, bytes)| bytes.clone());
        if !shown.errors.is_empty() || stored.as_ref() != Some(&changing) || snapshot.summary.errors > 0 {
            return Err(Error::damaged(format!(
                "a backup reports success and holds something else: {:?}",
                shown.errors
            )));
        }
        Ok((id, digest(&snapshot, &shown)))
    }

    /// Runs an act on what is there; `None` if there is nothing to do for it. An error is a breach: nothing of what
    /// came before may keep it from its work.
    pub fn run(&self, act: Act, day: i64, objects: &Objects, expected: &Expected) -> Result<Option<Done>> {
        let recorder = Recorder::new(objects.clone());
        let repository = library::open(recorder.clone())?;
        let (mut during, mut after) = (expected.clone(), expected.clone());
        match act {
            Act::Backup => {
                let (id, digest) = self.back_up(&repository, day)?;
                self.learn(id, digest);
                during.fates.insert(id, Fate::Either);
                after.fates.insert(id, Fate::Shown);
                after.committed.insert(id);
            }
            Act::Forget => {
                let marks = repository.marks()?;
                let shown = repository.snapshots()?;
                let Some(oldest) = shown.iter().find(|listed| !marks.pins().contains_key(&listed.id)) else {
                    return Ok(None);
                };
                repository.forget(&[oldest.id])?;
                if expected.fates.get(&oldest.id) == Some(&Fate::Shown) {
                    during.fates.insert(oldest.id, Fate::Either);
                }
                after.fates.insert(oldest.id, Fate::Hidden);
            }
            Act::Undo => {
                let forgotten: Vec<_> = repository.forgotten_snapshots()?.iter().map(|listed| listed.id).collect();
                if forgotten.is_empty() {
                    return Ok(None);
                }
                let late = repository.undo_forget(&forgotten)?;
                for id in forgotten {
                    during.fates.insert(id, Fate::Either);
                    let is_back = !late.contains(&id);
                    let fate = match is_back {
                        // One that was never reported as committed need not outlast a power cut.
                        true if !expected.committed.contains(&id) => Fate::Either,
                        true => Fate::Shown,
                        false => Fate::Hidden,
                    };
                    after.fates.insert(id, fate);
                }
            }
            Act::Prune => drop(library::prune(&repository)?),
            Act::Repair => {
                bakfs::repair::run(&repository, &Default::default(), &Silent)?;
                after.damaged = None;
            }
            Act::Pin => {
                let Some(newest) = repository.snapshots()?.pop() else { return Ok(None) };
                if expected.fates.get(&newest.id) != Some(&Fate::Shown) {
                    return Ok(None);
                }
                repository.pin(newest.id, "crash")?;
                after.pinned.insert(newest.id);
            }
        }
        let mut steps = recorder.steps();
        bury(&repository, &mut steps);
        Ok(Some(Done { steps, during, after }))
    }
}

/// Makes a process one that is gone: what it has announced names this one, which lives.
fn bury(repository: &Repository, steps: &mut [Step]) {
    let mut buried: HashMap<String, (String, Bytes)> = HashMap::new();
    for step in steps {
        match step {
            Step::Put(path, bytes) if path.starts_with("marks/") => {
                let plain = bakfs::repo::objects::open_object(
                    repository.vault(),
                    Kind::Mark,
                    bytes.to_vec(),
                    bakfs::format::mark::MAX_MARK_BYTES,
                );
                let Ok(Mark::Session(mut session)) = Mark::decode(&plain.unwrap()) else { continue };
                session.process_started += 1;
                let vault = repository.vault();
                let sealed = seal_object(vault, Kind::Mark, &Mark::Session(session).encode());
                let new = (Object::Mark(object_id(&sealed)).path(), Arc::new(sealed));
                buried.insert(path.clone(), new.clone());
                (*path, *bytes) = new;
            }
            Step::Delete(path) => {
                if let Some((new, _)) = buried.get(&*path) {
                    path.clone_from(new);
                }
            }
            _ => {}
        }
    }
}

/// Returns the objects of a folder.
pub fn in_folder(objects: &Objects, folder: &str) -> BTreeSet<String> {
    objects.keys().filter(|path| path.starts_with(folder)).cloned().collect()
}
