//! Whose snapshots are meant, where several hosts and profiles share a repository.

use crate::clock::last_believed;
use crate::error::{Error, ErrorKind, Result};
use crate::format::snapshot::Snapshot;
use crate::quantity::counted;
use crate::repo::shared::dated::{folder_name, time};
use crate::repo::shared::listed::ListedSnapshot;
use crate::spelling::nearest;
use jiff::Timestamp;
use std::collections::BTreeSet;

/// The most names an error lists, and how much of each.
const MAX_LISTED: usize = 20;
const MAX_WORD_CHARS: usize = 200;

/// Whose snapshots are meant: all that is said must hold. Without anything, all snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Those of this host.
    pub host: Option<String>,
    /// Those with all of these tags.
    pub tags: Vec<String>,
    /// Those of which for each of these paths a source is it, or is above it. Absolute, without a final slash; empty
    /// for `/`.
    pub paths: Vec<Vec<u8>>,
    /// Those that runs of this profile have made: they have its name as a tag, and a kind of run
    /// ([`crate::format::snapshot::RUN_TAGS`]).
    pub profile: Option<String>,
}

/// Returns whether a path is another one, or lies below it; both without a final slash.
pub fn is_within(path: &[u8], above: &[u8]) -> bool {
    let above = if above == b"/" { b"" } else { above };
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Returns whether a host or tag goes by a name: its own, or that of its directory in the mount.
fn is_named(word: &str, name: &str) -> bool {
    let is_changed = word.len() > 255 || word.contains(['/', '\0']) || matches!(word, "" | "." | "..");
    word == name || is_changed && folder_name(word.as_bytes()) == name.as_bytes()
}

fn has_tag(snapshot: &Snapshot, name: &str) -> bool {
    snapshot.tags.iter().any(|tag| is_named(tag, name))
}

fn is_run_of(snapshot: &Snapshot, profile: &str) -> bool {
    snapshot.is_of_a_run() && snapshot.plain_tags().any(|tag| tag == profile)
}

fn has_path(snapshot: &Snapshot, path: &[u8]) -> bool {
    snapshot.sources.iter().any(|source| is_within(path, source))
}

impl Scope {
    /// Returns whether nothing is said: all snapshots are meant.
    pub fn is_empty(&self) -> bool {
        *self == Scope::default()
    }

    /// Returns whether a snapshot is meant.
    pub fn has(&self, snapshot: &Snapshot) -> bool {
        self.host.as_ref().is_none_or(|host| is_named(&snapshot.host, host))
            && self.tags.iter().all(|tag| has_tag(snapshot, tag))
            && self.paths.iter().all(|path| has_path(snapshot, path))
            && self.profile.as_ref().is_none_or(|profile| is_run_of(snapshot, profile))
    }

    /// Returns the snapshots that are meant, in their order. None of many is an error that says what there is.
    pub fn of<'a>(&self, snapshots: &'a [ListedSnapshot]) -> Result<Vec<&'a ListedSnapshot>> {
        let meant: Vec<_> = snapshots.iter().filter(|listed| self.has(&listed.snapshot)).collect();
        if meant.is_empty() && !snapshots.is_empty() { Err(self.missed(snapshots)) } else { Ok(meant) }
    }

    /// Returns the scope that `hosts/HOST/`, `tags/TAG/` or `PROFILE/` before a name means within this one, and the
    /// rest of the name. A profile is the tag of that name where no run has it.
    pub(in crate::repo) fn narrowed<'a>(
        &self,
        snapshots: &[ListedSnapshot],
        name: &'a str,
    ) -> Result<(Scope, &'a str)> {
        let mut scope = self.clone();
        let Some((first, rest)) = name.split_once('/') else { return Ok((scope, name)) };
        match (first, rest.split_once('/')) {
            ("hosts", Some((host, rest))) => {
                if let Some(other) = scope.host.replace(host.to_string()).filter(|other| other != host) {
                    return Err(Error::usage(format!("`{name}` is of the host {host}, and --host says {other}")));
                }
                Ok((scope, rest))
            }
            ("tags", Some((tag, rest))) => {
                scope.tags.push(tag.to_string());
                Ok((scope, rest))
            }
            _ => {
                let is_run = snapshots.iter().any(|listed| is_run_of(&listed.snapshot, first));
                if !is_run && snapshots.iter().any(|listed| has_tag(&listed.snapshot, first)) {
                    scope.tags.push(first.to_string());
                } else if let Some(other) = scope.profile.replace(first.to_string()).filter(|other| other != first) {
                    return Err(Error::usage(format!(
                        "`{name}` is of the profile {first}, and --profile says {other}"
                    )));
                }
                Ok((scope, rest))
            }
        }
    }

    /// Says why no snapshot is meant: the first thing that none has, with what there is instead.
    fn missed(&self, snapshots: &[ListedSnapshot]) -> Error {
        let all = || snapshots.iter().map(|listed| &*listed.snapshot);
        if let Some(host) = self.host.as_ref().filter(|host| !all().any(|snapshot| is_named(&snapshot.host, host))) {
            let hosts: BTreeSet<_> = all().map(|snapshot| &*snapshot.host).collect();
            return none_such("host", host, &hosts, &hosts);
        }
        if let Some(tag) = self.tags.iter().find(|tag| !all().any(|snapshot| has_tag(snapshot, tag))) {
            let tags: BTreeSet<_> = all().flat_map(|snapshot| snapshot.tags.iter().map(String::as_str)).collect();
            return none_such("tag", tag, &tags, &tags);
        }
        if let Some(name) = self.profile.as_ref().filter(|name| !all().any(|snapshot| is_run_of(snapshot, name))) {
            if all().any(|snapshot| has_tag(snapshot, name)) {
                let message = format!("No run of a profile `{name}` has made a snapshot; some have it as a tag");
                return Error::new(ErrorKind::NotFound, format!("{message}: write `--tag {name}`"));
            }
            let runs = all().filter(|snapshot| snapshot.is_of_a_run());
            // `main/latest` may have been meant as a tag's.
            let tags = all().flat_map(Snapshot::plain_tags).collect();
            return none_such("profile", name, &runs.flat_map(Snapshot::plain_tags).collect(), &tags);
        }
        if let Some(path) = self.paths.iter().find(|path| !all().any(|snapshot| has_path(snapshot, path))) {
            let path = String::from_utf8_lossy(path);
            let sources: BTreeSet<_> = all().flat_map(|snapshot| &snapshot.sources).map(|source| &source[..]).collect();
            let sources = sources.iter().map(|source| String::from_utf8_lossy(source)).collect::<Vec<_>>();
            let message = format!("No snapshot has the source `{}`, or one above it", path.escape_debug());
            let known = listing("source", sources.iter().map(|source| &**source));
            return Error::new(ErrorKind::NotFound, format!("{message}: {known}"));
        }
        let message = format!("No snapshot is {self}: `bakfs snapshots` lists what there is");
        Error::new(ErrorKind::NotFound, message)
    }
}

