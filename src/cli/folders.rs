//! Where this program keeps what it knows of runs, and its logs.

use crate::settings::Settings;
use std::path::PathBuf;

/// Returns the folder of states.
pub fn state_dir(settings: &Settings) -> PathBuf {
    let set = settings.state_dir.clone().or_else(|| std::env::var_os("BAKFS_STATE_DIR").map(PathBuf::from));
    set.unwrap_or_else(|| super::open::folder("XDG_STATE_HOME", ".local/state", "/var/lib/bakfs/state"))
}
