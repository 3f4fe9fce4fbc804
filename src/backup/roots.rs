//! Where a backup starts: the paths that were asked for, as one tree from `/` on.

use crate::error::{Context, Error, Result};
use crate::source::Source;
use crate::source::exclude::SourcePath;
use crate::text;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
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
    /// The same, each as it was given and as where it leads.
    pub sources: Vec<SourcePath>,
    /// Paths that were asked for and cannot be used, and why.
    pub missing: Vec<(PathBuf, Error)>,
}

impl Roots {
    /// Joins paths as a user wrote them; fails when none can be used, unless dumps are backed up too. A path that is a
    /// symbolic link means the link and what it leads to, so that both are there after a restore.
    pub fn new(source: &impl Source, paths: &[PathBuf], has_dumps: bool) -> Result<Self> {
        let mut roots = Roots::default();
        for path in paths {
            if let Err(error) = roots.join(source, path) {
                let shown = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                roots.missing.push((shown, error));
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

    /// Adds a path; the links on the way to it are backed up too, so that it leads to the same files in the snapshot.
    fn join(&mut self, source: &impl Source, path: &Path) -> Result<()> {
        if let Some(why) = text::refused(path) {
            return Err(Error::usage(format!("Cannot back up {why}")));
        }
        let absolute = std::path::absolute(path).context(|| format!("Cannot use the path {}", path.display()))?;
        let found = source.find(&absolute)?;
        found.links.iter().for_each(|link| self.node(link).is_source = true);
        let given = clean(&absolute);
        [found.path].iter().chain(&found.target).for_each(|path| self.add(path, &given));
        Ok(())
    }

    fn node(&mut self, path: &Path) -> &mut Node {
        let mut node = &mut self.root;
        for name in names(path) {
            node = node.below.entry(name).or_default();
        }
        node
    }

    fn add(&mut self, path: &Path, given: &Path) {
        self.node(path).is_source = true;
        self.sources.push(SourcePath { given: given.to_path_buf(), real: path.to_path_buf() });
        let path = path.as_os_str().as_bytes().to_vec();
        if !self.paths.contains(&path) {
            self.paths.push(path);
        }
    }
}

/// Returns a path without `.` and doubled slashes; one with `..` leads elsewhere where there are links, and stays.
fn clean(path: &Path) -> PathBuf {
    path.components().collect()
}

/// Returns the names a path is made of.
pub fn names(path: &Path) -> impl Iterator<Item = Vec<u8>> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.as_bytes().to_vec()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::disk::Disk;

    #[test]
    fn paths_become_one_tree_and_links_lead_to_their_targets() {
        let folder = tempfile::tempdir().unwrap();
        let base = std::fs::canonicalize(folder.path()).unwrap();
        std::fs::create_dir_all(base.join("data/sub")).unwrap();
        std::os::unix::fs::symlink("data", base.join("link")).unwrap();
        let disk = Disk::default();
        let roots = Roots::new(&disk, &[base.join("link/"), base.join("data/sub/../sub")], false).unwrap();
        let mut node = &roots.root;
        for name in names(&base) {
            assert!(!node.is_source);
            node = &node.below[&name];
        }
        assert!(node.below[&b"link"[..]].is_source && node.below[&b"data"[..]].is_source);
        assert!(node.below[&b"data"[..]].below[&b"sub"[..]].is_source);
        std::os::unix::fs::symlink(&base, base.join("data/sub/up")).unwrap();
        let through = Roots::new(&disk, &[base.join("data/sub/up/link/sub")], false).unwrap();
        let real = base.join("data/sub");
        assert_eq!(through.paths, [real.as_os_str().as_bytes()]);
        let mut node = &through.root;
        for name in names(&base) {
            node = &node.below[&name];
        }
        assert!(node.below[&b"link"[..]].is_source);
        assert!(node.below[&b"data"[..]].below[&b"sub"[..]].below[&b"up"[..]].is_source);
        assert!(Roots::new(&disk, &[base.join("missing")], false).unwrap_err().chain().contains("missing"));
        assert!(Roots::new(&disk, &[], false).is_err() && Roots::new(&disk, &[], true).is_ok());
        let partly = Roots::new(&disk, &[base.join("missing"), base.join("data")], false).unwrap();
        assert_eq!((partly.paths.len(), partly.missing.len()), (1, 1));
    }
}
