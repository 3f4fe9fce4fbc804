//! A bounded walk over what profiles back up, for what they should dump or leave out instead.

use super::reproducible;
use crate::source::exclude::{CACHE_TAG_NAME, CACHE_TAG_SIGNATURE, Excludes};
use crate::source::servers::Kind;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The first bytes of an SQLite database (<https://www.sqlite.org/fileformat.html>, 1.3).
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Its length is a multiple of its pages', which are no shorter than this.
const MIN_PAGE_BYTES: u64 = 512;
/// The most databases that are kept.
const MAX_SQLITE: usize = 1000;

/// How far walks may go, all together.
#[derive(Debug)]
pub struct Budget {
    entries: u64,
    until: Instant,
}

impl Budget {
    /// Allows so many entries, and no entry after so long.
    pub fn new(entries: u64, limit: Duration) -> Self {
        Budget { entries, until: Instant::now() + limit }
    }

    fn take(&mut self) -> bool {
        let is_left = self.entries > 0 && (!self.entries.is_multiple_of(256) || Instant::now() < self.until);
        self.entries = if is_left { self.entries - 1 } else { 0 };
        is_left
    }
}

/// Where a walk goes.
#[derive(Debug)]
pub struct Scope<'a> {
    /// Where it begins.
    pub sources: &'a [PathBuf],
    /// What it leaves out.
    pub excludes: &'a Excludes,
    /// Whether folders marked as caches are left out.
    pub exclude_caches: bool,
    /// The machine's root.
    pub root: &'a Path,
    /// What could be made again is named from this length on.
    pub min_bytes: u64,
}

/// Something large that could be made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reproducible {
    /// What it is, for people.
    pub what: &'static str,
    /// The exclude that leaves all of it out.
    pub exclude: String,
    /// The first place it was found at.
    pub path: PathBuf,
    /// At how many places it was found.
    pub places: u64,
    /// The room it takes on the disk.
    pub bytes: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Survey {
    /// SQLite databases, in the order of their paths.
    pub sqlite: Vec<PathBuf>,
    /// Data folders of database servers.
    pub servers: Vec<PathBuf>,
    /// What could be made again, largest first.
    pub reproducible: Vec<Reproducible>,
    /// Whether everything was looked at.
    pub is_whole: bool,
}

struct Folder {
    path: PathBuf,
    device: u64,
    /// The exclude that would leave out what it is part of.
    part_of: Option<String>,
}

struct Walk<'a> {
    scope: &'a Scope<'a>,
    sqlite: Vec<PathBuf>,
    servers: Vec<PathBuf>,
    reproducible: BTreeMap<String, Reproducible>,
    pending: Vec<Folder>,
}

/// Walks over sources, on the file system of each. What cannot be listed is left out: a backup will tell.
pub fn survey(scope: &Scope<'_>, budget: &mut Budget) -> Survey {
    let (sqlite, servers, pending) = (Vec::new(), Vec::new(), Vec::new());
    let mut walk = Walk { scope, sqlite, servers, reproducible: BTreeMap::new(), pending };
    for source in scope.sources {
        let Ok(metadata) = std::fs::symlink_metadata(source) else { continue };
        let folder = Folder { path: source.clone(), device: metadata.dev(), part_of: None };
        if metadata.is_dir() { walk.pending.push(folder) } else { walk.file(&folder, source, &metadata) }
    }
    let mut is_whole = true;
    while let Some(folder) = walk.pending.pop()
        && is_whole
    {
        is_whole = walk.folder(&folder, budget);
    }
    walk.sqlite.sort();
    walk.sqlite.dedup();
    let mut reproducible: Vec<_> = walk.reproducible.into_values().filter(|it| it.bytes >= scope.min_bytes).collect();
    reproducible.sort_by_key(|it| std::cmp::Reverse(it.bytes));
    Survey { sqlite: walk.sqlite, servers: walk.servers, reproducible, is_whole }
}

impl Walk<'_> {
    /// Returns whether the budget lasted.
    fn folder(&mut self, folder: &Folder, budget: &mut Budget) -> bool {
        if self.scope.exclude_caches && is_tagged_cache(&folder.path) {
            return true;
        }
        let Ok(entries) = std::fs::read_dir(&folder.path) else { return true };
        if Kind::of_folder(&folder.path).is_some() {
            self.servers.push(folder.path.clone());
        }
        for entry in entries.flatten() {
            if !budget.take() {
                return false;
            }
            let path = entry.path();
            let Ok(metadata) = entry.metadata() else { continue };
            // A file lies where its folder does, whatever device an overlay shows for it.
            let is_elsewhere = metadata.is_dir() && metadata.dev() != folder.device;
            if is_elsewhere || self.scope.excludes.excludes(&path, metadata.is_dir()) {
                continue;
            }
            if metadata.is_dir() {
                let part_of = folder.part_of.clone().or_else(|| self.begin(&path));
                self.pending.push(Folder { path, device: folder.device, part_of });
            } else if metadata.is_file() {
                self.file(folder, &path, &metadata);
            }
        }
        true
    }

    /// Notes a folder that could be made again.
    fn begin(&mut self, path: &Path) -> Option<String> {
        let kind = reproducible::of_folder(path, self.scope.root)?;
        self.note(path, &kind, 0);
        Some(kind.exclude)
    }

    fn note(&mut self, path: &Path, kind: &reproducible::Kind, bytes: u64) {
        let new = || Reproducible {
            what: kind.what,
            exclude: kind.exclude.clone(),
            path: path.to_path_buf(),
            places: 0,
            bytes: 0,
        };
        let noted = self.reproducible.entry(kind.exclude.clone()).or_insert_with(new);
        noted.places += 1;
        noted.bytes += bytes;
    }

    fn file(&mut self, folder: &Folder, path: &Path, metadata: &std::fs::Metadata) {
        let bytes = metadata.blocks().saturating_mul(512);
        if let Some(noted) = folder.part_of.as_ref().and_then(|exclude| self.reproducible.get_mut(exclude)) {
            noted.bytes = noted.bytes.saturating_add(bytes);
            return;
        }
        if bytes >= self.scope.min_bytes
            && let Some(kind) = reproducible::of_file(path)
        {
            self.note(path, &kind, bytes);
        } else if self.sqlite.len() < MAX_SQLITE && metadata.len() > 0 && is_sqlite(path, metadata.len()) {
            self.sqlite.push(path.to_path_buf());
        }
    }
}

