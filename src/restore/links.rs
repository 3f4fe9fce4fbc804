//! Files with several names: the first one that comes is written, the others are linked to it.
//!
//! A file that was there and stays may have names that it has not in the snapshot. Which those are nobody knows
//! without searching the disk, but that there are some is seen when all names of the snapshot are there and the
//! file has more: it is then made anew, with the names of the snapshot ([`Links::strangers`]).

use super::target::{Dir, Id};
use super::tree::Folder;
use crate::format::codec::Bytes;
use crate::format::tree::{Entry, Meta};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What all names of one file share: device and inode number at the source.
pub(super) type Key = (u64, u64);

/// Returns the key of a file that may have other names.
pub(super) fn key(meta: &Meta) -> Option<Key> {
    (meta.link_device != 0 && meta.nlink > 1).then_some((meta.link_device, meta.ino))
}

/// A name in a directory, which is held until the name is there.
pub(super) type Waiting = (Arc<Folder>, Entry);

/// A name that is there.
#[derive(Clone)]
pub(super) struct NameAt {
    pub(super) folder: Arc<Folder>,
    pub(super) name: Bytes,
    pub(super) id: Id,
    /// Whether the file was there before this restore.
    pub(super) is_kept: bool,
    /// How many names it has in the snapshot.
    pub(super) nlink: u32,
}

/// What to do with one of the names.
pub(super) enum Claim {
    /// It is the first: it is written, and [`Links::settle`] called.
    Write,
    /// It becomes a link to this name, and [`Links::linked`] is called.
    Link(NameAt),
    /// The first is being written: whoever does that takes care of this one too.
    Waits,
}

enum State {
    Writing(Vec<Waiting>),
    Written(NameAt),
}

struct Linked {
    state: State,
    /// Names that are there.
    names: u32,
}

/// All files of which some names are there and others not.
#[derive(Default)]
pub(super) struct Links {
    files: Mutex<HashMap<Key, Linked>>,
    strangers: Mutex<HashSet<Key>>,
}

impl Links {
    /// Says what to do with a name.
    pub(super) fn claim(&self, key: Key, folder: &Arc<Folder>, entry: &Entry) -> Claim {
        let mut files = self.files.lock();
        let Some(file) = files.get_mut(&key) else {
            files.insert(key, Linked { state: State::Writing(Vec::new()), names: 0 });
            return Claim::Write;
        };
        match &mut file.state {
            State::Writing(waiting) => {
                waiting.push((folder.hold(), entry.clone()));
                Claim::Waits
            }
            State::Written(place) => Claim::Link(place.clone()),
        }
    }

    /// Notes that the first name is there; `None`: that it could not be written, which leaves the next name to
    /// be the first. Returns the names that waited.
    pub(super) fn settle(&self, key: Key, written: Option<NameAt>) -> Vec<Waiting> {
        let mut files = self.files.lock();
        let Some(file) = files.remove(&key) else { return Vec::new() };
        let State::Writing(waiting) = file.state else { return Vec::new() };
        if let Some(place) = written {
            files.insert(key, Linked { state: State::Written(place), names: 1 });
        }
        waiting
    }

    /// Notes that a name in `dir` was linked to the first.
    pub(super) fn linked(&self, key: Key, dir: &Dir, name: &[u8]) {
        let mut files = self.files.lock();
        let Some(file) = files.get_mut(&key) else { return };
        file.names += 1;
        let State::Written(place) = &file.state else { return };
        if file.names >= place.nlink {
            let place = place.clone();
            files.remove(&key);
            drop(files);
            self.look_for_strangers(key, &place, dir, name);
        }
    }

    fn look_for_strangers(&self, key: Key, place: &NameAt, dir: &Dir, name: &[u8]) {
        let is_strange = || dir.look(name).ok().flatten().is_some_and(|there| there.nlink > place.nlink);
        if place.is_kept && is_strange() {
            self.strangers.lock().insert(key);
        }
    }

    /// Returns the files that were there and have names which they have not in the snapshot.
    pub(super) fn strangers(self) -> HashSet<Key> {
        for (key, file) in std::mem::take(&mut *self.files.lock()) {
            let State::Written(place) = file.state else { continue };
            if place.is_kept
                && let Ok(dir) = place.folder.open()
            {
                self.look_for_strangers(key, &place, &dir, &place.name);
            }
        }
        self.strangers.into_inner()
    }
}
