//! The folder copies are kept in: one file an object, bounded by the blocks the files really have.
//!
//! Every process that writes there looks from time to time at what there is, and removes what was not used for
//! the longest time. Nothing else is kept about the files, so that they may be removed by anybody.

use super::sparse_copy::{BLOCK_BYTES, SparseCopy};
use crate::disk::{self, Lasting};
use crate::error::{Context, Error, Result};
use crate::id::ObjectId;
use crate::store::Object;
use parking_lot::{Mutex, MutexGuard};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Bounds below this make no sense.
const MIN_BYTES: u64 = 1 << 20;
/// What is left free of the bound after files were removed, and before they are: 1/8 and 1/16.
const FREED_PART: u64 = 8;
const HEADROOM_PART: u64 = 16;
/// What is written, in parts of the bound, before a process looks again. Four processes together stay below it.
const UNSEEN_PART: u64 = 64;
/// A file that is made to see whether one can be.
const PROBE: &str = ".tmp-probe";
/// For how long a folder that failed is not tried again.
const REST: Duration = Duration::from_secs(60);

/// A folder of copies.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    pub(super) max_bytes: u64,
    /// What was written since this process last looked.
    unseen_bytes: AtomicU64,
    looking: Mutex<()>,
    failed: Mutex<Option<Instant>>,
}

/// Returns the name of an object's file. What the last part tells besides the kind is the layout of the file.
fn file_name(object: Object) -> Option<String> {
    let (id, kind): (ObjectId, _) = match object {
        Object::Config => return None,
        Object::Key(id) => (id, "key"),
        Object::Pack(id) => (id, "pack1"),
        Object::Index(id) => (id, "index1"),
        Object::Snapshot(id) => (id, "snapshot"),
        Object::Mark(id) => (id, "mark"),
    };
    Some(format!("{}.{kind}", id.to_hex()))
}

impl Folder {
    /// Makes the folder for its owner only, and looks what is there. Fails if nothing can be written there.
    pub(super) fn open(path: &Path, max_bytes: u64) -> Result<Self> {
        let max_bytes = max_bytes.max(MIN_BYTES);
        let folder = Folder {
            path: path.to_path_buf(),
            max_bytes,
            unseen_bytes: AtomicU64::new(0),
            looking: Mutex::default(),
            failed: Mutex::default(),
        };
        folder.make()?;
        folder.write(PROBE, b"bakfs")?;
        // Should it stay, it is the oldest file one day.
        let _ = std::fs::remove_file(folder.path.join(PROBE));
        folder.look(&folder.looking.lock(), max_bytes);
        Ok(folder)
    }

    fn make(&self) -> Result<()> {
        let made = crate::trust::folder::make(&self.path, crate::trust::folder::PRIVATE);
        made.context(|| format!("Cannot make the folder {}", self.path.display()))
    }

    fn path_of(&self, object: Object) -> Option<PathBuf> {
        Some(self.path.join(file_name(object)?))
    }

    /// Takes that something could not be written, and tells it once until it works again.
    pub(super) fn fail(&self, error: &Error) {
        let mut failed = self.failed.lock();
        if failed.replace(Instant::now()).is_none() {
            warn(&self.path, error);
        }
    }

    /// Returns whether it is worth writing there.
    pub(super) fn is_usable(&self) -> bool {
        self.failed.lock().is_none_or(|failed| failed.elapsed() > REST)
    }

