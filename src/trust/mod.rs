//! What this program trusts, and who is kept from what it knows: files whose owner and mode are looked at, folders made
//! with modes of their own, secrets that no other program is handed.

pub mod descriptors;
pub mod environment;
pub mod file;
pub mod folder;
pub mod hidden;
mod read_only;
mod words;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Prepares this process before it does anything else: no core of it is written and no other process of its user reads
/// its memory (prctl(2), PR_SET_DUMPABLE), no program it starts gets a descriptor that it was started with, and the
/// secrets of its environment are its own.
///
/// # Safety
/// No other thread may run yet: the environment is changed.
pub unsafe fn begin() {
    // A kernel that refuses leaves it as it was.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    descriptors::close_on_exec();
    // SAFETY: no other thread runs, as the caller has promised.
    unsafe { environment::take() };
}
