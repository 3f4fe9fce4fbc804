//! Progress on a terminal: how much of how much, how long still, and the file at hand, fitted to the terminal's width.

use super::output::{count, counted, readable, readable_path};
use crate::monitor::Monitor;
use crate::quantity::size;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use parking_lot::Mutex;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The width where the terminal does not tell its own: that of a VT100.
const DEFAULT_COLUMNS: usize = 80;
/// Work must have gone on for so long before a guess of what is left is worth showing.
const MIN_GUESS_SECS: u64 = 2;

/// Shows progress on a terminal, and troubles always.
pub struct Progress {
    bar: ProgressBar,
    seen: Arc<Seen>,
}

/// What has been told so far.
#[derive(Debug, Default)]
struct Seen {
    expected_files: AtomicU64,
    expected_bytes: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
    at: Mutex<PathBuf>,
}

/// What is shown at one moment.
#[derive(Debug, Clone, Copy, Default)]
struct Shown {
    files: u64,
    bytes: u64,
    /// Zero where it is not known.
    expected_files: u64,
    expected_bytes: u64,
    bytes_per_sec: f64,
    elapsed_secs: u64,
}

impl Progress {
    /// Makes a monitor; `shown` says whether progress is wanted where there is a terminal.
    pub fn new(verb: &str, shown: bool) -> Self {
        let visible = shown && std::io::stderr().is_terminal();
        let target = if visible { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let seen = Arc::new(Seen::default());
        if let Ok(style) = ProgressStyle::with_template("{line}\n{file}") {
            let (verb, of_line, of_file) = (verb.to_string(), seen.clone(), seen.clone());
            let line = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let shown = of_line.shown(state.per_sec(), state.elapsed());
                // A text has room for what is written to it.
                let _ = out.write_str(&line(&verb, &shown, columns()));
            };
            let file = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = out.write_str(&fitted(&of_file.at.lock(), columns()));
            };
            bar.set_style(style.with_key("line", line).with_key("file", file));
        }
        if visible {
            bar.enable_steady_tick(Duration::from_millis(250));
        }
        Progress { bar, seen }
    }

    /// Prints a line to standard output, above the bar.
    pub fn print(&self, line: &str) {
        self.bar.suspend(|| say!("{line}"));
    }

    /// Shows how far it came, and takes the bar away.
    pub fn finish(&self) {
        if self.is_watched() && !self.bar.is_finished() {
            self.bar.force_draw();
        }
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
        self.bar.suspend(|| warn!("bakfs: {}: {message}", readable_path(path)));
    }

    fn is_watched(&self) -> bool {
        !self.bar.is_hidden()
    }

    fn at(&self, path: &Path) {
        let mut at = self.seen.at.lock();
        at.clear();
        at.push(path);
    }

    fn expect(&self, files: u64, bytes: u64) {
        self.seen.expected_files.store(files, Ordering::Relaxed);
        self.seen.expected_bytes.store(bytes, Ordering::Relaxed);
    }

    fn advance(&self, files: u64, bytes: u64) {
        if self.is_watched() {
            self.seen.files.fetch_add(files, Ordering::Relaxed);
            self.seen.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.bar.inc(bytes);
        }
    }
}

impl Seen {
    fn shown(&self, bytes_per_sec: f64, elapsed: Duration) -> Shown {
        Shown {
            files: self.files.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            expected_files: self.expected_files.load(Ordering::Relaxed),
            expected_bytes: self.expected_bytes.load(Ordering::Relaxed),
            bytes_per_sec,
            elapsed_secs: elapsed.as_secs(),
        }
    }
}

impl Shown {
    /// Returns the share that is done, as a whole number of hundredths; `None` where the total is not known, or was
    /// taken from an earlier state and is too small.
    fn percent(&self) -> Option<u64> {
        let (done, all) = match self.expected_bytes {
            0 => (self.files, self.expected_files),
            bytes => (self.bytes, bytes),
        };
        (all > 0 && done <= all).then(|| (u128::from(done) * 100 / u128::from(all)) as u64)
    }

    /// Returns the seconds that are left if it goes on as it went.
    fn secs_left(&self) -> Option<u64> {
        self.percent().filter(|_| self.expected_bytes > 0 && self.elapsed_secs >= MIN_GUESS_SECS)?;
        let secs = (self.expected_bytes - self.bytes) as f64 / self.bytes_per_sec;
        secs.is_finite().then_some(secs.ceil() as u64)
    }
}

/// Returns the width of the terminal that shows progress.
fn columns() -> usize {
    let width = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    if width == 0 { DEFAULT_COLUMNS } else { width }
}

/// Writes a length of time in the two largest of its units, as `2 h 05 min`.
fn length(secs: u64) -> String {
    match secs {
        0..60 => format!("{secs} s"),
        60..3600 => format!("{} min {:02} s", secs / 60, secs % 60),
        3600..86_400 => format!("{} h {:02} min", secs / 3600, secs / 60 % 60),
        _ => format!("{} d {:02} h", secs / 86_400, secs / 3600 % 24),
    }
}

