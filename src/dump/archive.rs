//! A tree as a tar archive: ustar headers with PAX records (POSIX.1-2024, pax) for what they cannot hold,
//! extended attributes as GNU tar and star keep them, and holes as GNU tar does.

use super::block::{BLOCK_BYTES, Records, pad, writing};
use super::file;
use super::sparse::Holes;
use crate::error::{Context, Error, Result};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Entry, Meta, Node, Time};
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::repo::read::walk::{Visitor, shown_path};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tar::{Builder, EntryType, Header};

/// Longest name and link target of a ustar header.
const NAME_BYTES: usize = 100;
/// Longest owner name of a ustar header, with the NUL that ends it.
const OWNER_BYTES: usize = 32;

/// Writes an entry and everything below it. `path` is its own, absolute; members are named without the
/// first slash. Names of one file become hard links to the first. Sockets are left out, as tar does.
///
/// A directory that cannot be read, lies too deep to be followed, or an attribute that has no place in an archive is
/// told to the monitor and left out; returns how many these were. What fails in the midst of a file's content ends the
/// archive.
pub fn archive(
    repository: &Repository,
    snapshot: &Snapshot,
    path: &[u8],
    entry: &Entry,
    threads: usize,
    monitor: &dyn Monitor,
    out: &mut dyn Write,
) -> Result<u64> {
    let (builder, linked) = (Builder::new(out), HashMap::new());
    let mut writer = Writer { repository, snapshot, threads, monitor, troubles: 0, builder, linked };
    let enter = if path.is_empty() { true } else { writer.entry(path, entry)? };
    if let Node::Directory(directory) = &entry.node
        && enter
    {
        repository.walk(path, directory, &mut writer)?;
    }
    writer.builder.finish().context(writing)?;
    Ok(writer.troubles)
}

struct Writer<'a, 'o> {
    repository: &'a Repository,
    snapshot: &'a Snapshot,
    threads: usize,
    monitor: &'a dyn Monitor,
    troubles: u64,
    builder: Builder<&'o mut dyn Write>,
    linked: HashMap<(u64, u64), Vec<u8>>,
}

fn put(field: &mut [u8], value: &[u8]) -> bool {
    let len = value.len().min(field.len());
    field[..len].copy_from_slice(&value[..len]);
    len == value.len()
}

/// Writes seconds with a fraction, as PAX records do.
fn decimal(time: Time) -> String {
    match (time.secs, time.nanos) {
        (secs, 0) => secs.to_string(),
        // The value is secs + nanos: written with the sign in front of the whole.
        (secs, nanos) if secs < 0 => {
            let whole = -(i128::from(secs) + 1);
            format!("-{whole}.{:09}", 1_000_000_000 - nanos)
        }
        (secs, nanos) => format!("{secs}.{nanos:09}"),
    }
}

impl Writer<'_, '_> {
    fn header(&mut self, path: &[u8], member: &[u8], meta: &Meta, kind: EntryType, records: &mut Records) -> Header {
        let mut header = Header::new_ustar();
        if !put(&mut header.as_old_mut().name, member) {
            records.add("path", member);
        }
        header.set_entry_type(kind);
        header.set_mode(meta.mode);
        header.set_uid(u64::from(meta.uid));
        header.set_gid(u64::from(meta.gid));
        header.set_mtime(u64::try_from(meta.mtime.secs).unwrap_or(0));
        if meta.mtime.nanos != 0 || meta.mtime.secs < 0 {
            records.add("mtime", decimal(meta.mtime).as_bytes());
        }
        let owners = [("uname", self.snapshot.user_name(meta.uid)), ("gname", self.snapshot.group_name(meta.gid))];
        for (key, name) in owners {
            let Some(name) = name else { continue };
            let fits = name.len() < OWNER_BYTES;
            if !fits {
                records.add(key, name);
            } else if let Some(ustar) = header.as_ustar_mut() {
                put(if key == "uname" { &mut ustar.uname } else { &mut ustar.gname }, name);
            }
        }
        for xattr in &meta.xattrs {
            // `=` would end the record's key early, and a key is text.
            match std::str::from_utf8(&xattr.name) {
                Ok(name) if !name.contains('=') => records.add(&format!("SCHILY.xattr.{name}"), &xattr.value),
                _ => {
                    let message = "its extended attribute of this name has no place in an archive";
                    self.trouble(path, &format!("{}: {message}", xattr.name.escape_ascii()));
                }
            }
        }
        header
    }

