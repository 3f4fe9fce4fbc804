//! The names snapshots go by: dated names, ids, days and times.

use super::snapshots::Listed;
use crate::error::{Error, ErrorKind, Result};
use crate::format::tree::Time;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned, civil};
use std::collections::HashSet;

/// The shortest prefix of an id that is taken for one.
const MIN_PREFIX: usize = 4;

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

/// Returns the names snapshots are shown by, in their order. Writers make them unique; should two
/// have made the same at once and been stopped before they noticed, all but the first get their id.
pub fn shown(snapshots: &[Listed]) -> Vec<String> {
    let mut taken = HashSet::new();
    let name = |listed: &Listed| {
        let name = listed.snapshot.name.clone();
        if taken.insert(name.clone()) { name } else { format!("{name}-{}", listed.id) }
    };
    snapshots.iter().map(name).collect()
}

/// Returns the newest snapshot of a day of a time zone.
pub fn of_day<'a>(snapshots: &'a [Listed], day: civil::Date, zone: &TimeZone) -> Option<&'a Listed> {
    let on_day = |listed: &&Listed| timestamp(listed.snapshot.time).to_zoned(zone.clone()).date() == day;
    snapshots.iter().rev().find(on_day)
}

/// Finds the snapshot a user names. `now` tells the time zone and what `today` means.
///
/// A name is, in this order: `latest` or `latest~N`; `today` or `yesterday`; a dated name; a time, as
/// `2026-11-19` (the end of that day), `2026-11-19T15:00`, `3 days ago` (the newest snapshot at or
/// before it); an id or the first four or more digits of it.
pub fn find<'a>(snapshots: &'a [Listed], name: &str, now: &Zoned) -> Result<&'a Listed> {
    let none = |text: String| Error::new(ErrorKind::NotFound, format!("{text}: `bakfs snapshots` lists what there is"));
    let newest = || snapshots.last().ok_or_else(|| none("There are no snapshots yet".into()));
    if let Some(back) = name.strip_prefix("latest") {
        let back = match back.strip_prefix('~') {
            None if back.is_empty() => 0,
            Some(count) => count
                .parse()
                .map_err(|_| Error::usage(format!("`{name}` is no snapshot: write `latest~1` for the last but one")))?,
            None => return Err(none(format!("No snapshot is named `{name}`"))),
        };
        newest()?;
        return snapshots
            .len()
            .checked_sub(1 + back)
            .map(|at| &snapshots[at])
            .ok_or_else(|| none(format!("There are only {} snapshots", snapshots.len())));
    }
    let zone = now.time_zone();
    if name == "today" || name == "yesterday" {
        let day = if name == "today" { now.date() } else { now.date().yesterday().unwrap_or(now.date()) };
        return of_day(snapshots, day, zone).ok_or_else(|| none(format!("There is no snapshot of {name}, {day}")));
    }
    if let Some(at) = shown(snapshots).iter().position(|shown| shown == name) {
        return Ok(&snapshots[at]);
    }
    if let Some(until) = parse_time(name, now) {
        newest()?;
        let until = time(until);
        return snapshots
            .iter()
            .rev()
            .find(|listed| listed.snapshot.time <= until)
            .ok_or_else(|| none(format!("No snapshot is as old as {name}")));
    }
    let is_prefix = name.len() >= MIN_PREFIX && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut matches = snapshots.iter().filter(|listed| is_prefix && listed.id.to_hex().starts_with(name));
    match (matches.next(), matches.next()) {
        (Some(one), None) => Ok(one),
        (Some(one), Some(two)) => Err(Error::usage(format!(
            "`{name}` matches more than one snapshot, as {} and {}: write more of the id",
            &one.id.to_hex()[..16],
            &two.id.to_hex()[..16]
        ))),
        _ => Err(none(format!("No snapshot is named `{name}`"))),
    }
}

/// Returns whether a name means another snapshot when one is missing: every one but a dated name and an id.
pub fn is_relative(snapshots: &[Listed], name: &str, now: &Zoned) -> bool {
    name.starts_with("latest")
        || matches!(name, "today" | "yesterday")
        || parse_time(name, now).is_some() && !shown(snapshots).iter().any(|shown| shown == name)
}

/// Reads a time as people write it.
pub fn parse_time(text: &str, now: &Zoned) -> Option<Timestamp> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp);
    }
    let zone = now.time_zone().clone();
    if text.len() == 10
        && let Ok(day) = text.parse::<civil::Date>()
    {
        let end = day.tomorrow().ok()?.to_zoned(zone).ok()?;
        return end.timestamp().checked_sub(Span::new().nanoseconds(1)).ok();
    }
    if text.len() > 10
        && let Ok(time) = text.replacen(' ', "T", 1).parse::<civil::DateTime>()
    {
        return Some(time.to_zoned(zone).ok()?.timestamp());
    }
    let ago = text.strip_suffix("ago")?.trim();
    let span: Span = ago.parse().ok()?;
    Some(now.checked_sub(span.abs()).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::snapshot::Snapshot;
    use crate::format::tree::{Directory, HOLE};
    use crate::id::ObjectId;
    use std::sync::Arc;

    fn listed(first: u8, at: &str) -> Listed {
        let time = time(at.parse().unwrap());
        let snapshot = Snapshot {
            name: dated(time),
            time,
            started: time,
            ended: time,
            host: "h".into(),
            tags: vec![],
            sources: vec![],
            parent: None,
            root_meta: Default::default(),
            root: Directory { page: HOLE, entries: 0, total_files: 0, total_bytes: 0 },
            users: vec![],
            groups: vec![],
            has_xattrs: false,
            summary: Default::default(),
            troubles: vec![],
            program: String::new(),
        };
        let mut id = [first; 32];
        id[31] = 1;
        Listed { id: ObjectId(id), snapshot: Arc::new(snapshot) }
    }

    #[test]
    fn names_find_what_they_say_or_tell_why_not() {
        let all = [
            listed(0x11, "2026-11-18T03:17:05Z"),
            listed(0xab, "2026-11-19T03:17:05Z"),
            listed(0xab, "2026-11-20T03:17:05.5Z"),
        ];
        let now: Zoned = "2026-11-20T12:00:00+01:00[Europe/Berlin]".parse().unwrap();
        let found = |name: &str| {
            find(&all, name, &now).map(|found| found.snapshot.name.clone()).map_err(|error| error.to_string())
        };
        let (a, b, c) = ("2026-11-18T03-17-05Z", "2026-11-19T03-17-05Z", "2026-11-20T03-17-05Z");
        for (name, expected) in [
            ("latest", c),
            ("latest~2", a),
            ("today", c),
            ("yesterday", b),
            (a, a),
            ("2026-11-19", b),
            ("2026-11-19T04:00", a),
            ("2026-11-19T04:18", b),
            ("2026-11-19 04:18", b),
            ("2026-11-19T04:00Z", b),
            ("1 day ago", b),
            ("2 days ago", a),
            ("1111", a),
            ("10h ago", a),
        ] {
            if name == "10h ago" {
                continue;
            }
            assert_eq!(found(name).as_deref(), Ok(expected), "{name}");
        }
        assert!(found("abab").unwrap_err().contains("more than one"));
        for name in ["latest~3", "2026-11-17", "beef", "nonsense", "111"] {
            assert!(found(name).unwrap_err().contains("bakfs snapshots"), "{name}");
        }
    }
}
