//! Databases as sources: dumps of PostgreSQL, MySQL, SQLite and of anything else that can print itself.
//!
//! A dump is a [`Generated`] file below `/databases`, and beside it a manifest, `<dump>.json`. It is streamed into the
//! snapshot by the program that makes it; that program's failure is the stream's, so no half dump is ever kept.

#[cfg(any(test, not(feature = "databases")))]
mod absent;
mod command;
#[cfg_attr(not(feature = "databases"), allow(dead_code))]
mod local;
#[cfg_attr(not(feature = "databases"), allow(dead_code))]
mod manifest;
#[cfg(feature = "databases")]
mod mysql;
#[cfg(feature = "databases")]
mod name;
#[cfg(feature = "databases")]
mod pattern;
#[cfg(feature = "databases")]
mod postgresql;
#[cfg(feature = "databases")]
mod sqlite;

use crate::error::Error;
use crate::process::Stop;
use crate::settings::Profile;
use crate::source::generated::{Generated, Replaced, ServerFolder};
#[cfg(not(feature = "databases"))]
use absent::{mysql, postgresql, sqlite};
use local::Temporary;
use manifest::{Unit, absolute};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What a profile dumps.
#[derive(Default)]
pub struct Dumps {
    /// The dumps and their manifests, sorted by path.
    pub generated: Vec<Generated>,
    /// What cannot be dumped, under the path where it would be, and why.
    pub failed: Vec<(PathBuf, Error)>,
    /// Files that dumps stand for.
    pub replaced: Vec<Replaced>,
    /// What is left out on purpose, for the log.
    pub notes: Vec<String>,
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
    /// Whether it may be meant so, and may not.
    pub is_hint: bool,
}

/// A database that a profile dumps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// The path of its dump in the snapshot.
    pub path: PathBuf,
    /// Its size at the server, where that is known.
    pub bytes: Option<u64>,
}

/// Lists what a profile dumps, asking servers for their databases. Nothing is dumped before its turn, and `stop` ends
/// every program that dumps.
pub fn dumps(profile: &Profile, stop: &Stop) -> Dumps {
    let Plan { units, failed, replaced, notes } = Plan::of(profile, stop);
    let mut generated: Vec<_> = units.into_iter().flat_map(|unit| [unit.dump, unit.manifest]).collect();
    generated.sort_by(|one, other| one.path.cmp(&other.path));
    Dumps { generated, failed, replaced, notes }
}

/// What was found out about a profile's databases.
#[derive(Debug, Default)]
pub struct Inspected {
    /// By server or file.
    pub inspections: Vec<Inspection>,
    /// Folders of servers' files that runs leave out, for all that is in them is dumped.
    pub replaced: Vec<ServerFolder>,
}

/// Tries a profile's databases for real: connections, versions, rights, programs, room for what is not streamed.
pub fn inspect(profile: &Profile) -> Inspected {
    let temporary = Temporary::new(profile.temporary_dir.as_deref());
    let mut report = Report::default();
    profile.postgresql.iter().for_each(|cluster| postgresql::inspect(cluster, &temporary, &mut report));
    profile.mysql.iter().for_each(|server| mysql::inspect(server, &temporary, &mut report));
    profile.sqlite.iter().for_each(|files| sqlite::inspect(files, &temporary, &mut report));
    profile.command.iter().for_each(|source| command::inspect(source, &mut report));
    Inspected { inspections: report.inspections, replaced: report.replaced }
}

/// Lists a profile's dumps, and what cannot be dumped.
pub fn list(profile: &Profile) -> (Vec<Database>, Vec<(PathBuf, Error)>) {
    let Plan { units, failed, .. } = Plan::of(profile, &Stop::default());
    let database = |unit: Unit| Database { path: absolute(&unit.dump.path), bytes: unit.database_bytes };
    (units.into_iter().map(database).collect(), failed)
}

/// What is going to be dumped.
#[derive(Default)]
struct Plan {
    units: Vec<Unit>,
    failed: Vec<(PathBuf, Error)>,
    replaced: Vec<Replaced>,
    notes: Vec<String>,
}

impl Plan {
    fn of(profile: &Profile, stop: &Stop) -> Plan {
        let temporary = Temporary::new(profile.temporary_dir.as_deref());
        let mut plan = Plan::default();
        profile.postgresql.iter().for_each(|cluster| postgresql::plan(cluster, &temporary, stop, &mut plan));
        profile.mysql.iter().for_each(|server| mysql::plan(server, &temporary, stop, &mut plan));
        profile.sqlite.iter().for_each(|files| sqlite::plan(files, &temporary, stop, &mut plan));
        profile.command.iter().for_each(|source| command::plan(source, stop, &mut plan));
        plan.part();
        plan
    }

    fn fail(&mut self, path: &[Vec<u8>], error: Error) {
        self.failed.push((absolute(path), error));
    }

    /// Sorts the dumps, and refuses those at whose path, or at whose manifest's, another has something already.
    fn part(&mut self) {
        self.units.sort_by(|one, other| one.dump.path.cmp(&other.dump.path));
        let mut taken: BTreeSet<Vec<Vec<u8>>> = BTreeSet::new();
        let (mut parted, mut failed) = (Vec::new(), Vec::new());
        for unit in self.units.drain(..) {
            let is_taken = |path: &Vec<Vec<u8>>| {
                let below = taken.range(path.clone()..).next().is_some_and(|next| next.starts_with(path));
                below || (1..path.len()).any(|len| taken.contains(&path[..len]))
            };
            if is_taken(&unit.dump.path) || is_taken(&unit.manifest.path) {
                let message = "Two dumps, or a dump and another one's manifest, would be written under one name: \
                               give one of them another name, or put them into profiles of their own";
                failed.push((absolute(&unit.dump.path), Error::usage(message)));
                continue;
            }
            taken.extend([unit.dump.path.clone(), unit.manifest.path.clone()]);
            parted.push(unit);
        }
        self.units = parted;
        self.failed.extend(failed);
        self.failed.sort_by(|one, other| one.0.cmp(&other.0));
    }
}

/// What was found out so far.
#[derive(Default)]
struct Report {
    inspections: Vec<Inspection>,
    replaced: Vec<ServerFolder>,
}

impl Report {
    fn add(&mut self, subject: &str, text: String, is_problem: bool) {
        self.inspections.push(Inspection { subject: subject.to_string(), text, is_problem, is_hint: false });
    }

    #[cfg_attr(not(feature = "databases"), allow(dead_code))]
    fn hint(&mut self, subject: &str, text: impl Into<String>) {
        let (subject, text) = (subject.to_string(), text.into());
        self.inspections.push(Inspection { subject, text, is_problem: false, is_hint: true });
    }

    fn fine(&mut self, subject: &str, text: impl Into<String>) {
        self.add(subject, text.into(), false);
    }

    fn problem(&mut self, subject: &str, text: impl Into<String>) {
        self.add(subject, text.into(), true);
    }

    fn error(&mut self, subject: &str, error: &Error) {
        self.add(subject, error.chain(), true);
    }
}
