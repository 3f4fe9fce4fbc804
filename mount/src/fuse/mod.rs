//! The FUSE protocol: turns requests into calls of a [`Tree`], and answers into replies.
//!
//! The only module that knows `fuser`. A request is first asked of the tree on the thread that received
//! it, without waiting; what would have to wait goes to the I/O threads under a deadline.

mod reply;
mod serve;

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

// The only place that names the crate; the rooms below take what they need from here.
use fuser::{
    AccessFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
    Session, SessionACL,
};

use crate::guard::guarded;
use crate::push::{MAX_FILE_BYTES, Store};
use crate::requests::Counters;
use crate::tree::{Attr, ENDLESS, Fault, Ino, ROOT_INO, SeekTo, Tree};
use reply::{BLOCK_BYTES, directory, file_attr, reply_xattr};
pub(crate) use serve::Core;

/// The longest READ the kernel is asked to send (fs.fuse.max_pages_limit allows 256 pages).
const MAX_READ_BYTES: u32 = 1 << 20;

/// The longest name of a directory entry (NAME_MAX).
const NAME_MAX: usize = 255;

/// Runs the protocol on a mounted device until it is unmounted.
pub(crate) struct Server<T: Tree>(Session<Driver<T>>);

/// Tells the kernel to forget, or to keep, what it was not asked about.
#[derive(Clone)]
pub(crate) struct Notifier(fuser::Notifier);

impl Notifier {
    /// Makes the kernel forget a directory entry, positive or negative.
    ///
    /// Waits for lookups in flight in that directory: never call it on a thread that answers requests.
    pub(crate) fn forget_entry(&self, dir: Ino, name: &[u8]) -> io::Result<()> {
        self.0.inval_entry(INodeNo(dir), OsStr::from_bytes(name))
    }

    /// Makes the kernel forget an inode's attributes and pages, a directory's listing among them.
    pub(crate) fn forget_inode(&self, ino: Ino) -> io::Result<()> {
        self.0.inval_inode(INodeNo(ino), 0, 0)
    }
}

impl Store for Notifier {
    fn store(&self, ino: Ino, bytes: &[u8]) -> io::Result<()> {
        self.0.store(INodeNo(ino), 0, bytes)
    }
}

impl<T: Tree> Server<T> {
    /// Answers the kernel's INIT request on a device that was just mounted.
    pub(crate) fn start(core: Arc<Core<T>>, device: OwnedFd, threads: usize) -> io::Result<Server<T>> {
        let mut config = Config::default();
        config.n_threads = Some(threads);
        // The kernel lets only the mounting user in unless mounted with allow_other (fuse(4)). fuser's
        // own check goes by the file system uid and would refuse a root process that has set another.
        let driver = Driver { core, no_open: false, no_opendir: false };
        Session::from_fd(driver, device, SessionACL::All, config).map(Server)
    }

    pub(crate) fn notifier(&self) -> Notifier {
        Notifier(self.0.notifier())
    }

    /// Serves until unmounted.
    pub(crate) fn run(self) -> io::Result<()> {
        self.0.run()
    }
}

/// The requests of one mount.
struct Driver<T: Tree> {
    core: Arc<Core<T>>,
    no_open: bool,
    no_opendir: bool,
}

