//! What was read once from far away is not fetched again, what several want is fetched once, and readers that go
//! on are read ahead of in few requests.

use bakfs::error::ErrorKind;
use bakfs::id::ObjectId;
use bakfs::store::cached::CachedStore;
use bakfs::store::{Hints, Object, ObjectKind, Store, Wait};
use bakfs_testing::far::{FarStore, Request, asked_bytes};
use bakfs_testing::{Dice, noise, until};
use std::path::Path;
use std::sync::Arc;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn pack(number: u8) -> Object {
    Object::Pack(ObjectId([number; 32]))
}

/// A pack of noise; its number is the seed.
fn noise_pack(number: u8, len_bytes: u64) -> (Object, Vec<u8>) {
    (pack(number), noise(u64::from(number), len_bytes as usize))
}

fn cached(far: &Arc<FarStore>, folder: &Path) -> CachedStore {
    CachedStore::open(far.clone(), Some(folder), 1 << 30)
}

/// Reads a range and compares it with what the far store has.
fn read(store: &CachedStore, (object, bytes): &(Object, Vec<u8>), offset: u64, len_bytes: u64) {
    let mut buffer = vec![0; len_bytes as usize];
    store.read_at(*object, offset, &mut buffer, Wait::Allowed).unwrap();
    assert!(buffer == bytes[offset as usize..(offset + len_bytes) as usize], "{object} from {offset}");
}

#[test]
fn what_was_read_once_is_not_asked_for_again_by_any_process() {
    let folder = tempfile::tempdir().unwrap();
    let packs = [noise_pack(1, 3 * MIB + 77)];
    let far = FarStore::with_packs(&packs, 4);
    let store = cached(&far, folder.path());
    let mut buffer = vec![0; 200_000];
    let missed = store.read_at(pack(1), 500_000, &mut buffer, Wait::Never).unwrap_err();
    assert_eq!((missed.kind(), far.take_count()), (ErrorKind::WouldWait, 0));
    read(&store, &packs[0], 500_000, 200_000);
    read(&store, &packs[0], 3 * MIB, 77);
    assert_eq!(far.take_count(), 3, "two ranges, and the pack's length, which nobody has told");
    read(&store, &packs[0], 510_000, 150_000);
    store.read_at(pack(1), 500_000, &mut buffer, Wait::Never).unwrap();
    assert!(buffer == packs[0].1[500_000..700_000]);
    assert_eq!(store.absent_bytes(pack(1), 500_000..700_000), 0);
    let other = cached(&far, folder.path());
    assert_eq!(other.absent_bytes(pack(1), 500_000..700_000), 0);
    read(&other, &packs[0], 500_000, 200_000);
    read(&other, &packs[0], 3 * MIB + 5, 72);
    assert_eq!(far.take_count(), 0);
    assert_eq!(other.absent_bytes(pack(1), 0..MIB), MIB - 49 * 4096, "500 000 to 700 000 touch 49 blocks");
}

#[test]
fn what_one_process_fetches_another_finds_while_both_run() {
    let folder = tempfile::tempdir().unwrap();
    let packs = [noise_pack(1, 16 * MIB)];
    let far = FarStore::with_packs(&packs, 4);
    let (one, two) = (cached(&far, folder.path()), cached(&far, folder.path()));
    for at in 0..16 {
        let (reader, other) = if at % 2 == 0 { (&one, &two) } else { (&two, &one) };
        read(reader, &packs[0], (at * 7 % 16) * MIB, 64 * KIB);
        far.take_count();
        read(other, &packs[0], (at * 7 % 16) * MIB, 64 * KIB);
        assert_eq!(far.take_count(), 0, "range {at}");
    }
}

