//! Why a mount could not be made or removed, and what to do about it.

use std::io;
use std::path::PathBuf;

/// A mount that could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mount point does not exist.
    #[error("The mount point {} does not exist; create it: mkdir -p {}", .0.display(), .0.display())]
    Missing(PathBuf),
    /// The mount point is not a directory.
    #[error("The mount point {} is not a directory; name an empty directory", .0.display())]
    NotDirectory(PathBuf),
    /// A file system is mounted there already.
    #[error("{} is already a mount point ({fs_type}); unmount it or name another directory", .path.display())]
    Occupied {
        /// The mount point.
        path: PathBuf,
        /// The type of the file system mounted there.
        fs_type: String,
    },
    /// The server of a FUSE mount has died and left its mount behind.
    #[error(
        "A file system whose server has died is still mounted at {}; remove it: umount -l {} \
         (or fusermount3 -uz {}), then mount again",
        .0.display(), .0.display(), .0.display()
    )]
    Dead(PathBuf),
    /// The kernel has no FUSE, or this container was not given it.
    #[error("There is no /dev/fuse; load the module (modprobe fuse), or give the container the device")]
    NoDevice,
    /// The device is there and its mode keeps this user out.
    #[error(
        "/dev/fuse may not be opened by this user; as root set the mode udev gives it \
         (chmod 666 /dev/fuse), or mount as root"
    )]
    DeviceDenied,
    /// An ordinary user cannot mount without the helper.
    #[error("Mounting as an ordinary user needs fusermount3; install the package fuse3, or mount as root")]
    NoHelper,
    /// `allow_other` was asked for and the administrator does not permit it.
    #[error(
        "Opening the mount to other users is not permitted; add the line user_allow_other to /etc/fuse.conf, or mount without --allow-other"
    )]
    AllowOther,
    /// The file system name cannot be passed to the kernel.
    #[error("The file system name {0:?} holds a comma, a backslash or a control character; choose a plain name")]
    Name(String),
    /// The kernel or the helper refused.
    #[error("Mounting at {} failed: {reason}", .path.display())]
    Refused {
        /// The mount point.
        path: PathBuf,
        /// What the kernel or the helper said.
        reason: String,
    },
    /// Files of the mount are open, or a process works in it.
    #[error("{} is in use (fuser -vm {} lists by whom); end its users, or unmount with -z, which lets them go on with what they have open", .0.display(), .0.display())]
    Busy(PathBuf),
    /// Unmounting failed for another reason.
    #[error("Unmounting {} failed: {reason}", .path.display())]
    Unmount {
        /// The mount point.
        path: PathBuf,
        /// What the kernel or the helper said.
        reason: String,
    },
    /// A resource of the system was missing.
    #[error("{attempt} failed: {source}")]
    System {
        /// What was attempted.
        attempt: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}
