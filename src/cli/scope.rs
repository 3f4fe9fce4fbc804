//! `--host`, `--tag`, `--path` and `--profile`: whose snapshots are meant, wherever one is named.

use super::target::clean_path;
use crate::error::{Context, Error, Result};
use crate::path;
use crate::repo::shared::listed::ListedSnapshot;
use crate::repo::shared::scope::Scope;
use crate::retention::rule::TagList;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The heading of these options in the help.
const HEADING: &str = "Whose snapshots";

/// Whose snapshots are meant.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct Whose {
    /// Only those of a host
    #[arg(long, value_name = "NAME", help_heading = HEADING, add = super::complete::hosts())]
    host: Option<String>,
    /// Only those with a tag; A,B, or given more than once: with all of them
    #[arg(long, value_name = "TAG", help_heading = HEADING, add = super::complete::tags())]
    tag: Vec<String>,
    /// Only those that runs of a profile have made; `PROFILE/latest` says the same
    #[arg(long, value_name = "NAME", help_heading = HEADING, add = super::complete::profiles())]
    profile: Option<String>,
}

/// Whose snapshots are meant, and of what.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    whose: Whose,
    /// Only those with this source, or with one above it; given more than once, with all of them
    #[arg(long, value_name = "PATH", help_heading = HEADING)]
    path: Vec<PathBuf>,
}

impl Whose {
    /// Returns what the options say.
    pub fn scope(&self) -> Result<Scope> {
        let is_empty = |word: &Option<String>| word.as_ref().is_some_and(String::is_empty);
        if is_empty(&self.host) || is_empty(&self.profile) {
            return Err(Error::usage("An empty --host or --profile names nobody: write a name, or leave it out"));
        }
        let tags =
            self.tag.iter().map(|tags| tags.parse::<TagList>().map(|tags| tags.0)).collect::<Result<Vec<_>>>()?;
        Ok(Scope { host: self.host.clone(), tags: tags.concat(), paths: Vec::new(), profile: self.profile.clone() })
    }
}

impl Args {
    /// Returns what the options say. A relative path is one of the current directory.
    pub fn scope(&self) -> Result<Scope> {
        let clean = |path: &PathBuf| {
            let absolute = std::path::absolute(path).context(|| format!("Cannot use the path {}", path.display()))?;
            Ok(clean_path(absolute.as_os_str().as_bytes()))
        };
        let paths = self.path.iter().map(clean).collect::<Result<_>>()?;
        Ok(Scope { paths, ..self.whose.scope()? })
    }
}

/// Returns a scope with paths that no snapshot is of replaced by where they lead on this machine, if some are of that:
/// sources are stored without links.
pub fn led(scope: Scope, snapshots: &[ListedSnapshot]) -> Scope {
    let is_known = |path: &Vec<u8>| {
        let of_path = Scope { paths: vec![path.clone()], ..Scope::default() };
        snapshots.iter().any(|listed| of_path.has(&listed.snapshot))
    };
    let lead = |path: Vec<u8>| {
        let real = path::real(Path::new(OsStr::from_bytes(&path)));
        let real = clean_path(real.as_os_str().as_bytes());
        if !is_known(&path) && is_known(&real) { real } else { path }
    };
    Scope { paths: scope.paths.into_iter().map(lead).collect(), ..scope }
}

/// Writes a scope as options.
pub fn arguments(scope: &Scope) -> Vec<OsString> {
    let mut arguments = Vec::new();
    let mut add = |option: &str, value: &[u8]| {
        arguments.push([option.as_bytes(), b"=", value].concat());
    };
    scope.host.iter().for_each(|host| add("--host", host.as_bytes()));
    scope.tags.iter().for_each(|tag| add("--tag", tag.as_bytes()));
    scope.profile.iter().for_each(|profile| add("--profile", profile.as_bytes()));
    scope.paths.iter().for_each(|path| add("--path", crate::repo::read::walk::shown_path(path)));
    arguments.into_iter().map(std::os::unix::ffi::OsStringExt::from_vec).collect()
}
