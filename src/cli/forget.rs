//! `bakfs forget`: hides snapshots, by rules or by name, and brings them back.

use super::listing::local_time;
use super::open::Global;
use super::output::{self, are, count, counted, readable, tell_warnings};
use super::target::Choice;
use super::{Status, keep, memory, prune, scope, stdout};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ObjectId;
use crate::job::thin::judged;
use crate::repo::shared::dated;
use crate::repo::shared::listed::ListedSnapshot;
use crate::repo::shared::names;
use crate::repo::{Memory, Repository};
use crate::retention::group::Key;
use crate::retention::{self, Decision, Group, Reason};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io::{BufWriter, IsTerminal, Write};

/// Options of `bakfs forget`.
#[derive(Debug, clap::Args)]
#[command(after_help = "A forgotten snapshot is hidden; `bakfs forget --undo` brings it back until a prune has \
    removed it. Pinned snapshots are never forgotten.")]
pub struct Args {
    /// Forget these: names, `latest`, or beginnings of ids
    #[arg(value_name = "SNAP", conflicts_with = "rules", add = super::complete::snapshots())]
    snapshots: Vec<OsString>,
    /// Show every snapshot with what keeps it, and change nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    /// Bring forgotten snapshots back: those named, or all
    #[arg(long, conflicts_with = "rules")]
    undo: bool,
    /// Prune afterwards: what only forgotten snapshots need is deleted, and they cannot be brought back
    #[arg(long, conflicts_with = "undo")]
    prune: bool,
    /// Forget although snapshots are missing that were here, and take what is left for all there is
    #[arg(long, conflicts_with = "undo")]
    accept_missing: bool,
    #[command(flatten)]
    keep: keep::Args,
    #[command(flatten)]
    scope: scope::Args,
}

/// Snapshots with the names they are shown by.
struct Candidates<'a> {
    choice: Choice<'a>,
    names: HashMap<ObjectId, String>,
}

/// What is to be done.
struct Plan<'a> {
    candidates: &'a Candidates<'a>,
    /// What was looked at.
    chosen: Vec<&'a ListedSnapshot>,
    /// What rules say about each; none where snapshots were named.
    groups: Vec<Group>,
    forgotten: Vec<ObjectId>,
}

impl<'a> Candidates<'a> {
    fn new(repository: &'a Repository, snapshots: Vec<ListedSnapshot>, args: &Args) -> Result<Self> {
        let names = snapshots.iter().map(|listed| listed.id).zip(names::shown(&snapshots)).collect();
        Ok(Candidates { choice: Choice::among(repository, snapshots, args.scope.scope()?), names })
    }

    fn names_of(&self, ids: &[ObjectId]) -> Vec<&str> {
        ids.iter().map(|id| &*self.names[id]).collect()
    }

    /// Returns those the arguments name, each once; without names, all that are meant.
    fn chosen(&self, args: &Args) -> Result<Vec<&ListedSnapshot>> {
        if args.snapshots.is_empty() {
            return self.choice.meant();
        }
        let mut seen = HashSet::new();
        let named: Result<Vec<_>> = args.snapshots.iter().map(|name| self.choice.exact(name)).collect();
        Ok(named?.into_iter().filter(|listed| seen.insert(listed.id)).collect())
    }
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    if !args.undo && args.snapshots.is_empty() && !args.keep.is_given() {
        let message = "Say which snapshots to forget, or what to keep, as in `--keep-daily 7 --keep-monthly 12`";
        return Err(Error::usage(message).into());
    }
    args.keep.rules()?;
    memory::spare();
    let repository = global.open_with(Memory::SMALL)?;
    if args.undo {
        return undo(global, args, &repository);
    }
    let (forgotten, told) = forget(global, args, &repository)?;
    let warned = tell_warnings(&repository) > 0;
    if args.prune {
        let prune = prune::Args::after_forget(args.dry_run, args.accept_missing);
        let status = prune::run_after_forget(global, &prune, &repository, &forgotten, told)?;
        return Ok(if warned && status == Status::Done { Status::Incomplete } else { status });
    }
    if let Some(told) = told {
        say!("{told}");
    }
    Ok(if warned { Status::Incomplete } else { Status::Done })
}

/// Forgets what the arguments say, and tells it. Returns what is forgotten (with `--dry-run`, what would be), and what
/// is to be told as JSON.
fn forget(global: &Global, args: &Args, repository: &Repository) -> anyhow::Result<(Vec<ObjectId>, Option<Value>)> {
    let candidates = Candidates::new(repository, repository.snapshots()?, args)?;
    if !args.accept_missing && !args.dry_run {
        repository.require_no_missing("Nothing was forgotten", "forget with --accept-missing")?;
    }
    let marks = repository.marks()?;
    let pins = marks.pins().into_iter().map(|(id, pin)| (id, pin.reason)).collect();
    let plan =
        if args.snapshots.is_empty() { plan(args, &candidates, &pins)? } else { named(args, &candidates, &pins)? };
    plan.warn();
    if !global.json && !global.quiet && (args.dry_run || global.verbose > 0) {
        plan.table(&pins)?;
    }
    if !args.keep.may_empty() {
        plan.refuse_to_empty(args.keep.is_allowed_once())?;
    }
    if !args.dry_run {
        repository.forget(&plan.forgotten)?;
        if args.accept_missing {
            repository.accept_missing()?;
        }
    }
    let told = global.json.then(|| plan.json(args.dry_run));
    if told.is_none() {
        plan.tell(global, args.dry_run, args.prune)?;
    }
    Ok((plan.forgotten, told))
}

