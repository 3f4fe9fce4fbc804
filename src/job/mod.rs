//! One run of a profile: hooks, dumps, backup, forget, and its share of check and prune, told as one record.
//!
//! ```text
//! lock -> what an earlier run owes -> before -> dumps and files -> after | on failure -> finally
//!      -> forget -> check -> prune
//! ```
//!
//! What reads data comes first and ends as soon as it can: a site in maintenance mode waits for nothing else.

mod hooks;
mod record;
mod recover;
mod stop;
pub mod thin;
mod troubles;

use crate::access::Access;
use crate::access::make::Made;
use crate::backup::{self, Options};
use crate::check::Selection;
use crate::check::uncached::Uncached;
use crate::database;
use crate::error::{Error, ErrorKind, Result};
use crate::monitor::Monitor;
use crate::prune::policy::Policy;
use crate::quantity::time::Window;
use crate::quantity::{are, counted};
use crate::repo::index::load::IndexLoad;
use crate::repo::open::Unlocked;
use crate::repo::write::WriteOptions;
use crate::repo::{Memory, Repository};
use crate::settings::{Periodicity, Profile, excludes};
use crate::source::exclude::Excludes;
use crate::state::lock::{Lock, Turn};
use crate::state::pending::Pending;
use crate::state::{Outcome, RepositoryState, Run, StateDir};
use hooks::Hooks;
pub use record::not_begun;
use record::{blank, record, unnoted};
use recover::settle_owed;
pub use recover::{Recovered, recover};
use std::sync::Arc;
use std::time::Duration;
pub use stop::Stop;
use troubles::Troubles;

/// How long a run waits for another kind of run of the same profile.
const PATIENCE: Duration = Duration::from_hours(6);

