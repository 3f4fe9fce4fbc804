//! `bakfs config`: shows, writes and tests the configuration.

pub mod check;
pub mod databases;
mod draft;
pub mod init;
pub mod show;

use super::Status;
use super::open::Global;

/// The commands of `bakfs config`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Test everything for real, and say what to mend
    Check(check::Args),
    /// Write a commented configuration that fits this machine
    Init(init::Args),
    /// Show what the configuration means, with everything that profiles inherit
    Show(show::Args),
    /// List the databases that profiles dump
    Databases(databases::Args),
}

/// Runs the command.
pub fn run(global: &Global, command: &Command) -> anyhow::Result<Status> {
    match command {
        Command::Check(args) => check::run(global, args),
        Command::Init(args) => init::run(global, args),
        Command::Show(args) => show::run(global, args),
        Command::Databases(args) => databases::run(global, args),
    }
}
