//! Where objects are kept: names and bytes. Knows neither format nor keys.
//!
//! [`Store`] is what every store must do, [`Hints`] what one may know besides. A store around another one is a
//! [`Decorator`], which states only what it changes.

pub mod cached;
mod decorator;
pub mod fresh;
mod hints;
pub mod local;
#[cfg(feature = "remote")]
pub mod remote;
#[cfg(not(feature = "remote"))]
#[path = "remote_absent.rs"]
pub mod remote;
mod sharing;

pub use crate::traffic::Traffic;
pub use decorator::Decorator;
pub use hints::{Hints, Room};

use crate::error::Result;
use crate::id::ObjectId;
use crate::quantity::counted;
use std::ops::Range;

/// The name of a stored object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// The repository's configuration: there is one.
    Config,
    /// A key slot.
    Key(ObjectId),
    /// A pack.
    Pack(ObjectId),
    /// An index segment.
    Index(ObjectId),
    /// A snapshot.
    Snapshot(ObjectId),
    /// A mark.
    Mark(ObjectId),
}

/// A kind of objects that can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// Key slots.
    Key,
    /// Packs.
    Pack,
    /// Index segments.
    Index,
    /// Snapshots.
    Snapshot,
    /// Marks.
    Mark,
}

impl ObjectKind {
    /// All kinds.
    pub const ALL: [ObjectKind; 5] =
        [ObjectKind::Key, ObjectKind::Pack, ObjectKind::Index, ObjectKind::Snapshot, ObjectKind::Mark];

    /// Returns the folder the kind is kept in.
    pub fn folder(self) -> &'static str {
        match self {
            ObjectKind::Key => "keys",
            ObjectKind::Pack => "packs",
            ObjectKind::Index => "index",
            ObjectKind::Snapshot => "snapshots",
            ObjectKind::Mark => "marks",
        }
    }

    /// Returns how many objects of the kind a repository may have (docs/format.md section 1): a listing of more is
    /// refused before all of it is in memory.
    pub fn max_objects(self) -> usize {
        match self {
            ObjectKind::Key => 1 << 10,
            ObjectKind::Pack => 1 << 24,
            ObjectKind::Index => 1 << 20,
            ObjectKind::Snapshot | ObjectKind::Mark => 1 << 18,
        }
    }

    /// Names an object of this kind.
    pub fn object(self, id: ObjectId) -> Object {
        match self {
            ObjectKind::Key => Object::Key(id),
            ObjectKind::Pack => Object::Pack(id),
            ObjectKind::Index => Object::Index(id),
            ObjectKind::Snapshot => Object::Snapshot(id),
            ObjectKind::Mark => Object::Mark(id),
        }
    }
}

impl Object {
    /// Returns its id; the configuration has none.
    pub fn id(&self) -> Option<ObjectId> {
        match self {
            Object::Config => None,
            Object::Key(id) | Object::Pack(id) | Object::Index(id) | Object::Snapshot(id) | Object::Mark(id) => {
                Some(*id)
            }
        }
    }

    /// Returns the object's path below the repository: packs are spread over 256 folders.
    pub fn path(&self) -> String {
        match self {
            Object::Config => "config".into(),
            Object::Key(id) => format!("keys/{}", id.to_hex()),
            Object::Pack(id) => format!("packs/{:02x}/{}", id.0[0], id.to_hex()),
            Object::Index(id) => format!("index/{}", id.to_hex()),
            Object::Snapshot(id) => format!("snapshots/{}", id.to_hex()),
            Object::Mark(id) => format!("marks/{}", id.to_hex()),
        }
    }
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path())
    }
}

/// Makes the error of a folder with more objects than [`ObjectKind::max_objects`].
pub(crate) fn too_many(kind: ObjectKind, location: &str) -> crate::error::Error {
    crate::error::Error::damaged(format!(
        "{}/ at {location} has more than {}, more than any repository has: somebody else fills it",
        kind.folder(),
        counted(kind.max_objects(), "object")
    ))
}

