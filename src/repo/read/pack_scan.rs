//! Reading a pack whole, once, from its first byte to its last: every frame is opened and every chunk verified.
//!
//! Memory: the longest frame twice, and the pack's directory.

use crate::crypto::seal::{FramePlace, Opener, Role};
use crate::error::{ErrorKind, Result};
use crate::format::frame::{Decoder, MAX_FRAME_BYTES};
use crate::format::index::PackEntry;
use crate::format::pack::{ChunkRecord, Directory, FrameRecord};
use crate::id::ObjectId;
use crate::repo::Repository;
use crate::repo::index::Index;
use crate::repo::read::chunk_kind::ChunkKind;
use crate::repo::read::pack::{read_directory, read_opener};
use crate::store::{Object, Wait};
use aws_lc_rs::digest;
use std::collections::HashMap;

/// How much of what no frame covers is read at a time.
const BLOCK_BYTES: u64 = 1 << 20;
/// No frame is shorter than its seal.
const SEAL_BYTES: u64 = 16;
/// Room for a frame's seal and what a compressor may add.
const SEALING_BYTES: usize = 4096;

/// Hears what is found in a pack.
pub trait Witness {
    /// Bytes of frames that were read since the last call.
    fn advance(&mut self, _bytes: u64) {}

    /// Something is wrong with the pack as a whole.
    fn problem(&mut self, problem: String);

    /// A frame cannot be read, or not all of it is right.
    fn frame_problem(&mut self, number: u32, problem: String);

    /// Nothing at all can be read of the pack.
    fn lost(&mut self, problem: String);

    /// What the pack itself says is in it.
    fn directory(&mut self, _pack: &PackEntry, _directory: &Directory) {}

    /// A frame that verified, and those of its chunks that are what their ids say, in order.
    fn frame(&mut self, pack: &PackEntry, plain: &[u8], chunks: &[ChunkRecord]) -> Result<()>;
}

/// Reads packs one after the other, keeping its buffers.
#[derive(Default)]
pub struct PackReader {
    sealed: Vec<u8>,
    plain: Vec<u8>,
    decoder: Decoder,
}

impl PackReader {
    /// Reads one pack. Where its own directory cannot be read, `index` tells what is in it. Damage is told
    /// to the witness; an error is the witness's own, or that of a network. A pack that is gone tells nothing.
    pub fn read(
        &mut self,
        repository: &Repository,
        index: &Index,
        id: ObjectId,
        len_bytes: u64,
        witness: &mut dyn Witness,
    ) -> Result<()> {
        let store = &**repository.store();
        let opened = read_directory(store, repository.vault(), id, len_bytes).and_then(|(entry, directory)| {
            let opener = read_opener(store, repository.vault(), &entry, Wait::Allowed)?;
            Ok((entry, directory, opener))
        });
        match opened {
            Ok((entry, directory, opener)) => {
                witness.directory(&entry, &directory);
                self.frames(repository, &entry, directory, &opener, witness)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) if !repository.is_damage(&error) => Err(error),
            Err(error) => {
                witness.problem(error.chain());
                let Some((entry, directory)) = directory_of_index(index, id, len_bytes) else {
                    witness.lost("no index object tells what is in it".into());
                    return Ok(());
                };
                match read_opener(store, repository.vault(), &entry, Wait::Allowed) {
                    Ok(opener) => {
                        let entry = PackEntry { len_bytes, ..entry };
                        self.frames(repository, &entry, directory, &opener, witness)
                    }
                    Err(error) if !repository.is_damage(&error) => Err(error),
                    Err(error) => {
                        witness.lost(error.chain());
                        witness.advance(len_bytes);
                        Ok(())
                    }
                }
            }
        }
    }

