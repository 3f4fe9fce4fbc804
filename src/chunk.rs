//! Cuts content into chunks: FastCDC (Xia et al., IEEE TPDS 2020) with normalisation level 1 and a
//! gear table only holders of the key know.

use crate::crypto::keys::Keys;
use crate::format::config::ChunkSizes;
use fastcdc::v2020::{Normalization, cut_gear, select_masks};
use zeroize::Zeroizing;

/// Finds the end of the next chunk.
pub struct Chunker {
    sizes: ChunkSizes,
    masks: (u64, u64),
    gear: Zeroizing<[u64; 256]>,
    gear_shifted: Zeroizing<[u64; 256]>,
}

impl Chunker {
    /// Makes the chunker of a repository.
    pub fn new(keys: &Keys, sizes: ChunkSizes) -> Self {
        let gear = keys.gear_table();
        let mut gear_shifted = gear.clone();
        gear_shifted.iter_mut().for_each(|word| *word <<= 1);
        let masks = select_masks(sizes.avg_bytes as usize, Normalization::Level1);
        Chunker { sizes, masks, gear, gear_shifted }
    }

    /// Returns the longest chunk: [`Self::cut`] needs as many bytes, or all that are left.
    pub fn max_bytes(&self) -> usize {
        self.sizes.max_bytes as usize
    }

    /// Returns the length of the chunk at the start of `bytes`, which are the rest of a run of data or at
    /// least [`Self::max_bytes`] of it.
    pub fn cut(&self, bytes: &[u8]) -> usize {
        if bytes.len() <= self.sizes.min_bytes as usize {
            return bytes.len();
        }
        let (mask_s, mask_l) = self.masks;
        let (_, cut) = cut_gear(
            bytes,
            self.sizes.min_bytes as usize,
            self.sizes.avg_bytes as usize,
            self.sizes.max_bytes as usize,
            mask_s,
            mask_l,
            mask_s << 1,
            mask_l << 1,
            &*self.gear,
            &*self.gear_shifted,
        );
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::Secret;
    use crate::format::config::CHUNK_SIZES;

    fn stream(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    fn cuts(chunker: &Chunker, mut bytes: &[u8]) -> Vec<usize> {
        let mut lens = Vec::new();
        while !bytes.is_empty() {
            let len = chunker.cut(bytes);
            lens.push(len);
            bytes = &bytes[len..];
        }
        lens
    }

    #[test]
    fn cut_points_are_pinned_bounded_and_survive_an_insertion() {
        let chunker = Chunker::new(&Keys::derive(&Secret([7; 32])), CHUNK_SIZES);
        let bytes = stream(8 << 20);
        let lens = cuts(&chunker, &bytes);
        assert_eq!(lens[..3], [215_129, 236_653, 190_313], "the cut points are part of the format");
        for len in &lens[..lens.len() - 1] {
            assert!((64 << 10..=1 << 20).contains(len));
        }
        let mut longer = bytes.clone();
        longer.splice(100..100, [1, 2, 3]);
        let shared = cuts(&chunker, &longer).iter().rev().zip(lens.iter().rev()).take_while(|(a, b)| a == b).count();
        assert!(shared + 3 >= lens.len(), "{shared} of {} chunks are shared", lens.len());
    }

    #[test]
    fn another_key_cuts_elsewhere() {
        let bytes = stream(4 << 20);
        let a = cuts(&Chunker::new(&Keys::derive(&Secret([1; 32])), CHUNK_SIZES), &bytes);
        let b = cuts(&Chunker::new(&Keys::derive(&Secret([2; 32])), CHUNK_SIZES), &bytes);
        assert_ne!(a, b);
    }
}
