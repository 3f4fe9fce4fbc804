//! Adding to a repository: chunks become frames, frames packs, packs an index, and last a snapshot.
//!
//! One thread adds; a few compress; one seals frames into packs in the order they were added; the last stage
//! (`upload`) stores packs and index segments. Each stage waits for the next, so memory is bounded by the
//! frames and packs on their way: two packs that are filled, one that waits, and one for each upload.

pub mod commit;
pub mod pack;
pub mod pipeline;
pub(in crate::repo) mod put;
pub mod upload;
pub mod walked;

use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::{Encoder, MAX_FRAME_BYTES};
use crate::format::page::PageSink;
use crate::id::ChunkId;
use crate::repo::Repository;
use crate::repo::read::chunk_kind::ChunkKind;
use crate::repo::write::pack::{FinishedPack, PackBuilder, PlainFrame};
use crate::repo::write::pipeline::Pipeline;
use crate::repo::write::upload::upload;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

/// Small chunks are gathered into frames of this size.
pub const FRAME_BYTES: usize = 256 << 10;
/// A chunk of at least this size is a frame of its own.
const LONE_CHUNK_BYTES: usize = 128 << 10;

/// How to write.
#[derive(Debug, Clone, Copy)]
pub struct WriteOptions {
    /// zstd's level.
    pub level: i32,
    /// Threads that compress.
    pub threads: usize,
}

impl Default for WriteOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        WriteOptions { level: DEFAULT_LEVEL, threads }
    }
}

/// The level of new data; docs/format.md has the measurement that chose it.
pub const DEFAULT_LEVEL: i32 = 2;

struct Encoded {
    kind: ChunkKind,
    codec: u8,
    bytes: Vec<u8>,
    plain_bytes: u32,
    chunks: Vec<(ChunkId, u32)>,
}

struct FrameJob {
    kind: ChunkKind,
    frame: PlainFrame,
    done: Sender<Encoded>,
}

/// Adds chunks and pages; used by one thread.
pub struct Writer {
    shared: Arc<Pipeline>,
    open: [PlainFrame; 2],
    jobs: Option<Sender<FrameJob>>,
    order: Option<Sender<Receiver<Encoded>>>,
    threads: Vec<JoinHandle<()>>,
    added_bytes: u64,
}

/// What a writer stored.
#[derive(Debug, Clone, Copy, Default)]
pub struct Written {
    /// Chunks and pages before compression.
    pub added_bytes: u64,
    /// Packs and index segments as stored.
    pub packed_bytes: u64,
}

fn lane(kind: ChunkKind) -> usize {
    match kind {
        ChunkKind::Data => 0,
        ChunkKind::Page => 1,
    }
}

impl Writer {
    /// Starts the stages.
    pub fn new(repository: Arc<Repository>, options: WriteOptions) -> Self {
        let shared = Arc::new(Pipeline::new(repository));
        let threads = options.threads.max(1);
        let (jobs, jobs_in) = bounded::<FrameJob>(threads * 2);
        let (order, order_in) = bounded::<Receiver<Encoded>>(threads * 4);
        let (packs, packs_in) = bounded::<FinishedPack>(0);
        let mut writer = Writer {
            shared,
            open: Default::default(),
            jobs: Some(jobs),
            order: Some(order),
            threads: Vec::new(),
            added_bytes: 0,
        };
        for _ in 0..threads {
            let jobs_in = jobs_in.clone();
            writer.spawn("compress", move |_| compress(&jobs_in, options.level));
        }
        writer.spawn("pack", move |shared| pack(shared, &order_in, packs));
        writer.spawn("store", move |shared| upload(shared, packs_in));
        writer
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce(&Pipeline) + Send + 'static) {
        let shared = self.shared.clone();
        let spawned = std::thread::Builder::new().name(name.into()).spawn(move || work(&shared));
        match spawned {
            Ok(thread) => self.threads.push(thread),
            Err(error) => self.shared.fail(Error::io("Cannot start a thread", error)),
        }
    }

    /// Adds a chunk if it is new; returns whether it was.
    pub fn add(&mut self, kind: ChunkKind, id: ChunkId, bytes: &[u8]) -> Result<bool> {
        {
            let mut pending = self.shared.pending.lock();
            if pending.contains(&id) || self.shared.repository.may_rely_on(kind, &id, bytes.len()) {
                return Ok(false);
            }
            pending.insert(id);
        }
        self.add_copy(kind, id, bytes)?;
        Ok(true)
    }

