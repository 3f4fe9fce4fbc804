//! `bakfs mount` and `bakfs umount`: the history as a directory.

use super::mount_keeper::Keeper;
use super::open::Global;
use super::output::readable_path;
use super::{Status, cost, memory, scope};
use crate::error::{Context, Error, ErrorKind};
use crate::repo::{IndexLoad, Repository};
use crate::store::ObjectKind;
use crate::trust::{descriptors, environment, folder};
use crate::view::{Changed, View};
use bakfs_mount::{Mount, Mounted, Options, find_mount, unmount};
use rustix::fs::inotify;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// The file system's type in /proc/mounts and /etc/fstab.
pub const FS_TYPE: &str = "fuse.bakfs";
/// How often a place that tells nobody of changes is asked for new snapshots, unless `--refresh` says otherwise.
const ASK_EVERY_SECS: u64 = 60;
/// What the child says when the mount answers.
const READY: &[u8] = b"ready\n";

/// Options of `bakfs mount`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An empty directory
    #[arg(value_name = "MOUNTPOINT")]
    mountpoint: PathBuf,
    /// Stay in the foreground and log to standard error, as systemd wants it
    #[arg(long, short)]
    foreground: bool,
    /// Let other users in, by the modes of the files
    #[arg(long)]
    allow_other: bool,
    /// Show no extended attributes and ACLs, which makes copying many files up to three times as fast
    #[arg(long)]
    no_xattrs: bool,
    /// Answer requests that wait for a disk this long with an error
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    io_deadline: u64,
    /// Ask a repository far away for new snapshots this often
    #[arg(long, value_name = "SECONDS", default_value_t = ASK_EVERY_SECS,
          value_parser = clap::value_parser!(u64).range(1..))]
    refresh: u64,
    /// Write the log there [default: mount.log in the cache directory]
    #[arg(long, value_name = "FILE", conflicts_with = "foreground")]
    log: Option<PathBuf>,
    /// Say on standard output when the mount answers, then close it
    #[arg(long, hide = true, requires = "foreground")]
    say_ready: bool,
    #[command(flatten)]
    scope: scope::Args,
}

/// Options of `bakfs umount`.
#[derive(Debug, clap::Args)]
pub struct UmountArgs {
    /// Where a history is mounted
    #[arg(value_name = "MOUNTPOINT")]
    mountpoint: PathBuf,
    /// Take the directory away at once, and end the mount when its last user has gone
    #[arg(long, short = 'z')]
    lazy: bool,
}

/// Returns a mount point's path without asking what is mounted there, which may not answer.
fn real_path(mountpoint: &Path) -> Result<PathBuf, Error> {
    let absolute =
        std::path::absolute(mountpoint).context(|| format!("Cannot use the path {}", mountpoint.display()))?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else { return Ok(absolute) };
    match std::fs::canonicalize(&absolute) {
        Ok(real) => Ok(real),
        Err(_) => Ok(std::fs::canonicalize(parent).map_or(absolute.clone(), |parent| parent.join(name))),
    }
}

fn is_ours(mounted: &Mounted) -> bool {
    mounted.fs_type == FS_TYPE
}

/// Refuses mount points nothing good comes of, and clears what a killed bakfs left on one.
fn check_mountpoint(mountpoint: &Path, repo: Option<&Path>) -> Result<(), Error> {
    let at = readable_path(mountpoint);
    let real = real_path(mountpoint)?;
    if let Some(mounted) = find_mount(&real) {
        // Not stat(2): the kernel answers that for a dead mount too, from what it remembers.
        let dead = rustix::fs::statfs(&real).is_err_and(|error| error == rustix::io::Errno::NOTCONN);
        if !(dead && is_ours(&mounted)) {
            return Err(Error::usage(format!(
                "{at} has a file system mounted on it already ({}): `bakfs umount` it, or name another directory",
                mounted.fs_type
            )));
        }
        unmount(&real, true).map_err(|error| {
            Error::new(ErrorKind::Io, format!("Cannot clear the dead mount at {at}")).because(error)
        })?;
    }
    match std::fs::symlink_metadata(&real) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::usage(format!("The mount point {at} does not exist: make it with `mkdir -p {at}`")));
        }
        Err(error) => return Err(Error::io(format!("Cannot use the mount point {at}"), error)),
        Ok(metadata) if !metadata.is_dir() => {
            return Err(Error::usage(format!("The mount point {at} is not a directory: name an empty one")));
        }
        Ok(_) => {}
    }
    if let Some(repo) = repo {
        check_apart(&at, &real, repo)?;
    }
    let mut entries = std::fs::read_dir(&real).context(|| format!("Cannot read the mount point {at}"))?;
    if entries.next().is_some() {
        return Err(Error::usage(format!(
            "The mount point {at} is not empty, and mounting would hide what is in it: name an empty directory"
        )));
    }
    Ok(())
}

