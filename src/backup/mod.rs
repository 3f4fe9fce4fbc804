//! Backing up: a director walks the sources, readers read what is new, the assembler builds the tree.
//!
//! ```text
//!  scanners -> director --events, in tree order--> assembler -> Writer (frames, packs, index)
//!                  \--jobs--> readers --pieces of each file-->/
//! ```
//!
//! The director and the readers work ahead within a budget of bytes; the assembler takes everything in
//! the order of the tree, so content lies in the packs in directory order.

mod assemble;
mod content;
mod count;
mod emptied;
mod event;
mod fresh;
mod generated;
mod kept;
mod make;
mod parent;
mod report;
mod roots;
mod servers;
mod walk;

use crate::clock::{is_ahead, is_behind};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::codec::Bytes;
use crate::format::snapshot::{INCOMPLETE_TAG, MAX_TROUBLES, Snapshot, Trouble};
use crate::format::tree::{Directory, Meta, Node, Time};
use crate::id::ObjectId;
use crate::monitor::Monitor;
use crate::repo::shared::dated;
use crate::repo::shared::listed::Listed;
use crate::repo::shared::scope::{ahead_warning, believed};
use crate::repo::shared::session::Session;
use crate::repo::write::{WriteOptions, Writer};
use crate::repo::{self, Repository};
use crate::source::exclude::{Excludes, Idle, Source};
use crate::source::owners::Owners;
use crate::source::walk::{DEFAULT_THREADS, DEFAULT_WINDOW_ENTRIES, Walk, raise_open_files_limit};
use assemble::Assembler;
use content::Cutter;
use crossbeam_channel::{bounded, unbounded};
use emptied::{MountPoints, Suspects};
use event::Event;
use fresh::{Freshness, Parent};
pub use generated::Dumps;
use generated::Making;
use kept::Held;
use parking_lot::{Condvar, Mutex};
use roots::Roots;
use servers::Servers;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use walk::Director;

/// Files being read and not yet stored may hold this much.
const BUDGET_BYTES: u64 = 48 << 20;
/// Threads that read files: with small files on a cold disk, waiting is all there is to do.
const READERS: usize = 16;
/// Events on their way from the director to the assembler.
const MAX_EVENTS: usize = 4096;
/// Stack of the director, which descends with the tree.
const DIRECTOR_STACK_BYTES: usize = 64 << 20;

/// What to back up, and how.
#[derive(Debug, Default)]
pub struct Options {
    /// Paths as the user wrote them.
    pub paths: Vec<PathBuf>,
    /// What is left out.
    pub excludes: Excludes,
    /// Those of them that are told of where they lie below none of the paths, and so leave out nothing.
    pub told_excludes: Excludes,
    /// Whether directories tagged as caches are left out.
    pub exclude_caches: bool,
    /// Whether other file systems are left out.
    pub one_file_system: bool,
    /// Tags of the snapshot.
    pub tags: Vec<String>,
    /// The host it is of.
    pub host: String,
    /// The time it stands for, instead of now.
    pub time: Option<Time>,
    /// What is no part of what is backed up: the repository, its cache, and where histories are mounted.
    pub apart: Vec<PathBuf>,
    /// Whether folders a database server runs on are told of, where they are backed up as files.
    pub tells_servers: bool,
    /// Whether sources and dumps may have lost what they held in the last complete snapshot.
    pub allow_empty: bool,
    /// Whether nothing is read or written.
    pub dry_run: bool,
    /// Tells whether the run is being ended, asked before the snapshot is committed: what was read after its last hook
    /// is not what was meant.
    pub is_ended: Option<fn() -> bool>,
    /// How to write.
    pub write: WriteOptions,
}

/// What came of a backup.
#[derive(Debug)]
pub struct Outcome {
    /// The snapshot's object; `None` in a dry run.
    pub id: Option<ObjectId>,
    /// The snapshot.
    pub snapshot: Snapshot,
    /// What is worth a word, and makes the backup no less whole.
    pub notes: Vec<String>,
}

/// Bytes that may be on their way; taken by one thread in order and given back by another in the same order.
#[derive(Debug)]
pub struct Budget {
    left: Mutex<u64>,
    given: Condvar,
}

impl Budget {
    fn new(bytes: u64) -> Self {
        Budget { left: Mutex::new(bytes), given: Condvar::new() }
    }

