//! The files of a server on this machine: its data folder, and what lies elsewhere and belongs to it.

use super::server::Server;
use crate::source::generated::ServerFolder;
use crate::source::servers::{Kind, Served, place_of, served};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Variables that name folders of a server's files.
const FOLDERS: [&str; 5] =
    ["datadir", "innodb_data_home_dir", "innodb_log_group_home_dir", "innodb_undo_directory", "aria_log_dir_path"];
/// How names of files begin that a server makes among its data
/// (<https://mariadb.com/kb/en/innodb-system-tablespaces/>,
/// <https://dev.mysql.com/doc/refman/8.4/en/data-directory.html>).
const MADE: [&str; 15] = [
    "ibdata",
    "ib_logfile",
    "ib_buffer_pool",
    "ibtmp",
    "undo",
    "aria_log",
    "mysql-bin.",
    "mariadb-bin.",
    "binlog.",
    "mysql.ibd",
    "mysql_upgrade_info",
    "mariadb_upgrade_info",
    "ddl_recovery",
    "multi-master.info",
    "tc.log",
];
/// How they end.
const MADE_ENDINGS: [&str; 6] = [".pid", ".err", ".sock", ".lower-test", ".dblwr", "-relay-bin.index"];

/// Returns the folders that hold a server's databases, where it runs on this machine: none where it cannot be told for
/// certain that they are this very server's. That is asked of the socket: which process listens on it.
pub fn folders(server: &Server) -> Vec<ServerFolder> {
    // The socket of a container's server is not the one that has its path here.
    let is_here = !server.connection.is_elsewhere && server.settings.exec.is_none();
    let Some(socket) = server.connection.socket.as_ref().filter(|_| is_here) else {
        return Vec::new();
    };
    let Some(listener) = listener(socket) else { return Vec::new() };
    let is_it = |known: &Served| known.kind == Kind::Mysql && known.process == listener;
    let Some(served) = served().into_iter().find(is_it) else { return Vec::new() };
    let list = FOLDERS.map(|name| format!("'{name}'")).join(", ");
    let Ok(rows) = server.ask(&format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({list})")) else {
        return Vec::new();
    };
    let told: BTreeMap<String, PathBuf> = rows
        .into_iter()
        .filter_map(|row| <[String; 2]>::try_from(row).ok())
        .filter(|[_, path]| !matches!(&**path, "" | "NULL"))
        .map(|[name, path]| (name, PathBuf::from(path)))
        .collect();
    let Some(data) = told.get("datadir") else { return Vec::new() };
    if place_of(&served.seen(data)) != Some(served.place) {
        return Vec::new();
    }
    let path = served.path.clone().unwrap_or_else(|| served.folder.clone());
    let mut folders = vec![ServerFolder { place: served.place, path, keeps: Some(is_own_of_data) }];
    for path in FOLDERS[1..].iter().filter_map(|name| told.get(*name)) {
        let path = data.join(path);
        let Some(place) = place_of(&served.seen(&path)) else { continue };
        if folders.iter().all(|known| known.place != place) {
            folders.push(ServerFolder { place, path, keeps: Some(is_own_elsewhere) });
        }
    }
    folders
}

/// Returns the process that listens on a socket.
fn listener(socket: &Path) -> Option<u32> {
    let stream = UnixStream::connect(socket).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    u32::try_from(peer.pid.as_raw_nonzero().get()).ok()
}

/// Returns whether a name of a data folder is something that people put there, as certificates. A database's folder has
/// a name of letters, digits and `@` (<https://mariadb.com/kb/en/identifier-to-file-name-mapping/>).
fn is_own_of_data(name: &OsStr, is_folder: bool) -> bool {
    let Some(name) = name.to_str() else { return true };
    match is_folder {
        true => {
            !(name.starts_with('#') || name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_@$".contains(&byte)))
        }
        false => !is_made(name),
    }
}

/// The same of a folder that may have others' files beside the server's.
fn is_own_elsewhere(name: &OsStr, is_folder: bool) -> bool {
    let Some(name) = name.to_str() else { return true };
    !(if is_folder { name.starts_with("#innodb_") } else { is_made(name) })
}

fn is_made(name: &str) -> bool {
    let is_binary_log = || name.rsplit_once("-bin.").is_some_and(|(_, end)| end.bytes().all(|c| c.is_ascii_digit()));
    MADE.iter().any(|beginning| name.starts_with(beginning))
        || MADE_ENDINGS.iter().any(|ending| name.ends_with(ending))
        || is_binary_log()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_put_among_the_data_is_kept() {
        let is_kept = |name: &str, is_folder| is_own_of_data(OsStr::new(name), is_folder);
        for made in ["ibdata1", "aria_log.00000001", "aria_log_control", "db-relay-bin.000002", "vm.pid", "undo001"] {
            assert!(!is_kept(made, false), "{made}");
        }
        for made in ["app", "a@002db", "#innodb_redo", "mysql"] {
            assert!(!is_kept(made, true), "{made}");
        }
        for own in ["server-key.pem", "my.cnf", "rescue.sql"] {
            assert!(is_kept(own, false), "{own}");
        }
        assert!(is_kept(".ssh", true) && is_kept("old-dumps", true));
        assert!(is_own_elsewhere(OsStr::new("photos"), true) && !is_own_elsewhere(OsStr::new("ib_logfile0"), false));
    }
}
