//! The names snapshots go by: dated names, ids, days and times.

use crate::error::{Error, ErrorKind, Result};
use crate::quantity::time::Window;
use crate::quantity::{are, counted};
use crate::repo::shared::dated::{time, timestamp};
use crate::repo::shared::listed::ListedSnapshot;
use crate::repo::shared::scope::{Scope, believed};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned, civil};
use std::collections::HashSet;

/// The shortest prefix of an id that is taken for one.
const MIN_PREFIX: usize = 4;

/// Returns the names snapshots are shown by, in their order. Writers make them unique; should two
/// have made the same at once and been stopped before they noticed, all but the first get their id.
pub fn shown(snapshots: &[ListedSnapshot]) -> Vec<String> {
    let mut taken = HashSet::new();
    let name = |listed: &ListedSnapshot| {
        let name = listed.snapshot.name.clone();
        if taken.insert(name.clone()) { name } else { format!("{name}-{}", listed.id) }
    };
    snapshots.iter().map(name).collect()
}

/// Returns the newest of snapshots, oldest first, of a day of a time zone.
pub fn of_day<'a>(
    snapshots: impl DoubleEndedIterator<Item = &'a ListedSnapshot>,
    day: civil::Date,
    zone: &TimeZone,
) -> Option<&'a ListedSnapshot> {
    let date = |listed: &ListedSnapshot| timestamp(listed.snapshot.time).to_zoned(zone.clone()).date();
    let newest = snapshots.rev().find(|listed| date(listed) <= day)?;
    (date(newest) == day).then_some(newest)
}

/// What a name of a snapshot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// This snapshot and no other: its dated name, or its id.
    Exact,
    /// The newest ones, or those of a day: another snapshot as soon as there are more.
    Newest,
    /// A time: the newest snapshot until then, another one as soon as that has gone.
    Time,
}

/// A snapshot that was found by a name.
#[derive(Debug, Clone)]
pub struct Named<'a, 'b> {
    /// The snapshot.
    pub listed: &'a ListedSnapshot,
    /// The name without what narrows the scope.
    pub name: &'b str,
    /// What the name says of it.
    pub reference: Reference,
    /// All that the name could have meant, oldest first: those of its scope whose time is believed.
    pub among: Vec<&'a ListedSnapshot>,
    /// Those of the scope that lie more than a day ahead, and were passed over.
    pub ahead: Vec<&'a ListedSnapshot>,
}

impl Named<'_, '_> {
    /// Returns whether the name means another snapshot at another time, or once there are others.
    pub fn is_relative(&self) -> bool {
        self.reference != Reference::Exact
    }
}

