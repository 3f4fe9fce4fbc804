//! Sources and dumps that have lost what they held: a disk that is not mounted, a dump that is suddenly empty. Such a
//! snapshot is an incomplete one, so that rules keep the last that has it all, until somebody says that it is meant so.

use crate::clock::is_ahead;
use crate::error::{Error, Result};
use crate::format::codec::Bytes;
use crate::format::snapshot::{INCOMPLETE_TAG, Snapshot, Trouble};
use crate::format::tree::{Entry, Node};
use crate::quantity::{counted, size};
use crate::repo::Repository;
use crate::repo::read::walk::Visitor;
use crate::repo::shared::dated;
use crate::repo::shared::listed::ListedSnapshot;
use crate::source::Source;
use crate::source::exclude::Excludes;
use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What a folder has lost is told from so many files on if it is all but a hundredth; of fewer, only if it is all.
const LEAST_FILES: u64 = 100;
/// The same of a file, in bytes.
const LEAST_BYTES: u64 = 64 << 10;
/// How a trouble of this kind begins: by it the next backup knows what to look at again.
const LOST: &str = "has lost what it held: ";
/// Numbers that file systems give to their root: a folder that had one was a mount point (tmpfs and FUSE 1, ext 2, F2FS 3,
/// NTFS 5, ZFS 34, XFS 64 to 128, btrfs 256).
const ROOT_INODES: [u64; 9] = [1, 2, 3, 5, 34, 64, 96, 128, 256];

/// What may have lost what it held.
#[derive(Debug, Default)]
pub struct Suspects {
    /// Sources, and folders below them.
    pub folders: BTreeSet<Vec<u8>>,
    /// Dumps, by path.
    pub dumps: BTreeSet<Vec<u8>>,
    /// Folders of which dumps stand for files: what an earlier snapshot had of them is not missed.
    pub left: Vec<Vec<u8>>,
}

impl Suspects {
    /// Takes the sources and dumps of a backup, and what its parent has told already.
    pub fn new(sources: &[Vec<u8>], dumps: impl Iterator<Item = Vec<u8>>, parent: Option<&Snapshot>) -> Self {
        let told = parent.iter().flat_map(|parent| &parent.troubles);
        let told = told.filter(|trouble| trouble.message.starts_with(LOST)).map(|trouble| trouble.path.to_vec());
        let dumps: BTreeSet<_> = dumps.collect();
        let folders = sources.iter().cloned().chain(told).filter(|path| !dumps.contains(path)).collect();
        Suspects { folders, dumps, left: Vec::new() }
    }

    /// Returns what an entry of an earlier snapshot had of what is not excluded now.
    fn wanted_of(repository: &Repository, path: &[u8], had: &Entry, excludes: &Excludes) -> Option<(u64, u64)> {
        let Node::Directory(directory) = &had.node else { return totals(had) };
        let mut counting = Counting { excludes, files: 0, bytes: 0 };
        // What cannot be read of it is told by `bakfs check`.
        let _ = repository.walk(path, directory, &mut counting);
        Some((counting.files, counting.bytes))
    }

    /// Returns which of them have lost what the last complete snapshot of the same kind has of them, and what to say. What
    /// `excludes` leave out now may have been backed up before, and is not missed.
    pub fn lost(
        &self,
        repository: &Repository,
        history: &[ListedSnapshot],
        snapshot: &Snapshot,
        excludes: &Excludes,
    ) -> Vec<Trouble> {
        let now = dated::timestamp(snapshot.started);
        let tags = |snapshot: &Snapshot| snapshot.plain_tags().map(str::to_string).collect::<BTreeSet<_>>();
        let own = tags(snapshot);
        let is_like = |listed: &&ListedSnapshot| {
            let other = &listed.snapshot;
            other.host == snapshot.host
                && !other.has_tag(INCOMPLETE_TAG)
                && !is_ahead(dated::timestamp(other.started), now)
                && tags(other) == own
        };
        let mut like: Vec<&ListedSnapshot> = history.iter().filter(is_like).collect();
        like.sort_by_key(|listed| std::cmp::Reverse((listed.snapshot.started, listed.id)));
        let folders = self.folders.iter().map(|path| (path, false));
        let all = folders.chain(self.dumps.iter().map(|path| (path, true)));
        let lost = all.filter_map(|(path, is_dump)| {
            let is_in = |listed: &&&ListedSnapshot| listed.snapshot.sources.iter().any(|source| is_below(path, source));
            let before = like.iter().find(is_in)?;
            // What cannot be read of an earlier snapshot is told by `bakfs check`.
            let had = repository.resolve(&before.snapshot, path).ok()??;
            let has = repository.resolve(snapshot, path).ok()??;
            // What could not be read is told already, and is not gone.
            let unread = snapshot.troubles.iter().filter(|trouble| is_below(&trouble.path, path)).count() as u64;
            let left = self.left.iter().filter(|left| is_below(left, path));
            let left = left.filter_map(|left| totals(&repository.resolve(&before.snapshot, left).ok()??));
            let left = left.fold((0u64, 0u64), |all, one| (all.0.saturating_add(one.0), all.1.saturating_add(one.1)));
            let text = compared(&has, unread, totals(&had)?, left, &had, is_dump)?;
            // Only now is it worth a look through the whole of it.
            let wanted = Self::wanted_of(repository, path, &had, excludes)?;
            compared(&has, unread, wanted, left, &had, is_dump)?;
            let why = if is_dump { "Has the program that dumps it failed?" } else { "Is its disk mounted?" };
            let message = format!(
                "{LOST}{text} in {}. {why} If it is meant so, say it once with --allow-empty, or write \
                 `allow-empty = true` in the profile",
                before.snapshot.name
            );
            Some(Trouble { path: Bytes(path.clone()), message })
        });
        lost.collect()
    }
}

