//! Signs that snapshots have come or gone in a local folder.
//!
//! inotify(7) tells at once of what this machine's own processes do. It tells nothing of what another machine does in a
//! folder of a network file system, or what is done behind a FUSE file system; a watch ends with the file system or
//! folder it is on, and a user has 128 instances. So it is only ever a reason to look at once: whoever has a watch looks
//! again now and then whatever it says.

use crate::store::ObjectKind;
use parking_lot::Mutex;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// What comes and goes in a folder, and what becomes of the folder.
const EVENTS: WatchFlags = WatchFlags::MOVED_TO
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::ONLYDIR);
/// What ends a watch, or means that it is of another folder than the one that is at the path now.
const LOST: ReadFlags = ReadFlags::IGNORED
    .union(ReadFlags::UNMOUNT)
    .union(ReadFlags::QUEUE_OVERFLOW)
    .union(ReadFlags::MOVE_SELF)
    .union(ReadFlags::DELETE_SELF);

/// A folder's device and inode; `None` where there is none.
type FolderId = Option<(u64, u64)>;

/// A watch on a repository's folder, which is set again when it ends.
pub struct Watch {
    repo: PathBuf,
    set: Mutex<Option<Set>>,
    /// Whether something may have happened that no event told.
    is_untold: AtomicBool,
}

struct Set {
    inotify: OwnedFd,
    /// The number of the watch on the repository's own folder, where others come and go.
    own: i32,
    places: [FolderId; 3],
}

impl Set {
    /// Watches the folders of snapshots and of what is said of them, and the one they are in.
    fn new(repo: &Path) -> Result<Self, Errno> {
        // Looked at before: a folder that takes another's place meanwhile is noticed by the next look.
        let places = places(repo);
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let own = inotify::add_watch(&inotify, repo, EVENTS)?;
        inotify::add_watch(&inotify, repo.join(ObjectKind::Snapshot.folder()), EVENTS)?;
        match inotify::add_watch(&inotify, repo.join(ObjectKind::Mark.folder()), EVENTS) {
            // Made with the first mark.
            Ok(_) | Err(Errno::NOENT) => Ok(Set { inotify, own, places }),
            Err(errno) => Err(errno),
        }
    }

    /// Takes all events there are; `None` where the watch is lost.
    fn has_event(&self) -> Option<bool> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(&self.inotify, &mut buffer);
        let mut any = false;
        loop {
            match events.next() {
                Ok(event) if event.events().intersects(LOST) || event.wd() == self.own => return None,
                Ok(_) => any = true,
                Err(Errno::AGAIN) => return Some(any),
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }
}

fn places(repo: &Path) -> [FolderId; 3] {
    let folders = [repo.to_path_buf(), repo.join(ObjectKind::Snapshot.folder()), repo.join(ObjectKind::Mark.folder())];
    folders.map(|folder| rustix::fs::stat(&folder).ok().map(|stat| (stat.st_dev, stat.st_ino)))
}

impl Watch {
    /// Sets a watch on a repository's folder, if one can be had.
    pub fn new(repo: &Path) -> Self {
        let watch = Watch { repo: repo.to_path_buf(), set: Mutex::default(), is_untold: AtomicBool::new(false) };
        watch.look();
        watch
    }

    /// Returns whether snapshots may have come or gone since it was asked last. Asks no disk and no network.
    pub fn has_event(&self) -> bool {
        let mut set = self.set.lock();
        let heard = set.as_ref().map_or(Some(false), Set::has_event);
        if heard.is_none() {
            *set = None;
        }
        self.is_untold.swap(false, Ordering::Relaxed) || heard.unwrap_or(true)
    }

    /// Returns whether there is a watch just now.
    pub fn is_set(&self) -> bool {
        self.set.lock().is_some()
    }

    /// Sets the watch again where there is none, or the folders at the path are others than those it is on. May wait for
    /// a disk or a network, and holds up nobody who asks meanwhile.
    pub fn look(&self) {
        let watched = self.set.lock().as_ref().map(|set| set.places);
        if watched.is_some_and(|watched| watched == places(&self.repo)) {
            return;
        }
        let new = Set::new(&self.repo);
        if let Err(errno) = &new {
            tracing::debug!("{} cannot be watched: {errno}", self.repo.display());
        }
        *self.set.lock() = new.ok();
        // What happened before the watch was set nobody has told.
        self.is_untold.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn repo() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("repo/snapshots")).unwrap();
        dir
    }

    /// Says whether a file that comes into a folder is told, and only once.
    fn is_told(watch: &Watch, file: &Path) -> bool {
        watch.has_event();
        std::fs::write(file, "").unwrap();
        let told = watch.has_event();
        assert!(!watch.has_event(), "one event is told once");
        told
    }

    #[test]
    fn folders_that_come_later_and_others_at_the_same_path_are_watched() {
        let dir = repo();
        let repo = dir.path().join("repo");
        let watch = Watch::new(&repo);
        assert!(watch.has_event(), "before the watch was set anything may have come");
        assert!(is_told(&watch, &repo.join("snapshots/1")));

        // The folder of marks comes with the first of them.
        std::fs::create_dir(repo.join("marks")).unwrap();
        assert!(watch.has_event() && !watch.is_set());
        watch.look();
        assert!(watch.is_set() && is_told(&watch, &repo.join("marks/1")));

        // The folder of snapshots is replaced, the repository renamed away and back.
        std::fs::rename(repo.join("snapshots"), dir.path().join("old")).unwrap();
        assert!(watch.has_event());
        watch.look();
        assert!(!watch.is_set());
        std::fs::create_dir(repo.join("snapshots")).unwrap();
        watch.look();
        assert!(is_told(&watch, &repo.join("snapshots/2")));
        std::fs::rename(&repo, dir.path().join("away")).unwrap();
        assert!(watch.has_event());
        watch.look();
        std::fs::rename(dir.path().join("away"), &repo).unwrap();
        watch.look();
        assert!(watch.has_event() && is_told(&watch, &repo.join("snapshots/3")));
    }

    #[test]
    fn a_folder_above_that_takes_another_place_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let [disk, other] = ["disk", "other"].map(|name| dir.path().join(name));
        for above in [&disk, &other] {
            std::fs::create_dir_all(above.join("repo/snapshots")).unwrap();
        }
        let watch = Watch::new(&disk.join("repo"));
        watch.has_event();
        std::fs::rename(&disk, dir.path().join("away")).unwrap();
        std::fs::rename(&other, &disk).unwrap();
        assert!(!watch.has_event(), "nobody tells of it");
        watch.look();
        assert!(watch.has_event() && is_told(&watch, &disk.join("repo/snapshots/1")));
        watch.look();
        assert!(!watch.has_event(), "a second look finds nothing new");
    }
}
