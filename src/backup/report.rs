//! What a backup tells programs.

use super::Outcome;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let summary = &self.snapshot.summary;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("snapshot", &self.id.map(|_| &self.snapshot.name))?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("parent", &self.snapshot.parent)?;
        map.serialize_entry("files", &summary.without_directories())?;
        map.serialize_entry("directories", &summary.directories())?;
        map.serialize_entry("content_bytes", &summary.content_bytes)?;
        map.serialize_entry("files_new", &summary.files_new)?;
        map.serialize_entry("files_changed", &summary.files_changed)?;
        map.serialize_entry("files_unmodified", &summary.files_unmodified)?;
        map.serialize_entry("read_bytes", &summary.read_bytes)?;
        map.serialize_entry("added_bytes", &summary.added_bytes)?;
        map.serialize_entry("packed_bytes", &summary.packed_bytes)?;
        map.serialize_entry("errors", &summary.errors)?;
        map.end()
    }
}
