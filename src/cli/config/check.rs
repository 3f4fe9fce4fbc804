//! `bakfs config check`: tries everything for real, and says what to mend.

use crate::access::folders::config_folder;
use crate::access::folders::{log_dir, state_dir};
use crate::audit::{self, Finding, Severity, secrets, space};
use crate::cli::configured::{chosen, machine};
use crate::cli::open::Global;
use crate::cli::output::readable;
use crate::cli::{Status, scheduled, stdout};
use crate::error::{Error, ErrorKind, Result};
use crate::id::RepositoryId;
use crate::machine::survey::Budget;
use crate::notify;
use crate::remote::CREDENTIALS_FILE;
use crate::repo::index::load::IndexLoad;
use crate::repo::{Memory, Repository};
use crate::schedule;
use crate::settings::{Profile, Settings};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The walk over what is backed up ends after so many entries, or after so long.
const MAX_ENTRIES: u64 = 2_000_000;
const MAX_WALK: Duration = Duration::from_secs(60);

/// What may be done about a history that has shrunk.
const TAKE: &str = "take what is left by `bakfs prune --accept-missing`";

/// Options of `bakfs config check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 all is well, 1 something must be mended, 2 the configuration cannot be read")]
pub struct Args {
    /// Only these profiles
    #[arg(value_name = "PROFILE", add = crate::cli::complete::profiles())]
    profiles: Vec<String>,
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    let settings = global.access.settings()?;
    let profiles = chosen(&settings, &args.profiles)?;
    let mut findings = audit::files(&settings);
    if profiles.is_empty() {
        let text = "it has no profile: add one, as `[profile.machine]` with `sources = [\"/\"]`";
        findings.push(Finding::hint("configuration", text));
    }
    findings.push(space::access("folder of states", &state_dir(&settings)));
    findings.push(space::access("folder of logs", &log_dir(&settings)));
    if let Some(folder) = settings.metrics_file.as_deref().and_then(Path::parent) {
        findings.push(space::access("metrics file", folder));
    }
    let mut seen = BTreeSet::new();
    for profile in profiles.iter().filter(|profile| seen.insert(&profile.repository)) {
        findings.extend(repository(global, &settings, profile));
    }
    let mut budget = Budget::new(MAX_ENTRIES, MAX_WALK);
    for profile in &profiles {
        findings.extend(audit::profile(profile, &machine(), &mut budget));
        findings.extend(notifications(profile));
    }
    findings.extend(audit::together(&settings));
    findings.extend(schedules(global, &settings));
    #[cfg(feature = "mount")]
    if machine().is_walked_by_updatedb(crate::machine::updatedb::FS_TYPE) {
        findings.push(Finding::hint("updatedb", crate::cli::umount::PRUNE));
    }
    // Repositories may share a file.
    let mut told = BTreeSet::new();
    findings.retain(|finding| told.insert((finding.subject.clone(), finding.text.clone())));
    tell(global, &findings)?;
    let is_well = findings.iter().all(|finding| finding.severity < Severity::Problem);
    Ok(if is_well { Status::Done } else { Status::Failed })
}

/// Tries what a profile tells people by.
fn notifications(profile: &Profile) -> Vec<Finding> {
    let tried = notify::check(&profile.notify).into_iter().map(|(what, error)| {
        let subject = format!("{}: {what}", profile.name);
        match error {
            Some(error) => Finding::problem(&subject, error.chain()),
            None => Finding::fine(&subject, "can be reached"),
        }
    });
    tried.collect()
}

/// Looks whether scheduled runs are installed, as they would be now.
fn schedules(global: &Global, settings: &Settings) -> Vec<Finding> {
    let entries = scheduled::invocation(global, settings).and_then(|as_here| schedule::installed(settings, &as_here));
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) => return vec![Finding::problem("schedule", error.chain())],
    };
    let told = entries.iter().map(|entry| {
        let subject = format!("schedule {}", entry.periodicity);
        match entry.advice() {
            None => Finding::fine(&subject, "is installed"),
            Some(advice) => Finding::hint(&subject, advice),
        }
    });
    let jitter_secs = settings.schedule.jitter_secs;
    let is_longer = |hours: i64| i64::try_from(jitter_secs).is_ok_and(|secs| secs >= hours * 3600);
    let overtaken =
        entries.iter().filter(|entry| entry.periodicity.longest_hours().is_some_and(is_longer)).map(|entry| {
            let text = format!("runs may begin later than the next {} ones: write a shorter one", entry.periodicity);
            Finding::problem("jitter", text)
        });
    told.chain(overtaken).chain(audit::times(settings, &jiff::Zoned::now())).collect()
}

