//! What this machine knows of a repository before it opens it: where that is kept, and what it makes of what it finds.

use super::Access;
use super::credentials::TYPED;
use super::folders::{config_folder, folder, of_environment};
use crate::crypto::slot::Credential;
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::Stored;
use crate::id::RepositoryId;
use crate::known::{Address, Forgotten, Known};
use crate::place::Place;
use crate::remote::{Environment, address};
use crate::repo::features::Recorded;
use crate::repo::open::{Found, MAX_CONFIG_BYTES, Options, Unlocked, WhyEncrypted, look, recognise_in};
use crate::spelling::nearest;
use crate::state::StateDir;
use crate::store::local::LocalStore;
use crate::store::{Object, Store};
use crate::trust::environment;
use std::cell::Cell;
use std::path::PathBuf;

impl Access {
    /// Returns the folder of what this machine knows of repositories: beside the states of runs, or where
    /// BAKFS_CONFIG_DIR has moved configuration and keys: who uses others is somebody else.
    fn known_folder(&self) -> Result<PathBuf> {
        let moved = || std::env::var_os("BAKFS_CONFIG_DIR").map(|_| config_folder());
        let state = self.named_state_folder()?.or_else(moved);
        let known = state.unwrap_or_else(usual_state_folder).join("known");
        Ok(std::path::absolute(&known).unwrap_or(known))
    }

    /// Returns the folder of states of runs.
    fn state_folder(&self) -> Result<PathBuf> {
        Ok(self.named_state_folder()?.unwrap_or_else(usual_state_folder))
    }

    fn named_state_folder(&self) -> Result<Option<PathBuf>> {
        let configured = self.configured_path("state-dir", self.places()?.state_dir)?;
        Ok(configured.or_else(|| of_environment("BAKFS_STATE_DIR")))
    }

    fn address(&self) -> Result<Address> {
        Ok(match self.place()? {
            Place::Local(path) => Address::of_folder(&path),
            Place::Remote(remote) => {
                let shown = remote.to_string();
                // The server may be set elsewhere than in the place; nothing is asked of it. Where that cannot be told,
                // the place has to do.
                let key = address(&remote, Environment::of_process()).unwrap_or_else(|_| shown.clone());
                Address { key: key.into_bytes(), shown }
            }
        })
    }

    /// Forgets what is known of the place and of the repositories there.
    pub fn forget_place(&self) -> Result<Vec<Forgotten>> {
        Known::new(self.known_folder()?).forget(&self.address()?)
    }

    /// Fails if a repository was seen at the place, or may have been, where none is to be made without being asked for.
    pub fn require_unknown(&self) -> Result<()> {
        let address = self.address()?;
        if let Some(was) = self.was_there(&address)? {
            return Err(Error::new(ErrorKind::NoRepository, gone(&address.shown, &was)));
        }
        // The folder of what is known may be on the disk that is missing: keys seldom are.
        let known = Known::new(self.known_folder()?);
        let is_lost = |(id, _): &(RepositoryId, PathBuf)| !known.has_place_of(id);
        let Some((id, key)) = self.keys()?.into_iter().find(is_lost) else { return Ok(()) };
        Err(Error::new(
            ErrorKind::NoRepository,
            format!(
                "There is no repository at {}, but this machine has used one ({}, with the key {}), and nothing tells \
                 where that is: if its disk is not mounted, mount it; `bakfs init` makes a new repository",
                address.shown,
                id,
                key.display()
            ),
        ))
    }

    /// Returns the repositories whose key files are on this machine, with those files.
    fn keys(&self) -> Result<Vec<(RepositoryId, PathBuf)>> {
        let files = std::fs::read_dir(config_folder().join("keys")).into_iter().flatten().flatten();
        let id = |path: &PathBuf| RepositoryId::from_hex(path.file_name()?.to_str()?.strip_suffix(".key")?);
        Ok(files.filter_map(|file| id(&file.path()).map(|id| (id, file.path()))).collect())
    }

