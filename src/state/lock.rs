//! Never two runs of one profile at once: a lock that goes with its process.

use super::StateDir;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::settings::Periodicity;
use crate::trust::folder;
use rustix::fs::{FlockOperation, OFlags, flock};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often a lock that is taken is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(250);
/// What a lock file says of its holder is no longer than this.
const MAX_HOLDER_BYTES: u64 = 200;

/// A profile that this process alone runs; given back when dropped, also by the kernel.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The next one to hold it must not be taken for this one before it has said who it is.
        let _ = self.file.set_len(0);
    }
}

/// What came of asking for a profile.
#[derive(Debug)]
pub enum Turn {
    /// It is this process's.
    Taken(Lock),
    /// A run of the same kind holds it: this one is left out, for this reason ([`ErrorKind::Busy`]).
    LeftOut(Error),
}

impl StateDir {
    /// Takes the lock of a profile as [`StateDir::turn`] does; that it was left out is an error too.
    pub fn lock(&self, profile: &str, periodicity: Periodicity, patience: Duration) -> Result<Lock> {
        match self.turn(profile, periodicity, patience)? {
            Turn::Taken(lock) => Ok(lock),
            Turn::LeftOut(error) => Err(error),
        }
    }

    /// Takes the lock of a profile. Another kind of run is waited for, at most `patience`; one of the same kind is
    /// not: the one that holds the lock is late, and that is no failure.
    pub fn turn(&self, profile: &str, periodicity: Periodicity, patience: Duration) -> Result<Turn> {
        let path = self.lock_file(profile);
        let locking = || format!("Cannot lock the profile `{profile}` by {}", path.display());
        let folder = path.parent().unwrap_or(self.path());
        self.make().context(locking)?;
        folder::make_own(folder, folder::PRIVATE).context(locking)?;
        let name = path.file_name().unwrap_or_default();
        let mut file = folder::open_own(folder, name, OFlags::RDWR | OFlags::CREATE).context(locking)?;
        let began = Instant::now();
        let mut was_same = false;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(Error::io(locking(), error)),
            }
            let holder = holder(&mut file);
            let is_same = holder.split(' ').next() == Some(periodicity.word());
            // What was read first may have been written by the one before.
            let is_sure = was_same || !is_same;
            if is_sure && (is_same || began.elapsed() >= patience) {
                let message = format!("`{profile}` is still being run ({holder}): this run was left out");
                let error = Error::new(ErrorKind::Busy, message);
                return if is_same { Ok(Turn::LeftOut(error)) } else { Err(error) };
            }
            was_same = is_same;
            std::thread::sleep(TRY_AGAIN);
        }
        let now = jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S").to_string();
        let text = format!("{periodicity} since {now}, process {}", std::process::id());
        file.set_len(0).context(locking)?;
        file.rewind().context(locking)?;
        file.write_all(text.as_bytes()).context(locking)?;
        Ok(Turn::Taken(Lock { file }))
    }

    pub(super) fn lock_file(&self, profile: &str) -> PathBuf {
        self.path().join("locks").join(self.key_of(profile))
    }

    /// Returns whether any process holds the lock of a profile, those too that this one cannot see. It is held for a
    /// moment: only for who has seen that nobody seems to run the profile.
    pub(super) fn is_locked(&self, profile: &str) -> bool {
        let file = File::open(self.lock_file(profile));
        file.is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK))
    }
}

fn holder(file: &mut File) -> String {
    let mut text = Vec::new();
    // What cannot be read tells nothing.
    let _ = file.rewind().and_then(|()| file.take(MAX_HOLDER_BYTES).read_to_end(&mut text));
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path().join("state"));
        let lock = state.lock("web", Periodicity::Daily, Duration::ZERO).unwrap();
        for periodicity in [Periodicity::Daily, Periodicity::Weekly] {
            let error = state.lock("web", periodicity, Duration::ZERO).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Busy);
            assert!(error.chain().contains("daily since 2"), "{}", error.chain());
        }
        state.lock("db", Periodicity::Daily, Duration::ZERO).unwrap();
        let waiting = std::thread::spawn({
            let state = state.clone();
            move || state.lock("web", Periodicity::Weekly, Duration::from_secs(60)).map(drop)
        });
        drop(lock);
        waiting.join().unwrap().unwrap();
    }
}
