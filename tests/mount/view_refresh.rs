//! Promise: a look-up by name is right as soon as a backup has ended, also while another reader is just taking
//! the new snapshot in; nobody who looks waits for a network that is asked what is new; and a directory is listed under
//! whatever load.

use bakfs::error::{Error, ErrorKind, Result};
use bakfs::format::header::Suite;
use bakfs::format::tree::Node;
use bakfs::repo::open;
use bakfs::repo::{Memory, Repository};
use bakfs::store::{Decorator, ListedObject, Object, ObjectKind, Store, Wait};
use bakfs::view::View;
use bakfs_mount::tree::{Fault, Ino, ROOT_INO, Tree, Wait as MountWait};
use bakfs_testing::library::{self, Source, TINY_CHUNKS};
use bakfs_testing::stores::MemStore;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What stops a listing of snapshots.
#[derive(Default)]
struct Gate {
    is_closed: Mutex<bool>,
    waiting: AtomicBool,
    opened: Condvar,
}

/// Keeps a gate closed.
struct Closed<'a>(&'a Gate);

impl<'a> Closed<'a> {
    fn new(gate: &'a Gate) -> Self {
        *gate.is_closed.lock() = true;
        Closed(gate)
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        *self.0.is_closed.lock() = false;
        self.0.opened.notify_all();
    }
}

/// A store whose listings of snapshots wait at a gate.
struct Gated {
    inner: Arc<MemStore>,
    gate: Arc<Gate>,
    is_far: bool,
}

impl Decorator for Gated {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }
    fn list(&self, kind: ObjectKind) -> Result<Vec<ListedObject>> {
        if kind == ObjectKind::Snapshot {
            let mut is_closed = self.gate.is_closed.lock();
            self.gate.waiting.store(*is_closed, Ordering::SeqCst);
            self.gate.opened.wait_while(&mut is_closed, |is_closed| *is_closed);
        }
        self.inner.list(kind)
    }
    fn is_far(&self) -> bool {
        self.is_far
    }
}

#[test]
fn who_looks_while_another_takes_a_snapshot_in_waits_for_it() {
    let source = Source::new();
    let inner = Arc::new(MemStore::default());
    library::init(&*inner, Suite::Plain, 0, TINY_CHUNKS).unwrap();
    let writer = library::open(inner.clone()).unwrap();
    library::back_up(&writer, &source.path(), 0).unwrap();

    let gate = Arc::new(Gate::default());
    let store = Gated { inner, gate: gate.clone(), is_far: false };
    let news = Arc::new(AtomicBool::new(false));
    let heard = news.clone();
    let changed = Box::new(move || heard.swap(false, Ordering::SeqCst));
    let view = View::new(library::open(Arc::new(store)).unwrap(), false, changed).unwrap();

    let name = library::back_up(&writer, &source.path(), 1).unwrap().snapshot.name;
    news.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let closed = Closed::new(&gate);
        let first = scope.spawn(|| view.lookup(ROOT_INO, name.as_bytes(), MountWait::Allowed));
        bakfs_testing::until("the first reader lists the snapshots", bakfs_testing::SOON, || {
            gate.waiting.load(Ordering::SeqCst)
        });
        let second = view.lookup(ROOT_INO, name.as_bytes(), MountWait::Never);
        drop(closed);
        assert!(matches!(second, Err(Fault::WouldWait)), "{second:?}");
        assert!(first.join().unwrap().is_ok());
    });
    assert!(view.lookup(ROOT_INO, name.as_bytes(), MountWait::Never).is_ok());
}

