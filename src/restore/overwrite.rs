//! What becomes of a name of the target that is taken, and whether the file there may stay.

use super::owners::Owners;
use crate::format::tree::Meta;
use crate::source::stat::{Kind, Stat};

/// When a file that is there already is looked at, and replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// Always, without a look at it.
    Always,
    /// When it differs: its content is compared, whatever its length and times say.
    #[default]
    IfChanged,
    /// The same, but only where the snapshot's file was changed later than the one that is there.
    IfNewer,
    /// Never.
    Never,
}

/// What becomes of a name that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is left as it is.
    Skipped,
    /// It is compared, and replaced if it differs.
    Compared,
    /// It is replaced.
    Replaced,
}

impl Overwrite {
    pub(super) fn fate(self, there: &Stat, meta: &Meta) -> Fate {
        match self {
            Overwrite::Always => Fate::Replaced,
            Overwrite::IfChanged => Fate::Compared,
            Overwrite::IfNewer if meta.mtime > there.mtime => Fate::Compared,
            Overwrite::IfNewer | Overwrite::Never => Fate::Skipped,
        }
    }
}

/// Permission to write for a group and for all others (inode(7)).
const WRITE_GROUP: u32 = 0o020;
const WRITE_OTHERS: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Returns whether nobody could have changed what is there, or could go on changing it, who could not in the state
/// that is restored: it belongs to the same user and group, and no more of the others may write. An access list shows
/// in the group's bits (acl(5)); `has_same_acl` is asked where they let write.
///
/// Somebody who is not root owns what they restore.
pub(super) fn is_as_guarded(there: &Stat, meta: &Meta, owners: &Owners, has_same_acl: impl FnOnce() -> bool) -> bool {
    let me = rustix::process::geteuid();
    let (uid, gid) = (owners.user(meta.uid), owners.group(meta.gid));
    let is_owner = if me.is_root() { (there.uid, there.gid) == (uid, gid) } else { there.uid == me.as_raw() };
    let more = there.mode & !meta.mode & (WRITE_GROUP | WRITE_OTHERS);
    is_owner && more == 0 && (there.mode & WRITE_GROUP == 0 || has_same_acl())
}

/// Returns whether nobody can exchange names in a directory meanwhile who could not in the state that is restored.
pub(super) fn is_safe_inside(there: &Stat, meta: &Meta, owners: &Owners, has_same_acl: impl FnOnce() -> bool) -> bool {
    let me = rustix::process::geteuid().as_raw();
    let lets_others = there.mode & (WRITE_GROUP | WRITE_OTHERS) != 0;
    let is_mine = there.uid == me && !lets_others;
    let is_sticky = !lets_others || meta.mode & STICKY == 0 || there.mode & STICKY != 0;
    is_mine || (is_sticky && is_as_guarded(there, meta, owners, has_same_acl))
}

/// Returns whether a file may have as many names as it has, each of which changes with it.
pub(super) fn has_own_links(there: &Stat, meta: &Meta) -> bool {
    there.kind == Kind::Directory || there.nlink <= if meta.link_device == 0 { 1 } else { meta.nlink }
}