/// What is told of a run while it is made.
pub enum Event<'a> {
    /// A line of the log.
    Line(&'a str),
    /// An earlier run of the profile was killed: nobody has been told yet.
    Killed(&'a Run),
    /// The default repository was missing, and was made.
    Made(&'a Made),
    /// What goes wrong with the repository is collected in it.
    Opened(&'a Repository),
}

/// A run that is to be made.
pub struct Job<'a> {
    /// What is backed up.
    pub profile: &'a Profile,
    /// The kind of run.
    pub periodicity: Periodicity,
    /// The profile's repository.
    pub access: &'a Access,
    /// Where the repository is, without secrets.
    pub place: String,
    /// Whether a source or dump may have lost all it held, beside what the profile says.
    pub allow_empty: bool,
    /// Where states are kept.
    pub state: &'a StateDir,
    /// Ends it.
    pub stop: &'a Stop,
    /// Is told of it.
    pub tell: &'a dyn Fn(Event<'_>),
    /// Sees how far it is.
    pub monitor: &'a dyn Monitor,
}

/// What the part of a run came to that reads data.
struct BackedUp {
    /// The repository the snapshot is in, if there is one.
    opened: Option<Opened>,
    /// The last hook, if it is still owed.
    left: Option<Pending>,
}

/// A run was stopped: who has done so has taken it over, its last hook and its record.
struct Stopped;

/// The repository of a run.
struct Opened {
    unlocked: Unlocked,
    repository: Arc<Repository>,
}

fn now_secs() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Returns the moment that lies so long ago.
fn age_secs(window: &Window) -> u64 {
    u64::try_from(window.start(&jiff::Zoned::now()).as_second()).unwrap_or(0).min(crate::clock::now_secs())
}

/// What came of a run.
#[derive(Debug)]
pub enum Ran {
    /// It has begun and ended.
    Ended(Run),
    /// One of the same kind is still under way, and this one was left out.
    LeftOut(Error),
    /// It was stopped: [`Stop::end`] has its record, and has run its last hook. The profile's lock is still held: where
    /// the process is to end, it goes with it.
    Stopped(Lock),
}

impl Job<'_> {
    /// Makes the run. Fails only where it did not begin; whatever happens later is told in the record, which is kept.
    pub fn run(&self, began: impl FnOnce()) -> Result<Ran> {
        let lock = match self.state.turn(&self.profile.name, self.periodicity, PATIENCE)? {
            Turn::Taken(lock) => lock,
            Turn::LeftOut(error) => {
                self.log("left out: one of the same kind is still being run");
                return Ok(Ran::LeftOut(error));
            }
        };
        let earlier = settle_owed(self.state, &self.profile.name, self.stop, &|line| self.log(line));
        earlier.killed.iter().for_each(|run| (self.tell)(Event::Killed(run)));
        let mut run = self.blank();
        run.problems.extend(earlier.problems);
        lock.flaw().into_iter().for_each(|flaw| unnoted(&mut run, flaw));
        self.log("begins");
        self.stop.begin(&run);
        began();
        let Ok(BackedUp { opened, left }) = self.back_up(&mut run) else { return Ok(Ran::Stopped(lock)) };
        let id = opened.as_ref().map(|opened| opened.unlocked.id().to_string());
        if let Some(opened) = opened {
            self.maintain(opened, &mut run);
        }
        // From here on this thread tells of the run: who stops it waits.
        let _turn = self.stop.last_hook();
        if !self.stop.finish() {
            return Ok(Ran::Stopped(lock));
        }
        run.ended_secs = now_secs();
        record(self.state, &mut run, id.as_deref(), left.as_ref());
        self.log(&format!("ends: {}", run.outcome.word()));
        for problem in &run.problems {
            self.log(&format!("problem: {problem}"));
        }
        Ok(Ran::Ended(run))
    }

    fn blank(&self) -> Run {
        blank(&self.profile.name, self.periodicity, &self.place)
    }

    fn log(&self, line: &str) {
        (self.tell)(Event::Line(&format!("{} {}: {line}", self.profile.name, self.periodicity)));
    }

    /// Makes the snapshot, with the hooks around it.
    fn back_up(&self, run: &mut Run) -> Result<BackedUp, Stopped> {
        if self.stop.is_stopped() {
            drop(self.stop.last_hook());
            return Err(Stopped);
        }
        let log = |line: &str| self.log(line);
        let hooks = Hooks { hooks: &self.profile.hooks, stop: self.stop.programs(), log: &log };
        let owed = hooks.owed(run);
        if let Err(error) = self.state.owe(&self.profile.name, &owed) {
            unnoted(run, &error);
        }
        let made = hooks.before(run).and_then(|()| self.snapshot(run));
        let opened = match made {
            Ok(opened) => Some(opened),
            Err(error) => {
                run.problems.insert(0, error.chain());
                None
            }
        };
        let told = match run.outcome {
            Outcome::Success => hooks.after(run),
            _ => hooks.on_failure(run),
        };
        let turn = self.stop.last_hook();
        if self.stop.is_stopped() {
            return Err(Stopped);
        }
        let finally = hooks.finally(run);
        let failure = finally.err().map(|error| error.chain());
        run.problems.extend(told.err().map(|error| error.chain()).into_iter().chain(failure.clone()));
        // What has come of it so far; a last hook that has failed is tried again by the next run.
        let finally = if failure.is_some() { owed.finally.clone() } else { Vec::new() };
        let owed = Pending { finally, failure, run: Some(run.clone()), ..owed };
        if let Err(error) = self.state.owe(&self.profile.name, &owed) {
            unnoted(run, &error);
        }
        self.stop.goes_on(run);
        drop(turn);
        let left = owed.failure.is_some().then_some(Pending { run: None, ..owed });
        Ok(BackedUp { opened, left })
    }

    /// Returns how the profile's files are backed up.
    fn options(&self) -> Result<Options> {
        let profile = self.profile;
        let write = WriteOptions::default();
        // What profiles share need not lie below the sources of each.
        let (own, own_files) = profile.own_excludes();
        let own: Vec<String> = own.iter().filter(|glob| !excludes::is_about_built_in(glob)).cloned().collect();
        let stop = self.stop.clone();
        Ok(Options {
            paths: profile.sources.clone(),
            told_excludes: Excludes::in_profile(&profile.name, &own, own_files)?,
            excludes: Excludes::in_profile(&profile.name, &profile.excludes, &profile.exclude_files)?,
            exclude_caches: profile.exclude_caches,
            one_file_system: profile.one_file_system,
            allow_empty: profile.allow_empty || self.allow_empty,
            tags: profile.tags_of(self.periodicity),
            host: thin::host_of(profile),
            time: None,
            apart: self.access.own_paths()?,
            tells_servers: true,
            dry_run: false,
            is_ended: Some(Arc::new(move || stop.is_stopped())),
            write: WriteOptions { level: profile.compression.unwrap_or(write.level), ..write },
        })
    }

    /// Dumps databases and reads files into a snapshot.
    fn snapshot(&self, run: &mut Run) -> Result<Opened> {
        let mut unlocked = self.access.unlock_or_make(&|made| (self.tell)(Event::Made(made)))?;
        let repository = Arc::new(self.access.load(&mut unlocked, Memory::default(), IndexLoad::Whole)?);
        (self.tell)(Event::Opened(&repository));
        let options = self.options()?;
        let database::Dumps { generated, failed, replaced, notes } =
            database::dumps(self.profile, self.stop.programs());
        notes.iter().for_each(|note| self.log(note));
        let names: Vec<String> = generated.iter().map(|dump| thin::path_text(&dump.path)).collect();
        let troubles = Troubles::new(self.monitor);
        let outcome = backup::run_with(&repository, &options, backup::Dumps { generated, failed, replaced }, &troubles);
        let outcome = outcome.map_err(|error| match error.kind() {
            ErrorKind::Full => Error::new(
                ErrorKind::Full,
                format!("No room left at {}: earlier snapshots are as they were; make room and run again", self.place),
            )
            .because(error),
            _ => error,
        });
        let (named, more) = troubles.into_parts();
        let outcome = outcome?;
        repository.note_reads();
        let summary = &outcome.snapshot.summary;
        run.snapshot = Some(outcome.snapshot.name.clone());
        run.snapshot_id = outcome.id.map(|id| id.to_hex());
        run.files = summary.without_directories();
        run.content_bytes = summary.content_bytes;
        run.added_bytes = summary.added_bytes;
        run.packed_bytes = summary.packed_bytes;
        run.dumps = thin::dumps_in(&repository, &outcome.snapshot, &names);
        run.outcome = if summary.errors == 0 { Outcome::Success } else { Outcome::Incomplete };
        run.problems.extend(named);
        if more > 0 {
            run.problems.push(format!("and {more} more that could not be read: the snapshot names up to a thousand"));
        }
        run.notes = repository.warnings().take_notes();
        run.problems.extend(repository.take_warnings().into_iter().map(|warning| format!("warning: {warning}")));
        run.notes.iter().chain(&outcome.notes).for_each(|note| self.log(&format!("note: {note}")));
        self.log(&format!(
            "snapshot {}: {}, {}, {} added, {} stored",
            outcome.snapshot.name,
            counted(run.files, "file"),
            counted(summary.content_bytes, "byte"),
            summary.added_bytes,
            summary.packed_bytes
        ));
        Ok(Opened { unlocked, repository })
    }

    /// Forgets, verifies and prunes by the profile's rules; what fails is told, and the rest is done.
    fn maintain(&self, opened: Opened, run: &mut Run) {
        let Opened { mut unlocked, repository } = opened;
        match thin::forget(&repository, self.profile) {
            Ok(names) => {
                run.forgotten = names.len() as u64;
                names.iter().for_each(|name| self.log(&format!("forgotten: {name}")));
            }
            Err(error) => run.problems.push(format!("Nothing was forgotten: {}", error.chain())),
        }
        let id = repository.id().to_string();
        // What follows loads it with caches of its own size.
        drop(repository);
        let belief = self.state.belief(run.started_secs);
        let mut state = self.state.repository(&self.place, Some(&id)).believed(&belief);
        if is_due(self.profile.check_every_secs, state.last_check_secs, run.started_secs) {
            self.check(&mut unlocked, run, &mut state);
        }
        if is_due(self.profile.prune_every_secs, state.last_prune_secs, run.started_secs) {
            self.prune(&mut unlocked, run, &mut state);
        }
        if (run.checked || run.pruned)
            && let Err(error) = self.state.keep_repository(&state, Some(&id))
        {
            unnoted(run, &error);
        }
    }

    fn check(&self, unlocked: &mut Unlocked, run: &mut Run, state: &mut RepositoryState) {
        let before_secs = age_secs(&self.profile.check_max_age);
        let selection = Selection { share: self.profile.check_share, before_secs: Some(before_secs) };
        let checked = self.access.cache_base().and_then(|base| {
            let stored = Uncached::load(unlocked, &base)?;
            (self.tell)(Event::Opened(&stored));
            stored.check(Some(selection), self.monitor)
        });
        let report = match checked {
            Ok(report) => report,
            Err(error) => {
                run.problems.push(format!("The repository could not be verified: {}", error.chain()));
                return;
            }
        };
        run.checked = true;
        state.last_check_secs = Some(now_secs());
        state.is_damaged = !report.findings.is_empty();
        state.pack_bytes = report.pack_bytes;
        state.verified_bytes = report.verified.pack_bytes;
        let is_all_verified = report.verified.pack_bytes >= report.pack_bytes;
        let oldest = report.verified.oldest_secs.filter(|_| is_all_verified);
        state.oldest_verified_secs = oldest.and_then(|secs| i64::try_from(secs).ok());
        self.log(&format!("verified {} of {}", counted(report.read_bytes, "byte"), report.pack_bytes));
        if !report.findings.is_empty() {
            let first = report.findings.iter().take(3).map(|finding| finding.subject.to_string());
            let named = first.collect::<Vec<_>>().join(", ");
            run.problems.push(format!(
                "damaged stored objects: {} ({named}): `bakfs check` names what they cost, and what to do",
                report.findings.len()
            ));
        }
    }

    fn prune(&self, unlocked: &mut Unlocked, run: &mut Run, state: &mut RepositoryState) {
        let pruned = self.access.cache_base().and_then(|base| {
            let repository = Arc::new(self.access.load(unlocked, Memory::SMALL, IndexLoad::Whole)?);
            (self.tell)(Event::Opened(&repository));
            Policy::default().prune(&repository, &[], &base, self.monitor)
        });
        match pruned {
            Ok(report) => {
                run.pruned = true;
                state.last_prune_secs = Some(now_secs());
                let swept = &report.swept;
                self.log(&format!("pruned {}, {}", counted(swept.packs, "pack"), counted(swept.pack_bytes, "byte")));
                report.waiting_for.iter().for_each(|reason| self.log(&format!("the prune waits: {reason}")));
                if report.missing_chunks > 0 {
                    let (missing, are) = (counted(report.missing_chunks, "chunk"), are(report.missing_chunks));
                    run.problems
                        .push(format!("{missing} that snapshots need {are} in no pack: `bakfs check` names the files"));
                }
            }
            // Another machine is at it.
            Err(error) if error.kind() == ErrorKind::Busy => self.log("another prune is running: left to it"),
            Err(error) => run.problems.push(format!("No room was given back: {}", error.chain())),
        }
    }
}

/// Returns whether something done every so often is due. A time in the future counts as none, by however little.
fn is_due(every_secs: Option<u64>, last_secs: Option<i64>, now_secs: i64) -> bool {
    let Some(every_secs) = every_secs else { return false };
    // A nightly run begins some minutes earlier than the last one ended.
    let every_secs = i64::try_from(every_secs).unwrap_or(i64::MAX) / 10 * 9;
    last_secs.is_none_or(|last| last > now_secs || now_secs - last >= every_secs)
}

#[cfg(test)]
mod tests {
    use super::is_due;

    #[test]
    fn what_is_done_every_so_often_is_due_in_time() {
        let day = 86_400;
        for (every, last, due) in [
            (None, None, false),
            (Some(86_400), None, true),
            (Some(86_400), Some(100 * day), false),
            (Some(86_400), Some(99 * day + 3600), true),
            (Some(86_400), Some(100 * day - 3600), false),
            (Some(7 * 86_400), Some(95 * day), false),
            (Some(7 * 86_400), Some(93 * day), true),
            (Some(86_400), Some(200 * day), true),
        ] {
            assert_eq!(is_due(every, last, 100 * day), due, "{every:?} {last:?}");
        }
    }
}
