//! The rules of the house: layers, documents that name their tests, and judges that can fail.
#![allow(clippy::unwrap_used)]

mod docs;
mod harness;
mod layers;
