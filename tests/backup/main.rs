//! What a backup reads, stores and leaves out.
#![allow(clippy::unwrap_used)]

mod commit_order;
mod freshness;
mod full_disk;
mod input;
mod killed;
mod left_out;
mod memory;
mod source;
mod source_races;
mod work;
