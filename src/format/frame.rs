//! How a frame's plaintext is encoded before it is sealed.

use super::codec::DecodeError;
use crate::quantity::counted;

/// The longest plaintext of a frame: one chunk of the largest size the chunker's limits allow.
pub const MAX_FRAME_BYTES: usize = 4 << 20;

/// Stored as it is.
pub const RAW: u8 = 0;
/// One zstd frame (RFC 8878).
pub const ZSTD: u8 = 1;

/// Encodes plaintexts, keeping the compressor's memory between calls.
pub struct Encoder {
    zstd: zstd::bulk::Compressor<'static>,
}

impl Encoder {
    /// Makes an encoder of a zstd level.
    pub fn new(level: i32) -> Self {
        let zstd = zstd::bulk::Compressor::new(level).expect("zstd takes every level and clamps it");
        Encoder { zstd }
    }

    /// Appends the encoded plaintext to `out` and returns its codec: raw where compression saves less than 1/32.
    pub fn encode(&mut self, plain: &[u8], out: &mut Vec<u8>) -> u8 {
        let start = out.len();
        let room = plain.len() - plain.len() / 32;
        out.resize(start + room, 0);
        match self.zstd.compress_to_buffer(plain, &mut out[start..]) {
            Ok(len) => {
                out.truncate(start + len);
                ZSTD
            }
            Err(_) => {
                out.truncate(start);
                out.extend_from_slice(plain);
                RAW
            }
        }
    }
}

/// Decodes frames, keeping the decompressor's memory between calls.
pub struct Decoder {
    zstd: zstd::bulk::Decompressor<'static>,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder { zstd: zstd::bulk::Decompressor::new().expect("a decompressor needs memory only") }
    }
}

impl Decoder {
    /// Appends exactly `plain_bytes` bytes to `out`, or fails. Never writes more, whatever the input says.
    pub fn decode(
        &mut self,
        codec: u8,
        encoded: &[u8],
        plain_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        let wrong = |reason: String| DecodeError { what: "frame", reason };
        if plain_bytes > MAX_FRAME_BYTES {
            return Err(wrong(format!("{plain_bytes} B are more than a frame holds")));
        }
        match codec {
            RAW if encoded.len() == plain_bytes => {
                out.extend_from_slice(encoded);
                Ok(())
            }
            ZSTD => {
                let start = out.len();
                // zstd appends within the capacity that is there: the bound holds.
                out.reserve(plain_bytes);
                let mut tail = Tail { bytes: out, start, limit: plain_bytes };
                let len =
                    self.zstd.decompress_to_buffer(encoded, &mut tail).map_err(|error| wrong(error.to_string()))?;
                if len != plain_bytes {
                    return Err(wrong(format!("{} came out instead of {plain_bytes}", counted(len, "byte"))));
                }
                Ok(())
            }
            RAW => Err(wrong("its raw length is wrong".into())),
            other => Err(wrong(format!("unknown codec {other}"))),
        }
    }
}

/// The unused end of a buffer, for zstd to write to without the cost of zeroing it first.
struct Tail<'a> {
    bytes: &'a mut Vec<u8>,
    start: usize,
    limit: usize,
}

// SAFETY: the pointer is to `limit` bytes of reserved capacity after `start`, valid for writes as that of the whole
// vector is, and `filled_until` only extends the length over bytes zstd has written.
unsafe impl zstd::zstd_safe::WriteBuf for Tail<'_> {
    fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
    fn capacity(&self) -> usize {
        self.limit
    }
    fn as_mut_ptr(&mut self) -> *mut u8 {
        // Of the whole vector: a pointer made from the empty slice after `start` may not be written through.
        // SAFETY: `start` is the vector's length, which lies within its allocation.
        unsafe { self.bytes.as_mut_ptr().add(self.start) }
    }
    unsafe fn filled_until(&mut self, n: usize) {
        assert!(n <= self.limit);
        // SAFETY: zstd wrote `n` bytes, within the reserved capacity.
        unsafe { self.bytes.set_len(self.start + n) }
    }
}

/// Encodes a single-frame object's content: codec, plaintext length, encoded bytes.
pub fn encode_whole(plain: &[u8], level: i32) -> (u8, Vec<u8>) {
    let mut encoded = Vec::new();
    let codec = Encoder::new(level).encode(plain, &mut encoded);
    (codec, encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_round_trip_and_lies_about_their_length_are_refused() {
        let text = b"row row row your boat ".repeat(500);
        let noise: Vec<u8> = blake3::Hasher::new().finalize_xof().take_bytes(5000);
        for (plain, codec) in [(&text, ZSTD), (&noise, RAW)] {
            let mut encoded = vec![7];
            assert_eq!(Encoder::new(3).encode(plain, &mut encoded), codec);
            let mut out = vec![1, 2];
            Decoder::default().decode(codec, &encoded[1..], plain.len(), &mut out).unwrap();
            assert_eq!(&out[2..], &plain[..]);
            for lie in [plain.len() - 1, plain.len() + 1, 0, MAX_FRAME_BYTES + 1] {
                assert!(Decoder::default().decode(codec, &encoded[1..], lie, &mut Vec::new()).is_err());
            }
        }
    }

    /// What zstd does with a tail, for Miri, which runs no C: `cargo +nightly miri test --lib format::frame::tests::a_tail`.
    #[test]
    fn a_tail_is_written_to_where_the_vector_has_room() {
        use zstd::zstd_safe::WriteBuf;
        let mut out = vec![1, 2];
        out.reserve(5);
        let mut tail = Tail { bytes: &mut out, start: 2, limit: 5 };
        let place = tail.as_mut_ptr();
        // SAFETY: five bytes are reserved after `start`, and all of them are written.
        unsafe {
            std::ptr::copy_nonoverlapping(b"hello".as_ptr(), place, 5);
            tail.filled_until(5);
        }
        assert_eq!((tail.as_slice(), tail.capacity()), (&b"hello"[..], 5));
        assert_eq!(out, b"\x01\x02hello");
    }

    trait TakeBytes {
        fn take_bytes(self, len: usize) -> Vec<u8>;
    }
    impl TakeBytes for blake3::OutputReader {
        fn take_bytes(mut self, len: usize) -> Vec<u8> {
            let mut bytes = vec![0; len];
            self.fill(&mut bytes);
            bytes
        }
    }
}
