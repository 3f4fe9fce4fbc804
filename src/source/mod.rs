//! What is backed up: a tree of directories and files, which a [`Source`] shows. The disk is one of them ([`disk`]),
//! read safely while it changes.
//!
//! Knows nothing of repositories. Everything is relative to open directories, so paths of any length
//! work and no symbolic link is ever followed below a root. Errors are predicates ("could not be
//! opened") without a path: whoever asked knows it, and names it beside the message.

pub mod disk;
pub mod empty;
pub mod exclude;
pub mod filesystem;
pub mod generated;
mod ioctls;
pub mod listing;
pub mod owners;
pub mod read;
pub mod servers;
pub mod stat;
pub mod walk;
pub mod xattr;

use crate::accounts;
use crate::error::Result;
use crate::format::codec::Bytes;
use filesystem::FileSystem;
use listing::{DirRef, Listing};
use read::Segment;
use stat::Stat;
use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xattr::Xattrs;

/// A tree that can be backed up. Many threads ask it at once, and nothing it shows need stay as it was: what took the
/// place of something else is an error of the kind [`crate::error::ErrorKind::Replaced`], and never shown for it.
/// Device and inode number say which names are one file, where it has several ([`Stat`]).
pub trait Source: fmt::Debug + Send + Sync + 'static {
    /// A directory that is open: what is in it is reached through it, even when it has another name by now.
    type Dir: fmt::Debug + Send + Sync;
    /// A directory's names; a [`Listing`] where what the entries are is known with them.
    type Names: Names<Dir = Self::Dir>;
    /// A regular file that is open.
    type File: SourceFile;

    /// Returns where an absolute path leads that was asked to be backed up; fails where it cannot be.
    fn find(&self, path: &Path) -> Result<FoundPath>;

    /// Returns where the path of a pattern leads; itself where there are no links.
    fn real(&self, path: &Path) -> PathBuf {
        path.to_path_buf()
    }

    /// Opens and lists a directory.
    fn list(&self, at: &DirRef<Self::Dir>) -> Result<Self::Names>;

    /// Returns what an entry is now, after another one has taken its name.
    fn look_again(&self, dir: &Self::Dir, name: &[u8]) -> Result<Stat>;

    /// Opens a regular file, which must still be the one that was seen as `expected`.
    fn open(&self, dir: &Self::Dir, name: &[u8], expected: &Stat) -> Result<Self::File>;

    /// Returns the target of a symbolic link.
    fn read_link(&self, dir: &Self::Dir, name: &[u8]) -> Result<Bytes>;

    /// Returns the extended attributes of an entry that is not opened.
    fn xattrs_of(&self, _dir: &Self::Dir, _name: &[u8]) -> Xattrs {
        Xattrs::default()
    }

    /// Returns a directory's own extended attributes.
    fn xattrs_of_dir(&self, _dir: &Self::Dir) -> Xattrs {
        Xattrs::default()
    }

    /// Returns what keeps an open directory that is in the state `stat`: by its clock it is decided what of an earlier
    /// snapshot may be taken over unread.
    fn file_system(&self, dir: &Self::Dir, stat: &Stat) -> Arc<FileSystem>;

    /// Returns whether what is in a directory is only shown there, and kept nowhere or elsewhere.
    fn is_shown(&self, dir: &Self::Dir, stat: &Stat) -> bool {
        self.file_system(dir, stat).is_shown
    }

    /// Returns the absolute paths where other file systems begin now.
    fn mounts(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    /// Returns the absolute paths where other file systems should begin.
    fn mount_points(&self) -> HashSet<PathBuf> {
        HashSet::new()
    }

    /// Returns the name of an owner, by default as this machine knows it; `None` where it has none, or it cannot be told.
    fn user_name(&self, uid: u32) -> Option<Vec<u8>> {
        accounts::user_name(uid).ok().flatten()
    }

    /// Returns the same of a group.
    fn group_name(&self, gid: u32) -> Option<Vec<u8>> {
        accounts::group_name(gid).ok().flatten()
    }
}

/// A directory that has been listed, before its entries are looked at: so many are waited with where there is no room.
pub trait Names {
    /// The directory.
    type Dir;

    /// Returns how many there are.
    fn count(&self) -> usize;

    /// Looks at every entry.
    fn look(self) -> Listing<Self::Dir>;
}

impl<D> Names for Listing<D> {
    type Dir = D;

    fn count(&self) -> usize {
        self.entries.len()
    }

    fn look(self) -> Listing<D> {
        self
    }
}

/// A regular file that is read.
pub trait SourceFile {
    /// Returns what the file was when it was opened.
    fn opened_as(&self) -> &Stat;

    /// Returns what the file is now: where that is no longer [`SourceFile::opened_as`], what was read may mix states.
    fn stat(&self) -> Result<Stat>;

    /// Returns the file's extended attributes.
    fn xattrs(&self) -> Xattrs;

    /// Returns the file's runs of data and holes in order, up to the length it had when it was opened.
    fn segments(&self) -> impl Iterator<Item = Result<Segment>>;

    /// Reads at `offset` until `buffer` is full or the file ends; returns how many bytes were read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize>;
}

/// Where a path leads that was asked to be backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPath {
    /// The links on the way, each by where it is: they are backed up too, so that the path leads to the same files in
    /// the snapshot.
    pub links: Vec<PathBuf>,
    /// The same place without links, `.` and `..` on the way; it may be a link itself.
    pub path: PathBuf,
    /// Then, where that leads.
    pub target: Option<PathBuf>,
}
