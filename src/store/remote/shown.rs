//! What listings have shown so far: one that lacks something of it may not be whole.

use crate::id::ObjectId;
use crate::store::{ListedObject, Object, ObjectKind};
use std::collections::{HashMap, HashSet};

/// What the last listing of each kind has shown, and what was removed here.
///
/// Memory: 32 bytes for each object.
#[derive(Default)]
pub(super) struct Shown {
    /// In order.
    last: HashMap<ObjectKind, Vec<ObjectId>>,
    removed: HashSet<Object>,
}

impl Shown {
    /// Returns objects the last listing of their kind had and this one, which is in order, lacks, but for those that were
    /// removed here: all of them, or so many that are spread over all.
    pub fn lacking(&self, kind: ObjectKind, listed: &[ListedObject], max_objects: usize) -> Vec<Object> {
        let last = self.last.get(&kind).map(Vec::as_slice).unwrap_or_default();
        let is_lacking = |id: &&ObjectId| {
            listed.binary_search_by_key(*id, |listed| listed.id).is_err() && !self.removed.contains(&kind.object(**id))
        };
        let lacking: Vec<_> = last.iter().filter(is_lacking).collect();
        let step = lacking.len().div_ceil(max_objects).max(1);
        lacking.into_iter().step_by(step).map(|id| kind.object(*id)).collect()
    }

    /// Takes in a listing that is in order.
    pub fn note(&mut self, kind: ObjectKind, listed: &[ListedObject]) {
        self.last.insert(kind, listed.iter().map(|listed| listed.id).collect());
    }

    /// Notes that an object is removed here, or may be.
    pub fn remove(&mut self, object: Object) {
        self.removed.insert(object);
    }

    /// Notes that an object is stored here.
    pub fn put(&mut self, object: &Object) {
        self.removed.remove(object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_told_all_or_spread() {
        let listed = |range: std::ops::Range<u8>| -> Vec<ListedObject> {
            range.map(|byte| ListedObject { id: ObjectId([byte; 32]), len_bytes: 1 }).collect()
        };
        let mark = |byte| Object::Mark(ObjectId([byte; 32]));
        let mut shown = Shown::default();
        assert!(shown.lacking(ObjectKind::Mark, &[], 4).is_empty());
        shown.note(ObjectKind::Mark, &listed(0..8));
        assert!(shown.lacking(ObjectKind::Snapshot, &[], 4).is_empty());
        assert_eq!(shown.lacking(ObjectKind::Mark, &listed(1..9), 4), [mark(0)]);
        assert_eq!(shown.lacking(ObjectKind::Mark, &[], 4), [mark(0), mark(2), mark(4), mark(6)]);
        shown.remove(mark(0));
        assert!(shown.lacking(ObjectKind::Mark, &listed(1..9), 4).is_empty());
        shown.put(&mark(0));
        assert_eq!(shown.lacking(ObjectKind::Mark, &listed(1..9), 4), [mark(0)]);
        shown.note(ObjectKind::Mark, &listed(1..9));
        assert!(shown.lacking(ObjectKind::Mark, &listed(1..9), 4).is_empty(), "what is gone is forgotten");
    }
}