fn begins_with(path: &Path, wanted: &[u8]) -> bool {
    let mut first = vec![0; wanted.len()];
    // Neither a link nor a pipe that has taken the file's place is waited for.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    file.and_then(|mut file: File| file.read_exact(&mut first)).is_ok() && first == wanted
}

fn is_sqlite(path: &Path, len_bytes: u64) -> bool {
    len_bytes.is_multiple_of(MIN_PAGE_BYTES) && begins_with(path, SQLITE_MAGIC)
}

fn is_tagged_cache(folder: &Path) -> bool {
    begins_with(&folder.join(OsStr::from_bytes(CACHE_TAG_NAME)), CACHE_TAG_SIGNATURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: Duration = Duration::from_secs(3600);

    fn write(path: &Path, bytes: &[u8], len_bytes: u64) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, len_bytes).unwrap();
    }

    fn look(root: &Path, excludes: &[&str], entries: u64) -> Survey {
        let excludes: Vec<String> = excludes.iter().map(|glob| glob.to_string()).collect();
        let excludes = Excludes::new(&excludes, &[]).unwrap();
        let sources = [root.to_path_buf()];
        let scope = Scope { sources: &sources, excludes: &excludes, exclude_caches: true, root, min_bytes: 100 << 10 };
        survey(&scope, &mut Budget::new(entries, PLENTY))
    }

    #[test]
    fn databases_and_what_could_be_made_again_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let large = 60 << 10;
        for path in ["srv/a/node_modules/x", "srv/b/node_modules/deep/node_modules/y", "usr/src/linux.c"] {
            write(&root.join(path), b"", large);
        }
        write(&root.join("usr/src/more.c"), b"", large);
        write(&root.join("srv/[1].iso"), b"", 2 * large);
        write(&root.join("srv/core"), b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0", 2 * large);
        write(&root.join("srv/core.py"), b"print(1)", 2 * large);
        write(&root.join("srv/small/target/.rustc_info.json"), b"", 4096);
        write(&root.join("srv/tagged/CACHEDIR.TAG"), CACHE_TAG_SIGNATURE, 4096);
        for path in ["srv/app.db", "srv/out.db", "srv/tagged/x.db", "srv/a/node_modules/y.db"] {
            write(&root.join(path), SQLITE_MAGIC, 4096);
        }
        write(&root.join("srv/short.db"), SQLITE_MAGIC, 100);
        let found = look(root, &["out.db"], 1000);
        assert!(found.is_whole);
        assert_eq!(found.sqlite, [root.join("srv/app.db")]);
        let excludes: Vec<_> = found.reproducible.iter().map(|it| (it.exclude.clone(), it.places)).collect();
        let at = |path: &str| format!("{}/{path}", root.display());
        for expected in
            [("node_modules/".into(), 2), (at("usr/src"), 1), (at("srv/\\[1\\].iso"), 1), (at("srv/core"), 1)]
        {
            assert!(excludes.contains(&expected), "{expected:?} in {excludes:?}");
        }
        assert_eq!(excludes.len(), 4, "{excludes:?}");
        // What is said to leave it out does.
        let lines: Vec<&str> = excludes.iter().map(|(line, _)| line.as_str()).collect();
        assert!(look(root, &lines, 1000).reproducible.is_empty());
    }

    #[test]
    fn a_walk_ends_with_its_budget() {
        let folder = tempfile::tempdir().unwrap();
        (0..20).for_each(|number| write(&folder.path().join(format!("{number}/file")), b"x", 1));
        assert!(look(folder.path(), &[], 40).is_whole);
        assert!(!look(folder.path(), &[], 39).is_whole);
        let sources = [folder.path().to_path_buf()];
        let excludes = Excludes::default();
        let root = folder.path();
        let scope = Scope { sources: &sources, excludes: &excludes, exclude_caches: true, root, min_bytes: 1 };
        let mut budget = Budget::new(256, Duration::ZERO);
        assert!(!survey(&scope, &mut budget).is_whole);
    }
}