#[test]
fn nobody_waits_at_midnight_while_a_store_far_away_is_asked() {
    let source = Source::new();
    let inner = Arc::new(MemStore::default());
    library::init(&*inner, Suite::Plain, 0, TINY_CHUNKS).unwrap();
    let writer = library::open(inner.clone()).unwrap();
    let old = library::back_up(&writer, &source.path(), 0).unwrap().snapshot.name;

    let gate = Arc::new(Gate::default());
    let store = Gated { inner, gate: gate.clone(), is_far: true };
    let is_midnight = Arc::new(AtomicBool::new(false));
    let heard = is_midnight.clone();
    let changed = Box::new(move || heard.swap(false, Ordering::SeqCst));
    let view = View::new(library::open(Arc::new(store)).unwrap(), false, changed).unwrap();

    let new = library::back_up(&writer, &source.path(), 1).unwrap().snapshot.name;
    std::thread::scope(|scope| {
        let closed = Closed::new(&gate);
        let asking = scope.spawn(|| view.look_again());
        bakfs_testing::until("the store is asked", bakfs_testing::SOON, || gate.waiting.load(Ordering::SeqCst));
        is_midnight.store(true, Ordering::SeqCst);
        let looking = scope.spawn(|| view.lookup(ROOT_INO, old.as_bytes(), MountWait::Allowed));
        bakfs_testing::until("it is answered", bakfs_testing::SOON, || looking.is_finished());
        assert!(looking.join().unwrap().is_ok());
        drop(closed);
        asking.join().unwrap().unwrap();
    });
    assert!(view.lookup(ROOT_INO, new.as_bytes(), MountWait::Never).is_ok());
}

/// A store of which nothing is ever in memory.
struct Cold(Arc<MemStore>);

impl Decorator for Cold {
    fn inner(&self) -> &dyn Store {
        &*self.0
    }
    fn read_at(&self, object: Object, offset: u64, buffer: &mut [u8], wait: Wait) -> Result<()> {
        match wait {
            Wait::Never => Err(Error::new(ErrorKind::WouldWait, "nothing is in memory")),
            Wait::Allowed => self.0.read_at(object, offset, buffer, wait),
        }
    }
}

/// Under load the page with a directory's entry may leave the cache between its look-up and its listing, which begins
/// with `..`.
#[test]
fn the_parent_of_a_directory_is_found_by_who_may_wait_when_its_page_has_left_the_cache() {
    let source = Source::new();
    let inner = Arc::new(MemStore::default());
    library::init(&*inner, Suite::Plain, 0, TINY_CHUNKS).unwrap();
    library::back_up(&library::open(inner.clone()).unwrap(), &source.path(), 0).unwrap();
    let options = open::Options { memory: Memory { frames_bytes: 0, pages_bytes: 0 }, ..open::Options::default() };
    let repository = Repository::unlock(Arc::new(Cold(inner)), &options, |_| Ok(Vec::new())).unwrap();
    let repository = Arc::new(repository);
    let view = View::new(repository.clone(), false, Box::new(|| false)).unwrap();
    let newest = view.newest().unwrap().snapshot.clone();
    let noise =
        repository.resolve(&newest, source.path().join("noise").as_os_str().as_encoded_bytes()).unwrap().unwrap();
    let into = |dir: Ino, name: &str| view.lookup(dir, name.as_bytes(), MountWait::Allowed).unwrap().ino;
    let snapshot = into(ROOT_INO, &newest.name);
    let path = source.path();
    let names: Vec<_> = path.to_str().unwrap().split('/').filter(|name| !name.is_empty()).collect();
    let above = names.iter().fold(snapshot, |dir, name| into(dir, name));
    let folder = into(above, "folder");
    // Whoever looks elsewhere brings another page into the cache, and whoever reads a file another frame.
    into(snapshot, names[0]);
    let Node::File(content) = &noise.node else { panic!("{noise:?}") };
    repository.read_content(content, noise.meta.size_bytes, 0, 100, Wait::Allowed, &mut Vec::new()).unwrap();
    let told = view.parent(folder, MountWait::Never);
    assert!(matches!(told, Err(Fault::WouldWait)), "{told:?}");
    assert_eq!(view.parent(folder, MountWait::Allowed).unwrap(), above);
}
