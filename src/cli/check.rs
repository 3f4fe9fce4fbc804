//! `bakfs check`: whether everything stored is sound.

use super::open::Global;
use super::output::{self, WithTraffic, count, counted, heed, readable, size};
use super::progress::Progress;
use super::{Status, cost, memory, stdout};
use crate::check::uncached::Uncached;
use crate::check::{self, Finding, Part, Report, Selection, Subject, Verified, at};
use crate::clock::now_secs;
use crate::error::{Error, ErrorKind};
use crate::quantity::time::Window;
use crate::quantity::{Share, parse_share};
use crate::repo::shared::foreign;
use crate::store::{Object, Traffic};
use jiff::Zoned;
use serde::Serialize;
use std::io::{IsTerminal, Write};

/// Options of `bakfs check`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exits with 0 if everything is sound, 1 if anything is damaged or cannot be checked, and 3 if all is \
                  sound but for objects of somebody else, which say nothing."
)]
pub struct Args {
    /// Read and verify every stored byte, not only the structure
    #[arg(long, conflicts_with = "read_data_subset")]
    read_data: bool,
    /// Read and verify a part, as `5%` or `2G`: what was verified longest ago comes first
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    read_data_subset: Option<Share>,
    /// Read and verify only what was not verified for so long, as `30d`, `12h`, `90min` or `3mo`
    #[arg(long, value_name = "AGE", value_parser = Window::parse_age)]
    max_age: Option<Window>,
}

impl Args {
    fn selection(&self) -> Result<Option<Selection>, Error> {
        let share = match (self.read_data_subset, self.read_data || self.max_age.is_some()) {
            (Some(share), _) => share,
            (None, true) => Share::All,
            (None, false) => return Ok(None),
        };
        let before = |age: &Window| u64::try_from(age.start(&Zoned::now()).as_second()).unwrap_or(0);
        Ok(Some(Selection { share, before_secs: self.max_age.as_ref().map(before) }))
    }
}

/// Opens the repository with an empty cache: what is checked is what is stored. Where it cannot be opened, what can be
/// said of its objects without keys is said.
pub fn open(global: &Global) -> Result<Uncached, Error> {
    let base = global.access.cache_base()?;
    let opened = global.access.unlock().and_then(|mut unlocked| Uncached::load(&mut unlocked, &base));
    let opened = opened.inspect_err(|error| {
        if matches!(error.kind(), ErrorKind::Locked | ErrorKind::NoKey | ErrorKind::Damaged | ErrorKind::Exchanged) {
            let objects = global.access.store().and_then(|store| check::check_unopened(&*store));
            for (object, problem) in objects.unwrap_or_default() {
                warn!("bakfs: {object}: {problem}: bring it back from a copy");
            }
        }
    })?;
    heed(&opened);
    Ok(opened)
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    memory::spare();
    let repository = open(global)?;
    let progress = Progress::new("Checking", !global.quiet && !global.json);
    let read = args.selection()?;
    let report = repository.check(read, &progress);
    progress.finish();
    let report = report?;
    if global.json {
        say!("{}", told(&report, read.is_some(), &repository.store().traffic()));
    } else {
        tell(global, &report, &repository.store().traffic())?;
    }
    // After the check, which tells its own troubles only.
    repository.missing_snapshots()?;
    for warning in foreign::warnings(&report.foreign) {
        warn!("bakfs: warning: {warning}");
    }
    Ok(match (report.findings.is_empty(), report.foreign.is_empty()) {
        (false, _) => Status::Failed,
        (true, false) => Status::Incomplete,
        (true, true) => Status::Done,
    })
}

/// A report as programs are told.
#[derive(Serialize)]
struct Told<'a> {
    damaged: bool,
    read_data: bool,
    #[serde(flatten)]
    report: &'a Report,
}

fn told(report: &Report, read_data: bool, traffic: &Traffic) -> serde_json::Value {
    let report = Told { damaged: !report.findings.is_empty(), read_data, report };
    output::json(&WithTraffic { report, traffic })
}

/// Writes a finding for a person.
pub fn tell_finding(out: &mut impl Write, finding: &Finding) -> std::io::Result<()> {
    for problem in &finding.problems {
        writeln!(out, "{}: {}", finding.subject, readable(problem.as_bytes()))?;
    }
    if finding.more_problems > 0 {
        writeln!(out, "{}: and {} more", finding.subject, counted(finding.more_problems, "problem"))?;
    }
    for affected in &finding.affected {
        let snapshots = match affected.snapshots {
            1 => affected.first.clone(),
            many => format!("{}, {} to {}", counted(many, "snapshot"), affected.first, affected.last),
        };
        let what = match affected.part {
            Part::Content => "",
            Part::Entries => " (what is in it)",
        };
        writeln!(out, "    {}{what}  in {snapshots}", readable(&affected.path))?;
    }
    if finding.more_affected {
        writeln!(out, "    and more paths")?;
    }
    Ok(())
}

