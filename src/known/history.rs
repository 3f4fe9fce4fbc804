//! Which snapshots were seen at a place, and which of them were removed since.

use crate::format::tree::Time;
use crate::id::ObjectId;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// No more snapshots are remembered: the newest.
pub const MAX_SEEN: usize = 1 << 15;
/// No more removals are remembered: the latest.
pub const MAX_REMOVED: usize = 4096;
/// Longer names and hosts, which no writer of ours makes, are cut.
const MAX_TEXT_BYTES: usize = 255;

/// A snapshot that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its object.
    pub id: ObjectId,
    /// The time it stands for.
    pub time: Time,
    /// Its name.
    pub name: String,
    /// The host it is of.
    pub host: String,
}

impl Seen {
    /// Takes down a snapshot.
    pub fn new(id: ObjectId, time: Time, name: &str, host: &str) -> Self {
        let cut = |text: &str| text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_string();
        Seen { id, time, name: cut(name), host: cut(host) }
    }
}

/// What was seen at a place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The snapshots of the listings so far, but for those that were removed since; oldest first.
    pub seen: Vec<Seen>,
    /// Snapshots that were seen and then removed by a prune, recalled, or accepted as missing; the latest last.
    pub removed: Vec<ObjectId>,
}

impl History {
    /// Takes in snapshots that are there.
    pub fn add(&mut self, there: impl IntoIterator<Item = Seen>) {
        let known: HashSet<ObjectId> = self.seen.iter().map(|seen| seen.id).collect();
        self.seen.extend(there.into_iter().filter(|seen| !known.contains(&seen.id)));
        let there: HashSet<ObjectId> = self.seen.iter().map(|seen| seen.id).collect();
        self.removed.retain(|id| !there.contains(id));
        self.seen.sort_by_key(|seen| (seen.time, seen.id));
        self.seen.drain(..self.seen.len().saturating_sub(MAX_SEEN));
    }

    /// Takes in that snapshots were removed.
    pub fn remove(&mut self, gone: &[ObjectId]) {
        let is_gone: HashSet<ObjectId> = gone.iter().copied().collect();
        self.seen.retain(|seen| !is_gone.contains(&seen.id));
        self.removed.retain(|id| !is_gone.contains(id));
        self.removed.extend(gone);
        self.removed.drain(..self.removed.len().saturating_sub(MAX_REMOVED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(at: u8) -> Seen {
        let time = Time { secs: i64::from(at), nanos: 0 };
        Seen::new(ObjectId([at; 32]), time, &format!("name-{at}"), "host")
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_comes_back_is_there() {
        let mut history = History::default();
        history.add([seen(2), seen(1), seen(2)].into_iter().take(2));
        history.add([seen(1)]);
        assert_eq!(history.seen, [seen(1), seen(2)]);
        history.remove(&[seen(1).id]);
        assert_eq!((&history.seen[..], &history.removed[..]), (&[seen(2)][..], &[seen(1).id][..]));
        history.add([seen(1)]);
        assert_eq!((history.seen.len(), history.removed.len()), (2, 0));
        let many: Vec<ObjectId> = (0..MAX_REMOVED as u64 + 10).map(|at| ObjectId::of(&at.to_le_bytes())).collect();
        history.remove(&many);
        assert_eq!(history.removed[..], many[10..]);
        let long = Seen::new(ObjectId([1; 32]), Time { secs: 0, nanos: 0 }, &"ä".repeat(1000), "h");
        assert_eq!(long.name.len(), 254);
    }
}
