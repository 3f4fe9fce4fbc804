//! Searching all snapshots at once: a directory that is the same in many is searched once.

use crate::error::{Error, Result};
use crate::format::tree::{Entry, Node};
use crate::id::ChunkId;
use crate::pattern;
use crate::repo::Repository;
use crate::repo::read::walk::Visitor;
use crate::repo::shared::listed::ListedSnapshot;
use globset::{GlobSet, GlobSetBuilder};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Versions that are kept, about 600 bytes each. No more are told: a hostile tree has any number of paths.
pub const MAX_MATCHES: usize = 1 << 20;
/// Bytes of all their paths, each of which may have a mebibyte.
const MAX_PATH_BYTES: usize = 1 << 30;
/// Directories that are remembered; those beyond are searched in every snapshot.
const MAX_SEEN: usize = 2 << 20;
/// Directories that cannot be read and are told.
const MAX_DAMAGED: usize = 10_000;

/// What is searched for.
pub struct Pattern {
    globs: GlobSet,
    /// For each of `globs`, whether it means directories only.
    directories_only: Vec<bool>,
}

impl Pattern {
    /// Compiles a pattern ([`crate::pattern`]); one that is none is an error of usage.
    pub fn new(text: &str, ignore_case: bool) -> Result<Self> {
        let bad = |why: String| Error::usage(format!("`{text}` is no pattern: {why}"));
        let alternatives = pattern::Pattern::parse_plain(text).map_err(bad)?.alternatives;
        let mut globs = GlobSetBuilder::new();
        for alternative in &alternatives {
            globs.add(alternative.compile(ignore_case).map_err(bad)?);
        }
        let globs = globs.build().map_err(|error| bad(error.to_string()))?;
        Ok(Pattern { globs, directories_only: alternatives.iter().map(|it| it.directories_only).collect() })
    }

    fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        let found = self.globs.matches(Path::new(OsStr::from_bytes(path)));
        found.into_iter().any(|at| is_directory || !self.directories_only[at])
    }
}

/// One version of a path that matches.
#[derive(Debug, Clone)]
pub struct Match {
    /// The path, absolute.
    pub path: Vec<u8>,
    /// The entry in the first snapshot that has this version.
    pub entry: Entry,
    /// That snapshot's position in the list.
    pub first: usize,
    /// Position of the last snapshot that has it.
    pub last: usize,
    /// How many have it.
    pub snapshots: u64,
}

/// What was found, and what could not be searched.
#[derive(Debug, Default)]
pub struct Found {
    /// Versions in order of paths, each path's oldest first.
    pub matches: Vec<Match>,
    /// Directories that could not be read, in the first snapshot in which it was tried.
    pub damaged: Vec<(usize, Vec<u8>, Error)>,
}

/// Searches the snapshots `which` picks, at and below `below`. Memory: about 100 bytes for each distinct
/// directory, and what matches, both bounded. Fails where more than [`MAX_MATCHES`] match.
pub fn run(
    repository: &Repository,
    snapshots: &[ListedSnapshot],
    which: impl Fn(usize) -> bool,
    below: &[u8],
    pattern: &Pattern,
) -> Result<Found> {
    let mut search = Search {
        pattern,
        snapshot: 0,
        found: Found::default(),
        path_bytes: 0,
        versions: HashMap::new(),
        seen: HashMap::new(),
        nodes: Vec::new(),
        open: Vec::new(),
    };
    for (at, listed) in snapshots.iter().enumerate().filter(|(at, _)| which(*at)) {
        search.snapshot = at;
        let entry = match repository.resolve(&listed.snapshot, below) {
            Ok(Some(entry)) => entry,
            Ok(None) => continue,
            Err(error) => {
                search.found.damaged.push((at, below.to_vec(), error));
                continue;
            }
        };
        search.open.push((0, Matching::default()));
        let enter = if below.is_empty() { search.enter(below, &entry) } else { search.entry(below, &entry)? };
        if let Node::Directory(directory) = &entry.node
            && enter
        {
            repository.walk(below, directory, &mut search)?;
        }
        search.open.clear();
    }
    let mut found = search.found;
    found.matches.sort_by(|a, b| (&a.path, a.first).cmp(&(&b.path, b.first)));
    Ok(found)
}

type Short = u128;

struct Search<'a> {
    pattern: &'a Pattern,
    snapshot: usize,
    found: Found,
    path_bytes: usize,
    /// The last version of each path that matched.
    versions: HashMap<Vec<u8>, Vec<usize>>,
    /// Directories that were searched, by path and page; `None` where nothing matched in or below.
    seen: HashMap<Short, Option<usize>>,
    nodes: Vec<Matching>,
    /// The directories the search is in, and what was found there so far.
    open: Vec<(Short, Matching)>,
}

