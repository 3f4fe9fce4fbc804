//! `bakfs config init`: writes a configuration that fits this machine.

use super::draft::{Draft, draft};
use crate::cli::configured::machine;
use crate::cli::open::Global;
use crate::cli::output::readable_path;
use crate::cli::{Status, stdout};
use crate::error::{Error, ErrorKind};
use crate::machine::Machine;
use crate::machine::survey::{Budget, Scope, survey};
use crate::settings::excludes::BUILT_IN;
use crate::source::exclude::Excludes;
use crate::state::{Readers, write_whole};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// The walk for SQLite databases ends after so many entries, or after so long.
const MAX_ENTRIES: u64 = 1_000_000;
const MAX_WALK: Duration = Duration::from_secs(30);
/// Where applications of a server keep their databases.
const PLACES: [&str; 5] = ["/srv", "/var/www", "/var/lib", "/home", "/opt"];

/// Options of `bakfs config init`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write over a configuration that is there
    #[arg(long)]
    force: bool,
    /// Print it instead
    #[arg(long)]
    print: bool,
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    let path = global.access.config_path();
    if !args.print && !args.force && path.symlink_metadata().is_ok() {
        let shown = path.display();
        let message = format!("There is a configuration {shown} already: change it, or write over it with --force");
        return Err(Error::new(ErrorKind::Exists, message).into());
    }
    let repo = global.access.first_place()?.to_string();
    let is_root = rustix::process::geteuid().is_root();
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let text = match (is_root, home) {
        (false, Some(home)) => {
            draft(&Draft { repo, sqlite: sqlite(std::slice::from_ref(&home)), ..Draft::of_home(home) })
        }
        _ => draft(&of_machine(repo, &machine())),
    };
    if args.print {
        stdout::whole().write_all(text.as_bytes())?;
        return Ok(Status::Done);
    }
    write_whole(&path, text.as_bytes(), Readers::Owner)?;
    if !global.quiet {
        warn!("Wrote {}: read it, test everything with `bakfs config check`,", readable_path(&path));
        warn!("and make the repository with `bakfs init`.");
    }
    Ok(Status::Done)
}

fn of_machine(repo: String, machine: &Machine) -> Draft {
    let places = PLACES.map(|place| machine.path(place));
    Draft {
        repo,
        name: "machine",
        sources: vec![machine.path("/")],
        postgresql: machine.postgresql(),
        mysql: machine.mysql(),
        sqlite: sqlite(&places),
        web_roots: machine.web_roots(),
    }
}

/// Finds SQLite databases, but not those that programs hide in a user's home.
fn sqlite(sources: &[PathBuf]) -> Vec<PathBuf> {
    let globs: Vec<String> = BUILT_IN.iter().map(|(glob, _)| glob.to_string()).chain([".*".to_string()]).collect();
    let excludes = Excludes::new(&globs, &[]).unwrap_or_default();
    let root = machine().path("/");
    let scope = Scope { sources, excludes: &excludes, exclude_caches: true, root: &root, min_bytes: u64::MAX };
    survey(&scope, &mut Budget::new(MAX_ENTRIES, MAX_WALK)).sqlite
}
