//! `bakfs forget-place`: makes this machine forget which repository it has seen at a place.

use super::Status;
use super::open::Global;
use super::output::{json, readable};

/// Options of `bakfs forget-place`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Another repository at a place, or one that is not encrypted any more, is refused until its place \
    is forgotten: whoever can write there may have exchanged it. Nothing at the place is touched, and key files stay.\n\n\
    Exits with 1 if nothing was known."
)]
pub struct Args {}

/// Runs the command.
pub fn run(global: &Global, _args: &Args) -> anyhow::Result<Status> {
    let forgotten = global.access.forget_place()?;
    if global.json {
        say!("{}", json(&forgotten));
    } else if !global.quiet {
        for forgotten in &forgotten {
            say!("Forgot {}: it was {}", readable(forgotten.place.as_bytes()), forgotten.identity);
        }
    }
    if forgotten.is_empty() {
        warn!("bakfs: Nothing is known of {}", readable(global.access.place()?.to_string().as_bytes()));
        return Ok(Status::Failed);
    }
    Ok(Status::Done)
}
