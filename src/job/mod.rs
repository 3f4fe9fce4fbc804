//! One run of a profile: hooks, dumps, backup, forget, and its share of check and prune, told as one record.
//!
//! ```text
//! lock -> what an earlier run owes -> before -> dumps and files -> after | on failure -> finally
//!      -> forget -> check -> prune
//! ```
//!
//! What reads data comes first and ends as soon as it can: a site in maintenance mode waits for nothing else.

mod hooks;
pub mod thin;
mod troubles;

use crate::backup::{self, Options};
use crate::check::Report;
use crate::database;
use crate::error::{Error, ErrorKind, Result};
use crate::process;
use crate::prune;
use crate::quantity::{are, counted};
use crate::repo::Repository;
use crate::settings::{Periodicity, Profile};
use crate::state::lock::Turn;
use crate::state::pending::Pending;
use crate::state::{Outcome, RepositoryState, Run, StateDir};
use hooks::Hooks;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use troubles::Troubles;

/// How long a run waits for another kind of run of the same profile.
const PATIENCE: Duration = Duration::from_hours(6);

/// How it begins that the folder of states is full or cannot be written, which is no reason not to make a snapshot.
const UNNOTED: &str = "What this run does cannot be noted, so that `bakfs status` and catching up go by what is old (make \
                       room there, or mend the folder)";

/// What a run needs of the program around it.
pub trait Host {
    /// Opens the profile's repository.
    fn open(&self) -> Result<Arc<Repository>>;
    /// Returns how the profile's files are backed up.
    fn options(&self) -> Result<Options>;
    /// Verifies the structure and a part of the data.
    fn check(&self) -> Result<Report>;
    /// Gives back the room of what no snapshot needs.
    fn prune(&self) -> Result<prune::Report>;
    /// Tells of an earlier run of the profile that was killed: nobody has yet.
    fn killed(&self, earlier: &Run);
    /// Takes a line of the log.
    fn log(&self, line: &str);
    /// Shows progress, where somebody looks.
    fn monitor(&self) -> &dyn crate::monitor::Monitor;
}

/// A run that is to be made.
pub struct Job<'a> {
    /// What is backed up.
    pub profile: &'a Profile,
    /// The kind of run.
    pub periodicity: Periodicity,
    /// Where states are kept.
    pub state: &'a StateDir,
    /// Where the repository is, without secrets.
    pub place: String,
    /// What it needs of the program.
    pub host: &'a dyn Host,
}

/// Held while a last hook runs: a signal and the run itself never run it both.
static LAST_HOOK: Mutex<()> = Mutex::new(());
/// The run that is under way in this process, as far as it has come.
static UNDER_WAY: Mutex<Option<Run>> = Mutex::new(None);

/// Ends the run that is under way in this process, for `why`: its programs are killed, its last hook is run unless it
/// has been, and its record is kept. Returns the record; the process is to end then.
pub fn end(state: &StateDir, why: &str) -> Option<Run> {
    process::end_all();
    let _turn = LAST_HOOK.lock();
    let mut run = UNDER_WAY.lock().take()?;
    run.ended_secs = now_secs();
    run.problems.insert(0, why.to_string());
    run.judge();
    let mut left = None;
    match state.owed(&run.profile) {
        Ok(Some(owed)) if owed.process == std::process::id() && !owed.finally.is_empty() => {
            let result = hooks::run_owed(&owed, &run, &|line| tracing::info!("{}: {line}", run.profile));
            let failure = result.err().map(|error| error.chain());
            run.problems.extend(failure.clone());
            left = failure.map(|failure| Pending { failure: Some(failure), run: None, ..owed });
        }
        Ok(_) => {}
        Err(error) => run.problems.push(error.chain()),
    }
    record(state, &mut run, None, left.as_ref());
    Some(run)
}

/// Keeps the record of a run to the repository of an id, as far as that is known, and after it what is left to be done: nothing, or its last hook
/// once more. What cannot be kept is a problem of the run.
fn record(state: &StateDir, run: &mut Run, id: Option<&str>, left: Option<&Pending>) {
    run.judge();
    let mut known = state.profile(&run.profile);
    known.turn_to(&run.repository, id);
    known.add(run.clone());
    let kept = state.keep_profile(&known);
    // Otherwise the next run would take it for one that was killed.
    let noted = match left {
        None => state.settle(&run.profile),
        Some(left) => state.owe(&run.profile, left),
    };
    [kept, noted].into_iter().filter_map(Result::err).for_each(|error| unnoted(run, &error));
    run.judge();
}

