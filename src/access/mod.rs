//! Which repository is meant, and what opens it: options, environment and configuration in one, for a command, a run or a
//! server. The configuration is read once, a passphrase asked for once.

pub mod credentials;
pub mod folders;
pub mod known;
pub mod make;

use crate::error::{Context, Error, Result};
#[cfg(feature = "mount")]
use crate::machine::updatedb::FS_TYPE;
use crate::place::{Place, Remote};
use crate::remote::{Environment, RemoteOptions};
use crate::repo::index::load::IndexLoad;
use crate::repo::open::{Options, Unlocked};
use crate::repo::unlock::Keyring;
use crate::repo::{Memory, Repository};
use crate::settings::profile::check_repository;
use crate::settings::read::{self, Places};
use crate::settings::values::check_absolute;
use crate::settings::{Repository as Configured, Settings};
use crate::store::Store;
use crate::store::cached::default_max_bytes;
use crate::store::local::LocalStore;
use crate::store::remote::RemoteStore;
use crate::text;
use credentials::Answers;
use folders::{config_folder, folder};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Asks a person for a secret.
pub type Prompt = fn(&str) -> Result<Zeroizing<String>>;

/// What is given for a repository, from which all else about it follows.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The repository: a folder, a URL, or the name of one in the configuration; `None` for the configuration's first, or
    /// else the default folder.
    pub repo: Option<OsString>,
    /// The configuration; `None` for the usual file.
    pub config: Option<PathBuf>,
    /// A file whose first line is the passphrase.
    pub password_file: Option<PathBuf>,
    /// A shell command that prints it.
    pub password_command: Option<String>,
    /// Where to keep what saves time; `None` for the configuration's or the usual folder.
    pub cache_dir: Option<PathBuf>,
    /// At most so much of a repository far away is kept there.
    pub cache_size: Option<u64>,
    /// So many requests are made at a time.
    pub connections: Option<u16>,
    /// At most so much is sent a second.
    pub limit_upload: Option<u64>,
    /// At most so much is received a second.
    pub limit_download: Option<u64>,
    /// Whether a repository that is not encrypted is used although a passphrase or key is given.
    pub accept_unencrypted: bool,
    /// Whether the configuration named the file or command of the passphrase.
    pub is_configured: bool,
    /// What has given the passphrase that another process of this program hands over.
    pub passphrase_from: Option<String>,
    /// Who asks a person; `None` where nobody is there.
    pub prompt: Option<Prompt>,
    /// What is to be done before ssh is started, whose processes must not outlive this one.
    pub before_ssh: Option<fn() -> Result<()>>,
    /// The configuration, as it was read.
    pub files: Arc<read::Files>,
    /// What has unlocked repositories before in this process.
    pub keyring: Arc<Keyring>,
    /// What password commands have answered in this process.
    pub answers: Arc<Answers>,
}

/// The repository that is meant, and what the configuration says of its credentials.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    /// `None` for the default folder.
    pub(crate) repo: Option<OsString>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) password_command: Option<String>,
}

impl Chosen {
    fn of(repository: Configured) -> Self {
        let Configured { repo, password_file, password_command } = repository;
        Chosen { repo: Some(repo).filter(|repo| !repo.is_empty()).map(OsString::from), password_file, password_command }
    }
}

/// Returns the place a text names; a folder's path is made absolute.
fn place_of(text: &OsStr) -> Result<Place> {
    if let Some(why) = text::refused(Path::new(text)) {
        return Err(Error::usage(format!("The repository cannot be used: {why}")));
    }
    let place = match text.to_str() {
        Some(text) => Place::parse(text)?,
        // A URL has no such bytes.
        None => Place::Local(text.into()),
    };
    match place {
        Place::Local(path) => {
            let absolute = std::path::absolute(&path).context(|| format!("Cannot use the path {}", path.display()))?;
            Ok(Place::Local(absolute))
        }
        far => Ok(far),
    }
}