/// Finds the snapshot a user names, among those of a scope. `now` tells the time zone and what `today` means.
///
/// A name is, in this order: `latest` or `latest~N`; `today` or `yesterday`; a dated name; a time, as
/// `2026-11-19` (the end of that day), `2026-11-19T15:00`, `3 days ago` (the newest snapshot at or
/// before it); an id or the first four or more digits of it. Before any of them may stand `hosts/HOST/`, `tags/TAG/`
/// or `PROFILE/`, which narrow the scope. Snapshots dated more than a day ahead are found by dated name and id alone.
pub fn find<'a, 'b>(
    snapshots: &'a [ListedSnapshot],
    scope: &Scope,
    name: &'b str,
    now: &Zoned,
) -> Result<Named<'a, 'b>> {
    if snapshots.is_empty() {
        let message = "There are no snapshots yet: `bakfs backup PATH` makes the first";
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    let whole = name;
    let (scope, name) = scope.narrowed(snapshots, name)?;
    let among = scope.of(snapshots).map_err(|error| match whole.split_once('/') {
        // `latest/etc`, as a path of the mount.
        Some((first, path)) if find(snapshots, &Scope::default(), first, now).is_ok() => misplaced(first, path),
        Some(("", _)) => none(format!("No snapshot is named `{whole}`")),
        _ => error,
    })?;
    if let Some((last, path)) = name.split_once('/') {
        return Err(misplaced(&format!("{}{last}", &whole[..whole.len() - name.len()]), path));
    }
    let mut search = Search { snapshots, among, ahead: Vec::new(), scope, now };
    let (believed, _) = believed(snapshots, now.timestamp());
    let last = believed.last().map(|listed| (listed.snapshot.time, listed.id));
    let at = search.among.partition_point(|listed| last.is_some_and(|last| (listed.snapshot.time, listed.id) <= last));
    search.ahead = search.among.split_off(at);
    let (listed, reference) = search.find(name)?;
    Ok(Named { listed, name, reference, among: search.among, ahead: search.ahead })
}

fn none(text: String) -> Error {
    Error::new(ErrorKind::NotFound, format!("{text}: `bakfs snapshots` lists what there is"))
}

fn misplaced(name: &str, path: &str) -> Error {
    Error::usage(format!("A path in a snapshot stands behind a colon: write `{name}:/{}`", path.trim_matches('/')))
}

/// The snapshots among which a name is looked for.
struct Search<'a, 'b> {
    /// All there are.
    snapshots: &'a [ListedSnapshot],
    /// Those of the scope whose time is believed, and the others; oldest first.
    among: Vec<&'a ListedSnapshot>,
    ahead: Vec<&'a ListedSnapshot>,
    scope: Scope,
    now: &'b Zoned,
}

impl<'a> Search<'a, '_> {
    fn find(&self, name: &str) -> Result<(&'a ListedSnapshot, Reference)> {
        if let Some(back) = name.strip_prefix("latest")
            && (back.is_empty() || back.starts_with('~'))
        {
            return self.counted(name, back).map(|listed| (listed, Reference::Newest));
        }
        let (zone, today) = (self.now.time_zone(), self.now.date());
        if name == "today" || name == "yesterday" {
            self.newest()?;
            let day = if name == "today" { today } else { today.yesterday().unwrap_or(today) };
            let found = of_day(self.among.iter().copied(), day, zone);
            let found = found.ok_or_else(|| self.none(&format!("is of {name}, {day}")))?;
            return Ok((found, Reference::Newest));
        }
        if let Some(at) = shown(self.snapshots).iter().position(|shown| shown == name) {
            return self.exact(name, &self.snapshots[at]);
        }
        if let Some(until) = parse_time(name, self.now)? {
            self.newest()?;
            let until = time(until);
            let found = self.among.iter().rev().find(|listed| listed.snapshot.time <= until);
            let found = found.ok_or_else(|| self.none(&format!("is as old as {name}")))?;
            return Ok((found, Reference::Time));
        }
        let is_prefix = name.len() >= MIN_PREFIX && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let mut matches = self.snapshots.iter().filter(|listed| is_prefix && listed.id.to_hex().starts_with(name));
        match (matches.next(), matches.next()) {
            (Some(one), None) => self.exact(name, one),
            (Some(one), Some(two)) => Err(Error::usage(format!(
                "`{name}` matches more than one snapshot, as {} and {}: write more of the id",
                &one.id.to_hex()[..16],
                &two.id.to_hex()[..16]
            ))),
            _ => Err(self.unnamed(name)),
        }
    }

    /// Says that no snapshot has a name, and how the newest is named of whose name it is.
    fn unnamed(&self, name: &str) -> Error {
        let ways = [format!("{name}/latest"), format!("hosts/{name}/latest"), format!("tags/{name}/latest")];
        let is_one = |way: &&String| {
            let found = Scope::default().narrowed(self.snapshots, way);
            found.is_ok_and(|(scope, _)| self.snapshots.iter().any(|listed| scope.has(&listed.snapshot)))
        };
        match ways.iter().find(is_one) {
            Some(way) => Error::new(
                ErrorKind::NotFound,
                format!("No snapshot is named `{name}`: write `{way}` for the newest of that name"),
            ),
            None => none(format!("No snapshot is named `{name}`")),
        }
    }

    /// Finds `latest`, or the one so many before it.
    fn counted(&self, name: &str, back: &str) -> Result<&'a ListedSnapshot> {
        let back: usize = match back.strip_prefix('~') {
            None => 0,
            Some(count) => count
                .parse()
                .map_err(|_| Error::usage(format!("`{name}` is no snapshot: write `latest~1` for the last but one")))?,
        };
        self.newest()?;
        let at = self.among.len().checked_sub(back.saturating_add(1));
        at.map(|at| self.among[at]).ok_or_else(|| {
            let scope = if self.scope.is_empty() { String::new() } else { format!(" {}", self.scope) };
            let (are, only) = (are(self.among.len()), counted(self.among.len(), "snapshot"));
            none(format!("There {are} only {only}{scope}"))
        })
    }

    /// Returns the newest one. Fails where none is believed.
    fn newest(&self) -> Result<&'a ListedSnapshot> {
        self.among.last().copied().ok_or_else(|| {
            let first = self.ahead.first().map_or("", |listed| &listed.snapshot.name);
            Error::new(
                ErrorKind::NotFound,
                format!(
                    "All snapshots that could be meant lie more than a day in the future of this machine's clock ({}): \
                     set the clock, or name one exactly, as {first}",
                    self.now.strftime("%Y-%m-%d %H:%M")
                ),
            )
        })
    }

    fn exact(&self, name: &str, listed: &'a ListedSnapshot) -> Result<(&'a ListedSnapshot, Reference)> {
        if self.scope.has(&listed.snapshot) {
            return Ok((listed, Reference::Exact));
        }
        Err(Error::usage(format!("The snapshot `{name}` is not {}: name it alone", self.scope)))
    }

    fn none(&self, what: &str) -> Error {
        let scope = if self.scope.is_empty() { String::new() } else { format!(" {}", self.scope) };
        none(format!("No snapshot{scope} {what}"))
    }
}