    /// Reads bytes from `from` to `to` into the hash; false where the pack ends before.
    fn hash(
        &mut self,
        repository: &Repository,
        id: ObjectId,
        from: u64,
        to: u64,
        hash: &mut digest::Context,
        witness: &mut dyn Witness,
    ) -> Result<bool> {
        let mut at = from;
        while at < to {
            self.sealed.resize((to - at).min(BLOCK_BYTES) as usize, 0);
            match repository.store().read_at(Object::Pack(id), at, &mut self.sealed, Wait::Allowed) {
                Ok(()) => hash.update(&self.sealed),
                Err(error) if !repository.is_damage(&error) => return Err(error),
                Err(error) => {
                    witness.problem(error.chain());
                    return Ok(false);
                }
            }
            at += self.sealed.len() as u64;
        }
        Ok(true)
    }

    fn frames(
        &mut self,
        repository: &Repository,
        pack: &PackEntry,
        mut directory: Directory,
        opener: &Opener,
        witness: &mut dyn Witness,
    ) -> Result<()> {
        let id = pack.id;
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut hashed = true;
        let mut at = 0u64;
        directory.chunks.sort_by_key(|chunk| (chunk.frame, chunk.offset));
        let mut chunks = &directory.chunks[..];
        for (number, frame) in directory.frames.iter().enumerate() {
            let number = number as u32;
            let count = chunks.partition_point(|chunk| chunk.frame <= number);
            let (mine, rest) = chunks.split_at(count);
            chunks = rest;
            let from = u64::from(frame.offset);
            if from > at {
                hashed &= self.hash(repository, id, at, from, &mut hash, witness)?;
                at = from;
            }
            if frame.stored_bytes as usize > MAX_FRAME_BYTES + SEALING_BYTES {
                hashed = false;
                witness.frame_problem(number, format!("frame {number} is longer than a frame can be"));
                continue;
            }
            self.sealed.resize(frame.stored_bytes as usize, 0);
            if let Err(error) = repository.store().read_at(Object::Pack(id), from, &mut self.sealed, Wait::Allowed) {
                if !repository.is_damage(&error) {
                    return Err(error);
                }
                hashed = false;
                witness.frame_problem(number, format!("frame {number} cannot be read: {}", error.chain()));
                continue;
            }
            if from == at {
                hash.update(&self.sealed);
                at += u64::from(frame.stored_bytes);
            } else {
                witness.frame_problem(number, format!("frame {number} lies over another"));
            }
            witness.advance(u64::from(frame.stored_bytes));
            match self.open(frame, number, opener) {
                Ok(()) => self.chunks(repository, pack, number, mine, witness)?,
                Err(problem) => witness.frame_problem(number, format!("frame {number} {problem}")),
            }
        }
        hashed &= self.hash(repository, id, at, pack.len_bytes, &mut hash, witness)?;
        if hashed && hash.finish().as_ref() != id.0 {
            witness.problem("its bytes are not those its name stands for (SHA-256)".into());
        }
        Ok(())
    }

    fn open(&mut self, frame: &FrameRecord, number: u32, opener: &Opener) -> Result<(), String> {
        let place = FramePlace { role: Role::Frame, number, codec: frame.codec, plain_bytes: frame.plain_bytes };
        let encoded = opener.open(place, &mut self.sealed).map_err(|_| "does not verify".to_string())?;
        self.plain.clear();
        self.decoder
            .decode(frame.codec, encoded, frame.plain_bytes as usize, &mut self.plain)
            .map_err(|error| format!("cannot be decoded: {error}"))
    }

    fn chunks(
        &self,
        repository: &Repository,
        pack: &PackEntry,
        number: u32,
        chunks: &[ChunkRecord],
        witness: &mut dyn Witness,
    ) -> Result<()> {
        let keys = repository.keys();
        let is_data = pack.kind == ChunkKind::Data.pack_kind();
        let mut right = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let end = chunk.offset as usize + chunk.len_bytes as usize;
            let found = self.plain.get(chunk.offset as usize..end).map(|bytes| match is_data {
                true => keys.chunk_id(bytes),
                false => keys.page_id(bytes),
            });
            if found == Some(chunk.id) {
                right.push(*chunk);
            } else {
                witness.frame_problem(number, format!("frame {number} holds chunk {} with other bytes", chunk.id));
            }
        }
        witness.frame(pack, &self.plain, &right)
    }
}

