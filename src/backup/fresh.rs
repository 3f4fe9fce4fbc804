//! Whether a file is still what the parent snapshot has, by the clock of the file system it is on.
//!
//! A change within the same tick of a file system's clock as an earlier one leaves no trace in ctime. So a file is taken
//! over only if that clock is known to have gone on, since the file's last change, before the parent's walk saw the file
//! system: something else has a later change there (borg's rule, borgbackup/borg#3357), or the parent saw the very mount
//! that is seen now, whose clock is this machine's. What the parent walked need not be its time's state: a snapshot of a
//! volume, an image or a server's clock may be older.

use crate::format::codec::Bytes;
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Directory, Entry, Meta, Node, Time};
use crate::id::ObjectId;
use crate::repo::Repository;
use crate::repo::read::walk::Visitor;
use crate::repo::write::walked::{Walked, WalkedFileSystem, WalkedPlace};
use crate::source::Source;
use crate::source::filesystem::{Clock, FileSystem};
use crate::source::listing::Listing;
use crate::source::stat::{Kind, Stat};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

/// Linux ticks at most 10 ms apart (CONFIG_HZ=100), Windows servers 16 ms.
const TICK_NANOS: i128 = 50_000_000;
/// A server's clock is taken to go on by this much at most between two walks, whatever this machine's says.
const MAX_GONE_ON_NANOS: i128 = 3_600_000_000_000;
/// Whole seconds are those of ext3 and of ext4 with inodes of 128 bytes, of HFS+ and old NFS; two of them FAT's.
const COARSE_TICK_NANOS: i128 = 2_000_000_000;

fn nanos(time: Time) -> i128 {
    i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos)
}

fn time(nanos: i128) -> Time {
    let secs = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or(i64::MIN);
    Time { secs, nanos: nanos.rem_euclid(1_000_000_000) as u32 }
}

/// The newest changes met on one file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Newest {
    /// Of those that are not after the walk's beginning by this machine's clock: one clock that was wrong once must not
    /// stand for all.
    past: Option<i128>,
    all: Option<i128>,
}

impl Newest {
    fn add(&mut self, change: i128, started: i128) {
        self.all = self.all.max(Some(change));
        if change <= started {
            self.past = self.past.max(Some(change));
        }
    }

    fn map(self, each: impl Fn(i128) -> i128) -> Newest {
        Newest { past: self.past.map(&each), all: self.all.map(&each) }
    }
}

/// Until when the parent is known to have seen all changes of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bound {
    started: i128,
    ended: i128,
    newest: Newest,
}

impl Bound {
    /// Returns whether another change may hide behind this one.
    fn is_racy(&self, ctime: Time) -> bool {
        let change = nanos(ctime);
        let after = change + if ctime.nanos == 0 { COARSE_TICK_NANOS } else { TICK_NANOS };
        // Dated after the parent's end: by another clock, or by this one when it was wrong.
        let seen = if change > self.ended { self.newest.all } else { self.newest.past.map(|it| it.min(self.started)) };
        seen.is_none_or(|seen| after >= seen)
    }
}

/// The parent snapshot of a walk.
#[derive(Clone, Copy)]
pub struct Parent<'a> {
    /// Its object.
    pub id: ObjectId,
    /// Itself.
    pub snapshot: &'a Snapshot,
}

/// What is known of the parent's walk.
struct ParentWalk<'a> {
    parent: Parent<'a>,
    /// `None` where another machine or an older program made it, or what was known is lost: then its tree tells.
    walked: Option<Walked>,
    places: HashMap<Vec<u8>, u32>,
    mount_points: HashSet<Vec<u8>>,
}

/// A file system of this walk.
struct Met {
    file_system: Arc<FileSystem>,
    newest: Newest,
    /// How long after the walk's beginning the newest change was met.
    met_after: i128,
}

/// Where the walk is.
#[derive(Clone, Copy)]
pub struct Position {
    at: (u64, u64),
    met: usize,
    place: Option<u32>,
    bound: Option<Bound>,
}