/// Writes a stored word for a person: escaped, and no more of it than anybody reads.
fn plain(word: &str) -> String {
    let mut plain: String = word.chars().take(MAX_WORD_CHARS).flat_map(char::escape_debug).collect();
    if word.chars().nth(MAX_WORD_CHARS).is_some() {
        plain.push_str("...");
    }
    plain
}

/// Makes the error of a name that no snapshot has: it lists those that are known, and says which was `likely` meant.
fn none_such(what: &str, given: &str, known: &BTreeSet<&str>, likely: &BTreeSet<&str>) -> Error {
    let nearest = nearest(given, likely.iter().copied());
    let meant = nearest.map_or(String::new(), |meant| format!("did you mean `{}`? ", meant.escape_debug()));
    let has = if what == "tag" { "has" } else { "is of" };
    let known = match nearest {
        // It was named a moment ago.
        Some(meant) if known.len() == 1 && known.contains(meant) => format!("there is no other {what}"),
        _ => listing(what, known.iter().copied()),
    };
    let message = format!("No snapshot {has} the {what} `{}`: {meant}{known}", given.escape_debug());
    Error::new(ErrorKind::NotFound, message)
}

/// Lists names for people.
fn listing<'a>(what: &str, mut names: impl Iterator<Item = &'a str>) -> String {
    let first: Vec<_> = names.by_ref().take(MAX_LISTED).map(plain).collect();
    let more = match names.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match &first[..] {
        [] => format!("there is no {what}"),
        [only] => format!("there is only the {what} {only}"),
        _ => format!("there are the {what}s {}{more}", first.join(", ")),
    }
}

