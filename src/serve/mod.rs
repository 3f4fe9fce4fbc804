//! A mount as a service: the history of a repository at a directory, in this process.
//!
//! A [`Service`] is the [`View`], the kernel's mount of it, and what keeps both current: it follows
//! the repository, brings its index here, notes what reads have verified, and begins anew where attributes have come
//! that it could not show. It has no state beside itself, prints nothing and takes no signals: several live in one
//! process, and each ends alone.
//!
//! ```no_run
//! use bakfs::repo::{Repository, index::load::IndexLoad, open};
//! use bakfs::serve::{Options, Service};
//! use std::{path::Path, sync::Arc};
//!
//! # fn main() -> bakfs::error::Result<()> {
//! let (folder, mountpoint) = (Path::new("/srv/repo"), Path::new("/mnt/history"));
//! let how = open::Options { index: IndexLoad::OnDemand, ..open::Options::default() };
//! let repository = Arc::new(Repository::open(folder, &how, |_| Ok(vec![/* what opens it */]))?);
//! let options = Options { folder: Some(folder.into()), ..Options::default() };
//! let service = Service::start(repository, mountpoint, &options, |note| eprintln!("{note}"))?;
//! let hosts = std::fs::read("/mnt/history/latest/etc/hosts").unwrap();
//! service.end()
//! # }
//! ```

mod keeper;
mod note;
pub mod point;
mod served;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::repo::Repository;
use crate::repo::shared::scope::Scope;
use crate::spelling::readable;
use crate::view::View;
use bakfs_mount::{Mount, MountError, Requests, Threads};
use keeper::{Keeper, Source};
pub use note::Note;
use served::Served;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a place far away is asked for new snapshots, unless [`Options::refresh`] says otherwise.
const ASK_EVERY: Duration = Duration::from_secs(60);
/// How often a folder is looked at, whatever it tells by itself.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// So long those are waited for who are in a mount that ends: who looks in passing, as `df` or a file manager.
const MAX_LEAVING: Duration = Duration::from_secs(1);
/// So long its threads are waited for then.
const MAX_END: Duration = Duration::from_secs(5);

/// Takes a service's notes. It is called by the service's own threads and by those that owe the kernel an answer: it
/// returns at once, and asks neither the service nor what is mounted.
pub type Tell = Arc<dyn Fn(Note) + Send + Sync>;

/// How a repository is mounted.
#[derive(Debug, Clone)]
pub struct Options {
    /// The repository's folder, where it is one of this machine: what comes and goes in it is heard at once, and the
    /// mount point must lie apart from it.
    pub folder: Option<PathBuf>,
    /// Whose snapshots are shown.
    pub scope: Scope,
    /// The source that df(1) and /proc/mounts show; by default where the repository is.
    pub fs_name: Option<String>,
    /// Lets other users in, by the modes of the files.
    pub allow_other: bool,
    /// Lets no program in the mount be run.
    pub no_exec: bool,
    /// Lets no symbolic link in the mount be followed, `latest` among them.
    pub no_symlinks: bool,
    /// Shows extended attributes and ACLs; without them copying many files is up to three times as fast.
    pub xattrs: bool,
    /// When a request that waits for a disk or a network is answered with EIO.
    pub deadline: Duration,
    /// How often the repository is looked at, whatever tells of changes; by default every 10 seconds, far away every 60.
    pub refresh: Option<Duration>,
}

impl Default for Options {
    /// Everything that is there, for this user alone, with a deadline of 60 seconds.
    fn default() -> Options {
        Options {
            folder: None,
            scope: Scope::default(),
            fs_name: None,
            allow_other: false,
            no_exec: false,
            no_symlinks: false,
            xattrs: true,
            deadline: Duration::from_secs(60),
            refresh: None,
        }
    }
}

/// A repository that is mounted. Dropping it is like [`Service::end`], and tells in a note what went wrong.
pub struct Service {
    repository: Arc<Repository>,
    served: Arc<Served>,
    /// The keeper's, and its loader's.
    threads: Threads,
    path: PathBuf,
    tell: Tell,
    /// Whether it was told that the mount has failed.
    is_told: AtomicBool,
    is_over: bool,
}

impl Service {
    /// Mounts a repository's history at an empty directory; returns when the mount answers. Notes of what it shows come
    /// before.
    ///
    /// Fails where the mount point is unfit, the snapshots cannot be listed or are all out of scope, or FUSE is not to
    /// be had; nothing is left then. Whoever opens a repository to mount it takes
    /// [`IndexLoad::OnDemand`](crate::repo::index::load::IndexLoad): the index comes while the mount answers.
    pub fn start(
        repository: Arc<Repository>,
        mountpoint: &Path,
        options: &Options,
        tell: impl Fn(Note) + Send + Sync + 'static,
    ) -> Result<Service> {
        let tell: Tell = Arc::new(tell);
        let folder = options.folder.clone();
        point::check(mountpoint, folder.as_deref())?;
        let path = point::real_path(mountpoint)?;
        let scope = options.scope.clone();
        let (repo, wants_xattrs) = (repository.clone(), options.xattrs);
        let source = Source { repository: repo, folder, scope, wants_xattrs, tell: tell.clone() };
        let shown = source.show()?;
        notes(&repository, &shown.view, &path).into_iter().for_each(|text| tell(Note::Warning(text)));
        let name = options.fs_name.clone().unwrap_or_else(|| repository.store().location());
        let of_kernel = bakfs_mount::Options {
            fs_name: fs_name(&name),
            allow_other: options.allow_other,
            no_exec: options.no_exec,
            no_symlinks: options.no_symlinks,
            deadline: options.deadline,
            ..bakfs_mount::Options::default()
        };
        let mount = Mount::start(shown.view.clone(), &path, &of_kernel)
            .map_err(|error| Error::new(ErrorKind::Io, format!("Cannot mount at {}", path.display())).because(error))?;
        let every = if repository.store().is_far() { ASK_EVERY } else { LOOK_EVERY };
        let refresh = options.refresh.unwrap_or(every);
        let served = Arc::new(Served::new(mount, &shown.view, of_kernel));
        let threads = Threads::default();
        Keeper::start(source, shown, served.clone(), refresh, &threads)
            .context(|| format!("Cannot start the threads of the mount at {}", path.display()))?;
        Ok(Service { repository, served, threads, path, tell, is_told: AtomicBool::new(false), is_over: false })
    }

