//! Bringing what is missing into sparse copies: in few requests, each for bytes nobody else has asked for.

use super::link::Link;
use super::queue::{Prefetch, Queue, Task};
use super::sparse_copies::SparseCopies;
use super::sparse_copy::{BLOCK_BYTES, InFlight, MAX_OBJECT_BYTES, Outcome, SparseCopy, State, blocks_of, bytes_in};
use super::streams::Advice;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Object, Store, Wait};
use parking_lot::Mutex;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Each request is a small part of the cache's bound, but not shorter than this.
const PIECE_PART: u64 = 256;
const MIN_PIECE_BYTES: u64 = 64 << 10;
/// So much of a request that comes is told to those who wait for it at a time.
const PUBLISHED_BLOCKS: usize = 64;
/// More connections than this are not used.
const MAX_CONNECTIONS: usize = 64;
/// How often bytes that could not be kept are fetched, before the cache is passed by.
const MAX_TRIES: u32 = 3;
/// How often a request is made because one of those ahead of the reader has failed, or bytes were distrusted.
const MAX_ROUNDS: u32 = 16;

/// Fetches for all readers of a store.
pub(super) struct Fetcher {
    pub(super) inner: Arc<dyn Store>,
    pub(super) copies: SparseCopies,
    queue: Queue,
    link: Mutex<Link>,
    connections: usize,
    max_piece_bytes: u64,
    /// The window of a reader that came to the end of an object; 0 for none.
    inherited_bytes: AtomicU64,
}

fn in_blocks(bytes: u64) -> usize {
    (bytes / BLOCK_BYTES) as usize
}

impl Fetcher {
    pub(super) fn new(inner: Arc<dyn Store>, copies: SparseCopies) -> Self {
        let connections = inner.connections().clamp(1, MAX_CONNECTIONS);
        let queue = Queue::new(connections, copies.max_bytes() / 4);
        let part = if copies.folder.is_some() { PIECE_PART } else { 4 * connections as u64 };
        let max_piece_bytes = (copies.max_bytes() / part).max(MIN_PIECE_BYTES);
        let (link, inherited_bytes) = (Mutex::default(), AtomicU64::new(0));
        Fetcher { inner, copies, queue, link, connections, max_piece_bytes, inherited_bytes }
    }

    /// Returns how much may be prefetched for at a time.
    pub(super) fn max_wished_bytes(&self) -> u64 {
        self.copies.max_bytes() / 4
    }

    /// Lets background work end.
    pub(super) fn close(&self) {
        self.queue.close();
    }

    /// Fills a buffer with what is in the sparse copy, and does not wait for it.
    pub(super) fn peek(self: &Arc<Self>, object: Object, offset: u64, buffer: &mut [u8]) -> bool {
        let range = offset..offset.saturating_add(buffer.len() as u64);
        // Now and then a read that may wait renews the time of use.
        let copy = self.copies.in_use(object).filter(|copy| !copy.is_stamp_due());
        copy.is_some_and(|copy| self.hits(&copy, &range) && copy.read(offset, buffer, Wait::Never))
    }

    /// Fills a buffer, fetching what is missing.
    pub(super) fn read(self: &Arc<Self>, object: Object, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let range = offset..offset.saturating_add(buffer.len() as u64);
        let tries = if range.end <= MAX_OBJECT_BYTES { MAX_TRIES } else { 0 };
        for _ in 0..tries {
            let Some(copy) = self.copies.make(object) else { break };
            if copy.is_stamp_due() {
                copy.stamp();
            }
            match self.bring(&copy, &range) {
                Ok(true) if copy.read(offset, buffer, Wait::Allowed) => return Ok(()),
                // Somebody has cut off the file, or the disk has lost it.
                Ok(true) => self.copies.distrust(&copy, &range),
                Ok(false) => self.copies.leave(&copy),
                // More was asked for than the reader needs, by a length that may be wrong.
                Err(error) if error.kind() == ErrorKind::Damaged => {
                    if !copy.measure(&*self.inner) {
                        break;
                    }
                    self.copies.distrust(&copy, &(0..MAX_OBJECT_BYTES));
                }
                Err(error) => return Err(error),
            }
        }
        self.inner.read_at(object, offset, buffer, Wait::Allowed)
    }

