//! Which of a cluster's databases are dumped, and what is left out for which reason.

use super::programs::Programs;
use super::server::{Facts, Server, ServerDatabase, connection};
use crate::database::pattern::Patterns;
use crate::settings::file::Postgresql;
use std::io::{BufRead, BufReader};

/// Databases every cluster has from the beginning; they are left out where nothing was added to them.
const FIRST: [&str; 2] = ["postgres", "template1"];

/// What is dumped of a cluster.
#[derive(Debug, Default)]
pub struct Choice {
    /// The databases that are dumped.
    pub databases: Vec<String>,
    /// Those that are listed and are not there, or refuse connections.
    pub missing: Vec<String>,
    /// Those that refuse connections, and nobody has left out.
    pub refusing: Vec<String>,
    /// What interrupted drops have left.
    pub dropped: Vec<String>,
    /// Patterns of `exclude` that match nothing.
    pub idle: Vec<String>,
    /// Whether every database that holds anything is dumped, or was left out by name.
    pub is_whole: bool,
}

/// Chooses by the configuration: without a list all databases, user's templates too, but for what initdb has made and
/// nobody has changed.
pub fn choose(settings: &Postgresql, facts: &Facts, is_untouched: impl Fn(&ServerDatabase) -> bool) -> Choice {
    let patterns = Patterns::new(&settings.exclude);
    let is_out = |name: &str| patterns.any(name);
    let idle = patterns.idle(facts.databases.iter().map(|known| &*known.name));
    let mut choice = Choice { idle, is_whole: true, ..Choice::default() };
    let listed = settings.databases.as_ref();
    for known in facts.databases.iter().filter(|known| !is_out(&known.name)) {
        let (name, is_listed) = (known.name.clone(), listed.is_some_and(|listed| listed.contains(&known.name)));
        // Nobody changes template0: it is what dumps are restored into.
        let is_made = |first: &str| known.name == first && !is_listed;
        if is_made("template0") && !known.accepts {
        } else if known.is_dropped {
            choice.dropped.push(name);
        } else if !known.accepts {
            choice.is_whole = false;
            if listed.is_none() {
                choice.refusing.push(name);
            }
        } else if is_listed || listed.is_none() && known.name == "postgres" {
            choice.databases.push(name);
        } else if FIRST.contains(&&*known.name) && is_untouched(known) {
        } else if listed.is_none() {
            choice.databases.push(name);
        } else {
            choice.is_whole = false;
        }
    }
    let is_missing = |name: &&String| !is_out(name) && !choice.databases.contains(name);
    choice.missing = listed.into_iter().flatten().filter(is_missing).cloned().collect();
    choice.missing.sort();
    choice.missing.dedup();
    choice
}

/// Returns whether pg_dump finds nothing in a database: then it is as initdb has made it. A database that cannot be
/// looked at counts as changed.
pub fn is_untouched(server: &Server, programs: &Programs, database: &str) -> bool {
    let program = server.program(&programs.pg_dump).arg("--format=plain").arg("--lock-wait-timeout=60s");
    let program = program.arg(connection(database));
    let Ok(output) = program.stream() else { return false };
    let is_frame = |line: &str| {
        let frames = ["--", "SET ", "SELECT pg_catalog.set_config(", "\\restrict ", "\\unrestrict "];
        line.trim().is_empty() || frames.iter().any(|frame| line.starts_with(frame))
    };
    BufReader::new(output).lines().all(|line| line.is_ok_and(|line| is_frame(&line)))
}
