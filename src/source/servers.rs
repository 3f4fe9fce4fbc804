//! Folders of database servers' own files, and whether a server runs on one.
//!
//! A server's working folder is its data folder (PostgreSQL: `ChangeToDataDir` in postmaster.c; MySQL and MariaDB:
//! `my_setwd` in mysqld.cc). Compared by device and inode, it is found under whatever name: a link, a bind mount, or a
//! container's.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A kind of server, known by its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL.
    Postgresql,
    /// MySQL and MariaDB.
    Mysql,
}

impl Kind {
    /// Returns whose data folder has such names in it.
    pub fn of_names(has: impl Fn(&str) -> bool) -> Option<Self> {
        if has("PG_VERSION") && has("global") {
            return Some(Kind::Postgresql);
        }
        (has("ibdata1") || has("mysql.ibd")).then_some(Kind::Mysql)
    }

    /// Returns whose data folder it is.
    pub fn of_folder(folder: &Path) -> Option<Self> {
        Self::of_names(|name| folder.join(name).symlink_metadata().is_ok())
    }

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Postgresql => "PostgreSQL",
            Kind::Mysql => "MySQL",
        }
    }

    /// The table of the configuration that dumps it.
    pub fn table(self) -> &'static str {
        match self {
            Kind::Postgresql => "postgresql",
            Kind::Mysql => "mysql",
        }
    }

    fn of_program(name: &str) -> Option<Self> {
        match name {
            "postgres" | "postmaster" => Some(Kind::Postgresql),
            "mysqld" | "mariadbd" => Some(Kind::Mysql),
            _ => None,
        }
    }
}

/// A data folder a server runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The kind of server.
    pub kind: Kind,
    /// A process that works in it.
    pub process: u32,
    /// The folder's device and inode.
    pub place: (u64, u64),
    /// The folder, as the process's own: it can be followed from here wherever that process sees it.
    pub folder: PathBuf,
    /// Its path on this machine; `None` where it has another one here than for the server.
    pub path: Option<PathBuf>,
}

impl Served {
    /// Returns where a path of the server's can be followed from here.
    pub fn seen(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.process));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// Lists the data folders servers run on, as far as this user may see them.
pub fn served() -> Vec<Served> {
    let mut found: Vec<Served> = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let program = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let Some(kind) = Kind::of_program(program.trim_end()) else { continue };
        let folder = entry.path().join("cwd");
        let Ok(metadata) = std::fs::metadata(&folder) else { continue };
        let place = (metadata.dev(), metadata.ino());
        if Kind::of_folder(&folder) != Some(kind) || found.iter().any(|known| known.place == place) {
            continue;
        }
        let path = std::fs::read_link(&folder).ok().filter(|path| place_of(path) == Some(place));
        found.push(Served { kind, process, place, folder, path });
    }
    found
}

/// Returns a file's device and inode.
pub fn place_of(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Returns whether a name of a PostgreSQL data folder is something that people put there, as its configuration: all
/// that initdb and the server make is left out where dumps stand for it
/// (<https://www.postgresql.org/docs/current/storage-file-layout.html>).
pub fn is_own_of_postgresql(name: &OsStr, is_folder: bool) -> bool {
    let Some(name) = name.to_str() else { return true };
    if is_folder {
        // `pg_log` is where old versions keep their logs.
        return !(name == "base" || name == "global" || name.starts_with("pg_") && name != "pg_log");
    }
    let made = ["PG_VERSION", "postmaster.pid", "postmaster.opts", "current_logfiles", "pg_wal", "pg_xlog"];
    !made.contains(&name)
}
