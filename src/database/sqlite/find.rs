//! The SQLite databases of a path or glob.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::pattern::Pattern;
use globset::{GlobSet, GlobSetBuilder};
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

/// The beginning of every SQLite database (<https://sqlite.org/fileformat2.html>, section 1.3).
const MAGIC: [u8; 16] = *b"SQLite format 3\0";
/// The most databases of one glob.
const MAX_MATCHES: usize = 10_000;

/// What a path or glob leads to.
#[derive(Default)]
pub struct Found {
    /// Databases, sorted.
    pub files: Vec<(PathBuf, Metadata)>,
    /// What cannot be looked at, or is no database.
    pub failed: Vec<(PathBuf, Error)>,
    /// Whether the path was taken for a glob.
    pub is_glob: bool,
}

/// Finds the databases of a path or glob. An existing file is taken by its name, whatever characters are in it.
pub fn find(path: &Path) -> Found {
    let mut found = Found::default();
    let is_special = |byte: &u8| b"*?[{".contains(byte);
    let is_plain = |component: &Component<'_>| !component.as_os_str().as_encoded_bytes().iter().any(is_special);
    if !path.is_absolute() || path.components().any(|component| component == Component::ParentDir) {
        let message = format!("The SQLite path {} must be absolute and without `..`", path.display());
        found.failed.push((path.to_path_buf(), Error::usage(message)));
    } else if path.symlink_metadata().is_ok() || path.components().all(|component| is_plain(&component)) {
        match database(path, true) {
            Ok(Some(metadata)) => found.files.push((path.to_path_buf(), metadata)),
            Ok(None) => {
                let message = format!("{} is no SQLite database: put it under `sources`", path.display());
                found.failed.push((path.to_path_buf(), Error::usage(message)));
            }
            Err(error) => found.failed.push((path.to_path_buf(), error)),
        }
    } else {
        found.is_glob = true;
        let start: PathBuf = path.components().take_while(is_plain).collect();
        // `**` reaches as deep as there are folders; other globs no deeper than they are long.
        let is_deep = path.components().any(|component| component.as_os_str() == "**");
        let depth = if is_deep { usize::MAX } else { path.components().count() - start.components().count() };
        match glob(path) {
            Err(error) => found.failed.push((start, error)),
            Ok(glob) => walk(path, &glob, start, depth, &mut found),
        }
    }
    found
}

fn glob(path: &Path) -> Result<GlobSet> {
    let text = path.to_string_lossy();
    let bad = |why: String| Error::usage(format!("The SQLite path {text} is no pattern: {why}"));
    let mut globs = GlobSetBuilder::new();
    for alternative in Pattern::parse_plain(&text).map_err(bad)?.alternatives {
        globs.add(alternative.compile(false).map_err(bad)?);
    }
    globs.build().map_err(|error| bad(error.to_string()))
}

fn walk(shown: &Path, glob: &GlobSet, start: PathBuf, depth: usize, found: &mut Found) {
    let mut folders = vec![(start, depth)];
    while let Some((folder, depth)) = folders.pop() {
        let reading = || format!("Cannot look for SQLite databases in {}", folder.display());
        let entries = match std::fs::read_dir(&folder).context(reading) {
            Ok(entries) => entries,
            Err(error) => {
                found.failed.push((folder, error));
                continue;
            }
        };
        for entry in entries.flatten() {
            let (path, kind) = (entry.path(), entry.file_type());
            if kind.as_ref().is_ok_and(|kind| kind.is_dir()) && depth > 1 {
                folders.push((path, depth - 1));
            } else if kind.is_ok_and(|kind| kind.is_file()) && glob.is_match(&path) {
                match database(&path, false) {
                    Ok(Some(metadata)) => found.files.push((path, metadata)),
                    Ok(None) => {}
                    // It has gone since it was listed.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => found.failed.push((path, error)),
                }
            }
            if found.files.len() > MAX_MATCHES {
                let message = format!("matches more than {MAX_MATCHES} databases: name a smaller part of the tree");
                let message = format!("The SQLite path {} {message}", shown.display());
                *found = Found { is_glob: true, ..Found::default() };
                found.failed.push((folder, Error::usage(message)));
                return;
            }
        }
    }
    found.files.sort_by(|one, other| one.0.cmp(&other.0));
}

/// Returns what is known of a database's file; `None` where a file is no database. An empty one is, where it is named:
/// nothing was written to it yet.
fn database(path: &Path, is_named: bool) -> Result<Option<Metadata>> {
    let looking = || format!("Cannot look at the SQLite database {}: check `path`", path.display());
    if !std::fs::metadata(path).context(looking)?.is_file() {
        return Ok(None);
    }
    // It may have become a pipe, which would be waited for.
    let mut file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).context(looking)?;
    let mut first = Vec::new();
    file.by_ref().take(MAGIC.len() as u64).read_to_end(&mut first).context(looking)?;
    let metadata = file.metadata().context(looking)?;
    Ok((first == MAGIC || is_named && first.is_empty()).then_some(metadata))
}
