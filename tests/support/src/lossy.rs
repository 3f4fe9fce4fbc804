//! A store in memory that behaves as one far away: it counts requests, and loses replies on demand.

use super::stores::MemStore;
use bakfs::error::{Error, ErrorKind, Result};
use bakfs::store::{Decorator, ListedObject, Object, ObjectKind, Store, Traffic, Wait};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What becomes of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is done.
    Done,
    /// It is done, and nobody hears of it.
    LostReply,
    /// It is not done, and nobody can tell.
    Lost,
    /// It is done when [`LossyStore::deliver`] is called.
    Late,
    /// It is refused for good.
    Refused,
}

type Judge = Box<dyn FnMut(Object) -> Fate + Send>;
type Watch = Box<dyn Fn(Object) + Send + Sync>;

/// A store in memory, as if far away.
pub struct LossyStore {
    /// What it holds.
    pub inner: Arc<MemStore>,
    connections: usize,
    traffic: Mutex<Traffic>,
    puts: Mutex<Vec<Object>>,
    late: Mutex<Vec<(Object, Vec<u8>)>>,
    judge: Mutex<Judge>,
    /// Called while a put is on its way.
    watch: Watch,
    /// After so many reads the network fails for good.
    reads_left: AtomicU64,
}

impl LossyStore {
    /// Makes one in which every put is done.
    pub fn new(inner: Arc<MemStore>, connections: usize) -> Self {
        LossyStore {
            inner,
            connections,
            traffic: Mutex::default(),
            puts: Mutex::default(),
            late: Mutex::default(),
            judge: Mutex::new(Box::new(|_| Fate::Done)),
            watch: Box::new(|_| {}),
            reads_left: AtomicU64::new(u64::MAX),
        }
    }

    /// Lets the network fail for good after so many reads.
    pub fn fail_after_reads(&self, count: u64) {
        self.reads_left.store(count, Ordering::Relaxed);
    }

    fn reach(&self, object: Object) -> Result<()> {
        let take = |left: u64| Some(left.saturating_sub(1));
        match self.reads_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(0) => Err(Error::new(ErrorKind::Io, format!("The network to {object} fails as planned"))),
            _ => Ok(()),
        }
    }

    /// Calls `watch` for every put on its way.
    pub fn watched(self, watch: impl Fn(Object) + Send + Sync + 'static) -> Self {
        LossyStore { watch: Box::new(watch), ..self }
    }

    /// From now on `judge` says what becomes of puts.
    pub fn judge(&self, judge: impl FnMut(Object) -> Fate + Send + 'static) {
        *self.judge.lock() = Box::new(judge);
    }

    /// Returns the objects whose puts were done, in the order of their ends.
    pub fn puts(&self) -> Vec<Object> {
        self.puts.lock().clone()
    }

    /// Returns how many puts of a kind of object were done.
    pub fn puts_of(&self, kind: &str) -> usize {
        self.puts.lock().iter().filter(|object| object.path().starts_with(kind)).count()
    }

    /// Lets all late puts take effect; returns how many there were.
    pub fn deliver(&self) -> usize {
        let late = std::mem::take(&mut *self.late.lock());
        for (object, bytes) in &late {
            self.inner.put(*object, bytes).unwrap();
        }
        late.len()
    }

    fn count(&self, count: impl FnOnce(&mut Traffic)) {
        count(&mut self.traffic.lock());
    }
}

impl Decorator for LossyStore {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    fn put(&self, object: Object, bytes: &[u8]) -> Result<()> {
        self.count(|traffic| {
            traffic.puts += 1;
            traffic.sent_bytes += bytes.len() as u64;
        });
        (self.watch)(object);
        let fate = (self.judge.lock())(object);
        match fate {
            Fate::Done | Fate::LostReply => self.inner.put(object, bytes)?,
            Fate::Late => self.late.lock().push((object, bytes.to_vec())),
            Fate::Lost | Fate::Refused => {}
        }
        match fate {
            Fate::Done => {
                self.puts.lock().push(object);
                Ok(())
            }
            Fate::Refused => Err(Error::new(ErrorKind::Full, format!("{object} is refused as planned"))),
            _ => Err(Error::new(ErrorKind::Uncertain, format!("The put of {object} is not answered, as planned"))),
        }
    }

    fn len_bytes(&self, object: Object) -> Result<u64> {
        self.count(|traffic| traffic.stats += 1);
        self.inner.len_bytes(object)
    }

    fn read_at(&self, object: Object, offset: u64, buffer: &mut [u8], wait: Wait) -> Result<()> {
        self.count(|traffic| traffic.gets += 1);
        self.reach(object)?;
        self.inner.read_at(object, offset, buffer, wait)
    }

    fn read_through(&self, object: Object, range: Range<u64>, each: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
        self.count(|traffic| traffic.gets += 1);
        self.reach(object)?;
        self.inner.read_through(object, range, each)
    }

    fn read_whole(&self, object: Object, max_bytes: u64) -> Result<Vec<u8>> {
        self.count(|traffic| traffic.gets += 1);
        self.reach(object)?;
        self.inner.read_whole(object, max_bytes)
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<ListedObject>> {
        self.count(|traffic| traffic.lists += 1);
        self.inner.list(kind)
    }

    fn delete(&self, object: Object) -> Result<()> {
        self.count(|traffic| traffic.deletes += 1);
        self.inner.delete(object)
    }

    fn location(&self) -> String {
        "far away".into()
    }

    fn connections(&self) -> usize {
        self.connections
    }

    fn is_far(&self) -> bool {
        true
    }

    fn traffic(&self) -> Traffic {
        *self.traffic.lock()
    }
}
