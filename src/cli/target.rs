//! `SNAP[:PATH]`: a snapshot and a path in it, as users write them.

use super::listing::local_time;
use super::output::readable;
use crate::error::{Error, ErrorKind, Result};
use crate::format::codec::Bytes;
use crate::format::tree::Entry;
use crate::repo::Repository;
use crate::repo::shared::listed::ListedSnapshot;
use crate::repo::shared::names;
use crate::repo::shared::names::{Named, Reference};
use crate::repo::shared::scope::{self, Scope};
use jiff::Zoned;
use std::cell::Cell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// The most other histories that are told.
const MAX_OTHERS: usize = 5;
/// The most sources and tags of a snapshot that are told, and how much of each.
const MAX_WORDS: usize = 5;
const MAX_WORD_BYTES: usize = 300;

/// A snapshot and a path in it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The snapshot.
    pub listed: ListedSnapshot,
    /// The name it is shown by.
    pub name: String,
    /// Whether what was asked for means another snapshot at another time, as `latest`.
    pub is_relative: bool,
    /// Other histories that may have the path, up to [`MAX_OTHERS`].
    others: Vec<Other>,
    /// How many more there are.
    more_others: usize,
    /// Absolute, without `.` and doubled or final slashes; empty for `/`.
    pub path: Vec<u8>,
}

/// The snapshot of another history that what was asked for could have meant.
#[derive(Debug, Clone)]
struct Other {
    listed: ListedSnapshot,
    /// The name it is shown by.
    shown: String,
    /// A name that means it and none of another history.
    name: String,
}

impl Other {
    /// Returns whether it is asked for by another name than its own.
    fn is_named(&self) -> bool {
        self.name != self.shown
    }
}

/// The snapshots there are, and those of them that are meant: each name of a snapshot is looked up here.
pub struct Choice<'a> {
    repository: &'a Repository,
    snapshots: Vec<ListedSnapshot>,
    scope: Scope,
    now: Zoned,
    /// Whether it was told that some lie in the future.
    is_ahead_told: Cell<bool>,
    /// Whether the newest of those that could be read may stand for the newest.
    is_accepted: bool,
}

impl<'a> Choice<'a> {
    /// Lists the snapshots.
    pub fn new(repository: &'a Repository, scope: Scope) -> Result<Self> {
        Ok(Choice::among(repository, repository.snapshots()?, scope))
    }

    /// Takes these for the snapshots there are.
    pub fn among(repository: &'a Repository, snapshots: Vec<ListedSnapshot>, scope: Scope) -> Self {
        let scope = super::scope::led(scope, &snapshots);
        Choice { repository, snapshots, scope, now: Zoned::now(), is_ahead_told: Cell::new(false), is_accepted: false }
    }

    /// Takes what is left for what is meant, where snapshots cannot be read or are missing, if that is accepted.
    pub fn accepting(mut self, is_accepted: bool) -> Self {
        self.is_accepted = is_accepted;
        self
    }

    /// Returns all snapshots, oldest first.
    pub fn all(&self) -> &[ListedSnapshot] {
        &self.snapshots
    }

    /// Returns whose snapshots are meant.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Returns those that are meant, oldest first. None of many is an error that says what there is.
    pub fn meant(&self) -> Result<Vec<&ListedSnapshot>> {
        self.scope.of(&self.snapshots).map_err(|error| {
            self.unless_forgotten(error, |forgotten| {
                self.scope.of(forgotten).ok()?.last().map(|listed| (*listed).clone())
            })
        })
    }

    /// Says that all snapshots are forgotten, if so.
    pub fn tell_if_all_forgotten(&self) {
        if self.snapshots.is_empty()
            && let Ok(Some(text)) = self.repository.all_forgotten()
        {
            warn!("bakfs: {text}");
        }
    }

