//! S3 by `rclone serve s3`: buckets are folders. It checks signatures (AWS Signature Version 4).

use super::daemon::{Daemon, program};
use super::{BUCKET, PASSWORD, Place, USER};
use std::ffi::OsString;
use std::path::Path;

/// Returns the processes of the server.
pub fn daemons(dir: &Path, port: u16) -> Vec<Daemon> {
    let files = dir.join("files");
    std::fs::create_dir(&files).unwrap();
    let mut line = vec![program("python/bin/rclone").into_os_string()];
    line.extend(["serve", "s3", "--addr"].map(OsString::from));
    line.extend([format!("127.0.0.1:{port}"), "--auth-key".into(), format!("{USER},{PASSWORD}")].map(OsString::from));
    line.extend([files.into_os_string()]);
    vec![Daemon::new(dir, port, line).with("RCLONE_CONFIG", "")]
}

/// Returns a place in the bucket of a server of S3 with the tests' one user.
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
