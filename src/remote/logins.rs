//! What it takes to log in to each service.

use std::path::Path;
use zeroize::Zeroizing;

/// A secret: wiped when dropped, never shown.
pub(super) type Secret = Zeroizing<String>;

pub(super) struct S3 {
    pub bucket: String,
    pub root: String,
    pub region: String,
    pub endpoint: Option<String>,
    /// The profile of Amazon's files, where keys are left to them.
    pub profile: Option<String>,
    /// Key id, key, and the token of a session.
    pub keys: Option<(Secret, Secret, Option<Secret>)>,
    /// Whether the bucket is part of the server's name and not of the path.
    pub is_virtual_host_style: bool,
    /// Whether the machine itself may have a role, as those of Amazon have.
    pub asks_machine: bool,
}

pub(super) struct B2 {
    pub bucket: String,
    pub bucket_id: Option<String>,
    pub root: String,
    pub key_id: Secret,
    pub key: Secret,
    /// The server to ask instead of Backblaze's.
    pub api: Option<String>,
}

pub(super) struct Swift {
    pub container: String,
    pub root: String,
    pub login: SwiftLogin,
    /// Chooses among the endpoints of a catalogue.
    pub region: Option<String>,
    pub interface: String,
}

/// The ways to log in to Swift.
#[derive(PartialEq, Eq)]
pub(super) enum SwiftLogin {
    /// A token somebody else has asked for.
    Token { storage_url: String, token: Secret },
    /// Swift's own (TempAuth, "auth v1").
    V1 { url: String, user: String, key: Secret },
    /// Keystone, version 3: the URL to ask, and the body of the request.
    V3 { url: String, body: Secret, storage_url: Option<String> },
}

pub(super) struct Sftp {
    pub endpoint: String,
    pub path: String,
    pub from_home: bool,
}

pub(super) struct WebDav {
    pub endpoint: String,
    pub root: String,
    pub login: Option<(Secret, Secret)>,
}

pub(super) struct Gcs {
    pub bucket: String,
    pub root: String,
    pub endpoint: Option<String>,
    pub credential_path: Option<String>,
    /// Whether the server, an emulator, takes requests without a signature.
    pub is_open: bool,
    pub asks_machine: bool,
}

pub(super) struct Azblob {
    pub container: String,
    pub root: String,
    pub endpoint: String,
    pub account: String,
    pub key: Option<Secret>,
    pub sas_token: Option<Secret>,
}

impl S3 {
    /// Returns whether an endpoint is Amazon's own, as it is where none is named.
    pub fn is_amazon(endpoint: Option<&str>) -> bool {
        endpoint.is_none_or(|endpoint| endpoint.contains(".amazonaws.com"))
    }
}

/// Tells by the firmware's words whose cloud this machine runs in, so that nobody else waits for an address that does
/// not answer.
pub(super) fn is_machine_of(vendor: &str) -> bool {
    ["sys_vendor", "board_vendor", "product_name"].iter().any(|name| {
        let path = Path::new("/sys/class/dmi/id").join(name);
        std::fs::read_to_string(path).is_ok_and(|words| words.contains(vendor))
    })
}
