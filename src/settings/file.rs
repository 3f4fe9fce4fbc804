//! What a configuration file may say, as it is written: `/etc/bakfs/bakfs.toml` and `profiles.d/*.toml`.

use super::exec::Exec;
use super::periodicity::Periodicity;
use super::values::check_absolute;
use super::values::{Command, Keep, Strings};
use crate::error::{Error, Result};
use crate::quantity::Share;
use crate::quantity::time::{Duration, Jitter, Window};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The file `bakfs.toml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct File {
    /// The repository of profiles that name none, and of commands without `--repo`: a folder or URL.
    pub repo: Option<String>,
    /// A file whose first line is its passphrase.
    pub password_file: Option<PathBuf>,
    /// A shell command that prints its passphrase.
    pub password_command: Option<String>,
    /// Where to keep what saves time.
    pub cache_dir: Option<PathBuf>,
    /// Where to keep what is known of earlier runs.
    pub state_dir: Option<PathBuf>,
    /// Where logs are written where no journal takes them.
    pub log_dir: Option<PathBuf>,
    /// A file of metrics for Prometheus's node exporter, ending in `.prom`.
    pub metrics_file: Option<PathBuf>,
    /// Further repositories by name.
    pub repository: BTreeMap<String, Repository>,
    /// What profiles have that say nothing else.
    pub defaults: Profile,
    /// Profiles by name.
    pub profile: BTreeMap<String, Profile>,
    /// When scheduled runs begin.
    pub schedule: Schedule,
}

/// A repository.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Repository {
    /// A folder or URL.
    pub repo: String,
    /// A file whose first line is its passphrase.
    pub password_file: Option<PathBuf>,
    /// A shell command that prints its passphrase.
    pub password_command: Option<String>,
}

/// A profile: what is backed up, when, and how long it is kept. What is not said is the default's.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Profile {
    /// The name of its repository.
    pub repository: Option<String>,
    /// Files and folders.
    pub sources: Option<Vec<PathBuf>>,
    /// Globs of what is left out, after those of the defaults.
    pub exclude: Vec<String>,
    /// Files of such globs.
    pub exclude_file: Vec<PathBuf>,
    /// Whether folders marked by a CACHEDIR.TAG are left out.
    pub exclude_caches: Option<bool>,
    /// Whether the built-in list of excludes is used.
    pub default_excludes: Option<bool>,
    /// Whether other file systems are left out.
    pub one_file_system: Option<bool>,
    /// Whether sources and dumps may lose all they held, without being told of.
    pub allow_empty: Option<bool>,
    /// Tags, beside the profile's name and the periodicity's word.
    pub tags: Vec<String>,
    /// The host its snapshots are of.
    pub host: Option<String>,
    /// zstd's level.
    pub compression: Option<i32>,
    /// Its scheduled runs.
    pub schedule: Option<Vec<Periodicity>>,
    /// What is kept of the snapshots of its scheduled runs.
    pub keep: Option<Keep>,
    /// Hourly runs as a history of their own.
    pub hourly: Option<Separate>,
    /// The same of daily runs.
    pub daily: Option<Separate>,
    /// The same of weekly runs.
    pub weekly: Option<Separate>,
    /// The same of monthly runs.
    pub monthly: Option<Separate>,
    /// The same of runs every second month.
    pub bimonthly: Option<Separate>,
    /// The same of runs before the machine goes down.
    pub shutdown: Option<Separate>,
    /// What is kept of runs by hand; all without it.
    pub manual: Option<Separate>,
    /// What runs around the reading of data.
    pub hooks: Hooks,
    /// Who is told.
    pub notify: Notify,
    /// The verification that runs do.
    pub check: Check,
    /// The pruning that runs do.
    pub prune: Prune,
    /// The age of the last success from which the profile is overdue.
    pub max_age: Option<Window>,
    /// Where dumps are made that cannot be streamed.
    pub temporary_dir: Option<PathBuf>,
    /// PostgreSQL clusters.
    pub postgresql: Vec<Postgresql>,
    /// MySQL and MariaDB servers.
    pub mysql: Vec<Mysql>,
    /// SQLite databases.
    pub sqlite: Vec<Sqlite>,
    /// Programs whose output is stored.
    pub command: Vec<CommandSource>,
}

impl Profile {
    /// Returns whether it dumps anything.
    pub fn has_databases(&self) -> bool {
        !(self.postgresql.is_empty() && self.mysql.is_empty() && self.sqlite.is_empty() && self.command.is_empty())
    }
}

impl Profile {
    /// Refuses paths that mean another place where another program begins the run.
    pub(super) fn check_paths(&self) -> Result<()> {
        let mut paths = vec![
            ("temporary-dir", self.temporary_dir.as_deref()),
            ("notify.sendmail", self.notify.sendmail.as_deref()),
        ];
        paths.extend(self.exclude_file.iter().map(|path| ("exclude-file", Some(path.as_path()))));
        for it in &self.postgresql {
            // The folder of a socket, or a host.
            let host = it.host.as_deref().filter(|host| host.contains('/')).map(Path::new);
            paths.extend([("pgpass", it.pgpass.as_deref()), ("bin-dir", it.bin_dir.as_deref()), ("host", host)]);
        }
        for it in &self.mysql {
            let (file, socket, programs) = (&it.option_file, &it.socket, &it.bin_dir);
            let all = [("option-file", file), ("socket", socket), ("bin-dir", programs)];
            paths.extend(all.map(|(key, path)| (key, path.as_deref())));
        }
        paths.extend(self.sqlite.iter().map(|it| ("path", Some(it.path.as_path()))));
        paths.into_iter().try_for_each(|(key, path)| check_absolute(key, path))
    }
}

impl Profile {
    /// Refuses what is of this machine where programs run in a container.
    pub(super) fn check_exec(&self) -> Result<()> {
        for it in self.postgresql.iter().filter(|it| !it.exec.is_none()) {
            if it.pgpass.is_some() {
                let message = "`pgpass` is a file of this machine, which programs that `exec` runs elsewhere do not see: \
                               name one of the container, as by `exec = [\"docker\", \"exec\", \"-i\", \"-e\", \
                               \"PGPASSFILE=/run/secrets/pgpass\", \"CONTAINER\"]`";
                return Err(Error::usage(message));
            }
            if it.format == PgFormat::Directory {
                let message = "`format = \"directory\"` is made in a folder, and one that programs make elsewhere, by \
                               `exec`, is not seen here: use `custom`";
                return Err(Error::usage(message));
            }
        }
        Ok(())
    }
}

