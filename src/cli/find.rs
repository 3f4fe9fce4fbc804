//! `bakfs find`: searches all snapshots by name.

use super::listing::{JsonArray, Out, local_time, mode_text};
use super::open::Global;
use super::output::{count, counted, readable, tell_warnings};
use super::target::{Choice, clean_path};
use super::{Status, scope};
use crate::error::Error;
use crate::find::{self, Match, Pattern};
use crate::repo::read::described::Described;
use crate::repo::read::walk::shown_path;
use crate::repo::shared::listed::ListedSnapshot;
use crate::repo::shared::names;
use serde::Serialize;
use std::collections::HashSet;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;

/// Options of `bakfs find`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Each line is one version of a path: the first and the last snapshot that have it and how \
    many do, then type and mode, size, time of last change and path. Exits with 1 if nothing is found.")]
pub struct Args {
    /// What to search for: a name as `*.conf`, a whole path as `/etc/**/*.conf`, or its end as `nginx/*.conf`
    /// (bakfs-patterns(7), docs/patterns.md)
    #[arg(value_name = "GLOB")]
    glob: String,
    /// Search this snapshot only
    #[arg(long, value_name = "SNAP", add = super::complete::snapshots())]
    snapshot: Option<OsString>,
    /// Search at and below this path only
    #[arg(long, value_name = "PATH")]
    path: Option<OsString>,
    /// Take capital and small letters for the same
    #[arg(short, long)]
    ignore_case: bool,
    #[command(flatten)]
    whose: scope::Whose,
}

fn write(out: &mut Out, found: &Match, shown: &[String]) -> std::io::Result<()> {
    let range = match found.snapshots {
        1 => shown[found.first].clone(),
        many => format!("{} .. {}  ({})", shown[found.first], shown[found.last], count(many)),
    };
    let meta = &found.entry.meta;
    write!(out, "{range}  {} {:>10} {} ", mode_text(&found.entry), meta.size_bytes, local_time(meta.mtime))?;
    out.name(shown_path(&found.path))?;
    out.write_all(b"\n")
}

/// A match as programs are told of it.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    entry: Described<'a>,
    first: &'a str,
    last: &'a str,
    snapshots: u64,
}

impl<'a> Shown<'a> {
    fn new(found: &'a Match, snapshots: &'a [ListedSnapshot], shown: &'a [String]) -> Self {
        let snapshot = &snapshots[found.first].snapshot;
        let entry = Described { snapshot, path: shown_path(&found.path), entry: &found.entry };
        Shown { entry, first: &shown[found.first], last: &shown[found.last], snapshots: found.snapshots }
    }
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    let pattern = Pattern::new(&args.glob, args.ignore_case)?;
    let repository = global.open()?;
    let choice = Choice::new(&repository, args.whose.scope()?)?;
    choice.tell_if_all_forgotten();
    let snapshots = choice.all();
    let searched: HashSet<_> = match &args.snapshot {
        Some(name) => HashSet::from([choice.snapshot(name)?.id]),
        None => choice.meant()?.into_iter().map(|listed| listed.id).collect(),
    };
    if args.path.as_ref().is_some_and(|path| path.is_empty()) {
        return Err(Error::usage("--path is empty: name a path, or leave it out").into());
    }
    let below = args.path.as_ref().map(|path| clean_path(path.as_bytes())).unwrap_or_default();
    let wanted = |at: usize| searched.contains(&snapshots[at].id);
    let found = find::run(&repository, snapshots, wanted, &below, &pattern)?;
    let shown = names::shown(snapshots);
    let mut out = Out::listing(global.json);
    if global.json {
        let mut array = JsonArray::default();
        for found in &found.matches {
            array.push(&mut out, &Shown::new(found, snapshots, &shown))?;
        }
        array.end(&mut out)?;
    } else {
        for found in &found.matches {
            write(&mut out, found, &shown)?;
        }
    }
    out.flush()?;
    if found.matches.is_empty()
        && !global.json
        && !global.quiet
        && std::io::stderr().is_terminal()
        && !searched.is_empty()
    {
        let glob = readable(args.glob.as_bytes());
        let searched = counted(searched.len(), "snapshot");
        warn!("bakfs: nothing in {searched} has the name {glob}: a part of a name is written `*{glob}*`");
    }
    for (at, path, error) in &found.damaged {
        warn!("bakfs: {} in {}: {}", readable(shown_path(path)), shown[*at], error.chain());
    }
    let is_all = tell_warnings(&repository) == 0;
    Ok(match (found.damaged.is_empty() && is_all, found.matches.is_empty()) {
        (false, _) => Status::Incomplete,
        (true, true) => Status::Failed,
        (true, false) => Status::Done,
    })
}
