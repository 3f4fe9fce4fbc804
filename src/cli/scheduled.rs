//! What of this process's options and environment a scheduled run needs, to find the configuration, repository, key and
//! states that are meant here; and what it cannot be handed.

use super::open::Global;
use crate::access::folders::config_folder;
use crate::error::{Context, Result};
use crate::schedule::{Invocation, profiles_of, wanted};
use crate::settings::{Repository, Settings};
use crate::trust::environment;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a user's folders are where no variable moves them (XDG Base Directory Specification 0.8).
const USUAL: [(&str, &str); 4] = [
    ("XDG_CONFIG_HOME", ".config"),
    ("XDG_DATA_HOME", ".local/share"),
    ("XDG_CACHE_HOME", ".cache"),
    ("XDG_STATE_HOME", ".local/state"),
];
/// How variables begin that say where and as whom a store is reached, secret or not.
const OF_STORES: [&str; 9] = ["AWS_", "AZURE_", "B2_", "CLOUDSDK_", "GOOGLE_", "OS_", "ST_", "SWIFT_", "WEBDAV_"];
/// Variables that say by what way, in small letters.
const OF_WAYS: [&str; 6] = ["all_proxy", "http_proxy", "https_proxy", "no_proxy", "ssl_cert_dir", "ssl_cert_file"];
/// What is in the names of variables that hold secrets, unless they name a file.
const OF_SECRETS: [&str; 4] = ["KEY", "PASSWORD", "SECRET", "TOKEN"];

/// Returns how runs are begun by a schedule: as a run that is begun here.
pub fn invocation(global: &Global, settings: &Settings) -> Result<Invocation> {
    let mut invocation = Invocation::of_process(settings)?;
    for (name, value) in variables(global, settings)? {
        invocation = invocation.with_variable(&name, &value)?;
    }
    if global.access.accept_unencrypted {
        invocation = invocation.with_option("--accept-unencrypted");
    }
    Ok(invocation)
}

/// Returns what decides, as variables. What the configuration says anyway, whatever is set, is left to it.
fn variables(global: &Global, settings: &Settings) -> Result<Vec<(String, PathBuf)>> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let unless = |is_said: bool, name: &'static str| set(name).filter(|_| !is_said).map(|path| (name, path));
    let mut found: Vec<(&'static str, PathBuf)> = Vec::new();
    if !rustix::process::geteuid().is_root() {
        let home = set("HOME");
        let is_usual = |path: &Path, folder: &str| home.as_ref().is_some_and(|home| home.join(folder) == path);
        let moved =
            USUAL.iter().filter_map(|(name, folder)| Some((*name, set(name).filter(|it| !is_usual(it, folder))?)));
        found.extend(moved);
    }
    found.extend(unless(false, "BAKFS_CONFIG_DIR"));
    found.extend(unless(settings.state_dir.is_some(), "BAKFS_STATE_DIR"));
    found.extend(unless(settings.log_dir.is_some(), "BAKFS_LOG_DIR"));
    let absolute = |path: PathBuf| std::path::absolute(&path).context(|| format!("Cannot use {}", path.display()));
    if let Some(file) = std::env::var_os("BAKFS_CREDENTIALS_FILE") {
        found.push(("BAKFS_CREDENTIALS_FILE", absolute(file.into())?));
    }
    if settings.default_repository.repo.is_empty() {
        if let Some(repo) = &global.access.repo {
            let place = global.access.place()?;
            found.push(("BAKFS_REPO", place.folder().map_or_else(|| repo.into(), Path::to_path_buf)));
        }
        if let Some(file) = global.access.password_file.clone().filter(|file| file.is_file()) {
            found.push(("BAKFS_PASSWORD_FILE", absolute(file)?));
        }
    }
    if let Some(folder) = &global.access.cache_dir {
        found.push(("BAKFS_CACHE_DIR", absolute(folder.clone())?));
    }
    let numbers = [
        ("BAKFS_CACHE_SIZE", global.access.cache_size),
        ("BAKFS_CONNECTIONS", global.access.connections.map(u64::from)),
        ("BAKFS_LIMIT_UPLOAD", global.access.limit_upload),
        ("BAKFS_LIMIT_DOWNLOAD", global.access.limit_download),
    ];
    found.extend(numbers.into_iter().filter_map(|(name, number)| Some((name, number?.to_string().into()))));
    let mut found: Vec<(String, PathBuf)> = found.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
    let (_, open) = of_stores(global, settings);
    found.extend(open.into_iter().map(|(name, value)| (name, value.into())));
    Ok(found)
}

