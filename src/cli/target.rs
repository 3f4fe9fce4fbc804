//! `SNAP[:PATH]`: a snapshot and a path in it, as users write them.

use crate::error::{Error, ErrorKind, Result};
use crate::format::tree::Entry;
use crate::repo::snapshots::Listed;
use crate::repo::{Repository, names};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// A snapshot and a path in it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The snapshot.
    pub listed: Listed,
    /// The name it is shown by.
    pub name: String,
    /// Absolute, without `.` and doubled or final slashes; empty for `/`.
    pub path: Vec<u8>,
    /// Whether it was named by a word that means another snapshot when one is missing.
    pub is_relative: bool,
}

/// Finds the snapshot a name means among `snapshots`.
pub fn snapshot<'a>(snapshots: &'a [Listed], name: &OsStr) -> Result<&'a Listed> {
    let Some(name) = name.to_str() else {
        return Err(Error::usage(format!("`{}` is no name of a snapshot", name.to_string_lossy())));
    };
    names::find(snapshots, name, &jiff::Zoned::now())
}

/// Finds the snapshot a name means, for what changes it. A time is refused: it means the newest snapshot
/// before it, which is another one as soon as that has gone.
pub fn exact<'a>(snapshots: &'a [Listed], name: &OsStr) -> Result<&'a Listed> {
    let found = snapshot(snapshots, name)?;
    let shown = shown_name(snapshots, found);
    let is_time = |text: &str| text != shown && names::parse_time(text, &jiff::Zoned::now()).is_some();
    match name.to_str().filter(|text| is_time(text)) {
        None => Ok(found),
        Some(text) => Err(Error::usage(format!(
            "`{text}` is a time and names no snapshot for certain: the newest one until then is {shown}"
        ))),
    }
}

/// Returns the name a snapshot of `snapshots` is shown by.
pub fn shown_name(snapshots: &[Listed], listed: &Listed) -> String {
    let at = snapshots.iter().position(|other| other.id == listed.id);
    at.and_then(|at| names::shown(snapshots).into_iter().nth(at)).unwrap_or_else(|| listed.snapshot.name.clone())
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
    /// Parses `SNAP[:PATH]`. The path starts at the first `:/`; without one, what is a snapshot's name
    /// as a whole is one (times have colons), and else the last colon parts name and path.
    pub fn parse(snapshots: &[Listed], text: &OsStr) -> Result<Self> {
        let bytes = text.as_bytes();
        let whole = (text, &b""[..]);
        let split = |at: usize| (OsStr::from_bytes(&bytes[..at]), &bytes[at + 1..]);
        let ((name, path), listed) = match bytes.windows(2).position(|pair| pair == b":/") {
            Some(at) => (split(at), snapshot(snapshots, split(at).0)?),
            None => match snapshot(snapshots, text) {
                Ok(listed) => (whole, listed),
                Err(error) => {
                    let Some(at) = bytes.iter().rposition(|byte| *byte == b':') else { return Err(error) };
                    let Ok(listed) = snapshot(snapshots, split(at).0) else { return Err(error) };
                    (split(at), listed)
                }
            },
        };
        let is_relative = name.to_str().is_some_and(|name| names::is_relative(snapshots, name, &jiff::Zoned::now()));
        Ok(Target { listed: listed.clone(), name: shown_name(snapshots, listed), path: clean_path(path), is_relative })
    }

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

    /// Returns what the path names.
    pub fn entry(&self, repository: &Repository) -> Result<Entry> {
        repository.resolve(&self.listed.snapshot, &self.path)?.ok_or_else(|| {
            let path = super::output::readable(&self.path);
            let message = format!("{path} is not in the snapshot {0}: `bakfs ls {0}` shows what is", self.name);
            Error::new(ErrorKind::NotFound, message)
        })
    }
}
