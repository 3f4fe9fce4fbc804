//! Which snapshots were seen at a place, and which of them were removed since: sealed with the repository's keys.

use super::file::Record;
use crate::crypto::keys::Keys;
use crate::crypto::seal::{FramePlace, Opener, Role, Sealer, TAG_BYTES};
use crate::format::codec;
use crate::format::header::{Header, Kind, VERSION};
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

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Sealed {
    /// The BLAKE3 hash of what stands before it in the clear, and of the place: neither can be exchanged.
    head: [u8; 32],
    history: History,
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

fn head_of(record: &Record, place: &[u8]) -> [u8; 32] {
    let head = Record { sealed: Vec::new(), ..record.clone() }.encode();
    *blake3::Hasher::new().update(place).update(&head).finalize().as_bytes()
}

/// Seals a history for a record's place.
pub fn seal(history: &History, record: &Record, place: &[u8], keys: &Keys) -> Vec<u8> {
    let plain = codec::encode(&Sealed { head: head_of(record, place), history: history.clone() });
    let plain_bytes = u32::try_from(plain.len()).expect("what is remembered is bounded");
    let mut sealer = Sealer::new(keys, Kind::Mark, record.identity.suite, record.identity.repository);
    let mut bytes = sealer.header().encode();
    let from = bytes.len();
    bytes.extend_from_slice(&plain);
    sealer.seal(Role::Known, 0, plain_bytes, &mut bytes, from);
    bytes
}

/// Opens a record's history; `None` where it was sealed for another repository, record or place, or is none.
pub fn open(record: &Record, place: &[u8], keys: &Keys) -> Option<History> {
    let header = Header::decode(&record.sealed).ok()?;
    let identity = &record.identity;
    let is_own = (header.version, header.kind) == (VERSION, Kind::Mark)
        && header.suite == identity.suite
        && header.repository == identity.repository;
    let mut sealed = record.sealed.get(header.len_bytes()..).filter(|_| is_own)?.to_vec();
    let plain_bytes = u32::try_from(sealed.len().checked_sub(TAG_BYTES)?).ok()?;
    let place_in_object = FramePlace { role: Role::Known, number: 0, codec: 0, plain_bytes };
    let plain = Opener::new(keys, &header).ok()?.open(place_in_object, &mut sealed).ok()?;
    let opened: Sealed = codec::decode("record of snapshots", plain).ok()?;
    (opened.head == head_of(record, place)).then_some(opened.history)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::Secret;
    use crate::format::header::Suite;
    use crate::id::RepositoryId;
    use crate::known::Identity;

    fn seen(at: u8) -> Seen {
        let time = Time { secs: i64::from(at), nanos: 0 };
        Seen::new(ObjectId([at; 32]), time, &format!("name-{at}"), "host")
    }

    #[test]
    fn a_history_opens_where_it_was_sealed_and_nowhere_else() {
        let keys = Keys::derive(&Secret([1; 32]));
        let history = History { seen: vec![seen(1), seen(2)], removed: vec![ObjectId([3; 32])] };
        for suite in [Suite::Plain, Suite::Aes256GcmSiv] {
            let identity = Identity { repository: RepositoryId([7; 16]), suite, config: [9; 32] };
            let head = Record { identity, place: b"/srv/repo".to_vec(), sealed: Vec::new() };
            let sealed = seal(&history, &head, b"place", &keys);
            assert_eq!(suite == Suite::Plain, sealed.windows(6).any(|window| window == b"name-1"), "{suite:?}");
            let record = Record { sealed, ..head.clone() };
            assert_eq!(open(&record, b"place", &keys), Some(history.clone()));
            assert_eq!(open(&record, b"other place", &keys), None);
            assert_eq!(open(&record, b"place", &Keys::derive(&Secret([2; 32]))), None);
            let other = Identity { config: [8; 32], ..identity };
            assert_eq!(open(&Record { identity: other, ..record.clone() }, b"place", &keys), None, "another head");
            assert_eq!(open(&Record { place: b"/srv/else".to_vec(), ..record.clone() }, b"place", &keys), None);
            assert_eq!(open(&head, b"place", &keys), None, "nothing was sealed");
        }
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
