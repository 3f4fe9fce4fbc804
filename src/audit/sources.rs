//! Whether what a profile names is there, and what would better be dumped or left out.

use super::Finding;
use crate::error::Context;
use crate::machine::Machine;
use crate::machine::survey::{Budget, Scope, survey};
use crate::path;
use crate::quantity::{counted, size};
use crate::settings::Profile;
use crate::settings::excludes::{BUILT_IN, is_about_built_in};
use crate::source::exclude::{Excludes, Idle, SourcePath};
use crate::source::generated::ServerFolder;
use crate::source::servers::{Kind, place_of, served};
use std::path::{Path, PathBuf};

/// What could be made again is pointed out from this length on.
const LARGE_BYTES: u64 = 100 << 20;
/// So many findings of a kind are told one by one.
const MAX_TOLD: usize = 10;

/// Looks at a profile's sources and excludes.
pub fn check(profile: &Profile, machine: &Machine, replaced: &[ServerFolder], budget: &mut Budget) -> Vec<Finding> {
    let name = &profile.name;
    let mut findings: Vec<Finding> = profile.sources.iter().map(|source| readable(name, source)).collect();
    let led = led(profile);
    let excludes = Excludes::in_profile(name, &profile.excludes, &profile.exclude_files);
    let excludes = match excludes.and_then(|excludes| excludes.through_links(&led, &path::real)) {
        Ok(excludes) => excludes,
        Err(error) => {
            findings.push(Finding::problem(format!("{name}: exclude"), error.chain()));
            return findings;
        }
    };
    findings.extend(idle(profile, &led));
    findings.extend(contradictions(profile));
    findings.extend(surveyed(profile, machine, &excludes, replaced, budget));
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

/// Returns a profile's sources with where they lead.
pub fn led(profile: &Profile) -> Vec<SourcePath> {
    let led = |given: &PathBuf| {
        // A source that is a link means the link and what it leads to.
        let ends = [false, true].into_iter().filter_map(|follows| path::resolve(given, follows).ok());
        ends.map(|end| SourcePath { given: given.clone(), real: end.path }).collect::<Vec<_>>()
    };
    profile.sources.iter().flat_map(led).collect()
}

/// Names its own excludes that leave out nothing, for they lie below no source.
fn idle(profile: &Profile, led: &[SourcePath]) -> Vec<Finding> {
    let (own, own_files) = profile.own_excludes();
    let Ok(own) = Excludes::in_profile(&profile.name, own, own_files) else { return Vec::new() };
    let hint = |idle: Idle| {
        let text = format!("`{}` leaves out nothing, for it lies below no source ({})", idle.text, idle.place);
        Finding::hint(format!("{}: exclude", profile.name), text)
    };
    // Those that name a source, or a folder above it, are told as contradictions.
    let is_contradiction = |idle: &Idle| {
        let one = Excludes::of_option("exclude", std::slice::from_ref(&idle.text)).unwrap_or_default();
        profile.sources.iter().any(|source| source.ancestors().any(|folder| one.excludes(folder, true)))
    };
    let is_told = |idle: &Idle| !is_about_built_in(&idle.text) && !is_contradiction(idle);
    own.idle(led, &path::real).into_iter().filter(is_told).map(hint).collect()
}

/// Names excludes of the defaults that lie below no source of any profile.
pub fn idle_defaults(profiles: &[&Profile]) -> Vec<Finding> {
    let of_profile = |profile: &&Profile| {
        let (own, own_files) = profile.own_excludes();
        let globs = &profile.excludes[..profile.excludes.len() - own.len()];
        let globs: Vec<_> =
            globs.iter().filter(|glob| !BUILT_IN.iter().any(|(known, _)| known == glob)).cloned().collect();
        let files = &profile.exclude_files[..profile.exclude_files.len() - own_files.len()];
        let read = Excludes::of_option("defaults: exclude", &globs);
        let read = read.and_then(|globs| Ok((globs, Excludes::new(&[], files)?)));
        let Ok((globs, files)) = read else { return Vec::new() };
        let led = led(profile);
        globs.idle(&led, &path::real).into_iter().chain(files.idle(&led, &path::real)).collect()
    };
    let mut all = profiles.iter().map(of_profile);
    let mut everywhere: Vec<Idle> = all.next().unwrap_or_default();
    all.for_each(|idle| everywhere.retain(|one| idle.contains(one)));
    let hint = |idle: Idle| {
        let text = format!("`{}` leaves out nothing, for it lies below no source of any profile", idle.text);
        Finding::hint(idle.place, text)
    };
    everywhere.into_iter().filter(|idle| !is_about_built_in(&idle.text)).map(hint).collect()
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

/// Names data folders servers run on that are backed up as files, for not all that is in them is dumped.
fn raw_folders(profile: &Profile, excludes: &Excludes, replaced: &[ServerFolder], found: &[PathBuf]) -> Vec<Finding> {
    let served = served();
    let is_dumped = |place: (u64, u64)| replaced.iter().any(|folder| folder.place == place);
    let mut folders: Vec<(PathBuf, Kind)> = Vec::new();
    for known in served.iter().filter(|known| !is_dumped(known.place)) {
        let here = known.path.iter().filter(|path| is_backed_up(profile, excludes, path));
        let elsewhere = found.iter().filter(|path| place_of(path) == Some(known.place));
        folders.extend(here.chain(elsewhere).take(1).map(|path| (path.clone(), known.kind)));
    }
    folders.sort_by(|one, other| one.0.cmp(&other.0));
    let problem = |(folder, kind): (PathBuf, Kind)| {
        let text = format!(
            "a {} server runs on it that is not dumped whole, and a copy of its files taken while it may write to them \
             restores no database: have `[[profile.{}.{}]]` dump all of it, or leave them out with \
             `exclude = [\"{}\"]`",
            kind.name(),
            profile.name,
            kind.table(),
            folder.display()
        );
        Finding::problem(format!("{}: {}", profile.name, folder.display()), text)
    };
    folders.into_iter().map(problem).collect()
}

fn surveyed(
    profile: &Profile,
    machine: &Machine,
    excludes: &Excludes,
    replaced: &[ServerFolder],
    budget: &mut Budget,
) -> Vec<Finding> {
    let root = machine.path("/");
    // As a backup walks them: by where they lead.
    let sources: Vec<PathBuf> = led(profile).into_iter().map(|source| source.real).collect();
    let exclude_caches = profile.exclude_caches;
    let scope = Scope { sources: &sources, excludes, exclude_caches, root: &root, min_bytes: LARGE_BYTES };
    let found = survey(&scope, budget);
    let mut findings = raw_folders(profile, excludes, replaced, &found.servers);
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
        let text = format!("and {} more", counted(databases.len() - MAX_TOLD, "SQLite database"));
        findings.push(Finding::hint(&profile.name, text));
    }
    findings.extend(found.reproducible.iter().take(MAX_TOLD).map(|large| {
        let places =
            if large.places > 1 { format!(" and {} more", counted(large.places - 1, "place")) } else { String::new() };
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
