//! The directory that stored files are written into, and nothing outside it.
//!
//! Every name is opened relative to its directory and no symbolic link is ever followed below the target,
//! whether the target had it before or the stored tree brought it. What is in the way and of another type
//! is refused, or replaced when [`Options::overwrite`] says so, a directory only when it is empty. Files
//! that exist but differ are written under a temporary name beside them and renamed when complete.
//!
//! A restore that was cut short can be repeated: a file with the length and the modification time it
//! should have is taken as done, since the time is set last. That holds for a killed process; what a
//! power cut leaves behind is certain only after [`Target::sync`].
//!
//! Errors are predicates ("could not be created") without a path: whoever asked knows it.

use super::attributes::Subject;
use super::owners::Owners;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::tree::{Entry, Meta, NAME_MAX_BYTES, Node};
use crate::source::stat::{Kind, Stat};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How files are written.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether what is in the way and of another type is removed.
    pub overwrite: bool,
    /// Whose the files become.
    pub owners: Owners,
}

/// An open target directory.
#[derive(Debug)]
pub struct Target {
    root: Dir,
}

/// An open directory in the target.
#[derive(Debug, Clone)]
pub struct Dir {
    fd: Arc<OwnedFd>,
    options: Arc<Options>,
}

/// What became of the wish to write a regular file.
#[derive(Debug)]
pub enum Begun {
    /// It is there already; its attributes were set again, except for these errors.
    Done(Vec<Error>),
    /// It is to be written.
    Open(File),
}

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

impl Target {
    /// Opens the directory at `path`; makes it, and those above it, where missing. `path` itself may lead
    /// through symbolic links.
    pub fn open(path: &Path, options: Options) -> Result<Target> {
        std::fs::create_dir_all(path).context(|| format!("cannot make the directory {}", path.display()))?;
        let fd = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())
            .context(|| format!("cannot open the directory {}", path.display()))?;
        Ok(Target { root: Dir { fd: Arc::new(fd), options: Arc::new(options) } })
    }

    /// Returns the target directory itself.
    pub fn root(&self) -> Dir {
        self.root.clone()
    }

    /// Waits until all that was written is on the disk (syncfs(2)).
    pub fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(&*self.root.fd).context(|| "the restored files could not be written to the disk".into())
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What a directory or file is created with: nobody else sees into it before its own mode is set.
const PRIVATE_DIR: Mode = Mode::RWXU;
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);

impl Dir {
    /// Makes the directory `name`, or enters the one that exists.
    pub fn make_dir(&self, name: &[u8]) -> Result<Dir> {
        checked(name)?;
        loop {
            match rustix::fs::mkdirat(&*self.fd, name, PRIVATE_DIR) {
                Ok(()) => {}
                Err(Errno::EXIST) => self.unlock(name),
                Err(error) => return Err(Error::io("the directory could not be made", error)),
            }
            match self.enter(name) {
                Err(error) if error.kind() == ErrorKind::Exists && self.options.overwrite => self.clear(name)?,
                entered => return entered,
            }
        }
    }

