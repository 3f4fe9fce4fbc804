//! What a mount says for months: each thing once, and how often it came again, into a file of bounded length or the
//! journal.

use crate::error::{Context, Error};
use crate::log::Log;
use crate::log::repeats::Repeats;
use crate::trust::descriptors;
use parking_lot::Mutex;
use std::io::{self, Write};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

/// Where lines go: a file, or standard error.
static FILE: LazyLock<Mutex<Option<std::sync::Arc<Log>>>> = LazyLock::new(Mutex::default);
static REPEATS: LazyLock<Mutex<Repeats>> = LazyLock::new(Mutex::default);

/// Whether somebody waits for the mount to answer: trouble is told to them, on standard error, and they write it down.
static IS_AWAITED: AtomicBool = AtomicBool::new(false);

/// Takes what this process logs; `path` names a file, else it is standard error.
pub(super) fn start(verbose: u8, path: Option<&Path>, is_awaited: bool) {
    IS_AWAITED.store(is_awaited, Ordering::Relaxed);
    *FILE.lock() = path.map(|path| std::sync::Arc::new(Log::at(path)));
    let log = tracing_subscriber::fmt().with_env_filter(super::output::logged(verbose)).with_target(false);
    let log = log.with_level(false).without_time().with_ansi(false).log_internal_errors(false).with_writer(Lines);
    // A process has one log: a second start (as in tests) changes nothing.
    let _ = log.try_init();
    std::panic::set_hook(Box::new(|panic| tracing::error!("The program failed: {panic}")));
}

/// Lets who has started this process go: standard error is the log from here on, for what ends the process where it
/// cannot log any more, as an abort.
pub(super) fn let_go() -> Result<(), Error> {
    let file = FILE.lock().clone();
    let errors = match file.and_then(|log| log.open_file().ok()) {
        Some(file) => file,
        None => descriptors::nowhere().context(|| "Cannot open /dev/null".into())?,
    };
    rustix::stdio::dup2_stderr(errors).context(|| "Cannot close standard error".into())?;
    IS_AWAITED.store(false, Ordering::Relaxed);
    Ok(())
}

/// Writes how often came again what was said once.
pub(super) fn tell_repeated() {
    let lines = REPEATS.lock().drain();
    lines.iter().for_each(|line| write(line));
}

fn write(line: &str) {
    let file = FILE.lock().clone();
    match file {
        Some(file) => file.line(line),
        None => warn!("{:.3} {line}", jiff::Timestamp::now()),
    }
}

struct Lines;

/// One event, which comes in one piece.
struct Line(Level);

impl MakeWriter<'_> for Lines {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line(Level::WARN)
    }

    fn make_writer_for(&self, event: &tracing::Metadata<'_>) -> Line {
        Line(*event.level())
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let line = format!("{} {}", self.0, text.trim());
        // No lock is held while a line is written: a log that cannot be written says so here. What was asked for by -v is
        // all there.
        let is_trouble = self.0 <= Level::WARN;
        let lines = if is_trouble { REPEATS.lock().note(&line) } else { vec![line] };
        match is_trouble && IS_AWAITED.load(Ordering::Relaxed) {
            true if lines.is_empty() => {}
            true => super::output::warn(text.trim()),
            false => lines.iter().for_each(|line| write(line)),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
