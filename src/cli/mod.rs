//! The command line: one file per command. Only this room prints.

/// Prints a line to standard error, with what could upset a terminal escaped. Unlike std's, it does not panic where
/// nothing can be printed: a log on a full disk must not end a backup.
macro_rules! warn {
    () => { warn!("") };
    ($($text:tt)*) => {{
        use std::io::Write as _;
        // There is no other place to say so.
        let _ = writeln!(std::io::stderr(), "{}", $crate::cli::output::printable(&format!($($text)*)));
    }};
}

/// Prints a closing line to standard output; what is done stays done without it, and how the command ends then is
/// decided at its end.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::cli::stdout::line(format_args!($($text)*))
    };
}

pub mod backup;
pub mod check;
mod complete;
pub mod config;
pub mod configured;
pub mod cost;
pub mod debug;
#[cfg(feature = "mount")]
pub mod demo;
pub mod diff;
pub mod dump;
pub mod find;
pub mod forget;
pub mod forget_place;
pub mod generate;
pub mod init;
pub mod keep;
pub mod key;
pub mod listing;
pub mod ls;
mod manual;
pub mod memory;
#[cfg(feature = "mount")]
pub mod mount;
#[cfg(feature = "mount")]
mod mount_args;
#[cfg(feature = "mount")]
mod mount_background;
#[cfg(feature = "mount")]
pub mod mount_helper;
#[cfg(feature = "mount")]
mod mount_log;
pub mod open;
pub mod output;
pub mod pin;
pub mod progress;
pub mod prune;
pub mod repair;
pub mod restore;
pub mod run;
pub mod schedule;
mod scheduled;
pub mod scope;
#[cfg(feature = "mount")]
mod service;
mod signals;
pub mod snapshots;
pub mod states;
pub mod stats;
pub mod status;
pub mod stdout;
pub mod target;
pub mod telling;
#[cfg(feature = "mount")]
pub mod umount;
mod usage;
mod version;

use crate::error::ErrorKind;
use crate::remote::close_connections;
use clap::{CommandFactory, Parser, Subcommand};
use open::Global;
use std::process::ExitCode;

/// Backups whose history is a file system: snapshots you mount, and restore with cp.
#[derive(Debug, Parser)]
#[command(name = "bakfs", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done; 1 failed, nothing committed (diff: they differ, find: nothing found, check: \
    damage); 2 wrong usage; 3 committed or done, but something could not be read, each named on standard error. With \
    --json a failure is {\"error\": KIND, \"message\": ..., \"exit_code\": ...} on standard output; KIND is one of \
    no-repository, wrong-key, no-key, exchanged, damaged, busy, denied, unreachable, full, not-found, exists, usage, io and \
    others of docs/operations.md."
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See all of it in a minute, on a temporary repository
    #[cfg(feature = "mount")]
    Demo(demo::Args),
    /// Make a repository
    Init(init::Args),
    /// List, add, change and remove the passphrases and keys that open a repository
    Key(key::Args),
    /// Back up files, or standard input
    Backup(backup::Args),
    /// Run profiles of the configuration: dumps, backup, forget, check and prune
    Run(run::Args),
    /// List snapshots
    Snapshots(snapshots::Args),
    /// List what a snapshot holds
    Ls(ls::Args),
    /// Search all snapshots by name
    Find(find::Args),
    /// Write a file's content to standard output
    Dump(dump::Args),
    /// Write files of a snapshot back to a disk
    Restore(restore::Args),
    /// Show what differs between two snapshots
    Diff(diff::Args),
    /// Show how much there is, and how much of it is stored
    Stats(stats::Args),
    /// Show all snapshots as directories
    #[cfg(feature = "mount")]
    Mount(mount::Args),
    /// End a mount
    #[cfg(feature = "mount")]
    Umount(umount::Args),
    /// Check that everything stored is sound
    Check(check::Args),
    /// Hide snapshots that rules do not keep, or that are named
    Forget(forget::Args),
    /// Forget which repository was seen at a place, where another one was put on purpose
    ForgetPlace(forget_place::Args),
    /// Keep a snapshot from being forgotten
    Pin(pin::Args),
    /// Let a pinned snapshot be forgotten again
    Unpin(pin::UnpinArgs),
    /// Give back the room of what no snapshot needs
    Prune(prune::Args),
    /// Make the index name what can be read, and nothing else
    Repair(repair::Args),
    /// Let profiles run by themselves: systemd timers, or a crontab
    Schedule(schedule::Args),
    /// Show, write and test the configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Show what was backed up when, and what is overdue
    Status(status::Args),
    /// Look inside: stored objects decoded, and which packs a path needs
    Debug(debug::Args),
    /// Show what this program is, and which repositories it reads
    Version,
    /// Print a shell's completions
    Completions(generate::CompletionsArgs),
    /// Write the manual pages
    Man(generate::ManArgs),
}