/// Refuses a mount point inside the repository's folder, or around it.
fn check_apart(at: &str, real: &Path, repo: &Path) -> Result<(), Error> {
    let repo = std::fs::canonicalize(repo).unwrap_or(repo.to_path_buf());
    if real.starts_with(&repo) {
        return Err(Error::usage(format!(
            "The mount point {at} lies inside the repository {}: name a directory elsewhere",
            repo.display()
        )));
    }
    if repo.starts_with(real) {
        return Err(Error::usage(format!(
            "The mount point {at} would hide the repository {}: name a directory elsewhere",
            repo.display()
        )));
    }
    Ok(())
}

/// Says that backups will leave the mount out, where it lies in what is backed up. For `/` that goes
/// without saying.
fn note_if_inside_source(view: &View, mountpoint: &Path) -> Option<String> {
    let newest = view.newest()?;
    let sources = &newest.snapshot.sources;
    let inside = |source: &&[u8]| {
        let source = Path::new(OsStr::from_bytes(source));
        source != Path::new("/") && mountpoint.starts_with(source)
    };
    let source = sources.iter().map(|source| &source[..]).find(inside)?;
    let source = super::output::readable(source);
    Some(format!("The mount point lies inside {source}, which is backed up: backups leave the mount out"))
}

/// Runs `bakfs mount`.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    check_mountpoint(&args.mountpoint, global.place()?.folder())?;
    if args.foreground { foreground(global, args) } else { background(global, args) }
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).context(|| format!("Cannot use the path {}", path.display()))
}

/// Opens the log of a mount, made for its owner alone.
fn open_log(path: &Path) -> std::io::Result<std::fs::File> {
    let path = std::path::absolute(path)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    folder::make_own(parent, folder::PRIVATE)?;
    folder::open_own(parent, name, crate::log::APPEND)
}

