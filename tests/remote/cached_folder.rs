//! The cache of a store far away stays within its bound, may be removed, broken or refused at any time, and what is
//! read is never anything but what is stored.

use bakfs::crypto::keys::Secret;
use bakfs::crypto::slot::Credential;
use bakfs::format::header::Suite;
use bakfs::id::{ObjectId, RepositoryId, to_hex};
use bakfs::repo::Repository;
use bakfs::repo::open::Options;
use bakfs::store::cached::{CachedStore, DEFAULT_MAX_BYTES, default_max_bytes};
use bakfs::store::{Hints, Object, Store, Wait};
use bakfs_testing::far::{FarStore, asked_bytes};
use bakfs_testing::library::{self, Source};
use bakfs_testing::stores::MemStore;
use bakfs_testing::users::{NOBODY, acting_as};
use bakfs_testing::{Dice, noise};
use proptest::prelude::*;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

type Pack = (Object, Vec<u8>);

fn packs(count: u8, len_bytes: u64) -> Vec<Pack> {
    (0..count).map(|n| (Object::Pack(ObjectId([n; 32])), noise(u64::from(n), len_bytes as usize))).collect()
}

/// Reads a range and compares it with what the far store has.
fn read(store: &CachedStore, (object, bytes): &Pack, offset: u64, len_bytes: u64) {
    let mut buffer = vec![0; len_bytes as usize];
    store.read_at(*object, offset, &mut buffer, Wait::Allowed).unwrap();
    assert!(buffer == bytes[offset as usize..(offset + len_bytes) as usize], "{object} from {offset}");
}

/// Returns the copies in a folder, which may be removed at the same time.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("objects")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Returns what files really take of a disk.
fn used_bytes(folder: &Path) -> u64 {
    let blocks = |path: &PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.blocks() * 512);
    files(folder).iter().map(blocks).sum()
}

/// Mounts a file system in memory that is unmounted at the end.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn new(max_bytes: u64) -> Self {
        bakfs_testing::need_root();
        let folder = tempfile::tempdir().unwrap();
        let size = std::ffi::CString::new(format!("size={max_bytes}")).unwrap();
        rustix::mount::mount("bakfs-test", folder.path(), "tmpfs", rustix::mount::MountFlags::empty(), &*size).unwrap();
        Tmpfs(folder)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn the_bound_holds_for_several_processes() {
    let folder = tempfile::tempdir().unwrap();
    let packs = packs(40, 2 * MIB);
    let far = FarStore::with_packs(&packs, 4);
    let max_bytes = 16 * MIB;
    let stores = [(); 2].map(|()| CachedStore::open(far.clone(), Some(folder.path()), max_bytes));
    let mut dice = Dice::new(3);
    let mut most = 0;
    for round in 0..1000 {
        let pack = &packs[dice.below(40) as usize];
        read(&stores[round % 2], pack, dice.below(MIB), 200 * KIB);
        most = most.max(used_bytes(folder.path()));
    }
    assert!(most <= max_bytes, "{most} bytes were used");
    assert!(most > max_bytes * 3 / 4, "the room is used: {most}");
}

#[test]
fn what_was_used_last_is_removed_last() {
    let folder = tempfile::tempdir().unwrap();
    let packs = packs(20, MIB);
    let far = FarStore::with_packs(&packs, 4);
    let store = CachedStore::open(far.clone(), Some(folder.path()), 8 * MIB);
    for (number, pack) in packs.iter().enumerate() {
        read(&store, pack, 0, MIB);
        // As if the first pack had been read again a while later.
        let first = files(folder.path()).into_iter().find(|path| path.to_string_lossy().contains("/0000"));
        let first = std::fs::File::open(first.unwrap_or_else(|| panic!("gone at {number}"))).unwrap();
        first.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(5)).unwrap();
    }
    far.take_count();
    read(&store, &packs[0], 0, MIB);
    read(&store, &packs[19], 0, MIB);
    assert_eq!(far.take_count(), 0);
    read(&store, &packs[1], 0, MIB);
    assert!(far.take_count() > 0);
}

