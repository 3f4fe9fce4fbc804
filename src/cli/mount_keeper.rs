//! What a mount does beside answering: it follows the repository, brings its index here and notes what was verified.

use crate::error::Error;
use crate::repo::Repository;
use crate::repo::load::IndexLoader;
use crate::view::View;
use bakfs_mount::Mount;
use std::collections::HashSet;
use std::sync::Arc;
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How often the kernel is told of changes that nobody has asked for.
const REFRESH_EVERY: Duration = Duration::from_millis(250);
/// How often it is written down which packs reads have verified.
const NOTE_EVERY: Duration = Duration::from_secs(60);
/// So many texts are known to be in the log.
const MAX_WARNED: usize = 1000;

/// Brings the index here, and again what is left of it whenever the thread is unparked.
fn load_index(repository: Arc<Repository>) -> Thread {
    let mut loader = IndexLoader::new(repository);
    let loading = std::thread::spawn(move || {
        loop {
            loader.load();
            std::thread::park();
        }
    });
    loading.thread().clone()
}

/// What is done for as long as the mount lives.
pub(super) struct Keeper {
    view: Arc<View>,
    mount: Arc<Mount>,
    repository: Arc<Repository>,
    /// The thread of [`load_index`].
    loader: Thread,
    /// How often a store that does not tell of changes is asked for them.
    refresh: Option<Duration>,
    /// What the log has.
    warned: HashSet<String>,
}

impl Keeper {
    /// Starts with loading the index.
    pub(super) fn new(
        view: Arc<View>,
        mount: Arc<Mount>,
        repository: Arc<Repository>,
        refresh: Option<Duration>,
    ) -> Self {
        let loader = load_index(repository.clone());
        Keeper { view, mount, repository, loader, refresh, warned: HashSet::new() }
    }

    /// Tells the kernel what changed in the layout, and notes what was verified.
    pub(super) fn run(mut self) {
        let mut noted = Instant::now();
        let mut asked = Instant::now();
        while self.mount.is_serving() {
            if noted.elapsed() >= NOTE_EVERY {
                self.repository.note_reads();
                noted = Instant::now();
            }
            let is_due = self.refresh.is_some_and(|refresh| asked.elapsed() >= refresh);
            if is_due {
                asked = Instant::now();
            }
            if let Err(error) = if is_due { self.look_again() } else { self.view.refresh() } {
                tracing::warn!("New snapshots cannot be shown: {}", error.chain());
            }
            self.tell_warnings();
            for change in self.view.take_changes() {
                if let Err(error) = self.mount.changed(change.dir, &change.names) {
                    tracing::debug!("The kernel was not told of a change: {error}");
                }
            }
            std::thread::sleep(REFRESH_EVERY);
        }
    }

    fn look_again(&self) -> Result<(), Error> {
        self.view.look_again()?;
        if !self.repository.index().lazy().is_empty() {
            self.loader.unpark();
        }
        Ok(())
    }

    /// Logs what went wrong, each thing once.
    fn tell_warnings(&mut self) {
        for warning in self.repository.take_warnings() {
            if self.warned.len() == MAX_WARNED {
                self.warned.clear();
            }
            if !self.warned.contains(&warning) {
                tracing::warn!("{warning}");
                self.warned.insert(warning);
            }
        }
    }
}
