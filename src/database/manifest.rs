//! A dump and the manifest beside it, which is made when the dump is.

use crate::error::{Context, Error, Result};
use crate::source::generated::{Content, Generated, Lacks};
use parking_lot::Mutex;
use serde::Serialize;
use std::ffi::OsStr;
use std::io::{Cursor, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tempfile::TempDir;

/// The most tables a manifest names.
pub const MAX_TABLES: usize = 10_000;

/// What is told of a dump, as JSON. What a source does not know is `null`, or left out where it never could.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Manifest {
    /// What was dumped, as `postgresql`.
    pub kind: &'static str,
    /// The database's name, or its file.
    pub database: String,
    /// How the dump is written, as `custom`.
    pub format: &'static str,
    /// The server's version.
    pub server_version: Option<String>,
    /// The program that made the dump, with its version.
    pub program: Option<String>,
    /// When the dump was begun.
    pub started: Option<String>,
    /// How long it took, in seconds.
    pub duration_secs: f64,
    /// The dump's length.
    pub dump_bytes: u64,
    /// The database's size at the server: with indexes and what is free in it.
    pub database_bytes: Option<u64>,
    /// What is a PostgreSQL database's and not in it: owner, encoding, rights, settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<serde_json::Value>,
    /// The server's estimates of its tables' rows; at most 10 000 tables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<Table>,
    /// The exported snapshot that was dumped.
    pub snapshot: Option<String>,
    /// The transactions it sees (`txid_current_snapshot`): equal where two dumps of a cluster show one moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moment: Option<String>,
    /// The length of an SQLite database's pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_bytes: Option<u64>,
    /// How many there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_count: Option<u64>,
    /// The journal mode of the SQLite database that was copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal_mode: Option<String>,
    /// What should be known before the dump is relied on.
    pub notes: Vec<String>,
    /// Why there is no dump.
    pub error: Option<String>,
}

/// A table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Table {
    /// Its name, with that of its schema where there are schemas.
    pub name: String,
    /// Its rows; `None` where the server has not counted yet.
    pub estimated_rows: Option<u64>,
}

/// The manifest of a dump while it is made.
#[derive(Clone)]
pub struct Record {
    manifest: Arc<Mutex<Manifest>>,
    lacks: Lacks,
}

impl Record {
    /// Changes what is told.
    pub fn change(&self, change: impl FnOnce(&mut Manifest)) {
        change(&mut self.manifest.lock());
    }

    /// Adds what should be known.
    pub fn note(&self, text: impl Into<String>) {
        let text = text.into();
        self.change(|manifest| manifest.notes.push(text));
    }

    /// Adds what the dump lacks, and what would help: it is told as what is missing of the snapshot.
    pub fn lack(&self, text: impl Into<String>) {
        let text = text.into();
        self.lacks.lock().push(text.clone());
        self.note(text);
    }

    fn begin(&self) {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        self.change(|manifest| {
            manifest.started = Some(now);
            manifest.error = Some("the dump was not made to its end".into());
        });
    }