    /// Waits until there are so many; more than there ever are waits for all.
    pub fn take(&self, bytes: u64) {
        let mut left = self.left.lock();
        self.given.wait_while(&mut left, |left| *left < bytes.min(BUDGET_BYTES));
        *left -= bytes.min(BUDGET_BYTES);
    }

    /// Gives back what was taken.
    pub fn give(&self, bytes: u64) {
        *self.left.lock() += bytes.min(BUDGET_BYTES);
        self.given.notify_one();
    }
}

fn now() -> Time {
    dated::time(jiff::Timestamp::now())
}

/// Backs up paths into a snapshot.
pub fn run(repository: &Arc<Repository>, options: &Options, monitor: &dyn Monitor) -> Result<Outcome> {
    run_with(repository, options, Dumps::default(), monitor)
}

/// Backs up paths and dumps into a snapshot. One that lacks a dump, or one of the paths, has the tag
/// [`INCOMPLETE_TAG`]; nothing is committed where there is nothing but dumps and none of them could be made.
pub fn run_with(
    repository: &Arc<Repository>,
    options: &Options,
    dumps: Dumps,
    monitor: &dyn Monitor,
) -> Result<Outcome> {
    raise_open_files_limit();
    let started = now();
    repository.load_suspects();
    let Dumps { generated, failed, replaced } = dumps;
    let roots = Roots::new(&options.paths, !(generated.is_empty() && failed.is_empty()))?;
    let excludes = options.excludes.through_links(&roots.sources)?;
    let mut notes = idle_notes(options, &roots.sources);
    let mut sources: Vec<Bytes> = roots.paths.iter().map(|path| Bytes(path.clone())).collect();
    for top in generated.iter().filter_map(|dump| dump.path.first()) {
        let path = Bytes([b"/", &top[..]].concat());
        if !sources.contains(&path) {
            sources.push(path);
        }
    }
    let session = (!options.dry_run).then(|| Session::begin_backup(repository)).transpose()?;
    let snapshots = repository.snapshots()?;
    warn_of_ahead(repository, &snapshots, options, started);
    let parent = choose_parent(&snapshots, &options.host, &sources, started);
    // A parent of the same sources tells nearly as well what there is.
    let parent_of_same = parent.filter(|parent| parent.snapshot.sources == sources);
    if let Some(parent) = parent_of_same {
        monitor.expect(parent.snapshot.root.total_files, parent.snapshot.root.total_bytes);
    }
    let dumped = generated.iter().filter(|dump| !dump.is_note);
    let dumped = dumped.map(|dump| dump.path.iter().flat_map(|name| [b"/", &name[..]].concat()).collect());
    // The texts of what it tells are not in the list. Without them less is looked at again.
    let incomplete = parent.filter(|parent| parent.snapshot.has_tag(INCOMPLETE_TAG));
    let incomplete = incomplete.and_then(|parent| repository.snapshot(parent.id).ok());
    let mut suspects = Suspects::new(&roots.paths, dumped, incomplete.as_ref());
    let budget = Budget::new(BUDGET_BYTES);
    let (events, events_in) = bounded::<Event>(MAX_EVENTS);
    let (jobs, jobs_in) = unbounded();
    let cutter = Cutter::new(repository.clone());
    let writer = (!options.dry_run).then(|| Writer::new(repository.clone(), options.write));
    let is_stored = AtomicBool::new(false);
    let mount_points = MountPoints::of_machine();
    let (assembled, walked) = std::thread::scope(|scope| {
        let director = |parent, walk, events, jobs, servers, generated| Director {
            repository,
            options,
            excludes: &excludes,
            freshness: Freshness::new(repository, parent, started),
            walk,
            events,
            jobs,
            budget: &budget,
            owners: Owners::default(),
            apart: options.apart.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect(),
            servers,
            linked: Default::default(),
            path: Vec::new(),
            held: Held::default(),
            subvolumes: Default::default(),
            mount_points: &mount_points,
            unmounted: Vec::new(),
            making: Making::new(generated, &cutter),
        };
        if parent_of_same.is_none() && monitor.is_watched() {
            let (counted, counted_in) = bounded::<Event>(MAX_EVENTS);
            let servers = Servers::new(replaced.clone(), false, true);
            let counting = director(None, count::walk(), counted, None, servers, Vec::new());
            let (roots, is_stored) = (&roots, &is_stored);
            scope.spawn(move || {
                let total = count::count(counting, counted_in, roots, is_stored);
                total.into_iter().for_each(|total| monitor.expect(total.files, total.bytes));
            });
        }
        let mut director = director(
            parent.map(of_parent),
            Walk::new(DEFAULT_THREADS, DEFAULT_WINDOW_ENTRIES),
            events,
            (!options.dry_run).then_some(jobs),
            Servers::new(replaced, options.tells_servers, options.dry_run),
            if options.dry_run { Vec::new() } else { generated },
        );
        let parent_root = parent.map(|parent| parent.snapshot.root);
        let (roots, failed) = (&roots, &failed);
        let walk = std::thread::Builder::new().name("walk".into()).stack_size(DIRECTOR_STACK_BYTES);
        let walking = walk.spawn_scoped(scope, move || {
            // Stopped: the assembler has failed and says why.
            let _ = director.run(roots, parent_root, failed);
            let (made, missing) = (director.making.made, director.making.missing);
            let unmounted = std::mem::take(&mut director.unmounted);
            let left = std::mem::take(&mut director.servers.left);
            let subvolumes = director.subvolumes.told();
            Walked {
                owners: director.owners,
                made,
                missing,
                subvolumes,
                unmounted,
                left,
                sources: director.freshness.end(),
            }
        });
        let walking = walking.context(|| "Cannot start a thread".into())?;
        for _ in 0..if options.dry_run { 0 } else { READERS } {
            let reader = std::thread::Builder::new().name("read".into());
            let (cutter, jobs_in) = (&cutter, jobs_in.clone());
            reader.spawn_scoped(scope, move || cutter.serve(&jobs_in)).context(|| "Cannot start a thread".into())?;
        }
        drop(jobs_in);
        let assembled = Assembler::new(writer, &budget, monitor).run(events_in);
        is_stored.store(true, Ordering::Relaxed);
        if assembled.is_err() {
            // The director may be waiting for room.
            budget.give(BUDGET_BYTES);
        }
        let walked = walking.join().map_err(|_| Error::new(ErrorKind::Io, "The walk panicked"))?;
        Ok((assembled?, walked))
    })?;
    if roots.paths.is_empty() && walked.made == 0 && !options.dry_run {
        let why = assembled.troubles.first().map_or(String::new(), |trouble| format!(": {}", trouble.message));
        return Err(Error::new(ErrorKind::Io, format!("Nothing could be dumped, and nothing was committed{why}")));
    }
    if options.is_ended.is_some_and(|is_ended| is_ended()) {
        return Err(Error::new(ErrorKind::Io, "The run is being ended: nothing was committed"));
    }
    // A source that is one file, and could not be read.
    let is_incomplete = walked.missing > 0 || assembled.lost.iter().any(|path| sources.contains(path));
    notes.extend(walked.subvolumes);
    suspects.folders.extend(walked.unmounted);
    suspects.left = walked.left;
    suspects.excludes = Some(&excludes);
    let draft = Draft { session, options, started, sources, parent, owners: walked.owners, is_incomplete };
    let outcome = commit(repository, options, draft, assembled, |snapshot| {
        if options.dry_run || options.allow_empty {
            return Vec::new();
        }
        let lost = suspects.lost(repository, &snapshots, snapshot);
        lost.iter().for_each(|trouble| {
            monitor.trouble(std::path::Path::new(std::ffi::OsStr::from_bytes(&trouble.path)), &trouble.message);
        });
        lost
    })?;
    if let Some(id) = outcome.id {
        repository.keep_walked(id, walked.sources);
    }
    Ok(Outcome { notes, ..outcome })
}