    fn trouble(&mut self, path: &[u8], message: &str) {
        self.troubles += 1;
        self.monitor.trouble(Path::new(OsStr::from_bytes(shown_path(path))), message);
    }

    fn member(&mut self, mut header: Header, records: &Records) -> Result<()> {
        let pairs = records.0.iter().map(|(key, value)| (&key[..], &value[..]));
        self.builder.append_pax_extensions(pairs).context(writing)?;
        header.set_cksum();
        self.builder.get_mut().write_all(header.as_bytes()).context(writing)
    }

    fn write(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let meta = &entry.meta;
        let mut member = path[1..].to_vec();
        let mut records = Records::default();
        let kind = match &entry.node {
            Node::File(_) => EntryType::Regular,
            Node::Directory(_) => {
                member.push(b'/');
                EntryType::Directory
            }
            Node::Symlink(_) => EntryType::Symlink,
            Node::Fifo => EntryType::Fifo,
            Node::CharDevice { .. } => EntryType::Char,
            Node::BlockDevice { .. } => EntryType::Block,
            Node::Socket => return Ok(()),
        };
        let mut linked = None;
        if meta.link_device != 0 && !matches!(entry.node, Node::Directory(_)) {
            let first = self.linked.entry((meta.link_device, meta.ino)).or_insert_with(|| member.clone());
            linked = (*first != member).then(|| first.clone());
        }
        let kind = if linked.is_some() { EntryType::Link } else { kind };
        let content = match (&entry.node, &linked) {
            (Node::File(content), None) => Some(content),
            _ => None,
        };
        let holes = content.map(|content| Holes::of(self.repository, content, meta.size_bytes)).transpose()?.flatten();
        let mut header = self.header(path, &member, meta, kind, &mut records);
        let data_bytes = match (&holes, content) {
            (Some(holes), _) => {
                holes.describe(&member, meta.size_bytes, &mut records);
                holes.map_bytes.next_multiple_of(BLOCK_BYTES) + holes.data_bytes
            }
            (None, Some(_)) => meta.size_bytes,
            (None, None) => 0,
        };
        header.set_size(data_bytes);
        let target = match (&linked, &entry.node) {
            (Some(first), _) => Some(&first[..]),
            (None, Node::Symlink(target)) => Some(&target[..]),
            _ => None,
        };
        if let Some(target) = target
            && !put(&mut header.as_old_mut().linkname[..NAME_BYTES], target)
        {
            records.add("linkpath", target);
        }
        if let Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } = entry.node
            && let Some(ustar) = header.as_ustar_mut()
        {
            ustar.set_device_major(major);
            ustar.set_device_minor(minor);
        }
        self.member(header, &records)?;
        let Some(content) = content else { return Ok(()) };
        let out = self.builder.get_mut();
        match &holes {
            Some(holes) => holes.write(self.repository, content, meta.size_bytes, self.threads, out)?,
            None => file(self.repository, content, meta.size_bytes, self.threads, out)?,
        }
        pad(data_bytes, out)
    }
}

fn at(path: &[u8], error: Error) -> Error {
    let path = shown_path(path).escape_ascii();
    Error::new(error.kind(), format!("The archive ends before {path}")).because(error)
}

impl Visitor for Writer<'_, '_> {
    fn entry(&mut self, path: &[u8], entry: &Entry) -> Result<bool> {
        self.write(path, entry).map_err(|error| at(path, error))?;
        Ok(true)
    }

    fn damage(&mut self, path: &[u8], error: Error) -> Result<()> {
        self.trouble(path, &error.chain());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_decimals() {
        for (secs, nanos, text) in [
            (0, 0, "0"),
            (5, 7, "5.000000007"),
            (-1, 0, "-1"),
            (-1, 250_000_000, "-0.750000000"),
            (-3, 999_999_999, "-2.000000001"),
        ] {
            assert_eq!(decimal(Time { secs, nanos }), text);
        }
    }
}
