//! The ways into a repository: its key slots, listed, added and removed.
//!
//! Nothing is removed that could lock its caller out: what the caller has given opens a slot that stays, before and
//! after. What a slot has opened once stays open to whoever has kept the master key (docs/security.md).

use crate::crypto::keys::{Keys, Secret};
use crate::crypto::slot::{self, Credential, Slot};
use crate::crypto::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::Stored;
use crate::format::feature::Act;
use crate::format::header::Suite;
use crate::id::{ObjectId, RepositoryId};
use crate::repo::features::{self, Features};
use crate::repo::open::MAX_CONFIG_BYTES;
use crate::repo::unlock::{Look, MAX_KEY_BYTES, look_at_all, worth_trying};
use crate::repo::write::put::put_anew;
use crate::store::{Names, Object, ObjectKind, Store};
use crate::trust::hidden::Hidden;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// One way into a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySlot {
    /// The object it is.
    pub id: ObjectId,
    /// Whether it is for a passphrase, and not for a random key.
    pub is_passphrase: bool,
    /// Whether what was given opens it.
    pub is_given: bool,
}

impl KeySlot {
    /// Returns the word for what opens it.
    pub fn kind(&self) -> &'static str {
        if self.is_passphrase { "passphrase" } else { "key" }
    }
}

impl Serialize for KeySlot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("kind", self.kind())?;
        map.serialize_entry("used_now", &self.is_given)?;
        map.end()
    }
}

/// The key slots of a repository that one of them has opened.
pub struct KeySlots<'a> {
    store: &'a dyn Store,
    repository: RepositoryId,
    given: &'a [Credential],
    master: Hidden<Secret>,
    slots: Vec<KeySlot>,
    damaged: Vec<String>,
}

impl<'a> KeySlots<'a> {
    /// Lists the slots of the repository in a store, and tries what is given for its id on all that are worth it.
    ///
    /// Fails with [`ErrorKind::Locked`] where none opens, and with [`ErrorKind::Usage`] where the repository needs no key.
    pub fn open(store: &'a dyn Store, repository: RepositoryId, given: &'a [Credential]) -> Result<Self> {
        let (mut found, mut damaged) = (Vec::new(), Vec::new());
        for look in look_at_all(store, repository)? {
            match look {
                Look::Slot(id, slot) => found.push((id, slot)),
                Look::Damaged(_, error) => damaged.push(error.chain()),
                Look::Foreign(id, reason) => damaged.push(format!("{} is no key slot: {reason}", Object::Key(id))),
                Look::Gone => {}
            }
        }
        let mut master = None;
        let mut opened = Vec::new();
        for credential in given {
            let fitting: Vec<_> = found.iter().filter(|(_, slot)| slot.is_for(credential)).collect();
            let tried = worth_trying(&fitting.iter().map(|(_, slot)| slot.derivation()).collect::<Vec<_>>());
            for (id, slot) in tried.into_iter().map(|at| fitting[at]) {
                if let Some(key) = slot.open(credential) {
                    opened.push(*id);
                    master.get_or_insert_with(|| Hidden::new(key));
                }
            }
        }
        let Some(master) = master else {
            return Err(Error::new(
                ErrorKind::Locked,
                format!("The passphrase or key does not open the repository at {}", store.location()),
            ));
        };
        let known = |(id, slot): &(ObjectId, Box<Slot>)| KeySlot {
            id: *id,
            is_passphrase: slot.is_for(&Credential::Passphrase(Default::default())),
            is_given: opened.contains(id),
        };
        let mut slots: Vec<_> = found.iter().map(known).collect();
        slots.sort_unstable_by_key(|slot| slot.id);
        Ok(KeySlots { store, repository, given, master, slots, damaged })
    }

    /// Returns whose they are.
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// Returns the slots, by their ids.
    pub fn list(&self) -> &[KeySlot] {
        &self.slots
    }

    /// Returns what is wrong with objects among the slots that are none, or none any more.
    pub fn damaged(&self) -> &[String] {
        &self.damaged
    }

    /// Returns whether a credential opens a slot.
    pub fn opens(&self, id: ObjectId, credential: &Credential) -> bool {
        self.require_open(id, std::slice::from_ref(credential)).is_ok()
    }

    /// Returns the slot that a credential has already.
    pub fn slot_of(&self, credential: &Credential) -> Option<ObjectId> {
        self.slots.iter().map(|slot| slot.id).find(|id| self.opens(*id, credential))
    }