impl Command {
    /// Returns whether what it prints is all that it does.
    fn is_dry_run(&self) -> bool {
        match self {
            Command::Backup(args) => args.dry_run,
            Command::Restore(args) => args.dry_run,
            Command::Forget(args) => args.dry_run,
            Command::Prune(args) => args.dry_run,
            Command::Repair(args) => args.dry_run,
            _ => false,
        }
    }

    fn is_mount(&self) -> bool {
        #[cfg(feature = "mount")]
        return matches!(self, Command::Mount(_));
        #[cfg(not(feature = "mount"))]
        false
    }
}

/// How a command ended; the number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// All was done.
    Done = 0,
    /// It failed, or (diff) the two differ.
    Failed = 1,
    /// The snapshot is committed, or the rest was done, but something could not be read.
    Incomplete = 3,
}

/// Wrong usage, as clap exits with too.
const USAGE: u8 = 2;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // SAFETY: it is the first thing that this process does, and no thread was started.
    unsafe { crate::trust::begin() };
    if let Some(answered) = complete::answer() {
        return match answered {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                warn!("bakfs: {}", error.chain());
                ExitCode::from(if error.kind() == ErrorKind::Usage { USAGE } else { Status::Failed as u8 })
            }
        };
    }
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(message) => {
            warn!("bakfs: {message}");
            return ExitCode::from(USAGE);
        }
    };
    let mut cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(words) => return answer(&plain(&arguments, words), &arguments),
    };
    cli.global.settle();
    start_log(&cli);
    let status = run(&cli);
    signals::yield_to_end();
    // Threads that go on to the very end may hold connections.
    close_connections();
    // A mount has told each thing once, in its log.
    if !cli.command.is_mount() {
        output::tell_rest();
    }
    let status = match (status, stdout::untold()) {
        (Ok(_), Some(untold)) if cli.global.json || cli.command.is_dry_run() => Err(untold.into()),
        (Ok(status), Some(untold)) => {
            // Who has gone wants to hear no more.
            if !untold.is_broken_pipe() {
                warn!("bakfs: warning: {untold}");
            }
            Ok(status)
        }
        (status, _) => status,
    };
    match status {
        // A history that has shrunk is nothing that was done well; a mount shows what there is.
        Ok(Status::Done) if output::is_history_shrunk() && !cli.command.is_mount() => {
            ExitCode::from(Status::Incomplete as u8)
        }
        Ok(status) => ExitCode::from(status as u8),
        Err(error) if stdout::has_reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let text = output::chain(&error);
            let kind = stdout::kind(&error);
            // Wrong usage is told in one line, whatever was typed; programs may have said more.
            let shown = if kind == ErrorKind::Usage { output::readable(text.as_bytes()) } else { text.clone() };
            warn!("bakfs: {shown}");
            let code = if kind == ErrorKind::Usage { USAGE } else { Status::Failed as u8 };
            if cli.global.json {
                tell_error(kind, &text, code);
            }
            ExitCode::from(code)
        }
    }
}

/// Returns a mistake as it would be told where no environment stands for options: clap's usage has each of those as if
/// it were required.
fn plain(arguments: &[std::ffi::OsString], error: clap::Error) -> clap::Error {
    if !error.use_stderr() {
        return error;
    }
    match without_environment(Cli::command()).try_get_matches_from(arguments) {
        // What the environment holds is the mistake.
        Ok(_) => error,
        Err(plain) => plain,
    }
}

fn without_environment(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|argument| argument.env(clap::builder::Resettable::Reset));
    command.mut_subcommands(without_environment)
}

