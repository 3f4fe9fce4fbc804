//! Making, finding and unlocking a repository.

use crate::crypto::keys::{Keys, Secret};
use crate::crypto::slot::{self, Credential};
use crate::crypto::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::{CHUNK_SIZES, Config, Stored};
use crate::format::header::Suite;
use crate::format::tree::Time;
use crate::id::RepositoryId;
use crate::known::{Address, Identity, Known, Visit, Visited};
use crate::repo::Memory;
use crate::repo::Repository;
use crate::repo::features::{self, Features, Recorded};
use crate::repo::index::cache::Cache;
use crate::repo::index::live::LiveIndex;
use crate::repo::index::load;
use crate::repo::index::load::IndexLoad;
use crate::repo::read::ReadCaches;
use crate::repo::shared::Shared;
use crate::repo::unlock::{Keyring, Master, find_master};
use crate::repo::write::put::{Attempts, put_anew};
use crate::store::cached::CachedStore;
use crate::store::local::LocalStore;
use crate::store::{Names, Object, ObjectKind, Store};
use crate::trust::hidden::wipe_stack;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The longest configuration.
pub const MAX_CONFIG_BYTES: u64 = 64 << 10;
/// What is at a path where a repository is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or an empty folder.
    Nothing,
    /// A repository.
    Repository,
    /// A folder that [`init_with_id`] did not finish: without a configuration and without packs.
    HalfMade,
    /// Something else.
    Foreign,
}

/// Looks what is at a local path.
pub fn look(path: &Path) -> Result<Found> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            return Ok(Found::Foreign);
        }
        Err(error) => {
            return Err(Error::io(format!("Cannot read the repository's folder {}", path.display()), error));
        }
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io(format!("Cannot list {}", path.display()), error))?;
        names.push(entry.file_name());
    }
    let has = |name: &str| names.iter().any(|found| found == name);
    // The folder of marks is made with the first one.
    let mut needed = ObjectKind::ALL.iter().filter(|kind| **kind != ObjectKind::Mark);
    Ok(if has("config") && needed.all(|kind| has(kind.folder())) {
        Found::Repository
    } else if names.iter().all(|name| name == "lost+found") {
        Found::Nothing
    } else if names.iter().all(|name| {
        ObjectKind::ALL.iter().any(|kind| *name == *kind.folder())
            || name.to_string_lossy().starts_with(".tmp-")
            || name == "lost+found"
    }) && has_no_snapshots(path)?
    {
        Found::HalfMade
    } else {
        Found::Foreign
    })
}

