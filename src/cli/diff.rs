//! `bakfs diff`: what differs between two snapshots.

use super::listing::{JsonArray, Out};
use super::open::Global;
use super::output::{count, readable, tell_warnings};
use super::target::{Choice, clean_path};
use super::{Status, scope};
use crate::diff::{self, Change, Kind, Sink};
use crate::error::{Context, Error, ErrorKind, Result};
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

/// Options of `bakfs diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Each line is a letter and a path: + added, - removed, M content changed, \
    U only metadata changed, T another type. With -v, metadata that merely follows from other changes counts \
    too. Exits with 0 if nothing differs, 1 if something does, 3 if something could not be read.")]
pub struct Args {
    /// The first snapshot
    #[arg(value_name = "A", add = super::complete::snapshots())]
    before: OsString,
    /// The second snapshot
    #[arg(value_name = "B", add = super::complete::snapshots())]
    after: OsString,
    /// Only what lies at or below this path
    #[arg(value_name = "PATH")]
    below: Option<OsString>,
    #[command(flatten)]
    scope: scope::Args,
}

struct Printer {
    out: Out,
    array: Option<JsonArray>,
    quiet: bool,
    counts: [u64; 5],
    damaged: bool,
}

fn letter(kind: Kind) -> char {
    match kind {
        Kind::Added => '+',
        Kind::Removed => '-',
        Kind::Content => 'M',
        Kind::Metadata => 'U',
        Kind::Type => 'T',
    }
}

impl Printer {
    fn write(&mut self, change: &Change<'_>) -> std::io::Result<()> {
        if let Some(array) = &mut self.array {
            return array.push(&mut self.out, change);
        }
        if self.quiet {
            return Ok(());
        }
        write!(self.out, "{} ", letter(change.kind))?;
        self.out.name(change.path)?;
        if change.kind == Kind::Metadata {
            write!(self.out, "  ({})", change.fields.join(", "))?;
        }
        self.out.write_all(b"\n")
    }
}

/// Writes how much differs, without what does not: all of it fits no terminal.
fn summed(counts: &[u64; 5]) -> String {
    let words = ["added", "removed", "with other content", "with other metadata", "of another type"];
    let there = counts.iter().zip(words).filter(|(number, _)| **number > 0);
    let texts: Vec<_> = there.map(|(number, what)| format!("{} {what}", count(*number))).collect();
    if texts.is_empty() { "Nothing differs".into() } else { texts.join(", ") }
}

impl Sink for Printer {
    fn change(&mut self, change: &Change<'_>) -> Result<()> {
        self.counts[change.kind as usize] += 1;
        self.write(change).context(|| "Cannot write the differences".into())
    }

    fn damage(&mut self, path: &[u8], error: Error) -> Result<()> {
        self.damaged = true;
        warn!("bakfs: {}: {}", readable(path), error.chain());
        Ok(())
    }
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    let repository = global.open()?;
    let choice = Choice::new(&repository, args.scope.scope()?)?;
    let sides = [choice.snapshot(&args.before)?, choice.snapshot(&args.after)?];
    let path = args.below.as_ref().map(|path| clean_path(path.as_bytes())).unwrap_or_default();
    // Where either has it by a path without links.
    let led =
        sides.iter().find_map(|side| repository.lead(&side.snapshot, &path, false).ok().filter(|led| *led != path));
    let path = led.unwrap_or(path);
    let [before, after] =
        [repository.resolve(&sides[0].snapshot, &path)?, repository.resolve(&sides[1].snapshot, &path)?];
    if before.is_none() && after.is_none() {
        let names = sides.map(|listed| choice.shown_name(listed));
        let message = format!("{} is neither in {} nor in {}", readable(&path), names[0], names[1]);
        return Err(Error::new(ErrorKind::NotFound, message).into());
    }
    let mut printer = Printer {
        out: Out::whole(),
        array: global.json.then(JsonArray::default),
        quiet: global.quiet,
        counts: [0; 5],
        damaged: false,
    };
    let options = diff::Options { all_fields: global.verbose > 0 };
    diff::run(&repository, &path, before.as_ref(), after.as_ref(), options, &mut printer)?;
    let is_array = printer.array.is_some();
    if let Some(array) = printer.array.take() {
        array.end(&mut printer.out)?;
    }
    if printer.out.is_terminal() && !is_array && !global.quiet {
        writeln!(printer.out, "{}", summed(&printer.counts))?;
    }
    printer.out.flush()?;
    tell_warnings(&repository);
    Ok(match (printer.damaged, printer.counts.iter().any(|count| *count > 0)) {
        (true, _) => Status::Incomplete,
        (false, true) => Status::Failed,
        (false, false) => Status::Done,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_sum_has_what_differs_and_no_more() {
        assert_eq!(super::summed(&[0; 5]), "Nothing differs");
        assert_eq!(super::summed(&[0, 1, 2000, 0, 0]), "1 removed, 2 000 with other content");
    }
}
