//! `bakfs ls`: lists what a snapshot holds.

use super::listing::{JsonArray, Out, write_long};
use super::open::Global;
use super::output::{readable, tell_warnings};
use super::target::Choice;
use super::{Status, scope};
use crate::error::{Context, Error, Result};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Entry, Node};
use crate::repo::read::described::Described;
use crate::repo::read::walk::Visitor;
use std::ffi::OsString;
use std::io::Write;

/// Options of `bakfs ls`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The snapshot, and the path in it [default: its root]
    #[arg(value_name = "SNAP[:PATH]", add = super::complete::snapshots())]
    target: OsString,
    /// Show mode, links, owner, size and time too
    #[arg(short)]
    long: bool,
    /// List everything below, each with its whole path
    #[arg(short = 'R', long)]
    recursive: bool,
    #[command(flatten)]
    scope: scope::Args,
}

struct Lister<'a> {
    out: Out,
    array: Option<JsonArray>,
    snapshot: &'a Snapshot,
    long: bool,
    recursive: bool,
    damaged: bool,
}

impl Lister<'_> {
    fn line(&mut self, path: &[u8], entry: &Entry) -> std::io::Result<()> {
        if let Some(array) = &mut self.array {
            return array.push(&mut self.out, &Described { snapshot: self.snapshot, path, entry });
        }
        // Alone, a directory's names are enough; its path was given.
        let shown = if self.recursive { path } else { path.rsplit(|byte| *byte == b'/').next().unwrap_or(path) };
        if self.long {
            write_long(&mut self.out, self.snapshot, shown, entry)?;
        } else {
            self.out.name(shown)?;
        }
        self.out.write_all(b"\n")
    }
}

impl Visitor for Lister<'_> {
    fn entry(&mut self, path: &[u8], entry: &Entry) -> Result<bool> {
        self.line(path, entry).context(|| "Cannot write the listing".into())?;
        Ok(self.recursive)
    }

    fn damage(&mut self, path: &[u8], error: Error) -> Result<()> {
        self.damaged = true;
        warn!("bakfs: {}: {}", readable(path), error.chain());
        Ok(())
    }
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    let repository = global.open()?;
    let choice = Choice::new(&repository, args.scope.scope()?)?;
    let mut target = choice.target(&args.target)?;
    // As ls(1): what a link leads to, unless the link itself is shown.
    if !args.long {
        target = choice.followed(target);
    }
    let entry = choice.entry(&target)?;
    let mut lister = Lister {
        out: Out::listing(global.json),
        array: global.json.then(JsonArray::default),
        snapshot: &target.listed.snapshot,
        long: args.long,
        recursive: args.recursive,
        damaged: false,
    };
    match &entry.node {
        Node::Directory(directory) => repository.walk(&target.path, directory, &mut lister)?,
        _ => {
            lister.recursive = true;
            lister.line(&target.path, &entry)?;
        }
    }
    if let Some(array) = lister.array.take() {
        array.end(&mut lister.out)?;
    }
    lister.out.flush()?;
    tell_warnings(&repository);
    Ok(if lister.damaged { Status::Incomplete } else { Status::Done })
}