/// Returns whether a folder holds no snapshots. One that cannot be looked into may hold some.
fn has_no_snapshots(path: &Path) -> Result<bool> {
    match LocalStore::new(path).list(ObjectKind::Snapshot) {
        Ok(found) => Ok(found.is_empty()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Refuses a path where no repository can be made: there is one, or other files.
pub fn check_vacant(path: &Path) -> Result<()> {
    match look(path)? {
        Found::Nothing | Found::HalfMade => Ok(()),
        Found::Repository => Err(Error::new(
            ErrorKind::Exists,
            format!("There is a repository at {} already: `bakfs snapshots` lists what it holds", path.display()),
        )),
        Found::Foreign => Err(Error::new(
            ErrorKind::Unsupported,
            format!("{} holds other files: name an empty or new folder for the repository", path.display()),
        )),
    }
}

/// Refuses a store that holds a repository, or one without its configuration.
pub fn check_vacant_in(store: &dyn Store) -> Result<()> {
    let at = store.location();
    match store.len_bytes(Object::Config) {
        Ok(_) => {
            return Err(Error::new(
                ErrorKind::Exists,
                format!("There is a repository at {at} already: `bakfs snapshots` lists what it holds"),
            ));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Without a configuration there may be key slots, of an init that was interrupted, and nothing else.
    if store.list(ObjectKind::Snapshot)?.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        format!(
            "{at} has snapshots of a repository whose object `config` is gone: bring it back, or name another place"
        ),
    ))
}

/// Makes a repository in a local folder, with an id its caller has drawn, to keep a key under before the
/// repository exists.
pub fn init_with_id(path: &Path, id: RepositoryId, suite: Suite, credentials: &[Credential]) -> Result<RepositoryId> {
    check_vacant(path)?;
    let store = LocalStore::new(path);
    store.create_folders()?;
    make_in(&store, id, suite, credentials)
}

/// Makes a repository in a store, with an id its caller has drawn.
///
/// A place far away does not keep two programs from making one there at the same moment: the later one wins, and the
/// other is told where it looks after that.
pub fn init_in(store: &dyn Store, id: RepositoryId, suite: Suite, credentials: &[Credential]) -> Result<RepositoryId> {
    check_vacant_in(store)?;
    make_in(store, id, suite, credentials)
}

/// Stores key slots and then the configuration: without it there is no repository.
fn make_in(store: &dyn Store, id: RepositoryId, suite: Suite, credentials: &[Credential]) -> Result<RepositoryId> {
    let master = Secret::random();
    for credential in credentials {
        // One that appears late under a name that was given up opens the same.
        let mut seal = || Ok(slot::seal(id, &master, credential));
        put_anew(store, ObjectKind::Key, &mut seal, &mut |_| Ok(()))?.settle(store)?;
    }
    let created = jiff::Timestamp::now();
    let config = Config {
        created: Time { secs: created.as_second(), nanos: 0 },
        features: Vec::new(),
        chunk_sizes: CHUNK_SIZES,
        open_key: (suite == Suite::Plain).then_some(master.0),
    };
    let keys = Keys::derive(&master);
    let bytes = config.encode(id, suite, |bytes| keys.config_mac(bytes));
    put_config(store, &bytes)?;
    Ok(id)
}

/// Stores the configuration, the one object with a name of its own: what is not answered is put again as it is.
fn put_config(store: &dyn Store, bytes: &[u8]) -> Result<()> {
    let at = store.location();
    let mut attempts = Attempts::default();
    while let Err(error) = store.put(Object::Config, bytes) {
        // An earlier request has made it, or another program.
        if error.kind() == ErrorKind::Exists && store.is_far() {
            break;
        }
        if attempts.may_go_on(store, &error) {
            continue;
        }
        return Err(match error.kind() {
            ErrorKind::Uncertain => Error::new(
                ErrorKind::Uncertain,
                format!(
                    "Nobody knows whether there is a repository at {at} now, or will be: look with `bakfs snapshots`, or make it at another path, never at this one again"
                ),
            )
            .because(error),
            _ => error,
        });
    }
    store.barrier(Names::Mine)?;
    if store.is_far() && store.read_whole(Object::Config, MAX_CONFIG_BYTES)? != bytes {
        return Err(Error::new(ErrorKind::Exists, format!("Another program has made a repository at {at} meanwhile")));
    }
    Ok(())
}

/// What unlocking takes of the stack, key slots and passphrases included.
const UNLOCK_STACK_BYTES: usize = 64 << 10;

/// How to open a repository.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// Where to keep what saves time; `None` keeps it in memory.
    pub cache_base: Option<&'a Path>,
    /// At most so much of a repository far away is kept there; 0 keeps none of its objects.
    pub cache_max_bytes: u64,
    /// Bounds of the caches in memory.
    pub memory: Memory,
    /// How the index is loaded from a store far away; a near one's is loaded whole.
    pub index: IndexLoad,
    /// What has unlocked repositories before in this process; `None` works it out again.
    pub keyring: Option<&'a Keyring>,
    /// The folder of what this machine knows of repositories; `None` knows nothing and keeps nothing.
    pub known: Option<&'a Path>,
    /// Says of a repository's id why one without encryption is not what is expected, such as that a passphrase is
    /// given; `None` expects either.
    pub why_encrypted: Option<&'a WhyEncrypted>,
}

/// See [`Options::why_encrypted`].
pub type WhyEncrypted = dyn Fn(&RepositoryId) -> Option<String>;

/// A repository that was unlocked: whose it is, its keys and its store. What it holds may be loaded from it several
/// times, each with caches of its own, and nobody is asked again.
#[derive(Clone)]
pub struct Unlocked {
    vault: Arc<Vault>,
    config: Config,
    store: Arc<dyn Store>,
    known: Option<Visited>,
    notes: Vec<String>,
    /// Whether it was, and so some time ago.
    is_loaded: bool,
}

impl Unlocked {
    /// Unlocks the repository in a local folder, with the credentials that `credentials` gives for its id.
    pub fn at_folder(
        path: &Path,
        options: &Options<'_>,
        credentials: impl FnOnce(&RepositoryId) -> Result<Vec<Credential>>,
    ) -> Result<Self> {
        let found = look(path)?;
        let at = path.display();
        match found {
            Found::Repository => {}
            Found::Nothing => {
                return Err(Error::new(
                    ErrorKind::NoRepository,
                    format!("There is no repository at {at}: `bakfs init` makes one"),
                ));
            }
            Found::HalfMade => {
                return Err(Error::new(
                    ErrorKind::NoRepository,
                    format!("The repository at {at} was never finished: `bakfs init` finishes it"),
                ));
            }
            Found::Foreign => {
                let message = format!(
                    "{at} is not a bakfs repository, or its file `config` or one of its folders is gone: \
                     check the path, or bring the missing part back from a copy"
                );
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        }
        let store = Arc::new(LocalStore::new(path));
        let config = Zeroizing::new(store.read_whole(Object::Config, MAX_CONFIG_BYTES)?);
        Self::with_config(store, Address::of_folder(path), &config, options, credentials)
    }

    /// Unlocks the repository at a place far away, where there may be none.
    pub fn at_far(
        store: Arc<dyn Store>,
        options: &Options<'_>,
        credentials: impl FnOnce(&RepositoryId) -> Result<Vec<Credential>>,
    ) -> Result<Self> {
        let config = read_config(&*store)?;
        let address = address_of(&*store);
        Self::with_config(store, address, &config, options, credentials)
    }

    fn with_config(
        store: Arc<dyn Store>,
        address: Address,
        config: &[u8],
        options: &Options<'_>,
        credentials: impl FnOnce(&RepositoryId) -> Result<Vec<Credential>>,
    ) -> Result<Self> {
        let unlocked = unlock_keys(&*store, address, config, options, credentials);
        wipe_stack::<UNLOCK_STACK_BYTES>();
        let (stored, visit, keys, notes) = unlocked?;
        let known = visit.map(|visit| visit.settle(&keys)).transpose()?;
        let vault = Arc::new(Vault::new(keys, stored.suite, stored.repository));
        Ok(Unlocked { vault, config: stored.config, store, known, notes, is_loaded: false })
    }

    /// Returns the repository's id.
    pub fn id(&self) -> RepositoryId {
        self.vault.repository()
    }

    /// Loads the index, and makes caches as large as `options` say. What is to be noted of how it was unlocked is noted
    /// in what is loaded first. Whatever is loaded later fails where another repository has come to the place meanwhile.
    pub fn load(&mut self, options: &Options<'_>) -> Result<Repository> {
        if std::mem::replace(&mut self.is_loaded, true) {
            require_same(&*self.store, self.id())?;
        }
        let cache = match options.cache_base {
            Some(base) => match Cache::open(base, &self.id()) {
                Ok(cache) => Some(cache),
                Err(error) => {
                    let why = error.chain();
                    tracing::warn!(
                        "Working without a cache, which takes longer: {why}, or name another folder with --cache-dir"
                    );
                    None
                }
            },
            None => None,
        };
        let is_far = self.store.is_far();
        let store: Arc<dyn Store> = match options.cache_max_bytes {
            max_bytes if is_far && max_bytes > 0 => {
                Arc::new(CachedStore::open(self.store.clone(), cache.as_ref().map(Cache::folder), max_bytes))
            }
            _ => self.store.clone(),
        };
        let features = Features::of(&remembered(self.known.as_ref(), self.vault.keys()));
        let index_load = if is_far { options.index } else { IndexLoad::Whole };
        let repository = Repository {
            vault: self.vault.clone(),
            config: self.config.clone(),
            store,
            cache,
            live: LiveIndex::new(index_load, options.cache_max_bytes / load::CACHE_PART),
            caches: ReadCaches::new(options.memory),
            shared: Shared::new(self.known.clone(), features),
            warnings: Arc::default(),
        };
        std::mem::take(&mut self.notes).into_iter().for_each(|text| repository.note(text));
        repository.open_features()?;
        repository.refresh_index()?;
        Ok(repository)
    }

    /// Reads which features the repository has, whatever they forbid.
    pub fn features(&self) -> Result<Vec<Recorded>> {
        let remembered = remembered(self.known.as_ref(), self.vault.keys());
        let mut features = features::read(&*self.store, &self.vault)?;
        let is_lost = |seen: &Recorded| !features.iter().any(|there| there.feature.is_same(&seen.feature));
        let lost: Vec<_> = remembered.into_iter().filter(is_lost).collect();
        features.extend(lost);
        features.sort_by_key(|recorded| recorded.feature.number);
        Ok(features)
    }
}

impl Repository {
    /// Opens the repository in a local folder, with the credentials that `credentials` gives for its id.
    pub fn open(
        path: &Path,
        options: &Options<'_>,
        credentials: impl FnOnce(&RepositoryId) -> Result<Vec<Credential>>,
    ) -> Result<Self> {
        Unlocked::at_folder(path, options, credentials)?.load(options)
    }

    /// Opens the repository at a place far away, where there may be none.
    pub fn open_far(
        store: Arc<dyn Store>,
        options: &Options<'_>,
        credentials: impl FnOnce(&RepositoryId) -> Result<Vec<Credential>>,
    ) -> Result<Self> {
        Unlocked::at_far(store, options, credentials)?.load(options)
    }

    /// Opens the repository in a store, whatever that is.
    pub fn unlock(
        store: Arc<dyn Store>,
        options: &Options<'_>,
        credentials: impl FnOnce(&RepositoryId) -> Result<Vec<Credential>>,
    ) -> Result<Self> {
        let config = Zeroizing::new(store.read_whole(Object::Config, MAX_CONFIG_BYTES)?);
        let address = address_of(&*store);
        Unlocked::with_config(store, address, &config, options, credentials)?.load(options)
    }

    /// Fails where another repository has come to the place since this one was opened. Of a place far away nothing is
    /// asked.
    pub fn require_same(&self) -> Result<()> {
        if self.store.is_far() { Ok(()) } else { require_same(&*self.store, self.id()) }
    }
}

/// Fails where what is in a store is not, or not any more, the repository that was opened there.
fn require_same(store: &dyn Store, opened: RepositoryId) -> Result<()> {
    let at = store.location();
    let config = store.read_whole(Object::Config, MAX_CONFIG_BYTES).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::new(
            ErrorKind::NoRepository,
            format!("The repository at {at} is not there any more since it was opened: is its disk still mounted?"),
        )
        .because(error),
        _ => error,
    })?;
    let there = decode(store, &Zeroizing::new(config))?.repository;
    match there == opened {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::Exchanged,
            format!(
                "The repository at {at} is another one ({there}) than the one that was opened ({opened}): bring that back, \
                 or open the new one anew"
            ),
        )),
    }
}