    /// Returns whether all of a range is there, and reads ahead of a reader who finds it so.
    fn hits(self: &Arc<Self>, copy: &SparseCopy, range: &Range<u64>) -> bool {
        let mut state = copy.state.lock();
        let has = state.has(&blocks_of(range)) && state.len_bytes().is_none_or(|len_bytes| range.end <= len_bytes);
        let ahead = if has { self.note(&mut state, range, false) } else { None };
        drop(state);
        self.read_ahead(copy, ahead);
        has
    }

    /// Has all blocks of a range in the sparse copy; false if it cannot take them.
    fn bring(self: &Arc<Self>, copy: &Arc<SparseCopy>, range: &Range<u64>) -> Result<bool> {
        if self.hits(copy, range) {
            return Ok(true);
        }
        if copy.is_gone() {
            return Ok(false);
        }
        let blocks = blocks_of(range);
        copy.look_again(&blocks);
        let len_bytes = self.len_bytes(copy)?;
        if range.end > len_bytes {
            return Err(Error::damaged("The object is shorter than that"));
        }
        for round in 0..MAX_ROUNDS {
            let mut state = copy.state.lock();
            let missing = state.missing(&blocks);
            let mut runs = self.merged(&state, missing.runs);
            let mut ahead = if round == 0 { self.note(&mut state, range, !runs.is_empty()) } else { None };
            if let (Some(ahead), Some(last)) = (&mut ahead, runs.last_mut().filter(|run| run.end == blocks.end)) {
                self.reach_on(&state, last, ahead, len_bytes);
            }
            let pieces: Vec<_> = runs
                .iter()
                .flat_map(|run| self.pieces(run))
                .map(|piece| state.begin_request(piece, len_bytes, false))
                .collect();
            drop(state);
            let waits = [missing.requests, pieces.clone()].concat();
            for request in pieces {
                let is_needed = self.queue.fly(copy, request);
                self.start_thread(is_needed);
            }
            self.read_ahead(copy, ahead);
            if waits.is_empty() {
                return Ok(true);
            }
            if !wait_for(copy, &blocks, &waits)? {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Returns how long the requests of a long run are.
    fn piece_bytes(&self) -> u64 {
        self.link.lock().piece_bytes(self.connections).min(self.max_piece_bytes)
    }

    /// Cuts a run into requests.
    fn pieces(&self, run: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let (piece, end) = (in_blocks(self.piece_bytes()), run.end);
        run.clone().step_by(piece).map(move |start| start..(start + piece).min(end))
    }

    /// Joins runs whose gap costs less than a request. What is on its way already is never asked for again.
    fn merged(&self, state: &State, runs: Vec<Range<usize>>) -> Vec<Range<usize>> {
        let gap = in_blocks(self.link.lock().gap_bytes(self.connections));
        let mut merged: Vec<Range<usize>> = Vec::new();
        for run in runs {
            match merged.last_mut() {
                Some(last) if run.start - last.end <= gap && !state.is_on_its_way(&(last.end..run.start)) => {
                    last.end = run.end;
                }
                _ => merged.push(run),
            }
        }
        merged
    }

    /// Adds to a request of a reader that goes on what it will need next: it does not wait for that.
    fn reach_on(&self, state: &State, run: &mut Range<usize>, ahead: &mut Range<u64>, len_bytes: u64) {
        let end = ahead.end.min(ahead.start + self.piece_bytes()).min(len_bytes);
        let more = run.end..blocks_of(&(ahead.start..end)).end.max(run.end);
        if state.misses_all(&more) {
            run.end = more.end;
            ahead.start = bytes_in(run, len_bytes).end.clamp(ahead.start, ahead.end);
        }
    }

    /// Takes a read in; returns what to ask ahead of the reader.
    fn note(&self, state: &mut State, range: &Range<u64>, missed: bool) -> Option<Range<u64>> {
        let len_bytes = state.len_bytes().filter(|_| missed || !state.streams.is_empty())?;
        let depth_bytes = self.link.lock().depth_bytes().min(self.max_wished_bytes());
        let inherited_bytes = self.inherited_bytes.load(Ordering::Relaxed);
        let Advice { ahead, leaves_with, inherits } =
            state.streams.note(range, missed, depth_bytes, inherited_bytes, len_bytes);
        if leaves_with.is_some() || inherits {
            self.inherited_bytes.store(leaves_with.unwrap_or(0), Ordering::Relaxed);
        }
        ahead
    }

    fn read_ahead(self: &Arc<Self>, copy: &SparseCopy, ahead: Option<Range<u64>>) {
        if let Some(range) = ahead.filter(|range| !range.is_empty()) {
            self.prefetch(Prefetch { object: copy.object, range, is_ahead: true });
        }
    }

    /// Asks for bytes in the background, unless they are there.
    pub(super) fn want(self: &Arc<Self>, prefetch: Prefetch) {
        let is_there = |copy: Arc<SparseCopy>| copy.state.lock().has(&blocks_of(&prefetch.range));
        if !self.copies.in_use(prefetch.object).is_some_and(is_there) {
            self.prefetch(prefetch);
        }
    }

    fn prefetch(self: &Arc<Self>, prefetch: Prefetch) {
        let gap_bytes = self.link.lock().gap_bytes(self.connections);
        let is_needed = self.queue.prefetch(prefetch, gap_bytes);
        self.start_thread(is_needed);
    }

    fn len_bytes(&self, copy: &SparseCopy) -> Result<u64> {
        copy.len_bytes(self.copies.expected_len(copy.object), &*self.inner)
    }

    fn start_thread(self: &Arc<Self>, is_needed: bool) {
        if !is_needed {
            return;
        }
        let fetcher = self.clone();
        let started = std::thread::Builder::new().name("fetch".into()).spawn(move || fetcher.work());
        if let Err(error) = started {
            tracing::debug!(%error, "A thread for requests cannot be started");
            if self.queue.thread_failed() {
                // Nobody else is there to make the requests somebody waits for.
                while let Some((copy, request)) = self.queue.next_flight() {
                    self.fly(&copy, &request);
                }
            }
        }
    }

    fn work(self: &Arc<Self>) {
        while let Some(task) = self.queue.next() {
            match task {
                Task::Fly(copy, request) => self.fly(&copy, &request),
                Task::Grant(prefetch) => {
                    // A panic was told; whoever needs the bytes meets it again.
                    let _ = catch_unwind(AssertUnwindSafe(|| self.grant(prefetch)));
                    self.queue.prefetch_done();
                }
            }
        }
    }

    fn grant(self: &Arc<Self>, prefetch: Prefetch) {
        let object = prefetch.object;
        let failed = |text: &str| tracing::debug!("{object} could not be read ahead of its readers: {text}");
        match self.take_piece(prefetch) {
            Ok(Some((copy, request))) => {
                self.fly(&copy, &request);
                if let Some(Outcome::Failed(_, text)) = request.outcome.get() {
                    failed(text);
                }
            }
            Ok(None) => {}
            Err(error) => failed(&error.chain()),
        }
    }

    /// Makes a request of the first bytes of a prefetch that are missing, and puts the rest back.
    fn take_piece(self: &Arc<Self>, prefetch: Prefetch) -> Result<Option<(Arc<SparseCopy>, Arc<InFlight>)>> {
        let made = self.copies.make(prefetch.object).and_then(|copy| match copy.is_gone() {
            true => {
                self.copies.leave(&copy);
                self.copies.make(prefetch.object)
            }
            false => Some(copy),
        });
        let Some(copy) = made else { return Ok(None) };
        let len_bytes = self.len_bytes(&copy)?;
        let range = prefetch.range.start..prefetch.range.end.min(len_bytes);
        let blocks = blocks_of(&range);
        copy.look_again(&blocks);
        let request = {
            let mut state = copy.state.lock();
            let mut runs = state.missing(&blocks).runs;
            if !prefetch.is_ahead {
                runs = self.merged(&state, runs);
            }
            let Some(piece) = runs.first().and_then(|run| self.pieces(run).next()) else { return Ok(None) };
            state.begin_request(piece, len_bytes, true)
        };
        let rest = request.blocks.end as u64 * BLOCK_BYTES..range.end;
        if rest.start < rest.end {
            let is_needed = self.queue.prefetch_on(Prefetch { range: rest, ..prefetch });
            self.start_thread(is_needed);
        }
        Ok(Some((copy, request)))
    }

    /// Makes a request and keeps what comes, as it comes.
    fn fly(&self, copy: &Arc<SparseCopy>, request: &Arc<InFlight>) {
        let published = request.blocks.start;
        let mut arrival = Arrival { copies: &self.copies, copy, request, published, failure: None };
        let fetched = self.fetch(copy.object, &request.bytes, &mut |offset, bytes| arrival.take(offset, bytes));
        let outcome = match (fetched, arrival.failure) {
            (Err(error), _) => Outcome::Failed(error.kind(), error.chain()),
            (Ok(()), None) => Outcome::Kept,
            (Ok(()), Some(error)) => {
                self.copies.fail(copy, error);
                Outcome::Unkept
            }
        };
        copy.land(request, outcome);
    }

    fn fetch(&self, object: Object, bytes: &Range<u64>, each: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
        let started = Instant::now();
        self.link.lock().begin(started);
        let mut is_answered = false;
        let mut take = |offset: u64, piece: &[u8]| {
            let now = Instant::now();
            let mut link = self.link.lock();
            if !std::mem::replace(&mut is_answered, true) {
                link.answered(now - started, (bytes.end - bytes.start) as usize);
            }
            link.came(now, piece.len());
            drop(link);
            each(offset, piece);
        };
        let read = || self.inner.read_through(object, bytes.clone(), &mut take);
        // Somebody may wait for this request: it has to end.
        let panicked = |_| Err(Error::new(ErrorKind::Io, format!("Reading {object} has panicked: report it")));
        let fetched = catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(panicked);
        self.link.lock().end(Instant::now());
        fetched
    }
}

/// Keeps what comes for a request.
struct Arrival<'a> {
    copies: &'a SparseCopies,
    copy: &'a Arc<SparseCopy>,
    request: &'a InFlight,
    /// The end of the blocks that were told to be there.
    published: usize,
    /// What came after this was not kept.
    failure: Option<std::io::Error>,
}

impl Arrival<'_> {
    fn take(&mut self, offset: u64, bytes: &[u8]) {
        if self.failure.is_none() {
            self.failure = self.keep(offset, bytes).err();
        }
    }

    fn keep(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.write(offset, bytes)?;
        let end = offset + bytes.len() as u64;
        let is_last = end == self.request.bytes.end;
        // Its last block may be cut off by the object's end. What comes again after a failure was told already.
        let whole = if is_last { self.request.blocks.end } else { in_blocks(end) };
        let told = whole.saturating_sub(self.published);
        if told >= PUBLISHED_BLOCKS || is_last && told > 0 {
            self.copies.make_room(self.copy, told as u64 * BLOCK_BYTES);
            self.copy.publish(&(self.published..whole))?;
            self.published = whole;
        }
        Ok(())
    }

    /// Writes what came, making room once.
    fn write(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.copy.write(offset, bytes).or_else(|error| match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                self.copies.shrink();
                self.copy.write(offset, bytes)
            }
            _ => Err(error),
        })
    }
}

/// Waits until blocks are there, or the requests for them have ended, and fails with the first that has failed; false if
/// what came could not be kept.
fn wait_for(copy: &SparseCopy, blocks: &Range<usize>, requests: &[Arc<InFlight>]) -> Result<bool> {
    let mut state = copy.state.lock();
    loop {
        if state.has(blocks) {
            return Ok(true);
        }
        if requests.iter().all(|request| request.outcome.get().is_some()) {
            break;
        }
        copy.landed.wait(&mut state);
    }
    drop(state);
    let mut is_kept = true;
    for request in requests {
        match request.outcome.get() {
            // Nobody had waited for one ahead: whoever needs its bytes asks for itself.
            Some(Outcome::Failed(kind, text)) if !request.is_ahead => return Err(Error::new(*kind, text)),
            outcome => is_kept &= !matches!(outcome, Some(Outcome::Unkept)),
        }
    }
    Ok(is_kept)
}