#[cfg(feature = "mount")]
fn mounted_histories() -> Vec<PathBuf> {
    bakfs_mount::mounts_of_type(FS_TYPE).into_iter().map(|mounted| mounted.path).collect()
}

#[cfg(not(feature = "mount"))]
fn mounted_histories() -> Vec<PathBuf> {
    Vec::new()
}

impl Access {
    /// Returns the path of the configuration, whether there is one or not.
    pub fn config_path(&self) -> PathBuf {
        let path = self.config.clone().unwrap_or_else(|| config_folder().join("bakfs.toml"));
        std::path::absolute(&path).unwrap_or(path)
    }

    /// Reads the configuration with all its profiles; one that is wrong is an error.
    pub fn settings(&self) -> Result<Settings> {
        self.sound_settings()?.require_sound()
    }

    /// Reads the configuration with those of its profiles that are right.
    pub fn sound_settings(&self) -> Result<Settings> {
        Settings::of_files(&self.files, &self.present_config()?)
    }

    fn present_config(&self) -> Result<PathBuf> {
        let path = self.config_path();
        if self.config.is_none() && !path.exists() {
            let message = format!("There is no configuration {}: `bakfs config init` writes one", path.display());
            return Err(Error::usage(message));
        }
        Ok(path)
    }

    /// Reads what the configuration says of repositories. A mistake in the rest of it is only told: it must not stand
    /// in the way of a restore.
    pub(crate) fn places(&self) -> Result<Places> {
        let path = self.config_path();
        if self.config.is_none() && !path.exists() {
            return Ok(Places::default());
        }
        let (places, mistake) = read::read_places(&self.files, &path)?;
        if places.repo.as_ref().is_some_and(String::is_empty) {
            let message = format!("{}: repo: it is empty: name a folder or URL, or leave it out", path.display());
            return Err(Error::usage(message));
        }
        if let Some(mistake) = mistake {
            tracing::warn!("{}", mistake.chain());
        }
        Ok(places)
    }

    /// Finds the repository that is meant: the one that is named, by its name or place, or the configuration's first.
    pub(crate) fn chosen(&self) -> Result<Chosen> {
        let places = self.places()?;
        let chosen = |repository: Configured| {
            let path = self.config_path();
            check_repository("repo", &repository.repo)
                .and_then(|()| check_absolute("password-file", repository.password_file.as_deref()))
                .map_err(|error| Error::usage(format!("{}: {}", path.display(), error.chain())))?;
            Ok(Chosen::of(repository))
        };
        let first = Configured {
            repo: places.repo.unwrap_or_default(),
            password_file: places.password_file,
            password_command: places.password_command,
        };
        let Some(given) = &self.repo else { return chosen(first) };
        if let Some(named) = given.to_str().and_then(|name| places.repository.get(name)) {
            return chosen(named.clone());
        }
        let place = place_of(given)?.to_string();
        let is_meant =
            |known: &&Configured| place_of(OsStr::new(&known.repo)).is_ok_and(|known| known.to_string() == place);
        let all = std::iter::once(&first).chain(places.repository.values());
        let known = all.filter(|known| !known.repo.is_empty()).find(is_meant);
        // A configuration that is named beside a place of its own is meant for that place.
        let known = known.or(self.config.is_some().then_some(&first));
        let known = known.cloned().map(|known| chosen(Configured { repo: String::new(), ..known })).transpose()?;
        let known = known.unwrap_or_default();
        Ok(Chosen { repo: Some(given.clone()), ..known })
    }

    /// Returns these options for another repository of the configuration.
    pub fn for_repository(&self, repository: &Configured) -> Self {
        let mut other = self.clone();
        if !repository.repo.is_empty() {
            other.repo = Some(OsString::from(&repository.repo));
            other.password_file = repository.password_file.clone();
            other.password_command = repository.password_command.clone();
            other.is_configured = true;
        }
        other
    }

