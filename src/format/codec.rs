//! The one place that knows bincode: fixed-width little-endian integers, lengths as u64, bounded input.
//!
//! Every stored structure that is not a fixed table goes through here; the golden bytes in
//! tests/format.rs pin the encoding, so that another codec can take its place without a format change.

use crate::quantity::counted;
use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The longest structure this codec reads: 64 MiB, far above every limit stated in docs/format.md.
const MAX_BYTES: usize = 64 << 20;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<MAX_BYTES>> =
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<MAX_BYTES>();

/// Why bytes are not the structure they should be.
#[derive(Debug, thiserror::Error)]
#[error("The bytes are not a valid {what}: {reason}")]
pub struct DecodeError {
    /// What was expected.
    pub what: &'static str,
    /// What is wrong.
    pub reason: String,
}

/// Encodes a structure.
///
/// # Panics
/// Never for structures below 64 MiB made of the types in `format`, whose encoding cannot fail.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, CONFIG).expect("stored structures are always encodable")
}

/// Decodes a structure that must fill `bytes` exactly.
pub fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, CONFIG)
        .map_err(|error| DecodeError { what, reason: error.to_string() })?;
    if used != bytes.len() {
        return Err(DecodeError { what, reason: format!("{} too many", counted(bytes.len() - used, "byte")) });
    }
    Ok(value)
}

/// A byte string, stored as its length and its bytes in one piece.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            // As `bakfs debug` shows it; what is stored is not.
            true => serializer.serialize_str(&String::from_utf8_lossy(&self.0)),
            false => serializer.serialize_bytes(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Bytes(bytes.to_vec())
    }
}
