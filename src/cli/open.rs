//! Global options: where the repository is and what unlocks it.

use super::folders::folder;
use super::{output, signals};
use crate::crypto::keys::Secret;
use crate::crypto::recovery;
use crate::crypto::slot::Credential;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::id::RepositoryId;
use crate::quantity::{parse_bytes, parse_rate};
use crate::repo::index::load::IndexLoad;
use crate::repo::open::Options;
use crate::repo::unlock::Keyring;
use crate::repo::{Memory, Repository};
use crate::settings::profile::check_repository;
use crate::settings::read::{self, Places};
use crate::settings::values::check_absolute;
use crate::settings::{Repository as Configured, Settings};
use crate::store::cached::default_max_bytes;
use crate::store::local::LocalStore;
use crate::store::place::{Place, Remote};
use crate::store::remote::{Environment, RemoteOptions, RemoteStore};
use crate::store::{Object, Store};
use crate::trust::{descriptors, environment, file, folder as own};
use crate::{text, variable};
use clap::Args;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The repository: a folder, or s3://, b2://, swift://, sftp://, webdavs://, gs:// or azblob://,
    /// or the name of one in the configuration
    /// [default: /var/lib/bakfs/repo for root, else ~/.local/share/bakfs/repo]
    #[arg(short, long, global = true, env = "BAKFS_REPO", hide_env_values = true, value_name = "PATH|URL")]
    pub repo: Option<OsString>,
    /// The configuration [default: /etc/bakfs/bakfs.toml for root, else ~/.config/bakfs/bakfs.toml]
    #[arg(long, global = true, env = "BAKFS_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Read the passphrase from a file's first line; the variable BAKFS_PASSWORD may hold it itself
    #[arg(long, global = true, env = "BAKFS_PASSWORD_FILE", hide_env_values = true, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Read the passphrase from the first line a shell command prints
    #[arg(long, global = true, value_name = "COMMAND")]
    pub password_command: Option<String>,
    /// Where to keep what saves time [default: ~/.cache/bakfs, for root /var/cache/bakfs]
    #[arg(long, global = true, env = "BAKFS_CACHE_DIR", hide_env_values = true, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Keep at most so much of a repository far away there, as `2G` [default: 10 GiB, or a tenth of the disk]
    #[arg(long, global = true, env = "BAKFS_CACHE_SIZE", hide_env_values = true, value_name = "SIZE", value_parser = parse_bytes)]
    pub cache_size: Option<u64>,
    /// Make so many requests at a time to a repository far away [default: 8, by SFTP 4]
    #[arg(long, global = true, env = "BAKFS_CONNECTIONS", hide_env_values = true, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub connections: Option<u16>,
    /// Send at most so much a second, as `2M`
    #[arg(long, global = true, env = "BAKFS_LIMIT_UPLOAD", hide_env_values = true, value_name = "SIZE", value_parser = parse_rate)]
    pub limit_upload: Option<u64>,
    /// Receive at most so much a second, as `10M`
    #[arg(long, global = true, env = "BAKFS_LIMIT_DOWNLOAD", hide_env_values = true, value_name = "SIZE", value_parser = parse_rate)]
    pub limit_download: Option<u64>,
    /// The configuration, as it was read.
    #[arg(skip)]
    pub(super) files: Arc<read::Files>,
    /// Whether the configuration named the file or command of the passphrase.
    #[arg(skip)]
    pub is_configured: bool,
    /// Use a repository that is not encrypted although a passphrase or key is given
    #[arg(long, global = true)]
    pub accept_unencrypted: bool,
    /// What has given the passphrase that another process of this program hands over.
    #[arg(skip)]
    pub passphrase_from: Option<String>,
    /// What has unlocked repositories before in this process.
    #[arg(skip)]
    pub keyring: Arc<Keyring>,
    /// Print results as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Print nothing but errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print more: each -v adds detail
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The repository that is meant, and what the configuration says of its credentials.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// `None` for the default folder.
    repo: Option<OsString>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) password_command: Option<String>,
}

impl Chosen {
    fn of(repository: Configured) -> Self {
        let Configured { repo, password_file, password_command } = repository;
        Chosen { repo: Some(repo).filter(|repo| !repo.is_empty()).map(OsString::from), password_file, password_command }
    }
}

/// Where a passphrase comes from that nothing gives.
pub(super) const TYPED: &str = "the terminal";

/// A passphrase or key file is read up to this length.
const MAX_SECRET_BYTES: u64 = 4096;

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

