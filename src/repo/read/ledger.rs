//! When each pack was verified, and which packs looked damaged: a file of the cache, so that all packs
//! are verified in turn.
//!
//! It is a note of this machine, not a proof: losing it means to verify again, a pack of another length
//! than its record's counts as never verified, and so does one verified in the future (a clock that was
//! set back). Records that do not verify are dropped.
//!
//! ```text
//! "bakfsvf1" (8), 0 (8), records: pack (32), length (8), seconds since 1970 (8), state (1), 0 (7),
//!                                 the first 8 bytes of BLAKE3 of the 56 before
//! ```
//!
//! Memory: 64 bytes a pack while it is read or written: 2 MiB a terabyte.

use crate::clock::now_secs;
use crate::error::Result;
use crate::format::pack::u64_at;
use crate::id::{ObjectId, RepositoryId};
use crate::repo::index::cache::Cache;
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

const FILE: &str = "verified-1";
const LOCK_FILE: &str = "verified.lock";
const MAGIC: &[u8; 16] = b"bakfsvf1\0\0\0\0\0\0\0\0";
const RECORD_BYTES: usize = 64;
/// More packs than this (32 TiB of them) are not kept: the newest are.
const MAX_RECORDS: usize = 1 << 20;
/// A clock may be set back by so little without being taken for one that was wrong.
const SET_BACK_SECS: u64 = 300;
/// Another process holds the file for moments; one that was stopped meanwhile is not waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// What is known of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Every byte of it was read and verified.
    Verified,
    /// Something of it could not be read.
    Suspect,
}

/// What is known of a pack, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Its length then.
    pub len_bytes: u64,
    /// When, in seconds since 1970. Of a verification that took long: when it began.
    pub at_secs: u64,
    /// What.
    pub state: State,
}

/// What is known of all packs.
#[derive(Debug, Default)]
pub struct Records(HashMap<ObjectId, Record>);

impl Records {
    /// Returns when a pack of this length was verified; `None` if never, or after `now_secs`.
    pub fn verified_at(&self, pack: &ObjectId, len_bytes: u64, now_secs: u64) -> Option<u64> {
        let record = self.0.get(pack)?;
        let counts = record.state == State::Verified && record.len_bytes == len_bytes && record.at_secs <= now_secs;
        counts.then_some(record.at_secs)
    }

    /// Returns whether something of a pack could not be read.
    pub fn is_suspect(&self, pack: &ObjectId) -> bool {
        self.0.get(pack).is_some_and(|record| record.state == State::Suspect)
    }

    /// Returns all packs of which something could not be read.
    pub fn suspects(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.0.iter().filter(|(_, record)| record.state == State::Suspect).map(|(pack, _)| *pack)
    }

    /// Takes what a check says of a pack: it has the last word.
    pub fn checked(&mut self, pack: ObjectId, record: Record) {
        self.0.insert(pack, record);
    }

    /// Takes that all of a pack was read by and by; what a check said against it stands.
    pub fn read(&mut self, pack: ObjectId, len_bytes: u64, at_secs: u64) {
        let record = Record { len_bytes, at_secs, state: State::Verified };
        let known = self.0.entry(pack).or_insert(record);
        if known.state == State::Verified && (known.at_secs < at_secs || known.len_bytes != len_bytes) {
            *known = record;
        }
    }

    /// Takes that something of a pack could not be read.
    pub fn suspect(&mut self, pack: ObjectId, at_secs: u64) {
        let known = self.0.entry(pack).or_insert(Record { len_bytes: 0, at_secs, state: State::Suspect });
        known.state = State::Suspect;
    }

    /// Forgets a pack.
    pub fn forget(&mut self, pack: &ObjectId) {
        self.0.remove(pack);
    }

    /// Forgets what was noted after the present, by a clock that was wrong: it would pass for true when its time comes.
    fn disbelieve_ahead(&mut self, now_secs: u64) {
        self.0.retain(|_, record| {
            record.state != State::Verified || record.at_secs <= now_secs.saturating_add(SET_BACK_SECS)
        });
    }

    /// Forgets packs that are not wanted.
    pub fn retain(&mut self, wanted: impl Fn(&ObjectId) -> bool) {
        self.0.retain(|pack, _| wanted(pack));
    }

    fn decode(bytes: &[u8]) -> Self {
        let Some(body) = bytes.strip_prefix(MAGIC) else { return Records::default() };
        let decode = |record: &[u8]| {
            let state = match record[48] {
                1 => State::Verified,
                2 => State::Suspect,
                _ => return None,
            };
            let pack = ObjectId(*record.first_chunk()?);
            let is_whole = blake3::hash(&record[..56]).as_bytes()[..8] == record[56..];
            is_whole.then_some((pack, Record { len_bytes: u64_at(record, 32), at_secs: u64_at(record, 40), state }))
        };
        Records(body.chunks_exact(RECORD_BYTES).take(MAX_RECORDS).filter_map(decode).collect())
    }

