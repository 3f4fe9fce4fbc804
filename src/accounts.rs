//! The machine's users and groups, by number and by name (getpwuid_r(3), getpwnam_r(3), getgrgid_r(3),
//! getgrnam_r(3)). Each function returns `None` where there is none, and fails when the database cannot be asked.

use rustix::io::Errno;
use std::ffi::OsString;
use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::ptr::null_mut;

/// Room for an entry's texts; a longer one (a group of thousands) is asked for again with more.
const FIRST_ROOM_BYTES: usize = 4 << 10;
const MAX_ROOM_BYTES: usize = 16 << 20;

/// Returns the name of the user of a number.
pub fn user_name(uid: u32) -> io::Result<Option<Vec<u8>>> {
    ask(
        // SAFETY: `ask` passes pointers to memory of the stated length that outlives the call.
        |entry, room, len, found| unsafe { libc::getpwuid_r(uid, entry, room, len, found) },
        // SAFETY: the name of an entry that was found ends with NUL.
        |entry: &libc::passwd| unsafe { CStr::from_ptr(entry.pw_name) }.to_bytes().to_vec(),
    )
}

/// Returns the name of the group of a number.
pub fn group_name(gid: u32) -> io::Result<Option<Vec<u8>>> {
    ask(
        // SAFETY: `ask` passes pointers to memory of the stated length that outlives the call.
        |entry, room, len, found| unsafe { libc::getgrgid_r(gid, entry, room, len, found) },
        // SAFETY: the name of an entry that was found ends with NUL.
        |entry: &libc::group| unsafe { CStr::from_ptr(entry.gr_name) }.to_bytes().to_vec(),
    )
}

/// What the machine knows of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The number.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The home.
    pub home: PathBuf,
}

/// Returns the user of a name.
pub fn user(name: &[u8]) -> io::Result<Option<User>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    ask(
        // SAFETY: as above, and `name` ends with NUL.
        |entry, room, len, found| unsafe { libc::getpwnam_r(name.as_ptr(), entry, room, len, found) },
        |entry: &libc::passwd| {
            // SAFETY: the home of an entry that was found ends with NUL.
            let home = unsafe { CStr::from_ptr(entry.pw_dir) }.to_bytes().to_vec();
            User { uid: entry.pw_uid, gid: entry.pw_gid, home: PathBuf::from(OsString::from_vec(home)) }
        },
    )
}

/// Returns the number of the user of a name.
pub fn user_number(name: &[u8]) -> io::Result<Option<u32>> {
    Ok(user(name)?.map(|user| user.uid))
}

/// Returns the number of the group of a name.
pub fn group_number(name: &[u8]) -> io::Result<Option<u32>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    ask(
        // SAFETY: as above, and `name` ends with NUL.
        |entry, room, len, found| unsafe { libc::getgrnam_r(name.as_ptr(), entry, room, len, found) },
        |entry: &libc::group| entry.gr_gid,
    )
}

/// Makes a call, with more room while it is too short (ERANGE), and takes what is wanted of the entry it finds.
fn ask<E, T>(
    call: impl Fn(*mut E, *mut c_char, usize, *mut *mut E) -> c_int,
    take: impl FnOnce(&E) -> T,
) -> io::Result<Option<T>> {
    let mut room = vec![0; FIRST_ROOM_BYTES];
    let mut entry = MaybeUninit::uninit();
    loop {
        let mut found = null_mut();
        match call(entry.as_mut_ptr(), room.as_mut_ptr(), room.len(), &mut found) {
            libc::ERANGE if room.len() < MAX_ROOM_BYTES => room.resize(room.len() * 4, 0),
            // What "there is none" looks like besides 0 (getpwnam(3)).
            0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => {
                // SAFETY: null, or `entry` as the call has filled it; its texts are in `room`.
                return Ok(unsafe { found.as_ref() }.map(take));
            }
            error => return Err(Errno::from_raw_os_error(error).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn root_is_found_both_ways_and_a_stranger_in_neither() {
        assert_eq!(user_name(0).unwrap().unwrap(), b"root");
        assert_eq!(group_name(0).unwrap().unwrap(), b"root");
        assert_eq!([user_number(b"root").unwrap(), group_number(b"root").unwrap()], [Some(0), Some(0)]);
        assert_eq!([user_name(3_999_999_999).unwrap(), group_name(3_999_999_999).unwrap()], [None, None]);
        for name in [&b"nobody here has this name"[..], b"a\0b"] {
            assert_eq!([user_number(name).unwrap(), group_number(name).unwrap()], [None, None]);
        }
    }
}
