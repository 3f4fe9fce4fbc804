//! Reading: chunks, trees and packs, verified as they are read.

pub mod chunk_kind;
pub mod chunks;
pub mod cursor;
pub mod ledger;
pub mod pack;
pub mod pack_scan;
pub mod prefetch;
pub mod tree;
pub mod verified;
pub mod walk;