/// Reads a time as people write it; `None` where it is none. An age that is not clear is an error.
pub fn parse_time(text: &str, now: &Zoned) -> Result<Option<Timestamp>> {
    let is_age = |text: &&str| text.starts_with(|char: char| char.is_ascii_digit());
    if let Some(age) = text.strip_suffix("ago").map(str::trim).filter(is_age) {
        let start = Window::parse_age(age).map_err(Error::usage)?.start(now);
        return Ok(Some(start).filter(|start| *start > Timestamp::MIN));
    }
    Ok(parse_moment(text, now))
}

fn parse_moment(text: &str, now: &Zoned) -> Option<Timestamp> {
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
    if text.len() <= 10 {
        return None;
    }
    let time = text.replacen(' ', "T", 1).parse::<civil::DateTime>().ok()?;
    Some(time.to_zoned(zone).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::shared::listed::example;

    fn listed(first: u8, at: &str) -> ListedSnapshot {
        example(first, at, "h", &[], &[])
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
            let found = find(&all, &Scope::default(), name, &now);
            found.map(|found| found.listed.snapshot.name.clone()).map_err(|error| error.to_string())
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
        ] {
            assert_eq!(found(name).as_deref(), Ok(expected), "{name}");
        }
        assert!(found("abab").unwrap_err().contains("more than one"));
        assert!(found("3m ago").unwrap_err().contains("`3min` or `3mo`"));
        for name in ["latest~3", "2026-11-17", "beef", "nonsense", "111"] {
            assert!(found(name).unwrap_err().contains("bakfs snapshots"), "{name}");
        }
    }
    #[test]
    fn a_scope_is_said_before_the_name_or_beside_it() {
        let all = [
            example(1, "2026-11-18T03:00:00Z", "web1", &["daily", "main"], &["/"]),
            example(2, "2026-11-18T04:00:00Z", "web2", &["daily", "main"], &["/"]),
            example(3, "2026-11-19T03:00:00Z", "web1", &["daily", "main"], &["/"]),
            example(4, "2026-11-19T05:00:00Z", "web1", &["hourly", "shop"], &["/srv/shop/media"]),
            example(5, "2026-11-19T06:00:00Z", "web1", &["shop"], &["/etc/nginx"]),
            example(6, "2026-11-19T07:00:00Z", "tags", &["by: hand"], &["/srv"]),
            example(7, "2026-11-19T08:00:00Z", "a/b", &[], &["/home"]),
            example(8, "2036-11-19T08:00:00Z", "web1", &["daily", "main"], &["/"]),
        ];
        let now: Zoned = "2026-11-19T12:00:00[UTC]".parse().unwrap();
        let of = |host: &str, tags: &[&str], paths: &[&str], profile: &str| Scope {
            host: Some(host.to_string()).filter(|host| !host.is_empty()),
            tags: tags.iter().map(|tag| tag.to_string()).collect(),
            paths: paths.iter().map(|path| path.as_bytes().to_vec()).collect(),
            profile: Some(profile.to_string()).filter(|profile| !profile.is_empty()),
        };
        let all_of = Scope::default;
        for (scope, name, expected) in [
            (all_of(), "latest", 7),
            (all_of(), "latest~1", 6),
            (all_of(), "2036-11-19", 7),
            (all_of(), "2036-11-19T08-00-00Z", 8),
            (all_of(), "main/latest", 3),
            (all_of(), "main/latest~2", 1),
            (all_of(), "main/yesterday", 2),
            (all_of(), "main/2026-11-18", 2),
            (all_of(), "main/2026-11-18T03:30", 1),
            (all_of(), "main/1 day ago", 2),
            (all_of(), "main/2026-11-18T03-00-00Z", 1),
            (all_of(), "main/0101", 1),
            // By hand with the same tag is no run of the profile.
            (all_of(), "shop/latest", 4),
            (all_of(), "tags/shop/latest", 5),
            (all_of(), "hosts/web2/latest", 2),
            (all_of(), "hosts/tags/latest", 6),
            (all_of(), "hosts/a_b/latest", 7),
            (all_of(), "hosts/a_b/2026-11-19T08-00-00Z", 7),
            // No run has this tag, so it is the tag.
            (all_of(), "by: hand/latest", 6),
            (of("web1", &[], &[], ""), "latest", 5),
            (of("web1", &[], &[], ""), "main/latest", 3),
            (of("web2", &[], &[], "main"), "latest", 2),
            (of("", &["main", "daily"], &[], ""), "latest", 3),
            (of("", &[], &[], "shop"), "latest", 4),
            (of("", &[], &["/srv/shop/media"], ""), "latest", 6),
            (of("", &[], &["/srv/shop/media", "/etc/nginx"], ""), "latest", 3),
            (of("", &[], &["/etc/nginx/sites"], ""), "latest", 5),
            (of("", &[], &[""], ""), "latest", 3),
        ] {
            let found = find(&all, &scope, name, &now).map(|found| found.listed.id.0[0]);
            assert_eq!(found.as_ref().ok(), Some(&expected), "{scope} {name}: {found:?}");
        }
        for (scope, name, told) in [
            (all_of(), "mian/latest", "did you mean `main`? there are the profiles main, shop"),
            (all_of(), "tags/mian/latest", "did you mean `main`?"),
            (all_of(), "hosts/web3/latest", "did you mean `web1`? there are the hosts a/b, tags, web1, web2"),
            (of("web3", &[], &[], ""), "latest", "there are the hosts"),
            (of("", &["typo"], &[], ""), "latest", "there are the tags by: hand, daily"),
            (of("", &[], &[], "by: hand"), "latest", "`--tag by: hand`"),
            (of("", &[], &["/var"], "shop"), "latest", "of the profile shop and of /var"),
            (of("", &[], &["/srv"], ""), "2026-11-19T08-00-00Z", "not of /srv"),
            (of("web2", &[], &[], ""), "today", "of the host web2 is of today"),
            (of("web2", &[], &[], ""), "latest~1", "There is only 1 snapshot of the host web2"),
            (of("web1", &[], &[], ""), "hosts/web2/latest", "--host says web1"),
            (of("", &[], &[], "main"), "shop/latest", "--profile says main"),
            (all_of(), "latest/etc/nginx", "write `latest:/etc/nginx`"),
            (all_of(), "main/latest/etc", "write `main/latest:/etc`"),
            (all_of(), "hosts/web1/latest/etc/", "write `hosts/web1/latest:/etc`"),
            (all_of(), "main", "No snapshot is named `main`: write `main/latest`"),
            (all_of(), "web2", "write `hosts/web2/latest`"),
            (all_of(), "daily", "write `daily/latest`"),
            (all_of(), "/mnt/history/latest", "No snapshot is named `/mnt/history/latest`"),
        ] {
            let error = find(&all, &scope, name, &now).map(|found| found.listed.id.0[0]).unwrap_err().chain();
            assert!(error.contains(told), "{scope} {name}: {error}");
        }
        // A machine whose clock stands at its beginning believes none.
        let dawn: Zoned = "1970-01-01T00:00:00[UTC]".parse().unwrap();
        for name in ["latest", "today", "2040-01-01", "main/latest"] {
            let error = find(&all, &Scope::default(), name, &dawn).unwrap_err().chain();
            assert!(error.contains("1970-01-01") && error.contains("2026-11-18T03-00-00Z"), "{name}: {error}");
        }
        let found = find(&all, &Scope::default(), "main/latest", &now).unwrap();
        assert_eq!((found.is_relative(), found.among.len(), found.ahead.len()), (true, 3, 1));
        assert!(!find(&all, &Scope::default(), "main/2026-11-18T03-00-00Z", &now).unwrap().is_relative());
    }
}
