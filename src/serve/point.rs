//! Where a history is mounted.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::machine::updatedb::FS_TYPE;
use crate::spelling::readable_path;
use crate::view::NOTE_NAME;
use bakfs_mount::{MountError, Mounted, ServerProcess, find_mount, is_told, mounts_of_type};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A file system in user space (statfs(2)).
const FUSE_MAGIC: rustix::fs::FsWord = 0x6573_5546;
/// So long a mount has to begin anew before it is named as one that hides something.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// So long it has to answer.
const MAX_ANSWER: Duration = Duration::from_secs(1);

/// So long somebody may look at a mount that is to end: programs that list what is mounted look at each.
const MAX_LOOK: Duration = Duration::from_secs(1);
/// How often it is tried again meanwhile.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// So long the end of a mount's process is waited for by [`unmount`].
pub const MAX_END: Duration = Duration::from_secs(10);

/// Returns a mount point's path without asking what is mounted there, which may not answer.
pub fn real_path(mountpoint: &Path) -> Result<PathBuf> {
    let absolute =
        std::path::absolute(mountpoint).context(|| format!("Cannot use the path {}", mountpoint.display()))?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else { return Ok(absolute) };
    match std::fs::canonicalize(&absolute) {
        Ok(real) => Ok(real),
        Err(_) => Ok(std::fs::canonicalize(parent).map_or(absolute.clone(), |parent| parent.join(name))),
    }
}

fn is_ours(mounted: &Mounted) -> bool {
    mounted.fs_type == FS_TYPE
}

/// Refuses mount points nothing good comes of, and clears what a killed bakfs left on one. An automount that waits to
/// be mounted over, and an empty file system, as a container's volume, are as good as an empty directory.
pub fn check(mountpoint: &Path, folder: Option<&Path>) -> Result<()> {
    let at = readable_path(mountpoint);
    let real = real_path(mountpoint)?;
    while find_mount(&real).is_some_and(|mounted| is_ours(&mounted)) {
        // Not stat(2): the kernel answers that for a dead mount too, from what it remembers.
        let is_dead = rustix::fs::statfs(&real).is_err_and(|error| error == rustix::io::Errno::NOTCONN);
        if !is_dead {
            return Err(Error::usage(format!(
                "A history is mounted at {at} already: `bakfs umount` it, or name another directory"
            )));
        }
        bakfs_mount::unmount(&real, true).map_err(|error| {
            Error::new(ErrorKind::Io, format!("Cannot clear the dead mount at {at}")).because(error)
        })?;
    }
    match std::fs::symlink_metadata(&real) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::usage(format!("The mount point {at} does not exist: make it with `mkdir -p {at}`")));
        }
        Err(error) => return Err(Error::io(format!("Cannot use the mount point {at}"), error)),
        Ok(metadata) if !metadata.is_dir() => {
            return Err(Error::usage(format!("The mount point {at} is not a directory: name an empty one")));
        }
        Ok(_) => {}
    }
    if let Some(folder) = folder {
        check_apart(&at, &real, folder)?;
    }
    let entries = std::fs::read_dir(&real).context(|| format!("Cannot read the mount point {at}"))?;
    // A volume that was just made holds nothing else.
    let is_content = |name: std::ffi::OsString| name != "lost+found";
    if entries.into_iter().any(|entry| entry.map_or(true, |entry| is_content(entry.file_name()))) {
        return Err(Error::usage(format!(
            "The mount point {at} is not empty, and mounting would hide what is in it: name an empty directory"
        )));
    }
    Ok(())
}

/// Refuses a mount point inside the repository's folder, or around it.
fn check_apart(at: &str, real: &Path, repo: &Path) -> Result<()> {
    let repo = std::fs::canonicalize(repo).unwrap_or(repo.to_path_buf());
    if real.starts_with(&repo) {
        return Err(Error::usage(format!(
            "The mount point {at} lies inside the repository {}: name a directory elsewhere",
            repo.display()
        )));
    }
    if repo.starts_with(real) {
        return Err(Error::usage(format!(
            "The mount point {at} would hide the repository {}: name a directory elsewhere",
            repo.display()
        )));
    }
    Ok(())
}

/// Returns where this machine's mounts show a snapshot without its extended attributes and ACLs, as they began before
/// there were any and are in use. A mount that does not answer is asked in vain, and holds up nobody.
pub fn hiding(snapshot: &str) -> Vec<PathBuf> {
    let (sender, hiding) = std::sync::mpsc::channel();
    let until = Instant::now() + MAX_WAIT;
    for mounted in mounts_of_type(FS_TYPE) {
        let (sender, snapshot) = (sender.clone(), snapshot.to_string());
        let asked = std::thread::Builder::new().name("mounts".into()).spawn(move || {
            let has = |name: &str| std::fs::symlink_metadata(mounted.path.join(name)).is_ok();
            while has(NOTE_NAME) && has(&snapshot) {
                // It begins anew by itself where nobody uses it.
                if Instant::now() >= until {
                    let _ = sender.send(mounted.path);
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        if let Err(error) = asked {
            tracing::debug!("A mount was not asked what it hides: {error}");
        }
    }
    drop(sender);
    let mut found = Vec::new();
    while let Ok(path) = hiding.recv_timeout((until + MAX_ANSWER).saturating_duration_since(Instant::now())) {
        found.push(path);
    }
    found.sort();
    found
}

/// Unmounts a history, whichever process serves it, and waits some seconds for its end: whoever unmounts a disk next, or
/// removes a folder, finds nobody there. Returns the process where it has not ended.
///
/// `lazily` takes a mount that is in use out of the tree of files, and waits for nobody. Fails where something else is
/// mounted there, or nothing.
pub fn unmount(mountpoint: &Path, lazily: bool) -> Result<Option<ServerProcess>> {
    let at = readable_path(mountpoint);
    let real = real_path(mountpoint)?;
    let mounted = match find_mount(&real) {
        Some(mounted) if is_ours(&mounted) => mounted,
        Some(mounted) => {
            return Err(Error::usage(format!(
                "{at} is no mount of bakfs but of {}: `umount` is for it",
                mounted.fs_type
            )));
        }
        // What else is there, on a disk that has not even /proc, is for umount(8).
        None if !is_told() && rustix::fs::statfs(&real).is_ok_and(|found| found.f_type == FUSE_MAGIC) => {
            let unmounted = bakfs_mount::unmount(&real, lazily);
            return unmounted
                .map(|()| None)
                .map_err(|error| Error::new(ErrorKind::Io, format!("Cannot unmount {at}")).because(error));
        }
        None => {
            let message = format!("Nothing is mounted at {at}: `findmnt -t {FS_TYPE}` lists where histories are");
            return Err(Error::usage(message));
        }
    };
    let server = mounted.server();
    let refused = |error| Error::new(ErrorKind::Io, format!("Cannot unmount {at}")).because(error);
    let until = Instant::now() + MAX_LOOK;
    let unmounted = loop {
        match bakfs_mount::unmount(&real, false) {
            Err(MountError::Busy(_)) if !lazily && Instant::now() < until => std::thread::sleep(LOOK_PAUSE),
            unmounted => break unmounted,
        }
    };
    match unmounted {
        Err(MountError::Busy(_)) if lazily => {
            bakfs_mount::unmount(&real, true).map_err(refused)?;
            return Ok(None);
        }
        unmounted => unmounted.map_err(refused)?,
    }
    Ok(server.filter(|server| !server.wait_for_end(MAX_END)))
}
