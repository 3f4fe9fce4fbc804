//! Key slots: each is one way to unlock the master key.

use super::keys::Secret;
use crate::format::codec::{self, DecodeError};
use crate::format::header::{HEADER_BYTES, Header, Kind, SlotKind, Suite, VERSION};
use crate::id::RepositoryId;
use crate::random::fill_random;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// How a slot's key comes from what the user gives. The order is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Derivation {
    /// Argon2id (RFC 9106) of a passphrase.
    Passphrase {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// A random 256-bit key: a key file, or a recovery key on paper.
    RandomKey,
}

/// RFC 9106 section 4 recommends 64 MiB and 3 passes where memory is scarce; this is four times that.
const PASSPHRASE: Derivation = Derivation::Passphrase { memory_kib: 256 << 10, passes: 3, lanes: 4 };
/// Beyond this a slot is an attack on the reader's memory or time: no program has written one.
const MAX_MEMORY_KIB: u32 = 1 << 20;
const MAX_PASSES: u32 = 10;
const MAX_LANES: u32 = 64;
/// What opening a slot as this program writes them takes: KiB times passes.
pub const USUAL_COST: u64 = (256 << 10) * 3;

impl Derivation {
    /// Returns how much work the key takes, in KiB of memory times passes.
    pub fn cost(&self) -> u64 {
        match self {
            Derivation::Passphrase { memory_kib, passes, .. } => u64::from(*memory_kib) * u64::from(*passes),
            Derivation::RandomKey => 0,
        }
    }

    /// Returns whether slots are written like this.
    pub fn is_usual(&self) -> bool {
        matches!(self, Derivation::RandomKey) || *self == PASSPHRASE
    }

    fn is_within_bounds(&self) -> bool {
        match self {
            Derivation::Passphrase { memory_kib, passes, lanes } => {
                *memory_kib <= MAX_MEMORY_KIB && *passes <= MAX_PASSES && *lanes <= MAX_LANES
            }
            Derivation::RandomKey => true,
        }
    }
}

/// What follows the header of a key slot object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Body {
    derivation: Derivation,
    /// Keyed hash that commits to the slot's key, so that no bytes open under two passphrases.
    commitment: [u8; 32],
    /// The master key under the slot's key.
    wrapped: [u8; 32],
    tag: [u8; 16],
}

/// What a user unlocks a repository with.
pub enum Credential {
    /// Words or letters a person chose.
    Passphrase(Zeroizing<String>),
    /// A key file's or recovery key's content.
    Key(Secret),
}

fn slot_key(credential: &Credential, derivation: &Derivation, salt: &[u8; 32]) -> Option<Secret> {
    match (credential, derivation) {
        (Credential::Passphrase(passphrase), Derivation::Passphrase { memory_kib, passes, lanes }) => {
            let params = argon2::Params::new(*memory_kib, *passes, *lanes, Some(32)).ok()?;
            let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
            let mut key = Secret([0; 32]);
            argon.hash_password_into(passphrase.as_bytes(), salt, &mut key.0).ok()?;
            Some(key)
        }
        (Credential::Key(secret), Derivation::RandomKey) => {
            Some(secret.derive("bakfs 2026-11-20 key slot of a random key").for_salt(salt))
        }
        _ => None,
    }
}

fn commitment(key: &Secret) -> [u8; 32] {
    key.derive("bakfs 2026-11-20 commitment to a slot's key").0
}

fn wrapping(key: &Secret) -> LessSafeKey {
    let key = key.derive("bakfs 2026-11-20 wrapping of the master key");
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &key.0).expect("the key has 32 bytes"))
}

fn associated(header: &Header, derivation: &Derivation) -> Vec<u8> {
    let mut bytes = header.fixed().to_vec();
    bytes.extend_from_slice(&codec::encode(derivation));
    bytes
}

/// Makes the bytes of a key slot that unlocks `master` with `credential`.
pub fn seal(repository: RepositoryId, master: &Secret, credential: &Credential) -> Vec<u8> {
    let derivation = match credential {
        Credential::Passphrase(_) => PASSPHRASE,
        Credential::Key(_) => Derivation::RandomKey,
    };
    let mut salt = [0; 32];
    fill_random(&mut salt);
    let header = Header {
        version: VERSION,
        kind: Kind::Key,
        suite: Suite::Aes256GcmSiv,
        slot_kind: SlotKind::None,
        repository,
        salt,
        slot: Vec::new(),
    };
    let key = slot_key(credential, &derivation, &salt).expect("the slot's own parameters are valid");
    let mut wrapped = master.0;
    let aad = Aad::from(associated(&header, &derivation));
    let tag = wrapping(&key)
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key([0; 12]), aad, &mut wrapped)
        .expect("32 bytes are below the cipher's length limit");
    let tag = tag.as_ref().try_into().expect("the tag has 16 bytes");
    let mut bytes = header.encode();
    bytes.extend_from_slice(&codec::encode(&Body { derivation, commitment: commitment(&key), wrapped, tag }));
    bytes
}

