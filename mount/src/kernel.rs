//! Mounting, unmounting and tuning through system calls or the setuid helper fusermount3.
//!
//! fuser can mount too, but unmounts by path when its session ends, even where somebody else has
//! mounted there in the meantime, and needs access to /dev/fuse where only the helper has it.

use std::fs;
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::table::find_mount;
use crate::{MountError, Options};

const DEVICE: &str = "/dev/fuse";
const HELPER: &str = "fusermount3";

/// What the kernel calls the type, and what follows the dot of it.
const FS_TYPE: &str = "fuse.bakfs";
pub(crate) const SUBTYPE: &str = "bakfs";

/// The type of a mount that waits for somebody to look there (Documentation/filesystems/autofs.rst).
const AUTOFS: &str = "autofs";

/// Returns the mount point's real path, or why nothing can be mounted there.
///
/// Over an automount, and over an empty file system (a container's volume), one mounts as over an empty directory.
pub(crate) fn check_mountpoint(mountpoint: &Path) -> Result<PathBuf, MountError> {
    let named = || mountpoint.to_path_buf();
    let real = mountpoint.canonicalize().map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => MountError::Missing(named()),
        Some(Errno::NOTDIR) => MountError::NotDirectory(named()),
        Some(Errno::NOTCONN) => MountError::Dead(named()),
        _ => MountError::Refused { path: named(), reason: error.to_string() },
    })?;
    if let Some(found) = find_mount(&real) {
        // statfs(2) is never answered from the kernel's cache.
        let dead = rustix::fs::statfs(&real).is_err_and(|errno| errno == Errno::NOTCONN);
        if dead {
            return Err(MountError::Dead(real));
        }
        let is_free = found.fs_type == AUTOFS || found.fs_type != FS_TYPE && is_empty(&real);
        if !is_free {
            return Err(MountError::Occupied { path: real, fs_type: found.fs_type });
        }
    }
    match fs::metadata(&real) {
        Ok(meta) if meta.is_dir() => Ok(real),
        Ok(_) => Err(MountError::NotDirectory(real)),
        Err(error) => Err(MountError::Refused { path: real, reason: error.to_string() }),
    }
}

/// Returns whether a file system holds nothing but what mkfs(8) has put there.
fn is_empty(real: &Path) -> bool {
    let is_made = |entry: io::Result<fs::DirEntry>| entry.is_ok_and(|entry| entry.file_name() == "lost+found");
    fs::read_dir(real).is_ok_and(|mut entries| entries.all(is_made))
}

/// Mounts and returns the FUSE device: as root through mount(2), else through fusermount3.
pub(crate) fn mount(real: &Path, options: &Options) -> Result<OwnedFd, MountError> {
    check_options(options)?;
    if rustix::process::geteuid().is_root() {
        match mount_directly(real, options) {
            // A container's root may lack CAP_SYS_ADMIN where the helper is let through.
            Err(Errno::PERM | Errno::ACCESS) => mount_through_helper(real, options),
            Err(errno) => {
                Err(MountError::Refused { path: real.to_path_buf(), reason: io::Error::from(errno).to_string() })
            }
            Ok(device) => Ok(device),
        }
    } else {
        mount_through_helper(real, options)
    }
}

/// Refuses what cannot be passed to the kernel, and a machine without FUSE.
pub(crate) fn check_options(options: &Options) -> Result<(), MountError> {
    if options.fs_name.chars().any(|c| c.is_control() || matches!(c, ',' | '\\')) {
        return Err(MountError::Name(options.fs_name.clone()));
    }
    if Path::new(DEVICE).exists() { Ok(()) } else { Err(MountError::NoDevice) }
}