/// Starts this program again in the foreground of a session of its own, and waits until the mount answers.
fn background(global: &Global, args: &Args) -> anyhow::Result<Status> {
    let cache = global.cache_base()?;
    let log_path = match &args.log {
        Some(path) => path.clone(),
        None => cache.join("mount.log"),
    };
    let log = open_log(&log_path);
    let log = log.context(|| format!("Cannot write the log {}: name another with --log", log_path.display()))?;
    let program = std::env::current_exe().context(|| "Cannot find this program's own file".into())?;
    let mut command = Command::new(program);
    command.arg("--cache-dir").arg(absolute(&cache)?).args(global.far_arguments()?);
    // The passphrase goes another way (`typed`).
    command.envs(environment::taken()).env_remove(environment::PASSWORD);
    if let Some(config) = &global.config {
        command.arg("--config").arg(absolute(config)?);
    }
    for _ in 0..global.verbose {
        command.arg("-v");
    }
    let typed = global.secret_for_child()?;
    match &typed {
        Some(_) => {
            command.args(["--password-file", "/dev/stdin"]).stdin(Stdio::piped());
        }
        None => {
            command.stdin(Stdio::null());
            if let Some(path) = &global.password_file {
                command.arg("--password-file").arg(absolute(path)?);
            }
        }
    }
    command.args(["mount", "--foreground", "--say-ready", "--io-deadline", &args.io_deadline.to_string()]);
    command.args(["--refresh", &args.refresh.to_string()]);
    if args.allow_other {
        command.arg("--allow-other");
    }
    if args.no_xattrs {
        command.arg("--no-xattrs");
    }
    command.args(scope::arguments(&args.scope.scope()?));
    command.arg("--").arg(real_path(&args.mountpoint)?);
    command.stdout(Stdio::piped()).stderr(log);
    let set_apart = || {
        rustix::process::setsid()?;
        descriptors::close_on_exec();
        Ok(())
    };
    // SAFETY: only async-signal-safe system calls are made between fork and exec (setsid, close_range or fcntl).
    unsafe { command.pre_exec(set_apart) };
    let mut child = command.spawn().context(|| "Cannot start the mount".into())?;
    if let (Some(secret), Some(mut stdin)) = (typed, child.stdin.take()) {
        // A child that has ended says why on its standard output.
        let _ = stdin.write_all(secret.as_bytes());
    }
    let mut said = Vec::new();
    if let Some(stdout) = &mut child.stdout {
        stdout.read_to_end(&mut said).context(|| "Cannot hear from the mount".into())?;
    }
    let Some(note) = said.strip_prefix(READY) else {
        let status = child.wait().context(|| "Cannot wait for the mount".into())?;
        let text = String::from_utf8_lossy(&said);
        let told = text.split_once(' ').and_then(|(word, text)| Some((ErrorKind::of_word(word)?, text)));
        return Err(match told {
            Some((kind, text)) => Error::new(kind, text.trim_end()),
            None => {
                let log = log_path.display();
                Error::new(ErrorKind::Io, format!("The mount ended before it answered ({status}): its log is {log}"))
            }
        }
        .into());
    };
    for note in String::from_utf8_lossy(note).lines() {
        eprintln!("bakfs: warning: {note}");
    }
    if !global.quiet && std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        eprintln!("Mounted at {}; `bakfs umount {}` ends it", args.mountpoint.display(), args.mountpoint.display());
        eprintln!("Log: {}", log_path.display());
    }
    Ok(Status::Done)
}

/// Closes standard output, so that who started this process need not wait for it any longer.
fn say(message: &[u8]) -> Result<(), Error> {
    let mut stdout = std::io::stdout();
    stdout.write_all(message).and_then(|()| stdout.flush()).context(|| "Cannot say that the mount answers".into())?;
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null").context(|| "Cannot open /dev/null".into())?;
    rustix::stdio::dup2_stdout(null).context(|| "Cannot close standard output".into())
}

fn foreground(global: &Global, args: &Args) -> anyhow::Result<Status> {
    memory::spare();
    let started = start(global, args);
    let (mount, view, repository, notes) = match started {
        Ok(started) => started,
        Err(error) if args.say_ready => {
            let word = super::stdout::kind(&error).word();
            say(format!("{word} {}", super::output::chain(&error)).as_bytes())?;
            return Ok(Status::Failed);
        }
        Err(error) => return Err(error),
    };
    if args.say_ready {
        say(&[READY, notes.join("\n").as_bytes()].concat())?;
        // Nobody's directory is kept busy by a server in the background.
        std::env::set_current_dir("/").context(|| "Cannot leave the current directory".into())?;
    }
    notes.iter().for_each(|note| tracing::warn!("{note}"));
    let mount = Arc::new(mount);
    let signalled = mount.clone();
    let mut signals =
        signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).context(|| "Cannot wait for signals".into())?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            // Busy or not, whoever ends the process wants the directory back.
            if signalled.unmount().is_err() {
                let _ = signalled.unmount_lazily();
            }
        }
    });
    let refresh = repository.store().is_far().then(|| Duration::from_secs(args.refresh));
    let keeper = Keeper::new(view, mount.clone(), repository.clone(), refresh);
    std::thread::spawn(move || keeper.run());
    mount.wait();
    repository.note_reads();
    if let Some(cost) = cost::told(&repository.store().traffic()) {
        eprintln!("bakfs: unmounted; requests: {cost}");
    }
    Ok(Status::Done)
}

