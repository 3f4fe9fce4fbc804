//! `bakfs mount`: the history as a directory.

pub use super::mount_args::Args;
use super::mount_background::{READY, background};
use super::open::Global;
use super::{Status, cost, memory, mount_log, service, signals};
use crate::error::{Context, Error};
use crate::repo::Memory;
use crate::repo::index::load::IndexLoad;
use crate::serve::{Note, Options, Service, point};
use crate::text;
use crate::trust::descriptors;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often the log hears how often things came again.
const COUNT_EVERY: Duration = Duration::from_secs(60 * 60);

/// Runs `bakfs mount`.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    point::check(&args.mountpoint, global.access.place()?.folder())?;
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
    let null = descriptors::nowhere().context(|| "Cannot open /dev/null".into())?;
    rustix::stdio::dup2_stdout(null).context(|| "Cannot close standard output".into())
}

fn foreground(global: &Global, args: &Args) -> anyhow::Result<Status> {
    memory::spare();
    let mut global = global.clone();
    global.access.passphrase_from.clone_from(&args.passphrase_from);
    let global = &global;
    let started = start(global, args);
    let service = match started {
        Ok(service) => Arc::new(service),
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
    // Kept by the thread that waits for signals, and so until the process ends: its files are closed all at once.
    let signalled = service.clone();
    signals::handle(move |_| {
        service::tell("STOPPING=1");
        // Where that fails the mount serves on.
        let _ = signalled.unmount();
    })?;
    if !args.say_ready {
        service::tell(&format!("READY=1\nSTATUS=Mounted at {}", args.mountpoint.display()));
    }
    while !service.wait_for(COUNT_EVERY) {
        mount_log::tell_repeated();
    }
    service::tell("STOPPING=1");
    mount_log::tell_repeated();
    if let Some(cost) = cost::told(&service.repository().store().traffic()) {
        warn!("bakfs: unmounted; requests: {cost}");
    }
    Ok(Status::Done)
}

/// Mounts; what a person should know of it goes into the log.
fn start(global: &Global, args: &Args) -> anyhow::Result<Service> {
    let repository = global.open_indexed(Memory::SMALL, IndexLoad::OnDemand)?;
    let place = global.access.place()?;
    let options = Options {
        folder: place.folder().map(Path::to_path_buf),
        scope: args.scope.scope()?,
        fs_name: Some(args.fs_name.clone().unwrap_or_else(|| place.to_string())),
        allow_other: args.allow_other,
        no_exec: args.noexec,
        no_symlinks: args.nosymfollow,
        xattrs: !args.no_xattrs,
        deadline: Duration::from_secs(args.io_deadline),
        refresh: args.refresh.map(Duration::from_secs),
    };
    Ok(Service::start(repository, &args.mountpoint, &options, log)?)
}

/// Logs what a mount tells.
fn log(note: Note) {
    match note.is_error() {
        true => tracing::error!("{note}"),
        false => tracing::warn!("{note}"),
    }
    if let Note::LookSucceeded(_) = note {
        // When it begins again the log says so again.
        mount_log::tell_repeated();
    }
}