#[test]
fn random_reads_fetch_what_they_need() {
    let folder = tempfile::tempdir().unwrap();
    let packs: Vec<_> = (0..4).map(|number| noise_pack(number, 32 * MIB)).collect();
    let far = FarStore::with_packs(&packs, 8);
    let store = cached(&far, folder.path());
    packs.iter().for_each(|(object, bytes)| store.expect_len(*object, bytes.len() as u64));
    let mut dice = Dice::new(11);
    let (mut needed, mut reads) = (0, 0);
    while reads < 200 {
        // Frames are up to 256 KiB, and begin anywhere.
        let pack = &packs[dice.below(4) as usize];
        let (offset, len) = (dice.below(31 * MIB), 64 * KIB + dice.below(192 * KIB));
        if store.absent_bytes(pack.0, offset..offset + len) >= len {
            needed += len;
            reads += 1;
            read(&store, pack, offset, len);
        }
    }
    drop(store);
    let requests = far.take_requests();
    let (asked, _) = asked_bytes(&requests);
    assert!(asked < 2 * needed, "{asked} bytes for {needed}");
    let foreground = requests.iter().filter(|(_, range)| range.end - range.start < 260 * KIB).count();
    assert!(foreground <= 260, "{foreground} requests for 200 reads: one each, and a few ahead");
}

#[test]
fn a_sequential_reader_makes_few_requests_and_none_twice() {
    let folder = tempfile::tempdir().unwrap();
    let packs: Vec<_> = (0..8).map(|number| noise_pack(number, 32 * MIB)).collect();
    let far = FarStore::with_packs(&packs, 8);
    let store = cached(&far, folder.path());
    for pack in &packs {
        store.expect_len(pack.0, 32 * MIB);
        (0..32 * MIB).step_by(64 << 10).for_each(|offset| read(&store, pack, offset, 64 * KIB));
    }
    let requests = far.take_requests();
    assert_eq!(asked_bytes(&requests), (256 * MIB, 0), "every byte once");
    assert!(requests.len() < 400, "{} requests for 4 096 reads", requests.len());
}

#[test]
fn parallel_readers_of_the_same_ranges_fetch_every_byte_once() {
    let folder = tempfile::tempdir().unwrap();
    let packs = [noise_pack(1, 16 * MIB)];
    let far = FarStore::with_packs(&packs, 4);
    let store = cached(&far, folder.path());
    store.expect_len(pack(1), 16 * MIB);
    far.hold();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..16).for_each(|at| read(&store, &packs[0], at * MIB, MIB)));
        }
        far.await_held(1);
        far.release();
    });
    assert_eq!(asked_bytes(&far.take_requests()), (16 * MIB, 0));
}

#[test]
fn a_large_range_is_fetched_over_all_connections_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let packs = [noise_pack(1, 32 * MIB)];
    let far = FarStore::with_packs(&packs, 4);
    let store = cached(&far, folder.path());
    far.hold();
    std::thread::scope(|scope| {
        scope.spawn(|| read(&store, &packs[0], 0, 16 * MIB));
        far.await_held(4);
        far.release();
    });
    let requests = far.take_requests();
    assert!(requests.iter().all(|(_, range)| range.end - range.start <= 4 * MIB), "memory is bounded: {requests:?}");
    assert_eq!(asked_bytes(&requests), (16 * MIB, 0));
}

#[test]
fn many_small_wishes_become_few_requests() {
    let folder = tempfile::tempdir().unwrap();
    let packs = [noise_pack(1, 8 * MIB)];
    let far = FarStore::with_packs(&packs, 4);
    let store = cached(&far, folder.path());
    store.expect_len(pack(1), 8 * MIB);
    far.hold();
    // A directory's files, each with a little of other files between them.
    (0..500).for_each(|at| store.want(pack(1), at * 16_000..at * 16_000 + 5000));
    far.await_held(3);
    assert_eq!(far.held(), 3, "one connection is kept for who waits");
    far.release();
    until("all is there", bakfs_testing::SOON, || {
        (0..500).all(|at| store.absent_bytes(pack(1), at * 16_000..at * 16_000 + 5000) == 0)
    });
    let requests = far.take_requests();
    assert!(requests.len() <= 8, "{requests:?}");
    assert_eq!(asked_bytes(&requests).1, 0);
    assert_eq!(far.take_count(), 0);
    (0..500).for_each(|at| read(&store, &packs[0], at * 16_000, 5000));
    assert_eq!(far.take_count(), 0);
}

