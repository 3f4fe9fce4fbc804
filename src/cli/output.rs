//! What is printed: errors with their causes, warnings, sizes, and progress on a terminal.

use crate::monitor::Monitor;
pub use crate::quantity::size;
use crate::repo::{Repository, Warnings};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Returns how detailed a log is.
pub(super) fn level(verbose: u8) -> tracing::Level {
    match verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    }
}

/// Writes a library log to standard error, as detailed as `-v` says.
pub fn start_log(verbose: u8) {
    // A process has one log: a second start (as in tests) changes nothing. What the log cannot write it would tell by a macro that panics where standard error cannot be written.
    let log = tracing_subscriber::fmt().with_max_level(level(verbose)).with_target(false).log_internal_errors(false);
    let _ = log.with_writer(std::io::stderr).try_init();
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

/// Returns whether the reader of standard output has gone: no error of ours.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
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

/// Returns whether any repository that was opened lacks snapshots it had.
pub fn is_history_shrunk() -> bool {
    OPENED.lock().iter().any(|warnings| warnings.is_history_shrunk())
}

fn tell(warnings: &[String]) -> usize {
    for warning in warnings {
        eprintln!("bakfs: warning: {warning}");
    }
    warnings.len()
}

/// Writes a path or name for a person: what could upset a terminal is escaped.
pub fn readable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || character == '\u{202e}' || character == '\u{202d}' {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Writes a path for a person.
pub fn readable_path(path: &Path) -> String {
    readable(path.as_os_str().as_bytes())
}

/// Writes a name or path for JSON: bytes that are no UTF-8 become `\xNN`.
pub fn json_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_string(),
        Err(_) => readable(OsStr::from_bytes(bytes).as_bytes()),
    }
}

/// Writes a count with thin groups, as `55 012`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Shows progress on a terminal, and troubles always.
pub struct Progress {
    bar: ProgressBar,
    expected_files: AtomicU64,
    expected_bytes: AtomicU64,
    files: AtomicU64,
}

impl Progress {
    /// Makes a monitor; `shown` says whether a bar is wanted where there is a terminal.
    pub fn new(verb: &str, shown: bool) -> Self {
        let visible = shown && std::io::stderr().is_terminal();
        let target = if visible { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{prefix} {msg}  {binary_bytes}  {binary_bytes_per_sec}  {elapsed}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_prefix(verb.to_string());
        if visible {
            bar.enable_steady_tick(Duration::from_millis(250));
        }
        Progress { bar, expected_files: AtomicU64::new(0), expected_bytes: AtomicU64::new(0), files: AtomicU64::new(0) }
    }

    /// Prints a line to standard output, above the bar.
    pub fn print(&self, line: &str) {
        self.bar.suspend(|| println!("{line}"));
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Monitor for Progress {
    fn trouble(&self, path: &Path, message: &str) {
        self.bar.suspend(|| eprintln!("bakfs: {}: {message}", readable_path(path)));
    }

    fn expect(&self, files: u64, bytes: u64) {
        self.expected_files.store(files, Ordering::Relaxed);
        self.expected_bytes.store(bytes, Ordering::Relaxed);
        self.bar.set_length(bytes);
        let template =
            "{prefix} {msg}  {bar:20}  {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
    }

    fn advance(&self, files: u64, bytes: u64) {
        if self.bar.is_hidden() {
            return;
        }
        let done = self.files.fetch_add(files, Ordering::Relaxed).wrapping_add(files);
        self.bar.inc(bytes);
        if files > 0 && done.is_multiple_of(64) {
            let expected = self.expected_files.load(Ordering::Relaxed);
            let of = if expected > 0 { format!(" of {}", count(expected.max(done))) } else { String::new() };
            self.bar.set_message(format!("{}{of} files", count(done)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_read_well() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(1 << 30), "1.0 GiB");
        assert_eq!(count(55012), "55 012");
        assert_eq!(count(999), "999");
        assert_eq!(readable(b"a\x1b[31m\nb\xff"), "a\\u{1b}[31m\\nb\\xff");
    }
}
