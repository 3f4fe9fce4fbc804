//! bakfs: backups whose history is a file system.
pub mod crypto;
pub mod error;
pub mod format;
pub mod id;
pub mod monitor;
