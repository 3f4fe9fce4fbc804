//! A PostgreSQL server as its client programs see it.

use super::programs::{elsewhere, psql};
use crate::database::local::{account, check_secret, dump_limit};
use crate::error::{Error, Result};
use crate::process::{Account, Program, Stop};
use crate::settings::file::Postgresql;
use crate::settings::profile::postgresql_name;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a question may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// Variables that would lead programs to another server, or change what it tells (libpq, Environment Variables): only
/// the configuration does.
const WITHHELD: [&str; 15] = [
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGDATABASE",
    "PGUSER",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGSYSCONFDIR",
    "PGOPTIONS",
    "PGCLIENTENCODING",
    "PGDATESTYLE",
    "PGTZ",
    "PGGEQO",
    "PGTARGETSESSIONATTRS",
    "PGLOADBALANCEHOSTS",
];
/// What a role's or a database's settings would change; those of the connection come before them.
const SETTINGS: &str = "-c role=none -c search_path=pg_catalog -c statement_timeout=0 -c lock_timeout=0 \
     -c client_min_messages=warning -c default_transaction_read_only=off";
/// A server without a free connection is asked again so often, each time after twice as long.
const MAX_TRIES: u32 = 5;

/// Where a server is, and who asks.
#[derive(Clone)]
pub struct Server {
    /// Its name in the configuration.
    pub name: String,
    /// What the configuration says.
    pub settings: Postgresql,
    /// The account programs run as, if another one than ours.
    pub account: Option<Account>,
    psql: PathBuf,
    stop: Stop,
}

/// What a server tells of itself.
#[derive(Debug, Deserialize)]
pub struct Facts {
    /// Its version as a number, as 150018.
    pub version_num: u32,
    /// Its version for people.
    pub version: String,
    /// Whether no right is asked for.
    pub is_superuser: bool,
    /// Whether the role reads the passwords of roles.
    pub reads_passwords: bool,
    /// The role.
    pub role: String,
    /// All databases.
    pub databases: Vec<ServerDatabase>,
    /// The database these were asked in.
    #[serde(skip)]
    pub asked_in: String,
}

/// A database of a server.
#[derive(Debug, Deserialize)]
pub struct ServerDatabase {
    /// Its name.
    pub name: String,
    /// Its size; `None` where the role may not connect to it.
    pub bytes: Option<u64>,
    /// Whether it accepts connections.
    pub accepts: bool,
    /// Whether an interrupted DROP DATABASE has left it: nothing can be done with it but to drop it again.
    pub is_dropped: bool,
    /// The encoding of its texts.
    pub encoding: String,
}

const FACTS: &str = "SELECT json_build_object(
    'version_num', current_setting('server_version_num')::int, 'version', current_setting('server_version'),
    'is_superuser', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
    'reads_passwords', has_table_privilege('pg_catalog.pg_authid', 'SELECT'),
    'role', current_user,
    'databases', (SELECT coalesce(json_agg(json_build_object('name', datname, 'accepts', datallowconn,
            'is_dropped', datconnlimit = -2, 'encoding', pg_encoding_to_char(encoding),
            'bytes', CASE WHEN datconnlimit <> -2 AND has_database_privilege(oid, 'CONNECT')
                THEN pg_database_size(oid) END) ORDER BY datname), '[]') FROM pg_database))";

impl Server {
    /// Names a server, and verifies the account, its secrets and the program that asks.
    pub fn new(settings: &Postgresql, stop: &Stop) -> Result<Self> {
        let is_local = settings.host.as_ref().is_none_or(|host| host.starts_with(['/', '@']));
        let is_here = is_local && settings.exec.is_none();
        let by_peer = (is_here && rustix::process::geteuid().is_root()).then_some("postgres");
        let account = account(settings.user.as_deref().or(by_peer))?;
        if let Some(pgpass) = &settings.pgpass {
            // libpq ignores a file that others may read, and then asks nobody.
            check_secret(pgpass, account.as_ref(), false)?;
        }
        check_options(&settings.options)?;
        let psql = match settings.exec.is_none() {
            true => psql(settings.bin_dir.as_deref())?,
            false => elsewhere("psql", settings.bin_dir.as_deref()),
        };
        let name = postgresql_name(settings).to_string();
        Ok(Server { name, settings: settings.clone(), account, psql, stop: stop.clone() })
    }

    /// Makes a client program that connects to this server.
    pub fn program(&self, path: &Path) -> Program {
        let mut program = Program::new([path.as_os_str()]).arg("--no-password").stopped_by(&self.stop);
        program.account = self.account.clone();
        program.timeout = dump_limit(self.settings.timeout);
        let settings = &self.settings;
        program.exec = settings.exec.words();
        let port = settings.port.map(|port| port.to_string());
        // In a container programs are root's, whom no server knows.
        let usual = (!settings.exec.is_none()).then(|| String::from("postgres"));
        let role = settings.role.as_ref().or(usual.as_ref());
        for (option, value) in [("--host", settings.host.as_ref()), ("--port", port.as_ref()), ("--username", role)] {
            if let Some(value) = value {
                program = program.arg(format!("{option}={value}"));
            }
        }
        if let Some(pgpass) = &settings.pgpass {
            program = program.env("PGPASSFILE", pgpass);
        }
        program.withheld = WITHHELD.iter().map(Into::into).collect();
        // Messages are told apart by their words.
        program.env("PGOPTIONS", SETTINGS).env("PGAPPNAME", "bakfs").env("PGCONNECT_TIMEOUT", "10").env("LC_ALL", "C")
    }