/// Returns what the findings mean together, and what to do next.
fn advice(report: &Report) -> Vec<String> {
    let is_of = |finding: &Finding, wanted: fn(&Object) -> bool| match &finding.subject {
        Subject::Object(object) => wanted(object),
        Subject::Index => false,
    };
    let any = |wanted: fn(&Object) -> bool| report.findings.iter().any(|finding| is_of(finding, wanted));
    let all_read = report.packs_read + report.set_aside_packs >= report.packs;
    let rest = match (report.findings.iter().any(|finding| !finding.affected.is_empty()), all_read) {
        (true, true) => "every path not named above is sound",
        (true, false) => "paths not named above have a sound structure; `bakfs check --read-data` reads their content",
        (false, true) => "every path is sound",
        (false, false) => "no path is concerned; `bakfs check --read-data` reads the content too",
    };
    let unread = any(|object| matches!(object, Object::Snapshot(_)));
    let of = if unread { " of the snapshots that can be read" } else { "" };
    let mut lines = vec![format!("Damaged: {rest}{of}.")];
    if any(|object| matches!(object, Object::Snapshot(_) | Object::Key(_) | Object::Config)) {
        lines.push("Next: bring damaged snapshots and keys back from a copy: nothing else has what they hold.".into());
    }
    if report.is_repairable {
        lines.push(
            "Next: `bakfs repair`, which makes the index name only what can be read, then `bakfs backup`, ".to_string()
                + "which stores again what the source still has.",
        );
        lines.push("With a copy of the repository: bring the objects named above back first, and check again.".into());
    } else if report.findings.iter().any(|finding| finding.subject == Subject::Index) {
        lines.push("Next: `bakfs backup`, which stores again what the source still has; the rest is lost.".into());
    }
    lines
}

/// Writes how much was verified, and when the last of it was.
fn tell_verified(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    let Verified { packs, pack_bytes, oldest_secs } = report.verified;
    let all = report.packs - report.set_aside_packs;
    let percent = (pack_bytes * 100).checked_div(report.pack_bytes).unwrap_or(100);
    let Some(oldest_secs) = oldest_secs else {
        return writeln!(out, "No content was verified yet: `bakfs check --read-data` reads every byte");
    };
    let days = now_secs().saturating_sub(oldest_secs) / 86_400;
    writeln!(
        out,
        "Verified: {} of {}, {} ({percent} %); the oldest verification is of {}, {}",
        count(packs),
        counted(all, "pack"),
        size(pack_bytes),
        at(oldest_secs).strftime("%Y-%m-%d"),
        if days == 0 { "less than a day ago".to_string() } else { format!("{} ago", counted(days, "day")) },
    )
}

fn tell(global: &Global, report: &Report, traffic: &Traffic) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(stdout::whole());
    for finding in &report.findings {
        tell_finding(&mut out, finding)?;
    }
    let is_shown = !global.quiet && (std::io::stdout().is_terminal() || global.verbose > 0);
    if !report.findings.is_empty() {
        for line in advice(report) {
            writeln!(out, "{line}")?;
        }
    } else if is_shown {
        writeln!(
            out,
            "No damage: {}, {}, {} of {}",
            counted(report.snapshots, "snapshot"),
            counted(report.pages, "tree page"),
            counted(report.packs, "pack"),
            size(report.pack_bytes),
        )?;
        if report.packs_read > 0 {
            let (packs, chunks) = (counted(report.packs_read, "pack"), counted(report.chunks_read, "chunk"));
            writeln!(out, "Read: {packs} of {}, {chunks} verified", size(report.read_bytes))?;
        }
    }
    if is_shown {
        tell_verified(&mut out, report)?;
        if let Some(cost) = cost::told(traffic) {
            writeln!(out, "Requests: {cost}")?;
        }
        if report.leftover_packs > 0 {
            writeln!(out, "An interrupted backup left {} that nothing needs", counted(report.leftover_packs, "pack"))?;
        }
        if report.set_aside_packs > 0 {
            writeln!(out, "A repair has set {} aside", counted(report.set_aside_packs, "damaged pack"))?;
        }
    }
    out.flush()
}
