//! A profile with what it inherits.

use super::excludes::{BUILT_IN, folder_of};
use super::file::{self, CommandSource, Mysql, Postgresql, Sqlite};
use super::periodicity::Periodicity;
use super::values::{Command, Keep, check_absolute};
use crate::error::{Error, Result};
use crate::format::snapshot::INCOMPLETE_TAG;
use crate::quantity::Share;
use crate::quantity::time::{Duration, Window};
use crate::spelling::{check_word, list};
use crate::text;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// How long a hook may take that says nothing else.
const HOOK_TIMEOUT_SECS: u64 = 600;
/// The part of what is stored that a run verifies: everything is read once in a month of nights.
const CHECK_SHARE: Share = Share::PerMillion(1_000_000 / 28);

/// What is backed up, when, and how long it is kept.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Its name, and a tag of its snapshots.
    pub name: String,
    /// The file it is written in.
    pub file: PathBuf,
    /// The name of its repository; `None` for the default one.
    pub repository: Option<String>,
    /// Files and folders.
    pub sources: Vec<PathBuf>,
    /// Globs of what is left out, the built-in ones and the defaults' first.
    pub excludes: Vec<String>,
    /// Files of such globs.
    pub exclude_files: Vec<PathBuf>,
    /// How many of the last of `excludes` and of `exclude_files` are its own: the others are the defaults' and built in.
    pub own_excludes: (usize, usize),
    /// Whether folders marked as caches are left out.
    pub exclude_caches: bool,
    /// Whether other file systems are left out.
    pub one_file_system: bool,
    /// Whether its sources and dumps may lose all they held.
    pub allow_empty: bool,
    /// Further tags.
    pub tags: Vec<String>,
    /// The host its snapshots are of, if not this machine.
    pub host: Option<String>,
    /// zstd's level, if not the usual one.
    pub compression: Option<i32>,
    /// Its scheduled runs.
    pub schedule: Vec<Periodicity>,
    /// What is kept of scheduled runs; all without it.
    pub keep: Option<Keep>,
    /// Periodicities that are histories of their own.
    pub separate: BTreeMap<Periodicity, Keep>,
    /// What runs around the reading of data.
    pub hooks: Hooks,
    /// Who is told.
    pub notify: file::Notify,
    /// How often data is verified, in seconds; `None` for never.
    pub check_every_secs: Option<u64>,
    /// The part that is verified each time.
    pub check_share: Share,
    /// What was verified less long ago is not read again.
    pub check_max_age: Window,
    /// How often room is given back, in seconds; `None` for never.
    pub prune_every_secs: Option<u64>,
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

/// Commands around the reading of data.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    /// Before anything is read; its failure ends the run.
    pub before: Option<Command>,
    /// When the snapshot is committed and lacks nothing.
    pub after: Option<Command>,
    /// When the run has failed, or its snapshot lacks something.
    pub on_failure: Option<Command>,
    /// After either, always: also after a run that was killed.
    pub finally: Option<Command>,
    /// How long each may take, in seconds; `None` for ever.
    pub timeout_secs: Option<u64>,
}

/// Refuses a name that would not be a safe file name and word.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.is_empty() && name.len() <= 100 && name.chars().all(is_plain) && !name.starts_with(['-', '.']) {
        return Ok(());
    }
    Err(Error::usage(format!("`{name}` cannot name a {what}: use letters, digits, `-`, `_` and `.`")))
}

/// Returns whether a tag says how a snapshot was made.
fn is_reserved(tag: &str) -> bool {
    Periodicity::ALL.iter().any(|periodicity| periodicity.word() == tag) || tag == INCOMPLETE_TAG
}

/// Refuses a repository's folder that would be another where another program begins the run.
pub fn check_repository(key: &str, repo: &str) -> Result<()> {
    if repo.is_empty() || repo.contains("://") {
        return text::refused_url(repo).map_or(Ok(()), |why| Err(Error::usage(format!("{key}: the URL {why}"))));
    }
    check_absolute(key, Some(Path::new(repo))).map_err(|error| Error::usage(format!("{}, or a URL", error.chain())))
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        check_name(what, name)?;
        if !seen.insert(name) {
            let message = format!("two {what}s would write under the same name `{name}`: give one another `name`");
            return Err(Error::usage(message));
        }
    }
    Ok(())
}

