//! The profiles a command is about, and their repositories.

use super::open::Global;
use crate::error::Result;
use crate::machine::Machine;
use crate::settings::{Profile, Settings};
use std::path::PathBuf;

/// Returns the machine that is looked at: what lies below BAKFS_SYSTEM_ROOT, for tests and for a machine whose disk is
/// mounted somewhere.
pub fn machine() -> Machine {
    Machine::at(std::env::var_os("BAKFS_SYSTEM_ROOT").map_or_else(|| PathBuf::from("/"), PathBuf::from))
}

/// Returns the profiles of these names; all without any.
pub fn chosen<'a>(settings: &'a Settings, names: &[String]) -> Result<Vec<&'a Profile>> {
    if names.is_empty() {
        return Ok(settings.profiles.values().collect());
    }
    names.iter().map(|name| settings.profile(name)).collect()
}

/// Returns where a profile's repository is, without secrets; what was written where that makes no sense.
pub fn place_of(global: &Global, settings: &Settings, profile: &Profile) -> String {
    match global.access.for_repository(settings.repository_of(profile)).place() {
        Ok(place) => place.to_string(),
        // `config check` tells why; a URL may hold a secret, so it is not repeated.
        Err(_) => format!("(the repository of {})", profile.name),
    }
}
