//! What is in a database, asked of the server before it is dumped: what a dump must have, and what cannot be read.

use super::program::Wishes;
use super::server::{Server, quoted};
use crate::error::Result;
use std::collections::{BTreeMap, BTreeSet};

/// Engines whose tables' rows are elsewhere: no dump has them (`--no-data-med`).
const EXTERNAL: [&str; 8] = ["MRG_MyISAM", "MRG_ISAM", "CONNECT", "OQGRAPH", "SPIDER", "VP", "FEDERATED", "S3"];
/// How many objects are asked for at once: an answer's length is bounded.
const ASKED_AT_ONCE: usize = 500;
/// The most objects whose errors are asked for one by one.
const MAX_EXPLAINED: usize = 20;
/// Errors of a connection, which say nothing of an object.
const NO_ANSWER: [&str; 8] = ["1040", "1045", "1053", "1203", "2002", "2006", "2013", "1927"];

/// What is in a database.
#[derive(Debug, Default)]
pub struct Contents {
    /// SQL that gives a database of any name this one's character set, collation and comment.
    pub properties: Option<String>,
    /// Tables, views and sequences.
    pub tables: Vec<Table>,
    /// Tables whose history is told by transactions, not by time, which no dump has.
    pub precise: BTreeSet<String>,
    /// Triggers with their tables.
    pub triggers: Vec<(String, String)>,
    /// Routines: what they are, and their names.
    pub routines: Vec<(String, String)>,
    /// Events.
    pub events: Vec<String>,
}

/// A table, view or sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// What it is, as information_schema says.
    pub kind: String,
    /// Its engine; empty where it has none.
    pub engine: String,
    /// The server's estimate of its rows.
    pub estimated_rows: Option<u64>,
    /// Its length with indexes.
    pub bytes: u64,
    /// Whether its engine has no transactions.
    pub lacks_transactions: bool,
}

impl Table {
    /// Returns whether it is a view.
    pub fn is_view(&self) -> bool {
        self.kind == "VIEW" || self.kind == "SYSTEM VIEW"
    }

    /// Returns whether it is a sequence.
    pub fn is_sequence(&self) -> bool {
        self.kind == "SEQUENCE"
    }

    /// Returns whether it keeps what its rows were.
    pub fn is_versioned(&self) -> bool {
        self.kind == "SYSTEM VERSIONED"
    }

    /// Returns whether its rows are elsewhere.
    pub fn is_external(&self) -> bool {
        EXTERNAL.iter().any(|engine| self.engine.eq_ignore_ascii_case(engine))
    }

    /// Returns what it is called.
    pub fn word(&self) -> &'static str {
        match () {
            () if self.is_view() => "view",
            () if self.is_sequence() => "sequence",
            () => "table",
        }
    }
}

/// What was found by trying.
#[derive(Debug, Default)]
pub struct Tried {
    /// Tables that have rows.
    pub filled: BTreeSet<String>,
    /// Tables and views that cannot be read, each with why.
    pub broken: Vec<(Table, String)>,
    /// Views whose definer does not exist, as far as the user may know: the server writes them with their database's
    /// name.
    pub orphaned: Vec<String>,
}

/// Returns a condition that a column names a database, to the letter.
fn is_in(column: &str, database: &str) -> String {
    let hex: String = database.bytes().map(|byte| format!("{byte:02x}")).collect();
    // The first is looked up; the second tells names apart that a collation does not.
    format!("{column} = CONVERT(x'{hex}' USING utf8mb4) AND CAST({column} AS BINARY) = x'{hex}'")
}

impl Contents {
    /// Asks for what is in a database.
    pub fn of(server: &Server, database: &str, is_mariadb: bool) -> Result<Self> {
        let among = |column: &str| is_in(column, database);
        let mut sql = format!(
            "SELECT 'schema', DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA
                WHERE {};
             SELECT 'table', t.TABLE_NAME, t.TABLE_TYPE, IFNULL(t.ENGINE, ''), IFNULL(t.TABLE_ROWS, ''),
                    IFNULL(t.DATA_LENGTH + t.INDEX_LENGTH, 0), IFNULL(e.TRANSACTIONS, '')
                FROM information_schema.TABLES t LEFT JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE
                WHERE {} ORDER BY t.TABLE_NAME;
             SELECT 'trigger', TRIGGER_NAME, EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS WHERE {};
             SELECT 'routine', ROUTINE_TYPE, ROUTINE_NAME FROM information_schema.ROUTINES WHERE {};
             SELECT 'event', EVENT_NAME FROM information_schema.EVENTS WHERE {};",
            among("SCHEMA_NAME"),
            among("t.TABLE_SCHEMA"),
            among("TRIGGER_SCHEMA"),
            among("ROUTINE_SCHEMA"),
            among("EVENT_SCHEMA")
        );
        if is_mariadb {
            sql += &format!(
                "SELECT 'precise', TABLE_NAME FROM information_schema.COLUMNS
                    WHERE {} AND DATA_TYPE = 'bigint' AND GENERATION_EXPRESSION = 'ROW START';
                 SHOW CREATE DATABASE {};",
                among("TABLE_SCHEMA"),
                quoted(database)
            );
        }
        let mut contents = Contents::default();
        let mut comment = String::new();
        for row in server.ask(&sql)? {
            let row: Vec<&str> = row.iter().map(String::as_str).collect();
            match row[..] {
                ["schema", charset, collation] => contents.properties = properties(charset, collation),
                ["table", name, kind, engine, rows, bytes, transactions] => contents.tables.push(Table {
                    name: name.into(),
                    kind: kind.into(),
                    engine: engine.into(),
                    estimated_rows: rows.parse().ok(),
                    bytes: bytes.parse().unwrap_or(0),
                    lacks_transactions: transactions == "NO",
                }),
                ["trigger", name, table] => contents.triggers.push((name.into(), table.into())),
                ["routine", kind, name] => contents.routines.push((kind.into(), name.into())),
                ["event", name] => contents.events.push(name.into()),
                ["precise", name] => contents.precise.extend([name.to_string()]),
                [_, made] => comment = made.rsplit_once("*/ COMMENT '").map_or("", |(_, comment)| comment).to_string(),
                _ => {}
            }
        }
        // Servers without such comments do not read it.
        if !(comment.is_empty() || comment.contains("*/"))
            && let Some(properties) = &mut contents.properties
        {
            *properties += &format!(" /*M!100502 COMMENT '{comment} */");
        }
        Ok(contents)
    }

