//! Objects in services reached over a network.
//!
//! [`crate::remote`] speaks paths; here is which object has which path, how one is put (`put.rs`), and what listings must
//! show. Nothing is kept: that is for a cache above.

mod folders;
mod list;
mod put;
mod shown;

#[cfg(test)]
mod tests;

use super::{Hints, ListedObject, Names, Object, ObjectKind, Store, Traffic, Wait};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ObjectId;
use crate::place::Remote;
use crate::remote::{Bounds, Client, Environment, MAX_PAGE_BYTES, Policy, RemoteOptions, Task};
use parking_lot::Mutex;
use shown::Shown;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::AtomicBool;

/// Names that are looked at to tell what is at a place.
const MAX_LOOKED_AT: usize = 300;

/// What is at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Whether there is a repository's configuration.
    pub has_config: bool,
    /// Where there is none: names at the place, those of folders with a slash at their end; not all of very many.
    pub names: Vec<String>,
}

/// A store in a service reached over a network.
pub struct RemoteStore {
    client: Client,
    /// What was put (true) or removed and may not show in listings yet, where those lag behind.
    unlisted: Mutex<BTreeMap<Object, bool>>,
    /// Whether a checksum the server told was found to be none: what it tells says nothing.
    has_opaque_checksums: AtomicBool,
    shown: Mutex<Shown>,
}

impl RemoteStore {
    /// Collects settings and secrets; nothing is asked of the place yet.
    pub fn open(place: &Remote, options: &RemoteOptions, environment: Environment) -> Result<RemoteStore> {
        Self::with_policy(place, options, environment, Policy::default())
    }

    /// Does so with another patience than the usual.
    pub fn with_policy(
        place: &Remote,
        options: &RemoteOptions,
        environment: Environment,
        policy: Policy,
    ) -> Result<RemoteStore> {
        let client = Client::with_policy(place, options, environment, policy)?;
        // A place without it has no repository.
        let client = client.with_landmark(Object::Config.path());
        Ok(RemoteStore {
            client,
            unlisted: Mutex::default(),
            has_opaque_checksums: AtomicBool::new(false),
            shown: Mutex::default(),
        })
    }

    /// Tells what is at the place, in at most two requests.
    pub fn look(&self) -> Result<Contents> {
        self.client.block_on(async {
            let config = Object::Config.path();
            let task = Task { verb: "look for", name: &config };
            if self.client.found(task, &config).await?.is_some() {
                return Ok(Contents { has_config: true, names: Vec::new() });
            }
            let sample = Bounds { max_page_bytes: Some(MAX_PAGE_BYTES), ..Bounds::sample(MAX_LOOKED_AT) };
            let names = self.client.listed_or_none("", &sample, &|item| Some(item.path));
            Ok(Contents { has_config: false, names: names.await? })
        })
    }

    /// Makes the folders a repository needs, where the place has folders.
    pub fn prepare(&self) -> Result<()> {
        if !self.client.has_folders() {
            return Ok(());
        }
        self.client.block_on(self.make_folders())
    }
}

impl Store for RemoteStore {
    fn put(&self, object: Object, bytes: &[u8]) -> Result<()> {
        self.client.block_on(self.put_object(object, bytes::Bytes::copy_from_slice(bytes)))?;
        self.shown.lock().put(&object);
        if self.client.listings_lag() {
            self.unlisted.lock().insert(object, true);
        }
        Ok(())
    }

    /// Listings of most services show at once what was stored and removed. Those of Swift, whose container databases
    /// are brought up to date later (OpenStack Swift, "Eventual consistency"), are asked until they show what this
    /// store did, and so are those of any S3 that is not Amazon's: it may be Swift's.
    fn barrier(&self, _names: Names) -> Result<()> {
        // Another call may wait for the same: nothing is taken off before a listing has shown it.
        let unlisted = self.unlisted.lock().clone();
        if unlisted.is_empty() {
            return Ok(());
        }
        self.client.block_on(self.wait_for_listings(&unlisted))?;
        self.unlisted.lock().retain(|object, is_put| unlisted.get(object) != Some(is_put));
        Ok(())
    }

    fn len_bytes(&self, object: Object) -> Result<u64> {
        self.client.len_bytes(&object.path())
    }

    fn read_at(&self, object: Object, offset: u64, buffer: &mut [u8], wait: Wait) -> Result<()> {
        if wait == Wait::Never {
            return Err(Error::new(ErrorKind::WouldWait, "The bytes are far away"));
        }
        let range = offset..offset + buffer.len() as u64;
        // No more comes than was asked for, and all of it.
        let mut each = |at: usize, bytes: &[u8]| buffer[at..at + bytes.len()].copy_from_slice(bytes);
        self.client.read(&object.path(), range, &mut each)
    }

    fn read_through(&self, object: Object, range: Range<u64>, each: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
        let start = range.start;
        let mut each = |at: usize, bytes: &[u8]| each(start + at as u64, bytes);
        self.client.read(&object.path(), range, &mut each)
    }

    fn read_whole(&self, object: Object, max_bytes: u64) -> Result<Vec<u8>> {
        self.client.read_whole(&object.path(), max_bytes)
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<ListedObject>> {
        self.client.block_on(self.listed(kind))
    }

    fn delete(&self, object: Object) -> Result<()> {
        self.shown.lock().remove(object);
        self.client.delete(&object.path())?;
        if self.client.listings_lag() {
            self.unlisted.lock().insert(object, false);
        }
        Ok(())
    }

    fn sweep(&self) -> Result<u64> {
        if !self.client.has_folders() {
            return Ok(0);
        }
        self.client.block_on(self.sweep_folders())
    }

    fn location(&self) -> String {
        self.client.place().to_string()
    }

    fn address(&self) -> String {
        self.client.address()
    }
}

impl Hints for RemoteStore {
    fn connections(&self) -> usize {
        self.client.connections()
    }

    fn is_far(&self) -> bool {
        true
    }

    fn traffic(&self) -> Traffic {
        self.client.traffic()
    }
}

/// Returns the id an object of a kind is named by.
fn id_of(kind: ObjectKind, path: &str) -> Option<ObjectId> {
    let id = ObjectId::from_hex(path.rsplit('/').next()?)?;
    // Servers may write paths in their own ways, but never end them in another name.
    kind.object(id).path().ends_with(path.rsplit('/').next()?).then_some(id)
}