fn of_parent(listed: &Listed) -> Parent<'_> {
    Parent { id: listed.id, snapshot: &listed.snapshot }
}

/// What a walk has told besides its events.
struct Walked {
    owners: Owners,
    /// Dumps that were made whole.
    made: u64,
    /// Dumps and sources that are missing.
    missing: u64,
    /// What is to be told of subvolumes that were left out.
    subvolumes: Option<String>,
    /// The file systems that were walked over.
    sources: repo::write::walked::Walked,
    /// Folders that were mount points in the parent, and are other ones now.
    unmounted: Vec<Vec<u8>>,
    /// Folders of which dumps stand for files.
    left: Vec<Vec<u8>>,
}

/// Backs up a stream of unknown length as the file `name`, an absolute path.
pub fn run_stream(
    repository: &Arc<Repository>,
    options: &Options,
    name: &std::path::Path,
    stream: &mut (dyn Read + Send),
    monitor: &dyn Monitor,
) -> Result<Outcome> {
    let started = now();
    repository.load_suspects();
    let names: Vec<_> = roots::names(name).collect();
    let valid = name.is_absolute() && names.len() == name.components().count() - 1;
    let Some((file, folders)) = names.split_last().filter(|_| valid) else {
        return Err(Error::usage(format!(
            "`{}` cannot name the stream: give it an absolute path, as /db/shop.sql",
            name.display()
        )));
    };
    let session = Some(Session::begin_backup(repository)?);
    let snapshots = repository.snapshots()?;
    let sources = vec![Bytes(std::os::unix::ffi::OsStrExt::as_bytes(name.as_os_str()).to_vec())];
    warn_of_ahead(repository, &snapshots, options, started);
    let parent = choose_parent(&snapshots, &options.host, &sources, started);
    let budget = Budget::new(BUDGET_BYTES);
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let made = |mode, nlink| Meta { mode, uid, gid, mtime: started, ctime: started, nlink, ..Meta::default() };
    let mut owners = Owners::default();
    owners.note(uid, gid);
    let (events, events_in) = unbounded();
    let (pieces, pieces_in) = bounded(2);
    let root = Vec::new();
    let open =
        std::iter::once(&root).chain(folders).map(|name| Event::Enter(Bytes(name.clone()), Box::new(made(0o755, 2))));
    let stream_event = Event::File {
        name: Bytes(file.clone()),
        stat: Box::new(assemble::stat_of_stream(&made(0o600, 1))),
        change: event::Change::New,
        pieces: Some(pieces_in),
        permit_bytes: 0,
    };
    let close = (0..=folders.len()).map(|_| Event::Leave);
    for event in open.chain([stream_event]).chain(close) {
        events.send(event).map_err(|_| Error::new(ErrorKind::Io, "The stream's events have no receiver"))?;
    }
    drop(events);
    let cutter = Cutter::new(repository.clone());
    let writer = Writer::new(repository.clone(), options.write);
    let mut assembled = std::thread::scope(|scope| {
        scope.spawn(|| cutter.read_stream(stream, made(0o600, 1), &{ pieces }));
        Assembler::new(Some(writer), &budget, monitor).run(events_in)
    })?;
    if assembled.summary.errors > 0 {
        // A dump that broke off is no dump: the snapshot would promise what it cannot keep.
        let what = assembled.troubles.first().map_or(String::new(), |trouble| trouble.message.clone());
        return Err(Error::new(
            ErrorKind::Io,
            format!("The stream could not be read to its end, nothing was committed: {what}"),
        ));
    }
    let is_empty = matches!(&assembled.root.node, Node::Directory(directory) if directory.total_bytes == 0);
    if is_empty {
        // Mostly what was to write it has failed, and a pipe does not tell.
        monitor.trouble(name, EMPTY_STREAM);
        assembled.troubles.push(trouble(sources[0].to_vec(), EMPTY_STREAM.into()));
        assembled.summary.errors += 1;
    }
    let draft = Draft { session, options, started, sources, parent, owners, is_incomplete: is_empty };
    commit(repository, options, draft, assembled, |_| Vec::new())
}

