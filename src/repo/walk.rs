//! Everything below a directory, in order, without recursion: no tree can overflow the stack.

use super::Repository;
use super::cursor::{Cursor, Head};
use crate::error::{Error, Result};
use crate::format::tree::{Directory, Entry, Node};

/// The longest chain of directories that is followed. PATH_MAX is as many bytes (limits.h), so that
/// no path that can be opened is longer.
pub const MAX_DEPTH: usize = 4096;

/// What a walk does with what it meets. An error ends the walk.
pub trait Visitor {
    /// Takes an entry and returns whether to go into it, if it is a directory.
    fn entry(&mut self, path: &[u8], entry: &Entry) -> Result<bool>;

    /// A directory that was gone into is done.
    fn leave(&mut self, _path: &[u8]) -> Result<()> {
        Ok(())
    }

    /// Some of a directory, or all of it, cannot be read.
    fn damage(&mut self, path: &[u8], error: Error) -> Result<()>;
}

/// Makes the error of directories that lie deeper than is followed.
pub fn too_deep() -> Error {
    Error::damaged(format!("Directories lie more than {MAX_DEPTH} deep: they are not followed"))
}

/// Writes `/` for the root's empty path.
pub fn shown_path(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"/" } else { path }
}

impl Repository {
    /// Visits everything below a directory in order of names, each directory before what is in it.
    /// `path` is the directory's own: absolute, and empty for the root.
    pub fn walk(&self, path: &[u8], directory: &Directory, visitor: &mut dyn Visitor) -> Result<()> {
        let mut path = path.to_vec();
        let mut stack = vec![(Cursor::new(self, directory), path.len())];
        while let Some((cursor, path_len)) = stack.last_mut() {
            path.truncate(*path_len);
            let entry = match cursor.head() {
                Head::End => {
                    visitor.leave(&path)?;
                    stack.pop();
                    continue;
                }
                Head::Page { .. } => {
                    if let Err((_, error)) = cursor.read() {
                        visitor.damage(shown_path(&path), error)?;
                    }
                    continue;
                }
                Head::Entry(entry) => entry,
            };
            path.push(b'/');
            path.extend_from_slice(&entry.name);
            let enter = visitor.entry(&path, entry)?;
            let below = match &entry.node {
                Node::Directory(directory) if enter => Some(*directory),
                _ => None,
            };
            cursor.pass();
            if let Some(directory) = below {
                if stack.len() >= MAX_DEPTH {
                    visitor.damage(&path, too_deep())?;
                    visitor.leave(&path)?;
                    continue;
                }
                stack.push((Cursor::new(self, &directory), path.len()));
            }
        }
        Ok(())
    }
}
