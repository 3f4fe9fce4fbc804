//! PostgreSQL by its client programs: psql asks, pg_dump and pg_dumpall dump.

mod choice;
mod files;
mod inspect;
mod moment;
mod programs;
mod rights;
mod server;

use super::Plan;
use super::local::{Temporary, owner};
use super::manifest::{MAX_TABLES, Manifest, Record, Subject, Table, names};
use super::name::file_name;
use crate::error::{Error, ErrorKind, Result};
use crate::process::{Program, Stop};
use crate::settings::file::{PgFormat, Postgresql};
use crate::settings::profile::postgresql_name;
use crate::source::generated::Replaced;
use choice::{Choice, choose, is_untouched};
pub use inspect::inspect;
use moment::{Moment, SnapshotSession};
use parking_lot::Mutex;
use programs::{Programs, Version};
use rights::Lacking;
use serde::Deserialize;
use server::{Facts, Server, ServerDatabase, connection, patiently};
use std::io::{Cursor, Read};
use std::sync::Arc;
use tempfile::TempDir;

/// The name of the dump of roles and tablespaces.
const GLOBALS: &str = "globals.sql";

/// Somebody's change of a table that is never committed must not hold up a night.
const LOCK_WAIT: &str = "--lock-wait-timeout=30min";

/// A cluster that is dumped.
struct Cluster {
    server: Server,
    programs: Programs,
    facts: Facts,
    temporary: Temporary,
    /// What is dumped.
    choice: Choice,
    /// Its sessions are opened when the first dump begins.
    moment: Mutex<Moment>,
}

/// How much of a program's output is waited for before it counts as begun.
const FIRST_BYTES: usize = 64 << 10;

/// A database that is about to be dumped.
struct Begun {
    session: Option<SnapshotSession>,
    /// Its size.
    bytes: Option<u64>,
    /// The options that leave out what the role may not read.
    options: Vec<String>,
}

/// What a database tells of itself.
#[derive(Deserialize)]
struct Description {
    bytes: u64,
    properties: serde_json::Value,
    tables: Vec<(String, i64)>,
}

/// What is the database's and not in it: `pg_restore -C` and a plain dump bring it back.
const PROPERTIES: &str = "SELECT json_build_object('owner', pg_get_userbyid(datdba),
        'encoding', pg_encoding_to_char(encoding), 'collate', datcollate, 'ctype', datctype,
        'tablespace', spcname, 'connection_limit', datconnlimit, 'is_template', datistemplate,
        'rights', datacl::text, 'comment', shobj_description(d.oid, 'pg_database'), 'settings', (SELECT
            coalesce(json_agg(json_build_object('role', nullif(pg_get_userbyid(setrole), 'unknown (OID=0)'),
                'values', setconfig) ORDER BY setrole), '[]') FROM pg_db_role_setting WHERE setdatabase = d.oid))
    FROM pg_database d JOIN pg_tablespace t ON t.oid = dattablespace WHERE datname = current_database()";
/// What a plain dump begins with: where there is a database of its name already, nothing is done to that.
const STOP_ON_ERRORS: &[u8] = b"\\set ON_ERROR_STOP on\n";

/// Adds a cluster's databases to what is dumped.
pub fn plan(settings: &Postgresql, temporary: &Temporary, stop: &Stop, plan: &mut Plan) {
    let folder = |name: &[u8]| names("postgresql", &[postgresql_name(settings).as_bytes(), name]);
    let cluster = match Cluster::open(settings, temporary, stop) {
        Err(error) => return plan.fail(&names("postgresql", &[postgresql_name(settings).as_bytes()]), error),
        Ok(opened) => Arc::new(opened),
    };
    for name in &cluster.choice.missing {
        plan.fail(&folder(&cluster.file_name(name)), cluster.missing(name));
    }
    for name in &cluster.choice.refusing {
        plan.fail(&folder(&cluster.file_name(name)), cluster.refusing(name));
    }
    for name in &cluster.choice.dropped {
        plan.notes.push(format!("postgresql {}: {}", cluster.server.name, dropped(name)));
    }
    let mut by = Vec::new();
    let mut add = |unit: super::Unit| {
        by.push(unit.dump.path.clone());
        plan.units.push(unit);
    };
    for known in cluster.facts.databases.iter().filter(|known| cluster.choice.databases.contains(&known.name)) {
        add(cluster.unit(known, folder(&cluster.file_name(&known.name))));
    }
    if settings.globals.unwrap_or(true) {
        add(cluster.globals(folder(GLOBALS.as_bytes())));
    }
    let is_whole = cluster.choice.is_whole;
    plan.replaced.push(Replaced {
        is_whole,
        by,
        files: Vec::new(),
        folders: files::folders(&cluster.server, &cluster.facts),
    });
}

