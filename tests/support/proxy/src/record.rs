//! What a proxy has seen.

use crate::fault::Kind;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// One request that has come.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it was for.
    pub kind: Kind,
    /// Its method.
    pub method: String,
    /// Its target: path and query.
    pub target: String,
    /// Its Range field.
    pub range: Option<String>,
    /// When its head had come, since the proxy began.
    pub start: Duration,
    /// When the last byte of its answer was sent off.
    pub end: Duration,
    /// The answer's code; 0 where there was none.
    pub code: u16,
    /// Content of the request that was passed on.
    pub sent_bytes: u64,
    /// Content of the answer that was passed on.
    pub received_bytes: u64,
    /// The fault it got.
    pub fault: Option<String>,
}

/// Everything seen since the record was last taken.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Connections that were opened.
    pub connections: u64,
    /// Requests that have ended, in the order of their ends.
    pub entries: Vec<Entry>,
}

impl Record {
    /// Returns how many requests there were.
    pub fn requests(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Returns how many requests of a kind there were.
    pub fn of(&self, kind: Kind) -> u64 {
        self.entries.iter().filter(|entry| entry.kind == kind).count() as u64
    }

    /// Returns how often each fault was met, by name.
    pub fn faults(&self) -> BTreeMap<String, u64> {
        let mut faults = BTreeMap::new();
        for fault in self.entries.iter().filter_map(|entry| entry.fault.clone()) {
            *faults.entry(fault).or_default() += 1;
        }
        faults
    }

    /// Returns the content that went to the server.
    pub fn sent_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.sent_bytes).sum()
    }

    /// Returns the content that came from the server.
    pub fn received_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.received_bytes).sum()
    }

    /// Returns the largest number of requests under way at one time.
    pub fn most_at_once(&self) -> u64 {
        let starts = self.entries.iter().map(|entry| (entry.start, 1));
        let mut changes: Vec<_> = starts.chain(self.entries.iter().map(|entry| (entry.end, -1))).collect();
        changes.sort();
        let running = changes.iter().scan(0_i64, |now, (_, change)| {
            *now += change;
            Some(*now)
        });
        running.max().unwrap_or(0).max(0) as u64
    }

    /// Returns the most requests of which each could have waited for the answer of the one before: it came at least
    /// nine tenths of a round trip after that was sent off. With a round trip of 0 it says little.
    pub fn round_trips(&self, round_trip: Duration) -> u64 {
        let mut by_end: Vec<_> = self.entries.iter().map(|entry| (entry.end, entry.start)).collect();
        by_end.sort();
        let (mut count, mut free_from) = (0, Duration::ZERO);
        for (end, start) in by_end {
            if start >= free_from {
                count += 1;
                free_from = end + round_trip * 9 / 10;
            }
        }
        count
    }

    /// Returns the figures as JSON: `connections`, `requests`, one number for each kind, `sent_bytes`,
    /// `received_bytes`, `most_at_once`, `round_trips` and `faults` by name.
    pub fn figures(&self, round_trip: Duration) -> Value {
        let mut figures = json!({
            "connections": self.connections, "requests": self.requests(), "sent_bytes": self.sent_bytes(),
            "received_bytes": self.received_bytes(), "most_at_once": self.most_at_once(),
            "round_trips": self.round_trips(round_trip), "faults": self.faults(),
        });
        for kind in Kind::ALL {
            figures[format!("{}s", kind.name())] = json!(self.of(kind));
        }
        figures
    }
}
