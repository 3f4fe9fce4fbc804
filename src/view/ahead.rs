//! Going ahead of whoever reads a file in order, where every request to the store takes a round trip.
//!
//! The store goes on in the packs by itself; this follows a file from one pack into the next.

use bakfs_mount::tree::Ino;
use lru::LruCache;
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::ops::Range;

/// Readers that are remembered.
const MAX_FILES: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
/// A read this near to where the last one ended goes on: the kernel asks for several pieces at a time, in any order.
const NEAR_BYTES: u64 = 4 << 20;
/// How far ahead the first read that goes on asks, and at most.
const WINDOW_BYTES: Range<u64> = 2 << 20..64 << 20;

struct Reader {
    end: u64,
    window_bytes: u64,
    wanted_to: u64,
}

/// What is read in order, and how far it was asked for.
pub struct Ahead(Mutex<LruCache<Ino, Reader>>);

impl Default for Ahead {
    fn default() -> Self {
        Ahead(Mutex::new(LruCache::new(MAX_FILES)))
    }
}

impl Ahead {
    /// Takes note of a read and returns what to ask for now: nothing after a first read or one elsewhere, and each
    /// byte once.
    pub fn next(&self, ino: Ino, read: Range<u64>, size_bytes: u64) -> Option<Range<u64>> {
        let mut files = self.0.lock();
        let Some(reader) = files.get_mut(&ino) else {
            files.put(ino, Reader { end: read.end, window_bytes: 0, wanted_to: read.end });
            return None;
        };
        if read.start.abs_diff(reader.end) > NEAR_BYTES {
            *reader = Reader { end: read.end, window_bytes: 0, wanted_to: read.end };
            return None;
        }
        if read.end <= reader.end {
            return None;
        }
        reader.end = read.end;
        let from = reader.wanted_to.max(read.end);
        if from >= size_bytes || from - read.end > reader.window_bytes / 2 {
            return None;
        }
        reader.window_bytes = (reader.window_bytes * 2).clamp(WINDOW_BYTES.start, WINDOW_BYTES.end);
        let to = size_bytes.min(read.end + reader.window_bytes);
        reader.wanted_to = to;
        (from < to).then_some(from..to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_file_read_in_order_is_asked_for_ahead_and_once() {
        let ahead = Ahead::default();
        let size = 500 * MIB;
        assert_eq!(ahead.next(1, 0..MIB, size), None);
        let mut asked_to = 2 * MIB;
        let mut asks = 0;
        for at in 1..500 {
            if let Some(range) = ahead.next(1, at * MIB..(at + 1) * MIB, size) {
                assert_eq!(range.start, asked_to.max((at + 1) * MIB), "nothing is left out or asked for twice");
                assert!(range.end - at * MIB <= 65 * MIB);
                asked_to = range.end;
                asks += 1;
            }
        }
        assert_eq!(asked_to, size);
        assert!(asks < 30, "{asks}");
    }

    #[test]
    fn reads_here_and_there_ask_for_nothing() {
        let ahead = Ahead::default();
        for at in [0, 100, 30, 200, 7] {
            assert_eq!(ahead.next(1, at * MIB..at * MIB + 65536, 500 * MIB), None);
        }
    }
}
