//! MySQL and MariaDB by their client programs.

mod inspect;
mod rights;
mod server;
mod users;

use super::Plan;
use super::local::owner;
use super::manifest::{MAX_TABLES, Manifest, Record, Subject, Table, names};
use super::name::file_name;
use crate::error::{Error, ErrorKind, Result};
use crate::process::{Output, Program};
use crate::settings::file::Mysql;
use crate::settings::profile::mysql_name;
use crate::source::generated::Replaced;
pub use inspect::inspect;
use server::{Facts, Server};
use std::io::{Cursor, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The name of the dump of users and their rights.
const USERS: &str = "users.sql";
/// The last words of a dump that is whole.
const LAST_WORDS: &[u8] = b"-- Dump completed";
/// How much of a dump's end may have them.
const TAIL_BYTES: usize = 256;
/// Every dump's options; `--comments` has the last words written.
const OPTIONS: [&str; 9] = [
    "--single-transaction",
    "--quick",
    "--routines",
    "--events",
    "--triggers",
    "--hex-blob",
    "--comments",
    "--skip-dump-date",
    "--no-tablespaces",
];
/// The most tables a note names.
const MAX_NAMED: usize = 5;

/// The program that dumps a server.
struct DumpProgram {
    path: PathBuf,
    version: String,
    help: String,
}

/// A server that is dumped.
struct Source {
    server: Server,
    facts: Facts,
    program: DumpProgram,
}

impl DumpProgram {
    fn find(server: &Server, facts: &Facts) -> Result<Self> {
        let path = server.dump_program(facts.is_mariadb())?;
        let told = |option: &str| {
            let mut program = Program::new([path.as_os_str()]).arg(option).env("LC_ALL", "C");
            program.timeout = Some(Duration::from_secs(60));
            program.answer()
        };
        let version = told("--version")?;
        let version = version.trim().trim_start_matches(&*path.to_string_lossy()).trim().to_string();
        let help = told("--help")?;
        Ok(DumpProgram { path, version, help })
    }

    fn have(&self, option: &str) -> bool {
        self.help.contains(option)
    }
}

/// Adds a server's databases to what is dumped.
pub fn plan(settings: &Mysql, plan: &mut Plan) {
    let folder = |name: &[u8]| names("mysql", &[mysql_name(settings).as_bytes(), name]);
    let dump_name = |database: &str| file_name(database, ".sql", USERS);
    let source = match Source::open(settings) {
        Err(error) => return plan.fail(&names("mysql", &[mysql_name(settings).as_bytes()]), error),
        Ok(source) => Arc::new(source),
    };
    if settings.databases.is_none() && !source.facts.rights.sees_all_databases() {
        let message = format!(
            "`{}` may not see every database of the MySQL server `{}`, and one it does not see would be missing \
             without a word: `GRANT SHOW DATABASES, SELECT, ... ON *.*`, or list `databases`",
            source.facts.role, source.server.name
        );
        plan.fail(&folder(b"(others)"), Error::new(ErrorKind::Denied, message));
    }
    let (databases, missing) = source.facts.chosen(settings);
    for name in missing {
        let message = format!(
            "There is no database `{name}` at the MySQL server `{}` that `{}` sees: create it, or take it out of \
             `databases`",
            source.server.name, source.facts.role
        );
        plan.fail(&folder(&dump_name(&name)), Error::new(ErrorKind::NotFound, message));
    }
    let mut by = Vec::new();
    let mut add = |unit: super::Unit| {
        by.push(unit.dump.path.clone());
        plan.units.push(unit);
    };
    for (name, bytes) in databases {
        add(source.unit(&name, bytes, folder(&dump_name(&name))));
    }
    if settings.globals.unwrap_or(true) {
        add(source.users(folder(USERS.as_bytes())));
    }
    let is_whole = settings.databases.is_none();
    plan.replaced.push(Replaced { is_whole, by, files: Vec::new(), folders: source.server.folders() });
}

impl Source {
    fn open(settings: &Mysql) -> Result<Self> {
        let server = Server::new(settings)?;
        let facts = server.facts()?;
        let program = DumpProgram::find(&server, &facts)?;
        Ok(Source { server, facts, program })
    }

    fn subject(&self, path: Vec<Vec<u8>>, title: String, database: &str) -> Subject {
        let manifest = Manifest {
            kind: "mysql",
            database: database.to_string(),
            format: "plain",
            server_version: Some(self.facts.version.clone()),
            program: Some(self.program.version.clone()),
            ..Manifest::default()
        };
        Subject { path, owner: owner(self.server.account.as_ref()), title, manifest }
    }

    fn unit(self: &Arc<Self>, name: &str, bytes: u64, path: Vec<Vec<u8>>) -> super::Unit {
        let title = format!("the database `{name}` of the MySQL server `{}`", self.server.name);
        let mut subject = self.subject(path, title, name);
        subject.manifest.database_bytes = Some(bytes);
        let (source, name) = (self.clone(), name.to_string());
        subject.stream(move |record| {
            source.check_rights(&name, record)?;
            source.describe(&name, record);
            source.stream(source.dump(&name))
        })
    }

    fn users(self: &Arc<Self>, path: Vec<Vec<u8>>) -> super::Unit {
        let title = format!("the users of the MySQL server `{}`", self.server.name);
        let source = self.clone();
        self.subject(path, title, "users").stream(move |_| {
            let is_mariadb = source.facts.is_mariadb();
            if !is_mariadb || !source.program.have("--system") {
                return Ok(Box::new(Cursor::new(users::sql(&source.server, is_mariadb)?)));
            }
            let program = source.server.program(&source.program.path);
            let options = ["--comments", "--skip-dump-date", "--system=users", "--insert-ignore"];
            Ok(Box::new(Whole::new(options.into_iter().fold(program, |program, option| program.arg(option)).stream()?)))
        })
    }

    /// Fails where the dump program would leave out what its user does not see.
    fn check_rights(&self, database: &str, record: &Record) -> Result<()> {
        let (rights, role) = (&self.facts.rights, &self.facts.role);
        let without = |option: &str| self.server.settings.options.iter().any(|given| given == option);
        let lacks = |right: &&str| !rights.has(right, database);
        let needed = ["SELECT"].into_iter().chain((!without("--skip-triggers")).then_some("TRIGGER"));
        let lacking: Vec<_> = needed.filter(lacks).collect();
        if !lacking.is_empty() {
            let lacking = lacking.join(" and ");
            let message = format!(
                "`{role}` lacks {lacking} on it, and the dump would lack what it does not see: run \
                 `GRANT SELECT, LOCK TABLES, SHOW VIEW, TRIGGER, EVENT` on the database"
            );
            return Err(Error::new(ErrorKind::Denied, message));
        }
        if !rights.sees_routines() && !without("--skip-routines") {
            record.note(format!(
                "routines that `{role}` has not made may be missing: it lacks SELECT on the database mysql"
            ));
        }
        Ok(())
    }

    /// Records what the manifest tells of a database.
    fn describe(&self, database: &str, record: &Record) {
        let hex: String = database.bytes().map(|byte| format!("{byte:02x}")).collect();
        let sql = format!(
            "SELECT t.TABLE_NAME, IFNULL(t.TABLE_ROWS, ''), IFNULL(t.DATA_LENGTH + t.INDEX_LENGTH, 0),
                    IFNULL(e.TRANSACTIONS, '')
             FROM information_schema.TABLES t LEFT JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE
             WHERE t.TABLE_TYPE = 'BASE TABLE' AND t.TABLE_SCHEMA = CONVERT(x'{hex}' USING utf8mb4)
             ORDER BY t.TABLE_NAME LIMIT {MAX_TABLES}"
        );
        let rows = match self.server.ask(&sql) {
            Err(error) => return record.note(format!("sizes and rows are not known: {}", error.chain())),
            Ok(rows) => rows,
        };
        let (mut bytes, mut tables, mut unsafe_names) = (0, Vec::new(), Vec::new());
        for row in rows {
            let Ok([name, rows, table_bytes, transactions]) = <[String; 4]>::try_from(row) else { continue };
            bytes += table_bytes.parse().unwrap_or(0);
            if transactions == "NO" {
                unsafe_names.push(name.clone());
            }
            tables.push(Table { name, estimated_rows: rows.parse().ok() });
        }
        if !unsafe_names.is_empty() {
            let named = unsafe_names[..unsafe_names.len().min(MAX_NAMED)].join(", ");
            record.note(format!(
                "{} tables are of engines without transactions and may have changed while they were dumped: {named}",
                unsafe_names.len()
            ));
        }
        record.change(|manifest| {
            manifest.database_bytes = Some(bytes);
            manifest.tables = tables;
        });
    }

    fn dump(&self, database: &str) -> Program {
        let mut program = OPTIONS.into_iter().fold(self.server.program(&self.program.path), Program::arg);
        // Only MySQL's own has it: a restore elsewhere must not touch that server's replication.
        if self.program.have("--set-gtid-purged") {
            program = program.arg("--set-gtid-purged=OFF");
        }
        // MySQL 8's program asks servers for a table that MariaDB and older ones lack.
        if self.program.have("--column-statistics") {
            program = program.arg("--column-statistics=0");
        }
        let options = &self.server.settings.options;
        options.iter().fold(program, |program, option| program.arg(option)).arg("--").arg(database)
    }

    fn stream(&self, program: Program) -> Result<Box<dyn Read + Send>> {
        let silent =
            ["--skip-comments", "--comments=0", "--comments=OFF", "--comments=FALSE", "--compact", "--xml", "-X"];
        let is_silent = self.server.settings.options.iter().any(|option| silent.contains(&&**option));
        let output = program.stream()?;
        if is_silent { Ok(Box::new(output)) } else { Ok(Box::new(Whole::new(output))) }
    }
}

/// The output of a dump program, which must end with its last words.
struct Whole {
    output: Output,
    tail: Vec<u8>,
}

impl Whole {
    fn new(output: Output) -> Self {
        Whole { output, tail: Vec::new() }
    }
}

impl Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = self.output.read(buffer)?;
        let is_end = len == 0 && !buffer.is_empty();
        if is_end && !self.tail.windows(LAST_WORDS.len()).any(|words| words == LAST_WORDS) {
            let message = "The dump breaks off: its last line is not `-- Dump completed`. Look at the server's log";
            return Err(std::io::Error::other(Error::new(ErrorKind::Io, message)));
        }
        self.tail.extend_from_slice(&buffer[len.saturating_sub(TAIL_BYTES)..len]);
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..surplus);
        Ok(len)
    }
}
