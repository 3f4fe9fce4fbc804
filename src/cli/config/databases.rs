//! `bakfs config databases`: lists what profiles dump.

use crate::cli::configured::chosen;
use crate::cli::open::Global;
use crate::cli::output::{readable, readable_path, size};
use crate::cli::{Status, stdout};
use crate::database;
use serde_json::json;
use std::io::Write;

/// Options of `bakfs config databases`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 all could be listed, 1 something could not, 2 the configuration cannot be read")]
pub struct Args {
    /// Only this profile's
    #[arg(value_name = "PROFILE", add = crate::cli::complete::profiles())]
    profile: Option<String>,
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    let settings = global.access.settings()?;
    let mut out = std::io::BufWriter::new(stdout::listing(global.json));
    let mut list = Vec::new();
    let mut is_whole = true;
    for profile in chosen(&settings, args.profile.as_slice())?.into_iter().filter(|profile| profile.has_databases()) {
        let (databases, failed) = database::list(profile);
        is_whole &= failed.is_empty();
        if global.json {
            let found = databases.iter().map(|database| {
                json!({ "profile": profile.name, "path": readable_path(&database.path), "bytes": database.bytes })
            });
            list.extend(found);
            list.extend(failed.iter().map(
                |(path, error)| json!({ "profile": profile.name, "path": readable_path(path), "error": error.chain() }),
            ));
            continue;
        }
        for database in &databases {
            let bytes = database.bytes.map_or_else(|| "-".into(), size);
            writeln!(out, "{}  {bytes:>10}  {}", profile.name, readable_path(&database.path))?;
        }
        for (path, error) in &failed {
            warn!("bakfs: {}: {}: {}", profile.name, readable_path(path), readable(error.chain().as_bytes()));
        }
    }
    if global.json {
        writeln!(out, "{}", serde_json::Value::Array(list))?;
    }
    out.flush()?;
    Ok(if is_whole { Status::Done } else { Status::Failed })
}
