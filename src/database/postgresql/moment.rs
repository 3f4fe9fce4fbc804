//! One moment for all dumps of a cluster: a session for each database, which exports its snapshot and keeps it.
//!
//! A snapshot belongs to one database, but transaction ids to the whole cluster: two sessions whose
//! `txid_current_snapshot` is the same see the same transactions. They are asked at once, and once more until it is.

use super::server::Server;
use crate::database::manifest::Record;
use crate::error::{Error, ErrorKind, Result};
use crate::process::Conversation;
use crate::quantity::counted;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The most sessions that are opened in one cluster at a time.
const MAX_SESSIONS: usize = 50;
/// Connections of a server: how many ordinary roles may have, and how many there are, ours with them.
const CONNECTIONS: &str = "SELECT json_build_array(
    current_setting('max_connections')::int - (SELECT sum(setting::int) FROM pg_settings
        WHERE name IN ('superuser_reserved_connections', 'reserved_connections')),
    (SELECT sum(numbackends) FROM pg_stat_database))";
/// How long a session may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How often one moment is tried for.
const MAX_TRIES: usize = 100;
/// How long it is tried for.
const TRIES_LIMIT: Duration = Duration::from_secs(5);

/// The server's time limits must not end a session that waits for its dump. Parameters a version lacks are not set.
const SETTLE: &str = "SELECT count(pg_catalog.set_config(name, '0', false)) FROM pg_catalog.pg_settings WHERE name IN \
     ('idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout', 'statement_timeout');";
/// psql answers when the server has.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;\n\\echo begun";
/// The first query of the transaction takes its snapshot.
const EXPORT: &str = "SELECT pg_catalog.txid_current_snapshot() || ' ' || pg_catalog.pg_export_snapshot();";
const AGAIN: &str = "ROLLBACK;";

/// A session that keeps a snapshot for as long as it lives.
pub struct SnapshotSession {
    talk: Conversation,
    /// The transactions the snapshot sees.
    pub moment: String,
    /// The exported snapshot's id.
    pub snapshot: String,
}

impl SnapshotSession {
    fn open(server: &Server, database: &str) -> Result<Self> {
        let mut talk = server.psql(database).converse()?;
        talk.say(SETTLE)?;
        Ok(SnapshotSession { talk, moment: String::new(), snapshot: String::new() })
    }

    fn hear_snapshot(&mut self) -> Result<()> {
        let answer = self.talk.hear(ANSWER_LIMIT)?;
        let (moment, snapshot) = answer.split_once(' ').unwrap_or_default();
        let is_id = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit() || "-:,".contains(c));
        if !is_id(moment) || !is_id(snapshot) {
            return Err(Error::new(ErrorKind::Io, "psql has not answered with a snapshot"));
        }
        (self.moment, self.snapshot) = (moment.into(), snapshot.into());
        Ok(())
    }
}

/// Returns how many sessions a server can spare: half of what is free is left to others, and the dumps need some.
fn spare(server: &Server, asked_in: &str) -> usize {
    let Ok((most, used)) = server.ask::<(i64, i64)>(asked_in, CONNECTIONS) else { return 0 };
    let own = i64::from(server.settings.jobs.unwrap_or(1)) + 1;
    let spare = (most - used).max(0) / 2 - own;
    usize::try_from(spare).unwrap_or(0).min(MAX_SESSIONS)
}

/// The sessions of a cluster's databases, and why some have none. Where the server has too few connections free, they
/// are opened for some databases after the others, in the order of their dumps.
#[derive(Default)]
pub struct Moment {
    /// Databases whose turn has not come.
    waiting: Vec<String>,
    sessions: BTreeMap<String, SnapshotSession>,
    /// Why databases have no session.
    lost: BTreeMap<String, String>,
    /// How long it took to take the snapshots, where they do not show one moment.
    apart: Option<String>,
    /// What holds for all of them.
    notes: Vec<String>,
    is_begun: bool,
    /// Whether there are several moments.
    is_parted: bool,
}

impl Moment {
    /// Begins with the databases in the order of their dumps.
    pub fn of(databases: Vec<String>) -> Self {
        Moment { waiting: databases, ..Moment::default() }
    }