/// Returns whether a variable, or what it is set to, is a secret: a key, a token, an address with a password.
fn is_secret(name: &str, value: &str) -> bool {
    let has = OF_SECRETS.iter().any(|part| name.contains(part)) && !name.ends_with("_FILE");
    environment::is_secret(name) || has || value.contains("://") && value.contains('@')
}

/// Returns the names of the secret variables by which stores are reached, and the others with what they are set to; none
/// where no scheduled run needs a network.
fn of_stores(global: &Global, settings: &Settings) -> (BTreeSet<String>, BTreeMap<String, String>) {
    let is_far = |it: &Repository| match it.repo.is_empty() {
        true => global.access.place().is_ok_and(|place| place.folder().is_none()),
        false => it.repo.contains("://"),
    };
    let (mut secret, mut open) = (BTreeSet::new(), BTreeMap::new());
    if !repositories(settings).into_iter().any(is_far) {
        return (secret, open);
    }
    let is_meant = |name: &str| {
        OF_STORES.iter().any(|prefix| name.starts_with(prefix)) || OF_WAYS.contains(&&*name.to_lowercase())
    };
    for (name, value) in environment::vars() {
        let (Ok(name), Ok(value)) = (name.into_string(), std::str::from_utf8(&value)) else { continue };
        match is_meant(&name) && !value.is_empty() {
            true if is_secret(&name, value) => drop(secret.insert(name)),
            true => drop(open.insert(name, value.to_owned())),
            false => {}
        }
    }
    (secret, open)
}

/// Returns the repositories of the profiles that a schedule runs.
fn repositories(settings: &Settings) -> Vec<&Repository> {
    let kinds = wanted(settings);
    let profiles = kinds.iter().flat_map(|kind| profiles_of(settings, *kind));
    profiles.map(|profile| settings.repository_of(profile)).collect()
}

/// Returns what is set here and no scheduled run will have, with the next step: secrets stand in no unit and no crontab,
/// which everybody may read.
pub fn left_behind(global: &Global, settings: &Settings) -> Vec<String> {
    let repositories = repositories(settings);
    let config = settings.path.clone().unwrap_or_else(|| global.access.config_path());
    let mut told = Vec::new();
    let has_own = |it: &&Repository| it.password_file.is_some() || it.password_command.is_some();
    if !repositories.iter().all(has_own) {
        let secret = "write it into a file that is yours alone (`chmod 600`), and name that by `password-file` in";
        if environment::is_set(environment::PASSWORD) {
            told.push(format!("No scheduled run has the passphrase in BAKFS_PASSWORD: {secret} {}", config.display()));
        }
        if let Some(file) = global.access.password_file.as_deref().filter(|file| !file.is_file()) {
            let file = file.display();
            told.push(format!(
                "No scheduled run has the passphrase that {file} hands over: {secret} {}",
                config.display()
            ));
        }
        if global.access.password_command.is_some() {
            told.push(format!(
                "No scheduled run has `--password-command`: write `password-command` into {}",
                config.display()
            ));
        }
    }
    let (secrets, _) = of_stores(global, settings);
    if !secrets.is_empty() {
        let names = secrets.into_iter().collect::<Vec<_>>().join(", ");
        let file = config_folder().join("credentials.toml");
        told.push(format!(
            "No scheduled run has what is set here as {names}: write it into the place's table of {} (`chmod 600`)",
            file.display()
        ));
    }
    told
}
