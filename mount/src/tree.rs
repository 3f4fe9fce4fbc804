//! The seam between a read-only tree and the driver.
//!
//! The driver asks a [`Tree`] by inode number; the tree owns the numbers. Every call says whether it
//! may wait: a call with [`Wait::Never`] must not touch a disk or a network, and answers
//! [`Fault::WouldWait`] when it would have to, so that the driver can hand the request to a thread
//! that may be lost without the mount being lost.

use std::time::Duration;

/// An inode number, as `st_ino` shows it and as the kernel names it in requests. The root is 1.
pub type Ino = u64;

/// The root directory's inode number (fixed by the FUSE protocol).
pub const ROOT_INO: Ino = 1;

/// Whether a call may block on a disk or a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Must answer from memory (CPU work is fine) or with [`Fault::WouldWait`].
    Never,
    /// May block for as long as it takes; the driver keeps the deadline.
    Allowed,
}

/// Why a tree could not answer.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The answer is not in memory and the caller may not wait. Never seen by the kernel.
    #[error("The answer is not in memory")]
    WouldWait,
    /// No such inode or directory entry (ENOENT).
    #[error("No such file or directory")]
    NotFound,
    /// A directory operation on something else (ENOTDIR).
    #[error("Not a directory")]
    NotDirectory,
    /// A file operation on a directory (EISDIR).
    #[error("Is a directory")]
    IsDirectory,
    /// The operation does not fit the inode's type (EINVAL).
    #[error("Invalid operation for this type of file")]
    Invalid,
    /// No such extended attribute (ENODATA).
    #[error("No such extended attribute")]
    NoAttribute,
    /// A seek past the last data or the end of the file (ENXIO).
    #[error("No data at or after the offset")]
    NoData,
    /// What is stored could not be read or did not verify (EIO); the text is for the log.
    #[error("{0}")]
    Damaged(String),
}

impl Fault {
    /// Says whether this is an answer, and so the same for a call that may wait. Any other failure may come of what is
    /// in memory alone: a call that may wait reads again before the kernel is told of an error.
    pub(crate) fn is_answer(&self) -> bool {
        match self {
            Fault::NotFound
            | Fault::NotDirectory
            | Fault::IsDirectory
            | Fault::Invalid
            | Fault::NoAttribute
            | Fault::NoData => true,
            Fault::WouldWait | Fault::Damaged(_) => false,
        }
    }
}

/// A request that was answered with EIO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the kernel asked for, in the words of the FUSE protocol.
    pub operation: &'static str,
    /// The inode that it asked for.
    pub ino: Ino,
    /// What went wrong.
    pub why: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "A request was answered with EIO ({} of inode {}): {}", self.operation, self.ino, self.why)
    }
}

/// A file's type, as in the upper bits of `st_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix domain socket's name.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// Seconds and nanoseconds since 1970-01-01T00:00:00Z; seconds may be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    /// Whole seconds, rounded towards the past.
    pub secs: i64,
    /// 0 to 999 999 999.
    pub nanos: u32,
}

/// Everything `stat` shows of one inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// The inode number.
    pub ino: Ino,
    /// The file's type.
    pub kind: Kind,
    /// Permission bits, `st_mode & 0o7777`.
    pub perm: u16,
    /// Number of hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node, in the kernel's 32-bit encoding (`new_encode_dev`).
    pub rdev: u32,
    /// Length in bytes.
    pub size_bytes: u64,
    /// Allocated 512-byte units (stat(2), `st_blocks`).
    pub blocks: u64,
    /// Last access.
    pub atime: Time,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
}

/// One entry of a listing.
#[derive(Debug)]
pub struct ListedEntry<'a> {
    /// The name, never `.` or `..`.
    pub name: &'a [u8],
    /// The entry's attributes.
    pub attr: Attr,
    /// Where a listing goes on after this entry; greater than 2, growing along the listing.
    pub next_cookie: u64,
}

/// What a seek looks for (lseek(2), SEEK_DATA and SEEK_HOLE).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeekTo {
    /// The next byte of data.
    Data,
    /// The next byte of a hole; the end of the file counts as one.
    Hole,
}

/// One small file whose pages can be pushed into the kernel's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// The file.
    pub ino: Ino,
    /// Its whole length in bytes.
    pub size_bytes: u64,
}

/// What statfs(2) shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes there are, free ones among them.
    pub total_bytes: u64,
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Bytes of these that an ordinary user may fill.
    pub available_bytes: u64,
    /// Inodes there are, free ones among them.
    pub files: u64,
    /// Inodes that are free.
    pub free_files: u64,
}

