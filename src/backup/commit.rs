//! The end of a backup: the tree that is stored becomes a snapshot, or nothing does.

use super::assemble::Assembled;
use super::plan::Plan;
use super::walk::Walked;
use super::{Outcome, now};
use crate::error::{Error, ErrorKind, Result};
use crate::format::codec::Bytes;
use crate::format::snapshot::{INCOMPLETE_TAG, MAX_TROUBLES, Snapshot, Trouble};
use crate::format::tree::Node;
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::repo::shared::dated;
use crate::source::owners::Owners;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Commits the snapshot of a tree, after a look at what it lacks; in a dry run only says what it would be.
pub fn commit(
    repository: &Repository,
    mut plan: Plan<'_>,
    assembled: Assembled,
    walked: Walked,
    monitor: &dyn Monitor,
) -> Result<Outcome> {
    refuse(&plan, &assembled, &walked)?;
    // A source that is one file, and could not be read.
    let is_incomplete = walked.missing > 0 || assembled.lost.iter().any(|path| plan.sources.contains(path));
    let mut snapshot = snapshot(&mut plan, assembled, &walked.owners)?;
    if is_incomplete {
        mark_incomplete(&mut snapshot);
    }
    if !plan.options.dry_run && !plan.options.allow_empty {
        plan.suspects.folders.extend(walked.unmounted);
        plan.suspects.left = walked.left;
        let lost = plan.suspects.lost(repository, &plan.snapshots, &snapshot, &plan.excludes);
        tell_lost(&mut snapshot, lost, monitor);
    }
    let notes = plan.notes.into_iter().chain(walked.subvolumes).collect();
    let Some(mut session) = plan.session else { return Ok(Outcome { id: None, snapshot, notes }) };
    let (id, snapshot) = repository.commit(&mut session, snapshot)?;
    if let Err(error) = session.end() {
        // The snapshot is safe; a prune takes back what this run has announced.
        tracing::warn!("The end of the backup could not be told: {}", error.chain());
    }
    if !plan.is_input {
        repository.keep_walked(id, walked.sources);
    }
    Ok(Outcome { id: Some(id), snapshot, notes })
}

/// Fails where a snapshot would promise what it cannot keep.
fn refuse(plan: &Plan<'_>, assembled: &Assembled, walked: &Walked) -> Result<()> {
    if plan.roots.paths.is_empty() && walked.made == 0 && !plan.options.dry_run {
        let why = assembled.troubles.first().map_or(String::new(), |trouble| format!(": {}", trouble.message));
        let what = match plan.is_input {
            true => "The stream could not be read to its end, nothing was committed",
            false => "Nothing could be dumped, and nothing was committed",
        };
        return Err(Error::new(ErrorKind::Io, format!("{what}{why}")));
    }
    if plan.options.is_ended.as_ref().is_some_and(|is_ended| is_ended()) {
        return Err(Error::new(ErrorKind::Io, "The run is being ended: nothing was committed"));
    }
    Ok(())
}

/// Describes the tree and how it was made.
fn snapshot(plan: &mut Plan<'_>, assembled: Assembled, owners: &Owners) -> Result<Snapshot> {
    let Assembled { root, mut troubles, mut summary, written, has_xattrs, .. } = assembled;
    let Node::Directory(directory) = root.node else {
        return Err(Error::new(ErrorKind::Io, "The tree has no root"));
    };
    let options = plan.options;
    let time = options.time.unwrap_or(plan.started);
    summary.files = directory.total_files;
    summary.content_bytes = directory.total_bytes;
    summary.added_bytes = written.added_bytes;
    summary.packed_bytes = written.packed_bytes;
    troubles.truncate(MAX_TROUBLES);
    let mut tags = options.tags.clone();
    tags.sort();
    tags.dedup();
    let named = |list: Vec<(u32, Vec<u8>)>| list.into_iter().map(|(number, name)| (number, Bytes(name))).collect();
    Ok(Snapshot {
        name: dated::dated(time),
        time,
        started: plan.started,
        ended: now(),
        host: options.host.clone(),
        tags,
        sources: std::mem::take(&mut plan.sources),
        parent: plan.parent.as_ref().map(|parent| parent.snapshot.name.clone()),
        root_meta: root.meta,
        root: directory,
        users: named(owners.users()),
        groups: named(owners.groups()),
        has_xattrs,
        summary,
        troubles,
        program: format!("bakfs {}", env!("CARGO_PKG_VERSION")),
    })
}

/// Tells what has lost what it held, first of all that is wrong.
fn tell_lost(snapshot: &mut Snapshot, lost: Vec<Trouble>, monitor: &dyn Monitor) {
    if lost.is_empty() {
        return;
    }
    for trouble in &lost {
        monitor.trouble(Path::new(OsStr::from_bytes(&trouble.path)), &trouble.message);
    }
    snapshot.summary.errors += lost.len() as u64;
    snapshot.troubles.splice(..0, lost);
    snapshot.troubles.truncate(MAX_TROUBLES);
    mark_incomplete(snapshot);
}

fn mark_incomplete(snapshot: &mut Snapshot) {
    snapshot.tags.push(INCOMPLETE_TAG.to_string());
    snapshot.tags.sort();
    snapshot.tags.dedup();
}
