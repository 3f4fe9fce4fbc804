//! What comes back, and where.
#![allow(clippy::unwrap_used)]

mod again;
mod over;
mod target;
mod world;