/// Makes it a problem of a run that something of it cannot be noted; what follows of the same is no other problem.
fn unnoted(run: &mut Run, error: &Error) {
    if !run.problems.iter().any(|problem| problem.starts_with(UNNOTED)) {
        run.problems.push(format!("{UNNOTED}: {}", error.chain()));
    }
}

/// What came of looking after a run that was killed.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Its record, where it had none.
    pub killed: Option<Run>,
    /// What went wrong now.
    pub problems: Vec<String>,
}

/// Records a killed run of a profile and runs the last hook it owes, unless a run of it is under way: that needs nothing
/// of the configuration.
pub fn recover(state: &StateDir, profile: &str, log: &dyn Fn(&str)) -> Recovered {
    match state.lock(profile, Periodicity::Manual, Duration::ZERO) {
        Ok(_lock) => settle_owed(state, profile, log),
        Err(error) if error.kind() == ErrorKind::Busy => Recovered::default(),
        Err(error) => Recovered { killed: None, problems: vec![error.chain()] },
    }
}

/// Makes the record of a run that could not begin.
pub fn not_begun(profile: &str, periodicity: Periodicity, place: &str, error: &Error) -> Run {
    let mut run = blank(profile, periodicity, place);
    run.problems.push(error.chain());
    run
}

/// Records a run that was killed before it could be, and runs its last hook. Only the holder of the profile's lock may.
fn settle_owed(state: &StateDir, profile: &str, log: &dyn Fn(&str)) -> Recovered {
    let owed = match state.owed(profile) {
        Ok(None) => return Recovered::default(),
        Ok(Some(owed)) => owed,
        Err(error) => return Recovered { killed: None, problems: vec![error.chain()] },
    };
    let mut killed = owed.killed(now_secs()).filter(|run| !state.profile(profile).has(run));
    let name = match (&killed, &owed.failure) {
        (Some(_), _) | (None, None) => "a killed run",
        (None, Some(_)) => "an earlier run, which had failed then too",
    };
    let _turn = LAST_HOOK.lock();
    let mut left = None;
    let mut problems = Vec::new();
    if !owed.finally.is_empty() {
        log(&format!("the last hook of {name}: it is run now"));
        let earlier = killed.clone().unwrap_or_else(|| {
            let mut earlier = blank(profile, owed.periodicity, "");
            earlier
                .problems
                .push(owed.failure.clone().unwrap_or_else(|| "The run was killed before it had ended".into()));
            earlier
        });
        if let Err(error) = hooks::run_owed(&owed, &earlier, log) {
            problems.push(format!("The last hook of {name}: {}", error.chain()));
            left = Some(Pending { failure: Some(error.chain()), run: None, ..owed });
        }
    }
    if let Some(run) = &mut killed {
        log("an earlier run was killed");
        record(state, run, None, left.as_ref());
    } else {
        let noted = left.map_or_else(|| state.settle(profile), |left| state.owe(profile, &left));
        problems.extend(noted.err().map(|error| error.chain()));
    }
    Recovered { killed, problems }
}

fn blank(profile: &str, periodicity: Periodicity, place: &str) -> Run {
    Run {
        profile: profile.to_string(),
        periodicity,
        repository: place.to_string(),
        started_secs: now_secs(),
        ended_secs: now_secs(),
        outcome: Outcome::Failed,
        snapshot: None,
        snapshot_id: None,
        problems: Vec::new(),
        notes: Vec::new(),
        files: 0,
        content_bytes: 0,
        added_bytes: 0,
        packed_bytes: 0,
        dumps: Vec::new(),
        forgotten: 0,
        checked: false,
        pruned: false,
    }
}

/// What the part of a run came to that reads data.
#[derive(Default)]
struct Made {
    /// The repository the snapshot is in, if there is one.
    repository: Option<Arc<Repository>>,
    /// The last hook, if it is still owed.
    left: Option<Pending>,
}

/// Waits for the process to be ended by who has taken the run over.
fn wait_for_the_end() -> ! {
    loop {
        std::thread::park();
    }
}

