//! What is in a directory: its entries and the state of each, through one open directory.

use super::read::{is_still, open_at, replaced};
use super::{stat::Stat, xattr, xattr::Xattrs};
use crate::error::{Context, Error, Result};
use crate::format::codec::Bytes;
use rustix::fs::{CWD, OFlags, RawDir};
use rustix::io::Errno;
use std::ffi::CStr;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// One getdents64(2) call returns up to this many bytes of names.
const NAMES_BUFFER_BYTES: usize = 64 << 10;

/// A directory's entries, and the open directory to reach them by.
#[derive(Debug)]
pub struct Listing {
    /// The directory.
    pub fd: Arc<OwnedFd>,
    /// What the directory itself is, taken from `fd` before it was listed.
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

impl Listing {
    /// Returns the directory's own extended attributes.
    pub fn xattrs(&self) -> Xattrs {
        xattr::of_fd(self.fd.as_fd())
    }
}

/// Where a directory is, and what it was when its parent was listed; of a root neither parent nor that.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) parent: Option<Arc<OwnedFd>>,
    pub(super) name: Box<[u8]>,
    pub(super) expected: Option<Stat>,
}

/// The names in an open directory.
pub(super) struct Names {
    fd: Arc<OwnedFd>,
    stat: Stat,
    /// Every name with its NUL.
    bytes: Vec<u8>,
    /// Inode number, and where the name is in `bytes`.
    list: Vec<(u64, Range<usize>)>,
    incomplete: Option<Error>,
}

impl Names {
    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Opens and lists a directory.
    pub(super) fn list(place: &Place) -> Result<Names> {
        let parent = place.parent.as_ref().map_or(CWD, |parent| parent.as_fd());
        let fd = match open_at(parent, &place.name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW) {
            // Now it is a symbolic link (ELOOP), or anything but a directory.
            Err(Errno::LOOP | Errno::NOTDIR) if place.expected.is_some() => return Err(replaced()),
            opened => opened.context(|| "could not be opened".into())?,
        };
        let stat = Stat::of(fd.as_fd()).context(|| "could not be looked at".into())?;
        // Opening an automount point mounts what belongs there, which then is another directory.
        let expected = place.expected.as_ref().filter(|expected| !expected.automount);
        if expected.is_some_and(|expected| !is_still(parent, &place.name, expected, fd.as_fd(), &stat)) {
            return Err(replaced());
        }
        let mut names = Names { fd: Arc::new(fd), stat, bytes: Vec::new(), list: Vec::new(), incomplete: None };
        if let Err(error) = names.read() {
            names.incomplete = Some(Error::io("could not be listed to its end", error));
        }
        Ok(names)
    }

    fn read(&mut self) -> Result<(), Errno> {
        let mut buffer = Vec::with_capacity(NAMES_BUFFER_BYTES);
        let mut entries = RawDir::new(&*self.fd, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes_with_nul();
            if name != b".\0" && name != b"..\0" {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(name);
                self.list.push((entry.ino(), start..self.bytes.len()));
            }
        }
        Ok(())
    }

    /// Looks at every entry.
    pub(super) fn look(mut self) -> Listing {
        // In the order of inode numbers, which is the order of the inodes on most disks.
        self.list.sort_unstable_by_key(|(ino, _)| *ino);
        let mut entries = Vec::with_capacity(self.list.len());
        let mut errors = Vec::new();
        for (_, range) in self.list {
            let Ok(name) = CStr::from_bytes_with_nul(&self.bytes[range]) else { continue };
            let owned = Bytes(name.to_bytes().to_vec());
            match Stat::at_c_str(self.fd.as_fd(), name) {
                Ok(stat) => entries.push(Scanned { name: owned, stat }),
                Err(Errno::NOENT) => errors.push((owned, Error::io("vanished while it was backed up", Errno::NOENT))),
                Err(error) => errors.push((owned, Error::io("could not be looked at", error))),
            }
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        errors.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Listing { fd: self.fd, stat: self.stat, entries, errors, incomplete: self.incomplete }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::ErrorKind;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    fn place(path: &Path) -> Place {
        Place { parent: None, name: path.as_os_str().as_bytes().into(), expected: None }
    }

    #[test]
    fn what_vanishes_while_it_is_listed_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        let names = Names::list(&place(dir.path())).unwrap();
        std::fs::remove_file(dir.path().join("b")).unwrap();
        let listing = names.look();
        let found: Vec<&[u8]> = listing.entries.iter().map(|entry| &*entry.name).collect();
        assert_eq!(found, [b"a", b"c"]);
        let [(name, error)] = &listing.errors[..] else { panic!("{:?}", listing.errors) };
        assert_eq!((&**name, error.kind()), (&b"b"[..], ErrorKind::NotFound));
    }
}
