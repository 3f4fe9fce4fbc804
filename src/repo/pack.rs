//! Packs: building one in memory, and reading its directory back.

use super::objects::object_id;
use crate::crypto::keys::Keys;
use crate::crypto::seal::{Opener, Place, Role, Sealer};
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::encode_whole;
use crate::format::header::{HEADER_BYTES, Header, Kind, MAX_SLOT_BYTES, Suite};
use crate::format::index::PackEntry;
use crate::format::pack::{
    CHUNK_RECORD_BYTES, ChunkRecord, Directory, FRAME_RECORD_BYTES, FrameRecord, MAX_PACK_BYTES,
    TARGET_DIRECTORY_BYTES, TARGET_PACK_BYTES, TRAILER_BYTES, Trailer,
};
use crate::id::{ChunkId, ObjectId};
use crate::quantity::counted;
use crate::store::{Object, Store, Wait};

/// Read at once from the end of a pack: directories of up to 2 900 chunks, 20 times those of large files.
const TAIL_BYTES: u64 = 128 << 10;

/// A frame's plaintext and the chunks in it, in order.
#[derive(Debug, Default)]
pub struct PlainFrame {
    /// The chunks' bytes one after the other.
    pub bytes: Vec<u8>,
    /// Their ids and lengths.
    pub chunks: Vec<(ChunkId, u32)>,
}

/// A pack being filled.
pub struct PackBuilder {
    kind: Kind,
    sealer: Sealer,
    bytes: Vec<u8>,
    directory: Directory,
}

/// A pack ready to be stored.
pub struct FinishedPack {
    /// Its id, kind and length.
    pub entry: PackEntry,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What is in it.
    pub directory: Directory,
    opener: Opener,
    /// Of the sealed directory: its place in the pack and what it is sealed as.
    tail: (usize, Place),
}

impl PackBuilder {
    /// Starts a pack.
    pub fn new(keys: &Keys, kind: Kind, suite: Suite, repository: [u8; 16]) -> Self {
        let sealer = Sealer::new(keys, kind, suite, repository);
        let bytes = sealer.header().encode();
        PackBuilder { kind, sealer, bytes, directory: Directory::default() }
    }

    /// Appends an encoded frame.
    pub fn append(&mut self, codec: u8, encoded: &[u8], plain_bytes: u32, chunks: &[(ChunkId, u32)]) {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(encoded);
        let number = self.sealer.seal(Role::Frame, codec, plain_bytes, &mut self.bytes, from);
        let u32_of = |len: usize| u32::try_from(len).expect("a pack is far below 4 GiB");
        let stored_bytes = u32_of(self.bytes.len() - from);
        self.directory.frames.push(FrameRecord { offset: u32_of(from), stored_bytes, plain_bytes, codec });
        let mut offset = 0;
        for (id, len_bytes) in chunks {
            self.directory.chunks.push(ChunkRecord { id: *id, frame: number, offset, len_bytes: *len_bytes });
            offset += len_bytes;
        }
    }

    /// Returns whether the pack, or its directory, has reached its size.
    pub fn is_full(&self) -> bool {
        let Directory { frames, chunks } = &self.directory;
        let directory_bytes = frames.len() * FRAME_RECORD_BYTES + chunks.len() * CHUNK_RECORD_BYTES;
        self.bytes.len() >= TARGET_PACK_BYTES || directory_bytes >= TARGET_DIRECTORY_BYTES
    }

    /// Returns whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.directory.frames.is_empty()
    }

    /// Ends the pack with its directory and trailer.
    pub fn finish(mut self) -> FinishedPack {
        let plain = self.directory.encode();
        let plain_bytes = u32::try_from(plain.len()).expect("a directory is far below 4 GiB");
        let (codec, encoded) = encode_whole(&plain, 3);
        let from = self.bytes.len();
        self.bytes.extend_from_slice(&encoded);
        let number = self.sealer.seal(Role::Directory, codec, plain_bytes, &mut self.bytes, from);
        let directory_bytes = u32::try_from(self.bytes.len() - from).expect("a directory is far below 4 GiB");
        self.bytes.extend_from_slice(&Trailer { directory_bytes, codec, plain_bytes, number }.encode());
        let entry = PackEntry { id: object_id(&self.bytes), kind: self.kind, len_bytes: self.bytes.len() as u64 };
        let tail = (from, Place { role: Role::Directory, number, codec, plain_bytes });
        FinishedPack { entry, bytes: self.bytes, directory: self.directory, opener: self.sealer.into_opener(), tail }
    }
}

