//! Reads a regular file's content, run by run, and never what took its name.

use super::{stat::Kind, stat::Stat, xattr, xattr::Xattrs};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::codec::Bytes;
use rustix::fs::{Advice, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// From this length on the kernel is told that the file is read from start to end (wider readahead).
const ADVISE_FROM_BYTES: u64 = 1 << 20;

/// An open regular file.
#[derive(Debug)]
pub struct OpenFile {
    fd: OwnedFd,
    stat: Stat,
}

/// A run of a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it starts.
    pub offset: u64,
    /// Its length, never 0.
    pub len_bytes: u64,
    /// Whether it is a hole: it reads as zeros and occupies nothing.
    pub is_hole: bool,
}

/// Opens the regular file `name` in `dir`, which must still be the file that was seen as `expected`.
///
/// Never blocks on a FIFO and never follows a symbolic link that took the name: then, and when it is
/// any other file, the error's kind is [`ErrorKind::Replaced`]. Leaves the access time alone where allowed.
pub fn open(dir: BorrowedFd<'_>, name: &[u8], expected: &Stat) -> Result<OpenFile> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = match open_at(dir, name, flags) {
        // A symbolic link (ELOOP), or a socket or a device without driver (ENXIO), has taken the name.
        Err(Errno::LOOP | Errno::NXIO) => return Err(replaced()),
        opened => opened.context(|| "could not be opened".into())?,
    };
    let stat = Stat::of(fd.as_fd()).context(|| "could not be looked at".into())?;
    if stat.kind != Kind::File || !is_still(dir, name, expected, fd.as_fd(), &stat) {
        return Err(replaced());
    }
    if stat.size_bytes >= ADVISE_FROM_BYTES {
        // Only advice: a file system that takes none is read all the same.
        let _ = rustix::fs::fadvise(&fd, 0, None, Advice::Sequential);
    }
    Ok(OpenFile { fd, stat })
}

/// Returns the target of the symbolic link `name` in `dir`.
pub fn read_link(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Bytes> {
    match rustix::fs::readlinkat(dir, name, Vec::new()) {
        Ok(target) => Ok(Bytes(target.into_bytes())),
        Err(Errno::INVAL) => Err(replaced()),
        Err(error) => Err(Error::io("the symbolic link could not be read", error)),
    }
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl OpenFile {
    /// Returns what the file was when it was opened.
    pub fn opened_as(&self) -> &Stat {
        &self.stat
    }

    /// Returns what the file is now: compare with [`OpenFile::opened_as`] after reading.
    pub fn stat(&self) -> Result<Stat> {
        Stat::of(self.fd.as_fd()).context(|| "could not be looked at".into())
    }

    /// Returns the file's extended attributes.
    pub fn xattrs(&self) -> Xattrs {
        xattr::of_fd(self.fd.as_fd())
    }

    /// Returns the file's runs of data and holes in order, up to the length it had when it was opened.
    /// Holes are looked for only where the file has fewer blocks than its length needs.
    pub fn segments(&self) -> Segments<'_> {
        Segments { file: self, offset: 0, is_sparse: self.stat.is_sparse() }
    }

    /// Reads at `offset` until `buffer` is full or the file ends; returns how many bytes were read.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match rustix::io::pread(&self.fd, &mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(len) => done += len,
                Err(Errno::INTR) => {}
                Err(error) => {
                    let at = offset + done as u64;
                    return Err(Error::io(format!("could not be read at byte {at}"), error));
                }
            }
        }
        Ok(done)
    }
}

/// The runs of a file: see [`OpenFile::segments`].
#[derive(Debug)]
pub struct Segments<'a> {
    file: &'a OpenFile,
    offset: u64,
    is_sparse: bool,
}

impl Iterator for Segments<'_> {
    type Item = Result<Segment>;

    fn next(&mut self) -> Option<Result<Segment>> {
        let (start, size) = (self.offset, self.file.stat.size_bytes);
        if start >= size {
            return None;
        }
        match self.run_at(start, size) {
            Ok((end, is_hole)) => {
                self.offset = end;
                Some(Ok(Segment { offset: start, len_bytes: end - start, is_hole }))
            }
            Err(error) => {
                self.offset = size;
                Some(Err(Error::io(format!("could not be searched for holes at byte {start}"), error)))
            }
        }
    }
}

impl Segments<'_> {
    /// Returns the end of the run at `start`, after `start` and at most `size`, and whether it is a hole.
    /// Holes may come and go meanwhile: the runs still follow one another and cover the file.
    fn run_at(&self, start: u64, size: u64) -> Result<(u64, bool), Errno> {
        if !self.is_sparse {
            return Ok((size, false));
        }
        match rustix::fs::seek(&self.file.fd, SeekFrom::Data(start)) {
            Ok(data) if data > start => return Ok((data.min(size), true)),
            // No data up to the end of the file (lseek(2)).
            Err(Errno::NXIO) => return Ok((size, true)),
            // The file system cannot tell: everything is data.
            Err(Errno::INVAL | Errno::NOTSUP) => return Ok((size, false)),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        match rustix::fs::seek(&self.file.fd, SeekFrom::Hole(start)) {
            Ok(hole) if hole > start => Ok((hole.min(size), false)),
            Ok(_) | Err(Errno::NXIO) => Ok((size, false)),
            Err(error) => Err(error),
        }
    }
}

/// Opens without touching the access time, or with it where only the owner may ask for that (EPERM, open(2)).
pub(super) fn open_at(dir: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    loop {
        let opened = match rustix::fs::openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => rustix::fs::openat(dir, name, flags, Mode::empty()),
            opened => opened,
        };
        match opened {
            Err(Errno::INTR) => {}
            opened => return opened,
        }
    }
}

/// Types whose inode numbers last as long as the file: in one of them another number is another file
/// (include/uapi/linux/magic.h).
const LASTING: [u32; 8] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0xf2f5_2010, // f2fs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x2fc1_2fc1, // zfs
    0x3153_464a, // jfs
];

/// Returns whether the open file `fd`, in the state `opened`, is what was seen as `expected` under `name` in `dir`.
///
/// Overlays over several file systems, CIFS and FUSE give a file another inode number once the kernel has forgotten it
/// (Documentation/filesystems/overlayfs.rst, "Inode properties"). While it is open the number stays: what the name then
/// leads to again was not replaced.
pub(super) fn is_still(dir: BorrowedFd<'_>, name: &[u8], expected: &Stat, fd: BorrowedFd<'_>, opened: &Stat) -> bool {
    if expected.is_same_file(opened) {
        return true;
    }
    let is_lasting = || rustix::fs::fstatfs(fd).is_ok_and(|found| LASTING.contains(&(found.f_type as u32)));
    let is_other = expected.kind != opened.kind || expected.mount_id != opened.mount_id || is_lasting();
    !is_other && Stat::at(dir, name).is_ok_and(|again| again.is_same_file(opened))
}

pub(super) fn replaced() -> Error {
    Error::new(ErrorKind::Replaced, "was replaced while it was backed up")
}
