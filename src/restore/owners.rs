//! Which owners restored files get on this machine.

use crate::error::{Context, Result};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::ptr::null_mut;

/// From stored user and group numbers to this machine's: the same number where nothing else is said.
#[derive(Debug, Clone, Default)]
pub struct Owners {
    users: HashMap<u32, u32>,
    groups: HashMap<u32, u32>,
}

impl Owners {
    /// Keeps all numbers as they are stored.
    pub fn numeric() -> Owners {
        Owners::default()
    }

    /// Gives each number whose name was stored to the user or group that has this name on this machine,
    /// and leaves those as they are whose name is not known here.
    ///
    /// Fails when the machine's user database cannot be asked (getpwnam_r(3)).
    pub fn by_name(users: &[(u32, Vec<u8>)], groups: &[(u32, Vec<u8>)]) -> Result<Owners> {
        let mut owners = Owners::numeric();
        for (uid, name) in users {
            let here = local_uid(name).context(|| lookup("user", name))?;
            owners.users.extend(here.map(|here| (*uid, here)));
        }
        for (gid, name) in groups {
            let here = local_gid(name).context(|| lookup("group", name))?;
            owners.groups.extend(here.map(|here| (*gid, here)));
        }
        Ok(owners)
    }

    /// Returns the user to set for a stored one.
    pub fn user(&self, stored: u32) -> u32 {
        self.users.get(&stored).copied().unwrap_or(stored)
    }

    /// Returns the group to set for a stored one.
    pub fn group(&self, stored: u32) -> u32 {
        self.groups.get(&stored).copied().unwrap_or(stored)
    }
}

fn lookup(what: &str, name: &[u8]) -> String {
    format!("cannot look up the {what} {} on this machine; stored numbers can be used instead", name.escape_ascii())
}

fn local_uid(name: &[u8]) -> io::Result<Option<u32>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    with_room(|buffer| {
        // SAFETY: an all-zero `passwd` is valid: integers and null pointers.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = null_mut();
        // SAFETY: `name` ends with NUL; entry, buffer with its own length, and `found` outlive the call.
        let error = unsafe {
            libc::getpwnam_r(name.as_ptr(), &mut entry, buffer.as_mut_ptr().cast(), buffer.len(), &mut found)
        };
        (error, (!found.is_null()).then_some(entry.pw_uid))
    })
}

fn local_gid(name: &[u8]) -> io::Result<Option<u32>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    with_room(|buffer| {
        // SAFETY: an all-zero `group` is valid: integers and null pointers.
        let mut entry: libc::group = unsafe { std::mem::zeroed() };
        let mut found = null_mut();
        // SAFETY: `name` ends with NUL; entry, buffer with its own length, and `found` outlive the call.
        let error = unsafe {
            libc::getgrnam_r(name.as_ptr(), &mut entry, buffer.as_mut_ptr().cast(), buffer.len(), &mut found)
        };
        (error, (!found.is_null()).then_some(entry.gr_gid))
    })
}

/// Asks with a buffer that grows while it is too short (ERANGE): groups may have thousands of members.
fn with_room(mut ask: impl FnMut(&mut [u8]) -> (i32, Option<u32>)) -> io::Result<Option<u32>> {
    let mut buffer = vec![0; 4 << 10];
    loop {
        match ask(&mut buffer) {
            (libc::ERANGE, _) if buffer.len() < 16 << 20 => buffer.resize(buffer.len() * 2, 0),
            // What "there is none" looks like besides 0 (getpwnam(3)).
            (0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM, number) => return Ok(number),
            (error, _) => return Err(Errno::from_raw_os_error(error).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_decide_where_they_are_known() {
        let users = [(4711, b"root".to_vec()), (4712, b"nobody here has this name".to_vec()), (4713, b"a\0b".to_vec())];
        let groups = [(4711, b"root".to_vec()), (4712, b"nor any group".to_vec())];
        let owners = Owners::by_name(&users, &groups).unwrap();
        assert_eq!([4711, 4712, 4713, 0].map(|uid| owners.user(uid)), [0, 4712, 4713, 0]);
        assert_eq!([4711, 4712, 0].map(|gid| owners.group(gid)), [0, 4712, 0]);
        assert_eq!(Owners::numeric().user(4711), 4711);
    }
}
