//! Files that only their owner may read.

use super::Finding;
use crate::settings::secret::is_shared;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Looks at a file of secrets; `None` where there is no such file, which whoever needs it will tell.
pub fn check(what: &str, path: &Path) -> Option<Finding> {
    let metadata = std::fs::metadata(path).ok()?;
    let shown = path.display();
    let subject = format!("{what} {shown}");
    let me = rustix::process::geteuid().as_raw();
    let mode = metadata.mode() & 0o7777;
    if is_shared(&metadata) {
        let text = format!("it holds secrets and others may reach it (mode {mode:04o}): `chmod 600 {shown}`");
        return Some(Finding::problem(subject, text));
    }
    if !matches!(metadata.uid(), 0) && metadata.uid() != me {
        let text = format!("it holds secrets and belongs to user {}: `chown {me} {shown}`", metadata.uid());
        return Some(Finding::problem(subject, text));
    }
    Some(Finding::fine(subject, "is its owner's alone"))
}
