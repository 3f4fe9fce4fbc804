//! The repository's configuration: the object that makes a folder a repository.

use super::codec::{self, Bytes, DecodeError};
use super::header::{HEADER_BYTES, Header, Kind, SlotKind, Suite, VERSION};
use super::tree::Time;
use crate::id::RepositoryId;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// Content sizes the chunker cuts; equal in all writers of a repository, or nothing deduplicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkSizes {
    /// No chunk but a file's last is shorter.
    pub min_bytes: u32,
    /// What the masks aim at.
    pub avg_bytes: u32,
    /// No chunk is longer.
    pub max_bytes: u32,
}

/// The sizes of new repositories.
pub const CHUNK_SIZES: ChunkSizes = ChunkSizes { min_bytes: 64 << 10, avg_bytes: 256 << 10, max_bytes: 1 << 20 };

/// What the configuration says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// When the repository was made.
    pub created: Time,
    /// Names of features a reader must know; an unknown one means that a newer bakfs is needed.
    pub features: Vec<Bytes>,
    /// Where content is cut.
    pub chunk_sizes: ChunkSizes,
    /// The master key, of a repository without encryption only: it authenticates and hides nothing.
    pub open_key: Option<[u8; 32]>,
}

/// Features this program knows.
const KNOWN_FEATURES: [&[u8]; 0] = [];
/// Length of the code at the end of the object.
const MAC_BYTES: usize = 32;

/// A configuration as stored, before a key has shown that it is genuine.
pub struct Stored {
    /// The repository's id.
    pub repository: RepositoryId,
    /// How its objects are sealed.
    pub suite: Suite,
    /// What it says.
    pub config: Config,
    authenticated: Vec<u8>,
    mac: [u8; MAC_BYTES],
}

impl Config {
    /// Returns the bytes that the code at the end covers.
    fn body(&self, repository: RepositoryId, suite: Suite) -> Vec<u8> {
        let header = Header {
            version: VERSION,
            kind: Kind::Config,
            suite,
            slot_kind: SlotKind::None,
            repository,
            salt: [0; 32],
            slot: Vec::new(),
        };
        let mut bytes = header.encode();
        bytes.extend_from_slice(&codec::encode(self));
        bytes
    }

    /// Encodes the object, with the code that `mac` makes.
    pub fn encode(&self, repository: RepositoryId, suite: Suite, mac: impl Fn(&[u8]) -> blake3::Hash) -> Vec<u8> {
        let mut bytes = self.body(repository, suite);
        let code = mac(&bytes);
        bytes.extend_from_slice(code.as_bytes());
        bytes
    }
}

impl Stored {
    /// Decodes the object and refuses what this program does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wrong = |reason: String| DecodeError { what: "repository configuration", reason };
        let header = Header::decode(bytes)?;
        let end = bytes.len().saturating_sub(MAC_BYTES);
        if header.kind != Kind::Config || !header.slot.is_empty() || end < HEADER_BYTES {
            return Err(wrong("it is another object, or cut off".into()));
        }
        let config: Config = codec::decode("repository configuration", &bytes[HEADER_BYTES..end])?;
        if let Some(feature) = config.features.iter().find(|feature| !KNOWN_FEATURES.contains(&&feature[..])) {
            return Err(wrong(format!(
                "the repository uses the feature \"{}\", which this bakfs does not know: a newer bakfs is needed",
                feature.escape_ascii()
            )));
        }
        let ChunkSizes { min_bytes, avg_bytes, max_bytes } = config.chunk_sizes;
        // The limits of the FastCDC implementation, and of a frame.
        let sane = min_bytes >= 64
            && min_bytes <= avg_bytes
            && avg_bytes >= 256
            && avg_bytes <= max_bytes
            && max_bytes <= 4 << 20;
        if !sane {
            return Err(wrong("its chunk sizes are out of range".into()));
        }
        Ok(Stored {
            repository: header.repository,
            suite: header.suite,
            config,
            authenticated: bytes[..end].to_vec(),
            mac: bytes[end..].try_into().expect("the code has 32 bytes"),
        })
    }

    /// Wipes the key of a repository without encryption: it is needed no more.
    pub fn forget_key(&mut self) {
        self.authenticated.zeroize();
        self.config.open_key.zeroize();
    }

    /// Returns whether the code at the end is the one `mac` makes; compares in constant time.
    pub fn is_genuine(&self, mac: impl Fn(&[u8]) -> blake3::Hash) -> bool {
        mac(&self.authenticated) == blake3::Hash::from_bytes(self.mac)
    }
}
