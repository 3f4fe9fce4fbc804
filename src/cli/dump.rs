//! `bakfs dump`: a file's content, or a folder as an archive, to standard output.

use super::open::Global;
use super::output::{readable, tell_warnings};
use super::progress::Progress;
use super::stdout::{self, Stdout};
use super::target::Choice;
use super::{Status, scope};
use crate::dump;
use crate::error::{Error, ErrorKind};
use crate::format::tree::Node;
use clap::ValueEnum;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::AsFd;

/// Options of `bakfs dump`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The snapshot, and the path in it
    #[arg(value_name = "SNAP:PATH", add = super::complete::snapshots())]
    target: OsString,
    /// Write an archive of it and everything below
    #[arg(long, value_enum, value_name = "FORMAT")]
    archive: Option<Archive>,
    /// Take `latest`, a day or a time for what is left although snapshots are missing that were here
    #[arg(long)]
    accept_missing: bool,
    #[command(flatten)]
    scope: scope::Args,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Archive {
    /// As GNU tar reads it with --xattrs
    Tar,
}

/// The pipe to the next program is made as large as this, where the system allows it.
const PIPE_BYTES: usize = 1 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// Opens standard output without Rust's line buffer.
fn open_stdout() -> std::io::Result<Stdout<File>> {
    let out = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    // Only a pipe has a size, and a smaller one works too.
    let _ = rustix::pipe::fcntl_setpipe_size(&out, PIPE_BYTES);
    Ok(stdout::whole_to(out))
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    let repository = global.open()?;
    let choice = Choice::new(&repository, args.scope.scope()?)?.accepting(args.accept_missing);
    let target = choice.target(&args.target)?;
    // An archive holds links as they are.
    let target = if args.archive.is_none() { choice.followed(target) } else { target };
    target.require_certain(&repository, args.accept_missing)?;
    if global.verbose > 0 {
        target.tell("Reading");
        target.warn_of_others();
    }
    let entry = choice.entry(&target)?;
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let path = readable(crate::repo::read::walk::shown_path(&target.path));
    let dumped = match (&entry.node, args.archive) {
        (_, Some(Archive::Tar)) => {
            let mut out = BufWriter::with_capacity(BUFFER_BYTES, open_stdout()?);
            let progress = Progress::new("Archiving", false);
            dump::archive(&repository, &target.listed.snapshot, &target.path, &entry, threads, &progress, &mut out)
                .and_then(|lacking| match out.flush() {
                    Ok(()) => Ok(if lacking == 0 { Status::Done } else { Status::Incomplete }),
                    Err(error) => Err(Error::io("Cannot write the archive", error)),
                })
        }
        (Node::File(content), None) => {
            dump::file(&repository, content, entry.meta.size_bytes, threads, &mut open_stdout()?).map(|()| Status::Done)
        }
        (Node::Directory(_), None) => {
            let message =
                format!("{path} is a directory: add `--archive tar`, or write it to disk with `bakfs restore`");
            return Err(Error::usage(message).into());
        }
        (_, None) => return Err(Error::usage(format!("{path} is no regular file: it has no content")).into()),
    };
    repository.note_reads();
    tell_warnings(&repository);
    let status = dumped.map_err(|error| match error.kind() {
        ErrorKind::Damaged => Error::damaged(format!("The content of {path} cannot be read whole")).because(error),
        _ => error,
    })?;
    Ok(status)
}
