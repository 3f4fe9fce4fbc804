//! What this machine knows of a backup it has made: on which file system the walk was where, and which change was the
//! newest it met there. Sealed files of the cache, one for each snapshot; lost without harm.

use crate::crypto::seal::{FramePlace, Role, TAG_BYTES};
use crate::format::codec::{self, Bytes};
use crate::format::header::{Header, Kind, VERSION};
use crate::format::tree::Time;
use crate::id::ObjectId;
use crate::repo::Repository;
use serde::{Deserialize, Serialize};

/// Start of the names of these files; what follows is the snapshot's id.
const PREFIX: &str = "walked-1-";
/// The newest files that are kept: more than there are profiles on a machine.
const MAX_FILES: usize = 256;
/// A walk over more places than this is not remembered.
const MAX_PLACES: usize = 1 << 14;

/// A directory at which the walk came upon another file system, and what that one is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkedPlace {
    /// The directory's path; empty for the root.
    pub path: Bytes,
    /// Number of the file system in [`Walked::file_systems`].
    pub file_system: u32,
}

/// A file system that was walked over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkedFileSystem {
    /// What it is, under each of its names.
    pub kin: Vec<Bytes>,
    /// The mount it was seen through, where that is one state that goes on by this machine's clock.
    pub mount: Option<Bytes>,
    /// The newest change that was met and is not after the walk's beginning; `None` without any.
    pub past: Option<Time>,
    /// The newest change of all that were met.
    pub newest: Option<Time>,
}

/// What is known of a walk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walked {
    /// Where file systems began.
    pub places: Vec<WalkedPlace>,
    /// The file systems.
    pub file_systems: Vec<WalkedFileSystem>,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    /// Without it a file under another snapshot's name would pass for that one's.
    snapshot: [u8; 32],
    walked: Walked,
}

fn file_name(snapshot: &ObjectId) -> String {
    format!("{PREFIX}{}", snapshot.to_hex())
}

impl Repository {
    /// Remembers the walk that made a snapshot. That it could not be kept is no error.
    pub fn keep_walked(&self, snapshot: ObjectId, walked: Walked) {
        let Some(cache) = self.cache.as_ref().filter(|_| walked.places.len() <= MAX_PLACES) else { return };
        let plain = codec::encode(&Sealed { snapshot: snapshot.0, walked });
        let Ok(plain_bytes) = u32::try_from(plain.len()) else { return };
        let mut sealer = self.vault.sealer(Kind::Mark);
        let mut bytes = sealer.header().encode();
        let from = bytes.len();
        bytes.extend_from_slice(&plain);
        sealer.seal(Role::Known, 0, plain_bytes, &mut bytes, from);
        cache.write_file(&file_name(&snapshot), &bytes);
        cache.keep_newest(PREFIX, MAX_FILES);
    }

    /// Returns what is known of the walk that made a snapshot; `None` where it was made elsewhere, or that is lost.
    pub fn walked(&self, snapshot: &ObjectId) -> Option<Walked> {
        let bytes = self.cache.as_ref()?.read_file(&file_name(snapshot))?;
        let header = Header::decode(&bytes).ok()?;
        let is_own = (header.version, header.kind) == (VERSION, Kind::Mark)
            && header.suite == self.suite()
            && header.repository == self.id();
        let mut sealed = bytes.get(header.len_bytes()..).filter(|_| is_own)?.to_vec();
        let plain_bytes = u32::try_from(sealed.len().checked_sub(TAG_BYTES)?).ok()?;
        let place = FramePlace { role: Role::Known, number: 0, codec: 0, plain_bytes };
        let plain = self.vault.opener(&header).ok()?.open(place, &mut sealed).ok()?;
        let opened: Sealed = codec::decode("record of a walk", plain).ok()?;
        let count = opened.walked.file_systems.len();
        let is_whole = opened.walked.places.iter().all(|place| (place.file_system as usize) < count);
        (opened.snapshot == snapshot.0 && is_whole).then_some(opened.walked)
    }
}
