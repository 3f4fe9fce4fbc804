//! Never two runs of one profile at once: a lock that goes with its process.
//!
//! Where the profile's lock file cannot be written (a full disk, one that is mounted read-only), what is there stands for
//! it, opened to be read only (flock(2) asks for no more): the file as it is, the folder of states, or the configuration.
//! The last two stand for all profiles, so that runs take turns.

use super::StateDir;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::settings::Periodicity;
use crate::trust::folder;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a lock that is taken is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(250);
/// What a lock file says of its holder is no longer than this.
const MAX_HOLDER_BYTES: u64 = 200;

/// A profile that this process alone runs; given back when dropped, also by the kernel.
#[derive(Debug)]
pub struct Lock {
    file: File,
    flaw: Option<Error>,
}

impl Lock {
    /// Returns why the lock is not as it should be: something else stands for its file, nobody can see who holds it, or
    /// nothing keeps others from running the profile too. The run can be made all the same.
    pub fn flaw(&self) -> Option<&Error> {
        self.flaw.as_ref()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The next one to hold it must not be taken for this one before it has said who it is. What was opened to be
        // read only stays as it is.
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
    /// not: the one that holds the lock is late, and that is no failure. A lock that cannot be made, or that the file
    /// system does not offer, keeps no run from being made: [`Lock::flaw`].
    pub fn turn(&self, profile: &str, periodicity: Periodicity, patience: Duration) -> Result<Turn> {
        let path = self.lock_file(profile);
        let locking = || format!("Cannot lock the profile `{profile}` by {}", path.display());
        let (mut file, mut flaw) = match self.open_lock(&path) {
            Ok(file) => (file, None),
            Err(error) => {
                // A link, or what is no file, has been put there by somebody: that is not passed over.
                let is_planted = error.kind() == std::io::ErrorKind::InvalidInput;
                let stand_in = if is_planted { None } else { self.stand_in(&path) };
                let error = Error::io(locking(), error);
                match stand_in {
                    Some(file) => (file, Some(error)),
                    None => return Err(error),
                }
            }
        };
        let began = Instant::now();
        let mut was_same = false;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Ok(Turn::Taken(Lock { file, flaw: Some(Error::io(locking(), error)) })),
            }
            // What stands for the file says nothing of who holds it now.
            let holder = if flaw.is_none() { holder(&mut file) } else { String::new() };
            let is_same = holder.split(' ').next() == Some(periodicity.word());
            // What was read first may have been written by the one before.
            let is_sure = was_same || !is_same;
            if is_sure && (is_same || began.elapsed() >= patience) {
                let by = if holder.is_empty() { "by another process".into() } else { format!("({holder})") };
                let error =
                    Error::new(ErrorKind::Busy, format!("`{profile}` is still being run {by}: this run was left out"));
                return if is_same { Ok(Turn::LeftOut(error)) } else { Err(error) };
            }
            was_same = is_same;
            std::thread::sleep(TRY_AGAIN);
        }
        if flaw.is_none() {
            let now = jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S").to_string();
            let text = format!("{periodicity} since {now}, process {}", std::process::id());
            let noted = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
            let noting = || format!("Cannot note who runs the profile `{profile}` in {}", path.display());
            flaw = noted.context(noting).err();
        }
        Ok(Turn::Taken(Lock { file, flaw }))
    }

    fn open_lock(&self, path: &Path) -> std::io::Result<File> {
        let folder = path.parent().unwrap_or(self.path());
        self.make()?;
        folder::make_own(folder, folder::PRIVATE)?;
        folder::open_own(folder, path.file_name().unwrap_or_default(), OFlags::RDWR | OFlags::CREATE)
    }

    /// Opens what stands for a lock file that cannot be made or written.
    fn stand_in(&self, path: &Path) -> Option<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let open = |path: &Path| rustix::fs::open(path, flags, Mode::empty()).ok().map(File::from);
        [Some(path), Some(self.path()), self.configuration()].into_iter().flatten().find_map(open)
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