#[test]
fn files_may_be_removed_while_they_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let packs = packs(3, 4 * MIB);
    let far = FarStore::with_packs(&packs, 4);
    let stores = [(); 2].map(|()| CachedStore::open(far.clone(), Some(folder.path()), 1 << 30));
    for pack in &packs {
        stores.iter().for_each(|store| read(store, pack, 0, MIB));
    }
    files(folder.path()).iter().for_each(|path| std::fs::remove_file(path).unwrap());
    // What is open goes on; what was not there yet goes into a new file, which others find.
    packs.iter().for_each(|pack| read(&stores[0], pack, 2 * MIB, MIB));
    far.take_count();
    packs.iter().for_each(|pack| read(&stores[1], pack, 2 * MIB, MIB));
    assert_eq!(far.take_count(), 0);
    assert_eq!(files(folder.path()).len(), 3);
    std::fs::remove_dir_all(folder.path().join("objects")).unwrap();
    packs.iter().for_each(|pack| stores.iter().for_each(|store| read(store, pack, 0, 4 * MIB)));
    assert_eq!(files(folder.path()).len(), 3, "the folder is made again");
}

/// Reads everything twice through a folder that cannot be used at first or any more: correct, and no worse than
/// memory can do.
fn works_with_memory(far: &FarStore, store: &CachedStore, packs: &[Pack]) {
    for pack in packs {
        (0..4).for_each(|at| read(store, pack, at * MIB, MIB));
    }
    let (asked, _) = asked_bytes(&far.take_requests());
    let all = packs.len() as u64 * 4 * MIB;
    assert!(asked <= all + 4 * MIB, "{asked} bytes were fetched for {all}");
    let last = packs.last().unwrap();
    far.take_count();
    (0..4).for_each(|at| read(store, last, at * MIB, MIB));
    assert_eq!(far.take_count(), 0, "the last pack is in memory");
}

#[test]
fn a_folder_that_cannot_be_used_is_done_without() {
    let packs = packs(5, 4 * MIB);
    let far = FarStore::with_packs(&packs, 4);
    let file = tempfile::NamedTempFile::new().unwrap();
    let in_its_place = CachedStore::open(far.clone(), Some(file.path()), 1 << 30);
    works_with_memory(&far, &in_its_place, &packs);

    let read_only = tempfile::tempdir().unwrap();
    std::fs::set_permissions(read_only.path(), std::fs::Permissions::from_mode(0o500)).unwrap();
    acting_as(NOBODY, || {
        let not_permitted = CachedStore::open(far.clone(), Some(read_only.path()), 1 << 30);
        works_with_memory(&far, &not_permitted, &packs);
    });
    assert!(files(read_only.path()).is_empty());

    let none = CachedStore::open(far.clone(), None, 0);
    works_with_memory(&far, &none, &packs);
}

#[test]
fn a_disk_that_is_full_is_done_without() {
    let packs = packs(8, 4 * MIB);
    let far = FarStore::with_packs(&packs, 4);
    let full = Tmpfs::new(10 * MIB);
    // It fills up while packs are read, and later what others have fills it all.
    let store = CachedStore::open(far.clone(), Some(full.0.path()), 1 << 30);
    for pack in &packs {
        (0..4).for_each(|at| read(&store, pack, at * MIB, MIB));
    }
    let (asked, _) = asked_bytes(&far.take_requests());
    assert!(asked <= 36 * MIB + 32 * MIB / 4, "{asked} bytes were fetched for 32 MiB");
    drop(store);
    files(full.0.path()).iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let others = std::fs::File::create(full.0.path().join("others")).unwrap();
    let mut at = 0;
    while others.write_all_at(&[1; 4096], at).is_ok() {
        at += 4096;
    }
    let store = CachedStore::open(far.clone(), Some(full.0.path()), 1 << 30);
    works_with_memory(&far, &store, &packs[..5]);
    assert_eq!(std::fs::metadata(full.0.path().join("others")).unwrap().len(), at, "what is not ours stays");
}