/// Returns the features that this machine has seen the repository to have.
fn remembered(known: Option<&Visited>, keys: &Keys) -> Vec<Recorded> {
    let features = known.map(|known| known.features(keys)).unwrap_or_default();
    features.into_iter().map(|feature| Recorded { feature, records: 0 }).collect()
}

/// Reads the configuration of a place where there may be none.
fn read_config(store: &dyn Store) -> Result<Zeroizing<Vec<u8>>> {
    let config = store.read_whole(Object::Config, MAX_CONFIG_BYTES).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::new(
            ErrorKind::NoRepository,
            format!(
                "There is no repository at {}: check the bucket and the path, or make one there with `bakfs init`",
                store.location()
            ),
        )
        .because(error),
        _ => error,
    })?;
    Ok(Zeroizing::new(config))
}

/// Finds the master key, and forgets it for the keys that are made from it.
#[inline(never)]
fn unlock_keys(
    store: &dyn Store,
    address: Address,
    config: &[u8],
    options: &Options<'_>,
    credentials: impl FnOnce(&RepositoryId) -> Result<Vec<Credential>>,
) -> Result<(Stored, Option<Visit>, Keys, Vec<String>)> {
    let mut stored = decode(store, config)?;
    // Before any credential is asked for or used: it may not be what they are for.
    let visit = recognise(address, &stored, config, options)?;
    let Master { master, notes } = match stored.config.open_key {
        Some(key) if stored.suite == Suite::Plain => Master { master: Secret(key), notes: Vec::new() },
        _ => find_master(store, stored.repository, &credentials(&stored.repository)?, options.keyring)?,
    };
    let keys = Keys::derive(&master);
    if !stored.is_genuine(|bytes| keys.config_mac(bytes)) {
        return Err(Error::damaged(format!(
            "The configuration of the repository at {} was changed: bring the file `config` back from a copy",
            store.location()
        )));
    }
    stored.forget_key();
    Ok((stored, visit, keys, notes))
}

