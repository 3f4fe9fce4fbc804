//! The director: walks the sources in order, compares with the parent snapshot, and tells what there
//! is to do as a stream of events in the order of the tree.

use super::Options;
use super::budget::Budget;
use super::content::{FileToRead, PIECE_BYTES};
use super::emptied::MountPoints;
use super::event::{Change, Event, Stopped, without_slash};
use super::fresh::Freshness;
use super::generated::PendingDumps;
use super::parent::{Cursor, ParentEntry, is_stored};
use super::roots::{Node as Root, Roots};
use super::servers::Servers;
use super::subvolumes::Subvolumes;
use super::unchanged::Unchanged;
use crate::error::{Error, Result};
use crate::format::codec::Bytes;
use crate::format::page::is_valid_name;
use crate::format::tree::{Directory, Entry, Meta, Node, marks};
use crate::repo::Repository;
use crate::repo::read::walk::MAX_DEPTH;
use crate::repo::write::walked;
use crate::source::Source;
use crate::source::exclude::{CACHE_TAG_NAME, Excludes, is_tagged_cache};
use crate::source::listing::{Listing, Scanned};
use crate::source::owners::Owners;
use crate::source::stat::Kind;
use crate::source::walk::{Ticket, Walk};
use crossbeam_channel::{Sender, bounded};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Stack of the director, which descends with the tree.
pub const DIRECTOR_STACK_BYTES: usize = 64 << 20;

/// Walks the sources.
pub struct Director<'a, S: Source> {
    pub(super) repository: &'a Repository,
    pub(super) source: &'a S,
    pub(super) options: &'a Options,
    /// What is left out, with what it means through links.
    pub(super) excludes: &'a Excludes,
    pub(super) freshness: Freshness<'a, S>,
    pub(super) walk: Walk<S>,
    pub(super) events: Sender<Event>,
    pub(super) jobs: Option<Sender<FileToRead<S::Dir>>>,
    pub(super) budget: &'a Budget,
    pub(super) owners: Owners,
    /// Paths that are no part of what is backed up: this program's own, and of files that dumps stand for.
    pub(super) skipped_paths: HashSet<Vec<u8>>,
    /// Folders of servers' files.
    pub(super) servers: Servers,
    pub(super) linked: HashSet<(u64, u64)>,
    /// The path of the directory that is open, for exclusion patterns.
    pub(super) path: Vec<u8>,
    /// Directories that are open and not told yet, because all of them so far is as the parent has it.
    pub(super) unchanged: Unchanged,
    /// Where something should be mounted.
    pub(super) mount_points: &'a MountPoints,
    /// Folders that were mount points in the parent, and are other ones now.
    pub(super) unmounted: Vec<Vec<u8>>,
    /// Dumps, made while they are backed up.
    pub(super) dumps: PendingDumps<'a>,
    /// Subvolumes that were left out: of how many, and the first of them.
    pub(super) subvolumes: Subvolumes,
}

/// An entry of a directory that is backed up, or leads to what is.
struct Wanted<'a, S: Source> {
    scanned: &'a Scanned,
    below: Option<&'a Root>,
    is_source: bool,
    /// Of a directory.
    ticket: Option<Ticket<S>>,
}

/// What a walk has told besides its events.
pub struct Walked {
    /// Whose names the snapshot needs.
    pub owners: Owners,
    /// Dumps that were made whole.
    pub made: u64,
    /// Dumps and sources that are missing.
    pub missing: u64,
    /// What is to be told of subvolumes that were left out.
    pub subvolumes: Option<String>,
    /// The file systems that were walked over.
    pub sources: walked::Walked,
    /// Folders that were mount points in the parent, and are other ones now.
    pub unmounted: Vec<Vec<u8>>,
    /// Folders of which dumps stand for files.
    pub left: Vec<Vec<u8>>,
}