    /// Opens the existing directory `name`; of kind [`ErrorKind::Exists`] is the error where it is something else.
    pub fn enter(&self, name: &[u8]) -> Result<Dir> {
        checked(name)?;
        match rustix::fs::openat(&*self.fd, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Dir { fd: Arc::new(fd), options: Arc::clone(&self.options) }),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(in_the_way(self.look(name)?.kind)),
            Err(error) => Err(Error::io("the directory could not be opened", error)),
        }
    }

    /// Lets a user who is not root enter and change an own directory that an earlier restore has finished;
    /// its mode is set again when this one has.
    fn unlock(&self, name: &[u8]) {
        let user = rustix::process::geteuid();
        let is_locked =
            |there: &Stat| there.kind == Kind::Directory && there.uid == user.as_raw() && there.mode & 0o700 != 0o700;
        let Some(there) = (!user.is_root()).then(|| self.look(name).ok().filter(is_locked)).flatten() else { return };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(fd) = rustix::fs::openat(&*self.fd, name, flags, Mode::empty()) {
            // What remains locked is told by whoever cannot enter or change it.
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            let _ = rustix::fs::chmod(path, Mode::from_raw_mode(there.mode | 0o700));
        }
    }

    /// Begins the regular file `name`, which will be as `meta` says.
    pub fn begin_file(&self, name: &[u8], meta: &Meta) -> Result<Begun> {
        checked(name)?;
        loop {
            match self.create(name) {
                Ok(fd) => return Ok(Begun::Open(File::new(self, fd, name, None))),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(Error::io("could not be created", error)),
            }
            let there = self.look(name)?;
            if there.kind != Kind::File {
                self.clear_other(name, there.kind)?;
            } else if there.size_bytes == meta.size_bytes && there.mtime == meta.mtime {
                return Ok(Begun::Done(self.apply_to_name(name, meta)?));
            } else {
                let temporary = temporary_name(name);
                let fd = match self.create(temporary.as_bytes()) {
                    Err(Errno::EXIST) => {
                        // A restore that was killed left it.
                        self.clear(temporary.as_bytes())?;
                        self.create(temporary.as_bytes())
                    }
                    created => created,
                };
                let fd = fd.context(|| "could not be created under a temporary name beside it".into())?;
                return Ok(Begun::Open(File::new(self, fd, name, Some(temporary))));
            }
        }
    }

    /// Makes what is neither regular file nor directory: symbolic link, FIFO, socket or device, with its
    /// attributes; returns those that could not be set. One that exists and is the same only gets the attributes.
    pub fn make_node(&self, entry: &Entry) -> Result<Vec<Error>> {
        let name = &*entry.name;
        checked(name)?;
        let kind = match &entry.node {
            Node::Symlink(_) => Kind::Symlink,
            Node::Fifo => Kind::Fifo,
            Node::Socket => Kind::Socket,
            Node::CharDevice { .. } => Kind::CharDevice,
            Node::BlockDevice { .. } => Kind::BlockDevice,
            Node::File(_) | Node::Directory(_) => return Err(Error::usage("is made by other means")),
        };
        loop {
            match self.create_node(name, &entry.node) {
                Ok(()) => break,
                Err(Errno::EXIST) => {}
                Err(Errno::PERM) if matches!(kind, Kind::CharDevice | Kind::BlockDevice) => {
                    return Err(Error::io("the device could not be made: that takes root", Errno::PERM));
                }
                Err(error) => return Err(Error::io(format!("the {} could not be made", noun(kind)), error)),
            }
            let there = self.look(name)?;
            if there.kind == kind && self.is_same_node(name, &there, &entry.node) {
                break;
            } else if there.kind == Kind::Symlink && kind == Kind::Symlink {
                self.clear(name)?;
            } else {
                self.clear_other(name, there.kind)?;
            }
        }
        self.apply_to_name(name, &entry.meta)
    }

    /// Makes `name` another name of the file `source_name` in `source`, which was restored before.
    pub fn hard_link(&self, name: &[u8], source: &Dir, source_name: &[u8]) -> Result<()> {
        checked(name)?;
        checked(source_name)?;
        loop {
            match rustix::fs::linkat(&*source.fd, source_name, &*self.fd, name, AtFlags::empty()) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(Error::io("the hard link could not be made", error)),
            }
            let (there, wanted) = (self.look(name)?, source.look(source_name)?);
            if there.is_same_file(&wanted) {
                return Ok(());
            } else if there.kind == wanted.kind {
                self.clear(name)?;
            } else {
                self.clear_other(name, there.kind)?;
            }
        }
    }

    /// Sets the directory's own attributes, once all that belongs into it is there; returns those that could not be.
    pub fn finish(&self, meta: &Meta) -> Vec<Error> {
        Subject::open(self.fd.as_fd()).apply(meta, &self.options.owners)
    }

    fn look(&self, name: &[u8]) -> Result<Stat> {
        Stat::at(self.fd.as_fd(), name).context(|| "what is there could not be looked at".into())
    }

    fn create(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&*self.fd, name, flags, PRIVATE_FILE)
    }

    fn create_node(&self, name: &[u8], node: &Node) -> Result<(), Errno> {
        let make = |kind, device| rustix::fs::mknodat(&*self.fd, name, kind, PRIVATE_FILE, device);
        match node {
            Node::Symlink(target) => rustix::fs::symlinkat(&**target, &*self.fd, name),
            Node::Fifo => make(FileType::Fifo, 0),
            Node::Socket => make(FileType::Socket, 0),
            Node::CharDevice { major, minor } => make(FileType::CharacterDevice, rustix::fs::makedev(*major, *minor)),
            Node::BlockDevice { major, minor } => make(FileType::BlockDevice, rustix::fs::makedev(*major, *minor)),
            Node::File(_) | Node::Directory(_) => Err(Errno::INVAL),
        }
    }

    /// Returns whether what is there, already of the same type, is `node`.
    fn is_same_node(&self, name: &[u8], there: &Stat, node: &Node) -> bool {
        match node {
            Node::Symlink(target) => {
                let found = rustix::fs::readlinkat(&*self.fd, name, Vec::new());
                found.is_ok_and(|found| found.as_bytes() == &**target)
            }
            Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
                (there.rdev_major, there.rdev_minor) == (*major, *minor)
            }
            _ => true,
        }
    }

    /// Removes what is of another type than what shall be there, if that was asked for.
    fn clear_other(&self, name: &[u8], kind: Kind) -> Result<()> {
        if self.options.overwrite { self.clear(name) } else { Err(in_the_way(kind)) }
    }

    /// Removes a name, a directory only when it is empty.
    fn clear(&self, name: &[u8]) -> Result<()> {
        let removed = match rustix::fs::unlinkat(&*self.fd, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => rustix::fs::unlinkat(&*self.fd, name, AtFlags::REMOVEDIR),
            removed => removed,
        };
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(Error::io("what is in the way could not be removed", error)),
        }
    }

    fn apply_to_name(&self, name: &[u8], meta: &Meta) -> Result<Vec<Error>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&*self.fd, name, flags, Mode::empty())
            .context(|| "could not be opened to set its attributes".into())?;
        let kind = Stat::of(fd.as_fd()).context(|| "could not be looked at".into())?.kind;
        Ok(Subject::place(fd.as_fd(), kind == Kind::Symlink).apply(meta, &self.options.owners))
    }
}

