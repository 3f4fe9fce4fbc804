//! A panic of the tree costs one request.

use crate::tree::{Failure, Fault, Tree};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a call of the tree; a panic becomes a fault of that request alone.
pub(crate) fn guarded<A>(call: impl FnOnce() -> Result<A, Fault>) -> Result<A, Fault> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Err(Fault::Damaged(format!("The program failed: {}", text.unwrap_or("panic without a message"))))
    })
}

/// Tells a tree of a request that was answered with EIO.
pub(crate) fn note_failure<T: Tree>(tree: &T, failure: &Failure) {
    let noted = guarded(|| {
        tree.note_failure(failure);
        Ok(())
    });
    if noted.is_err() {
        tracing::error!("{failure}");
    }
}
