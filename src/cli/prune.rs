//! `bakfs prune`: gives back the room of what no snapshot needs.

use super::open::Global;
use super::output::{self, are, count, counted, size, tell_warnings};
use super::progress::Progress;
use super::{Status, memory};
use crate::error::{Error, ErrorKind};
use crate::format::mark;
use crate::id::ObjectId;
use crate::monitor::Monitor;
use crate::prune::{self, Options, Report};
use crate::quantity::time::Window;
use crate::repo::Repository;
use crate::repo::shared::dated;
use crate::repo::shared::session::{is_surely_alive, is_surely_dead};
use crate::repo::write::WriteOptions;
use crate::trust::folder;
use serde::Serialize;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

/// Two prunes that begin at once both stop: they try again after a moment of their own.
const ATTEMPTS: u32 = 4;

/// Options of `bakfs prune`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Leave up to this share of what is stored unused, rather than copy the rest of its packs
    #[arg(long, value_name = "PERCENT", default_value = "10%", value_parser = parse_share)]
    max_waste: f64,
    /// Show what would be deleted, and delete nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    /// Prune although snapshots or content are missing that should be there
    #[arg(long)]
    accept_missing: bool,
    /// Take a backup on another machine for dead that began longer ago; it will fail rather than commit
    #[arg(long, value_name = "DURATION", default_value = "7d")]
    dead_after: Window,
}

impl Default for Args {
    fn default() -> Self {
        let dead_after = "7d".parse().expect("a duration");
        Args { max_waste: 0.1, dry_run: false, accept_missing: false, dead_after }
    }
}

impl Args {
    /// Returns those of a prune after a forget.
    pub fn after_forget(dry_run: bool, accept_missing: bool) -> Self {
        Args { dry_run, accept_missing, ..Args::default() }
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    let number: f64 = text.strip_suffix('%').unwrap_or(text).parse().map_err(|_| "write a share as 10%".to_string())?;
    if (0.0..=100.0).contains(&number) { Ok(number / 100.0) } else { Err("a share is between 0% and 100%".into()) }
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    memory::spare();
    let report = prune(global, args, &global.open_with(memory::SMALL)?, &[])?;
    if global.json {
        say!("{}", output::json(&Told { dry_run: args.dry_run, report: &report }));
    }
    Ok(status(&report))
}

/// Runs the command after a `bakfs forget --prune`, which in a dry run has not `forgotten` what it names. What it has
/// `told` becomes part of the JSON.
pub fn run_after_forget(
    global: &Global,
    args: &Args,
    repository: &Arc<Repository>,
    forgotten: &[ObjectId],
    told: Option<serde_json::Value>,
) -> anyhow::Result<Status> {
    let dry_run = args.dry_run;
    let forgotten = if dry_run { forgotten } else { &[] };
    let report = prune(global, args, repository, forgotten)?;
    if let Some(told) = told {
        say!("{}", serde_json::json!({ "forget": told, "prune": output::json(&Told { dry_run, report: &report }) }));
    }
    Ok(status(&report))
}

fn status(report: &Report) -> Status {
    if report.missing_chunks == 0 {
        return Status::Done;
    }
    let (missing, are) = (counted(report.missing_chunks, "chunk"), are(report.missing_chunks));
    warn!("bakfs: warning: {missing} that snapshots need {are} in no pack: `bakfs check` names the files");
    Status::Incomplete
}

/// Prunes as the command does by itself, and prints nothing.
pub fn prune_quietly(global: &Global, monitor: &dyn Monitor) -> Result<Report, Error> {
    let repository = global.open_with(memory::SMALL)?;
    prune_opened(global, &Args::default(), &repository, &[], monitor)
}

fn prune(global: &Global, args: &Args, repository: &Arc<Repository>, forgotten: &[ObjectId]) -> anyhow::Result<Report> {
    let progress = Progress::new("Pruning", !global.quiet && !global.json);
    let report = prune_opened(global, args, repository, forgotten, &progress);
    progress.finish();
    tell_warnings(repository);
    let report = report?;
    if !global.json && !global.quiet && (args.dry_run || global.verbose > 0 || std::io::stdout().is_terminal()) {
        tell(&report, args.dry_run);
    }
    Ok(report)
}

fn prune_opened(
    global: &Global,
    args: &Args,
    repository: &Arc<Repository>,
    forgotten: &[ObjectId],
    monitor: &dyn Monitor,
) -> Result<Report, Error> {
    let now = jiff::Zoned::now();
    let oldest = args.dead_after.start(&now);
    // A clock may have been as far ahead as it may be behind.
    let newest = now.timestamp() + now.timestamp().duration_since(oldest);
    let is_dead = |session: &mark::SessionMark| {
        let is_silent = !(oldest..=newest).contains(&dated::timestamp(session.started));
        is_surely_dead(session) || is_silent && !is_surely_alive(session)
    };
    let base = global.access.cache_base()?;
    let scratch = folder::scratch("prune-", Some(&base)).or_else(|_| folder::scratch("bakfs-prune-", None)).ok();
    let options = Options {
        max_waste: args.max_waste,
        dry_run: args.dry_run,
        forgotten,
        accept_missing: args.accept_missing,
        scratch: scratch.as_ref().map(tempfile::TempDir::path),
        write: WriteOptions::default(),
        is_dead: &is_dead,
    };
    let mut attempt = 1;
    let report = loop {
        match prune::run(repository, &options, monitor) {
            Err(error) if error.kind() == ErrorKind::Busy && attempt < ATTEMPTS => {
                std::thread::sleep(Duration::from_millis(u64::from(attempt) * (50 + u64::from(random_byte()))));
                attempt += 1;
            }
            report => break report,
        }
    };
    if report.is_ok() && args.accept_missing && !args.dry_run {
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

fn random_byte() -> u8 {
    let mut byte = [0];
    crate::random::fill_random(&mut byte);
    byte[0]
}

/// Writes what was done, or would be.
fn tell(report: &Report, dry_run: bool) {
    let sizes = &report.sizes;
    if dry_run {
        say!("Packs     {}, {}", count(sizes.packs), size(sizes.pack_bytes));
        say!("Unused    {}, {}: would be deleted", counted(sizes.unused_packs, "pack"), size(sizes.unused_bytes));
        say!(
            "Partly    {}, {}: would be deleted after {} of content, not yet compressed, is copied",
            counted(sizes.repack_packs, "pack"),
            size(sizes.repack_bytes),
            size(sizes.copied_plain_bytes)
        );
        say!("Stays     about {} that nothing needs", size(sizes.waste_bytes));
        say!("Forgotten {} would be removed for good", counted(report.forgotten, "snapshot"));
    } else if report.waiting_for.is_empty() {
        let swept = &report.swept;
        say!("Deleted   {}, {}", counted(swept.packs, "pack"), size(swept.pack_bytes));
        say!("Copied    {}, {} packed", size(sizes.copied_plain_bytes), size(report.copied_packed_bytes));
        say!("Removed   {}", counted(swept.snapshots, "forgotten snapshot"));
    }
    for reason in &report.waiting_for {
        say!("Waiting   {reason}; what was found stays until the next prune");
    }
    if report.missing_chunks > 0 {
        say!(
            "Missing   {} that snapshots need: `bakfs check` names the files",
            counted(report.missing_chunks, "chunk")
        );
    }
}

/// A report of what was done, or would be, as programs are told.
#[derive(Serialize)]
struct Told<'a> {
    dry_run: bool,
    #[serde(flatten)]
    report: &'a Report,
}
