//! Where this machine keeps what it knows of earlier runs, its logs, and whatever else is a user's own.

use crate::settings::Settings;
use std::path::PathBuf;

/// Returns `$variable/bakfs`, `~/fallback/bakfs`, or root's folder.
pub fn folder(variable: &str, fallback: &str, of_root: &str) -> PathBuf {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if rustix::process::geteuid().is_root() {
        return PathBuf::from(of_root);
    }
    let base =
        set(variable).or_else(|| Some(set("HOME")?.join(fallback))).unwrap_or_else(|| PathBuf::from("/nonexistent"));
    base.join("bakfs")
}

/// Returns the folder a variable names.
pub fn of_environment(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Returns the folder of states: the configuration's, else BAKFS_STATE_DIR, else the user's.
pub fn state_dir(settings: &Settings) -> PathBuf {
    let set = settings.state_dir.clone().or_else(|| of_environment("BAKFS_STATE_DIR"));
    set.unwrap_or_else(|| folder("XDG_STATE_HOME", ".local/state", "/var/lib/bakfs/state"))
}

/// Returns the folder of logs: the configuration's, else BAKFS_LOG_DIR, else the user's.
pub fn log_dir(settings: &Settings) -> PathBuf {
    let set = settings.log_dir.clone().or_else(|| of_environment("BAKFS_LOG_DIR"));
    set.unwrap_or_else(|| match rustix::process::geteuid().is_root() {
        true => PathBuf::from("/var/log/bakfs"),
        false => folder("XDG_STATE_HOME", ".local/state", "/var/lib/bakfs/state").join("log"),
    })
}

/// Returns this user's folder of configuration and keys.
pub fn config_folder() -> PathBuf {
    let base = std::env::var_os("BAKFS_CONFIG_DIR").map(PathBuf::from);
    base.unwrap_or_else(|| folder("XDG_CONFIG_HOME", ".config", "/etc/bakfs"))
}
