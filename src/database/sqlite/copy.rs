//! One consistent copy of an SQLite database that others may write to.

use crate::database::local::Temporary;
use crate::database::manifest::Record;
use crate::error::{Context, Error, ErrorKind, Result};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The most faults an error names.
const MAX_FAULTS: usize = 5;

/// How long to wait before a lock is tried for again. Constant writers leave gaps of milliseconds: SQLite's own
/// waiting, of up to a tenth of a second at a time, misses most of them.
const BUSY_PAUSE: Duration = Duration::from_millis(1);

/// A copy to be made.
pub struct Copying {
    /// The database's file.
    pub path: PathBuf,
    /// Whether the copy is verified.
    pub is_checked: bool,
    /// How long to wait for others.
    pub wait: Duration,
    /// Where it is made.
    pub temporary: Temporary,
}

/// How a database is laid out.
struct Layout {
    page_bytes: u64,
    page_count: u64,
    journal_mode: String,
}

impl Copying {
    /// Makes the copy, verifies it, and returns it. It has no name any more: it is gone when it is closed.
    pub fn start(&self, record: &Record) -> Result<File> {
        let source = self.open()?;
        let known = self.layout(&source)?;
        let bytes = known.page_bytes * known.page_count;
        let is_wal = known.journal_mode == "wal";
        record.change(|manifest| {
            manifest.database_bytes = Some(bytes);
            manifest.page_bytes = Some(known.page_bytes);
            manifest.page_count = Some(known.page_count);
            manifest.journal_mode = Some(known.journal_mode);
        });
        self.temporary.check_room(bytes)?;
        let folder = self.temporary.make(None)?;
        let path = folder.path().join("copy");
        let copying = |error| self.failed("copy it", error);
        let mut copy = Connection::open(&path).map_err(copying)?;
        // It is thrown away where anything fails.
        copy.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF").map_err(copying)?;
        {
            let backup = Backup::new(&source, &mut copy).map_err(copying)?;
            match backup.step(-1).map_err(copying)? {
                StepResult::Done => {}
                // The read transaction is open, and nobody else knows of the copy.
                _ => return Err(Error::new(ErrorKind::Busy, "Others have locked it: set a longer `busy-timeout`")),
            }
        }
        drop(source);
        if is_wal {
            self.leave_wal(copy, &path)?;
        } else {
            copy.close().map_err(|(_, error)| copying(error))?;
        }
        if self.is_checked {
            self.check(&path)?;
        }
        let opening =
            || format!("Cannot read the copy of {} in {}", self.path.display(), self.temporary.folder.display());
        let file = File::open(&path).context(opening)?;
        // The folder goes, and the file with its last descriptor.
        drop(folder);
        Ok(file)
    }

    /// Opens the database for a moment; returns its journal mode.
    pub fn look(&self) -> Result<String> {
        Ok(self.layout(&self.open()?)?.journal_mode)
    }

    /// Opens the database with a read transaction, which no writer can make begin again.
    ///
    /// POSIX locks belong to a process: while this is open, nothing else of it may open and close the database's file.
    fn open(&self) -> Result<Connection> {
        let begin = |flags: OpenFlags| {
            let source = Connection::open_with_flags(&self.path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            source.busy_timeout(Duration::ZERO)?;
            source.execute_batch("BEGIN")?;
            let until = Instant::now() + self.wait;
            let is_busy = |error: &rusqlite::Error| error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
            loop {
                match source.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())) {
                    Err(error) if is_busy(&error) && Instant::now() < until => std::thread::sleep(BUSY_PAUSE),
                    read => return read.map(|()| source),
                }
            }
        };
        if self.is_idle_wal() {
            return begin(OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|error| self.failed("open it", error));
        }
        let read_only = begin(OpenFlags::SQLITE_OPEN_READ_ONLY);
        let needs_repair = |error: &rusqlite::Error| {
            // A crash has left a journal that must be rolled back before anybody can read.
            let codes = [ErrorCode::ReadOnly, ErrorCode::CannotOpen];
            error.sqlite_error_code().is_some_and(|code| codes.contains(&code))
        };
        match read_only {
            Err(error) if needs_repair(&error) => begin(OpenFlags::SQLITE_OPEN_READ_WRITE),
            opened => opened,
        }
        .map_err(|error| self.failed("open it", error))
    }

    /// Returns whether it is in WAL mode and nothing is in its log. Reading makes a log then, which SQLite itself takes away
    /// at the end where nobody else has the database open, and the database may be written to: no page of it is changed,
    /// and where it may not be written to it is opened for reading alone (<https://sqlite.org/c3ref/open.html>).
    fn is_idle_wal(&self) -> bool {
        let real = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mut log = real.into_os_string();
        log.push("-wal");
        let is_empty = std::fs::metadata(log).map_or(true, |found| found.len() == 0);
        let mut header = [0; 20];
        let read = File::open(&self.path).and_then(|mut file| file.read_exact(&mut header));
        // The versions that reading and writing need: 2 is WAL.
        is_empty && read.is_ok() && header[18..] == [2, 2]
    }

    fn layout(&self, source: &Connection) -> Result<Layout> {
        let ask = |name: &str| source.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let read = || {
            let journal_mode = source.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
            let number = |number: i64| u64::try_from(number).unwrap_or(0);
            let (page_bytes, page_count) = (number(ask("page_size")?), number(ask("page_count")?));
            Ok(Layout { page_bytes, page_count, journal_mode })
        };
        read().map_err(|error| self.failed("read it", error))
    }

    /// Makes the copy one that opens where nothing can be written beside it.
    fn leave_wal(&self, copy: Connection, path: &Path) -> Result<()> {
        let leaving = |error| self.failed("change the journal mode of its copy", error);
        // The header says WAL only to who opens the file anew.
        copy.close().map_err(|(_, error)| leaving(error))?;
        let copy = Connection::open(path).map_err(leaving)?;
        let mode: String =
            copy.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get(0)).map_err(leaving)?;
        copy.close().map_err(|(_, error)| leaving(error))?;
        if mode == "delete" {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Io, format!("The copy's journal mode is {mode}, not delete")))
    }

    fn check(&self, path: &Path) -> Result<()> {
        let checking = |error| self.failed("verify its copy", error);
        let copy = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(checking)?;
        let sql = format!("PRAGMA integrity_check({MAX_FAULTS})");
        let mut statement = copy.prepare(&sql).map_err(checking)?;
        let told = statement.query_map([], |row| row.get::<_, String>(0)).map_err(checking)?;
        let told: Vec<String> = told.collect::<Result<_, _>>().map_err(checking)?;
        if told == ["ok"] {
            return Ok(());
        }
        let message = format!(
            "SQLite's integrity_check finds it damaged: {}; mend it by `sqlite3 FILE .recover`, or back it up as it is \
             by `integrity-check = false`",
            told.join("; ")
        );
        Err(Error::damaged(message))
    }

    fn failed(&self, attempted: &str, error: rusqlite::Error) -> Error {
        let (kind, advice) = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => {
                let shown = self.temporary.folder.display();
                (ErrorKind::Full, format!(": there is no room in {shown}, set `temporary-dir` in the profile"))
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                (ErrorKind::Busy, ": others hold a lock, set a longer `busy-timeout`".into())
            }
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) => {
                (ErrorKind::Denied, ": run bakfs as root, or as the owner of the database and its folder".into())
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                (ErrorKind::Damaged, ": mend it by `sqlite3 FILE .recover`".into())
            }
            _ => (ErrorKind::Io, String::new()),
        };
        Error::new(kind, format!("Cannot {attempted}{advice}")).because(error)
    }
}
