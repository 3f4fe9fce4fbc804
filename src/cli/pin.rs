//! `bakfs pin` and `bakfs unpin`: snapshots that no rule and no hand forgets.

use super::open::Global;
use super::output::{counted, tell_warnings};
use super::target::Choice;
use super::{Status, scope};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ObjectId;
use crate::repo::Repository;
use std::ffi::OsString;
use std::io::IsTerminal;

/// Options of `bakfs pin`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The snapshot: its name, `latest`, or the beginning of its id
    #[arg(value_name = "SNAP", add = super::complete::snapshots())]
    snapshot: OsString,
    /// Why, for whoever wonders later
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    scope: scope::Args,
}

/// Options of `bakfs unpin`.
#[derive(Debug, clap::Args)]
pub struct UnpinArgs {
    /// The snapshot: its name, `latest`, or the beginning of its id
    #[arg(value_name = "SNAP", add = super::complete::snapshots())]
    snapshot: OsString,
    #[command(flatten)]
    scope: scope::Args,
}

/// The longest reason, in bytes.
const MAX_REASON_BYTES: usize = 1000;

fn find(repository: &Repository, scope: &scope::Args, name: &OsString) -> Result<(ObjectId, String)> {
    let choice = Choice::new(repository, scope.scope()?)?;
    let listed = choice.exact(name)?;
    Ok((listed.id, choice.shown_name(listed)))
}

fn tell(global: &Global, name: &str, id: ObjectId, is_pinned: bool, reason: &str) {
    if global.json {
        say!("{}", serde_json::json!({ "snapshot": name, "id": id.to_hex(), "pinned": is_pinned, "reason": reason }));
    } else if !global.quiet && (std::io::stdout().is_terminal() || global.verbose > 0) {
        say!("{name} is {}", if is_pinned { "pinned" } else { "not pinned any more" });
    }
}

/// Runs `bakfs pin`.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    if args.reason.len() > MAX_REASON_BYTES {
        let message =
            format!("--reason is {} long: {MAX_REASON_BYTES} are the most", counted(args.reason.len(), "byte"));
        return Err(Error::usage(message).into());
    }
    let repository = global.open()?;
    let (id, name) = find(&repository, &args.scope, &args.snapshot)?;
    repository.pin(id, &args.reason)?;
    tell(global, &name, id, true, &args.reason);
    Ok(if tell_warnings(&repository) > 0 { Status::Incomplete } else { Status::Done })
}

/// Runs `bakfs unpin`.
pub fn run_unpin(global: &Global, args: &UnpinArgs) -> anyhow::Result<Status> {
    let repository = global.open()?;
    let (id, name) = find(&repository, &args.scope, &args.snapshot)?;
    if !repository.unpin(id)? {
        return Err(Error::new(ErrorKind::NotFound, format!("{name} is not pinned")).into());
    }
    tell(global, &name, id, false, "");
    Ok(if tell_warnings(&repository) > 0 { Status::Incomplete } else { Status::Done })
}
