//! The files of a cluster on this machine: its data folder, and what lies elsewhere and belongs to it.

use super::programs::Version;
use super::server::{Facts, Server};
use crate::source::generated::ServerFolder;
use crate::source::servers::{Kind, Served, is_own_of_postgresql, place_of, served};
use serde::Deserialize;
use std::io::Read;
use std::path::Path;

/// How long after its process a server may say it was started: shared memory is made before.
const START_SECS: i64 = 300;
/// `DB_IN_PRODUCTION` of pg_control (src/include/catalog/pg_control.h).
const IN_PRODUCTION: u32 = 6;

/// What tells a server from all others.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Identity {
    /// Set by initdb; standbys share it.
    system: String,
    /// When it was started, in seconds since 1970.
    started_secs: i64,
    port: String,
    is_standby: bool,
}

const IDENTITY: &str = "SELECT json_build_object(
    'system', (SELECT system_identifier::text FROM pg_catalog.pg_control_system()),
    'started_secs', extract(epoch FROM pg_catalog.pg_postmaster_start_time())::bigint,
    'port', current_setting('port'), 'is_standby', pg_catalog.pg_is_in_recovery())";

/// Returns the folders that hold the databases of a server, where it runs on this machine: none where it cannot be told
/// for certain which server's they are, as through a tunnel or with another's identical paths.
pub fn folders(server: &Server, facts: &Facts) -> Vec<ServerFolder> {
    let Ok(identity) = server.ask::<Identity>(&facts.asked_in, IDENTITY) else { return Vec::new() };
    let is_same = |served: &Served| served.kind == Kind::Postgresql && is_of(&served.folder, &identity);
    let mut same = served().into_iter().filter(is_same);
    match (same.next(), same.next()) {
        (Some(served), None) => all_of(&served, Version { number: facts.version_num }),
        _ => Vec::new(),
    }
}

/// Compares with `postmaster.pid` (src/include/utils/pidfile.h) and the beginning of `pg_control`.
/// That is in the machine's byte order: where it is not little-endian, no folder is known and all are kept.
fn is_of(folder: &Path, identity: &Identity) -> bool {
    let text = std::fs::read_to_string(folder.join("postmaster.pid")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let [_, _, started, port, ..] = lines[..] else { return false };
    let is_then = started.parse::<i64>().is_ok_and(|secs| (-1..START_SECS).contains(&(identity.started_secs - secs)));
    let mut control = [0; 20];
    let read = std::fs::File::open(folder.join("global/pg_control")).and_then(|mut file| file.read_exact(&mut control));
    let [s0, s1, s2, s3, s4, s5, s6, s7, .., state0, state1, state2, state3] = control;
    let system = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    let is_production = u32::from_le_bytes([state0, state1, state2, state3]) == IN_PRODUCTION;
    read.is_ok()
        && is_then
        && port == identity.port
        && system.to_string() == identity.system
        && is_production != identity.is_standby
}

/// Lists the data folder, the tablespaces of this version, and the log of transactions where it lies elsewhere.
fn all_of(served: &Served, version: Version) -> Vec<ServerFolder> {
    let path = served.path.clone().unwrap_or_else(|| served.folder.clone());
    let mut folders = vec![ServerFolder { place: served.place, path, keeps: Some(is_own_of_postgresql) }];
    let mut add = |path: &Path, seen: &Path| {
        let place = place_of(seen).filter(|_| seen.is_dir());
        folders.extend(place.map(|place| ServerFolder { place, path: path.to_path_buf(), keeps: None }));
    };
    for name in ["pg_wal", "pg_xlog"] {
        if let Ok(target) = std::fs::read_link(served.folder.join(name)) {
            add(&target, &served.seen(&target));
        }
    }
    // `PG_15_202209061`: other versions have folders of their own beside it.
    let prefix = format!("PG_{}_", version.major());
    for link in std::fs::read_dir(served.folder.join("pg_tblspc")).into_iter().flatten().flatten() {
        let Ok(target) = std::fs::read_link(link.path()) else { continue };
        for entry in std::fs::read_dir(served.seen(&target)).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) {
                add(&target.join(entry.file_name()), &entry.path());
            }
        }
    }
    folders
}