fn tell(global: &Global, findings: &[Finding]) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(stdout::whole());
    if global.json {
        let all = findings.iter().map(
            |finding| json!({ "severity": finding.severity.word(), "subject": finding.subject, "text": finding.text }),
        );
        writeln!(out, "{}", serde_json::Value::Array(all.collect()))?;
        return out.flush();
    }
    let least = match () {
        () if global.quiet => Severity::Problem,
        () if global.verbose > 0 || std::io::stdout().is_terminal() => Severity::Fine,
        () => Severity::Hint,
    };
    for finding in findings.iter().filter(|finding| finding.severity >= least) {
        let [subject, text] = [&finding.subject, &finding.text].map(|text| readable(text.as_bytes()));
        writeln!(out, "{:<7}  {subject}: {text}", finding.severity.word())?;
    }
    out.flush()
}

/// Opens a profile's repository as its runs will, without anybody to ask.
fn repository(global: &Global, settings: &Settings, profile: &Profile) -> Vec<Finding> {
    let repository = settings.repository_of(profile);
    let global = global.for_repository(repository);
    let named = profile.repository.as_ref().map_or("repository".into(), |name| format!("repository {name}"));
    let place = match global.access.place() {
        Ok(place) => place,
        Err(error) => return vec![Finding::problem(named, error.chain())],
    };
    let subject = format!("{named} {place}");
    let mut findings: Vec<Finding> = audit::secret_file(repository).into_iter().collect();
    let credentials = std::env::var_os(CREDENTIALS_FILE).map(PathBuf::from);
    let credentials = credentials.unwrap_or_else(|| config_folder().join("credentials.toml"));
    findings.extend(secrets::check("credentials", &credentials));
    match open(&global) {
        Ok(opened) => {
            findings.extend(secrets::check("key", &global.access.key_path(&opened.id())));
            let missing = opened.missing_snapshots().map(|_| opened.require_no_missing("it lacks snapshots", TAKE));
            findings.extend(missing.flatten().err().map(|error| Finding::problem(&subject, error.chain())));
            let warnings = opened.take_warnings();
            if warnings.is_empty() {
                findings.push(Finding::fine(&subject, "can be opened"));
            }
            findings.extend(warnings.into_iter().map(|warning| Finding::hint(&subject, warning)));
        }
        Err(error) if error.kind() == ErrorKind::NoRepository => {
            let option = profile.repository.as_ref().map_or(String::new(), |name| format!("--repo {name} "));
            let text = match global.access.missed() {
                Some(missed) => missed,
                None => format!("there is none yet: `bakfs {option}init` makes it"),
            };
            findings.push(Finding::problem(&subject, text));
        }
        Err(error) => findings.push(Finding::problem(&subject, error.chain())),
    }
    if let Some(folder) = place.folder() {
        findings.push(space::check(&format!("{subject}: room"), folder));
        findings.push(space::access(&format!("{subject}: access"), folder));
    }
    findings
}

fn open(global: &Global) -> Result<Repository> {
    // A run has nobody who could type a passphrase.
    let credentials = |id: &RepositoryId| match global.access.given_credential()? {
        Some(given) => Ok(vec![given]),
        None if !global.access.key_path(id).exists() => {
            let message = format!(
                "nothing here unlocks it: there is no key file {}. Copy it there, or name a `password-file` or \
                 `password-command`",
                global.access.key_path(id).display()
            );
            Err(Error::new(ErrorKind::Locked, message))
        }
        None => global.access.credentials(id),
    };
    let mut unlocked = global.access.unlock_by(credentials)?;
    global.access.load(&mut unlocked, Memory::default(), IndexLoad::OnDemand)
}