/// Tells of what an interrupted DROP DATABASE has left.
fn dropped(name: &str) -> String {
    format!(
        "a DROP DATABASE of `{name}` was interrupted, and nothing of it can be read any more: it is left out. Run \
         `DROP DATABASE \"{name}\"` again"
    )
}

impl Cluster {
    /// Asks a cluster for its databases.
    fn open(settings: &Postgresql, temporary: &Temporary, stop: &Stop) -> Result<Self> {
        let server = Server::new(settings, stop)?;
        let facts = server.facts()?;
        let programs = Programs::find(Version { number: facts.version_num }, settings, server.account.as_ref())?;
        let choice = choose(settings, &facts, |known| is_untouched(&server, &programs, &known.name));
        let temporary = temporary.clone();
        let mut cluster = Cluster { server, programs, facts, temporary, choice, moment: Mutex::default() };
        let mut databases = cluster.choice.databases.clone();
        databases.sort_by_key(|name| cluster.file_name(name));
        cluster.moment = Mutex::new(Moment::of(databases));
        Ok(cluster)
    }

    fn refusing(&self, database: &str) -> Error {
        let message = format!(
            "The database `{database}` of the PostgreSQL cluster `{}` refuses connections and cannot be dumped: run \
             `ALTER DATABASE \"{database}\" ALLOW_CONNECTIONS true`, or name it in `exclude`",
            self.server.name
        );
        Error::new(ErrorKind::Denied, message)
    }

    fn missing(&self, database: &str) -> Error {
        let message = format!(
            "There is no database `{database}` in the PostgreSQL cluster `{}` that accepts connections: \
             create it, or take it out of `databases`",
            self.server.name
        );
        Error::new(ErrorKind::NotFound, message)
    }

    fn file_name(&self, database: &str) -> Vec<u8> {
        let suffix = match self.server.settings.format {
            PgFormat::Custom => ".dump",
            PgFormat::Directory => ".dir",
            PgFormat::Plain => ".sql",
        };
        file_name(database, suffix, GLOBALS)
    }

    fn manifest(&self, program: &str) -> Manifest {
        Manifest {
            kind: "postgresql",
            server_version: Some(self.facts.version.clone()),
            program: Some(format!("{program} {}", self.programs.version)),
            ..Manifest::default()
        }
    }

    fn unit(self: &Arc<Self>, known: &ServerDatabase, path: Vec<Vec<u8>>) -> super::Unit {
        let name = known.name.clone();
        let is_folder = self.server.settings.format == PgFormat::Directory;
        let format = match self.server.settings.format {
            PgFormat::Custom => "custom",
            PgFormat::Directory => "directory",
            PgFormat::Plain => "plain",
        };
        let manifest = self.manifest("pg_dump");
        let subject = Subject {
            path,
            owner: owner(self.server.account.as_ref()),
            title: format!("the database `{name}` of the PostgreSQL cluster `{}`", self.server.name),
            manifest: Manifest { database: name.clone(), format, database_bytes: known.bytes, ..manifest },
        };
        let cluster = self.clone();
        if is_folder {
            subject.folder(move |record| cluster.fill(&name, record))
        } else {
            subject.stream(move |record| Ok(Box::new(cluster.start(&name, record)?)))
        }
    }

    fn globals(self: &Arc<Self>, path: Vec<Vec<u8>>) -> super::Unit {
        let mut manifest = Manifest { database: "globals".into(), format: "plain", ..self.manifest("pg_dumpall") };
        let mut program = self.server.program(&self.programs.pg_dumpall).arg("--globals-only");
        if !self.facts.reads_passwords {
            let role = &self.facts.role;
            manifest.notes.push(format!("roles are dumped without their passwords: `{role}` may not read pg_authid"));
            program = program.arg("--no-role-passwords");
        }
        if let Some(known) = self.facts.databases.iter().find(|known| known.name == self.facts.asked_in) {
            program = program.env("PGCLIENTENCODING", &known.encoding);
        }
        if self.facts.asked_in != "postgres" {
            program = program.arg(format!("--database={}", self.facts.asked_in));
        }
        let subject = Subject {
            path,
            owner: owner(self.server.account.as_ref()),
            title: format!("the roles of the PostgreSQL cluster `{}`", self.server.name),
            manifest,
        };
        let cluster = self.clone();
        subject.stream(move |_| {
            cluster.moment.lock().open(&cluster.server, &cluster.facts.asked_in, None);
            Ok(Box::new(cluster.begun(&program)?))
        })
    }

    /// Starts a program whose output is stored. One the server has no connection for is started again, when sessions
    /// that wait for their dumps have been given back.
    fn begun(&self, program: &Program) -> Result<impl Read + Send + use<>> {
        patiently(
            || {
                let mut output = program.stream()?;
                let mut first = vec![0; FIRST_BYTES];
                let len = output.read(&mut first).map_err(|error| Error::of_read("Cannot begin it", error))?;
                first.truncate(len);
                Ok(Cursor::new(first).chain(output))
            },
            || self.moment.lock().give_back(),
        )
    }

