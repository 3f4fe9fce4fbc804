//! `bakfs run`: profiles of the configuration, each from its dumps to its prune.

use super::configured::place_of;
use super::open::Global;
use super::progress::Progress;
use super::states::states_of;
use super::{Status, init, signals, states, telling};
use crate::access::Access;
use crate::error::{Error, Result};
use crate::job::{self, Event, Job, Ran, Stop, thin};
use crate::log::Log;
use crate::notify::Telling;
use crate::quantity::time::Jitter;
use crate::remote::close_connections;
use crate::settings::{Periodicity, Profile, Settings};
use crate::state::metrics::metrics;
use crate::state::{Outcome, Readers, Run, StateDir, write_whole};

/// Options of `bakfs run`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --periodicity a run is by hand: its snapshot is kept until `[profile.NAME.manual]` says \
    otherwise, and takes no scheduled one's place.\n\nExits with 0 if all was done; 1 if a profile made no snapshot; 3 if \
    every profile made one, but one lacks something or what follows it has failed."
)]
pub struct Args {
    /// The profiles to run
    #[arg(value_name = "PROFILE", conflicts_with = "all", add = super::complete::profiles())]
    profiles: Vec<String>,
    /// Run all profiles, one after the other
    #[arg(long)]
    all: bool,
    /// As a run of this kind: hourly, daily, weekly, monthly, bimonthly or shutdown; without profiles, those that have
    /// it in their schedule
    #[arg(long, value_name = "WORD")]
    periodicity: Option<Periodicity>,
    /// Only those that have missed a time of their schedule since their last snapshot of this kind was begun
    #[arg(long, requires = "periodicity")]
    catch_up: bool,
    /// Take it for right that a source or dump has lost all it held in the last snapshot
    #[arg(long)]
    allow_empty: bool,
    /// Begin later, by up to so long, at random
    #[arg(long, value_name = "DURATION", hide = true)]
    jitter: Option<Jitter>,
    /// Tell of runs that were killed and run the last hooks they still owe, and nothing else
    #[arg(long, conflicts_with_all = ["profiles", "all", "periodicity", "jitter", "allow_empty"])]
    recover: bool,
}

impl Args {
    fn chosen<'a>(&self, settings: &'a Settings) -> Result<Vec<&'a Profile>> {
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
        Ok(chosen)
    }
}

/// Returns whether a time of the schedule has passed since the last run of a kind began that made a snapshot, as
/// systemd's timers catch up (systemd.timer(5), `Persistent=`). A run that is dated after the present, or that was killed,
/// counts as none.
fn is_missed(global: &Global, settings: &Settings, state: &StateDir, profile: &Profile, kind: Periodicity) -> bool {
    if kind.longest_hours().is_none() {
        return false;
    }
    let now = jiff::Zoned::now();
    let (place, id) = states::repository_of(global, settings, profile);
    let known = state.profile(&profile.name).of_repository(&place, id.as_deref());
    let began = known.last_started(kind, &state.belief(now.timestamp().as_second()));
    let began = began.and_then(|secs| jiff::Timestamp::from_second(secs).ok());
    began.is_none_or(|began| settings.schedule.is_missed(kind, began, &now))
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
            _ => LogTarget::File(Log::open(&crate::access::folders::log_dir(settings), "bakfs")),
        }
    }

    fn line(&self, line: &str) {
        tracing::info!("{line}");
        match self {
            // 6: informational (sd-daemon(3)).
            LogTarget::Journal => say!("<6>{}", super::output::readable(line.as_bytes())),
            LogTarget::File(log) => log.line(line),
        }
    }
}

/// Takes what is told of a profile's run.
fn hear(access: &Access, profile: &Profile, log: &LogTarget, event: Event<'_>) {
    match event {
        Event::Line(line) => log.line(line),
        Event::Killed(earlier) => telling::killed(profile, earlier),
        Event::Made(made) => init::tell(access, made),
        Event::Opened(repository) => super::output::heed(repository),
    }
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    if args.recover {
        // Nothing else of the configuration is needed, so nothing that is wrong with it stands in the way.
        let path = Some(global.access.config_path());
        let settings = global.access.sound_settings().unwrap_or(Settings { path, ..Settings::default() });
        let status = recover(global, &settings, &states_of(&settings));
        telling::finish();
        return Ok(status);
    }
    let settings = global.access.sound_settings()?;
    let state = states_of(&settings);
    let mut chosen = args.chosen(&settings)?;
    if let Some(periodicity) = args.periodicity.filter(|_| chosen.is_empty() && settings.broken.is_empty()) {
        warn!(
            "bakfs: no profile has `{periodicity}` in its `schedule`: nothing was run. If something begins this by itself, \
             `bakfs schedule install` takes it away"
        );
    }
    if let Some(Jitter { secs }) = args.jitter {
        std::thread::sleep(std::time::Duration::from_secs(random_below(secs + 1)));
    }
    let periodicity = args.periodicity.unwrap_or(Periodicity::Manual);
    let mut status = tell_broken(args, &settings, chosen.len())?;
    if args.catch_up {
        // What has run while this one waited is not missed any more.
        chosen.retain(|profile| is_missed(global, &settings, &state, profile, periodicity));
    }
    let stop = Stop::default();
    end_cleanly_on_signals(&state, &stop, &chosen)?;
    let mut told = Vec::new();
    for profile in chosen {
        let run = run_one(global, args, &settings, profile, periodicity, &state, &stop);
        status = worse(status, run.as_ref().map_or(Status::Done, status_of));
        told.extend(run);
    }
    write_metrics(global, &settings, &state, &told);
    if global.json {
        say!("{}", serde_json::to_string(&told)?);
    }
    telling::finish();
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
        warn!("bakfs: {why}: this profile was not run");
        let periodicity = args.periodicity.unwrap_or(Periodicity::Manual);
        let run = job::not_begun(name, periodicity, "", &Error::usage(why));
        telling::beside(name, Telling::default().ended(&settings.notify, &crate::host::host_name(), &run));
    }
    Ok(Status::Failed)
}

