//! Google Cloud Storage by an emulator in Python, which takes requests without a signature.

use super::super::process::tool;
use super::daemon::{Daemon, program};
use super::{BUCKET, Place};
use std::path::Path;

/// Returns the processes of the server.
pub fn daemons(dir: &Path, port: u16) -> Vec<Daemon> {
    let line = [
        program("python/bin/gcp-storage-emulator").display().to_string(),
        "--data-dir".into(),
        dir.join("files").display().to_string(),
        "start".into(),
        "--host".into(),
        "127.0.0.1".into(),
        "--port".into(),
        port.to_string(),
    ];
    vec![Daemon::new(dir, port, line).with("STORAGE_EMULATOR_HOST", &format!("http://127.0.0.1:{port}"))]
}

/// Makes a bucket.
pub fn make_bucket(port: u16, name: &str) {
    let body = format!("{{\"name\": \"{name}\"}}");
    let url = format!("http://127.0.0.1:{port}/storage/v1/b?project=test");
    tool("curl", ["-sfS", "-H", "Content-Type: application/json", "-d", &body, &url]).expect(0);
}

/// Returns a place in the bucket.
pub fn place(port: u16) -> Place {
    Place::new(format!("gs://{BUCKET}/some/repo"), [("STORAGE_EMULATOR_HOST", &*format!("http://127.0.0.1:{port}"))])
}
