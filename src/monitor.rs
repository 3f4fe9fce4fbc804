//! How the library tells what it is doing: it never prints.

use std::path::Path;

/// Receives progress and non-fatal trouble; called from many threads.
pub trait Monitor: Send + Sync {
    /// Something could not be read or written; the run goes on, and its exit code tells.
    fn trouble(&self, path: &Path, message: &str);

    /// What became of a file that was there already, for who asked for names.
    fn tell(&self, _path: &Path, _what: Told) {}

    /// Whether somebody looks on: only then are names told, and is counted what costs a look of its own.
    fn is_watched(&self) -> bool {
        false
    }

    /// The file that is worked at now, told only where [`Monitor::is_watched`].
    fn at(&self, _path: &Path) {}

    /// How much there is to do, as far as is known now.
    fn expect(&self, _files: u64, _bytes: u64) {}

    /// Files and bytes that are done since the last call.
    fn advance(&self, _files: u64, _bytes: u64) {}
}

/// What became of a file that was there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It differed and was replaced, or would be.
    Replaced,
    /// It was left as it is.
    Skipped,
}

/// A monitor that hears nothing.
pub struct Silent;

impl Monitor for Silent {
    fn trouble(&self, _path: &Path, _message: &str) {}
}
