//! The command line: one file per command. Only this room prints.

/// Prints a line to standard error. Unlike std's, it does not panic where nothing can be printed: a log on a
/// full disk must not end a backup.
macro_rules! eprintln {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        // There is no other place to say so.
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

/// Prints a closing line to standard output; like [`eprintln`], what is done stays done without it.
macro_rules! println {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

pub mod backup;
pub mod check;
pub mod config;
pub mod configured;
pub mod cost;
#[cfg(feature = "mount")]
pub mod demo;
pub mod diff;
pub mod dump;
pub mod find;
pub mod folders;
pub mod forget;
pub mod forget_place;
pub mod generate;
pub mod init;
pub mod keep;
pub mod known;
pub mod listing;
pub mod ls;
pub mod memory;
#[cfg(feature = "mount")]
pub mod mount;
#[cfg(feature = "mount")]
mod mount_background;
#[cfg(feature = "mount")]
pub mod mount_helper;
#[cfg(feature = "mount")]
mod mount_keeper;
#[cfg(feature = "mount")]
mod mount_log;
#[cfg(feature = "mount")]
pub mod mount_point;
pub mod open;
pub mod output;
pub mod pin;
pub mod prune;
pub mod repair;
pub mod restore;
pub mod run;
pub mod schedule;
pub mod scope;
#[cfg(feature = "mount")]
mod service;
pub mod snapshots;
pub mod stats;
pub mod status;
pub mod target;

use clap::{Parser, Subcommand};
use open::Global;
use std::process::ExitCode;

/// Backups whose history is a file system: snapshots you mount, and restore with cp.
#[derive(Debug, Parser)]
#[command(name = "bakfs", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
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
    Umount(mount_point::UmountArgs),
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
    /// Print a shell's completions
    Completions(generate::CompletionsArgs),
    /// Write the manual pages
    Man(generate::ManArgs),
}

impl Command {
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
    let cli = match arguments() {
        Ok(arguments) => Cli::parse_from(arguments),
        Err(message) => {
            eprintln!("bakfs: {message}");
            return ExitCode::from(USAGE);
        }
    };
    start_log(&cli);
    let status = run(&cli);
    // A mount has told each thing once, in its log.
    if !cli.command.is_mount() {
        output::tell_rest();
    }
    match status {
        // A history that has shrunk is nothing that was done well; a mount shows what there is.
        Ok(Status::Done) if output::is_history_shrunk() && !cli.command.is_mount() => {
            ExitCode::from(Status::Incomplete as u8)
        }
        Ok(status) => ExitCode::from(status as u8),
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bakfs: {}", output::chain(&error));
            let usage = error
                .downcast_ref::<crate::error::Error>()
                .is_some_and(|error| error.kind() == crate::error::ErrorKind::Usage);
            ExitCode::from(if usage { USAGE } else { Status::Failed as u8 })
        }
    }
}

fn start_log(cli: &Cli) {
    #[cfg(feature = "mount")]
    if let Command::Mount(args) = &cli.command
        && args.foreground
    {
        return mount_log::start(cli.global.verbose, args.log.as_deref());
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
    match &cli.command {
        #[cfg(feature = "mount")]
        Command::Demo(args) => demo::run(args),
        Command::Init(args) => init::run(global, args),
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
        Command::Umount(args) => mount_point::run_umount(args),
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
        Command::Completions(args) => generate::completions(args),
        Command::Man(args) => generate::man(args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
