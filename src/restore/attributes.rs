//! Gives a restored file its owner, extended attributes, mode and times, in the order in which none undoes another.
//!
//! A new owner clears setuid, setgid and file capabilities, so it comes first; a mode may take away the
//! right to set attributes, so it follows them; everything else sets times, so they come last. The access
//! time becomes the modification time. Birth and change time cannot be set: no kernel offers it.
//!
//! An ordinary user cannot give files away: a file stays the user's own, without trouble, but then without
//! setuid and setgid, as with cp(1), because these would lend this user's rights instead of the owner's.

use super::options::Options;
use crate::error::Error;
use crate::format::tree::{Meta, Time, Xattr};
use crate::source::stat::Stat;
use crate::source::xattr;
use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The attribute that holds an access list.
const ACL: &[u8] = b"system.posix_acl_access";

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

    /// Sets everything that can be set and is not so already; returns an error for each thing that could not.
    pub(super) fn apply(&self, meta: &Meta, options: &Options) -> Vec<Error> {
        let Options { owners, xattrs, .. } = options;
        let mut errors = Vec::new();
        let mut note = |result: Result<(), Errno>, what: &dyn Fn() -> String| {
            errors.extend(result.err().map(|error| Error::io(what(), error)));
        };
        // What cannot be looked at is set.
        let there = Stat::of(self.fd).ok();
        let (uid, gid) = (owners.user(meta.uid), owners.group(meta.gid));
        let has_owner = there.as_ref().is_some_and(|there| (there.uid, there.gid) == (uid, gid));
        let owner = if has_owner { Ok(true) } else { self.set_owner(uid, gid) };
        let is_owned = owner == Ok(true);
        note(owner.map(drop), &|| format!("the owner {}:{} could not be set", meta.uid, meta.gid));
        let names = self.xattr_names();
        let mut has_mode = has_owner;
        for name in names.iter().filter(|name| xattrs.takes(name) && is_surplus(name, &meta.xattrs)) {
            let what = || format!("the extended attribute {} could not be removed", name.escape_ascii());
            note(self.remove_xattr(name), &what);
            has_mode = false;
        }
        for xattr in meta.xattrs.iter().filter(|xattr| xattrs.takes(&xattr.name)) {
            if names.contains(&xattr.name.0) && self.has_xattr(xattr) {
                continue;
            }
            let what = || format!("the extended attribute {} could not be set", xattr.name.escape_ascii());
            note(self.set_xattr(xattr), &what);
            has_mode = false;
        }
        let mode = if is_owned { meta.mode } else { meta.mode & !0o6000 };
        // A new owner or ACL changes the mode.
        has_mode &= there.as_ref().is_some_and(|there| there.mode == mode);
        if !has_mode && !self.is_symlink {
            note(self.set_mode(mode), &|| format!("the mode {mode:04o} could not be set"));
        }
        if there.is_none_or(|there| there.mtime != meta.mtime) {
            note(self.set_times(meta.mtime), &|| "the modification time could not be set".into());
        }
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

    /// Returns the names of the attributes the file has.
    fn xattr_names(&self) -> Vec<Vec<u8>> {
        let list = |buffer: &mut [u8]| match &self.place {
            None => rustix::fs::flistxattr(self.fd, buffer),
            Some(path) => rustix::fs::listxattr(&**path, buffer),
        };
        // Without extended attributes (ENOTSUP) there are none.
        let names = with_room(list).unwrap_or_default();
        names.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
    }

    /// Returns whether it has the access list of `meta`, or none as that has none (acl(5)).
    pub(super) fn has_same_acl(&self, meta: &Meta) -> bool {
        match meta.xattrs.iter().find(|xattr| *xattr.name == *ACL) {
            Some(wanted) => self.has_xattr(wanted),
            None => !self.xattr_names().iter().any(|name| name == ACL),
        }
    }

    fn has_xattr(&self, xattr: &Xattr) -> bool {
        let get = |buffer: &mut [u8]| match &self.place {
            None => rustix::fs::fgetxattr(self.fd, &*xattr.name, buffer),
            Some(path) => rustix::fs::getxattr(&**path, &*xattr.name, buffer),
        };
        with_room(get).is_ok_and(|value| value == *xattr.value)
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

/// Returns whether a file should not have the attribute `name`, as an ACL inherited from its directory.
/// Those that security modules keep for themselves are left alone; capabilities are not among them.
fn is_surplus(name: &[u8], wanted: &[Xattr]) -> bool {
    let is_kept = name.starts_with(b"security.") && name != b"security.capability";
    !is_kept && !wanted.iter().any(|xattr| *xattr.name == *name)
}

/// Calls with a small buffer, then, when that is too short, with one for the longest answer there is.
fn with_room(call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; 256];
    match call(&mut small) {
        Err(Errno::RANGE) => {
            let mut large = vec![0; xattr::MAX_BYTES];
            let len = call(&mut large)?;
            large.truncate(len);
            Ok(large)
        }
        len => len.map(|len| small[..len].to_vec()),
    }
}
