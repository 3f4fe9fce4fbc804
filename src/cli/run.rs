//! `bakfs run`: profiles of the configuration, each from its dumps to its prune.

use super::configured::place_of;
use super::open::Global;
use super::output::{Progress, count, size};
use super::{Status, backup, check, folders, prune};
use crate::backup::Options;
use crate::check::{Report, Selection};
use crate::error::{Error, Result};
use crate::job::{self, Desk, Job, thin};
use crate::log::Log;
use crate::monitor::Monitor;
use crate::notify;
use crate::process;
use crate::repo::Repository;
use crate::repo::ledger::now_secs;
use crate::repo::write::WriteOptions;
use crate::retention::window::Window;
use crate::settings::values::Duration;
use crate::settings::{Periodicity, Profile, Settings, secret};
use crate::source::exclude::Excludes;
use crate::state::metrics::metrics;
use crate::state::overdue::States;
use crate::state::{Outcome, Run, StateDir, write_whole};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::IsTerminal;
use std::sync::Arc;

/// Options of `bakfs run`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --periodicity a run is by hand: its snapshot is kept until `[profile.NAME.manual]` says \
    otherwise, and takes no scheduled one's place.\n\nExits with 0 if all was done; 1 if a profile made no snapshot; 3 if \
    every profile made one, but one lacks something or what follows it has failed."
)]
pub struct Args {
    /// The profiles to run
    #[arg(value_name = "PROFILE", conflicts_with = "all")]
    profiles: Vec<String>,
    /// Run all profiles, one after the other
    #[arg(long)]
    all: bool,
    /// As a run of this kind: hourly, daily, weekly, monthly, bimonthly or shutdown; without profiles, those that have
    /// it in their schedule
    #[arg(long, value_name = "WORD")]
    periodicity: Option<Periodicity>,
    /// Only those whose last snapshot of this kind is longer ago than their periodicity
    #[arg(long, requires = "periodicity")]
    catch_up: bool,
    /// Begin later, by up to so long, at random
    #[arg(long, value_name = "DURATION", hide = true)]
    jitter: Option<Duration>,
    /// Run the last hooks that killed runs still owe, and nothing else
    #[arg(long, conflicts_with_all = ["profiles", "all", "periodicity", "jitter"])]
    recover: bool,
}

impl Args {
    fn chosen<'a>(&self, settings: &'a Settings, state: &StateDir) -> Result<Vec<&'a Profile>> {
        let all = || settings.profiles.values();
        let chosen: Vec<&Profile> = match (self.all, self.periodicity) {
            (true, _) => all().collect(),
            (false, _) if !self.profiles.is_empty() => {
                self.profiles.iter().map(|name| settings.profile(name)).collect::<Result<_>>()?
            }
            (false, Some(periodicity)) => all().filter(|profile| profile.schedule.contains(&periodicity)).collect(),
            (false, None) => {
                let message = "Say what to run: names of profiles, --all, or --periodicity daily";
                return Err(Error::usage(message));
            }
        };
        if self.all && chosen.is_empty() && settings.broken.is_empty() {
            return Err(Error::usage("There is no profile: `bakfs config init` writes a first one"));
        }
        let Some(period) = self.periodicity.filter(|_| self.catch_up) else { return Ok(chosen) };
        let is_late = |profile: &&Profile| is_late(state, profile, period);
        Ok(chosen.into_iter().filter(is_late).collect())
    }
}

/// Returns whether the last snapshot of a kind of run is longer ago than its period; one in the future counts as none.
fn is_late(state: &StateDir, profile: &Profile, periodicity: Periodicity) -> bool {
    let Some(hours) = periodicity.longest_hours() else { return false };
    let known = state.profile(&profile.name);
    let now = jiff::Timestamp::now().as_second();
    known.last_snapshot_secs.get(&periodicity).is_none_or(|last| *last > now || now - last > hours * 3600)
}

/// What a profile's run needs of the program.
struct Bench<'a> {
    global: Global,
    profile: &'a Profile,
    settings: &'a Settings,
    progress: Progress,
    log: LogTarget,
}

/// Where lines of the log go.
enum LogTarget {
    /// Standard output, which is the journal's (systemd.exec(5), JOURNAL_STREAM).
    Journal,
    File(Log),
}

impl LogTarget {
    fn of_process(settings: &Settings) -> Self {
        let streamed = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        let own = rustix::fs::fstat(std::io::stdout()).map(|stat| format!("{}:{}", stat.st_dev, stat.st_ino));
        match own {
            Ok(own) if own == streamed => LogTarget::Journal,
            _ => LogTarget::File(Log::open(&folders::log_dir(settings), "bakfs")),
        }
    }
}

