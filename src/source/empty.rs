//! A source that has nothing: all that is backed up with it is made meanwhile, as standard input is.

use super::filesystem::{Clock, FileSystem};
use super::listing::{DirRef, Listing};
use super::read::Segment;
use super::stat::{Kind, Stat};
use super::xattr::Xattrs;
use super::{FoundPath, Source, SourceFile};
use crate::error::{Error, ErrorKind, Result};
use crate::format::codec::Bytes;
use crate::format::tree::Meta;
use std::path::Path;
use std::sync::Arc;

/// A root with nothing in it.
#[derive(Debug)]
pub struct Empty {
    root: Stat,
}

impl Empty {
    /// Makes one whose root is described so.
    pub fn new(root: &Meta) -> Self {
        Empty { root: Stat::of_made(Kind::Directory, root) }
    }
}

/// A file of an empty source: there is none.
#[derive(Debug)]
pub enum NoFile {}

fn nothing() -> Error {
    Error::new(ErrorKind::NotFound, "there is nothing")
}

impl Source for Empty {
    type Dir = ();
    type Names = Listing<()>;
    type File = NoFile;

    fn find(&self, path: &Path) -> Result<FoundPath> {
        Err(Error::new(ErrorKind::NotFound, format!("Cannot back up {}: there is nothing", path.display())))
    }

    fn list(&self, at: &DirRef<()>) -> Result<Listing<()>> {
        match at {
            DirRef::Root(_) => Ok(Listing {
                dir: Arc::new(()),
                stat: self.root.clone(),
                entries: Vec::new(),
                errors: Vec::new(),
                incomplete: None,
            }),
            DirRef::Below { .. } => Err(nothing()),
        }
    }

    fn look_again(&self, _dir: &(), _name: &[u8]) -> Result<Stat> {
        Err(nothing())
    }

    fn open(&self, _dir: &(), _name: &[u8], _expected: &Stat) -> Result<NoFile> {
        Err(nothing())
    }

    fn read_link(&self, _dir: &(), _name: &[u8]) -> Result<Bytes> {
        Err(nothing())
    }

    fn file_system(&self, _dir: &(), _stat: &Stat) -> Arc<FileSystem> {
        Arc::new(FileSystem { kin: Vec::new(), mount: None, clock: Clock::Own, taken: None, is_shown: false })
    }
}

impl SourceFile for NoFile {
    fn opened_as(&self) -> &Stat {
        match *self {}
    }

    fn stat(&self) -> Result<Stat> {
        match *self {}
    }

    fn xattrs(&self) -> Xattrs {
        match *self {}
    }

    fn segments(&self) -> impl Iterator<Item = Result<Segment>> {
        std::iter::empty()
    }

    fn read_at(&self, _offset: u64, _buffer: &mut [u8]) -> Result<usize> {
        match *self {}
    }
}
