//! A store in memory that behaves as one far away: it records every request, and holds back replies or fails on
//! demand.

use super::stores::MemStore;
use bakfs::error::{Error, ErrorKind, Result};
use bakfs::store::{Decorator, Object, Store, Wait};
use parking_lot::{Condvar, Mutex};
use std::ops::Range;
use std::sync::Arc;

/// A read of a range of an object.
pub type Request = (Object, Range<u64>);

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    lengths: usize,
    whole: usize,
    is_held: bool,
    /// How many held requests may go on.
    let_through: usize,
    waiting: usize,
    failing: Option<Request>,
    copied_since_secs: Option<u64>,
}

/// The store.
pub struct FarStore {
    inner: Arc<dyn Store>,
    connections: usize,
    state: Mutex<State>,
    changed: Condvar,
}

impl FarStore {
    /// Puts a store far away.
    pub fn new(inner: Arc<dyn Store>, connections: usize) -> Arc<Self> {
        Arc::new(FarStore { inner, connections, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Makes one with packs in it.
    pub fn with_packs(packs: &[(Object, Vec<u8>)], connections: usize) -> Arc<Self> {
        let memory = MemStore::default();
        packs.iter().for_each(|(object, bytes)| memory.put(*object, bytes).unwrap());
        Self::new(Arc::new(memory), connections)
    }

    /// Takes what ranges were read since the last call.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().requests)
    }

    /// Takes how many requests of any kind there were since the last call.
    pub fn take_count(&self) -> usize {
        let state = &mut *self.state.lock();
        let count = state.requests.len() + state.lengths + state.whole;
        (state.lengths, state.whole) = (0, 0);
        state.requests.clear();
        count
    }

    /// Holds back all replies from now on.
    pub fn hold(&self) {
        self.state.lock().is_held = true;
    }

    /// Lets some replies through, the others go on waiting.
    pub fn let_through(&self, count: usize) {
        self.state.lock().let_through += count;
        self.changed.notify_all();
    }

    /// Lets all replies through.
    pub fn release(&self) {
        let mut state = self.state.lock();
        (state.is_held, state.let_through) = (false, 0);
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until so many requests are held back.
    pub fn await_held(&self, count: usize) {
        let mut state = self.state.lock();
        while state.waiting < count {
            let timed_out = self.changed.wait_for(&mut state, super::SOON).timed_out();
            assert!(!timed_out, "{} requests are held back instead of {count}", state.waiting);
        }
    }

    /// Waits until so many ranges were asked for since they were taken last.
    pub fn await_requests(&self, count: usize) {
        let mut state = self.state.lock();
        while state.requests.len() < count {
            let timed_out = self.changed.wait_for(&mut state, super::SOON).timed_out();
            assert!(!timed_out, "{count} requests were expected: {:?}", state.requests);
        }
    }

    /// Returns how many requests are held back.
    pub fn held(&self) -> usize {
        self.state.lock().waiting
    }

    /// From now on objects are said to be copies made at this time.
    pub fn copied_since(&self, secs: u64) {
        self.state.lock().copied_since_secs = Some(secs);
    }

    /// From now on requests for a byte of a range fail; `None` ends it.
    pub fn fail(&self, failing: Option<Request>) {
        self.state.lock().failing = failing;
    }
}

impl Decorator for FarStore {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    fn len_bytes(&self, object: Object) -> Result<u64> {
        self.state.lock().lengths += 1;
        self.inner.len_bytes(object)
    }

    fn read_at(&self, object: Object, offset: u64, buffer: &mut [u8], wait: Wait) -> Result<()> {
        assert_eq!(wait, Wait::Allowed, "what is far away is never asked by who may not wait");
        let range = offset..offset + buffer.len() as u64;
        let mut state = self.state.lock();
        state.requests.push((object, range.clone()));
        self.changed.notify_all();
        if state.is_held {
            state.waiting += 1;
            self.changed.notify_all();
            while state.is_held && state.let_through == 0 {
                self.changed.wait(&mut state);
            }
            state.let_through = state.let_through.saturating_sub(1);
            state.waiting -= 1;
            self.changed.notify_all();
        }
        let failing = state.failing.clone();
        drop(state);
        if failing.is_some_and(|(other, bad)| other == object && bad.start < range.end && range.start < bad.end) {
            return Err(Error::new(ErrorKind::Io, format!("Reading {object} fails as planned")));
        }
        self.inner.read_at(object, offset, buffer, wait)
    }

    /// Hands over what it reads as a server whose first answer breaks off: half of it, and then all, in odd pieces.
    fn read_through(&self, object: Object, range: Range<u64>, each: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        Decorator::read_at(self, object, range.start, &mut bytes, Wait::Allowed)?;
        for part in [&bytes[..bytes.len() / 2], &bytes[..]] {
            let mut offset = range.start;
            for piece in part.chunks(10_007) {
                each(offset, piece);
                offset += piece.len() as u64;
            }
        }
        Ok(())
    }

    fn read_whole(&self, object: Object, max_bytes: u64) -> Result<Vec<u8>> {
        self.state.lock().whole += 1;
        self.inner.read_whole(object, max_bytes)
    }

    fn copied_since_secs(&self, _: Object) -> Option<u64> {
        self.state.lock().copied_since_secs
    }

    fn connections(&self) -> usize {
        self.connections
    }

    fn is_far(&self) -> bool {
        true
    }
}

/// Returns the bytes some requests asked for, and those asked for twice.
pub fn asked_bytes(requests: &[Request]) -> (u64, u64) {
    let mut sorted = requests.to_vec();
    sorted.sort_by_key(|(object, range)| (*object, range.start));
    let total = sorted.iter().map(|(_, range)| range.end - range.start).sum();
    let mut twice = 0;
    let mut last: Option<Request> = None;
    for (object, range) in sorted {
        if let Some((other, seen)) = &mut last
            && *other == object
        {
            twice += seen.end.min(range.end).saturating_sub(range.start);
            seen.end = seen.end.max(range.end);
            continue;
        }
        last = Some((object, range));
    }
    (total, twice)
}
