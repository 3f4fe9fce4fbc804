//! What every store does, asked of the store itself.

use bakfs::error::ErrorKind;
use bakfs::id::ObjectId;
use bakfs::store::{Names, Object, ObjectKind, Store, Wait};
use bakfs_testing::noise;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const THREADS: usize = 8;
/// A server that is in trouble now and then may leave open so often whether it has stored an object.
const MAX_GIVEN_UP: usize = 5;
/// About the length of the largest pack.
const LARGE_BYTES: usize = 32 << 20;

/// Asks a store with nothing in it for all it promises; a listing of `listed_count` objects has several pages where
/// the service makes them so short. Emulators break off the connection at an empty body, which bakfs never stores,
/// and answer a range beyond an object's end with one that makes no sense.
pub fn keeps_the_contract(store: &dyn Store, listed_count: usize, is_emulator: bool) {
    nothing_is_there(store);
    objects_of_all_lengths_are_read_back(store, is_emulator);
    config_is_never_overwritten(store);
    all_is_listed(store, listed_count);
    threads_do_not_meet(store);
}

fn id(seed: u64) -> ObjectId {
    ObjectId(noise(seed, 32).try_into().unwrap())
}

fn ids(store: &dyn Store, kind: ObjectKind) -> BTreeSet<ObjectId> {
    let listed = store.list(kind).unwrap();
    let ids: BTreeSet<_> = listed.iter().map(|one| one.id).collect();
    assert_eq!(ids.len(), listed.len(), "no object is listed twice");
    ids
}

fn nothing_is_there(store: &dyn Store) {
    let object = Object::Pack(id(1));
    for kind in ObjectKind::ALL {
        assert_eq!(store.list(kind).unwrap(), [], "{kind:?}");
    }
    assert_eq!(store.len_bytes(object).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.read_whole(object, 1000).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.read_at(object, 0, &mut [0; 10], Wait::Allowed).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.read_whole(Object::Config, 1000).unwrap_err().kind(), ErrorKind::NotFound);
    store.delete(object).unwrap();
    store.barrier(Names::All).unwrap();
}

fn objects_of_all_lengths_are_read_back(store: &dyn Store, is_emulator: bool) {
    let lengths = [(10, 0), (11, 1), (12, 70_000), (13, LARGE_BYTES)];
    for (seed, len_bytes) in lengths.into_iter().filter(|(_, len_bytes)| !is_emulator || *len_bytes > 0) {
        let bytes = noise(seed, len_bytes);
        for kind in [ObjectKind::Pack, ObjectKind::Snapshot] {
            let object = kind.object(id(seed));
            store.put(object, &bytes).unwrap();
            store.put(object, &bytes).unwrap_or_else(|error| panic!("put twice: {}", error.chain()));
            store.barrier(Names::Mine).unwrap();
            assert_eq!(store.len_bytes(object).unwrap(), len_bytes as u64);
            assert!(store.read_whole(object, len_bytes as u64).unwrap() == bytes, "{object} is read back");
            let listed = store.list(kind).unwrap();
            let found = listed.iter().find(|one| one.id == id(seed)).expect("it is listed");
            assert_eq!(found.len_bytes, len_bytes as u64);
            ranges_are_read(store, object, &bytes, is_emulator);
            store.delete(object).unwrap();
            store.delete(object).unwrap();
            store.barrier(Names::Mine).unwrap();
            assert!(!ids(store, kind).contains(&id(seed)), "{object} is not listed any more");
            assert_eq!(store.len_bytes(object).unwrap_err().kind(), ErrorKind::NotFound);
        }
    }
}

