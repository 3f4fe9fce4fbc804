//! Paths as the kernel follows them.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

/// The most links on the way to a file (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The same place without symbolic links, `.` and `..`.
    pub path: PathBuf,
    /// The links that were followed, each by where it is.
    pub links: Vec<PathBuf>,
}

/// Follows the symbolic links of an absolute path; its last name only where `follows_last` says so. Names that do not
/// exist lead where they say, so that what is not there yet, or not mounted, has a place too.
///
/// Fails where there are too many links, and where a folder on the way cannot be entered.
pub fn resolve(path: &Path, follows_last: bool) -> io::Result<Resolved> {
    let mut resolved = Resolved { path: PathBuf::from("/"), links: Vec::new() };
    let mut rest: VecDeque<OsString> = names(path).collect();
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            resolved.path.pop();
            continue;
        }
        let next = resolved.path.join(&name);
        let link = match std::fs::read_link(&next) {
            Ok(target) if follows_last || !rest.is_empty() => Some(target),
            Err(error) if !is_no_link(&error) => return Err(error),
            _ => None,
        };
        let Some(target) = link else {
            resolved.path = next;
            continue;
        };
        if resolved.links.len() == MAX_LINKS {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        if target.is_absolute() {
            resolved.path = PathBuf::from("/");
        }
        names(&target).collect::<Vec<_>>().into_iter().rev().for_each(|name| rest.push_front(name));
        resolved.links.push(next);
    }
    Ok(resolved)
}

/// Returns whether reading a link failed because there is none: another type of file, or nothing (readlink(2)).
fn is_no_link(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT | libc::ENOTDIR))
}

/// Returns the names of a path, `..` among them.
fn names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

/// Returns where an absolute path leads; itself where that cannot be told.
pub fn real(path: &Path) -> PathBuf {
    resolve(path, true).map_or_else(|_| path.to_path_buf(), |resolved| resolved.path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_also_to_what_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let base = std::fs::canonicalize(folder.path()).unwrap();
        std::fs::create_dir_all(base.join("disk/www")).unwrap();
        std::fs::create_dir(base.join("v")).unwrap();
        symlink("../disk", base.join("v/d")).unwrap();
        symlink(base.join("gone"), base.join("away")).unwrap();
        symlink("loop", base.join("loop")).unwrap();
        for (path, follows, real, links) in [
            ("v/d/www", false, "disk/www", &["v/d"][..]),
            ("v/d", false, "v/d", &[]),
            ("v/d", true, "disk", &["v/d"]),
            ("v/d/../v/d/./www", true, "disk/www", &["v/d", "v/d"]),
            ("away/repo", true, "gone/repo", &["away"]),
            ("disk/new/file", true, "disk/new/file", &[]),
        ] {
            let found = resolve(&base.join(path), follows).unwrap();
            assert_eq!(found.path, base.join(real), "{path}");
            assert_eq!(found.links, links.iter().map(|link| base.join(link)).collect::<Vec<_>>(), "{path}");
            if let (true, Ok(kernel)) = (follows, std::fs::canonicalize(base.join(path))) {
                assert_eq!(found.path, kernel, "{path}");
            }
        }
        assert_eq!(resolve(&base.join("loop"), true).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(real(&base.join("loop/x")), base.join("loop/x"));
    }
}