const EMPTY_STREAM: &str =
    "standard input was empty: it is stored as an empty file, and what was to write it may have failed";

/// What a snapshot is made of besides its tree.
struct Draft<'a> {
    session: Option<Session>,
    options: &'a Options,
    started: Time,
    sources: Vec<Bytes>,
    parent: Option<&'a Listed>,
    owners: Owners,
    is_incomplete: bool,
}

fn commit(
    repository: &Repository,
    options: &Options,
    draft: Draft<'_>,
    assembled: assemble::Assembled,
    lost: impl FnOnce(&Snapshot) -> Vec<Trouble>,
) -> Result<Outcome> {
    let assemble::Assembled { root, mut troubles, mut summary, written, has_xattrs, .. } = assembled;
    let Node::Directory(directory) = root.node else {
        return Err(Error::new(ErrorKind::Io, "The tree has no root"));
    };
    let time = draft.options.time.unwrap_or(draft.started);
    summary.files = directory.total_files;
    summary.content_bytes = directory.total_bytes;
    summary.added_bytes = written.added_bytes;
    summary.packed_bytes = written.packed_bytes;
    troubles.truncate(MAX_TROUBLES);
    let mut tags = options.tags.clone();
    tags.extend(draft.is_incomplete.then(|| INCOMPLETE_TAG.to_string()));
    tags.sort();
    tags.dedup();
    let named = |list: Vec<(u32, Vec<u8>)>| list.into_iter().map(|(number, name)| (number, Bytes(name))).collect();
    let mut snapshot = Snapshot {
        name: dated::dated(time),
        time,
        started: draft.started,
        ended: now(),
        host: options.host.clone(),
        tags,
        sources: draft.sources,
        parent: draft.parent.map(|parent| parent.snapshot.name.clone()),
        root_meta: root.meta,
        root: directory,
        users: named(draft.owners.users()),
        groups: named(draft.owners.groups()),
        has_xattrs,
        summary,
        troubles,
        program: format!("bakfs {}", env!("CARGO_PKG_VERSION")),
    };
    let lost = lost(&snapshot);
    if !lost.is_empty() {
        snapshot.summary.errors += lost.len() as u64;
        snapshot.troubles.splice(..0, lost);
        snapshot.troubles.truncate(MAX_TROUBLES);
        snapshot.tags.push(INCOMPLETE_TAG.to_string());
        snapshot.tags.sort();
        snapshot.tags.dedup();
    }
    let Some(mut session) = draft.session else {
        return Ok(Outcome { id: None, snapshot, notes: Vec::new() });
    };
    let (id, snapshot) = repository.commit(&mut session, snapshot)?;
    if let Err(error) = session.end() {
        // The snapshot is safe; a prune takes back what this run has announced.
        tracing::warn!("The end of the backup could not be told: {}", error.chain());
    }
    Ok(Outcome { id: Some(id), snapshot, notes: Vec::new() })
}

