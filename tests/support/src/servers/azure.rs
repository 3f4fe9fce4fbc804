//! Azure Blob Storage by Microsoft's emulator Azurite.

use super::daemon::{Daemon, program};
use super::{BUCKET, PASSWORD, Place, USER};
use std::path::Path;

/// Returns the account's key: 64 bytes in base 64.
pub fn key() -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(PASSWORD.repeat(4))
}

/// Returns the processes of the server.
pub fn daemons(dir: &Path, port: u16) -> Vec<Daemon> {
    let line = [
        program("node/node_modules/.bin/azurite-blob").display().to_string(),
        "--blobHost".into(),
        "127.0.0.1".into(),
        "--blobPort".into(),
        port.to_string(),
        "--location".into(),
        dir.display().to_string(),
        "--skipApiVersionCheck".into(),
        "--silent".into(),
    ];
    let accounts = format!("{USER}:{}", key());
    vec![Daemon::new(dir, port, line).with("AZURITE_ACCOUNTS", &accounts)]
}

/// Returns a place in the container.
pub fn place(port: u16) -> Place {
    Place::new(
        format!("azblob://{BUCKET}/some/repo"),
        [
            ("AZURE_STORAGE_ACCOUNT", USER),
            ("AZURE_STORAGE_KEY", &key()),
            ("AZURE_STORAGE_BLOB_ENDPOINT", &format!("http://127.0.0.1:{port}/{USER}")),
        ],
    )
}