impl FinishedPack {
    /// Seals the same frames under a new key, in place: another object, with another name.
    ///
    /// Memory: the longest frame. Fails only where the pack's bytes were changed in memory.
    pub fn renewed(mut self, keys: &Keys, suite: Suite, repository: [u8; 16]) -> Result<FinishedPack> {
        let mut sealer = Sealer::new(keys, self.entry.kind, suite, repository);
        let header = sealer.header().encode();
        let place = |(number, frame): (usize, &FrameRecord)| {
            let number = u32::try_from(number).expect("a pack has far fewer than 2^32 frames");
            let FrameRecord { offset, stored_bytes, plain_bytes, codec } = *frame;
            (offset as usize, stored_bytes as usize, Place { role: Role::Frame, number, codec, plain_bytes })
        };
        let (tail_at, tail) = self.tail;
        let tail_bytes = self.bytes.len() - TRAILER_BYTES - tail_at;
        let mut sealed = Vec::new();
        let places = self.directory.frames.iter().enumerate().map(place).chain([(tail_at, tail_bytes, tail)]);
        for (at, stored_bytes, place) in places {
            let broken = |error| Error::damaged("A pack changed in memory before it was stored").because(error);
            sealed.clear();
            let frame = self.opener.open(place, &mut self.bytes[at..at + stored_bytes]).map_err(broken)?;
            sealed.extend_from_slice(frame);
            let number = sealer.seal(place.role, place.codec, place.plain_bytes, &mut sealed, 0);
            debug_assert_eq!(number, place.number, "frames are sealed in their order");
            self.bytes[at..at + stored_bytes].copy_from_slice(&sealed);
        }
        self.bytes[..header.len()].copy_from_slice(&header);
        self.entry.id = object_id(&self.bytes);
        self.opener = sealer.into_opener();
        Ok(self)
    }
}

/// Reads the header of a pack and unwraps its key. A copy that does not verify is fetched anew, once.
pub fn read_opener(
    store: &dyn Store,
    keys: &Keys,
    repository: [u8; 16],
    pack: &PackEntry,
    wait: Wait,
) -> Result<Opener> {
    let object = Object::Pack(pack.id);
    store.expect_len(object, pack.len_bytes);
    match read_stored_opener(store, keys, repository, pack, wait) {
        Err(error) if error.kind() == ErrorKind::Damaged && store.distrust(object, 0..1) => {
            read_stored_opener(store, keys, repository, pack, wait)
        }
        opener => opener,
    }
}

fn read_stored_opener(
    store: &dyn Store,
    keys: &Keys,
    repository: [u8; 16],
    pack: &PackEntry,
    wait: Wait,
) -> Result<Opener> {
    let mut bytes = vec![0; (HEADER_BYTES + MAX_SLOT_BYTES).min(pack.len_bytes as usize)];
    store.read_at(Object::Pack(pack.id), 0, &mut bytes, wait)?;
    opener_of(&bytes, repository, keys, pack)
}

/// Unwraps the key of a pack that begins with `bytes`.
fn opener_of(bytes: &[u8], repository: [u8; 16], keys: &Keys, pack: &PackEntry) -> Result<Opener> {
    let object = Object::Pack(pack.id);
    let damaged = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::damaged(format!("The header of {object} does not verify: run `bakfs check`")).because(error)
    };
    let header = Header::decode(bytes).map_err(|error| damaged(error.into()))?;
    if header.kind != pack.kind || header.repository != repository {
        return Err(damaged("it belongs to another kind of object or repository".into()));
    }
    Opener::new(keys, &header).map_err(|error| damaged(error.into()))
}

/// Reads a pack's directory from the pack itself: two reads, or three where it is longer than `TAIL_BYTES`. A copy
/// that does not verify is fetched anew, once.
pub fn read_directory(
    store: &dyn Store,
    keys: &Keys,
    repository: [u8; 16],
    id: ObjectId,
    len_bytes: u64,
) -> Result<(PackEntry, Directory)> {
    let object = Object::Pack(id);
    store.expect_len(object, len_bytes);
    match read_stored_directory(store, keys, repository, id, len_bytes) {
        Err(error) if error.kind() == ErrorKind::Damaged && store.distrust(object, 0..len_bytes) => {
            read_stored_directory(store, keys, repository, id, len_bytes)
        }
        directory => directory,
    }
}

