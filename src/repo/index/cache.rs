//! The local cache: index segments as files that are mapped, and a list of snapshots.
//!
//! Nothing in it is needed: what is missing, cut off or of another version is made again from the
//! repository. Its files are written under temporary names, synced and renamed.
//!
//! A segment file is the segment, the ids of the index objects it stands for, and 24 bytes: their
//! count, the segment's length, and a magic number with the cache's version.

use crate::disk::{self, Lasting};
use crate::error::{Context, Error, Result};
use crate::format::index::{ChunkEntry, FrameEntry, Segment, segment_head};
use crate::format::pack::u64_at;
use crate::id::{ObjectId, RepositoryId, to_hex};
use crate::random::fill_random;
use crate::repo::index::{Loaded, SegmentBytes};
use crate::trust::file::require_own_folder;
use crate::trust::folder;
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const FOOT_MAGIC: &[u8; 8] = b"bakfsix2";
const FOOT_BYTES: usize = 24;
/// More segment files than this are merged.
const MAX_FILES: usize = 8;

/// The cache folder of one repository.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

/// A lock that is held.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, and given back when it is closed")] Option<File>);

impl Cache {
    /// Uses `base/<repository id>`, making it for its owner only.
    pub fn open(base: &Path, repository: &RepositoryId) -> Result<Self> {
        let folder = base.join(repository.to_string());
        folder::make(&folder, folder::PRIVATE)
            .context(|| format!("Cannot make the cache folder {}", folder.display()))?;
        // What is mapped must not be cut off by somebody else meanwhile.
        require_own_folder(&folder)?;
        Ok(Cache { folder })
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn segment_paths(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let paths = entries.flatten().map(|entry| entry.path());
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "seg")).collect()
    }

    /// Maps the segments that stand for index objects `wanted` approves of, those of most objects first,
    /// and removes the files that stand for others or for nothing that these do not.
    pub fn load(&self, wanted: impl Fn(&ObjectId) -> bool) -> Vec<Arc<Loaded>> {
        let mut found: Vec<(PathBuf, Loaded)> = Vec::new();
        for path in self.segment_paths() {
            match map(&path) {
                Ok(segment) if segment.covers.iter().all(&wanted) => found.push((path, segment)),
                // Stale or broken: made again from the repository.
                _ => drop(std::fs::remove_file(&path)),
            }
        }
        found.sort_by_key(|(_, segment)| std::cmp::Reverse(segment.covers.len()));
        let mut covered = HashSet::new();
        let mut loaded = Vec::new();
        for (path, segment) in found {
            let known = covered.len();
            covered.extend(segment.covers.iter().copied());
            if covered.len() > known {
                loaded.push(Arc::new(segment));
            } else {
                let _ = std::fs::remove_file(&path);
            }
        }
        loaded
    }

    /// Removes everything that was taken from the repository's index.
    pub fn clear(&self) {
        self.segment_paths().iter().for_each(|path| drop(std::fs::remove_file(path)));
    }

    /// Keeps a segment's bytes and maps them. Without room or permission they stay in memory.
    pub fn add(&self, bytes: Vec<u8>, covers: Vec<ObjectId>) -> Result<Loaded> {
        let kept = self.write("seg", |out| {
            out.write_all(&bytes)?;
            write_foot(out, &covers, bytes.len())
        });
        match kept.and_then(|path| map(&path)) {
            Ok(loaded) => Ok(loaded),
            Err(error) => {
                warn_of_memory(&error);
                heap(bytes, covers)
            }
        }
    }

    /// Merges the smallest segments when there are many, in bounded memory.
    pub fn compact(&self, mut segments: Vec<Arc<Loaded>>) -> Vec<Arc<Loaded>> {
        if segments.len() <= MAX_FILES {
            return segments;
        }
        segments.sort_by_key(|loaded| loaded.segment.chunk_count());
        // What is kept apart is at least as large as everything that is merged below it.
        let mut merged_chunks = 0;
        let mut count = 0;
        for (at, loaded) in segments.iter().enumerate() {
            let chunks = loaded.segment.chunk_count();
            if at >= MAX_FILES && chunks > 2 * merged_chunks {
                break;
            }
            merged_chunks += chunks;
            count = at + 1;
        }
        let rest = segments.split_off(count);
        match self.merge(&segments) {
            Ok(merged) => {
                let mut all = rest;
                all.push(Arc::new(merged));
                all
            }
            Err(error) => {
                tracing::warn!("The cached index stays in many files: {}", error.chain());
                segments.extend(rest);
                segments
            }
        }
    }

    /// Merges segments that are in memory into one in a file that has no name any more: nobody else takes them from the
    /// cache. Without room or permission they stay in memory.
    pub fn gather(&self, segments: Vec<Arc<Loaded>>) -> Vec<Arc<Loaded>> {
        let gathered = self.write_merged("gathered", &segments).and_then(|path| {
            let mapped = map(&path);
            let _ = std::fs::remove_file(&path);
            mapped
        });
        match gathered {
            Ok(merged) => vec![Arc::new(Loaded { is_bundled: true, ..merged })],
            Err(error) => {
                warn_of_memory(&error);
                segments
            }
        }
    }

    fn merge(&self, segments: &[Arc<Loaded>]) -> Result<Loaded> {
        let path = self.write_merged("seg", segments)?;
        let merged = map(&path)?;
        let covered: HashSet<_> = merged.covers.iter().copied().collect();
        for old in self.segment_paths().into_iter().filter(|old| *old != path) {
            if map(&old).is_ok_and(|old| old.covers.iter().all(|id| covered.contains(id))) {
                let _ = std::fs::remove_file(&old);
            }
        }
        Ok(merged)
    }

    fn write_merged(&self, extension: &str, segments: &[Arc<Loaded>]) -> Result<PathBuf> {
        let sum = |count: fn(&Segment<SegmentBytes>) -> usize| {
            segments.iter().map(|loaded| count(&loaded.segment)).sum::<usize>()
        };
        let (packs, frames, chunks) = (sum(Segment::pack_count), sum(Segment::frame_count), sum(Segment::chunk_count));
        let covers: Vec<_> = segments.iter().flat_map(|loaded| loaded.covers.iter().copied()).collect();
        self.write(extension, |out| {
            let head = segment_head(packs, frames, chunks);
            out.write_all(&head)?;
            let mut len = head.len();
            let mut put = |out: &mut BufWriter<&mut File>, bytes: &[u8]| {
                len += bytes.len();
                out.write_all(bytes)
            };
            let broken = || std::io::Error::other("a cached segment is broken");
            for loaded in segments {
                for at in 0..loaded.segment.pack_count() {
                    put(out, &loaded.segment.pack(at).ok_or_else(broken)?.encode())?;
                }
            }
            // A number that made no sense makes none afterwards.
            let moved = |number: u32, count: usize, first: usize| {
                let number = usize::try_from(number).ok().filter(|number| *number < count);
                number.and_then(|number| u32::try_from(first + number).ok()).unwrap_or(u32::MAX)
            };
            let mut first_pack = 0;
            for loaded in segments {
                for at in 0..loaded.segment.frame_count() {
                    let frame = loaded.segment.frame(at).ok_or_else(broken)?;
                    let pack = moved(frame.pack, loaded.segment.pack_count(), first_pack);
                    put(out, &FrameEntry { pack, ..frame }.encode())?;
                }
                first_pack += loaded.segment.pack_count();
            }
            let mut first_frame = 0;
            let mut heads = std::collections::BinaryHeap::new();
            let mut first_frames = Vec::new();
            for (which, loaded) in segments.iter().enumerate() {
                first_frames.push(first_frame);
                first_frame += loaded.segment.frame_count();
                if let Some(chunk) = loaded.segment.chunk(0) {
                    heads.push(std::cmp::Reverse((chunk.id, which, 0)));
                }
            }
            while let Some(std::cmp::Reverse((_, which, at))) = heads.pop() {
                let segment = &segments[which].segment;
                let chunk = segment.chunk(at).ok_or_else(broken)?;
                let frame = moved(chunk.frame, segment.frame_count(), first_frames[which]);
                put(out, &ChunkEntry { frame, ..chunk }.encode())?;
                if let Some(next) = segment.chunk(at + 1) {
                    heads.push(std::cmp::Reverse((next.id, which, at + 1)));
                }
            }
            write_foot(out, &covers, len)
        })
    }

    fn write(
        &self,
        extension: &str,
        fill: impl FnOnce(&mut BufWriter<&mut File>) -> std::io::Result<()>,
    ) -> Result<PathBuf> {
        let mut random = [0; 12];
        fill_random(&mut random);
        let path = self.folder.join(format!("{}.{extension}", to_hex(&random)));
        let written = disk::replace_with(&path, 0o600, Lasting::Whole, |file| {
            let mut out = BufWriter::with_capacity(1 << 20, file);
            fill(&mut out)?;
            out.flush()
        });
        written.context(|| format!("Cannot write the cache file {}", path.display()))?;
        Ok(path)
    }

    /// Locks a file of the cache against other processes until it is dropped (flock(2)); `None` if another
    /// holds it. Without room or permission there is nothing to guard.
    pub fn try_lock(&self, name: &str) -> Option<Lock> {
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(self.folder.join(name));
        let Ok(file) = file else { return Some(Lock(None)) };
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => None,
            _ => Some(Lock(Some(file))),
        }
    }

    /// Reads a small file of the cache.
    pub fn read_file(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.folder.join(name)).ok()
    }

    /// Removes the oldest files whose names begin so, until `max_files` are left.
    pub fn keep_newest(&self, prefix: &str, max_files: usize) {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let named = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()));
        let changed = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let mut found: Vec<_> = named.map(|entry| entry.path()).collect();
        if found.len() > max_files {
            found.sort_by_cached_key(|path| std::cmp::Reverse(changed(path)));
            found[max_files..].iter().for_each(|path| drop(std::fs::remove_file(path)));
        }
    }

    /// Replaces a small file of the cache; that it could not be kept is no error.
    pub fn write_file(&self, name: &str, bytes: &[u8]) {
        let _ = disk::replace(&self.folder.join(name), bytes, 0o600, Lasting::Whole);
    }
}

