//! Finding the key slot that what the user gives opens.
//!
//! Anybody who can store objects can add slots, and nothing tells beforehand which are honest: so the likely ones come
//! first, the first that opens ends it, and the work for all the others together is bounded.

use crate::crypto::keys::Secret;
use crate::crypto::slot::{self, Credential, Derivation, Slot, USUAL_COST};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ObjectId, RepositoryId};
use crate::repo::objects::object_id;
use crate::repo::parallel;
use crate::store::{Object, ObjectKind, Store};
use crate::trust::hidden::Hidden;
use parking_lot::Mutex;

/// The longest key slot.
pub(crate) const MAX_KEY_BYTES: u64 = 64 << 10;
/// Before a command gives up it works as long as this many slots that `init` writes take.
const MAX_USUAL_SLOTS: u64 = 64;

/// What was found.
pub(in crate::repo) struct Master {
    /// The master key.
    pub master: Secret,
    /// What is wrong with other slots: this one needs none of them.
    pub notes: Vec<String>,
}

/// Master keys that credentials have unlocked in this process: what a passphrase opens takes a second to work out
/// (Argon2id), and a run of a hundred profiles opens its repository hundreds of times. Wiped when dropped.
#[derive(Default)]
pub struct Keyring {
    opened: Mutex<Vec<Opened>>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyring(..)")
    }
}

/// That a credential, known by its digest, opens a repository.
struct Opened {
    repository: RepositoryId,
    digest: Secret,
    master: Hidden<Secret>,
}

/// Returns what a credential is known again by.
fn digest(credential: &Credential) -> Secret {
    let (kind, bytes) = match credential {
        Credential::Passphrase(text) => ("bakfs 2026-11 keyring passphrase", text.as_bytes()),
        Credential::Key(key) => ("bakfs 2026-11 keyring key", &key.0[..]),
    };
    Secret(blake3::derive_key(kind, bytes))
}

impl Keyring {
    fn find(&self, repository: RepositoryId, credential: &Credential) -> Option<Secret> {
        let digest = digest(credential);
        let opened = self.opened.lock();
        let is_same = |opened: &&Opened| opened.repository == repository && opened.digest.0 == digest.0;
        opened.iter().find(is_same).map(|opened| Secret::clone(&opened.master))
    }

    fn keep(&self, repository: RepositoryId, credential: &Credential, master: &Secret) {
        let master = Hidden::new(master.clone());
        self.opened.lock().push(Opened { repository, digest: digest(credential), master });
    }
}

/// What a listed object in `keys/` is.
pub(in crate::repo) enum Look {
    Slot(ObjectId, Box<Slot>),
    /// Its bytes are those of its name, and no slot of this repository: no program has written it.
    Foreign(ObjectId, String),
    Damaged(ObjectId, Error),
    /// It was removed, or is none of this repository's.
    Gone,
}

/// Finds the master key.
pub(in crate::repo) fn find_master(
    store: &dyn Store,
    repository: RepositoryId,
    credentials: &[Credential],
    keyring: Option<&Keyring>,
) -> Result<Master> {
    let known =
        keyring.and_then(|keyring| credentials.iter().find_map(|credential| keyring.find(repository, credential)));
    if let Some(master) = known {
        return Ok(Master { master, notes: Vec::new() });
    }
    let looks = look_at_all(store, repository)?;
    if looks.is_empty() {
        return Err(Error::damaged(format!(
            "The repository at {} has no key slots left in `keys`: bring them back from a copy",
            store.location()
        )));
    }
    let mut left_out = 0;
    let mut slots = Vec::new();
    let mut foreign = Vec::new();
    let mut damaged = Vec::new();
    for look in looks {
        match look {
            Look::Slot(_, slot) => slots.push(slot),
            Look::Foreign(id, reason) => foreign.push((id, reason)),
            Look::Damaged(id, error) => damaged.push((id, error)),
            Look::Gone => {}
        }
    }
    let mut notes: Vec<String> = damaged.iter().map(|(_, error)| error.chain()).collect();
    notes.extend(crate::repo::shared::foreign::warning(ObjectKind::Key, &foreign));
    for credential in credentials {
        let fitting: Vec<&Slot> = slots.iter().map(|slot| &**slot).filter(|slot| slot.is_for(credential)).collect();
        let tried = worth_trying(&fitting.iter().map(|slot| slot.derivation()).collect::<Vec<_>>());
        left_out += fitting.len() - tried.len();
        if let Some(master) = tried.into_iter().find_map(|at| fitting[at].open(credential)) {
            if let Some(keyring) = keyring {
                keyring.keep(repository, credential, &master);
            }
            return Ok(Master { master, notes });
        }
    }
    if left_out > 0 {
        return Err(Error::new(
            ErrorKind::Locked,
            format!(
                "The passphrase or key opens none of the first key slots of the repository at {}, and {left_out} more \
                 would take too long: somebody else fills `keys`: remove from it what `bakfs init` has not made",
                store.location()
            ),
        ));
    }
    let damaged = damaged.into_iter().next().map(|(_, error)| error);
    if let (true, Some(error)) = (slots.is_empty(), damaged.as_ref()) {
        return Err(Error::damaged(error.chain()));
    }
    let locked = Error::new(
        ErrorKind::Locked,
        format!("The passphrase or key does not open the repository at {}", store.location()),
    );
    // The one that is meant may be the one that is damaged.
    Err(match damaged {
        Some(error) => locked.because(error),
        None => locked,
    })
}

