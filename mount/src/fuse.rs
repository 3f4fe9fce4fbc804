//! The FUSE protocol: turns requests into calls of a [`Tree`], and answers into replies.
//!
//! The only file that knows `fuser`. A request is first asked of the tree on the thread that received
//! it, without waiting; what would have to wait goes to the I/O threads under a deadline.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek,
    ReplyOpen, ReplyStatfs, ReplyXattr, Request, Session, SessionACL,
};

use crate::deadline::{Expire, Pending, Workers};
use crate::requests::Counters;
use crate::tree::{Attr, ENDLESS, Fault, Ino, Kind, Listed, SeekTo, Time, Tree, Wait};

/// How long the kernel may keep an entry of a directory that changes: the only directories are the
/// few virtual ones, so a lookup a second costs nothing, and a name that depends on the time is right
/// without anybody telling the kernel.
const CHANGING: Duration = Duration::from_secs(1);

/// The longest READ the kernel is asked to send (fs.fuse.max_pages_limit allows 256 pages).
const MAX_READ_BYTES: u32 = 1 << 20;

/// Memory a thread keeps for its next reply.
const KEPT_SCRATCH_BYTES: usize = 2 << 20;

/// Block size shown by statfs(2) and stat(2).
const BLOCK_BYTES: u32 = 4096;

/// The longest name of a directory entry (NAME_MAX).
const NAME_MAX: usize = 255;

thread_local! {
    /// Where READ replies are put together.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What the receiving threads, the I/O threads and the owner of the mount share.
pub(crate) struct Core<T: Tree> {
    pub(crate) tree: Arc<T>,
    pub(crate) workers: Workers,
    pub(crate) counters: Arc<Counters>,
    /// Fixed for the mount's life: ENOSYS to getxattr(2) makes the kernel never ask again.
    pub(crate) xattrs: bool,
}

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

impl<T: Tree> Server<T> {
    /// Answers the kernel's INIT request on a device that was just mounted.
    pub(crate) fn start(
        core: Arc<Core<T>>,
        device: OwnedFd,
        threads: usize,
    ) -> io::Result<Server<T>> {
        let mut config = Config::default();
        config.n_threads = Some(threads);
        // The kernel lets only the mounting user in unless mounted with allow_other (fuse(4)). fuser's
        // own check goes by the file system uid and would refuse a root process that has set another.
        let driver = Driver {
            core,
            no_open: false,
            no_opendir: false,
        };
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

/// A reply that can be an error.
trait Fail: Send + 'static {
    fn fail(self, errno: Errno);
}

macro_rules! fail {
    ($($reply:ty),*) => { $(impl Fail for $reply {
        fn fail(self, errno: Errno) { self.error(errno) }
    })* };
}
fail!(
    ReplyAttr,
    ReplyData,
    ReplyDirectory,
    ReplyDirectoryPlus,
    ReplyEntry,
    ReplyLseek,
    ReplyXattr
);

impl<R: Fail> Expire for Pending<R> {
    fn expire(&self) {
        if let Some(reply) = self.take() {
            reply.fail(Errno::EIO);
        }
    }
}

/// Runs a call of the tree; a panic becomes a fault of that request alone.
pub(crate) fn guarded<A>(call: impl FnOnce() -> Result<A, Fault>) -> Result<A, Fault> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Err(Fault::Damaged(format!(
            "The program failed: {}",
            text.unwrap_or("panic without a message")
        )))
    })
}

fn errno(operation: &'static str, ino: Ino, fault: &Fault) -> Errno {
    match fault {
        Fault::NotFound => Errno::ENOENT,
        Fault::NotDirectory => Errno::ENOTDIR,
        Fault::IsDirectory => Errno::EISDIR,
        Fault::Invalid => Errno::EINVAL,
        Fault::NoAttribute => Errno::ENODATA,
        Fault::NoData => Errno::ENXIO,
        Fault::Damaged(_) | Fault::WouldWait => {
            tracing::error!(operation, inode = ino, %fault, "A request was answered with EIO");
            Errno::EIO
        }
    }
}