/// Returns this user's folder of configuration and keys.
pub fn config_folder() -> PathBuf {
    let base = std::env::var_os("BAKFS_CONFIG_DIR").map(PathBuf::from);
    base.unwrap_or_else(|| folder("XDG_CONFIG_HOME", ".config", "/etc/bakfs"))
}

impl Global {
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
    pub(super) fn places(&self) -> Result<Places> {
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
            output::warn(&mistake.chain());
        }
        Ok(places)
    }

    /// Finds the repository that is meant: the one that is named, by its name or place, or the configuration's first.
    pub(super) fn chosen(&self) -> Result<Chosen> {
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
            None => Global { repo: None, ..self.clone() }.first_place(),
        }
    }

    /// Returns the arguments that lead another process of this program to the same repository.
    #[cfg(feature = "mount")]
    pub fn far_arguments(&self) -> Result<Vec<OsString>> {
        let repo = match self.place()? {
            Place::Local(path) => path.into_os_string(),
            Place::Remote(_) => self.chosen()?.repo.unwrap_or_default(),
        };
        let mut arguments = vec![OsString::from("--repo"), repo];
        if self.accept_unencrypted {
            arguments.push("--accept-unencrypted".into());
        }
        let numbers = [
            ("--cache-size", self.cache_size),
            ("--connections", self.connections.map(u64::from)),
            ("--limit-upload", self.limit_upload),
            ("--limit-download", self.limit_download),
        ];
        for (option, number) in numbers {
            if let Some(number) = number {
                arguments.extend([option.into(), number.to_string().into()]);
            }
        }
        Ok(arguments)
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
        if matches!(remote, Remote::Sftp { .. }) {
            signals::close_connections_at_end()?;
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
    pub(super) fn configured_path(&self, key: &str, path: Option<PathBuf>) -> Result<Option<PathBuf>> {
        let located = |error: Error| Error::usage(format!("{}: {}", self.config_path().display(), error.chain()));
        check_absolute(key, path.as_deref()).map_err(located)?;
        Ok(path)
    }

    /// Refuses options and variables that cannot be used, whatever the command needs of them, and tells of variables
    /// that are misspelt.
    pub fn check(&self) -> Result<()> {
        variable::check()?;
        for (option, path) in
            [("--config", &self.config), ("--password-file", &self.password_file), ("--cache-dir", &self.cache_dir)]
        {
            if let Some(why) = path.as_deref().and_then(text::refused) {
                return Err(Error::usage(format!("{option}: {why}")));
            }
        }
        if let Some(why) = self.repo.as_deref().and_then(OsStr::to_str).and_then(text::refused_url) {
            let is_variable = self.repo == std::env::var_os("BAKFS_REPO");
            let by = if is_variable { "The environment variable BAKFS_REPO" } else { "The URL of --repo" };
            return Err(Error::usage(format!("{by} {why}")));
        }
        if self.password_file.is_some() && self.password_command.is_some() {
            let message = "A passphrase comes from one place: both --password-file (or BAKFS_PASSWORD_FILE) and \
                           --password-command are given";
            return Err(Error::usage(message));
        }
        for (name, meant) in variable::misspelt() {
            output::warn(&format!("the environment variable {name} means nothing here: did you mean {meant}?"));
        }
        Ok(())
    }

    /// Returns the file a repository's key is kept in on this machine.
    pub fn key_path(&self, repository: &RepositoryId) -> PathBuf {
        config_folder().join("keys").join(format!("{}.key", repository))
    }

    /// Returns the passphrase or key that was given by option or environment.
    pub fn given_credential(&self) -> Result<Option<Credential>> {
        Ok(self.given_text(false)?.map(credential))
    }

    /// Returns the passphrase or key a repository is to be made with: a file that others may read is only told of, since
    /// there is nothing yet that they could read with it.
    pub fn first_credential(&self) -> Result<Option<Credential>> {
        Ok(self.given_text(true)?.map(credential))
    }

    fn given_text(&self, is_first: bool) -> Result<Option<Zeroizing<String>>> {
        let chosen = self.chosen()?;
        // What is said for this call comes before what the configuration says.
        let text = if let Some(path) = &self.password_file {
            // Whoever names it is there to be told, and may have nothing but this file and a machine to rescue.
            Some(read_passphrase(path, is_first || !self.is_configured)?)
        } else if let Some(command) = &self.password_command {
            Some(secret_of_command(command)?)
        } else if let Some(path) = &chosen.password_file {
            Some(read_passphrase(path, is_first)?)
        } else if let Some(command) = &chosen.password_command {
            Some(secret_of_command(command)?)
        } else {
            secret_of_variable()?
        };
        match text {
            Some(text) if text.is_empty() => {
                Err(Error::usage("The passphrase is empty: give one with at least a character"))
            }
            text => Ok(text),
        }
    }

    /// Collects what may unlock a repository: what was given, else this machine's key file, else what a
    /// person types.
    pub fn credentials(&self, repository: &RepositoryId) -> Result<Vec<Credential>> {
        if let Some(given) = self.given_credential()? {
            return Ok(vec![given]);
        }
        let path = self.key_path(repository);
        file::require_secret("key file", &path)?;
        match read_secret(&path) {
            Ok(text) => match recovery::from_text(&text) {
                Some(key) => Ok(vec![Credential::Key(key)]),
                None => Err(Error::damaged(format!(
                    "The key file {} holds no key: bring it back from a copy",
                    path.display()
                ))),
            },
            Err(error) if error.kind() == ErrorKind::NotFound && std::io::stdin().is_terminal() => {
                Ok(vec![credential(ask("Passphrase or recovery key: ")?)])
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::new(
                ErrorKind::NoKey,
                format!(
                    "Nothing here unlocks the repository: there is no key file {}. \
                     Copy it there, or give the passphrase or recovery key with --password-file",
                    path.display()
                ),
            )),
            Err(error) => Err(error),
        }
    }

    /// Returns what unlocks the repository and only this process has, for a child that has no terminal: what a person
    /// typed, or handed over by the environment or a pipe, and what that is; `None` where the child finds what it needs by
    /// itself.
    pub fn secret_for_child(&self) -> Result<Option<(Zeroizing<String>, String)>> {
        // One that is empty is given too, and refused.
        let empty = || environment::var(environment::PASSWORD).map(|_| environment::PASSWORD.to_string());
        let given_by = self.given_by()?.or_else(empty);
        if given_by.is_none() && !std::io::stdin().is_terminal() {
            return Ok(None);
        }
        let named = self.password_file.clone().or(self.chosen()?.password_file);
        if named.is_some_and(|path| path.is_file()) {
            return Ok(None);
        }
        // Nobody types a passphrase for what is not the repository it is for.
        self.recognise()?;
        if let Some(given_by) = given_by {
            // Its environment, a pipe or a command that asks at the terminal are this process's only.
            return Ok(self.given_text(false)?.map(|text| (text, given_by)));
        }
        match stored_header(&*self.store()?)? {
            Some(id) if !self.key_path(&id).exists() => Ok(Some((ask("Passphrase or recovery key: ")?, TYPED.into()))),
            _ => Ok(None),
        }
    }

    /// Opens the repository and tells its warnings.
    pub fn open(&self) -> Result<Arc<Repository>> {
        self.open_with(Memory::default())
    }

    /// Opens the repository with bounds for its caches.
    pub fn open_with(&self, memory: Memory) -> Result<Arc<Repository>> {
        self.open_indexed(memory, IndexLoad::Whole)
    }

    /// Returns how much of a repository far away is kept.
    pub fn cache_max_bytes(&self) -> Result<u64> {
        Ok(self.cache_size.unwrap_or(default_max_bytes(&self.cache_base()?)))
    }

    /// Opens the repository with bounds for its caches, its index whole or by pieces.
    pub fn open_indexed(&self, memory: Memory, index: IndexLoad) -> Result<Arc<Repository>> {
        let cache = self.cache_base()?;
        let cache_max_bytes = self.cache_max_bytes()?;
        let options = Options { cache_base: Some(&cache), cache_max_bytes, memory, index, ..Options::default() };
        let repository = self.open_at(&options)?;
        // A run has them in its record, and other commands that are quiet tell them when they end.
        if !self.quiet {
            output::tell_warnings(&repository);
        }
        Ok(Arc::new(repository))
    }
}

impl Global {
    /// Opens the repository where it is.
    pub fn open_at(&self, options: &Options<'_>) -> Result<Repository> {
        self.open_by(options, |id| self.credentials(id))
    }
}

/// Returns the id of an encrypted repository; `None` where there is none or it needs no key.
fn stored_header(store: &dyn Store) -> Result<Option<RepositoryId>> {
    let Ok(bytes) = store.read_whole(Object::Config, crate::repo::open::MAX_CONFIG_BYTES) else { return Ok(None) };
    let stored = crate::format::config::Stored::decode(&bytes).ok();
    Ok(stored.filter(|stored| stored.config.open_key.is_none()).map(|stored| stored.repository))
}

/// Reads a secret as what it looks like: a written key, or a passphrase.
pub(super) fn credential(text: Zeroizing<String>) -> Credential {
    match recovery::from_text(&text) {
        Some(key) => Credential::Key(key),
        None => Credential::Passphrase(text),
    }
}

/// Returns the first line of what a passphrase comes from, without the mark some editors put before it.
fn first_line(bytes: &[u8], what: &str) -> Result<Zeroizing<String>> {
    let bad = |why: &str| Error::usage(format!("The passphrase from {what} cannot be used: {why}"));
    let line = text::first_line(text::without_mark(bytes).map_err(|why| bad(&why))?);
    if line.len() as u64 > MAX_SECRET_BYTES {
        return Err(bad("it is longer than 4096 bytes"));
    }
    match std::str::from_utf8(line) {
        Ok(text) => Ok(Zeroizing::new(text.to_string())),
        Err(_) => Err(bad("it is not UTF-8 text")),
    }
}

/// Reads the passphrase in the environment as it would be read from a file.
fn secret_of_variable() -> Result<Option<Zeroizing<String>>> {
    let value = environment::var(environment::PASSWORD);
    value.map(|value| first_line(&value, &format!("the environment variable {}", environment::PASSWORD))).transpose()
}

fn read_secret(path: &Path) -> Result<Zeroizing<String>> {
    let reading = || format!("Cannot read the key or passphrase in {}", path.display());
    let file = std::fs::File::open(path).context(reading)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * MAX_SECRET_BYTES as usize));
    // What a line that is too long ends with, and one more, tell that it is.
    file.take(MAX_SECRET_BYTES + 8).read_to_end(&mut bytes).context(reading)?;
    first_line(&bytes, &path.display().to_string())
}

