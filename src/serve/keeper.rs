//! What a mount does beside answering: it follows the repository, brings its index here, notes what was verified, and
//! begins anew when what it could not show has come.

use super::Tell;
use super::note::Note;
use super::served::Served;
use crate::error::{Error, Result};
use crate::repo::Repository;
use crate::repo::index::load::IndexLoader;
use crate::repo::shared::scope::Scope;
use crate::view::View;
use crate::view::watch::Watch;
use bakfs_mount::{MountError, Threads};
use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How often the kernel is told of changes that nobody has asked for.
const REFRESH_EVERY: Duration = Duration::from_millis(250);
/// How often it is written down which packs reads have verified.
const NOTE_EVERY: Duration = Duration::from_secs(60);
/// How often a watch that is lost, or could not be had, is tried to be set.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How often a mount tries to begin anew: root asks the kernel whether it is in use, others start a program for it.
const RENEW_EVERY: Duration = Duration::from_millis(500);
const RENEW_EVERY_BY_HELPER: Duration = Duration::from_secs(3);
/// So many texts are known to have been told.
const MAX_WARNED: usize = 1000;

/// A thread that brings the index here, and again what is left of it; it ends with this.
struct Loader {
    again: SyncSender<()>,
    is_over: Arc<AtomicBool>,
}

impl Loader {
    fn start(repository: Arc<Repository>, threads: &Threads) -> io::Result<Self> {
        let (again, asked) = sync_channel(1);
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        threads.spawn("bakfs-index", move || {
            let mut loader = IndexLoader::new(repository);
            loader.load_until(&over);
            while asked.recv().is_ok() {
                loader.load_until(&over);
            }
        })?;
        Ok(Loader { again, is_over })
    }

    fn load_again(&self) {
        // It is asked already, or about to begin.
        let _ = self.again.try_send(());
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// What is mounted: snapshots of a repository.
pub(super) struct Source {
    pub(super) repository: Arc<Repository>,
    /// Where it is, if that is a folder.
    pub(super) folder: Option<PathBuf>,
    pub(super) scope: Scope,
    pub(super) wants_xattrs: bool,
    pub(super) tell: Tell,
}

/// A view of it, and what tells of changes.
pub(super) struct Shown {
    pub(super) view: Arc<View>,
    watch: Option<Arc<Watch>>,
}

impl Source {
    /// Makes a view of what there is now. Fails where that cannot be read, or is out of scope.
    pub(super) fn show(&self) -> Result<Shown> {
        let watch = self.folder.as_deref().map(|folder| Arc::new(Watch::new(folder)));
        let asked = watch.clone();
        // A store far away tells of nothing.
        let changed = Box::new(move || asked.as_ref().is_some_and(|watch| watch.has_event()));
        let view = View::of(self.repository.clone(), self.scope.clone(), self.wants_xattrs, changed)?;
        let tell = self.tell.clone();
        let view = view.telling(Box::new(move |news| tell(Note::from(news))));
        Ok(Shown { view: Arc::new(view), watch })
    }
}

/// What is done for as long as the mount lives.
pub(super) struct Keeper {
    source: Source,
    shown: Shown,
    served: Arc<Served>,
    loader: Loader,
    /// How often the repository is looked at, whatever tells of changes.
    refresh: Duration,
    /// What was told.
    warned: HashSet<String>,
    /// How often in a row new snapshots could not be shown.
    failed: u64,
    tried_to_renew: Instant,
}

impl Keeper {
    /// Starts a thread that brings the index here, and one that keeps the mount until it has ended.
    pub(super) fn start(
        source: Source,
        shown: Shown,
        served: Arc<Served>,
        refresh: Duration,
        threads: &Threads,
    ) -> io::Result<()> {
        let loader = Loader::start(source.repository.clone(), threads)?;
        let (warned, tried_to_renew) = (HashSet::new(), Instant::now());
        let keeper = Keeper { source, shown, served, loader, refresh, warned, failed: 0, tried_to_renew };
        threads.spawn("bakfs-keeper", move || keeper.run())
    }

    /// Tells the kernel what changed in the layout, and notes what was verified.
    fn run(mut self) {
        let [mut noted, mut looked, mut watched] = [Instant::now(); 3];
        loop {
            if noted.elapsed() >= NOTE_EVERY {
                self.source.repository.note_reads();
                noted = Instant::now();
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
            if self.served.current().wait_for(REFRESH_EVERY) {
                return;
            }
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
            self.loader.load_again();
        }
        Ok(())
    }

    fn tell(&self, note: Note) {
        (self.source.tell)(note);
    }

    /// Tells that new snapshots cannot be shown, and when that is over.
    fn note_look(&mut self, seen: Result<()>) {
        match seen {
            Ok(()) => {
                let failed = std::mem::take(&mut self.failed);
                if failed > 0 {
                    self.tell(Note::LookSucceeded(failed));
                }
            }
            Err(error) => {
                self.failed += 1;
                self.tell(Note::LookFailed(error.chain()));
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
        let mount = self.served.current();
        if !mount.is_in_place() || mount.is_in_use() == Some(true) {
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
                self.tell(Note::Renewed);
            }
            Ok(None) => {}
            Err(why) => self.tell(Note::NotRenewed(why)),
        }
    }

    /// Tells what went wrong, each thing once.
    fn tell_warnings(&mut self) {
        for warning in self.source.repository.take_warnings() {
            if self.warned.len() == MAX_WARNED {
                self.warned.clear();
            }
            if !self.warned.contains(&warning) {
                self.tell(Note::Warning(warning.clone()));
                self.warned.insert(warning);
            }
        }
    }
}