#[test]
fn who_waits_comes_before_wishes() {
    let folder = tempfile::tempdir().unwrap();
    let packs = [noise_pack(1, 32 * MIB), noise_pack(2, MIB)];
    let far = FarStore::with_packs(&packs, 3);
    let store = cached(&far, folder.path());
    far.hold();
    store.want(pack(1), 0..32 * MIB);
    far.await_held(2);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read(&store, &packs[1], 0, 100));
        far.await_held(3);
        let request: Vec<Request> = far.take_requests();
        assert_eq!(request.last(), Some(&(pack(2), 0..4096)), "it has not waited for the wishes");
        far.release();
        reader.join().unwrap();
    });
}

#[test]
fn a_request_that_fails_fails_those_who_need_it() {
    let folder = tempfile::tempdir().unwrap();
    let packs = [noise_pack(1, 8 * MIB)];
    let far = FarStore::with_packs(&packs, 4);
    let store = cached(&far, folder.path());
    far.fail(Some((pack(1), MIB..MIB + 1)));
    far.hold();
    let outcome = |offset: u64| {
        let mut buffer = vec![0; 100];
        store.read_at(pack(1), offset, &mut buffer, Wait::Allowed).map_err(|error| error.chain())
    };
    std::thread::scope(|scope| {
        let bad: Vec<_> = (0..4).map(|at| scope.spawn(move || outcome(MIB + at))).collect();
        let good = scope.spawn(|| outcome(5 * MIB));
        far.await_held(2);
        far.release();
        for reader in bad {
            assert!(reader.join().unwrap().unwrap_err().contains("fails as planned"));
        }
        good.join().unwrap().unwrap();
    });
}

#[test]
fn a_request_that_fails_ahead_of_its_readers_is_made_again_by_who_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let packs = [noise_pack(1, 8 * MIB)];
    let far = FarStore::with_packs(&packs, 4);
    let store = cached(&far, folder.path());
    far.hold();
    far.fail(Some((pack(1), MIB..MIB + 1)));
    store.want(pack(1), MIB..MIB + 4096);
    far.await_held(1);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read(&store, &packs[0], MIB, 8192));
        // The reader has asked for the second block, and waits for the first.
        far.await_held(2);
        far.let_through(2);
        far.await_requests(3);
        far.fail(None);
        far.release();
        reader.join().unwrap();
    });
    let first = (pack(1), MIB..MIB + 4096);
    assert_eq!(far.take_requests(), [first.clone(), (pack(1), MIB + 4096..MIB + 8192), first]);
}

#[test]
fn what_is_distrusted_is_fetched_again_and_forgotten_by_all_processes() {
    let folder = tempfile::tempdir().unwrap();
    let packs = [noise_pack(1, MIB)];
    let far = FarStore::with_packs(&packs, 4);
    let store = cached(&far, folder.path());
    read(&store, &packs[0], 0, MIB);
    // Two readers have met the same wrong bytes: both are to look again.
    assert!(store.distrust(pack(1), 10_000..10_001) && store.distrust(pack(1), 10_000..10_001));
    assert_eq!(store.absent_bytes(pack(1), 0..MIB), 4096);
    assert_eq!(cached(&far, folder.path()).absent_bytes(pack(1), 0..MIB), 4096);
    far.take_requests();
    read(&store, &packs[0], 0, MIB);
    assert_eq!(far.take_requests(), [(pack(1), 8192..12_288)]);
}

#[test]
fn a_reader_who_finds_all_there_is_read_ahead_of_too() {
    let folder = tempfile::tempdir().unwrap();
    let packs = [noise_pack(1, 8 * MIB)];
    let far = FarStore::with_packs(&packs, 4);
    let store = cached(&far, folder.path());
    let is_there = |start: u64, end: u64| store.absent_bytes(pack(1), start..end) == 0;
    (0..2).for_each(|at| read(&store, &packs[0], at * 64 * KIB, 64 * KIB));
    until("the first window is there", bakfs_testing::SOON, || is_there(0, 384 * KIB));
    for at in 2..6 {
        let mut buffer = [0; 64 << 10];
        store.read_at(pack(1), at * 64 * KIB, &mut buffer, Wait::Never).unwrap();
    }
    until("more is there, though nobody has waited for it", bakfs_testing::SOON, || is_there(384 * KIB, 512 * KIB));
}

