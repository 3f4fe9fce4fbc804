//! The directory that stored files are written into, and nothing outside it.
//!
//! Every name is opened relative to its directory and no symbolic link is ever followed below the target,
//! whether the target had it before or the stored tree brought it. What is in the way and of another type
//! is refused, or replaced when [`Options::replace_types`] says so, a directory only when it is empty.
//!
//! What takes the place of something is made under a temporary name beside it, gets content, owner, attributes
//! and mode there, and then its name. So whoever holds the old file open, or may write to it, has the old
//! file and nothing of the new one; and what stays is only what `overwrite::is_as_guarded`. Names of a directory that
//! others can change, and may not in what is restored, are taken from them first ([`Dir::guard`]).
//!
//! Errors are predicates ("could not be created") without a path: whoever asked knows it.

use super::attributes::Subject;
use super::options::Options;
use super::overwrite::{Fate, Overwrite, has_own_links, is_as_guarded, is_safe_inside};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::tree::{Entry, Meta, NAME_MAX_BYTES, Node};
use crate::source::stat::{Kind, Stat};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// An open target directory.
#[derive(Debug)]
pub struct Target {
    root: Dir,
}

/// An open directory in the target.
#[derive(Debug, Clone)]
pub struct Dir {
    /// `None`: it is not there, in a dry run.
    pub(super) fd: Option<Arc<OwnedFd>>,
    pub(super) options: Arc<Options>,
}

/// Which file it is: the numbers of its device and inode.
pub type Id = (u64, u64);

/// How something came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// There was nothing of this name.
    New,
    /// It took the place of something that differed.
    Replaced,
    /// It was there.
    Kept,
    /// What is there stays, whatever it is.
    Skipped,
}

impl Target {
    /// Opens the directory at `path`; makes it, and those above it, where missing. `path` itself may lead
    /// through symbolic links.
    pub fn open(path: &Path, options: Options) -> Result<Target> {
        let options = Arc::new(options);
        require_room(path)?;
        if options.dry_run && !path.exists() {
            return Ok(Target { root: Dir { fd: None, options } });
        }
        // Nobody else writes into what is being restored; the umask may take more from it.
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
        made.context(|| format!("The directory {} could not be made: name another as TARGET", path.display()))?;
        let fd = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())
            .context(|| format!("cannot open the directory {}", path.display()))?;
        Ok(Target { root: Dir { fd: Some(Arc::new(fd)), options } })
    }

    /// Returns the target directory itself.
    pub fn root(&self) -> Dir {
        self.root.clone()
    }

    /// Waits until all that was written is on the disk (syncfs(2)).
    pub fn sync(&self) -> Result<()> {
        let synced = self.root.fd().and_then(rustix::fs::syncfs);
        synced.context(|| "the restored files could not be written to the disk".into())
    }
}

/// Fails where something that is no directory has the name of a target, or of what must be made above it.
fn require_room(path: &Path) -> Result<()> {
    let above = path.ancestors().filter(|above| !above.as_os_str().is_empty());
    // What cannot be looked at is told by whoever makes or opens the directory.
    let found = above.filter_map(|above| Some((above, std::fs::symlink_metadata(above).ok()?))).next();
    let Some((there, meta)) = found.filter(|(there, _)| !there.is_dir()) else { return Ok(()) };
    let what = match meta.is_symlink() && !there.exists() {
        true => format!("{} is a symbolic link that leads to no directory", there.display()),
        false => format!("{} is no directory", there.display()),
    };
    let advice = "name a directory as TARGET, which is made where it is missing, or move away what is in its place";
    let also = "`bakfs dump SNAP:PATH` writes one file to standard output";
    Err(Error::new(
        ErrorKind::Exists,
        format!("Nothing can be restored below {}: {what}: {advice}; {also}", path.display()),
    ))
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What a directory or file is created with: nobody else sees into it before its own mode is set.
const PRIVATE_DIR: Mode = Mode::RWXU;
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);

impl Dir {
    /// Makes the directory `name`, or enters the one that exists.
    pub fn make_dir(&self, name: &[u8]) -> Result<Dir> {
        checked(name)?;
        if self.options.dry_run {
            return match self.enter(name) {
                Err(error) if error.kind() == ErrorKind::Exists && self.options.replace_types => Ok(self.absent()),
                entered => entered,
            };
        }
        loop {
            match self.fd().and_then(|fd| rustix::fs::mkdirat(fd, name, PRIVATE_DIR)) {
                Ok(()) => {}
                Err(Errno::EXIST) => self.unlock(name),
                Err(error) => return Err(Error::io("the directory could not be made", error)),
            }
            match self.enter(name) {
                Err(error) if error.kind() == ErrorKind::Exists && self.options.replace_types => self.clear(name)?,
                entered => return entered,
            }
        }
    }

