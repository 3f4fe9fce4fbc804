//! How files are written for people and programs: one line, or one JSON object.

use super::output::{json, readable};
use super::stdout::{self, Stdout};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Entry, Meta, Node, Time};
use crate::repo::shared::dated;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// Standard output, buffered, that escapes names where a terminal shows them.
pub struct Out {
    out: io::BufWriter<Stdout<io::StdoutLock<'static>>>,
    is_terminal: bool,
}

impl Out {
    /// Locks standard output for lines whose reader may go, unless they are JSON.
    pub fn listing(is_json: bool) -> Self {
        Out::over(stdout::listing(is_json))
    }

    /// Locks standard output for what is of no use in part.
    pub fn whole() -> Self {
        Out::over(stdout::whole())
    }

    fn over(out: Stdout<io::StdoutLock<'static>>) -> Self {
        let is_terminal = io::stdout().is_terminal();
        Out { is_terminal, out: io::BufWriter::with_capacity(64 << 10, out) }
    }

    /// Returns whether a terminal shows what is written.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Writes a name or path: as it is, or escaped on a terminal.
    pub fn name(&mut self, name: &[u8]) -> io::Result<()> {
        if self.is_terminal { self.out.write_all(readable(name).as_bytes()) } else { self.out.write_all(name) }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes one JSON array, an element at a time.
#[derive(Default)]
pub struct JsonArray {
    started: bool,
}

impl JsonArray {
    /// Writes an element.
    pub fn push(&mut self, out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
        out.write_all(if self.started { b",\n" } else { b"[" })?;
        self.started = true;
        serde_json::to_writer(&mut *out, &json(value)).map_err(io::Error::from)
    }

    /// Ends the array.
    pub fn end(self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(if self.started { b"]\n" } else { b"[]\n" })
    }
}

/// Writes type and permissions as ls(1) does: `drwxr-xr-x`, with `+` where there are ACLs or attributes.
pub fn mode_text(entry: &Entry) -> String {
    let mode = entry.meta.mode;
    let mut text = String::with_capacity(11);
    text.push(match &entry.node {
        Node::File(_) => '-',
        Node::Directory(_) => 'd',
        Node::Symlink(_) => 'l',
        Node::Fifo => 'p',
        Node::Socket => 's',
        Node::CharDevice { .. } => 'c',
        Node::BlockDevice { .. } => 'b',
    });
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    if !entry.meta.xattrs.is_empty() {
        text.push('+');
    }
    text
}

/// Returns the owner's name at the source, or the number.
pub fn owner(snapshot: &Snapshot, meta: &Meta) -> String {
    snapshot.user_name(meta.uid).map_or_else(|| meta.uid.to_string(), readable)
}

/// Returns the group's name at the source, or the number.
pub fn group(snapshot: &Snapshot, meta: &Meta) -> String {
    snapshot.group_name(meta.gid).map_or_else(|| meta.gid.to_string(), readable)
}

/// Writes a time in the machine's time zone, to the minute.
pub fn local_time(time: Time) -> String {
    dated::timestamp(time).to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
}

/// Writes a line as `ls -l` does, without the line's end.
pub fn write_long(out: &mut Out, snapshot: &Snapshot, path: &[u8], entry: &Entry) -> io::Result<()> {
    let meta = &entry.meta;
    let size = match &entry.node {
        Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => format!("{major}, {minor}"),
        _ => meta.size_bytes.to_string(),
    };
    write!(
        out,
        "{:<11} {:>3} {:<8} {:<8} {size:>10} {} ",
        mode_text(entry),
        meta.nlink,
        owner(snapshot, meta),
        group(snapshot, meta),
        local_time(meta.mtime),
    )?;
    out.name(path)?;
    if let Node::Symlink(target) = &entry.node {
        out.write_all(b" -> ")?;
        out.name(target)?;
    }
    Ok(())
}
