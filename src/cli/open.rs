//! Global options: the command line's part of who is meant, and the repository opened with its warnings told.

use super::{output, signals};
use crate::access::{Access, Prompt};
use crate::error::{Context, Error, Result};
use crate::quantity::{parse_bytes, parse_rate};
use crate::repo::index::load::IndexLoad;
use crate::repo::open::Unlocked;
use crate::repo::{Memory, Repository};
use crate::settings::Repository as Configured;
use crate::{text, variable};
use clap::Args;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Options that say which repository is meant.
#[derive(Debug, Clone, Default, Args)]
struct Given {
    /// The repository: a folder, or s3://, b2://, swift://, sftp://, webdavs://, gs:// or azblob://,
    /// or the name of one in the configuration
    /// [default: /var/lib/bakfs/repo for root, else ~/.local/share/bakfs/repo]
    #[arg(short, long, global = true, env = "BAKFS_REPO", hide_env_values = true, value_name = "PATH|URL",
          value_hint = clap::ValueHint::AnyPath)]
    repo: Option<OsString>,
    /// The configuration [default: /etc/bakfs/bakfs.toml for root, else ~/.config/bakfs/bakfs.toml]
    #[arg(long, global = true, env = "BAKFS_CONFIG", hide_env_values = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Read the passphrase from a file's first line; the variable BAKFS_PASSWORD may hold it itself
    #[arg(long, global = true, env = "BAKFS_PASSWORD_FILE", hide_env_values = true, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Read the passphrase from the first line a shell command prints
    #[arg(long, global = true, value_name = "COMMAND")]
    password_command: Option<String>,
    /// Where to keep what saves time [default: ~/.cache/bakfs, for root /var/cache/bakfs]
    #[arg(long, global = true, env = "BAKFS_CACHE_DIR", hide_env_values = true, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Keep at most so much of a repository far away there, as `2G` [default: 10 GiB, or a tenth of the disk]
    #[arg(long, global = true, env = "BAKFS_CACHE_SIZE", hide_env_values = true, value_name = "SIZE", value_parser = parse_bytes)]
    cache_size: Option<u64>,
    /// Make so many requests at a time to a repository far away [default: 8, by SFTP 4]
    #[arg(long, global = true, env = "BAKFS_CONNECTIONS", hide_env_values = true, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: Option<u16>,
    /// Send at most so much a second, as `2M`
    #[arg(long, global = true, env = "BAKFS_LIMIT_UPLOAD", hide_env_values = true, value_name = "SIZE", value_parser = parse_rate)]
    limit_upload: Option<u64>,
    /// Receive at most so much a second, as `10M`
    #[arg(long, global = true, env = "BAKFS_LIMIT_DOWNLOAD", hide_env_values = true, value_name = "SIZE", value_parser = parse_rate)]
    limit_download: Option<u64>,
    /// Use a repository that is not encrypted although a passphrase or key is given
    #[arg(long, global = true)]
    accept_unencrypted: bool,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    #[command(flatten)]
    given: Given,
    /// What they say of the repository.
    #[arg(skip)]
    pub access: Access,
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

impl Global {
    /// Takes what was given: before that there is no repository.
    pub fn settle(&mut self) {
        let given = self.given.clone();
        self.access = Access {
            repo: given.repo,
            config: given.config,
            password_file: given.password_file,
            password_command: given.password_command,
            cache_dir: given.cache_dir,
            cache_size: given.cache_size,
            connections: given.connections,
            limit_upload: given.limit_upload,
            limit_download: given.limit_download,
            accept_unencrypted: given.accept_unencrypted,
            prompt: std::io::stdin().is_terminal().then_some(ask as Prompt),
            before_ssh: Some(signals::close_connections_at_end),
            ..Access::default()
        };
    }