fn joined<T: Clone>(defaults: &[T], own: Vec<T>) -> Vec<T> {
    defaults.iter().cloned().chain(own).collect()
}

/// Returns how often something is done, in seconds; `None` for never.
fn every(own: Option<Duration>, defaults: Option<Duration>, or_secs: u64) -> Option<u64> {
    own.or(defaults).unwrap_or(Duration::of_secs(or_secs)).secs
}

impl Profile {
    /// Fills in what a profile inherits, and refuses what makes no sense.
    pub fn resolve(name: &str, found: &Path, own: file::Profile, defaults: &file::Profile) -> Result<Self> {
        check_name("profile", name)?;
        if is_reserved(name) {
            return Err(Error::usage(format!("`{name}` cannot name a profile: it is a tag with a meaning of its own")));
        }
        own.check_paths()?;
        defaults.check_paths()?;
        own.check_limits()?;
        own.check_exec()?;
        defaults.check_limits()?;
        defaults.check_exec()?;
        let has_databases = own.has_databases();
        let sources = own.sources.or_else(|| defaults.sources.clone()).unwrap_or_default();
        sources.iter().try_for_each(|path| check_absolute("sources", Some(path)))?;
        if sources.is_empty() && !has_databases {
            return Err(Error::usage("there is nothing to back up: add `sources = [\"/\"]` or a database"));
        }
        let ports = own.postgresql.iter().map(|it| it.port).chain(own.mysql.iter().map(|it| it.port));
        if ports.flatten().any(|port| port == 0) {
            return Err(Error::usage("port: nothing listens at port 0: write the server's, or leave it out"));
        }
        unique("PostgreSQL cluster", own.postgresql.iter().map(postgresql_name))?;
        unique("MySQL server", own.mysql.iter().map(mysql_name))?;
        unique("command", own.command.iter().map(|command| &*command.name))?;
        let mut separate = BTreeMap::new();
        let tables = [&own.hourly, &own.daily, &own.weekly, &own.monthly, &own.bimonthly, &own.shutdown, &own.manual];
        let inherited = [
            &defaults.hourly,
            &defaults.daily,
            &defaults.weekly,
            &defaults.monthly,
            &defaults.bimonthly,
            &defaults.shutdown,
            &defaults.manual,
        ];
        for ((periodicity, own), inherited) in Periodicity::ALL.into_iter().zip(tables).zip(inherited) {
            if let Some(table) = own.as_ref().or(inherited.as_ref()) {
                separate.insert(periodicity, table.keep.clone());
            }
        }
        let schedule = own.schedule.or_else(|| defaults.schedule.clone()).unwrap_or_default();
        if schedule.contains(&Periodicity::Manual) {
            return Err(Error::usage("`manual` cannot be scheduled: `bakfs run` without --periodicity is such a run"));
        }
        let compression = own.compression.or(defaults.compression);
        if let Some(level) = compression.filter(|level| !(1..=19).contains(level)) {
            return Err(Error::usage(format!("compression = {level} is no level of zstd: write 1 to 19")));
        }
        let share = own.check.share.or(defaults.check.share);
        let max_age = own.check.max_age.or(defaults.check.max_age);
        let month: Window = "30d".parse()?;
        let tags = joined(&defaults.tags, own.tags);
        let tags = tags.iter().map(|tags| list("tag", tags)).collect::<Result<Vec<_>, _>>().map_err(Error::usage)?;
        let tags = tags.concat();
        let host = own.host.or_else(|| defaults.host.clone());
        host.iter().try_for_each(|host| check_word("host", host)).map_err(Error::usage)?;
        if let Some(tag) = tags.iter().find(|tag| is_reserved(tag)) {
            return Err(Error::usage(format!("`{tag}` cannot be one of its tags: it has a meaning of its own")));
        }
        let own_count = own.exclude.len();
        let own_excludes = joined(&defaults.exclude, own.exclude);
        let mut excludes = Vec::new();
        if own.default_excludes.or(defaults.default_excludes).unwrap_or(true) {
            // `!/tmp` means what is in it.
            let is_wanted = |glob: &str| own_excludes.iter().any(|own| own.strip_prefix('!') == Some(folder_of(glob)));
            let built_in = BUILT_IN.iter().map(|(glob, _)| *glob).filter(|glob| !is_wanted(glob));
            excludes.extend(built_in.map(str::to_string));
        }
        excludes.extend(own_excludes);
        let own_excludes = (own_count, own.exclude_file.len());
        Ok(Profile {
            name: name.to_string(),
            file: found.to_path_buf(),
            repository: own.repository.or_else(|| defaults.repository.clone()),
            sources,
            excludes,
            own_excludes,
            exclude_files: joined(&defaults.exclude_file, own.exclude_file),
            exclude_caches: own.exclude_caches.or(defaults.exclude_caches).unwrap_or(true),
            one_file_system: own.one_file_system.or(defaults.one_file_system).unwrap_or(false),
            allow_empty: own.allow_empty.or(defaults.allow_empty).unwrap_or(false),
            tags,
            host,
            compression,
            schedule,
            keep: own.keep.or_else(|| defaults.keep.clone()),
            separate,
            hooks: Hooks::resolve(own.hooks, &defaults.hooks),
            notify: notify(own.notify, &defaults.notify),
            check_every_secs: every(own.check.every, defaults.check.every, 86_400),
            check_share: share.unwrap_or(CHECK_SHARE),
            check_max_age: max_age.unwrap_or(month),
            prune_every_secs: every(own.prune.every, defaults.prune.every, 7 * 86_400),
            max_age: own.max_age.or(defaults.max_age),
            temporary_dir: own.temporary_dir.or_else(|| defaults.temporary_dir.clone()),
            postgresql: own.postgresql,
            mysql: own.mysql,
            sqlite: own.sqlite,
            command: own.command,
        })
    }

