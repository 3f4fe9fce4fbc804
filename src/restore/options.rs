//! How files are written.

use super::owners::Owners;
use super::xattrs::XattrFilter;

/// How files are written.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether what is in the way and of another type is removed.
    pub replace_types: bool,
    /// Whose the files become.
    pub owners: Owners,
    /// Which extended attributes they get.
    pub xattrs: XattrFilter,
    /// Whether nothing is changed: directories that are not there count as empty ones.
    pub dry_run: bool,
}
