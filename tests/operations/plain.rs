//! A machine without a configuration, by the README's six lines and the sections on keeping, mounting and verifying.

use super::Step;

pub const STEPS: &[Step] = &[];
