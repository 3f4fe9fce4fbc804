//! `bakfs status`: how profiles and repositories stand.

use super::configured::{chosen, place_of};
use super::open::Global;
use super::output::{counted, json, readable, size};
use super::states::states_of;
use super::{Status, states, stdout};
use crate::settings::{Profile, Settings};
use crate::state::RepositoryState;
use crate::state::metrics::metrics;
use crate::state::overdue::{ProfileHistory, ProfileStanding, Standing, States, judge_profile, judge_repository};
use crate::state::report::{ProfileReport, RepositoryReport};
use jiff::{Timestamp, Zoned};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

/// Options of `bakfs status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes:\n  \
    0  All is well\n  \
    1  Something is overdue, the last run failed, was killed or its snapshot lacks something, a repository is damaged, or \
    nothing can be noted\n  \
    2  The configuration cannot be read, or has no such profile\n\n\
    A profile is overdue when its last success is older than its `max-age`, or else than one and a half of its \
    shortest period and an hour (longer where the clock is set forward over a scheduled time). One without either is \
    never overdue.")]
pub struct Args {
    /// Only these profiles, and their repositories
    #[arg(value_name = "PROFILE", add = super::complete::profiles())]
    profiles: Vec<String>,
    /// Print metrics of all profiles as Prometheus reads them
    #[arg(long, conflicts_with = "profiles")]
    metrics: bool,
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    let settings = global.access.sound_settings()?;
    settings.broken.values().for_each(|why| warn!("bakfs: {why}: this profile is not run"));
    let wanted = chosen(&settings, &args.profiles)?;
    let now = Zoned::now();
    let dir = states_of(&settings);
    let states = states::read(global, &settings, &dir, &now);
    let unkept = dir.unkept();
    unkept.iter().for_each(|why| warn!("bakfs: {}", readable(why.as_bytes())));
    let exchanged = exchanged(global, &settings, &wanted);
    exchanged.values().for_each(|why| warn!("bakfs: {}", readable(why.as_bytes())));
    let is_trouble = !settings.broken.is_empty() || !exchanged.is_empty() || unkept.is_some();
    let mut report = Report { settings: &settings, states: &states, exchanged: &exchanged, now: &now, is_trouble };
    let profiles: Vec<_> = wanted.iter().map(|profile| report.profile(&profile.name)).collect();
    let places: BTreeSet<&String> =
        wanted.iter().filter_map(|profile| Some(&states.profiles.get(&profile.name)?.repository)).collect();
    let repositories: Vec<_> = places.iter().map(|place| report.repository(place)).collect();
    let mut out = std::io::BufWriter::new(stdout::whole());
    if args.metrics {
        out.write_all(metrics(&settings, &states, &now).as_bytes())?;
    } else if global.json {
        let all = |lines: &[(Value, String)]| lines.iter().map(|(json, _)| json.clone()).collect::<Vec<_>>();
        writeln!(out, "{}", serde_json::json!({ "profiles": all(&profiles), "repositories": all(&repositories) }))?;
    } else if !global.quiet {
        if profiles.is_empty() && settings.broken.is_empty() {
            writeln!(out, "There are no profiles: `bakfs config init` writes a first one")?;
        }
        for (_, line) in profiles.iter().chain(&repositories) {
            writeln!(out, "{line}")?;
        }
    }
    out.flush()?;
    Ok(if report.is_trouble { Status::Failed } else { Status::Done })
}

/// Returns what is wrong with repositories in folders that are not what was there before, by their places.
fn exchanged(global: &Global, settings: &Settings, profiles: &[&Profile]) -> BTreeMap<String, String> {
    let errors = profiles.iter().filter_map(|profile| {
        let error = global.access.for_repository(settings.repository_of(profile)).exchanged()?;
        Some((place_of(global, settings, profile), error.chain()))
    });
    errors.collect()
}

/// Writes how long ago a moment was, in the largest unit that fits twice or the one below it, as `5 h ago`.
fn ago(secs: i64, now: &Zoned) -> String {
    let age = now.timestamp().as_second().saturating_sub(secs);
    match age {
        ..0 => "in the future: check the clock".into(),
        0..120 => format!("{age} s ago"),
        120..7200 => format!("{} min ago", age / 60),
        7200..172_800 => format!("{} h ago", age / 3600),
        _ => format!("{} d ago", age / 86_400),
    }
}

fn minute(time: &Zoned) -> String {
    time.strftime("%Y-%m-%d %H:%M").to_string()
}

/// Writes a moment by the machine's clock, with its age.
fn when(secs: i64, now: &Zoned) -> String {
    let Ok(time) = Timestamp::from_second(secs) else { return "at no time of the calendar".into() };
    format!("{} ({})", minute(&time.to_zoned(now.time_zone().clone())), ago(secs, now))
}

