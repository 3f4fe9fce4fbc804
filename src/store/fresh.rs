//! A second look where a copy is at fault.

use super::{Object, Store};
use crate::error::{ErrorKind, Result};
use std::ops::Range;

/// Reads a range of an object, and once more where what was read does not verify and the store has only had a copy of
/// it: then from the object itself.
pub fn with_fresh_copy<T>(
    store: &dyn Store,
    object: Object,
    range: Range<u64>,
    mut read: impl FnMut() -> Result<T>,
) -> Result<T> {
    match read() {
        Err(error) if error.kind() == ErrorKind::Damaged && store.distrust(object, range) => read(),
        done => done,
    }
}
