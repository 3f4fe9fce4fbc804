//! Files of secrets must be their owner's alone.

use crate::error::{Context, Error, ErrorKind, Result};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Returns whether others than a file's owner may reach what is in it.
pub fn is_shared(found: &Metadata) -> bool {
    found.mode() & 0o077 != 0
}

/// Refuses a file of secrets that others may read.
pub fn refuse_shared(path: &Path) -> Result<()> {
    let found = std::fs::metadata(path).context(|| format!("Cannot look at the secret file {}", path.display()))?;
    if found.is_file() && is_shared(&found) {
        let shown = path.display();
        let message = format!("Others may read the secret file {shown}: `chmod 600 {shown}` keeps it to its owner");
        return Err(Error::new(ErrorKind::Denied, message));
    }
    Ok(())
}
