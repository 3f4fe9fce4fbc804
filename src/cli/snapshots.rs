//! `bakfs snapshots`: lists what there is.

use super::open::Global;
use super::output::{count, counted, json, readable, size, tell_warnings};
use super::target::Choice;
use super::{Status, scope, stdout};
use crate::clock;
use crate::repo::shared::dated;
use crate::repo::shared::listed::{ListedSnapshot, Named};
use crate::repo::shared::names;
use serde::Serialize;
use std::io::{IsTerminal, Write};

/// Options of `bakfs snapshots`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Wherever a command takes SNAP: a dated name as they are listed here; `latest`, or `latest~1` for \
    the last but one; `today`, `yesterday`; a day or a time, as `2026-11-19`, `2026-11-19T15:00`, `3 days ago`, for the \
    newest until then; the beginning of an id. Before it may stand whose it is: `main/latest` is the newest of the \
    profile main, `hosts/web1/yesterday` of a host, `tags/db/latest` of a tag. A path in it stands behind a colon: \
    `main/latest:/etc`.\n\nWhat is dated more than a day in the future of this machine's clock is listed, and found by \
    its dated name and id alone."
)]
pub struct Args {
    #[command(flatten)]
    scope: scope::Args,
}

/// The widest column of names.
const MAX_COLUMN: usize = 32;

/// A snapshot as the list has it.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    snapshot: Named<'a>,
    files: u64,
    directories: u64,
    content_bytes: u64,
    packed_bytes: u64,
    errors: u64,
    pinned: bool,
    pin_reason: Option<&'a str>,
    in_the_future: bool,
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    let repository = global.open()?;
    let snapshots = repository.snapshots()?;
    let choice = Choice::among(&repository, snapshots, args.scope.scope()?);
    // A misspelt name is told.
    choice.meant()?;
    choice.tell_if_all_forgotten();
    let (snapshots, scope) = (choice.all(), choice.scope());
    let names = names::shown(snapshots);
    let now = jiff::Timestamp::now();
    let is_ahead = |listed: &ListedSnapshot| clock::is_ahead(dated::timestamp(listed.snapshot.time), now);
    let marks = repository.marks()?;
    let pins = marks.pins();
    let wanted = snapshots.iter().zip(&names).filter(|(listed, _)| scope.has(&listed.snapshot));
    let mut out = std::io::BufWriter::new(stdout::listing(global.json));
    if global.json {
        let list: Vec<_> = wanted
            .map(|(listed, name)| {
                let summary = &listed.snapshot.summary;
                Line {
                    snapshot: Named { listed, name },
                    files: summary.without_directories(),
                    directories: summary.directories(),
                    content_bytes: listed.snapshot.root.total_bytes,
                    packed_bytes: summary.packed_bytes,
                    errors: summary.errors,
                    pinned: pins.contains_key(&listed.id),
                    pin_reason: pins.get(&listed.id).map(|pin| pin.reason),
                    in_the_future: is_ahead(listed),
                }
            })
            .collect();
        writeln!(out, "{}", json(&list))?;
    } else {
        let wanted: Vec<_> = wanted.collect();
        // A name may be as long as whoever made the snapshot wished.
        let widest = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0).min(MAX_COLUMN);
        let name_width = widest(&mut wanted.iter().map(|(_, name)| name.chars().count()));
        let host_of = |listed: &ListedSnapshot| readable(listed.snapshot.host.as_bytes());
        let host_width = widest(&mut wanted.iter().map(|(listed, _)| host_of(listed).chars().count()));
        let has_titles = std::io::stdout().is_terminal() && !wanted.is_empty() && !global.quiet;
        let least = if has_titles { "NAME".len() } else { 0 };
        let (name_width, host_width) = (name_width.max(least), host_width.max(least));
        if has_titles {
            writeln!(
                out,
                "{:name_width$}  {:host_width$}  {:>8}  {:>10}  {:<9}  PATHS AND #TAGS",
                "NAME", "HOST", "FILES", "SIZE", "ADDED"
            )?;
        }
        for (listed, name) in wanted {
            let snapshot = &listed.snapshot;
            let paths: Vec<_> = snapshot.sources.iter().map(|path| readable(path)).collect();
            let tags = snapshot.tags.iter().map(|tag| format!(" #{}", readable(tag.as_bytes()))).collect::<String>();
            let errors = if snapshot.summary.errors > 0 {
                format!("  {}", counted(snapshot.summary.errors, "error"))
            } else {
                String::new()
            };
            let ahead = if is_ahead(listed) { "  in the future" } else { "" };
            let pin = if pins.contains_key(&listed.id) { "  pinned" } else { "" };
            writeln!(
                out,
                "{name:name_width$}  {:host_width$}  {:>8}  {:>10}  +{:<8}  {}{tags}{errors}{pin}{ahead}",
                host_of(listed),
                count(snapshot.summary.without_directories()),
                size(snapshot.root.total_bytes),
                size(snapshot.summary.packed_bytes),
                paths.join(" "),
            )?;
        }
    }
    out.flush()?;
    Ok(if tell_warnings(&repository) > 0 { Status::Incomplete } else { Status::Done })
}
