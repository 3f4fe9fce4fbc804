//! Making the repository that is meant.

use super::Access;
use super::credentials::write_key;
use crate::crypto::keys::Secret;
use crate::crypto::recovery;
use crate::crypto::slot::Credential;
use crate::error::{Error, ErrorKind, Result};
use crate::format::header::Suite;
use crate::id::RepositoryId;
use crate::place::Place;
use crate::random::fill_random;
use crate::repo::open::{Found, Unlocked, check_vacant, check_vacant_in, init_in, init_with_id, look};
use crate::store::ObjectKind;
use crate::store::remote::RemoteStore;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// A repository that was made.
pub struct Made {
    /// Its id.
    pub id: RepositoryId,
    /// The key file that unlocks it here, if one was written.
    pub key_path: Option<PathBuf>,
    /// The recovery key made beside a passphrase, to be shown once.
    pub recovery: Option<Zeroizing<String>>,
}

/// Where a repository is to be made.
enum Vacancy {
    Folder(PathBuf),
    Store(Box<RemoteStore>),
}

impl Vacancy {
    /// Refuses a place that holds something, before a key is made for it.
    fn find(access: &Access) -> Result<Vacancy> {
        if let Some(meant) = access.misspelt_name() {
            return Err(Error::usage(meant));
        }
        match access.place()? {
            Place::Local(path) => {
                check_vacant(&path)?;
                Ok(Vacancy::Folder(path))
            }
            Place::Remote(remote) => {
                let store = access.remote_store(&remote)?;
                let contents = store.look()?;
                let is_ours =
                    |name: &String| ObjectKind::ALL.iter().any(|kind| name.trim_end_matches('/') == kind.folder());
                if !contents.has_config && !contents.names.iter().all(is_ours) {
                    let message = format!("{remote} holds other objects: name a prefix or folder where there are none");
                    return Err(Error::new(ErrorKind::Unsupported, message));
                }
                // A folder that is missing cannot be listed.
                if !contents.has_config {
                    store.prepare()?;
                }
                check_vacant_in(&store)?;
                Ok(Vacancy::Store(Box::new(store)))
            }
        }
    }

    fn fill(&self, id: RepositoryId, suite: Suite, credentials: &[Credential]) -> Result<()> {
        match self {
            Vacancy::Folder(path) => init_with_id(path, id, suite, credentials).map(drop),
            Vacancy::Store(store) => init_in(&**store, id, suite, credentials).map(drop),
        }
    }
}

impl Access {
    /// Makes the repository: with the passphrase that was given and a recovery key, or with a key file.
    pub fn make(&self, suite: Suite) -> Result<Made> {
        let vacancy = Vacancy::find(self)?;
        // Whoever makes a repository at a place knows that it is another one.
        if let Err(error) = self.forget_place() {
            tracing::warn!("{}", error.chain());
        }
        let mut id = RepositoryId([0; 16]);
        fill_random(&mut id.0);
        if suite == Suite::Plain {
            vacancy.fill(id, suite, &[])?;
            return Ok(Made { id, key_path: None, recovery: None });
        }
        let key = Secret::random();
        if let Some(given) = self.first_credential()? {
            vacancy.fill(id, suite, &[given, Credential::Key(key.clone())])?;
            return Ok(Made { id, key_path: None, recovery: Some(recovery::to_text(&key)) });
        }
        // The key is durable before anything is locked with it.
        let key_path = self.key_path(&id);
        write_key(&key_path, &key)?;
        if let Err(error) = vacancy.fill(id, suite, &[Credential::Key(key)]) {
            // A key to nothing: that it could not be removed does no harm.
            let _ = std::fs::remove_file(&key_path);
            return Err(error);
        }
        Ok(Made { id, key_path: Some(key_path), recovery: None })
    }

    /// Unlocks the repository for a backup; the default one is made where it is missing, and `made` is told.
    pub fn unlock_or_make(&self, made: &dyn Fn(&Made)) -> Result<Unlocked> {
        let place = self.place()?;
        let folder = place.folder().filter(|_| self.is_default_repo().unwrap_or(false));
        if let Some(folder) = folder
            && matches!(look(folder)?, Found::Nothing | Found::HalfMade)
        {
            self.require_unknown()?;
            made(&self.make(Suite::Aes256GcmSiv)?);
        }
        self.unlock()
    }
}
