//! Objects that are sealed whole, read whole, and decoded by their kind.

use crate::crypto::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::codec::DecodeError;
use crate::format::header::Kind;
use crate::format::mark::{AnyMark, MAX_MARK_BYTES};
use crate::format::snapshot::{MAX_SNAPSHOT_BYTES, Snapshot};
use crate::id::ObjectId;
use crate::repo::Repository;
use crate::repo::objects::open_named;
use crate::store::{Object, Store};

/// The most that header, slot and seal add to a plaintext.
const SEALING_BYTES: u64 = 4096;

/// A kind of object that is sealed whole.
pub trait Stored: Sized {
    /// What it is sealed as.
    const KIND: Kind;
    /// The longest plaintext.
    const MAX_BYTES: usize;
    /// What helps where one is damaged, as the end of a message.
    const ADVICE: &str;

    /// Names one.
    fn object(id: ObjectId) -> Object;

    /// Decodes a plaintext.
    fn decode(plain: &[u8]) -> Result<Self, DecodeError>;
}

impl Stored for Snapshot {
    const KIND: Kind = Kind::Snapshot;
    const MAX_BYTES: usize = MAX_SNAPSHOT_BYTES;
    const ADVICE: &str = ": run `bakfs check`";

    fn object(id: ObjectId) -> Object {
        Object::Snapshot(id)
    }

    fn decode(plain: &[u8]) -> Result<Self, DecodeError> {
        Snapshot::decode(plain)
    }
}

impl Stored for AnyMark {
    const KIND: Kind = Kind::Mark;
    const MAX_BYTES: usize = MAX_MARK_BYTES;
    const ADVICE: &str = "";

    fn object(id: ObjectId) -> Object {
        Object::Mark(id)
    }

    fn decode(plain: &[u8]) -> Result<Self, DecodeError> {
        AnyMark::decode(plain)
    }
}

/// Reads one object. Its bytes must be those its name stands for: a good one under another's name would hide that.
pub fn read<T: Stored>(store: &dyn Store, vault: &Vault, id: ObjectId) -> Result<T> {
    let object = T::object(id);
    let bytes = store.read_whole(object, T::MAX_BYTES as u64 + SEALING_BYTES)?;
    let plain = open_named(vault, T::KIND, (id, bytes), T::MAX_BYTES);
    let decode = |plain: Vec<u8>| T::decode(&plain).map_err(|error| Error::damaged("It makes no sense").because(error));
    plain.and_then(decode).map_err(|error| {
        let advice = if error.kind() == ErrorKind::Damaged { T::ADVICE } else { "" };
        error.of_stored(format!("Cannot read {object}{advice}"))
    })
}

impl Repository {
    /// Reads one object (see [`read`]).
    pub fn read_stored<T: Stored>(&self, id: ObjectId) -> Result<T> {
        read(&*self.store, &self.vault, id)
    }
}
