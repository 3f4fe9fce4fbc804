//! A store far away is ready after a few requests: its index is looked up in pieces where it is, tells the same as
//! the whole, and comes here by and by.

use bakfs::check::Subject;
use bakfs::crypto::keys::{Keys, Secret};
use bakfs::crypto::slot::Credential;
use bakfs::crypto::vault::Vault;
use bakfs::error::{ErrorKind, Result};
use bakfs::format::header::{Kind, Suite};
use bakfs::format::index::{ChunkEntry, FrameEntry, PackEntry, SegmentBuilder};
use bakfs::id::{ChunkId, ObjectId, RepositoryId};
use bakfs::repo::Repository;
use bakfs::repo::index::load::IndexLoad;
use bakfs::repo::index::load::IndexLoader;
use bakfs::repo::index::on_demand::{LazySegment, OpenPieces};
use bakfs::repo::objects::{object_id, seal_object, seal_whole};
use bakfs::repo::open::Options;
use bakfs::repo::read::chunk_kind::ChunkKind;
use bakfs::store::cached::CachedStore;
use bakfs::store::{ListedObject, Object, ObjectKind, Store, Wait};
use bakfs_testing::far::{FarStore, asked_bytes};
use bakfs_testing::library::{self, Source, TINY_CHUNKS};
use bakfs_testing::stores::MemStore;
use bakfs_testing::{Dice, noise};
use std::path::Path;
use std::sync::Arc;

const PIECE: usize = 65_536;
const STORED_PIECE: usize = PIECE + 16;
const HEADER: usize = 112;
/// So many places of a chunk a lookup takes from one index object, however many are named.
const MAX_PLACES: usize = 64;

/// Returns an index object's tables: these chunks, in frames of four, in packs of a hundred frames.
fn tables(ids: Vec<ChunkId>, seed: u64) -> SegmentBuilder {
    let mut builder = SegmentBuilder::default();
    for (at, id) in (0u32..).zip(ids) {
        if at % 400 == 0 {
            let mut pack = [0; 32];
            pack.copy_from_slice(&noise(seed.wrapping_mul(7919) + u64::from(at), 32));
            builder.packs.push(PackEntry { id: ObjectId(pack), kind: Kind::DataPack, len_bytes: 1 << 25 });
        }
        if at % 4 == 0 {
            let (pack, number) = (builder.packs.len() as u32 - 1, at % 400 / 4);
            let (offset, stored_bytes, plain_bytes) = (112 + number * 1000, 1000, 2000);
            builder.frames.push(FrameEntry { pack, number, offset, stored_bytes, plain_bytes, codec: 1 });
        }
        let frame = builder.frames.len() as u32 - 1;
        builder.chunks.push(ChunkEntry { id, frame, offset: at % 4 * 500, len_bytes: 500 });
    }
    builder
}

fn drawn(seed: u64, count: usize) -> Vec<ChunkId> {
    noise(seed, count * 32).chunks(32).map(|id| ChunkId(id.try_into().unwrap())).collect()
}

fn open(store: Arc<dyn Store>, cache: Option<&Path>, index: IndexLoad) -> Arc<Repository> {
    library::open_indexed(store, cache, index).unwrap()
}

/// A repository of large index objects that name packs nobody has, and their chunks.
fn large(objects: u64, chunks: usize) -> (Arc<MemStore>, Vec<Vec<ChunkId>>) {
    let store = Arc::new(MemStore::default());
    library::init(&*store, Suite::Aes256GcmSiv, 0, TINY_CHUNKS).unwrap();
    let repository = library::open(store.clone()).unwrap();
    let ids: Vec<_> = (0..objects).map(|seed| drawn(seed + 1, chunks)).collect();
    for (seed, ids) in (0..).zip(&ids) {
        repository.put_index(tables(ids.clone(), seed).encode()).unwrap();
    }
    (store, ids)
}

/// Returns all places of a chunk, in an order of their own.
fn places(repository: &Repository, id: &ChunkId, wait: Wait) -> Result<Vec<String>> {
    let found: Result<Vec<_>> = repository.index().places(id, wait).collect();
    let mut found: Vec<_> = found?.iter().map(|place| format!("{place:?}")).collect();
    found.sort();
    Ok(found)
}

