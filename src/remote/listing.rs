//! What a listing has, and how far it goes.

use super::failure::{Cause, Failure};
use crate::quantity::{are, counted};
use std::time::Duration;

/// Names of a listing that are not kept may be so many, and as many as are kept.
const MAX_STRAYS: usize = 1 << 16;
/// No page is longer: a service sends at most 10 000 names on one, most 1000.
pub(crate) const MAX_PAGE_BYTES: u64 = 16 << 20;

/// One entry of a listing, with its path below the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its path.
    pub path: String,
    /// Its length.
    pub len_bytes: u64,
    /// Whether it is a folder, or what names with a common start are shown as.
    pub is_folder: bool,
    /// When it was stored or changed, in seconds since 1970, where that is told.
    pub modified_secs: Option<i64>,
}

/// How far one listing goes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// What may be kept of it.
    pub max_objects: usize,
    /// Whether it ends at its bound, and does not fail there.
    pub is_sample: bool,
    /// What never has more, for messages: `repository`.
    pub owner: &'static str,
    /// No page of it is longer; none for what the service's pages may have.
    pub max_page_bytes: Option<u64>,
    /// How long one attempt may take.
    pub max_time: Option<Duration>,
}

impl Bounds {
    /// Makes those of a listing that is long enough with so many objects, and fails with more.
    pub fn whole(max_objects: usize, owner: &'static str) -> Self {
        Bounds { max_objects, is_sample: false, owner, max_page_bytes: None, max_time: None }
    }

    /// Makes those of a listing that ends after so many names.
    pub fn sample(max_objects: usize) -> Self {
        Bounds { max_objects, is_sample: true, owner: "", max_page_bytes: None, max_time: None }
    }

    /// Fails for good beyond the bounds: another attempt would be as long.
    pub(super) fn hold(&self, kept: usize, seen: usize) -> Result<(), Failure> {
        let text = if kept > self.max_objects {
            let owner = self.owner;
            format!("the listing has more than {}, more than any {owner} has", counted(self.max_objects, "object"))
        } else if seen > 2 * kept + MAX_STRAYS {
            format!("of {} in the listing only {kept} {} of objects, and it goes on", counted(seen, "name"), are(kept))
        } else {
            return Ok(());
        };
        Err(Failure::lasting(Cause::Other, text))
    }
}
