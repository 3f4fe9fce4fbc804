//! What archives are made of: blocks, and records of what a header cannot hold.

use crate::error::{Context, Result};
use std::io::Write;

/// Archives are made of blocks of this size.
pub(super) const BLOCK_BYTES: u64 = 512;

/// Says what failed.
pub(super) fn writing() -> String {
    "Cannot write the archive".into()
}

/// The records of one member that its header cannot hold.
#[derive(Default)]
pub(super) struct Records(pub(super) Vec<(String, Vec<u8>)>);

impl Records {
    /// Adds a record.
    pub(super) fn add(&mut self, key: &str, value: &[u8]) {
        self.0.push((key.to_string(), value.to_vec()));
    }
}

/// Fills the last block.
pub(super) fn pad(written_bytes: u64, out: &mut dyn Write) -> Result<()> {
    let padding = written_bytes.next_multiple_of(BLOCK_BYTES) - written_bytes;
    let zeros = [0; BLOCK_BYTES as usize];
    out.write_all(&zeros[..padding as usize]).context(writing)
}
