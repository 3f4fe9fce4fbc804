//! What must be mended before a profile can be relied on, found out by trying.

pub mod hooks;
pub mod secrets;
pub mod sources;
pub mod space;

use crate::database;
use crate::machine::Machine;
use crate::machine::survey::Budget;
use crate::settings::profile::Profile;
use crate::settings::{Periodicity, Repository, Settings};
use jiff::Zoned;
use std::path::PathBuf;

/// How much something matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It is well.
    Fine,
    /// It may be meant so.
    Hint,
    /// It must be mended.
    Problem,
}

impl Severity {
    /// Returns its word.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Fine => "ok",
            Severity::Hint => "hint",
            Severity::Problem => "problem",
        }
    }
}

/// Something that was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, as `web: source /srv`.
    pub subject: String,
    /// What is so, and how to mend it.
    pub text: String,
    /// How much it matters.
    pub severity: Severity,
}

impl Finding {
    fn new(severity: Severity, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Finding { subject: subject.into(), text: text.into(), severity }
    }

    /// Makes one that is well.
    pub fn fine(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Finding::new(Severity::Fine, subject, text)
    }

    /// Makes one that may be meant so.
    pub fn hint(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Finding::new(Severity::Hint, subject, text)
    }

    /// Makes one that must be mended.
    pub fn problem(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Finding::new(Severity::Problem, subject, text)
    }
}

/// Tries all that a profile needs but its repository.
pub fn profile(profile: &Profile, machine: &Machine, budget: &mut Budget) -> Vec<Finding> {
    let name = &profile.name;
    let database::Inspected { inspections, replaced } = database::inspect(profile);
    let mut findings = sources::check(profile, machine, &replaced, budget);
    findings.extend(hooks::check(profile));
    findings.extend(inspections.into_iter().map(|inspection| {
        let subject = format!("{name}: {}", inspection.subject);
        match (inspection.is_problem, inspection.is_hint) {
            (true, _) => Finding::problem(subject, inspection.text),
            (false, true) => Finding::hint(subject, inspection.text),
            (false, false) => Finding::fine(subject, inspection.text),
        }
    }));
    if profile.has_databases() {
        let folder = profile.temporary_dir.clone().unwrap_or_else(std::env::temp_dir);
        findings.push(space::check(&format!("{name}: temporary folder {}", folder.display()), &folder));
    }
    if profile.schedule.is_empty() {
        findings.push(Finding::hint(name, "no schedule ever runs it: write `schedule = [\"daily\"]`, if it should be"));
    }
    if profile.keep.is_none() && profile.schedule.iter().any(|word| !profile.separate.contains_key(word)) {
        let text =
            "it has no `keep`: its history grows for ever, until `keep = { daily = 14, monthly = 12 }` or the like";
        findings.push(Finding::hint(name, text));
    }
    findings
}

/// Looks at the files of the configuration that hold secrets of their own: URLs that are asked for.
pub fn files(settings: &Settings) -> Vec<Finding> {
    let mut files: Vec<&PathBuf> = settings.profiles.values().filter(|it| has_url(it)).map(|it| &it.file).collect();
    // What is inherited is written in the main file.
    files.extend(settings.path.as_ref().filter(|_| !files.is_empty()));
    files.sort();
    files.dedup();
    files.into_iter().filter_map(|path| secrets::check("configuration", path)).collect()
}

fn has_url(profile: &Profile) -> bool {
    let notify = &profile.notify;
    [&notify.webhook, &notify.ping_start, &notify.ping_success, &notify.ping_failure].iter().any(|url| url.is_some())
}

/// Names times of the schedule that some day of the machine's zone does not have: what systemd begins is left out then.
pub fn times(settings: &Settings, now: &Zoned) -> Vec<Finding> {
    let zone = now.time_zone();
    let is_wanted = |kind: &Periodicity| settings.profiles.values().any(|profile| profile.schedule.contains(kind));
    let skipped = Periodicity::SCHEDULED.into_iter().filter(is_wanted).filter_map(|kind| {
        let time = settings.schedule.skipped(kind, zone, now.date())?;
        let zone = zone.iana_name().unwrap_or("this machine's zone");
        let text = format!(
            "there is no {} in {zone}, for the clock is set forward over it, so the {kind} runs of that day are left out: \
             take another time, as 05:15, which every day has",
            time.strftime("%H:%M on %Y-%m-%d")
        );
        Some(Finding::hint(format!("schedule {kind}"), text))
    });
    skipped.collect()
}

/// Returns what unlocks a repository by its configuration.
pub fn secret_file(repository: &Repository) -> Option<Finding> {
    secrets::check("passphrase", repository.password_file.as_deref()?)
}

/// Compares profiles with one another.
pub fn together(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let profiles: Vec<&Profile> = settings.profiles.values().collect();
    findings.extend(sources::idle_defaults(&profiles));
    for (at, one) in profiles.iter().enumerate() {
        let same = |other: &&&Profile| {
            other.sources == one.sources
                && other.repository == one.repository
                && other.excludes == one.excludes
                && other.exclude_files == one.exclude_files
                && !other.sources.is_empty()
                && !(other.has_databases() || one.has_databases())
        };
        if let Some(other) = profiles[at + 1..].iter().find(same) {
            let text = format!(
                "it backs up the same as `{}`: one profile can have several periodicities, as in \
                 `schedule = [\"hourly\", \"daily\"]`",
                other.name
            );
            findings.push(Finding::hint(&one.name, text));
        }
    }
    findings
}

#[cfg(test)]
mod tests;
