//! Where readers of one object are, and how far to read ahead of them.
//!
//! Content lies in packs in the order in which directories are read, so whoever reads a large file, many small
//! ones or the pages of trees goes through a pack nearly from its start to its end.

use std::ops::Range;

/// Readers of one object that are told apart.
const MAX_STREAMS: usize = 4;
/// A read this near to the end of another goes on where that one was: no frame is longer.
const NEAR_BYTES: u64 = 256 << 10;
/// Readers that have gone on for long may be several threads that take turns.
const MAX_NEAR_BYTES: u64 = 4 << 20;
/// A reader with a smaller window, or of a smaller object, has not gone on for long enough to go on in another.
const MIN_HEIR_BYTES: u64 = 1 << 20;
/// What is asked ahead of a reader that goes on for the first time.
const FIRST_WINDOW_BYTES: u64 = 256 << 10;

/// One reader.
#[derive(Debug)]
struct Stream {
    /// The end of what was read.
    next: u64,
    /// The end of what was asked for.
    asked: u64,
    /// How far to ask ahead; 0 until the reader has gone on once.
    window_bytes: u64,
}

impl Stream {
    fn is_near(&self, offset: u64) -> bool {
        self.next.abs_diff(offset) <= self.window_bytes.clamp(NEAR_BYTES, MAX_NEAR_BYTES)
    }
}

/// The readers of one object, the last that went on at the end.
#[derive(Debug, Default)]
pub(super) struct Streams(Vec<Stream>);

/// What to do about a read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Advice {
    /// What to ask ahead of the reader.
    pub(super) ahead: Option<Range<u64>>,
    /// The window of a reader that needs nothing more of this object: it goes on in another.
    pub(super) leaves_with: Option<u64>,
    /// Whether this is where a reader goes on that has left another object.
    pub(super) inherits: bool,
}

impl Streams {
    /// Returns whether nobody was seen.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a read in. `missed`: its bytes were neither there nor on their way. `inherited_bytes` is the window of a
    /// reader that came to the end of another object, and goes on here if this is a start.
    pub(super) fn note(
        &mut self,
        read: &Range<u64>,
        missed: bool,
        depth_bytes: u64,
        inherited_bytes: u64,
        len_bytes: u64,
    ) -> Advice {
        let Some(at) = self.0.iter().rposition(|stream| stream.is_near(read.start)) else {
            if !missed {
                return Advice::default();
            }
            if self.0.len() == MAX_STREAMS {
                self.0.remove(0);
            }
            let window_bytes = if read.start < NEAR_BYTES { inherited_bytes } else { 0 };
            let mut stream = Stream { next: read.end, asked: read.end, window_bytes };
            let inherits = window_bytes > 0;
            let advice = if inherits { stream.ask(depth_bytes, len_bytes) } else { Advice::default() };
            self.0.push(stream);
            return Advice { inherits, ..advice };
        };
        let mut stream = self.0.remove(at);
        let goes_on = read.end > stream.next;
        if missed {
            // What was asked for is not there: it was dropped, or is not there any more.
            stream.asked = stream.asked.min(read.end);
        }
        stream.next = stream.next.max(read.end);
        stream.asked = stream.asked.max(stream.next);
        let wants_more = stream.window_bytes == 0 || stream.asked - stream.next < stream.window_bytes / 2;
        let advice = if goes_on && wants_more { stream.ask(depth_bytes, len_bytes) } else { Advice::default() };
        self.0.push(stream);
        advice
    }
}

