//! What there is on this machine: servers of databases, web roots, and what lies below its folders.

pub mod reproducible;
pub mod survey;
pub mod updatedb;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Folders are listed up to so many entries.
const MAX_ENTRIES: usize = 1000;
/// Configuration files of servers are read up to this length.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// PostgreSQL's port where nothing else is said.
const POSTGRESQL_PORT: u16 = 5432;

/// A machine as it can be seen below a folder.
#[derive(Debug, Clone)]
pub struct Machine {
    root: PathBuf,
}

/// A PostgreSQL cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its major version, where it is known.
    pub version: Option<String>,
    /// Its name.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// Whether its socket is there.
    pub has_socket: bool,
    /// Whether it is started with the machine.
    pub is_automatic: bool,
}

/// A MySQL or MariaDB server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MysqlServer {
    /// Its socket; `None` where only its data was found.
    pub socket: Option<PathBuf>,
}

impl Machine {
    /// Looks at what lies below a folder: `/` for this machine.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Machine { root: root.into() }
    }

    /// Returns where a path of the machine can be seen.
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let absolute = absolute.as_ref();
        match absolute.strip_prefix("/").unwrap_or(absolute) {
            nothing if nothing.as_os_str().is_empty() => self.root.clone(),
            below => self.root.join(below),
        }
    }

    /// Lists the PostgreSQL clusters that are configured as Debian does it, then those whose sockets are there.
    pub fn postgresql(&self) -> Vec<Cluster> {
        let mut clusters = BTreeMap::new();
        for version in entries(&self.path("/etc/postgresql")) {
            for folder in entries(&version) {
                let settings = read(&folder.join("postgresql.conf"));
                let (Some(settings), Some(name)) = (settings, file_name(&folder)) else { continue };
                let port = port_of(&settings).unwrap_or(POSTGRESQL_PORT);
                let start = read(&folder.join("start.conf")).unwrap_or_else(|| "auto".into());
                let is_automatic = start.lines().any(|line| line.trim() == "auto");
                let version = file_name(&version);
                clusters.insert(port, Cluster { version, name, port, has_socket: false, is_automatic });
            }
        }
        for socket in entries(&self.path("/var/run/postgresql")) {
            let name = file_name(&socket).unwrap_or_default();
            let Some(port) = name.strip_prefix(".s.PGSQL.").and_then(|port| port.parse().ok()) else { continue };
            let unknown = || {
                let name = format!("port-{port}");
                Cluster { version: None, name, port, has_socket: true, is_automatic: true }
            };
            clusters.entry(port).or_insert_with(unknown).has_socket = true;
        }
        clusters.into_values().collect()
    }

    /// Finds the MySQL or MariaDB server by its socket or its data.
    pub fn mysql(&self) -> Option<MysqlServer> {
        let sockets = ["/run/mysqld/mysqld.sock", "/var/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock"];
        let socket = sockets.into_iter().map(|path| self.path(path)).find(|path| path.exists());
        let has_data = is_mysql_data(&self.path("/var/lib/mysql"));
        (socket.is_some() || has_data).then_some(MysqlServer { socket })
    }

    /// Lists the folders of `/var/www` and `/srv`.
    pub fn web_roots(&self) -> Vec<PathBuf> {
        let folders = ["/var/www", "/srv"].into_iter().flat_map(|path| entries(&self.path(path)));
        folders.filter(|path| path.is_dir() && !path.is_symlink()).collect()
    }
}

/// Returns whether a folder holds the data of a MySQL or MariaDB server.
fn is_mysql_data(folder: &Path) -> bool {
    folder.join("ibdata1").exists() || folder.join("mysql").is_dir()
}

fn port_of(settings: &str) -> Option<u16> {
    // The last one counts, as for the server (config-setting(postgresql.conf)).
    settings.lines().rev().find_map(|line| {
        let rest = line.trim_start().strip_prefix("port")?.trim_start();
        let value = rest.strip_prefix('=').unwrap_or(rest).trim_start();
        let digits: String = value.trim_start_matches('\'').chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    })
}

/// Lists a folder in order; nothing where it cannot be listed.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(list) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = list.flatten().take(MAX_ENTRIES).map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn file_name(path: &Path) -> Option<String> {
    path.file_name().and_then(|name| name.to_str()).map(str::to_string)
}

fn read(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(MAX_FILE_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let machine = Machine::at(folder.path());
        (folder, machine)
    }

    #[test]
    fn servers_and_web_roots_are_found() {
        let (_folder, machine) = machine(&[
            ("etc/postgresql/15/main/postgresql.conf", "#port = 1\nport = 5433\t# x\n"),
            ("etc/postgresql/13/old/postgresql.conf", "port='5434'\n"),
            ("etc/postgresql/13/old/start.conf", "# x\ndisabled\n"),
            ("var/run/postgresql/.s.PGSQL.5433", ""),
            ("var/run/postgresql/.s.PGSQL.5433.lock", ""),
            ("var/run/postgresql/.s.PGSQL.6000", ""),
            ("var/lib/mysql/ibdata1", ""),
            ("var/lib/postgresql/15/main/PG_VERSION", "15"),
            ("var/www/html/index.html", ""),
            ("srv/shop/app.py", ""),
            ("srv/notes.txt", ""),
        ]);
        let cluster = |version: Option<&str>, name: &str, port, has_socket, is_automatic| Cluster {
            version: version.map(str::to_string),
            name: name.into(),
            port,
            has_socket,
            is_automatic,
        };
        let expected = [
            cluster(Some("15"), "main", 5433, true, true),
            cluster(Some("13"), "old", 5434, false, false),
            cluster(None, "port-6000", 6000, true, true),
        ];
        assert_eq!(machine.postgresql(), expected);
        assert_eq!(machine.mysql(), Some(MysqlServer { socket: None }));
        assert!(!is_mysql_data(&machine.path("/srv")));
        assert_eq!(machine.web_roots(), [machine.path("/var/www/html"), machine.path("/srv/shop")]);
    }

    #[test]
    fn an_empty_machine_has_nothing() {
        let (_folder, machine) = machine(&[]);
        assert!(machine.postgresql().is_empty() && machine.web_roots().is_empty());
        assert_eq!(machine.mysql(), None);
    }
}
