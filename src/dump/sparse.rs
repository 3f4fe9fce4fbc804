//! Files with holes in a tar archive, as GNU tar's "PAX format, version 1.0" keeps them (its manual, "Storing Sparse
//! Files"): a map of what is data in front of the data. Otherwise one file of 8 EiB that has no content at all would
//! keep an archive from ever coming to its end.

use super::block::{BLOCK_BYTES, Records, pad, writing};
use super::{decode, file};
use crate::error::{Context, Result};
use crate::format::tree::{Content, Extent};
use crate::repo::Repository;
use crate::store::Wait;
use std::io::Write;

/// What lies where in a file with holes. The map is not held: a file may have any number of runs.
pub(super) struct Holes {
    runs: u64,
    /// Of the map, without what fills its last block.
    pub(super) map_bytes: u64,
    pub(super) data_bytes: u64,
}

/// Calls `each` with offset and length of all runs of data, and in the end with the file's length and 0, which is how
/// the format says where a hole at the end ends.
fn each_run(
    repository: &Repository,
    content: &Content,
    size: u64,
    each: &mut dyn FnMut(u64, u64) -> Result<()>,
) -> Result<()> {
    let (mut start, mut end) = (0, 0);
    repository.for_each_extent(content, 0, size, Wait::Allowed, &mut |offset, extent| {
        if extent.is_hole() {
            return Ok(true);
        }
        if offset != end {
            if start < end {
                each(start, end - start)?;
            }
            start = offset;
        }
        end = offset.saturating_add(extent.len_bytes);
        Ok(true)
    })?;
    if start < end {
        each(start, end - start)?;
    }
    each(size, 0)
}

fn line_bytes(number: u64) -> u64 {
    u64::from(number.checked_ilog10().unwrap_or(0)) + 2
}

impl Holes {
    /// Looks for the holes of a file; `None` where there are none.
    pub(super) fn of(repository: &Repository, content: &Content, size: u64) -> Result<Option<Holes>> {
        let mut holes = Holes { runs: 0, map_bytes: 0, data_bytes: 0 };
        each_run(repository, content, size, &mut |offset, len| {
            holes.runs += 1;
            holes.map_bytes += line_bytes(offset) + line_bytes(len);
            holes.data_bytes = holes.data_bytes.saturating_add(len);
            Ok(())
        })?;
        holes.map_bytes += line_bytes(holes.runs);
        Ok((holes.data_bytes < size).then_some(holes))
    }

    /// Adds the records that say what the member is.
    pub(super) fn describe(&self, member: &[u8], size: u64, records: &mut Records) {
        records.add("GNU.sparse.major", b"1");
        records.add("GNU.sparse.minor", b"0");
        records.add("GNU.sparse.name", member);
        records.add("GNU.sparse.realsize", size.to_string().as_bytes());
    }

    /// Writes the map and the data.
    pub(super) fn write(
        &self,
        repository: &Repository,
        content: &Content,
        size: u64,
        threads: usize,
        out: &mut dyn Write,
    ) -> Result<()> {
        writeln!(out, "{}", self.runs).context(writing)?;
        each_run(repository, content, size, &mut |offset, len| write!(out, "{offset}\n{len}\n").context(writing))?;
        pad(self.map_bytes, out)?;
        debug_assert!(BLOCK_BYTES.is_power_of_two());
        let data = only_data(repository, content, size)?;
        match data {
            Some(data) => file(repository, &Content::Extents(data), self.data_bytes, threads, out),
            // More runs than are held: one after the other.
            None => repository.for_each_extent(content, 0, size, Wait::Allowed, &mut |_, extent| {
                if !extent.is_hole() {
                    out.write_all(&decode(repository, std::slice::from_ref(extent), Vec::new())?).context(writing)?;
                }
                Ok(true)
            }),
        }
    }
}

/// The most extents of a file that are held to read them on several threads.
const MAX_HELD: usize = 1 << 20;

fn only_data(repository: &Repository, content: &Content, size: u64) -> Result<Option<Vec<Extent>>> {
    let mut data = Vec::new();
    repository.for_each_extent(content, 0, size, Wait::Allowed, &mut |_, extent| {
        if !extent.is_hole() {
            data.push(*extent);
        }
        Ok(data.len() <= MAX_HELD)
    })?;
    Ok((data.len() <= MAX_HELD).then_some(data))
}
