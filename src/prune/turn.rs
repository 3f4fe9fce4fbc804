//! Waiting: no prune deletes before every backup that may rely on what it has condemned has ended.

use super::Options;
use crate::error::Result;
use crate::format::mark::{self, Mark, MarkId, SessionKind};
use crate::repo::Repository;
use crate::repo::shared::marks::Marks;

/// Fences the dead among sessions, by marks that were listed now, and returns those that are still to be waited for.
pub fn settle(
    repository: &Repository,
    options: &Options<'_>,
    marks: &Marks,
    sessions: &[MarkId],
) -> Result<Vec<mark::SessionMark>> {
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
