//! Objects no program with the repository's key has written: whoever can store objects can add them.
//!
//! An object whose bytes are those its name stands for was never damaged. Where these do not verify, it says nothing and
//! never did: it is told and left out, and a repair removes it. One whose bytes are others may be damaged, and then what it
//! said is not known.

use crate::error::{ErrorKind, Result};
use crate::id::ObjectId;
use crate::quantity::counted;
use crate::repo::Repository;
use crate::repo::unlock::foreign_slots;
use crate::store::{Object, ObjectKind};
use std::collections::HashSet;

/// Tells of foreign objects of a kind in one line, however many they are.
pub(in crate::repo) fn warning(kind: ObjectKind, foreign: &[(ObjectId, String)]) -> Option<String> {
    let (id, reason) = foreign.iter().min_by_key(|(id, _)| *id)?;
    let object = kind.object(*id);
    Some(match foreign.len() {
        1 => format!("{object} is not of this repository and says nothing: `bakfs repair` removes it: {reason}"),
        many => format!(
            "{} in {}/ are not of this repository and say nothing: `bakfs repair` removes them; the first \
             is {object}: {reason}",
            counted(many, "object"),
            kind.folder()
        ),
    })
}

/// Tells of foreign objects in one line for each kind.
pub fn warnings(foreign: &[(Object, String)]) -> Vec<String> {
    let of_kind = |kind: ObjectKind| -> Vec<(ObjectId, String)> {
        let is_of = |object: &Object| kind.object(object.id()?).eq(object).then(|| object.id()).flatten();
        foreign.iter().filter_map(|(object, reason)| Some((is_of(object)?, reason.clone()))).collect()
    };
    ObjectKind::ALL.into_iter().filter_map(|kind| warning(kind, &of_kind(kind))).collect()
}

impl Repository {
    /// Returns the objects in `keys/`, `marks/` and `snapshots/` that no program with this repository's key has written,
    /// each with the reason.
    pub fn foreign_objects(&self) -> Result<Vec<(Object, String)>> {
        let mut all = Vec::new();
        let mut add = |kind: ObjectKind, found: Vec<(ObjectId, String)>| {
            all.extend(found.into_iter().map(|(id, reason)| (kind.object(id), reason)));
        };
        add(ObjectKind::Key, foreign_slots(&*self.store, self.id())?);
        let marks = self.marks()?;
        let void = marks.void();
        add(ObjectKind::Mark, marks.foreign);
        let known: HashSet<_> = self.all_snapshots()?.into_iter().map(|listed| listed.id).collect();
        let mut snapshots = Vec::new();
        for listed in self.store.list(ObjectKind::Snapshot)? {
            if known.contains(&listed.id) || void.contains(&listed.id) {
                continue;
            }
            match self.snapshot(listed.id) {
                Err(error) if error.kind() == ErrorKind::Foreign => snapshots.push((listed.id, error.chain())),
                Err(error) if !self.is_damage(&error) => return Err(error),
                _ => {}
            }
        }
        add(ObjectKind::Snapshot, snapshots);
        all.sort_unstable();
        Ok(all)
    }
}
