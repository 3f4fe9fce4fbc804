//! A tree shown at a mount point.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;

use crate::awake::Awake;
use crate::deadline::{Limits, Workers};
use crate::fuse::{Core, Notifier, Server};
use crate::guard::note_failure;
use crate::kernel;
use crate::push::Pusher;
use crate::replace::{self, Detached};
use crate::requests::Counters;
use crate::server;
use crate::table::find_mount;
use crate::threads::Threads;
use crate::tree::{Failure, Ino, Tree};
use crate::{MountError, Requests};

/// Threads that may wait for a disk or a network at a time.
const MAX_IO_THREADS: usize = 64;

/// How long a thread that may wait stays without work.
const IO_THREAD_IDLE: Duration = Duration::from_secs(10);

/// How a tree is mounted.
#[derive(Debug, Clone)]
pub struct Options {
    /// The source that `mount` and `df` show; no commas, backslashes or control characters.
    pub fs_name: String,
    /// Lets every user in, by the modes of the files; otherwise the mounting user alone.
    pub allow_other: bool,
    /// Lets no program of the tree be run (mount(8), `noexec`).
    pub no_exec: bool,
    /// Lets no symbolic link of the tree be followed (mount(8), `nosymfollow`).
    pub no_symlinks: bool,
    /// When a request that waits for a disk or a network is answered with EIO.
    pub deadline: Duration,
    /// Threads that receive requests.
    pub threads: usize,
    /// Pushes the pages of a directory's small files into the kernel's cache once some were read.
    pub push_small_files: bool,
    /// How far the kernel reads ahead in a file (set only as root; 128 otherwise).
    pub read_ahead_kib: u32,
}

impl Default for Options {
    /// Private, 60 seconds, one receiving thread a core (2 to 8), pushing, 2 MiB.
    fn default() -> Options {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Options {
            fs_name: "bakfs".into(),
            allow_other: false,
            no_exec: false,
            no_symlinks: false,
            deadline: Duration::from_secs(60),
            threads: cores.clamp(2, 8),
            push_small_files: true,
            read_ahead_kib: 2048,
        }
    }
}

/// A tree that is being served at a mount point. Dropping it unmounts, lazily where it is in use.
pub struct Mount {
    real: PathBuf,
    counters: Arc<Counters>,
    session: Arc<Running>,
    threads: Threads,
    /// The number of its device, by which it is told from another at its place.
    device: OnceLock<String>,
    /// By it the server is found.
    announced: OnceLock<OwnedFd>,
    /// Says whether the tree has come to hold extended attributes that the mount does not show.
    hides_xattrs: Box<dyn Fn() -> bool + Send + Sync>,
}

#[derive(Default)]
struct Running {
    /// `None` once the mount has ended; a notifier keeps the connection to the kernel open.
    notifier: Mutex<Option<Notifier>>,
    ended: Condvar,
    /// Whether the mount was put at its place, and no other of ours has taken it.
    is_in_place: AtomicBool,
    /// Why it could not be served to its end.
    failure: OnceLock<String>,
}

impl Mount {
    /// Mounts a tree and serves it on threads of its own; returns when the mount answers.
    ///
    /// As root through mount(2), as an ordinary user through fusermount3. Fails with a text that says
    /// what to do where the mount point is unfit, FUSE is missing or an option is not permitted.
    pub fn start<T: Tree>(tree: Arc<T>, mountpoint: &Path, options: &Options) -> Result<Mount, MountError> {
        let real = kernel::check_mountpoint(mountpoint)?;
        let device = kernel::mount(&real, options)?;
        let mount = Mount::serve(tree, device, real.clone(), options).inspect_err(|_| {
            // The mount has nobody who answers it; that it could not be removed is not the news.
            let _ = kernel::unmount(&real, true);
        })?;
        mount.settle(options);
        Ok(mount)
    }

