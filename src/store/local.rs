//! Objects as files of a local folder, durable on every file system that honours fsync(2).
//!
//! An object is written under a temporary name in its own folder, synced, and renamed without
//! replacing; [`Store::barrier`] then syncs every folder a name was added to. A file whose write or
//! sync failed is void: it is removed and never synced again (Rebello et al., USENIX ATC 2020).

use super::sharing::{Sharing, failure};
use super::{Hints, ListedObject, Names, Object, ObjectKind, Room, Store, Wait, too_many};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::id::{ObjectId, to_hex};
use crate::quantity::counted;
use crate::random::fill_random;
use crate::trust::folder;
use lru::LruCache;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, ReadWriteFlags};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{IoSliceMut, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Open packs kept for reading.
const MAX_OPEN_FILES: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
/// What is read ahead of a waiting read in the background, for readers that go on.
const READ_AHEAD_BYTES: u64 = 4 << 20;
/// A read this near to the one before goes on where that one was: two threads of one reader take turns.
const NEAR_BYTES: u64 = 2 << 20;
/// A pack nobody has read for so long is closed by [`Store::close_idle`]: an open file keeps its disk from being unmounted
/// (umount2(2), EBUSY).
const MAX_IDLE: Duration = Duration::from_secs(2);
/// A file that is being written for longer was left by a writer that died.
const MAX_PUT_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Start of the names of files that are being written.
const TEMPORARY: &str = ".tmp-";

/// An open object, and how far the kernel was asked to read ahead in it.
struct Opened {
    file: File,
    last_end: AtomicU64,
    advised_end: AtomicU64,
    /// In milliseconds since the store was opened.
    last_used: AtomicU64,
}

impl Opened {
    /// Has the kernel read on where a reader goes on; a read far from the last one asks for nothing, so
    /// that random reads fetch only what they need.
    fn read_ahead(&self, offset: u64, len_bytes: u64) {
        let end = offset + len_bytes;
        let goes_on = offset.abs_diff(self.last_end.swap(end, Ordering::Relaxed)) < NEAR_BYTES;
        let advised = self.advised_end.load(Ordering::Relaxed);
        let is_ahead = (end..end + READ_AHEAD_BYTES).contains(&advised) && advised - end > READ_AHEAD_BYTES / 2;
        if goes_on && !is_ahead {
            self.advised_end.store(end + READ_AHEAD_BYTES, Ordering::Relaxed);
            let ahead = std::num::NonZeroU64::new(READ_AHEAD_BYTES);
            // Only a hint: without it the same bytes are read a little later.
            let _ = rustix::fs::fadvise(&self.file, end, ahead, rustix::fs::Advice::WillNeed);
        }
    }
}

/// A local folder.
pub struct LocalStore {
    root: PathBuf,
    dirty: Mutex<BTreeSet<PathBuf>>,
    open: Mutex<LruCache<Object, Arc<Opened>>>,
    start: Instant,
}

impl LocalStore {
    /// Uses a folder as it is.
    pub fn new(root: &Path) -> Self {
        LocalStore {
            root: root.to_path_buf(),
            // A segment another process stored and was killed before it could sync may be relied on.
            dirty: Mutex::new(BTreeSet::from([root.join(ObjectKind::Index.folder())])),
            open: Mutex::new(LruCache::new(MAX_OPEN_FILES)),
            start: Instant::now(),
        }
    }

    /// Makes the folders of a repository and syncs them and the folder's own name.
    pub fn create_folders(&self) -> Result<()> {
        let parent = self.root.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            folder::make(parent, folder::PUBLIC).context(|| format!("Cannot make the folder {}", parent.display()))?;
        }
        let mut folders = vec![self.root.clone()];
        folders.extend(ObjectKind::ALL.map(|kind| self.root.join(kind.folder())));
        folders.extend((0..=255).map(|shard| self.root.join(format!("packs/{shard:02x}"))));
        for folder in &folders {
            self.make_folder(folder)?;
        }
        for folder in folders.iter().map(PathBuf::as_path).chain(parent) {
            sync_folder(folder)?;
        }
        Ok(())
    }

    fn now_millis(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    fn path(&self, object: Object) -> PathBuf {
        self.root.join(object.path())
    }

    /// Returns the folders objects of a kind lie in.
    fn folders(&self, kind: ObjectKind) -> Vec<PathBuf> {
        let root = self.root.join(kind.folder());
        match kind {
            ObjectKind::Pack => (0..=255).map(|shard| root.join(format!("{shard:02x}"))).collect(),
            _ => vec![root],
        }
    }

    fn file(&self, object: Object, wait: Wait) -> Result<Arc<Opened>> {
        if let Some(file) = self.open.lock().get(&object) {
            file.last_used.store(self.now_millis(), Ordering::Relaxed);
            return Ok(file.clone());
        }
        if wait == Wait::Never {
            return Err(would_wait());
        }
        let path = self.path(object);
        let opening = || format!("Cannot open {}", path.display());
        // Nobody is waited for who may write to a FIFO of this name (fifo(7)); of a regular file it says nothing.
        let fd = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty());
        let file = File::from(fd.map_err(|error| self.failure(opening(), &path, error))?);
        if !file.metadata().context(opening)?.is_file() {
            return Err(Error::damaged(format!("{} is no regular file", path.display())));
        }
        let file = Arc::new(Opened {
            file,
            last_end: AtomicU64::new(u64::MAX / 2),
            advised_end: AtomicU64::new(0),
            last_used: AtomicU64::new(self.now_millis()),
        });
        if matches!(object, Object::Pack(_)) {
            self.open.lock().put(object, file.clone());
        }
        Ok(file)
    }

    fn failure(&self, attempted: String, path: &Path, error: impl Into<std::io::Error>) -> Error {
        failure(attempted, path, &self.root, error.into())
    }

    /// Makes a folder of the repository, or the repository's own, if it is not there.
    fn make_folder(&self, path: &Path) -> Result<()> {
        match rustix::fs::mkdir(path, Mode::from_raw_mode(0o700)) {
            Ok(()) if path == self.root => Ok(()),
            Ok(()) => {
                let sharing = Sharing::of(&self.root)?;
                let hand_over = || sharing.hand_over(&File::open(path)?);
                hand_over().context(|| format!("Cannot set the rights of {}", path.display()))
            }
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(self.failure(format!("Cannot make the folder {}", path.display()), path, error)),
        }
    }

    fn write_temporary(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let fd = rustix::fs::open(
            path,
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::from_raw_mode(0o400),
        )
        .map_err(|error| self.failure(format!("Cannot create {}", path.display()), path, error))?;
        let mut file = File::from(fd);
        let sharing = Sharing::of(&self.root)?;
        sharing.hand_over(&file).context(|| format!("Cannot set the rights of {}", path.display()))?;
        file.write_all(bytes).context(|| format!("Cannot write {}", path.display()))?;
        file.sync_all().context(|| format!("Cannot sync {}", path.display()))
    }
}

