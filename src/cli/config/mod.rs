//! `bakfs config`: shows, writes and tests the configuration.

pub mod databases;
pub mod show;

use super::Status;
use super::open::Global;

/// The commands of `bakfs config`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show what the configuration means, with everything that profiles inherit
    Show(show::Args),
    /// List the databases that profiles dump
    Databases(databases::Args),
}

/// Runs the command.
pub fn run(global: &Global, command: &Command) -> anyhow::Result<Status> {
    match command {
        Command::Show(args) => show::run(global, args),
        Command::Databases(args) => databases::run(global, args),
    }
}
