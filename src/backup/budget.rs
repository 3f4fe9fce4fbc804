//! How much of what is read may be on its way to the repository.

use parking_lot::{Condvar, Mutex};

/// Files being read and not yet stored may hold this much.
const BUDGET_BYTES: u64 = 48 << 20;

/// Bytes that may be on their way; taken by one thread in order and given back by another in the same order.
#[derive(Debug)]
pub struct Budget {
    left: Mutex<u64>,
    given: Condvar,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { left: Mutex::new(BUDGET_BYTES), given: Condvar::new() }
    }
}

impl Budget {
    /// Waits until there are so many; more than there ever are waits for all.
    pub fn take(&self, bytes: u64) {
        let mut left = self.left.lock();
        self.given.wait_while(&mut left, |left| *left < bytes.min(BUDGET_BYTES));
        *left -= bytes.min(BUDGET_BYTES);
    }

    /// Gives back what was taken.
    pub fn give(&self, bytes: u64) {
        *self.left.lock() += bytes.min(BUDGET_BYTES);
        self.given.notify_one();
    }

    /// Lets whoever waits go on: nothing is stored any more.
    pub fn end(&self) {
        self.give(BUDGET_BYTES);
    }
}
