//! Which owners restored files get on this machine.

use crate::accounts::{group_number, user_number};
use crate::error::{Context, Result};
use std::collections::HashMap;

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
    /// Fails when the machine's user database cannot be asked.
    pub fn by_name(users: &[(u32, Vec<u8>)], groups: &[(u32, Vec<u8>)]) -> Result<Owners> {
        let mut owners = Owners::numeric();
        for (uid, name) in users {
            let here = user_number(name).context(|| lookup("user", name))?;
            owners.users.extend(here.map(|here| (*uid, here)));
        }
        for (gid, name) in groups {
            let here = group_number(name).context(|| lookup("group", name))?;
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
