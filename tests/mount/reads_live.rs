//! Promise: what is read through the mount is the source, while snapshots come, are forgotten and pruned: by
//! eight readers at once in every way there is to read, and by fio(1), which verifies what it wrote itself.

use bakfs::store::local::LocalStore;
use bakfs_testing::cli::{Bakfs, Mounted};
use bakfs_testing::process::tool;
use bakfs_testing::{Dice, library, noise};
use parking_lot::RwLock;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const READERS: u64 = 8;
const FILES: u64 = 6;

/// What a file of a day holds.
fn content(day: u64, file: u64) -> Vec<u8> {
    let len = [0, 1, 70_000, 400_000, 1_500_000, 3_000_001][file as usize];
    let mut bytes = noise(file, len);
    // A part of each day's own.
    let own = noise(1000 + day * FILES + file, len / 7);
    bytes[len / 3..len / 3 + own.len()].copy_from_slice(&own);
    bytes
}

fn write_day(source: &Path, day: u64) {
    for file in 0..FILES {
        std::fs::write(source.join(format!("file-{file}")), content(day, file)).unwrap();
    }
}

/// A snapshot that is there, or was.
struct Day {
    number: u64,
    name: String,
    files: Vec<Vec<u8>>,
    is_forgotten: AtomicBool,
}

struct World<'a> {
    mount: &'a Mounted<'a>,
    source: PathBuf,
    days: RwLock<Vec<Arc<Day>>>,
    stopped: AtomicBool,
    reads: AtomicU64,
    gone: AtomicU64,
}

impl World<'_> {
    fn add(&self, number: u64, name: &str) {
        let files = (0..FILES).map(|file| content(number, file)).collect();
        let day = Day { number, name: name.into(), files, is_forgotten: AtomicBool::new(false) };
        self.days.write().push(Arc::new(day));
    }

    /// Reads at random places in all ways until told to stop; a forgotten day may fail, and never lies.
    fn read(&self, seed: u64) {
        let mut dice = Dice::new(seed);
        while !self.stopped.load(Ordering::Relaxed) {
            let day = {
                let days = self.days.read();
                days[dice.below(days.len() as u64) as usize].clone()
            };
            let file = dice.below(FILES);
            let expected = &day.files[file as usize];
            let path = self.mount.at(&day.name, &self.source).join(format!("file-{file}"));
            let start = dice.below(expected.len() as u64 + 1) as usize;
            let longest = [100, 5000, 300_000, 2_000_000][dice.below(4) as usize];
            let range = start..(start + dice.below(longest) as usize).min(expected.len());
            // A mapped page that cannot be read is SIGBUS: the first day is never forgotten.
            let ways = if day.number == 0 { 4 } else { 3 };
            match read_in_a_way(&path, &range, dice.below(ways)) {
                Ok(bytes) => assert!(bytes == expected[range.clone()], "{} {range:?}", path.display()),
                Err(error) => {
                    let was_forgotten = day.is_forgotten.load(Ordering::SeqCst);
                    assert!(was_forgotten, "{} of a day that is kept: {error}", path.display());
                    self.gone.fetch_add(1, Ordering::Relaxed);
                }
            }
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn read_in_a_way(path: &Path, range: &std::ops::Range<usize>, way: u64) -> std::io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = vec![0xEE; range.len()];
    match way {
        0 => file.read_exact_at(&mut bytes, range.start as u64)?,
        1 => {
            let half = bytes.len() / 2;
            let (first, second) = bytes.split_at_mut(half);
            let mut slices = [first, second].map(std::io::IoSliceMut::new);
            let len = rustix::io::preadv(&file, &mut slices, range.start as u64)?;
            // The rest of a short read.
            file.read_exact_at(&mut bytes[len..], (range.start + len) as u64)?;
        }
        2 => {
            let copy = tempfile::tempfile()?;
            let mut at = range.start as u64;
            while at < range.end as u64 {
                let left = range.end - at as usize;
                if rustix::fs::sendfile(&copy, &file, Some(&mut at), left)? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
            copy.read_exact_at(&mut bytes, 0)?;
        }
        _ if range.is_empty() => {}
        _ => {
            // SAFETY: the mount's files never change, and the map is dropped before the unmount.
            let map = unsafe { memmap2::Mmap::map(&file) }?;
            bytes.copy_from_slice(&map[range.clone()]);
        }
    }
    Ok(bytes)
}

/// Returns the date of a day counted from the first.
fn date(number: u64) -> String {
    let first: jiff::Timestamp = "2001-01-01T03:00:00Z".parse().unwrap();
    (first + jiff::Span::new().hours(24 * number as i64)).to_string()
}

#[test]
fn eight_readers_read_the_source_while_snapshots_come_and_go() {
    let bakfs = Bakfs::empty();
    bakfs.ok(["init", "--encryption", "none"]);
    let source = bakfs.make_dir("source");
    write_day(&source, 0);
    let first = bakfs.backup([OsStr::new("--time"), OsStr::new(&date(0)), source.as_os_str()]);
    let mount = bakfs.mount();
    let world = World {
        mount: &mount,
        source: source.clone(),
        days: RwLock::default(),
        stopped: AtomicBool::new(false),
        reads: AtomicU64::new(0),
        gone: AtomicU64::new(0),
    };
    world.add(0, first.snapshot());
    let days = library::size("LIVE_DAYS", 40, 20_000);
    let mut pruned = 0;
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|seed| {
                scope.spawn({
                    let world = &world;
                    move || world.read(seed)
                })
            })
            .collect();
        let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for number in 1..=days {
                if readers.iter().any(|reader| reader.is_finished()) {
                    return;
                }
                write_day(&source, number);
                // A day of its own: a name may be used again once a prune has removed its snapshot.
                let backup = bakfs.backup([OsStr::new("--time"), OsStr::new(&date(number)), source.as_os_str()]);
                world.add(number, backup.snapshot());
                if number % 4 != 0 {
                    continue;
                }
                forget(&bakfs, &world);
                bakfs.ok(["prune", "--max-waste", "0%"]);
                pruned += 1;
                world.days.write().retain(|day| !day.is_forgotten.load(Ordering::SeqCst));
            }
        }));
        world.stopped.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
        lived.unwrap();
    });
    println!(
        "live reads: {} reads by {READERS} readers, {days} snapshots came and {pruned} prunes ran, {} reads of pruned days failed, 0 differences",
        world.reads.load(Ordering::Relaxed),
        world.gone.load(Ordering::Relaxed)
    );
    assert!(world.reads.load(Ordering::Relaxed) > 1000);
    bakfs.ok(["check", "--read-data"]);
    mount.unmount();
}

