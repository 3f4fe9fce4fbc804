//! What a store knows beyond its objects, and what it may be told of what comes.

use super::Object;
use crate::traffic::Traffic;
use std::ops::Range;

/// Hints to a store and about it. Each has the answer of a store that has nothing of the kind: no copies, no network.
/// No answer decides what is right, only what is worth doing.
pub trait Hints: Send + Sync {
    /// Tells an object's length, for a store that would have to ask for it. Only a hint, which may be wrong.
    fn expect_len(&self, _object: Object, _len_bytes: u64) {}

    /// Asks for bytes that will be read soon, and does not wait for them. Only a hint.
    fn want(&self, _object: Object, _range: Range<u64>) {}

    /// Returns how much is worth asking for beforehand by [`Hints::want`]: more would be dropped.
    fn max_wanted_bytes(&self) -> u64 {
        0
    }

    /// Returns how many bytes of a range reading it would fetch from afar.
    fn absent_bytes(&self, _object: Object, _range: Range<u64>) -> u64 {
        0
    }

    /// Forgets a copy of an object's bytes that did not verify. False where there are no copies: what was read is
    /// what is stored. True may be told for ever: one more look is enough.
    fn distrust(&self, _object: Object, _range: Range<u64>) -> bool {
        false
    }

    /// Returns since when bytes of an object may be a copy kept here, in seconds since 1970; `None` where every read is
    /// of what is stored.
    fn copied_since_secs(&self, _object: Object) -> Option<u64> {
        None
    }

    /// Returns how many calls at a time are worth making: 1 where the next is as fast as the first.
    fn connections(&self) -> usize {
        1
    }

    /// Returns whether every call takes a round trip over a network.
    fn is_far(&self) -> bool {
        false
    }

    /// Closes files that nobody has read for a moment, so that the disk they are on can be unmounted. Whoever keeps a
    /// store open for long calls it now and then.
    fn close_idle(&self) {}

    /// Returns how much room there is where the objects are; `None` where that is not told, as by services far away.
    fn room(&self) -> Option<Room> {
        None
    }

    /// Returns what was asked of the place so far, and what went each way; nothing for a local folder.
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }
}

/// The room of a file system (statvfs(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Its size.
    pub total_bytes: u64,
    /// What is free, with what is kept for root.
    pub free_bytes: u64,
    /// What an ordinary user may fill.
    pub available_bytes: u64,
    /// How many files it can have; 0 where there is no bound.
    pub files: u64,
    /// How many more.
    pub free_files: u64,
}
