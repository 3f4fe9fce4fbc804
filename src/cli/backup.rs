//! `bakfs backup`: files, or standard input, into a snapshot.

use super::open::Global;
use super::output::{WithTraffic, count, counted, json, readable_path, size, tell_warnings};
use super::progress::Progress;
use super::{Status, cost, init};
use crate::backup::{self, Options, Outcome};
use crate::error::{Error, ErrorKind};
use crate::format::snapshot::{INCOMPLETE_TAG, RUN_TAGS};
use crate::repo::Memory;
use crate::repo::index::load::IndexLoad;
use crate::repo::shared::dated::time;
use crate::repo::shared::names::parse_time;
use crate::repo::write::WriteOptions;
use crate::source::exclude::Excludes;
use crate::spelling::{check_word, list};
use crate::store::Traffic;
use crate::text;
use std::io::IsTerminal;
use std::path::PathBuf;

/// Options of `bakfs backup`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to back up: files and folders with everything in them
    #[arg(value_name = "PATH", required_unless_present = "stdin", conflicts_with = "stdin")]
    paths: Vec<PathBuf>,
    /// Store standard input as the file of this absolute name
    #[arg(long, value_name = "NAME")]
    stdin: Option<PathBuf>,
    /// Leave out what matches a glob: `*.tmp`, `/var/cache`, `!keep.tmp` (bakfs-patterns(7), docs/patterns.md)
    #[arg(long, value_name = "GLOB", conflicts_with = "stdin")]
    exclude: Vec<String>,
    /// Leave out what matches a glob of this file, one a line
    #[arg(long, value_name = "FILE", conflicts_with = "stdin")]
    exclude_file: Vec<PathBuf>,
    /// Leave out what lies in folders marked by a CACHEDIR.TAG
    #[arg(long, conflicts_with = "stdin")]
    exclude_caches: bool,
    /// Leave out other file systems, mounted below or subvolumes of their own (those are told)
    #[arg(long, short = 'x', conflicts_with = "stdin")]
    one_file_system: bool,
    /// Take it for right that a path has lost all it held in the last backup
    #[arg(long)]
    allow_empty: bool,
    /// Add a tag to the snapshot; A,B: both
    #[arg(long, value_name = "TAG", add = super::complete::tags())]
    tag: Vec<String>,
    /// The host the snapshot is of [default: this machine's name]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// The time the snapshot stands for [default: now]
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// Show what would be done, and read and write nothing
    #[arg(short = 'n', long, conflicts_with = "stdin")]
    pub(super) dry_run: bool,
    /// zstd's level: 1 is fast, 19 is small
    #[arg(long, value_name = "LEVEL", default_value_t = crate::repo::write::DEFAULT_LEVEL,
          value_parser = clap::value_parser!(i32).range(1..=19))]
    compression: i32,
}

/// Refuses tags that would make this a run of a profile, or a snapshot that lacks something.
fn check_tags(tags: &[String], global: &Global) -> Result<(), Error> {
    if tags.iter().any(|tag| tag == INCOMPLETE_TAG) {
        let message = format!("The tag `{INCOMPLETE_TAG}` says that a snapshot lacks something: take another");
        return Err(Error::usage(message));
    }
    let Some(kind) = tags.iter().find(|tag| RUN_TAGS.contains(&tag.as_str())) else { return Ok(()) };
    // Where the configuration cannot be read no run of its profiles happens either.
    let profiles = global.access.sound_settings().map(|settings| settings.profiles).unwrap_or_default();
    match profiles.values().find(|profile| tags.contains(&profile.name)) {
        None => Ok(()),
        Some(profile) => Err(Error::usage(format!(
            "With the tags `{0}` and `{kind}` this would pass for a run of the profile `{0}`, and be kept and \
             forgotten in the place of one: leave one of them out, or `bakfs run {0}`",
            profile.name
        ))),
    }
}