impl std::fmt::Display for Scope {
    /// Writes what is said, as `of the host web1 and with the tag db`; nothing for all snapshots.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = self.host.iter().map(|host| format!("of the host {}", host.escape_debug()));
        let profile = self.profile.iter().map(|name| format!("of the profile {}", name.escape_debug()));
        let tags = self.tags.iter().map(|tag| format!("with the tag {}", tag.escape_debug()));
        let paths = self.paths.iter().map(|path| match path.is_empty() {
            true => "of /".to_string(),
            false => format!("of {}", String::from_utf8_lossy(path).escape_debug()),
        });
        f.write_str(&host.chain(profile).chain(tags).chain(paths).collect::<Vec<_>>().join(" and "))
    }
}

/// Parts snapshots, oldest first, into those whose time is believed and those dated more than a day ahead of `now`
/// ([`crate::clock::AHEAD`]), which take nobody's place.
pub fn believed(snapshots: &[ListedSnapshot], now: Timestamp) -> (&[ListedSnapshot], &[ListedSnapshot]) {
    let last = time(last_believed(now));
    snapshots.split_at(snapshots.partition_point(|listed| listed.snapshot.time <= last))
}

/// Tells of snapshots that lie more than a day ahead; nothing where there are none.
pub fn ahead_warning(ahead: &[&ListedSnapshot]) -> Option<String> {
    let first = &ahead.first()?.snapshot.name;
    let snapshots = counted(ahead.len(), "snapshot");
    let (lie, they) = if ahead.len() == 1 { ("lies", "it takes") } else { ("lie", "they take") };
    Some(format!(
        "{snapshots} {lie} more than a day in the future of this machine's clock, as {first}: {they} nobody's place as `latest` or \
         a day's. If the clock is right, forget it by name: `bakfs forget {first}`"
    ))
}

/// What the snapshots of one history have in common: the host, and the profile or else the sources.
#[derive(PartialEq, Eq, Hash)]
struct History<'a> {
    host: &'a str,
    tags: Option<BTreeSet<&'a str>>,
    sources: Option<BTreeSet<&'a [u8]>>,
}

impl<'a> History<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        let is_run = snapshot.is_of_a_run();
        History {
            host: &snapshot.host,
            tags: is_run.then(|| snapshot.plain_tags().collect()),
            sources: (!is_run).then(|| snapshot.sources.iter().map(|path| &path[..]).collect()),
        }
    }
}

/// Returns whether two snapshots are of one history: of one host, by runs of one profile or else of the same sources.
pub fn is_one_history(one: &ListedSnapshot, other: &ListedSnapshot) -> bool {
    History::of(&one.snapshot) == History::of(&other.snapshot)
}

/// Returns the newest snapshot of each history besides that of the one that was taken, newest first.
pub fn others<'a>(snapshots: &[&'a ListedSnapshot], taken: &ListedSnapshot) -> Vec<&'a ListedSnapshot> {
    let mut seen = std::collections::HashSet::from([History::of(&taken.snapshot)]);
    snapshots.iter().rev().copied().filter(|listed| seen.insert(History::of(&listed.snapshot))).collect()
}
