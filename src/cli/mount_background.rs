//! A mount in the background: this program once more, in a session of its own.

use super::configured::machine;
use super::mount_args::Args;
use super::open::Global;
use super::umount::PRUNE;
use super::{Status, output, scope};
use crate::error::{Context, Error, ErrorKind};
use crate::log::Log;
use crate::machine::updatedb::FS_TYPE;
use crate::process::program;
use crate::serve::point::real_path;
use crate::trust::{descriptors, environment};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// What the child says when the mount answers.
pub(super) const READY: &[u8] = b"ready\n";

/// So long the last words of its start are waited for when the mount has answered.
const MAX_HEARING: Duration = Duration::from_secs(1);

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).context(|| format!("Cannot use the path {}", path.display()))
}

/// Opens the log, so that who waits is told if it cannot be written.
fn open_log(path: &Path) -> Result<Log, Error> {
    let log = Log::at(&absolute(path)?);
    log.open_file().context(|| format!("Cannot write the log {}: name another with --log", path.display()))?;
    Ok(log)
}

/// Tells, and writes down, what the mount says on standard error until it answers, but for what this process has told
/// already; what is returned ends with it.
fn hear(stderr: ChildStderr, log: Option<Log>) -> Receiver<()> {
    let (sender, heard) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            if let Some(log) = &log {
                log.line(&line);
            }
            match line.strip_prefix("bakfs: warning: ") {
                Some(warning) => output::warn(warning),
                None => warn!("{line}"),
            }
        }
        drop(sender);
    });
    heard
}

fn its_log(path: &Path, has_log: bool) -> String {
    if has_log { format!(": its log is {}", path.display()) } else { ": name a file with --log to hear why".into() }
}

/// Starts this program again in the foreground of a session of its own, and waits until the mount answers.
pub(super) fn background(global: &Global, args: &Args) -> anyhow::Result<Status> {
    let cache = global.access.cache_base()?;
    let log_path = match &args.log {
        Some(path) => path.clone(),
        None => cache.join("mount.log"),
    };
    let log = match open_log(&log_path) {
        Err(error) if args.log.is_none() => {
            output::warn(&format!("{}: mounting without a log", error.chain()));
            None
        }
        log => Some(log?),
    };
    let has_log = log.is_some();
    let program = program::own()?;
    let mut command = Command::new(program);
    // A copy that is named as mount(8) names its helpers would take these arguments for mount(8)'s.
    command.arg0("bakfs");
    command.arg("--cache-dir").arg(absolute(&cache)?).args(global.far_arguments()?);
    // The passphrase goes another way (`typed`).
    environment::hand_over(&mut command).env_remove(environment::PASSWORD);
    if let Some(config) = &global.access.config {
        command.arg("--config").arg(absolute(config)?);
    }
    for _ in 0..global.verbose {
        command.arg("-v");
    }
    let typed = global.access.secret_for_child()?;
    match &typed {
        Some(_) => {
            command.args(["--password-file", "/dev/stdin"]).stdin(Stdio::piped());
        }
        None => {
            command.stdin(descriptors::nothing().context(|| "Cannot make the mount's input".into())?);
            if let Some(path) = &global.access.password_file {
                command.arg("--password-file").arg(absolute(path)?);
            }
        }
    }
    command.args(["mount", "--foreground", "--say-ready", "--io-deadline", &args.io_deadline.to_string()]);
    if let Some((_, from)) = &typed {
        command.arg(format!("--passphrase-from={from}"));
    }
    if let Some(secs) = args.refresh {
        command.args(["--refresh", &secs.to_string()]);
    }
    let flags = [
        ("--allow-other", args.allow_other),
        ("--no-xattrs", args.no_xattrs),
        ("--noexec", args.noexec),
        ("--nosymfollow", args.nosymfollow),
    ];
    command.args(flags.iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag));
    if let Some(name) = &args.fs_name {
        command.arg("--fs-name").arg(name);
    }
    if log.is_some() {
        command.arg("--log").arg(absolute(&log_path)?);
    }
    command.args(scope::arguments(&args.scope.scope()?));
    command.arg("--").arg(real_path(&args.mountpoint)?);
    // It leaves this process's group only when it has mounted: an automount lets nobody else through.
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let close = || {
        descriptors::close_on_exec();
        Ok(())
    };
    // SAFETY: only async-signal-safe system calls are made between fork and exec (close_range or fcntl).
    unsafe { command.pre_exec(close) };
    let mut child = command.spawn().context(|| "Cannot start the mount".into())?;
    let heard = child.stderr.take().map(|stderr| hear(stderr, log));
    if let (Some((secret, _)), Some(mut stdin)) = (typed, child.stdin.take()) {
        // A child that has ended says why on its standard output.
        let _ = stdin.write_all(secret.as_bytes());
    }
    let mut said = Vec::new();
    if let Some(stdout) = &mut child.stdout {
        stdout.read_to_end(&mut said).context(|| "Cannot hear from the mount".into())?;
    }
    if let Some(heard) = heard {
        // It ends with the mount's start; whoever else may hold the pipe is not waited for.
        let _ = heard.recv_timeout(MAX_HEARING);
    }
    if said != READY {
        let status = child.wait().context(|| "Cannot wait for the mount".into())?;
        let text = String::from_utf8_lossy(&said);
        let told = text.split_once(' ').and_then(|(word, text)| Some((ErrorKind::of_word(word)?, text)));
        return Err(match told {
            Some((kind, text)) => Error::new(kind, text.trim_end()),
            None => {
                let log = its_log(&log_path, has_log);
                Error::new(ErrorKind::Io, format!("The mount ended before it answered ({status}){log}"))
            }
        }
        .into());
    }
    if !global.quiet && std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        warn!("Mounted at {}; `bakfs umount {}` ends it", args.mountpoint.display(), args.mountpoint.display());
        if has_log {
            warn!("Log: {}", log_path.display());
        }
        // Whoever runs it, it is root's: into another user's mount it is not let.
        if (rustix::process::geteuid().is_root() || args.allow_other) && machine().is_walked_by_updatedb(FS_TYPE) {
            warn!("updatedb: {PRUNE}");
        }
    }
    Ok(Status::Done)
}