    /// Returns where the repository of a first configuration is: where the command line says, else the default folder.
    pub fn first_place(&self) -> Result<Place> {
        let or = || folder("XDG_DATA_HOME", ".local/share", "/var/lib/bakfs").join("repo").into_os_string();
        place_of(&self.repo.clone().unwrap_or_else(or))
    }

    /// Returns where the repository is.
    pub fn place(&self) -> Result<Place> {
        match self.chosen()?.repo {
            Some(text) => place_of(&text),
            None => Access { repo: None, ..self.clone() }.first_place(),
        }
    }

    /// Returns the store the repository is kept in, as it is: not looked at, and without a cache before it.
    pub fn store(&self) -> Result<Arc<dyn Store>> {
        Ok(match self.place()? {
            Place::Local(path) => Arc::new(LocalStore::new(&path)),
            Place::Remote(remote) => Arc::new(self.remote_store(&remote)?),
        })
    }

    /// Returns the store at a place reached over a network.
    pub fn remote_store(&self, remote: &Remote) -> Result<RemoteStore> {
        let options = RemoteOptions {
            connections: self.connections.map(usize::from),
            limit_upload_bytes_per_sec: self.limit_upload,
            limit_download_bytes_per_sec: self.limit_download,
        };
        if let (Remote::Sftp { .. }, Some(prepare)) = (remote, self.before_ssh) {
            prepare()?;
        }
        RemoteStore::open(remote, &options, Environment::of_process())
    }

    /// Returns whether the repository is the default one, which a first backup may make.
    pub fn is_default_repo(&self) -> Result<bool> {
        Ok(self.chosen()?.repo.is_none())
    }

    /// Returns the folder of caches.
    pub fn cache_base(&self) -> Result<PathBuf> {
        let configured = || self.configured_path("cache-dir", self.places()?.cache_dir);
        let set = self.cache_dir.clone().map(Ok).or_else(|| configured().transpose()).transpose()?;
        Ok(set.unwrap_or_else(|| folder("XDG_CACHE_HOME", ".cache", "/var/cache/bakfs")))
    }

    /// Returns a path of the configuration; one that is not absolute is an error.
    pub(crate) fn configured_path(&self, key: &str, path: Option<PathBuf>) -> Result<Option<PathBuf>> {
        let located = |error: Error| Error::usage(format!("{}: {}", self.config_path().display(), error.chain()));
        check_absolute(key, path.as_deref()).map_err(located)?;
        Ok(path)
    }

    /// Returns how much of a repository far away is kept.
    pub fn cache_max_bytes(&self) -> Result<u64> {
        self.cache_size.map_or_else(|| Ok(default_max_bytes(&self.cache_base()?)), Ok)
    }

    /// Unlocks the repository where it is.
    pub fn unlock(&self) -> Result<Unlocked> {
        self.unlock_by(|id| self.credentials(id))
    }

    /// Loads an unlocked repository with the usual cache and bounds of memory, its index whole or by pieces. Its warnings
    /// are the caller's to tell.
    pub fn load(&self, unlocked: &mut Unlocked, memory: Memory, index: IndexLoad) -> Result<Repository> {
        let cache = self.cache_base()?;
        let cache_max_bytes = self.cache_max_bytes()?;
        unlocked.load(&Options { cache_base: Some(&cache), cache_max_bytes, memory, index, ..Options::default() })
    }

    /// Returns what is of this program and no part of any backup, which would copy all snapshots into the next one: the
    /// repository, the caches, and where histories are mounted.
    pub fn own_paths(&self) -> Result<Vec<PathBuf>> {
        let place = self.place()?;
        let cache = self.cache_base()?;
        let own = place.folder().into_iter().chain([&*cache]);
        Ok(own.filter_map(|path| std::fs::canonicalize(path).ok()).chain(mounted_histories()).collect())
    }
}