pub(super) fn would_wait() -> Error {
    Error::new(ErrorKind::WouldWait, "The bytes are not in memory")
}

fn sync_folder(path: &Path) -> Result<()> {
    let sync = || File::open(path)?.sync_all();
    sync().context(|| format!("Cannot sync the folder {}", path.display()))
}

/// Renames without replacing; false if the name is taken.
fn rename_new(from: &Path, to: &Path) -> rustix::io::Result<bool> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // File systems without RENAME_NOREPLACE: a hard link never replaces either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            match rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()) {
                Ok(()) => rustix::fs::unlink(from).map(|()| true),
                Err(Errno::EXIST) => Ok(false),
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

impl Store for LocalStore {
    fn put(&self, object: Object, bytes: &[u8]) -> Result<()> {
        let path = self.path(object);
        let folder = path.parent().expect("every object lies in a folder").to_path_buf();
        if matches!(object, Object::Mark(_)) && !folder.exists() {
            self.make_folder(&folder)?;
            sync_folder(&self.root)?;
        }
        let mut random = [0; 12];
        fill_random(&mut random);
        let temporary = folder.join(format!("{TEMPORARY}{}", to_hex(&random)));
        let stored = self
            .write_temporary(&temporary, bytes)
            .and_then(|()| rename_new(&temporary, &path).context(|| format!("Cannot rename to {}", path.display())));
        if !matches!(stored, Ok(true)) {
            // The temporary file is void; that it could not be removed changes nothing for readers.
            let _ = rustix::fs::unlink(&temporary);
        }
        match stored {
            Ok(false) if object == Object::Config => {
                return Err(Error::new(
                    ErrorKind::Exists,
                    format!("There is a repository at {} already", self.location()),
                ));
            }
            Ok(false) => {
                let len = self.len_bytes(object)?;
                if len != bytes.len() as u64 {
                    return Err(Error::damaged(format!(
                        "Object {object} exists with {} instead of {}: run `bakfs check --read-data`",
                        counted(len, "byte"),
                        bytes.len()
                    )));
                }
            }
            Ok(true) => {}
            Err(error) => return Err(error),
        }
        self.dirty.lock().insert(folder);
        Ok(())
    }

