//! Names of owners and groups by number, as the source knows them.

use super::Source;
use std::collections::BTreeMap;

/// Names that were asked for, each looked up once.
#[derive(Debug, Default)]
pub struct Owners {
    users: BTreeMap<u32, Option<Vec<u8>>>,
    groups: BTreeMap<u32, Option<Vec<u8>>>,
    last: Option<(u32, u32)>,
}

impl Owners {
    /// Notes that a file has this owner and group. Where their names cannot be told, they have none.
    pub fn note(&mut self, source: &impl Source, uid: u32, gid: u32) {
        if self.last == Some((uid, gid)) {
            return;
        }
        self.last = Some((uid, gid));
        self.users.entry(uid).or_insert_with(|| source.user_name(uid));
        self.groups.entry(gid).or_insert_with(|| source.group_name(gid));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::disk::Disk;

    #[test]
    fn root_has_a_name_and_a_number_nobody_has_does_not() {
        let (mut owners, disk) = (Owners::default(), Disk::default());
        owners.note(&disk, 0, 0);
        owners.note(&disk, 3_999_999_999, 3_999_999_999);
        assert_eq!(owners.users(), [(0, b"root".to_vec())]);
        assert_eq!(owners.groups(), [(0, b"root".to_vec())]);
    }
}