    /// Opens sessions for a database whose turn has not come, and for those after it as far as the server can spare
    /// connections; without a database, for the first. What has had its turn is left as it is.
    pub fn open(&mut self, server: &Server, asked_in: &str, database: Option<&str>) {
        let position = match database {
            None => (!self.is_begun).then_some(0),
            Some(database) => self.waiting.iter().position(|waiting| waiting == database),
        };
        let Some(position) = position else { return };
        let mut waiting = self.waiting.split_off(position);
        let spare = spare(server, asked_in);
        let later = waiting.split_off(waiting.len().min(spare.max(1)));
        let is_parted = self.is_parted || !later.is_empty();
        let sessions = if spare > 0 { waiting } else { Vec::new() };
        let mut notes = Vec::new();
        if is_parted {
            notes.push(format!(
                "the cluster's dumps do not show one moment: its server spares {}, and dumps with the \
                 same `moment` show one",
                counted(spare, "connection")
            ));
        }
        *self = Moment { waiting: later, is_begun: true, is_parted, notes, ..Moment::at(server, &sessions) };
    }

    /// Ends all sessions but those that dumps hold: somebody needs their connections.
    pub fn give_back(&mut self) {
        for (database, _) in std::mem::take(&mut self.sessions) {
            self.lost.insert(database, "the server had no connection left for a dump".into());
        }
    }

    /// Opens sessions, all as close together as possible.
    fn at(server: &Server, databases: &[String]) -> Self {
        let mut moment = Moment::default();
        let opened = databases.iter().map(|database| (database.clone(), SnapshotSession::open(server, database)));
        moment.keep(opened.collect());
        moment.each(|session| session.talk.hear(ANSWER_LIMIT).map(drop));
        let started = Instant::now();
        for tries in 1.. {
            // All are told before one is listened to, and the snapshot is all that is left to ask for then.
            moment.each(|session| session.talk.say(BEGIN));
            moment.each(|session| session.talk.hear(ANSWER_LIMIT).map(drop));
            let asked = Instant::now();
            moment.each(|session| session.talk.say(EXPORT));
            moment.each(SnapshotSession::hear_snapshot);
            if moment.is_one() {
                break;
            }
            if tries == MAX_TRIES || started.elapsed() > TRIES_LIMIT {
                let apart = asked.elapsed().as_millis() + 1;
                moment.apart = Some(format!("the snapshots of the cluster's databases were taken within {apart} ms"));
                break;
            }
            moment.each(|session| session.talk.say(AGAIN));
        }
        moment
    }

    /// Does something in each session; those in which it fails are left.
    fn each(&mut self, mut act: impl FnMut(&mut SnapshotSession) -> Result<()>) {
        let sessions = std::mem::take(&mut self.sessions);
        let done = |(database, mut session): (String, SnapshotSession)| {
            let outcome = act(&mut session).map(|()| session);
            (database, outcome)
        };
        let outcomes = sessions.into_iter().map(done).collect();
        self.keep(outcomes);
    }

    fn keep(&mut self, outcomes: Vec<(String, Result<SnapshotSession>)>) {
        for (database, outcome) in outcomes {
            match outcome {
                Ok(session) => drop(self.sessions.insert(database, session)),
                Err(error) => drop(self.lost.insert(database, error.chain())),
            }
        }
    }

    fn is_one(&self) -> bool {
        let mut moments = self.sessions.values().map(|session| &session.moment);
        let first = moments.next();
        moments.all(|moment| Some(moment) == first)
    }

    /// Hands over the session of a database, and records what its dump shows.
    pub fn take(&mut self, database: &str, record: &Record) -> Option<SnapshotSession> {
        if let Some(why) = self.lost.get(database) {
            record.note(format!("the dump shows a moment of its own, for no snapshot could be exported: {why}"));
        }
        self.notes.iter().chain(&self.apart).for_each(|note| record.note(note.clone()));
        let session = self.sessions.remove(database)?;
        record.change(|manifest| {
            manifest.snapshot = Some(session.snapshot.clone());
            manifest.moment = Some(session.moment.clone());
        });
        Some(session)
    }
}