impl<T: Tree> Filesystem for Driver<T> {
    fn init(&mut self, _: &Request, kernel: &mut KernelConfig) -> io::Result<()> {
        let offered = kernel.capabilities();
        let mut wanted = InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_NO_OPEN_SUPPORT
            | InitFlags::FUSE_NO_OPENDIR_SUPPORT
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_EXPLICIT_INVAL_DATA;
        if self.core.xattrs {
            // Without it the group bits of a file with an ACL, which are the ACL's mask, would be
            // enforced as the group's rights, wider than the source (acl(5)).
            wanted |= InitFlags::FUSE_POSIX_ACL;
        }
        self.no_open = offered.contains(InitFlags::FUSE_NO_OPEN_SUPPORT);
        self.no_opendir = offered.contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT);
        let refused = |what| io::Error::other(format!("The kernel's FUSE refuses {what}"));
        kernel.add_capabilities(wanted & offered).map_err(|flags| refused(format!("{flags:?}")))?;
        kernel.set_max_write(MAX_READ_BYTES).map_err(|_| refused("reads of 1 MiB".into()))?;
        kernel.set_max_background(64).map_err(|_| refused("64 requests in the background".into()))?;
        kernel.set_congestion_threshold(64).map_err(|_| refused("a congestion threshold of 64".into()))?;
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (dir, name) = (parent.0, name.as_bytes().to_vec());
        Counters::add(&self.core.counters.lookups, 1);
        if name.len() > NAME_MAX {
            return reply.error(Errno::ENAMETOOLONG);
        }
        self.core.serve(
            "lookup",
            dir,
            reply,
            move |tree, wait, _| match tree.lookup(dir, &name, wait) {
                Err(Fault::NotFound) => Ok(None),
                found => found.map(Some),
            },
            move |core, reply, found, _| match found {
                Some(attr) => {
                    let (kept, entry_kept) = (core.lifetime(attr.ino), core.entry_lifetime(dir, attr.kind));
                    reply.entry_with_ttls(&kept, &entry_kept, &file_attr(&attr), Generation(0));
                }
                None if core.changes(dir) => reply.error(Errno::ENOENT),
                // Inode 0 is "no such entry, and remember it" (include/uapi/linux/fuse.h).
                None => reply.entry(&ENDLESS, &directory(0), Generation(0)),
            },
            |tree, found| {
                if let Some(attr) = found {
                    tree.forget(attr.ino, 1);
                }
            },
        );
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        self.core.forget(ino.0, count);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        Counters::add(&self.core.counters.attrs, 1);
        let ask = move |tree: &T, wait, _: &mut Vec<u8>| tree.attr(ino.0, wait);
        let answer = move |core: &Core<T>, reply: ReplyAttr, attr: Attr, _: &[u8]| {
            reply.attr(&core.lifetime(ino.0), &file_attr(&attr));
        };
        self.core.serve("getattr", ino.0, reply, ask, answer, |_, _| {});
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        Counters::add(&self.core.counters.links, 1);
        let ask = move |tree: &T, wait, _: &mut Vec<u8>| tree.read_link(ino.0, wait);
        let answer = |_: &Core<T>, reply: ReplyData, target: Vec<u8>, _: &[u8]| reply.data(&target);
        self.core.serve("readlink", ino.0, reply, ask, answer, |_, _| {});
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        Counters::add(&self.core.counters.opens, 1);
        match self.no_open {
            true => reply.error(Errno::ENOSYS),
            false => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH),
        }
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        Counters::add(&self.core.counters.opens, 1);
        match self.no_opendir {
            true => reply.error(Errno::ENOSYS),
            false => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        Counters::add(&self.core.counters.reads, 1);
        let ask = move |tree: &T, wait, out: &mut Vec<u8>| tree.read(ino.0, offset, size, wait, out);
        let answer = move |core: &Core<T>, reply: ReplyData, (), data: &[u8]| {
            reply.data(&data[..data.len().min(size as usize)]);
            if offset == 0
                && u64::from(size) <= MAX_FILE_BYTES
                && let Some(pusher) = &core.pusher
            {
                pusher.note_read(&*core.tree, ino.0);
            }
        };
        self.core.serve("read", ino.0, reply, ask, answer, |_, ()| {});
    }

    fn readdir(&self, _: &Request, dir: INodeNo, _: FileHandle, offset: u64, reply: ReplyDirectory) {
        Counters::add(&self.core.counters.lists, 1);
        self.core.list(dir.0, offset, reply);
    }

    fn readdirplus(&self, _: &Request, dir: INodeNo, _: FileHandle, offset: u64, reply: ReplyDirectoryPlus) {
        Counters::add(&self.core.counters.lists, 1);
        self.core.list(dir.0, offset, reply);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match guarded(|| Ok(self.core.tree.usage())) {
            Ok(usage) => {
                let free = [usage.free_bytes, usage.available_bytes].map(|bytes| bytes / u64::from(BLOCK_BYTES));
                let blocks = usage.total_bytes.div_ceil(u64::from(BLOCK_BYTES));
                let (files, free_files) = (usage.files, usage.free_files);
                reply.statfs(blocks, free[0], free[1], files, free_files, BLOCK_BYTES, NAME_MAX as u32, BLOCK_BYTES);
            }
            Err(fault) => reply.error(self.core.errno("statfs", ROOT_INO, &fault)),
        }
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        Counters::add(&self.core.counters.xattrs, 1);
        if !self.core.xattrs && !self.core.hidden_xattrs {
            return reply.error(Errno::ENOSYS);
        }
        let name = name.as_bytes().to_vec();
        let ask = move |tree: &T, wait, _: &mut Vec<u8>| tree.xattr(ino.0, &name, wait);
        let answer = move |_: &Core<T>, reply, value: Vec<u8>, _: &[u8]| reply_xattr(reply, size, &value);
        self.core.serve("getxattr", ino.0, reply, ask, answer, |_, _| {});
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        Counters::add(&self.core.counters.xattrs, 1);
        if !self.core.xattrs {
            return reply.error(Errno::ENOSYS);
        }
        let ask = move |tree: &T, wait, list: &mut Vec<u8>| {
            for name in tree.xattr_names(ino.0, wait)? {
                list.extend_from_slice(&name);
                list.push(0);
            }
            Ok(())
        };
        let answer = move |_: &Core<T>, reply, (), list: &[u8]| reply_xattr(reply, size, list);
        self.core.serve("listxattr", ino.0, reply, ask, answer, |_, ()| {});
    }

    fn lseek(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        Counters::add(&self.core.counters.seeks, 1);
        let to = match whence {
            libc::SEEK_DATA => SeekTo::Data,
            libc::SEEK_HOLE => SeekTo::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else {
            return reply.error(Errno::ENXIO);
        };
        let ask = move |tree: &T, wait, _: &mut Vec<u8>| tree.seek(ino.0, offset, to, wait);
        let answer = |_: &Core<T>, reply: ReplyLseek, found: u64, _: &[u8]| match i64::try_from(found) {
            Ok(found) => reply.offset(found),
            Err(_) => reply.error(Errno::EOVERFLOW),
        };
        self.core.serve("lseek", ino.0, reply, ask, answer, |_, _| {});
    }

    // ENOSYS is remembered by the kernel: it decides by mode bits itself, and has nothing to flush.
    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    // The kernel refuses changes of a read-only mount itself; these are for those it lets through.
    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn rename(&self, _: &Request, _: INodeNo, _: &OsStr, _: INodeNo, _: &OsStr, _: RenameFlags, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }
}
