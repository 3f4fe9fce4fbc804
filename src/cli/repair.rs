//! `bakfs repair`: makes the index name what can be read and nothing else.

use super::check::{affected_json, open, tell_finding};
use super::open::Global;
use super::output::{counted, size};
use super::progress::Progress;
use super::{Status, stdout};
use crate::check::{self, Finding, Selection, Subject};
use crate::quantity::Share;
use crate::repair::{self, Options, Report};
use crate::store::Object;
use std::io::{IsTerminal, Write};

/// Options of `bakfs repair`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Make the index name what can be read, and nothing else\n\nThe index is made again from the packs where \
                  it is lost or damaged. Of a damaged pack what is right is copied to a new one, and the damaged pack \
                  stays where it is. No good object is deleted; what somebody else has put among keys, marks \
                  and snapshots is.",
    after_help = "Exits with 0 if everything is sound afterwards, 3 if something is lost, each named; `bakfs backup` then \
                  stores again what the source still has."
)]
pub struct Args {
    /// Say what would be done, and change nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    /// Read every stored byte to find damage that no check has found yet
    #[arg(long)]
    read_data: bool,
}

fn look(global: &Global, read: Option<Selection>, verb: &str) -> anyhow::Result<check::Report> {
    let repository = open(global)?;
    let progress = Progress::new(verb, !global.quiet && !global.json);
    let report = repository.check(read, &progress);
    progress.finish();
    Ok(report?)
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    let read = args.read_data.then_some(Selection { share: Share::All, before_secs: None });
    let before = look(global, read, "Checking")?;
    let suspects = before.findings.iter().filter_map(|finding| match finding.subject {
        Subject::Object(Object::Pack(id)) => Some(id),
        _ => None,
    });
    let options = Options { suspects: suspects.collect(), dry_run: args.dry_run };
    let done = {
        let repository = open(global)?;
        repository.missing_snapshots()?;
        let progress = Progress::new("Repairing", !global.quiet && !global.json);
        let done = repair::run(&repository, &options, &progress);
        progress.finish();
        done?
    };
    // What is lost is told as what the repaired repository cannot show.
    let after = if args.dry_run || !done.has_changes() { before } else { look(global, None, "Checking")? };
    let lost: Vec<_> = after.findings.iter().filter(|finding| is_loss(finding, &done)).collect();
    if global.json {
        say!("{}", json(&done, args.dry_run, &lost));
    } else {
        tell(global, args, &done, &lost)?;
    }
    Ok(if lost.is_empty() { Status::Done } else { Status::Incomplete })
}

/// Returns whether a finding is not one that is put right.
fn is_loss(finding: &Finding, done: &Report) -> bool {
    match finding.subject {
        Subject::Object(Object::Index(_) | Object::Mark(_)) => false,
        Subject::Object(Object::Pack(id)) => !finding.affected.is_empty() || done.unreadable_packs.contains(&id),
        Subject::Index => !finding.affected.is_empty(),
        Subject::Object(_) => true,
    }
}

fn json(done: &Report, dry_run: bool, lost: &[&Finding]) -> serde_json::Value {
    let names = |ids: &[crate::id::ObjectId]| ids.iter().map(|id| id.to_hex()).collect::<Vec<_>>();
    let lost = lost.iter().map(|finding| {
        let affected = finding.affected.iter().map(affected_json);
        serde_json::json!({
            "object": finding.subject.to_string(),
            "problems": finding.problems,
            "affected": affected.collect::<Vec<_>>(),
        })
    });
    serde_json::json!({
        "dry_run": dry_run,
        "changed": done.has_changes(),
        "damaged_index": names(&done.damaged_index),
        "damaged_marks": names(&done.damaged_marks),
        "foreign": done.foreign.iter().map(|object| object.to_string()).collect::<Vec<_>>(),
        "left_foreign": done.left_foreign,
        "missing_packs": names(&done.missing_packs),
        "set_aside_packs": names(&done.set_aside_packs),
        "unreadable_packs": names(&done.unreadable_packs),
        "named_packs": done.named_packs,
        "saved_chunks": done.saved_chunks,
        "saved_bytes": done.saved_bytes,
        "lost_chunks": done.lost_chunks,
        "index_written": done.index_written,
        "index_removed": done.index_removed,
        "lost": lost.collect::<Vec<_>>(),
    })
}

fn tell(global: &Global, args: &Args, done: &Report, lost: &[&Finding]) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(stdout::whole());
    for id in &done.damaged_index {
        writeln!(out, "{}: damaged, made again from its packs", Object::Index(*id))?;
    }
    for id in &done.damaged_marks {
        writeln!(out, "{}: damaged, removed: forget and pin again what it may have said", Object::Mark(*id))?;
    }
    for object in &done.foreign {
        writeln!(out, "{object}: not of this repository, removed")?;
    }
    if done.left_foreign > 0 {
        writeln!(
            out,
            "Left: {} not of this repository: no snapshot opens, or packs do not either: is `config` the right one?",
            counted(done.left_foreign, "object")
        )?;
    }
    for id in &done.missing_packs {
        writeln!(out, "{}: missing, not named any more", Object::Pack(*id))?;
    }
    for id in &done.set_aside_packs {
        writeln!(out, "{}: damaged, set aside where it is", Object::Pack(*id))?;
    }
    for id in &done.unreadable_packs {
        writeln!(out, "{}: damaged, and nothing tells what is in it: left where it is", Object::Pack(*id))?;
    }
    if done.named_packs > 0 {
        writeln!(out, "Named again: {}", counted(done.named_packs, "pack"))?;
    }
    if done.saved_chunks > 0 {
        writeln!(out, "Saved: {}, {}", counted(done.saved_chunks, "chunk"), size(done.saved_bytes))?;
    }
    if !lost.is_empty() {
        writeln!(out, "Lost:")?;
        for finding in lost {
            tell_finding(&mut out, finding)?;
        }
        writeln!(out, "Next: `bakfs backup`, which stores again what the source still has.")?;
    }
    let is_shown = !global.quiet && (std::io::stdout().is_terminal() || global.verbose > 0 || args.dry_run);
    if !done.has_changes() && is_shown {
        writeln!(out, "There is nothing to repair")?;
    } else if args.dry_run {
        writeln!(out, "Nothing was changed: this was a dry run")?;
    }
    out.flush()
}
