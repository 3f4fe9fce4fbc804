//! The files of this room: a version, a record, and the BLAKE3 hash of both.

use super::Identity;
use crate::disk::{self, Lasting};
use crate::error::{Context, Result};
use crate::format::codec::{self, Bytes};
use crate::format::header::Suite;
use crate::id::RepositoryId;
use crate::trust::folder;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The bytes every file starts with; the last one is the version.
const MAGIC: &[u8; 8] = b"bakfskn1";
const HASH_BYTES: usize = 32;
/// Files are read up to this length: far above what [`super::history::MAX_SEEN`] snapshots take.
const MAX_FILE_BYTES: u64 = 32 << 20;

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The repository.
    pub identity: Identity,
    /// Where it is, as people write it; nothing in what is known of a repository wherever it is.
    pub place: Vec<u8>,
    /// What was seen there (see [`super::history`]), sealed with the repository's keys; may be empty.
    pub sealed: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    repository: RepositoryId,
    suite: u8,
    config: [u8; 32],
    place: Bytes,
    sealed: Bytes,
}

impl Record {
    /// Encodes a whole file.
    pub fn encode(&self) -> Vec<u8> {
        let Identity { repository, suite, config } = self.identity;
        let (place, sealed) = (Bytes(self.place.clone()), Bytes(self.sealed.clone()));
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&codec::encode(&Stored { repository, suite: suite as u8, config, place, sealed }));
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        bytes
    }

    /// Decodes a whole file; `None` for one that is cut, changed or of another version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH_BYTES)?)?;
        let stored = body.strip_prefix(MAGIC).filter(|_| blake3::hash(body).as_bytes()[..] == *hash)?;
        let stored: Stored = codec::decode("record of a repository", stored).ok()?;
        let suite = [Suite::Plain, Suite::Aes256GcmSiv].into_iter().find(|suite| *suite as u8 == stored.suite)?;
        let identity = Identity { repository: stored.repository, suite, config: stored.config };
        Some(Record { identity, place: stored.place.0, sealed: stored.sealed.0 })
    }
}

/// Reads a file; `None` where there is none that can be used.
pub fn read(path: &Path) -> Option<Record> {
    let mut bytes = Vec::new();
    let file = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    let record = match file {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => Err(error.to_string()),
        Ok(_) => Record::decode(&bytes).ok_or_else(|| "it is cut, changed or of another version".to_string()),
    };
    record.inspect_err(|why| tracing::warn!("What is known of a repository is lost: {}: {why}", path.display())).ok()
}

/// Writes a file at once or not at all. That it could not be written is no error: what it would have told is then not
/// noticed.
pub fn replace(path: &Path, record: &Record) {
    if let Err(error) = write(path, &record.encode()) {
        tracing::debug!("What is known of a repository cannot be kept in {}: {error}", path.display());
    }
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    folder::make_own(folder, folder::PRIVATE)?;
    disk::replace(path, bytes, 0o600, Lasting::Whole)
}

/// Removes a file; one that does not exist is a success.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.context(|| format!("Cannot remove {}", path.display())),
    }
}

/// Lists the files of a folder whose names begin so; none where there is no folder.
pub fn list(folder: &Path, prefix: &str) -> Result<Vec<PathBuf>> {
    let reading = || format!("Cannot list {}", folder.display());
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.context(reading)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.context(reading)?;
        if entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let identity = Identity { repository: RepositoryId([7; 16]), suite: Suite::Aes256GcmSiv, config: [9; 32] };
        Record { identity, place: b"/srv/repo".to_vec(), sealed: b"sealed".to_vec() }
    }

    #[test]
    fn the_bytes_of_a_file_are_pinned() {
        let bytes = record().encode();
        let mut expected = b"bakfskn1".to_vec();
        expected.extend_from_slice(&[7; 16]);
        expected.push(1);
        expected.extend_from_slice(&[9; 32]);
        for text in [&b"/srv/repo"[..], b"sealed"] {
            expected.extend_from_slice(&(text.len() as u64).to_le_bytes());
            expected.extend_from_slice(text);
        }
        let hash = blake3::hash(&expected);
        expected.extend_from_slice(hash.as_bytes());
        assert_eq!(bytes, expected);
        assert_eq!(Record::decode(&bytes), Some(record()));
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_no_record() {
        let bytes = record().encode();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::decode(&changed), None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(Record::decode(&bytes[..len]), None, "cut to {len}");
        }
    }

    #[test]
    fn files_are_for_their_owner_alone_and_are_replaced_at_once() {
        use std::os::unix::fs::PermissionsExt;
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("state/known/place-1");
        replace(&path, &record());
        replace(&path, &Record { place: Vec::new(), ..record() });
        assert_eq!(read(&path).unwrap().place, b"");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(list(path.parent().unwrap(), "").unwrap(), std::slice::from_ref(&path), "nothing temporary is left");
        // Not to be able to keep it is no error.
        replace(&path.join("below a file"), &record());
        assert_eq!(read(&path.join("below a file")), None);
    }
}