    /// Takes a database's session, records what it may not read, and asks for what its manifest tells.
    fn begin(&self, database: &str, record: &Record) -> Begun {
        let session = {
            let mut moment = self.moment.lock();
            moment.open(&self.server, &self.facts.asked_in, Some(database));
            moment.take(database, record)
        };
        let lacking = rights::lacking(&self.server, &self.facts, database).unwrap_or_else(|error| {
            let notes = vec![format!("what `{}` may read of it is not known: {}", self.facts.role, error.chain())];
            Lacking { notes, ..Lacking::default() }
        });
        lacking.texts.iter().for_each(|text| record.lack(text.clone()));
        lacking.notes.iter().for_each(|text| record.note(text.clone()));
        let options = lacking.options;
        let sql = format!(
            "SELECT json_build_object('bytes', pg_database_size(current_database()), 'properties', ({PROPERTIES}),
                 'tables', (SELECT
                 coalesce(json_agg(json_build_array(name, rows)), '[]') FROM (
                     SELECT n.nspname || '.' || c.relname AS name, c.reltuples::bigint AS rows
                     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                     WHERE c.relkind IN ('r', 'm') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
                     ORDER BY 1 LIMIT {MAX_TABLES}) tables))"
        );
        match self.server.ask::<Description>(database, &sql) {
            Err(error) => {
                record.note(format!("sizes and rows are not known: {}", error.chain()));
                Begun { session, bytes: None, options }
            }
            Ok(description) => {
                let bytes = description.bytes;
                let table = |(name, rows)| Table { name, estimated_rows: u64::try_from(rows).ok() };
                record.change(|manifest| {
                    manifest.database_bytes = Some(bytes);
                    manifest.properties = Some(description.properties);
                    manifest.tables = description.tables.into_iter().map(table).collect();
                });
                Begun { session, bytes: Some(bytes), options }
            }
        }
    }

    fn pg_dump(&self, database: &str, begun: &Begun) -> Program {
        let format = self.server.settings.format;
        let mut program = self.server.program(&self.programs.pg_dump).arg("--compress=0");
        program = program.arg(match format {
            PgFormat::Custom => "--format=custom",
            PgFormat::Directory => "--format=directory",
            PgFormat::Plain => "--format=plain",
        });
        // In an archive they are in any case (pg_dump(1), --create).
        if format == PgFormat::Plain {
            program = program.arg("--create");
        }
        // The role's settings must not decide: a text that has no place in another encoding cannot be dumped.
        if let Some(known) = self.facts.databases.iter().find(|known| known.name == database) {
            program = program.arg(format!("--encoding={}", known.encoding));
        }
        if let Some(session) = &begun.session {
            program = program.arg(format!("--snapshot={}", session.snapshot));
        }
        let options = &self.server.settings.options;
        if !options.iter().any(|option| option.starts_with("--lock-wait-timeout")) {
            program = program.arg(LOCK_WAIT);
        }
        options
            .iter()
            .chain(&begun.options)
            .fold(program, |program, option| program.arg(option))
            .arg(connection(database))
    }

    fn start(&self, database: &str, record: &Record) -> Result<Held> {
        let begun = self.begin(database, record);
        let output = self.begun(&self.pg_dump(database, &begun))?;
        let first = if self.server.settings.format == PgFormat::Plain { STOP_ON_ERRORS } else { &[] };
        Ok(Held { output: Box::new(first.chain(output)), session: begun.session })
    }

    fn fill(&self, database: &str, record: &Record) -> Result<TempDir> {
        let begun = self.begin(database, record);
        self.temporary.check_room(begun.bytes.unwrap_or(0))?;
        let folder = self.temporary.make(self.server.account.as_ref())?;
        let mut program = self.pg_dump(database, &begun).arg("--file").arg(folder.path());
        if let Some(jobs) = self.server.settings.jobs.filter(|jobs| *jobs > 1) {
            program = program.arg(format!("--jobs={jobs}"));
        }
        if self.programs.have("--no-sync") {
            program = program.arg("--no-sync");
        }
        // A try that was refused has left an empty folder, which pg_dump takes.
        patiently(|| program.answer(), || self.moment.lock().give_back()).map_err(|error| {
            let is_full = error.chain().contains("No space left on device");
            let kind = if is_full { ErrorKind::Full } else { error.kind() };
            let shown = self.temporary.folder.display();
            Error::new(kind, format!("It is made in {shown} (`temporary-dir`)")).because(error)
        })?;
        Ok(folder)
    }
}

/// A dump's output, beside the session that keeps its snapshot.
struct Held {
    output: Box<dyn Read + Send>,
    session: Option<SnapshotSession>,
}

impl Read for Held {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.output.read(buffer);
        if matches!(read, Ok(0) | Err(_)) && !buffer.is_empty() {
            self.session = None;
        }
        read
    }
}