    /// Opens the existing directory `name`; of kind [`ErrorKind::Exists`] is the error where it is something else.
    pub fn enter(&self, name: &[u8]) -> Result<Dir> {
        checked(name)?;
        let Some(fd) = &self.fd else { return Ok(self.absent()) };
        match rustix::fs::openat(&**fd, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Dir { fd: Some(Arc::new(fd)), options: Arc::clone(&self.options) }),
            Err(Errno::NOENT) if self.options.dry_run => Ok(self.absent()),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(in_the_way(self.look(name)?.map_or(Kind::Unknown, |it| it.kind))),
            Err(error) => Err(Error::io("the directory could not be opened", error)),
        }
    }

    /// Takes the names in it from those who can change them now and may not in what is restored: nobody is to
    /// exchange a file while it is written. [`Dir::finish`] gives it what it shall have.
    pub fn guard(&self, meta: &Meta) -> Result<()> {
        let Some(fd) = self.fd.as_ref().filter(|_| !self.options.dry_run) else { return Ok(()) };
        let there = Stat::of(fd.as_fd()).context(|| "the directory could not be looked at".into())?;
        let has_same_acl = || Subject::open(fd.as_fd()).has_same_acl(meta);
        if is_safe_inside(&there, meta, &self.options.owners, has_same_acl) {
            return Ok(());
        }
        let me = rustix::process::geteuid();
        if there.uid != me.as_raw() && !me.is_root() {
            // It belongs to somebody else, who lets this user write.
            return Ok(());
        }
        let taken = rustix::fs::fchown(&**fd, Some(me), None).and_then(|()| rustix::fs::fchmod(&**fd, PRIVATE_DIR));
        match taken {
            // A file system without owners, as FAT, or one that does not let root be root, as NFS.
            Ok(()) | Err(Errno::PERM | Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(()),
            Err(error) => Err(Error::io("the directory, which others may change, could not be taken from them", error)),
        }
    }

    /// Lets a user who is not root enter and change an own directory that an earlier restore has finished;
    /// its mode is set again when this one has.
    fn unlock(&self, name: &[u8]) {
        let user = rustix::process::geteuid();
        let is_locked =
            |there: &Stat| there.kind == Kind::Directory && there.uid == user.as_raw() && there.mode & 0o700 != 0o700;
        let there = || self.look(name).ok().flatten().filter(is_locked);
        let Some(there) = (!user.is_root()).then(there).flatten() else { return };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(fd) = self.fd().and_then(|fd| rustix::fs::openat(fd, name, flags, Mode::empty())) {
            // What remains locked is told by whoever cannot enter or change it.
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            let _ = rustix::fs::chmod(path, Mode::from_raw_mode(there.mode | 0o700));
        }
    }

    /// Makes what is neither regular file nor directory: symbolic link, FIFO, socket or device, with its
    /// attributes; returns those that could not be set. One that exists and is the same only gets the attributes,
    /// unless it has to be made anew (`is_forced`).
    pub fn make_node(&self, entry: &Entry, overwrite: Overwrite, is_forced: bool) -> Result<(How, Vec<Error>)> {
        let (name, meta, kind) = (&*entry.name, &entry.meta, kind_of(&entry.node));
        checked(name)?;
        if matches!(kind, Kind::File | Kind::Directory) {
            return Err(Error::usage("is made by other means"));
        }
        let temporary = temporary_name(name);
        let (mut how, mut made_as) = (How::New, name);
        loop {
            let made = match self.options.dry_run {
                true => Err(Errno::EXIST),
                false => self.create_node(made_as, &entry.node),
            };
            match made {
                Ok(()) => break,
                Err(Errno::EXIST) if how == How::Replaced => {
                    // This restore left it when it failed.
                    self.clear(made_as)?;
                    continue;
                }
                Err(Errno::EXIST) => {}
                Err(Errno::PERM) if matches!(kind, Kind::CharDevice | Kind::BlockDevice) => {
                    return Err(Error::io("the device could not be made: that takes root", Errno::PERM));
                }
                Err(error) => return Err(Error::io(format!("the {} could not be made", noun(kind)), error)),
            }
            if let Some(there) = self.look(name)? {
                let fate = overwrite.fate(&there, meta);
                // Of a link only root can change the owner; its mode says nothing (symlink(7)).
                let is_mine = kind == Kind::Symlink || is_as_guarded(&there, meta, &self.options.owners, || true);
                let is_same = there.kind == kind && self.is_same_node(name, &there, &entry.node);
                if fate == Fate::Skipped {
                    return Ok((How::Skipped, Vec::new()));
                } else if fate == Fate::Compared && !is_forced && is_same && is_mine && has_own_links(&there, meta) {
                    return Ok((How::Kept, self.apply_to_name(name, meta, |found| found.is_same_file(&there))?));
                }
                self.make_way(name, there.kind, kind)?;
                (how, made_as) = (How::Replaced, temporary.as_bytes());
            }
            if self.options.dry_run {
                return Ok((how, Vec::new()));
            }
        }
        let errors = self.apply_to_name(made_as, meta, |found| found.kind == kind);
        if how == How::Replaced {
            match &errors {
                Ok(_) => self.take_place(made_as, name)?,
                // The error is the one to tell.
                Err(_) => drop(self.unlink(made_as, AtFlags::empty())),
            }
        }
        errors.map(|errors| (how, errors))
    }

    /// Makes the entry's name another one of the file `source_name` in `source`, which was restored before and is
    /// `id`.
    pub fn hard_link(&self, entry: &Entry, source: &Dir, source_name: &[u8], id: Id) -> Result<How> {
        let (name, kind) = (&*entry.name, kind_of(&entry.node));
        checked(name)?;
        checked(source_name)?;
        let is_it = |there: &Stat| (there.dev, there.ino) == id;
        let link = |name: &[u8]| rustix::fs::linkat(source.fd()?, source_name, self.fd()?, name, AtFlags::empty());
        let mut how = How::New;
        loop {
            if let Some(there) = self.look(name)? {
                if is_it(&there) {
                    return Ok(How::Kept);
                }
                self.make_way(name, there.kind, kind)?;
                how = How::Replaced;
            }
            if self.options.dry_run {
                return Ok(how);
            }
            let temporary = temporary_name(name);
            let made_as = if how == How::New { name } else { temporary.as_bytes() };
            match link(made_as) {
                Ok(()) => {}
                Err(Errno::EXIST) if how == How::New => continue,
                Err(Errno::EXIST) => {
                    self.clear(made_as)?;
                    continue;
                }
                Err(error) => return Err(Error::io("the hard link could not be made", error)),
            }
            // The other name may have been given to another file meanwhile.
            if !self.look(made_as)?.is_some_and(|made| is_it(&made)) {
                self.clear(made_as)?;
                return Err(exchanged());
            }
            if how == How::Replaced {
                self.take_place(made_as, name)?;
            }
            return Ok(how);
        }
    }

    /// Sets the directory's own attributes, once all that belongs into it is there; returns those that could not be.
    pub fn finish(&self, meta: &Meta) -> Vec<Error> {
        match &self.fd {
            Some(fd) if !self.options.dry_run => Subject::open(fd.as_fd()).apply(meta, &self.options),
            _ => Vec::new(),
        }
    }

    /// Returns what has this name, if anything has.
    pub fn look(&self, name: &[u8]) -> Result<Option<Stat>> {
        checked(name)?;
        let Some(fd) = &self.fd else { return Ok(None) };
        match Stat::at(fd.as_fd(), name) {
            Ok(there) => Ok(Some(there)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(|| "what is there could not be looked at".into()),
        }
    }

    fn fd(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.fd.as_ref().map(|fd| fd.as_fd()).ok_or(Errno::NOENT)
    }

    fn absent(&self) -> Dir {
        Dir { fd: None, options: Arc::clone(&self.options) }
    }

    /// Returns how files are written.
    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// Gives what is complete under a temporary name its own.
    pub(super) fn take_place(&self, temporary: &[u8], name: &[u8]) -> Result<()> {
        let renamed = self.fd().and_then(|fd| rustix::fs::renameat(fd, temporary, fd, name));
        renamed.map_err(|error| {
            let _ = self.unlink(temporary, AtFlags::empty());
            Error::io("what is complete beside it could not take the place of what is there", error)
        })
    }

    pub(super) fn unlink(&self, name: &[u8], flags: AtFlags) -> Result<(), Errno> {
        rustix::fs::unlinkat(self.fd()?, name, flags)
    }

    pub(super) fn create(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(self.fd()?, name, flags, PRIVATE_FILE)
    }

    fn create_node(&self, name: &[u8], node: &Node) -> Result<(), Errno> {
        let fd = self.fd()?;
        let make = |kind, device| rustix::fs::mknodat(fd, name, kind, PRIVATE_FILE, device);
        match node {
            Node::Symlink(target) => rustix::fs::symlinkat(&**target, fd, name),
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
                let found = self.fd().and_then(|fd| rustix::fs::readlinkat(fd, name, Vec::new()));
                found.is_ok_and(|found| found.as_bytes() == &**target)
            }
            Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
                (there.rdev_major, there.rdev_minor) == (*major, *minor)
            }
            _ => true,
        }
    }

    /// Refuses to replace what is of another type than what shall be there, if that was not asked for. A directory is
    /// removed; what takes the place of anything else is given its name.
    pub fn make_way(&self, name: &[u8], kind: Kind, wanted: Kind) -> Result<()> {
        if kind == wanted {
            return Ok(());
        }
        match self.options.replace_types {
            false => Err(in_the_way(kind)),
            true if kind == Kind::Directory && !self.options.dry_run => self.clear(name),
            true => Ok(()),
        }
    }

    /// Removes a name, a directory only when it is empty.
    pub(super) fn clear(&self, name: &[u8]) -> Result<()> {
        let removed = match self.unlink(name, AtFlags::empty()) {
            Err(Errno::ISDIR) => self.unlink(name, AtFlags::REMOVEDIR),
            removed => removed,
        };
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                let advice = "move it away, or restore into another directory";
                let message = format!("a directory of this name is in the way, and is not empty: {advice}");
                Err(Error::new(ErrorKind::Exists, message))
            }
            Err(error) => Err(Error::io("what is in the way could not be removed", error)),
        }
    }

    /// Sets the attributes of what has a name, if it is what it should be.
    fn apply_to_name(&self, name: &[u8], meta: &Meta, is_it: impl FnOnce(&Stat) -> bool) -> Result<Vec<Error>> {
        if self.options.dry_run {
            return Ok(Vec::new());
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.fd().and_then(|fd| rustix::fs::openat(fd, name, flags, Mode::empty()));
        let fd = fd.context(|| "could not be opened to set its attributes".into())?;
        let found = Stat::of(fd.as_fd()).context(|| "could not be looked at".into())?;
        if !is_it(&found) {
            return Err(exchanged());
        }
        Ok(Subject::place(fd.as_fd(), found.kind == Kind::Symlink).apply(meta, &self.options))
    }
}