fn random_below(limit: u64) -> u64 {
    let mut bytes = [0; 8];
    crate::random::fill_random(&mut bytes);
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

/// Runs a profile; `None` where a run of the same kind is still under way, which is no failure and is said.
fn run_one(
    global: &Global,
    args: &Args,
    settings: &Settings,
    profile: &Profile,
    periodicity: Periodicity,
    state: &StateDir,
    stop: &Stop,
) -> Option<Run> {
    let progress = Progress::new(&format!("Running {}", profile.name), !global.quiet && !global.json);
    let access = global.access.for_repository(settings.repository_of(profile));
    let log = LogTarget::of_process(settings);
    let place = place_of(global, settings, profile);
    let job = Job {
        profile,
        periodicity,
        access: &access,
        place: place.clone(),
        allow_empty: args.allow_empty,
        state,
        stop,
        tell: &|event| hear(&access, profile, &log, event),
        monitor: &progress,
    };
    let mut start = Telling::default();
    let ran = job.run(|| start = Telling::start(&profile.notify));
    progress.finish();
    super::output::drop_notes();
    let run = match ran {
        Ok(Ran::Ended(run)) => run,
        // Who has stopped it ends the process, and with it the lock.
        Ok(Ran::Stopped(_lock)) => loop {
            std::thread::park();
        },
        Ok(Ran::LeftOut(why)) => {
            warn!("bakfs: {}", why.chain());
            return None;
        }
        Err(error) => job::not_begun(&profile.name, periodicity, &place, &error),
    };
    #[cfg(feature = "mount")]
    run.snapshot.iter().for_each(|name| super::umount::tell_hiding(name));
    telling::ended(global, &thin::host_of(profile), &run);
    telling::beside(&profile.name, start.ended(&profile.notify, &thin::host_of(profile), &run));
    Some(run)
}

/// Writes the metrics of all profiles, where the configuration names a file for them.
fn write_metrics(global: &Global, settings: &Settings, state: &StateDir, ended: &[Run]) {
    let Some(path) = &settings.metrics_file else { return };
    let now = jiff::Zoned::now();
    let mut states = states::read(global, settings, state, &now);
    // What could not be kept has happened all the same.
    for run in ended {
        if let Some(known) = states.profiles.get_mut(&run.profile).filter(|known| known.state.last() != Some(run)) {
            known.state.add(run.clone());
        }
    }
    let text = metrics(settings, &states, &now);
    if let Err(error) = write_whole(path, text.as_bytes(), Readers::All) {
        warn!("bakfs: warning: {}", error.chain());
    }
}

/// Records and tells of killed runs, and runs the last hooks they owe, whatever has become of their profiles since.
fn recover(global: &Global, settings: &Settings, state: &StateDir) -> Status {
    let mut status = Status::Done;
    let mut recovered = Vec::new();
    for profile in state.owing() {
        let job::Recovered { killed, problems } =
            job::recover(state, &profile, &Stop::default(), &|line| tracing::info!("{profile}: {line}"));
        for problem in problems {
            warn!("bakfs: {profile}: {problem}");
            status = Status::Failed;
        }
        if let Some(run) = killed {
            match settings.profiles.get(&profile) {
                Some(profile) => telling::killed(profile, &run),
                None => {
                    telling::trouble(&crate::host::host_name(), &run);
                    telling::beside(
                        &profile,
                        Telling::default().ended(&settings.notify, &crate::host::host_name(), &run),
                    );
                }
            }
            recovered.push(run);
        }
    }
    if !recovered.is_empty() {
        write_metrics(global, settings, state, &recovered);
    }
    status
}

/// Ends this process when it is asked to, after the last hook of the run that is under way.
fn end_cleanly_on_signals(state: &StateDir, stop: &Stop, profiles: &[&Profile]) -> anyhow::Result<()> {
    let (state, stop) = (state.clone(), stop.clone());
    let profiles: Vec<Profile> = profiles.iter().map(|profile| (*profile).clone()).collect();
    signals::handle(move |signal| {
        let why = format!("The run was ended by signal {signal}");
        if let Some(run) = stop.end(&state, &why)
            && let Some(profile) = profiles.iter().find(|profile| profile.name == run.profile)
        {
            telling::trouble(&thin::host_of(profile), &run);
            telling::beside(&profile.name, Telling::default().ended(&profile.notify, &thin::host_of(profile), &run));
        }
        telling::finish();
        close_connections();
        std::process::exit(128 + signal);
    })?;
    Ok(())
}
