//! Which files of a tree are restored.

use crate::error::Result;
use crate::source::exclude::Excludes;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Patterns of what is restored and of what is left out, as those of a backup: a leading slash begins the whole path
/// in the snapshot, whatever part of it is restored.
#[derive(Debug, Default)]
pub struct Filter {
    includes: Option<Patterns>,
    excludes: Patterns,
}

/// Patterns that matched nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unmatched {
    /// What was to be restored and is not there.
    pub includes: Vec<String>,
    /// What was to be left out.
    pub excludes: Vec<String>,
}

/// Patterns, and which of them have matched anything.
#[derive(Debug, Default)]
struct Patterns {
    set: Excludes,
    globs: Vec<String>,
    has_matched: Vec<AtomicBool>,
}

impl Patterns {
    fn new(option: &str, globs: &[String]) -> Result<Patterns> {
        let set = Excludes::of_option(option, globs)?;
        let has_matched = globs.iter().map(|_| AtomicBool::new(false)).collect();
        Ok(Patterns { set, globs: globs.to_vec(), has_matched })
    }

    fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        self.set.excludes_telling(path, is_directory, |at| self.has_matched[at].store(true, Ordering::Relaxed))
    }

    /// Those that matched nothing, exceptions (`!keep`) apart.
    fn unmatched(&self) -> Vec<String> {
        let matched = self.has_matched.iter().map(|matched| matched.load(Ordering::Relaxed));
        let left = self.globs.iter().zip(matched).filter(|(glob, matched)| !matched && !glob.starts_with('!'));
        left.map(|(glob, _)| glob.clone()).collect()
    }
}

/// What a filter says of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is restored; a directory with everything in it that is not left out.
    Taken,
    /// A directory: what is in it decides.
    Searched,
    /// It is left out, with everything in it.
    LeftOut,
}

impl Filter {
    /// Takes what matches one of `includes`, with all below it (everything where there are none), except
    /// what matches one of `excludes`, with all below it.
    pub fn new(includes: &[String], excludes: &[String]) -> Result<Filter> {
        let included = (!includes.is_empty()).then(|| Patterns::new("--include", includes)).transpose()?;
        Ok(Filter { includes: included, excludes: Patterns::new("--exclude", excludes)? })
    }

    /// Returns whether everything is taken.
    pub(super) fn is_empty(&self) -> bool {
        self.includes.is_none() && self.excludes.set.is_empty()
    }

    /// Says what becomes of the root.
    pub(super) fn start(&self) -> Verdict {
        if self.includes.is_some() { Verdict::Searched } else { Verdict::Taken }
    }

    /// Says what becomes of the file at an absolute path in a directory that was `above`.
    pub(super) fn verdict(&self, above: Verdict, path: &[u8], is_directory: bool) -> Verdict {
        if above == Verdict::LeftOut || self.excludes.matches(path, is_directory) {
            return Verdict::LeftOut;
        }
        // Asked in any case, so that a pattern below what another one takes has matched too.
        let is_included = self.includes.as_ref().is_none_or(|includes| includes.matches(path, is_directory));
        if above == Verdict::Taken || is_included {
            Verdict::Taken
        } else if is_directory {
            Verdict::Searched
        } else {
            Verdict::LeftOut
        }
    }

    /// Returns whether the file at an absolute path is taken.
    pub(super) fn takes_file(&self, path: &[u8]) -> bool {
        // Nothing is noted as matched: the file may not be there.
        let path = Path::new(OsStr::from_bytes(path));
        let mut taken = self.includes.is_none();
        for folder in path.ancestors().collect::<Vec<_>>().into_iter().rev().skip(1) {
            if self.excludes.set.excludes(folder, folder != path) {
                return false;
            }
            taken |= self.includes.as_ref().is_some_and(|includes| includes.set.excludes(folder, folder != path));
        }
        taken
    }

    /// Returns the patterns that have matched nothing so far.
    pub(super) fn unmatched(&self) -> Unmatched {
        let includes = self.includes.as_ref().map(Patterns::unmatched).unwrap_or_default();
        Unmatched { includes, excludes: self.excludes.unmatched() }
    }
}
