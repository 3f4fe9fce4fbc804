//! `bakfs restore`: files of a snapshot, back to a disk.

use super::open::Global;
use super::output::{WithTraffic, counted, json, readable, readable_path, size, tell_warnings};
use super::progress::Progress;
use super::target::{Choice, Target, described};
use super::{Status, cost, scope};
use crate::error::Error;
use crate::format::tree::Node;
use crate::monitor::{Monitor, Told};
use crate::repo::shared::listed::Named;
use crate::restore::xattrs::XattrFilter;
use crate::restore::{self, Filter, Options, Outcome, Overwrite, OwnerChange, OwnersBy};
use crate::store::Traffic;
use crate::text;
use serde::Serialize;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Options of `bakfs restore`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Owners are found by name, unless TARGET is the root of another system: not /, and with an \
    /etc/passwd of its own, or one in what is restored; there numbers are kept. Access lists keep numbers always.\n\
    Exits with 3 where something could not be restored, or an --include matched nothing.")]
pub struct Args {
    /// What to restore: a snapshot, or a path in it, as `main/latest:/etc`
    #[arg(value_name = "SNAP[:PATH]", add = super::complete::snapshots())]
    source: OsString,
    /// Where to: full source paths are made below this directory
    #[arg(value_name = "TARGET")]
    target: PathBuf,
    /// When a file that is there is replaced: always, if-changed (its content is compared), if-newer (the same,
    /// where the snapshot's was changed later), never [default: if-changed]
    #[arg(long, value_name = "WHEN", value_parser = when, num_args = 0..=1, default_missing_value = "")]
    overwrite: Option<Overwrite>,
    /// Replace what is in the way and of another type; a directory only when it is empty
    #[arg(long)]
    replace_types: bool,
    /// Take owners by number, even where their names have other numbers on this machine
    #[arg(long)]
    numeric_owner: bool,
    /// Take owners by name, even in the root of another system
    #[arg(long, conflicts_with = "numeric_owner")]
    owner_by_name: bool,
    /// Restore only what matches a glob, and what lies below: `*.conf`, `/etc/nginx` (bakfs-patterns(7)). A leading
    /// slash begins the whole path in the snapshot, also where SNAP:PATH restores a part of it
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Leave out what matches a glob: `*.tmp`, `/var/cache`, `!keep.tmp`
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Set no extended attributes, but for access lists
    #[arg(long)]
    no_xattrs: bool,
    /// Leave out extended attributes whose name matches a glob: `trusted.*`, which only root may set
    #[arg(long, value_name = "GLOB")]
    exclude_xattr: Vec<String>,
    /// Compare and count, name what would be replaced, and write nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
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
    if let Some(why) = text::refused(&args.target) {
        return Err(Error::usage(format!("Nothing can be restored there: {why}")).into());
    }
    let filter = Filter::new(&args.include, &args.exclude)?;
    let repository = global.open()?;
    let choice = Choice::new(&repository, args.scope.scope()?)?.accepting(args.accept_missing);
    let source = choice.target(&args.source)?;
    source.require_certain(&repository, args.accept_missing)?;
    let entry = choice.entry(&source)?;
    if matches!(entry.node, Node::Symlink(_)) && !global.quiet {
        let path = readable(&source.path);
        warn!("bakfs: {path} is a symbolic link, which is restored as it is: `{path}/` is what it leads to");
    }
    let is_told = source.is_relative || global.verbose > 0 || args.dry_run || std::io::stderr().is_terminal();
    if is_told && !global.quiet && !global.json {
        source.tell("Restoring");
    }
    source.warn_of_others();
    let options = Options {
        path: source.path.clone(),
        filter,
        overwrite: args.overwrite.unwrap_or_default(),
        replace_types: args.replace_types,
        owners: match (args.numeric_owner, args.owner_by_name) {
            (true, _) => OwnersBy::Number,
            (_, true) => OwnersBy::Name,
            _ => OwnersBy::Target,
        },
        xattrs: XattrFilter::new(args.no_xattrs, &args.exclude_xattr)?,
        dry_run: args.dry_run,
        tell_names: !global.json && !global.quiet && (global.verbose > 0 || args.dry_run),
        sync: args.sync,
    };
    let progress = Teller {
        progress: Progress::new("Restoring", !global.quiet && !global.json && !args.dry_run),
        would: if args.dry_run { "would be " } else { "" },
    };
    let outcome = restore::run(&repository, &source.listed.snapshot, &options, &args.target, &progress);
    progress.progress.finish();
    repository.note_reads();
    tell_warnings(&repository);
    let outcome = outcome?;
    tell_notes(global, &outcome);
    report(global, args, &source, &outcome, started.elapsed(), &repository.store().traffic());
    let is_whole = outcome.errors == 0 && outcome.unmatched.includes.is_empty();
    Ok(if is_whole { Status::Done } else { Status::Incomplete })
}