fn ranges_are_read(store: &dyn Store, object: Object, bytes: &[u8], is_emulator: bool) {
    let end = bytes.len();
    let ranges = [(0, 1), (0, end), (end / 2, end), (end.saturating_sub(1), end), (end / 3, end / 2)];
    for (start, end) in ranges.into_iter().filter(|(start, end)| start < end && *end <= bytes.len()) {
        let mut buffer = vec![0; end - start];
        store.read_at(object, start as u64, &mut buffer, Wait::Allowed).unwrap();
        assert!(buffer == bytes[start..end], "{object} {start}..{end}");
    }
    // What is not there is never made up.
    for (offset, len_bytes) in [(0, end + 1), (end, 1), (end.saturating_sub(1), 2), (end + 1000, 10)] {
        let mut buffer = vec![0; len_bytes];
        if offset + len_bytes <= end || is_emulator && offset >= end {
            continue;
        }
        let error = store.read_at(object, offset as u64, &mut buffer, Wait::Allowed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{len_bytes} bytes at {offset} of {end}: {}", error.chain());
    }
    if end > 0 {
        assert_eq!(store.read_whole(object, end as u64 - 1).unwrap_err().kind(), ErrorKind::Damaged);
    }
}

fn config_is_never_overwritten(store: &dyn Store) {
    store.put(Object::Config, b"the first").unwrap();
    store.barrier(Names::Mine).unwrap();
    assert_eq!(store.put(Object::Config, b"a second").unwrap_err().kind(), ErrorKind::Exists);
    assert_eq!(store.read_whole(Object::Config, 100).unwrap(), b"the first");
    store.delete(Object::Config).unwrap();
    store.barrier(Names::Mine).unwrap();
}

fn all_is_listed(store: &dyn Store, count: usize) {
    let next = AtomicUsize::new(0);
    let in_threads = |work: &(dyn Fn(Object) + Sync)| {
        next.store(0, Ordering::SeqCst);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    while let index @ 0.. = next.fetch_add(1, Ordering::SeqCst)
                        && index < count
                    {
                        work(Object::Mark(id(1000 + index as u64)));
                    }
                });
            }
        });
        store.barrier(Names::Mine).unwrap();
    };
    in_threads(&|object| store.put(object, object.path().as_bytes()).unwrap());
    let wanted: BTreeSet<_> = (0..count).map(|index| id(1000 + index as u64)).collect();
    assert!(ids(store, ObjectKind::Mark) == wanted, "all {count} are listed");
    assert!(ids(store, ObjectKind::Index).is_empty(), "each kind is listed by itself");
    in_threads(&|object| store.delete(object).unwrap());
    assert!(ids(store, ObjectKind::Mark).is_empty(), "all are removed");
}

/// Stores bytes made of a seed. Those of which the store cannot tell are given up for others, a few times at most.
fn put_some(store: &dyn Store, seed: u64, given_up: &Mutex<BTreeSet<ObjectId>>) -> (ObjectId, Vec<u8>) {
    for seed in (seed..).step_by(1_000_000) {
        let bytes = noise(seed, 100_000 + seed as usize % 1000);
        match store.put(Object::Pack(id(seed)), &bytes) {
            Err(error) if error.kind() == ErrorKind::Uncertain => {
                let mut given_up = given_up.lock();
                given_up.insert(id(seed));
                assert!(given_up.len() <= MAX_GIVEN_UP, "{}", error.chain());
            }
            result => {
                result.unwrap_or_else(|error| panic!("{}", error.chain()));
                return (id(seed), bytes);
            }
        }
    }
    unreachable!("there is always another seed")
}

/// Puts, reads and listings at the same time.
fn threads_do_not_meet(store: &dyn Store) {
    let (stored, given_up) = (Mutex::new(BTreeSet::new()), Mutex::default());
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let lister = scope.spawn(|| {
            let mut listings = 0;
            while !is_done.load(Ordering::SeqCst) {
                let known: BTreeSet<ObjectId> = stored.lock().clone();
                store.barrier(Names::Mine).unwrap();
                let listed = ids(store, ObjectKind::Pack);
                assert!(known.is_subset(&listed), "a listing shows all that was stored before it");
                listings += 1;
            }
            listings
        });
        let writers: Vec<_> = (0..THREADS as u64)
            .map(|thread| {
                let (stored, given_up) = (&stored, &given_up);
                scope.spawn(move || {
                    for number in 0..6 {
                        let seed = 10_000 + thread * 100 + number;
                        let (id, bytes) = put_some(store, seed, given_up);
                        stored.lock().insert(id);
                        let mut buffer = vec![0; 5000];
                        store.read_at(Object::Pack(id), 50_000, &mut buffer, Wait::Allowed).unwrap();
                        assert!(buffer == bytes[50_000..55_000], "{seed} is read back by its thread");
                    }
                })
            })
            .collect();
        let panicked = writers.into_iter().map(|writer| writer.join().is_err()).fold(false, |any, one| any | one);
        is_done.store(true, Ordering::SeqCst);
        assert!(lister.join().unwrap() > 0);
        assert!(!panicked, "a writer failed");
    });
    store.barrier(Names::Mine).unwrap();
    let (stored, given_up) = (stored.into_inner(), given_up.into_inner());
    let listed = ids(store, ObjectKind::Pack);
    assert!(stored.is_subset(&listed), "all that was stored is listed");
    assert!(listed.is_subset(&(&stored | &given_up)), "and nothing that nobody stored");
    for id in &stored | &given_up {
        store.delete(Object::Pack(id)).unwrap();
    }
}
