//! What this machine knows of earlier runs: one file for each profile and repository, and locks.
//!
//! Nothing here is needed to restore. A state that is lost or damaged counts as none, and is said to be so.

pub mod belief;
pub mod lock;
pub mod metrics;
pub mod overdue;
pub mod pending;
pub mod record;
pub mod report;
pub mod running;

use crate::disk::{self, Lasting};
use crate::error::{Context, Error, Result};
use crate::trust::folder;
pub use record::{Outcome, ProfileState, RepositoryState, Run};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// What is written to see whether there is room: as much as a state.
const PROBE_BYTES: usize = 16 << 10;
/// State files are read up to this length.
const MAX_STATE_BYTES: u64 = 16 << 20;

/// The folder of states.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
    /// The configuration whose runs are meant.
    configuration: Option<PathBuf>,
    /// What is added to names of profiles: they belong to a configuration that is not the usual one.
    suffix: String,
}

impl StateDir {
    /// Names the folder; it is made when something is kept.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        StateDir { path: path.into(), configuration: None, suffix: String::new() }
    }

    /// Names the states of the runs of one configuration: profiles of the same name in another one are others. Those of
    /// the `usual` one have their plain names.
    pub fn of_configuration(self, configuration: Option<&Path>, usual: &Path) -> Self {
        let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let configuration = configuration.map(real);
        let suffix = match &configuration {
            Some(path) if *path != real(usual) => {
                let hash = blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex();
                // No profile's name has this character.
                format!("@{}", &hash[..8])
            }
            _ => String::new(),
        };
        StateDir { configuration, suffix, ..self }
    }

    fn key_of(&self, profile: &str) -> String {
        format!("{profile}{}", self.suffix)
    }

    /// Returns the profile a key is of; `None` where it is another configuration's.
    fn profile_of(&self, key: &str) -> Option<String> {
        let profile = key.strip_suffix(&*self.suffix)?;
        (!profile.contains('@')).then(|| profile.to_string())
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the configuration whose runs are meant, where one is.
    fn configuration(&self) -> Option<&Path> {
        self.configuration.as_deref()
    }

    fn file(&self, kind: &str, profile: &str) -> PathBuf {
        self.path.join(kind).join(format!("{}.json", self.key_of(profile)))
    }

    /// Returns what is known of a profile. What was noted before configurations were told apart may be another's: the
    /// repository of its runs tells ([`ProfileState::of_repository`]).
    pub fn profile(&self, name: &str) -> ProfileState {
        let (own, plain) = (self.file("profiles", name), self.path.join("profiles").join(format!("{name}.json")));
        let found: Option<ProfileState> = match load(&own) {
            None if own != plain => load(&plain).filter(|plain: &ProfileState| plain.configuration.is_none()),
            found => found,
        };
        ProfileState { name: name.to_string(), ..found.unwrap_or_default() }
    }

    /// Keeps what is known of a profile.
    pub fn keep_profile(&self, state: &ProfileState) -> Result<()> {
        let configuration = self.configuration.as_ref().map(|path| path.display().to_string());
        let state = ProfileState { configuration: configuration.or(state.configuration.clone()), ..state.clone() };
        self.keep(&self.file("profiles", &state.name), &state)
    }

    fn repository_file(&self, place: &str, id: Option<&str>) -> PathBuf {
        let of_id = id.map(|id| format!("-{}", &id[..id.len().min(16)])).unwrap_or_default();
        self.path.join("repositories").join(format!("{}{of_id}.json", key(place)))
    }

    /// Returns what is known of the repository of an id at a place. What was noted before ids were is taken for the
    /// same one's, until more is noted.
    pub fn repository(&self, place: &str, id: Option<&str>) -> RepositoryState {
        let found = load(&self.repository_file(place, id)).or_else(|| load(&self.repository_file(place, None)));
        RepositoryState { place: place.to_string(), ..found.unwrap_or_default() }
    }

    /// Keeps what is known of a repository.
    pub fn keep_repository(&self, state: &RepositoryState, id: Option<&str>) -> Result<()> {
        self.keep(&self.repository_file(&state.place, id), state)?;
        if id.is_none() {
            return Ok(());
        }
        // It is of this one: another one there will not inherit it.
        match std::fs::remove_file(self.repository_file(&state.place, None)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(format!("Cannot remove what was noted of {} before", state.place), error))
            }
            _ => Ok(()),
        }
    }

    /// Returns why nothing could be noted in the folder now, found out by trying: then nothing that is known here is to
    /// be relied on.
    pub fn unkept(&self) -> Option<String> {
        let probe = || -> std::io::Result<()> {
            if !self.path.is_dir() {
                let above = self.path.ancestors().find(|above| above.is_dir()).unwrap_or(Path::new("/"));
                return Ok(rustix::fs::access(above, rustix::fs::Access::WRITE_OK)?);
            }
            let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(&self.path)?;
            file.write_all(&[0; PROBE_BYTES])?;
            file.as_file().sync_all()
        };
        let error = probe().err()?;
        let path = self.path.display();
        Some(format!("What runs do cannot be noted in {path}, so what is told here may be old: {error}"))
    }

    /// Returns when a run last made a snapshot in the repository at a place.
    pub fn last_snapshot_secs(&self, place: &str) -> Option<i64> {
        let files = std::fs::read_dir(self.path.join("profiles")).into_iter().flatten().flatten();
        let states = files.filter_map(|file| load::<ProfileState>(&file.path()));
        let runs = states.flat_map(|state| state.runs);
        runs.filter(|run| run.repository == place && run.snapshot.is_some()).map(|run| run.ended_secs).max()
    }

    /// Writes a file at once or not at all; it is durable afterwards.
    fn keep(&self, path: &Path, state: &impl Serialize) -> Result<()> {
        let text = serde_json::to_vec_pretty(state)
            .map_err(|error| Error::io(format!("Cannot write {}", path.display()), std::io::Error::other(error)))?;
        self.write(path, &text)
    }

    /// Makes the folder; those above it are others' too, and closed to nobody.
    fn make(&self) -> std::io::Result<()> {
        folder::make(self.path.parent().unwrap_or(Path::new("/")), folder::PUBLIC)?;
        folder::make_own(&self.path, folder::PRIVATE)
    }

    /// Writes a file of this folder, which is for its owner alone.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.make().context(|| format!("Cannot make {}", self.path.display()))?;
        write_whole(path, bytes, Readers::Owner)
    }
}