fn decode(store: &dyn Store, config: &[u8]) -> Result<Stored> {
    Stored::decode(config).map_err(|error| {
        Error::new(
            ErrorKind::Unsupported,
            format!("The configuration of the repository at {} cannot be used", store.location()),
        )
        .because(error)
    })
}

fn address_of(store: &dyn Store) -> Address {
    match store.is_far() {
        true => Address { key: store.address().into_bytes(), shown: store.location() },
        false => Address::of_folder(Path::new(&store.location())),
    }
}

/// Looks, without a key, whether a configuration is of a repository that may be at a place, as far as `options` know:
/// what is there is not used if it is not.
pub fn recognise_in(store: &dyn Store, options: &Options<'_>) -> Result<()> {
    let config = store.read_whole(Object::Config, MAX_CONFIG_BYTES)?;
    recognise(address_of(store), &decode(store, &config)?, &config, options).map(drop)
}

fn recognise(address: Address, stored: &Stored, config: &[u8], options: &Options<'_>) -> Result<Option<Visit>> {
    let identity =
        Identity { repository: stored.repository, suite: stored.suite, config: *blake3::hash(config).as_bytes() };
    let place = address.shown.clone();
    let visit = options.known.map(|folder| Known::new(folder).visit(address, identity)).transpose()?;
    let is_open = stored.suite == Suite::Plain;
    match options.why_encrypted.filter(|_| is_open).and_then(|why| why(&stored.repository)) {
        None => Ok(visit),
        Some(why) => Err(Error::new(
            ErrorKind::Exchanged,
            format!(
                "The repository at {place} is {identity}: whoever can write there may have exchanged it, to read what is \
                 backed up next. Nothing was read from it or written to it; {why}"
            ),
        )),
    }
}
