//! The part of one object that was fetched: a sparse file with the object's blocks at their own offsets.
//!
//! ```text
//! sparse copy = length of the object (8), 0 (56), bits (16 320), the object's bytes
//! ```
//!
//! Bit n % 8 of byte n / 8 says that block n is there; it is set after the block was written. A file that was just
//! made is empty, which stands for zeros: nothing is there. Bits and bytes are one file, so that no bit outlives
//! its bytes, whoever removes files. Several processes may use a sparse copy at once: they write the same bytes, and a
//! bit that one of them loses costs a fetch. What a power cut left wrong is noticed by whoever opens the bytes.

use super::bits::{Bits, bytes_of, mask};
use super::streams::Streams;
use crate::error::{Context, ErrorKind, Result};
use crate::store::{Object, Store, Wait};
use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::io::ReadWriteFlags;
use std::fs::File;
use std::io::IoSliceMut;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

/// The unit of what is there.
pub(super) const BLOCK_BYTES: u64 = 4096;
/// Length of what comes before the object's bytes.
const HEAD_BYTES: u64 = 16 << 10;
const BITS_AT: u64 = 64;
/// The longest object a sparse copy has bits for.
pub(super) const MAX_OBJECT_BYTES: u64 = (HEAD_BYTES - BITS_AT) * 8 * BLOCK_BYTES;
/// How often the time of use is renewed.
const STAMP_SECS: u64 = 60;

/// Returns the blocks a range of bytes touches, of those a sparse copy has bits for.
pub(super) fn blocks_of(range: &Range<u64>) -> Range<usize> {
    let end = range.end.min(MAX_OBJECT_BYTES);
    (range.start.min(end) / BLOCK_BYTES) as usize..end.div_ceil(BLOCK_BYTES) as usize
}

/// Returns the bytes of blocks, of which the last may be cut off by the object's end.
pub(super) fn bytes_in(blocks: &Range<usize>, len_bytes: u64) -> Range<u64> {
    blocks.start as u64 * BLOCK_BYTES..(blocks.end as u64 * BLOCK_BYTES).min(len_bytes)
}

/// What became of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Its bytes are in the sparse copy.
    Kept,
    /// They came, and the sparse copy could not take them.
    Unkept,
    /// They did not come.
    Failed(ErrorKind, String),
}

/// A request that is on its way, or waits for a connection.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) blocks: Range<usize>,
    /// The bytes of the blocks; the last block may be cut off by the object's end.
    pub(super) bytes: Range<u64>,
    /// Whether nobody waited for it when it was made.
    pub(super) is_ahead: bool,
    pub(super) outcome: OnceLock<Outcome>,
}

/// What readers of a sparse copy share.
#[derive(Debug, Default)]
pub(super) struct State {
    bits: Bits,
    len_bytes: Option<u64>,
    requests: Vec<Arc<InFlight>>,
    pub(super) streams: Streams,
}

/// What has to be done to have all blocks of a range.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// Runs of blocks nobody has asked for.
    pub(super) runs: Vec<Range<usize>>,
    /// Requests that bring others.
    pub(super) requests: Vec<Arc<InFlight>>,
}

impl State {
    /// Returns whether all blocks of a range are there, as far as this process knows.
    pub(super) fn has(&self, blocks: &Range<usize>) -> bool {
        self.bits.has_all(blocks.clone())
    }

    /// Returns the object's length, if it is known.
    pub(super) fn len_bytes(&self) -> Option<u64> {
        self.len_bytes
    }

    /// Returns what a range lacks.
    pub(super) fn missing(&self, blocks: &Range<usize>) -> Missing {
        let mut missing = Missing::default();
        let mut at = blocks.start;
        while let Some(absent) = self.bits.first_absent(at..blocks.end) {
            let start = absent.start;
            if let Some(request) = self.requests.iter().find(|request| request.blocks.contains(&start)) {
                at = request.blocks.end.min(blocks.end);
                missing.requests.push(request.clone());
                continue;
            }
            let next = self.requests.iter().map(|request| request.blocks.start).filter(|next| *next > start).min();
            at = absent.end.min(next.unwrap_or(absent.end));
            missing.runs.push(start..at);
        }
        missing
    }

    /// Returns whether blocks are neither there nor on their way.
    pub(super) fn misses_all(&self, blocks: &Range<usize>) -> bool {
        self.bits.count_absent(blocks.clone()) == blocks.len() && !self.is_on_its_way(blocks)
    }