/// Counts what is not excluded.
struct Counting<'a> {
    excludes: &'a Excludes,
    files: u64,
    bytes: u64,
}

impl Visitor for Counting<'_> {
    fn entry(&mut self, path: &[u8], entry: &Entry) -> Result<bool> {
        let is_folder = matches!(entry.node, Node::Directory(_));
        if self.excludes.excludes(Path::new(OsStr::from_bytes(path)), is_folder) {
            return Ok(false);
        }
        self.files = self.files.saturating_add(1);
        if let Node::File(_) = &entry.node {
            self.bytes = self.bytes.saturating_add(entry.meta.size_bytes);
        }
        Ok(true)
    }

    fn damage(&mut self, _path: &[u8], _error: Error) -> Result<()> {
        Ok(())
    }
}

fn is_below(path: &[u8], source: &[u8]) -> bool {
    match path.strip_prefix(source) {
        Some(rest) => rest.is_empty() || rest[0] == b'/' || source == b"/",
        None => false,
    }
}

fn is_lost(has: u64, had: u64, least: u64) -> bool {
    had > 0 && (has == 0 || (had >= least && has <= had / 100))
}

/// Returns the files in an entry and their bytes.
fn totals(entry: &Entry) -> Option<(u64, u64)> {
    match &entry.node {
        Node::Directory(directory) => Some((directory.total_files, directory.total_bytes)),
        Node::File(_) => Some((1, entry.meta.size_bytes)),
        _ => None,
    }
}

/// Says what an entry has and had without `left`, where that is next to nothing; `None` where it is not.
fn compared(
    has: &Entry,
    unread: u64,
    (had_files, had_bytes): (u64, u64),
    left: (u64, u64),
    had: &Entry,
    is_dump: bool,
) -> Option<String> {
    let (has_files, has_bytes) = totals(has)?;
    let (had_files, had_bytes) = (had_files.saturating_sub(left.0), had_bytes.saturating_sub(left.1));
    // Folders alone are no loss.
    if had_bytes == 0 {
        return None;
    }
    let is_folder = matches!(had.node, Node::Directory(_)) && !is_dump;
    if is_folder && is_lost(has_files + unread, had_files, LEAST_FILES) {
        return Some(format!("{} now, {had_files} ({})", counted(has_files, "file"), size(had_bytes)));
    }
    if unread > 0 {
        return None;
    }
    let least = if is_folder { u64::MAX } else { LEAST_BYTES };
    is_lost(has_bytes, had_bytes, least).then(|| format!("{} now, {}", size(has_bytes), size(had_bytes)))
}

/// Mount points that nothing may be mounted at.
#[derive(Debug)]
pub struct MountPoints {
    /// Those that are written down, as in /etc/fstab.
    listed: HashSet<PathBuf>,
}

impl MountPoints {
    /// Asks a source.
    pub fn of(source: &impl Source) -> Self {
        MountPoints { listed: source.mount_points() }
    }

    /// Returns whether a folder was a mount point when it had an inode number, and is another folder now.
    pub fn was_one(&self, path: impl FnOnce() -> Vec<u8>, had_inode: u64, has_inode: u64) -> bool {
        had_inode != has_inode
            && (ROOT_INODES.contains(&had_inode)
                || !self.listed.is_empty() && self.listed.contains(&PathBuf::from(OsString::from_vec(path()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::filesystem::unescape;

    #[test]
    fn next_to_nothing_is_lost_and_little_is_not() {
        for (has, had, expected) in [
            (0, 0, false),
            (0, 1, true),
            (1, 99, false),
            (1, 100, true),
            (2, 100, false),
            (5, 500, true),
            (9, 3, false),
        ] {
            assert_eq!(is_lost(has, had, 100), expected, "{has} of {had}");
        }
    }

    #[test]
    fn a_path_is_of_the_source_it_lies_in() {
        for (path, source, expected) in
            [("/srv", "/srv", true), ("/srv/a", "/srv", true), ("/srv2", "/srv", false), ("/srv", "/", true)]
        {
            assert_eq!(is_below(path.as_bytes(), source.as_bytes()), expected, "{path} {source}");
        }
    }

    #[test]
    fn words_of_fstab_are_read_as_they_are_meant() {
        assert_eq!(unescape(br"/mnt/my\040disk\134"), br"/mnt/my disk\");
        assert_eq!(unescape(br"/mnt\04"), br"/mnt\04");
    }
}
