//! Packs: building one in memory.

use crate::crypto::seal::{FramePlace, Opener, Role, Sealer};
use crate::crypto::vault::Vault;
use crate::error::{Error, Result};
use crate::format::frame::encode_whole;
use crate::format::header::Kind;
use crate::format::index::PackEntry;
use crate::format::pack::{
    CHUNK_RECORD_BYTES, ChunkRecord, Directory, FRAME_RECORD_BYTES, FrameRecord, TARGET_DIRECTORY_BYTES,
    TARGET_PACK_BYTES, TRAILER_BYTES, Trailer,
};
use crate::id::ChunkId;
use crate::repo::objects::object_id;

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
    tail: (usize, FramePlace),
}

impl PackBuilder {
    /// Starts a pack.
    pub fn new(vault: &Vault, kind: Kind) -> Self {
        let sealer = vault.sealer(kind);
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
        let tail = (from, FramePlace { role: Role::Directory, number, codec, plain_bytes });
        FinishedPack { entry, bytes: self.bytes, directory: self.directory, opener: self.sealer.into_opener(), tail }
    }
}

impl FinishedPack {
    /// Seals the same frames under a new key, in place: another object, with another name.
    ///
    /// Memory: the longest frame. Fails only where the pack's bytes were changed in memory.
    pub fn renewed(mut self, vault: &Vault) -> Result<FinishedPack> {
        let mut sealer = vault.sealer(self.entry.kind);
        let header = sealer.header().encode();
        let place = |(number, frame): (usize, &FrameRecord)| {
            let number = u32::try_from(number).expect("a pack has far fewer than 2^32 frames");
            let FrameRecord { offset, stored_bytes, plain_bytes, codec } = *frame;
            (offset as usize, stored_bytes as usize, FramePlace { role: Role::Frame, number, codec, plain_bytes })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::{Keys, Secret};
    use crate::format::header::Header;
    use crate::format::header::Suite;
    use crate::format::pack::MAX_DIRECTORY_BYTES;
    use crate::id::RepositoryId;

    fn vault(suite: Suite) -> Vault {
        Vault::new(Keys::derive(&Secret([7; 32])), suite, RepositoryId([9; 16]))
    }

    #[test]
    fn a_pack_of_tiny_chunks_is_closed_while_its_directory_can_be_read() {
        let vault = vault(Suite::Plain);
        let mut pack = PackBuilder::new(&vault, Kind::DataPack);
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
        for suite in [Suite::Plain, Suite::Aes256GcmSiv] {
            let vault = vault(suite);
            let mut pack = PackBuilder::new(&vault, Kind::TreePack);
            for number in 0..3 {
                pack.append(0, &[number; 100], 100, &[(ChunkId([number; 32]), 100)]);
            }
            let old = pack.finish();
            let (old_id, old_bytes) = (old.entry.id, old.bytes.clone());
            let new = old.renewed(&vault).unwrap().renewed(&vault).unwrap();
            assert_ne!(new.entry.id, old_id);
            assert_eq!(new.entry.id, object_id(&new.bytes));
            assert_ne!(new.bytes[32..64], old_bytes[32..64], "the salt is new");
            let header = Header::decode(&new.bytes).unwrap();
            let opener = vault.opener(&header).unwrap();
            for (number, frame) in new.directory.frames.iter().enumerate() {
                let range = frame.offset as usize..(frame.offset + frame.stored_bytes) as usize;
                assert_ne!(new.bytes[range.clone()], old_bytes[range.clone()], "{suite:?}");
                let place = FramePlace { role: Role::Frame, number: number as u32, codec: 0, plain_bytes: 100 };
                let mut sealed = new.bytes[range].to_vec();
                assert_eq!(*opener.open(place, &mut sealed).unwrap(), [number as u8; 100]);
            }
            let (place, end) = (new.tail.1, new.bytes.len() - TRAILER_BYTES);
            let mut sealed = new.bytes[new.tail.0..end].to_vec();
            let directory = opener.open(place, &mut sealed).unwrap().to_vec();
            let plain = crate::repo::objects::decode_bounded(place.codec, &directory, place.plain_bytes as usize);
            assert_eq!(Directory::decode(&plain.unwrap(), new.entry.len_bytes).unwrap(), new.directory);
        }
    }
}
