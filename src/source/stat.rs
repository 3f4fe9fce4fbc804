//! What statx(2) tells of one file.

use crate::format::tree::{Meta, Time, Xattr};
use rustix::fs::{AtFlags, Statx, StatxAttributes, StatxFlags, StatxTimestamp};
use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;

/// The type of a file (`st_mode & S_IFMT`, inode(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// The name of a Unix domain socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A type this program does not know.
    Unknown,
}

/// The state of one file at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Its type.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky: `st_mode & 0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// Length.
    pub size_bytes: u64,
    /// Allocated units of 512 bytes.
    pub blocks: u64,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Creation, where the file system keeps it.
    pub btime: Option<Time>,
    /// Inode number.
    pub ino: u64,
    /// Number of the device it lies on.
    pub dev: u64,
    /// Of a device file, its major number.
    pub rdev_major: u32,
    /// Of a device file, its minor number.
    pub rdev_minor: u32,
    /// The mount it was seen through, unique since boot; 0 before Linux 5.8.
    pub mount_id: u64,
    /// Whether opening it would mount another file system here (autofs).
    pub automount: bool,
}

impl Stat {
    /// Returns the state of `name` in the directory `dir`, following no symbolic link and mounting nothing.
    pub fn at(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Stat> {
        Ok(rustix::fs::statx(dir, name, NO_FOLLOW, mask())?.into())
    }

    /// Returns the state of the name `name`, NUL-terminated as getdents gives it, in the directory `dir`.
    pub(super) fn at_c_str(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Stat> {
        rustix::fs::statx(dir, name, NO_FOLLOW, mask()).map(Stat::from)
    }

    /// Returns the state of an open file.
    pub fn of(file: BorrowedFd<'_>) -> io::Result<Stat> {
        Ok(rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, mask())?.into())
    }

    /// Describes what is on no disk, as it will be stored.
    pub fn of_made(kind: Kind, meta: &Meta) -> Stat {
        Stat {
            kind,
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            nlink: meta.nlink,
            size_bytes: meta.size_bytes,
            blocks: meta.blocks,
            mtime: meta.mtime,
            ctime: meta.ctime,
            btime: meta.btime,
            ino: meta.ino,
            dev: 0,
            rdev_major: 0,
            rdev_minor: 0,
            mount_id: 0,
            automount: false,
        }
    }

    /// Returns what is stored of a file in this state with these extended attributes, no marks set.
    pub fn to_meta(&self, xattrs: Vec<Xattr>) -> Meta {
        Meta {
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            ctime: self.ctime,
            btime: self.btime,
            ino: self.ino,
            link_device: if self.kind != Kind::Directory && self.nlink > 1 { self.dev } else { 0 },
            nlink: self.nlink,
            size_bytes: self.size_bytes,
            blocks: self.blocks,
            marks: 0,
            xattrs,
        }
    }

    /// Returns whether a file stored as `stored` still has the content and attributes it had then:
    /// size, mtime, ctime and inode number are equal. Every write and every chmod, chown or setxattr
    /// sets ctime, which no ordinary program can set back.
    pub fn same_file_version(&self, stored: &Meta) -> bool {
        self.size_bytes == stored.size_bytes
            && self.mtime == stored.mtime
            && self.ctime == stored.ctime
            && self.ino == stored.ino
    }

    /// Returns whether a file stored as `stored`, extended attributes apart, would be stored the same now.
    pub fn is_as_stored(&self, stored: &Meta) -> bool {
        let now = self.to_meta(Vec::new());
        let Meta { mode, uid, gid, mtime, ctime, btime, ino, link_device, nlink, size_bytes, blocks, marks, .. } = now;
        (mode, uid, gid, nlink) == (stored.mode, stored.uid, stored.gid, stored.nlink)
            && (mtime, ctime, btime) == (stored.mtime, stored.ctime, stored.btime)
            && (ino, link_device) == (stored.ino, stored.link_device)
            && (size_bytes, blocks, marks) == (stored.size_bytes, stored.blocks, stored.marks)
    }

    /// Returns whether nothing happened to the file between two looks at it: the same file, size, mtime and ctime.
    pub fn same_as(&self, other: &Stat) -> bool {
        self.is_same_file(other)
            && self.size_bytes == other.size_bytes
            && self.mtime == other.mtime
            && self.ctime == other.ctime
    }

    /// Returns whether both are looks at one file: type, device and inode number are equal.
    pub fn is_same_file(&self, other: &Stat) -> bool {
        self.kind == other.kind && self.ino == other.ino && self.dev == other.dev
    }

    /// Returns whether the file has holes: fewer blocks than its length needs (or it is compressed).
    pub fn is_sparse(&self) -> bool {
        self.blocks.saturating_mul(512) < self.size_bytes
    }
}

const NO_FOLLOW: AtFlags = AtFlags::SYMLINK_NOFOLLOW.union(AtFlags::NO_AUTOMOUNT);

fn mask() -> StatxFlags {
    StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID
}

fn time(at: StatxTimestamp) -> Time {
    Time { secs: at.tv_sec, nanos: at.tv_nsec.min(999_999_999) }
}

impl From<Statx> for Stat {
    fn from(raw: Statx) -> Stat {
        let has = |bit: StatxFlags| raw.stx_mask & bit.bits() != 0;
        Stat {
            kind: match u32::from(raw.stx_mode) & libc::S_IFMT {
                libc::S_IFREG => Kind::File,
                libc::S_IFDIR => Kind::Directory,
                libc::S_IFLNK => Kind::Symlink,
                libc::S_IFIFO => Kind::Fifo,
                libc::S_IFSOCK => Kind::Socket,
                libc::S_IFCHR => Kind::CharDevice,
                libc::S_IFBLK => Kind::BlockDevice,
                _ => Kind::Unknown,
            },
            mode: u32::from(raw.stx_mode) & 0o7777,
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            nlink: raw.stx_nlink,
            size_bytes: raw.stx_size,
            blocks: raw.stx_blocks,
            mtime: time(raw.stx_mtime),
            ctime: time(raw.stx_ctime),
            btime: has(StatxFlags::BTIME).then(|| time(raw.stx_btime)),
            ino: raw.stx_ino,
            dev: rustix::fs::makedev(raw.stx_dev_major, raw.stx_dev_minor),
            rdev_major: raw.stx_rdev_major,
            rdev_minor: raw.stx_rdev_minor,
            mount_id: if has(StatxFlags::MNT_ID) { raw.stx_mnt_id } else { 0 },
            automount: raw.stx_attributes.contains(StatxAttributes::AUTOMOUNT),
        }
    }
}
