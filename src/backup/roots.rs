//! Where a backup starts: the paths that were asked for, as one tree from `/` on.

use crate::error::{Context, Error, Result};
use std::collections::BTreeMap;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// A directory on the way to a source, or a source.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Whether everything below is backed up.
    pub is_source: bool,
    /// What lies below and is, or leads to, a source; by name.
    pub below: BTreeMap<Vec<u8>, Node>,
}

/// The sources of a backup.
#[derive(Debug, Default)]
pub struct Roots {
    /// `/`.
    pub root: Node,
    /// The paths that were asked for, absolute and without `.` and `..`.
    pub paths: Vec<Vec<u8>>,
    /// Paths that were asked for and cannot be used, and why.
    pub missing: Vec<(PathBuf, Error)>,
}

impl Roots {
    /// Joins paths as a user wrote them; fails when none can be used, unless dumps are backed up too. A path that is a symbolic link means the link and what it
    /// leads to, so that both are there after a restore.
    pub fn new(paths: &[PathBuf], has_dumps: bool) -> Result<Self> {
        let mut roots = Roots::default();
        for path in paths {
            if let Err(error) = roots.join(path) {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                roots.missing.push((path, error));
            }
        }
        if !roots.paths.is_empty() || has_dumps {
            return Ok(roots);
        }
        Err(match roots.missing.pop() {
            Some((_, error)) => error,
            None => Error::usage("Nothing to back up: name one or more paths, as `bakfs backup /etc /srv`"),
        })
    }

    fn join(&mut self, path: &Path) -> Result<()> {
        let absolute = std::path::absolute(path).context(|| format!("Cannot use the path {}", path.display()))?;
        let real = real_parent(&absolute).context(|| format!("Cannot follow the path {}: check it", path.display()))?;
        let looked = std::fs::symlink_metadata(&real)
            .context(|| format!("Cannot back up {}: check the path", path.display()))?;
        self.add(&real);
        if looked.is_symlink()
            && let Ok(target) = std::fs::canonicalize(&absolute)
        {
            self.add(&target);
        }
        Ok(())
    }

    fn add(&mut self, path: &Path) {
        let mut node = &mut self.root;
        for name in names(path) {
            node = node.below.entry(name).or_default();
        }
        node.is_source = true;
        let path = path.as_os_str().as_bytes().to_vec();
        if !self.paths.contains(&path) {
            self.paths.push(path);
        }
    }
}

/// Returns the names a path is made of.
pub fn names(path: &Path) -> impl Iterator<Item = Vec<u8>> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.as_bytes().to_vec()),
        _ => None,
    })
}

/// Resolves symbolic links in all of a path but its last name.
fn real_parent(path: &Path) -> std::io::Result<PathBuf> {
    let Some(name) = path.file_name() else { return std::fs::canonicalize(path) };
    if name == ".." {
        return std::fs::canonicalize(path);
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    let mut real = std::fs::canonicalize(parent)?.into_os_string().into_vec();
    if real.last() != Some(&b'/') {
        real.push(b'/');
    }
    real.extend_from_slice(name.as_bytes());
    Ok(PathBuf::from(std::ffi::OsString::from_vec(real)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_one_tree_and_links_lead_to_their_targets() {
        let folder = tempfile::tempdir().unwrap();
        let base = std::fs::canonicalize(folder.path()).unwrap();
        std::fs::create_dir_all(base.join("data/sub")).unwrap();
        std::os::unix::fs::symlink("data", base.join("link")).unwrap();
        let roots = Roots::new(&[base.join("link/"), base.join("data/sub/../sub")], false).unwrap();
        let mut node = &roots.root;
        for name in names(&base) {
            assert!(!node.is_source);
            node = &node.below[&name];
        }
        assert!(node.below[&b"link"[..]].is_source && node.below[&b"data"[..]].is_source);
        assert!(node.below[&b"data"[..]].below[&b"sub"[..]].is_source);
        assert!(Roots::new(&[base.join("missing")], false).unwrap_err().chain().contains("missing"));
        assert!(Roots::new(&[], false).is_err() && Roots::new(&[], true).is_ok());
        let partly = Roots::new(&[base.join("missing"), base.join("data")], false).unwrap();
        assert_eq!((partly.paths.len(), partly.missing.len()), (1, 1));
    }
}