    /// Returns what this machine knows to have been at a place, and when, for people.
    fn was_there(&self, address: &Address) -> Result<Option<String>> {
        let known = Known::new(self.known_folder()?);
        let state = StateDir::new(self.state_folder()?);
        let day = |secs: i64| {
            let time = jiff::Timestamp::from_second(secs).ok()?;
            Some(format!("it was there on {}", time.to_zoned(jiff::tz::TimeZone::system()).date()))
        };
        let noted = known.noted(address).and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let noted = noted.and_then(|since| i64::try_from(since.as_secs()).ok());
        let last = noted.into_iter().chain(state.last_snapshot_secs(&self.place()?.to_string())).max().and_then(day);
        Ok(match known.at(address) {
            Some(was) => Some([Some(was.to_string()), last].into_iter().flatten().collect::<Vec<_>>().join("; ")),
            None => last,
        })
    }

    /// Says more of a repository that is not there: that its disk may not be mounted, or its name misspelt.
    fn explained(&self, error: Error) -> Error {
        if !matches!(error.kind(), ErrorKind::NoRepository | ErrorKind::Unsupported) || !self.is_absent() {
            return error;
        }
        if let Some(meant) = self.misspelt_name() {
            return Error::new(error.kind(), meant);
        }
        let Ok(address) = self.address() else { return error };
        match self.was_there(&address) {
            Ok(Some(was)) if error.kind() == ErrorKind::NoRepository => {
                Error::new(error.kind(), gone(&address.shown, &was))
            }
            Ok(Some(was)) => {
                let more = format!("This machine has used a repository there ({was}): is its disk mounted?");
                Error::new(error.kind(), format!("{} {more}", error.chain()))
            }
            _ => error,
        }
    }

    /// Returns what is to be said of a repository that is not at the place, where this machine has used one.
    pub fn missed(&self) -> Option<String> {
        let address = self.address().ok()?;
        self.was_there(&address).ok().flatten().map(|was| gone(&address.shown, &was))
    }

    /// Returns whether there is no repository at the place, as far as that can be told.
    fn is_absent(&self) -> bool {
        match self.place() {
            Ok(Place::Local(path)) => look(&path).is_ok_and(|found| found != Found::Repository),
            Ok(Place::Remote(_)) => {
                let found = self.store().and_then(|store| store.len_bytes(Object::Config));
                found.is_err_and(|error| error.kind() == ErrorKind::NotFound)
            }
            Err(_) => false,
        }
    }

    /// Returns the question whether a name of the configuration was meant, where the repository that is given is a bare
    /// word near to one.
    pub fn misspelt_name(&self) -> Option<String> {
        let given = self.repo.as_ref()?.to_str()?;
        let places = self.places().ok()?;
        if given.contains('/') || places.repository.contains_key(given) {
            return None;
        }
        let meant = nearest(given, places.repository.keys().map(String::as_str))?;
        Some(format!(
            "The configuration has no repository `{given}`: did you mean `{meant}`? A folder of that name is `./{given}`"
        ))
    }

    /// Returns why a repository of this id must be encrypted: somebody has a credential for it.
    fn why_encrypted(&self) -> Result<Box<WhyEncrypted>> {
        let given = self.given_by()?.filter(|_| !self.accept_unencrypted);
        let access = self.clone();
        Ok(Box::new(move |id| {
            let key = access.key_path(id);
            if key.exists() {
                let key = key.display();
                return Some(format!(
                    "there is a key file {key} for it, so it was encrypted: bring `config` back from a copy"
                ));
            }
            let by = given.as_ref()?;
            Some(format!(
                "a passphrase or key is given ({by}): give none, or add --accept-unencrypted, if it is meant so"
            ))
        }))
    }