impl Args {
    fn options(&self, global: &Global) -> Result<Options, Error> {
        let host = self.host.clone().unwrap_or_else(crate::host::host_name);
        check_word("host", &host).map_err(Error::usage)?;
        let tags =
            self.tag.iter().map(|tags| list("tag", tags)).collect::<Result<Vec<_>, _>>().map_err(Error::usage)?;
        let tags: Vec<String> = tags.into_iter().flatten().collect();
        check_tags(&tags, global)?;
        let stated = |text: &String| {
            let found = parse_time(text, &jiff::Zoned::now())?;
            // The name it gives is a directory's, which a sign cannot begin.
            let found = found.filter(|found| found.to_zoned(jiff::tz::TimeZone::UTC).year() >= 0);
            found.map(time).ok_or_else(|| Error::usage(format!("`{text}` is no time: write 2026-11-20T03:17:05Z")))
        };
        if let Some(why) = self.exclude_file.iter().find_map(|path| text::refused(path)) {
            return Err(Error::usage(why));
        }
        let excludes = Excludes::new(&self.exclude, &self.exclude_file)?;
        Ok(Options {
            paths: self.paths.clone(),
            told_excludes: excludes.clone(),
            excludes,
            exclude_caches: self.exclude_caches,
            one_file_system: self.one_file_system,
            allow_empty: self.allow_empty,
            tags,
            host,
            time: self.time.as_ref().map(stated).transpose()?,
            apart: global.access.own_paths()?,
            tells_servers: false,
            dry_run: self.dry_run,
            is_ended: None,
            write: WriteOptions { level: self.compression, ..WriteOptions::default() },
        })
    }
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    let options = args.options(global)?;
    let place = global.access.place()?;
    let unlocked = global.access.unlock_or_make(&|made| init::tell(&global.access, made))?;
    let repository = global.load(unlocked, Memory::default(), IndexLoad::Whole)?;
    let progress = Progress::new("Backing up", !global.quiet && !global.json);
    let outcome = match &args.stdin {
        Some(name) => {
            if std::io::stdin().is_terminal() {
                return Err(
                    Error::usage("Standard input is the terminal: pipe something into `bakfs backup --stdin`").into()
                );
            }
            backup::run_input(&repository, &options, name, Box::new(std::io::stdin()), &progress)
        }
        None => backup::run(&repository, &options, &progress),
    };
    progress.finish();
    tell_warnings(&repository);
    let outcome = outcome.map_err(|error| match error.kind() {
        ErrorKind::Full => Error::new(
            ErrorKind::Full,
            format!("No room left at {place}: earlier snapshots are as they were; make room and run the backup again"),
        )
        .because(error),
        _ => error,
    })?;
    repository.note_reads();
    outcome.notes.iter().for_each(|note| warn!("bakfs: warning: {note}"));
    report(global, &outcome, &repository.store().traffic());
    #[cfg(feature = "mount")]
    if outcome.id.is_some() && outcome.snapshot.has_xattrs {
        super::umount::tell_hiding(&outcome.snapshot.name);
    }
    Ok(if outcome.snapshot.summary.errors > 0 { Status::Incomplete } else { Status::Done })
}

fn report(global: &Global, outcome: &Outcome, traffic: &Traffic) {
    let snapshot = &outcome.snapshot;
    let summary = &snapshot.summary;
    if global.json {
        say!("{}", json(&WithTraffic { report: outcome, traffic }));
        return;
    }
    if global.quiet || !(std::io::stdout().is_terminal() || global.verbose > 0 || outcome.id.is_none()) {
        return;
    }
    let files = format!(
        "{} new, {} changed, {} unmodified",
        count(summary.files_new),
        count(summary.files_changed),
        count(summary.files_unmodified)
    );
    match outcome.id {
        Some(_) => {
            say!("Snapshot  {}", snapshot.name);
            say!("Files     {files}");
            say!("Read      {}", size(summary.read_bytes));
            say!("Added     {}, {} compressed", size(summary.added_bytes), size(summary.packed_bytes));
        }
        None => say!(
            "Would back up {} ({files}), {}",
            counted(summary.without_directories(), "file"),
            size(summary.content_bytes)
        ),
    }
    if let Some(cost) = cost::told(traffic) {
        say!("Requests  {cost}");
    }
    if summary.errors > 0 {
        say!("Trouble   {}: what is named above is not whole in it", counted(summary.errors, "error"));
    }
    if let Some(first) = snapshot.sources.first().filter(|_| global.verbose > 1) {
        say!(
            "Sources   {} and {} more",
            readable_path(std::path::Path::new(&*String::from_utf8_lossy(first))),
            snapshot.sources.len() - 1
        );
    }
}
