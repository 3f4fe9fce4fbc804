//! Replacing a file at once: whoever reads it sees the old one or the new one whole, also after a crash.

use crate::id::to_hex;
use crate::random::fill_random;
use std::fs::{File, Permissions};
use std::io::{Result, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// What the names of files that are being written begin with.
pub const TEMPORARY: &str = ".tmp-";

/// What is sure to be there after a power cut once a file was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lasting {
    /// Nothing: the file may be empty, for what verifies what it reads.
    Nothing,
    /// The old file or the new one, whole.
    Whole,
    /// The new one.
    New,
}

/// Replaces a file by these bytes, as [`replace_with`] does.
pub fn replace(path: &Path, bytes: &[u8], mode: u32, lasting: Lasting) -> Result<()> {
    replace_with(path, mode, lasting, |file| file.write_all(bytes))
}

/// Replaces a file by what `fill` writes: beside it, then synced and renamed, and then the folder synced, as far as it is to
/// last. It has this mode whatever the umask. A link in its place is replaced, and nothing is left where it fails. The folder
/// must be there.
pub fn replace_with(
    path: &Path,
    mode: u32,
    lasting: Lasting,
    fill: impl FnOnce(&mut File) -> Result<()>,
) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut random = [0; 12];
    fill_random(&mut random);
    let temporary = folder.join(format!("{TEMPORARY}{}", to_hex(&random)));
    let mut file = File::options().write(true).create_new(true).mode(mode & 0o600).open(&temporary)?;
    let write = || {
        file.set_permissions(Permissions::from_mode(mode))?;
        fill(&mut file)?;
        if lasting > Lasting::Nothing {
            file.sync_all()?;
        }
        std::fs::rename(&temporary, path)
    };
    write().inspect_err(|_| drop(std::fs::remove_file(&temporary)))?;
    if lasting == Lasting::New { sync_folder(folder) } else { Ok(()) }
}

/// Makes the names in a folder durable.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Error;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_or_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let names = || std::fs::read_dir(folder.path()).unwrap().count();
        for (bytes, mode, lasting) in
            [("one", 0o600, Lasting::Nothing), ("two", 0o644, Lasting::Whole), ("three", 0o600, Lasting::New)]
        {
            replace(&path, bytes.as_bytes(), mode, lasting).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), bytes);
            assert_eq!((std::fs::metadata(&path).unwrap().mode() & 0o7777, names()), (mode, 1));
        }
        let failed = replace_with(&path, 0o600, Lasting::New, |file| {
            file.write_all(b"half")?;
            Err(Error::other("the disk is full"))
        });
        assert!(failed.is_err());
        assert_eq!((std::fs::read_to_string(&path).unwrap(), names()), ("three".into(), 1));
        // What a link leads to is not written to.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        replace(&link, b"own", 0o600, Lasting::Whole).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three");
        assert!(std::fs::symlink_metadata(&link).unwrap().is_file());
    }
}
