//! Which blocks of an object are there: a set of small numbers that is kept in a file.

use std::ops::Range;

/// A set of block numbers.
#[derive(Debug, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// Returns the first block of a range that is there, or that is not.
    fn find(&self, blocks: Range<usize>, is_there: bool) -> Option<usize> {
        let mut at = blocks.start;
        while at < blocks.end {
            let word = self.0.get(at / 64).copied().unwrap_or(0);
            let rest = (if is_there { word } else { !word }) >> (at % 64);
            if rest != 0 {
                let found = at + rest.trailing_zeros() as usize;
                return (found < blocks.end).then_some(found);
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }

    /// Returns the first run of blocks of a range that are not there.
    pub(super) fn first_absent(&self, blocks: Range<usize>) -> Option<Range<usize>> {
        let start = self.find(blocks.clone(), false)?;
        Some(start..self.find(start..blocks.end, true).unwrap_or(blocks.end))
    }

    /// Returns whether all blocks of a range are there.
    pub(super) fn has_all(&self, blocks: Range<usize>) -> bool {
        self.find(blocks, false).is_none()
    }

    /// Counts the blocks of a range that are not there.
    pub(super) fn count_absent(&self, blocks: Range<usize>) -> usize {
        blocks.filter(|block| !self.has_all(*block..block + 1)).count()
    }

    /// Adds the blocks of a range.
    pub(super) fn insert(&mut self, blocks: Range<usize>) {
        self.0.resize(self.0.len().max(blocks.end.div_ceil(64)), 0);
        blocks.for_each(|block| self.0[block / 64] |= 1 << (block % 64));
    }

    /// Removes the blocks of a range.
    pub(super) fn remove(&mut self, blocks: Range<usize>) {
        let end = blocks.end.min(self.0.len() * 64);
        (blocks.start..end).for_each(|block| self.0[block / 64] &= !(1 << (block % 64)));
    }

    /// Adds what a file has, from a byte of its bits on: block n is bit n % 8 of byte n / 8.
    pub(super) fn merge(&mut self, first_byte: usize, bytes: &[u8]) {
        for (at, byte) in (first_byte..).zip(bytes).filter(|(_, byte)| **byte != 0) {
            self.0.resize(self.0.len().max(at / 8 + 1), 0);
            self.0[at / 8] |= u64::from(*byte) << (at % 8 * 8);
        }
    }
}

/// Returns the bytes of a file's bits that a range of blocks touches.
pub(super) fn bytes_of(blocks: &Range<usize>) -> Range<usize> {
    blocks.start / 8..blocks.end.div_ceil(8)
}

/// Returns the bits of byte `at` that stand for blocks of a range.
pub(super) fn mask(at: usize, blocks: &Range<usize>) -> u8 {
    (0..8).filter(|bit| blocks.contains(&(at * 8 + bit))).fold(0, |mask, bit| mask | 1 << bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_across_words_and_beyond_the_end() {
        let mut bits = Bits::default();
        assert_eq!(bits.first_absent(3..200), Some(3..200));
        bits.insert(60..70);
        assert_eq!(bits.first_absent(0..200), Some(0..60));
        assert_eq!(bits.first_absent(60..200), Some(70..200));
        assert_eq!(bits.first_absent(60..70), None);
        assert!(bits.has_all(61..70) && !bits.has_all(61..71) && bits.has_all(5..5));
        assert_eq!(bits.count_absent(59..1000), 931);
        (0..2).for_each(|_| bits.remove(69..500));
        assert_eq!(bits.first_absent(60..200), Some(69..200));
    }

    #[test]
    fn bytes_of_a_file_are_taken_in() {
        let mut bits = Bits::default();
        bits.merge(bytes_of(&(70..75)).start, &[mask(8, &(70..75)), mask(9, &(70..75))]);
        assert_eq!(bytes_of(&(70..75)), 8..10);
        assert!(bits.has_all(70..75));
        assert_eq!(bits.count_absent(0..100), 95);
    }
}
