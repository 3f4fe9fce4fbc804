//! Files that no disk holds: they are made while they are backed up, as dumps of databases are.

use crate::error::Result;
use parking_lot::Mutex;
use std::ffi::OsStr;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

/// Makes a stream. Its last read fails where what it read from was not whole: a dump that breaks off is no dump.
pub type Start = Box<dyn FnOnce() -> Result<Box<dyn Read + Send>> + Send>;
/// Makes a folder of regular files, which is removed when all of them have been read.
pub type Fill = Box<dyn FnOnce() -> Result<TempDir> + Send>;
/// What something that was made lacks, each told by what would help; known when it has been made.
pub type Lacks = Arc<Mutex<Vec<String>>>;

/// A file or folder that is made.
pub struct Generated {
    /// Its path: names from the root on, at least two of them where the root has others.
    pub path: Vec<Vec<u8>>,
    /// The owner and group it gets, and the folders that only it and its like are in.
    pub owner: (u32, u32),
    /// Whether it only tells of another one, as a manifest does.
    pub is_note: bool,
    /// What it lacks although it was made.
    pub lacks: Lacks,
    /// How it is made.
    pub content: Content,
}

impl Generated {
    /// Returns whether it is standard input, all that is backed up.
    pub fn is_input(&self) -> bool {
        matches!(self.content, Content::Input(_))
    }
}

/// How something is made.
pub enum Content {
    /// A file, read as it is made. It is begun when its turn has come and nothing else is read meanwhile.
    Stream(Start),
    /// A file that somebody else writes into standard input: all that is backed up.
    Input(Start),
    /// A folder of files.
    Folder(Fill),
}

/// Files on a disk that dumps stand for: left out where all of these dumps were made and lack nothing, for a copy taken
/// while programs write is no database, and would only be mistaken for one.
#[derive(Debug, Clone, Default)]
pub struct Replaced {
    /// Whether everything in them is to be dumped.
    pub is_whole: bool,
    /// The paths of the dumps.
    pub by: Vec<Vec<Vec<u8>>>,
    /// Files.
    pub files: Vec<PathBuf>,
    /// Folders of servers' files.
    pub folders: Vec<ServerFolder>,
}

/// A folder of a server's files.
#[derive(Debug, Clone)]
pub struct ServerFolder {
    /// Its device and inode: it is left out under whatever name it is met.
    pub place: (u64, u64),
    /// Its name for people.
    pub path: PathBuf,
    /// What is kept of it, by name and whether that is a folder's; `None` where all of it is left out, itself too.
    pub keeps: Option<fn(&OsStr, bool) -> bool>,
}