    /// Finds the one slot whose id begins so.
    pub fn find(&self, prefix: &str) -> Result<ObjectId> {
        let mut matching = self.slots.iter().filter(|slot| slot.id.to_hex().starts_with(prefix));
        let at = self.store.location();
        match (matching.next().filter(|_| !prefix.is_empty()), matching.next()) {
            (Some(slot), None) => Ok(slot.id),
            (None, _) => Err(Error::new(
                ErrorKind::NotFound,
                format!("No key slot of the repository at {at} is named `{prefix}`: `bakfs key list` has them"),
            )),
            (Some(_), Some(_)) => Err(Error::usage(format!(
                "`{prefix}` begins more than one key slot of the repository at {at}: write more of the id"
            ))),
        }
    }

    /// Fails if the repository has a feature that this bakfs does not know and that forbids something.
    pub fn require(&self, act: Act) -> Result<()> {
        // Only encrypted repositories have slots.
        let vault = Vault::new(Keys::derive(&self.master), Suite::Aes256GcmSiv, self.repository);
        Features::of(&features::read(self.store, &vault)?).require(act, &self.store.location())
    }

    /// Adds a slot, and returns its id once it was read back and opened.
    pub fn add(&mut self, credential: &Credential) -> Result<ObjectId> {
        self.require(Act::Add)?;
        // One that appears late under a name that was given up opens the same.
        let mut seal = || Ok(slot::seal(self.repository, &self.master, credential));
        let put = put_anew(self.store, ObjectKind::Key, &mut seal, &mut |_| Ok(()))?;
        let id = put.id;
        put.settle(self.store)?;
        self.require_open(id, std::slice::from_ref(credential))?;
        let is_passphrase = matches!(credential, Credential::Passphrase(_));
        self.slots.push(KeySlot { id, is_passphrase, is_given: false });
        Ok(id)
    }

    /// Removes a slot. Fails, and nothing is removed, unless what was given opens another one. Where that other one is
    /// gone afterwards, because somebody has removed it at the same moment, the slot is put back.
    pub fn remove(&mut self, id: ObjectId) -> Result<()> {
        self.require(Act::Remove)?;
        let given = self.given;
        let stays = self.slots.iter().find(|slot| slot.is_given && slot.id != id).map(|slot| slot.id);
        let Some(stays) = stays else {
            let (what, help) = match self.slots.len() {
                1 => ("is the only way into the repository", "add another one first (`bakfs key add`)"),
                _ => (
                    "is the one that was used now, so nothing shows that another one is left to you",
                    "give what opens another one",
                ),
            };
            return Err(Error::usage(format!(
                "The key slot {id} {what} at {}: {help}; nothing was removed",
                self.store.location()
            )));
        };
        self.remove_beside(id, stays, given)
    }

    /// Adds a slot, and then removes the passphrases that were given: the new one opens before an old one does not.
    /// Returns the new slot and those that are gone.
    pub fn change(&mut self, new: &Credential) -> Result<(ObjectId, Vec<ObjectId>)> {
        self.require(Act::Remove)?;
        let old = self.slots.iter().filter(|slot| slot.is_given && slot.is_passphrase).map(|slot| slot.id);
        let old: Vec<_> = old.collect();
        let added = self.add(new)?;
        for id in &old {
            self.remove_beside(*id, added, std::slice::from_ref(new))?;
        }
        Ok((added, old))
    }

    /// Removes a slot as long as another one, `stays`, opens with one of some credentials.
    fn remove_beside(&mut self, id: ObjectId, stays: ObjectId, credentials: &[Credential]) -> Result<()> {
        self.require_open(stays, credentials)?;
        let object = Object::Key(id);
        let bytes = match self.store.read_whole(object, MAX_KEY_BYTES) {
            Ok(bytes) => Some(bytes),
            // Somebody else has removed it.
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        self.store.delete(object)?;
        self.store.barrier(Names::Mine)?;
        if let Err(error) = self.require_open(stays, credentials) {
            if let Some(bytes) = bytes {
                self.store.put(object, &bytes)?;
                self.store.barrier(Names::Mine)?;
            }
            return Err(Error::new(
                ErrorKind::Busy,
                format!("The key slot {id} is put back: the one that was to stay cannot be opened any more"),
            )
            .because(error));
        }
        match self.store.len_bytes(object) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Ok(_) => {
                let message =
                    format!("{object} is still there although its removal was reported: look at the store's rights");
                return Err(Error::new(ErrorKind::Io, message));
            }
            Err(error) => return Err(error),
        }
        self.slots.retain(|slot| slot.id != id);
        Ok(())
    }

