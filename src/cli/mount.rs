//! `bakfs mount`: the history as a directory.

pub use super::mount_args::Args;
use super::mount_background::{READY, background};
use super::mount_keeper::{Keeper, Served, Source};
use super::mount_point::{check_mountpoint, real_path};
use super::open::Global;
use super::{Status, cost, memory, mount_log, service, signals};
use crate::error::{Context, Error, ErrorKind};
use crate::repo::Memory;
use crate::repo::index::load::IndexLoad;
use crate::text;
use crate::view::View;
use bakfs_mount::{Mount, Options};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// How often a place far away is asked for new snapshots, unless `--refresh` says otherwise.
const ASK_EVERY_SECS: u64 = 60;
/// How often a folder is looked at, whatever it tells by itself.
const LOOK_EVERY_SECS: u64 = 10;
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
    check_mountpoint(&args.mountpoint, global.access.place()?.folder())?;
    if args.fake {
        return Ok(Status::Done);
    }
    if let Some(why) = args.log.as_ref().and_then(|path| text::refused(path)) {
        return Err(Error::usage(why).into());
    }
    if args.foreground { foreground(global, args) } else { background(global, args) }
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
    let mut global = global.clone();
    global.access.passphrase_from.clone_from(&args.passphrase_from);
    let global = &global;
    let started = start(global, args);
    let keeper = match started {
        Ok(started) => started,
        Err(error) if args.say_ready => {
            let word = super::stdout::kind(&error).word();
            say(format!("{word} {}", super::output::chain(&error)).as_bytes())?;
            return Ok(Status::Failed);
        }
        Err(error) => return Err(error),
    };
    if args.say_ready {
        // Whatever ends the session this was started from ends no mount.
        rustix::process::setsid().context(|| "Cannot begin a session".into())?;
        mount_log::let_go()?;
        say(READY)?;
        // Nobody's directory is kept busy by a server in the background.
        std::env::set_current_dir("/").context(|| "Cannot leave the current directory".into())?;
    }
    let served = keeper.served();
    let signalled = served.clone();
    signals::handle(move |_| {
        service::tell("STOPPING=1");
        signalled.unmount();
    })?;
    if !args.say_ready {
        service::tell(&format!("READY=1\nSTATUS=Mounted at {}", args.mountpoint.display()));
    }
    let repository = keeper.repository();
    std::thread::spawn(move || keeper.run());
    served.wait();
    service::tell("STOPPING=1");
    repository.note_reads();
    mount_log::tell_repeated();
    if let Some(cost) = cost::told(&repository.store().traffic()) {
        warn!("bakfs: unmounted; requests: {cost}");
    }
    Ok(Status::Done)
}

/// Mounts, and tells what a person should know of it; returns who keeps the mount.
fn start(global: &Global, args: &Args) -> anyhow::Result<Keeper> {
    let repository = global.open_indexed(Memory::SMALL, IndexLoad::OnDemand)?;
    let real = real_path(&args.mountpoint)?;
    let place = global.access.place()?;
    let source = Source {
        repository: repository.clone(),
        folder: place.folder().map(Path::to_path_buf),
        scope: args.scope.scope()?,
        wants_xattrs: !args.no_xattrs,
    };
    let shown = source.show()?;
    repository.take_warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    let shrunk =
        repository.require_no_missing("It shows what there is", "take what is left by `bakfs prune --accept-missing`");
    let shrunk = shrunk.err().map(|error| error.to_string());
    let view = &shown.view;
    let forgotten = if view.newest().is_none() { repository.all_forgotten().ok().flatten() } else { None };
    let notes = [shrunk, note_if_inside_source(view, &real), view.ahead_warning(), forgotten].into_iter().flatten();
    notes.for_each(|note| tracing::warn!("{note}"));
    let options = Options {
        fs_name: fs_name(args.fs_name.as_deref().unwrap_or(&place.to_string())),
        allow_other: args.allow_other,
        no_exec: args.noexec,
        no_symlinks: args.nosymfollow,
        deadline: Duration::from_secs(args.io_deadline),
        ..Options::default()
    };
    let mount = Mount::start(view.clone(), &real, &options)
        .map_err(|error| Error::new(ErrorKind::Io, format!("Cannot mount at {}", real.display())).because(error))?;
    let ask_every_secs = if place.folder().is_some() { LOOK_EVERY_SECS } else { ASK_EVERY_SECS };
    let refresh = Duration::from_secs(args.refresh.unwrap_or(ask_every_secs));
    Ok(Keeper::new(source, shown, Served::new(mount, options), refresh))
}

/// Returns the repository's path as `df` and /proc/mounts show it: without what an option cannot hold.
pub(super) fn fs_name(place: &str) -> String {
    place.chars().map(|char| if matches!(char, ',' | '\\') || char.is_control() { '_' } else { char }).collect()
}
