//! What this machine knows of a repository before it opens it: where that is kept, and what it makes of what it finds.

use super::folders::{folder, of_environment};
use super::open::{Global, config_folder};
use super::output;
use crate::crypto::slot::Credential;
use crate::error::{Error, ErrorKind, Result};
use crate::known::{Address, Forgotten, Known};
use crate::repo::Repository;
use crate::repo::open::{Options, WhyEncrypted, recognise_in};
use crate::store::place::Place;
use crate::trust::environment;
use std::path::PathBuf;

impl Global {
    /// Returns the folder of what this machine knows of repositories: beside the states of runs, or where
    /// BAKFS_CONFIG_DIR has moved configuration and keys: who uses others is somebody else.
    fn known_folder(&self) -> Result<PathBuf> {
        let moved = || std::env::var_os("BAKFS_CONFIG_DIR").map(|_| config_folder());
        let state = self.places()?.state_dir.or_else(|| of_environment("BAKFS_STATE_DIR")).or_else(moved);
        let state = state.unwrap_or_else(|| folder("XDG_STATE_HOME", ".local/state", "/var/lib/bakfs/state"));
        let known = state.join("known");
        Ok(std::path::absolute(&known).unwrap_or(known))
    }

    fn address(&self) -> Result<Address> {
        Ok(match self.place()? {
            Place::Local(path) => Address::of_folder(&path),
            Place::Remote(remote) => {
                let shown = remote.to_string();
                Address { key: shown.clone().into_bytes(), shown }
            }
        })
    }

    /// Forgets what is known of the place and of the repositories there.
    pub fn forget_place(&self) -> Result<Vec<Forgotten>> {
        Known::new(self.known_folder()?).forget(&self.address()?)
    }

    /// Fails if a repository was seen at the place, where none is to be made without being asked for.
    pub fn require_unknown(&self) -> Result<()> {
        let address = self.address()?;
        let Some(was) = Known::new(self.known_folder()?).at(&address) else { return Ok(()) };
        Err(Error::new(
            ErrorKind::NotFound,
            format!(
                "There is no repository at {} any more, where this machine has used one ({was}): mount or bring back what \
                 it is on; `bakfs init` makes a new one",
                address.shown
            ),
        ))
    }

    /// Returns why a repository of this id must be encrypted: somebody has a credential for it.
    fn why_encrypted(&self) -> Result<Box<WhyEncrypted>> {
        let given = self.given_by()?.filter(|_| !self.accept_unencrypted);
        let global = self.clone();
        Ok(Box::new(move |id| {
            let key = global.key_path(id);
            if key.exists() {
                let key = key.display();
                return Some(format!(
                    "there is a key file {key} for it, so it was encrypted: bring `config` back from a copy"
                ));
            }
            let by = given?;
            Some(format!(
                "a passphrase or key is given ({by}): give none, or add --accept-unencrypted, if it is meant so"
            ))
        }))
    }

    /// Returns what gives a passphrase or key, without reading it.
    pub fn given_by(&self) -> Result<Option<&'static str>> {
        let chosen = self.chosen()?;
        let all = [
            (self.password_file.is_some(), "--password-file"),
            (chosen.password_file.is_some(), "`password-file` of the configuration"),
            (self.password_command.is_some(), "--password-command"),
            (chosen.password_command.is_some(), "`password-command` of the configuration"),
            (environment::is_set(environment::PASSWORD), environment::PASSWORD),
        ];
        Ok(all.into_iter().find_map(|(is_given, by)| is_given.then_some(by)))
    }

    /// Opens the repository where it is, with the credentials that `credentials` gives for its id.
    pub fn open_by(
        &self,
        options: &Options<'_>,
        credentials: impl FnOnce(&[u8; 16]) -> Result<Vec<Credential>>,
    ) -> Result<Repository> {
        let (known, why_encrypted) = (self.known_folder()?, self.why_encrypted()?);
        let options = Options { known: Some(&known), why_encrypted: Some(&*why_encrypted), ..*options };
        let repository = match self.place()? {
            Place::Local(path) => Repository::open(&path, &options, credentials),
            Place::Remote(_) => Repository::open_far(self.store()?, &options, credentials),
        }?;
        output::heed(&repository);
        Ok(repository)
    }

    /// Looks whether the repository may be the one it should be, without unlocking it. What cannot be read is left to
    /// who opens it.
    pub fn recognise(&self) -> Result<()> {
        let (known, why_encrypted) = (self.known_folder()?, self.why_encrypted()?);
        let options = Options { known: Some(&known), why_encrypted: Some(&*why_encrypted), ..Options::default() };
        match recognise_in(&*self.store()?, &options) {
            Err(error) if error.kind() == ErrorKind::Exchanged => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns why a repository in a folder cannot be the one it should be; nothing is asked of a network.
    pub fn exchanged(&self) -> Option<Error> {
        let is_near = matches!(self.place(), Ok(Place::Local(_)));
        is_near.then(|| self.recognise().err()).flatten().filter(|error| error.kind() == ErrorKind::Exchanged)
    }
}
