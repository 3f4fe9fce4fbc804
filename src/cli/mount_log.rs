//! What a mount says for months: each thing once, and how often it came again, into a file of bounded length or the
//! journal.

use crate::log::Log;
use crate::log::repeats::Repeats;
use parking_lot::Mutex;
use std::io::{self, Write};
use std::path::Path;
use std::sync::LazyLock;
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

/// Where lines go: a file, or standard error.
static FILE: LazyLock<Mutex<Option<std::sync::Arc<Log>>>> = LazyLock::new(Mutex::default);
static REPEATS: LazyLock<Mutex<Repeats>> = LazyLock::new(Mutex::default);

/// Takes what this process logs; `path` names a file, else it is standard error.
pub(super) fn start(verbose: u8, path: Option<&Path>) {
    *FILE.lock() = path.map(|path| std::sync::Arc::new(Log::at(path)));
    let log = tracing_subscriber::fmt().with_env_filter(super::output::logged(verbose)).with_target(false);
    let log = log.without_time().with_ansi(false).log_internal_errors(false).with_writer(Lines);
    // A process has one log: a second start (as in tests) changes nothing.
    let _ = log.try_init();
    std::panic::set_hook(Box::new(|panic| tracing::error!("The program failed: {panic}")));
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
        None => eprintln!("{:.3} {line}", jiff::Timestamp::now()),
    }
}

struct Lines;

/// One event, which comes in one piece.
struct Line {
    is_trouble: bool,
}

impl MakeWriter<'_> for Lines {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line { is_trouble: true }
    }

    fn make_writer_for(&self, event: &tracing::Metadata<'_>) -> Line {
        // What was asked for by -v is all there.
        Line { is_trouble: *event.level() <= Level::WARN }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim();
        // No lock is held while a line is written: a log that cannot be written says so here.
        let lines = if self.is_trouble { REPEATS.lock().note(text) } else { vec![text.to_string()] };
        lines.iter().for_each(|line| write(line));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