    /// Makes the program that is told SQL in a database, line by line or by `--command`.
    pub fn psql(&self, database: &str) -> Program {
        let quiet = ["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1"];
        let program = self.program(&self.psql).env("PGCLIENTENCODING", "UTF8");
        quiet.into_iter().fold(program, |program, option| program.arg(option)).arg(connection(database))
    }

    /// Asks for one JSON value in a database.
    pub fn ask<T: DeserializeOwned>(&self, database: &str, sql: &str) -> Result<T> {
        let mut program = self.psql(database).arg("--command").arg(sql);
        program.timeout = Some(ANSWER_LIMIT);
        let answer = patiently(|| program.answer(), || ()).map_err(|error| self.explained(error))?;
        serde_json::from_str(&answer).map_err(|error| {
            let message = format!("psql's answer from the PostgreSQL cluster `{}` is not understood", self.name);
            Error::io(message, std::io::Error::other(error))
        })
    }

    /// Asks for what the server tells of itself.
    pub fn facts(&self) -> Result<Facts> {
        let listed = self.settings.databases.iter().flatten().map(String::as_str).take(3);
        let mut first_error = None;
        for database in ["postgres"].into_iter().chain(listed).chain(["template1"]) {
            match self.ask::<Facts>(database, FACTS) {
                Ok(facts) => return Ok(Facts { asked_in: database.to_string(), ..facts }),
                // Another database may let the role in; no other way leads to a server that is down.
                Err(error) if error.chain().contains("FATAL") => first_error = first_error.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        Err(first_error.expect("at least one database was tried and failed"))
    }

    /// Adds what to do about a failed connection.
    fn explained(&self, error: Error) -> Error {
        let words = error.chain();
        let says = |texts: &[&str]| texts.iter().any(|text| words.contains(text));
        let advice = if is_refused(&error) {
            "it has no connection free: raise `max_connections`, or have programs hold fewer"
        } else if says(&["password authentication failed", "no password supplied", "PAM authentication failed"]) {
            "check the role's password, and its line in the `pgpass` file"
        } else if says(&["Peer authentication failed", "Ident authentication failed"]) {
            "set `user` to the account of this machine that the server takes for the role, or use `pgpass`"
        } else if says(&["Connection refused", "No such file", "timeout expired", "not translate host", "starting up"])
        {
            "check that the server runs, and `host` and `port`"
        } else if says(&["pg_hba.conf"]) {
            "add a line for the role to the server's pg_hba.conf"
        } else {
            "try the same with psql"
        };
        let message = format!("Cannot ask the PostgreSQL cluster `{}`: {advice}", self.name);
        Error::new(error.kind(), message).because(error)
    }
}

/// Returns whether a server had no connection free.
fn is_refused(error: &Error) -> bool {
    let words = error.chain();
    let refusals = ["too many clients already", "connection slots are reserved", "too many connections for"];
    refusals.iter().any(|refusal| words.contains(refusal))
}

/// Tries until the server has a connection free, some times; `give_back` is called before each further try.
pub fn patiently<T>(mut attempt: impl FnMut() -> Result<T>, mut give_back: impl FnMut()) -> Result<T> {
    let mut pause = Duration::from_millis(500);
    for _ in 1..MAX_TRIES {
        match attempt() {
            Err(error) if is_refused(&error) => give_back(),
            done => return done,
        }
        std::thread::sleep(pause);
        pause *= 2;
    }
    attempt()
}

/// Returns the option that names a database; by itself, a name with `=` would be taken for more than a name.
pub fn connection(database: &str) -> String {
    let quoted = database.replace('\\', "\\\\").replace('\'', "\\'");
    format!("--dbname=dbname='{quoted}'")
}

/// Refuses options that would lead the dump elsewhere, or show a secret.
fn check_options(options: &[String]) -> Result<()> {
    let long = ["--file", "--format", "--dbname", "--snapshot", "--jobs", "--password", "--compress"];
    let short = ["-f", "-F", "-d", "-j", "-W", "-Z"];
    for option in options {
        let word = option.split('=').next().unwrap_or(option);
        // pg_dump takes any beginning of a long option that is no other one's.
        let is_long = word.len() > 3 && long.iter().any(|taken| taken.starts_with(word));
        if is_long || (!option.starts_with("--") && short.iter().any(|taken| option.starts_with(taken))) {
            let message = format!("The option `{word}` of pg_dump is set by bakfs: leave it out of `options`");
            return Err(Error::usage(message));
        }
    }
    Ok(())
}
