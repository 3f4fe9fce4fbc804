//! `bakfs repair`: makes the index name what can be read and nothing else.

use super::check::{open, tell_finding};
use super::open::Global;
use super::output::{counted, json, size};
use super::progress::Progress;
use super::{Status, stdout};
use crate::check::{self, Affected, Finding, Selection, Subject};
use crate::quantity::Share;
use crate::repair::{self, Options, Report};
use crate::store::Object;
use serde::Serialize;
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
        let (changed, all) = (done.has_changes(), lost.iter().map(Lost::new).collect());
        say!("{}", json(&Told { dry_run: args.dry_run, changed, report: &done, lost: all }));
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

/// A report of what was done, or would be, as programs are told.
#[derive(Serialize)]
struct Told<'a> {
    dry_run: bool,
    changed: bool,
    #[serde(flatten)]
    report: &'a Report,
    lost: Vec<Lost<'a>>,
}

/// A finding that is not put right.
#[derive(Serialize)]
struct Lost<'a> {
    object: Subject,
    problems: &'a [String],
    affected: &'a [Affected],
}

impl<'a> Lost<'a> {
    fn new(finding: &&'a Finding) -> Self {
        Lost { object: finding.subject, problems: &finding.problems, affected: &finding.affected }
    }
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
