//! Directories, their entries and the lists of a file's pieces, as stored.

use super::codec::Bytes;
use crate::id::ChunkId;
use serde::{Deserialize, Serialize};

/// The longest name of a directory entry (NAME_MAX, limits.h).
pub const NAME_MAX_BYTES: usize = 255;

/// Seconds and nanoseconds since 1970-01-01T00:00:00Z; nanoseconds are below 1 000 000 000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Time {
    /// Whole seconds, rounded towards the past.
    pub secs: i64,
    /// Nanoseconds of the second.
    pub nanos: u32,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The name: 1 to 255 bytes, no `/`, no NUL, neither `.` nor `..`.
    pub name: Bytes,
    /// What every type of file has.
    pub meta: Meta,
    /// What only this type of file has.
    pub node: Node,
}

impl Entry {
    /// Returns how many files it stands for, itself among them, and their bytes of content, as it says; where it says
    /// more than there are numbers for, the largest.
    pub fn totals(&self) -> (u64, u64) {
        match &self.node {
            Node::Directory(directory) => (directory.total_files.saturating_add(1), directory.total_bytes),
            Node::File(_) => (1, self.meta.size_bytes),
            _ => (1, 0),
        }
    }
}

/// Adds files and bytes of [`Entry::totals`]; a sum that has no number is the largest there is (three sparse files of
/// 8 EiB have more bytes than 64 bits count). Who writes a tree and who checks it add up alike, in any order.
pub fn add_totals(sum: &mut (u64, u64), more: (u64, u64)) {
    *sum = (sum.0.saturating_add(more.0), sum.1.saturating_add(more.1));
}

/// What stat(2) and listxattr(2) show of every type of file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Meta {
    /// Permission bits with setuid, setgid and sticky: `st_mode & 0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Creation, where the source's file system keeps it.
    pub btime: Option<Time>,
    /// The source's inode number.
    pub ino: u64,
    /// The source's device number where `nlink` joins names of one file (not a directory, `nlink` > 1), else 0.
    pub link_device: u64,
    /// Number of hard links at the source.
    pub nlink: u32,
    /// `st_size`: of a file its length, of a directory or special file what the source showed.
    pub size_bytes: u64,
    /// `st_blocks`: allocated units of 512 bytes at the source.
    pub blocks: u64,
    /// What was noticed while this file was backed up: [`marks`] joined by `|`.
    pub marks: u32,
    /// Extended attributes, POSIX ACLs and file capabilities among them, sorted by name.
    pub xattrs: Vec<Xattr>,
}

/// The bits of [`Meta::marks`].
pub mod marks {
    /// The file changed while it was read, each time it was tried: the content may mix states.
    pub const CHANGED_WHILE_READ: u32 = 1;
    /// The directory could not be listed: its entries are missing.
    pub const UNREADABLE: u32 = 2;
    /// The directory's contents were left out on purpose (another file system, or a cache).
    pub const LEFT_OUT: u32 = 4;
}

/// One extended attribute with the raw value the kernel gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xattr {
    /// The full name with its namespace, as `user.comment`.
    pub name: Bytes,
    /// The value, at most 64 KiB (XATTR_SIZE_MAX, limits.h).
    pub value: Bytes,
}

/// What only one type of file has. The order is stored: new types go to the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Node {
    /// A regular file; its extents add up to `Meta::size_bytes`.
    File(Content),
    /// A directory.
    Directory(Directory),
    /// A symbolic link and its target.
    Symlink(Bytes),
    /// A named pipe.
    Fifo,
    /// The name of a Unix domain socket.
    Socket,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// A directory's entries and what lies below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// The root page of its entries.
    pub page: ChunkId,
    /// Entries in this directory.
    pub entries: u64,
    /// Files of every type below it, at any depth, directories included.
    pub total_files: u64,
    /// Content bytes of the regular files below it, holes included.
    pub total_bytes: u64,
}

/// A regular file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// At most [`MAX_INLINE_EXTENTS`] extents, in order.
    Extents(Vec<Extent>),
    /// The root page of a longer list.
    List(ChunkId),
}

/// The most extents an entry holds itself; more are kept in pages of their own.
pub const MAX_INLINE_EXTENTS: usize = 8;

/// A run of a file's bytes: a chunk, or a hole where `chunk` is [`HOLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// The chunk that is exactly this run.
    pub chunk: ChunkId,
    /// Its length, never 0; of a chunk at most 4 MiB.
    pub len_bytes: u64,
}

/// The id that marks an extent as a hole.
pub const HOLE: ChunkId = ChunkId([0; 32]);

impl Extent {
    /// Returns whether this run is a hole.
    pub fn is_hole(&self) -> bool {
        self.chunk == HOLE
    }
}