/// Returns the file name of a place: readable, and different for different places.
fn key(place: &str) -> String {
    let plain: String = place.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(60).collect();
    let hash = blake3::hash(place.as_bytes()).to_hex();
    format!("{}-{}", plain.trim_matches('-'), &hash[..8])
}

fn load<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!("What is known of earlier runs cannot be read in {}: {error}", path.display());
            return None;
        }
        Ok(file) => file,
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_STATE_BYTES).read_to_end(&mut bytes).map_err(|error| error.to_string());
    match read.and_then(|_| serde_json::from_slice(&bytes).map_err(|error| error.to_string())) {
        Ok(state) => Some(state),
        Err(error) => {
            tracing::warn!("What is known of earlier runs is damaged in {}: {error}", path.display());
            None
        }
    }
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Its owner: folders are made with mode 0700, the file with 0600.
    Owner,
    /// Everybody, as a metrics file: 0755 and 0644.
    All,
}

/// Writes a file at once or not at all; it is durable afterwards. Folders above it are made where they are missing. The
/// modes are these whatever the umask; a link in the place of the file is replaced, and one in the place of its folder
/// refused where root writes.
pub fn write_whole(path: &Path, bytes: &[u8], readers: Readers) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let writing = || format!("Cannot write {}", path.display());
    let (folder_mode, mode) = match readers {
        Readers::Owner => (folder::PRIVATE, 0o600),
        Readers::All => (folder::PUBLIC, 0o644),
    };
    folder::make_own(folder, folder_mode).context(writing)?;
    disk::replace(path, bytes, mode, Lasting::New).context(writing)
}