impl File {
    fn new(dir: &Dir, fd: OwnedFd, name: &[u8], temporary: Option<String>) -> File {
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
                .context(|| format!("its length of {} bytes could not be set", meta.size_bytes))?;
        }
        let errors = Subject::open(self.fd.as_fd()).apply(meta, &self.dir.options.owners);
        if let Some(temporary) = &self.temporary {
            rustix::fs::renameat(&*self.dir.fd, temporary.as_str(), &*self.dir.fd, &*self.name)
                .context(|| format!("the complete file {temporary} could not take the place of the old one"))?;
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
            let _ = rustix::fs::unlinkat(&*self.dir.fd, name, AtFlags::empty());
        }
    }
}

/// Refuses what is no name of a directory entry: it must not lead out of the target.
fn checked(name: &[u8]) -> Result<()> {
    let is_name = (1..=NAME_MAX_BYTES).contains(&name.len()) && !name.contains(&b'/') && !name.contains(&0);
    if is_name && name != b"." && name != b".." {
        return Ok(());
    }
    Err(Error::damaged(format!("\"{}\" is no file name: nothing is restored there", name.escape_ascii())))
}

/// The same for the same name, so that one left behind is found again.
fn temporary_name(name: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    format!(".bakfs-partial-{:016x}", hasher.finish())
}

fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "directory",
        Kind::Symlink => "symbolic link",
        Kind::Fifo => "FIFO",
        Kind::Socket => "socket",
        Kind::CharDevice | Kind::BlockDevice => "device",
        Kind::Unknown => "file of unknown type",
    }
}

fn in_the_way(kind: Kind) -> Error {
    let advice = "remove it, allow it to be overwritten, or restore into another directory";
    Error::new(ErrorKind::Exists, format!("a {} of this name is in the way: {advice}", noun(kind)))
}
