//! The folder of ssh's control sockets.
//!
//! OpenDAL lets ssh share one connection by a socket (ssh_config(5), ControlPath) in `$XDG_STATE_HOME`, or in
//! `~/.local/state`: a path may be too long for a socket there, or nobody may write there. Then it is another folder.

use super::environment::Environment;
use crate::error::{Context, Error, Result};
use openssh::SessionBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The longest path of a socket (unix(7), sun_path with its final zero).
const MAX_SOCKET_BYTES: usize = 107;
/// What follows the folder: `/.ssh-connectionXXXXXX/master`, and what ssh adds while it makes the socket (mux.c).
const SUFFIX_BYTES: usize = "/.ssh-connection......./master".len() + ".................".len();
const VARIABLE: &str = "XDG_STATE_HOME";

/// Sees to it that sockets are made in a folder that is fit for them, as long as this process lives. To be called
/// before the first connection.
pub(super) fn choose_folder(environment: &Environment) -> Result<()> {
    static CHOSEN: OnceLock<()> = OnceLock::new();
    if CHOSEN.get().is_some() {
        return Ok(());
    }
    let usual = environment.get(VARIABLE).map(PathBuf::from).filter(|path| path.is_absolute());
    let usual = usual.or_else(|| Some(environment.at_home("")?.join(".local/state")));
    if !usual.is_some_and(|path| is_short(&path) && is_writable(&path)) {
        settle(&other_folder(environment)?)?;
    }
    let _ = CHOSEN.set(());
    Ok(())
}

fn is_short(folder: &Path) -> bool {
    folder.as_os_str().len() + SUFFIX_BYTES <= MAX_SOCKET_BYTES
}

/// Returns whether a folder is there, or can be made, and something can be made in it.
fn is_writable(folder: &Path) -> bool {
    crate::trust::folder::make(folder, crate::trust::folder::PRIVATE).is_ok() && tempfile::tempdir_in(folder).is_ok()
}

/// Finds a short folder nobody else can write to.
fn other_folder(environment: &Environment) -> Result<PathBuf> {
    let runtime = environment.get("XDG_RUNTIME_DIR").map(PathBuf::from);
    if let Some(folder) = runtime.filter(|folder| is_short(folder) && is_own(folder) && is_writable(folder)) {
        return Ok(folder);
    }
    let me = rustix::process::geteuid().as_raw();
    let bases = environment.get("TMPDIR").map(PathBuf::from).into_iter().chain([PathBuf::from("/tmp")]);
    for base in bases.filter(|base| base.is_absolute()) {
        let folder = base.join(format!("bakfs-ssh-{me}"));
        if !is_short(&folder) {
            continue;
        }
        // One that another user has made in our name, or a link, is not taken.
        let _ = std::fs::DirBuilder::new().mode(0o700).create(&folder);
        if is_own(&folder) && is_writable(&folder) {
            return Ok(folder);
        }
        let made = tempfile::Builder::new().prefix("bakfs-ssh-").tempdir_in(&base);
        if let Ok(made) = made {
            return Ok(made.keep());
        }
    }
    Err(Error::usage(
        "There is no folder for ssh's control sockets: set XDG_RUNTIME_DIR to a folder of your own (mode 0700) with a path of \
         at most 50 bytes",
    ))
}

/// Has ssh's library settle on a folder: it reads the variable once in a process, when it makes its first socket, and
/// has no other way to be told through OpenDAL. The variable is as it was afterwards.
fn settle(folder: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context(|| "Cannot start the thread for connections".into())?;
    let before = std::env::var_os(VARIABLE);
    // SAFETY: other threads of this program read the environment by Rust's functions, which take turns with this one.
    unsafe { std::env::set_var(VARIABLE, folder) };
    let mut ssh = SessionBuilder::default();
    // ssh ends at once where its configuration cannot be read: nobody is connected to.
    ssh.config_file("/dev/null/none");
    drop(runtime.block_on(ssh.launch_master("none")));
    match before {
        // SAFETY: as above.
        Some(before) => unsafe { std::env::set_var(VARIABLE, before) },
        // SAFETY: as above.
        None => unsafe { std::env::remove_var(VARIABLE) },
    }
    Ok(())
}

/// Returns whether a path is a folder that is this user's alone.
fn is_own(folder: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    std::fs::symlink_metadata(folder)
        .is_ok_and(|found| found.is_dir() && found.uid() == me && found.mode() & 0o077 == 0)
}