struct Report<'a> {
    settings: &'a Settings,
    states: &'a States,
    /// Repositories that are not what was there before, and why.
    exchanged: &'a BTreeMap<String, String>,
    now: &'a Zoned,
    is_trouble: bool,
}

impl Report<'_> {
    /// Returns a profile's object and its line.
    fn profile(&mut self, name: &str) -> (Value, String) {
        let profile = &self.settings.profiles[name];
        let known = &self.states.profiles[name];
        let judged = judge_profile(self.settings, profile, known, self.now);
        self.is_trouble |= judged.is_trouble;
        let report = ProfileReport { known, standing: &judged, now: self.now };
        (json(&report), self.profile_line(known, &judged))
    }

    fn profile_line(&self, known: &ProfileHistory, judged: &ProfileStanding) -> String {
        let width = self.settings.profiles.keys().map(|name| name.chars().count()).max().unwrap_or(0);
        let mut line = format!("{:width$}  {:<10}", known.state.name, judged.standing.word());
        match judged.last_success_secs {
            Some(secs) => line += &format!("  last success {}", when(secs, self.now)),
            None => line += "  no success yet",
        }
        if let Some(next) = &judged.next {
            line += &format!("  next {}", minute(next));
        }
        if let Some(made) = known.last_snapshot() {
            let (grown, week) = (size(made.packed_bytes), size(judged.week_packed_bytes));
            line += &format!("\n{:width$}  {}, +{grown}, +{week} in 7 days", "", size(made.content_bytes));
        }
        let last = known.state.last();
        if let Some(run) = last.filter(|run| run.forgotten > 0) {
            line += &format!(", {} forgotten", counted(run.forgotten, "snapshot"));
        }
        if let Some(secs) = known.state.last_success_secs.filter(|secs| Some(*secs) != judged.last_success_secs) {
            line += &format!(
                "\n{:width$}  one noted by a clock that was wrong does not count: {}",
                "",
                when(secs, self.now)
            );
        }
        if let Some(holder) = &known.running {
            line += &format!("\n{:width$}  now: {}", "", readable(holder.as_bytes()));
        }
        if judged.is_overdue && judged.standing != Standing::Overdue {
            line += &format!("\n{:width$}  overdue", "");
        }
        for note in last.into_iter().flat_map(|run| &run.notes) {
            line += &format!("\n{:width$}  note: {}", "", readable(note.as_bytes()));
        }
        if judged.is_trouble
            && let Some(run) = last
        {
            for problem in &run.problems {
                line += &format!("\n{:width$}  {}: {}", "", run.outcome.word(), readable(problem.as_bytes()));
            }
        }
        line
    }

    /// Returns a repository's object and its line.
    fn repository(&mut self, place: &str) -> (Value, String) {
        let state = &self.states.repositories[place];
        let judged = judge_repository(self.settings, self.states, place, self.now);
        self.is_trouble |= judged.is_trouble;
        let exchanged = self.exchanged.get(place);
        let report = RepositoryReport { place, state, standing: &judged, exchanged };
        (json(&report), self.repository_line(state, judged.is_check_overdue))
    }

    fn repository_line(&self, state: &RepositoryState, is_check_overdue: bool) -> String {
        let mut line = readable(state.place.as_bytes());
        if self.exchanged.contains_key(&state.place) {
            return line + "  EXCHANGED: it is not the repository that was there before";
        }
        line += match (state.is_damaged, is_check_overdue, state.last_check_secs) {
            (true, ..) => "  DAMAGED: `bakfs check` tells what",
            (false, true, _) => "  check overdue",
            (false, false, Some(_)) => "  sound",
            (false, false, None) => "  never verified",
        };
        if let Some(secs) = state.last_check_secs {
            line += &format!("  last check {}", when(secs, self.now));
            line += &match state.oldest_verified_secs {
                Some(secs) => format!("\n  all of it verified since {}", when(secs, self.now)),
                None => format!("\n  {} of {} ever verified", size(state.verified_bytes), size(state.pack_bytes)),
            };
        }
        if let Some(secs) = state.last_prune_secs {
            line += &format!("\n  last prune {}", when(secs, self.now));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_units_people_think_in() {
        let now: Zoned = "2026-11-21T20:00:00[UTC]".parse().unwrap();
        for (age, told) in [
            (0, "0 s ago"),
            (119, "119 s ago"),
            (120, "2 min ago"),
            (7199, "119 min ago"),
            (5 * 3600, "5 h ago"),
            (172_800, "2 d ago"),
            (-1, "in the future: check the clock"),
        ] {
            assert_eq!(ago(now.timestamp().as_second() - age, &now), told);
        }
    }
}