    /// Adds a chunk, also one that is stored elsewhere.
    pub fn add_copy(&mut self, kind: ChunkKind, id: ChunkId, bytes: &[u8]) -> Result<()> {
        // Who reads takes no longer one: it must not be stored.
        let len = u32::try_from(bytes.len()).ok().filter(|len| *len as usize <= MAX_FRAME_BYTES).ok_or_else(|| {
            Error::new(ErrorKind::Io, format!("A piece of {} bytes is longer than any that is stored", bytes.len()))
        })?;
        self.added_bytes += bytes.len() as u64;
        if bytes.len() >= LONE_CHUNK_BYTES {
            return self.send(kind, PlainFrame { bytes: bytes.to_vec(), chunks: vec![(id, len)] });
        }
        let open = &mut self.open[lane(kind)];
        if open.bytes.capacity() == 0 {
            open.bytes.reserve(FRAME_BYTES + LONE_CHUNK_BYTES);
        }
        open.bytes.extend_from_slice(bytes);
        open.chunks.push((id, len));
        if open.bytes.len() >= FRAME_BYTES {
            let frame = std::mem::take(open);
            self.send(kind, frame)?;
        }
        Ok(())
    }

    fn send(&mut self, kind: ChunkKind, frame: PlainFrame) -> Result<()> {
        let (done, encoded) = bounded(1);
        let sent = self.order.as_ref().is_some_and(|order| order.send(encoded).is_ok())
            && self.jobs.as_ref().is_some_and(|jobs| jobs.send(FrameJob { kind, frame, done }).is_ok());
        if sent && !self.shared.has_failed() {
            return Ok(());
        }
        Err(self.stop())
    }

    /// Ends all stages and returns what went wrong.
    fn stop(&mut self) -> Error {
        self.jobs = None;
        self.order = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                self.shared.fail(Error::new(crate::error::ErrorKind::Io, "A thread of the writer panicked"));
            }
        }
        let failure = self.shared.take_failure();
        failure.unwrap_or_else(|| Error::new(crate::error::ErrorKind::Io, "The writer was stopped"))
    }

    /// Stores everything that was added and makes it durable. What is left to do is the snapshot.
    pub fn finish(mut self) -> Result<Written> {
        for kind in [ChunkKind::Data, ChunkKind::Page] {
            let frame = std::mem::take(&mut self.open[lane(kind)]);
            if !frame.chunks.is_empty() {
                self.send(kind, frame)?;
            }
        }
        self.jobs = None;
        self.order = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                self.shared.fail(Error::new(crate::error::ErrorKind::Io, "A thread of the writer panicked"));
            }
        }
        if let Some(error) = self.shared.take_failure() {
            return Err(error);
        }
        Ok(Written { added_bytes: self.added_bytes, packed_bytes: self.shared.packed_bytes.load(Ordering::Relaxed) })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl PageSink for Writer {
    type Error = Error;

    fn store(&mut self, page: Vec<u8>) -> Result<ChunkId> {
        let id = self.shared.repository.keys().page_id(&page);
        self.add(ChunkKind::Page, id, &page)?;
        Ok(id)
    }
}

fn compress(jobs: &Receiver<FrameJob>, level: i32) {
    let mut encoder = Encoder::new(level);
    for FrameJob { kind, frame, done } in jobs {
        let mut bytes = Vec::with_capacity(frame.bytes.len());
        let codec = encoder.encode(&frame.bytes, &mut bytes);
        let plain_bytes = u32::try_from(frame.bytes.len()).expect("a frame is at most 4 MiB");
        // Whoever waited for it has failed and said so.
        let _ = done.send(Encoded { kind, codec, bytes, plain_bytes, chunks: frame.chunks });
    }
}

fn pack(shared: &Pipeline, frames: &Receiver<Receiver<Encoded>>, packs: Sender<FinishedPack>) {
    let repository = &shared.repository;
    let mut builders: [Option<PackBuilder>; 2] = [None, None];
    for frame in frames {
        // A frame without a sender is one of a writer that was stopped.
        let Ok(frame) = frame.recv() else { return };
        let slot = &mut builders[lane(frame.kind)];
        let builder = slot.get_or_insert_with(|| PackBuilder::new(&repository.vault, frame.kind.pack_kind()));
        builder.append(frame.codec, &frame.bytes, frame.plain_bytes, &frame.chunks);
        if builder.is_full()
            && let Some(full) = slot.take()
            && packs.send(full.finish()).is_err()
        {
            return;
        }
    }
    if shared.has_failed() {
        return;
    }
    for builder in builders.into_iter().flatten() {
        if packs.send(builder.finish()).is_err() {
            return;
        }
    }
}
