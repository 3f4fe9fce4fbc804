//! S3 by moto, Amazon's interface as its Python developers imitate it: in memory, and without asking who comes.

use super::daemon::{Daemon, program};
use std::path::Path;

/// Returns the processes of the server.
pub fn daemons(dir: &Path, port: u16) -> Vec<Daemon> {
    let server = program("python/bin/moto_server").into_os_string();
    let line = [server, "-H".into(), "127.0.0.1".into(), "-p".into(), port.to_string().into()];
    vec![Daemon::new(dir, port, line)]
}