    fn barrier(&self, names: Names) -> Result<()> {
        if names == Names::All {
            let sync = || rustix::fs::syncfs(File::open(&self.root)?).map_err(std::io::Error::from);
            sync().context(|| format!("Cannot sync the file system of {}", self.root.display()))?;
        }
        let dirty = std::mem::take(&mut *self.dirty.lock());
        // What one failure leaves undone the next barrier must not take for done.
        dirty.iter().try_for_each(|folder| sync_folder(folder)).inspect_err(|_| self.dirty.lock().extend(dirty.clone()))
    }

    fn len_bytes(&self, object: Object) -> Result<u64> {
        let path = self.path(object);
        let stat = std::fs::metadata(&path).context(|| format!("Cannot read {}", path.display()))?;
        Ok(stat.len())
    }

    fn read_at(&self, object: Object, offset: u64, buffer: &mut [u8], wait: Wait) -> Result<()> {
        let file = self.file(object, wait)?;
        match wait {
            Wait::Never => {
                let flags = ReadWriteFlags::NOWAIT;
                match rustix::io::preadv2(&file.file, &mut [IoSliceMut::new(buffer)], offset, flags) {
                    Ok(len) if len == buffer.len() => Ok(()),
                    // A short or refused read is done again by a call that may wait.
                    _ => Err(would_wait()),
                }
            }
            Wait::Allowed => {
                if matches!(object, Object::Pack(_)) {
                    file.read_ahead(offset, buffer.len() as u64);
                }
                file.file.read_exact_at(buffer, offset).inspect_err(|_| drop(self.open.lock().pop(&object))).map_err(|error| match error.kind() {
                    std::io::ErrorKind::UnexpectedEof => Error::damaged(format!(
                        "Object {object} is cut off: it ends before byte {}",
                        offset + buffer.len() as u64
                    )),
                    _ if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Error::io(
                        format!(
                            "Cannot read {}: the disk it is on, or the way there, fails (`dmesg` tells more). Copy the \
                             repository to a sound disk, as with `ddrescue`, and check it there",
                            self.path(object).display()
                        ),
                        error,
                    ),
                    _ => Error::io(format!("Cannot read {}", self.path(object).display()), error),
                })
            }
        }
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<ListedObject>> {
        let mut objects = Vec::new();
        for folder in self.folders(kind) {
            let listing = |error| self.failure(format!("Cannot list {}", folder.display()), &folder, error);
            let entries = match std::fs::read_dir(&folder) {
                // The folder of marks is made with the first one; any other that is missing is a fault.
                Err(error) if kind == ObjectKind::Mark && error.kind() == std::io::ErrorKind::NotFound => continue,
                entries => entries.map_err(listing)?,
            };
            for entry in entries {
                let entry = entry.map_err(listing)?;
                // Names that are no ids are leftovers of writers, or strays: never objects.
                let Some(id) = entry.file_name().to_str().and_then(ObjectId::from_hex) else {
                    continue;
                };
                if objects.len() == kind.max_objects() {
                    return Err(too_many(kind, &self.location()));
                }
                match entry.metadata() {
                    Ok(metadata) => objects.push(ListedObject { id, len_bytes: metadata.len() }),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(listing(error)),
                }
            }
        }
        Ok(objects)
    }

    fn delete(&self, object: Object) -> Result<()> {
        let path = self.path(object);
        self.open.lock().pop(&object);
        let folder = path.parent().expect("every object lies in a folder");
        match rustix::fs::unlink(&path) {
            Ok(()) => {}
            // A process that was killed may have removed it and not synced the folder.
            Err(Errno::NOENT) if folder.exists() => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(self.failure(format!("Cannot remove {}", path.display()), folder, error)),
        }
        self.dirty.lock().insert(folder.to_path_buf());
        Ok(())
    }

    fn sweep(&self) -> Result<u64> {
        let mut swept = 0;
        for folder in ObjectKind::ALL.iter().flat_map(|kind| self.folders(*kind)) {
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            for entry in
                entries.flatten().filter(|entry| entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes()))
            {
                let age =
                    entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|at| at.elapsed().ok());
                // Should it still be written to, its put fails and says so: nothing relies on it yet.
                if age.is_some_and(|age| age > MAX_PUT_AGE) && std::fs::remove_file(entry.path()).is_ok() {
                    swept += 1;
                }
            }
        }
        Ok(swept)
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }
}