impl<T: Tree> Core<T> {
    /// Asks the tree without waiting, and again on an I/O thread if that cannot be; then replies.
    ///
    /// `late` undoes what an answer that came after the deadline left behind in the tree.
    fn serve<R: Fail, A: 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        ino: Ino,
        reply: R,
        ask: impl Fn(&T, Wait, &mut Vec<u8>) -> Result<A, Fault> + Send + 'static,
        answer: impl FnOnce(&Self, R, A, &[u8]) + Send + 'static,
        late: fn(&T, A),
    ) {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            match guarded(|| ask(&self.tree, Wait::Never, scratch)) {
                Ok(found) => answer(self, reply, found, scratch),
                Err(Fault::WouldWait) => {
                    Counters::add(&self.counters.handed_over, 1);
                    let pending = Pending::new(reply);
                    let (core, owed) = (self.clone(), pending.clone());
                    self.workers.submit(operation, ino, pending, move || {
                        core.serve_waiting(operation, ino, &owed, ask, answer, late);
                    });
                }
                Err(fault) => reply.fail(errno(operation, ino, &fault)),
            }
            scratch.shrink_to(KEPT_SCRATCH_BYTES);
        });
    }

    fn serve_waiting<R: Fail, A>(
        &self,
        operation: &'static str,
        ino: Ino,
        owed: &Pending<R>,
        ask: impl Fn(&T, Wait, &mut Vec<u8>) -> Result<A, Fault>,
        answer: impl FnOnce(&Self, R, A, &[u8]),
        late: fn(&T, A),
    ) {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            let found = guarded(|| ask(&self.tree, Wait::Allowed, scratch));
            match (owed.take(), found) {
                (Some(reply), Ok(found)) => answer(self, reply, found, scratch),
                (Some(reply), Err(fault)) => reply.fail(errno(operation, ino, &fault)),
                (None, Ok(found)) => late(&self.tree, found),
                (None, Err(_)) => {}
            }
            scratch.shrink_to(KEPT_SCRATCH_BYTES);
        });
    }

    fn forget(&self, ino: Ino, count: u64) {
        let outcome = guarded(|| {
            self.tree.forget(ino, count);
            Ok(())
        });
        if let Err(fault) = outcome {
            tracing::error!(inode = ino, %fault, "Dropping references failed");
        }
    }

    fn lifetime(&self, ino: Ino) -> Duration {
        if self.tree.changes(ino) {
            CHANGING
        } else {
            ENDLESS
        }
    }

    /// Lists a directory into a reply: first `.` and `..`, whose cookies are 1 and 2.
    fn list<R: Listing>(self: &Arc<Self>, dir: Ino, offset: u64, mut reply: R) {
        let parent = match guarded(|| {
            if offset < 2 {
                self.tree.parent(dir)
            } else {
                Ok(dir)
            }
        }) {
            Ok(parent) => parent,
            Err(fault) => return reply.fail(errno("readdir", dir, &fault)),
        };
        let lifetime = self.lifetime(dir);
        for (cookie, name, ino) in [(1, ".", dir), (2, "..", parent)] {
            if offset < cookie && reply.add(name.as_bytes(), &directory(ino), cookie, lifetime) {
                return reply.finish();
            }
        }
        let cookie = if offset <= 2 { 0 } else { offset };
        let mut taken = 0usize;
        let found = guarded(|| {
            self.tree
                .list(dir, cookie, R::COUNTED, Wait::Never, &mut |entry| {
                    let full = reply.add(
                        entry.name,
                        &file_attr(&entry.attr),
                        entry.next_cookie,
                        lifetime,
                    );
                    taken += usize::from(!full);
                    !full
                })
        });
        if taken == 0 && matches!(found, Err(Fault::WouldWait)) {
            Counters::add(&self.counters.handed_over, 1);
            let pending = Pending::new(reply);
            let (core, owed) = (self.clone(), pending.clone());
            self.workers.submit("readdir", dir, pending, move || {
                core.list_waiting(dir, cookie, &owed, lifetime);
            });
        } else {
            conclude(dir, reply, found, taken);
        }
    }

    fn list_waiting<R: Listing>(
        &self,
        dir: Ino,
        cookie: u64,
        owed: &Pending<R>,
        lifetime: Duration,
    ) {
        let mut taken = Vec::new();
        let found = guarded(|| {
            self.tree.list(
                dir,
                cookie,
                R::COUNTED,
                Wait::Allowed,
                &mut |entry: Listed<'_>| {
                    let attr = file_attr(&entry.attr);
                    let full = owed
                        .with(|reply| reply.add(entry.name, &attr, entry.next_cookie, lifetime));
                    if full == Some(false) {
                        taken.push(entry.attr.ino);
                    }
                    full == Some(false)
                },
            )
        });
        match owed.take() {
            Some(reply) => conclude(dir, reply, found, taken.len()),
            // The kernel was told EIO and knows nothing of the references counted for it.
            None if R::COUNTED => taken.into_iter().for_each(|ino| self.forget(ino, 1)),
            None => {}
        }
    }
}

/// Replies with the entries taken; a fault after some of them shows up in the request that follows.
fn conclude<R: Listing>(dir: Ino, reply: R, found: Result<(), Fault>, taken: usize) {
    match found {
        Err(fault) if taken == 0 => reply.fail(errno("readdir", dir, &fault)),
        _ => reply.finish(),
    }
}

