//! What seals and opens the objects of one repository.

use super::keys::Keys;
use super::seal::{BrokenSeal, Opener, Sealer};
use crate::format::header::{Header, Kind, Suite};
use crate::id::RepositoryId;

/// A repository's keys, and how and as whose its objects are sealed.
pub struct Vault {
    keys: Keys,
    suite: Suite,
    repository: RepositoryId,
}

impl Vault {
    /// Makes one of what a repository's configuration says and its keys.
    pub fn new(keys: Keys, suite: Suite, repository: RepositoryId) -> Self {
        Vault { keys, suite, repository }
    }

    /// Returns the keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Returns how objects are sealed.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Returns whose objects they are.
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// Starts an object with a fresh salt and key.
    pub fn sealer(&self, kind: Kind) -> Sealer {
        Sealer::new(&self.keys, kind, self.suite, self.repository)
    }

    /// Starts an index segment in pieces, likewise.
    pub fn sealer_of_pieces(&self) -> Sealer {
        Sealer::of_pieces(&self.keys, self.suite, self.repository)
    }

    /// Returns whether a header is of an object of this repository and this kind.
    pub fn is_of(&self, header: &Header, kind: Kind) -> bool {
        header.kind == kind && header.repository == self.repository
    }

    /// Unwraps the key of an object. Fails where no program with the keys has written the header.
    pub fn opener(&self, header: &Header) -> Result<Opener, BrokenSeal> {
        Opener::new(&self.keys, header)
    }
}