/// Tells what is in a pack as the index has it.
fn directory_of_index(index: &Index, id: ObjectId, len_bytes: u64) -> Option<(PackEntry, Directory)> {
    const NONE: FrameRecord = FrameRecord { offset: 0, stored_bytes: 0, plain_bytes: 0, codec: 0 };
    for loaded in index.segments() {
        let segment = &loaded.segment;
        let is_it = |at: &usize| segment.pack(*at).is_some_and(|pack| pack.id == id);
        let Some(pack_at) = (0..segment.pack_count()).find(is_it) else { continue };
        let entry = segment.pack(pack_at)?;
        let mut directory = Directory::default();
        let mut numbers = HashMap::new();
        for at in 0..segment.frame_count() {
            let Some(frame) = segment.frame(at).filter(|frame| frame.pack as usize == pack_at) else { continue };
            let slot = frame.number as usize;
            // A number beyond what a pack can hold is damage of the index, which is told elsewhere.
            if slot >= segment.frame_count() || slot as u64 > len_bytes / SEAL_BYTES {
                continue;
            }
            numbers.insert(at as u32, frame.number);
            if directory.frames.len() <= slot {
                directory.frames.resize(slot + 1, NONE);
            }
            directory.frames[slot] = FrameRecord {
                offset: frame.offset,
                stored_bytes: frame.stored_bytes,
                plain_bytes: frame.plain_bytes,
                codec: frame.codec,
            };
        }
        // One that is set aside is named without frames: another segment may still tell them.
        if directory.frames.is_empty() {
            continue;
        }
        for chunk in (0..segment.chunk_count()).filter_map(|at| segment.chunk(at)) {
            if let Some(number) = numbers.get(&chunk.frame) {
                let (id, frame) = (chunk.id, *number);
                directory.chunks.push(ChunkRecord { id, frame, offset: chunk.offset, len_bytes: chunk.len_bytes });
            }
        }
        return Some((entry, directory));
    }
    None
}

/// Frames and chunks the index names in each pack, for each segment that names any of them.
pub struct Counts(HashMap<ObjectId, Vec<(u64, u64)>>);

impl Counts {
    /// Counts what all segments name. One that names a pack without frames says that it is set aside.
    pub fn new(index: &Index) -> Self {
        let mut all = HashMap::new();
        for loaded in index.segments() {
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
            for (at, counted) in here.into_iter().enumerate().filter(|(_, counted)| counted.0 > 0) {
                if let Some(pack) = segment.pack(at) {
                    // Segments of a cache may name a pack that two index objects name twice.
                    all.entry(pack.id).or_insert_with(Vec::new).push(counted);
                }
            }
        }
        Counts(all)
    }

    /// Returns whether the index says other things of a pack than the pack's own directory.
    pub fn differ(&self, index: &Index, id: ObjectId, directory: &Directory) -> bool {
        let Some(counted) = self.0.get(&id) else { return false };
        let own = (directory.frames.len() as u64, directory.chunks.len() as u64);
        counted.iter().any(|counts| *counts != own)
            || directory.chunks.iter().any(|chunk| !is_indexed(index, id, directory, chunk))
    }
}

fn is_indexed(index: &Index, id: ObjectId, directory: &Directory, chunk: &ChunkRecord) -> bool {
    let frame = &directory.frames[chunk.frame as usize];
    index.find_all(&chunk.id).any(|location| {
        let indexed = &location.frame;
        location.pack.id == id
            && indexed.number == chunk.frame
            && (indexed.offset, indexed.stored_bytes) == (frame.offset, frame.stored_bytes)
            && (indexed.plain_bytes, indexed.codec) == (frame.plain_bytes, frame.codec)
            && (location.chunk.offset, location.chunk.len_bytes) == (chunk.offset, chunk.len_bytes)
    })
}
