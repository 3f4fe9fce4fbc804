//! Which files of a tree are restored.

use crate::error::Result;
use crate::source::exclude::Excludes;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Patterns of what is restored and of what is left out, as those of a backup.
#[derive(Debug, Default)]
pub struct Filter {
    includes: Option<Excludes>,
    excludes: Excludes,
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
        let included = (!includes.is_empty()).then(|| Excludes::of_option("--include", includes)).transpose()?;
        Ok(Filter { includes: included, excludes: Excludes::new(excludes, &[])? })
    }

    /// Returns whether everything is taken.
    pub(super) fn is_empty(&self) -> bool {
        self.includes.is_none() && self.excludes.is_empty()
    }

    /// Says what becomes of the root.
    pub(super) fn start(&self) -> Verdict {
        if self.includes.is_some() { Verdict::Searched } else { Verdict::Taken }
    }

    /// Says what becomes of the file at an absolute path in a directory that was `above`.
    pub(super) fn verdict(&self, above: Verdict, path: &[u8], is_directory: bool) -> Verdict {
        let path = Path::new(OsStr::from_bytes(path));
        if above == Verdict::LeftOut || self.excludes.excludes(path, is_directory) {
            return Verdict::LeftOut;
        }
        let is_included = |includes: &Excludes| includes.excludes(path, is_directory);
        if above == Verdict::Taken || self.includes.as_ref().is_none_or(is_included) {
            Verdict::Taken
        } else if is_directory {
            Verdict::Searched
        } else {
            Verdict::LeftOut
        }
    }
}
