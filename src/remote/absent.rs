//! In the place of services reached over a network, where this program was built without the feature `remote`.

use crate::error::Result;
use crate::place::Remote;

/// Names the file of secrets of services.
pub const CREDENTIALS_FILE: &str = "BAKFS_CREDENTIALS_FILE";

/// How a place would be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoteOptions {
    /// Operations at a time.
    pub connections: Option<usize>,
    /// Bytes a second that may go, over all connections.
    pub limit_upload_bytes_per_sec: Option<u64>,
    /// Bytes a second that may come, over all connections.
    pub limit_download_bytes_per_sec: Option<u64>,
}

/// Where settings and secrets of services would come from.
pub struct Environment;

impl Environment {
    /// Names this process.
    pub fn of_process() -> Self {
        Environment
    }
}

/// Names a place.
pub fn address(place: &Remote, _: Environment) -> Result<String> {
    Ok(place.to_string())
}

/// Closes no connection: there is none.
pub fn close_connections() {}
