//! Serves a read-only tree to the kernel through FUSE.
//!
//! A backup program implements [`tree::Tree`]; [`Mount::start`] shows it at a mount point. The crate
//! knows the FUSE protocol and nothing of backups.
mod awake;
mod deadline;
mod error;
mod fuse;
mod guard;
mod kernel;
mod mount;
mod push;
mod replace;
mod requests;
mod server;
mod table;
mod threads;
pub mod tree;

pub use error::MountError;
pub use kernel::unmount;
pub use mount::{Mount, Options};
pub use requests::Requests;
pub use server::ServerProcess;
pub use table::{Mounted, find_mount, is_told, mounts_of_type};
pub use threads::Threads;
