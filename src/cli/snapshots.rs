//! `bakfs snapshots`: lists what there is.

use super::Status;
use super::open::Global;
use super::output::{count, json_text, readable, size, tell_warnings};
use crate::repo::names;
use std::io::Write;

/// Options of `bakfs snapshots`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only those of a host
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Only those with a tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    let repository = global.open()?;
    let snapshots = repository.snapshots()?;
    let names = names::shown(&snapshots);
    let marks = repository.marks()?;
    let pins = marks.pins();
    let wanted = snapshots.iter().zip(&names).filter(|(listed, _)| {
        args.host.as_ref().is_none_or(|host| listed.snapshot.host == *host)
            && args.tag.as_ref().is_none_or(|tag| listed.snapshot.tags.contains(tag))
    });
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if global.json {
        let list: Vec<_> = wanted
            .map(|(listed, name)| {
                let snapshot = &listed.snapshot;
                serde_json::json!({
                    "name": name,
                    "id": listed.id.to_hex(),
                    "time": names::timestamp(snapshot.time).to_string(),
                    "host": snapshot.host,
                    "tags": snapshot.tags,
                    "paths": snapshot.sources.iter().map(|path| json_text(path)).collect::<Vec<_>>(),
                    "files": snapshot.root.total_files,
                    "content_bytes": snapshot.root.total_bytes,
                    "packed_bytes": snapshot.summary.packed_bytes,
                    "errors": snapshot.summary.errors,
                    "pinned": pins.contains_key(&listed.id),
                    "pin_reason": pins.get(&listed.id).map(|pin| pin.reason),
                })
            })
            .collect();
        writeln!(out, "{}", serde_json::Value::Array(list))?;
    } else {
        for (listed, name) in wanted {
            let snapshot = &listed.snapshot;
            let paths: Vec<_> = snapshot.sources.iter().map(|path| readable(path)).collect();
            let tags = snapshot.tags.iter().map(|tag| format!(" #{}", readable(tag.as_bytes()))).collect::<String>();
            let errors = if snapshot.summary.errors > 0 {
                format!("  {} errors", snapshot.summary.errors)
            } else {
                String::new()
            };
            let pin = if pins.contains_key(&listed.id) { "  pinned" } else { "" };
            writeln!(
                out,
                "{name}  {}  {:>9} files  {:>10}  +{:<10}  {}{tags}{errors}{pin}",
                readable(snapshot.host.as_bytes()),
                count(snapshot.root.total_files),
                size(snapshot.root.total_bytes),
                size(snapshot.summary.packed_bytes),
                paths.join(" "),
            )?;
        }
    }
    out.flush()?;
    Ok(if tell_warnings(&repository) > 0 { Status::Incomplete } else { Status::Done })
}