    fn encode(&self) -> Vec<u8> {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_by_key(|(pack, record)| (std::cmp::Reverse(record.at_secs), **pack));
        let mut bytes = MAGIC.to_vec();
        for (pack, record) in all.into_iter().take(MAX_RECORDS) {
            let at = bytes.len();
            bytes.extend_from_slice(&pack.0);
            bytes.extend_from_slice(&record.len_bytes.to_le_bytes());
            bytes.extend_from_slice(&record.at_secs.to_le_bytes());
            let state = if record.state == State::Verified { 1 } else { 2 };
            bytes.extend_from_slice(&[state, 0, 0, 0, 0, 0, 0, 0]);
            let check = blake3::hash(&bytes[at..]);
            bytes.extend_from_slice(&check.as_bytes()[..8]);
        }
        bytes
    }
}

/// The ledger of one repository on this machine.
#[derive(Debug, Clone)]
pub struct Ledger {
    cache: Cache,
}

impl Ledger {
    /// Uses the cache folder of a repository.
    pub fn open(cache_base: &Path, repository: &RepositoryId) -> Result<Self> {
        Ok(Ledger { cache: Cache::open(cache_base, repository)? })
    }

    pub(in crate::repo) fn of(cache: &Cache) -> Self {
        Ledger { cache: cache.clone() }
    }

    /// Reads the ledger; one that cannot be read is empty.
    pub fn load(&self) -> Records {
        self.cache.read_file(FILE).map(|bytes| Records::decode(&bytes)).unwrap_or_default()
    }

    /// Reads the ledger, changes it, and replaces it at once; processes do so one after the other. Returns
    /// false if another held it for too long: nothing was changed then. That it could not be written is
    /// no error.
    pub fn update(&self, change: impl FnOnce(&mut Records)) -> bool {
        let start = Instant::now();
        let lock = loop {
            match self.cache.try_lock(LOCK_FILE) {
                Some(lock) => break lock,
                None if start.elapsed() > LOCK_PATIENCE => return false,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        let mut records = self.load();
        records.disbelieve_ahead(now_secs());
        change(&mut records);
        self.cache.write_file(FILE, &records.encode());
        drop(lock);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ObjectId {
        ObjectId([n; 32])
    }

    #[test]
    fn what_is_kept_comes_back_and_damage_of_the_file_costs_only_what_it_hits() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path(), &RepositoryId([1; 16])).unwrap();
        assert!(ledger.load().verified_at(&id(1), 10, u64::MAX).is_none());
        for n in 1..=3u8 {
            assert!(ledger.update(|records| records.read(id(n), 10, 100 + u64::from(n))));
        }
        assert!(ledger.update(|records| records.suspect(id(4), 50)));
        let records = ledger.load();
        assert_eq!(records.verified_at(&id(2), 10, 200), Some(102));
        assert_eq!(records.verified_at(&id(2), 11, 200), None, "another length");
        assert_eq!(records.verified_at(&id(2), 10, 101), None, "in the future");
        assert!(records.is_suspect(&id(4)) && !records.is_suspect(&id(2)));
        let path = folder.path().join("01".repeat(16)).join(FILE);
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            let records = Records::decode(&wrong);
            let left = if at < MAGIC.len() { 0 } else { 3 };
            assert_eq!(records.0.len(), left, "byte {at}");
        }
        for len in 0..bytes.len() {
            assert_eq!(Records::decode(&bytes[..len]).0.len(), len.saturating_sub(MAGIC.len()) / RECORD_BYTES);
        }
    }

    #[test]
    fn reads_do_not_clear_a_suspicion_and_a_check_does() {
        let mut records = Records::default();
        records.suspect(id(1), 10);
        records.read(id(1), 5, 20);
        assert!(records.is_suspect(&id(1)));
        records.checked(id(1), Record { len_bytes: 5, at_secs: 15, state: State::Verified });
        assert_eq!(records.verified_at(&id(1), 5, 99), Some(15));
        records.read(id(1), 5, 12);
        assert_eq!(records.verified_at(&id(1), 5, 99), Some(15), "the newer one stays");
    }

    #[test]
    fn many_writers_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for writer in 0..4u8 {
                let ledger = Ledger::open(folder.path(), &RepositoryId([1; 16])).unwrap();
                scope.spawn(move || {
                    for n in 0..10 {
                        assert!(ledger.update(|records| records.read(id(writer * 10 + n), 1, 1)));
                    }
                });
            }
        });
        let records = Ledger::open(folder.path(), &RepositoryId([1; 16])).unwrap().load();
        assert!((0..40).all(|n| records.verified_at(&id(n), 1, 1) == Some(1)));
    }
}