#[test]
fn opening_on_demand_and_looking_up_takes_few_requests() {
    let folder = tempfile::tempdir().unwrap();
    let (memory, ids) = large(4, 60_000);
    let far = FarStore::new(memory.clone(), 8);
    let store = Arc::new(CachedStore::open(far.clone(), Some(folder.path()), 1 << 30));
    let repository = open(store, None, IndexLoad::OnDemand);
    let (requests, (asked, twice)) = {
        let requests = far.take_requests();
        (requests.len(), asked_bytes(&requests))
    };
    assert_eq!((requests, twice), (4, 0), "the head of each index object, and nothing else of them");
    assert!(asked < 4 * 72 * 1024, "{asked} bytes");
    assert_eq!(repository.index().lazy().len(), 4);
    assert_eq!(places(&repository, &ids[0][7], Wait::Never).unwrap_err().kind(), ErrorKind::WouldWait);
    assert!(far.take_requests().is_empty(), "who may not wait asks for nothing");
    // A cold lookup: all objects at the same time, then the frame; the packs are in the head.
    far.hold();
    let (lookup, id) = (repository.clone(), ids[2][7]);
    let looking = std::thread::spawn(move || lookup.place(&id, Wait::Allowed).unwrap());
    far.await_held(4);
    far.let_through(4);
    far.await_held(1);
    far.release();
    assert_eq!(looking.join().unwrap().unwrap().chunk.id, id);
    let requests = far.take_requests();
    let (asked, twice) = asked_bytes(&requests);
    assert!(requests.len() <= 10, "{requests:?}");
    assert!(asked <= 4 * 3 * (STORED_PIECE as u64 + 8192) && twice == 0, "{asked} bytes, {twice} twice");
    assert!(repository.place(&id, Wait::Never).unwrap().is_some(), "what was looked up is here");
    // Whatever is looked up after that, no byte is fetched twice, and the index is what it was.
    let whole = open(memory, None, IndexLoad::Whole);
    for at in (0..60_000).step_by(601) {
        for id in [ids[0][at], ids[3][at], drawn(99 + at as u64, 1)[0]] {
            assert_eq!(places(&repository, &id, Wait::Allowed).unwrap(), places(&whole, &id, Wait::Never).unwrap());
        }
    }
    assert_eq!(asked_bytes(&far.take_requests()).1, 0);
    assert_eq!(repository.index().pack_bytes(), whole.index().packs().map(|pack| pack.len_bytes).sum::<u64>());
}

/// Lets `each` look at an index object that is opened lazily, and the requests that takes.
fn lazily(stored: &[u8], each: impl FnOnce(&LazySegment, &FarStore)) {
    let object = Object::Index(object_id(stored));
    let far = FarStore::with_packs(&[(object, stored.to_vec())], 1);
    // One connection and no time to read ahead: what is asked for is what a lookup needs.
    let store: Arc<dyn Store> = Arc::new(CachedStore::open(far.clone(), None, 0));
    let listed = ListedObject { id: object_id(stored), len_bytes: stored.len() as u64 };
    let lazy = LazySegment::open(&store, &vault(), listed, &Arc::new(OpenPieces::default())).unwrap().unwrap();
    far.take_requests();
    each(&lazy, &far);
}

fn vault() -> Vault {
    Vault::new(Keys::derive(&Secret([9; 32])), Suite::Aes256GcmSiv, RepositoryId([3; 16]))
}

fn sealed(builder: SegmentBuilder) -> Vec<u8> {
    seal_object(&vault(), Kind::Index, &builder.encode())
}

