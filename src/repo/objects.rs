//! Objects that hold one plaintext, and their ids: snapshots and marks are sealed whole, index segments in pieces
//! ([`crate::repo::index::pieces`]).
//!
//! ```text
//! single-frame object = header, codec (1), 0 0 0, plaintext length (4), encoded plaintext, seal (16)
//! ```

use crate::crypto::seal::{FramePlace, Role};
use crate::crypto::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::encode_whole;
use crate::format::header::{Header, Kind, PIECES_VERSION};
use crate::format::pack::u32_at;
use crate::id::ObjectId;
use crate::repo::index::pieces::{open_pieces, seal_pieces};

const HEAD_BYTES: usize = 8;

/// Returns the id of an object: SHA-256 of its bytes, which anyone can check without a key.
pub fn object_id(bytes: &[u8]) -> ObjectId {
    ObjectId::of(bytes)
}

/// Seals an object of a kind as this bakfs writes it.
pub fn seal_object(vault: &Vault, kind: Kind, plain: &[u8]) -> Vec<u8> {
    match kind {
        Kind::Index => seal_pieces(vault, plain),
        _ => seal_whole(vault, kind, plain),
    }
}

/// Seals a single-frame object. Index segments were such objects once, and are read for ever.
pub fn seal_whole(vault: &Vault, kind: Kind, plain: &[u8]) -> Vec<u8> {
    let plain_bytes = u32::try_from(plain.len()).expect("single-frame objects are far below 4 GiB");
    let (codec, encoded) = encode_whole(plain, 3);
    let mut sealer = vault.sealer(kind);
    let mut bytes = sealer.header().encode();
    bytes.extend_from_slice(&[codec, 0, 0, 0]);
    bytes.extend_from_slice(&plain_bytes.to_le_bytes());
    let from = bytes.len();
    bytes.extend_from_slice(&encoded);
    sealer.seal(Role::Frame, codec, plain_bytes, &mut bytes, from);
    bytes
}

/// Opens an object of at most `max_bytes` of plaintext.
///
/// Fails with [`ErrorKind::Foreign`] where no program with the key has written it as it is, and with
/// [`ErrorKind::Damaged`] where it verifies and cannot be used.
pub fn open_object(vault: &Vault, kind: Kind, mut bytes: Vec<u8>, max_bytes: usize) -> Result<Vec<u8>> {
    let foreign = |text: &str| Error::new(ErrorKind::Foreign, text);
    let header = Header::decode(&bytes).map_err(|error| foreign("It cannot be read").because(error))?;
    if !vault.is_of(&header, kind) {
        return Err(foreign("It is an object of another kind or repository"));
    }
    let broken = |error| foreign("It does not verify").because(error);
    if header.version == PIECES_VERSION {
        let opener = vault.opener(&header).map_err(broken)?;
        return open_pieces(&opener, header.len_bytes(), bytes, max_bytes);
    }
    let start = header.len_bytes() + HEAD_BYTES;
    if bytes.len() < start {
        return Err(foreign("It is cut off"));
    }
    let head = &bytes[start - HEAD_BYTES..start];
    let (codec, plain_bytes) = (head[0], u32_at(head, 4));
    if head[1..4] != [0; 3] {
        return Err(foreign("It does not verify"));
    }
    let place = FramePlace { role: Role::Frame, number: 0, codec, plain_bytes };
    let opener = vault.opener(&header).map_err(broken)?;
    let encoded = opener.open(place, &mut bytes[start..]).map_err(broken)?;
    if plain_bytes as usize > max_bytes {
        return Err(Error::damaged("Its length is out of range"));
    }
    decode_bounded(codec, encoded, plain_bytes as usize)
}

/// Opens an object that is stored under a name. Where its bytes are not those of the name it is damaged, and no more is
/// known of it.
pub fn open_named(vault: &Vault, kind: Kind, (id, bytes): (ObjectId, Vec<u8>), max_bytes: usize) -> Result<Vec<u8>> {
    if object_id(&bytes) != id {
        return Err(Error::damaged("Its bytes are not those its name stands for (SHA-256)"));
    }
    open_object(vault, kind, bytes, max_bytes)
}

/// Decodes a whole object's plaintext, which may be longer than a frame of a pack.
pub fn decode_bounded(codec: u8, encoded: &[u8], plain_bytes: usize) -> Result<Vec<u8>> {
    let plain = match codec {
        crate::format::frame::RAW => encoded.to_vec(),
        crate::format::frame::ZSTD => zstd::bulk::decompress(encoded, plain_bytes)
            .map_err(|error| Error::damaged("It cannot be decompressed").because(error))?,
        other => return Err(Error::damaged(format!("Its codec {other} is unknown"))),
    };
    if plain.len() != plain_bytes {
        return Err(Error::damaged("Its length is not what it says"));
    }
    Ok(plain)
}
