//! What this machine knows of the runs of a configuration, and of the repositories they went to.

use super::configured::place_of;
use super::open::Global;
use crate::access::folders::config_folder;
use crate::access::folders::state_dir;
use crate::settings::{Profile, Settings};
use crate::state::StateDir;
use crate::state::overdue::States;
use jiff::Zoned;

/// Returns the states of a configuration's runs.
pub fn states_of(settings: &Settings) -> StateDir {
    let usual = config_folder().join("bakfs.toml");
    StateDir::new(state_dir(settings)).of_configuration(settings.path.as_deref(), &usual)
}

/// Reads how all profiles and their repositories stand.
pub fn read(global: &Global, settings: &Settings, state: &StateDir, now: &Zoned) -> States {
    States::read(state, settings, now, |profile| repository_of(global, settings, profile))
}

/// Returns where a profile's repository is, without secrets, and its id as far as this machine knows it: no network is
/// asked.
pub fn repository_of(global: &Global, settings: &Settings, profile: &Profile) -> (String, Option<String>) {
    let id = global.access.for_repository(settings.repository_of(profile)).known_id();
    (place_of(global, settings, profile), id.map(|id| id.to_string()))
}