/// What matched in one version of a directory.
#[derive(Default)]
struct Matching {
    /// Positions of the matches in it.
    own: Vec<usize>,
    /// Nodes of the directories in it in or below which something matched.
    below: Vec<usize>,
}

fn key(path: &[u8], page: &ChunkId) -> Short {
    let hash = blake3::Hasher::new().update(&page.0).update(path).finalize();
    u128::from_le_bytes(*hash.as_bytes().first_chunk().expect("32 bytes"))
}

/// Returns whether two entries are one version: a restore of the path alone would bring the same back.
fn is_same_version(a: &Entry, b: &Entry) -> bool {
    let same_node = match (&a.node, &b.node) {
        (Node::Directory(_), Node::Directory(_)) => true,
        (x, y) => x == y && a.meta.size_bytes == b.meta.size_bytes,
    };
    let (a, b) = (&a.meta, &b.meta);
    same_node && a.mtime == b.mtime && (a.mode, a.uid, a.gid) == (b.mode, b.uid, b.gid) && a.xattrs == b.xattrs
}

impl Search<'_> {
    fn note(&mut self, at: usize) {
        let found = &mut self.found.matches[at];
        if found.last != self.snapshot {
            found.last = self.snapshot;
            found.snapshots += 1;
        }
    }

    fn matched(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let known = self.versions.get(path).and_then(|versions| {
            versions.iter().copied().find(|at| is_same_version(&self.found.matches[*at].entry, entry))
        });
        let at = match known {
            Some(at) => {
                self.note(at);
                at
            }
            None => {
                let at = self.found.matches.len();
                self.path_bytes += path.len();
                if at >= MAX_MATCHES || self.path_bytes > MAX_PATH_BYTES {
                    let message = format!(
                        "More than {MAX_MATCHES} versions match, or too long paths: search for less, or below a path"
                    );
                    return Err(Error::usage(message));
                }
                let (first, last) = (self.snapshot, self.snapshot);
                self.found.matches.push(Match { path: path.to_vec(), entry: entry.clone(), first, last, snapshots: 1 });
                self.versions.entry(path.to_vec()).or_default().push(at);
                at
            }
        };
        if let Some((_, open)) = self.open.last_mut() {
            open.own.push(at);
        }
        Ok(())
    }

    /// Notes that this snapshot too has what matched in and below a directory.
    fn note_all(&mut self, node: usize) {
        let mut waiting = vec![node];
        while let Some(node) = waiting.pop() {
            for at in 0..self.nodes[node].own.len() {
                self.note(self.nodes[node].own[at]);
            }
            waiting.extend_from_slice(&self.nodes[node].below);
        }
    }

    /// Returns whether a directory is to be searched, and takes what is known of one that was.
    fn enter(&mut self, path: &[u8], entry: &Entry) -> bool {
        let Node::Directory(directory) = &entry.node else { return false };
        let key = key(path, &directory.page);
        let Some(known) = self.seen.get(&key).copied() else {
            self.open.push((key, Matching::default()));
            return true;
        };
        if let Some(node) = known {
            self.note_all(node);
            if let Some((_, open)) = self.open.last_mut() {
                open.below.push(node);
            }
        }
        false
    }
}

impl Visitor for Search<'_> {
    fn entry(&mut self, path: &[u8], entry: &Entry) -> Result<bool> {
        if self.pattern.matches(path, matches!(entry.node, Node::Directory(_))) {
            self.matched(path, entry)?;
        }
        Ok(self.enter(path, entry))
    }

    fn leave(&mut self, _path: &[u8]) -> Result<()> {
        let Some((key, matching)) = self.open.pop() else { return Ok(()) };
        if self.seen.len() >= MAX_SEEN {
            return Ok(());
        }
        if matching.own.is_empty() && matching.below.is_empty() {
            self.seen.insert(key, None);
            return Ok(());
        }
        let node = self.nodes.len();
        self.nodes.push(matching);
        self.seen.insert(key, Some(node));
        if let Some((_, above)) = self.open.last_mut() {
            above.below.push(node);
        }
        Ok(())
    }

    fn damage(&mut self, path: &[u8], error: Error) -> Result<()> {
        if self.found.damaged.len() >= MAX_DAMAGED {
            return Err(error);
        }
        self.found.damaged.push((self.snapshot, path.to_vec(), error));
        Ok(())
    }
}
