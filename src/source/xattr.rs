//! Extended attributes with their raw values, POSIX ACLs (`system.posix_acl_*`) and file capabilities among them.

use crate::error::{Error, ErrorKind};
use crate::format::{codec::Bytes, tree::Xattr};
use rustix::fs;
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

/// The longest value and the longest list of names (XATTR_SIZE_MAX and XATTR_LIST_MAX, limits.h).
pub(crate) const MAX_BYTES: usize = 64 << 10;

/// The most that is kept of one file. A user may set as many as XFS, btrfs or tmpfs have room for, and an entry must fit
/// into a page of a directory (`MAX_LONE_PAGE_BYTES`).
const MAX_TOTAL_BYTES: usize = 3 << 20;
/// What one takes besides its name and value, at most.
const OVERHEAD_BYTES: usize = 32;

/// Extended attributes, and why others are missing.
#[derive(Debug, Default)]
pub struct Xattrs {
    /// What could be read, sorted by name.
    pub list: Vec<Xattr>,
    /// One error for each attribute, or for the list itself, that could not be read.
    pub errors: Vec<Error>,
}

/// Returns the extended attributes of an open file or directory.
pub fn of_fd(file: BorrowedFd<'_>) -> Xattrs {
    read(|names| fs::flistxattr(file, names), |name, value| fs::fgetxattr(file, name, value))
}

/// Returns the extended attributes of `name` in the directory `dir`, of a symbolic link its own: for what
/// cannot be opened, as symbolic links, FIFOs, sockets, devices and unreadable files. Needs `/proc`.
pub fn of_name(dir: BorrowedFd<'_>, name: &[u8]) -> Xattrs {
    match proc_path(dir, name) {
        Ok(path) => read(|names| fs::llistxattr(&*path, names), |name, value| fs::lgetxattr(&*path, name, value)),
        Err(error) => {
            Xattrs { list: Vec::new(), errors: vec![Error::io("extended attributes could not be listed", error)] }
        }
    }
}

/// Returns a path of `name` in the open directory `dir`, however long the directory's own path is (proc(5)).
pub(crate) fn proc_path(dir: BorrowedFd<'_>, name: &[u8]) -> Result<CString, Errno> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    CString::new(path).map_err(|_| Errno::INVAL)
}

fn read(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&CStr, &mut [u8]) -> Result<usize, Errno>,
) -> Xattrs {
    let mut found = Xattrs::default();
    let mut buffer = [0; 1024];
    let names = match with_room(&mut buffer, list) {
        Ok(names) => names,
        Err(Errno::NOTSUP) => return found,
        Err(error) => {
            found.errors.push(Error::io("extended attributes could not be listed", error));
            return found;
        }
    };
    let mut buffer = [0; 1024];
    let mut names: Vec<&[u8]> = names.split_inclusive(|&byte| byte == 0).collect();
    // Access lists and capabilities first: what everybody can set is what there may be too much of.
    names.sort_by_key(|name| name.starts_with(b"user."));
    let mut room_bytes = MAX_TOTAL_BYTES;
    for (at, name) in names.iter().enumerate() {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        match with_room(&mut buffer, |value| get(name, value)) {
            Ok(value) if name.count_bytes() + value.len() + OVERHEAD_BYTES > room_bytes => {
                let left = names.len() - at;
                let message = format!(
                    "{left} of its {} extended attributes were left out: together they have more than {} MiB",
                    names.len(),
                    MAX_TOTAL_BYTES >> 20
                );
                found.errors.push(Error::new(ErrorKind::Io, message));
                break;
            }
            Ok(value) => {
                room_bytes -= name.count_bytes() + value.len() + OVERHEAD_BYTES;
                found.list.push(Xattr { name: Bytes(name.to_bytes().to_vec()), value: Bytes(value) });
            }
            // It was removed after it was listed.
            Err(Errno::NODATA) => {}
            Err(error) => {
                let message = format!("the extended attribute {} could not be read", name.to_bytes().escape_ascii());
                found.errors.push(Error::io(message, error));
            }
        }
    }
    found.list.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Calls with a small buffer, then, when that is too short, once with one for the longest answer there is,
/// so that a value which grows meanwhile fits too.
fn with_room(small: &mut [u8], call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    match call(small) {
        Ok(len) => Ok(small[..len].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; MAX_BYTES];
            let len = call(&mut large)?;
            large.truncate(len);
            large.shrink_to_fit();
            Ok(large)
        }
        Err(error) => Err(error),
    }
}
