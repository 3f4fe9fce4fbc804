//! SQLite by its online backup API: a copy in a temporary file, verified, then read into the snapshot.

mod copy;
mod find;

use super::local::{Temporary, mebibytes};
use super::manifest::{Manifest, Subject, names};
use super::{Plan, Report};
use crate::process::Stop;
use crate::settings::file::Sqlite;
use crate::source::generated::Replaced;
use copy::Copying;
use find::{Found, find};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// How long is waited for a database others write to.
const BUSY_SECS: u64 = 60;

/// Returns the names below `/databases` of a database's dump.
fn dump_names(path: &Path) -> Vec<Vec<u8>> {
    let names_of_path = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.as_bytes()),
        _ => None,
    });
    names("sqlite", &names_of_path.collect::<Vec<_>>())
}

/// Returns the files a database is made of, where a walk meets them (<https://sqlite.org/tempfiles.html>).
fn files_of(path: &Path) -> impl Iterator<Item = PathBuf> {
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    ["", "-wal", "-shm", "-journal"].into_iter().map(move |suffix| {
        let mut name = real.clone().into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    })
}

fn copying(settings: &Sqlite, path: &Path, temporary: &Temporary) -> Copying {
    let wait_secs = settings.busy_timeout.map_or(Some(BUSY_SECS), |timeout| timeout.secs);
    Copying {
        path: path.to_path_buf(),
        is_checked: settings.integrity_check.unwrap_or(true),
        wait: wait_secs.map_or(Duration::from_millis(i32::MAX as u64), Duration::from_secs),
        temporary: temporary.clone(),
    }
}

/// Adds the databases of a path or glob to what is dumped.
pub fn plan(settings: &Sqlite, temporary: &Temporary, _: &Stop, plan: &mut Plan) {
    let Found { files, failed, .. } = find(&settings.path);
    for (path, error) in failed {
        plan.fail(&dump_names(&path), error);
    }
    for (path, found) in files {
        let dump = dump_names(&path);
        // A file that two globs match is one database.
        if plan.units.iter().any(|unit| unit.dump.path == dump) {
            continue;
        }
        let subject = Subject {
            path: dump,
            owner: (found.uid(), found.gid()),
            title: format!("the SQLite database {}", path.display()),
            manifest: Manifest {
                kind: "sqlite",
                database: path.to_string_lossy().into_owned(),
                format: "sqlite",
                program: Some(format!("SQLite {}", rusqlite::version())),
                database_bytes: Some(found.len()),
                ..Manifest::default()
            },
        };
        let files = files_of(&path).collect();
        plan.replaced.push(Replaced { is_whole: true, by: vec![subject.path.clone()], files, folders: Vec::new() });
        let copying = copying(settings, &path, temporary);
        plan.units.push(subject.stream(move |record| Ok(Box::new(copying.start(record)?))));
    }
}

/// Tries the databases of a path or glob for real.
pub fn inspect(settings: &Sqlite, temporary: &Temporary, report: &mut Report) {
    let subject = format!("sqlite {}", settings.path.display());
    let Found { files, failed, is_glob } = find(&settings.path);
    failed.iter().for_each(|(_, error)| report.error(&subject, error));
    if files.is_empty() && failed.is_empty() {
        report.fine(&subject, "matches no SQLite database yet: look at the path if there should be one");
    }
    let mut largest_bytes = 0;
    for (path, found) in &files {
        largest_bytes = largest_bytes.max(found.len());
        match copying(settings, path, temporary).look() {
            Err(error) => report.error(&subject, &error),
            Ok(mode) if is_glob => {
                report.fine(&subject, format!("{}: {}, journal mode {mode}", path.display(), mebibytes(found.len())));
            }
            Ok(mode) => report.fine(&subject, format!("{}, journal mode {mode}", mebibytes(found.len()))),
        }
    }
    if let Err(error) = temporary.check_room(largest_bytes) {
        report.error(&subject, &error);
    }
}