    /// Opens an object's sparse copy; one that is not there is made, or is `None`.
    pub(super) fn copy(&self, object: Object, make: bool) -> Result<Option<SparseCopy>> {
        let Some(path) = self.path_of(object) else { return Ok(None) };
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let flags = if make { flags | OFlags::CREATE } else { flags };
        let open = || rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600));
        let opened = match open() {
            Err(Errno::NOENT) if !make => return Ok(None),
            Err(Errno::NOENT) => {
                self.make()?;
                open()
            }
            opened => opened,
        };
        let file = File::from(opened.context(|| format!("Cannot open {}", path.display()))?);
        let copy = SparseCopy::new(object, file, false)?;
        *self.failed.lock() = None;
        Ok(Some(copy))
    }

    /// Reads the copy of a small object, if it is what its name says.
    pub(super) fn read(&self, object: Object, id: ObjectId, max_bytes: u64) -> Option<Vec<u8>> {
        let path = self.path_of(object)?;
        let metadata = std::fs::symlink_metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
        let bytes = if metadata.len() <= max_bytes { std::fs::read(&path).ok()? } else { Vec::new() };
        if ObjectId::of(&bytes) != id {
            tracing::debug!("The copy of {object} is broken: it is fetched again");
            let _ = std::fs::remove_file(&path);
            return None;
        }
        if metadata.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > REST)) {
            // Only an order in which files are removed.
            let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        }
        Some(bytes)
    }

    /// Keeps a copy of a small object.
    pub(super) fn keep(&self, object: Object, bytes: &[u8]) {
        let Some(name) = file_name(object).filter(|_| self.is_usable()) else { return };
        match self.write(&name, bytes) {
            Ok(()) => drop(self.wrote(bytes.len() as u64)),
            Err(error) => self.fail(&error),
        }
    }

    /// Writes a file under another name and renames it; nobody sees it in part.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        // What is read from here is verified.
        disk::replace(&self.path.join(name), bytes, 0o600, Lasting::Nothing)
            .context(|| format!("Cannot write in {}", self.path.display()))
    }

    /// Removes the copy of an object; returns whether there was one.
    pub(super) fn remove(&self, object: Object) -> bool {
        self.path_of(object).is_some_and(|path| std::fs::remove_file(path).is_ok())
    }

    /// Returns whether there is a copy of an object.
    pub(super) fn has(&self, object: Object) -> bool {
        self.path_of(object).is_some_and(|path| path.exists())
    }

    /// Takes that bytes are written, and keeps the bound; returns whether files may have been removed for it.
    pub(super) fn wrote(&self, bytes: u64) -> bool {
        let bytes = bytes.next_multiple_of(BLOCK_BYTES);
        let is_due = |unseen_bytes: u64| unseen_bytes >= self.max_bytes / UNSEEN_PART;
        if !is_due(self.unseen_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes) {
            return false;
        }
        // Whoever writes meanwhile waits: nobody goes on while it is not known how much there is.
        let looking = self.looking.lock();
        if is_due(self.unseen_bytes.load(Ordering::Relaxed)) {
            self.look(&looking, self.max_bytes);
        }
        true
    }

    /// Looks what there is, and removes what was not used for the longest time if that is too much.
    fn look(&self, _: &MutexGuard<'_, ()>, max_bytes: u64) {
        self.unseen_bytes.store(0, Ordering::Relaxed);
        let Ok(entries) = std::fs::read_dir(&self.path) else { return };
        let mut files = Vec::new();
        for entry in entries.flatten() {
            if let Ok(metadata) = entry.metadata()
                && metadata.is_file()
            {
                let used = (metadata.mtime(), metadata.mtime_nsec());
                files.push((used, entry.path(), metadata.blocks() * 512));
            }
        }
        let mut total_bytes: u64 = files.iter().map(|(_, _, bytes)| bytes).sum();
        if total_bytes <= max_bytes - max_bytes / HEADROOM_PART {
            return;
        }
        files.sort();
        for (_, path, bytes) in files {
            if total_bytes <= max_bytes - max_bytes / FREED_PART {
                break;
            }
            // Somebody else may remove it at the same time: it is gone either way.
            let _ = std::fs::remove_file(&path);
            total_bytes -= bytes;
        }
    }

    /// Gives up an eighth of what there is, when the file system is full.
    pub(super) fn shrink(&self) {
        let entries = std::fs::read_dir(&self.path).into_iter().flatten().flatten();
        let used_bytes: u64 = entries.filter_map(|entry| entry.metadata().ok()).map(|file| file.blocks() * 512).sum();
        self.look(&self.looking.lock(), used_bytes);
    }
}

/// Tells that a folder is not used, and what to do.
pub(super) fn warn(path: &Path, error: &Error) {
    tracing::warn!(
        "The cache folder {} cannot be used, so what is read is kept in little memory and fetched anew by the next \
         command: make room there, or name another folder with --cache-dir: {}",
        path.display(),
        error.chain()
    );
}
