//! The prune protocol of docs/prune.md as a model, explored to its end: every order of every operation on
//! the store, by writers, pruners and somebody who forgets a snapshot and brings it back.
//!
//! A crash is a process that does nothing more, a pause is one that does nothing for a while, and a put
//! that takes effect late is one before which its process was paused: all of them are among the orders.
//! Any session may be taken for dead at any time. It is a package of its own to be built as fast as it can be.

mod explore;
mod normal;
mod pruner;
mod rules;
mod state;
mod steps;

pub use explore::Explored;
pub use rules::{Flaw, Listing, Plans, Rules};

/// Explores a protocol to its end, or to its first fault.
pub fn explore(rules: &Rules) -> Explored {
    explore::explore(rules)
}
