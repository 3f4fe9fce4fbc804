//! Names for what is not whole yet.

use crate::id::to_hex;
use crate::random::fill_random;

/// Start of the names of what is being stored.
pub(crate) const TEMPORARY: &str = ".tmp-";

/// Draws a name that nobody else has for what is being stored.
pub(crate) fn temporary_name() -> String {
    let mut random = [0; 12];
    fill_random(&mut random);
    format!("{TEMPORARY}{}", to_hex(&random))
}
