//! The header and the directory of a stored pack.

use crate::crypto::seal::{FramePlace, Opener, Role};
use crate::crypto::vault::Vault;
use crate::error::{Error, Result};
use crate::format::header::{HEADER_BYTES, Header, Kind, MAX_SLOT_BYTES};
use crate::format::index::PackEntry;
use crate::format::pack::{Directory, MAX_PACK_BYTES, TRAILER_BYTES, Trailer};
use crate::id::ObjectId;
use crate::quantity::counted;
use crate::store::fresh::with_fresh_copy;
use crate::store::{Object, Store, Wait};

/// Read at once from the end of a pack: directories of up to 2 900 chunks, 20 times those of large files.
const TAIL_BYTES: u64 = 128 << 10;

/// Reads the header of a pack and unwraps its key. A copy that does not verify is fetched anew, once.
pub fn read_opener(store: &dyn Store, vault: &Vault, pack: &PackEntry, wait: Wait) -> Result<Opener> {
    let object = Object::Pack(pack.id);
    store.expect_len(object, pack.len_bytes);
    with_fresh_copy(store, object, 0..1, || {
        let mut bytes = vec![0; (HEADER_BYTES + MAX_SLOT_BYTES).min(pack.len_bytes as usize)];
        store.read_at(object, 0, &mut bytes, wait)?;
        opener_of(&bytes, vault, pack)
    })
}

/// Unwraps the key of a pack that begins with `bytes`.
fn opener_of(bytes: &[u8], vault: &Vault, pack: &PackEntry) -> Result<Opener> {
    let object = Object::Pack(pack.id);
    let damaged = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::damaged(format!("The header of {object} does not verify: run `bakfs check`")).because(error)
    };
    let header = Header::decode(bytes).map_err(|error| damaged(error.into()))?;
    if !vault.is_of(&header, pack.kind) {
        return Err(damaged("it belongs to another kind of object or repository".into()));
    }
    vault.opener(&header).map_err(|error| damaged(error.into()))
}

/// Reads a pack's directory from the pack itself: two reads, or three where it is longer than `TAIL_BYTES`. A copy
/// that does not verify is fetched anew, once.
pub fn read_directory(
    store: &dyn Store,
    vault: &Vault,
    id: ObjectId,
    len_bytes: u64,
) -> Result<(PackEntry, Directory)> {
    store.expect_len(Object::Pack(id), len_bytes);
    with_fresh_copy(store, Object::Pack(id), 0..len_bytes, || read_directory_once(store, vault, id, len_bytes))
}

fn read_directory_once(
    store: &dyn Store,
    vault: &Vault,
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
    let opener = opener_of(&head, vault, &entry)?;
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
    let place = FramePlace {
        role: Role::Directory,
        number: trailer.number,
        codec: trailer.codec,
        plain_bytes: trailer.plain_bytes,
    };
    let encoded = opener.open(place, &mut sealed).map_err(|error| damaged(error.to_string()))?;
    let plain = crate::repo::objects::decode_bounded(trailer.codec, encoded, trailer.plain_bytes as usize)?;
    let directory = Directory::decode(&plain, len_bytes).map_err(|error| damaged(error.to_string()))?;
    Ok((entry, directory))
}
