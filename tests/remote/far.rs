//! Promise: a repository far away is as safe as a local one where replies are lost, is written to by several requests
//! at a time, goes on where it was interrupted, and is opened with few requests.

use bakfs::crypto::slot::Credential;
use bakfs::error::ErrorKind;
use bakfs::format::header::Suite;
use bakfs::format::index::Segment;
use bakfs::format::mark::SessionKind;
use bakfs::format::snapshot::Snapshot;
use bakfs::format::tree::Time;
use bakfs::id::{ObjectId, RepositoryId};
use bakfs::repo::Repository;
use bakfs::repo::index::load::IndexLoad;
use bakfs::repo::open::{self, Options};
use bakfs::repo::shared::dated;
use bakfs::repo::shared::session::Session;
use bakfs::store::{Hints, Object, ObjectKind, Store};
use bakfs_testing::library::{self, Source, TINY_CHUNKS};
use bakfs_testing::lossy::{Fate, LossyStore};
use bakfs_testing::stores::MemStore;
use bakfs_testing::{SOON, noise};
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn made(chunk_sizes: bakfs::format::config::ChunkSizes) -> Arc<MemStore> {
    let store = Arc::new(MemStore::default());
    library::init(&*store, Suite::Aes256GcmSiv, 3, chunk_sizes).unwrap();
    store
}

fn is_mark(object: Object) -> bool {
    matches!(object, Object::Mark(_))
}

