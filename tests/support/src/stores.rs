//! Stores for proofs: one in memory that knows what would survive a power cut, and one that fails on demand.

use bakfs::error::{Error, ErrorKind, Result};
use bakfs::id::ObjectId;
use bakfs::store::{Decorator, Hints, ListedObject, Names, Object, ObjectKind, Store, Wait};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// Objects by their paths.
pub type Objects = BTreeMap<String, Arc<Vec<u8>>>;

#[derive(Default)]
struct Memory {
    objects: Objects,
    /// What a power cut would leave.
    durable: Objects,
    /// Names this store has put or removed since the last barrier.
    mine: BTreeSet<String>,
}

/// A store in memory. Names become durable at barriers, as those of a disk do.
#[derive(Default)]
pub struct MemStore(Mutex<Memory>);

impl MemStore {
    /// Makes a store of objects that are durable.
    pub fn of(objects: Objects) -> Self {
        let durable = objects.clone();
        MemStore(Mutex::new(Memory { objects, durable, mine: BTreeSet::new() }))
    }

    /// Makes a store with further objects that a process stored and was killed before it synced their names.
    pub fn with_unsynced(durable: Objects, unsynced: Objects) -> Self {
        let objects = durable.iter().chain(&unsynced).map(|(path, bytes)| (path.clone(), bytes.clone())).collect();
        MemStore(Mutex::new(Memory { objects, durable, mine: BTreeSet::new() }))
    }

    /// Returns all objects, durable or not.
    pub fn objects(&self) -> Objects {
        self.0.lock().objects.clone()
    }

    /// Returns what a power cut at this moment leaves.
    pub fn after_power_cut(&self) -> Objects {
        self.0.lock().durable.clone()
    }
}

/// Makes the error of an object that is not there, as a disk tells it.
fn missing(object: Object) -> Error {
    Error::io(format!("Cannot open {object}"), std::io::Error::from(std::io::ErrorKind::NotFound))
}

impl Store for MemStore {
    fn put(&self, object: Object, bytes: &[u8]) -> Result<()> {
        let mut memory = self.0.lock();
        let path = object.path();
        if let Some(there) = memory.objects.get(&path) {
            return match there.len() == bytes.len() && object != Object::Config {
                true => Ok(()),
                false => Err(Error::new(ErrorKind::Exists, format!("{object} exists"))),
            };
        }
        memory.objects.insert(path.clone(), Arc::new(bytes.to_vec()));
        memory.mine.insert(path);
        Ok(())
    }

    fn barrier(&self, names: Names) -> Result<()> {
        let mut memory = self.0.lock();
        let Memory { objects, durable, mine } = &mut *memory;
        if names == Names::All {
            durable.clone_from(objects);
        }
        // Index segments whoever has put them: what the trait promises.
        let index = objects.keys().filter(|path| path.starts_with("index/")).cloned();
        for path in std::mem::take(mine).into_iter().chain(index) {
            match objects.get(&path) {
                Some(bytes) => durable.insert(path, bytes.clone()),
                None => durable.remove(&path),
            };
        }
        Ok(())
    }

    fn len_bytes(&self, object: Object) -> Result<u64> {
        let memory = self.0.lock();
        memory.objects.get(&object.path()).map(|bytes| bytes.len() as u64).ok_or_else(|| missing(object))
    }

    fn read_at(&self, object: Object, offset: u64, buffer: &mut [u8], _: Wait) -> Result<()> {
        let bytes = self.0.lock().objects.get(&object.path()).cloned().ok_or_else(|| missing(object))?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        let range = bytes.get(start..end).ok_or_else(|| Error::damaged(format!("{object} ends before byte {end}")))?;
        buffer.copy_from_slice(range);
        Ok(())
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<ListedObject>> {
        let memory = self.0.lock();
        let folder = format!("{}/", kind.folder());
        let named = memory.objects.iter().filter(|(path, _)| path.starts_with(&folder));
        let listed = named.filter_map(|(path, bytes)| {
            let id = ObjectId::from_hex(path.rsplit('/').next()?)?;
            Some(ListedObject { id, len_bytes: bytes.len() as u64 })
        });
        Ok(listed.collect())
    }

    fn delete(&self, object: Object) -> Result<()> {
        let mut memory = self.0.lock();
        memory.objects.remove(&object.path());
        memory.mine.insert(object.path());
        Ok(())
    }

    fn sweep(&self) -> Result<u64> {
        Ok(0)
    }

    fn location(&self) -> String {
        "memory".into()
    }
}

impl Hints for MemStore {}

/// What a call that fails does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// EIO, nothing done.
    Io,
    /// ENOSPC, nothing done.
    NoSpace,
    /// EIO, but what was asked for is done: the reply is lost.
    LostReply,
    /// A read that ends in the middle.
    Short,
}

