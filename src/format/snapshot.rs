//! Snapshots: what was backed up, when, from where, and the root of its tree.

use super::codec::{self, Bytes, DecodeError};
use super::tree::{Directory, Meta, Time};
use serde::{Deserialize, Serialize};

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The name of its directory in the mount: its time in UTC, as `2026-11-20T03-17-05Z`, made unique by its writer.
    pub name: String,
    /// The time it stands for: when the backup began, or what the user said.
    pub time: Time,
    /// When the backup began by the writer's clock.
    pub started: Time,
    /// When its tree was complete.
    pub ended: Time,
    /// The host it is of.
    pub host: String,
    /// Tags, sorted.
    pub tags: Vec<String>,
    /// The paths that were asked for, absolute.
    pub sources: Vec<Bytes>,
    /// The snapshot unchanged files were taken over from.
    pub parent: Option<String>,
    /// Attributes of `/`.
    pub root_meta: Meta,
    /// The tree, from `/` on.
    pub root: Directory,
    /// Names of the owners at the source, sorted by number.
    pub users: Vec<(u32, Bytes)>,
    /// Names of the groups at the source, sorted by number.
    pub groups: Vec<(u32, Bytes)>,
    /// Whether anything in the tree has extended attributes.
    pub has_xattrs: bool,
    /// What was counted.
    pub summary: Summary,
    /// What could not be read, at most [`MAX_TROUBLES`] of it.
    pub troubles: Vec<Trouble>,
    /// The program that wrote it.
    pub program: String,
}

/// The tag of a snapshot that lacks a dump or a whole source: no rule counts it among the good ones.
pub const INCOMPLETE_TAG: &str = "incomplete";

/// The tags that say which kind of run of a profile made a snapshot, beside the profile's name (docs/format.md,
/// section 9).
pub const RUN_TAGS: [&str; 7] = ["hourly", "daily", "weekly", "monthly", "bimonthly", "shutdown", "manual"];

/// The most troubles a snapshot lists; [`Summary::errors`] counts all.
pub const MAX_TROUBLES: usize = 1000;

/// One thing that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// The path.
    pub path: Bytes,
    /// What happened.
    pub message: String,
}

/// What a backup counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Files of every type in the snapshot, directories included.
    pub files: u64,
    /// Their content, holes included.
    pub content_bytes: u64,
    /// Files that were not in the parent.
    pub files_new: u64,
    /// Files that differ from the parent's.
    pub files_changed: u64,
    /// Files taken over from the parent without reading them.
    pub files_unmodified: u64,
    /// Content that was read.
    pub read_bytes: u64,
    /// Chunks and tree pages that were not in the repository, before compression.
    pub added_bytes: u64,
    /// The same, as stored.
    pub packed_bytes: u64,
    /// What could not be read.
    pub errors: u64,
}

impl Summary {
    /// Returns how many files there are that are no directories.
    pub fn without_directories(&self) -> u64 {
        self.files_new.saturating_add(self.files_changed).saturating_add(self.files_unmodified)
    }

    /// Returns how many directories there are, without the root.
    pub fn directories(&self) -> u64 {
        self.files.saturating_sub(self.without_directories())
    }
}

/// The longest encoded snapshot.
pub const MAX_SNAPSHOT_BYTES: usize = 16 << 20;

fn name_of(table: &[(u32, Bytes)], number: u32) -> Option<&[u8]> {
    table.binary_search_by_key(&number, |(number, _)| *number).ok().map(|at| &table[at].1[..])
}

impl Snapshot {
    /// Returns the name an owner's number had at the source.
    pub fn user_name(&self, uid: u32) -> Option<&[u8]> {
        name_of(&self.users, uid)
    }

    /// Returns the name a group's number had at the source.
    pub fn group_name(&self, gid: u32) -> Option<&[u8]> {
        name_of(&self.groups, gid)
    }

    /// Returns whether it has a tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|known| known == tag)
    }

    /// Returns whether a run of a profile made it.
    pub fn is_of_a_run(&self) -> bool {
        RUN_TAGS.iter().any(|tag| self.has_tag(tag))
    }

    /// Returns the tags that have no meaning of their own: of a run's snapshot the profile's name is among them.
    pub fn plain_tags(&self) -> impl Iterator<Item = &str> {
        let is_plain = |tag: &&str| *tag != INCOMPLETE_TAG && !RUN_TAGS.contains(tag);
        self.tags.iter().map(String::as_str).filter(is_plain)
    }

    /// Encodes the snapshot.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Decodes a snapshot and checks that its name is safe as a directory's name.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let snapshot: Snapshot = codec::decode("snapshot", bytes)?;
        let safe = |name: &str| {
            !name.is_empty()
                && name.len() <= 64
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
                && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        };
        if !safe(&snapshot.name) {
            return Err(DecodeError { what: "snapshot", reason: "its name is not a safe directory name".into() });
        }
        Ok(snapshot)
    }
}