/// Reads everything and checks everything, through the store itself.
fn assert_whole(store: &Arc<MemStore>, snapshots: usize) {
    let repository = library::open(store.clone()).unwrap();
    let history = library::read_all(&repository).unwrap();
    assert!(history.is_whole(), "{:?}", history.warnings);
    assert_eq!(history.snapshots.len(), snapshots);
    let report = library::check(&repository).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

/// A snapshot of another day with the tree of an existing one.
fn on_day(snapshot: &Snapshot, day: i64) -> Snapshot {
    let time = Time { secs: 1_600_000_000 + day * 86_400, nanos: 0 };
    Snapshot { name: dated::dated(time), time, started: time, ended: time, ..snapshot.clone() }
}

fn commit_days(repository: &Arc<Repository>, like: &Snapshot, days: std::ops::Range<i64>) {
    for day in days {
        let mut session = Session::begin_backup(repository).unwrap();
        repository.commit(&mut session, on_day(like, day)).unwrap();
        session.end().unwrap();
    }
}

/// Opens the repository as a machine that never saw it, and reads its list and a root.
fn requests_to_open(store: &Arc<MemStore>, connections: usize) -> (u64, usize) {
    let far = Arc::new(LossyStore::new(store.clone(), connections));
    let repository = library::open(far.clone()).unwrap();
    let snapshots = repository.snapshots().unwrap();
    let newest = &snapshots.last().unwrap().snapshot;
    repository.for_each_entry(&newest.root, |_| Ok(())).unwrap();
    assert!(repository.take_warnings().is_empty());
    println!("{connections} connections: {:?}", far.traffic());
    (far.traffic().requests(), snapshots.len())
}

#[test]
fn a_thousand_snapshots_are_opened_with_a_dozen_requests() {
    let (store, source) = (made(TINY_CHUNKS), Source::new());
    let far = Arc::new(LossyStore::new(store.clone(), 8));
    let repository = library::open(far.clone()).unwrap();
    let first = library::back_up(&repository, &source.path(), 0).unwrap().snapshot;
    commit_days(&repository, &first, 1..1000);
    library::prune(&repository).unwrap();
    for connections in [1, 8] {
        let (requests, snapshots) = requests_to_open(&store, connections);
        assert_eq!(snapshots, 1000);
        // The configuration, key slots and index, each listed and read, snapshots and marks listed, the marks read,
        // and a page: its pack's header and its frame. A handful of snapshots may be in no bundle yet.
        assert!(requests <= 12 + 4, "{requests} requests");
    }
    assert_whole(&store, 1000);
    // A bundle is advice: without it, or with one of snapshots that are gone, all is the same.
    let marks = repository.marks().unwrap();
    let bundles: Vec<_> = marks.bundles().map(|(mark, bundle)| (mark, bundle.len())).collect();
    assert_eq!(bundles.len(), 1, "those that are replaced are removed: {bundles:?}");
    let all: Vec<_> = repository.snapshots().unwrap().iter().map(|listed| listed.id).collect();
    repository.forget(&all[..500]).unwrap();
    library::prune(&repository).unwrap();
    assert_eq!(requests_to_open(&store, 8).1, 500);
    store.delete(Object::Mark(bundles[0].0)).unwrap();
    let (requests, snapshots) = requests_to_open(&store, 8);
    assert_eq!(snapshots, 500);
    assert!(requests > 500, "without a bundle every snapshot is read");
}

#[test]
fn backups_that_were_never_pruned_are_opened_with_a_dozen_requests() {
    const DAYS: u64 = 60;
    let (store, source) = (made(TINY_CHUNKS), Source::new());
    let repository = library::open(Arc::new(LossyStore::new(store.clone(), 8))).unwrap();
    for day in 0..DAYS {
        std::fs::write(source.path().join("changed"), noise(day, 3000)).unwrap();
        library::back_up(&repository, &source.path(), day as i64).unwrap();
    }
    let truth = library::read_all(&repository).unwrap();
    let look = || {
        let far = Arc::new(LossyStore::new(store.clone(), 8));
        let repository = library::open_indexed(far.clone(), None, IndexLoad::OnDemand).unwrap();
        repository.snapshots().unwrap();
        let requests = far.traffic().requests();
        (requests, library::read_all(&repository).unwrap())
    };
    assert!(store.list(ObjectKind::Index).unwrap().len() as u64 >= DAYS);
    let (requests, history) = look();
    // As many as where all was merged, the marks listed and read once more, and a handful that are in no bundle yet.
    assert!(requests <= 12 + 4 + 2 * 4, "{requests} requests");
    assert!(history.is_whole() && history.lies(&truth).is_empty(), "{:?}", history.warnings);
    // With a cache what bundles say is one segment, and nobody else takes it from there.
    let cache = tempfile::tempdir().unwrap();
    let far = Arc::new(LossyStore::new(store.clone(), 8));
    let mounted = library::open_indexed(far, Some(cache.path()), IndexLoad::OnDemand).unwrap();
    let index = mounted.index();
    let bundled: Vec<_> = index.segments().iter().filter(|loaded| loaded.is_bundled).collect();
    assert_eq!(bundled.len(), 1);
    assert!(bundled[0].covers.len() as u64 >= DAYS - 8, "{}", bundled[0].covers.len());
    assert!(library::read_all(&mounted).unwrap().lies(&truth).is_empty());
    let writing = library::open_with(store.clone(), Some(cache.path())).unwrap();
    assert!(writing.index().segments().iter().all(|loaded| !loaded.is_bundled));
    let kept =
        std::fs::read_dir(cache.path()).unwrap().flatten().flat_map(|entry| bakfs_testing::files_below(&entry.path()));
    assert!(kept.map(|(path, _)| path).all(|path| path.extension().is_none_or(|extension| extension != "gathered")));
    // What it says of index objects that are gone counts for nothing.
    let all: Vec<_> = repository.snapshots().unwrap().iter().map(|listed| listed.id).collect();
    repository.forget(&all[..all.len() / 2]).unwrap();
    library::prune(&repository).unwrap();
    let truth = library::read_all(&library::open(store.clone()).unwrap()).unwrap();
    let (_, history) = look();
    assert!(history.is_whole() && history.lies(&truth).is_empty(), "{:?}", history.warnings);
    assert_whole(&store, all.len() - all.len() / 2);
    // They go once others take their place.
    for day in DAYS..DAYS + 6 {
        std::fs::write(source.path().join("changed"), noise(day, 3000)).unwrap();
        library::back_up(&repository, &source.path(), day as i64).unwrap();
    }
    let marks = repository.marks().unwrap();
    let listed: HashSet<_> = store.list(ObjectKind::Index).unwrap().iter().map(|listed| listed.id).collect();
    let bundles: Vec<_> = marks.index_bundles().collect();
    assert!(bundles.len() <= 1, "{} bundles", bundles.len());
    assert!(bundles.iter().flat_map(|(_, bundle)| *bundle).all(|entry| listed.contains(&entry.id)));
}

#[test]
fn a_local_repository_has_no_bundle() {
    let (store, source) = (made(TINY_CHUNKS), Source::new());
    let repository = library::open(store.clone()).unwrap();
    let first = library::back_up(&repository, &source.path(), 0).unwrap().snapshot;
    commit_days(&repository, &first, 1..30);
    assert!(store.list(ObjectKind::Mark).unwrap().is_empty());
}

#[test]
fn what_is_not_answered_is_stored_under_another_name() {
    std::thread::scope(|scope| {
        for fate in [Fate::LostReply, Fate::Lost, Fate::Late] {
            // Every fourth put, counted from different ones: each of a backup, a prune and a forget is met.
            (0..4).for_each(|offset| drop(scope.spawn(move || lose_replies(fate, offset))));
        }
    });
}

fn lose_replies(fate: Fate, offset: usize) {
    let (store, source) = (made(TINY_CHUNKS), Source::new());
    let far = Arc::new(LossyStore::new(store.clone(), 1));
    let count = Arc::new(AtomicUsize::new(offset));
    let given_up = Arc::new(Mutex::new(HashSet::new()));
    let (counted, names) = (count.clone(), given_up.clone());
    far.judge(move |object| {
        if counted.fetch_add(1, Ordering::Relaxed) % 4 == 3 {
            assert!(names.lock().insert(object), "{object} is put again");
            return fate;
        }
        assert!(!names.lock().contains(&object), "{object} is put again");
        Fate::Done
    });
    let repository = library::open(far.clone()).unwrap();
    for day in 0..3 {
        library::plant(&source.path(), day);
        library::back_up(&repository, &source.path(), day as i64).unwrap();
    }
    let name = library::forget_oldest(&repository).unwrap();
    let hidden = repository.forgotten_snapshots().unwrap();
    assert_eq!(hidden[0].snapshot.name, name);
    assert!(repository.undo_forget(&[hidden[0].id]).unwrap().is_empty());
    repository.pin(hidden[0].id, "kept").unwrap();
    assert!(repository.unpin(hidden[0].id).unwrap());
    assert!(given_up.lock().len() > 4, "{fate:?}");
    assert_eq!(far.deliver() > 0, fate == Fate::Late);
    // Nothing that appears late hides, shows or holds up anything.
    assert_whole(&store, 3);
    let marks = library::open(store.clone()).unwrap().marks().unwrap();
    for kind in [SessionKind::Backup, SessionKind::Prune] {
        assert_eq!(marks.sessions(kind).count(), 0, "{fate:?}: a session stays");
    }
    assert!(marks.pins().is_empty() && marks.forgotten().is_empty());
    library::forget_oldest(&repository).unwrap();
    let report = library::prune(&repository).unwrap();
    assert!(report.waiting_for.is_empty());
    assert_eq!(report.swept.snapshots, 1);
    far.deliver();
    far.judge(|_| Fate::Done);
    assert_whole(&store, 2);
    // What was recalled is taken over by the verdict, once and for all.
    library::prune(&repository).unwrap();
    let marks = library::open(store.clone()).unwrap().marks().unwrap();
    assert!(!marks.has_recalls(), "{fate:?}");
    assert!(library::prune(&repository).unwrap().waiting_for.is_empty());
    assert_whole(&store, 2);
}

#[test]
fn a_store_that_never_answers_ends_a_backup_and_leaves_nothing() {
    let (store, source) = (made(TINY_CHUNKS), Source::new());
    let far = Arc::new(LossyStore::new(store.clone(), 1));
    let repository = library::open(far.clone()).unwrap();
    let puts = Arc::new(AtomicUsize::new(0));
    let counted = puts.clone();
    far.judge(move |object| {
        let is_snapshot = matches!(object, Object::Snapshot(_));
        counted.fetch_add(usize::from(is_snapshot), Ordering::Relaxed);
        if is_snapshot { Fate::Late } else { Fate::Done }
    });
    let error = library::back_up(&repository, &source.path(), 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Uncertain);
    assert_eq!(puts.load(Ordering::Relaxed), 4, "names are tried a bounded number of times");
    assert_eq!(far.deliver(), 4);
    // None of the four is a snapshot, and nobody waits for the session.
    assert_whole(&store, 0);
    assert_eq!(repository.marks().unwrap().sessions(SessionKind::Backup).count(), 0);
}

#[test]
fn a_repository_is_made_and_opened_in_any_store() {
    let far = Arc::new(LossyStore::new(Arc::new(MemStore::default()), 4));
    let key = || Credential::Key(bakfs::crypto::keys::Secret([7; 32]));
    let open = || Repository::open_far(far.clone(), &Options::default(), |_| Ok(vec![key()]));
    let error = open().map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoRepository);
    assert!(error.to_string().contains("bakfs init"), "{error}");
    let mut met = HashSet::new();
    far.judge(move |object| match object {
        Object::Key(_) if met.insert("key") => Fate::Lost,
        Object::Config if met.insert("config") => Fate::LostReply,
        _ => Fate::Done,
    });
    open::init_in(&*far, RepositoryId([5; 16]), Suite::Aes256GcmSiv, &[key()]).unwrap();
    assert_eq!(open().unwrap().id(), RepositoryId([5; 16]));
    let error = open::init_in(&*far, RepositoryId([6; 16]), Suite::Aes256GcmSiv, &[key()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);
    assert_eq!(open().unwrap().id(), RepositoryId([5; 16]), "the first one stays");
}

/// Plants some packs' worth of noise.
fn plant_large(dir: &Path, files: std::ops::Range<u64>) {
    for file in files {
        std::fs::write(dir.join(format!("large-{file}")), noise(1000 + file, 33 << 20)).unwrap();
    }
}

#[test]
fn packs_go_at_the_same_time_and_an_index_names_only_what_is_stored() {
    let source = Source::new();
    // Six whole packs, of which five fill an index object, in whatever order they end.
    plant_large(&source.path(), 0..6);
    let on_way = Arc::new((Mutex::new((0usize, 0usize)), Condvar::new()));
    let watched = on_way.clone();
    // Chunks so small that an index object is full while packs are on their way.
    let far = LossyStore::new(made(TINY_CHUNKS), 8).watched(move |object| {
        if matches!(object, Object::Pack(_)) {
            // The first pack is on its way until another one is.
            let (counts, changed) = &*watched;
            let mut counts = counts.lock();
            (counts.0, counts.1) = (counts.0 + 1, counts.1.max(counts.0 + 1));
            changed.notify_all();
            while counts.1 < 2 {
                assert!(!changed.wait_for(&mut counts, SOON).timed_out(), "packs go one after the other");
            }
            counts.0 -= 1;
        }
    });
    let far = Arc::new(far);
    let repository = library::open(far.clone()).unwrap();
    library::back_up(&repository, &source.path(), 0).unwrap();
    let most = on_way.0.lock().1;
    assert!((2..=4).contains(&most), "{most} packs at a time");
    let puts = far.puts();
    let ended: HashMap<Object, usize> = puts.iter().enumerate().map(|(at, object)| (*object, at)).collect();
    let mut named = 0;
    for (at, index) in puts.iter().enumerate().filter(|(_, object)| matches!(object, Object::Index(_))) {
        let Object::Index(id) = index else { unreachable!() };
        let plain = repository.read_index_object(*id).unwrap();
        let segment = Segment::new(&plain, plain.len()).unwrap();
        for pack in (0..segment.pack_count()).filter_map(|at| segment.pack(at)) {
            assert!(ended[&Object::Pack(pack.id)] < at, "an index object names a pack that is on its way");
            named += 1;
        }
    }
    assert_eq!(named, far.puts_of("packs"));
    assert!(far.puts_of("index") > 1, "the index objects are stored as they fill");
    assert_whole(&far.inner, 1);
}

/// Ends a backup at its n-th put of a pack; returns the packs that were stored.
fn interrupt(store: &Arc<MemStore>, source: &Path, day: i64, pack: usize) -> HashSet<ObjectId> {
    let far = Arc::new(LossyStore::new(store.clone(), 2));
    let mut packs = 0;
    far.judge(move |object| {
        packs += usize::from(matches!(object, Object::Pack(_)));
        if packs >= pack && !is_mark(object) { Fate::Refused } else { Fate::Done }
    });
    let repository = library::open(far.clone()).unwrap();
    assert_eq!(library::back_up(&repository, source, day).unwrap_err().kind(), ErrorKind::Full);
    store.list(ObjectKind::Pack).unwrap().iter().map(|listed| listed.id).collect()
}

#[test]
fn an_interrupted_backup_goes_on_from_what_was_uploaded() {
    let (store, source) = (made(bakfs::format::config::CHUNK_SIZES), Source::new());
    let mut files = 0;
    for day in 0..2 {
        // The first backup, and one that finds an index: each is interrupted at its third pack.
        plant_large(&source.path(), files..files + 4);
        files += 4;
        let count = |kind| store.list(kind).unwrap().len();
        let (before, named) = (count(ObjectKind::Pack), count(ObjectKind::Index));
        let left = interrupt(&store, &source.path(), day, 3);
        assert_eq!(left.len(), before + 2);
        assert_eq!(count(ObjectKind::Index), named, "nothing names them");
        let far = Arc::new(LossyStore::new(store.clone(), 4));
        let repository = library::open(far.clone()).unwrap();
        let outcome = library::back_up(&repository, &source.path(), day).unwrap();
        // Two packs of 32 MiB were there; what is stored now is the rest of 132 MiB.
        let sent = far.traffic().sent_bytes;
        assert!(sent < 74 << 20, "{} MiB are sent again", sent >> 20);
        assert!(outcome.snapshot.summary.added_bytes < 74 << 20);
        // Two requests for each of the packs: its head and its directory.
        println!("day {day}: {:?}", far.traffic());
        assert_whole(&store, day as usize + 1);
    }
}

/// Runs a command once for each of its reads, after which the network is gone; `judge` hears what came of it.
fn at_every_read<T>(
    store: &Arc<MemStore>,
    command: impl Fn(&Arc<Repository>) -> bakfs::error::Result<T>,
    judge: impl Fn(&Arc<Repository>, bakfs::error::Result<T>),
) {
    let mut count = 0;
    loop {
        let far = Arc::new(LossyStore::new(store.clone(), 2));
        let repository = library::open(far.clone()).unwrap();
        far.fail_after_reads(count);
        let before = far.traffic().gets;
        let done = command(&repository);
        let reads = far.traffic().gets - before;
        let is_whole = reads <= count;
        assert!(is_whole || done.is_err(), "a network that fails after {count} reads is not told");
        judge(&repository, done);
        if is_whole {
            println!("the network failed after each of {count} reads");
            return assert!(count > 1, "it reads");
        }
        count += 1;
    }
}

#[test]
fn a_network_that_fails_is_no_damage() {
    let (store, source) = (made(TINY_CHUNKS), Source::new());
    let far = Arc::new(LossyStore::new(store.clone(), 2));
    let repository = library::open(far).unwrap();
    for day in 0..2 {
        library::plant(&source.path(), day);
        library::back_up(&repository, &source.path(), day as i64).unwrap();
    }
    let packs: Vec<_> = store.list(ObjectKind::Pack).unwrap().iter().map(|listed| listed.id).collect();
    let objects = store.objects();
    at_every_read(
        &store,
        |repository| library::check(repository),
        |repository, checked| {
            if let Ok(report) = checked {
                assert!(report.findings.is_empty(), "{:?}", report.findings);
            }
            assert!(repository.suspects().is_empty(), "a pack is blamed for the network");
        },
    );
    let options = bakfs::repair::Options { suspects: packs, dry_run: false };
    let repair = |repository: &Arc<Repository>| bakfs::repair::run(repository, &options, &bakfs::monitor::Silent);
    at_every_read(&store, repair, |_, repaired| {
        assert!(!repaired.is_ok_and(|report| report.has_changes()), "it repairs what is sound");
        assert!(store.objects() == objects, "it changes what is sound");
    });
    // The newest is never another because one could not be read.
    at_every_read(
        &store,
        |repository| repository.snapshots(),
        |_, listed| {
            assert!(!listed.is_ok_and(|all| all.len() != 2), "a snapshot is left out");
        },
    );
}
