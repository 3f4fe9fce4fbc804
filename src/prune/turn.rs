//! Whose turn it is: one prune at a time, and none deletes before every backup it has to wait for has ended.

use super::Options;
use crate::error::{Error, ErrorKind, Result};
use crate::format::mark::{self, Mark, MarkId, SessionKind};
use crate::repo::Repository;
use crate::repo::marks::Marks;
use crate::repo::session::Session;
use std::sync::Arc;

/// Announces a prune. Two that begin at once see one another, and at least one of them stops.
pub fn begin(repository: &Arc<Repository>, options: &Options<'_>) -> Result<Session> {
    let session = Session::begin(repository, SessionKind::Prune)?;
    let others = |marks: &Marks| -> Vec<mark::Session> {
        let open = marks.sessions(SessionKind::Prune).map(|(_, other)| other);
        open.filter(|other| other.id != session.id() && !marks.is_fenced(&other.id)).cloned().collect()
    };
    let marks = repository.marks()?;
    marks.require_whole()?;
    let mut was_fenced = false;
    for other in others(&marks) {
        if (options.is_dead)(&other) {
            repository.put_mark(Mark::Fence { session: other.id })?;
            was_fenced = true;
        }
    }
    let left = if was_fenced { others(&repository.marks()?) } else { others(&marks) };
    if let Some(other) = left.first() {
        return Err(Error::new(ErrorKind::Busy, format!("Another prune runs: {}", told(other))));
    }
    Ok(session)
}

/// Fences the dead among sessions and returns those that are still to be waited for.
pub fn settle(repository: &Repository, options: &Options<'_>, sessions: &[MarkId]) -> Result<Vec<mark::Session>> {
    let marks = repository.marks()?;
    marks.require_whole()?;
    let mut living = Vec::new();
    for (_, other) in marks.sessions(SessionKind::Backup) {
        if !sessions.contains(&other.id) || marks.is_fenced(&other.id) {
            continue;
        }
        if (options.is_dead)(other) {
            repository.put_mark(Mark::Fence { session: other.id })?;
        } else {
            living.push(other.clone());
        }
    }
    Ok(living)
}

/// Tells of whom a session is.
pub fn told(session: &mark::Session) -> String {
    let since = crate::repo::names::dated(session.started);
    format!("process {} on {}, since {since}", session.pid, session.host)
}
