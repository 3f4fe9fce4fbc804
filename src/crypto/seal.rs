//! Sealing frames to an object, and opening them again.
//!
//! Each object has a key of its own. A frame's nonce is its number in the object, and its associated
//! data are the object's header, its role, number, codec and plaintext length: a frame that is
//! moved, renumbered or described wrongly does not open.

use super::keys::{Keys, Secret};
use crate::format::header::{HEADER_BYTES, Header, Kind, PIECES_VERSION, SlotKind, Suite, VERSION};
use crate::id::RepositoryId;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};

/// Bytes a seal adds to a frame.
pub const TAG_BYTES: usize = 16;
/// Length of a symmetric key slot: the wrapped key and its tag.
pub const SYMMETRIC_SLOT_BYTES: usize = 32 + TAG_BYTES;

/// What a frame is for; part of the associated data. The number is stored in no other place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// The object's own key in its key slot.
    KeySlot = 0,
    /// A frame of chunks, a piece of an index segment, or the only frame of a snapshot or mark.
    Frame = 1,
    /// A pack's directory.
    Directory = 2,
    /// What a machine has seen of a repository, in a file of its own: it is no object.
    Known = 3,
}

/// What a frame is besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramePlace {
    /// What it is for.
    pub role: Role,
    /// Its number in the object.
    pub number: u32,
    /// How its plaintext was encoded.
    pub codec: u8,
    /// Length of its plaintext after decoding.
    pub plain_bytes: u32,
}

impl FramePlace {
    fn associated(&self, header: &[u8; HEADER_BYTES]) -> [u8; HEADER_BYTES + 12] {
        let mut bytes = [0; HEADER_BYTES + 12];
        bytes[..HEADER_BYTES].copy_from_slice(header);
        bytes[HEADER_BYTES] = self.role as u8;
        bytes[HEADER_BYTES + 1] = self.codec;
        bytes[HEADER_BYTES + 4..HEADER_BYTES + 8].copy_from_slice(&self.number.to_le_bytes());
        bytes[HEADER_BYTES + 8..].copy_from_slice(&self.plain_bytes.to_le_bytes());
        bytes
    }

    fn nonce(&self) -> Nonce {
        let mut bytes = [0; 12];
        bytes[0] = self.role as u8;
        bytes[4..8].copy_from_slice(&self.number.to_le_bytes());
        Nonce::assume_unique_for_key(bytes)
    }
}

/// The bytes did not open: they were changed, moved, or belong to another key.
#[derive(Debug, thiserror::Error)]
#[error("The seal does not fit: the bytes were changed or belong elsewhere")]
pub struct BrokenSeal;

/// Opens the frames of one object.
pub struct Opener {
    header: [u8; HEADER_BYTES],
    cipher: Cipher,
}

enum Cipher {
    Plain(Secret),
    Aes(LessSafeKey),
}

impl Cipher {
    fn aes(key: &Secret) -> Self {
        let key = UnboundKey::new(&AES_256_GCM_SIV, &key.0).expect("the key has 32 bytes");
        Cipher::Aes(LessSafeKey::new(key))
    }

    fn code(key: &Secret, associated: &[u8], bytes: &[u8]) -> blake3::Hash {
        blake3::Hasher::new_keyed(&key.0).update(associated).update(bytes).finalize()
    }

    fn seal(&self, header: &[u8; HEADER_BYTES], place: FramePlace, bytes: &mut Vec<u8>, from: usize) {
        let associated = place.associated(header);
        match self {
            Cipher::Plain(key) => {
                let code = Self::code(key, &associated, &bytes[from..]);
                bytes.extend_from_slice(&code.as_bytes()[..TAG_BYTES]);
            }
            Cipher::Aes(key) => {
                let tag = key
                    .seal_in_place_separate_tag(place.nonce(), Aad::from(associated), &mut bytes[from..])
                    .expect("a frame is far below the cipher's length limit");
                bytes.extend_from_slice(tag.as_ref());
            }
        }
    }

    fn open<'a>(
        &self,
        header: &[u8; HEADER_BYTES],
        place: FramePlace,
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], BrokenSeal> {
        let associated = place.associated(header);
        let Some(len) = sealed.len().checked_sub(TAG_BYTES) else {
            return Err(BrokenSeal);
        };
        match self {
            Cipher::Plain(key) => {
                let (bytes, tag) = sealed.split_at_mut(len);
                let code = Self::code(key, &associated, bytes);
                let code: [u8; TAG_BYTES] = *code.as_bytes().first_chunk().expect("32 bytes");
                aws_lc_rs::constant_time::verify_slices_are_equal(&code, tag).map_err(|_| BrokenSeal)?;
                Ok(bytes)
            }
            Cipher::Aes(key) => key.open_in_place(place.nonce(), Aad::from(associated), sealed).map_err(|_| BrokenSeal),
        }
    }
}

const SLOT_PLACE: FramePlace = FramePlace { role: Role::KeySlot, number: 0, codec: 0, plain_bytes: 32 };

impl Opener {
    /// Unwraps an object's key.
    pub fn new(keys: &Keys, header: &Header) -> Result<Self, BrokenSeal> {
        let fixed = header.fixed();
        let wrapping = keys.wrapping(header.kind, &header.salt);
        let cipher = match (header.suite, header.slot_kind) {
            (Suite::Plain, SlotKind::None) => Cipher::Plain(wrapping),
            (Suite::Aes256GcmSiv, SlotKind::Symmetric) => {
                let mut slot: [u8; SYMMETRIC_SLOT_BYTES] = header.slot.as_slice().try_into().map_err(|_| BrokenSeal)?;
                let key = Cipher::aes(&wrapping).open(&fixed, SLOT_PLACE, &mut slot)?;
                let key = Secret((&*key).try_into().map_err(|_| BrokenSeal)?);
                zeroize::Zeroize::zeroize(&mut slot);
                Cipher::aes(&key)
            }
            _ => return Err(BrokenSeal),
        };
        Ok(Opener { header: fixed, cipher })
    }