#[test]
fn pieces_tell_what_the_whole_tells_however_ids_lie() {
    let mut dice = Dice::new(5);
    let mut cases: Vec<Vec<ChunkId>> = [0, 1, 2, 1480, 1487, 1488, 1489, 1490, 1491, 2977, 2980, 9000]
        .into_iter()
        .map(|count| drawn(count as u64, count))
        .collect();
    cases.push((0..9000).map(|n| near(n, [0; 8])).collect());
    cases.push((0..9000).map(|n| near(n, [255; 8])).collect());
    // All in two far corners, and copies of one chunk over several pieces.
    cases.push((0..9000).map(|n| near(n, if n % 3 == 0 { [0; 8] } else { [255; 8] })).collect());
    cases.push((0..9000).map(|n| if n % 2 == 0 { near(0, [127; 8]) } else { drawn(n, 1)[0] }).collect());
    // Ever denser towards the end.
    cases.push((0..9000).map(|n| near(n, first_bytes(!(u64::MAX >> (n % 64))))).collect());
    for ids in cases {
        let count = ids.len();
        let builder = tables(ids.clone(), 1);
        let plain = builder.clone().encode();
        let whole =
            bakfs::repo::index::Index::default().with(bakfs::repo::index::cache::heap(plain, Vec::new()).unwrap());
        let stored = sealed(builder);
        lazily(&stored, |lazy, far| {
            let absent = (0..200).map(|_| ChunkId(noise(dice.roll(), 32).try_into().unwrap()));
            let ends = [ChunkId([0; 32]), ChunkId([255; 32]), near(u64::MAX, [0; 8]), near(u64::MAX, [255; 8])];
            for id in ids.iter().copied().step_by(29).chain(absent).chain(ends) {
                let all = lazy.find_all(&id, Wait::Allowed).unwrap();
                let wanted: Vec<_> = whole.find_all(&id).take(MAX_PLACES).collect();
                assert_eq!(format!("{all:?}"), format!("{wanted:?}"), "{id} of {count}");
            }
            let (_, twice) = asked_bytes(&far.take_requests());
            assert_eq!(twice, 0, "of {count}");
        });
    }
}

#[test]
fn how_much_there_is_is_told_without_waiting() {
    let mut builder = tables(drawn(1, 2000), 1);
    // Packs whose records fill more pieces than the first, which is there once it is open.
    while builder.packs.len() < 20_000 {
        builder.packs.push(PackEntry { id: ObjectId([1; 32]), kind: Kind::DataPack, len_bytes: 1 << 25 });
    }
    let stored = sealed(builder);
    let listed = ListedObject { id: object_id(&stored), len_bytes: stored.len() as u64 };
    let far = FarStore::with_packs(&[(Object::Index(listed.id), stored)], 1);
    let store: Arc<dyn Store> = Arc::new(CachedStore::open(far.clone(), None, 0));
    far.hold();
    far.let_through(1);
    let asking = std::thread::spawn(move || {
        let lazy = LazySegment::open(&store, &vault(), listed, &Arc::default()).unwrap().unwrap();
        (lazy.pack_bytes(), lazy)
    });
    bakfs_testing::until("who asks is answered", bakfs_testing::SOON, || asking.is_finished());
    let (bytes, lazy) = asking.join().unwrap();
    assert_eq!(bytes, None);
    far.release();
    lazy.add_up_packs(Wait::Allowed).unwrap();
    assert_eq!(lazy.pack_bytes(), Some(20_000 << 25));
}

/// Returns the bytes that sort as the numbers do.
fn first_bytes(n: u64) -> [u8; 8] {
    n.swap_bytes().to_le_bytes()
}

/// Returns the n-th chunk whose id begins with these bytes.
fn near(n: u64, base: [u8; 8]) -> ChunkId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&base);
    id[24..].copy_from_slice(&first_bytes(n));
    ChunkId(id)
}

#[test]
fn a_cold_lookup_takes_few_requests_however_ids_lie() {
    const CHUNKS: u64 = 200_000;
    let even = drawn(3, CHUNKS as usize);
    // Each guess by the first bytes is far below.
    let dense = |n: u64| near(n, first_bytes((n as f64 * 64.0 / CHUNKS as f64).exp2() as u64));
    let ends = |n: u64| near(n, if n == 0 { [0; 8] } else { [255; 8] });
    for (ids, bound) in [(even, 6), ((0..CHUNKS).map(dense).collect(), 18), ((0..CHUNKS).map(ends).collect(), 18)] {
        let stored = sealed(tables(ids.clone(), 1));
        for id in ids.into_iter().step_by(9973) {
            lazily(&stored, |lazy, far| {
                assert_eq!(lazy.find_all(&id, Wait::Allowed).unwrap()[0].chunk.id, id);
                let count = far.take_requests().len();
                assert!(count <= bound, "{count} requests for {id}");
            });
        }
    }
}