/// Writes how far it is: as much as the width has room for, what matters most first.
fn line(verb: &str, shown: &Shown, columns: usize) -> String {
    let of = |done: String, all: u64, all_text: String| {
        if all > 0 && shown.percent().is_some() { format!("{done} of {all_text}") } else { done }
    };
    let share = shown.percent().map(|percent| format!("{percent} %"));
    let bytes = of(size(shown.bytes), shown.expected_bytes, size(shown.expected_bytes));
    let files = match shown.percent().filter(|_| shown.expected_files > 0) {
        Some(_) => format!("{} of {}", count(shown.files), counted(shown.expected_files, "entry")),
        None => counted(shown.files, "entry"),
    };
    let left = match shown.secs_left() {
        Some(secs) => format!("{} left", length(secs)),
        None => length(shown.elapsed_secs),
    };
    let rate = format!("{}/s", size(shown.bytes_per_sec.max(0.0) as u64));
    // By weight; shown in the order of the places.
    let has_bytes = shown.bytes > 0 || shown.expected_bytes > 0;
    let parts = [
        (0, Some(verb.to_string())),
        (1, share),
        (5, Some(left)),
        (3, has_bytes.then_some(bytes)),
        (2, (shown.files > 0).then_some(files)),
        (4, has_bytes.then_some(rate)),
    ];
    let mut chosen: Vec<(usize, String)> = Vec::new();
    let mut used = 0;
    for (place, text) in parts {
        let Some(text) = text else { continue };
        let width = width(&text) + if chosen.is_empty() { 0 } else { 2 };
        // The last column stays free: a terminal may begin a new line after it.
        if chosen.is_empty() || used + width < columns {
            used += width;
            chosen.push((place, text));
        }
    }
    chosen.sort_by_key(|(place, _)| *place);
    let texts: Vec<String> = chosen.into_iter().map(|(_, text)| text).collect();
    texts.join("  ").chars().take(columns.saturating_sub(1)).collect()
}

/// Returns the columns a text takes at most: what is no ASCII may be wide.
fn width(text: &str) -> usize {
    text.chars().map(|character| if character.is_ascii() { 1 } else { 2 }).sum()
}

/// Writes a path in a width: where it is too long its beginning is left out, for the end tells more.
fn fitted(path: &Path, columns: usize) -> String {
    let text = readable(path.as_os_str().as_bytes());
    let room = columns.saturating_sub(1);
    if width(&text) <= room {
        return text;
    }
    let mut used = 3;
    let mut from = text.len();
    for (at, character) in text.char_indices().rev() {
        used += if character.is_ascii() { 1 } else { 2 };
        if used > room {
            break;
        }
        from = at;
    }
    format!("...{}", &text[from..]).chars().take(room).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: Shown = Shown {
        files: 12_345,
        bytes: 3 << 30,
        expected_files: 1_234_567,
        expected_bytes: 6 << 30,
        bytes_per_sec: 31_457_280.0,
        elapsed_secs: 102,
    };

    #[test]
    fn a_line_has_share_time_left_total_and_rate_in_eighty_columns() {
        assert_eq!(line("Backing up", &HALF, 80), "Backing up  50 %  3.0 GiB of 6.0 GiB  30.0 MiB/s  1 min 43 s left");
        assert_eq!(
            line("Backing up", &HALF, 120),
            "Backing up  50 %  12 345 of 1 234 567 entries  3.0 GiB of 6.0 GiB  30.0 MiB/s  1 min 43 s left"
        );
    }

    #[test]
    fn the_most_important_is_left_in_forty_columns_and_in_fewer() {
        assert_eq!(line("Backing up", &HALF, 40), "Backing up  50 %  1 min 43 s left");
        for columns in 1..200 {
            assert!(
                line("Running a-profile-of-a-long-name", &HALF, columns).chars().count() < columns.max(2),
                "{columns}"
            );
        }
    }

    #[test]
    fn no_total_and_one_that_was_too_small_give_no_share() {
        let first = Shown { expected_files: 0, expected_bytes: 0, ..HALF };
        assert_eq!(line("Backing up", &first, 80), "Backing up  12 345 entries  3.0 GiB  30.0 MiB/s  1 min 42 s");
        let grown = Shown { bytes: 7 << 30, ..HALF };
        assert_eq!(line("Backing up", &grown, 80), "Backing up  12 345 entries  7.0 GiB  30.0 MiB/s  1 min 42 s");
        let just_begun = Shown { elapsed_secs: 0, bytes: 0, bytes_per_sec: 0.0, ..HALF };
        assert!(!line("Backing up", &just_begun, 80).contains("left"));
        let whole = Shown { bytes: 6 << 30, ..HALF };
        assert!(line("Backing up", &whole, 80).contains("100 %"));
    }

    #[test]
    fn paths_keep_their_end_and_upset_no_terminal() {
        assert_eq!(fitted(Path::new("/etc/hosts"), 40), "/etc/hosts");
        assert_eq!(fitted(Path::new("/srv/media/2026/11/a-name.jpeg"), 20), "...6/11/a-name.jpeg");
        assert_eq!(fitted(Path::new("/a\n\u{1b}[2Jb"), 40), "/a\\n\\u{1b}[2Jb");
        let wide = "/写真/".repeat(30);
        for columns in 4..100 {
            assert!(width(&fitted(Path::new(&wide), columns)) < columns, "{columns}");
        }
    }

    #[test]
    fn lengths_of_time_have_two_units() {
        for (secs, text) in [(5, "5 s"), (65, "1 min 05 s"), (7500, "2 h 05 min"), (90_000, "1 d 01 h")] {
            assert_eq!(length(secs), text);
        }
    }
}
