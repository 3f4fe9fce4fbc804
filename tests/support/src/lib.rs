//! What the end-to-end tests share.
// A world is made, not taken by default; and what fails in a test panics.
#![allow(clippy::new_without_default, clippy::unwrap_used)]

pub mod bent;
pub mod cli;
pub mod compare;
pub mod container;
pub mod device;
pub mod dumps;
pub mod far;
pub mod features;
pub mod hostile;
pub mod ledger;
pub mod library;
pub mod lossy;
pub mod machine;
pub mod mariadb;
pub mod postgres;
pub mod process;
pub mod servers;
pub mod stores;
pub mod tools;
pub mod users;
pub mod workloads;
pub mod zoo;

use std::path::Path;
use std::time::{Duration, Instant};

/// Waits until a condition holds; panics, naming it, when it does not within `limit`.
pub fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The bound for anything that should take moments, on a machine busy with other tests.
pub const SOON: Duration = Duration::from_secs(60);

/// A reproducible source of numbers (SplitMix64).
pub struct Dice(u64);

impl Dice {
    /// Starts the sequence of a seed; sequences of different seeds have nothing in common.
    pub fn new(seed: u64) -> Dice {
        Dice(mix(mix(seed).wrapping_add(seed)))
    }

    /// Returns the next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Returns a number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Fills a buffer with reproducible bytes that do not compress.
pub fn noise(seed: u64, len_bytes: usize) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    let mut bytes = Vec::with_capacity(len_bytes + 8);
    while bytes.len() < len_bytes {
        bytes.extend_from_slice(&dice.roll().to_le_bytes());
    }
    bytes.truncate(len_bytes);
    bytes
}

/// Writes a file, and the folders above it.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Returns all regular files below a directory with their lengths, sorted by path.
pub fn files_below(dir: &Path) -> Vec<(std::path::PathBuf, u64)> {
    let mut files = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() {
                files.push((entry.path(), entry.metadata().unwrap().len()));
            }
        }
    }
    files.sort();
    files
}

/// Waits until everything below a directory is older than the tick within which a backup cannot tell
/// whether a file has changed once more (file systems keep times by the kernel's tick, or by seconds).
pub fn until_settled(dir: &Path) {
    use std::os::unix::fs::MetadataExt;
    let changed = |path: &Path| std::fs::symlink_metadata(path).unwrap().ctime();
    let newest = files_below(dir).iter().map(|(path, _)| changed(path)).max().unwrap_or(0);
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    until("the source has settled", SOON, || now() > newest + 2);
}

/// Returns whether this process may do what only root may.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Stops a test that cannot mean anything without root, saying so.
pub fn need_root() {
    assert!(is_root(), "this test plants devices, owners and mounts: run it as root (tests/run)");
}