/// Tells once that a cache takes nothing more: a full disk stays full.
fn warn_of_memory(error: &Error) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    match TOLD.swap(true, Ordering::Relaxed) {
        false => tracing::warn!("The index is kept in memory: {}", error.chain()),
        true => tracing::debug!("The index is kept in memory: {}", error.chain()),
    }
}

fn write_foot(out: &mut impl Write, covers: &[ObjectId], segment_bytes: usize) -> std::io::Result<()> {
    for id in covers {
        out.write_all(&id.0)?;
    }
    out.write_all(&(covers.len() as u64).to_le_bytes())?;
    out.write_all(&(segment_bytes as u64).to_le_bytes())?;
    out.write_all(FOOT_MAGIC)
}

/// Keeps a segment in memory.
pub fn heap(bytes: Vec<u8>, covers: Vec<ObjectId>) -> Result<Loaded> {
    let len = bytes.len();
    let segment = Segment::new(SegmentBytes::Heap(bytes), len)
        .map_err(|error| Error::damaged("An index segment is broken").because(error))?;
    Ok(Loaded { segment, covers, is_bundled: false })
}

fn map(path: &Path) -> Result<Loaded> {
    let broken = || Error::damaged(format!("The cache file {} is broken", path.display()));
    let file = File::open(path).context(|| format!("Cannot open {}", path.display()))?;
    // SAFETY: cache files are written once under another name and then only renamed or unlinked, in a folder that is
    // this user's alone (looked at by `Cache::open`); nobody else changes the bytes while they are mapped.
    let map = unsafe { memmap2::Mmap::map(&file) }.context(|| format!("Cannot map {}", path.display()))?;
    let foot_at = map.len().checked_sub(FOOT_BYTES).ok_or_else(broken)?;
    let foot = &map[foot_at..];
    let (count, len) = (u64_at(foot, 0), u64_at(foot, 8));
    let covers_bytes = count.checked_mul(32).ok_or_else(broken)?;
    if foot[16..] != *FOOT_MAGIC || len.checked_add(covers_bytes) != Some(foot_at as u64) {
        return Err(broken());
    }
    let len = len as usize;
    let covers = map[len..foot_at].chunks_exact(32).map(|id| ObjectId(id.try_into().expect("32 bytes"))).collect();
    let segment = Segment::new(SegmentBytes::Mapped(map), len).map_err(|_| broken())?;
    Ok(Loaded { segment, covers, is_bundled: false })
}