    /// Tries all that a dump reads: the first row of each table, and how views are made.
    pub fn try_all(&self, server: &Server, database: &str, wishes: &Wishes) -> Result<Tried> {
        let orphaned = format!(
            "SELECT TABLE_NAME FROM information_schema.VIEWS WHERE {} AND SECURITY_TYPE = 'DEFINER'
                AND CAST(DEFINER AS BINARY) NOT IN (SELECT CAST(CONCAT(user, '@', host) AS BINARY) FROM mysql.user);\n",
            is_in("TABLE_SCHEMA", database)
        );
        let orphaned = server.try_all(orphaned)?.into_iter().flatten().filter(|name| !wishes.ignores(name)).collect();
        let mut tried = Tried { orphaned, ..Tried::default() };
        let wanted: Vec<&Table> = self.tables.iter().filter(|table| !wishes.ignores(&table.name)).collect();
        let mut missing = Vec::new();
        for some in wanted.chunks(ASKED_AT_ONCE) {
            missing.extend(self.answers(server, database, some, &mut tried.filled)?);
        }
        if !missing.is_empty() {
            // A connection that broke has cost more than what is broken.
            missing = self.answers(server, database, &missing, &mut tried.filled)?;
        }
        for (at, table) in missing.into_iter().enumerate() {
            if at >= MAX_EXPLAINED {
                tried.broken.push((table.clone(), "the server reads it neither".into()));
                continue;
            }
            let asked = self.questions(database, table).iter().try_for_each(|question| server.ask(question).map(drop));
            if let Err(error) = asked {
                let words = error.chain();
                let why = words.find("ERROR ").map_or(&*words, |at| &words[at..]).to_string();
                if !why.starts_with("ERROR ") || NO_ANSWER.iter().any(|code| why[6..].starts_with(code)) {
                    return Err(error);
                }
                tried.broken.push((table.clone(), why.lines().collect::<Vec<_>>().join(" ")));
            }
        }
        Ok(tried)
    }

    /// Returns what a dump asks of a table or view.
    fn questions(&self, database: &str, table: &Table) -> Vec<String> {
        let name = format!("{}.{}", quoted(database), quoted(&table.name));
        let is_timed = table.is_versioned() && !self.precise.contains(&table.name);
        let history = if is_timed { " FOR SYSTEM_TIME ALL" } else { "" };
        match () {
            () if table.is_view() => vec![format!("SHOW FIELDS FROM {name}"), format!("SHOW CREATE VIEW {name}")],
            // Its rows are elsewhere, and are not asked for there.
            () if table.is_external() => vec![format!("SHOW CREATE TABLE {name}")],
            () => vec![format!("SELECT EXISTS(SELECT 1 FROM {name}{history})")],
        }
    }

    /// Asks for each object; returns those without an answer, and notes the tables that have rows.
    fn answers<'a>(
        &self,
        server: &Server,
        database: &str,
        tables: &[&'a Table],
        filled: &mut BTreeSet<String>,
    ) -> Result<Vec<&'a Table>> {
        let mark = |table: usize, question: usize| format!("bakfs-{table}-{question}");
        let mut script = String::new();
        for (at, table) in tables.iter().enumerate() {
            for (number, question) in self.questions(database, table).iter().enumerate() {
                script += &format!("SELECT '{}';\n{};\n", mark(at, number), question);
            }
        }
        let marks: BTreeMap<String, (usize, usize)> =
            (0..tables.len()).flat_map(|at| [0, 1].map(|question| (mark(at, question), (at, question)))).collect();
        let mut answered: BTreeSet<(usize, usize)> = BTreeSet::new();
        let mut asked = None;
        for row in server.try_all(script)? {
            match (marks.get(&row[0]).filter(|_| row.len() == 1), asked) {
                (Some(next), _) => asked = Some(*next),
                (None, Some((at, question))) => {
                    answered.insert((at, question));
                    if row.len() == 1 && row[0] == "1" && !tables[at].is_sequence() {
                        filled.insert(tables[at].name.clone());
                    }
                }
                (None, None) => {}
            }
        }
        let is_whole = |at: usize| {
            let questions = self.questions(database, tables[at]).len();
            (0..questions).all(|question| answered.contains(&(at, question)))
        };
        Ok((0..tables.len()).filter(|at| !is_whole(*at)).map(|at| tables[at]).collect())
    }
}

/// Returns SQL for a character set and a collation, where these are words.
fn properties(charset: &str, collation: &str) -> Option<String> {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let are_words = is_word(charset) && is_word(collation);
    are_words.then(|| format!("ALTER DATABASE DEFAULT CHARACTER SET {charset} COLLATE {collation}"))
}
