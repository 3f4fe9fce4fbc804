//! Names of owners and groups by number, as this machine knows them (getpwuid_r(3), getgrgid_r(3)).

use std::collections::BTreeMap;
use std::ffi::CStr;

/// Names that were asked for, each looked up once.
#[derive(Debug, Default)]
pub struct Owners {
    users: BTreeMap<u32, Option<Vec<u8>>>,
    groups: BTreeMap<u32, Option<Vec<u8>>>,
    last: Option<(u32, u32)>,
}

impl Owners {
    /// Notes that a file has this owner and group.
    pub fn note(&mut self, uid: u32, gid: u32) {
        if self.last == Some((uid, gid)) {
            return;
        }
        self.last = Some((uid, gid));
        self.users.entry(uid).or_insert_with(|| user_name(uid));
        self.groups.entry(gid).or_insert_with(|| group_name(gid));
    }

    /// Returns the owners' names, sorted by number; numbers without a name are left out.
    pub fn users(&self) -> Vec<(u32, Vec<u8>)> {
        named(&self.users)
    }

    /// Returns the groups' names, sorted by number; numbers without a name are left out.
    pub fn groups(&self) -> Vec<(u32, Vec<u8>)> {
        named(&self.groups)
    }
}

fn named(names: &BTreeMap<u32, Option<Vec<u8>>>) -> Vec<(u32, Vec<u8>)> {
    names.iter().filter_map(|(number, name)| Some((*number, name.clone()?))).collect()
}

/// Room for an entry's texts; a longer one (a group of thousands) is asked for again with more.
const FIRST_ROOM_BYTES: usize = 4 << 10;
const MAX_ROOM_BYTES: usize = 4 << 20;

fn user_name(uid: u32) -> Option<Vec<u8>> {
    let mut room = vec![0; FIRST_ROOM_BYTES];
    loop {
        // SAFETY: an all-zero `passwd` is valid: integers and null pointers.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: every pointer is to memory of the stated length that outlives the call.
        let status = unsafe { libc::getpwuid_r(uid, &mut entry, room.as_mut_ptr(), room.len(), &mut found) };
        match status {
            libc::ERANGE if room.len() < MAX_ROOM_BYTES => room.resize(room.len() * 4, 0),
            0 if !found.is_null() => {
                // SAFETY: on success `pw_name` is a NUL-terminated string in `room`.
                return Some(unsafe { CStr::from_ptr(entry.pw_name) }.to_bytes().to_vec());
            }
            _ => return None,
        }
    }
}

fn group_name(gid: u32) -> Option<Vec<u8>> {
    let mut room = vec![0; FIRST_ROOM_BYTES];
    loop {
        // SAFETY: an all-zero `group` is valid: integers and null pointers.
        let mut entry: libc::group = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: every pointer is to memory of the stated length that outlives the call.
        let status = unsafe { libc::getgrgid_r(gid, &mut entry, room.as_mut_ptr(), room.len(), &mut found) };
        match status {
            libc::ERANGE if room.len() < MAX_ROOM_BYTES => room.resize(room.len() * 4, 0),
            0 if !found.is_null() => {
                // SAFETY: on success `gr_name` is a NUL-terminated string in `room`.
                return Some(unsafe { CStr::from_ptr(entry.gr_name) }.to_bytes().to_vec());
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_a_name_and_a_number_nobody_has_does_not() {
        let mut owners = Owners::default();
        owners.note(0, 0);
        owners.note(3_999_999_999, 3_999_999_999);
        assert_eq!(owners.users(), [(0, b"root".to_vec())]);
        assert_eq!(owners.groups(), [(0, b"root".to_vec())]);
    }
}
