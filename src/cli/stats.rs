//! `bakfs stats`: how much there is, and how much of it is stored.

use super::open::Global;
use super::output::{count, counted, size, tell_warnings};
use super::target::Choice;
use super::{Status, scope, stdout};
use crate::error::Error;
use crate::repo::shared::dated;
use crate::repo::shared::listed::Listed;
use crate::stats::{self, Stats};
use std::ffi::OsString;
use std::io::Write;

/// Options of `bakfs stats`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this snapshot [default: the repository]
    #[arg(value_name = "SNAP")]
    snapshot: Option<OsString>,
    #[command(flatten)]
    scope: scope::Args,
}

fn ratio(stats: &Stats) -> f64 {
    match stats.stored_bytes() {
        0 => 1.0,
        stored => stats.content_bytes as f64 / stored as f64,
    }
}

fn repository_json(stats: &Stats) -> serde_json::Value {
    serde_json::json!({
        "snapshots": stats.snapshots,
        "files": stats.files,
        "directories": stats.directories,
        "content_bytes": stats.content_bytes,
        "stored_bytes": stats.stored_bytes(),
        "ratio": ratio(stats),
        "data": {
            "packs": stats.packs[0],
            "chunks": stats.chunks[0],
            "plain_bytes": stats.plain_bytes[0],
            "stored_bytes": stats.pack_bytes[0],
        },
        "trees": {
            "packs": stats.packs[1],
            "pages": stats.chunks[1],
            "plain_bytes": stats.plain_bytes[1],
            "stored_bytes": stats.pack_bytes[1],
        },
        "index_bytes": stats.index_bytes,
        "other_bytes": stats.other_bytes,
    })
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
    let less = Some(ratio(stats)).filter(|ratio| *ratio >= 1.05).map(|ratio| format!(", {ratio:.1} times less"));
    writeln!(out, "Stored     {}{}", size(stats.stored_bytes()), less.unwrap_or_default())?;
    writeln!(out, "  content  {} in {}, {} of {}", data.3, data.0, data.1, data.2)?;
    writeln!(out, "  trees    {} in {}, {} of {}", trees.3, trees.0, trees.1, trees.2)?;
    writeln!(out, "  index    {}", size(stats.index_bytes))?;
    writeln!(out, "  other    {}", size(stats.other_bytes))
}

fn snapshot_json(listed: &Listed, name: &str) -> serde_json::Value {
    let (snapshot, summary) = (&listed.snapshot, &listed.snapshot.summary);
    serde_json::json!({
        "name": name,
        "id": listed.id.to_hex(),
        "time": dated::timestamp(snapshot.time).to_string(),
        "files": summary.without_directories(),
        "directories": summary.directories(),
        "content_bytes": snapshot.root.total_bytes,
        "files_new": summary.files_new,
        "files_changed": summary.files_changed,
        "files_unmodified": summary.files_unmodified,
        "added_bytes": summary.added_bytes,
        "packed_bytes": summary.packed_bytes,
        "errors": summary.errors,
    })
}

fn tell_snapshot(out: &mut impl Write, listed: &Listed, name: &str) -> std::io::Result<()> {
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
                true => writeln!(out, "{}", snapshot_json(listed, &name))?,
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
                true => writeln!(out, "{}", repository_json(&stats))?,
                false => tell_repository(&mut out, &stats)?,
            }
        }
    }
    out.flush()?;
    Ok(if tell_warnings(&repository) > 0 { Status::Incomplete } else { Status::Done })
}