    /// Says more of what was not found where all snapshots, or those that `look` finds, are forgotten ones.
    fn unless_forgotten(&self, error: Error, look: impl FnOnce(&[ListedSnapshot]) -> Option<ListedSnapshot>) -> Error {
        let told = |text| Error::new(ErrorKind::NotFound, text);
        if error.kind() != ErrorKind::NotFound {
            return error;
        }
        if self.snapshots.is_empty() {
            return self.repository.all_forgotten().ok().flatten().map_or(error, told);
        }
        let forgotten = self.repository.forgotten_snapshots().unwrap_or_default();
        let Some(found) = look(&forgotten) else { return error };
        let at = forgotten.iter().position(|listed| listed.id == found.id);
        let name = at.and_then(|at| names::shown(&forgotten).into_iter().nth(at)).unwrap_or_default();
        told(format!(
            "{error}. {name} is forgotten: until a prune removes it, `bakfs forget --undo {name}` brings it back"
        ))
    }

    /// Looks a name up; of one that means a forgotten snapshot the error says so.
    fn find<'b>(&self, name: &'b OsStr) -> Result<Named<'_, 'b>> {
        self.look_up(name).map_err(|error| self.told_of_forgotten(&[Some(name)], error))
    }

    fn told_of_forgotten(&self, names: &[Option<&OsStr>], error: Error) -> Error {
        self.unless_forgotten(error, |forgotten| {
            let mut names = names.iter().flatten().filter_map(|name| name.to_str());
            let found = names.find_map(|name| names::find(forgotten, &self.scope, name, &self.now).ok())?;
            Some(found.listed.clone())
        })
    }

    fn look_up<'b>(&self, name: &'b OsStr) -> Result<Named<'_, 'b>> {
        let Some(name) = name.to_str() else {
            return Err(Error::usage(format!("`{}` is no name of a snapshot", name.to_string_lossy())));
        };
        names::find(&self.snapshots, &self.scope, name, &self.now)
    }

    /// Takes what was found for what was meant: every snapshot that a command is given by name comes through here.
    fn settle<'b, 'c>(&self, named: Named<'b, 'c>) -> Result<Named<'b, 'c>> {
        if named.is_relative()
            && let Some(text) = scope::ahead_warning(&named.ahead)
            && !self.is_ahead_told.replace(true)
        {
            warn!("bakfs: warning: {text}");
        }
        if named.is_relative() && !self.is_accepted {
            let what = format!("This would be {}, and may not be the one that is meant", self.shown_name(named.listed));
            self.repository.require_all_read(&what, "name the snapshot, as `bakfs snapshots` lists it")?;
        }
        Ok(named)
    }

    /// Finds the snapshot a name means.
    pub fn snapshot(&self, name: &OsStr) -> Result<&ListedSnapshot> {
        self.find(name).and_then(|named| self.settle(named)).map(|named| named.listed)
    }

    /// Finds the snapshot a name means, for what changes it. A time is refused: it means the newest snapshot
    /// before it, which is another one as soon as that has gone.
    pub fn exact(&self, name: &OsStr) -> Result<&ListedSnapshot> {
        let named = self.find(name).and_then(|named| self.settle(named))?;
        match named.reference {
            Reference::Time => Err(Error::usage(format!(
                "`{}` is a time and names no snapshot for certain: the newest one until then is {}",
                name.to_string_lossy(),
                self.shown_name(named.listed)
            ))),
            Reference::Exact | Reference::Newest => Ok(named.listed),
        }
    }

    /// Returns the name a snapshot is shown by.
    pub fn shown_name(&self, listed: &ListedSnapshot) -> String {
        let at = self.snapshots.iter().position(|other| other.id == listed.id);
        let shown = at.and_then(|at| names::shown(&self.snapshots).into_iter().nth(at));
        shown.unwrap_or_else(|| listed.snapshot.name.clone())
    }

    /// Finds what `SNAP[:PATH]` means. The path starts at the first `:/` behind `hosts/HOST/` or `tags/TAG/`; without
    /// one, what is a snapshot's name as a whole is one (times have colons), and else the last colon parts name and
    /// path.
    pub fn target(&self, text: &OsStr) -> Result<Target> {
        let bytes = text.as_bytes();
        let start = prefix_bytes(bytes);
        let (named, path) = match bytes[start..].windows(2).position(|pair| pair == b":/") {
            Some(at) => (self.find(OsStr::from_bytes(&bytes[..start + at]))?, &bytes[start + at + 1..]),
            None => match self.look_up(text) {
                Ok(named) => (named, &b""[..]),
                Err(error) => {
                    let head = bytes.iter().rposition(|byte| *byte == b':').map(|at| OsStr::from_bytes(&bytes[..at]));
                    let Some(named) = head.and_then(|head| self.look_up(head).ok()) else {
                        return Err(self.told_of_forgotten(&[Some(text), head], error));
                    };
                    (named, &bytes[head.map_or(0, OsStr::len) + 1..])
                }
            },
        };
        let named = self.settle(named)?;
        // As a kernel does: a slash at the end leads through a link. What cannot be read is told when it is asked for.
        let follows_last = path.ends_with(b"/");
        let plain = clean_path(path);
        let path = self.repository.lead(&named.listed.snapshot, &plain, follows_last).unwrap_or(plain);
        let may_have = |listed: &&ListedSnapshot| {
            let has = |source: &Bytes| scope::is_within(&path, source) || scope::is_within(source, &path);
            listed.snapshot.sources.iter().any(has)
        };
        let others = if named.is_relative() { scope::others(&named.among, named.listed) } else { Vec::new() };
        let others: Vec<_> = others.into_iter().filter(may_have).collect();
        Ok(Target {
            listed: named.listed.clone(),
            name: self.shown_name(named.listed),
            is_relative: named.is_relative(),
            more_others: others.len().saturating_sub(MAX_OTHERS),
            others: others.into_iter().take(MAX_OTHERS).map(|other| self.other(other, named.name)).collect(),
            path,
        })
    }

    /// Says how another history's snapshot is named: as what was asked for, of that history alone.
    fn other(&self, newest: &ListedSnapshot, asked: &str) -> Other {
        let snapshot = &newest.snapshot;
        let words = || snapshot.plain_tags().take(MAX_WORDS);
        let profiles = words().filter(|_| snapshot.is_of_a_run()).map(|tag| format!("{tag}/{asked}"));
        let tags = words().map(|tag| format!("tags/{tag}/{asked}"));
        let mut names = profiles.chain(tags).chain([format!("hosts/{}/{asked}", snapshot.host)]);
        let found = names.find_map(|name| {
            let found = names::find(&self.snapshots, &Scope::default(), &name, &self.now).ok()?;
            scope::is_one_history(found.listed, newest).then(|| (found.listed.clone(), name))
        });
        let (listed, name) = found.unwrap_or_else(|| (newest.clone(), self.shown_name(newest)));
        Other { shown: self.shown_name(&listed), listed, name }
    }

    /// Follows a target's path also where it is a symbolic link, if there is something in the snapshot it leads to.
    pub fn followed(&self, target: Target) -> Target {
        let snapshot = &target.listed.snapshot;
        let path = self.repository.lead(snapshot, &target.path, true);
        let is_there = |path: &Vec<u8>| self.repository.resolve(snapshot, path).is_ok_and(|entry| entry.is_some());
        match path.ok().filter(is_there) {
            Some(path) => Target { path, ..target },
            None => target,
        }
    }

    /// Returns what a target's path names. Where it is in the snapshot of another history only, the error says so.
    pub fn entry(&self, target: &Target) -> Result<Entry> {
        let resolve = |listed: &ListedSnapshot| self.repository.resolve(&listed.snapshot, &target.path);
        if let Some(entry) = resolve(&target.listed)? {
            return Ok(entry);
        }
        let has = |other: &&Other| resolve(&other.listed).is_ok_and(|entry| entry.is_some());
        let elsewhere = target.others.iter().find(has).map_or(String::new(), |other| {
            let name = match other.is_named() {
                true => format!("`{}`, that is ", short(other.name.as_bytes())),
                false => String::new(),
            };
            format!("; it is in {name}{}", described(&other.listed, &other.shown))
        });
        let (path, name) = (readable(&target.path), &target.name);
        let from_here =
            std::env::current_dir().ok().map(|dir| clean_path(&[dir.as_os_str().as_bytes(), &target.path].concat()));
        let has_it =
            |path: &Vec<u8>| self.repository.resolve(&target.listed.snapshot, path).is_ok_and(|it| it.is_some());
        let meant = match from_here.filter(has_it) {
            Some(meant) => format!("; paths in it are whole ones: {} is", readable(&meant)),
            None => String::new(),
        };
        let message =
            format!("{path} is not in the snapshot {name}: `bakfs ls {name}` shows what is{meant}{elsewhere}");
        Err(Error::new(ErrorKind::NotFound, message))
    }
}

