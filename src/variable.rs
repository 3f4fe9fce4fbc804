//! Environment variables of this program: one that is set and cannot be used is an error, never absence.

use crate::error::{Error, Result};
use crate::spelling::nearest;
use std::ffi::OsString;
use std::path::PathBuf;

/// What begins all of them.
const PREFIX: &str = "BAKFS_";
/// Those that are read.
const READ: [&str; 15] = [
    "BAKFS_REPO",
    "BAKFS_CONFIG",
    "BAKFS_PASSWORD",
    "BAKFS_PASSWORD_FILE",
    "BAKFS_CACHE_DIR",
    "BAKFS_CACHE_SIZE",
    "BAKFS_CONNECTIONS",
    "BAKFS_LIMIT_UPLOAD",
    "BAKFS_LIMIT_DOWNLOAD",
    "BAKFS_CONFIG_DIR",
    "BAKFS_STATE_DIR",
    "BAKFS_LOG_DIR",
    "BAKFS_CREDENTIALS_FILE",
    "BAKFS_SYSTEM_ROOT",
    "BAKFS_PROFILE",
];

/// Returns a variable's value; an empty one is an error.
fn value(name: &str) -> Result<Option<OsString>> {
    let value = std::env::var_os(name);
    match value.as_ref().is_some_and(|value| value.is_empty()) {
        true => Err(Error::usage(format!("The environment variable {name} is empty: give it a value, or unset it"))),
        false => Ok(value),
    }
}

/// Returns the absolute path a variable holds.
pub fn path(name: &str) -> Result<Option<PathBuf>> {
    let Some(path) = value(name)?.map(PathBuf::from) else { return Ok(None) };
    if !path.is_absolute() {
        let message = format!("The environment variable {name}={} must hold an absolute path", path.display());
        return Err(Error::usage(message));
    }
    Ok(Some(path))
}

/// Refuses those that cannot be used, whoever reads them later.
pub fn check() -> Result<()> {
    for name in ["BAKFS_CACHE_DIR", "BAKFS_CONFIG_DIR", "BAKFS_STATE_DIR", "BAKFS_LOG_DIR", "BAKFS_SYSTEM_ROOT"] {
        path(name)?;
    }
    for name in ["BAKFS_REPO", "BAKFS_CREDENTIALS_FILE"] {
        value(name)?;
    }
    Ok(())
}

/// Returns the variables that nobody reads and that are nearly called as one that is read, with that one.
pub fn misspelt() -> Vec<(String, &'static str)> {
    let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    set.filter_map(|name| meant(&name).map(|meant| (name, meant))).collect()
}

fn meant(name: &str) -> Option<&'static str> {
    let word = name.strip_prefix(PREFIX)?.to_lowercase();
    if READ.contains(&name) {
        return None;
    }
    let plain = |read: &'static str| read[PREFIX.len()..].to_lowercase().replace('_', "-");
    let words: Vec<(String, &'static str)> = READ.iter().map(|read| (plain(read), *read)).collect();
    let near = nearest(&word, words.iter().map(|(word, _)| word.as_str()));
    let longer = || words.iter().map(|(word, _)| word.as_str()).find(|read| read.len() > 3 && word.starts_with(read));
    let near = near.or_else(longer)?;
    words.iter().find(|(word, _)| word == near).map(|(_, read)| *read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_nearly_one_of_ours_is_found() {
        for (name, is) in [
            ("BAKFS_PASWORD", Some("BAKFS_PASSWORD")),
            ("BAKFS_REPOSITORY", Some("BAKFS_REPO")),
            ("BAKFS_PASSWORDFILE", Some("BAKFS_PASSWORD_FILE")),
            ("BAKFS_CACHEDIR", Some("BAKFS_CACHE_DIR")),
            ("BAKFS_REPO", None),
            ("BAKFS_SNAPSHOT", None),
            ("BAKFS_SNAPSHOT_ID", None),
            ("BAKFS_HOOK", None),
            ("BAKFS_OUTCOME", None),
            ("BAKFS_FILES", None),
            ("BAKFS_ERROR", None),
            ("BAKFS_TEST_PROGRAM", None),
            ("REPO", None),
        ] {
            assert_eq!(meant(name), is, "{name}");
        }
    }
}