    /// Returns what gives a passphrase or key, without reading it, as words that what it gives may follow.
    pub fn given_by(&self) -> Result<Option<String>> {
        if let Some(from) = &self.passphrase_from {
            return Ok(Some(from.clone()));
        }
        let chosen = self.chosen()?;
        let file = |path: &Option<PathBuf>, by: &str| path.as_ref().map(|path| format!("{} ({by})", path.display()));
        // clap does not tell which of the two it was, and who has set both means the same.
        let is_variable = self.password_file.is_some()
            && self.password_file == std::env::var_os("BAKFS_PASSWORD_FILE").map(PathBuf::from);
        let (option, command_by) = match (self.is_configured, is_variable) {
            (true, _) => ("`password-file` of the configuration", "`password-command` of the configuration"),
            (false, true) => ("BAKFS_PASSWORD_FILE", "--password-command"),
            (false, false) => ("--password-file", "--password-command"),
        };
        let command = |command: &Option<String>, by: &str| command.as_ref().map(|_| by.to_string());
        Ok(file(&self.password_file, option)
            .or_else(|| command(&self.password_command, command_by))
            .or_else(|| file(&chosen.password_file, "`password-file` of the configuration"))
            .or_else(|| command(&chosen.password_command, "`password-command` of the configuration"))
            .or_else(|| environment::is_set(environment::PASSWORD).then(|| environment::PASSWORD.into())))
    }

    /// Unlocks the repository where it is, with the credentials that `credentials` gives for its id.
    pub fn unlock_by(&self, credentials: impl FnOnce(&RepositoryId) -> Result<Vec<Credential>>) -> Result<Unlocked> {
        // A folder that is named wrongly is told of before anybody is asked for a passphrase.
        self.cache_base()?;
        let (known, why_encrypted) = (self.known_folder()?, self.why_encrypted()?);
        let options = Options {
            known: Some(&known),
            why_encrypted: Some(&*why_encrypted),
            keyring: Some(&self.keyring),
            ..Options::default()
        };
        let asked = Cell::new(None);
        let credentials = |id: &RepositoryId| {
            let found = credentials(id)?;
            asked.set(Some(*id));
            Ok(found)
        };
        let opened = match self.place()? {
            Place::Local(path) => Unlocked::at_folder(&path, &options, credentials),
            Place::Remote(_) => Unlocked::at_far(self.store()?, &options, credentials),
        };
        opened.map_err(|error| match (error.kind(), asked.get()) {
            (ErrorKind::Locked, Some(id)) => Error::new(ErrorKind::Locked, self.wrong_key(&id)).because(error),
            _ => self.explained(error),
        })
    }

    /// Reads which features the repository has, whatever they forbid.
    pub fn features(&self) -> Result<Vec<Recorded>> {
        self.unlock()?.features()
    }

    /// Says where a passphrase or key that opens nothing came from, and what else there is.
    pub fn wrong_key(&self, id: &RepositoryId) -> String {
        let key = self.key_path(id);
        match self.given_by() {
            Ok(Some(by)) if by == TYPED => "What was typed opens nothing".into(),
            Ok(Some(by)) if key.exists() => format!(
                "What {by} gives opens nothing, and this machine has the key file {} for the repository, which is used \
                 where nothing is given: take {by} away",
                key.display()
            ),
            Ok(Some(by)) => format!("What {by} gives opens nothing"),
            _ if key.exists() => format!("The key file {} opens nothing", key.display()),
            _ => "What was typed opens nothing".into(),
        }
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

    /// Returns the id of the repository: of one in a folder as it stands there, else as this machine knows it. No network
    /// is asked.
    pub fn known_id(&self) -> Option<RepositoryId> {
        if let Ok(Place::Local(path)) = self.place()
            && let Ok(bytes) = LocalStore::new(&path).read_whole(Object::Config, MAX_CONFIG_BYTES)
            && let Ok(stored) = Stored::decode(&bytes)
        {
            return Some(stored.repository);
        }
        Known::new(self.known_folder().ok()?).at(&self.address().ok()?).map(|known| known.repository)
    }

    /// Returns why a repository in a folder cannot be the one it should be; nothing is asked of a network.
    pub fn exchanged(&self) -> Option<Error> {
        let is_near = matches!(self.place(), Ok(Place::Local(_)));
        is_near.then(|| self.recognise().err()).flatten().filter(|error| error.kind() == ErrorKind::Exchanged)
    }
}

fn usual_state_folder() -> PathBuf {
    folder("XDG_STATE_HOME", ".local/state", "/var/lib/bakfs/state")
}

/// Says of a place that this machine knows that its repository is not there.
fn gone(place: &str, was: &str) -> String {
    format!(
        "There is no repository at {place}, where this machine has used one ({was}): is its disk mounted? Mount it, or \
         bring back what it is on; `bakfs init` would make a new and empty one there"
    )
}