/// Applies the rules.
fn plan<'a>(args: &Args, candidates: &'a Candidates<'a>, pins: &HashMap<ObjectId, &str>) -> Result<Plan<'a>> {
    let chosen = candidates.chosen(args)?;
    let judged: Vec<_> = chosen.iter().map(|listed| judged(listed, pins.contains_key(&listed.id))).collect();
    let by = args.keep.group_by();
    let groups = retention::decide(&judged, &args.keep.rules()?, by, &TimeZone::system(), Timestamp::now());
    let unkept = groups.iter().flat_map(|group| &group.decisions).filter(|decision| decision.reasons.is_empty());
    let forgotten = unkept.map(|decision| chosen[decision.at].id).collect();
    Ok(Plan { candidates, chosen, groups, forgotten })
}

/// Takes what is named. One that is pinned is refused, and the others with it.
fn named<'a>(args: &Args, candidates: &'a Candidates<'a>, pins: &HashMap<ObjectId, &str>) -> Result<Plan<'a>> {
    let chosen = candidates.chosen(args)?;
    if let Some((id, why)) = chosen.iter().find_map(|listed| pins.get_key_value(&listed.id)) {
        let name = &candidates.names[id];
        let why = if why.is_empty() { String::new() } else { format!(" ({})", readable(why.as_bytes())) };
        return Err(Error::usage(format!(
            "{name} is pinned{why}, so nothing is forgotten: `bakfs unpin {name}` lets it be"
        )));
    }
    let forgotten = chosen.iter().map(|listed| listed.id).collect();
    Ok(Plan { candidates, chosen, groups: Vec::new(), forgotten })
}

/// Names a group for people.
fn title(key: &Key) -> String {
    let host = key.host.iter().map(|host| readable(host.as_bytes()));
    let paths = key.sources.iter().flatten().map(|path| readable(path));
    let tags = key.tags.iter().flatten().map(|tag| format!("#{}", readable(tag.as_bytes())));
    let words: Vec<_> = host.chain(paths).chain(tags).collect();
    if words.is_empty() { "All snapshots".into() } else { words.join(" ") }
}

/// What rules say, as programs are told.
#[derive(Serialize)]
struct Told<'a> {
    dry_run: bool,
    groups: Vec<ToldGroup<'a>>,
    forgotten: Vec<&'a str>,
}

/// What they say about one group.
#[derive(Serialize)]
struct ToldGroup<'a> {
    #[serde(flatten)]
    key: &'a Key,
    snapshots: Vec<ToldSnapshot>,
}

#[derive(Serialize)]
struct ToldSnapshot {
    name: String,
    id: ObjectId,
    time: String,
    kept: bool,
    reasons: Vec<String>,
}