    /// Returns whether it dumps anything.
    pub fn has_databases(&self) -> bool {
        !(self.postgresql.is_empty() && self.mysql.is_empty() && self.sqlite.is_empty() && self.command.is_empty())
    }

    /// Returns the globs and the files of globs that are its own, and nobody else's.
    pub fn own_excludes(&self) -> (&[String], &[PathBuf]) {
        let (globs, files) = self.own_excludes;
        (&self.excludes[self.excludes.len() - globs..], &self.exclude_files[self.exclude_files.len() - files..])
    }

    /// Returns the tags of the snapshots of its runs: its name, the periodicity, its own.
    pub fn tags_of(&self, periodicity: Periodicity) -> Vec<String> {
        let mut tags = vec![self.name.clone(), periodicity.word().to_string()];
        tags.extend(self.tags.iter().cloned());
        tags
    }
}

/// Returns the name of a PostgreSQL cluster below `/databases/postgresql`.
pub fn postgresql_name(cluster: &Postgresql) -> &str {
    cluster.name.as_deref().unwrap_or("main")
}

/// Returns the name of a MySQL server below `/databases/mysql`.
pub fn mysql_name(server: &Mysql) -> &str {
    server.name.as_deref().unwrap_or("main")
}

impl Hooks {
    fn resolve(own: file::Hooks, defaults: &file::Hooks) -> Self {
        Hooks {
            before: own.before.or_else(|| defaults.before.clone()),
            after: own.after.or_else(|| defaults.after.clone()),
            on_failure: own.on_failure.or_else(|| defaults.on_failure.clone()),
            finally: own.finally.or_else(|| defaults.finally.clone()),
            timeout_secs: every(own.timeout, defaults.timeout, HOOK_TIMEOUT_SECS),
        }
    }
}

fn notify(own: file::Notify, defaults: &file::Notify) -> file::Notify {
    file::Notify {
        mail: own.mail.or_else(|| defaults.mail.clone()),
        mail_from: own.mail_from.or_else(|| defaults.mail_from.clone()),
        on_success: own.on_success.or(defaults.on_success),
        sendmail: own.sendmail.or_else(|| defaults.sendmail.clone()),
        webhook: own.webhook.or_else(|| defaults.webhook.clone()),
        ping_start: own.ping_start.or_else(|| defaults.ping_start.clone()),
        ping_success: own.ping_success.or_else(|| defaults.ping_success.clone()),
        ping_failure: own.ping_failure.or_else(|| defaults.ping_failure.clone()),
    }
}
