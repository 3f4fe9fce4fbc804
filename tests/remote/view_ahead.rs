//! Promise: who goes through the directories of a snapshot far away finds the small files of the next ones here, in
//! whichever order the program goes; and who looks at one directory has nothing else fetched.

use bakfs::format::header::Suite;
use bakfs::store::cached::CachedStore;
use bakfs::view::View;
use bakfs_mount::tree::{Ino, ROOT_INO, Tree, Wait};
use bakfs_testing::far::FarStore;
use bakfs_testing::library::{self, TINY_CHUNKS};
use bakfs_testing::stores::MemStore;
use bakfs_testing::{SOON, noise, until};
use std::path::Path;
use std::sync::Arc;

const DIRECTORIES: u64 = 40;
const FILES: u64 = 6;
const FILE_BYTES: usize = 60_000;

/// A snapshot of directories of small files, as a mount on a machine that never saw it has it.
struct World {
    view: View,
    /// The directory that holds the others.
    top: Ino,
    _folders: [tempfile::TempDir; 2],
}

impl World {
    fn new() -> World {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [source, cache] = &folders;
        for directory in 0..DIRECTORIES {
            let dir = source.path().join(format!("d{directory:02}"));
            std::fs::create_dir(&dir).unwrap();
            for file in 0..FILES {
                std::fs::write(dir.join(format!("f{file}")), noise(directory * FILES + file, FILE_BYTES)).unwrap();
            }
        }
        let store = Arc::new(MemStore::default());
        library::init(&*store, Suite::Plain, 0, TINY_CHUNKS).unwrap();
        library::back_up(&library::open(store.clone()).unwrap(), source.path(), 0).unwrap();
        let far = Arc::new(CachedStore::open(FarStore::new(store, 4), Some(cache.path()), 1 << 30));
        let view = View::new(library::open(far).unwrap(), true, Box::new(|| false)).unwrap();
        let top = find(&view, source.path());
        World { view, top, _folders: folders }
    }

    fn list(&self, dir: Ino) -> Vec<Ino> {
        let mut found = Vec::new();
        let mut each = |listed: bakfs_mount::tree::ListedEntry<'_>| {
            found.push(listed.attr.ino);
            true
        };
        self.view.list(dir, 0, true, Wait::Allowed, &mut each).unwrap();
        found
    }

    /// Reads the files of a directory, as the mount's driver does for who reads two of them.
    fn read(&self, dir: Ino) {
        let files = self.list(dir);
        let (small, _) = self.view.small_files(dir, 0, 128, 128 << 10).unwrap();
        assert_eq!(small.len(), files.len());
        self.view.want(&small);
        for file in files {
            let mut bytes = Vec::new();
            self.view.read(file, 0, FILE_BYTES as u32, Wait::Allowed, &mut bytes).unwrap();
            assert_eq!(bytes.len(), FILE_BYTES);
        }
    }

    /// Returns what reading a directory's files would fetch.
    fn absent_bytes(&self, dir: Ino) -> u64 {
        let absent = |file| self.view.xattr(file, b"user.bakfs.fetch_bytes", Wait::Allowed).unwrap();
        self.list(dir).into_iter().map(|file| String::from_utf8(absent(file)).unwrap().parse::<u64>().unwrap()).sum()
    }
}

fn find(view: &View, path: &Path) -> Ino {
    let newest = view.newest().unwrap().snapshot.name.clone();
    let names = path.iter().skip(1).map(|name| name.as_encoded_bytes());
    let names = std::iter::once(newest.as_bytes()).chain(names);
    names.fold(ROOT_INO, |dir, name| view.lookup(dir, name, Wait::Allowed).unwrap().ino)
}

/// Makes a world and the order to go through it: by name, or by number. Numbers come by chance, and the first three
/// are not in the order of names: otherwise they would not tell which of the two it is.
fn world_in_order(is_by_number: bool) -> (World, Vec<Ino>) {
    loop {
        let world = World::new();
        let named = world.list(world.top);
        assert_eq!(named.len() as u64, DIRECTORIES);
        let mut order = named.clone();
        if is_by_number {
            order.sort_unstable();
        }
        let place = |ino: &Ino| named.iter().position(|named| named == ino).unwrap();
        if !is_by_number || !order[..3].is_sorted_by_key(place) {
            return (world, order);
        }
    }
}

#[test]
fn the_next_directories_are_fetched_before_they_are_listed() {
    for is_by_number in [false, true] {
        let (world, order) = world_in_order(is_by_number);
        order[..3].iter().for_each(|dir| world.read(*dir));
        until("the next directories are here", SOON, || order[3..7].iter().all(|dir| world.absent_bytes(*dir) == 0));
        world.read(order[3]);
        until("those after them are here", SOON, || order[7..12].iter().all(|dir| world.absent_bytes(*dir) == 0));
        // Packs are read ahead too where the reader goes through them in order: what is far away stays there.
        let rest: u64 = order[20..].iter().map(|dir| world.absent_bytes(*dir)).sum();
        assert!(rest >= 15 * FILES * FILE_BYTES as u64, "{rest} bytes");
    }
}

#[test]
fn who_reads_one_directory_has_no_other_fetched() {
    let world = World::new();
    let order = world.list(world.top);
    world.read(order[30]);
    let absent: u64 = order[..28].iter().map(|dir| world.absent_bytes(*dir)).sum();
    assert!(absent >= 28 * FILES * FILE_BYTES as u64, "{absent} bytes");
}