#[test]
fn pieces_moved_or_cut_are_noticed() {
    let stored = sealed(tables(drawn(1, 9000), 1));
    let tag = |bytes: &[u8]| ListedObject { id: object_id(bytes), len_bytes: bytes.len() as u64 };
    let whole =
        |bytes: &[u8]| bakfs::repo::objects::open_object(&vault(), Kind::Index, bytes.to_vec(), 48 << 20).map(drop);
    let all = |bytes: &[u8]| -> Result<()> {
        let object = Object::Index(object_id(bytes));
        let store: Arc<dyn Store> = FarStore::with_packs(&[(object, bytes.to_vec())], 1);
        let lazy = LazySegment::open(&store, &vault(), tag(bytes), &Arc::default())?.unwrap();
        drawn(1, 9000).iter().try_for_each(|id| lazy.find_all(id, Wait::Allowed).map(drop))
    };
    whole(&stored).unwrap();
    all(&stored).unwrap();
    let count = (stored.len() - HEADER).div_ceil(STORED_PIECE);
    assert!(count > 5);
    let mut wrong = Vec::new();
    for piece in 0..count - 1 {
        let mut swapped = stored.clone();
        let (one, two) = (HEADER + piece * STORED_PIECE, HEADER + (piece + 1) % (count - 1) * STORED_PIECE);
        swapped[one..one + STORED_PIECE].copy_from_slice(&stored[two..two + STORED_PIECE]);
        swapped[two..two + STORED_PIECE].copy_from_slice(&stored[one..one + STORED_PIECE]);
        wrong.push((format!("piece {piece} is moved"), swapped));
        wrong.push((format!("nothing after piece {piece}"), stored[..one + STORED_PIECE].to_vec()));
        wrong.push((format!("piece {piece} is cut"), stored[..one + 1000].to_vec()));
        let left_out = [&stored[..one], &stored[one + STORED_PIECE..]].concat();
        wrong.push((format!("piece {piece} is left out"), left_out));
        let mut flipped = stored.clone();
        flipped[one + 777] ^= 4;
        wrong.push((format!("a bit of piece {piece} is flipped"), flipped));
    }
    for extra in [1, 16, 17, STORED_PIECE] {
        wrong.push((format!("{extra} bytes more"), [&stored[..], &vec![0; extra]].concat()));
    }
    for (what, bytes) in wrong {
        assert_eq!(whole(&bytes).expect_err(&what).kind(), ErrorKind::Damaged, "{what}");
        assert_eq!(all(&bytes).expect_err(&what).kind(), ErrorKind::Damaged, "{what}, on demand");
    }
}

#[test]
fn the_rest_comes_later_and_stays() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let (memory, ids) = large(3, 20_000);
    // One as bakfs once wrote them: it is read whole at once.
    let repository = library::open(memory.clone()).unwrap();
    let plain = tables(drawn(50, 20_000), 50).encode();
    let old = seal_whole(repository.vault(), Kind::Index, &plain);
    memory.put(Object::Index(object_id(&old)), &old).unwrap();
    let far = FarStore::new(memory.clone(), 4);
    let store = |folder: &Path| Arc::new(CachedStore::open(far.clone(), Some(folder), 1 << 30));
    let first = store(folders[0].path());
    let repository = open(first.clone(), Some(folders[1].path()), IndexLoad::OnDemand);
    let before = repository.index();
    assert_eq!((before.lazy().len(), before.segments().len()), (3, 1));
    assert!(before.contains(&drawn(50, 3)[2]));
    let mut loader = IndexLoader::new(repository.clone());
    far.fail(Some((Object::Index(before.lazy()[1].id()), 0..1 << 30)));
    assert!(!loader.load());
    assert_eq!(repository.index().lazy().len(), 2, "what came before the failure stays");
    far.fail(None);
    assert!(loader.load());
    let index = repository.index();
    assert!(index.lazy().is_empty() && index.segments().len() == 4);
    assert!(ids.iter().flatten().all(|id| index.contains(id)));
    assert_eq!(before.covers(), index.covers());
    repository.refresh_index().unwrap();
    assert!(repository.index().lazy().is_empty());
    // What comes after that is on demand again, until the loader is told.
    library::open(memory.clone()).unwrap().put_index(tables(drawn(51, 20_000), 51).encode()).unwrap();
    repository.refresh_index().unwrap();
    assert_eq!(repository.index().lazy().len(), 1);
    assert!(loader.load());
    far.take_count();
    let again = open(store(folders[2].path()), Some(folders[1].path()), IndexLoad::OnDemand);
    assert!(again.index().lazy().is_empty(), "it is in the cache of the index now");
    assert!(far.take_requests().is_empty());
}

