//! How the library tells what it is doing: it never prints.

use std::path::Path;

/// Receives progress and non-fatal trouble; called from many threads.
pub trait Monitor: Send + Sync {
    /// Something could not be read or written; the run goes on, and its exit code tells.
    fn trouble(&self, path: &Path, message: &str);

    /// How much there is to do, as far as is known now.
    fn expect(&self, _files: u64, _bytes: u64) {}

    /// Files and bytes that are done since the last call.
    fn advance(&self, _files: u64, _bytes: u64) {}
}

/// A monitor that hears nothing.
pub struct Silent;

impl Monitor for Silent {
    fn trouble(&self, _path: &Path, _message: &str) {}
}
