//! Where this machine keeps what it knows of earlier runs, and its logs.

use super::open::folder;
use crate::settings::Settings;
use std::path::PathBuf;

fn of_environment(variable: &str) -> Option<PathBuf> {
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
