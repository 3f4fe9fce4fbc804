//! Promise: a listing that is short costs nothing: what this machine has seen and the listing lacks is asked for by name.

use bakfs::crypto::keys::Secret;
use bakfs::crypto::slot::Credential;
use bakfs::error::{Error, ErrorKind, Result};
use bakfs::format::header::Suite;
use bakfs::id::ObjectId;
use bakfs::repo::Repository;
use bakfs::repo::open::Options;
use bakfs::store::{Decorator, ListedObject, Object, ObjectKind, Store};
use bakfs_testing::library::{self, KEYS, TINY_CHUNKS};
use bakfs_testing::stores::MemStore;
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;

/// A store whose listings lack a snapshot, and which may not answer for it.
#[derive(Default)]
struct Short {
    inner: MemStore,
    hidden: Mutex<Option<ObjectId>>,
    is_mute: Mutex<bool>,
}

impl Short {
    fn answers(&self, object: Object) -> Result<()> {
        match *self.is_mute.lock() && *self.hidden.lock() == snapshot_of(object) {
            true => Err(Error::new(ErrorKind::Io, "The line is dead")),
            false => Ok(()),
        }
    }
}

impl Decorator for Short {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }
    fn len_bytes(&self, object: Object) -> Result<u64> {
        self.answers(object)?;
        self.inner.len_bytes(object)
    }
    fn read_whole(&self, object: Object, max_bytes: u64) -> Result<Vec<u8>> {
        self.answers(object)?;
        self.inner.read_whole(object, max_bytes)
    }
    fn list(&self, kind: ObjectKind) -> Result<Vec<ListedObject>> {
        let hidden = *self.hidden.lock();
        let is_listed = |listed: &ListedObject| kind != ObjectKind::Snapshot || hidden != Some(listed.id);
        Ok(self.inner.list(kind)?.into_iter().filter(is_listed).collect())
    }
}

fn snapshot_of(object: Object) -> Option<ObjectId> {
    match object {
        Object::Snapshot(id) => Some(id),
        _ => None,
    }
}

fn open(store: &Arc<Short>, known: &Path) -> Arc<Repository> {
    let options = Options { known: Some(known), ..Options::default() };
    let opened = Repository::unlock(store.clone(), &options, |_| Ok(vec![Credential::Key(Secret(KEYS[0]))]));
    Arc::new(opened.unwrap())
}

#[test]
fn what_a_listing_lacks_is_found_by_name_and_pruned_by_nobody() {
    for suite in [Suite::Plain, Suite::Aes256GcmSiv] {
        let (store, source) = (Arc::new(Short::default()), library::Source::new());
        let known = tempfile::tempdir().unwrap();
        library::init(&*store, suite, 7, TINY_CHUNKS).unwrap();
        let mut ids = Vec::new();
        for day in 1..=3 {
            library::plant(&source.path(), day);
            let made = library::back_up(&open(&store, known.path()), &source.path(), day as i64).unwrap();
            ids.push(made.id.unwrap());
        }
        let packs = || Store::list(&*store, ObjectKind::Pack).unwrap().len();
        let before = packs();
        // A listing lacks the newest, which is there.
        *store.hidden.lock() = Some(ids[2]);
        let repository = open(&store, known.path());
        assert_eq!(repository.snapshots().unwrap().last().unwrap().id, ids[2]);
        assert_eq!(repository.missing_snapshots().unwrap(), []);
        assert!(repository.take_warnings().iter().any(|warning| warning.contains("lacks")), "{suite:?}");
        library::prune(&open(&store, known.path())).unwrap();
        assert_eq!(packs(), before, "{suite:?}: nothing of it was deleted");
        // Nobody knows whether it is there.
        *store.is_mute.lock() = true;
        assert_eq!(repository.snapshots().unwrap_err().kind(), ErrorKind::Io);
        *store.is_mute.lock() = false;
        // It is gone.
        store.inner.delete(Object::Snapshot(ids[2])).unwrap();
        let repository = open(&store, known.path());
        let missing = repository.missing_snapshots().unwrap();
        assert_eq!((missing.len(), missing[0].id, &*missing[0].host), (1, ids[2], "host"), "{suite:?}");
        assert!(library::prune(&repository).unwrap_err().to_string().contains("nothing is deleted"));
        assert_eq!(packs(), before, "{suite:?}");
        repository.accept_missing().unwrap();
        assert_eq!(open(&store, known.path()).missing_snapshots().unwrap(), []);
    }
}