/// Reads a file of a passphrase. That others could read or change it is told where a person names it, who may have
/// nothing but this file and a machine to rescue: a passphrase that was changed opens nothing. Else it is refused.
pub(super) fn read_passphrase(path: &Path, is_named: bool) -> Result<Zeroizing<String>> {
    match is_named {
        true => file::exposed(path).into_iter().for_each(|flaw| output::warn(&flaw.what)),
        false => file::require_secret("file of a passphrase", path)?,
    }
    read_secret(path)
}

/// Runs the password command as this user's own: it may ask at the terminal (pinentry, `pass`) and need what is secret to
/// others (a token of a vault), so it keeps both; only the passphrase it is to tell is not told to it.
fn secret_of_command(command: &str) -> Result<Zeroizing<String>> {
    file::require_command(&["/bin/sh", "-c", command])?;
    let mut shell = std::process::Command::new("/bin/sh");
    environment::hand_over(shell.args(["-c", command])).env_remove(environment::PASSWORD);
    let close = || {
        descriptors::close_on_exec();
        Ok(())
    };
    // SAFETY: flagging descriptors is async-signal-safe.
    unsafe { shell.pre_exec(close) };
    let output =
        shell.stderr(std::process::Stdio::inherit()).output().context(|| "Cannot run the password command".into())?;
    if !output.status.success() {
        return Err(Error::new(ErrorKind::Locked, format!("The password command failed: {}", output.status)));
    }
    first_line(&Zeroizing::new(output.stdout), "the password command")
}

/// Asks a person at the terminal, without showing what is typed.
pub(super) fn ask(prompt: &str) -> Result<Zeroizing<String>> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    let asking = || "Cannot ask for the passphrase".to_string();
    let shown = tcgetattr(&stdin).context(asking)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    eprint!("{prompt}");
    std::io::stderr().flush().context(asking)?;
    tcsetattr(&stdin, OptionalActions::Now, &hidden).context(asking)?;
    let mut line = Zeroizing::new(String::new());
    let read = stdin.lock().read_line(&mut line);
    tcsetattr(&stdin, OptionalActions::Now, &shown).context(asking)?;
    eprintln!();
    read.context(asking)?;
    Ok(Zeroizing::new(line.trim_end_matches(['\n', '\r']).to_string()))
}

/// Keeps a key in a file only its owner can read. The file and its name are durable afterwards.
pub fn write_key(path: &Path, key: &Secret) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let writing = || format!("Cannot write the key file {}", path.display());
    own::make_own(folder, own::PRIVATE).context(writing)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).context(writing)?;
    let mut text = recovery::to_text(key);
    text.push('\n');
    file.write_all(text.as_bytes()).context(writing)?;
    file.sync_all().context(writing)?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).context(writing)
}