/// A reply that is a part of a directory's listing.
trait Listing: Fail {
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
fn directory(ino: Ino) -> FileAttr {
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

fn file_attr(attr: &Attr) -> FileAttr {
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

fn system_time(time: Time) -> SystemTime {
    let secs = Duration::from_secs(time.secs.unsigned_abs());
    let whole = match time.secs {
        0.. => SystemTime::UNIX_EPOCH.checked_add(secs),
        _ => SystemTime::UNIX_EPOCH.checked_sub(secs),
    };
    let nanos = Duration::from_nanos(u64::from(time.nanos));
    whole
        .and_then(|t| t.checked_add(nanos))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

fn reply_xattr(reply: ReplyXattr, size: u32, value: &[u8]) {
    // A size of 0 asks for the length (getxattr(2)).
    match u32::try_from(value.len()) {
        Ok(len) if size == 0 => reply.size(len),
        Ok(len) if len <= size => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
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
        kernel
            .add_capabilities(wanted & offered)
            .map_err(|flags| refused(format!("{flags:?}")))?;
        kernel
            .set_max_write(MAX_READ_BYTES)
            .map_err(|_| refused("reads of 1 MiB".into()))?;
        kernel
            .set_max_background(64)
            .map_err(|_| refused("64 requests in the background".into()))?;
        kernel
            .set_congestion_threshold(64)
            .map_err(|_| refused("a congestion threshold of 64".into()))?;
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
                    let (kept, entry_kept) = (core.lifetime(attr.ino), core.lifetime(dir));
                    reply.entry_with_ttls(&kept, &entry_kept, &file_attr(&attr), Generation(0));
                }
                None if core.tree.changes(dir) => reply.error(Errno::ENOENT),
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
        self.core
            .serve("getattr", ino.0, reply, ask, answer, |_, _| {});
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        Counters::add(&self.core.counters.links, 1);
        let ask = move |tree: &T, wait, _: &mut Vec<u8>| tree.read_link(ino.0, wait);
        let answer = |_: &Core<T>, reply: ReplyData, target: Vec<u8>, _: &[u8]| reply.data(&target);
        self.core
            .serve("readlink", ino.0, reply, ask, answer, |_, _| {});
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        Counters::add(&self.core.counters.opens, 1);
        match self.no_open {
            true => reply.error(Errno::ENOSYS),
            false => reply.opened(
                FileHandle(0),
                FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH,
            ),
        }
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        Counters::add(&self.core.counters.opens, 1);
        match self.no_opendir {
            true => reply.error(Errno::ENOSYS),
            false => reply.opened(
                FileHandle(0),
                FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR,
            ),
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
        let ask =
            move |tree: &T, wait, out: &mut Vec<u8>| tree.read(ino.0, offset, size, wait, out);
        let answer = move |_: &Core<T>, reply: ReplyData, (), data: &[u8]| {
            reply.data(&data[..data.len().min(size as usize)]);
        };
        self.core
            .serve("read", ino.0, reply, ask, answer, |_, ()| {});
    }

    fn readdir(
        &self,
        _: &Request,
        dir: INodeNo,
        _: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        Counters::add(&self.core.counters.lists, 1);
        self.core.list(dir.0, offset, reply);
    }

    fn readdirplus(
        &self,
        _: &Request,
        dir: INodeNo,
        _: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        Counters::add(&self.core.counters.lists, 1);
        self.core.list(dir.0, offset, reply);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match guarded(|| Ok(self.core.tree.usage())) {
            Ok(usage) => {
                let blocks = usage.used_bytes.div_ceil(u64::from(BLOCK_BYTES));
                reply.statfs(
                    blocks,
                    0,
                    0,
                    usage.files,
                    0,
                    BLOCK_BYTES,
                    NAME_MAX as u32,
                    BLOCK_BYTES,
                );
            }
            Err(fault) => reply.error(errno("statfs", 1, &fault)),
        }
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        Counters::add(&self.core.counters.xattrs, 1);
        if !self.core.xattrs {
            return reply.error(Errno::ENOSYS);
        }
        let name = name.as_bytes().to_vec();
        let ask = move |tree: &T, wait, _: &mut Vec<u8>| tree.xattr(ino.0, &name, wait);
        let answer =
            move |_: &Core<T>, reply, value: Vec<u8>, _: &[u8]| reply_xattr(reply, size, &value);
        self.core
            .serve("getxattr", ino.0, reply, ask, answer, |_, _| {});
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
        self.core
            .serve("listxattr", ino.0, reply, ask, answer, |_, ()| {});
    }

    fn lseek(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
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
        let answer =
            |_: &Core<T>, reply: ReplyLseek, found: u64, _: &[u8]| match i64::try_from(found) {
                Ok(found) => reply.offset(found),
                Err(_) => reply.error(Errno::EOVERFLOW),
            };
        self.core
            .serve("lseek", ino.0, reply, ask, answer, |_, _| {});
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

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }
}