    fn end(&self, started: Instant, outcome: Result<u64, String>) {
        self.change(|manifest| {
            manifest.duration_secs = (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
            match outcome {
                Ok(bytes) => (manifest.dump_bytes, manifest.error) = (bytes, None),
                Err(error) => manifest.error = Some(error),
            }
        });
    }

    fn json(&self) -> Result<Vec<u8>> {
        let written = serde_json::to_vec_pretty(&*self.manifest.lock()).map_err(std::io::Error::other);
        let mut text = written.context(|| "Cannot write a dump's manifest".into())?;
        text.push(b'\n');
        Ok(text)
    }
}

/// A dump to be made: where, whose, and how errors call it.
pub struct Subject {
    /// Names below `/databases`.
    pub path: Vec<Vec<u8>>,
    /// The owner and group.
    pub owner: (u32, u32),
    /// What it is, as ``the database `app` of the PostgreSQL cluster `main` ``.
    pub title: String,
    /// What is known of it beforehand.
    pub manifest: Manifest,
}

/// A dump and its manifest.
pub struct Unit {
    /// The dump.
    pub dump: Generated,
    /// Its manifest, made after it.
    pub manifest: Generated,
    /// The database's size at the server.
    pub database_bytes: Option<u64>,
}

/// Returns names below `/databases` as a path.
pub fn absolute(path: &[Vec<u8>]) -> PathBuf {
    path.iter().fold(PathBuf::from("/"), |path, name| path.join(OsStr::from_bytes(name)))
}

/// Returns the names of a path below `/databases`.
pub fn names(kind: &str, rest: &[&[u8]]) -> Vec<Vec<u8>> {
    ["databases".as_bytes(), kind.as_bytes()].into_iter().chain(rest.iter().copied()).map(<[u8]>::to_vec).collect()
}

impl Subject {
    fn unit(self, content: impl FnOnce(Record, String) -> Content) -> Unit {
        let mut beside = self.path.clone();
        if let Some(name) = beside.last_mut() {
            name.extend(b".json");
        }
        let database_bytes = self.manifest.database_bytes;
        let manifest = Manifest { error: Some("the dump was not begun".into()), ..self.manifest };
        let record = Record { manifest: Arc::new(Mutex::new(manifest)), lacks: Lacks::default() };
        let lacks = record.lacks.clone();
        let shown = record.clone();
        let tell = move || Ok(Box::new(Cursor::new(shown.json()?)) as Box<dyn Read + Send>);
        let owner = self.owner;
        let content_of_note = Content::Stream(Box::new(tell));
        let manifest =
            Generated { path: beside, owner, is_note: true, lacks: Lacks::default(), content: content_of_note };
        let dump = Generated { path: self.path, owner, is_note: false, lacks, content: content(record, self.title) };
        Unit { dump, manifest, database_bytes }
    }

    /// Makes a dump that is a stream, with its manifest.
    pub fn stream(self, start: impl FnOnce(&Record) -> Result<Box<dyn Read + Send>> + Send + 'static) -> Unit {
        self.unit(|record, title| {
            Content::Stream(Box::new(move || {
                let started = Instant::now();
                record.begin();
                match start(&record) {
                    Ok(inner) => Ok(Box::new(Recorded { inner, record, title, started, bytes: 0 }) as _),
                    Err(error) => Err(failed(&record, &title, started, error)),
                }
            }))
        })
    }

    /// Makes a dump that is a folder, with its manifest.
    pub fn folder(self, fill: impl FnOnce(&Record) -> Result<TempDir> + Send + 'static) -> Unit {
        self.unit(|record, title| {
            Content::Folder(Box::new(move || {
                let started = Instant::now();
                record.begin();
                let filled = fill(&record).and_then(|folder| Ok((length(folder.path())?, folder)));
                let (bytes, folder) = filled.map_err(|error| failed(&record, &title, started, error))?;
                record.end(started, Ok(bytes));
                Ok(folder)
            }))
        })
    }
}

fn failed(record: &Record, title: &str, started: Instant, error: Error) -> Error {
    let error = Error::new(error.kind(), format!("Cannot dump {title}")).because(error);
    record.end(started, Err(error.chain()));
    error
}

/// Returns the length of the files of a folder.
fn length(folder: &Path) -> Result<u64> {
    let reading = || format!("Cannot read the folder {}", folder.display());
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).context(reading)? {
        bytes += entry.and_then(|entry| entry.metadata()).context(reading)?.len();
    }
    Ok(bytes)
}

/// A dump's stream; how it ends is recorded.
struct Recorded {
    inner: Box<dyn Read + Send>,
    record: Record,
    title: String,
    started: Instant,
    bytes: u64,
}

impl Read for Recorded {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(0) if !buffer.is_empty() => self.record.end(self.started, Ok(self.bytes)),
            Ok(len) => {
                self.bytes += len as u64;
                return Ok(len);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                let error = Error::of_read("Cannot read it", error);
                return Err(std::io::Error::other(failed(&self.record, &self.title, self.started, error)));
            }
        }
        Ok(0)
    }
}