impl Profile {
    /// Refuses limits of time in which nothing could be done.
    pub(super) fn check_limits(&self) -> Result<()> {
        let of_dumps = (self.postgresql.iter().map(|it| ("postgresql.timeout", it.timeout)))
            .chain(self.mysql.iter().map(|it| ("mysql.timeout", it.timeout)))
            .chain(self.command.iter().map(|it| ("command.timeout", it.timeout)));
        let mut all = of_dumps.chain([("hooks.timeout", self.hooks.timeout)]);
        all.try_for_each(|(key, limit)| Duration::require_some(limit, key))
    }
}

/// Runs of one periodicity as a history of their own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Separate {
    /// What is kept of it.
    pub keep: Keep,
}

/// Commands around the reading of data.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Hooks {
    /// Before anything is read; its failure ends the run.
    pub before: Option<Command>,
    /// When the snapshot is committed.
    pub after: Option<Command>,
    /// When the run has failed, or its snapshot lacks something.
    pub on_failure: Option<Command>,
    /// After either, always: also after a run that was killed.
    pub finally: Option<Command>,
    /// How long each may take.
    pub timeout: Option<Duration>,
}

/// Who is told of a run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Notify {
    /// Addresses mail goes to when something is wrong.
    pub mail: Option<Strings>,
    /// Who the mail is from.
    pub mail_from: Option<String>,
    /// Whether mail and the webhook also tell of success.
    pub on_success: Option<bool>,
    /// The program that takes mail.
    pub sendmail: Option<PathBuf>,
    /// A URL that gets a JSON object by POST.
    pub webhook: Option<String>,
    /// A URL that is asked for when a run begins.
    pub ping_start: Option<String>,
    /// A URL that is asked for when a run has succeeded.
    pub ping_success: Option<String>,
    /// A URL that is asked for when a run has failed.
    pub ping_failure: Option<String>,
}

