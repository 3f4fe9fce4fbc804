//! What is asked of a service reached over a network, counted.

/// Requests to a place far away, by kind, and bytes in each direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Traffic {
    /// Reads of objects or parts of them.
    pub gets: u64,
    /// Objects stored.
    pub puts: u64,
    /// Pages of listings.
    pub lists: u64,
    /// Questions for an object's length.
    pub stats: u64,
    /// Removals.
    pub deletes: u64,
    /// Whatever else a service asks for: names of objects changed, folders made, logins.
    pub others: u64,
    /// How many of all these were made again after a failure.
    pub retries: u64,
    /// Content that came.
    pub received_bytes: u64,
    /// Content that went.
    pub sent_bytes: u64,
}

impl Traffic {
    /// Returns the number of all requests.
    pub fn requests(&self) -> u64 {
        self.gets + self.puts + self.lists + self.stats + self.deletes + self.others
    }
}
