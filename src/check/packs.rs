//! Packs: each is read once from its first byte to its last; every frame is opened and every chunk verified.

use super::{Check, told};
use crate::crypto::seal::{Opener, Place, Role};
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::Decoder;
use crate::format::index::PackEntry;
use crate::format::pack::{ChunkRecord, Directory, FrameRecord};
use crate::id::{ChunkId, ObjectId};
use crate::repo::frames::ChunkKind;
use crate::repo::index::Location;
use crate::repo::pack::{read_directory, read_opener};
use crate::store::{Object, Wait};
use aws_lc_rs::digest;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How much of what no frame covers is read at a time.
const BLOCK_BYTES: u64 = 1 << 20;

/// Frames and chunks the index names in a pack, for each segment that names it.
type Counts = HashMap<ObjectId, Vec<(u64, u64)>>;

/// Checks all packs on all threads. Returns how many chunks were verified.
pub fn check(check: &Check<'_>, packs: &HashMap<ObjectId, u64>) -> Result<u64> {
    let mut order: Vec<_> = packs.iter().map(|(id, len)| (*id, *len)).collect();
    // The longest first, so that all threads end at about the same time.
    order.sort_by_key(|(id, len)| (std::cmp::Reverse(*len), *id));
    check.monitor.expect(0, order.iter().map(|(_, len)| len).sum());
    let counts = counts(check);
    let (next, chunks) = (AtomicUsize::new(0), AtomicU64::new(0));
    let work = || -> Result<()> {
        let mut reader =
            Reader { check, counts: &counts, sealed: Vec::new(), plain: Vec::new(), decoder: Decoder::default() };
        while let Some((id, len)) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            chunks.fetch_add(reader.pack(*id, *len)?, Ordering::Relaxed);
        }
        Ok(())
    };
    std::thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (1..check.threads).map(|_| scope.spawn(work)).collect();
        let mut outcome = work();
        for thread in threads {
            let ended =
                thread.join().unwrap_or_else(|_| Err(Error::new(ErrorKind::Io, "A thread of the check panicked")));
            outcome = outcome.and(ended);
        }
        outcome
    })?;
    Ok(chunks.into_inner())
}

fn counts(check: &Check<'_>) -> Counts {
    let mut all = Counts::new();
    for loaded in check.index.segments() {
        let segment = &loaded.segment;
        let mut here = vec![(0u64, 0u64); segment.pack_count()];
        for at in 0..segment.frame_count() {
            if let Some(frame) = segment.frame(at) {
                here[frame.pack as usize].0 += 1;
            }
        }
        for chunk in (0..segment.chunk_count()).filter_map(|at| segment.chunk(at)) {
            if let Some(frame) = segment.frame(chunk.frame as usize) {
                here[frame.pack as usize].1 += 1;
            }
        }
        // Segments of a cache may name a pack that two index objects name twice.
        let mut sums: HashMap<ObjectId, Vec<(u64, u64)>> = HashMap::new();
        for (at, counted) in here.into_iter().enumerate() {
            if let Some(pack) = segment.pack(at) {
                sums.entry(pack.id).or_default().push(counted);
            }
        }
        for (id, counted) in sums {
            all.entry(id).or_default().extend(counted);
        }
    }
    all
}

struct Reader<'a> {
    check: &'a Check<'a>,
    counts: &'a Counts,
    sealed: Vec<u8>,
    plain: Vec<u8>,
    decoder: Decoder,
}