/// Tells programs of a failure, unless a part of a result went to standard output, or nothing goes there.
fn tell_error(kind: ErrorKind, message: &str, code: u8) {
    if kind != ErrorKind::Output && !stdout::was_used() {
        say!("{}", serde_json::json!({ "error": kind.word(), "message": message, "exit_code": code }));
    }
}

/// Prints what was asked for about the program, or says what is wrong with the arguments.
fn answer(words: &clap::Error, arguments: &[std::ffi::OsString]) -> ExitCode {
    use std::io::Write;
    let code = u8::try_from(words.exit_code()).unwrap_or(USAGE);
    let is_json = arguments.iter().any(|argument| argument == "--json");
    let is_help = words.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    let text =
        if words.use_stderr() && !is_help { usage::told(Cli::command(), arguments, words) } else { String::new() };
    let printed = if !text.is_empty() {
        warn!("{text}");
        Ok(())
    } else {
        let shut = !words.use_stderr() && crate::trust::descriptors::is_output_shut();
        let open = if shut { Err(rustix::io::Errno::BADF.into()) } else { Ok(()) };
        open.and_then(|()| words.print()).and_then(|()| std::io::stdout().flush())
    };
    match printed {
        Err(error) if !words.use_stderr() && error.kind() != std::io::ErrorKind::BrokenPipe => {
            warn!("bakfs: Cannot write to standard output: {error}");
            return ExitCode::from(Status::Failed as u8);
        }
        _ if is_json && words.use_stderr() => {
            // What is wrong, in one line: usage and hints are for people.
            let text = if text.is_empty() { words.render().to_string() } else { text };
            let text = text.split("\n\n").next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
            tell_error(ErrorKind::Usage, text.trim_start_matches("error: "), code);
        }
        _ => {}
    }
    ExitCode::from(code)
}

fn start_log(cli: &Cli) {
    #[cfg(feature = "mount")]
    if let Command::Mount(args) = &cli.command
        && args.foreground
    {
        return mount_log::start(cli.global.verbose, args.log.as_deref(), args.say_ready);
    }
    output::start_log(cli.global.verbose);
}

/// Returns this process's arguments, translated where mount(8) has called it.
fn arguments() -> Result<Vec<std::ffi::OsString>, String> {
    let arguments: Vec<_> = std::env::args_os().collect();
    #[cfg(feature = "mount")]
    if let Some(translated) = mount_helper::translate(&arguments) {
        return translated;
    }
    Ok(arguments)
}

fn run(cli: &Cli) -> anyhow::Result<Status> {
    let global = &cli.global;
    global.check()?;
    match &cli.command {
        #[cfg(feature = "mount")]
        Command::Demo(args) => demo::run(args),
        Command::Init(args) => init::run(global, args),
        Command::Debug(args) => debug::run(global, args),
        Command::Key(args) => key::run(global, args),
        Command::Backup(args) => backup::run(global, args),
        Command::Run(args) => run::run(global, args),
        Command::Snapshots(args) => snapshots::run(global, args),
        Command::Ls(args) => ls::run(global, args),
        Command::Find(args) => find::run(global, args),
        Command::Dump(args) => dump::run(global, args),
        Command::Restore(args) => restore::run(global, args),
        Command::Diff(args) => diff::run(global, args),
        Command::Stats(args) => stats::run(global, args),
        #[cfg(feature = "mount")]
        Command::Mount(args) => mount::run(global, args),
        #[cfg(feature = "mount")]
        Command::Umount(args) => umount::run(args),
        Command::Check(args) => check::run(global, args),
        Command::Forget(args) => forget::run(global, args),
        Command::ForgetPlace(args) => forget_place::run(global, args),
        Command::Pin(args) => pin::run(global, args),
        Command::Unpin(args) => pin::run_unpin(global, args),
        Command::Prune(args) => prune::run(global, args),
        Command::Repair(args) => repair::run(global, args),
        Command::Schedule(args) => schedule::run(global, args),
        Command::Config(command) => config::run(global, command),
        Command::Status(args) => status::run(global, args),
        Command::Version => version::run(global),
        Command::Completions(args) => generate::completions(args),
        Command::Man(args) => generate::man(args),
    }
}

#[cfg(test)]
mod tests {
    use super::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