impl Hints for LocalStore {
    fn close_idle(&self) {
        let used_since = self.now_millis().saturating_sub(MAX_IDLE.as_millis() as u64);
        let mut open = self.open.lock();
        let is_idle = |file: &Arc<Opened>| file.last_used.load(Ordering::Relaxed) < used_since;
        // The least recently used comes first; who still reads it has it until then.
        while open.peek_lru().is_some_and(|(_, file)| is_idle(file)) {
            open.pop_lru();
        }
    }

    fn room(&self) -> Option<Room> {
        let told = rustix::fs::statvfs(&self.root).ok().filter(|told| told.f_blocks > 0)?;
        let bytes = |blocks: u64| blocks.saturating_mul(told.f_frsize);
        Some(Room {
            total_bytes: bytes(told.f_blocks),
            free_bytes: bytes(told.f_bfree),
            available_bytes: bytes(told.f_bavail),
            files: told.f_files,
            free_files: told.f_ffree,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_nobody_reads_are_closed_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = LocalStore::new(&folder.path().join("repo"));
        store.create_folders().unwrap();
        let [read, idle] = [1, 2].map(|number| Object::Pack(ObjectId([number; 32])));
        let mut byte = [0];
        for object in [idle, read] {
            store.put(object, b"hello").unwrap();
            store.read_at(object, 0, &mut byte, Wait::Allowed).unwrap();
        }
        store.close_idle();
        assert_eq!(store.open.lock().len(), 2, "a moment ago they were read");
        // As if that had been longer ago.
        store.start -= 2 * MAX_IDLE;
        store.read_at(read, 0, &mut byte, Wait::Allowed).unwrap();
        store.close_idle();
        assert_eq!(store.open.lock().iter().map(|(object, _)| *object).collect::<Vec<_>>(), [read]);
        assert_eq!(store.read_at(idle, 0, &mut byte, Wait::Never).unwrap_err().kind(), ErrorKind::WouldWait);
        store.read_at(idle, 0, &mut byte, Wait::Allowed).unwrap();
    }

    #[test]
    fn objects_are_stored_once_whole_and_listed() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::new(&folder.path().join("a/repo"));
        store.create_folders().unwrap();
        let object = Object::Pack(ObjectId([0xab; 32]));
        store.put(object, b"hello").unwrap();
        store.put(object, b"hello").unwrap();
        assert_eq!(store.put(object, b"other!").unwrap_err().kind(), ErrorKind::Damaged);
        store.barrier(Names::Mine).unwrap();
        assert_eq!(store.list(ObjectKind::Pack).unwrap(), [ListedObject { id: ObjectId([0xab; 32]), len_bytes: 5 }]);
        let mut bytes = [0; 3];
        store.read_at(object, 1, &mut bytes, Wait::Allowed).unwrap();
        assert_eq!(&bytes, b"ell");
        assert_eq!(store.read_at(object, 3, &mut bytes, Wait::Allowed).unwrap_err().kind(), ErrorKind::Damaged);
        store.put(Object::Config, b"one").unwrap();
        assert_eq!(store.put(Object::Config, b"two").unwrap_err().kind(), ErrorKind::Exists);
        let strays = std::fs::read_dir(folder.path().join("a/repo/packs/ab")).unwrap().count();
        assert_eq!(strays, 1, "no temporary file is left");
        store.delete(object).unwrap();
        store.barrier(Names::Mine).unwrap();
        assert!(store.dirty.lock().is_empty());
        store.delete(object).unwrap();
        assert_eq!(store.dirty.lock().len(), 1, "whoever removed it may have been killed before the folder was synced");
        assert!(store.list(ObjectKind::Pack).unwrap().is_empty());
    }
}