impl Desk for Bench<'_> {
    fn open(&self) -> Result<Arc<Repository>> {
        if let Some(path) = &self.settings.repository_of(self.profile).password_file {
            secret::refuse_shared(path)?;
        }
        backup::open_or_make(&self.global)
    }

    fn options(&self) -> Result<Options> {
        let profile = self.profile;
        let write = WriteOptions::default();
        Ok(Options {
            paths: profile.sources.clone(),
            excludes: Excludes::new(&profile.excludes, &profile.exclude_files)?,
            exclude_caches: profile.exclude_caches,
            one_file_system: profile.one_file_system,
            tags: Vec::new(),
            host: thin::host_of(profile),
            time: None,
            apart: backup::apart(&self.global)?,
            tells_servers: true,
            dry_run: false,
            is_ended: Some(process::is_ended),
            write: WriteOptions { level: profile.compression.unwrap_or(write.level), ..write },
        })
    }

    fn check(&self) -> Result<Report> {
        let before_secs = age_secs(&self.profile.check_max_age);
        let selection = Selection { share: self.profile.check_share, before_secs: Some(before_secs) };
        check::check(&self.global, Some(selection), &self.progress)
    }

    fn prune(&self) -> Result<crate::prune::Report> {
        prune::prune_quietly(&self.global, &self.progress)
    }

    fn log(&self, line: &str) {
        tracing::info!("{line}");
        match &self.log {
            // 6: informational (sd-daemon(3)).
            LogTarget::Journal => println!("<6>{}", super::output::readable(line.as_bytes())),
            LogTarget::File(log) => log.line(line),
        }
    }

    fn monitor(&self) -> &dyn Monitor {
        &self.progress
    }
}

/// Returns the moment that lies so long ago.
fn age_secs(window: &Window) -> u64 {
    u64::try_from(window.start(&jiff::Zoned::now()).as_second()).unwrap_or(0).min(now_secs())
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    if args.recover {
        // Nothing else of the configuration is needed, so nothing that is wrong with it stands in the way.
        let settings = global.sound_settings().unwrap_or_default();
        return Ok(recover(&StateDir::new(folders::state_dir(&settings))));
    }
    let settings = global.sound_settings()?;
    let state = StateDir::new(folders::state_dir(&settings));
    let chosen = args.chosen(&settings, &state)?;
    if let Some(secs) = args.jitter.and_then(|jitter| jitter.secs) {
        std::thread::sleep(std::time::Duration::from_secs(random_below(secs + 1)));
    }
    let periodicity = args.periodicity.unwrap_or(Periodicity::Manual);
    end_cleanly_on_signals(&state, &chosen)?;
    let mut told = Vec::new();
    let mut status = tell_broken(args, &settings, chosen.len())?;
    for profile in chosen {
        let run = run_one(global, &settings, profile, periodicity, &state);
        status = worse(status, status_of(&run));
        told.push(run);
    }
    write_metrics(global, &settings, &state);
    if global.json {
        println!("{}", serde_json::to_string(&told)?);
    }
    Ok(status)
}

/// Says which profiles cannot be run because they are wrong; nobody knows whether they were meant. Fails where there is
/// no other.
fn tell_broken(args: &Args, settings: &Settings, chosen: usize) -> Result<Status> {
    if !args.profiles.is_empty() || settings.broken.is_empty() {
        return Ok(Status::Done);
    }
    if chosen == 0 {
        return Err(Error::usage(settings.broken.values().cloned().collect::<Vec<_>>().join("\n")));
    }
    for (name, why) in &settings.broken {
        eprintln!("bakfs: {why}: this profile was not run");
        let periodicity = args.periodicity.unwrap_or(Periodicity::Manual);
        let run = job::not_begun(name, periodicity, "", &Error::usage(why));
        for error in notify::ended(&settings.notify, &thin::host_name(), &run) {
            eprintln!("bakfs: {name}: warning: {}", error.chain());
        }
    }
    Ok(Status::Failed)
}

fn random_below(limit: u64) -> u64 {
    let mut bytes = [0; 8];
    crate::crypto::keys::fill_random(&mut bytes);
    u64::from_le_bytes(bytes) % limit.max(1)
}

fn status_of(run: &Run) -> Status {
    match run.outcome {
        Outcome::Success => Status::Done,
        Outcome::Incomplete => Status::Incomplete,
        Outcome::Failed => Status::Failed,
    }
}

/// Returns the one that is worse: a snapshot that was not made, then one that lacks something.
fn worse(one: Status, other: Status) -> Status {
    let rank = |status| match status {
        Status::Done => 0,
        Status::Incomplete => 1,
        Status::Failed => 2,
    };
    if rank(other) > rank(one) { other } else { one }
}

