//! `bakfs prune`: gives back the room of what no snapshot needs.

use super::open::Global;
use super::output::{self, are, count, counted, size, tell_warnings};
use super::progress::Progress;
use super::{Status, memory};
use crate::id::ObjectId;
use crate::prune::Report;
use crate::prune::policy::Policy;
use crate::quantity::time::Window;
use crate::repo::{Memory, Repository};
use serde::Serialize;
use std::io::IsTerminal;
use std::sync::Arc;

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

impl Args {
    /// Returns those of a prune after a forget.
    pub fn after_forget(dry_run: bool, accept_missing: bool) -> Self {
        let Policy { max_waste, dead_after, .. } = Policy::default();
        Args { max_waste, dry_run, accept_missing, dead_after }
    }

    fn policy(&self) -> Policy {
        Policy {
            max_waste: self.max_waste,
            dry_run: self.dry_run,
            accept_missing: self.accept_missing,
            dead_after: self.dead_after,
        }
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    let number: f64 = text.strip_suffix('%').unwrap_or(text).parse().map_err(|_| "write a share as 10%".to_string())?;
    if (0.0..=100.0).contains(&number) { Ok(number / 100.0) } else { Err("a share is between 0% and 100%".into()) }
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    memory::spare();
    let report = prune(global, args, &global.open_with(Memory::SMALL)?, &[])?;
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

fn prune(global: &Global, args: &Args, repository: &Arc<Repository>, forgotten: &[ObjectId]) -> anyhow::Result<Report> {
    let progress = Progress::new("Pruning", !global.quiet && !global.json);
    let base = global.access.cache_base()?;
    let report = args.policy().prune(repository, forgotten, &base, &progress);
    progress.finish();
    tell_warnings(repository);
    let report = report?;
    if !global.json && !global.quiet && (args.dry_run || global.verbose > 0 || std::io::stdout().is_terminal()) {
        tell(&report, args.dry_run);
    }
    Ok(report)
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