    /// Returns whether a request for one of some blocks is on its way.
    pub(super) fn is_on_its_way(&self, blocks: &Range<usize>) -> bool {
        self.requests.iter().any(|request| request.blocks.start < blocks.end && blocks.start < request.blocks.end)
    }

    /// Makes a request for blocks, all of which begin before the object ends.
    pub(super) fn begin_request(&mut self, blocks: Range<usize>, len_bytes: u64, is_ahead: bool) -> Arc<InFlight> {
        let bytes = bytes_in(&blocks, len_bytes);
        let request = Arc::new(InFlight { blocks, bytes, is_ahead, outcome: OnceLock::new() });
        self.requests.push(request.clone());
        request
    }
}

/// The sparse copy of one object.
#[derive(Debug)]
pub(super) struct SparseCopy {
    pub(super) object: Object,
    file: File,
    /// Whether the file lies in memory: it never blocks, and nobody else sees it.
    pub(super) is_memory: bool,
    pub(super) state: Mutex<State>,
    /// Blocks have come, or a request has ended.
    pub(super) landed: Condvar,
    /// Held while the bits of the file are changed, or taken in.
    head: Mutex<()>,
    /// Held while the length is asked for.
    measuring: Mutex<()>,
    opened: Instant,
    /// When the time of use was renewed, in seconds since it was opened.
    stamped_secs: AtomicU64,
    /// Bytes of the blocks that were told to be there through this sparse copy.
    pub(super) kept_bytes: AtomicU64,
}

impl SparseCopy {
    /// Uses a file, whatever is in it.
    pub(super) fn new(object: Object, file: File, is_memory: bool) -> Result<Self> {
        let copy = SparseCopy {
            object,
            file,
            is_memory,
            state: Mutex::default(),
            landed: Condvar::new(),
            head: Mutex::default(),
            measuring: Mutex::default(),
            opened: Instant::now(),
            stamped_secs: AtomicU64::new(0),
            kept_bytes: AtomicU64::new(0),
        };
        let mut head = vec![0; HEAD_BYTES as usize];
        let read = copy.read_up_to(&mut head, 0).context(|| format!("Cannot read the copy of {object}"))?;
        let (len_bytes, bits) = head[..read].split_at(read.min(BITS_AT as usize));
        {
            let mut state = copy.state.lock();
            state.bits.merge(0, bits);
            let len_bytes = len_bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            state.len_bytes = Some(len_bytes).filter(|len| (1..=MAX_OBJECT_BYTES).contains(len));
        }
        copy.stamp();
        Ok(copy)
    }

