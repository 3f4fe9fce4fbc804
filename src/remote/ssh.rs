//! The folder of ssh's control sockets, and the end of its processes.
//!
//! OpenDAL lets ssh share one connection by a socket (ssh_config(5), ControlPath) in `$XDG_STATE_HOME`, or in
//! `~/.local/state`: a path may be too long for a socket there, or nobody may write there. Then it is another folder.
//! The process that holds a connection (ControlPersist) lives on by itself. So each process of bakfs has a folder of its
//! own there, which it holds locked: what is in it ends with this process, and what one that was killed has left is seen
//! by the next.

use super::environment::Environment;
use super::service::Service;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::id::to_hex;
use crate::random::fill_random;
use openssh::SessionBuilder;
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// The longest path of a socket (unix(7), sun_path with its final zero).
const MAX_SOCKET_BYTES: usize = 107;
/// What follows the folder: a process's own, `/.ssh-connectionXXXXXX/master`, and what ssh adds while it makes the socket
/// (mux.c).
const SUFFIX_BYTES: usize =
    "/.bakfs-ssh-......".len() + "/.ssh-connection......./master".len() + ".................".len();
const VARIABLE: &str = "XDG_STATE_HOME";
/// What the names of processes' own folders begin with.
const PREFIX: &str = ".bakfs-ssh-";
/// How long processes of ssh that were told to end are waited for.
const MAX_END: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// This process's own folder. The lock ends with the process, however that ends.
struct Own {
    /// Set for good with the first connection: ssh's library asks once.
    path: Option<PathBuf>,
    lock: Option<File>,
    /// The clients that use it.
    users: Vec<Arc<User>>,
    is_closed: bool,
}

static OWN: Mutex<Own> = Mutex::new(Own { path: None, lock: None, users: Vec::new(), is_closed: false });

/// A client, as far as its connections go.
pub(super) struct User {
    pub service: Arc<Service>,
    /// Of operations at a time.
    pub permits: Arc<Semaphore>,
    pub connections: usize,
    pub runtime: Handle,
}

impl User {
    /// Lets no more operations begin, and gives up connections that wait for one.
    fn leave(&self) {
        self.permits.close();
        let leaving = async { tokio::time::timeout(MAX_END, self.service.log_out()).await };
        // One that hangs ends with its process.
        let _ = self.runtime.block_on(leaving);
    }

    /// Returns whether nothing is under way that may start ssh once more, as its library does to end a connection.
    fn is_quiet(&self) -> bool {
        self.permits.available_permits() == self.connections && self.runtime.metrics().num_alive_tasks() == 0
    }
}

/// A client's use of the folder, which goes with the last of them.
pub(super) struct Sockets(Arc<User>);

impl Sockets {
    /// Sees to it that sockets are made in a folder that is fit for them and this process's own, and that what others have
    /// left ends. To be called before the first connection.
    pub fn new(environment: &Environment, user: User) -> Result<Self> {
        let mut own = OWN.lock();
        if own.is_closed {
            return Err(Error::new(ErrorKind::Io, "This process ends, and begins no connection any more"));
        }
        if own.lock.is_none() {
            let (path, lock) = match &own.path {
                Some(path) => make(path.clone()),
                None => choose(environment),
            }?;
            (own.path, own.lock) = (Some(path), Some(lock));
        }
        let user = Arc::new(user);
        own.users.push(user.clone());
        Ok(Sockets(user))
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let mut own = OWN.lock();
        own.users.retain(|user| !Arc::ptr_eq(user, &self.0));
        if own.users.is_empty() {
            own.end();
        }
    }
}

impl Own {
    fn end(&mut self) {
        if let (Some(path), Some(_lock)) = (&self.path, self.lock.take()) {
            end(path, &self.users);
        }
    }
}

/// Ends the connections of this process, whoever still holds them, and removes their folder. To be called when the process
/// ends: no more is reached by SFTP.
pub fn close() {
    let mut own = OWN.lock();
    own.is_closed = true;
    own.users.iter().for_each(|user| user.leave());
    own.end();
}

/// Makes a folder and has ssh's library settle on it.
fn choose(environment: &Environment) -> Result<(PathBuf, File)> {
    let usual = environment.get(VARIABLE).map(PathBuf::from).filter(|path| path.is_absolute());
    let usual = usual.or_else(|| Some(environment.at_home("")?.join(".local/state")));
    let fit = usual.filter(|path| is_short(path) && is_writable(path));
    let base = fit.map_or_else(|| other_folder(environment), Ok)?;
    end_left(&base);
    loop {
        let mut random = [0; 3];
        fill_random(&mut random);
        match make(base.join(format!("{PREFIX}{}", to_hex(&random)))) {
            Err(error) if error.kind() == ErrorKind::Exists => {}
            made => {
                let made = made?;
                settle(&made.0)?;
                return Ok(made);
            }
        }
    }
}

/// Makes a folder that is this process's own; one that somebody else holds or has removed meanwhile is as one that exists.
fn make(path: PathBuf) -> Result<(PathBuf, File)> {
    let making = || format!("Cannot make {}, the folder of ssh's control sockets", path.display());
    std::fs::DirBuilder::new().mode(0o700).create(&path).context(making)?;
    let lock = File::open(&path).context(making)?;
    // Where there are no locks nobody sweeps.
    let is_taken = flock(&lock, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::WOULDBLOCK);
    match is_taken || !path.exists() {
        true => Err(Error::new(ErrorKind::Exists, making())),
        false => Ok((path, lock)),
    }
}