/// A call of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// [`Store::put`].
    Put,
    /// [`Store::barrier`].
    Barrier,
    /// [`Store::len_bytes`].
    Len,
    /// [`Store::read_at`], [`Store::read_through`] or [`Store::read_whole`].
    Read,
    /// [`Store::list`].
    List,
    /// [`Store::delete`].
    Delete,
    /// [`Store::sweep`].
    Sweep,
}

/// When a store fails, and how.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The call that fails first, counted from 1; 0 is none.
    pub call: u64,
    /// What it does.
    pub fault: Fault,
    /// Whether all calls after it fail too.
    pub goes_on: bool,
}

impl Plan {
    /// A store that never fails.
    pub const NONE: Plan = Plan { call: 0, fault: Fault::Io, goes_on: false };
}

#[derive(Default)]
struct Progress {
    calls: u64,
    failed: Vec<Call>,
}

/// A store whose calls fail by plan.
pub struct FaultStore {
    inner: Arc<dyn Store>,
    plan: Plan,
    progress: Mutex<Progress>,
}

impl FaultStore {
    /// Wraps a store.
    pub fn new(inner: Arc<dyn Store>, plan: Plan) -> Self {
        FaultStore { inner, plan, progress: Mutex::default() }
    }

    /// Returns the calls that failed.
    pub fn failed(&self) -> Vec<Call> {
        self.progress.lock().failed.clone()
    }

    /// Returns how many calls there were.
    pub fn calls(&self) -> u64 {
        self.progress.lock().calls
    }

    fn run<T>(&self, call: Call, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut progress = self.progress.lock();
        progress.calls += 1;
        let Plan { call: first, fault, goes_on } = self.plan;
        let fails = first != 0 && (progress.calls == first || goes_on && progress.calls > first);
        if !fails {
            drop(progress);
            return work();
        }
        progress.failed.push(call);
        drop(progress);
        let number = match fault {
            Fault::NoSpace => libc::ENOSPC,
            Fault::Io | Fault::LostReply | Fault::Short => libc::EIO,
        };
        if fault == Fault::LostReply {
            work()?;
        }
        Err(Error::io(format!("{call:?} fails as planned"), std::io::Error::from_raw_os_error(number)))
    }
}

impl Decorator for FaultStore {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    fn put(&self, object: Object, bytes: &[u8]) -> Result<()> {
        self.run(Call::Put, || self.inner.put(object, bytes))
    }

    fn barrier(&self, names: Names) -> Result<()> {
        self.run(Call::Barrier, || self.inner.barrier(names))
    }

    fn len_bytes(&self, object: Object) -> Result<u64> {
        self.run(Call::Len, || self.inner.len_bytes(object))
    }

    fn read_at(&self, object: Object, offset: u64, buffer: &mut [u8], wait: Wait) -> Result<()> {
        let half = buffer.len() / 2;
        let outcome = self.run(Call::Read, || self.inner.read_at(object, offset, buffer, wait));
        if outcome.is_err() && self.plan.fault == Fault::Short {
            // What a short read leaves in the buffer.
            let _ = self.inner.read_at(object, offset, &mut buffer[..half], wait);
        }
        outcome
    }

    fn read_through(&self, object: Object, range: Range<u64>, each: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
        self.run(Call::Read, || self.inner.read_through(object, range, each))
    }

    fn read_whole(&self, object: Object, max_bytes: u64) -> Result<Vec<u8>> {
        self.run(Call::Read, || self.inner.read_whole(object, max_bytes))
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<ListedObject>> {
        self.run(Call::List, || self.inner.list(kind))
    }

    fn delete(&self, object: Object) -> Result<()> {
        self.run(Call::Delete, || self.inner.delete(object))
    }

    fn sweep(&self) -> Result<u64> {
        self.run(Call::Sweep, || self.inner.sweep())
    }
}
