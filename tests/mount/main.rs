//! The history as a file system: what it shows, to whom, and how it lives with its machine.
#![allow(clippy::unwrap_used)]

mod erofs;
mod fidelity;
mod mount_ends;
mod mount_follows;
mod mount_life;
mod mount_places;
mod no_xattrs;
mod permissions;
mod reads;
mod reads_live;
mod service;
mod view_refresh;
