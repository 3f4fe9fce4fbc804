//! What this machine knows of the repositories it has been at: one small file for each place, one for each repository,
//! and one for the features that a repository has, if it has any.
//!
//! Whoever can write to a place can put another repository there, one without encryption, or an older state of the same
//! one, and nothing that lies at the place tells. What was there before is therefore kept here. Nothing of it is
//! needed: a file that is lost, cut, changed or of another version counts as none, and only what it would have told is
//! not noticed.

pub mod file;
pub mod history;
pub mod sealed;

use crate::crypto::keys::Keys;
use crate::error::{Error, ErrorKind, Result};
use crate::format::feature::Feature;
use crate::format::header::Suite;
use crate::id::{RepositoryId, to_hex};
use file::Record;
pub use history::{History, Seen};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::fmt;
use std::path::{Path, PathBuf};

/// What a repository is, as can be told before it is unlocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub repository: RepositoryId,
    /// How its objects are sealed.
    pub suite: Suite,
    /// The BLAKE3 hash of its whole configuration object.
    pub config: [u8; 32],
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sealed = if self.suite == Suite::Plain { "not encrypted" } else { "encrypted" };
        write!(f, "{}, {sealed}", self.repository)
    }
}

/// A place, as it is told apart from others and as people are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Different for different places.
    pub key: Vec<u8>,
    /// What people write for it.
    pub shown: String,
}

impl Address {
    /// Returns that of a folder: however it is written, and through whatever links, it is the same one.
    pub fn of_folder(path: &Path) -> Self {
        let real = crate::path::real(path);
        Address { key: real.as_os_str().as_encoded_bytes().to_vec(), shown: real.display().to_string() }
    }

    /// Returns what its file is named by, and its history bound to.
    fn hash(&self) -> [u8; 32] {
        *blake3::hash(&self.key).as_bytes()
    }
}

/// Returns what stands for the place in the file of a repository's features, which belong to no place.
fn features_place() -> [u8; 32] {
    *blake3::hash(b"features").as_bytes()
}

/// The folder of what this machine knows.
#[derive(Debug, Clone)]
pub struct Known {
    folder: PathBuf,
}

/// A repository that is about to be unlocked, and is the one that was seen before as far as that can be told.
pub struct Visit {
    known: Known,
    address: Address,
    identity: Identity,
    at_place: Option<Record>,
    of_repository: Option<Record>,
}

/// The place of a repository that was unlocked.
#[derive(Debug, Clone)]
pub struct Visited {
    known: Known,
    address: Address,
    identity: Identity,
}

/// What was forgotten of a place.
#[derive(Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// The place, as people write it.
    pub place: String,
    /// The repository that was known there.
    pub identity: Identity,
}

impl Serialize for Forgotten {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("place", &self.place)?;
        map.serialize_entry("repository", &self.identity.repository)?;
        map.serialize_entry("encrypted", &(self.identity.suite != Suite::Plain))?;
        map.end()
    }
}

impl Known {
    /// Names the folder; it is made when something is kept.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Known { folder: folder.into() }
    }

    fn place_path(&self, address: &Address) -> PathBuf {
        self.folder.join(format!("place-{}", to_hex(&address.hash())))
    }

    fn repository_path(&self, repository: &RepositoryId) -> PathBuf {
        self.folder.join(format!("repository-{}", repository))
    }

    fn features_path(&self, repository: &RepositoryId) -> PathBuf {
        self.folder.join(format!("features-{}", repository))
    }

    /// Returns what is known to be at a place.
    pub fn at(&self, address: &Address) -> Option<Identity> {
        Some(file::read(&self.place_path(address))?.identity)
    }

    /// Returns when this machine last noted something of what is at a place: it was there then.
    pub fn noted(&self, address: &Address) -> Option<std::time::SystemTime> {
        std::fs::metadata(self.place_path(address)).and_then(|found| found.modified()).ok()
    }

    /// Returns whether a place is known of a repository.
    pub fn has_place_of(&self, repository: &RepositoryId) -> bool {
        let places = file::list(&self.folder, "place-").unwrap_or_default();
        places.iter().filter_map(|path| file::read(path)).any(|known| known.identity.repository == *repository)
    }

    /// Begins a visit. Fails with [`ErrorKind::Exchanged`] if what is at the place cannot be what was there before:
    /// another repository, or one whose encryption went down, there or wherever the same id was seen.
    pub fn visit(&self, address: Address, identity: Identity) -> Result<Visit> {
        let at_place = file::read(&self.place_path(&address));
        let of_repository = file::read(&self.repository_path(&identity.repository));
        let of_repository = of_repository.filter(|known| known.identity.repository == identity.repository);
        let visit = Visit { known: self.clone(), address, identity, at_place, of_repository };
        let was = [&visit.at_place, &visit.of_repository]
            .into_iter()
            .flatten()
            .map(|known| known.identity)
            .find(|was| was.repository != identity.repository || (was.suite as u8) > (identity.suite as u8));
        match was {
            Some(was) => Err(visit.exchanged(&was)),
            None => Ok(visit),
        }
    }

    /// Forgets what is known of a place, and of the repository known there; also of places that people write the same,
    /// whatever server they were reached at. Returns what was forgotten.
    pub fn forget(&self, address: &Address) -> Result<Vec<Forgotten>> {
        let mut forgotten = Vec::new();
        let own = self.place_path(address);
        for path in file::list(&self.folder, "place-")? {
            // One that cannot be read says nothing, and goes with its place only.
            let Some(record) = file::read(&path) else {
                if path == own {
                    file::remove(&path)?;
                }
                continue;
            };
            if path == own || *record.place == *address.shown.as_bytes() {
                file::remove(&self.repository_path(&record.identity.repository))?;
                file::remove(&self.features_path(&record.identity.repository))?;
                file::remove(&path)?;
                let place = String::from_utf8_lossy(&record.place).into_owned();
                forgotten.push(Forgotten { place, identity: record.identity });
            }
        }
        Ok(forgotten)
    }
}

