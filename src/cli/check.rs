//! `bakfs check`: whether everything stored is sound.

use super::Status;
use super::open::Global;
use super::output::{Progress, count, json_text, readable, size};
use crate::check::{self, Affected, Finding, Part, Report, Subject};
use crate::error::ErrorKind;
use crate::repo::open::Options;
use crate::repo::{Memory, Repository};
use crate::store::Object;
use crate::store::local::LocalStore;
use std::io::{IsTerminal, Write};

/// Options of `bakfs check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exits with 0 if everything is sound, 1 if anything is damaged or cannot be checked.")]
pub struct Args {
    /// Read and verify every stored byte, not only the structure
    #[arg(long)]
    read_data: bool,
}

/// Opens the repository with an empty cache: what is checked is what is stored.
fn open(global: &Global) -> anyhow::Result<(Repository, Option<tempfile::TempDir>)> {
    let path = global.repo_path()?;
    let base = global.cache_base()?;
    let fresh =
        std::fs::create_dir_all(&base).and_then(|()| tempfile::Builder::new().prefix("check-").tempdir_in(&base));
    let fresh = fresh.or_else(|_| tempfile::tempdir()).ok();
    let options = Options { cache_base: fresh.as_ref().map(tempfile::TempDir::path), memory: Memory::default() };
    match Repository::open(&path, &options, |id| global.credentials(id)) {
        Ok(repository) => Ok((repository, fresh)),
        Err(error) => {
            if matches!(error.kind(), ErrorKind::Locked | ErrorKind::Damaged) {
                for (object, problem) in check::check_unopened(&LocalStore::new(&path)).unwrap_or_default() {
                    eprintln!("bakfs: {object}: {problem}: bring it back from a copy");
                }
            }
            Err(error.into())
        }
    }
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    let (repository, _cache) = open(global)?;
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let progress = Progress::new("Checking", !global.quiet && !global.json);
    let report = check::run(&repository, check::Options { read_data: args.read_data, threads }, &progress);
    progress.finish();
    let report = report?;
    if global.json {
        println!("{}", json(&report, args.read_data));
    } else {
        tell(global, &report, args.read_data)?;
    }
    Ok(if report.findings.is_empty() { Status::Done } else { Status::Failed })
}

fn json(report: &Report, read_data: bool) -> serde_json::Value {
    let affected = |affected: &Affected| {
        serde_json::json!({
            "path": json_text(&affected.path),
            "part": match affected.part { Part::Content => "content", Part::Entries => "entries" },
            "first": affected.first,
            "last": affected.last,
            "snapshots": affected.snapshots,
        })
    };
    let findings = report.findings.iter().map(|finding| {
        serde_json::json!({
            "object": finding.subject.to_string(),
            "problems": finding.problems,
            "more_problems": finding.more_problems,
            "affected": finding.affected.iter().map(affected).collect::<Vec<_>>(),
            "more_affected": finding.more_affected,
        })
    });
    serde_json::json!({
        "damaged": !report.findings.is_empty(),
        "read_data": read_data,
        "findings": findings.collect::<Vec<_>>(),
        "snapshots": report.snapshots,
        "packs": report.packs,
        "pack_bytes": report.pack_bytes,
        "leftover_packs": report.leftover_packs,
        "pages": report.pages,
        "chunks_read": report.chunks_read,
    })
}

fn tell_finding(out: &mut impl Write, finding: &Finding) -> std::io::Result<()> {
    for problem in &finding.problems {
        writeln!(out, "{}: {}", finding.subject, readable(problem.as_bytes()))?;
    }
    if finding.more_problems > 0 {
        writeln!(out, "{}: and {} problems more", finding.subject, count(finding.more_problems))?;
    }
    for affected in &finding.affected {
        let snapshots = match affected.snapshots {
            1 => affected.first.clone(),
            many => format!("{} snapshots, {} to {}", count(many), affected.first, affected.last),
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
fn advice(report: &Report, read_data: bool) -> Vec<String> {
    let object = |finding: &&Finding| match finding.subject {
        Subject::Object(object) => Some(object),
        Subject::Index => None,
    };
    let objects: Vec<_> = report.findings.iter().filter(|finding| object(finding).is_some()).collect();
    let is_pack = |finding: &&&Finding| matches!(object(finding), Some(Object::Pack(_)));
    let kept = objects.iter().filter(is_pack).any(|finding| !finding.is_lost);
    let unread = objects.iter().any(|finding| matches!(object(finding), Some(Object::Snapshot(_))));
    let rest = match (report.findings.iter().any(|finding| !finding.affected.is_empty()), read_data) {
        (true, true) => "every path not named above is sound",
        (true, false) => "paths not named above have a sound structure; `bakfs check --read-data` reads their content",
        (false, true) => "every path is sound",
        (false, false) => "no path is concerned; `bakfs check --read-data` reads the content too",
    };
    let of = if unread { " of the snapshots that can be read" } else { "" };
    let mut lines = vec![format!("Damaged: {rest}{of}.")];
    if !objects.is_empty() {
        lines.push("Next: bring the objects named above back from a copy of the repository.".into());
    }
    if kept {
        lines.push(
            "Without a copy: keep damaged packs, as what else they hold is still read; ".to_string()
                + "`bakfs backup` into a new repository stores what the source still has.",
        );
    } else {
        lines.push(
            "Without a copy: move all files of `index` out of the repository and run `bakfs backup`: ".to_string()
                + "it makes the index again and stores again what the source still has.",
        );
    }
    lines
}

fn tell(global: &Global, report: &Report, read_data: bool) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for finding in &report.findings {
        tell_finding(&mut out, finding)?;
    }
    if !report.findings.is_empty() {
        for line in advice(report, read_data) {
            writeln!(out, "{line}")?;
        }
    } else if !global.quiet && (std::io::stdout().is_terminal() || global.verbose > 0) {
        writeln!(
            out,
            "No damage: {} snapshots, {} tree pages, {} packs of {}{}",
            count(report.snapshots),
            count(report.pages),
            count(report.packs),
            size(report.pack_bytes),
            if read_data { format!(" read, {} chunks verified", count(report.chunks_read)) } else { String::new() },
        )?;
        if report.leftover_packs > 0 {
            writeln!(out, "An interrupted backup left {} packs that nothing needs", count(report.leftover_packs))?;
        }
        if !read_data {
            writeln!(out, "The content was not read: `bakfs check --read-data` reads every byte")?;
        }
    }
    out.flush()
}