impl Stream {
    fn ask(&mut self, depth_bytes: u64, len_bytes: u64) -> Advice {
        self.window_bytes = (self.window_bytes * 2).max(FIRST_WINDOW_BYTES).min(depth_bytes);
        let (start, end) = (self.asked, (self.next + self.window_bytes).min(len_bytes));
        if start >= end {
            return Advice::default();
        }
        self.asked = end;
        let is_long = self.window_bytes.min(len_bytes) >= MIN_HEIR_BYTES;
        let leaves_with = (end == len_bytes && is_long).then_some(self.window_bytes / 2);
        Advice { ahead: Some(start..end), leaves_with, inherits: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;

    /// Reads in steps, all of which were asked for before; returns what was asked ahead.
    fn read(streams: &mut Streams, range: Range<u64>, step: u64, depth: u64, len: u64) -> Vec<Range<u64>> {
        let mut asked = Vec::new();
        for start in (range.start..range.end).step_by(step as usize) {
            let missed = !asked.iter().any(|range: &Range<u64>| range.contains(&start));
            asked.extend(streams.note(&(start..start + step), missed, depth, 0, len).ahead);
        }
        asked
    }

    #[test]
    fn a_reader_that_goes_on_is_read_ahead_of_once_and_ever_further() {
        let asked = read(&mut Streams::default(), 0..32 * MIB, 64 * KIB, 8 * MIB, 32 * MIB);
        assert_eq!(asked[0], 128 * KIB..128 * KIB + FIRST_WINDOW_BYTES);
        assert!(asked.windows(2).all(|pair| pair[0].end == pair[1].start), "{asked:?}");
        assert_eq!(asked.last().unwrap().end, 32 * MIB);
        assert!(asked.len() < 16, "{asked:?}");
        assert!(asked.iter().all(|range| range.end - range.start <= 8 * MIB));
    }

    #[test]
    fn readers_far_from_one_another_are_told_apart() {
        let mut streams = Streams::default();
        let mut asked = 0;
        for step in 0..64 {
            for reader in 0..3 {
                let start = reader * 10 * MIB + step * 64 * KIB;
                let advice = streams.note(&(start..start + 64 * KIB), step < 2, MIB, 0, 32 * MIB);
                asked += advice.ahead.map_or(0, |range| range.end - range.start);
            }
        }
        assert!((12 * MIB..16 * MIB).contains(&asked), "each has read 4 MiB, and is at most 1 MiB ahead: {asked}");
    }

    #[test]
    fn reads_far_apart_ask_for_nothing() {
        let mut streams = Streams::default();
        for start in [5, 20, 1, 14, 8, 30, 24, 11] {
            let read = start * MIB..start * MIB + 64 * KIB;
            assert_eq!(streams.note(&read, true, 8 * MIB, 0, 32 * MIB), Advice::default());
        }
    }

    #[test]
    fn a_reader_takes_its_window_along_into_the_next_object() {
        let mut streams = Streams::default();
        read(&mut streams, 0..24 * MIB, 64 * KIB, 8 * MIB, 32 * MIB);
        let left: Vec<_> = (24 * MIB..32 * MIB)
            .step_by(MIB as usize)
            .filter_map(|start| streams.note(&(start..start + MIB), false, 8 * MIB, 0, 32 * MIB).leaves_with)
            .collect();
        assert_eq!(left, [4 * MIB], "told once");
        let advice = Streams::default().note(&(0..200), true, 8 * MIB, left[0], 32 * MIB);
        assert_eq!(advice.ahead, Some(200..200 + 8 * MIB));
    }

    #[test]
    fn a_reader_of_a_small_object_leaves_nothing_to_the_next() {
        let mut streams = Streams::default();
        for start in (0..512 * KIB).step_by(64 << 10) {
            let advice = streams.note(&(start..start + 64 * KIB), true, 8 * MIB, 0, 512 * KIB);
            assert_eq!(advice.leaves_with, None);
        }
    }

    #[test]
    fn what_was_asked_for_and_is_not_there_is_asked_for_again() {
        let mut streams = Streams::default();
        read(&mut streams, 0..4 * MIB, 64 * KIB, MIB, 32 * MIB);
        let advice = streams.note(&(4 * MIB..4 * MIB + 64 * KIB), true, MIB, 0, 32 * MIB);
        assert_eq!(advice.ahead, Some(4 * MIB + 64 * KIB..5 * MIB + 64 * KIB));
    }
}
