//! What ioctl(2) tells of a file system.

use crate::format::tree::Time;
use rustix::ioctl::{Getter, Opcode, ioctl};
use std::os::fd::BorrowedFd;

/// `FS_IOC_GETFSUUID`, Linux 6.9: `_IOR(0x15, 0, struct fsuuid2)` (include/uapi/linux/fs.h).
const GET_UUID: Opcode = 0x8011_1500;
/// `BTRFS_IOC_FS_INFO`: `_IOR(0x94, 31, struct btrfs_ioctl_fs_info_args)` (include/uapi/linux/btrfs.h).
const BTRFS_INFO: Opcode = 0x8400_941f;
/// `BTRFS_IOC_GET_SUBVOL_INFO`, Linux 4.18: `_IOR(0x94, 60, struct btrfs_ioctl_get_subvol_info_args)`.
const BTRFS_SUBVOLUME: Opcode = 0x81f8_943c;

/// A btrfs subvolume.
pub struct Subvolume {
    pub own: [u8; 16],
    /// What it is a snapshot of; zero if it is none.
    pub parent: [u8; 16],
    pub made: Time,
}

fn hexadecimal(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

pub fn uuid(fd: BorrowedFd<'_>) -> Option<Vec<u8>> {
    // SAFETY: the call writes a structure of 17 bytes, all of whose values are valid.
    let found = unsafe { ioctl(fd, Getter::<GET_UUID, [u8; 17]>::new()) }.ok()?;
    let uuid = found.get(1..=usize::from(found[0]))?;
    (!uuid.is_empty()).then(|| hexadecimal(uuid))
}

/// `struct btrfs_ioctl_fs_info_args`.
#[repr(C)]
struct Info {
    _before: [u64; 2],
    uuid: [u8; 16],
    _after: [u64; 124],
}

/// `struct btrfs_ioctl_timespec`.
#[repr(C)]
struct Made {
    secs: u64,
    nanos: u32,
}

/// `struct btrfs_ioctl_get_subvol_info_args`.
#[repr(C)]
struct SubvolumeInfo {
    _before: [u64; 37],
    own: [u8; 16],
    parent: [u8; 16],
    _between: [u64; 8],
    made: Made,
    _after: [u64; 12],
}

const _: () = assert!(size_of::<Info>() == 1024 && size_of::<SubvolumeInfo>() == 504);

pub fn btrfs_uuid(fd: BorrowedFd<'_>) -> Option<[u8; 16]> {
    // SAFETY: the call writes this structure, all of whose values are valid.
    Some(unsafe { ioctl(fd, Getter::<BTRFS_INFO, Info>::new()) }.ok()?.uuid)
}

pub fn subvolume(fd: BorrowedFd<'_>) -> Option<Subvolume> {
    // SAFETY: the call writes this structure, all of whose values are valid.
    let found = unsafe { ioctl(fd, Getter::<BTRFS_SUBVOLUME, SubvolumeInfo>::new()) }.ok()?;
    let made = Time { secs: i64::try_from(found.made.secs).ok()?, nanos: found.made.nanos.min(999_999_999) };
    Some(Subvolume { own: found.own, parent: found.parent, made })
}
