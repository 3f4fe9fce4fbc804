//! Subvolumes that are left out with other file systems: whoever did not think of them is told.

use crate::quantity::{are, counted};

/// Subvolumes that were left out with other file systems, though nothing is mounted there.
#[derive(Debug, Default)]
pub struct Subvolumes {
    count: u64,
    first: Vec<Vec<u8>>,
}

/// So many subvolumes that were left out are named.
const MAX_NAMED: usize = 5;

impl Subvolumes {
    /// Adds one.
    pub fn add(&mut self, path: Vec<u8>) {
        self.count += 1;
        if self.first.len() < MAX_NAMED {
            self.first.push(path);
        }
    }

    /// Returns what is to be told, if there were any.
    pub fn told(&self) -> Option<String> {
        let names: Vec<_> = self.first.iter().map(|path| path.escape_ascii().to_string()).collect();
        if self.count == 0 {
            return None;
        }
        let (what, are) = (counted(self.count, "subvolume"), are(self.count));
        let more = match self.count - names.len() as u64 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!(
            "{what} {are} not in the backup, because --one-file-system leaves them out as it does other file systems: {}{more}: \
             name them as sources, or exclude them",
            names.join(", ")
        ))
    }
}
