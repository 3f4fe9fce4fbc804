//! The disk of this machine as a source: everything by open file descriptors.

use super::filesystem::{self, FileSystem, FileSystems, is_pseudo};
use super::listing::{DirRef, Listing, Scanned};
use super::read::{self, OpenFile, Segment, is_still, open_at, replaced};
use super::stat::Stat;
use super::xattr::{self, Xattrs};
use super::{FoundPath, Names, Source, SourceFile};
use crate::error::{Context, Error, Result};
use crate::format::codec::Bytes;
use crate::path;
use parking_lot::Mutex;
use rustix::fs::{CWD, OFlags, RawDir};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::CStr;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One getdents64(2) call returns up to this many bytes of names.
const NAMES_BUFFER_BYTES: usize = 64 << 10;

/// The disk, and what is known of its file systems.
#[derive(Debug, Default)]
pub struct Disk {
    file_systems: Mutex<FileSystems>,
}

impl Source for Disk {
    type Dir = OwnedFd;
    type Names = DiskNames;
    type File = OpenFile;

    fn find(&self, path: &Path) -> Result<FoundPath> {
        let what = || format!("Cannot back up {}: check the path", path.display());
        let here =
            path::resolve(path, false).context(|| format!("Cannot follow the path {}: check it", path.display()))?;
        let looked = std::fs::symlink_metadata(&here.path).context(what)?;
        let mut links = here.links;
        let target = looked.is_symlink().then(|| std::fs::canonicalize(path).ok()).flatten();
        if target.is_some()
            && let Ok(through) = path::resolve(path, true)
        {
            links.extend(through.links);
        }
        Ok(FoundPath { links, path: here.path, target })
    }

    fn real(&self, path: &Path) -> PathBuf {
        path::real(path)
    }

    fn list(&self, at: &DirRef<OwnedFd>) -> Result<DiskNames> {
        DiskNames::list(at)
    }

    fn look_again(&self, dir: &OwnedFd, name: &[u8]) -> Result<Stat> {
        Stat::at(dir.as_fd(), name).context(|| "vanished while it was backed up".into())
    }

    fn open(&self, dir: &OwnedFd, name: &[u8], expected: &Stat) -> Result<OpenFile> {
        read::open(dir.as_fd(), name, expected)
    }

    fn read_link(&self, dir: &OwnedFd, name: &[u8]) -> Result<Bytes> {
        read::read_link(dir.as_fd(), name)
    }

    fn xattrs_of(&self, dir: &OwnedFd, name: &[u8]) -> Xattrs {
        xattr::of_name(dir.as_fd(), name)
    }

    fn xattrs_of_dir(&self, dir: &OwnedFd) -> Xattrs {
        xattr::of_fd(dir.as_fd())
    }

    fn file_system(&self, dir: &OwnedFd, stat: &Stat) -> Arc<FileSystem> {
        self.file_systems.lock().of(dir.as_fd(), stat)
    }

    fn is_shown(&self, dir: &OwnedFd, stat: &Stat) -> bool {
        is_pseudo(dir.as_fd()) || self.file_system(dir, stat).is_shown
    }

    fn mounts(&self) -> Vec<Vec<u8>> {
        FileSystems::mount_points()
    }

    fn mount_points(&self) -> HashSet<PathBuf> {
        filesystem::listed_mount_points()
    }
}

impl SourceFile for OpenFile {
    fn opened_as(&self) -> &Stat {
        self.opened_as()
    }

    fn stat(&self) -> Result<Stat> {
        self.stat()
    }

    fn xattrs(&self) -> Xattrs {
        self.xattrs()
    }

    fn segments(&self) -> impl Iterator<Item = Result<Segment>> {
        self.segments()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.read_at(offset, buffer)
    }
}

/// The names in an open directory.
#[derive(Debug)]
pub struct DiskNames {
    dir: Arc<OwnedFd>,
    stat: Stat,
    /// Every name with its NUL.
    bytes: Vec<u8>,
    /// Inode number, and where the name is in `bytes`.
    list: Vec<(u64, Range<usize>)>,
    incomplete: Option<Error>,
}

impl DiskNames {
    fn list(at: &DirRef<OwnedFd>) -> Result<DiskNames> {
        let (parent, name, expected) = match at {
            DirRef::Root(path) => (CWD, path.as_os_str().as_bytes(), None),
            DirRef::Below { parent, name, seen } => (parent.as_fd(), &**name, Some(seen)),
        };
        let fd = match open_at(parent, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW) {
            // Now it is a symbolic link (ELOOP), or anything but a directory.
            Err(Errno::LOOP | Errno::NOTDIR) if expected.is_some() => return Err(replaced()),
            opened => opened.context(|| "could not be opened".into())?,
        };
        let stat = Stat::of(fd.as_fd()).context(|| "could not be looked at".into())?;
        // Opening an automount point mounts what belongs there, which then is another directory.
        let expected = expected.filter(|expected| !expected.automount);
        if expected.is_some_and(|expected| !is_still(parent, name, expected, fd.as_fd(), &stat)) {
            return Err(replaced());
        }
        let mut names = DiskNames { dir: Arc::new(fd), stat, bytes: Vec::new(), list: Vec::new(), incomplete: None };
        if let Err(error) = names.read() {
            names.incomplete = Some(Error::io("could not be listed to its end", error));
        }
        Ok(names)
    }

    fn read(&mut self) -> Result<(), Errno> {
        let mut buffer = Vec::with_capacity(NAMES_BUFFER_BYTES);
        let mut entries = RawDir::new(&*self.dir, buffer.spare_capacity_mut());
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
}

impl Names for DiskNames {
    type Dir = OwnedFd;

    fn count(&self) -> usize {
        self.list.len()
    }

    fn look(mut self) -> Listing {
        // In the order of inode numbers, which is the order of the inodes on most disks.
        self.list.sort_unstable_by_key(|(ino, _)| *ino);
        let mut entries = Vec::with_capacity(self.list.len());
        let mut errors = Vec::new();
        for (_, range) in self.list {
            let Ok(name) = CStr::from_bytes_with_nul(&self.bytes[range]) else { continue };
            let owned = Bytes(name.to_bytes().to_vec());
            match Stat::at_c_str(self.dir.as_fd(), name) {
                Ok(stat) => entries.push(Scanned { name: owned, stat }),
                Err(Errno::NOENT) => errors.push((owned, Error::io("vanished while it was backed up", Errno::NOENT))),
                Err(error) => errors.push((owned, Error::io("could not be looked at", error))),
            }
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        errors.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Listing { dir: self.dir, stat: self.stat, entries, errors, incomplete: self.incomplete }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_vanishes_while_it_is_listed_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        let names = Disk::default().list(&DirRef::Root(dir.path().into())).unwrap();
        std::fs::remove_file(dir.path().join("b")).unwrap();
        let listing = names.look();
        let found: Vec<&[u8]> = listing.entries.iter().map(|entry| &*entry.name).collect();
        assert_eq!(found, [b"a", b"c"]);
        let [(name, error)] = &listing.errors[..] else { panic!("{:?}", listing.errors) };
        assert_eq!((&**name, error.kind()), (&b"b"[..], ErrorKind::NotFound));
    }
}
