//! Whether what a profile names is there, and what would better be dumped or left out.

use super::Finding;
use crate::error::Context;
use crate::machine::survey::{Budget, Scope, survey};
use crate::machine::{Machine, is_mysql_data, is_postgresql_data};
use crate::quantity::size;
use crate::settings::Profile;
use crate::settings::excludes::{BUILT_IN, RAW_MYSQL, RAW_POSTGRESQL};
use crate::settings::profile::{is_whole_local_cluster, is_whole_local_server};
use crate::source::exclude::Excludes;
use std::path::{Path, PathBuf};

/// What could be made again is pointed out from this length on.
const LARGE_BYTES: u64 = 100 << 20;
/// So many findings of a kind are told one by one.
const MAX_TOLD: usize = 10;

/// Looks at a profile's sources and excludes.
pub fn check(profile: &Profile, machine: &Machine, budget: &mut Budget) -> Vec<Finding> {
    let name = &profile.name;
    let mut findings: Vec<Finding> = profile.sources.iter().map(|source| readable(name, source)).collect();
    let excludes = match Excludes::new(&profile.excludes, &profile.exclude_files) {
        Ok(excludes) => excludes,
        Err(error) => {
            // The library names patterns of the configuration as those of an option.
            let text = error.chain().replacen("--exclude: ", "", 1);
            findings.push(Finding::problem(format!("{name}: exclude"), text));
            return findings;
        }
    };
    findings.extend(contradictions(profile));
    findings.extend(raw_folders(profile, machine, &excludes));
    findings.extend(surveyed(profile, machine, &excludes, budget));
    findings
}

fn readable(profile: &str, source: &Path) -> Finding {
    let subject = format!("{profile}: source {}", source.display());
    let trying = || "cannot be read".to_string();
    let tried = match std::fs::symlink_metadata(source) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Finding::problem(subject, "does not exist: correct the path, or take it out of `sources`");
        }
        Err(error) => Err(error).context(trying),
        Ok(metadata) if metadata.is_dir() => {
            let listed = std::fs::read_dir(source).and_then(|mut entries| entries.next().transpose());
            listed.map(drop).context(trying)
        }
        Ok(metadata) if metadata.is_file() => std::fs::File::open(source).map(drop).context(trying),
        Ok(_) => Ok(()),
    };
    match tried {
        Ok(()) => Finding::fine(subject, "can be read"),
        Err(error) => Finding::problem(subject, format!("{}: run as another user, or give access", error.chain())),
    }
}

/// Names sources that an exclude of the user's would leave out: a source that is named is backed up all the same.
fn contradictions(profile: &Profile) -> Vec<Finding> {
    let is_own = |glob: &&String| !BUILT_IN.iter().any(|(known, _)| known == *glob);
    let own: Vec<String> = profile.excludes.iter().filter(is_own).cloned().collect();
    let Ok(own) = Excludes::new(&own, &profile.exclude_files) else { return Vec::new() };
    let is_hidden = |source: &&PathBuf| {
        let is_part = profile.sources.iter().any(|other| other != *source && source.starts_with(other));
        !is_part && source.ancestors().any(|folder| own.excludes(folder, folder != source.as_path() || source.is_dir()))
    };
    let hint = |source: &PathBuf| {
        let text = "an exclude names it or a folder above it, yet it is backed up, for it is named: take one of the \
                    two away";
        Finding::hint(format!("{}: source {}", profile.name, source.display()), text)
    };
    profile.sources.iter().filter(is_hidden).map(hint).collect()
}

/// Returns whether a folder is reached from a source without meeting an exclude.
fn is_backed_up(profile: &Profile, excludes: &Excludes, folder: &Path) -> bool {
    profile.sources.iter().filter(|source| folder.starts_with(source)).any(|source| {
        let mut between = folder.ancestors().take_while(|ancestor| ancestor != source);
        !between.any(|ancestor| excludes.excludes(ancestor, true))
    })
}

/// Names files of running servers that are backed up as files while none of their databases is dumped.
fn raw_folders(profile: &Profile, machine: &Machine, excludes: &Excludes) -> Vec<Finding> {
    let postgresql = RAW_POSTGRESQL.iter().filter(|_| !profile.postgresql.iter().any(is_whole_local_cluster));
    let mysql = RAW_MYSQL.iter().filter(|_| !profile.mysql.iter().any(is_whole_local_server));
    let all = postgresql
        .map(|folder| (machine.path(folder), "PostgreSQL", "postgresql", is_postgresql_data as fn(&Path) -> bool))
        .chain(mysql.map(|folder| (machine.path(folder), "MySQL", "mysql", is_mysql_data as fn(&Path) -> bool)));
    // What is in the folder counts: the folder itself is kept.
    let is_read = |folder: &Path| is_backed_up(profile, excludes, &folder.join("main"));
    let found = all.filter(|(folder, _, _, holds_data)| is_read(folder) && holds_data(folder));
    let problem = |(folder, server, table, _): (PathBuf, &str, &str, _)| {
        let text = format!(
            "files of a {server} server are backed up while it may write to them, which restores no database: have \
             `[[profile.{}.{table}]]` dump all of it, or leave them out with `exclude = [\"{}\"]`",
            profile.name,
            folder.display()
        );
        Finding::problem(format!("{}: {}", profile.name, folder.display()), text)
    };
    found.map(problem).collect()
}

fn surveyed(profile: &Profile, machine: &Machine, excludes: &Excludes, budget: &mut Budget) -> Vec<Finding> {
    let root = machine.path("/");
    let exclude_caches = profile.exclude_caches;
    let scope = Scope { sources: &profile.sources, excludes, exclude_caches, root: &root, min_bytes: LARGE_BYTES };
    let found = survey(&scope, budget);
    let mut findings = Vec::new();
    let globs: Vec<String> = profile.sqlite.iter().filter_map(|it| it.path.to_str().map(str::to_string)).collect();
    let dumped = Excludes::of_option("sqlite", &globs).unwrap_or_default();
    let is_dumped = |path: &PathBuf| profile.sqlite.iter().any(|it| it.path == *path) || dumped.excludes(path, false);
    let mut databases: Vec<&PathBuf> = found.sqlite.iter().filter(|path| !is_dumped(path)).collect();
    // What programs hide is seldom what one would miss: it is told last.
    databases.sort_by_key(|path| path.iter().any(|name| name.as_encoded_bytes().starts_with(b".")));
    findings.extend(databases.iter().take(MAX_TOLD).map(|path| {
        let text = format!(
            "is an SQLite database: what is written to it meanwhile may spoil a copy of the file. Add \
             `[[profile.{}.sqlite]]` with `path = \"{}\"`",
            profile.name,
            path.display()
        );
        Finding::hint(format!("{}: {}", profile.name, path.display()), text)
    }));
    if databases.len() > MAX_TOLD {
        let text = format!("and {} SQLite databases more", databases.len() - MAX_TOLD);
        findings.push(Finding::hint(&profile.name, text));
    }
    findings.extend(found.reproducible.iter().take(MAX_TOLD).map(|large| {
        let places = if large.places > 1 { format!(" and {} places more", large.places - 1) } else { String::new() };
        let text = format!(
            "{}{places}, {}, could be made again: `exclude = ['{}']` leaves it out",
            large.what,
            size(large.bytes),
            large.exclude
        );
        Finding::hint(format!("{}: {}", profile.name, large.path.display()), text)
    }));
    if !found.is_whole {
        let text = "there are so many files that not all were looked at for databases and what could be left out";
        findings.push(Finding::fine(&profile.name, text));
    }
    findings
}
