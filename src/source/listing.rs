//! What is in a directory: its entries and the state of each.

use super::stat::Stat;
use crate::error::Error;
use crate::format::codec::Bytes;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

/// A directory's entries, and the open directory to reach them by: of the disk, a file descriptor.
#[derive(Debug)]
pub struct Listing<D = OwnedFd> {
    /// The directory.
    pub dir: Arc<D>,
    /// What the directory itself is, taken from `dir` before it was listed.
    pub stat: Stat,
    /// Its entries in the order of their names' bytes.
    pub entries: Vec<Scanned>,
    /// Names of which nothing could be learnt; those that vanished meanwhile are [`crate::error::ErrorKind::NotFound`].
    pub errors: Vec<(Bytes, Error)>,
    /// Why names may be missing: the directory could not be listed to its end.
    pub incomplete: Option<Error>,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// The name: neither `.` nor `..`.
    pub name: Bytes,
    /// What it was when the directory was listed.
    pub stat: Stat,
}

/// A directory to be listed.
#[derive(Debug)]
pub enum DirRef<D> {
    /// By its path. Symbolic links on the way to it are followed, itself it must be none.
    Root(Box<Path>),
    /// In one that is open.
    Below {
        /// The one that is open.
        parent: Arc<D>,
        /// Its name there.
        name: Box<[u8]>,
        /// What it was when `parent` was listed.
        seen: Stat,
    },
}