    /// Fails unless a stored slot gives the master key to one of some credentials.
    fn require_open(&self, id: ObjectId, credentials: &[Credential]) -> Result<()> {
        let object = Object::Key(id);
        let bytes = self.store.read_whole(object, MAX_KEY_BYTES)?;
        let damaged = |error| Error::damaged(format!("{object} cannot be read back")).because(error);
        let slot = Slot::parse(&bytes, self.repository).map_err(damaged)?;
        let opens = |credential: &Credential| slot.open(credential).is_some_and(|key| key.0 == self.master.0);
        match credentials.iter().filter(|credential| slot.is_for(credential)).any(opens) {
            true => Ok(()),
            false => Err(Error::damaged(format!("{object} does not open as it was written"))),
        }
    }
}

/// Returns the id of the repository in a store; one without encryption has no key slots, and is an error.
pub fn require_encrypted(store: &dyn Store) -> Result<RepositoryId> {
    let at = store.location();
    let bytes = store.read_whole(Object::Config, MAX_CONFIG_BYTES).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            Error::new(ErrorKind::NoRepository, format!("There is no repository at {at}: look at the path"))
                .because(error)
        }
        _ => error,
    })?;
    let stored = Stored::decode(&bytes).map_err(|error| {
        Error::new(ErrorKind::Unsupported, format!("The configuration of the repository at {at} cannot be used"))
            .because(error)
    })?;
    match stored.suite {
        Suite::Plain => Err(Error::usage(format!("The repository at {at} is not encrypted: it has no keys"))),
        _ => Ok(stored.repository),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::open::init_with_id;
    use crate::store::local::LocalStore;

    fn passphrase(text: &str) -> [Credential; 1] {
        [Credential::Passphrase(text.to_string().into())]
    }

    fn key(byte: u8) -> [Credential; 1] {
        [Credential::Key(Secret([byte; 32]))]
    }

    #[test]
    fn two_that_remove_one_another_at_once_leave_a_way_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("repo");
        let id = RepositoryId([7; 16]);
        let both = [key(1), key(2)].map(|[key]| key);
        init_with_id(&path, id, Suite::Aes256GcmSiv, &both).unwrap();
        let store = LocalStore::new(&path);
        let (one, two) = (key(1), key(2));
        let mut first = KeySlots::open(&store, id, &one).unwrap();
        let mut second = KeySlots::open(&store, id, &two).unwrap();
        let other = |slots: &KeySlots<'_>| slots.list().iter().find(|slot| !slot.is_given).unwrap().id;
        let (of_second, of_first) = (other(&first), other(&second));
        first.remove(of_second).unwrap();
        let error = second.remove(of_first).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.chain());
        assert_eq!(KeySlots::open(&store, id, &one).unwrap().list().len(), 1);
    }

    #[test]
    fn what_was_added_opens_and_the_last_way_in_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("repo");
        let id = RepositoryId([7; 16]);
        init_with_id(&path, id, Suite::Aes256GcmSiv, &key(1)).unwrap();
        let store = LocalStore::new(&path);
        let given = key(1);
        let mut slots = KeySlots::open(&store, id, &given).unwrap();
        let own = slots.list()[0].id;
        let error = slots.remove(own).unwrap_err().chain();
        assert!(error.contains("only way") && error.contains("bakfs key add"), "{error}");
        let new = slots.add(&passphrase("of a colleague")[0]).unwrap();
        assert!(slots.remove(own).is_err(), "what was given opens no other");
        let of_colleague = passphrase("of a colleague");
        let mut slots = KeySlots::open(&store, id, &of_colleague).unwrap();
        assert_eq!(slots.list().iter().filter(|slot| slot.is_given).map(|slot| slot.id).collect::<Vec<_>>(), [new]);
        slots.remove(own).unwrap();
        assert!(KeySlots::open(&store, id, &key(1)).is_err());
        assert!(slots.find("").is_err() && slots.find("zz").is_err());
        assert_eq!(slots.find(&new.to_hex()[..8]).unwrap(), new);
    }
}
