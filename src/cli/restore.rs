//! `bakfs restore`: files of a snapshot, back to a disk.

use super::open::Global;
use super::output::{Progress, count, size, tell_warnings};
use super::target::{Choice, Target, described};
use super::{Status, cost, scope, snapshots};
use crate::restore::{self, Filter, Options, Outcome};
use crate::store::Traffic;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Options of `bakfs restore`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to restore: a snapshot, or a path in it, as `main/latest:/etc`
    #[arg(value_name = "SNAP[:PATH]")]
    source: OsString,
    /// Where to: full source paths are made below this directory
    #[arg(value_name = "TARGET")]
    target: PathBuf,
    /// Replace what is in the way and of another type; a directory only when it is empty
    #[arg(long)]
    overwrite: bool,
    /// Take owners by number, even where their names have other numbers on this machine
    #[arg(long)]
    numeric_owner: bool,
    /// Restore only what matches a glob, and what lies below
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Leave out what matches a glob: `*.tmp`, `/var/cache`, `!keep.tmp`
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Count what would be restored, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Return only when everything is on the disk
    #[arg(long)]
    sync: bool,
    /// Take `latest`, a day or a time for what is left although snapshots are missing that were here
    #[arg(long)]
    accept_missing: bool,
    #[command(flatten)]
    scope: scope::Args,
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    let started = Instant::now();
    let filter = Filter::new(&args.include, &args.exclude)?;
    let repository = global.open()?;
    let choice = Choice::new(&repository, args.scope.scope()?)?;
    let source = choice.target(&args.source)?;
    source.require_certain(&repository, args.accept_missing)?;
    choice.entry(&source)?;
    let is_told = source.is_relative || global.verbose > 0 || args.dry_run || std::io::stderr().is_terminal();
    if is_told && !global.quiet && !global.json {
        source.tell("Restoring");
    }
    source.warn_of_others();
    let options = Options {
        path: source.path.clone(),
        filter,
        overwrite: args.overwrite,
        numeric_owner: args.numeric_owner,
        dry_run: args.dry_run,
        sync: args.sync,
    };
    let progress = Progress::new("Restoring", !global.quiet && !global.json && !args.dry_run);
    let outcome = restore::run(&repository, &source.listed.snapshot, &options, &args.target, &progress);
    progress.finish();
    repository.note_reads();
    tell_warnings(&repository);
    let outcome = outcome?;
    report(global, args, &source, &outcome, started.elapsed(), &repository.store().traffic());
    Ok(if outcome.errors > 0 { Status::Incomplete } else { Status::Done })
}

fn report(global: &Global, args: &Args, source: &Target, outcome: &Outcome, elapsed: Duration, traffic: &Traffic) {
    if global.json {
        println!(
            "{}",
            serde_json::json!({
                "snapshot": snapshots::identity_json(&source.listed, &source.name),
                "files": outcome.files,
                "content_bytes": outcome.content_bytes,
                "files_written": outcome.files_written,
                "written_bytes": outcome.written_bytes,
                "files_kept": outcome.files_kept,
                "hard_links": outcome.hard_links,
                "errors": outcome.errors,
                "seconds": elapsed.as_secs_f64(),
                "traffic": traffic,
            })
        );
        return;
    }
    if global.quiet || !(std::io::stdout().is_terminal() || global.verbose > 0 || args.dry_run) {
        return;
    }
    let restored = format!("{} files, {}", count(outcome.files), size(outcome.content_bytes));
    if args.dry_run {
        println!("Would restore {restored}");
        return;
    }
    println!("Restored {restored} in {:.1} s", elapsed.as_secs_f64());
    println!("Snapshot {}", described(&source.listed, &source.name));
    if outcome.files_kept > 0 {
        println!("Kept     {} files that were there already", count(outcome.files_kept));
    }
    if let Some(cost) = cost::told(traffic) {
        println!("Requests {cost}");
    }
    if outcome.errors > 0 {
        println!("Trouble  {} things could not be restored, each named above", count(outcome.errors));
    }
}
