//! `bakfs init`: makes a repository.

use super::Status;
use super::open::Global;
use super::output::{readable, readable_path};
use crate::access::credentials::write_key;
use crate::crypto::keys::Secret;
use crate::crypto::recovery;
use crate::crypto::slot::Credential;
use crate::error::{Error, ErrorKind};
use crate::format::header::Suite;
use crate::id::RepositoryId;
use crate::place::Place;
use crate::random::fill_random;
use crate::repo::open::{check_vacant, check_vacant_in, init_in, init_with_id};
use crate::store::ObjectKind;
use crate::store::remote::RemoteStore;
use clap::ValueEnum;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Options of `bakfs init`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to protect what is stored; `none` still notices every change
    #[arg(long, value_enum, default_value_t = Encryption::Aes256)]
    encryption: Encryption,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Encryption {
    /// AES-256-GCM-SIV
    Aes256,
    /// Readable by whoever reads the repository's folder
    None,
}

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
    fn find(global: &Global) -> crate::error::Result<Vacancy> {
        if let Some(meant) = global.access.misspelt_name() {
            return Err(Error::usage(meant));
        }
        match global.access.place()? {
            Place::Local(path) => {
                check_vacant(&path)?;
                Ok(Vacancy::Folder(path))
            }
            Place::Remote(remote) => {
                let store = global.access.remote_store(&remote)?;
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

    fn fill(&self, id: RepositoryId, suite: Suite, credentials: &[Credential]) -> crate::error::Result<()> {
        match self {
            Vacancy::Folder(path) => init_with_id(path, id, suite, credentials).map(drop),
            Vacancy::Store(store) => init_in(&**store, id, suite, credentials).map(drop),
        }
    }
}

/// Makes the repository: with the passphrase that was given and a recovery key, or with a key file.
pub fn make(global: &Global, suite: Suite) -> crate::error::Result<Made> {
    let vacancy = Vacancy::find(global)?;
    // Whoever makes a repository at a place knows that it is another one.
    if let Err(error) = global.access.forget_place() {
        warn!("bakfs: warning: {}", error.chain());
    }
    let mut id = RepositoryId([0; 16]);
    fill_random(&mut id.0);
    if suite == Suite::Plain {
        vacancy.fill(id, suite, &[])?;
        return Ok(Made { id, key_path: None, recovery: None });
    }
    let key = Secret::random();
    if let Some(given) = global.access.first_credential()? {
        vacancy.fill(id, suite, &[given, Credential::Key(key.clone())])?;
        return Ok(Made { id, key_path: None, recovery: Some(recovery::to_text(&key)) });
    }
    // The key is durable before anything is locked with it.
    let key_path = global.access.key_path(&id);
    write_key(&key_path, &key)?;
    if let Err(error) = vacancy.fill(id, suite, &[Credential::Key(key)]) {
        // A key to nothing: that it could not be removed does no harm.
        let _ = std::fs::remove_file(&key_path);
        return Err(error);
    }
    Ok(Made { id, key_path: Some(key_path), recovery: None })
}

/// Tells a person what was made and what to keep.
pub fn tell(global: &Global, made: &Made) -> crate::error::Result<()> {
    warn!("Made the repository {}", readable(global.access.place()?.to_string().as_bytes()));
    if let Some(key) = &made.key_path {
        warn!("Its key is the file {}", readable_path(key));
        warn!("Without that key nobody can read the backups: keep a copy of the file away from this machine.");
    }
    if let Some(recovery) = &made.recovery {
        warn!("Recovery key: {}", recovery.as_str());
        warn!("It opens the repository when the passphrase is lost, and is not shown again:");
        warn!("keep it on paper, away from this machine.");
    }
    Ok(())
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<Status> {
    let suite = match args.encryption {
        Encryption::Aes256 => Suite::Aes256GcmSiv,
        Encryption::None => Suite::Plain,
    };
    let made = make(global, suite)?;
    if global.json {
        let place = global.access.place()?.to_string();
        say!(
            "{}",
            serde_json::json!({
                "repository": made.id.to_string(),
                "path": readable(place.as_bytes()),
                "key_file": made.key_path.as_deref().map(readable_path),
                "recovery_key": made.recovery.as_ref().map(|text| text.as_str()),
            })
        );
    } else {
        tell(global, &made)?;
    }
    Ok(Status::Done)
}