/// Returns how much of `SNAP[:PATH]` is `hosts/HOST/` or `tags/TAG/`.
fn prefix_bytes(text: &[u8]) -> usize {
    let Some(rest) = text.strip_prefix(b"hosts/").or_else(|| text.strip_prefix(b"tags/")) else { return 0 };
    let end = rest.iter().position(|byte| *byte == b'/');
    // `tags/latest` is of a profile.
    end.filter(|end| !rest[..*end].ends_with(b":")).map_or(0, |end| text.len() - rest.len() + end + 1)
}

/// Writes a word of a snapshot, or as much of it as anybody reads.
fn short(word: &[u8]) -> String {
    match word.get(..MAX_WORD_BYTES) {
        Some(start) if word.len() > MAX_WORD_BYTES => format!("{}...", readable(start)),
        _ => readable(word),
    }
}

/// Writes a snapshot for a person: when, whose, of what.
pub fn described(listed: &ListedSnapshot, name: &str) -> String {
    let snapshot = &listed.snapshot;
    let sources: Vec<_> = snapshot.sources.iter().take(MAX_WORDS).map(|path| short(path)).collect();
    let more = match snapshot.sources.len().saturating_sub(MAX_WORDS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let tags: String = snapshot.tags.iter().take(MAX_WORDS).map(|tag| format!(" #{}", short(tag.as_bytes()))).collect();
    let (time, host) = (local_time(snapshot.time), short(snapshot.host.as_bytes()));
    format!("{name} ({time}) of {host}: {}{more}{tags}", sources.join(" "))
}

/// Brings a path into one form: absolute, without `.` and doubled or final slashes; empty for `/`.
pub fn clean_path(path: &[u8]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(path.len() + 1);
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".") {
        clean.push(b'/');
        clean.extend_from_slice(name);
    }
    clean
}

