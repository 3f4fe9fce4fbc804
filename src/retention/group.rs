//! Which snapshots are one history: rules count within a group, never across.

use super::Snapshot;
use crate::error::{Error, Result};
use crate::json;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::str::FromStr;

/// What snapshots of one group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBy {
    /// The host.
    pub host: bool,
    /// The set of sources.
    pub sources: bool,
    /// The set of tags.
    pub tags: bool,
}

impl Default for GroupBy {
    fn default() -> Self {
        GroupBy { host: true, sources: true, tags: false }
    }
}

/// What the snapshots of a group have in common; `None` where they may differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Their host.
    pub host: Option<String>,
    /// Their sources, sorted.
    pub sources: Option<Vec<Vec<u8>>>,
    /// Their tags, sorted.
    pub tags: Option<Vec<String>>,
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("host", &self.host)?;
        match &self.sources {
            Some(paths) => json::names(&mut map, "paths", paths)?,
            None => map.serialize_entry("paths", &())?,
        }
        map.serialize_entry("tags", &self.tags)?;
        map.end()
    }
}

impl GroupBy {
    /// Returns the group a snapshot is in.
    pub fn key(self, snapshot: &Snapshot) -> Key {
        Key {
            host: self.host.then(|| snapshot.host.clone()),
            sources: self.sources.then(|| set(&snapshot.sources)),
            tags: self.tags.then(|| set(&snapshot.tags)),
        }
    }
}

fn set<T: Ord + Clone>(list: &[T]) -> Vec<T> {
    let mut set = list.to_vec();
    set.sort();
    set.dedup();
    set
}

impl FromStr for GroupBy {
    type Err = Error;

    /// Parses `none`, or words of `host`, `sources` and `tags` with commas between them.
    fn from_str(text: &str) -> Result<Self> {
        let mut by = GroupBy { host: false, sources: false, tags: false };
        if text == "none" {
            return Ok(by);
        }
        for word in text.split(',') {
            let part = match word {
                "host" => &mut by.host,
                "sources" => &mut by.sources,
                "tags" => &mut by.tags,
                _ => {
                    return Err(Error::usage(format!(
                        "`{word}` is nothing to group by: write `none`, or some of host,sources,tags"
                    )));
                }
            };
            *part = true;
        }
        Ok(by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_named_by_what_is_common() {
        assert_eq!("host,sources".parse::<GroupBy>().unwrap(), GroupBy::default());
        assert_eq!("tags".parse::<GroupBy>().unwrap(), GroupBy { host: false, sources: false, tags: true });
        for text in ["", "hosts", "host,none", "host, tags", "none,none"] {
            assert!(text.parse::<GroupBy>().is_err(), "{text}");
        }
    }
}
