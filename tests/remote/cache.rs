//! The cache stays small, and nothing in it is needed.

use bakfs_testing::cli::Bakfs;
use std::path::{Path, PathBuf};

/// Returns the cached segments of the one repository that the cache knows.
fn segments(bakfs: &Bakfs) -> Vec<PathBuf> {
    let mut folder = std::fs::read_dir(bakfs.path("cache")).unwrap().map(|entry| entry.unwrap().path());
    let folder = folder.find(|path| path.is_dir()).unwrap();
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "seg")).collect()
}

/// Backs up a file that changes each time, and returns its path.
fn days(bakfs: &Bakfs, source: &Path, days: std::ops::Range<u32>) -> PathBuf {
    let file = source.join("file");
    for day in days {
        std::fs::write(&file, format!("day {day}").repeat(1000)).unwrap();
        bakfs.backup([source]);
    }
    file
}

#[test]
fn segments_are_merged_and_shared_with_a_mount() {
    let (bakfs, source) = Bakfs::with_source();
    days(&bakfs, &source, 0..2);
    let mounted = bakfs.mount();
    let file = days(&bakfs, &source, 2..25);
    // The mount has taken each new segment in when it shows the newest content.
    let shown = std::fs::read(mounted.at("latest", &file)).unwrap();
    mounted.unmount();
    assert_eq!(shown, "day 24".repeat(1000).as_bytes());
    let files = segments(&bakfs);
    assert!(files.len() <= 10, "25 backups leave {} segments in the cache", files.len());
    let cached: u64 = files.iter().map(|path| path.metadata().unwrap().len()).sum();
    // Twenty-five backups of a handful of chunks, each at most twice: in the merged segment and one on its way.
    assert!(cached < 100_000, "{cached} bytes are cached");
}

#[test]
fn a_cache_that_is_broken_or_gone_is_made_again() {
    let (bakfs, source) = Bakfs::with_source();
    let file = days(&bakfs, &source, 0..3);
    let read = || bakfs.ok(["dump", &format!("latest:{}", file.display())]).text();
    let whole = read();
    for path in segments(&bakfs) {
        // Cut off, as by a full disk; files of the cache are only ever replaced, so the test does too.
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    }
    assert_eq!(read(), whole);
    for path in segments(&bakfs) {
        // Zeros in the middle, as after a power cut: the lookup fails and the index is made again.
        let mut bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let end = bytes.len() - 24 - 32;
        bytes[64..end].fill(0);
        std::fs::write(&path, &bytes).unwrap();
    }
    assert_eq!(read(), whole);
    std::fs::remove_dir_all(bakfs.path("cache")).unwrap();
    assert_eq!(read(), whole);
}