/// Returns the type of file a stored one is.
pub(super) fn kind_of(node: &Node) -> Kind {
    match node {
        Node::File(_) => Kind::File,
        Node::Directory(_) => Kind::Directory,
        Node::Symlink(_) => Kind::Symlink,
        Node::Fifo => Kind::Fifo,
        Node::Socket => Kind::Socket,
        Node::CharDevice { .. } => Kind::CharDevice,
        Node::BlockDevice { .. } => Kind::BlockDevice,
    }
}

fn exchanged() -> Error {
    Error::new(ErrorKind::Replaced, "was exchanged by another program while it was restored: repeat the restore")
}

/// Refuses what is no name of a directory entry: it must not lead out of the target.
pub(super) fn checked(name: &[u8]) -> Result<()> {
    let is_name = (1..=NAME_MAX_BYTES).contains(&name.len()) && !name.contains(&b'/') && !name.contains(&0);
    if is_name && name != b"." && name != b".." {
        return Ok(());
    }
    Err(Error::damaged(format!("\"{}\" is no file name: nothing is restored there", name.escape_ascii())))
}

/// Differs in every run: no file of a user or a snapshot has it by chance or by intent.
pub(super) fn temporary_name(name: &[u8]) -> String {
    static OF_THIS_RUN: OnceLock<RandomState> = OnceLock::new();
    format!(".bakfs-partial-{:016x}", OF_THIS_RUN.get_or_init(RandomState::new).hash_one(name))
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

/// Tells that what has a directory's name is left as it is, so that nothing can be restored below it.
pub(super) fn stays(kind: Kind) -> Error {
    let advice = "say --overwrite if-changed, or restore into another directory";
    Error::new(ErrorKind::Exists, format!("a {} of this name stays, as --overwrite says: {advice}", noun(kind)))
}

fn in_the_way(kind: Kind) -> Error {
    let advice = "remove it, say --replace-types, or restore into another directory";
    Error::new(ErrorKind::Exists, format!("a {} of this name is in the way: {advice}", noun(kind)))
}
