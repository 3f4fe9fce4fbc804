//! Keys, sealing and the ways to unlock them. Pure: no I/O.
pub mod keys;
pub mod recovery;
pub mod seal;
pub mod slot;
pub mod vault;
