//! Everything below a directory, in order, without recursion: no tree can overflow the stack.

use crate::error::{Error, Result};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Directory, Entry, Node};
use crate::repo::Repository;
use crate::repo::read::cursor::{Cursor, Head};
use std::collections::VecDeque;

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

/// The most links on the way to a file (path_resolution(7)).
const MAX_LINKS: usize = 40;

impl Repository {
    /// Returns where a path of a snapshot leads by the symbolic links in it; of the last name only where `follows_last`
    /// says so. What is not there leads where it says.
    pub fn lead(&self, snapshot: &Snapshot, path: &[u8], follows_last: bool) -> Result<Vec<u8>> {
        let names = |path: &[u8]| path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<VecDeque<_>>();
        let (mut rest, mut led, mut links) = (names(path), Vec::new(), 0);
        while let Some(name) = rest.pop_front() {
            match &name[..] {
                b"" | b"." => continue,
                b".." => {
                    led.truncate(led.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let next = [&led[..], b"/", &name].concat();
            let is_last = rest.iter().all(|name| name.is_empty());
            let target = match self.resolve(snapshot, &next)?.map(|entry| entry.node) {
                Some(Node::Symlink(target)) if (!is_last || follows_last) && links < MAX_LINKS => target,
                _ => {
                    led = next;
                    continue;
                }
            };
            links += 1;
            if target.starts_with(b"/") {
                led.clear();
            }
            let mut through = names(&target);
            through.append(&mut rest);
            rest = through;
        }
        Ok(led)
    }

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