#[test]
fn memory_is_bounded() {
    let packs = packs(20, 8 * MIB);
    let far = FarStore::with_packs(&packs, 4);
    let store = CachedStore::open(far.clone(), None, 0);
    let in_memory = || -> u64 {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let named = open.filter(|fd| {
            std::fs::read_link(fd.path()).is_ok_and(|name| name.to_string_lossy().starts_with("/memfd:bakfs"))
        });
        named.filter_map(|fd| std::fs::metadata(fd.path()).ok()).map(|file| file.blocks() * 512).sum()
    };
    let mut most = 0;
    for pack in &packs {
        (0..8).for_each(|at| read(&store, pack, at * MIB, MIB));
        most = most.max(in_memory());
    }
    assert!((30 * MIB..52 * MIB).contains(&most), "{most} bytes");
}

#[test]
fn the_default_bound_is_a_tenth_of_small_disks() {
    let small = Tmpfs::new(100 * MIB);
    assert_eq!(default_max_bytes(&small.0.path().join("not/there/yet")), 10 * MIB);
    assert!(default_max_bytes(Path::new("/")) <= DEFAULT_MAX_BYTES);
}

/// Makes a repository with two snapshots; returns its objects and all it shows.
fn repository() -> (Arc<MemStore>, library::History) {
    let memory = Arc::new(MemStore::default());
    library::init(&*memory, Suite::Aes256GcmSiv, 7, library::TINY_CHUNKS).unwrap();
    let source = Source::new();
    let repository = library::open(memory.clone()).unwrap();
    for day in 0..2 {
        library::plant(&source.path(), day);
        library::back_up(&repository, &source.path(), day as i64).unwrap();
    }
    let truth = library::read_all(&repository).unwrap();
    (memory, truth)
}

/// Opens it with a cache, as another process would.
fn open(far: &Arc<FarStore>, base: &Path) -> Repository {
    let options = Options { cache_base: Some(base), cache_max_bytes: 1 << 30, ..Options::default() };
    let credential = |_: &RepositoryId| Ok(vec![Credential::Key(Secret(library::KEYS[0]))]);
    Repository::unlock(far.clone(), &options, credential).unwrap()
}

#[test]
fn copies_that_are_broken_are_noticed_and_fetched_again() {
    let (memory, truth) = repository();
    let base = tempfile::tempdir().unwrap();
    let far = FarStore::new(memory, 4);
    let read_all = || library::read_all(&open(&far, base.path())).unwrap();
    let folder = base.path().join(to_hex(&[7; 16]));
    assert_eq!(read_all().lies(&truth), Vec::<String>::new());
    far.take_requests();
    assert!(read_all().is_whole());
    assert_eq!(far.take_requests(), [], "all ranges are there");
    let break_all = |how: &dyn Fn(usize, &std::fs::File)| {
        let found = files(&folder);
        assert!(found.iter().any(|path| path.extension().is_some_and(|kind| kind == "pack1")));
        for (number, path) in found.iter().enumerate() {
            how(number, &std::fs::File::options().read(true).write(true).open(path).unwrap());
        }
    };
    let flip = |file: &std::fs::File, at: u64| {
        let mut byte = [0];
        if file.read_exact_at(&mut byte, at).is_ok() {
            file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
        }
    };
    let is_right = |what: &str| {
        let shown = read_all();
        assert!(shown.is_whole() && shown.lies(&truth).is_empty(), "{what}: {:?}", shown.warnings);
        assert!(shown.snapshots.len() == truth.snapshots.len());
        let again = far.take_requests();
        let shown = read_all();
        assert!(shown.is_whole() && far.take_requests().is_empty(), "{what}: the copies are good again");
        again.len()
    };
    let mut dice = Dice::new(5);
    for _ in 0..20 {
        let rolls: Vec<u64> = (0..64).map(|_| dice.roll()).collect();
        break_all(&|number, file| {
            let len = file.metadata().unwrap().len();
            (0..4).for_each(|flips| flip(file, 64 + rolls[(number * 4 + flips) % 64] % (len - 64)));
        });
        is_right("a bit anywhere");
    }
    break_all(&|_, file| (0..file.metadata().unwrap().len()).step_by(509).for_each(|at| flip(file, at)));
    assert!(is_right("many bits, of bitmaps and lengths too") > 0);
    break_all(&|_, file| file.write_all_at(&vec![0xff; 16_320], 64).unwrap());
    is_right("all blocks said to be there");
    break_all(&|_, file| file.set_len(16 * KIB + 4096).unwrap());
    assert!(is_right("files that were cut off") > 0);
    break_all(&|_, file| {
        let len = file.metadata().unwrap().len();
        file.set_len(16 * KIB).unwrap();
        file.set_len(len).unwrap();
    });
    assert!(is_right("holes where the bits say bytes are") > 0);
}

