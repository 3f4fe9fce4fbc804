//! Which extended attributes are restored.

use crate::error::{Error, Result};
use globset::{Glob, GlobSet, GlobSetBuilder};

/// Which extended attributes a restore sets and takes away; those it leaves out stay in the target as they are.
#[derive(Debug, Clone, Default)]
pub struct XattrFilter {
    only_acls: bool,
    excludes: GlobSet,
}

/// Access lists are rights and no extras: they have a name of their own where attributes are left out as a whole.
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

impl XattrFilter {
    /// Leaves out those whose name matches a glob, as `trusted.*`, and with `only_acls` all but access lists.
    pub fn new(only_acls: bool, excludes: &[String]) -> Result<Self> {
        let mut set = GlobSetBuilder::new();
        let unfit =
            |glob: &str| Error::usage(format!("--exclude-xattr {glob} is no glob: write a name, as `trusted.*`"));
        for glob in excludes {
            if glob.is_empty() {
                return Err(unfit("``"));
            }
            set.add(Glob::new(glob).map_err(|error| unfit(glob).because(error))?);
        }
        let excludes = set.build().map_err(|error| Error::usage("--exclude-xattr cannot be used").because(error))?;
        Ok(XattrFilter { only_acls, excludes })
    }

    /// Returns whether an attribute of this name is restored.
    pub fn takes(&self, name: &[u8]) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let is_left_out = self.only_acls && !ACLS.contains(&name);
        !is_left_out && !self.excludes.is_match(std::ffi::OsStr::from_bytes(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_left_out_by_globs_and_access_lists_are_no_extras() {
        let all = XattrFilter::default();
        assert!(all.takes(b"user.a") && all.takes(b"trusted.\xff") && all.takes(ACLS[0]));
        let acls = XattrFilter::new(true, &[]).unwrap();
        assert!(acls.takes(ACLS[0]) && acls.takes(ACLS[1]) && !acls.takes(b"user.a"));
        let some = XattrFilter::new(false, &["trusted.*".into(), "user.{a,b}".into()]).unwrap();
        for (name, is_taken) in
            [(&b"trusted.x"[..], false), (b"trusted.\xff", false), (b"user.b", false), (b"user.c", true)]
        {
            assert_eq!(some.takes(name), is_taken, "{}", name.escape_ascii());
        }
        assert!(XattrFilter::new(false, &["a[".into()]).is_err() && XattrFilter::new(false, &[String::new()]).is_err());
    }
}
