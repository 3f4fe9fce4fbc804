//! bakfs: backups whose history is a file system.
pub mod backup;
pub mod check;
pub mod chunk;
pub mod cli;
pub mod crypto;
pub mod diff;
pub mod error;
pub mod format;
pub mod id;
pub mod monitor;
pub mod repo;
pub mod restore;
pub mod source;
pub mod store;
#[cfg(feature = "mount")]
pub mod view;