fn read_stored_directory(
    store: &dyn Store,
    keys: &Keys,
    repository: [u8; 16],
    id: ObjectId,
    len_bytes: u64,
) -> Result<(PackEntry, Directory)> {
    let object = Object::Pack(id);
    let damaged = |reason: String| Error::damaged(format!("The directory of {object} cannot be read: {reason}"));
    if !(HEADER_BYTES as u64 + TRAILER_BYTES as u64..=MAX_PACK_BYTES).contains(&len_bytes) {
        return Err(damaged(format!("its length of {} is no pack's", counted(len_bytes, "byte"))));
    }
    let mut head = vec![0; (HEADER_BYTES + MAX_SLOT_BYTES).min(len_bytes as usize)];
    store.read_at(object, 0, &mut head, Wait::Allowed)?;
    let kind = if head[9] == Kind::TreePack as u8 { Kind::TreePack } else { Kind::DataPack };
    let entry = PackEntry { id, kind, len_bytes };
    let opener = opener_of(&head, repository, keys, &entry)?;
    // One request has most directories whole.
    let tail_at = len_bytes.saturating_sub(TAIL_BYTES);
    let mut tail = vec![0; (len_bytes - tail_at) as usize];
    store.read_at(object, tail_at, &mut tail, Wait::Allowed)?;
    let trailer = tail.split_off(tail.len() - TRAILER_BYTES);
    let trailer = trailer.as_slice().try_into().expect("this many were split off");
    let trailer = Trailer::decode(trailer).map_err(|error| damaged(error.to_string()))?;
    let directory_bytes = trailer.directory_bytes as usize;
    let directory_at = (len_bytes - TRAILER_BYTES as u64)
        .checked_sub(directory_bytes as u64)
        .ok_or_else(|| damaged("it is longer than the pack".into()))?;
    let mut sealed = match tail.len().checked_sub(directory_bytes) {
        Some(before) => tail.split_off(before),
        None => {
            let mut sealed = vec![0; directory_bytes];
            store.read_at(object, directory_at, &mut sealed, Wait::Allowed)?;
            sealed
        }
    };
    let place =
        Place { role: Role::Directory, number: trailer.number, codec: trailer.codec, plain_bytes: trailer.plain_bytes };
    let encoded = opener.open(place, &mut sealed).map_err(|error| damaged(error.to_string()))?;
    let plain = super::objects::decode_bounded(trailer.codec, encoded, trailer.plain_bytes as usize)?;
    let directory = Directory::decode(&plain, len_bytes).map_err(|error| damaged(error.to_string()))?;
    Ok((entry, directory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::Secret;
    use crate::format::pack::MAX_DIRECTORY_BYTES;

    #[test]
    fn a_pack_of_tiny_chunks_is_closed_while_its_directory_can_be_read() {
        let keys = Keys::derive(&Secret([7; 32]));
        let mut pack = PackBuilder::new(&keys, Kind::DataPack, Suite::Plain, [9; 16]);
        let chunks: Vec<_> = (0..10_000).map(|_| (ChunkId([3; 32]), 1)).collect();
        let mut frames = 0;
        while !pack.is_full() {
            pack.append(0, &[0; 10], 10_000, &chunks);
            frames += 1;
            assert!(frames < 100, "a million chunks are too many for one directory");
        }
        assert!(pack.finish().directory.encode().len() < MAX_DIRECTORY_BYTES as usize / 2);
    }

    #[test]
    fn a_renewed_pack_has_another_name_and_key_and_the_same_frames() {
        let keys = Keys::derive(&Secret([7; 32]));
        for suite in [Suite::Plain, Suite::Aes256GcmSiv] {
            let mut pack = PackBuilder::new(&keys, Kind::TreePack, suite, [9; 16]);
            for number in 0..3 {
                pack.append(0, &[number; 100], 100, &[(ChunkId([number; 32]), 100)]);
            }
            let old = pack.finish();
            let (old_id, old_bytes) = (old.entry.id, old.bytes.clone());
            let new = old.renewed(&keys, suite, [9; 16]).unwrap().renewed(&keys, suite, [9; 16]).unwrap();
            assert_ne!(new.entry.id, old_id);
            assert_eq!(new.entry.id, object_id(&new.bytes));
            assert_ne!(new.bytes[32..64], old_bytes[32..64], "the salt is new");
            let header = Header::decode(&new.bytes).unwrap();
            let opener = Opener::new(&keys, &header).unwrap();
            for (number, frame) in new.directory.frames.iter().enumerate() {
                let range = frame.offset as usize..(frame.offset + frame.stored_bytes) as usize;
                assert_ne!(new.bytes[range.clone()], old_bytes[range.clone()], "{suite:?}");
                let place = Place { role: Role::Frame, number: number as u32, codec: 0, plain_bytes: 100 };
                let mut sealed = new.bytes[range].to_vec();
                assert_eq!(*opener.open(place, &mut sealed).unwrap(), [number as u8; 100]);
            }
            let (place, end) = (new.tail.1, new.bytes.len() - TRAILER_BYTES);
            let mut sealed = new.bytes[new.tail.0..end].to_vec();
            let directory = opener.open(place, &mut sealed).unwrap().to_vec();
            let plain = super::super::objects::decode_bounded(place.codec, &directory, place.plain_bytes as usize);
            assert_eq!(Directory::decode(&plain.unwrap(), new.entry.len_bytes).unwrap(), new.directory);
        }
    }
}
