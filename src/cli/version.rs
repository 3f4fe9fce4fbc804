//! `bakfs version`: what this program is, and which repositories it reads.

use super::open::Global;
use super::{Status, output, stdout};
use crate::version::Version;
use std::io::Write;

/// Runs the command.
pub fn run(global: &Global) -> anyhow::Result<Status> {
    let version = Version::of_program();
    let mut out = stdout::listing(global.json);
    if global.json {
        writeln!(out, "{}", output::json(&version))?;
    } else {
        let Version { version, commit, formats, repository_features, features } = version;
        let numbers = |all: Vec<String>| if all.is_empty() { "none".into() } else { all.join(", ") };
        let versions = |all: Vec<u8>| numbers(all.iter().map(u8::to_string).collect());
        writeln!(out, "bakfs {version}")?;
        writeln!(out, "Commit    {}", commit.unwrap_or("not told to the build"))?;
        writeln!(out, "Reads     objects of format versions {}", versions(formats.read))?;
        writeln!(out, "Writes    objects of format versions {}", versions(formats.written))?;
        let known = numbers(repository_features.iter().map(u32::to_string).collect());
        writeln!(out, "Knows     features of repositories: {known}")?;
        writeln!(out, "Built in  {}", numbers(features.iter().map(|name| name.to_string()).collect()))?;
    }
    out.flush()?;
    Ok(Status::Done)
}
