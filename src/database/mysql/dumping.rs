//! Dumping one database: what is in it is asked first, what cannot be read is left out and named, and the dump is
//! looked at while it is made.

use super::Source;
use super::contents::{Contents, Table, Tried};
use super::program::{NO_HISTORY, Wishes};
use super::verify::{Expected, Kind, Verified};
use crate::database::manifest::{self, MAX_TABLES, Record};
use crate::error::{Error, ErrorKind, Result};
use crate::process::{Output, Program};
use crate::quantity::{are, counted};
use std::collections::{BTreeSet, VecDeque};
use std::io::{Cursor, Read};
use std::sync::Arc;

/// The last words of a dump that is whole.
const LAST_WORDS: &[u8] = b"-- Dump completed";
/// How much of a dump's end may have them.
const TAIL_BYTES: usize = 256;
/// The most tables a note names, and the most objects that are named one by one.
const MAX_NAMED: usize = 5;
const MAX_LACKS: usize = 20;

/// Names some of many.
fn named<'a>(names: impl Iterator<Item = &'a str> + Clone) -> String {
    let more = names.clone().count().saturating_sub(MAX_NAMED);
    let some = names.take(MAX_NAMED).collect::<Vec<_>>().join(", ");
    if more == 0 { some } else { format!("{some} and {more} more") }
}

/// Adds what is lacking, and how much more of the kind.
fn lack_each(record: &Record, what: Vec<String>) {
    let more = what.len().saturating_sub(MAX_LACKS);
    what.into_iter().take(MAX_LACKS).for_each(|text| record.lack(text));
    if more > 0 {
        record.lack(format!("and {more} more of its tables, views or programs"));
    }
}

/// Returns what is to be said of something that cannot be read.
pub fn broken(database: &str, table: &Table, why: &str) -> String {
    format!(
        "the {} `{}` cannot be read ({why}) and is not in the dump: mend it or drop it, or accept that by \
         `options = [\"--ignore-table={database}.{}\"]`",
        table.word(),
        table.name,
        table.name
    )
}

/// Returns what is to be said of views whose definer does not exist.
pub fn orphaned(tried: &Tried) -> Option<String> {
    let names = named(tried.orphaned.iter().map(String::as_str));
    (!tried.orphaned.is_empty()).then(|| {
        format!(
            "the definer of the views {names} does not exist: they can be restored into a database of the same name \
             alone, until somebody else defines them"
        )
    })
}

impl Source {
    /// Asks for what is in a database, and tries to read it.
    pub fn look(&self, database: &str, wishes: &Wishes) -> Result<(Contents, Tried)> {
        let contents = Contents::of(&self.server, database, self.facts.is_mariadb())?;
        let tried = contents.try_all(&self.server, database, wishes)?;
        Ok((contents, tried))
    }

    /// Returns what no dump of a database has of its history, and why.
    pub fn lost_history(&self, contents: &Contents, wishes: &Wishes) -> Option<String> {
        let is_lost = |table: &&Table| {
            let is_precise = contents.precise.contains(&table.name);
            table.is_versioned() && (is_precise || !self.program.dumps_history()) && !wishes.ignores(&table.name)
        };
        let lost: Vec<&str> = contents.tables.iter().filter(is_lost).map(|table| &*table.name).collect();
        if lost.is_empty() || wishes.lacks_history() {
            return None;
        }
        let why = match self.program.dumps_history() {
            true => "it is told by transactions, which no dump has",
            false => "that needs mariadb-dump 10.11: set `bin-dir`",
        };
        Some(format!(
            "the history of the system-versioned tables {} is not in the dump: {why}, or accept that by \
             `options = [\"{NO_HISTORY}\"]`",
            named(lost.iter().copied())
        ))
    }

    /// Begins a dump. What it lacks is told by its record.
    pub fn dump(self: &Arc<Self>, database: &str, record: &Record) -> Result<Box<dyn Read + Send>> {
        let wishes = Wishes::of(&self.server.settings.options, database);
        let (contents, tried) = self.look(database, &wishes).unwrap_or_else(|error| {
            record.lack(format!("the dump was not compared with what is in the database: {}", error.chain()));
            Default::default()
        });
        describe(&contents, record);
        orphaned(&tried).into_iter().for_each(|text| record.note(text));
        let lacks = tried.broken.iter().map(|(table, why)| broken(database, table, why));
        lack_each(record, lacks.chain(self.lost_history(&contents, &wishes)).collect());
        let mut without: Vec<String> = tried.broken.iter().map(|(table, _)| table.name.clone()).collect();
        let is_there = |name: &&String| !wishes.ignores(name) && !without.contains(name);
        let has_history = self.program.dumps_history() && !wishes.lacks_history();
        let alone: Vec<String> = contents.precise.iter().filter(is_there).filter(|_| has_history).cloned().collect();
        let expected = self.expected(database, &contents, &tried, &wishes);
        let mut programs = VecDeque::new();
        if !alone.is_empty() {
            // Views of the others may need them.
            programs.push_back(self.program.dump(&self.server, database, &[], &alone));
            without.extend(alone);
        }
        programs.push_back(self.program.dump(&self.server, database, &without, &[]));
        let header = contents.properties.filter(|_| !wishes.is_other()).map(|sql| format!("{sql};\n"));
        let stream = Programs { current: None, waiting: programs, is_silent: wishes.is_silent() }.begun()?;
        let stream = Box::new(Cursor::new(header.unwrap_or_default()).chain(stream));
        let (source, record, database) = (self.clone(), record.clone(), database.to_string());
        Ok(Box::new(Verified::new(stream, expected, move |missing| {
            source.compare(&database, &wishes, missing, &record)
        })))
    }