/// Verification after a run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Check {
    /// At most so often; `never`.
    pub every: Option<Duration>,
    /// The part of the stored data that is read and verified each time, as `5%` or `2G`.
    #[serde(deserialize_with = "super::values::share")]
    pub share: Option<Share>,
    /// Data that was verified less long ago is not read again.
    pub max_age: Option<Window>,
}

/// Pruning after a run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Prune {
    /// At most so often; `never`.
    pub every: Option<Duration>,
}

/// When scheduled runs begin, by the machine's clock.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Schedule {
    /// The minute of hourly runs, as `:15`.
    pub hourly: Option<String>,
    /// The time of daily runs, as `05:15`.
    pub daily: Option<String>,
    /// The day and time of weekly runs, as `sunday 05:45`.
    pub weekly: Option<String>,
    /// The day of the month and time of monthly runs, as `1 06:15`.
    pub monthly: Option<String>,
    /// The same of runs every second month.
    pub bimonthly: Option<String>,
    /// The most by which a run begins later, at random, so that many machines do not begin at once.
    pub jitter: Option<Jitter>,
    /// How long a machine that goes down waits for the shutdown runs.
    pub shutdown_timeout: Option<Duration>,
}

/// A PostgreSQL cluster.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Postgresql {
    /// The cluster's name below `/databases/postgresql`.
    pub name: Option<String>,
    /// The databases; all that accept connections without it.
    pub databases: Option<Vec<String>>,
    /// Databases that are left out.
    pub exclude: Vec<String>,
    /// A host, or the folder of the server's socket.
    pub host: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// The role that logs in.
    pub role: Option<String>,
    /// The account of this machine the programs run as; `postgres` for root at a socket.
    pub user: Option<String>,
    /// A file of passwords (pgpass(5)).
    pub pgpass: Option<PathBuf>,
    /// The format of the dumps.
    pub format: PgFormat,
    /// Parallel jobs of the directory format.
    pub jobs: Option<u16>,
    /// Whether roles and tablespaces are dumped too.
    pub globals: Option<bool>,
    /// How long a dump may take; a day without it.
    pub timeout: Option<Duration>,
    /// Further options of pg_dump.
    pub options: Vec<String>,
    /// Where pg_dump is, if not where packages put it.
    pub bin_dir: Option<PathBuf>,
    /// What runs the programs, in a container.
    pub exec: Exec,
}

/// The formats of PostgreSQL's dumps (pg_dump(1)), none of them compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PgFormat {
    /// One archive, for pg_restore.
    #[default]
    Custom,
    /// A folder with a file for each table, made by parallel jobs in a temporary folder.
    Directory,
    /// SQL.
    Plain,
}

/// A MySQL or MariaDB server.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Mysql {
    /// The server's name below `/databases/mysql`.
    pub name: Option<String>,
    /// The databases; all but the server's own without it.
    pub databases: Option<Vec<String>>,
    /// Databases that are left out.
    pub exclude: Vec<String>,
    /// An option file with the user, password, host and socket (`[client]`).
    pub option_file: Option<PathBuf>,
    /// The host.
    pub host: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// The server's socket.
    pub socket: Option<PathBuf>,
    /// The server's user.
    pub role: Option<String>,
    /// The account of this machine the programs run as.
    pub user: Option<String>,
    /// Whether users and their rights are dumped too.
    pub globals: Option<bool>,
    /// How long a dump may take; a day without it.
    pub timeout: Option<Duration>,
    /// Further options of the dump program.
    pub options: Vec<String>,
    /// Where the dump program is, if not in the PATH.
    pub bin_dir: Option<PathBuf>,
    /// What runs the programs, in a container.
    pub exec: Exec,
}

/// SQLite databases.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Sqlite {
    /// A database's file, or a glob of such files.
    pub path: PathBuf,
    /// Whether the copy is verified by `PRAGMA integrity_check`, as it is by default.
    pub integrity_check: Option<bool>,
    /// How long to wait for a database others write to.
    pub busy_timeout: Option<Duration>,
}

/// A program whose standard output is stored.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CommandSource {
    /// The file's name below `/databases/command`.
    pub name: String,
    /// The command.
    pub run: Command,
    /// The account it runs as.
    pub user: Option<String>,
    /// What runs it, in a container.
    #[serde(default)]
    pub exec: Exec,
    /// How long it may take; a day without it.
    pub timeout: Option<Duration>,
}