impl Reader<'_> {
    fn frame_problem(&self, pack: ObjectId, number: u32, problem: &str) {
        self.check.damage.lock().frame(pack, number, format!("frame {number} {problem}"));
    }

    fn problem(&self, pack: ObjectId, problem: String) {
        self.check.damage.lock().object(Object::Pack(pack), problem);
    }

    /// Checks one pack and returns how many of its chunks are right. An error is one of the disk that
    /// says nothing about the bytes.
    fn pack(&mut self, id: ObjectId, len_bytes: u64) -> Result<u64> {
        let repository = self.check.repository;
        let store = &**repository.store();
        let opened =
            read_directory(store, repository.keys(), repository.id(), id, len_bytes).and_then(|(entry, directory)| {
                let opener = read_opener(store, repository.keys(), repository.id(), &entry, Wait::Allowed)?;
                Ok((entry, directory, opener))
            });
        match opened {
            Ok((entry, directory, opener)) => self.frames(&entry, directory, &opener),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // Told before, if anything needs it; or removed by another process.
                Ok(0)
            }
            Err(error) => {
                self.problem(id, told(&error));
                self.frames_by_index(id, len_bytes)
            }
        }
    }

    /// Reads what the index names in a pack whose own directory cannot be read.
    fn frames_by_index(&mut self, id: ObjectId, len_bytes: u64) -> Result<u64> {
        let mut directory = Directory::default();
        let mut entry = None;
        for loaded in self.check.index.segments() {
            let segment = &loaded.segment;
            let Some(pack_at) =
                (0..segment.pack_count()).find(|at| segment.pack(*at).is_some_and(|pack| pack.id == id))
            else {
                continue;
            };
            entry = segment.pack(pack_at);
            let mut numbers = HashMap::new();
            for at in 0..segment.frame_count() {
                if let Some(frame) = segment.frame(at).filter(|frame| frame.pack as usize == pack_at) {
                    numbers.insert(at as u32, frame.number);
                    let slot = frame.number as usize;
                    // A number beyond what a pack can hold is damage of the index, which is told elsewhere.
                    if slot as u64 > len_bytes {
                        continue;
                    }
                    if directory.frames.len() <= slot {
                        let none = FrameRecord { offset: 0, stored_bytes: 0, plain_bytes: 0, codec: 0 };
                        directory.frames.resize(slot + 1, none);
                    }
                    directory.frames[slot] = FrameRecord {
                        offset: frame.offset,
                        stored_bytes: frame.stored_bytes,
                        plain_bytes: frame.plain_bytes,
                        codec: frame.codec,
                    };
                }
            }
            for chunk in (0..segment.chunk_count()).filter_map(|at| segment.chunk(at)) {
                if let Some(number) = numbers.get(&chunk.frame) {
                    directory.chunks.push(ChunkRecord {
                        id: chunk.id,
                        frame: *number,
                        offset: chunk.offset,
                        len_bytes: chunk.len_bytes,
                    });
                }
            }
            break;
        }
        let Some(entry) = entry else { return Ok(0) };
        let repository = self.check.repository;
        let store = &**repository.store();
        match read_opener(store, repository.keys(), repository.id(), &entry, Wait::Allowed) {
            Ok(opener) => {
                let entry = PackEntry { len_bytes, ..entry };
                self.frames(&entry, directory, &opener)
            }
            Err(error) => {
                self.check.damage.lock().pack(id, told(&error));
                self.check.monitor.advance(0, len_bytes);
                Ok(0)
            }
        }
    }

    /// Reads bytes from `from` to `to` into the hash; `Ok(false)` where the pack ends before.
    fn hash(&mut self, id: ObjectId, from: u64, to: u64, hash: &mut digest::Context) -> Result<bool> {
        let mut at = from;
        while at < to {
            self.sealed.resize((to - at).min(BLOCK_BYTES) as usize, 0);
            match self.check.repository.store().read_at(Object::Pack(id), at, &mut self.sealed, Wait::Allowed) {
                Ok(()) => hash.update(&self.sealed),
                Err(error) => {
                    self.problem(id, told(&error));
                    return Ok(false);
                }
            }
            at += self.sealed.len() as u64;
        }
        Ok(true)
    }

    fn frames(&mut self, pack: &PackEntry, mut directory: Directory, opener: &Opener) -> Result<u64> {
        let id = pack.id;
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut hashed = true;
        let mut at = 0u64;
        let mut right = 0;
        self.compare(id, &directory);
        directory.chunks.sort_by_key(|chunk| (chunk.frame, chunk.offset));
        let mut chunks = &directory.chunks[..];
        for (number, frame) in directory.frames.iter().enumerate() {
            let number = number as u32;
            let count = chunks.partition_point(|chunk| chunk.frame <= number);
            let (mine, rest) = chunks.split_at(count);
            chunks = rest;
            let from = u64::from(frame.offset);
            if from > at {
                hashed &= self.hash(id, at, from, &mut hash)?;
                at = from;
            }
            self.sealed.resize(frame.stored_bytes as usize, 0);
            if let Err(error) =
                self.check.repository.store().read_at(Object::Pack(id), from, &mut self.sealed, Wait::Allowed)
            {
                hashed = false;
                self.frame_problem(id, number, &format!("cannot be read: {}", told(&error)));
                continue;
            }
            if from == at {
                hash.update(&self.sealed);
                at += u64::from(frame.stored_bytes);
            } else {
                self.frame_problem(id, number, "lies over another");
            }
            self.check.monitor.advance(0, u64::from(frame.stored_bytes));
            match self.open(frame, number, opener) {
                Ok(()) => right += self.chunks(pack, number, mine),
                Err(problem) => self.frame_problem(id, number, &problem),
            }
        }
        hashed &= self.hash(id, at, pack.len_bytes, &mut hash)?;
        if hashed && hash.finish().as_ref() != id.0 {
            self.problem(id, "its bytes are not those its name stands for (SHA-256)".into());
        }
        Ok(right)
    }

    fn open(&mut self, frame: &FrameRecord, number: u32, opener: &Opener) -> Result<(), String> {
        let place = Place { role: Role::Frame, number, codec: frame.codec, plain_bytes: frame.plain_bytes };
        let encoded = opener.open(place, &mut self.sealed).map_err(|_| "does not verify".to_string())?;
        self.plain.clear();
        self.decoder
            .decode(frame.codec, encoded, frame.plain_bytes as usize, &mut self.plain)
            .map_err(|error| format!("cannot be decoded: {error}"))
    }

    fn chunks(&self, pack: &PackEntry, number: u32, chunks: &[ChunkRecord]) -> u64 {
        let keys = self.check.repository.keys();
        let is_data = pack.kind == ChunkKind::Data.pack_kind();
        let mut right = 0;
        for chunk in chunks {
            let end = chunk.offset as usize + chunk.len_bytes as usize;
            let found = self.plain.get(chunk.offset as usize..end).map(|bytes| match is_data {
                true => keys.chunk_id(bytes),
                false => keys.page_id(bytes),
            });
            if found == Some(chunk.id) {
                right += 1;
            } else {
                self.frame_problem(pack.id, number, &format!("holds chunk {} with other bytes", chunk.id));
            }
        }
        right
    }

    /// Compares a pack's own directory with what the index says of it.
    fn compare(&self, id: ObjectId, directory: &Directory) {
        let Some(counted) = self.counts.get(&id) else { return };
        let own = (directory.frames.len() as u64, directory.chunks.len() as u64);
        let differs = counted.iter().any(|counts| *counts != own)
            || directory.chunks.iter().any(|chunk| !self.is_indexed(id, directory, chunk));
        if differs {
            self.problem(id, "its own directory says other things than the index".into());
        }
    }

    fn is_indexed(&self, id: ObjectId, directory: &Directory, chunk: &ChunkRecord) -> bool {
        let frame = &directory.frames[chunk.frame as usize];
        let same = |location: &Location| {
            let indexed = &location.frame;
            location.pack.id == id
                && indexed.number == chunk.frame
                && (indexed.offset, indexed.stored_bytes) == (frame.offset, frame.stored_bytes)
                && (indexed.plain_bytes, indexed.codec) == (frame.plain_bytes, frame.codec)
                && (location.chunk.offset, location.chunk.len_bytes) == (chunk.offset, chunk.len_bytes)
        };
        let chunk_id: &ChunkId = &chunk.id;
        self.check.index.find_all(chunk_id).any(|location| same(&location))
    }
}