/// Forgets all days but the first and the newest two.
fn forget(bakfs: &Bakfs, world: &World<'_>) {
    let repository = library::open(Arc::new(LocalStore::new(&bakfs.repo()))).unwrap();
    let days = world.days.read();
    let going = &days[1..days.len() - 2];
    going.iter().for_each(|day| day.is_forgotten.store(true, Ordering::SeqCst));
    let snapshots = repository.snapshots().unwrap();
    let ids: Vec<_> = snapshots
        .iter()
        .filter(|listed| going.iter().any(|day| day.name == listed.snapshot.name))
        .map(|listed| listed.id)
        .collect();
    assert_eq!(ids.len(), going.len());
    repository.forget(&ids).unwrap();
}

#[test]
fn fio_verifies_what_it_wrote() {
    let bakfs = Bakfs::new();
    let source = bakfs.make_dir("source");
    let file = source.join("file");
    let size = format!("--size={}m", library::size("FIO_MIB", 24, 2000));
    let common =
        ["--bs=4k", &size, "--verify=sha256", "--ioengine=psync", "--verify_state_save=0", "--output-format=terse"];
    let fio = |path: &Path, options: &[&str]| {
        let name = format!("--filename={}", path.display());
        tool("fio", ["--name=job", &name].iter().chain(options).chain(&common))
    };
    fio(&file, &["--rw=write", "--do_verify=0"]).expect(0);
    bakfs.backup([&source]);
    let mount = bakfs.mount();
    let shown = mount.at("latest", &file);
    for way in ["read", "randread"] {
        let way = format!("--rw={way}");
        fio(&shown, &[&way, "--readonly", "--numjobs=8"]).expect(0);
    }
    println!("fio: 16 jobs verified {size} each, 0 differences");
    mount.unmount();
    // It sees a single wrong byte.
    let wrong = bakfs.path("wrong");
    std::fs::copy(&file, &wrong).unwrap();
    File::options().write(true).open(&wrong).unwrap().write_all_at(b"x", 300_000).unwrap();
    assert_ne!(fio(&wrong, &["--rw=read", "--readonly"]).code, 0);
}
