//! Collects what could not be read, for one message at the end instead of many on the way.

use crate::monitor::Monitor;
use parking_lot::Mutex;
use std::path::Path;

/// The most that are named; a snapshot names more.
const MAX_NAMED: usize = 20;

/// A monitor that keeps troubles and passes the rest on.
pub struct Troubles<'a> {
    monitor: &'a dyn Monitor,
    named: Mutex<Vec<String>>,
    more: Mutex<u64>,
}

impl<'a> Troubles<'a> {
    /// Makes one that passes progress on.
    pub fn new(monitor: &'a dyn Monitor) -> Self {
        Troubles { monitor, named: Mutex::default(), more: Mutex::new(0) }
    }

    /// Returns the first ones by name, and how many there are beside them.
    pub fn into_parts(self) -> (Vec<String>, u64) {
        (self.named.into_inner(), self.more.into_inner())
    }
}

impl Monitor for Troubles<'_> {
    fn trouble(&self, path: &Path, message: &str) {
        let mut named = self.named.lock();
        if named.len() < MAX_NAMED {
            named.push(format!("{}: {message}", path.display()));
        } else {
            *self.more.lock() += 1;
        }
    }

    fn is_watched(&self) -> bool {
        self.monitor.is_watched()
    }

    fn at(&self, path: &Path) {
        self.monitor.at(path);
    }

    fn expect(&self, files: u64, bytes: u64) {
        self.monitor.expect(files, bytes);
    }

    fn advance(&self, files: u64, bytes: u64) {
        self.monitor.advance(files, bytes);
    }
}