/// Reads a value of `--overwrite`.
fn when(text: &str) -> Result<Overwrite, String> {
    match text {
        "always" => Ok(Overwrite::Always),
        "if-changed" => Ok(Overwrite::IfChanged),
        "if-newer" => Ok(Overwrite::IfNewer),
        "never" => Ok(Overwrite::Never),
        _ => Err("say always, if-changed, if-newer or never; --replace-types replaces what is of another type".into()),
    }
}

/// Progress, and names of what was there.
struct Teller {
    progress: Progress,
    would: &'static str,
}

impl Monitor for Teller {
    fn trouble(&self, path: &Path, message: &str) {
        self.progress.trouble(path, message);
    }

    fn tell(&self, path: &Path, what: Told) {
        let what = match what {
            Told::Replaced => "replaced",
            Told::Skipped => "left as it is",
        };
        self.progress.print(&format!("{}: {}{what}", readable_path(path), self.would));
    }

    fn is_watched(&self) -> bool {
        self.progress.is_watched()
    }

    fn at(&self, path: &Path) {
        self.progress.at(path);
    }

    fn expect(&self, files: u64, bytes: u64) {
        self.progress.expect(files, bytes);
    }

    fn advance(&self, files: u64, bytes: u64) {
        self.progress.advance(files, bytes);
    }
}

/// Tells what is no trouble of a file.
fn tell_notes(global: &Global, outcome: &Outcome) {
    for glob in &outcome.unmatched.includes {
        let hint = if glob.starts_with('/') { ": whole paths are compared, as `bakfs ls -R` shows them" } else { "" };
        warn!("bakfs: --include {} matched nothing{hint}", readable(glob.as_bytes()));
    }
    if !global.quiet {
        for glob in &outcome.unmatched.excludes {
            warn!("bakfs: --exclude {} matched nothing", readable(glob.as_bytes()));
        }
    }
    if let Some(OwnerChange { name, stored, here }) = &outcome.owner_changed {
        let name = readable(name);
        warn!(
            "bakfs: warning: {} got an owner by name whose number is another here: {name} was {stored} and is \
             {here}; --numeric-owner keeps numbers",
            counted(outcome.owners_changed, "file")
        );
    }
}

/// What a restore tells programs.
#[derive(Serialize)]
struct Restored<'a> {
    snapshot: Named<'a>,
    #[serde(flatten)]
    outcome: &'a Outcome,
    seconds: f64,
}

fn report(global: &Global, args: &Args, source: &Target, outcome: &Outcome, elapsed: Duration, traffic: &Traffic) {
    if global.json {
        let snapshot = Named { listed: &source.listed, name: &source.name };
        let report = Restored { snapshot, outcome, seconds: elapsed.as_secs_f64() };
        say!("{}", json(&WithTraffic { report, traffic }));
        return;
    }
    if global.quiet {
        return;
    }
    if !(std::io::stdout().is_terminal() || global.verbose > 0 || args.dry_run) {
        // What is gone is told also where nobody watches.
        if outcome.files_replaced > 0 {
            warn!("bakfs: replaced {} that differed: -v names them", counted(outcome.files_replaced, "file"));
        }
        return;
    }
    let restored = format!("{}, {}", counted(outcome.files - outcome.directories, "file"), size(outcome.content_bytes));
    match args.dry_run {
        true => say!("Would restore {restored}"),
        false => say!("Restored {restored} in {:.1} s", elapsed.as_secs_f64()),
    }
    say!("Snapshot {}", described(&source.listed, &source.name));
    let words =
        if args.dry_run { ["Would replace", "Would keep", "Would skip"] } else { ["Replaced", "Kept    ", "Skipped "] };
    let counts = [
        (outcome.files_replaced, " that differed"),
        (outcome.files_kept, ", equal"),
        (outcome.files_skipped, ", left alone"),
    ];
    for (word, (files, what)) in words.into_iter().zip(counts) {
        if files > 0 {
            say!("{word} {}{what}", counted(files, "file"));
        }
    }
    if let Some(cost) = cost::told(traffic) {
        say!("Requests {cost}");
    }
    if outcome.errors > 0 {
        say!("Trouble  {}: what is named above was not restored whole", counted(outcome.errors, "error"));
    }
}