impl Target {
    /// Refuses to take another snapshot for the one that is meant, where some are missing, unless that is accepted.
    pub fn require_certain(&self, repository: &Repository, is_accepted: bool) -> Result<()> {
        if !self.is_relative || is_accepted {
            return Ok(());
        }
        let found = &self.name;
        let what = format!("This would be {found}, and may not be the one that is meant");
        repository
            .require_no_missing(&what, "name the snapshot, as `bakfs snapshots` lists it, or add --accept-missing")
    }

    /// Says on standard error which snapshot was taken.
    pub fn tell(&self, verb: &str) {
        warn!("{verb} {}", described(&self.listed, &self.name));
    }

    /// Warns where what was asked for means the newest of several histories.
    pub fn warn_of_others(&self) {
        if self.others.is_empty() {
            return;
        }
        warn!("bakfs: warning: {} is the newest of several histories. There are also:", self.name);
        for other in &self.others {
            // Where no name means this history alone it goes by its own, and is told once.
            let name = if other.is_named() { format!("{}: ", short(other.name.as_bytes())) } else { String::new() };
            warn!("  {name}{}", described(&other.listed, &other.shown));
        }
        if self.more_others > 0 {
            warn!("  and {} more: `bakfs snapshots` lists all", self.more_others);
        }
    }
}
