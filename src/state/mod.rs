//! What this machine knows of earlier runs: one file for each profile and repository, and locks.
//!
//! Nothing here is needed to restore. A state that is lost or damaged counts as none, and is said to be so.

pub mod lock;
pub mod metrics;
pub mod overdue;
pub mod pending;
pub mod record;
pub mod running;

use crate::error::{Context, Error, Result};
use crate::trust::folder;
pub use record::{Outcome, ProfileState, RepositoryState, Run};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// State files are read up to this length.
const MAX_STATE_BYTES: u64 = 16 << 20;

/// The folder of states.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// Names the folder; it is made when something is kept.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        StateDir { path: path.into() }
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file(&self, kind: &str, name: &str) -> PathBuf {
        self.path.join(kind).join(format!("{name}.json"))
    }

    /// Returns what is known of a profile.
    pub fn profile(&self, name: &str) -> ProfileState {
        let mut state: ProfileState = load(&self.file("profiles", name)).unwrap_or_default();
        state.name = name.to_string();
        state
    }

    /// Keeps what is known of a profile.
    pub fn keep_profile(&self, state: &ProfileState) -> Result<()> {
        self.keep(&self.file("profiles", &state.name), state)
    }

    /// Returns what is known of the repository at a place.
    pub fn repository(&self, place: &str) -> RepositoryState {
        let mut state: RepositoryState = load(&self.file("repositories", &key(place))).unwrap_or_default();
        state.place = place.to_string();
        state
    }

    /// Keeps what is known of a repository.
    pub fn keep_repository(&self, state: &RepositoryState) -> Result<()> {
        self.keep(&self.file("repositories", &key(&state.place)), state)
    }

    /// Writes a file at once or not at all; it is durable afterwards.
    fn keep(&self, path: &Path, state: &impl Serialize) -> Result<()> {
        let text = serde_json::to_vec_pretty(state)
            .map_err(|error| Error::io(format!("Cannot write {}", path.display()), std::io::Error::other(error)))?;
        write_whole(path, &text, Readers::Owner)
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
    let permissions = || std::os::unix::fs::PermissionsExt::from_mode(mode);
    let mut file = tempfile::Builder::new().permissions(permissions()).tempfile_in(folder).context(writing)?;
    file.as_file().set_permissions(permissions()).context(writing)?;
    file.write_all(bytes).context(writing)?;
    file.as_file().sync_all().context(writing)?;
    file.persist(path).map_err(|error| error.error).context(writing)?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).context(writing)
}
