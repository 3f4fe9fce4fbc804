//! Gives a restored file its owner, extended attributes, mode and times, in the order in which none undoes another.
//!
//! A new owner clears setuid, setgid and file capabilities, so it comes first; a mode may take away the
//! right to set attributes, so it follows them; everything else sets times, so they come last. The access
//! time becomes the modification time. Birth and change time cannot be set: no kernel offers it.
//!
//! An ordinary user cannot give files away: a file stays the user's own, without trouble, but then without
//! setuid and setgid, as with cp(1), because these would lend this user's rights instead of the owner's.

use super::owners::Owners;
use crate::error::Error;
use crate::format::tree::{Meta, Time, Xattr};
use crate::source::xattr;
use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A file to give attributes to.
pub(super) struct Subject<'a> {
    fd: BorrowedFd<'a>,
    /// For a file that cannot be opened, of which `fd` is only a place (O_PATH): its name in /proc.
    place: Option<CString>,
    is_symlink: bool,
}

impl<'a> Subject<'a> {
    /// An open file or directory.
    pub(super) fn open(fd: BorrowedFd<'a>) -> Subject<'a> {
        Subject { fd, place: None, is_symlink: false }
    }

    /// A file of any type as a place (O_PATH and O_NOFOLLOW, open(2)). Needs `/proc`.
    pub(super) fn place(fd: BorrowedFd<'a>, is_symlink: bool) -> Subject<'a> {
        let place = CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok();
        Subject { fd, place, is_symlink }
    }

    /// Sets everything that can be set; returns an error for each thing that could not.
    pub(super) fn apply(&self, meta: &Meta, owners: &Owners) -> Vec<Error> {
        let mut errors = Vec::new();
        let mut note = |result: Result<(), Errno>, what: &dyn Fn() -> String| {
            errors.extend(result.err().map(|error| Error::io(what(), error)));
        };
        let owner = self.set_owner(owners.user(meta.uid), owners.group(meta.gid));
        let is_owned = owner == Ok(true);
        note(owner.map(drop), &|| format!("the owner {}:{} could not be set", meta.uid, meta.gid));
        for name in self.surplus_xattrs(&meta.xattrs) {
            let what = || format!("the extended attribute {} could not be removed", name.escape_ascii());
            note(self.remove_xattr(&name), &what);
        }
        for xattr in &meta.xattrs {
            let what = || format!("the extended attribute {} could not be set", xattr.name.escape_ascii());
            note(self.set_xattr(xattr), &what);
        }
        if !self.is_symlink {
            let mode = if is_owned { meta.mode } else { meta.mode & !0o6000 };
            note(self.set_mode(mode), &|| format!("the mode {mode:04o} could not be set"));
        }
        note(self.set_times(meta.mtime), &|| "the modification time could not be set".into());
        errors
    }

    /// Returns whether the file belongs to this owner and group now; not where only root could do that.
    fn set_owner(&self, uid: u32, gid: u32) -> Result<bool, Errno> {
        // The number that means "leave it" (chown(2)) is no owner.
        let user = (uid != u32::MAX).then(|| Uid::from_raw(uid)).ok_or(Errno::INVAL)?;
        let group = (gid != u32::MAX).then(|| Gid::from_raw(gid)).ok_or(Errno::INVAL)?;
        let chown = |user, group| match &self.place {
            None => rustix::fs::fchown(self.fd, user, group),
            Some(_) => rustix::fs::chownat(self.fd, c"", user, group, AtFlags::EMPTY_PATH),
        };
        match chown(Some(user), Some(group)) {
            Err(Errno::PERM) if !rustix::process::geteuid().is_root() => {
                // The group alone is possible where the user is a member of it.
                match chown(None, Some(group)) {
                    Ok(()) | Err(Errno::PERM) => Ok(false),
                    Err(error) => Err(error),
                }
            }
            done => done.map(|()| true),
        }
    }

    /// Returns the names of attributes the file has but should not, as an ACL inherited from its directory.
    /// Those that security modules keep for themselves are left alone; capabilities are not among them.
    fn surplus_xattrs(&self, wanted: &[Xattr]) -> Vec<Vec<u8>> {
        let mut buffer = vec![0; 1024];
        let list = |buffer: &mut [u8]| match &self.place {
            None => rustix::fs::flistxattr(self.fd, buffer),
            Some(path) => rustix::fs::listxattr(&**path, buffer),
        };
        let len = match list(&mut buffer) {
            Err(Errno::RANGE) => {
                buffer.resize(xattr::MAX_BYTES, 0);
                list(&mut buffer)
            }
            listed => listed,
        };
        // Without extended attributes (ENOTSUP) there are none too many.
        let names = buffer[..len.unwrap_or(0)].split(|&byte| byte == 0).filter(|name| !name.is_empty());
        let is_surplus = |name: &&[u8]| {
            let is_kept = name.starts_with(b"security.") && *name != b"security.capability";
            !is_kept && !wanted.iter().any(|xattr| *xattr.name == **name)
        };
        names.filter(is_surplus).map(<[u8]>::to_vec).collect()
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        match &self.place {
            None => rustix::fs::fremovexattr(self.fd, name),
            Some(path) => rustix::fs::removexattr(&**path, name),
        }
    }

    fn set_xattr(&self, xattr: &Xattr) -> Result<(), Errno> {
        match &self.place {
            None => rustix::fs::fsetxattr(self.fd, &*xattr.name, &xattr.value, XattrFlags::empty()),
            Some(path) => rustix::fs::setxattr(&**path, &*xattr.name, &xattr.value, XattrFlags::empty()),
        }
    }

    fn set_mode(&self, mode: u32) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(mode & 0o7777);
        match &self.place {
            None => rustix::fs::fchmod(self.fd, mode),
            Some(path) => rustix::fs::chmod(&**path, mode),
        }
    }

    fn set_times(&self, mtime: Time) -> Result<(), Errno> {
        let time = Timespec { tv_sec: mtime.secs, tv_nsec: i64::from(mtime.nanos.min(999_999_999)) };
        let times = Timestamps { last_access: time, last_modification: time };
        match &self.place {
            None => rustix::fs::futimens(self.fd, &times),
            Some(path) => rustix::fs::utimensat(CWD, &**path, &times, AtFlags::empty()),
        }
    }
}
