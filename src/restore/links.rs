//! Files with several names: the first one that comes is written, the others are linked to it.

use super::tree::Folder;
use crate::format::codec::Bytes;
use crate::format::tree::{Entry, Meta};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// What all names of one file share: device and inode number at the source.
pub(super) type Key = (u64, u64);

/// Returns the key of a file that may have other names.
pub(super) fn key(meta: &Meta) -> Option<Key> {
    (meta.link_device != 0 && meta.nlink > 1).then_some((meta.link_device, meta.ino))
}

/// A name in a directory, which is held until the name is there.
pub(super) type Waiting = (Arc<Folder>, Entry);

/// What to do with one of the names.
pub(super) enum Claim {
    /// It is the first: it is written, and [`Links::settle`] called.
    Write,
    /// It becomes a link to this name.
    Link(Arc<Folder>, Bytes),
    /// The first is being written: whoever does that takes care of this one too.
    Waits,
}

enum State {
    Writing(Vec<Waiting>),
    Written(Arc<Folder>, Bytes),
}

struct Linked {
    state: State,
    /// Names that did not come yet.
    left: u32,
}

/// All files of which some names have come and others not.
#[derive(Default)]
pub(super) struct Links(Mutex<HashMap<Key, Linked>>);

impl Links {
    /// Says what to do with a name.
    pub(super) fn claim(&self, key: Key, folder: &Arc<Folder>, entry: &Entry) -> Claim {
        let mut files = self.0.lock();
        let Some(file) = files.get_mut(&key) else {
            let left = entry.meta.nlink - 1;
            files.insert(key, Linked { state: State::Writing(Vec::new()), left });
            return Claim::Write;
        };
        file.left = file.left.saturating_sub(1);
        match &mut file.state {
            State::Writing(waiting) => {
                waiting.push((folder.hold(), entry.clone()));
                Claim::Waits
            }
            State::Written(folder, name) => {
                let claim = Claim::Link(folder.clone(), name.clone());
                if file.left == 0 {
                    files.remove(&key);
                }
                claim
            }
        }
    }

    /// Notes that the first name is there, or that it could not be written, which leaves the next name to
    /// be the first. Returns the names that waited.
    pub(super) fn settle(&self, key: Key, folder: &Arc<Folder>, name: &Bytes, is_written: bool) -> Vec<Waiting> {
        let mut files = self.0.lock();
        let Some(mut file) = files.remove(&key) else { return Vec::new() };
        let State::Writing(waiting) = file.state else { return Vec::new() };
        // Those that waited come again.
        file.left = file.left.saturating_add(u32::try_from(waiting.len()).unwrap_or(u32::MAX));
        if is_written && file.left > 0 {
            file.state = State::Written(folder.clone(), name.clone());
            files.insert(key, file);
        }
        waiting
    }
}