impl Plan<'_> {
    fn name(&self, decision: &Decision) -> &str {
        &self.candidates.names[&self.chosen[decision.at].id]
    }

    /// Tells of snapshots whose time makes no sense: rules pass over them.
    fn warn(&self) {
        let all = self.groups.iter().flat_map(|group| &group.decisions);
        let ahead: Vec<_> = all.filter(|decision| decision.reasons.contains(&Reason::Ahead)).collect();
        if let Some(first) = ahead.first() {
            warn!(
                "bakfs: warning: {} with a time in the future {} kept and not counted, as {}. If this machine's clock is \
                 right, forget by name",
                counted(ahead.len(), "snapshot"),
                are(ahead.len()),
                self.name(first)
            );
        }
    }

    /// Refuses to forget all snapshots of a group.
    fn refuse_to_empty(&self, is_allowed_once: bool) -> Result<()> {
        let Some(group) = self.groups.iter().find(|group| group.is_emptied()) else { return Ok(()) };
        let all = counted(group.decisions.len(), "snapshot");
        let all = format!("No rule keeps any of the {all} of {}", title(&group.key));
        let next = if is_allowed_once { "say --keep-none twice" } else { "add --keep-none --keep-none" };
        Err(Error::usage(format!("{all}, so nothing is forgotten: if that is what you want, {next}")))
    }

    /// Shows every snapshot with what keeps it, newest first; those that were named as they were.
    fn table(&self, pins: &HashMap<ObjectId, &str>) -> std::io::Result<()> {
        let mut out = BufWriter::new(stdout::whole());
        if self.groups.is_empty() {
            for listed in &self.chosen {
                writeln!(out, "  forget  {}  {}", self.candidates.names[&listed.id], local_time(listed.snapshot.time))?;
            }
        }
        let all = self.groups.iter().flat_map(|group| &group.decisions);
        let width = all.map(|decision| self.name(decision).len()).max().unwrap_or(0);
        for group in &self.groups {
            writeln!(out, "{}", title(&group.key))?;
            for decision in &group.decisions {
                let listed = self.chosen[decision.at];
                let pin = pins.get(&listed.id).filter(|reason| !reason.is_empty());
                let reason = |reason: &Reason| match (reason, pin) {
                    (Reason::Pinned, Some(why)) => format!("pinned: {}", readable(why.as_bytes())),
                    _ => readable(reason.to_string().as_bytes()),
                };
                let reasons: Vec<_> = decision.reasons.iter().map(reason).collect();
                let (verb, why) = match reasons.is_empty() {
                    true => ("forget", "nothing keeps it".to_string()),
                    false => ("keep", reasons.join(", ")),
                };
                let errors = match listed.snapshot.summary.errors {
                    0 => String::new(),
                    errors => format!("  ({})", counted(errors, "error")),
                };
                let name = self.name(decision);
                writeln!(out, "  {verb:<6}  {name:<width$}  {}  {why}{errors}", local_time(listed.snapshot.time))?;
            }
        }
        out.flush()
    }

    fn json(&self, is_dry_run: bool) -> Value {
        let decision = |decision: &Decision| {
            let listed = self.chosen[decision.at];
            ToldSnapshot {
                name: self.candidates.names[&listed.id].clone(),
                id: listed.id,
                time: dated::timestamp(listed.snapshot.time).to_string(),
                kept: !decision.reasons.is_empty(),
                reasons: decision.reasons.iter().map(Reason::to_string).collect(),
            }
        };
        let snapshots = |group: &Group| group.decisions.iter().map(decision).collect();
        let groups = self.groups.iter().map(|group| ToldGroup { key: &group.key, snapshots: snapshots(group) });
        output::json(&Told {
            dry_run: is_dry_run,
            groups: groups.collect(),
            forgotten: self.candidates.names_of(&self.forgotten),
        })
    }

    fn tell(&self, global: &Global, is_dry_run: bool, will_prune: bool) -> std::io::Result<()> {
        let mut out = stdout::whole();
        if !is_shown(global, is_dry_run) {
            return Ok(());
        }
        let forgotten = counted(self.forgotten.len(), "snapshot");
        let kept = self.candidates.choice.all().len() - self.forgotten.len();
        let (are, kept) = (are(kept), count(kept as u64));
        match is_dry_run {
            true => writeln!(out, "Would forget {forgotten}; {kept} would be left"),
            false if self.forgotten.is_empty() => writeln!(out, "Nothing to forget; {kept} {are} left"),
            false => {
                writeln!(out, "Forgot {forgotten}; {kept} {are} left")?;
                if will_prune {
                    return Ok(());
                }
                let one = self.candidates.names_of(&self.forgotten[..1])[0];
                let (undo, them) = match self.forgotten.len() {
                    1 => (format!("--undo {one}"), "it"),
                    _ => ("--undo [SNAP...]".into(), "them"),
                };
                writeln!(out, "Until a prune removes {them}, `bakfs forget {undo}` brings {them} back")
            }
        }
    }
}

/// Returns whether results are told to a person: cron hears of trouble only.
fn is_shown(global: &Global, is_dry_run: bool) -> bool {
    !global.quiet && (is_dry_run || global.verbose > 0 || std::io::stdout().is_terminal())
}

/// Brings forgotten snapshots back.
fn undo(global: &Global, args: &Args, repository: &Repository) -> anyhow::Result<Status> {
    let forgotten = repository.forgotten_snapshots()?;
    if forgotten.is_empty() && !args.snapshots.is_empty() {
        let message = "No snapshot is forgotten, so none can be brought back: `bakfs snapshots` lists what there is";
        return Err(Error::new(ErrorKind::NotFound, message).into());
    }
    let candidates = Candidates::new(repository, forgotten, args)?;
    let wanted: Vec<_> = candidates.chosen(args)?.iter().map(|listed| listed.id).collect();
    let late = if args.dry_run { Vec::new() } else { repository.undo_forget(&wanted)? };
    let back: Vec<_> = wanted.iter().copied().filter(|id| !late.contains(id)).collect();
    let (back_names, late_names) = (candidates.names_of(&back), candidates.names_of(&late));
    for name in &late_names {
        warn!("bakfs: {name} cannot be brought back: a prune is removing it");
    }
    if global.json {
        say!("{}", json!({ "dry_run": args.dry_run, "brought_back": back_names, "too_late": late_names }));
    } else if is_shown(global, args.dry_run) {
        let verb = if args.dry_run { "Would bring back" } else { "Brought back" };
        back_names.iter().for_each(|name| say!("{verb} {name}"));
        if wanted.is_empty() {
            say!("No snapshot is forgotten");
        }
    }
    let warnings = tell_warnings(repository);
    Ok(match (late.is_empty(), back.is_empty()) {
        (true, _) if warnings == 0 => Status::Done,
        (false, true) => Status::Failed,
        _ => Status::Incomplete,
    })
}
