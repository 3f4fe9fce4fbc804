//! A regular file of the target: one that is being written, or one that is there and is compared.

use super::attributes::Subject;
use super::overwrite::{has_own_links, is_as_guarded};
use super::target::{Dir, checked, temporary_name};
use crate::error::{Context, Error, Result};
use crate::format::tree::{Extent, Meta};
use crate::quantity::counted;
use crate::source::read::{self, OpenFile};
use crate::source::stat::Stat;
use rustix::fs::{AtFlags, SeekFrom};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// A regular file that is being written, by several threads if need be. Dropped unfinished, it is removed.
#[derive(Debug)]
pub struct File {
    fd: OwnedFd,
    dir: Dir,
    name: Box<[u8]>,
    /// The name it has until it is complete, where `name` is taken.
    temporary: Option<String>,
    /// The end of the last byte written.
    end: AtomicU64,
    is_finished: bool,
}

impl File {
    pub(super) fn new(dir: &Dir, fd: OwnedFd, name: &[u8], temporary: Option<String>) -> File {
        File { fd, dir: dir.clone(), name: name.into(), temporary, end: AtomicU64::new(0), is_finished: false }
    }

    /// Writes all of `data` at `offset`. What is never written is a hole.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < data.len() {
            match rustix::io::pwrite(&self.fd, &data[done..], offset + done as u64) {
                Ok(0) => return Err(Error::io("could not be written", Errno::IO)),
                Ok(len) => done += len,
                Err(Errno::INTR) => {}
                Err(error) => {
                    let at = offset + done as u64;
                    return Err(Error::io(format!("could not be written at byte {at}"), error));
                }
            }
        }
        self.end.fetch_max(offset + data.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Gives the file its length, its attributes and its name; returns the attributes that could not be set.
    pub fn finish(mut self, meta: &Meta) -> Result<Vec<Error>> {
        if *self.end.get_mut() != meta.size_bytes {
            rustix::fs::ftruncate(&self.fd, meta.size_bytes)
                .context(|| format!("its length of {} could not be set", counted(meta.size_bytes, "byte")))?;
        }
        let errors = Subject::open(self.fd.as_fd()).apply(meta, self.dir.options());
        if let Some(temporary) = &self.temporary {
            self.dir.take_place(temporary.as_bytes(), &self.name)?;
        }
        self.is_finished = true;
        Ok(errors)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if !self.is_finished {
            let name = self.temporary.as_ref().map_or(&*self.name, |name| name.as_bytes());
            // The error that ended the writing is the one to tell.
            let _ = self.dir.unlink(name, AtFlags::empty());
        }
    }
}

/// A regular file that is there already, and not to be changed before it was compared.
#[derive(Debug)]
pub struct Old {
    file: OpenFile,
    dir: Dir,
}

/// Of a hole that is no hole in the target so much is compared at a time.
const ZEROS_BYTES: u64 = 256 << 10;

impl Old {
    pub(super) fn new(file: OpenFile, dir: &Dir) -> Old {
        Old { file, dir: dir.clone() }
    }

    /// Returns what it was when it was opened.
    pub fn stat(&self) -> &Stat {
        self.file.opened_as()
    }

    /// Reads what lies at the place of an extent into `buffer`; returns whether all of it is there.
    pub fn read(&self, offset: u64, extent: &Extent, buffer: &mut Vec<u8>) -> bool {
        let len = extent.len_bytes as usize;
        if offset.saturating_add(extent.len_bytes) > self.stat().size_bytes {
            return false;
        }
        // What the buffer has had is overwritten: nothing is cleared.
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        buffer.truncate(len);
        self.file.read_at(offset, buffer).is_ok_and(|read| read == len)
    }

    /// Returns whether a range reads as zeros; where the target has a hole nothing is read.
    pub fn is_zeros(&self, offset: u64, len_bytes: u64, buffer: &mut Vec<u8>) -> bool {
        let end = offset.saturating_add(len_bytes);
        let mut at = offset;
        while at < end {
            match rustix::fs::seek(self.file.as_fd(), SeekFrom::Data(at)) {
                Ok(data) => at = data.max(at),
                // No data up to the end of the file (lseek(2)).
                Err(Errno::NXIO) => return true,
                // The file system cannot tell: everything is data.
                Err(_) => {}
            }
            if at >= end {
                break;
            }
            let now = (end - at).min(ZEROS_BYTES) as usize;
            buffer.resize(now, 0);
            match self.file.read_at(at, buffer) {
                Ok(read) if read == now && buffer.iter().all(|byte| *byte == 0) => at += now as u64,
                _ => return false,
            }
        }
        true
    }

    /// Returns whether its access list is the one of the snapshot.
    pub(super) fn has_same_acl(&self, meta: &Meta) -> bool {
        Subject::open(self.file.as_fd()).has_same_acl(meta)
    }

    /// Sets the attributes of a file that was found equal; returns those that could not be.
    pub fn keep(&self, meta: &Meta) -> Vec<Error> {
        Subject::open(self.file.as_fd()).apply(meta, self.dir.options())
    }
}

impl Dir {
    /// Creates the regular file `name`; `None` where something of this name is there.
    pub fn create_file(&self, name: &[u8]) -> Result<Option<File>> {
        checked(name)?;
        match self.create(name) {
            Ok(fd) => Ok(Some(File::new(self, fd, name, None))),
            Err(Errno::EXIST) => Ok(None),
            Err(error) => Err(Error::io("could not be created", error)),
        }
    }

    /// Creates a regular file that takes the place of `name`, which is no directory, when it is complete.
    pub fn replace_file(&self, name: &[u8]) -> Result<File> {
        checked(name)?;
        let temporary = temporary_name(name);
        let fd = match self.create(temporary.as_bytes()) {
            Err(Errno::EXIST) => {
                // This restore left it when it failed.
                self.clear(temporary.as_bytes())?;
                self.create(temporary.as_bytes())
            }
            created => created,
        };
        let fd = fd.context(|| "could not be created under a temporary name beside it".into())?;
        Ok(File::new(self, fd, name, Some(temporary)))
    }

    /// Opens the regular file `name`, seen as `there`, to compare it; `None` where it cannot be read.
    pub fn open_old(&self, name: &[u8], there: &Stat) -> Option<Old> {
        let file = read::open(self.fd.as_ref()?.as_fd(), name, there).ok()?;
        Some(Old::new(file, self))
    }

    /// Returns whether a file that is there may stay if its content is right, and be given its attributes.
    pub fn may_stay(&self, old: &Old, meta: &Meta) -> bool {
        let there = old.stat();
        has_own_links(there, meta) && is_as_guarded(there, meta, &self.options.owners, || old.has_same_acl(meta))
    }
}