impl<S: Source> Director<'_, S> {
    /// Walks all sources below `/`, to the end or until nobody listens any more.
    pub fn walk_all(mut self, roots: &Roots, parent: Option<Directory>, failed: &[(PathBuf, Error)]) -> Walked {
        // Stopped: the assembler has failed and says why.
        let _ = self.run(roots, parent, failed);
        Walked {
            owners: self.owners,
            made: self.dumps.made,
            missing: self.dumps.missing,
            subvolumes: self.subvolumes.told(),
            sources: self.freshness.end(),
            unmounted: self.unmounted,
            left: self.servers.left,
        }
    }

    /// Walks all sources below `/`.
    pub fn run(
        &mut self,
        roots: &Roots,
        parent: Option<Directory>,
        failed: &[(PathBuf, Error)],
    ) -> Result<(), Stopped> {
        let root = &roots.root;
        let failure = |error: Error| Event::Failed(Error::io("Cannot read /", std::io::Error::other(error.chain())));
        let listing = match self.walk.request_root(Path::new("/")).take() {
            Ok(listing) => listing,
            Err(error) => return self.tell(failure(error)),
        };
        let meta = self.meta_of(&listing, b"")?;
        self.tell(Event::Enter(Bytes::default(), Box::new(meta)))?;
        for (path, error) in &roots.missing {
            self.dumps.missing += 1;
            self.trouble(without_slash(path.as_os_str().as_bytes()), error.chain())?;
        }
        self.tell_failed(failed)?;
        if let Some(name) = self.hidden_by_dumps(&listing, root) {
            return self.tell(Event::Failed(hidden_by_dumps(&name)));
        }
        self.make_all()?;
        self.skipped_paths.extend(self.servers.settle(&self.dumps.whole));
        // Dumps may have taken hours.
        let listing = match self.walk.request_root(Path::new("/")).take() {
            Ok(listing) => listing,
            Err(error) => return self.tell(failure(error)),
        };
        self.freshness.enter(b"", &listing, parent.as_ref());
        self.directory(&listing, Some(root), parent, listing.stat.dev, root.is_source, 0)?;
        self.tell(Event::Leave)
    }

    /// Tells of a difference from the parent, and so first of the directories it is in.
    pub(super) fn tell(&mut self, event: Event) -> Result<(), Stopped> {
        let unchanged = self.unchanged.release();
        unchanged.chain([event]).try_for_each(|event| self.events.send(event).map_err(|_| Stopped))
    }

    /// Takes over what the parent has, exactly: silently while the whole directory may be taken over.
    fn reuse(&mut self, known: ParentEntry<'_>) -> Result<(), Stopped> {
        if self.unchanged.reuse(known) {
            return Ok(());
        }
        let entry = Box::new(known.entry.clone());
        match &entry.node {
            Node::Directory(_) => self.tell(Event::Reused(entry)),
            _ => self.tell(Event::Entry(entry, Change::Unmodified)),
        }
    }

    fn trouble(&mut self, name: &[u8], message: impl Into<String>) -> Result<(), Stopped> {
        self.tell(Event::Trouble(name.into(), message.into()))
    }

    fn meta_of(&mut self, listing: &Listing<S::Dir>, name: &[u8]) -> Result<Meta, Stopped> {
        self.owners.note(self.source, listing.stat.uid, listing.stat.gid);
        let xattrs = self.source.xattrs_of_dir(&listing.dir);
        for error in &xattrs.errors {
            self.trouble(name, error.chain())?;
        }
        Ok(listing.stat.to_meta(xattrs.list))
    }

    /// Tells a directory's entries. Below a directory that is no source only the way to sources is walked.
    fn directory(
        &mut self,
        listing: &Listing<S::Dir>,
        roots: Option<&Root>,
        parent: Option<Directory>,
        device: u64,
        is_source: bool,
        depth: usize,
    ) -> Result<(), Stopped> {
        for (name, error) in &listing.errors {
            // A mount of another user cannot even be looked at, which is no trouble.
            if self.is_skipped(name) {
                continue;
            }
            let below = roots.and_then(|roots| roots.below.get(&name.0));
            let is_out = || self.excludes.excludes(Path::new(OsStr::from_bytes(&self.path_of(name))), true);
            if below.is_some() || (is_source && !is_out()) {
                self.dumps.missing += u64::from(below.is_some());
                self.trouble(name, error.chain())?;
            }
        }
        self.tell_gone(listing, roots)?;
        if let Some(error) = &listing.incomplete {
            self.trouble(b"", error.chain())?;
        }
        if is_source && let Some(text) = self.servers.told(listing) {
            self.trouble(b"", text)?;
        }
        let keeps = self.servers.keeps(&listing.stat);
        if keeps.is_some() {
            self.servers.left.push(self.path.clone());
        }
        let tagged = is_source && self.options.exclude_caches && is_tagged_cache(self.source, listing);
        // What is wanted is decided for all names first, so that subdirectories are listed ahead.
        let mut wanted: Vec<Wanted<'_, S>> = Vec::new();
        for scanned in &listing.entries {
            let below = roots.and_then(|roots| roots.below.get(&scanned.name.0));
            let asked = below.is_some_and(|below| below.is_source);
            let here = is_source && !(tagged && scanned.name[..] != *CACHE_TAG_NAME) && !self.is_excluded(scanned);
            if !(here || below.is_some()) {
                continue;
            }
            let is_kept = keeps.is_none_or(|keeps| keeps(OsStr::from_bytes(&scanned.name), is_directory_of(scanned)));
            let is_dumped = !is_kept || self.servers.is_replaced(&scanned.stat);
            if is_dumped && is_kept {
                self.servers.left.push(self.path_of(&scanned.name));
            }
            if self.is_skipped(&scanned.name) || is_dumped && below.is_none() {
                continue;
            }
            let ticket =
                is_directory_of(scanned).then(|| self.walk.request(&listing.dir, &scanned.name, &scanned.stat));
            wanted.push(Wanted { scanned, below, is_source: here || asked, ticket });
        }
        let mut cursor = Cursor::new(self.repository, parent);
        for Wanted { scanned, below, is_source, ticket } in wanted {
            if !is_valid_name(&scanned.name) {
                self.trouble(&scanned.name, "has a name no Linux directory can have: it was left out")?;
                continue;
            }
            self.owners.note(self.source, scanned.stat.uid, scanned.stat.gid);
            let known = cursor.find(&scanned.name);
            match ticket {
                Some(ticket) => {
                    let asked = below.is_some_and(|below| below.is_source);
                    let other_device = self.options.one_file_system && scanned.stat.dev != device && !asked;
                    if other_device && below.is_none() {
                        drop(ticket);
                        // What is seen through the same mount is none itself (btrfs(5), "subvolumes").
                        if scanned.stat.mount_id != 0 && scanned.stat.mount_id == listing.stat.mount_id {
                            self.subvolumes.add(self.path_of(&scanned.name));
                        }
                        self.left_out(listing, scanned)?;
                        continue;
                    }
                    let is_source = is_source && !other_device;
                    self.subdirectory(scanned, ticket, known, below, device, is_source, depth + 1)?;
                }
                None if is_source => self.file(listing, scanned, known)?,
                None => {}
            }
            if !is_directory_of(scanned) && below.is_some_and(|below| !below.below.is_empty()) {
                self.dumps.missing += 1;
                self.trouble(&scanned.name, "is no folder any more: what was to be backed up below it is missing")?;
            }
        }
        Ok(())
    }

    /// Returns what would be backed up of the root under the name of something that is made.
    fn hidden_by_dumps(&self, listing: &Listing<S::Dir>, root: &Root) -> Option<Vec<u8>> {
        let is_wanted = |scanned: &&Scanned| {
            let is_here = root.is_source && !self.is_excluded(scanned);
            (is_here || root.below.contains_key(&scanned.name.0)) && !self.is_skipped(&scanned.name)
        };
        let hidden = listing.entries.iter().filter(|scanned| self.dumps.is_at(&scanned.name)).find(is_wanted)?;
        Some(hidden.name.to_vec())
    }

    /// Names sources, and folders that lead to some, that were there when the backup began and are no more.
    fn tell_gone(&mut self, listing: &Listing<S::Dir>, roots: Option<&Root>) -> Result<(), Stopped> {
        let Some(roots) = roots else { return Ok(()) };
        for name in roots.below.keys() {
            let is_listed = listing.entries.iter().any(|scanned| scanned.name[..] == **name)
                || listing.errors.iter().any(|(failed, _)| failed[..] == **name);
            if !is_listed {
                self.dumps.missing += 1;
                self.trouble(name, "was there when the backup began, and is no more")?;
            }
        }
        Ok(())
    }

    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        [&self.path, b"/".as_slice(), name].concat()
    }

    fn is_skipped(&self, name: &[u8]) -> bool {
        !self.skipped_paths.is_empty() && self.skipped_paths.contains(&self.path_of(name))
    }

    fn is_excluded(&self, scanned: &Scanned) -> bool {
        if self.excludes.is_empty() {
            return false;
        }
        let path = self.path_of(&scanned.name);
        self.excludes.excludes(Path::new(OsStr::from_bytes(&path)), scanned.stat.kind == Kind::Directory)
    }

    /// Tells an empty directory where another file system is mounted.
    fn left_out(&mut self, listing: &Listing<S::Dir>, scanned: &Scanned) -> Result<(), Stopped> {
        let xattrs = self.source.xattrs_of(&listing.dir, &scanned.name);
        let mut meta = scanned.stat.to_meta(xattrs.list);
        meta.marks |= marks::LEFT_OUT;
        self.tell(Event::Enter(scanned.name.clone(), Box::new(meta)))?;
        self.tell(Event::Leave)
    }

    #[expect(clippy::too_many_arguments, reason = "the state of one descent")]
    fn subdirectory(
        &mut self,
        scanned: &Scanned,
        ticket: Ticket<S>,
        known: Option<ParentEntry<'_>>,
        below: Option<&Root>,
        device: u64,
        is_source: bool,
        depth: usize,
    ) -> Result<(), Stopped> {
        // One deeper, and whoever reads the tree would not follow.
        if depth >= MAX_DEPTH {
            return self
                .trouble(&scanned.name, format!("lies {MAX_DEPTH} directories deep or deeper: it was left out"));
        }
        let listing = match ticket.take() {
            Ok(listing) => listing,
            Err(error) => {
                self.dumps.missing += u64::from(below.is_some());
                self.trouble(&scanned.name, error.chain())?;
                let mut meta = scanned.stat.to_meta(Vec::new());
                meta.marks |= marks::UNREADABLE;
                self.tell(Event::Enter(scanned.name.clone(), Box::new(meta)))?;
                return self.tell(Event::Leave);
            }
        };
        let parent = known.and_then(|known| match &known.entry.node {
            Node::Directory(directory) => Some(*directory),
            _ => None,
        });
        let path_len = self.path.len();
        self.path.push(b'/');
        self.path.extend_from_slice(&scanned.name);
        let before = self.freshness.enter(&self.path, &listing, parent.as_ref());
        let told = self.listed(scanned, &listing, known, parent, below, device, is_source, depth);
        self.freshness.leave(before);
        self.path.truncate(path_len);
        told
    }

    /// Tells a subdirectory that is open.
    #[expect(clippy::too_many_arguments, reason = "the state of one descent")]
    fn listed(
        &mut self,
        scanned: &Scanned,
        listing: &Listing<S::Dir>,
        known: Option<ParentEntry<'_>>,
        parent: Option<Directory>,
        below: Option<&Root>,
        device: u64,
        is_source: bool,
        depth: usize,
    ) -> Result<(), Stopped> {
        let is_unchanged = |meta: &Meta| self.freshness.is_same_version(&listing.stat, meta) && meta.marks == 0;
        let unchanged = known.filter(|known| is_unchanged(&known.entry.meta));
        let mut meta = match unchanged {
            Some(known) => listing.stat.to_meta(known.entry.meta.xattrs.clone()),
            None => self.meta_of(listing, &scanned.name)?,
        };
        if listing.incomplete.is_some() {
            meta.marks |= marks::UNREADABLE;
        }
        if parent.is_some_and(|parent| parent.total_files > 0)
            && let Some(known) = known
            && self.mount_points.was_one(|| self.path.clone(), known.entry.meta.ino, listing.stat.ino)
        {
            self.unmounted.push(self.path.clone());
        }
        let asked = below.is_some_and(|below| below.is_source);
        let is_other = listing.stat.dev != device && below.is_none();
        if is_other && self.source.is_shown(&listing.dir, &listing.stat) {
            meta.marks |= marks::LEFT_OUT;
            self.tell(Event::Enter(scanned.name.clone(), Box::new(meta)))?;
            return self.tell(Event::Leave);
        }
        // A source on another file system than its parent is the start of a walk of its own.
        let device = if asked { listing.stat.dev } else { device };
        let meta = Box::new(meta);
        let reused = match (known, parent) {
            (Some(known), Some(parent)) if known.entry.meta == *meta => {
                Some((known, parent, self.unchanged.open(scanned.name.clone(), meta)))
            }
            _ => {
                self.tell(Event::Enter(scanned.name.clone(), meta))?;
                None
            }
        };
        self.directory(listing, below, parent, device, is_source, depth)?;
        if let Some((known, parent, level)) = reused
            && let Some(counts) = self.unchanged.close(level, || self.repository.holds_pages(&parent), parent.entries)
        {
            self.events.send(Event::Counted(counts)).map_err(|_| Stopped)?;
            return self.reuse(known);
        }
        self.tell(Event::Leave)
    }

    fn file(
        &mut self,
        listing: &Listing<S::Dir>,
        scanned: &Scanned,
        known: Option<ParentEntry<'_>>,
    ) -> Result<(), Stopped> {
        let stat = &scanned.stat;
        let is_unchanged = |known: &Entry| {
            self.freshness.is_unchanged(stat, known)
                && known.meta.marks == 0
                && !matches!(&known.node, Node::File(content) if !is_stored(self.repository, content))
        };
        let change = if known.is_some() { Change::Changed } else { Change::New };
        if let Some(known) = known.filter(|known| is_unchanged(known.entry)) {
            if stat.is_as_stored(&known.entry.meta) {
                return self.reuse(known);
            }
            // Blocks and the device may change without a change of the file.
            let meta = stat.to_meta(known.entry.meta.xattrs.clone());
            let entry = Entry { name: scanned.name.clone(), meta, node: known.entry.node.clone() };
            return self.tell(Event::Entry(Box::new(entry), Change::Unmodified));
        }
        match stat.kind {
            Kind::File => self.content(&listing.dir, scanned, change),
            Kind::Unknown => self.trouble(&scanned.name, "is of a type this program does not know: it was left out"),
            Kind::Directory => Ok(()),
            kind => {
                let node = match kind {
                    Kind::Symlink => match self.source.read_link(&listing.dir, &scanned.name) {
                        Ok(target) => Node::Symlink(target),
                        Err(error) => return self.trouble(&scanned.name, error.chain()),
                    },
                    Kind::Fifo => Node::Fifo,
                    Kind::Socket => Node::Socket,
                    Kind::CharDevice => Node::CharDevice { major: stat.rdev_major, minor: stat.rdev_minor },
                    _ => Node::BlockDevice { major: stat.rdev_major, minor: stat.rdev_minor },
                };
                let xattrs = self.source.xattrs_of(&listing.dir, &scanned.name);
                for error in &xattrs.errors {
                    self.trouble(&scanned.name, error.chain())?;
                }
                let entry = Entry { name: scanned.name.clone(), meta: stat.to_meta(xattrs.list), node };
                self.tell(Event::Entry(Box::new(entry), change))
            }
        }
    }

    fn content(&mut self, dir: &Arc<S::Dir>, scanned: &Scanned, change: Change) -> Result<(), Stopped> {
        let stat = &scanned.stat;
        let name = scanned.name.clone();
        if stat.nlink > 1 && !self.linked.insert((stat.dev, stat.ino)) {
            return self.tell(Event::Link(name, Box::new(stat.clone()), change));
        }
        let Some(jobs) = &self.jobs else {
            return self.tell(Event::File {
                name,
                stat: Box::new(stat.clone()),
                change,
                pieces: None,
                permit_bytes: 0,
            });
        };
        // What a file may have on its way: itself, or two pieces and the one being read.
        let permit_bytes = stat.size_bytes.min(3 * PIECE_BYTES as u64) + 4096;
        self.budget.take(permit_bytes);
        let (sender, pieces) = bounded(2);
        let job = FileToRead { dir: dir.clone(), name: name.0.clone(), stat: stat.clone(), pieces: sender };
        jobs.send(job).map_err(|_| Stopped)?;
        self.tell(Event::File { name, stat: Box::new(stat.clone()), change, pieces: Some(pieces), permit_bytes })
    }
}

fn is_directory_of(scanned: &Scanned) -> bool {
    scanned.stat.kind == Kind::Directory
}

fn hidden_by_dumps(name: &[u8]) -> Error {
    let name = name.escape_ascii();
    Error::usage(format!(
        "Dumps are stored below /{name}, where this machine has a folder of its own: leave that one out \
         (`exclude = [\"/{name}\"]`), or move it"
    ))
}
