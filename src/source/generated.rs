//! Files that no disk holds: they are made while they are backed up, as dumps of databases are.

use crate::error::Result;
use std::io::Read;
use tempfile::TempDir;

/// Makes a stream. Its last read fails where what it read from was not whole: a dump that breaks off is no dump.
pub type Start = Box<dyn FnOnce() -> Result<Box<dyn Read + Send>> + Send>;
/// Makes a folder of regular files, which is removed when all of them have been read.
pub type Fill = Box<dyn FnOnce() -> Result<TempDir> + Send>;

/// A file or folder that is made.
pub struct Generated {
    /// Its path: names from the root on, at least two of them.
    pub path: Vec<Vec<u8>>,
    /// The owner and group it gets, and the folders that only it and its like are in.
    pub owner: (u32, u32),
    /// Whether it only tells of another one, as a manifest does.
    pub is_note: bool,
    /// How it is made.
    pub content: Content,
}

/// How something is made.
pub enum Content {
    /// A file, read as it is made. It is begun when its turn has come and nothing else is read meanwhile.
    Stream(Start),
    /// A folder of files.
    Folder(Fill),
}
