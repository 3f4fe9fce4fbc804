//! In the place of stores in services reached over a network, where this program was built without the feature `remote`.

use super::{Decorator, Store};
use crate::error::{Error, Result};
use crate::place::Remote;
use crate::remote::{Environment, RemoteOptions};

/// What would be at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Whether there is a repository's configuration.
    pub has_config: bool,
    /// Names at the place.
    pub names: Vec<String>,
}

/// A store that cannot be had.
pub enum RemoteStore {}

impl RemoteStore {
    /// Fails, and says what is lacking.
    pub fn open(place: &Remote, _: &RemoteOptions, _: Environment) -> Result<Self> {
        Err(Error::without_feature(&format!("{place} cannot be reached"), "remote"))
    }

    /// Looks at what is at the place.
    pub fn look(&self) -> Result<Contents> {
        match *self {}
    }

    /// Makes the folder of the place.
    pub fn prepare(&self) -> Result<()> {
        match *self {}
    }
}

impl Decorator for RemoteStore {
    fn inner(&self) -> &dyn Store {
        match *self {}
    }
}
