//! What a mount does beside answering: it follows the repository, brings its index here, notes what was verified, and
//! begins anew when what it could not show has come.

use super::mount_log;
use crate::error::{Error, Result};
use crate::quantity::counted;
use crate::repo::Repository;
use crate::repo::index::load::IndexLoader;
use crate::repo::shared::scope::Scope;
use crate::view::View;
use crate::view::watch::Watch;
use bakfs_mount::{Mount, MountError, Options};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How often the kernel is told of changes that nobody has asked for.
const REFRESH_EVERY: Duration = Duration::from_millis(250);
/// How often it is written down which packs reads have verified.
const NOTE_EVERY: Duration = Duration::from_secs(60);
/// How often a watch that is lost, or could not be had, is tried to be set.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How often the log hears how often things came again.
const COUNT_EVERY: Duration = Duration::from_secs(60 * 60);
/// How often a mount tries to begin anew: root asks the kernel whether it is in use, others start a program for it.
const RENEW_EVERY: Duration = Duration::from_millis(500);
const RENEW_EVERY_BY_HELPER: Duration = Duration::from_secs(3);
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

/// What is mounted: snapshots of a repository.
pub(super) struct Source {
    pub(super) repository: Arc<Repository>,
    /// Where it is, if that is a folder.
    pub(super) folder: Option<PathBuf>,
    pub(super) scope: Scope,
    pub(super) wants_xattrs: bool,
}

/// A view of it, and what tells of changes.
pub(super) struct Shown {
    pub(super) view: Arc<View>,
    watch: Option<Arc<Watch>>,
}

impl Source {
    /// Makes a view of what there is now.
    pub(super) fn show(&self) -> Result<Shown> {
        let watch = self.folder.as_deref().map(|folder| Arc::new(Watch::new(folder)));
        let asked = watch.clone();
        // A store far away tells of nothing.
        let changed = Box::new(move || asked.as_ref().is_some_and(|watch| watch.has_event()));
        let view = View::of(self.repository.clone(), self.scope.clone(), self.wants_xattrs, changed)?;
        Ok(Shown { view: Arc::new(view), watch })
    }
}

/// The mount at its place, and those that were there before and still have users.
pub(super) struct Served {
    /// Held while another takes its place.
    current: Mutex<Arc<Mount>>,
    earlier: Mutex<Vec<Arc<Mount>>>,
    options: Options,
}

impl Served {
    pub(super) fn new(mount: Mount, options: Options) -> Self {
        Served { current: Mutex::new(Arc::new(mount)), earlier: Mutex::default(), options }
    }

    fn current(&self) -> Arc<Mount> {
        self.current.lock().clone()
    }

    /// Waits until the mount has ended, whoever ended it, and nobody is left in an earlier one.
    pub(super) fn wait(&self) {
        loop {
            let mount = self.current();
            mount.wait();
            if Arc::ptr_eq(&mount, &self.current()) {
                break;
            }
        }
        let earlier = std::mem::take(&mut *self.earlier.lock());
        earlier.iter().for_each(|mount| mount.wait());
    }

    /// Unmounts: busy or not, whoever ends the process wants the directory back.
    pub(super) fn unmount(&self) {
        let mount = self.current();
        if mount.unmount().is_err() {
            let _ = mount.unmount_lazily();
        }
    }

    /// Mounts another view at the same place.
    fn renew(&self, view: Arc<View>) -> Result<(), MountError> {
        let mut current = self.current.lock();
        let new = Arc::new(current.replace(view, &self.options)?);
        let old = std::mem::replace(&mut *current, new);
        let mut earlier = self.earlier.lock();
        earlier.retain(|mount| mount.is_serving());
        earlier.push(old);
        Ok(())
    }
}

/// What is done for as long as the mount lives.
pub(super) struct Keeper {
    source: Source,
    shown: Shown,
    served: Arc<Served>,
    /// The thread of [`load_index`].
    loader: Thread,
    /// How often the repository is looked at, whatever tells of changes.
    refresh: Duration,
    /// What the log has.
    warned: HashSet<String>,
    /// How often in a row new snapshots could not be shown.
    failed: u64,
    tried_to_renew: Instant,
}

