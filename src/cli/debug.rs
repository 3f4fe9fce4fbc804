//! `bakfs debug`: what is stored, decoded.

use super::open::Global;
use super::output::{self, readable, size, tell_warnings};
use super::stdout;
use super::target::Choice;
use super::{Status, scope};
use crate::error::{Error, ErrorKind};
use crate::format::feature::{Feature, Required};
use crate::inspect::{self, Needs};
use crate::quantity::counted;
use crate::repo::Repository;
use crate::repo::features::Recorded;
use crate::store::{Object, ObjectKind};
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::Write;

/// Options of `bakfs debug`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List stored objects with their lengths
    List {
        /// Only those of this kind
        #[arg(value_enum, value_name = "KIND")]
        kind: Option<Kind>,
    },
    /// Print what a stored object says, as JSON
    Cat {
        /// `config`, or an object as `bakfs debug list` has it; the first digits of its name are enough
        #[arg(value_name = "OBJECT")]
        object: String,
    },
    /// Print what each index object names, as JSON lines
    Index,
    /// Print what programs tell one another by marks, as JSON lines
    Marks,
    /// List the features of the repository, also of one that this bakfs must not read
    Features,
    /// Show which packs a path needs, and which of them are not there (`check --read-data` finds those that are damaged)
    Why {
        /// The snapshot, and the path in it
        #[arg(value_name = "SNAP:PATH", add = super::complete::snapshots())]
        target: OsString,
        #[command(flatten)]
        scope: scope::Args,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Keys,
    Packs,
    Index,
    Snapshots,
    Marks,
}

impl Kind {
    fn of_store(self) -> ObjectKind {
        match self {
            Kind::Keys => ObjectKind::Key,
            Kind::Packs => ObjectKind::Pack,
            Kind::Index => ObjectKind::Index,
            Kind::Snapshots => ObjectKind::Snapshot,
            Kind::Marks => ObjectKind::Mark,
        }
    }
}

fn list(global: &Global, repository: &Repository, kind: Option<Kind>) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(stdout::listing(global.json));
    let kinds: Vec<_> = kind.map_or(ObjectKind::ALL.to_vec(), |kind| vec![kind.of_store()]);
    let mut all = Vec::new();
    for kind in kinds {
        let mut listed = repository.store().list(kind)?;
        listed.sort_unstable_by_key(|listed| listed.id);
        for listed in listed {
            let path = kind.object(listed.id).path();
            if global.json {
                all.push(json!({ "object": path, "len_bytes": listed.len_bytes }));
            } else {
                writeln!(out, "{path}  {}", listed.len_bytes)?;
            }
        }
    }
    if global.json {
        writeln!(out, "{}", Value::from(all))?;
    }
    Ok(out.flush()?)
}

/// Prints all objects of a kind; one that cannot be read is named, and the others follow.
fn each(repository: &Repository, kind: ObjectKind, shown: impl Fn(Object, Value) -> Value) -> anyhow::Result<Status> {
    let mut out = std::io::BufWriter::new(stdout::whole());
    let mut status = Status::Done;
    let mut listed = repository.store().list(kind)?;
    listed.sort_unstable_by_key(|listed| listed.id);
    for listed in listed {
        let object = kind.object(listed.id);
        match inspect::object(repository, object) {
            Ok(value) => writeln!(out, "{}", shown(object, value))?,
            Err(error) => {
                warn!("bakfs: {}", error.chain());
                status = Status::Incomplete;
            }
        }
    }
    out.flush()?;
    Ok(status)
}

fn tell_needs(global: &Global, needs: &Needs) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(stdout::listing(global.json));
    if global.json {
        writeln!(out, "{}", output::json(needs))?;
    } else {
        for (id, need) in &needs.packs {
            let chunks = counted(need.chunks, "chunk");
            writeln!(out, "{}  {}  {chunks}, {}", Object::Pack(*id).path(), need.kind_name(), size(need.plain_bytes))?;
        }
        for id in &needs.missing_packs {
            writeln!(out, "missing: {}", Object::Pack(*id).path())?;
        }
        for chunk in &needs.missing {
            writeln!(out, "missing: chunk {}", chunk.to_hex())?;
        }
    }
    Ok(out.flush()?)
}

fn features(global: &Global) -> anyhow::Result<Status> {
    let features = global.access.features()?;
    let mut out = stdout::listing(global.json);
    if global.json {
        writeln!(out, "{}", output::json(&features))?;
    } else {
        for Recorded { feature, records } in &features {
            let Feature { number, name, since, text, .. } = feature;
            let required = match feature.required() {
                Required::ByNobody => "may be unknown".into(),
                required => format!("must be known to {}", required.word()),
            };
            let (name, text, since) =
                (readable(name.as_bytes()), readable(text.as_bytes()), readable(since.as_bytes()));
            let records = counted(*records, "record");
            writeln!(out, "{number}  {name}  {required}  since bakfs {since}  {records}: {text}")?;
        }
    }
    out.flush()?;
    Ok(Status::Done)
}

fn without_chunks(object: Object, mut value: Value) -> Value {
    let chunks = value["chunks"].as_array().map_or(0, Vec::len);
    value["chunks"] = chunks.into();
    value["object"] = object.path().into();
    value
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    if matches!(args.command, Command::Features) {
        return features(global);
    }
    let repository = global.open()?;
    let status = match &args.command {
        Command::List { kind } => list(global, &repository, *kind).map(|()| Status::Done)?,
        Command::Cat { object } => {
            let object = inspect::find(&repository, object)?;
            let value = inspect::object(&repository, object)?;
            let mut out = stdout::whole();
            writeln!(out, "{}", serde_json::to_string_pretty(&value)?)?;
            out.flush()?;
            Status::Done
        }
        Command::Index => each(&repository, ObjectKind::Index, without_chunks)?,
        Command::Marks => {
            each(&repository, ObjectKind::Mark, |object, value| json!({ "object": object.path(), "says": value }))?
        }
        // It opens nothing.
        Command::Features => Status::Done,
        Command::Why { target, scope } => {
            let choice = Choice::new(&repository, scope.scope()?)?;
            let target = choice.target(target)?;
            let snapshot = repository.snapshot(target.listed.id)?;
            let Some(needs) = inspect::why(&repository, &snapshot, &target.path)? else {
                let shown = readable(&target.path).to_string();
                return Err(Error::new(ErrorKind::NotFound, format!("The snapshot has no {shown}: `bakfs ls`")).into());
            };
            tell_needs(global, &needs)?;
            if needs.missing.is_empty() && needs.missing_packs.is_empty() { Status::Done } else { Status::Failed }
        }
    };
    tell_warnings(&repository);
    Ok(status)
}
