//! S3 by moto, Amazon's interface as its Python developers imitate it: in memory, and without asking who comes.

use super::daemon::{Daemon, program};
use super::{BUCKET, PASSWORD, Place, USER};
use std::path::Path;

/// Returns the processes of the server.
pub fn daemons(dir: &Path, port: u16) -> Vec<Daemon> {
    let server = program("python/bin/moto_server").into_os_string();
    let line = [server, "-H".into(), "127.0.0.1".into(), "-p".into(), port.to_string().into()];
    vec![Daemon::new(dir, port, line)]
}

/// Returns a place in the bucket.
pub fn place(port: u16) -> Place {
    Place::new(
        format!("s3://{BUCKET}/some/repo"),
        [
            ("AWS_ACCESS_KEY_ID", USER),
            ("AWS_SECRET_ACCESS_KEY", PASSWORD),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{port}")),
        ],
    )
}
