//! A snapshot as listings have it.

use crate::format::snapshot::Snapshot;
use crate::id::ObjectId;
use crate::json;
use crate::repo::shared::dated::timestamp;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::sync::Arc;

/// A snapshot and the object it is stored as.
#[derive(Debug, Clone)]
pub struct ListedSnapshot {
    /// Its object.
    pub id: ObjectId,
    /// Its content without the texts of its troubles.
    pub snapshot: Arc<Snapshot>,
}

/// A snapshot with the name it has among others, as programs are told which one it is.
pub struct Named<'a> {
    /// The snapshot.
    pub listed: &'a ListedSnapshot,
    /// Its name, with its id where another has the same.
    pub name: &'a str,
}

impl Serialize for Named<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let snapshot = &self.listed.snapshot;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", self.name)?;
        map.serialize_entry("id", &self.listed.id)?;
        map.serialize_entry("time", &timestamp(snapshot.time).to_string())?;
        map.serialize_entry("host", &snapshot.host)?;
        map.serialize_entry("tags", &snapshot.tags)?;
        json::names(&mut map, "paths", &snapshot.sources.iter().map(|path| &path[..]).collect::<Vec<_>>())?;
        map.end()
    }
}

/// Makes a snapshot that holds nothing, for tests of lists of them.
#[cfg(test)]
pub fn example(first: u8, at: &str, host: &str, tags: &[&str], sources: &[&str]) -> ListedSnapshot {
    use crate::format::codec::Bytes;
    let time = crate::repo::shared::dated::time(at.parse().unwrap());
    let snapshot = Snapshot {
        name: crate::repo::shared::dated::dated(time),
        time,
        started: time,
        ended: time,
        host: host.into(),
        tags: tags.iter().map(|tag| tag.to_string()).collect(),
        sources: sources.iter().map(|path| Bytes(path.as_bytes().to_vec())).collect(),
        parent: None,
        root_meta: Default::default(),
        root: crate::format::tree::Directory {
            page: crate::format::tree::HOLE,
            entries: 0,
            total_files: 0,
            total_bytes: 0,
        },
        users: Vec::new(),
        groups: Vec::new(),
        has_xattrs: false,
        summary: Default::default(),
        troubles: Vec::new(),
        program: String::new(),
    };
    let mut id = [first; 32];
    id[31] = 1;
    ListedSnapshot { id: ObjectId(id), snapshot: Arc::new(snapshot) }
}