/// The file systems of a walk, and what may be taken over from the parent on each.
pub struct Freshness<'a, S> {
    repository: &'a Repository,
    source: &'a S,
    known: Option<ParentWalk<'a>>,
    met: Vec<Met>,
    places: Vec<WalkedPlace>,
    position: Option<Position>,
    started: i128,
    began: Instant,
}

impl<'a, S: Source> Freshness<'a, S> {
    /// Begins a walk at `started`.
    pub fn new(repository: &'a Repository, source: &'a S, parent: Option<Parent<'a>>, started: Time) -> Self {
        let known = parent.map(|parent| {
            let walked = repository.walked(&parent.id);
            let places = walked.iter().flat_map(|walked| &walked.places);
            let places = places.map(|place| (place.path.0.clone(), place.file_system)).collect();
            // Without a record the tree is looked through, up to where other file systems begin now.
            let mount_points = if walked.is_none() { source.mounts() } else { Vec::new() };
            ParentWalk { parent, walked, places, mount_points: mount_points.into_iter().collect() }
        });
        Freshness {
            repository,
            source,
            known,
            met: Vec::new(),
            places: Vec::new(),
            position: None,
            started: nanos(started),
            began: Instant::now(),
        }
    }

    /// Enters a directory, `directory` in the parent; `path` is empty for the root. Returns where the walk was, to be
    /// given to [`Freshness::leave`].
    pub fn enter(&mut self, path: &[u8], listing: &Listing<S::Dir>, directory: Option<&Directory>) -> Option<Position> {
        let before = self.position;
        let at = (listing.stat.mount_id, listing.stat.dev);
        let begins = self.known.as_ref().and_then(|known| known.places.get(path).copied());
        if before.is_none_or(|before| before.at != at) || begins.is_some() {
            let met = match before.filter(|before| before.at == at) {
                Some(before) => before.met,
                None => self.meet(path, listing),
            };
            let place = begins.or(before.and_then(|before| before.place));
            let bound = self.bound(path, met, place, directory);
            self.position = Some(Position { at, met, place, bound });
        }
        if let Some(position) = self.position {
            self.note(position.met, &listing.stat);
            listing.entries.iter().for_each(|entry| {
                // A mount or a subvolume below is none of this one's.
                if entry.stat.mount_id == at.0 && (entry.stat.kind != Kind::Directory || entry.stat.dev == at.1) {
                    self.note(position.met, &entry.stat);
                }
            });
        }
        before
    }

    /// Goes back to where the walk was.
    pub fn leave(&mut self, before: Option<Position>) {
        self.position = before;
    }

    /// Returns whether something in the directory that is open is as the parent has it, and cannot have changed since
    /// within one tick.
    pub fn is_unchanged(&self, stat: &Stat, entry: &Entry) -> bool {
        same_kind(stat.kind, &entry.node) && self.is_same_version(stat, &entry.meta)
    }

    /// Returns the same of attributes alone.
    pub fn is_same_version(&self, stat: &Stat, meta: &Meta) -> bool {
        let bound = self.position.and_then(|position| position.bound);
        stat.same_file_version(meta) && bound.is_some_and(|bound| !bound.is_racy(meta.ctime))
    }

    /// Ends the walk: returns what is to be remembered of it.
    pub fn end(self) -> Walked {
        let bytes = |list: &[Vec<u8>]| list.iter().cloned().map(Bytes).collect();
        let before = self.known.as_ref().and_then(|known| {
            let since = self.started - nanos(known.parent.snapshot.started);
            Some((known.walked.as_ref()?, (since / 2).clamp(0, MAX_GONE_ON_NANOS)))
        });
        let file_systems = self.met.iter().map(|met| {
            let FileSystem { kin, mount, clock, .. } = &*met.file_system;
            let mut newest = met.newest;
            if *clock == Clock::Other {
                // What a server changed while it was walked over may have been seen before a change of the same tick.
                newest = newest.map(|change| change - met.met_after);
                // Its clock has gone on since the walk before: half as fast as this one, or faster.
                if let Some((walked, gone_on)) = before {
                    let then = walked.file_systems.iter().find(|then| then.kin.iter().any(|it| kin.contains(&it.0)));
                    let reached = |then: Option<Time>| then.map(|time| nanos(time) + gone_on);
                    newest.past = newest.past.max(then.and_then(|then| reached(then.past)));
                    newest.all = newest.all.max(then.and_then(|then| reached(then.newest)));
                }
            }
            let mount = mount.clone().map(Bytes);
            WalkedFileSystem { kin: bytes(kin), mount, past: newest.past.map(time), newest: newest.all.map(time) }
        });
        Walked { places: self.places, file_systems: file_systems.collect() }
    }