    /// Returns what a dump must have. The server's own tables are not compared: programs treat some in ways of their own.
    fn expected(&self, database: &str, contents: &Contents, tried: &Tried, wishes: &Wishes) -> Expected {
        let mut missing = BTreeSet::new();
        if wishes.is_other() || super::server::OWN.contains(&database) {
            return Expected::default();
        }
        let is_broken = |name: &str| tried.broken.iter().any(|(table, _)| table.name == name);
        let is_there = |name: &str| !wishes.ignores(name) && !is_broken(name);
        for table in contents.tables.iter().filter(|table| is_there(&table.name) && table.engine != "S3") {
            let kind = match () {
                () if table.is_view() => Kind::View,
                () if table.is_sequence() => Kind::Sequence,
                () => Kind::Table,
            };
            missing.insert((kind, table.name.clone()));
            if tried.filled.contains(&table.name) && !wishes.lacks_rows() {
                missing.insert((Kind::Rows, table.name.clone()));
            }
        }
        let triggers = contents.triggers.iter().filter(|(_, table)| is_there(table) && !wishes.lacks("triggers"));
        missing.extend(triggers.map(|(name, _)| (Kind::Trigger, name.clone())));
        let routines = contents.routines.iter().filter(|_| !wishes.lacks("routines"));
        missing.extend(routines.filter_map(|(kind, name)| Some((Kind::of_routine(kind)?, name.clone()))));
        let events = contents.events.iter().filter(|_| !wishes.lacks("events"));
        missing.extend(events.map(|name| (Kind::Event, name.clone())));
        Expected::of(missing)
    }

    /// Tells what was not seen in a dump and is still there.
    fn compare(&self, database: &str, wishes: &Wishes, missing: BTreeSet<(Kind, String)>, record: &Record) {
        if missing.is_empty() {
            return;
        }
        let still = match self.look(database, wishes) {
            Ok((contents, tried)) => self.expected(database, &contents, &tried, wishes).missing,
            Err(_) => missing.clone(),
        };
        let lacks = missing.intersection(&still).map(|(kind, name)| {
            let words = kind.words();
            format!(
                "the {words} `{name}` is not in the dump, and the server has it: look at the rights of `{}`, and at \
                 `options`",
                self.facts.role
            )
        });
        lack_each(record, lacks.collect());
    }
}

/// Records what the manifest tells of a database.
fn describe(contents: &Contents, record: &Record) {
    let tables: Vec<&Table> = contents.tables.iter().filter(|table| !table.is_view() && !table.is_sequence()).collect();
    let unsafe_names = tables.iter().filter(|table| table.lacks_transactions && !table.is_external());
    let unsafe_names: Vec<&str> = unsafe_names.map(|table| &*table.name).collect();
    if !unsafe_names.is_empty() {
        record.note(format!(
            "{} {} of engines without transactions and may have changed during the dump: {}",
            counted(unsafe_names.len(), "table"),
            are(unsafe_names.len()),
            named(unsafe_names.iter().copied())
        ));
    }
    let external: Vec<&str> = tables.iter().filter(|table| table.is_external()).map(|table| &*table.name).collect();
    if !external.is_empty() {
        let names = named(external.iter().copied());
        let tables = counted(external.len(), "table");
        record.note(format!("the rows of {tables} are kept elsewhere and not dumped: {names}"));
    }
    record.change(|manifest| {
        if !tables.is_empty() {
            manifest.database_bytes = Some(tables.iter().map(|table| table.bytes).sum());
        }
        let told = tables.iter().take(MAX_TABLES);
        let told = told.map(|table| manifest::Table { name: table.name.clone(), estimated_rows: table.estimated_rows });
        manifest.tables = told.collect();
    });
}

/// The outputs of programs, one after the other.
struct Programs {
    current: Option<Box<dyn Read + Send>>,
    waiting: VecDeque<Program>,
    is_silent: bool,
}

impl Programs {
    /// Starts the next.
    fn begun(mut self) -> Result<Self> {
        self.next()?;
        Ok(self)
    }

    fn next(&mut self) -> Result<()> {
        self.current = match self.waiting.pop_front() {
            None => None,
            Some(program) if self.is_silent => Some(Box::new(program.stream()?)),
            Some(program) => Some(Box::new(Whole::new(program.stream()?))),
        };
        Ok(())
    }
}

impl Read for Programs {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while let Some(current) = &mut self.current {
            let len = current.read(buffer)?;
            if len > 0 || buffer.is_empty() {
                return Ok(len);
            }
            self.next().map_err(std::io::Error::other)?;
        }
        Ok(0)
    }
}

/// The output of a dump program, which must end with its last words.
pub struct Whole {
    output: Output,
    tail: Vec<u8>,
}

impl Whole {
    /// Watches an output.
    pub fn new(output: Output) -> Self {
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
