//! A prune as a command or a run makes it: who counts as dead, where the index is mapped, how often it is tried.

use super::{Options, Report};
use crate::error::{Error, ErrorKind, Result};
use crate::format::mark::SessionMark;
use crate::id::ObjectId;
use crate::monitor::Monitor;
use crate::quantity::time::Window;
use crate::random::fill_random;
use crate::repo::Repository;
use crate::repo::shared::dated;
use crate::repo::shared::session::{is_surely_alive, is_surely_dead};
use crate::repo::write::WriteOptions;
use crate::trust::folder;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Two prunes that begin at once both stop: they try again after a moment of their own.
const ATTEMPTS: u32 = 4;

/// What a prune may do.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The share of the packs' length that may stay unused, from 0 to 1.
    pub max_waste: f64,
    /// Whether only to tell what would be done.
    pub dry_run: bool,
    /// Whether to go on although snapshots or content are missing that should be there; they are not missed any more
    /// then.
    pub accept_missing: bool,
    /// A backup on another machine that began longer ago counts as dead.
    pub dead_after: Window,
}

impl Default for Policy {
    fn default() -> Self {
        let dead_after = "7d".parse().expect("a duration");
        Policy { max_waste: 0.1, dry_run: false, accept_missing: false, dead_after }
    }
}

impl Policy {
    /// Prunes a repository. A dry run takes the snapshots `forgotten` for forgotten; the index is mapped from a folder in
    /// `cache_base`, or a temporary one.
    pub fn prune(
        &self,
        repository: &Arc<Repository>,
        forgotten: &[ObjectId],
        cache_base: &Path,
        monitor: &dyn Monitor,
    ) -> Result<Report> {
        let now = jiff::Zoned::now();
        let oldest = self.dead_after.start(&now);
        // A clock may have been as far ahead as it may be behind.
        let newest = now.timestamp() + now.timestamp().duration_since(oldest);
        let is_dead = |session: &SessionMark| {
            let is_silent = !(oldest..=newest).contains(&dated::timestamp(session.started));
            is_surely_dead(session) || is_silent && !is_surely_alive(session)
        };
        let scratch =
            folder::scratch("prune-", Some(cache_base)).or_else(|_| folder::scratch("bakfs-prune-", None)).ok();
        let options = Options {
            max_waste: self.max_waste,
            dry_run: self.dry_run,
            forgotten,
            accept_missing: self.accept_missing,
            scratch: scratch.as_ref().map(tempfile::TempDir::path),
            write: WriteOptions::default(),
            is_dead: &is_dead,
        };
        let report = patiently(|| super::run(repository, &options, monitor));
        if report.is_ok() && self.accept_missing && !self.dry_run {
            repository.accept_missing()?;
        }
        report.map_err(|error| match error.kind() {
            ErrorKind::Full => Error::new(
                ErrorKind::Full,
                "No room to copy what is still needed: nothing was lost; `bakfs prune --max-waste 100%` deletes only what \
                 nothing needs, and copies nothing",
            )
            .because(error),
            _ => error,
        })
    }
}

/// Tries again where another prune is running.
fn patiently(mut prune: impl FnMut() -> Result<Report>) -> Result<Report> {
    for attempt in 1..ATTEMPTS {
        match prune() {
            Err(error) if error.kind() == ErrorKind::Busy => {
                let mut random = [0];
                fill_random(&mut random);
                std::thread::sleep(Duration::from_millis(u64::from(attempt) * (50 + u64::from(random[0]))));
            }
            report => return report,
        }
    }
    prune()
}
