//! Puts one mount in another's place, without a moment in which nothing is mounted there.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

use crate::kernel::{SUBTYPE, open_device, root_mode};
use crate::{MountError, Options};

/// Says whether files of a mount are open, a process works in it, or something is mounted below it; `None` where this
/// process may not ask, as an ordinary user's.
///
/// umount2(2): the first call with MNT_EXPIRE is EBUSY for a mount in use, and else only marks it.
pub(crate) fn is_in_use(real: &Path) -> Option<bool> {
    let marked = rustix::mount::unmount(real, UnmountFlags::EXPIRE | UnmountFlags::NOFOLLOW);
    // Whoever goes in takes the mark away: a second call would unmount.
    drop(rustix::fs::open(real, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()));
    match marked {
        Err(Errno::AGAIN) => Some(false),
        Err(Errno::BUSY) => Some(true),
        _ => None,
    }
}

/// A mount that is nowhere yet.
pub(crate) struct Detached {
    pub(crate) device: OwnedFd,
    pub(crate) mount: OwnedFd,
}

/// Makes a mount that is nowhere yet, for the place of one that is (fsopen(2), fsmount(2); Linux 5.2).
pub(crate) fn detached(real: &Path, options: &Options) -> Result<Detached, Errno> {
    let device = open_device()?;
    let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    for (key, value) in [
        ("source", options.fs_name.clone()),
        ("subtype", SUBTYPE.into()),
        ("fd", device.as_raw_fd().to_string()),
        ("rootmode", format!("{:o}", root_mode(real)?)),
        ("user_id", uid.to_string()),
        ("group_id", gid.to_string()),
    ] {
        fsconfig_set_string(&context, key, &*value)?;
    }
    for (key, is_wanted) in [("ro", true), ("default_permissions", true), ("allow_other", options.allow_other)] {
        if is_wanted {
            fsconfig_set_flag(&context, key)?;
        }
    }
    fsconfig_create(&context)?;
    let mut flags = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    flags.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, options.no_exec);
    flags.set(MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, options.no_symlinks);
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
    Ok(Detached { device, mount })
}

/// Puts a mount where another one is, which serves on whoever is still in it.
///
/// Linux 6.5 puts the new one beneath and takes the old one off. Before, the old one is taken away first, if nobody is
/// in it, and for some microseconds nothing is there.
pub(crate) fn take_place(mount: &OwnedFd, real: &Path) -> Result<(), MountError> {
    let refused = |errno: Errno| MountError::Refused {
        path: real.to_path_buf(),
        reason: std::io::Error::from(errno).to_string(),
    };
    let put = |flags| move_mount(mount, "", CWD, real, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | flags);
    if put(MoveMountFlags::MOVE_MOUNT_BENEATH).is_ok() {
        return crate::unmount(real, true);
    }
    crate::unmount(real, false)?;
    put(MoveMountFlags::empty()).map_err(refused)
}
