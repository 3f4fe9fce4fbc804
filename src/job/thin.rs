//! Thinning a profile's histories: that of its scheduled runs, and each that is one of its own.

use crate::error::{Error, Result};
use crate::format::snapshot::{INCOMPLETE_TAG, Snapshot};
use crate::format::tree::Node;
use crate::host::host_name;
use crate::id::ObjectId;
use crate::quantity::counted;
use crate::repo::Repository;
use crate::repo::shared::dated;
use crate::repo::shared::listed::ListedSnapshot;
use crate::retention::group::GroupBy;
use crate::retention::{self};
use crate::settings::values::Keep;
use crate::settings::{Periodicity, Profile};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, HashSet};

/// All snapshots that are handed over are one history.
const ONE_HISTORY: GroupBy = GroupBy { host: false, sources: false, tags: false };

/// Returns what rules look at.
pub fn judged(listed: &ListedSnapshot, is_pinned: bool) -> retention::Snapshot {
    let snapshot = &listed.snapshot;
    retention::Snapshot {
        id: listed.id,
        time: dated::timestamp(snapshot.time),
        host: snapshot.host.clone(),
        sources: snapshot.sources.iter().map(|path| path.to_vec()).collect(),
        tags: snapshot.tags.clone(),
        is_pinned,
        has_errors: snapshot.summary.errors > 0,
        is_incomplete: snapshot.tags.iter().any(|tag| tag == INCOMPLETE_TAG),
    }
}

/// Returns the kind of run a snapshot of a profile is of; `None` where it is of none.
fn periodicity_of(profile: &Profile, host: &str, snapshot: &Snapshot) -> Option<Periodicity> {
    let has = |tag: &str| snapshot.tags.iter().any(|known| known == tag);
    if snapshot.host != host || !has(&profile.name) {
        return None;
    }
    Periodicity::ALL.into_iter().find(|periodicity| has(periodicity.word()))
}

/// Forgets what the profile's rules keep no more; returns the names of what is forgotten. Snapshots of other profiles
/// and hosts, those made otherwise, and those by hand are never looked at, unless runs by hand have rules of their own.
pub fn forget(repository: &Repository, profile: &Profile) -> Result<Vec<String>> {
    let host = host_of(profile);
    let snapshots = repository.snapshots()?;
    repository.require_no_missing("History has shrunk", "take what is left by `bakfs prune --accept-missing`")?;
    let marks = repository.marks()?;
    let pinned: HashSet<ObjectId> = marks.pins().into_keys().collect();
    // `None`: what scheduled runs share.
    let mut histories: BTreeMap<Option<Periodicity>, Vec<&ListedSnapshot>> = BTreeMap::new();
    for listed in &snapshots {
        if let Some(periodicity) = periodicity_of(profile, &host, &listed.snapshot) {
            let own = profile.separate.contains_key(&periodicity) || periodicity == Periodicity::Manual;
            histories.entry(own.then_some(periodicity)).or_default().push(listed);
        }
    }
    let mut forgotten = Vec::new();
    for (own, history) in histories {
        let keep = match own {
            Some(periodicity) => profile.separate.get(&periodicity),
            None => profile.keep.as_ref(),
        };
        if let Some(keep) = keep {
            forgotten.extend(surplus(&history, keep, &pinned, profile)?);
        }
    }
    let ids: Vec<ObjectId> = forgotten.iter().map(|listed| listed.id).collect();
    repository.forget(&ids)?;
    Ok(forgotten.into_iter().map(|listed| listed.snapshot.name.clone()).collect())
}

/// Returns what rules keep no more of one history.
fn surplus<'a>(
    history: &[&'a ListedSnapshot],
    keep: &Keep,
    pinned: &HashSet<ObjectId>,
    profile: &Profile,
) -> Result<Vec<&'a ListedSnapshot>> {
    let all: Vec<_> = history.iter().map(|listed| judged(listed, pinned.contains(&listed.id))).collect();
    let groups = retention::decide(&all, &keep.rules, ONE_HISTORY, &TimeZone::system(), Timestamp::now());
    if groups.iter().any(retention::Group::is_emptied) {
        return Err(Error::usage(format!(
            "no rule keeps any snapshot of `{1}`, which has {0}: change its `keep`",
            counted(history.len(), "snapshot"),
            profile.name
        )));
    }
    let decisions = groups.iter().flat_map(|group| &group.decisions);
    Ok(decisions.filter(|decision| decision.reasons.is_empty()).map(|decision| history[decision.at]).collect())
}

/// Returns the host a profile's snapshots are of.
pub fn host_of(profile: &Profile) -> String {
    profile.host.clone().unwrap_or_else(host_name)
}

/// Writes the path of a dump.
pub fn path_text(path: &[Vec<u8>]) -> String {
    path.iter().map(|name| format!("/{}", String::from_utf8_lossy(name))).collect()
}

/// Returns those of the paths that are in a snapshot, with the length of what they hold.
pub fn dumps_in(repository: &Repository, snapshot: &Snapshot, paths: &[String]) -> Vec<(String, u64)> {
    let found = paths.iter().filter_map(|path| {
        // What cannot be read back now is told by `bakfs check`.
        let entry = repository.resolve(snapshot, path.as_bytes()).ok()??;
        let bytes = match &entry.node {
            Node::Directory(directory) => directory.total_bytes,
            _ => entry.meta.size_bytes,
        };
        Some((path.clone(), bytes))
    });
    found.collect()
}