fn run_one(global: &Global, settings: &Settings, profile: &Profile, periodicity: Periodicity, state: &StateDir) -> Run {
    let bench = bench(global, settings, profile);
    let place = place_of(global, settings, profile);
    let job = Job { profile, periodicity, state, place: place.clone(), desk: &bench };
    let began = || tell_failures(profile, notify::start(&profile.notify));
    let run = job.run(began).unwrap_or_else(|error| job::not_begun(&profile.name, periodicity, &place, &error));
    bench.progress.finish();
    #[cfg(feature = "mount")]
    run.snapshot.iter().for_each(|name| super::mount_point::tell_hiding(name));
    tell(global, &thin::host_of(profile), &run);
    tell_failures(profile, notify::ended(&profile.notify, &thin::host_of(profile), &run));
    run
}

/// Says which notifications have failed: they fail no run.
fn tell_failures(profile: &Profile, failures: Vec<Error>) {
    for error in failures {
        eprintln!("bakfs: {}: warning: {}", profile.name, error.chain());
    }
}

/// Writes the metrics of all profiles, where the configuration names a file for them.
fn write_metrics(global: &Global, settings: &Settings, state: &StateDir) {
    let Some(path) = &settings.metrics_file else { return };
    let states = States::read(state, settings, |profile| place_of(global, settings, profile));
    let text = metrics(settings, &states, &jiff::Zoned::now());
    if let Err(error) = write_whole(path, text.as_bytes(), 0o644) {
        eprintln!("bakfs: warning: {}", error.chain());
    }
}

fn bench<'a>(global: &Global, settings: &'a Settings, profile: &'a Profile) -> Bench<'a> {
    let shown = !global.quiet && !global.json;
    let progress = Progress::new(&format!("Running {}", profile.name), shown);
    let global = Global { quiet: true, ..global.for_repository(settings.repository_of(profile)) };
    Bench { global, profile, settings, progress, log: LogTarget::of_process(settings) }
}

/// Runs the last hooks that killed runs owe, whatever has become of their profiles since.
fn recover(state: &StateDir) -> Status {
    let mut status = Status::Done;
    for profile in state.owing() {
        for problem in job::recover(state, &profile, &|line| tracing::info!("{profile}: {line}")) {
            eprintln!("bakfs: {profile}: {problem}");
            status = Status::Failed;
        }
    }
    status
}

/// Ends this process when it is asked to, after the last hook of the run that is under way.
fn end_cleanly_on_signals(state: &StateDir, profiles: &[&Profile]) -> anyhow::Result<()> {
    let asked = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(*signal));
    let mut signals = Signals::new(asked)?;
    let state = state.clone();
    let profiles: Vec<Profile> = profiles.iter().map(|profile| (*profile).clone()).collect();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let Some(signal) = signals.forever().next() else { return };
        let why = format!("The run was ended by signal {signal}");
        if let Some(run) = job::end(&state, &why)
            && let Some(profile) = profiles.iter().find(|profile| profile.name == run.profile)
        {
            tell_trouble(&thin::host_of(profile), &run);
            tell_failures(profile, notify::ended(&profile.notify, &thin::host_of(profile), &run));
        }
        std::process::exit(128 + signal);
    })?;
    Ok(())
}

/// Returns whether this process was started to ignore a signal, as nohup(1) does.
fn is_ignored(signal: i32) -> bool {
    let mut set = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: sigaction(2) only writes what is set now; all bytes zero are a value of the type.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), set.as_mut_ptr()) == 0
            && set.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

fn tell_trouble(host: &str, run: &Run) {
    let message = notify::message(host, run);
    eprintln!("{}\n\n{}", message.subject, message.body.trim_end());
}

/// Tells trouble as one message, and success only to somebody who looks.
fn tell(global: &Global, host: &str, run: &Run) {
    if run.outcome != Outcome::Success {
        tell_trouble(host, run);
    }
    if global.json || global.quiet || !(std::io::stdout().is_terminal() || global.verbose > 0) {
        return;
    }
    if let Some(snapshot) = &run.snapshot {
        println!("Profile   {}, {}", run.profile, run.periodicity);
        println!("Snapshot  {snapshot}");
        println!("Files     {}, {}", count(run.files), size(run.content_bytes));
        println!("Added     {}, {} compressed", size(run.added_bytes), size(run.packed_bytes));
        for (path, bytes) in &run.dumps {
            println!("Dump      {path}  {}", size(*bytes));
        }
        if run.forgotten > 0 {
            println!("Forgotten {} snapshots", count(run.forgotten));
        }
        if run.periodicity == Periodicity::Manual {
            println!("Kept      until it is forgotten by name, as a run by hand");
        }
    }
}