    /// Refuses options and variables that cannot be used, whatever the command needs of them, and tells of variables
    /// that are misspelt.
    pub fn check(&self) -> Result<()> {
        variable::check()?;
        for (option, path) in [
            ("--config", &self.access.config),
            ("--password-file", &self.access.password_file),
            ("--cache-dir", &self.access.cache_dir),
        ] {
            if let Some(why) = path.as_deref().and_then(text::refused) {
                return Err(Error::usage(format!("{option}: {why}")));
            }
        }
        if let Some(why) = self.access.repo.as_deref().and_then(OsStr::to_str).and_then(text::refused_url) {
            let is_variable = self.access.repo == std::env::var_os("BAKFS_REPO");
            let by = if is_variable { "The environment variable BAKFS_REPO" } else { "The URL of --repo" };
            return Err(Error::usage(format!("{by} {why}")));
        }
        if self.access.password_file.is_some() && self.access.password_command.is_some() {
            let message = "A passphrase comes from one place: both --password-file (or BAKFS_PASSWORD_FILE) and \
                           --password-command are given";
            return Err(Error::usage(message));
        }
        if std::env::var_os("TZ").is_some_and(|zone| !zone.is_empty()) && jiff::tz::TimeZone::try_system().is_err() {
            output::warn("the environment variable TZ names no time zone that this machine knows: times are in UTC");
        }
        for (name, meant) in variable::misspelt() {
            output::warn(&format!("the environment variable {name} means nothing here: did you mean {meant}?"));
        }
        Ok(())
    }

    /// Returns these options for another repository of the configuration.
    pub fn for_repository(&self, repository: &Configured) -> Self {
        Global { access: self.access.for_repository(repository), ..self.clone() }
    }

    /// Returns the arguments that lead another process of this program to the same repository.
    #[cfg(feature = "mount")]
    pub fn far_arguments(&self) -> Result<Vec<OsString>> {
        use crate::place::Place;
        let repo = match self.access.place()? {
            Place::Local(path) => path.into_os_string(),
            Place::Remote(_) => self.access.chosen()?.repo.unwrap_or_default(),
        };
        let mut arguments = vec![OsString::from("--repo"), repo];
        if self.access.accept_unencrypted {
            arguments.push("--accept-unencrypted".into());
        }
        let numbers = [
            ("--cache-size", self.access.cache_size),
            ("--connections", self.access.connections.map(u64::from)),
            ("--limit-upload", self.access.limit_upload),
            ("--limit-download", self.access.limit_download),
        ];
        for (option, number) in numbers {
            if let Some(number) = number {
                arguments.extend([option.into(), number.to_string().into()]);
            }
        }
        Ok(arguments)
    }

    /// Opens the repository and tells its warnings.
    pub fn open(&self) -> Result<Arc<Repository>> {
        self.open_with(Memory::default())
    }

    /// Opens the repository with bounds for its caches.
    pub fn open_with(&self, memory: Memory) -> Result<Arc<Repository>> {
        self.open_indexed(memory, IndexLoad::Whole)
    }

    /// Opens the repository with bounds for its caches, its index whole or by pieces.
    pub fn open_indexed(&self, memory: Memory, index: IndexLoad) -> Result<Arc<Repository>> {
        self.load(self.access.unlock()?, memory, index)
    }

    /// Loads the repository that was unlocked, and tells its warnings.
    pub fn load(&self, mut unlocked: Unlocked, memory: Memory, index: IndexLoad) -> Result<Arc<Repository>> {
        let repository = self.access.load(&mut unlocked, memory, index)?;
        output::heed(&repository);
        // Commands that are quiet tell them when they end.
        if !self.quiet {
            output::tell_warnings(&repository);
        }
        Ok(Arc::new(repository))
    }
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
    signals::show_typing_at_end(Some(shown.clone()))?;
    tcsetattr(&stdin, OptionalActions::Now, &hidden).context(asking)?;
    let mut line = Zeroizing::new(String::new());
    let read = stdin.lock().read_line(&mut line);
    tcsetattr(&stdin, OptionalActions::Now, &shown).context(asking)?;
    signals::show_typing_at_end(None)?;
    warn!();
    read.context(asking)?;
    Ok(Zeroizing::new(line.trim_end_matches(['\n', '\r']).to_string()))
}
