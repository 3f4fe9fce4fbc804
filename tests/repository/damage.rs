//! Promise: damage in the repository is located. A read gives the original bytes or EIO, only the paths
//! concerned are lost, and `check` names them.

use bakfs_testing::cli::{Bakfs, Mounted};
use bakfs_testing::{files_below, noise};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

const FILES: u64 = 24;
const FILE_BYTES: usize = 700_000;
/// Where an object's kind is, and the kinds of packs (docs/format.md).
const KIND_AT: usize = 9;
const DATA_PACK: u8 = 3;
const TREE_PACK: u8 = 4;

/// Two days of two sources that share nothing.
struct World {
    bakfs: Bakfs,
    days: [Day; 2],
}

struct Day {
    snapshot: String,
    source: PathBuf,
    packs: Vec<PathBuf>,
    index: Vec<PathBuf>,
    object: PathBuf,
}

impl World {
    fn new() -> World {
        let bakfs = Bakfs::new();
        let days = ["2026-03-01T03:00:00Z", "2026-03-02T03:00:00Z"].map(|time| {
            let source = bakfs.make_dir(if time.contains("03-01T") { "one" } else { "two" });
            let seed = if source.ends_with("one") { 1000 } else { 2000 };
            for file in 0..FILES {
                let path = source.join(format!("file-{file:02}"));
                std::fs::write(path, noise(seed + file, FILE_BYTES)).unwrap();
            }
            let kinds = ["packs", "index", "snapshots"];
            let before = kinds.map(|kind| bakfs.objects(kind));
            let snapshot = bakfs.backup_at(time, &source).snapshot().to_owned();
            let new = |kind: usize| -> Vec<PathBuf> {
                let all = bakfs.objects(kinds[kind]).into_iter();
                all.filter(|object| !before[kind].contains(object)).map(|object| object.0).collect()
            };
            let object = new(2).pop().unwrap();
            Day { snapshot, source, packs: new(0), index: new(1), object }
        });
        World { bakfs, days }
    }

    fn pack(&self, kind: u8) -> PathBuf {
        let is_kind = |path: &&PathBuf| std::fs::read(path).unwrap()[KIND_AT] == kind;
        self.days[1].packs.iter().find(is_kind).unwrap().clone()
    }

    /// Mounts with nothing kept from earlier runs.
    fn mount_cold(&self) -> Mounted<'_> {
        // The mount before, which is ending, may still write there.
        let aside = (0..).map(|number| self.bakfs.path(&format!("cache-{number}"))).find(|path| !path.exists());
        std::fs::rename(self.bakfs.path("cache"), aside.unwrap()).unwrap();
        self.bakfs.make_dir("cache");
        self.bakfs.mount()
    }

    /// Asserts that the first day is perfect, and returns which files of the second are lost.
    fn lost(&self) -> Vec<PathBuf> {
        let mount = self.mount_cold();
        let lost = self.days.each_ref().map(|day| {
            let shown = mount.at(&day.snapshot, &day.source);
            let files = files_below(&day.source);
            let paths = files.into_iter().map(|(path, _)| path);
            paths.filter(|path| is_lost(path, &shown)).collect::<Vec<_>>()
        });
        mount.unmount();
        let [first, second] = lost;
        assert!(first.is_empty(), "the first day has no part in it: {first:?}");
        second
    }

    /// Damages an object, looks, and puts it right again.
    fn with_damage(&self, object: &Path, damage: &Damage, look: impl FnOnce()) {
        let bytes = std::fs::read(object).unwrap();
        std::fs::remove_file(object).unwrap();
        match damage {
            Damage::Flip(per_mille) => {
                let mut damaged = bytes.clone();
                damaged[bytes.len() * per_mille / 1000] ^= 0x04;
                std::fs::write(object, damaged).unwrap();
            }
            Damage::Truncate => std::fs::write(object, &bytes[..bytes.len() / 2]).unwrap(),
            Damage::Remove => {}
        }
        look();
        let _ = std::fs::remove_file(object);
        std::fs::write(object, &bytes).unwrap();
    }

    /// Runs `check`, which must fail and name the object and every path that is lost.
    fn check_names(&self, options: &[&str], object: &Path, lost: &[PathBuf]) {
        let args = ["check"].iter().chain(options);
        let outcome = self.bakfs.run(args);
        assert!(matches!(outcome.code, 1 | 3), "check must fail: {outcome}");
        let text = format!("{}{}", outcome.text(), outcome.stderr);
        let id = object.file_name().unwrap().to_str().unwrap();
        assert!(text.contains(&id[..8]), "check must name {id}: {outcome}");
        for path in lost {
            assert!(text.contains(path.to_str().unwrap()), "check must name {path:?}: {outcome}");
        }
    }
}

#[derive(Debug)]
enum Damage {
    Flip(usize),
    Truncate,
    Remove,
}

/// Returns whether a file cannot be read; panics when what is read is not the original.
fn is_lost(source: &Path, shown: &Path) -> bool {
    let name = source.file_name().unwrap();
    match std::fs::read(shown.join(name)) {
        Ok(bytes) => {
            assert!(bytes == std::fs::read(source).unwrap(), "wrong bytes of {source:?}");
            false
        }
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::EIO), "{source:?}: {error}");
            true
        }
    }
}

