//! `bakfs schedule`: lets profiles run by themselves.

use super::open::Global;
use super::output::{self, readable};
use super::{Status, scheduled, stdout};
use crate::schedule::destination::Report;
use crate::schedule::{self, Destination, Entry, Installed, Manager};
use clap::Subcommand;
use jiff::Zoned;
use serde::Serialize;
use std::io::Write;

/// Options of `bakfs schedule`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write what begins the runs that profiles have in `schedule`, and take away what none has any more
    #[command(after_help = "Files are written as root to /etc/systemd/system or /etc/cron.d, as another user to \
        $XDG_CONFIG_HOME/systemd/user or their crontab. BAKFS_SYSTEM_ROOT=DIR writes below another root and starts \
        nothing, for building images.")]
    Install(InstallArgs),
    /// Show what runs when, and whether it does so by itself
    List,
    /// Take away all that `install` has written
    Remove,
}

/// Options of `bakfs schedule install`.
#[derive(Debug, clap::Args)]
struct InstallArgs {
    /// Use systemd's timers, as is usual where systemd runs
    #[arg(long, conflicts_with = "cron")]
    systemd: bool,
    /// Use a crontab, as is usual elsewhere
    #[arg(long)]
    cron: bool,
    /// Print what would be written, and change nothing
    #[arg(long)]
    print: bool,
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    let destination = Destination::of_process()?;
    match &args.verb {
        Verb::Install(args) => install(global, args, &destination)?,
        Verb::List => list(global, &destination)?,
        Verb::Remove => {
            let report = destination.remove()?;
            if report.removed.is_empty() && !global.quiet && !global.json {
                say!("Nothing was installed");
            }
            tell(global, &report);
        }
    }
    Ok(Status::Done)
}

fn install(global: &Global, args: &InstallArgs, destination: &Destination) -> anyhow::Result<()> {
    let settings = global.access.settings()?;
    let invocation = scheduled::invocation(global, &settings)?;
    for told in scheduled::left_behind(global, &settings).into_iter().chain(invocation.doubt()) {
        warn!("bakfs: warning: {told}");
    }
    let manager = match (args.systemd, args.cron) {
        (true, _) => Manager::Systemd,
        (_, true) => Manager::Cron,
        _ => destination.usual_manager(),
    };
    if args.print {
        for warning in destination.warnings(manager, &settings) {
            warn!("bakfs: warning: {warning}");
        }
        let texts = destination.texts(manager, &settings, &invocation);
        let mut out = stdout::listing(global.json);
        if global.json {
            let texts: serde_json::Map<_, _> = texts.into_iter().map(|(name, text)| (name, text.into())).collect();
            serde_json::to_writer(&mut out, &texts)?;
            writeln!(out)?;
            return Ok(());
        }
        for (at, (name, text)) in texts.into_iter().enumerate() {
            let gap = if at > 0 { "\n" } else { "" };
            writeln!(out, "{gap}# {name}\n{text}")?;
        }
        return Ok(());
    }
    if schedule::wanted(&settings).is_empty() {
        warn!("bakfs: warning: no profile has a `schedule`, as in `schedule = [\"daily\"]`: nothing runs by itself");
    }
    tell(global, &destination.install(manager, &settings, &invocation)?);
    Ok(())
}

fn tell(global: &Global, report: &Report) {
    for warning in &report.warnings {
        warn!("bakfs: warning: {warning}");
    }
    if global.json {
        say!("{}", output::json(report));
    } else if !global.quiet {
        for name in &report.removed {
            say!("removed {}", readable(name.as_bytes()));
        }
        for name in &report.written {
            say!("wrote {}", readable(name.as_bytes()));
        }
    }
}

/// A periodicity as programs are told of it.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    next: Option<String>,
}

fn list(global: &Global, destination: &Destination) -> anyhow::Result<()> {
    let settings = global.access.settings()?;
    let entries = destination.entries(&settings, &scheduled::invocation(global, &settings)?)?;
    let now = Zoned::now();
    let next = |entry: &Entry| settings.schedule.next(entry.periodicity, &now);
    let mut out = std::io::BufWriter::new(stdout::listing(global.json));
    if global.json {
        let time = |entry: &Entry| next(entry).map(|time| time.timestamp().to_string());
        let list: Vec<_> = entries.iter().map(|entry| Line { entry, next: time(entry) }).collect();
        writeln!(out, "{}", output::json(&list))?;
        out.flush()?;
        return Ok(());
    }
    writeln!(out, "{:<11} {:<16} {:<40} PROFILES", "RUNS", "NEXT", "INSTALLED")?;
    for entry in &entries {
        let next = match next(entry) {
            Some(time) => time.strftime("%Y-%m-%d %H:%M").to_string(),
            None => "going down".into(),
        };
        let installed = match (entry.installed, entry.manager) {
            (Installed::Yes, Some(manager)) => manager.word().to_string(),
            (Installed::Outdated, _) => "outdated: run bakfs schedule install".into(),
            _ if !entry.is_possible => "no: cron cannot, only systemd can".into(),
            _ => "no: run bakfs schedule install".into(),
        };
        let profiles = if entry.profiles.is_empty() { "(none)".into() } else { entry.profiles.join(", ") };
        writeln!(out, "{:<11} {next:<16} {installed:<40} {profiles}", entry.periodicity.word())?;
    }
    out.flush()?;
    Ok(())
}