/// What is being served, and what a person should know of it.
type Started = (Mount, Arc<View>, Arc<Repository>, Vec<String>);

fn start(global: &Global, args: &Args) -> anyhow::Result<Started> {
    let repository = global.open_indexed(memory::SMALL, IndexLoad::OnDemand)?;
    let real = real_path(&args.mountpoint)?;
    let place = global.place()?;
    let changed: Changed = match place.folder() {
        Some(folder) => {
            let watch = watch(folder)?;
            Box::new(move || has_event(&watch))
        }
        // It tells of nothing: see `mount_keeper`.
        None => Box::new(|| false),
    };
    let view = Arc::new(View::of(repository.clone(), args.scope.scope()?, !args.no_xattrs, changed)?);
    // The log has all; who waits for the mount to answer is told what it must not miss.
    repository.take_warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    let shrunk =
        repository.require_no_missing("It shows what there is", "take what is left by `bakfs prune --accept-missing`");
    let shrunk = shrunk.err().map(|error| error.to_string());
    let notes = [shrunk, note_if_inside_source(&view, &real), view.ahead_warning()].into_iter().flatten().collect();
    let options = Options {
        fs_name: fs_name(&place.to_string()),
        allow_other: args.allow_other,
        deadline: Duration::from_secs(args.io_deadline),
        ..Options::default()
    };
    let mount = Mount::start(view.clone(), &real, &options)
        .map_err(|error| Error::new(ErrorKind::Io, format!("Cannot mount at {}", real.display())).because(error))?;
    Ok((mount, view, repository, notes))
}

/// Returns the repository's path as `df` and /proc/mounts show it: without what an option cannot hold.
fn fs_name(place: &str) -> String {
    place.chars().map(|char| if matches!(char, ',' | '\\') || char.is_control() { '_' } else { char }).collect()
}

/// Watches the folders of snapshots and of what is said of them for names that come and go (inotify(7)).
fn watch(repo: &Path) -> Result<OwnedFd, Error> {
    let watching = || format!("Cannot watch {}", repo.display());
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).context(watching)?;
    let events = inotify::WatchFlags::MOVED_TO
        | inotify::WatchFlags::CREATE
        | inotify::WatchFlags::DELETE
        | inotify::WatchFlags::MOVED_FROM;
    inotify::add_watch(&watch, repo.join(ObjectKind::Snapshot.folder()), events).context(watching)?;
    // Made with the first mark: until then the repository's own folder tells.
    if inotify::add_watch(&watch, repo.join(ObjectKind::Mark.folder()), events).is_err() {
        inotify::add_watch(&watch, repo, events).context(watching)?;
    }
    Ok(watch)
}

/// Takes all events there are and says whether there were any.
fn has_event(watch: &OwnedFd) -> bool {
    let mut buffer = [0; 4096];
    let mut any = false;
    loop {
        match rustix::io::read(watch, &mut buffer) {
            Ok(0) | Err(rustix::io::Errno::AGAIN) => return any,
            Ok(_) => any = true,
            Err(rustix::io::Errno::INTR) => {}
            // Cannot be known: looking again is always right.
            Err(_) => return true,
        }
    }
}

/// Runs `bakfs umount`.
pub fn run_umount(args: &UmountArgs) -> anyhow::Result<Status> {
    let at = readable_path(&args.mountpoint);
    let real = real_path(&args.mountpoint)?;
    match find_mount(&real) {
        Some(mounted) if is_ours(&mounted) => {}
        Some(mounted) => {
            return Err(Error::usage(format!(
                "{at} is no mount of bakfs but of {}: `umount` is for it",
                mounted.fs_type
            ))
            .into());
        }
        None => return Err(Error::usage(format!("Nothing is mounted at {at}")).into()),
    }
    unmount(&real, args.lazy)
        .map_err(|error| Error::new(ErrorKind::Io, format!("Cannot unmount {at}")).because(error))?;
    Ok(Status::Done)
}
