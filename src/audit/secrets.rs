//! Files that only their owner may read.

use super::Finding;
use crate::trust::file;
use std::path::Path;

/// Looks at a file of secrets; `None` where there is no such file, which whoever needs it will tell.
pub fn check(what: &str, path: &Path) -> Option<Finding> {
    path.metadata().ok()?;
    let subject = format!("{what} {}", path.display());
    Some(match file::exposed(path) {
        Some(flaw) if file::changeable(path).is_none() && file::is_handed_in(path) => {
            Finding::hint(subject, format!("{}: have it mounted with mode 0400", flaw.what))
        }
        Some(flaw) => Finding::problem(subject, format!("it holds secrets: {flaw}")),
        None => Finding::fine(subject, "is its owner's alone"),
    })
}
