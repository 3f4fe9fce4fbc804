//! The master key and what is derived from it.
//!
//! Every purpose has its own key, derived with BLAKE3's key derivation mode (BLAKE3 paper, section
//! 6.2), so that a content chunk can never pass as a tree page, or one object kind as another.

use crate::format::header::Kind;
use crate::id::ChunkId;
use crate::random::fill_random;
use crate::trust::hidden::{Hidden, wipe_stack};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A 256-bit secret that is wiped when dropped and never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(pub [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// Draws a secret from the operating system.
    ///
    /// # Panics
    /// If the operating system has no randomness to give: nothing may be written then.
    pub fn random() -> Self {
        let mut secret = Secret([0; 32]);
        fill_random(&mut secret.0);
        secret
    }

    /// Derives the secret of one purpose.
    #[inline(never)]
    pub fn derive(&self, purpose: &str) -> Secret {
        Secret(blake3::derive_key(purpose, &self.0))
    }

    /// Derives a secret for one salt.
    #[inline(never)]
    pub fn for_salt(&self, salt: &[u8; 32]) -> Secret {
        Secret(*blake3::keyed_hash(&self.0, salt).as_bytes())
    }
}

/// What hashing 32 bytes takes of the stack, with room to spare.
const STACK_BYTES: usize = 8 << 10;

/// All keys of an unlocked repository, in memory that no core has.
pub struct Keys(Hidden<Derived>);

#[derive(Zeroize, ZeroizeOnDrop)]
struct Derived {
    chunk_id: Secret,
    page_id: Secret,
    cut: Secret,
    config: Secret,
    wrap: [Secret; 4],
}

impl Keys {
    /// Derives all keys from the master key.
    pub fn derive(master: &Secret) -> Self {
        let keys = Keys::hidden(master);
        wipe_stack::<{ 2 * STACK_BYTES }>();
        keys
    }

    #[inline(never)]
    fn hidden(master: &Secret) -> Self {
        Keys(Hidden::new(Derived {
            chunk_id: master.derive("bakfs 2026-11-20 id of a chunk of content"),
            page_id: master.derive("bakfs 2026-11-20 id of a page of a tree"),
            cut: master.derive("bakfs 2026-11-20 cut points of chunks"),
            config: master.derive("bakfs 2026-11-20 authenticity of the configuration"),
            wrap: [
                master.derive("bakfs 2026-11-20 key wrapping of packs"),
                master.derive("bakfs 2026-11-20 key wrapping of index segments"),
                master.derive("bakfs 2026-11-20 key wrapping of snapshots"),
                master.derive("bakfs 2026-11-20 key wrapping of marks"),
            ],
        }))
    }

    /// Returns the id of a chunk of content.
    pub fn chunk_id(&self, plaintext: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.0.chunk_id.0, plaintext).as_bytes())
    }

    /// Returns the id of a page of a tree.
    pub fn page_id(&self, plaintext: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.0.page_id.0, plaintext).as_bytes())
    }

    /// Returns the chunker's gear table: 256 words that only holders of the key know.
    pub fn gear_table(&self) -> Zeroizing<[u64; 256]> {
        let mut bytes = Zeroizing::new([0; 2048]);
        blake3::Hasher::new_keyed(&self.0.cut.0).finalize_xof().fill(&mut *bytes);
        let mut table = Zeroizing::new([0; 256]);
        for (word, bytes) in table.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        table
    }

    /// Returns the code that authenticates the configuration object.
    pub fn config_mac(&self, bytes: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.0.config.0, bytes)
    }

    /// Returns the key under which an object of this kind and salt wraps its own.
    pub fn wrapping(&self, kind: Kind, salt: &[u8; 32]) -> Secret {
        let of_kind = match kind {
            Kind::DataPack | Kind::TreePack => &self.0.wrap[0],
            Kind::Index => &self.0.wrap[1],
            Kind::Snapshot => &self.0.wrap[2],
            Kind::Mark => &self.0.wrap[3],
            Kind::Config | Kind::Key => unreachable!("the configuration and key slots wrap no key"),
        };
        let wrapping = of_kind.for_salt(salt);
        wipe_stack::<STACK_BYTES>();
        wrapping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivation_is_pinned() {
        let keys = Keys::derive(&Secret([7; 32]));
        let hello = keys.chunk_id(b"hello");
        assert_ne!(hello, keys.page_id(b"hello"));
        assert_eq!(hello.to_hex(), "ab9ce7b00a01a7306a14f38c6948c8b48d15af37a7d2c0790ed84b881b088a25");
        assert_eq!(format!("{:016x}", keys.gear_table()[255]), "dd7e0ffb9636dd77");
        assert_eq!(format!("{:?}", Secret([7; 32])), "Secret(..)");
    }
}