fn now_secs() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// What came of a run.
#[derive(Debug)]
pub enum Ran {
    /// It has begun and ended.
    Ended(Run),
    /// One of the same kind is still under way, and this one was left out.
    LeftOut(Error),
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
        let earlier = settle_owed(self.state, &self.profile.name, &|line| self.log(line));
        earlier.killed.iter().for_each(|run| self.host.killed(run));
        let mut run = self.blank();
        run.problems.extend(earlier.problems);
        lock.flaw().into_iter().for_each(|flaw| unnoted(&mut run, flaw));
        self.log("begins");
        *UNDER_WAY.lock() = Some(run.clone());
        began();
        let Made { repository, left } = self.back_up(&mut run);
        let id = repository.as_ref().map(|repository| repository.id().to_string());
        if let Some(repository) = repository {
            self.maintain(repository, &mut run);
        }
        // From here on this thread tells of the run: who ends the process waits.
        let turn = LAST_HOOK.lock();
        if UNDER_WAY.lock().take().is_none() {
            drop(turn);
            wait_for_the_end();
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
        self.host.log(&format!("{} {}: {line}", self.profile.name, self.periodicity));
    }

    /// Makes the snapshot, with the hooks around it.
    fn back_up(&self, run: &mut Run) -> Made {
        if process::is_ended() {
            wait_for_the_end();
        }
        let log = |line: &str| self.log(line);
        let hooks = Hooks { hooks: &self.profile.hooks, log: &log };
        let owed = hooks.owed(run);
        if let Err(error) = self.state.owe(&self.profile.name, &owed) {
            unnoted(run, &error);
        }
        let made = hooks.before(run).and_then(|()| self.snapshot(run));
        let repository = match made {
            Ok(repository) => Some(repository),
            Err(error) => {
                run.problems.insert(0, error.chain());
                None
            }
        };
        let told = match run.outcome {
            Outcome::Success => hooks.after(run),
            _ => hooks.on_failure(run),
        };
        let turn = LAST_HOOK.lock();
        if process::is_ended() {
            drop(turn);
            wait_for_the_end();
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
        // Unless it was taken over.
        if let Some(known) = &mut *UNDER_WAY.lock() {
            known.clone_from(run);
        }
        drop(turn);
        let left = owed.failure.is_some().then_some(Pending { run: None, ..owed });
        Made { repository, left }
    }

    /// Dumps databases and reads files into a snapshot.
    fn snapshot(&self, run: &mut Run) -> Result<Arc<Repository>> {
        let repository = self.host.open()?;
        let mut options = self.host.options()?;
        options.tags = self.profile.tags_of(self.periodicity);
        let database::Dumps { generated, failed, replaced, notes } = database::dumps(self.profile);
        notes.iter().for_each(|note| self.log(note));
        let names: Vec<String> = generated.iter().map(|dump| thin::path_text(&dump.path)).collect();
        let troubles = Troubles::new(self.host.monitor());
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
        Ok(repository)
    }

    /// Forgets, verifies and prunes by the profile's rules; what fails is told, and the rest is done.
    fn maintain(&self, repository: Arc<Repository>, run: &mut Run) {
        match thin::forget(&repository, self.profile) {
            Ok(names) => {
                run.forgotten = names.len() as u64;
                names.iter().for_each(|name| self.log(&format!("forgotten: {name}")));
            }
            Err(error) => run.problems.push(format!("Nothing was forgotten: {}", error.chain())),
        }
        let id = repository.id().to_string();
        // What follows opens it with caches of its own size.
        drop(repository);
        let belief = self.state.belief(run.started_secs);
        let mut state = self.state.repository(&self.place, Some(&id)).believed(&belief);
        if is_due(self.profile.check_every_secs, state.last_check_secs, run.started_secs) {
            self.check(run, &mut state);
        }
        if is_due(self.profile.prune_every_secs, state.last_prune_secs, run.started_secs) {
            self.prune(run, &mut state);
        }
        if (run.checked || run.pruned)
            && let Err(error) = self.state.keep_repository(&state, Some(&id))
        {
            unnoted(run, &error);
        }
    }

    fn check(&self, run: &mut Run, state: &mut RepositoryState) {
        let report = match self.host.check() {
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

    fn prune(&self, run: &mut Run, state: &mut RepositoryState) {
        match self.host.prune() {
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