#[test]
fn small_objects_are_kept_whole_and_verify_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let far = FarStore::with_packs(&[], 4);
    let bytes = noise(5, 3000);
    let id = ObjectId::of(&bytes);
    let store = cached(&far, folder.path());
    for kind in [ObjectKind::Key, ObjectKind::Snapshot, ObjectKind::Mark] {
        store.put(kind.object(id), &bytes).unwrap();
        let read = || store.read_whole(kind.object(id), 10_000).unwrap() == bytes;
        assert!(read() && read() && cached(&far, folder.path()).read_whole(kind.object(id), 10_000).unwrap() == bytes);
        assert_eq!(far.take_count(), 1, "{kind:?}");
        let copies = bakfs_testing::files_below(folder.path());
        let (copy, _) = copies.iter().find(|(path, _)| path.to_string_lossy().contains(&id.to_hex())).unwrap();
        std::fs::write(copy, noise(6, 3000)).unwrap();
        assert!(read() && read());
        assert_eq!(far.take_count(), 1, "a wrong copy is dropped and fetched again");
        std::fs::remove_file(copy).unwrap();
        assert!(read());
        store.delete(kind.object(id)).unwrap();
        assert!(store.read_whole(kind.object(id), 10_000).is_err(), "what was deleted is not there");
        far.take_count();
    }
    store.put(Object::Config, &bytes).unwrap();
    store.put(Object::Index(id), &bytes).unwrap();
    for object in [Object::Config, Object::Index(id)] {
        assert!((0..2).all(|_| store.read_whole(object, 10_000).unwrap() == bytes));
        assert_eq!(far.take_count(), 2, "{object} is not kept whole");
    }
    assert_eq!(store.read_whole(Object::Index(id), 10).unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn a_store_that_is_dropped_asks_for_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let packs = [noise_pack(1, 32 * MIB)];
    let far = FarStore::with_packs(&packs, 4);
    let store = cached(&far, folder.path());
    far.hold();
    store.want(pack(1), 0..32 * MIB);
    far.await_held(3);
    drop(store);
    far.release();
    until("the threads have ended", bakfs_testing::SOON, || Arc::strong_count(&far) == 1);
    assert_eq!(far.take_requests().len(), 3, "those that were on their way");
}

#[test]
fn a_length_that_was_told_wrong_is_noticed() {
    for told in [1, MIB + 5, 3 * MIB, 3 * MIB + 4096, 100 * MIB] {
        let folder = tempfile::tempdir().unwrap();
        let packs = [noise_pack(1, 3 * MIB + 77)];
        let far = FarStore::with_packs(&packs, 4);
        let store = cached(&far, folder.path());
        store.expect_len(pack(1), told);
        read(&store, &packs[0], 0, 100);
        read(&store, &packs[0], 3 * MIB - 10, 87);
        read(&store, &packs[0], MIB, MIB);
        read(&store, &packs[0], 0, 3 * MIB + 77);
        let mut beyond = [0; 10];
        let error = store.read_at(pack(1), 3 * MIB + 70, &mut beyond, Wait::Allowed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error:?}");
        far.take_count();
        read(&cached(&far, folder.path()), &packs[0], 0, 3 * MIB + 77);
        assert_eq!(far.take_count(), 0, "{told} bytes were told");
    }
}

#[test]
fn a_reader_that_goes_on_in_the_next_pack_is_read_ahead_of_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let packs = [noise_pack(1, 16 * MIB), noise_pack(2, 16 * MIB)];
    let far = FarStore::with_packs(&packs, 8);
    let store = cached(&far, folder.path());
    packs.iter().for_each(|(object, bytes)| store.expect_len(*object, bytes.len() as u64));
    (0..16).for_each(|at| read(&store, &packs[0], at * MIB, MIB));
    far.take_requests();
    read(&store, &packs[1], 0, 2112);
    until("a whole window is there", bakfs_testing::SOON, || store.absent_bytes(pack(2), 0..MIB) == 0);
}