/// Returns the slots to try, the likely ones first: those that are written like this, and then those that take little, as
/// far as they take no more work than all are worth.
pub(in crate::repo) fn worth_trying(slots: &[&Derivation]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..slots.len()).collect();
    order.sort_by_key(|at| (!slots[*at].is_usual(), slots[*at].cost()));
    let mut work = 0;
    order.retain(|at| {
        let is_affordable = work + slots[*at].cost() <= MAX_USUAL_SLOTS * USUAL_COST;
        work += if is_affordable { slots[*at].cost() } else { 0 };
        is_affordable
    });
    order
}

/// Looks at all that is listed in `keys/`.
pub(in crate::repo) fn look_at_all(store: &dyn Store, repository: RepositoryId) -> Result<Vec<Look>> {
    let listed = store.list(ObjectKind::Key)?;
    parallel::for_each(store, parallel::SMALL, &listed, |listed| look(store, repository, listed.id))
}

fn look(store: &dyn Store, repository: RepositoryId, id: ObjectId) -> Result<Look> {
    let object = Object::Key(id);
    let damaged = |error| Look::Damaged(id, Error::damaged(format!("{object} cannot be read")).because(error));
    let bytes = match store.read_whole(object, MAX_KEY_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Look::Gone),
        Err(error) if error.kind() == ErrorKind::Damaged => return Ok(damaged(error)),
        Err(error) => return Err(error),
    };
    Ok(match Slot::parse(&bytes, repository) {
        Ok(slot) => Look::Slot(id, Box::new(slot)),
        // What an `init` that was interrupted has left is of another repository.
        Err(_) if slot::check(&bytes).is_ok() => Look::Gone,
        Err(error) if object_id(&bytes) == id => Look::Foreign(id, error.to_string()),
        Err(error) => damaged(Error::damaged("It was changed").because(error)),
    })
}

/// Returns the objects in `keys/` that are no slots of this repository for anybody, which no program has written.
pub(in crate::repo) fn foreign_slots(store: &dyn Store, repository: RepositoryId) -> Result<Vec<(ObjectId, String)>> {
    let foreign = look_at_all(store, repository)?.into_iter().filter_map(|look| match look {
        Look::Foreign(id, reason) => Some((id, reason)),
        _ => None,
    });
    Ok(foreign.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::header::Suite;
    use crate::repo::Repository;
    use crate::repo::open::{Options, init_with_id};
    use zeroize::Zeroizing;

    #[test]
    fn what_has_opened_a_repository_once_opens_it_again_without_work() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("repo");
        let words = |text: &str| vec![Credential::Passphrase(Zeroizing::new(text.to_string()))];
        init_with_id(&path, RepositoryId([7; 16]), Suite::Aes256GcmSiv, &words("right")).unwrap();
        let keyring = Keyring::default();
        let options = Options { keyring: Some(&keyring), ..Options::default() };
        Repository::open(&path, &options, |_| Ok(words("right"))).unwrap();
        // Without the slots nothing could be worked out.
        for slot in std::fs::read_dir(path.join("keys")).unwrap() {
            std::fs::remove_file(slot.unwrap().path()).unwrap();
        }
        Repository::open(&path, &options, |_| Ok(words("right"))).unwrap();
        assert!(Repository::open(&path, &options, |_| Ok(words("wrong"))).is_err());
        assert!(Repository::open(&path, &Options::default(), |_| Ok(words("right"))).is_err());
    }

    #[test]
    fn likely_slots_come_first_and_all_work_together_is_bounded() {
        let argon = |memory_kib, passes| Derivation::Passphrase { memory_kib, passes, lanes: 4 };
        let (usual, cheap, dear) = (argon(256 << 10, 3), argon(8 << 10, 1), argon(1 << 20, 10));
        assert_eq!(worth_trying(&[&dear, &cheap, &usual]), [2, 1, 0]);
        assert_eq!(worth_trying(&vec![&usual; 1000]).len(), 64);
        // Each is as much work as 13 usual ones.
        assert_eq!(worth_trying(&vec![&dear; 1000]).len(), 4);
        let mut mixed = vec![&dear; 10];
        mixed.extend([&usual, &cheap]);
        assert_eq!(worth_trying(&mixed)[..2], [10, 11]);
        assert_eq!(worth_trying(&vec![&Derivation::RandomKey; 1000]).len(), 1000);
    }
}