/// A read-only tree the driver can serve. Methods run concurrently.
///
/// But for the directories that [`Tree::changes`] names everything is immutable: one inode number
/// always has the same attributes, the same content and (a directory) the same entries, for as long as
/// the mount lives.
pub trait Tree: Send + Sync + 'static {
    /// Finds a directory entry. Success counts as one reference the kernel holds on the inode.
    fn lookup(&self, dir: Ino, name: &[u8], wait: Wait) -> Result<Attr, Fault>;

    /// Returns an inode's attributes.
    fn attr(&self, ino: Ino, wait: Wait) -> Result<Attr, Fault>;

    /// Calls `each` for the entries after `cookie` (0 = from the start) until it returns false.
    ///
    /// `each` returning true means that the entry was taken. With `counted`, every entry that was
    /// taken counts as one reference the kernel holds on the inode (READDIRPLUS); the reference must
    /// exist before `list` returns. An error after some entries were taken must not lose them: it is
    /// returned by the call that starts at the failing entry.
    fn list(
        &self,
        dir: Ino,
        cookie: u64,
        counted: bool,
        wait: Wait,
        each: &mut dyn FnMut(ListedEntry<'_>) -> bool,
    ) -> Result<(), Fault>;

    /// Returns a directory's parent (the root's is the root), for `..`.
    fn parent(&self, dir: Ino, wait: Wait) -> Result<Ino, Fault>;

    /// Returns a symbolic link's target.
    fn read_link(&self, ino: Ino, wait: Wait) -> Result<Vec<u8>, Fault>;

    /// Appends up to `len` bytes at `offset` to `out`: fewer only at the end of the file.
    ///
    /// On an error the content of `out` is undefined and must not be used.
    fn read(&self, ino: Ino, offset: u64, len: u32, wait: Wait, out: &mut Vec<u8>) -> Result<(), Fault>;

    /// Returns the offset of the next data or hole at or after `offset`.
    fn seek(&self, ino: Ino, offset: u64, to: SeekTo, wait: Wait) -> Result<u64, Fault>;

    /// Returns one extended attribute's value.
    fn xattr(&self, ino: Ino, name: &[u8], wait: Wait) -> Result<Vec<u8>, Fault>;

    /// Returns the names of an inode's extended attributes.
    fn xattr_names(&self, ino: Ino, wait: Wait) -> Result<Vec<Vec<u8>>, Fault>;

    /// Drops `count` references the kernel held on an inode.
    fn forget(&self, ino: Ino, count: u64);

    /// Returns the directory a regular file was last reached through; `None` where none is known.
    fn dir_of(&self, ino: Ino) -> Option<Ino>;

    /// Returns a directory's regular files of 1 to `max_bytes` bytes that the kernel holds a reference
    /// on, in directory order, at most `limit` of them from position `from` on (a position counts all
    /// entries); and the position to go on from, `None` at the end.
    fn small_files(
        &self,
        dir: Ino,
        from: u64,
        limit: usize,
        max_bytes: u64,
    ) -> Result<(Vec<Neighbour>, Option<u64>), Fault>;

    /// Asks for the content of files that will be read soon, and does not wait for it. Only a hint.
    fn want(&self, _files: &[Neighbour]) {}

    /// Says whether a directory's entries may change while the mount lives: the root and the virtual
    /// directories that list snapshots. The kernel keeps their entries for a second only, and does not
    /// keep that a name is missing. Must answer from memory.
    fn changes(&self, dir: Ino) -> bool {
        dir == ROOT_INO
    }

    /// Returns what statfs(2) shows. Must answer from memory: no deadline watches over it.
    fn usage(&self) -> Usage;

    /// Takes note of a request that was answered with EIO, by default into the log. Must not wait.
    fn note_failure(&self, failure: &Failure) {
        tracing::error!("{failure}");
    }

    /// Says whether anything the mount shows has extended attributes.
    fn has_xattrs(&self) -> bool;

    /// Says whether [`Tree::xattr`] answers for names that no list shows. getxattr(2) is then answered even where
    /// nothing has extended attributes.
    fn has_hidden_xattrs(&self) -> bool {
        false
    }
}

/// How long the kernel may keep what it was told: for ever, as far as the protocol can say.
pub const ENDLESS: Duration = Duration::from_secs(u32::MAX as u64);
