//! Inode numbers: hashes of what they stand for, so that they are equal for the same unchanged file in
//! two snapshots, and the same after the next mount.

use crate::format::codec;
use crate::format::tree::{Entry, Node};
use crate::id::ObjectId;
use bakfs_mount::tree::Ino;

/// Numbers below are for the fixed directories of the layout.
pub const FIRST_HASHED: Ino = 1 << 32;

/// Stands for the path of a directory within its snapshot, the same in all snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathHash([u8; 16]);

/// An inode number, and more bits of the hash it is made of, to notice when two things share the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The number.
    pub ino: Ino,
    /// 32 more bits.
    pub check: u32,
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

fn identity(hash: &[u8; 32]) -> Identity {
    let number = |at: usize| u64::from_le_bytes(*hash[at..].first_chunk().expect("32 bytes hold 8 at 16"));
    // Signed 64-bit readers of st_ino exist: the top bit stays clear.
    let ino = (number(0) & (u64::MAX >> 1)) | FIRST_HASHED;
    Identity { ino, check: number(8) as u32 }
}

impl PathHash {
    /// Stands for a snapshot's `/`.
    pub fn root() -> Self {
        PathHash([0; 16])
    }

    /// Stands for a name in this directory.
    pub fn join(&self, name: &[u8]) -> Self {
        PathHash(*hash(&[b"path", &self.0, name]).first_chunk().expect("32 bytes hold 16"))
    }
}

/// Returns the number of a snapshot's dated directory.
pub fn of_snapshot(id: &ObjectId) -> Ino {
    identity(&hash(&[b"snapshot", &id.0])).ino
}

/// Returns the number of a link or directory of the layout.
pub fn of_layout(path: &[u8], target: &[u8]) -> Ino {
    identity(&hash(&[b"layout", &(path.len() as u64).to_le_bytes(), path, target])).ino
}

/// Returns the identity of an entry: of a directory by its place in this snapshot, of a file with
/// several names by the file, of anything else by path, attributes and content.
pub fn of_entry(parent: Ino, path: &PathHash, entry: &Entry) -> Identity {
    let hash = match &entry.node {
        // Two directories never share a number: the kernel keeps one place for each (getcwd(2)).
        Node::Directory(_) => hash(&[b"directory", &parent.to_le_bytes(), &entry.name]),
        node if entry.meta.link_device != 0 => hash(&[b"linked", &codec::encode(&(&entry.meta, node))]),
        _ => hash(&[b"entry", &path.0, &codec::encode(entry)]),
    };
    identity(&hash)
}

/// Returns another number for what found its own taken.
pub fn next(identity: Identity, parent: Ino, name: &[u8]) -> Identity {
    let bytes = [identity.ino.to_le_bytes(), u64::from(identity.check).to_le_bytes()].concat();
    self::identity(&hash(&[b"next", &bytes, &parent.to_le_bytes(), name]))
}
