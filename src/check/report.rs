//! What a check tells programs.

use super::{Affected, Subject};
use crate::json;
use crate::store::Object;
use jiff::Timestamp;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Affected {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("part", &self.part)?;
        map.serialize_entry("first", &self.first)?;
        map.serialize_entry("last", &self.last)?;
        map.serialize_entry("snapshots", &self.snapshots)?;
        json::name(&mut map, "path", &self.path)?;
        map.end()
    }
}

/// Writes the names of foreign objects.
pub fn names<S: Serializer>(objects: &[(Object, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(objects.iter().map(|(object, _)| object.to_string()))
}

/// Writes a moment; what no calendar has becomes the last that it has.
pub fn moment<S: Serializer>(secs: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    secs.map(|secs| at(secs).to_string()).serialize(serializer)
}

/// Returns a moment in seconds since 1970.
pub fn at(secs: u64) -> Timestamp {
    i64::try_from(secs).ok().and_then(|secs| Timestamp::from_second(secs).ok()).unwrap_or(Timestamp::MAX)
}