pub(crate) fn open_device() -> Result<OwnedFd, Errno> {
    rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

/// Returns the mode the kernel gives the root until it asks.
pub(crate) fn root_mode(real: &Path) -> Result<u32, Errno> {
    fs::metadata(real).map(|root| root.mode()).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
}

fn mount_directly(real: &Path, options: &Options) -> Result<OwnedFd, Errno> {
    let device = open_device()?;
    let mut data = format!(
        "fd={},rootmode={:o},user_id={},group_id={},default_permissions,subtype={SUBTYPE}",
        device.as_raw_fd(),
        root_mode(real)?,
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    let data = std::ffi::CString::new(data).map_err(|_| Errno::INVAL)?;
    let mut flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    flags.set(MountFlags::NOEXEC, options.no_exec);
    flags.set(MountFlags::NOSYMFOLLOW, options.no_symlinks);
    rustix::mount::mount(&*options.fs_name, real, "fuse", flags, data.as_c_str())?;
    Ok(device)
}

/// Asks fusermount3 (fusermount3(1)), which answers with the device over the socket that it finds as
/// the descriptor named in `_FUSE_COMMFD`; here that is its standard input.
fn mount_through_helper(real: &Path, options: &Options) -> Result<OwnedFd, MountError> {
    let system = |attempt| move |source| MountError::System { attempt, source };
    let (ours, theirs) = UnixStream::pair().map_err(system("Making a socket for fusermount3"))?;
    let mut list = format!("ro,nosuid,nodev,noatime,default_permissions,fsname={},subtype={SUBTYPE}", options.fs_name);
    let wanted =
        [(options.allow_other, ",allow_other"), (options.no_exec, ",noexec"), (options.no_symlinks, ",nosymfollow")];
    wanted.iter().filter(|(is_wanted, _)| *is_wanted).for_each(|(_, option)| list.push_str(option));
    let mut helper = Command::new(HELPER)
        .args(["-o", &list, "--"])
        .arg(real)
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => MountError::NoHelper,
            _ => MountError::System { attempt: "Starting fusermount3", source },
        })?;
    let device = receive_device(&ours);
    let mut said = String::new();
    if let Some(mut stderr) = helper.stderr.take() {
        stderr.read_to_string(&mut said).map_err(system("Reading what fusermount3 says"))?;
    }
    helper.wait().map_err(system("Waiting for fusermount3"))?;
    match device {
        Ok(Some(device)) => Ok(device),
        _ if said.contains("user_allow_other") => Err(MountError::AllowOther),
        _ if said.contains("open /dev/fuse: Permission denied") => Err(MountError::DeviceDenied),
        Ok(None) => Err(MountError::Refused { path: real.to_path_buf(), reason: said.trim().to_owned() }),
        Err(source) => Err(MountError::System { attempt: "Receiving the device from fusermount3", source }),
    }
}

/// Returns the descriptor sent over the socket; `None` when the other side closed it instead.
fn receive_device(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0u8];
    rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}

/// Unmounts; `lazily` takes the mount out of the tree at once and ends it when its last user has gone.
pub fn unmount(real: &Path, lazily: bool) -> Result<(), MountError> {
    let flags = if lazily { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match rustix::mount::unmount(real, flags | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Err(MountError::Busy(real.to_path_buf())),
        Err(Errno::PERM) => unmount_through_helper(real, lazily),
        Err(errno) => Err(MountError::Unmount { path: real.to_path_buf(), reason: io::Error::from(errno).to_string() }),
    }
}

fn unmount_through_helper(real: &Path, lazily: bool) -> Result<(), MountError> {
    let output = Command::new(HELPER)
        .arg(if lazily { "-uz" } else { "-u" })
        .arg("--")
        .arg(real)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => MountError::NoHelper,
            _ => MountError::System { attempt: "Starting fusermount3", source },
        })?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(()),
        false if said.contains("busy") => Err(MountError::Busy(real.to_path_buf())),
        false => Err(MountError::Unmount { path: real.to_path_buf(), reason: said.trim().to_owned() }),
    }
}

/// Raises how far the kernel reads ahead in files of the mount; needs root (returns whether it worked).
///
/// FUSE itself offers 128 KiB at most; measured with 256 KiB frames, 2 MiB is 1.8 times as fast.
pub(crate) fn set_read_ahead(real: &Path, kib: u32) -> bool {
    // Looked up in mountinfo: a stat of the mount would wait for an answer nobody gives yet.
    find_mount(real).is_some_and(|found| {
        fs::write(format!("/sys/class/bdi/{}/read_ahead_kb", found.device), kib.to_string()).is_ok()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_mount_point_must_be_a_directory_that_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        assert!(matches!(check_mountpoint(&missing), Err(MountError::Missing(_))));
        let file = dir.path().join("file");
        fs::write(&file, b"x").unwrap();
        assert!(matches!(check_mountpoint(&file), Err(MountError::NotDirectory(_))));
        assert!(matches!(check_mountpoint(&file.join("x")), Err(MountError::NotDirectory(_))));
        assert!(matches!(check_mountpoint(Path::new("/proc")), Err(MountError::Occupied { .. })));
        assert_eq!(check_mountpoint(dir.path()).unwrap(), dir.path().canonicalize().unwrap());
        let options = Options { fs_name: "a,suid".into(), ..Options::default() };
        assert!(matches!(mount(dir.path(), &options), Err(MountError::Name(_))));
    }
}
