//! MySQL and MariaDB by their client programs.

mod client;
mod connection;
mod contents;
mod dumping;
mod files;
mod inspect;
mod option_files;
mod program;
mod rights;
mod server;
mod users;
mod verify;

use super::Plan;
use super::local::{Temporary, owner};
use super::manifest::{Manifest, Record, Subject, names};
use super::name::file_name;
use crate::error::{Error, ErrorKind, Result};
use crate::process::Stop;
use crate::settings::file::Mysql;
use crate::settings::profile::mysql_name;
use crate::source::generated::Replaced;
use dumping::Whole;
pub use inspect::inspect;
use program::{DumpProgram, Wishes};
use server::{Facts, Server};
use std::io::{Cursor, Read};
use std::sync::Arc;
use verify::{Expected, Verified};

/// The name of the dump of users and their rights.
const USERS: &str = "users.sql";

/// A server that is dumped.
struct Source {
    server: Server,
    facts: Facts,
    program: DumpProgram,
}

/// Adds a server's databases to what is dumped.
pub fn plan(settings: &Mysql, temporary: &Temporary, stop: &Stop, plan: &mut Plan) {
    let folder = |name: &[u8]| names("mysql", &[mysql_name(settings).as_bytes(), name]);
    let dump_name = |database: &str| file_name(database, ".sql", USERS);
    let source = match Source::open(settings, temporary, stop) {
        Err(error) => return plan.fail(&names("mysql", &[mysql_name(settings).as_bytes()]), error),
        Ok(source) => Arc::new(source),
    };
    let sees_all = source.facts.rights.sees_all_databases();
    if settings.databases.is_none() && !sees_all {
        let message = format!(
            "`{}` may not see every database of the MySQL server `{}`, and one it does not see would be missing \
             without a word: `GRANT SHOW DATABASES, SELECT, ... ON *.*`, or list `databases`",
            source.facts.role, source.server.name
        );
        plan.fail(&folder(b"(others)"), Error::new(ErrorKind::Denied, message));
    }
    let choice = source.facts.chosen(settings);
    for name in choice.missing {
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
    for (name, bytes) in choice.databases {
        add(source.unit(&name, bytes, folder(&dump_name(&name))));
    }
    let has_users = settings.globals.unwrap_or(true);
    if has_users {
        add(source.users(folder(USERS.as_bytes())));
    }
    // Users are in a database of the server's own.
    let is_whole = settings.databases.is_none() && sees_all && has_users;
    let folders = files::folders(&source.server);
    plan.replaced.push(Replaced { is_whole, by, files: Vec::new(), folders });
}

impl Source {
    fn open(settings: &Mysql, temporary: &Temporary, stop: &Stop) -> Result<Self> {
        let mut server = Server::new(settings, temporary, stop)?;
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
            source.dump(&name, record)
        })
    }

    fn users(self: &Arc<Self>, path: Vec<Vec<u8>>) -> super::Unit {
        let title = format!("the users of the MySQL server `{}`", self.server.name);
        let source = self.clone();
        self.subject(path, title, "users").stream(move |_| {
            let is_mariadb = source.facts.is_mariadb();
            let libraries = Cursor::new(users::libraries(&source.server)?);
            let others = Cursor::new(users::others(&source.server, is_mariadb)?);
            if !is_mariadb || !source.program.knows("system") {
                let users = Cursor::new(users::sql(&source.server, is_mariadb)?);
                return Ok(Box::new(libraries.chain(users).chain(others)));
            }
            // What it connects by must be there until its end.
            let program = source.server.program(&source.program.path);
            let options = ["--comments", "--skip-dump-date", "--system=users", "--insert-ignore"];
            let program = options.into_iter().fold(program, |program, option| program.arg(option));
            let stream = Box::new(libraries.chain(Whole::new(program.stream()?)).chain(others));
            Ok(Box::new(Verified::new(stream, Expected::default(), move |_| drop(source))))
        })
    }

    /// Fails where the dump program would leave out what its user does not see.
    fn check_rights(&self, database: &str, record: &Record) -> Result<()> {
        let (rights, role) = (&self.facts.rights, &self.facts.role);
        let wishes = Wishes::of(&self.server.settings.options, database);
        let lacks = |right: &&str| !rights.has(right, database);
        let needed = ["SELECT"].into_iter().chain((!wishes.lacks("triggers")).then_some("TRIGGER"));
        let lacking: Vec<_> = needed.filter(lacks).collect();
        if !lacking.is_empty() {
            let lacking = lacking.join(" and ");
            let message = format!(
                "`{role}` lacks {lacking} on it, and the dump would lack what it does not see: run \
                 `GRANT SELECT, LOCK TABLES, SHOW VIEW, TRIGGER, EVENT` on the database"
            );
            return Err(Error::new(ErrorKind::Denied, message));
        }
        if !rights.sees_routines() && !wishes.lacks("routines") {
            let on = if self.facts.is_mariadb() { "mysql.proc" } else { "*.*" };
            record.lack(format!(
                "routines that `{role}` has not made may be missing: it may not see them. Run `GRANT SELECT ON {on}`, or \
                 accept that by `options = [\"--skip-routines\"]`"
            ));
        }
        Ok(())
    }
}