#[test]
fn what_is_damaged_far_away_is_told_after_one_more_look() {
    let (memory, truth) = repository();
    let mut objects = memory.objects();
    for (_, bytes) in objects.iter_mut().filter(|(path, _)| path.starts_with("packs/")) {
        let mut changed = bytes.to_vec();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        *bytes = Arc::new(changed);
    }
    let base = tempfile::tempdir().unwrap();
    let far = FarStore::new(Arc::new(MemStore::of(objects)), 4);
    let shown = library::read_all(&open(&far, base.path())).unwrap();
    assert!(!shown.is_whole());
    assert_eq!(shown.lies(&truth), Vec::<String>::new());
    let (asked, again) = asked_bytes(&far.take_requests());
    assert!(again < 3 * (asked - again), "{again} of {asked} bytes were asked for again");
}

#[derive(Debug, Clone)]
enum Step {
    Read { pack: usize, from: u64, len: u64, process: usize },
    Want { pack: usize, from: u64, len: u64, process: usize },
    Distrust { pack: usize, from: u64, len: u64, process: usize },
    Reopen { process: usize },
    Remove { file: usize },
    RemoveAll,
}

fn step() -> impl Strategy<Value = Step> {
    let range = || (0usize..6, 0u64..700_000, 1u64..300_000, 0usize..2);
    prop_oneof![
        12 => range().prop_map(|(pack, from, len, process)| Step::Read { pack, from, len, process }),
        2 => range().prop_map(|(pack, from, len, process)| Step::Want { pack, from, len, process }),
        2 => range().prop_map(|(pack, from, len, process)| Step::Distrust { pack, from, len, process }),
        1 => (0usize..2).prop_map(|process| Step::Reopen { process }),
        2 => (0usize..6).prop_map(|file| Step::Remove { file }),
        1 => Just(Step::RemoveAll),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn reads_are_those_of_the_store_whatever_happens_to_the_folder(steps in prop::collection::vec(step(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let packs = packs(6, 700_000);
        let far = FarStore::with_packs(&packs, 3);
        // So little room that copies are removed all the time.
        let open = || CachedStore::open(far.clone(), Some(folder.path()), 1);
        let mut processes = [open(), open()];
        for step in steps {
            match step {
                Step::Read { pack, from, len, process } => {
                    let (store, (object, bytes)) = (&processes[process], &packs[pack]);
                    let mut buffer = vec![0; len as usize];
                    let is_within = from + len <= 700_000;
                    for wait in [Wait::Never, Wait::Allowed, Wait::Never] {
                        match store.read_at(*object, from, &mut buffer, wait) {
                            Ok(()) => prop_assert!(buffer == bytes[from as usize..(from + len) as usize]),
                            Err(error) => prop_assert!(wait == Wait::Never || !is_within, "{error:?}"),
                        }
                    }
                }
                Step::Want { pack, from, len, process } => processes[process].want(packs[pack].0, from..from + len),
                Step::Distrust { pack, from, len, process } => {
                    processes[process].distrust(packs[pack].0, from..from + len);
                }
                Step::Reopen { process } => processes[process] = open(),
                Step::Remove { file } => {
                    let found = files(folder.path());
                    if let Some(path) = found.get(file) {
                        let _ = std::fs::remove_file(path);
                    }
                }
                Step::RemoveAll => {
                    let _ = std::fs::remove_dir_all(folder.path().join("objects"));
                }
            }
        }
    }
}
