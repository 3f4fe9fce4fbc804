//! A log file that never grows beyond a bound: for machines where no journal takes what a run says.
//!
//! Several processes may write at once: each line is one write(2) at the file's end, and who moves files holds a lock.

pub mod repeats;

use crate::spelling::push_shown;
use crate::trust::folder::{PRIVATE, make_own, open_own};
use rustix::fs::{FlockOperation, OFlags, flock};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Result, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A file is put aside when it is longer than this.
const MAX_BYTES: u64 = 1 << 20;
/// So many files that were put aside are kept.
const KEPT_FILES: u32 = 5;
/// Each write is at the end of the file as it is then.
const APPEND: OFlags = OFlags::WRONLY.union(OFlags::APPEND).union(OFlags::CREATE);
/// A line is cut off after so many bytes.
const MAX_LINE_BYTES: usize = 16 << 10;

/// A log: `NAME.log`, and older ones as `NAME.log.1`, `NAME.log.2` and so on.
#[derive(Debug)]
pub struct Log {
    folder: PathBuf,
    name: OsString,
    max_bytes: u64,
    kept_files: u32,
    has_failed: AtomicBool,
}

impl Log {
    /// Names a log in a folder, which is made with the first line.
    pub fn open(folder: &Path, name: &str) -> Self {
        Log {
            folder: folder.to_path_buf(),
            name: format!("{name}.log").into(),
            max_bytes: MAX_BYTES,
            kept_files: KEPT_FILES,
            has_failed: AtomicBool::new(false),
        }
    }

    /// Names a log by the path of its file, which only its owner can read. What is no regular file, as /dev/null, is
    /// never put aside.
    pub fn at(path: &Path) -> Self {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Log {
            folder: folder.to_path_buf(),
            name: path.file_name().unwrap_or_default().to_os_string(),
            ..Log::open(folder, "")
        }
    }

    /// Sets other bounds: the length from which a file is put aside, and how many of those are kept, at
    /// least one.
    pub fn bounded(mut self, max_bytes: u64, kept_files: u32) -> Self {
        (self.max_bytes, self.kept_files) = (max_bytes, kept_files.max(1));
        self
    }

    /// Returns the path of the file that is written to.
    pub fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// Adds a line with the time and this process's id. A log that cannot be written is told once, as a warning, and
    /// stops nothing.
    pub fn line(&self, text: &str) {
        if let Err(error) = self.write(text)
            && !self.has_failed.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("The log {} cannot be written: {error}", self.path().display());
        }
    }

    /// Opens the file that is written to, and makes it for its owner alone.
    pub fn open_file(&self) -> Result<File> {
        // A device, as /dev/null, is taken as it is.
        if std::fs::metadata(self.path()).is_ok_and(|found| found.file_type().is_char_device()) {
            return File::options().append(true).open(self.path());
        }
        make_own(&self.folder, PRIVATE)?;
        open_own(&self.folder, &self.name, APPEND)
    }

    fn write(&self, text: &str) -> Result<()> {
        let now = jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S%:z");
        let mut line = format!("{now} {} ", std::process::id());
        for char in text.trim_end().chars() {
            if line.len() >= MAX_LINE_BYTES {
                line.push_str(" [cut off]");
                break;
            }
            push_shown(&mut line, char);
        }
        line.push('\n');
        let mut file = self.open_file()?;
        file.write_all(line.as_bytes())?;
        let written = file.metadata()?;
        if written.is_file() && written.len() > self.max_bytes {
            self.rotate()?;
        }
        Ok(())
    }

    /// Puts the file aside, unless another process has done so meanwhile. A process that still has it open writes its
    /// line where it is now.
    fn rotate(&self) -> Result<()> {
        let named = |before: &str, after: &str| {
            let mut name = OsString::from(before);
            name.push(&self.name);
            name.push(after);
            self.folder.join(name)
        };
        let lock = open_own(&self.folder, format!(".{}.lock", self.name.display()), APPEND)?;
        flock(&lock, FlockOperation::LockExclusive)?;
        if std::fs::metadata(self.path()).map_or(0, |file| file.len()) <= self.max_bytes {
            return Ok(());
        }
        let aside = |number: u32| named("", &format!(".{number}"));
        for number in (1..self.kept_files).rev() {
            if aside(number).exists() {
                std::fs::rename(aside(number), aside(number + 1))?;
            }
        }
        std::fs::rename(self.path(), aside(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn text_of(folder: &Path) -> String {
        let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
    }

    #[test]
    fn a_line_is_one_line_with_its_time_and_process() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(&folder.path().join("log"), "web");
        log.line("one\ntwo\x1b[31m\n");
        log.line("three");
        let text = std::fs::read_to_string(log.path()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with(&format!(" {} one\\ntwo\\u{{1b}}[31m", std::process::id())), "{text}");
        assert!(lines[0].starts_with("20") && lines[0].as_bytes()[10] == b' ');
        assert_eq!(std::fs::metadata(log.path()).unwrap().permissions().mode() & 0o177, 0);
        log.line(&"x".repeat(MAX_LINE_BYTES * 2));
        let text = std::fs::read_to_string(log.path()).unwrap();
        assert!(text.len() < MAX_LINE_BYTES + 1000 && text.ends_with("x [cut off]\n"));
    }

    #[test]
    fn no_line_is_lost_however_many_write_and_rotate() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let path = folder.path();
                scope.spawn(move || {
                    let log = Log::open(path, "web").bounded(2000, 100);
                    (0..100).for_each(|number| log.line(&format!("line <{thread}.{number}>")));
                    assert!(!log.has_failed.load(Ordering::Relaxed));
                });
            }
        });
        let text = text_of(folder.path());
        assert_eq!(text.lines().count(), 800);
        for number in (1..).take_while(|number| folder.path().join(format!("web.log.{number}")).exists()) {
            let aside = std::fs::metadata(folder.path().join(format!("web.log.{number}"))).unwrap();
            assert!(aside.len() > 2000, "{number} was put aside before it was full");
        }
        for (thread, number) in (0..8).flat_map(|thread| (0..100).map(move |number| (thread, number))) {
            assert!(text.contains(&format!("<{thread}.{number}>\n")), "{thread}.{number}");
        }
    }

    #[test]
    fn old_files_go() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), "web").bounded(100, 2);
        (0..50).for_each(|number| log.line(&format!("{number} {}", "x".repeat(100))));
        let text = text_of(folder.path());
        assert!(text.contains(" 49 x") && text.contains(" 48 x") && !text.contains(" 47 x"), "{text}");
    }

    #[test]
    fn a_log_of_any_name_is_put_aside_and_no_device_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my mount");
        let log = Log::at(&path).bounded(100, 2);
        (0..50).for_each(|number| log.line(&format!("{number} {}", "x".repeat(100))));
        assert_eq!(std::fs::metadata(folder.path().join("my mount.1")).unwrap().permissions().mode() & 0o77, 0);
        let text = text_of(folder.path());
        assert!(text.contains(" 49 x") && !text.contains(" 47 x"), "{text}");
        let null = Log::at(Path::new("/dev/null")).bounded(0, 1);
        null.line("nowhere");
        assert!(!null.has_failed.load(Ordering::Relaxed) && Path::new("/dev/null").exists());
    }

    #[test]
    fn a_log_that_cannot_be_written_stops_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let log = Log::open(&folder.path().join("file"), "web");
        log.line("lost");
        assert!(log.has_failed.load(Ordering::Relaxed));
        log.line("lost too");
    }
}
