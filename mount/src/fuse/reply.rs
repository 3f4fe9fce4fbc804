//! Replies, and the tree's values as `fuser` wants them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use super::{
    Errno, FileAttr, FileType, Generation, INodeNo, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEntry, ReplyLseek, ReplyXattr,
};
use crate::deadline::{Expire, Pending};
use crate::tree::{Attr, Ino, Kind, Time};

/// Block size shown by statfs(2) and stat(2).
pub(super) const BLOCK_BYTES: u32 = 4096;

/// A reply that can be an error.
pub(super) trait Fail: Send + 'static {
    fn fail(self, errno: Errno);
}

macro_rules! fail {
    ($($reply:ty),*) => { $(impl Fail for $reply {
        fn fail(self, errno: Errno) { self.error(errno) }
    })* };
}
fail!(ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEntry, ReplyLseek, ReplyXattr);

impl<R: Fail> Expire for Pending<R> {
    fn expire(&self) {
        if let Some(reply) = self.take() {
            reply.fail(Errno::EIO);
        }
    }
}

/// A reply that is a part of a directory's listing.
pub(super) trait Listing: Fail {
    /// Whether every entry is a lookup too and counts as a reference (READDIRPLUS).
    const COUNTED: bool;
    /// Returns true when the entry did not fit.
    fn add(&mut self, name: &[u8], attr: &FileAttr, next: u64, lifetime: Duration) -> bool;
    fn finish(self);
}

impl Listing for ReplyDirectory {
    const COUNTED: bool = false;
    fn add(&mut self, name: &[u8], attr: &FileAttr, next: u64, _: Duration) -> bool {
        ReplyDirectory::add(self, attr.ino, next, attr.kind, OsStr::from_bytes(name))
    }
    fn finish(self) {
        self.ok();
    }
}

impl Listing for ReplyDirectoryPlus {
    const COUNTED: bool = true;
    fn add(&mut self, name: &[u8], attr: &FileAttr, next: u64, lifetime: Duration) -> bool {
        let name = OsStr::from_bytes(name);
        ReplyDirectoryPlus::add(self, attr.ino, next, name, &lifetime, attr, Generation(0))
    }
    fn finish(self) {
        self.ok();
    }
}

/// Attributes of `.`, `..` and of "no such entry" (inode 0), of which the kernel uses the number alone.
pub(super) fn directory(ino: Ino) -> FileAttr {
    let (kind, time) = (Kind::Directory, Time::default());
    file_attr(&Attr {
        ino,
        kind,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        size_bytes: 0,
        blocks: 0,
        atime: time,
        mtime: time,
        ctime: time,
    })
}

pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size_bytes,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: SystemTime::UNIX_EPOCH,
        kind: match attr.kind {
            Kind::File => FileType::RegularFile,
            Kind::Directory => FileType::Directory,
            Kind::Symlink => FileType::Symlink,
            Kind::Fifo => FileType::NamedPipe,
            Kind::Socket => FileType::Socket,
            Kind::CharDevice => FileType::CharDevice,
            Kind::BlockDevice => FileType::BlockDevice,
        },
        perm: attr.perm,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

pub(super) fn system_time(time: Time) -> SystemTime {
    let secs = Duration::from_secs(time.secs.unsigned_abs());
    let whole = match time.secs {
        0.. => SystemTime::UNIX_EPOCH.checked_add(secs),
        _ => SystemTime::UNIX_EPOCH.checked_sub(secs),
    };
    let nanos = Duration::from_nanos(u64::from(time.nanos));
    whole.and_then(|t| t.checked_add(nanos)).unwrap_or(SystemTime::UNIX_EPOCH)
}

pub(super) fn reply_xattr(reply: ReplyXattr, size: u32, value: &[u8]) {
    // A size of 0 asks for the length (getxattr(2)).
    match u32::try_from(value.len()) {
        Ok(len) if size == 0 => reply.size(len),
        Ok(len) if len <= size => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_before_1970_and_beyond_any_calendar_are_kept() {
        let since = |t| SystemTime::UNIX_EPOCH.duration_since(system_time(t)).unwrap();
        assert_eq!(since(Time { secs: -2, nanos: 800_000_000 }), Duration::from_millis(1200));
        assert_eq!(since(Time { secs: i64::MIN, nanos: 0 }), Duration::from_secs(i64::MAX as u64 + 1));
        let far = system_time(Time { secs: i64::MAX, nanos: 999_999_999 });
        let expected = Duration::new(i64::MAX as u64, 999_999_999);
        assert_eq!(far.duration_since(SystemTime::UNIX_EPOCH).unwrap(), expected);
    }
}