/// Opens a repository on demand, with a cache of so many bytes.
fn open_bounded(far: &Arc<FarStore>, cache: Option<&Path>, cache_max_bytes: u64) -> Arc<Repository> {
    let options = Options { cache_base: cache, cache_max_bytes, index: IndexLoad::OnDemand, ..Options::default() };
    let key = |_: &RepositoryId| Ok(vec![Credential::Key(Secret(library::KEYS[0]))]);
    Arc::new(Repository::unlock(far.clone(), &options, key).unwrap())
}

#[test]
fn a_long_index_stays_where_it_is_whatever_happens() {
    // Three of them are longer than what may be in memory, 16 MiB.
    let (memory, ids) = large(4, 130_000);
    let far = FarStore::new(memory.clone(), 4);
    let read_missing = |repository: &Repository| {
        let mut bytes = Vec::new();
        let read = repository.read_chunk(ChunkKind::Data, &ids[1][5], 0..500, Wait::Allowed, &mut bytes);
        assert_eq!(read.unwrap_err().kind(), ErrorKind::NotFound, "its pack is nowhere");
    };
    let stays = |repository: &Arc<Repository>, lazy: usize, what: &str| {
        let mut loader = IndexLoader::new(repository.clone());
        far.take_requests();
        assert!(!loader.load() && !loader.load(), "{what}");
        read_missing(repository);
        assert_eq!(repository.index().lazy().len(), lazy, "{what}");
        let (asked, _) = asked_bytes(&far.take_requests());
        assert!(asked < 9 << 20, "{what}: {asked} bytes");
    };
    stays(&open_bounded(&far, None, 1 << 30), 4, "no cache");
    let folder = tempfile::tempdir().unwrap();
    stays(&open_bounded(&far, Some(folder.path()), 64 << 20), 4, "a small cache");
    let folder = tempfile::tempdir().unwrap();
    let lost = open_bounded(&far, Some(folder.path()), 1 << 30);
    let own = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_dir_all(&own).unwrap();
    std::fs::write(&own, b"").unwrap();
    stays(&lost, 4, "a cache that takes nothing");
    // One that is damaged changes nothing of that.
    let mut objects = memory.objects();
    let (path, stored) = objects.iter().rfind(|(path, _)| path.starts_with("index/")).unwrap();
    let (path, mut stored) = (path.clone(), stored.to_vec());
    stored[HEADER + 5] ^= 1;
    objects.insert(path, Arc::new(stored));
    let damaged = FarStore::new(Arc::new(MemStore::of(objects)), 4);
    let repository = open_bounded(&damaged, None, 1 << 30);
    assert_eq!(repository.index().lazy().len(), 3);
    assert_eq!(repository.take_warnings().len(), 1);
    let (asked, _) = asked_bytes(&damaged.take_requests());
    assert!(asked < 1 << 20, "{asked} bytes");
    // With room it comes, and a chunk that cannot be read makes it come anew.
    let folder = tempfile::tempdir().unwrap();
    let repository = open_bounded(&far, Some(folder.path()), 1 << 30);
    assert!(IndexLoader::new(repository.clone()).load());
    assert_eq!(repository.index().segments().len(), 4);
    read_missing(&repository);
    assert_eq!(repository.index().segments().len(), 4);
}

#[test]
fn the_whole_index_is_fetched_in_few_long_requests_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let (memory, ids) = large(2, 130_000);
    let far = FarStore::new(memory, 8);
    let store = Arc::new(CachedStore::open(far.clone(), Some(folder.path()), 1 << 30));
    far.hold();
    let opening = std::thread::spawn(move || open(store, None, IndexLoad::Whole));
    // Both objects, of 5.8 MiB each, are asked for in requests of 2 MiB.
    far.await_held(6);
    far.release();
    let repository = opening.join().unwrap();
    assert_eq!(asked_bytes(&far.take_requests()).1, 0);
    assert!(ids.iter().flatten().all(|id| repository.index().contains(id)));
}

/// A repository of real files whose index is on demand.
fn real() -> (Arc<MemStore>, library::History) {
    let source = Source::new();
    bakfs_testing::write(&source.path().join("large"), noise(77, 8 << 20));
    library::plant(&source.path(), 1);
    let memory = Arc::new(MemStore::default());
    library::init(&*memory, Suite::Aes256GcmSiv, 0, TINY_CHUNKS).unwrap();
    library::back_up(&library::open(memory.clone()).unwrap(), &source.path(), 1).unwrap();
    let history = library::read_all(&library::open(memory.clone()).unwrap()).unwrap();
    assert!(history.is_whole());
    (memory, history)
}

