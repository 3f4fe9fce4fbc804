//! Whose what is written into a local repository is: the owner, the group and the rights of the repository's folder
//! decide, whoever writes and whatever the umask, so that all who may use the folder can use what is in it.

use crate::error::{Context, Error, ErrorKind, Result};
use rustix::fs::{Gid, Mode, Uid};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Rights of the owner and the group (inode(7)). Others get none: what an open repository holds is theirs whose files
/// are in it.
const GROUP: u32 = 0o070;
const SETGID: u32 = 0o2000;

/// What new files and folders below a folder get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sharing {
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Sharing {
    /// Looks at the folder.
    pub fn of(root: &Path) -> Result<Self> {
        let looked = std::fs::metadata(root).context(|| format!("Cannot look at {}", root.display()))?;
        Ok(Sharing { uid: looked.uid(), gid: looked.gid(), mode: looked.mode() })
    }

    /// Gives a new file of this process, or a new folder, to whom the repository's folder belongs. What the system does
    /// not allow is left: then its group gets no rights, for it is another one.
    pub fn hand_over(self, new: &File) -> std::io::Result<()> {
        let made = new.metadata()?;
        // Only root may give files away (chown(2)).
        let is_given = rustix::process::geteuid().is_root() && self.uid != made.uid();
        let uid = is_given.then(|| Uid::from_raw(self.uid));
        let gid = (self.gid != made.gid()).then(|| Gid::from_raw(self.gid));
        let is_refused = (uid.is_some() || gid.is_some()) && rustix::fs::fchown(new, uid, gid).is_err();
        let group = if is_refused && gid.is_some() { 0 } else { self.mode & GROUP };
        let mode = match made.is_dir() {
            true => 0o700 | group | if group != 0 { self.mode & SETGID } else { 0 },
            // Objects are never changed.
            false => 0o400 | (group & 0o040),
        };
        if made.mode() & 0o7777 == mode && !is_given {
            return Ok(());
        }
        rustix::fs::fchmod(new, Mode::from_raw_mode(mode))?;
        Ok(())
    }
}

fn name(uid: u32) -> String {
    if uid == 0 { "root".into() } else { format!("user {uid}") }
}

/// Makes the error of a failed system call on a file or folder of the repository at `root`; one of rights says whose it
/// is, and what to do.
pub(super) fn failure(attempted: String, path: &Path, root: &Path, error: std::io::Error) -> Error {
    if error.kind() != std::io::ErrorKind::PermissionDenied {
        return Error::io(attempted, error);
    }
    // The file, or the first folder above it that can be looked at.
    let mut above = path.ancestors().filter_map(|path| std::fs::symlink_metadata(path).ok());
    let (Some(found), Ok(folder)) = (above.next(), std::fs::metadata(root)) else {
        return Error::new(ErrorKind::Denied, attempted).because(error);
    };
    let root = root.display();
    let me = rustix::process::geteuid().as_raw();
    let advice = match (found.uid(), folder.uid()) {
        (owner, keeper) if owner == me && keeper == me => {
            format!("give yourself the right with `chmod -R u+rX {root}`")
        }
        (owner, keeper) if owner != keeper || found.gid() != folder.gid() => format!(
            "it belongs to {} and the repository to {}: `chown -R --reference={root} {root}` as root puts that right; or \
             run this as root",
            name(owner),
            name(keeper)
        ),
        (owner, _) if folder.mode() & GROUP != 0 => format!(
            "it belongs to {}, who may share it with the folder's group (`chmod -R g+rX {root}`); or run this as {}",
            name(owner),
            name(owner)
        ),
        (owner, _) => format!("it belongs to {}: run this as that user, or as root", name(owner)),
    };
    Error::new(ErrorKind::Denied, format!("{attempted}: {advice}")).because(error)
}