    /// Mounts another tree in this one's place; this one goes on serving whoever is still in it, as containers that
    /// have a copy of the mount. Fails with [`MountError::Busy`] while files of it are open here, or a process works in it.
    ///
    /// As root there is no moment in which nothing is mounted there (Linux 6.5; before, and through fusermount3, there
    /// is a short one).
    pub fn replace<T: Tree>(&self, tree: Arc<T>, options: &Options) -> Result<Mount, MountError> {
        let real = self.real.clone();
        match replace::is_in_use(&real) {
            Some(true) => return Err(MountError::Busy(real)),
            None => return self.mount_again(tree, options),
            Some(false) => {}
        }
        kernel::check_options(options)?;
        let Detached { device, mount: place } = match replace::detached(&real, options) {
            Ok(detached) => detached,
            Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS) => return self.mount_again(tree, options),
            Err(errno) => return Err(MountError::Refused { path: real, reason: errno.to_string() }),
        };
        let mount = Mount::serve(tree, device, real.clone(), options)?;
        replace::take_place(&place, &real)?;
        self.session.is_in_place.store(false, Ordering::Relaxed);
        mount.settle(options);
        Ok(mount)
    }

    /// Unmounts, and mounts another tree at the same place.
    fn mount_again<T: Tree>(&self, tree: Arc<T>, options: &Options) -> Result<Mount, MountError> {
        kernel::unmount(&self.real, false)?;
        self.session.is_in_place.store(false, Ordering::Relaxed);
        Mount::start(tree, &self.real, options)
    }

    /// Serves a tree on a device that was mounted, at its place or not yet.
    fn serve<T: Tree>(tree: Arc<T>, device: OwnedFd, real: PathBuf, options: &Options) -> Result<Mount, MountError> {
        let system = |attempt| move |source| MountError::System { attempt, source };
        let counters = Arc::new(Counters::default());
        let expired = counters.clone();
        let limits = Limits { deadline: options.deadline, max_threads: MAX_IO_THREADS, idle: IO_THREAD_IDLE };
        let threads = Threads::default();
        let told = tree.clone();
        let on_expire = move |failure: &Failure| {
            Counters::add(&expired.expired, 1);
            note_failure(&*told, failure);
        };
        let workers = Workers::start(limits, &threads, on_expire).map_err(system("Starting the mount's watchdog"))?;
        let awake = Awake::start(&threads).map_err(system("Starting the mount's thread for busy times"))?;
        let xattrs = tree.has_xattrs();
        // Whoever has a mount that has ended keeps no tree.
        let shown = Arc::downgrade(&tree);
        let pusher = options.push_small_files.then(Pusher::new);
        let core = Arc::new(Core {
            tree: tree.clone(),
            workers,
            counters: counters.clone(),
            awake,
            pusher: pusher.clone(),
            xattrs,
            hidden_xattrs: tree.has_hidden_xattrs(),
        });
        let server = Server::start(core, device, options.threads.max(1))
            .map_err(system("Agreeing with the kernel on the FUSE protocol"))?;
        if let Some(pusher) = &pusher {
            pusher
                .start(tree, server.notifier(), counters.clone(), &threads)
                .map_err(system("Starting the mount's pushing thread"))?;
        }
        let session = Arc::new(Running::default());
        *session.notifier.lock() = Some(server.notifier());
        let (running, path) = (session.clone(), real.clone());
        threads
            .spawn("bakfs-mount", move || {
                if let Err(error) = server.run() {
                    let _ = running.failure.set(error.to_string());
                    // Nobody would be answered there any more.
                    if running.is_in_place.load(Ordering::Relaxed) {
                        let _ = kernel::unmount(&path, true);
                    }
                }
                if let Some(pusher) = pusher {
                    pusher.stop();
                }
                running.notifier.lock().take();
                running.ended.notify_all();
            })
            .map_err(system("Starting the mount's thread"))?;
        let (device, announced) = (OnceLock::new(), OnceLock::new());
        let hides_xattrs = Box::new(move || !xattrs && shown.upgrade().is_some_and(|shown| shown.has_xattrs()));
        Ok(Mount { real, counters, session, threads, device, announced, hides_xattrs })
    }

    /// Takes note that the mount is at its place.
    fn settle(&self, options: &Options) {
        self.session.is_in_place.store(true, Ordering::Relaxed);
        if let Some(found) = find_mount(&self.real) {
            match server::announce(&found.device) {
                Ok(announced) => drop(self.announced.set(announced)),
                Err(errno) => tracing::debug!("Who unmounts will not wait for the end of this process: {errno}"),
            }
            let _ = self.device.set(found.device);
        }
        if !kernel::set_read_ahead(&self.real, options.read_ahead_kib) {
            tracing::debug!("Read-ahead stays at the kernel's 128 KiB: only root may raise it");
        }
    }

    /// Returns where the tree is mounted, with symbolic links resolved.
    pub fn path(&self) -> &Path {
        &self.real
    }

    /// Waits until the mount has ended, whoever ended it.
    pub fn wait(&self) {
        let mut notifier = self.session.notifier.lock();
        while notifier.is_some() {
            self.session.ended.wait(&mut notifier);
        }
    }

    /// Waits until the mount has ended, for at most `max`; says whether it has.
    pub fn wait_for(&self, max: Duration) -> bool {
        let until = Instant::now() + max;
        let mut notifier = self.session.notifier.lock();
        while notifier.is_some() {
            if self.session.ended.wait_until(&mut notifier, until).timed_out() {
                return notifier.is_none();
            }
        }
        true
    }

    /// Returns the mount's threads, to wait for their end after its own: nothing holds the tree then.
    pub fn threads(&self) -> Threads {
        self.threads.clone()
    }

    /// Says whether the mount is still being served.
    pub fn is_serving(&self) -> bool {
        self.session.notifier.lock().is_some()
    }

    /// Says whether the mount is at its place, and not another one, or none.
    pub fn is_in_place(&self) -> bool {
        let is_there = |device: &String| find_mount(&self.real).is_some_and(|found| found.device == *device);
        self.is_serving() && self.session.is_in_place.load(Ordering::Relaxed) && self.device.get().is_none_or(is_there)
    }

    /// Returns why a mount that has ended could not be served any more; `None` where it was unmounted.
    pub fn failure(&self) -> Option<&str> {
        self.session.failure.get().map(String::as_str)
    }

    /// Says whether files of the mount are open, a process works in it, or something is mounted below; `None` where this
    /// process may not ask the kernel, as an ordinary user's.
    pub fn is_in_use(&self) -> Option<bool> {
        if self.is_in_place() { replace::is_in_use(&self.real) } else { None }
    }

    /// Unmounts and waits for the end; fails with [`MountError::Busy`] while it is in use. A mount that was replaced is
    /// left alone.
    pub fn unmount(&self) -> Result<(), MountError> {
        if self.is_in_place() {
            kernel::unmount(&self.real, false)?;
            self.wait();
        }
        Ok(())
    }

    /// Takes the mount out of the tree of files at once; it goes on serving whoever is still in it.
    pub fn unmount_lazily(&self) -> Result<(), MountError> {
        if self.is_in_place() { kernel::unmount(&self.real, true) } else { Ok(()) }
    }

    /// Makes the kernel forget a changed directory's listing and attributes, and the named entries,
    /// whether it knew them to exist or to be missing.
    ///
    /// Call it for the root and the virtual directories when snapshots come or go, after the tree shows
    /// the change. It waits for lookups in flight there, so never call it from a method of the tree.
    pub fn changed<N: AsRef<[u8]>>(&self, dir: Ino, names: &[N]) -> std::io::Result<()> {
        let Some(notifier) = self.session.notifier.lock().clone() else {
            return Ok(());
        };
        names.iter().try_for_each(|name| notifier.forget_entry(dir, name.as_ref()))?;
        notifier.forget_inode(dir)
    }

    /// Says whether extended attributes or ACLs came after the mount began without any: the kernel was told
    /// then that there are none, for good, so that they are seen, and enforced, only after a remount.
    pub fn hides_xattrs(&self) -> bool {
        (self.hides_xattrs)()
    }

    /// Returns what the kernel has asked for so far.
    pub fn requests(&self) -> Requests {
        self.counters.snapshot()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let ended = self.unmount().or_else(|_| self.unmount_lazily());
        if let Err(error) = ended {
            tracing::error!(%error, "The mount could not be removed");
        }
    }
}
