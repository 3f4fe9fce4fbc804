//! The first bytes of every stored object.
//!
//! ```text
//!   0  8  89 42 41 4b 46 53 0d 0a   (a byte no text has, "BAKFS", a line end that transfers damage)
//!   8  1  format version (1; 2 for an index segment in pieces)
//!   9  1  kind
//!  10  1  suite
//!  11  1  key slot's kind
//!  12  2  key slot's length in bytes
//!  14  2  0
//!  16 16  repository id
//!  32 32  salt
//!  64  .  key slot
//! ```

use super::codec::DecodeError;
use crate::id::RepositoryId;
use crate::quantity::counted;

/// The bytes every object starts with.
pub const MAGIC: [u8; 8] = *b"\x89BAKFS\r\n";
/// The format version of all objects this program writes but index segments.
pub const VERSION: u8 = 1;
/// That of index segments in pieces.
pub const PIECES_VERSION: u8 = 2;
/// Length of the header without its key slot.
pub const HEADER_BYTES: usize = 64;
/// The longest key slot: room for a post-quantum sealed key (X-Wing: 1 120 + 48 bytes).
pub const MAX_SLOT_BYTES: usize = 2048;

/// What an object is. The number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The repository's configuration.
    Config = 1,
    /// One way to unlock the master key.
    Key = 2,
    /// A pack of chunks of content.
    DataPack = 3,
    /// A pack of tree pages.
    TreePack = 4,
    /// An index segment.
    Index = 5,
    /// A snapshot.
    Snapshot = 6,
    /// A mark.
    Mark = 7,
}

/// How an object is sealed. The number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Suite {
    /// Not encrypted; a keyed BLAKE3 code of 16 bytes authenticates every frame.
    Plain = 0,
    /// AES-256-GCM-SIV (RFC 8452).
    Aes256GcmSiv = 1,
}

/// How the object's own key is kept. The number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SlotKind {
    /// No key, or (suite 0) one derived from the salt.
    None = 0,
    /// Wrapped under a key derived from the master key.
    Symmetric = 1,
}

/// A parsed header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// [`VERSION`] or [`PIECES_VERSION`].
    pub version: u8,
    /// What the object is.
    pub kind: Kind,
    /// How it is sealed.
    pub suite: Suite,
    /// How its key is kept.
    pub slot_kind: SlotKind,
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// Random, different in every object.
    pub salt: [u8; 32],
    /// The key slot.
    pub slot: Vec<u8>,
}

impl Header {
    /// Returns the 64 bytes before the key slot: what sealing binds every frame to.
    pub fn fixed(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8] = self.version;
        bytes[9] = self.kind as u8;
        bytes[10] = self.suite as u8;
        bytes[11] = self.slot_kind as u8;
        let slot_bytes = u16::try_from(self.slot.len()).expect("a key slot is at most 2048 bytes");
        bytes[12..14].copy_from_slice(&slot_bytes.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.repository.0);
        bytes[32..64].copy_from_slice(&self.salt);
        bytes
    }

    /// Returns the whole header.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.fixed().to_vec();
        bytes.extend_from_slice(&self.slot);
        bytes
    }

    /// Returns the header's length with its key slot.
    pub fn len_bytes(&self) -> usize {
        HEADER_BYTES + self.slot.len()
    }

    /// Parses the header at the start of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Header, DecodeError> {
        let wrong = |reason: String| DecodeError { what: "object header", reason };
        let Some(fixed) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(wrong(format!("{} make none", counted(bytes.len(), "byte"))));
        };
        if fixed[..8] != MAGIC {
            return Err(wrong("it does not start like an object of bakfs".into()));
        }
        if fixed[8] != VERSION && fixed[8..10] != [PIECES_VERSION, Kind::Index as u8] {
            return Err(wrong(format!(
                "format version {} of this kind is not known to this bakfs: a newer bakfs is needed",
                fixed[8]
            )));
        }
        let kind = match fixed[9] {
            1 => Kind::Config,
            2 => Kind::Key,
            3 => Kind::DataPack,
            4 => Kind::TreePack,
            5 => Kind::Index,
            6 => Kind::Snapshot,
            7 => Kind::Mark,
            other => return Err(wrong(format!("unknown kind {other}"))),
        };
        let suite = match fixed[10] {
            0 => Suite::Plain,
            1 => Suite::Aes256GcmSiv,
            other => return Err(wrong(format!("unknown suite {other}"))),
        };
        let slot_kind = match fixed[11] {
            0 => SlotKind::None,
            1 => SlotKind::Symmetric,
            other => return Err(wrong(format!("unknown kind of key slot {other}"))),
        };
        let slot_bytes = usize::from(u16::from_le_bytes([fixed[12], fixed[13]]));
        if slot_bytes > MAX_SLOT_BYTES || fixed[14..16] != [0, 0] {
            return Err(wrong("its key slot's length is out of range".into()));
        }
        let Some(slot) = bytes.get(HEADER_BYTES..HEADER_BYTES + slot_bytes) else {
            return Err(wrong("its key slot is cut off".into()));
        };
        Ok(Header {
            version: fixed[8],
            kind,
            suite,
            slot_kind,
            repository: RepositoryId(fixed[16..32].try_into().expect("16 bytes")),
            salt: fixed[32..64].try_into().expect("32 bytes"),
            slot: slot.to_vec(),
        })
    }
}