    /// Fills as much of a buffer as the file has.
    fn read_up_to(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Fills a buffer with bytes that are there; false if the file does not have them, or may not be waited for.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8], wait: Wait) -> bool {
        match wait {
            Wait::Never if !self.is_memory => {
                let flags = ReadWriteFlags::NOWAIT;
                let len = buffer.len();
                rustix::io::preadv2(&self.file, &mut [IoSliceMut::new(buffer)], HEAD_BYTES + offset, flags) == Ok(len)
            }
            _ => self.file.read_exact_at(buffer, HEAD_BYTES + offset).is_ok(),
        }
    }

    /// Takes in what other processes have fetched.
    pub(super) fn look_again(&self, blocks: &Range<usize>) {
        let span = bytes_of(blocks);
        let mut bytes = vec![0; span.len()];
        let _head = self.head.lock();
        if self.read_up_to(&mut bytes, BITS_AT + span.start as u64).is_ok() {
            self.state.lock().bits.merge(span.start, &bytes);
        }
    }

    /// Counts the bytes of a range's blocks that are not there.
    pub(super) fn absent_bytes(&self, blocks: &Range<usize>, len_bytes: u64) -> u64 {
        self.look_again(blocks);
        let state = self.state.lock();
        let (mut at, mut absent_bytes) = (blocks.start, 0);
        while let Some(run) = state.bits.first_absent(at..blocks.end) {
            at = run.end;
            let bytes = bytes_in(&run, len_bytes);
            absent_bytes += bytes.end.saturating_sub(bytes.start);
        }
        absent_bytes
    }

    /// Returns the object's length, asking for it once if nobody has told it.
    pub(super) fn len_bytes(&self, told: Option<u64>, store: &dyn Store) -> Result<u64> {
        if let Some(len_bytes) = self.state.lock().len_bytes {
            return Ok(len_bytes);
        }
        let _measuring = self.measuring.lock();
        if let Some(len_bytes) = self.state.lock().len_bytes {
            return Ok(len_bytes);
        }
        let len_bytes = told.map_or_else(|| store.len_bytes(self.object), Ok)?;
        self.state.lock().len_bytes = Some(len_bytes);
        // Without it in the file the next process asks once more.
        let _ = self.file.write_all_at(&len_bytes.to_le_bytes(), 0);
        Ok(len_bytes)
    }

    /// Asks for the object's length, since reads say that it is wrong; returns whether it was. Then no block may be
    /// trusted any more: a last one that was cut off counted as whole.
    pub(super) fn measure(&self, store: &dyn Store) -> bool {
        let Ok(len_bytes) = store.len_bytes(self.object) else { return false };
        let _measuring = self.measuring.lock();
        // As in `len_bytes`.
        let _ = self.file.write_all_at(&len_bytes.to_le_bytes(), 0);
        self.state.lock().len_bytes.replace(len_bytes) != Some(len_bytes)
    }

    /// Writes bytes that came. Nobody looks for them before [`Self::publish`].
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all_at(bytes, HEAD_BYTES + offset)
    }

    /// Says that blocks are there, all bytes of which were written.
    pub(super) fn publish(&self, blocks: &Range<usize>) -> std::io::Result<()> {
        let head = self.head.lock();
        self.change_bits(&head, blocks, |byte, mask| byte | mask)?;
        self.state.lock().bits.insert(blocks.clone());
        drop(head);
        self.kept_bytes.fetch_add(blocks.len() as u64 * BLOCK_BYTES, Ordering::Relaxed);
        self.landed.notify_all();
        Ok(())
    }

    /// Ends a request.
    pub(super) fn land(&self, request: &Arc<InFlight>, outcome: Outcome) {
        let mut state = self.state.lock();
        // Only who made it ends it.
        let _ = request.outcome.set(outcome);
        state.requests.retain(|other| !Arc::ptr_eq(other, request));
        self.landed.notify_all();
    }

    fn change_bits(
        &self,
        _head: &MutexGuard<'_, ()>,
        blocks: &Range<usize>,
        change: impl Fn(u8, u8) -> u8,
    ) -> std::io::Result<()> {
        let span = bytes_of(blocks);
        let at = BITS_AT + span.start as u64;
        let mut bytes = vec![0; span.len()];
        self.read_up_to(&mut bytes, at)?;
        for (number, byte) in span.zip(&mut bytes) {
            *byte = change(*byte, mask(number, blocks));
        }
        self.file.write_all_at(&bytes, at)
    }

    /// Forgets blocks whose bytes did not verify. After an error the file says on that they are there.
    pub(super) fn distrust(&self, blocks: &Range<usize>) -> std::io::Result<()> {
        let head = self.head.lock();
        self.change_bits(&head, blocks, |byte, mask| byte & !mask)?;
        self.state.lock().bits.remove(blocks.clone());
        Ok(())
    }

    /// Returns whether the time of use is due to be renewed.
    pub(super) fn is_stamp_due(&self) -> bool {
        !self.is_memory && self.opened.elapsed().as_secs() >= self.stamped_secs.load(Ordering::Relaxed) + STAMP_SECS
    }

    /// Renews the time of use: what was used last is removed last.
    pub(super) fn stamp(&self) {
        self.stamped_secs.store(self.opened.elapsed().as_secs(), Ordering::Relaxed);
        if !self.is_memory {
            // Only an order in which files are removed.
            let _ = self.file.set_modified(SystemTime::now());
        }
    }

    /// Returns when it was made, in seconds since 1970; 0 if the file system does not tell.
    pub(super) fn made_secs(&self) -> u64 {
        let made = match self.is_memory {
            true => SystemTime::now().checked_sub(self.opened.elapsed()),
            false => self.file.metadata().and_then(|metadata| metadata.created()).ok(),
        };
        made.and_then(|made| made.duration_since(SystemTime::UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs())
    }

    /// Returns whether somebody has removed the file: what is kept in it now is lost.
    pub(super) fn is_gone(&self) -> bool {
        !self.is_memory && self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }
}