/// One object of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedObject {
    /// Its id.
    pub id: ObjectId,
    /// Its length.
    pub len_bytes: u64,
}

/// Whether a call may block on a disk or a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Must answer from memory or with [`crate::error::ErrorKind::WouldWait`].
    Never,
    /// May block for as long as it takes.
    Allowed,
}

/// Which names a barrier is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Those this store has put or deleted, and all index segments, whoever has put or deleted them.
    Mine,
    /// All there are: what a killed process left is about to be relied on.
    All,
}

/// A place for immutable objects. All calls may run at the same time.
///
/// Only what follows from other methods has a default.
pub trait Store: Hints {
    /// Stores an object whole. Its bytes must be durable before its name appears, and it must never
    /// be seen in part. An object that exists already is left alone and is a success: names of all
    /// objects but the configuration tell their bytes.
    ///
    /// After an error nothing of the object may be visible under its name in part; the whole object may still
    /// appear at any later time, as that of a request which was delayed on its way. The kind
    /// [`crate::error::ErrorKind::Uncertain`] says that trying again is worth it: with other bytes, which have
    /// another name.
    fn put(&self, object: Object, bytes: &[u8]) -> Result<()>;

    /// Makes the names of objects durable. From its end on every listing, by anybody, shows what was put before it
    /// began and nothing of what was deleted before; until then a listing by others may show the one or the other.
    fn barrier(&self, names: Names) -> Result<()>;

    /// Returns an object's length.
    fn len_bytes(&self, object: Object) -> Result<u64>;

    /// Fills `buffer` from `offset` on; an object that ends before is damaged.
    fn read_at(&self, object: Object, offset: u64, buffer: &mut [u8], wait: Wait) -> Result<()>;

    /// Hands the bytes of a range to `each` as they come, with where they begin, in order and without gaps; after a
    /// request that failed on its way they come again from the start. Fails as [`Store::read_at`] does.
    fn read_through(&self, object: Object, range: Range<u64>, each: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
        read_through_at_once(self, object, range, each)
    }

    /// Lists the objects of a kind, in no order. A listing that may be incomplete must be an error.
    fn list(&self, kind: ObjectKind) -> Result<Vec<ListedObject>>;

    /// Removes an object; one that does not exist is a success. That it is gone is durable after the next barrier,
    /// whoever has removed it.
    fn delete(&self, object: Object) -> Result<()>;

    /// Removes what puts that were interrupted more than a day ago have left; returns how much.
    fn sweep(&self) -> Result<u64>;

    /// Tells the place, for messages.
    fn location(&self) -> String;

    /// Tells the place apart from all others, with the server it is at where that is set elsewhere.
    fn address(&self) -> String {
        self.location()
    }

    /// Reads an object whole, refusing one longer than `max_bytes`; one request where the store is far away.
    fn read_whole(&self, object: Object, max_bytes: u64) -> Result<Vec<u8>> {
        let len = self.len_bytes(object)?;
        if len > max_bytes {
            return Err(too_long(object, len));
        }
        let mut bytes = vec![0; len as usize];
        self.read_at(object, 0, &mut bytes, Wait::Allowed)?;
        Ok(bytes)
    }
}

/// Does [`Store::read_through`] by one [`Store::read_at`], for stores that have nothing better.
pub fn read_through_at_once<S: Store + ?Sized>(
    store: &S,
    object: Object,
    range: Range<u64>,
    each: &mut dyn FnMut(u64, &[u8]),
) -> Result<()> {
    let mut buffer = vec![0; (range.end - range.start) as usize];
    store.read_at(object, range.start, &mut buffer, Wait::Allowed)?;
    each(range.start, &buffer);
    Ok(())
}

/// Makes the error of an object no reader takes.
pub(crate) fn too_long(object: Object, len_bytes: u64) -> crate::error::Error {
    crate::error::Error::damaged(format!(
        "Object {object} has {}, more than any of its kind may have",
        counted(len_bytes, "byte")
    ))
}
