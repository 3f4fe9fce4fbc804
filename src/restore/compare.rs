//! The content of files: what is there is compared by the ids of its chunks, and only what differs is fetched.

use super::contents::Writers;
use super::file::{File, Old};
use super::walk::PART_BYTES;
use crate::error::{Error, Result};
use crate::format::tree::Content;
use crate::store::Wait;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ops::Range;

impl Writers<'_> {
    /// Returns whether a range of a file that is there is what is stored, up to the first piece that differs.
    pub(super) fn is_equal(
        &self,
        old: &Old,
        content: &Content,
        range: Range<u64>,
        buffer: &mut Vec<u8>,
    ) -> Result<bool> {
        let (repository, mut end) = (self.job.repository, range.start);
        repository.for_each_extent(content, range.start, range.end, Wait::Allowed, &mut |offset, extent| {
            let is_equal = match extent.is_hole() {
                true => old.is_zeros(offset, extent.len_bytes, buffer),
                false => old.read(offset, extent, buffer) && repository.keys().chunk_id(buffer) == extent.chunk,
            };
            if is_equal {
                end = offset.saturating_add(extent.len_bytes);
            }
            Ok(is_equal && !self.job.has_failed())
        })?;
        Ok(end == range.end)
    }

    /// Writes the extents of a file in a range; returns how many bytes that were. Holes stay holes. What the file
    /// that is replaced has at the same place is taken from there, once its id has shown that it is right.
    pub(super) fn fill(
        &self,
        file: &File,
        content: &Content,
        range: Range<u64>,
        old: Option<&Old>,
        buffer: &mut Vec<u8>,
    ) -> Result<u64> {
        let repository = self.job.repository;
        let (mut end, mut written_bytes) = (range.start, 0);
        repository.for_each_extent(content, range.start, range.end, Wait::Allowed, &mut |offset, extent| {
            end = offset.saturating_add(extent.len_bytes);
            if !extent.is_hole() {
                let is_right = |old: &Old, buffer: &mut Vec<u8>| {
                    old.read(offset, extent, buffer) && repository.keys().chunk_id(buffer) == extent.chunk
                };
                if !old.is_some_and(|old| is_right(old, buffer)) {
                    buffer.clear();
                    repository.read_extent(extent, buffer)?;
                }
                file.write_at(offset, buffer)?;
                written_bytes += extent.len_bytes;
            }
            Ok(true)
        })?;
        if end != range.end {
            return Err(Error::damaged("its extents end before it does: run `bakfs check`"));
        }
        Ok(written_bytes)
    }

    /// Writes a large file of which it was seen late that it differs, on threads of its own.
    pub(super) fn fill_by_many(&self, file: &File, content: &Content, size_bytes: u64, old: &Old) -> Result<u64> {
        let parts = Mutex::new(VecDeque::new());
        self.each_part(content, size_bytes, &mut |range| parts.lock().push_back(range))?;
        let failure = Mutex::new(None);
        let written = Mutex::new(0);
        let fill = || {
            let mut buffer = Vec::new();
            while let Some(range) = parts.lock().pop_front().filter(|_| failure.lock().is_none()) {
                match self.fill(file, content, range, Some(old), &mut buffer) {
                    Ok(bytes) => *written.lock() += bytes,
                    Err(error) => drop(failure.lock().get_or_insert(error)),
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.job.threads {
                scope.spawn(fill);
            }
            fill();
        });
        match failure.into_inner() {
            Some(error) => Err(error),
            None => Ok(written.into_inner()),
        }
    }

    /// Cuts a large file into ranges of whole extents, each with about [`PART_BYTES`] that are no hole.
    pub(super) fn each_part(&self, content: &Content, size_bytes: u64, send: &mut dyn FnMut(Range<u64>)) -> Result<()> {
        let (mut from, mut end, mut bytes) = (0, 0, 0);
        let repository = self.job.repository;
        repository.for_each_extent(content, 0, size_bytes, Wait::Allowed, &mut |offset, extent| {
            end = offset.saturating_add(extent.len_bytes);
            bytes = if extent.is_hole() { bytes } else { extent.len_bytes.saturating_add(bytes) };
            if bytes >= PART_BYTES {
                send(from..end);
                (from, bytes) = (end, 0);
            }
            Ok(!self.job.has_failed())
        })?;
        if end != size_bytes {
            return Err(Error::damaged("its extents do not add up to its length"));
        }
        if from < end {
            send(from..end);
        }
        Ok(())
    }
}