    /// Opens a frame in place and returns its bytes without the tag.
    pub fn open<'a>(&self, place: FramePlace, sealed: &'a mut [u8]) -> Result<&'a mut [u8], BrokenSeal> {
        self.cipher.open(&self.header, place, sealed)
    }
}

/// Seals the frames of one object, each under the next number. It cannot be cloned, and the counter
/// is private: no nonce is used twice.
pub struct Sealer {
    header: Header,
    fixed: [u8; HEADER_BYTES],
    cipher: Cipher,
    next_number: u32,
}

impl Sealer {
    /// Starts an object with a fresh salt and key.
    pub fn new(keys: &Keys, kind: Kind, suite: Suite, repository: RepositoryId) -> Self {
        let mut salt = [0; 32];
        crate::random::fill_random(&mut salt);
        Self::with_salt_and_key(keys, (kind, VERSION), suite, repository, salt, Secret::random())
    }

    /// Starts an index segment in pieces, likewise.
    pub fn of_pieces(keys: &Keys, suite: Suite, repository: RepositoryId) -> Self {
        let mut salt = [0; 32];
        crate::random::fill_random(&mut salt);
        Self::with_salt_and_key(keys, (Kind::Index, PIECES_VERSION), suite, repository, salt, Secret::random())
    }

    pub(crate) fn with_salt_and_key(
        keys: &Keys,
        (kind, version): (Kind, u8),
        suite: Suite,
        repository: RepositoryId,
        salt: [u8; 32],
        key: Secret,
    ) -> Self {
        let wrapping = keys.wrapping(kind, &salt);
        let mut header = Header { version, kind, suite, slot_kind: SlotKind::None, repository, salt, slot: Vec::new() };
        let cipher = match suite {
            Suite::Plain => Cipher::Plain(wrapping),
            Suite::Aes256GcmSiv => {
                header.slot_kind = SlotKind::Symmetric;
                header.slot = vec![0; SYMMETRIC_SLOT_BYTES];
                let fixed = header.fixed();
                let mut slot = key.0.to_vec();
                Cipher::aes(&wrapping).seal(&fixed, SLOT_PLACE, &mut slot, 0);
                header.slot = slot;
                Cipher::aes(&key)
            }
        };
        Sealer { fixed: header.fixed(), header, cipher, next_number: 0 }
    }

    /// Returns the object's header, to be stored in front of the frames.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Seals `bytes[from..]` in place as the next frame and appends the tag. Returns its number.
    pub fn seal(&mut self, role: Role, codec: u8, plain_bytes: u32, bytes: &mut Vec<u8>, from: usize) -> u32 {
        let number = self.next_number;
        self.next_number = number.checked_add(1).expect("a pack has far fewer than 2^32 frames");
        self.cipher.seal(&self.fixed, FramePlace { role, number, codec, plain_bytes }, bytes, from);
        number
    }

    /// Ends sealing: what was sealed can be opened.
    pub fn into_opener(self) -> Opener {
        Opener { header: self.fixed, cipher: self.cipher }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(suite: Suite) -> (Keys, Header, Vec<u8>, FramePlace) {
        let keys = Keys::derive(&Secret([1; 32]));
        let mut sealer = Sealer::new(&keys, Kind::Snapshot, suite, RepositoryId([9; 16]));
        let mut bytes = b"some plaintext".to_vec();
        let number = sealer.seal(Role::Frame, 0, 14, &mut bytes, 0);
        let place = FramePlace { role: Role::Frame, number, codec: 0, plain_bytes: 14 };
        (keys, sealer.header().clone(), bytes, place)
    }

    #[test]
    fn every_changed_bit_of_frame_header_or_place_is_noticed() {
        for suite in [Suite::Plain, Suite::Aes256GcmSiv] {
            let (keys, header, bytes, place) = sealed(suite);
            let open = |header: &Header, place: FramePlace, bytes: &[u8]| {
                Opener::new(&keys, header)?.open(place, &mut bytes.to_vec()).map(|plain| plain.to_vec())
            };
            assert_eq!(open(&header, place, &bytes).unwrap(), b"some plaintext");
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(open(&header, place, &damaged).is_err(), "{suite:?} frame bit {bit}");
            }
            let encoded = header.encode();
            for bit in 0..encoded.len() * 8 {
                let mut damaged = encoded.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                if let Ok(header) = Header::decode(&damaged)
                    && !matches!(header.kind, Kind::Config | Kind::Key)
                {
                    assert!(open(&header, place, &bytes).is_err(), "{suite:?} header bit {bit}");
                }
            }
            for wrong in [
                FramePlace { number: 1, ..place },
                FramePlace { codec: 1, ..place },
                FramePlace { plain_bytes: 15, ..place },
                FramePlace { role: Role::Directory, ..place },
            ] {
                assert!(open(&header, wrong, &bytes).is_err(), "{suite:?} {wrong:?}");
            }
            assert!(open(&header, place, &bytes[..8]).is_err());
        }
    }

    #[test]
    fn equal_plaintexts_seal_differently() {
        let (_, _, a, _) = sealed(Suite::Aes256GcmSiv);
        let (_, _, b, _) = sealed(Suite::Aes256GcmSiv);
        assert_ne!(a, b);
    }
}
