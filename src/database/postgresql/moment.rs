//! One moment for all dumps of a cluster: a session for each database, which exports its snapshot and keeps it.
//!
//! A snapshot belongs to one database, but transaction ids to the whole cluster: two sessions whose
//! `txid_current_snapshot` is the same see the same transactions. They are asked at once, and once more until it is.

use super::server::Server;
use crate::database::manifest::Record;
use crate::error::{Error, ErrorKind, Result};
use crate::process::Conversation;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The most sessions that are opened in one cluster; `max_connections` is 100 where nobody has changed it.
pub const MAX_SESSIONS: usize = 50;
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
pub struct Session {
    talk: Conversation,
    /// The transactions the snapshot sees.
    pub moment: String,
    /// The exported snapshot's id.
    pub snapshot: String,
}

impl Session {
    fn open(server: &Server, database: &str) -> Result<Self> {
        let mut talk = server.psql(database).converse()?;
        talk.say(SETTLE)?;
        Ok(Session { talk, moment: String::new(), snapshot: String::new() })
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

/// The sessions of a cluster's databases, and why some have none.
#[derive(Default)]
pub struct Moment {
    sessions: BTreeMap<String, Session>,
    notes: BTreeMap<String, String>,
    /// What holds for all of them.
    note: Option<String>,
}

impl Moment {
    /// Opens the sessions, all as close together as possible.
    pub fn open(server: &Server, databases: &[String]) -> Self {
        let mut moment = Moment::default();
        if databases.len() > MAX_SESSIONS {
            let message =
                format!("the cluster's dumps do not show one moment: it has more than {MAX_SESSIONS} databases");
            moment.note = Some(message);
            return moment;
        }
        let opened = databases.iter().map(|database| (database.clone(), Session::open(server, database)));
        moment.keep(opened.collect());
        moment.each(|session| session.talk.hear(ANSWER_LIMIT).map(drop));
        let started = Instant::now();
        for tries in 1.. {
            // All are told before one is listened to, and the snapshot is all that is left to ask for then.
            moment.each(|session| session.talk.say(BEGIN));
            moment.each(|session| session.talk.hear(ANSWER_LIMIT).map(drop));
            let asked = Instant::now();
            moment.each(|session| session.talk.say(EXPORT));
            moment.each(Session::hear_snapshot);
            if moment.is_one() {
                break;
            }
            if tries == MAX_TRIES || started.elapsed() > TRIES_LIMIT {
                let apart = asked.elapsed().as_millis() + 1;
                moment.note = Some(format!("the snapshots of the cluster's databases were taken within {apart} ms"));
                break;
            }
            moment.each(|session| session.talk.say(AGAIN));
        }
        moment
    }

    /// Does something in each session; those in which it fails are left.
    fn each(&mut self, mut act: impl FnMut(&mut Session) -> Result<()>) {
        let sessions = std::mem::take(&mut self.sessions);
        let done = |(database, mut session): (String, Session)| {
            let outcome = act(&mut session).map(|()| session);
            (database, outcome)
        };
        let outcomes = sessions.into_iter().map(done).collect();
        self.keep(outcomes);
    }

    fn keep(&mut self, outcomes: Vec<(String, Result<Session>)>) {
        for (database, outcome) in outcomes {
            match outcome {
                Ok(session) => drop(self.sessions.insert(database, session)),
                Err(error) => drop(self.notes.insert(database, error.chain())),
            }
        }
    }

    fn is_one(&self) -> bool {
        let mut moments = self.sessions.values().map(|session| &session.moment);
        let first = moments.next();
        moments.all(|moment| Some(moment) == first)
    }

    /// Hands over the session of a database, and records what its dump shows.
    pub fn take(&mut self, database: &str, record: &Record) -> Option<Session> {
        if let Some(why) = self.notes.get(database) {
            record.note(format!("the dump shows a moment of its own, for no snapshot could be exported: {why}"));
        }
        if let Some(note) = &self.note {
            record.note(note.clone());
        }
        let session = self.sessions.remove(database)?;
        record.change(|manifest| {
            manifest.snapshot = Some(session.snapshot.clone());
            manifest.moment = Some(session.moment.clone());
        });
        Some(session)
    }
}