fn largest_index(store: &dyn Store) -> (Object, Vec<u8>) {
    let listed = store.list(ObjectKind::Index).unwrap();
    let largest = listed.iter().max_by_key(|listed| listed.len_bytes).unwrap();
    let object = Object::Index(largest.id);
    (object, store.read_whole(object, 1 << 30).unwrap())
}

#[test]
fn a_repository_is_read_the_same_and_damage_is_told_or_healed() {
    let (memory, history) = real();
    let (object, stored) = largest_index(&*memory);
    let count = (stored.len() - HEADER).div_ceil(STORED_PIECE);
    assert!(count > 8, "{count}");
    let read = |store: Arc<dyn Store>| {
        let repository = open(store, None, IndexLoad::OnDemand);
        assert!(!repository.index().lazy().is_empty());
        let read = library::read_all(&repository).unwrap();
        (repository, read)
    };
    let folder = tempfile::tempdir().unwrap();
    let cached = |far: Arc<FarStore>, folder: &Path| Arc::new(CachedStore::open(far, Some(folder), 1 << 30));
    let (repository, whole) = read(cached(FarStore::new(memory.clone(), 4), folder.path()));
    assert!(whole == history && !repository.index().lazy().is_empty());
    // A copy on this machine that is wrong is fetched anew.
    for (path, _) in bakfs_testing::files_below(folder.path()) {
        let mut bytes = std::fs::read(&path).unwrap();
        let name = path.to_string_lossy().into_owned();
        if let Some(at) = name.contains("index").then(|| find(&bytes, &stored[HEADER + 5 * STORED_PIECE..][..64])) {
            bytes[at.unwrap()] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let (repository, healed) = read(cached(FarStore::new(memory.clone(), 4), folder.path()));
    assert!(healed == history && !repository.index().lazy().is_empty());
    // What is stored wrong is told, and the packs' own directories are read instead.
    for piece in [1, 3, count - 1] {
        let mut objects = memory.objects();
        let mut damaged = stored.clone();
        damaged[HEADER + piece * STORED_PIECE + 100] ^= 1;
        objects.insert(object.path(), Arc::new(damaged));
        let memory = Arc::new(MemStore::of(objects));
        let folder = tempfile::tempdir().unwrap();
        let (repository, healed) = read(cached(FarStore::new(memory.clone(), 4), folder.path()));
        assert!(healed.snapshots == history.snapshots, "piece {piece}");
        assert!(repository.index().lazy().is_empty(), "the index was made again");
        let report = library::check(&library::open(memory).unwrap()).unwrap();
        assert!(report.findings.iter().any(|finding| finding.subject == Subject::Object(object)), "piece {piece}");
    }
}

#[test]
fn an_index_that_could_not_be_made_again_is_made_again_later() {
    let (memory, mut ids) = large(1, 130_000);
    ids[0].sort();
    let (object, mut stored) = largest_index(&*memory);
    // All but the first and the last piece, where no lookup of the chunk in the middle comes.
    let count = (stored.len() - HEADER).div_ceil(STORED_PIECE);
    (1..count - 1).for_each(|piece| stored[HEADER + piece * STORED_PIECE + 100] ^= 1);
    let last = stored.len() as u64 - 1;
    let mut objects = memory.objects();
    objects.insert(object.path(), Arc::new(stored));
    let far = FarStore::new(Arc::new(MemStore::of(objects)), 1);
    let repository = open(Arc::new(CachedStore::open(far.clone(), None, 0)), None, IndexLoad::OnDemand);
    let read = || {
        let mut bytes = Vec::new();
        repository.read_chunk(ChunkKind::Data, &ids[0][65_000], 0..500, Wait::Allowed, &mut bytes).unwrap_err().kind()
    };
    far.fail(Some((object, last..last + 1)));
    assert_eq!((read(), repository.take_warnings().len()), (ErrorKind::Io, 0));
    far.fail(None);
    assert_eq!(read(), ErrorKind::Damaged, "its pack is nowhere");
    assert!(!repository.take_warnings().is_empty(), "the whole object was read");
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