    /// Returns where it is mounted, with symbolic links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns what is mounted.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// Says whether the mount is at its place and answers.
    pub fn is_serving(&self) -> bool {
        self.served.current().is_in_place()
    }

    /// Returns what the kernel has asked for since the mount began, or last began anew.
    pub fn requests(&self) -> Requests {
        self.served.requests()
    }

    /// Waits until the mount has ended, whoever ended it, and nobody is left in it.
    pub fn wait(&self) {
        self.served.wait();
        self.settle();
    }

    /// Waits for the same, for at most `max`; says whether it is so.
    pub fn wait_for(&self, max: Duration) -> bool {
        let is_over = self.served.wait_for(max);
        if is_over {
            self.settle();
        }
        is_over
    }

    /// Writes down what was verified, and tells of a mount that has failed, once.
    fn settle(&self) {
        self.repository.note_reads();
        let mount = self.served.current();
        if let Some(why) = mount.failure().filter(|_| !self.is_told.swap(true, Ordering::Relaxed)) {
            (self.tell)(Note::Stopped(why.into()));
        }
    }

    /// Takes the mount away, busy or not; it goes on serving whoever is still in it, and [`Service::wait`] waits for
    /// them. Fails where the system does not let it go.
    pub fn unmount(&self) -> Result<(), MountError> {
        self.served.unmount()
    }

    /// Takes the mount away, and waits until nothing is left of it: no thread, and nothing that holds the repository.
    ///
    /// Fails where somebody is still in it some seconds later, or a thread of it still waits for a disk or a network:
    /// the directory is free all the same, and the rest ends as soon as it can.
    pub fn end(mut self) -> Result<()> {
        self.is_over = true;
        self.finish()
    }

    fn finish(&self) -> Result<()> {
        let at = self.path.display();
        self.unmount().map_err(|error| Error::new(ErrorKind::Io, format!("Cannot unmount {at}")).because(error))?;
        if !self.wait_for(MAX_LEAVING) {
            let message = format!(
                "The mount at {at} was in use: it is gone from there, and serves whoever is in it until they have left"
            );
            return Err(Error::new(ErrorKind::Busy, message));
        }
        let until = Instant::now() + MAX_END;
        let is_left = !self.threads.wait_for_end(until.saturating_duration_since(Instant::now()));
        if is_left || !self.served.wait_for_threads(until) {
            let message = format!(
                "{at} is unmounted, but a thread that read from the repository has not ended: it may wait for a disk or a \
                 network, and keeps files open until then"
            );
            return Err(Error::new(ErrorKind::Busy, message));
        }
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if !self.is_over
            && let Err(error) = self.finish()
        {
            (self.tell)(Note::NotEnded(error.chain()));
        }
    }
}

/// Returns what a person should know of a repository as it is mounted.
fn notes(repository: &Repository, view: &View, mountpoint: &Path) -> Vec<String> {
    let mut notes = repository.take_warnings();
    let shrunk =
        repository.require_no_missing("It shows what there is", "take what is left by `bakfs prune --accept-missing`");
    let forgotten = if view.newest().is_none() { repository.all_forgotten().ok().flatten() } else { None };
    let found = [
        shrunk.err().map(|error| error.to_string()),
        note_if_inside_source(view, mountpoint),
        view.ahead_warning(),
        forgotten,
    ];
    notes.extend(found.into_iter().flatten());
    notes
}

/// Says that backups will leave the mount out, where it lies in what is backed up. For `/` that goes without saying.
fn note_if_inside_source(view: &View, mountpoint: &Path) -> Option<String> {
    let newest = view.newest()?;
    let sources = &newest.snapshot.sources;
    let inside = |source: &&[u8]| {
        let source = Path::new(OsStr::from_bytes(source));
        source != Path::new("/") && mountpoint.starts_with(source)
    };
    let source = sources.iter().map(|source| &source[..]).find(inside)?;
    let source = readable(source);
    Some(format!("The mount point lies inside {source}, which is backed up: backups leave the mount out"))
}

/// Returns where a repository is as df(1) and /proc/mounts show it: without what an option cannot hold.
fn fs_name(place: &str) -> String {
    place.chars().map(|char| if matches!(char, ',' | '\\') || char.is_control() { '_' } else { char }).collect()
}