    fn meet(&mut self, path: &[u8], listing: &Listing<S::Dir>) -> usize {
        let file_system = self.source.file_system(&listing.dir, &listing.stat);
        let met = self.met.iter().position(|met| Arc::ptr_eq(&met.file_system, &file_system));
        let met = met.unwrap_or_else(|| {
            let mut newest = Newest::default();
            file_system.taken.iter().for_each(|taken| newest.add(nanos(*taken), self.started));
            self.met.push(Met { file_system, newest, met_after: 0 });
            self.met.len() - 1
        });
        self.places.push(WalkedPlace { path: Bytes(path.to_vec()), file_system: met as u32 });
        met
    }

    fn note(&mut self, met: usize, stat: &Stat) {
        let met = &mut self.met[met];
        let before = met.newest;
        met.newest.add(nanos(stat.ctime), self.started);
        if met.newest != before {
            met.met_after = i128::try_from(self.began.elapsed().as_nanos()).unwrap_or(i128::MAX);
        }
    }

    fn bound(&self, path: &[u8], met: usize, place: Option<u32>, directory: Option<&Directory>) -> Option<Bound> {
        let known = self.known.as_ref()?;
        let Snapshot { started, ended, .. } = known.parent.snapshot;
        let (started, ended) = (nanos(*started), nanos(*ended));
        let now = &self.met[met].file_system;
        let Some(walked) = &known.walked else {
            let mut newest = self.newest_of_tree(known, path, directory?, started);
            if now.clock == Clock::Other {
                newest = newest.map(|change| change - (ended - started).max(0));
            }
            return Some(Bound { started, ended, newest });
        };
        let then = walked.file_systems.get(place? as usize)?;
        if !then.kin.iter().any(|name| now.kin.contains(&name.0)) {
            return None;
        }
        let is_one_state = then.mount.is_some() && then.mount.as_ref().map(|mount| &mount.0) == now.mount.as_ref();
        let past = if is_one_state { Some(started) } else { then.past.map(nanos) };
        Some(Bound { started, ended, newest: Newest { past, all: then.newest.map(nanos) } })
    }

    fn newest_of_tree(&self, known: &ParentWalk<'_>, path: &[u8], directory: &Directory, started: i128) -> Newest {
        let mut looking = Looking { newest: Newest::default(), started, mount_points: &known.mount_points };
        // What cannot be read has no change that counts: more is read again then.
        let _ = self.repository.walk(path, directory, &mut looking);
        looking.newest
    }
}

/// Looks for the newest change of a part of the parent's tree.
struct Looking<'a> {
    newest: Newest,
    started: i128,
    mount_points: &'a HashSet<Vec<u8>>,
}

impl Visitor for Looking<'_> {
    fn entry(&mut self, path: &[u8], entry: &Entry) -> crate::error::Result<bool> {
        let is_here = !matches!(entry.node, Node::Directory(_)) || !self.mount_points.contains(path);
        // What was made while it was backed up is on no file system.
        if is_here && entry.meta.ino != 0 {
            self.newest.add(nanos(entry.meta.ctime), self.started);
        }
        Ok(is_here)
    }

    fn damage(&mut self, _path: &[u8], _error: crate::error::Error) -> crate::error::Result<()> {
        Ok(())
    }
}

fn same_kind(kind: Kind, node: &Node) -> bool {
    match node {
        Node::File(_) => kind == Kind::File,
        Node::Directory(_) => kind == Kind::Directory,
        Node::Symlink(_) => kind == Kind::Symlink,
        Node::Fifo => kind == Kind::Fifo,
        Node::Socket => kind == Kind::Socket,
        Node::CharDevice { .. } => kind == Kind::CharDevice,
        Node::BlockDevice { .. } => kind == Kind::BlockDevice,
    }
}
