//! Folders and files that this program makes for itself: with modes of their own whatever the umask, and not where a
//! link leads.

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::fs::{DirBuilder, File};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// What is its owner's alone.
pub const PRIVATE: u32 = 0o700;
/// What others must be able to read, such as the folder of a metrics file.
pub const PUBLIC: u32 = 0o755;
/// A file that everybody may read, such as a page of the manual.
pub const PUBLIC_FILE: u32 = 0o644;
/// A file that is its owner's alone.
pub const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Makes a folder and those above it that are missing, each with this mode whatever the umask. What is there stays as it
/// is; folders inherit what they do from the folder above (the set-group-ID bit).
pub fn make(path: &Path, mode: u32) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => return Err(Errno::NOTDIR.into()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make(parent, mode)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        // Another process was first.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        made => made?,
    }
    let folder = File::from(rustix::fs::open(path, FOLDER | OFlags::NOFOLLOW, Mode::empty())?);
    let made = folder.metadata()?.mode() & 0o7777;
    if made & 0o777 != mode {
        folder.set_permissions(std::fs::Permissions::from_mode(made & 0o7000 | mode))?;
    }
    Ok(())
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

// Makes a folder that is this user's alone whatever the umask, and goes when it is dropped; `None` for the folder of
/// temporary files.
pub fn scratch(prefix: &str, base: Option<&Path>) -> Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).permissions(std::fs::Permissions::from_mode(PRIVATE));
    match base {
        Some(base) => builder.tempdir_in(base),
        None => builder.tempdir(),
    }
}

/// Makes a folder as [`make`] does, to write in it. Root does not write where a link in the place of the folder leads.
pub fn make_own(path: &Path, mode: u32) -> Result<()> {
    make(path, mode)?;
    let is_link = std::fs::symlink_metadata(path)?.is_symlink();
    if is_link && rustix::process::geteuid().is_root() {
        let text = format!("{} is a link, and root writes through none: name the folder it leads to", path.display());
        return Err(Error::new(ErrorKind::InvalidInput, text));
    }
    Ok(())
}

/// Opens a file of a folder as `flags` say, and makes it for its owner alone where they ask for that. A link in its place
/// is not followed, and what is no regular file is refused.
pub fn open_own(folder: &Path, name: impl AsRef<Path>, flags: OFlags) -> Result<File> {
    let nofollow = if rustix::process::geteuid().is_root() { OFlags::NOFOLLOW } else { OFlags::empty() };
    let name = name.as_ref();
    let folder_fd = rustix::fs::openat(CWD, folder, FOLDER | nofollow, Mode::empty())?;
    // Nobody is waited for who may read a FIFO of this name (fifo(7)).
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let refused = |why: &str| {
        let text = format!("{} is {why}, and is not written to: move it away", folder.join(name).display());
        Error::new(ErrorKind::InvalidInput, text)
    };
    let file = match rustix::fs::openat(&folder_fd, name, flags, PRIVATE_FILE) {
        Err(Errno::LOOP) => return Err(refused("a link")),
        opened => File::from(opened?),
    };
    if !file.metadata()?.is_file() {
        return Err(refused("no regular file"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const APPEND: OFlags = OFlags::WRONLY.union(OFlags::APPEND).union(OFlags::CREATE);

    #[test]
    fn links_and_what_is_no_file_are_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("victim"), "precious").unwrap();
        std::os::unix::fs::symlink(at("victim"), at("link.log")).unwrap();
        std::os::unix::fs::symlink(at("nothing"), at("dangling.log")).unwrap();
        rustix::fs::mknodat(CWD, at("fifo.log"), rustix::fs::FileType::Fifo, PRIVATE_FILE, 0).unwrap();
        for name in ["link.log", "dangling.log", "fifo.log"] {
            assert!(open_own(folder.path(), name, APPEND).is_err(), "{name}");
        }
        assert_eq!(std::fs::read_to_string(at("victim")).unwrap(), "precious");
        assert!(!at("nothing").exists());
        let file = open_own(folder.path(), "plain.log", APPEND).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600);
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::symlink(folder.path(), at("self")).unwrap();
            assert!(make_own(&at("self"), PRIVATE).unwrap_err().to_string().contains("is a link"));
            assert!(open_own(&at("self"), "plain.log", APPEND).is_err());
        }
    }
}