/// Checks that a slot can be read, without opening it. Returns the repository it is of.
pub fn check(bytes: &[u8]) -> Result<RepositoryId, DecodeError> {
    let repository = Header::decode(bytes)?.repository;
    Slot::parse(bytes, repository).map(|_| repository)
}

/// A key slot that can be read and asks for no more than any honest one does.
pub struct Slot {
    header: Header,
    body: Body,
}

impl Slot {
    /// Reads a slot of a repository.
    pub fn parse(bytes: &[u8], repository: RepositoryId) -> Result<Slot, DecodeError> {
        let header = Header::decode(bytes)?;
        let wrong = |reason: &str| DecodeError { what: "key slot", reason: reason.into() };
        if header.kind != Kind::Key || header.repository != repository {
            return Err(wrong("it belongs to another repository or is another kind of object"));
        }
        let body: Body = codec::decode("key slot", &bytes[HEADER_BYTES + header.slot.len()..])?;
        if !body.derivation.is_within_bounds() {
            return Err(wrong("it asks for more memory or time than any honest slot"));
        }
        Ok(Slot { header, body })
    }

    /// Returns how its key comes from what the user gives.
    pub fn derivation(&self) -> &Derivation {
        &self.body.derivation
    }

    /// Returns whether it is for what the user gives.
    pub fn is_for(&self, credential: &Credential) -> bool {
        matches!(
            (credential, &self.body.derivation),
            (Credential::Passphrase(_), Derivation::Passphrase { .. }) | (Credential::Key(_), Derivation::RandomKey)
        )
    }

    /// Opens it. `None`: it is not this credential's; nothing tells how near it was.
    pub fn open(&self, credential: &Credential) -> Option<Secret> {
        let (header, body) = (&self.header, &self.body);
        let key = slot_key(credential, &body.derivation, &header.salt)?;
        let committed = aws_lc_rs::constant_time::verify_slices_are_equal(&commitment(&key), &body.commitment);
        let mut sealed = Zeroizing::new([0; 48]);
        sealed[..32].copy_from_slice(&body.wrapped);
        sealed[32..].copy_from_slice(&body.tag);
        let aad = Aad::from(associated(header, &body.derivation));
        let opened = wrapping(&key).open_in_place(Nonce::assume_unique_for_key([0; 12]), aad, &mut *sealed);
        match (committed, opened) {
            (Ok(()), Ok(master)) => (&*master).try_into().ok().map(Secret),
            _ => None,
        }
    }
}

/// Tries one slot. `Ok(None)`: it is not this credential's.
pub fn open(bytes: &[u8], repository: RepositoryId, credential: &Credential) -> Result<Option<Secret>, DecodeError> {
    Ok(Slot::parse(bytes, repository)?.open(credential))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_opens_with_its_credential_only() {
        let master = Secret::random();
        let key = Secret::random();
        let slot = seal(RepositoryId([3; 16]), &master, &Credential::Key(key.clone()));
        let opened = open(&slot, RepositoryId([3; 16]), &Credential::Key(key.clone())).unwrap().unwrap();
        assert_eq!(opened.0, master.0);
        assert!(open(&slot, RepositoryId([3; 16]), &Credential::Key(Secret::random())).unwrap().is_none());
        assert!(open(&slot, RepositoryId([3; 16]), &Credential::Passphrase("x".to_string().into())).unwrap().is_none());
        assert!(open(&slot, RepositoryId([4; 16]), &Credential::Key(key.clone())).is_err());
        for byte in 0..slot.len() {
            let mut damaged = slot.clone();
            damaged[byte] ^= 1;
            assert!(
                !matches!(open(&damaged, RepositoryId([3; 16]), &Credential::Key(key.clone())), Ok(Some(_))),
                "byte {byte}"
            );
        }
    }

    #[test]
    fn a_passphrase_opens_its_slot() {
        let master = Secret::random();
        let slot = seal(RepositoryId([3; 16]), &master, &Credential::Passphrase("correct horse".to_string().into()));
        let open =
            |text: &str| open(&slot, RepositoryId([3; 16]), &Credential::Passphrase(text.to_string().into())).unwrap();
        assert_eq!(open("correct horse").unwrap().0, master.0);
        assert!(open("correct horsf").is_none());
    }
}