/// Ends what processes that were killed have left.
fn end_left(base: &Path) {
    let entries = std::fs::read_dir(base).into_iter().flatten().flatten();
    for path in
        entries.filter(|entry| entry.file_name().as_bytes().starts_with(PREFIX.as_bytes())).map(|entry| entry.path())
    {
        let Some(lock) = File::open(&path).ok().filter(|_| is_own(&path)) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            end(&path, &[]);
        }
    }
}

/// Ends the processes of ssh whose sockets are in a folder, and removes it. Those that keep a connection are told by
/// SIGTERM as by `ssh -O exit`, and those that only begin one or use one end by it too. `users` are in this process.
fn end(folder: &Path, users: &[Arc<User>]) {
    let start = Instant::now();
    // Without it no connection begins any more.
    let _ = std::fs::remove_dir_all(folder);
    let mut told = Vec::new();
    loop {
        let left = processes(folder);
        for pid in left.iter().filter(|pid| !told.contains(*pid)).copied().collect::<Vec<_>>() {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::TERM);
            told.push(pid);
        }
        if left.is_empty() && users.iter().all(|user| user.is_quiet()) {
            break;
        }
        if start.elapsed() > MAX_END {
            left.iter().for_each(|pid| _ = kill_process(*pid, Signal::KILL));
            break;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    // What a process that had it open has made meanwhile.
    let _ = std::fs::remove_dir_all(folder);
}

/// Returns this user's processes with a control socket in a folder (`-S`, as OpenDAL's library starts them). Those that
/// have ended and wait for their parent have no arguments (proc_pid_cmdline(5)).
fn processes(folder: &Path) -> Vec<Pid> {
    let me = rustix::process::geteuid().as_raw();
    let is_ours = |path: &Path| {
        let arguments = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let mut arguments = arguments.split(|byte| *byte == 0).skip_while(|argument| *argument != b"-S").skip(1);
        let socket = arguments.next().map(|socket| Path::new(std::ffi::OsStr::from_bytes(socket)));
        socket.is_some_and(|socket| socket.starts_with(folder)) && path.metadata().is_ok_and(|found| found.uid() == me)
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())));
    pids.filter(|(_, path)| is_ours(path)).filter_map(|(pid, _)| Pid::from_raw(pid)).collect()
}

fn is_short(folder: &Path) -> bool {
    folder.as_os_str().len() + SUFFIX_BYTES <= MAX_SOCKET_BYTES
}

/// Returns whether a folder is there, or can be made, and something can be made in it.
fn is_writable(folder: &Path) -> bool {
    crate::trust::folder::make(folder, crate::trust::folder::PRIVATE).is_ok() && tempfile::tempdir_in(folder).is_ok()
}

/// Finds a short folder nobody else can write to.
fn other_folder(environment: &Environment) -> Result<PathBuf> {
    let runtime = environment.get("XDG_RUNTIME_DIR").map(PathBuf::from);
    if let Some(folder) = runtime.filter(|folder| is_short(folder) && is_own(folder) && is_writable(folder)) {
        return Ok(folder);
    }
    let me = rustix::process::geteuid().as_raw();
    let bases = environment.get("TMPDIR").map(PathBuf::from).into_iter().chain([PathBuf::from("/tmp")]);
    for base in bases.filter(|base| base.is_absolute()) {
        let folder = base.join(format!("bakfs-ssh-{me}"));
        if !is_short(&folder) {
            continue;
        }
        // One that another user has made in our name, or a link, is not taken.
        let _ = std::fs::DirBuilder::new().mode(0o700).create(&folder);
        if is_own(&folder) && is_writable(&folder) {
            return Ok(folder);
        }
        let made = tempfile::Builder::new().prefix("bakfs-ssh-").tempdir_in(&base);
        if let Ok(made) = made {
            return Ok(made.keep());
        }
    }
    Err(Error::usage(
        "There is no folder for ssh's control sockets: set XDG_RUNTIME_DIR to a folder of your own (mode 0700) with a path of \
         at most 50 bytes",
    ))
}

/// Has ssh's library settle on a folder: it reads the variable once in a process, when it makes its first socket, and
/// has no other way to be told through OpenDAL. The variable is as it was afterwards.
fn settle(folder: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context(|| "Cannot start the thread for connections".into())?;
    let before = std::env::var_os(VARIABLE);
    // SAFETY: other threads of this program read the environment by Rust's functions, which take turns with this one.
    unsafe { std::env::set_var(VARIABLE, folder) };
    let mut ssh = SessionBuilder::default();
    // No program has such an argument (execve(2)): it settles, and starts none.
    ssh.user("\0".into());
    drop(runtime.block_on(ssh.launch_master("none")));
    match before {
        // SAFETY: as above.
        Some(before) => unsafe { std::env::set_var(VARIABLE, before) },
        // SAFETY: as above.
        None => unsafe { std::env::remove_var(VARIABLE) },
    }
    Ok(())
}

/// Returns whether a path is a folder that is this user's alone.
fn is_own(folder: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    std::fs::symlink_metadata(folder)
        .is_ok_and(|found| found.is_dir() && found.uid() == me && found.mode() & 0o077 == 0)
}
