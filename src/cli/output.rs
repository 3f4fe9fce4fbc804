//! What is printed: errors with their causes, warnings, names and counts.

pub use crate::quantity::{are, count, counted, size};
use crate::repo::{Repository, Warnings};
use crate::spelling::push_shown;
pub use crate::spelling::{readable, readable_path};
use crate::store::Traffic;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

/// Returns what a log is of, as detailed as `-v` says. What a library has to say is said by the error that comes of it; its
/// own lines tell addresses and more.
pub(super) fn logged(verbose: u8) -> tracing_subscriber::EnvFilter {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    tracing_subscriber::EnvFilter::new(format!("off,bakfs={level},bakfs_mount={level}"))
}

/// Writes what the library logs to standard error, as detailed as `-v` says. What is told unasked is told as everything else
/// is, and once.
pub fn start_log(verbose: u8) {
    let log = tracing_subscriber::fmt().with_env_filter(logged(verbose)).with_target(false).with_level(false);
    // A process has one log: a second start (as in tests) changes nothing. What the log cannot write it would tell by a macro that panics where standard error cannot be written.
    let log = log.without_time().with_ansi(false).log_internal_errors(false).with_writer(Lines);
    let _ = log.try_init();
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

impl std::io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        tell_event(self.0, String::from_utf8_lossy(bytes).trim());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn tell_event(level: Level, text: &str) {
    match level {
        Level::ERROR => warn!("bakfs: {text}"),
        Level::WARN => warn(text),
        _ => warn!("{:.3} {level} {text}", jiff::Timestamp::now()),
    }
}

/// So many warnings are known to be told.
const MAX_WARNED: usize = 1000;
static WARNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Tells a warning, once in a process.
pub fn warn(text: &str) {
    let is_new = {
        let mut warned = WARNED.lock();
        if warned.len() >= MAX_WARNED {
            warned.clear();
        }
        warned.insert(text.to_string())
    };
    if is_new {
        warn!("bakfs: warning: {text}");
    }
}

/// Writes an error with all its causes.
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            let _ = write!(text, ": {cause}");
        }
    }
    text
}

/// The warnings of all repositories that this process has opened.
static OPENED: Mutex<Vec<Arc<Warnings>>> = Mutex::new(Vec::new());

/// Sees to it that the warnings of a repository are told, however its command ends.
pub fn heed(repository: &Repository) {
    OPENED.lock().push(repository.warnings().clone());
}

/// Prints what went wrong without stopping anything.
pub fn tell_warnings(repository: &Repository) -> usize {
    tell(&repository.take_warnings())
}

/// Prints the warnings that are left when a command has ended.
pub fn tell_rest() {
    for warnings in OPENED.lock().iter() {
        tell(&warnings.take());
    }
}

/// Lets notes go that are left of what a run has done after its snapshot: its record has them.
pub fn drop_notes() {
    OPENED.lock().iter().for_each(|warnings| drop(warnings.take_notes()));
}

/// Returns whether any repository that was opened lacks snapshots it had.
pub fn is_history_shrunk() -> bool {
    OPENED.lock().iter().any(|warnings| warnings.is_history_shrunk())
}

fn tell(warnings: &[String]) -> usize {
    for warning in warnings {
        warn!("bakfs: warning: {warning}");
    }
    warnings.len()
}

/// Writes a text of several lines for a person: what could upset a terminal is escaped, in the words of whoever typed or
/// sent them as well.
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => printable.push(character),
            _ => push_shown(&mut printable, character),
        }
    }
    printable
}

/// A report with what its command has asked of a place far away.
#[derive(Serialize)]
pub struct WithTraffic<'a, T: Serialize> {
    /// The report.
    #[serde(flatten)]
    pub report: T,
    /// Requests and bytes.
    pub traffic: &'a Traffic,
}

/// Returns a report as it is printed: its keys in the order of the alphabet.
///
/// # Panics
/// Never for what reports are made of: their keys are text.
pub fn json(report: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(report).expect("keys of reports are text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_read_well() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(1 << 30), "1.0 GiB");
        assert_eq!(readable(b"a\x1b[31m\nb\xff"), "a\\u{1b}[31m\\nb\\xff");
        for turning in ['\u{202e}', '\u{2066}', '\u{2069}', '\u{2028}', '\u{2029}', '\u{200f}', '\u{9b}', '\u{7f}'] {
            let name = format!("a{turning}b");
            assert_eq!(readable(name.as_bytes()), format!("a{}b", turning.escape_default()));
            assert_eq!(printable(&name), format!("a{}b", turning.escape_default()));
        }
        assert_eq!(printable("a\n\tb\x1b[31m"), "a\n\tb\\u{1b}[31m");
    }
}