#[test]
fn damaged_data_is_eio_where_it_lies_and_nowhere_else() {
    let world = World::new();
    assert!(world.lost().is_empty());
    world.bakfs.ok(["check", "--read-data"]);
    let pack = world.pack(DATA_PACK);
    let spread = [100, 400, 500, 900].map(Damage::Flip);
    for damage in spread {
        world.with_damage(&pack, &damage, || {
            let lost = world.lost();
            // A flipped bit costs a frame: one chunk, or the ends of a few neighbours that share it.
            assert!(matches!(lost.len(), 1..=5), "{damage:?} costs {lost:?}");
            world.check_names(&["--read-data"], &pack, &lost);
        });
    }
    world.with_damage(&pack, &Damage::Truncate, || {
        let lost = world.lost();
        let all = FILES as usize;
        assert!(lost.len() >= all / 8 && lost.len() <= all * 7 / 8, "half a pack costs {lost:?}");
        world.check_names(&["--read-data"], &pack, &lost);
    });
    world.with_damage(&pack, &Damage::Remove, || {
        let lost = world.lost();
        assert!(!lost.is_empty());
        world.check_names(&[], &pack, &lost);
    });
    assert!(world.lost().is_empty());
    world.bakfs.ok(["check", "--read-data"]);
}

#[test]
fn restore_and_dump_name_what_damage_costs_and_bring_the_rest() {
    let world = World::new();
    let pack = world.pack(DATA_PACK);
    world.with_damage(&pack, &Damage::Flip(500), || {
        let lost = world.lost();
        let target = world.bakfs.path("target");
        let day = &world.days[1];
        let args = [OsStr::new("restore"), OsStr::new(&day.snapshot), target.as_os_str()];
        let mut outcome = world.bakfs.run(args);
        assert!(matches!(outcome.code, 1 | 3), "{outcome}");
        for path in &lost {
            outcome = outcome.says(path.file_name().unwrap().to_str().unwrap());
            let dump = format!("{}:{}", day.snapshot, path.display());
            world.bakfs.run(["dump", &dump]).refused().says(path.to_str().unwrap());
        }
        let restored = target.join(day.source.strip_prefix("/").unwrap());
        for (path, _) in files_below(&day.source) {
            let copy = std::fs::read(restored.join(path.file_name().unwrap()));
            if lost.contains(&path) {
                let whole = copy.is_ok_and(|bytes| bytes.len() == FILE_BYTES);
                assert!(!whole, "{path:?} must not look restored");
            } else {
                assert!(copy.unwrap() == std::fs::read(&path).unwrap(), "{path:?}");
            }
        }
    });
}

#[test]
fn damaged_trees_cost_their_own_snapshot_only() {
    let world = World::new();
    let pack = world.pack(TREE_PACK);
    for damage in [Damage::Flip(300), Damage::Flip(500), Damage::Truncate, Damage::Remove] {
        world.with_damage(&pack, &damage, || {
            let lost = world.lost();
            let outcome = world.bakfs.run(["check", "--read-data"]);
            assert!(matches!(outcome.code, 1 | 3), "{damage:?}, {} lost: {outcome}", lost.len());
            world.check_names(&["--read-data"], &pack, &[]);
            let text = format!("{}{}", outcome.text(), outcome.stderr);
            if !lost.is_empty() {
                let parts = [world.days[1].source.to_str().unwrap(), &world.days[1].snapshot];
                assert!(parts.iter().any(|part| text.contains(part)), "{outcome}");
            }
        });
    }
    assert!(world.lost().is_empty());
}

#[test]
fn a_damaged_index_serves_nothing_wrong_and_the_rest() {
    let world = World::new();
    let object = world.days[1].index[0].clone();
    for damage in [Damage::Flip(100), Damage::Flip(800), Damage::Truncate, Damage::Remove] {
        world.with_damage(&object, &damage, || {
            // Packs tell what is in them: what their index costs may be nothing.
            let lost = world.lost();
            eprintln!("{damage:?} of an index costs {} of {FILES} files", lost.len());
            if !matches!(damage, Damage::Remove) || !lost.is_empty() {
                world.check_names(&[], &object, &[]);
            }
        });
    }
    assert!(world.lost().is_empty());
}

#[test]
fn a_damaged_snapshot_hides_no_other() {
    let world = World::new();
    let object = world.days[1].object.clone();
    for damage in [Damage::Flip(500), Damage::Flip(950), Damage::Truncate] {
        world.with_damage(&object, &damage, || {
            let mount = world.mount_cold();
            let first = &world.days[0];
            let shown = mount.at(&first.snapshot, &first.source);
            for (path, _) in files_below(&first.source) {
                assert!(!is_lost(&path, &shown), "{path:?}");
            }
            mount.unmount();
            let listing = world.bakfs.run(["snapshots"]);
            assert!(listing.text().contains(&first.snapshot), "{listing}");
            let id = object.file_name().unwrap().to_str().unwrap();
            assert!(listing.stderr.contains(&id[..8]), "the damaged one is named: {listing}");
            world.check_names(&[], &object, &[]);
        });
    }
    assert!(world.lost().is_empty());
}

#[test]
fn damage_of_the_index_and_of_content_at_once_is_an_error_and_no_endless_search() {
    let world = World::new();
    let pack = world.pack(DATA_PACK);
    let index = world.days[1].index[0].clone();
    world.with_damage(&index, &Damage::Truncate, || {
        world.with_damage(&pack, &Damage::Flip(500), || {
            let lost = world.lost();
            assert!(matches!(lost.len(), 1..=5), "{lost:?}");
            for path in lost {
                let dump = format!("{}:{}", world.days[1].snapshot, path.display());
                world.bakfs.run(["dump", &dump]).refused().says(path.to_str().unwrap());
            }
        });
    });
}
