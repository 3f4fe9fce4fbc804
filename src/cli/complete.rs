//! What a shell is told when somebody presses Tab: commands and options, and the snapshots, profiles, tags and hosts that
//! there are. It never asks for a passphrase, runs no command for one, starts no ssh, and says nothing where it cannot know.

use super::open::Global;
use super::{Cli, stdout};
use crate::error::{Error, ErrorKind, Result};
use crate::place::{Place, Remote};
use crate::repo::Memory;
use crate::repo::index::load::IndexLoad;
use crate::repo::shared::listed::ListedSnapshot;
use crate::repo::shared::names;
use clap::{CommandFactory, FromArgMatches};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{Bash, EnvCompleter, Fish, Shells, Zsh};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::sync::mpsc;
use std::time::Duration;

/// The variable by which a shell's script asks; its value is the shell.
const VARIABLE: &str = "BAKFS_COMPLETE";
/// Who has pressed a key does not wait longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The shells that are known.
const SHELLS: Shells<'static> = Shells(&[&Bash, &Zsh, &Fish]);

/// A shell.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Shell {
    /// bash(1)
    Bash,
    /// zsh(1)
    Zsh,
    /// fish(1)
    Fish,
}

impl Shell {
    /// Writes the script that has a shell ask this program.
    pub fn script(self) -> std::io::Result<Vec<u8>> {
        let completer: &dyn EnvCompleter = match self {
            Shell::Bash => &Bash,
            Shell::Zsh => &Zsh,
            Shell::Fish => &Fish,
        };
        let mut script = Vec::new();
        completer.write_registration(VARIABLE, "bakfs", "bakfs", "bakfs", &mut script)?;
        Ok(script)
    }
}

/// Answers a shell, where one asks; `None` where this is a command.
pub fn answer() -> Option<Result<()>> {
    let shell = std::env::var_os(VARIABLE)?;
    let told = || -> Result<()> {
        let unknown = || Error::usage(format!("{VARIABLE}={} is no shell that is known: unset it", shell.display()));
        let completer = SHELLS.completer(&shell.to_string_lossy()).ok_or_else(unknown)?;
        let words = words();
        let failed = |error: std::io::Error| Error::new(ErrorKind::Io, format!("Cannot complete: {error}"));
        if words.is_empty() {
            return Err(Error::usage(format!(
                "{VARIABLE} is for shells: run `bakfs completions --help`, and unset it"
            )));
        }
        let mut command = Cli::command();
        command.build();
        let mut text = Vec::new();
        completer
            .write_complete(&mut command, words, std::env::current_dir().ok().as_deref(), &mut text)
            .map_err(failed)?;
        let mut out = stdout::whole();
        out.write_all(&text).and_then(|()| out.flush()).map_err(failed)
    };
    Some(told())
}

/// Returns the words of the line that is completed: what follows `--`.
fn words() -> Vec<OsString> {
    std::env::args_os().skip_while(|word| word != "--").skip(1).collect()
}

/// Completes names of snapshots.
pub fn snapshots() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let Some(typed) = plain(current) else { return Vec::new() };
        let known = known(|global| {
            let snapshots = snapshots_of(&global)?;
            let about = |listed: &ListedSnapshot| {
                let snapshot = &listed.snapshot;
                format!(
                    "{} {}",
                    snapshot.host,
                    snapshot.tags.iter().map(|tag| format!("#{tag}")).collect::<Vec<_>>().join(" ")
                )
            };
            let named = names::shown(&snapshots).into_iter().zip(snapshots.iter().map(about));
            let mut all = vec![(String::from("latest"), String::from("the newest"))];
            all.extend(["today", "yesterday"].map(|day| (day.to_string(), String::from("the newest of that day"))));
            // The newest are meant most often.
            all.extend(named.collect::<Vec<_>>().into_iter().rev());
            let profiles = global.access.settings().map(|settings| settings.profiles).unwrap_or_default();
            all.extend(
                profiles.into_keys().map(|name| (format!("{name}/latest"), String::from("the newest of a profile"))),
            );
            Some(all)
        });
        let order = |(at, candidate): (usize, CompletionCandidate)| candidate.display_order(Some(at));
        candidates(known, typed).into_iter().enumerate().map(order).collect()
    })
}

/// Completes tags that snapshots have.
pub fn tags() -> ArgValueCompleter {
    of_snapshots(|listed| listed.snapshot.tags.clone())
}

/// Completes hosts that snapshots are of.
pub fn hosts() -> ArgValueCompleter {
    of_snapshots(|listed| vec![listed.snapshot.host.clone()])
}

/// Completes profiles of the configuration.
pub fn profiles() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let Some(typed) = plain(current) else { return Vec::new() };
        let known = known(|global| {
            let profiles = global.access.settings().ok()?.profiles;
            let about = |sources: &[std::path::PathBuf]| {
                sources.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
            };
            Some(profiles.into_iter().map(|(name, profile)| (name, about(&profile.sources))).collect())
        });
        candidates(known, typed)
    })
}

fn of_snapshots(of: fn(&ListedSnapshot) -> Vec<String>) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| {
        let Some(typed) = plain(current) else { return Vec::new() };
        let known = known(move |global| {
            let all: BTreeSet<String> = snapshots_of(&global)?.iter().flat_map(of).collect();
            Some(all.into_iter().map(|word| (word, String::new())).collect())
        });
        candidates(known, typed)
    })
}

/// Returns what was typed so far; `None` where it is beyond a name, as a path in a snapshot.
fn plain(current: &OsStr) -> Option<&str> {
    current.to_str().filter(|typed| !typed.contains(':'))
}

fn candidates(known: Vec<(String, String)>, typed: &str) -> Vec<CompletionCandidate> {
    // What a shell would take for more than a word, or for something else, is no candidate.
    let is_meant = |c: char| c.is_alphanumeric() || "._-/+@%,".contains(c);
    let is_plain = |word: &String| word.chars().all(is_meant) && !word.starts_with('-');
    let known = known.into_iter().filter(|(word, _)| word.starts_with(typed) && is_plain(word));
    let candidate = |(word, about): (String, String)| {
        let about = super::output::printable(&about);
        CompletionCandidate::new(word).help((!about.trim().is_empty()).then(|| about.into()))
    };
    known.map(candidate).collect()
}

/// Asks for what there is, with the options of the line; nothing where it takes too long.
fn known(ask: impl FnOnce(Global) -> Option<Vec<(String, String)>> + Send + 'static) -> Vec<(String, String)> {
    let Some(mut global) = global() else { return Vec::new() };
    global.settle();
    global.access.prompt = None;
    global.quiet = true;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // Who has waited too long hears nothing.
        let _ = sender.send(ask(global));
    });
    receiver.recv_timeout(PATIENCE).ok().flatten().unwrap_or_default()
}

/// Reads the options of a line that is not yet whole.
fn global() -> Option<Global> {
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(words()).ok()?;
    Global::from_arg_matches(&matches).ok()
}

fn snapshots_of(global: &Global) -> Option<Vec<ListedSnapshot>> {
    let access = &global.access;
    // Processes of ssh would outlive this one, which may leave in the midst.
    if matches!(access.place(), Err(_) | Ok(Place::Remote(Remote::Sftp { .. }))) {
        return None;
    }
    let chosen = access.chosen().ok()?;
    if access.password_command.is_some() || access.password_file.is_none() && chosen.password_command.is_some() {
        return None;
    }
    let mut unlocked = access.unlock().ok()?;
    let repository = access.load(&mut unlocked, Memory::SMALL, IndexLoad::OnDemand).ok()?;
    repository.snapshots().ok()
}
