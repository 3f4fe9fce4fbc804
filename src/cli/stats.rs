//! `bakfs stats`: how much there is, and how much of it is stored.

use super::open::Global;
use super::output::{count, counted, json, size, tell_warnings};
use super::target::Choice;
use super::{Status, scope, stdout};
use crate::error::Error;
use crate::repo::shared::listed::{ListedSnapshot, Named};
use crate::stats::{self, SnapshotStats, Stats};
use std::ffi::OsString;
use std::io::Write;

/// Options of `bakfs stats`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this snapshot [default: the repository]
    #[arg(value_name = "SNAP", add = super::complete::snapshots())]
    snapshot: Option<OsString>,
    #[command(flatten)]
    scope: scope::Args,
}

fn tell_repository(out: &mut impl Write, stats: &Stats) -> std::io::Result<()> {
    let [data, trees] = [0, 1].map(|lane| {
        (
            counted(stats.packs[lane], "pack"),
            counted(stats.chunks[lane], ["chunk", "page"][lane]),
            size(stats.plain_bytes[lane]),
            size(stats.pack_bytes[lane]),
        )
    });
    writeln!(out, "Snapshots  {}", count(stats.snapshots))?;
    writeln!(out, "Files      {} in all snapshots, {}", count(stats.files), size(stats.content_bytes))?;
    let less = Some(stats.ratio()).filter(|ratio| *ratio >= 1.05).map(|ratio| format!(", {ratio:.1} times less"));
    writeln!(out, "Stored     {}{}", size(stats.stored_bytes()), less.unwrap_or_default())?;
    writeln!(out, "  content  {} in {}, {} of {}", data.3, data.0, data.1, data.2)?;
    writeln!(out, "  trees    {} in {}, {} of {}", trees.3, trees.0, trees.1, trees.2)?;
    writeln!(out, "  index    {}", size(stats.index_bytes))?;
    writeln!(out, "  other    {}", size(stats.other_bytes))
}

fn tell_snapshot(out: &mut impl Write, listed: &ListedSnapshot, name: &str) -> std::io::Result<()> {
    let (snapshot, summary) = (&listed.snapshot, &listed.snapshot.summary);
    let [new, changed, unmodified] = [summary.files_new, summary.files_changed, summary.files_unmodified].map(count);
    writeln!(out, "Snapshot   {name}")?;
    writeln!(out, "Files      {}, {}", count(summary.without_directories()), size(snapshot.root.total_bytes))?;
    writeln!(out, "When made  {new} new, {changed} changed, {unmodified} unmodified")?;
    writeln!(out, "Added      {}, {} compressed", size(summary.added_bytes), size(summary.packed_bytes))
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    let repository = global.open()?;
    let choice = Choice::new(&repository, args.scope.scope()?)?;
    let mut out = std::io::BufWriter::new(stdout::listing(global.json));
    match &args.snapshot {
        Some(name) => {
            let listed = choice.snapshot(name)?;
            let name = choice.shown_name(listed);
            match global.json {
                true => writeln!(out, "{}", json(&SnapshotStats(Named { listed, name: &name })))?,
                false => tell_snapshot(&mut out, listed, &name)?,
            }
        }
        None if !choice.scope().is_empty() => {
            return Err(
                Error::usage("Say which of these snapshots, as `latest`; without any it is the repository").into()
            );
        }
        None => {
            let stats = stats::run(&repository, choice.all())?;
            match global.json {
                true => writeln!(out, "{}", json(&stats))?,
                false => tell_repository(&mut out, &stats)?,
            }
        }
    }
    out.flush()?;
    Ok(if tell_warnings(&repository) > 0 { Status::Incomplete } else { Status::Done })
}