impl Visit {
    fn exchanged(&self, was: &Identity) -> Error {
        let place = &self.address.shown;
        let what = match was.repository == self.identity.repository {
            false => "is another one than before",
            true if was.suite != self.identity.suite => "is not encrypted any more",
            true => "has another configuration than before, which is not proven to be its own",
        };
        Error::new(
            ErrorKind::Exchanged,
            format!(
                "By its configuration the repository at {place} {what}: it was {was}; it is {}. Whoever can write \
                 there may have exchanged it, to read what is backed up next, or to have files restored that you never \
                 had. If you have exchanged it yourself, `bakfs forget-place` with the same --repo makes this machine \
                 forget the old one",
                self.identity
            ),
        )
    }

    /// Ends the visit once the repository is unlocked and its configuration is the one its key authenticates: keeps
    /// what was found.
    ///
    /// A configuration that is another than before is taken over, but without encryption its key lies in it: there
    /// only what was sealed here under the same key proves that it is genuine.
    pub fn settle(self, keys: &Keys) -> Result<Visited> {
        let old = self.at_place.as_ref().and_then(|record| sealed::open::<History>(record, &self.address.hash(), keys));
        let all = [&self.at_place, &self.of_repository];
        let changed =
            all.into_iter().flatten().map(|known| known.identity).find(|was| was.config != self.identity.config);
        if let Some(was) = changed
            && self.identity.suite == Suite::Plain
            && old.is_none()
        {
            return Err(self.exchanged(&was));
        }
        let visited = Visited { known: self.known.clone(), address: self.address.clone(), identity: self.identity };
        let is_same = |record: &Option<Record>| record.as_ref().is_some_and(|known| known.identity == self.identity);
        if !is_same(&self.at_place) || old.is_none() {
            visited.keep(&old.unwrap_or_default(), keys);
        }
        if !is_same(&self.of_repository) {
            let record = Record { identity: self.identity, place: Vec::new(), sealed: Vec::new() };
            file::replace(&self.known.repository_path(&self.identity.repository), &record);
        }
        Ok(visited)
    }
}

impl Visited {
    /// Returns what was seen here, as other processes have left it; `None` where that is not known.
    pub fn history(&self, keys: &Keys) -> Option<History> {
        let record = file::read(&self.known.place_path(&self.address))?;
        if record.identity != self.identity {
            return None;
        }
        sealed::open(&record, &self.address.hash(), keys)
    }

    /// Returns the features that this machine has seen the repository to have, wherever it was.
    pub fn features(&self, keys: &Keys) -> Vec<Feature> {
        let record = file::read(&self.known.features_path(&self.identity.repository));
        let record = record.filter(|record| record.identity.repository == self.identity.repository);
        record.and_then(|record| sealed::open(&record, &features_place(), keys)).unwrap_or_default()
    }

    /// Keeps which features the repository was seen to have. That it could not be kept is no error.
    pub fn keep_features(&self, features: &[Feature], keys: &Keys) {
        let head = Record { identity: self.identity, place: Vec::new(), sealed: Vec::new() };
        let sealed = sealed::seal(&features, &head, &features_place(), keys);
        file::replace(&self.known.features_path(&self.identity.repository), &Record { sealed, ..head });
    }

    /// Keeps what was seen here. That it could not be kept is no error.
    pub fn keep(&self, history: &History, keys: &Keys) {
        let head =
            Record { identity: self.identity, place: self.address.shown.as_bytes().to_vec(), sealed: Vec::new() };
        let sealed = sealed::seal(history, &head, &self.address.hash(), keys);
        file::replace(&self.known.place_path(&self.address), &Record { sealed, ..head });
    }
}
