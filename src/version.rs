//! What this program is, and which repositories it reads.

use crate::format::feature::KNOWN;
use crate::format::header::{PIECES_VERSION, VERSION};
use serde::Serialize;

/// What a program tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Version {
    /// Its version (<https://semver.org/>).
    pub version: &'static str,
    /// The commit it was built from, where the build was told (`BAKFS_COMMIT`).
    pub commit: Option<&'static str>,
    /// The format versions of objects (docs/format.md, section 2).
    pub formats: Formats,
    /// The features of repositories that it knows (docs/format.md, section 12).
    pub repository_features: &'static [u32],
    /// What was built in.
    pub features: Vec<&'static str>,
}

/// The format versions of objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Formats {
    /// Those that are read.
    pub read: Vec<u8>,
    /// Those that are written.
    pub written: Vec<u8>,
}

/// The features that a build may leave out, and whether this one has them.
const FEATURES: [(&str, bool); 3] = [
    ("databases", cfg!(feature = "databases")),
    ("mount", cfg!(feature = "mount")),
    ("remote", cfg!(feature = "remote")),
];

impl Version {
    /// Returns what this program is.
    pub fn of_program() -> Self {
        let versions = vec![VERSION, PIECES_VERSION];
        Version {
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("BAKFS_COMMIT").filter(|commit| !commit.is_empty()),
            formats: Formats { read: versions.clone(), written: versions },
            repository_features: KNOWN,
            features: FEATURES.iter().filter(|(_, is_in)| *is_in).map(|(name, _)| *name).collect(),
        }
    }
}