/// Tells of patterns of whole paths that lie below nothing that is backed up.
fn idle_notes(options: &Options, sources: &[Source]) -> Vec<String> {
    let note = |idle: Idle| {
        format!(
            "{}: `{}` leaves out nothing, for it lies below nothing that is backed up: patterns are explained in \
             bakfs-patterns(7)",
            idle.place, idle.text
        )
    };
    options.told_excludes.idle(sources).into_iter().map(note).collect()
}

/// Tells where snapshots of the same host, or the one that is to be made, are dated more than a day ahead. Some of many
/// are what a clock once said, and no fault of this backup; where most are, this machine's clock is the wrong one.
fn warn_of_ahead(repository: &Repository, snapshots: &[Listed], options: &Options, now: Time) {
    let (believed, ahead) = believed(snapshots, dated::timestamp(now));
    let of_host = |listed: &&Listed| listed.snapshot.host == options.host;
    let ahead: Vec<_> = ahead.iter().filter(of_host).collect();
    let are_most = ahead.len() > 1 && ahead.len() > believed.iter().filter(of_host).count();
    let is_clock_late = are_most || is_behind(dated::timestamp(now));
    ahead_warning(&ahead).into_iter().for_each(|text| match is_clock_late {
        true => repository.warn(text),
        false => repository.note(text),
    });
    if let Some(time) = options.time.filter(|time| is_ahead(dated::timestamp(*time), dated::timestamp(now))) {
        repository.warn(format!(
            "{} lies more than a day in the future of this machine's clock: until then the snapshot takes nobody's \
             place as `latest` or a day's",
            dated::dated(time)
        ));
    }
}

/// Chooses the snapshot unchanged files are taken over from: the newest of this host with the same
/// sources, else the newest of this host. One dated more than a day ahead of `now` is never it: of files that changed
/// since, it would hide the change.
fn choose_parent<'a>(snapshots: &'a [Listed], host: &str, sources: &[Bytes], now: Time) -> Option<&'a Listed> {
    let (believed, _) = believed(snapshots, dated::timestamp(now));
    let is_ahead = |listed: &Listed| is_ahead(dated::timestamp(listed.snapshot.started), dated::timestamp(now));
    let of_host = || believed.iter().filter(|listed| listed.snapshot.host == host && !is_ahead(listed));
    let newest = |listed: &&Listed| (listed.snapshot.started, listed.id);
    of_host()
        .filter(|listed| listed.snapshot.sources == sources)
        .max_by_key(newest)
        .or_else(|| of_host().max_by_key(newest))
}

/// Names a trouble for a snapshot.
fn trouble(path: Vec<u8>, message: String) -> Trouble {
    Trouble { path: Bytes(path), message }
}

/// Makes an empty directory's place in a tree.
const EMPTY: Directory = Directory { page: crate::format::tree::HOLE, entries: 0, total_files: 0, total_bytes: 0 };
