//! Features of repositories that no bakfs knows, raised as a newer one would.

use super::cli::Bakfs;
use bakfs::crypto::recovery;
use bakfs::crypto::slot::Credential;
use bakfs::format::codec::Bytes;
use bakfs::format::feature::{Feature, Required};
use bakfs::format::tree::Time;
use bakfs::repo::Repository;
use bakfs::repo::features::{Raised, raise};
use bakfs::repo::open::Options;

/// A feature that a newer bakfs knows.
pub fn feature(number: u32, required: Required) -> Feature {
    Feature {
        number,
        required: required as u32,
        name: format!("write-only-keys-{number}"),
        since: "99.1.0".into(),
        text: "Machines that add snapshots and read none".into(),
        marks: vec![40],
        parameters: Bytes::default(),
        time: Time { secs: 1_772_334_000, nanos: 0 },
        host: "another".into(),
    }
}

/// Opens the repository of a world with its key file, as another machine that knows nothing.
pub fn open(bakfs: &Bakfs) -> Repository {
    let keys = bakfs.path("config/keys");
    let open = |id: &bakfs::id::RepositoryId| {
        let text = std::fs::read_to_string(keys.join(format!("{id}.key"))).unwrap();
        Ok(vec![Credential::Key(recovery::from_text(text.trim()).unwrap())])
    };
    Repository::open(&bakfs.repo(), &Options::default(), open).unwrap()
}

/// Raises a feature of the repository of a world.
pub fn raise_in(bakfs: &Bakfs, feature: &Feature) -> Raised {
    raise(&open(bakfs), feature).unwrap()
}
