//! The configuration: `bakfs.toml` and `profiles.d/*.toml`, with what profiles inherit filled in.
//!
//! [`mod@file`] is what may be written, [`Settings`] what it means.

pub mod excludes;
pub mod exec;
pub mod file;
pub mod periodicity;
pub mod profile;
pub mod read;
pub mod schedule;
pub mod values;

use crate::error::{Error, Result};
use crate::spelling::nearest;
pub use file::Repository;
pub use periodicity::Periodicity;
pub use profile::Profile;
pub use schedule::Schedule;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A configuration.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Where it was read; `None` where there is none.
    pub path: Option<PathBuf>,
    /// The repository of profiles that name none; its place is empty where the file says none.
    pub default_repository: Repository,
    /// The others by name.
    pub repositories: BTreeMap<String, Repository>,
    /// Where to keep what saves time.
    pub cache_dir: Option<PathBuf>,
    /// Where to keep what is known of earlier runs.
    pub state_dir: Option<PathBuf>,
    /// Where logs are written.
    pub log_dir: Option<PathBuf>,
    /// Where metrics are written.
    pub metrics_file: Option<PathBuf>,
    /// Profiles by name.
    pub profiles: BTreeMap<String, Profile>,
    /// Who is told of profiles that are wrong.
    pub notify: file::Notify,
    /// Profiles that are wrong, by name, and why: the others can be run all the same.
    pub broken: BTreeMap<String, String>,
    /// When scheduled runs begin.
    pub schedule: Schedule,
}

impl Settings {
    /// Reads a configuration and the profiles beside it; one that is wrong is an error.
    pub fn read(path: &Path) -> Result<Self> {
        Settings::read_sound(path)?.require_sound()
    }

    /// Fails if any profile is wrong.
    pub fn require_sound(self) -> Result<Self> {
        match self.broken.values().next() {
            Some(why) => Err(Error::usage(why)),
            None => Ok(self),
        }
    }

    /// Reads a configuration and the profiles beside it, as far as they are right.
    pub fn read_sound(path: &Path) -> Result<Self> {
        Settings::of_files(&read::Files::default(), path)
    }

    /// Reads a configuration as [`Settings::read_sound`] does, of files that may have been read before.
    pub fn of_files(files: &read::Files, path: &Path) -> Result<Self> {
        let (file, written) = read::read_all(files, path)?;
        let located = |error: Error| Error::usage(format!("{}: {}", path.display(), error.chain()));
        let schedule = Schedule::of_file(&file.schedule).map_err(located)?;
        let one = Repository {
            repo: file.repo.clone().unwrap_or_default(),
            password_file: file.password_file.clone(),
            password_command: file.password_command.clone(),
        };
        if file.repo.as_ref().is_some_and(String::is_empty) {
            return Err(located(Error::usage("repo: it is empty: name a folder or URL, or leave it out")));
        }
        for (name, repository) in file.repository.iter().map(|(name, it)| (Some(name), it)).chain([(None, &one)]) {
            let prefix = name.map_or(String::new(), |name| format!("repository.{name}."));
            profile::check_repository(&format!("{prefix}repo"), &repository.repo).map_err(located)?;
            if repository.password_file.is_some() && repository.password_command.is_some() {
                let message = format!("{prefix}password-file and {prefix}password-command: give one of them");
                return Err(located(Error::usage(message)));
            }
        }
        for (name, repository) in &file.repository {
            profile::check_name("repository", name).map_err(located)?;
            if repository.repo.is_empty() {
                return Err(located(Error::usage(format!("repository.{name}: `repo` is missing: a folder or URL"))));
            }
        }
        if file.defaults.has_databases() {
            let message = "defaults: databases belong to a profile, as [[profile.NAME.postgresql]]";
            return Err(located(Error::usage(message)));
        }
        let mut paths = vec![
            ("password-file", &file.password_file),
            ("cache-dir", &file.cache_dir),
            ("state-dir", &file.state_dir),
            ("log-dir", &file.log_dir),
            ("metrics-file", &file.metrics_file),
        ];
        paths.extend(file.repository.values().map(|repository| ("password-file", &repository.password_file)));
        paths.into_iter().try_for_each(|(key, path)| values::check_absolute(key, path.as_deref())).map_err(located)?;
        let names: BTreeSet<String> = written.keys().cloned().collect();
        let (mut profiles, mut broken) = (BTreeMap::new(), BTreeMap::new());
        for (name, written) in written {
            match written.and_then(|(profile, found)| resolve(&name, &found, profile, &file, &names)) {
                Ok(profile) => drop(profiles.insert(name, profile)),
                Err(error) => drop(broken.insert(name, error.chain())),
            }
        }
        Ok(Settings {
            path: Some(path.to_path_buf()),
            default_repository: one,
            repositories: file.repository,
            cache_dir: file.cache_dir,
            state_dir: file.state_dir,
            log_dir: file.log_dir,
            metrics_file: file.metrics_file,
            notify: file.defaults.notify,
            profiles,
            broken,
            schedule,
        })
    }

    /// Returns the repository of a profile.
    pub fn repository_of(&self, profile: &Profile) -> &Repository {
        match &profile.repository {
            Some(name) => self.repositories.get(name).unwrap_or(&self.default_repository),
            None => &self.default_repository,
        }
    }

    /// Returns the profile of a name; an unknown one is an error that names the nearest.
    pub fn profile(&self, name: &str) -> Result<&Profile> {
        if let Some(why) = self.broken.get(name) {
            return Err(Error::usage(why));
        }
        self.profiles.get(name).ok_or_else(|| {
            let known = self.profiles.keys().map(String::as_str);
            let hint = match (nearest(name, known), self.profiles.is_empty()) {
                (Some(meant), _) => format!("did you mean `{meant}`?"),
                (None, true) => "there are none yet: `bakfs config init` writes a first one".into(),
                (None, false) if self.profiles.len() == 1 => {
                    format!("the only one is {}", self.profiles.keys().cloned().collect::<String>())
                }
                (None, false) => {
                    format!("there are {}", self.profiles.keys().cloned().collect::<Vec<_>>().join(", "))
                }
            };
            Error::usage(format!("There is no profile `{name}`: {hint}"))
        })
    }
}

/// Fills in what a profile inherits, and refuses one that does not fit the rest of the configuration.
fn resolve(
    name: &str,
    found: &Path,
    written: file::Profile,
    file: &file::File,
    names: &BTreeSet<String>,
) -> Result<Profile> {
    let told = |error: Error| Error::usage(format!("{}: profile `{name}`: {}", found.display(), error.chain()));
    let profile = Profile::resolve(name, found, written, &file.defaults).map_err(told)?;
    if let Some(repository) = &profile.repository
        && !file.repository.contains_key(repository)
    {
        let hint = match nearest(repository, file.repository.keys().map(String::as_str)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("write a table [repository.{repository}] with its `repo`"),
        };
        return Err(told(Error::usage(format!("no repository `{repository}`: {hint}"))));
    }
    // Snapshots are thinned by their tags: those of one profile must never look like another's.
    if let Some(tag) = profile.tags.iter().find(|tag| names.contains(*tag)) {
        return Err(told(Error::usage(format!("the tag `{tag}` is the name of a profile"))));
    }
    Ok(profile)
}

#[cfg(test)]
mod tests;
