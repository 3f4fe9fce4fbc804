//! What a backup is going to do, decided before the first directory is read: of what, and compared with which snapshot.

use super::emptied::Suspects;
use super::roots::Roots;
use super::{Dumps, Options, now};
use crate::clock::{is_ahead, is_behind};
use crate::error::Result;
use crate::format::codec::Bytes;
use crate::format::snapshot::INCOMPLETE_TAG;
use crate::format::tree::Time;
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::repo::shared::dated;
use crate::repo::shared::listed::ListedSnapshot;
use crate::repo::shared::scope::{ahead_warning, believed};
use crate::repo::shared::session::Session;
use crate::source::Source;
use crate::source::exclude::{Excludes, Idle, Leads, SourcePath};
use std::path::Path;
use std::sync::Arc;

/// What a backup is going to do.
pub struct Plan<'a> {
    /// As it was asked for.
    pub options: &'a Options,
    /// When it began.
    pub started: Time,
    /// The paths, as one tree.
    pub roots: Roots,
    /// What is left out, with what it means through links.
    pub excludes: Excludes,
    /// What the snapshot is said to be of: paths, and the folders of dumps.
    pub sources: Vec<Bytes>,
    /// Whether standard input is all that is backed up.
    pub is_input: bool,
    /// What tells others of the backup; `None` in a dry run.
    pub session: Option<Session>,
    /// What there is in the repository.
    pub snapshots: Vec<ListedSnapshot>,
    /// The snapshot unchanged files are taken over from.
    pub parent: Option<ListedSnapshot>,
    /// What may have lost what it held.
    pub suspects: Suspects,
    /// What is worth a word.
    pub notes: Vec<String>,
}

impl<'a> Plan<'a> {
    /// Decides, and announces the backup to all who share the repository. Fails where there is nothing to back up.
    pub fn new(
        source: &impl Source,
        repository: &Arc<Repository>,
        options: &'a Options,
        dumps: &Dumps,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let started = now();
        repository.load_suspects();
        let roots = Roots::new(source, &options.paths, !dumps.is_empty())?;
        let leads = |path: &Path| source.real(path);
        let excludes = options.excludes.through_links(&roots.sources, &leads)?;
        let notes = idle_notes(options, &roots.sources, &leads);
        let sources = sources(&roots, dumps);
        let session = (!options.dry_run).then(|| Session::begin_backup(repository)).transpose()?;
        let snapshots = repository.snapshots()?;
        warn_of_ahead(repository, &snapshots, options, started);
        let parent = choose_parent(&snapshots, &options.host, &sources, started).cloned();
        let is_input = dumps.generated.iter().any(|dump| dump.is_input());
        let suspects = match is_input {
            // How much comes is the writer's own matter: only nothing at all is told.
            true => Suspects::default(),
            false => suspects(repository, &roots, dumps, parent.as_ref()),
        };
        let plan =
            Plan { options, started, roots, excludes, sources, is_input, session, snapshots, parent, suspects, notes };
        if let Some(parent) = plan.parent_of_same().filter(|_| !is_input) {
            monitor.expect(parent.snapshot.root.total_files, parent.snapshot.root.total_bytes);
        }
        Ok(plan)
    }

    /// Returns the parent where it is of the same sources: it tells nearly as well what there is.
    pub fn parent_of_same(&self) -> Option<&ListedSnapshot> {
        self.parent.as_ref().filter(|parent| parent.snapshot.sources == self.sources)
    }

    /// Returns the snapshot the source is compared with: none where nothing of it is backed up.
    pub fn compared(&self) -> Option<&ListedSnapshot> {
        self.parent.as_ref().filter(|_| !self.roots.paths.is_empty())
    }
}

/// Returns what the snapshot is said to be of.
fn sources(roots: &Roots, dumps: &Dumps) -> Vec<Bytes> {
    let mut sources: Vec<Bytes> = roots.paths.iter().map(|path| Bytes(path.clone())).collect();
    for dump in &dumps.generated {
        // Dumps are told by the folder all of them are in.
        let names = if dump.is_input() { &dump.path[..] } else { &dump.path[..dump.path.len().min(1)] };
        let path = Bytes(path_of(names));
        if !path.is_empty() && !sources.contains(&path) {
            sources.push(path);
        }
    }
    sources
}

fn path_of(names: &[Vec<u8>]) -> Vec<u8> {
    names.iter().flat_map(|name| [b"/", &name[..]].concat()).collect()
}

fn suspects(repository: &Repository, roots: &Roots, dumps: &Dumps, parent: Option<&ListedSnapshot>) -> Suspects {
    let dumped = dumps.generated.iter().filter(|dump| !dump.is_note).map(|dump| path_of(&dump.path));
    // The texts of what it tells are not in the list. Without them less is looked at again.
    let incomplete = parent.filter(|parent| parent.snapshot.has_tag(INCOMPLETE_TAG));
    let incomplete = incomplete.and_then(|parent| repository.snapshot(parent.id).ok());
    Suspects::new(&roots.paths, dumped, incomplete.as_ref())
}

/// Tells of patterns of whole paths that lie below nothing that is backed up.
fn idle_notes(options: &Options, sources: &[SourcePath], leads: Leads<'_>) -> Vec<String> {
    let note = |idle: Idle| {
        format!(
            "{}: `{}` leaves out nothing, for it lies below nothing that is backed up: patterns are explained in \
             bakfs-patterns(7)",
            idle.place, idle.text
        )
    };
    options.told_excludes.idle(sources, leads).into_iter().map(note).collect()
}

/// Tells where snapshots of the same host, or the one that is to be made, are dated more than a day ahead. Some of many
/// are what a clock once said, and no fault of this backup; where most are, this machine's clock is the wrong one.
fn warn_of_ahead(repository: &Repository, snapshots: &[ListedSnapshot], options: &Options, now: Time) {
    let (believed, ahead) = believed(snapshots, dated::timestamp(now));
    let of_host = |listed: &&ListedSnapshot| listed.snapshot.host == options.host;
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
fn choose_parent<'a>(
    snapshots: &'a [ListedSnapshot],
    host: &str,
    sources: &[Bytes],
    now: Time,
) -> Option<&'a ListedSnapshot> {
    let (believed, _) = believed(snapshots, dated::timestamp(now));
    let is_ahead = |listed: &ListedSnapshot| is_ahead(dated::timestamp(listed.snapshot.started), dated::timestamp(now));
    let of_host = || believed.iter().filter(|listed| listed.snapshot.host == host && !is_ahead(listed));
    let newest = |listed: &&ListedSnapshot| (listed.snapshot.started, listed.id);
    of_host()
        .filter(|listed| listed.snapshot.sources == sources)
        .max_by_key(newest)
        .or_else(|| of_host().max_by_key(newest))
}
