//! Times as names of snapshots, and names as those of folders.

use crate::format::tree::Time;
use jiff::Timestamp;

/// Writes a time as the name of a directory: UTC, no colons (PATH, scp and Windows choke on them).
pub fn dated(time: Time) -> String {
    timestamp(time).strftime("%Y-%m-%dT%H-%M-%SZ").to_string()
}

/// Converts a stored time; what no calendar has becomes the nearest it has.
pub fn timestamp(time: Time) -> Timestamp {
    let nanos = i32::try_from(time.nanos).unwrap_or(0);
    Timestamp::new(time.secs, nanos).unwrap_or(if time.secs < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// Converts to a stored time.
pub fn time(timestamp: Timestamp) -> Time {
    let (mut secs, mut nanos) = (timestamp.as_second(), timestamp.subsec_nanosecond());
    if nanos < 0 {
        secs -= 1;
        nanos += 1_000_000_000;
    }
    Time { secs, nanos: nanos.unsigned_abs() }
}

/// Makes a directory's name of any text: what cannot be in a name becomes `_`.
pub fn folder_name(text: &[u8]) -> Vec<u8> {
    let mut name: Vec<u8> = text.iter().map(|byte| if matches!(byte, b'/' | 0) { b'_' } else { *byte }).collect();
    name.truncate(255);
    if name.is_empty() || name == b"." || name == b".." {
        name.insert(0, b'_');
    }
    name
}
