//! How profiles and repositories stand, as programs are told.

use super::RepositoryState;
use super::overdue::{ProfileHistory, ProfileStanding, RepositoryStanding};
use jiff::{Timestamp, Zoned};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// A profile's state, and how it stands now.
pub struct ProfileReport<'a> {
    /// What is known of it.
    pub known: &'a ProfileHistory,
    /// How it stands.
    pub standing: &'a ProfileStanding,
    /// Now.
    pub now: &'a Zoned,
}

/// A repository's state, and how it stands now.
pub struct RepositoryReport<'a> {
    /// Where it is.
    pub place: &'a str,
    /// What is known of it.
    pub state: &'a RepositoryState,
    /// How it stands.
    pub standing: &'a RepositoryStanding,
    /// Why it is not the one that was there before.
    pub exchanged: Option<&'a String>,
}

fn time(secs: Option<i64>) -> Option<String> {
    secs.and_then(|secs| Timestamp::from_second(secs).ok()).map(|time| time.to_string())
}

impl Serialize for ProfileReport<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (known, standing) = (self.known, self.standing);
        let (run, made) = (known.state.last(), known.last_snapshot());
        let age_secs = standing.last_success_secs.map(|secs| self.now.timestamp().as_second() - secs);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("profile", &known.state.name)?;
        map.serialize_entry("state", standing.standing.word())?;
        map.serialize_entry("overdue", &standing.is_overdue)?;
        map.serialize_entry("running", &known.running)?;
        map.serialize_entry("last_success", &time(standing.last_success_secs))?;
        map.serialize_entry("last_success_age_secs", &age_secs)?;
        map.serialize_entry("last_run", &time(run.map(|run| run.ended_secs)))?;
        map.serialize_entry("last_outcome", &run.map(|run| run.outcome.word()))?;
        map.serialize_entry("problems", run.map_or(&[][..], |run| &run.problems))?;
        map.serialize_entry("notes", run.map_or(&[][..], |run| &run.notes))?;
        map.serialize_entry("next_run", &standing.next.as_ref().map(|next| next.timestamp().to_string()))?;
        map.serialize_entry("snapshot", &made.and_then(|run| run.snapshot.as_ref()))?;
        map.serialize_entry("content_bytes", &made.map(|run| run.content_bytes))?;
        map.serialize_entry("files", &made.map(|run| run.files))?;
        map.serialize_entry("packed_bytes", &made.map(|run| run.packed_bytes))?;
        map.serialize_entry("week_packed_bytes", &standing.week_packed_bytes)?;
        map.serialize_entry("forgotten", &run.map(|run| run.forgotten))?;
        map.serialize_entry("repository", &known.repository)?;
        map.end()
    }
}

impl Serialize for RepositoryReport<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let state = self.state;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("repository", self.place)?;
        map.serialize_entry("damaged", &state.is_damaged)?;
        map.serialize_entry("exchanged", &self.exchanged)?;
        map.serialize_entry("check_overdue", &self.standing.is_check_overdue)?;
        map.serialize_entry("last_check", &time(state.last_check_secs))?;
        map.serialize_entry("oldest_verified", &time(state.oldest_verified_secs))?;
        map.serialize_entry("pack_bytes", &state.pack_bytes)?;
        map.serialize_entry("verified_bytes", &state.verified_bytes)?;
        map.serialize_entry("last_prune", &time(state.last_prune_secs))?;
        map.end()
    }
}
