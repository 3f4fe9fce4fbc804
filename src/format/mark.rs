//! Marks: small objects by which programs that share a repository tell one another what they do.
//!
//! A mark says that somebody is writing, that snapshots are forgotten or pinned, or how far a prune has
//! come. docs/prune.md has the protocol they serve.

use super::codec::{self, Bytes, DecodeError};
use super::feature::{Feature, LAST_COMMON_MARK};
use super::tree::Time;
pub use crate::id::MarkId;
use crate::id::ObjectId;
use serde::{Deserialize, Serialize};

/// The longest encoded mark: a prune that condemns a million packs.
pub const MAX_MARK_BYTES: usize = 48 << 20;

/// One mark. The order is stored: new kinds go to the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    /// Somebody is writing.
    Session(SessionMark),
    /// A session is about to store a snapshot: its bytes are sealed, so its name is known.
    Intent {
        /// The session.
        session: MarkId,
        /// The snapshot's object.
        snapshot: ObjectId,
    },
    /// A session was taken for dead: it must neither commit nor delete any more.
    Fence {
        /// The session.
        session: MarkId,
    },
    /// Snapshots that are hidden until this mark is removed.
    Forget(Forget),
    /// A snapshot that is never forgotten.
    Pin {
        /// The snapshot's object.
        snapshot: ObjectId,
        /// When it was pinned.
        time: Time,
        /// Why.
        reason: String,
    },
    /// The first phase of a prune: what may be deleted. Nobody may begin to rely on it any more.
    Condemn(Condemn),
    /// The backup sessions there were after a [`Condemn`] was stored: it waits for all of them.
    Census {
        /// Whose census.
        condemn: MarkId,
        /// The sessions.
        sessions: Vec<MarkId>,
    },
    /// The second phase of a prune, final: what is deleted of what was condemned.
    Verdict(Verdict),
    /// Names that were given up because nobody knows whether they will appear: marks and snapshots that never count.
    Recall {
        /// The objects.
        objects: Vec<ObjectId>,
    },
    /// A copy of what snapshots say, so that many are read at once: advice, which may be missing or outdated.
    Bundle(Bundle),
    /// Copies of what small index objects say: advice too.
    IndexBundle(IndexBundle),
    /// What the repository has that not every bakfs knows. It counts whatever recalls and verdicts say of it.
    Feature(Feature),
}

/// A mark of this bakfs's kinds or of a newer one's.
#[derive(Debug, Clone)]
pub enum AnyMark {
    /// What it says.
    Known(Mark),
    /// The number of its kind, of which nothing else is known.
    Unknown(u32),
}

/// What a session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionKind {
    /// It adds snapshots.
    Backup,
    /// It removes what no snapshot needs, or rewrites the index.
    Prune,
}

/// Somebody who is writing, told so that another process of the same machine can see whether it lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionMark {
    /// Its id.
    pub id: MarkId,
    /// What it does.
    pub kind: SessionKind,
    /// The machine's name, for people.
    pub host: String,
    /// What numbers of processes mean: the boot's id and the namespace of processes.
    pub process_space: String,
    /// The process.
    pub pid: u32,
    /// When the process began, in the kernel's ticks since boot (proc_pid_stat(5)): numbers come again.
    pub process_started: u64,
    /// When the session began, by its own clock.
    pub started: Time,
}

/// Snapshots that were forgotten at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forget {
    /// The objects of the snapshots.
    pub snapshots: Vec<ObjectId>,
    /// When, by the clock of who did it.
    pub time: Time,
    /// Where.
    pub host: String,
}

/// What a prune would delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condemn {
    /// Its id.
    pub id: MarkId,
    /// The prune.
    pub session: MarkId,
    /// Packs.
    pub packs: Vec<ObjectId>,
    /// Forgotten snapshots.
    pub snapshots: Vec<ObjectId>,
}

/// What a prune deletes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What it is about.
    pub condemn: MarkId,
    /// Packs to delete: some or all of those condemned.
    pub packs: Vec<ObjectId>,
    /// Forgotten snapshots to delete; counts as long as what was condemned is listed.
    pub removed: Vec<ObjectId>,
    /// Objects that sessions announced and had not stored when they were fenced, and those that were recalled: should
    /// they appear, they are neither snapshots nor marks. Grows from verdict to verdict.
    pub revoked: Vec<ObjectId>,
    /// The snapshots there are: a later listing without one of them is not whole.
    pub kept: Vec<ObjectId>,
}

/// What snapshots say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// The snapshots, sorted by their objects.
    pub snapshots: Vec<Bundled>,
}

/// What index objects say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexBundle {
    /// The index objects, sorted.
    pub objects: Vec<Bundled>,
}

/// An object in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundled {
    /// The object.
    pub id: ObjectId,
    /// Its plaintext (docs/format.md, sections 7 and 9); of a snapshot with an empty list of troubles.
    pub plain: Bytes,
}

impl Mark {
    /// Encodes the mark.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Decodes a mark.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode("mark", bytes)
    }
}

impl AnyMark {
    /// Decodes a mark, of whatever kind.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes.first_chunk().map(|kind| u32::from_le_bytes(*kind)) {
            Some(kind) if kind > LAST_COMMON_MARK => Ok(AnyMark::Unknown(kind)),
            _ => Mark::decode(bytes).map(AnyMark::Known),
        }
    }
}
