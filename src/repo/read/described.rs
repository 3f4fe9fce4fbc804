//! An entry of a snapshot as programs are told of it.

use crate::format::snapshot::Snapshot;
use crate::format::tree::{Entry, Node};
use crate::json;
use crate::repo::shared::dated::timestamp;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// An entry, where it is, and the snapshot whose users and groups its numbers mean.
pub struct Described<'a> {
    /// The snapshot.
    pub snapshot: &'a Snapshot,
    /// The path, absolute.
    pub path: &'a [u8],
    /// The entry.
    pub entry: &'a Entry,
}

/// Returns the word for a file's type.
fn type_word(node: &Node) -> &'static str {
    match node {
        Node::File(_) => "file",
        Node::Directory(_) => "directory",
        Node::Symlink(_) => "symlink",
        Node::Fifo => "fifo",
        Node::Socket => "socket",
        Node::CharDevice { .. } => "chardev",
        Node::BlockDevice { .. } => "blockdev",
    }
}

impl Serialize for Described<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let meta = &self.entry.meta;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", type_word(&self.entry.node))?;
        map.serialize_entry("mode", &format!("{:04o}", meta.mode))?;
        map.serialize_entry("uid", &meta.uid)?;
        map.serialize_entry("gid", &meta.gid)?;
        map.serialize_entry("links", &meta.nlink)?;
        map.serialize_entry("size_bytes", &meta.size_bytes)?;
        map.serialize_entry("mtime", &timestamp(meta.mtime).to_string())?;
        json::name(&mut map, "path", self.path)?;
        let names = [("user", self.snapshot.user_name(meta.uid)), ("group", self.snapshot.group_name(meta.gid))];
        for (field, name) in names {
            match name {
                Some(name) => json::name(&mut map, field, name)?,
                None => map.serialize_entry(field, &())?,
            }
        }
        match &self.entry.node {
            Node::Symlink(target) => json::name(&mut map, "target", target)?,
            Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
                map.serialize_entry("major", major)?;
                map.serialize_entry("minor", minor)?;
            }
            Node::Directory(directory) => map.serialize_entry("entries", &directory.entries)?,
            _ => {}
        }
        map.end()
    }
}
