//! Whether a profile is being run, without touching its lock: a look must never make a run stand back.

use super::StateDir;
use std::os::unix::fs::MetadataExt;

impl StateDir {
    /// Returns what holds a profile's lock, as `daily since 2026-11-21 03:15:00, process 4711`; `None` where nothing
    /// does, or no process this one can see (proc_locks(5)).
    pub fn running(&self, profile: &str) -> Option<String> {
        let path = self.lock_file(profile);
        let inode = std::fs::metadata(&path).ok()?.ino().to_string();
        let holder = std::fs::read_to_string(&path).ok()?;
        let (_, process) = holder.rsplit_once("process ")?;
        let table = std::fs::read_to_string("/proc/locks").ok()?;
        let is_this = |line: &str| {
            // `1: FLOCK ADVISORY WRITE <process> <major>:<minor>:<inode> 0 EOF`; the device is not compared, for some
            // file systems show another one in their files' attributes.
            let words: Vec<&str> = line.split_whitespace().collect();
            words.get(1) == Some(&"FLOCK")
                && words.get(4) == Some(&process)
                && words.get(5).and_then(|file| file.rsplit(':').next()) == Some(&*inode)
        };
        table.lines().any(is_this).then_some(holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Periodicity;
    use std::time::Duration;

    #[test]
    fn a_run_is_seen_while_it_holds_its_lock_and_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        assert_eq!(state.running("web"), None);
        let lock = state.lock("web", Periodicity::Daily, Duration::ZERO).unwrap();
        assert!(state.running("web").unwrap().starts_with("daily since 2"));
        let other = state.lock("db", Periodicity::Daily, Duration::ZERO).unwrap();
        drop(lock);
        assert_eq!(state.running("web"), None);
        assert!(state.running("db").is_some());
        drop(other);
    }
}
