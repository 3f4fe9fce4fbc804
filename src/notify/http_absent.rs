//! In the place of pings and webhooks, where this program was built without the feature `remote`: each is an error.

use crate::error::{Error, Result};
use std::time::Duration;

/// Nothing takes long.
pub const START_LIMIT: Duration = Duration::ZERO;
/// Nothing takes long.
pub const END_LIMIT: Duration = Duration::ZERO;

/// Fails: a URL is a secret, and is not named.
pub fn ping(what: &str, _: &str, _: Option<&str>, _: Duration) -> Result<()> {
    Err(absent(what))
}

/// Fails likewise.
pub fn post(what: &str, _: &str, _: &serde_json::Value) -> Result<()> {
    Err(absent(what))
}

/// Fails likewise.
pub fn connect(what: &str, _: &str) -> Result<()> {
    Err(absent(what))
}

fn absent(what: &str) -> Error {
    Error::without_feature(&format!("{} cannot be reached", subject(what, "")), "remote")
}

/// Names what a URL is for.
pub fn subject(what: &str, _: &str) -> String {
    format!("The URL of `{what}`")
}
