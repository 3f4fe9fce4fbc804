//! The configuration of this call, and the repositories it names.
//! MERGE: replaced by `Global::settings_of` and its like in `open.rs`.

use super::open::{Global, folder};
use crate::error::{Context, Error, Result};
use crate::machine::Machine;
use crate::settings::{Profile, Repository, Settings};
use std::ffi::OsString;
use std::path::PathBuf;

/// Returns the configuration's folder.
pub fn config_folder() -> PathBuf {
    let base = std::env::var_os("BAKFS_CONFIG_DIR").map(PathBuf::from);
    base.unwrap_or_else(|| folder("XDG_CONFIG_HOME", ".config", "/etc/bakfs"))
}

/// Returns the machine that is looked at: what lies below BAKFS_SYSTEM_ROOT, for tests and for a machine whose disk is
/// mounted somewhere.
pub fn machine() -> Machine {
    Machine::at(std::env::var_os("BAKFS_SYSTEM_ROOT").map_or_else(|| PathBuf::from("/"), PathBuf::from))
}

/// Returns where the configuration is: the named file, else `bakfs.toml` of the configuration folder.
pub fn settings_path(global: &Global) -> Result<PathBuf> {
    let path = global.config.clone().unwrap_or_else(|| config_folder().join("bakfs.toml"));
    std::path::absolute(&path).context(|| format!("Cannot use the path {}", path.display()))
}

/// Reads the configuration; one that cannot be read is wrong usage, whatever the reason.
pub fn settings_of(global: &Global) -> Result<Settings> {
    let path = settings_path(global)?;
    if !path.exists() {
        let message = format!("There is no configuration {}: `bakfs config init` writes one", path.display());
        return Err(Error::usage(message));
    }
    Settings::read(&path).map_err(|error| Error::usage(error.chain()))
}

/// Returns the profiles of these names; all without any.
pub fn chosen<'a>(settings: &'a Settings, names: &[String]) -> Result<Vec<&'a Profile>> {
    if names.is_empty() {
        return Ok(settings.profiles.values().collect());
    }
    names.iter().map(|name| settings.profile(name)).collect()
}

/// Returns the options that lead to a repository of the configuration; the default one may be named by the command
/// line where the configuration does not.
pub fn global_of(global: &Global, settings: &Settings, repository: &Repository) -> Global {
    let named = Some(&repository.repo).filter(|repo| !repo.is_empty()).map(OsString::from);
    let has_secret = repository.password_file.is_some() || repository.password_command.is_some();
    Global {
        repo: named.or_else(|| global.repo.clone()),
        config: None,
        password_file: repository
            .password_file
            .clone()
            .or_else(|| global.password_file.clone().filter(|_| !has_secret)),
        password_command: repository.password_command.clone(),
        cache_dir: global.cache_dir.clone().or_else(|| settings.cache_dir.clone()),
        cache_size: global.cache_size,
        connections: global.connections,
        limit_upload: global.limit_upload,
        limit_download: global.limit_download,
        json: global.json,
        quiet: global.quiet,
        verbose: global.verbose,
    }
}

/// Returns where a profile's repository is, without secrets; what was written where that makes no sense.
pub fn place_of(global: &Global, settings: &Settings, profile: &Profile) -> String {
    match global_of(global, settings, settings.repository_of(profile)).place() {
        Ok(place) => place.to_string(),
        // `config check` tells why; a URL may hold a secret, so it is not repeated.
        Err(_) => format!("(the repository of {})", profile.name),
    }
}
