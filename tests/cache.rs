//! The cache stays small, and nothing in it is needed.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::Command;

struct Sandbox(tempfile::TempDir);

impl Sandbox {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bakfs"));
        for (variable, name) in [("BAKFS_REPO", "repo"), ("BAKFS_CACHE_DIR", "cache"), ("BAKFS_CONFIG_DIR", "config")] {
            command.env(variable, self.path(name));
        }
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn segments(&self) -> Vec<PathBuf> {
        let mut folder = std::fs::read_dir(self.path("cache")).unwrap().map(|entry| entry.unwrap().path());
        let folder = folder.find(|path| path.is_dir()).unwrap();
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|extension| extension == "seg")).collect()
    }
}

/// Backs up a file that changes each time.
fn days(sandbox: &Sandbox, days: std::ops::Range<u32>) -> String {
    let source = sandbox.path("source");
    std::fs::create_dir_all(&source).unwrap();
    for day in days {
        std::fs::write(source.join("file"), format!("day {day}").repeat(1000)).unwrap();
        sandbox.ok(&["backup", source.to_str().unwrap()]);
    }
    format!("{}/file", source.display())
}

#[test]
fn segments_are_merged_and_shared_with_a_mount() {
    let sandbox = Sandbox(tempfile::tempdir().unwrap());
    let history = sandbox.path("history");
    std::fs::create_dir(&history).unwrap();
    sandbox.ok(&["init"]);
    days(&sandbox, 0..2);
    sandbox.ok(&["mount", history.to_str().unwrap()]);
    let file = days(&sandbox, 2..25);
    // The mount has taken each new segment in when it shows the newest content.
    let shown = std::fs::read(history.join("latest").join(file.trim_start_matches('/')));
    sandbox.ok(&["umount", history.to_str().unwrap()]);
    assert_eq!(shown.unwrap(), "day 24".repeat(1000).as_bytes());
    let files = sandbox.segments();
    assert!(files.len() <= 10, "25 backups leave {} segments in the cache", files.len());
    let cached: u64 = files.iter().map(|path| path.metadata().unwrap().len()).sum();
    // Twenty-five backups of a handful of chunks, each at most twice: in the merged segment and one on its way.
    assert!(cached < 100_000, "{cached} bytes are cached");
}

#[test]
fn a_cache_that_is_broken_or_gone_is_made_again() {
    let sandbox = Sandbox(tempfile::tempdir().unwrap());
    sandbox.ok(&["init"]);
    let file = days(&sandbox, 0..3);
    let read = || sandbox.ok(&["dump", &format!("latest:{file}")]);
    let whole = read();
    for path in sandbox.segments() {
        // Cut off, as by a full disk; files of the cache are only ever replaced, so the test does too.
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    }
    assert_eq!(read(), whole);
    for path in sandbox.segments() {
        // Zeros in the middle, as after a power cut: the lookup fails and the index is made again.
        let mut bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let end = bytes.len() - 24 - 32;
        bytes[64..end].fill(0);
        std::fs::write(&path, &bytes).unwrap();
    }
    assert_eq!(read(), whole);
    std::fs::remove_dir_all(sandbox.path("cache")).unwrap();
    assert_eq!(read(), whole);
}