impl Keeper {
    /// Starts with loading the index.
    pub(super) fn new(source: Source, shown: Shown, served: Served, refresh: Duration) -> Self {
        let loader = load_index(source.repository.clone());
        let (warned, tried_to_renew) = (HashSet::new(), Instant::now());
        Keeper { source, shown, served: Arc::new(served), loader, refresh, warned, failed: 0, tried_to_renew }
    }

    pub(super) fn served(&self) -> Arc<Served> {
        self.served.clone()
    }

    pub(super) fn repository(&self) -> Arc<Repository> {
        self.source.repository.clone()
    }

    /// Tells the kernel what changed in the layout, and notes what was verified.
    pub(super) fn run(mut self) {
        let [mut noted, mut counted, mut looked, mut watched] = [Instant::now(); 4];
        while self.served.current().is_serving() {
            if noted.elapsed() >= NOTE_EVERY {
                self.source.repository.note_reads();
                noted = Instant::now();
            }
            if counted.elapsed() >= COUNT_EVERY {
                mount_log::tell_repeated();
                counted = Instant::now();
            }
            if watched.elapsed() >= WATCH_EVERY {
                watched = Instant::now();
                self.shown.watch.iter().filter(|watch| !watch.is_set()).for_each(|watch| watch.look());
            }
            let is_due = looked.elapsed() >= self.refresh;
            if is_due {
                looked = Instant::now();
            }
            let seen = if is_due { self.look_again() } else { self.shown.view.refresh() };
            self.note_look(seen);
            self.tell_warnings();
            self.tell_kernel();
            self.source.repository.store().close_idle();
            self.renew();
            std::thread::sleep(REFRESH_EVERY);
        }
    }

    fn tell_kernel(&self) {
        let mount = self.served.current();
        for change in self.shown.view.take_changes() {
            if let Err(error) = mount.changed(change.dir, &change.names) {
                tracing::debug!("The kernel was not told of a change: {error}");
            }
        }
    }

    fn look_again(&self) -> Result<(), Error> {
        if let Some(watch) = &self.shown.watch {
            watch.look();
        }
        self.shown.view.look_at_room();
        self.shown.view.look_again()?;
        if !self.source.repository.index().lazy().is_empty() {
            self.loader.unpark();
        }
        Ok(())
    }

    /// Logs that new snapshots cannot be shown when that begins, and when it is over.
    fn note_look(&mut self, seen: Result<()>) {
        match seen {
            Ok(()) => {
                let failed = std::mem::take(&mut self.failed);
                if failed > 0 {
                    tracing::warn!(
                        "The repository can be looked at again, after {} had failed",
                        counted(failed, "look")
                    );
                    // When it begins again the log says so again.
                    mount_log::tell_repeated();
                }
            }
            Err(error) => {
                self.failed += 1;
                tracing::warn!("New snapshots cannot be shown: {}", error.chain());
                // No old list is kept: whoever lists them now is told.
                let mount = self.served.current();
                for dir in self.shown.view.virtual_directories() {
                    if let Err(error) = mount.changed(dir, &[] as &[&[u8]]) {
                        tracing::debug!("The kernel was not told of a failure: {error}");
                    }
                }
            }
        }
    }

    /// Begins anew where extended attributes or ACLs have come that this session of the kernel knows nothing of, as soon
    /// as nobody is in it.
    fn renew(&mut self) {
        let is_root = rustix::process::geteuid().is_root();
        let every = if is_root { RENEW_EVERY } else { RENEW_EVERY_BY_HELPER };
        if !self.shown.view.hides_xattrs() || self.tried_to_renew.elapsed() < every {
            return;
        }
        self.tried_to_renew = Instant::now();
        if self.served.current().is_in_use() == Some(true) {
            return;
        }
        let renewed = self.source.show().map_err(|error| error.chain()).and_then(|shown| {
            match self.served.renew(shown.view.clone()) {
                Ok(()) => Ok(Some(shown)),
                Err(MountError::Busy(_)) => Ok(None),
                Err(error) => Err(error.to_string()),
            }
        });
        match renewed {
            Ok(Some(shown)) => {
                self.shown = shown;
                tracing::warn!("The mount has begun anew and shows extended attributes and ACLs");
            }
            Ok(None) => {}
            Err(why) => tracing::error!("The mount cannot begin anew to show extended attributes and ACLs: {why}"),
        }
    }

    /// Logs what went wrong, each thing once.
    fn tell_warnings(&mut self) {
        for warning in self.source.repository.take_warnings() {
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
