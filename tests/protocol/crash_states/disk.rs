//! A disk as [`Store`] describes it: which names there may be after a power cut at any moment.

use bakfs::error::Result;
use bakfs::store::{Decorator, Names, Object, Store};
use bakfs_testing::Dice;
use bakfs_testing::stores::{MemStore, Objects};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of an object.
pub type Bytes = Arc<Vec<u8>>;

/// A change, in the order in which a process made them.
#[derive(Debug, Clone)]
pub enum Step {
    /// [`Store::put`].
    Put(String, Bytes),
    /// [`Store::delete`].
    Delete(String),
    /// [`Store::barrier`].
    Barrier(Names),
}

/// A store in memory that writes down all changes. It never fails.
pub struct Recorder {
    inner: MemStore,
    steps: Mutex<Vec<Step>>,
}

impl Recorder {
    /// Records the changes of one process to these objects.
    pub fn new(objects: Objects) -> Arc<Self> {
        Arc::new(Recorder { inner: MemStore::of(objects), steps: Mutex::default() })
    }

    /// Returns what was done so far.
    pub fn steps(&self) -> Vec<Step> {
        self.steps.lock().clone()
    }

    /// Does something and writes it down in the same order.
    fn step(&self, step: Step, run: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut steps = self.steps.lock();
        run()?;
        steps.push(step);
        Ok(())
    }
}

impl Decorator for Recorder {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    fn put(&self, object: Object, bytes: &[u8]) -> Result<()> {
        self.step(Step::Put(object.path(), Arc::new(bytes.to_vec())), || self.inner.put(object, bytes))
    }

    fn barrier(&self, names: Names) -> Result<()> {
        self.step(Step::Barrier(names), || self.inner.barrier(names))
    }

    fn delete(&self, object: Object) -> Result<()> {
        self.step(Step::Delete(object.path()), || self.inner.delete(object))
    }
}

/// What a disk does otherwise than it should: each flaw must be found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// None.
    None,
    /// Barriers do nothing.
    NoBarriers,
    /// Removing what is not there says nothing about who removed it: the next barrier may leave that out.
    ForgetfulDeletes,
}

/// A name whose last changes are not durable: it may be there or not.
#[derive(Debug, Clone)]
struct Uncertain {
    process: u32,
    bytes: Bytes,
}

/// All names as running processes see them, and which of them a power cut may add or take away.
#[derive(Debug, Clone)]
pub struct Disk {
    visible: Objects,
    uncertain: BTreeMap<String, Uncertain>,
    flaw: Flaw,
}

impl Disk {
    /// Makes a disk on which all is durable.
    pub fn of(visible: Objects, flaw: Flaw) -> Self {
        Disk { visible, uncertain: BTreeMap::new(), flaw }
    }

    /// Returns what a process sees.
    pub fn visible(&self) -> &Objects {
        &self.visible
    }

    /// Exchanges the bytes of an object, as a failing disk does.
    pub fn damage(&mut self, path: &str, bytes: Vec<u8>) {
        let bytes = Arc::new(bytes);
        self.visible.insert(path.to_owned(), bytes.clone());
        if let Some(uncertain) = self.uncertain.get_mut(path) {
            uncertain.bytes = bytes;
        }
    }

    /// Takes in a change of a process.
    pub fn apply(&mut self, process: u32, step: &Step) {
        match step {
            Step::Put(path, _) if self.visible.contains_key(path) => self.take_over(process, path),
            Step::Put(path, bytes) => {
                self.visible.insert(path.clone(), bytes.clone());
                self.uncertain.insert(path.clone(), Uncertain { process, bytes: bytes.clone() });
            }
            Step::Delete(path) => match self.visible.remove(path) {
                Some(bytes) => drop(self.uncertain.insert(path.clone(), Uncertain { process, bytes })),
                None if self.flaw == Flaw::ForgetfulDeletes => {}
                None => self.take_over(process, path),
            },
            Step::Barrier(_) if self.flaw == Flaw::NoBarriers => {}
            Step::Barrier(Names::All) => self.uncertain.clear(),
            Step::Barrier(Names::Mine) => {
                self.uncertain.retain(|path, uncertain| uncertain.process != process && !path.starts_with("index/"));
            }
        }
    }

    /// What a process finds as it wants it becomes durable by its next barrier, whoever has made it so.
    fn take_over(&mut self, process: u32, path: &str) {
        if let Some(uncertain) = self.uncertain.get_mut(path) {
            uncertain.process = process;
        }
    }

    /// Hands over every state a power cut may leave, with a number that is another for another set of objects. Of
    /// more than `max_names` uncertain names not all subsets are tried: those with up to two names and those
    /// without up to two, and `random` others.
    pub fn states(
        &self,
        max_names: usize,
        random: usize,
        dice: &mut Dice,
        take: &mut dyn FnMut(u128, &dyn Fn() -> Objects),
    ) {
        let uncertain = &self.uncertain;
        let certain = || self.visible.iter().filter(move |(path, _)| !uncertain.contains_key(*path));
        let base = certain().fold(0, |sum, (path, bytes)| sum ^ fingerprint(path, bytes));
        let names: Vec<(&String, &Bytes, u128)> = self
            .uncertain
            .iter()
            .map(|(path, uncertain)| (path, &uncertain.bytes, fingerprint(path, &uncertain.bytes)))
            .collect();
        let mut try_subset = |is_there: &dyn Fn(usize) -> bool| {
            let there: Vec<_> = (0..names.len()).filter(|at| is_there(*at)).collect();
            let key = there.iter().fold(base, |sum, at| sum ^ names[*at].2);
            take(key, &|| {
                let mut objects: Objects = certain().map(|(path, bytes)| (path.clone(), bytes.clone())).collect();
                objects.extend(there.iter().map(|at| (names[*at].0.clone(), names[*at].1.clone())));
                objects
            });
        };
        if names.len() <= max_names {
            (0..1u64 << names.len()).for_each(|subset| try_subset(&|at| subset >> at & 1 == 1));
            return;
        }
        for first in 0..names.len() {
            for second in first..names.len() {
                try_subset(&|at| at == first || at == second);
                try_subset(&|at| at != first && at != second);
            }
        }
        try_subset(&|_| true);
        try_subset(&|_| false);
        for _ in 0..random {
            let seed = dice.roll();
            try_subset(&|at| Dice::new(seed ^ at as u64).roll() & 1 == 1);
        }
    }
}

/// Tells objects apart: names are hashes of bytes; only damage changes bytes under a name.
fn fingerprint(path: &str, bytes: &[u8]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(path.as_bytes()).update(&(bytes.len() as u64).to_le_bytes());
    let hash = hasher.finalize();
    u128::from_le_bytes(hash.as_bytes()[..16].try_into().expect("16 of 32 bytes"))
}
