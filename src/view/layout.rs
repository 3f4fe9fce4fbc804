//! The directories and links above the snapshots.
//!
//! ```text
//! /2026-11-20T03-17-05Z/      a snapshot
//! /latest -> 2026-11-20T03-17-05Z, /today, /yesterday
//! /hosts/<host>/<dated> -> ../../<dated>, /tags/<tag>/<dated> -> ../../<dated>
//! /hosts/<host>/latest -> ../../2026-11-20T03-17-05Z, and so on
//! ```
//!
//! No snapshot dated more than a day ahead is where `latest`, `today` and `yesterday` lead.
//!
//! Every name keeps its position in listings for as long as it exists: a reader in the middle of one
//! neither misses nor sees a name twice when another comes.

use super::LayoutChange;
use super::identity::{of_layout, of_snapshot};
use crate::format::tree::Time;
use crate::repo::shared::dated::folder_name;
use crate::repo::shared::listed::ListedSnapshot;
use crate::repo::shared::names::{of_day, shown};
use crate::repo::shared::scope::believed;
use bakfs_mount::tree::{Attr, Ino, Kind, ROOT_INO};
use std::collections::{BTreeMap, HashMap};

/// The directory of hosts.
const HOSTS_INO: Ino = 2;
/// The directory of tags.
const TAGS_INO: Ino = 3;
/// The file that says what is hidden.
pub const NOTE_INO: Ino = 4;
/// Its name in the root, where it is only if something is hidden.
pub const NOTE_NAME: &str = "ATTRIBUTES-HIDDEN.txt";
/// Its text.
pub const NOTE_TEXT: &str = "\
Extended attributes or ACLs have come with the newest snapshots. This mount began before there were any, and does not
show them: what is copied out of it now lacks them, and modes are narrowed to what the ACLs give everybody.

The mount begins anew and shows them as soon as nobody uses it: no file of it is open, and no shell or program works in
it (`fuser -vm MOUNTPOINT` lists them). Until then a second mount elsewhere shows all: `bakfs mount /another/directory`.
";
/// Positions of entries start above those of `.` and `..`.
const FIRST_POSITION: u64 = 3;

/// Leads from a host's or tag's directory to those of the snapshots.
const ABOVE: &[u8] = b"../../";

/// A snapshot and the name of its directory.
type Shown<'a> = (&'a ListedSnapshot, &'a str);

/// One entry of a directory of the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child {
    /// Its inode.
    pub ino: Ino,
    /// Its position in listings.
    pub position: u64,
}

/// A directory of the layout.
#[derive(Debug, Clone, Default)]
pub struct Folder {
    /// The directory above.
    pub parent: Ino,
    by_name: HashMap<Vec<u8>, Child>,
    by_position: BTreeMap<u64, Vec<u8>>,
    next_position: u64,
}

#[derive(Debug, Clone)]
struct Link {
    target: Vec<u8>,
    time: Time,
}

/// The whole layout at one moment.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    snapshots: Vec<ListedSnapshot>,
    /// How many of them, the oldest, are not dated more than a day ahead.
    believed: usize,
    folders: HashMap<Ino, Folder>,
    links: HashMap<Ino, Link>,
    roots: HashMap<Ino, ListedSnapshot>,
    day: jiff::civil::Date,
    newest: Time,
}

impl Folder {
    fn add(&mut self, old: Option<&Folder>, name: &[u8], ino: Ino) {
        let kept = old.and_then(|old| old.by_name.get(name)).map(|child| child.position);
        let position = kept.unwrap_or(self.next_position.max(FIRST_POSITION));
        self.next_position = self.next_position.max(position + 1);
        // Whoever named a snapshot `latest`: the link has the name, once.
        if let Some(other) = self.by_name.insert(name.to_vec(), Child { ino, position }) {
            self.by_position.remove(&other.position);
        }
        self.by_position.insert(position, name.to_vec());
    }

    /// Finds an entry.
    pub fn find(&self, name: &[u8]) -> Option<Child> {
        self.by_name.get(name).copied()
    }

    /// Returns the entries after a position, in the order of listings.
    pub fn after(&self, position: u64) -> impl Iterator<Item = (&[u8], Child)> {
        self.by_position.range(position.saturating_add(1)..).map(|(_, name)| (&name[..], self.by_name[name]))
    }
}

impl Layout {
    /// Builds the layout of snapshots; names that `old` has keep their positions.
    pub fn build(old: &Layout, snapshots: Vec<ListedSnapshot>, now: &jiff::Zoned) -> Self {
        let mut layout = Layout {
            day: now.date(),
            newest: snapshots.iter().map(|listed| listed.snapshot.ended).max().unwrap_or_default(),
            // A link's inode never changes its target; the kernel may still refer to one that is gone.
            links: old.links.clone(),
            ..Layout::default()
        };
        for (ino, parent) in [(ROOT_INO, ROOT_INO), (HOSTS_INO, ROOT_INO), (TAGS_INO, ROOT_INO)] {
            layout.open(old, ino, parent);
        }
        let names = shown(&snapshots);
        let mut groups: BTreeMap<Vec<u8>, (Ino, Vec<Shown<'_>>)> = BTreeMap::new();
        layout.believed = believed(&snapshots, now.timestamp()).0.len();
        for (at, (listed, name)) in snapshots.iter().zip(&names).enumerate() {
            let snapshot = &listed.snapshot;
            let ino = of_snapshot(&listed.id);
            layout.put(old, ROOT_INO, name.as_bytes(), ino);
            layout.roots.insert(ino, listed.clone());
            let words = snapshot.tags.iter().map(|tag| (TAGS_INO, b"tags".as_slice(), tag));
            for (above, kind, word) in words.chain([(HOSTS_INO, b"hosts".as_slice(), &snapshot.host)]) {
                let group = folder_name(word.as_bytes());
                let path = [kind, b"/", &group].concat();
                let folder = of_layout(&path, b"");
                if !layout.folders.contains_key(&folder) {
                    layout.open(old, folder, above);
                    layout.put(old, above, &group, folder);
                }
                layout.link(old, folder, &path, name.as_bytes(), &[ABOVE, name.as_bytes()].concat(), snapshot.time);
                let (_, members) = groups.entry(path).or_insert((folder, Vec::new()));
                members.extend((at < layout.believed).then_some((listed, &**name)));
            }
        }
        layout.put(old, ROOT_INO, b"hosts", HOSTS_INO);
        layout.put(old, ROOT_INO, b"tags", TAGS_INO);
        let all: Vec<Shown<'_>> =
            snapshots.iter().zip(names.iter().map(String::as_str)).take(layout.believed).collect();
        layout.lead(old, ROOT_INO, b"", b"", &all, now);
        for (path, (folder, members)) in &groups {
            layout.lead(old, *folder, path, ABOVE, members, now);
        }
        layout.snapshots = snapshots;
        layout
    }

    fn open(&mut self, old: &Layout, ino: Ino, parent: Ino) {
        let next_position = old.folders.get(&ino).map_or(FIRST_POSITION, |folder| folder.next_position);
        self.folders.insert(ino, Folder { parent, next_position, ..Folder::default() });
    }

    fn put(&mut self, old: &Layout, folder: Ino, name: &[u8], ino: Ino) {
        if let Some(open) = self.folders.get_mut(&folder) {
            open.add(old.folders.get(&folder), name, ino);
        }
    }

    fn link(&mut self, old: &Layout, folder: Ino, path: &[u8], name: &[u8], target: &[u8], time: Time) {
        let ino = of_layout(&[path, b"/", name].concat(), target);
        self.links.insert(ino, Link { target: target.to_vec(), time });
        self.put(old, folder, name, ino);
    }

    /// Puts `latest`, `today` and `yesterday` into a directory, which lead to the newest of these snapshots; `up` leads
    /// to theirs.
    fn lead(&mut self, old: &Layout, folder: Ino, path: &[u8], up: &[u8], among: &[Shown<'_>], now: &jiff::Zoned) {
        let of = |day: jiff::civil::Date| of_day(among.iter().map(|(listed, _)| *listed), day, now.time_zone());
        let latest = among.last().map(|(listed, _)| *listed);
        let (today, yesterday) = (of(now.date()), now.date().yesterday().ok().and_then(of));
        for (name, wanted) in [("latest", latest), ("today", today), ("yesterday", yesterday)] {
            let found = wanted.and_then(|wanted| among.iter().rfind(|(listed, _)| listed.id == wanted.id));
            if let Some((listed, target)) = found {
                self.link(old, folder, path, name.as_bytes(), &[up, target.as_bytes()].concat(), listed.snapshot.time);
            }
        }
    }

    /// Puts a file into the root that says what is hidden, for who looks.
    pub fn add_note(&mut self, old: &Layout) {
        self.put(old, ROOT_INO, NOTE_NAME.as_bytes(), NOTE_INO);
    }

    /// Returns the snapshots, oldest first.
    pub fn snapshots(&self) -> &[ListedSnapshot] {
        &self.snapshots
    }

    /// Returns those dated more than a day ahead.
    pub fn ahead(&self) -> &[ListedSnapshot] {
        &self.snapshots[self.believed..]
    }

    /// Returns the newest snapshot that is not.
    pub fn newest(&self) -> Option<&ListedSnapshot> {
        self.snapshots[..self.believed].last()
    }

    /// Returns whether its links lead where they do at another moment: `today` is the same, and what is dated ahead.
    pub fn is_as_of(&self, now: &jiff::Zoned) -> bool {
        self.day == now.date() && self.believed == believed(&self.snapshots, now.timestamp()).0.len()
    }

    /// Returns whether any snapshot has extended attributes.
    pub fn has_xattrs(&self) -> bool {
        self.snapshots.iter().any(|listed| listed.snapshot.has_xattrs)
    }

    /// Returns the virtual directories.
    pub fn folder_inos(&self) -> Vec<Ino> {
        self.folders.keys().copied().collect()
    }

    /// Returns a directory of the layout.
    pub fn folder(&self, ino: Ino) -> Option<&Folder> {
        self.folders.get(&ino)
    }

    /// Returns the snapshot a dated directory is of.
    pub fn snapshot(&self, ino: Ino) -> Option<&ListedSnapshot> {
        self.roots.get(&ino)
    }

    /// Returns a link's target.
    pub fn target(&self, ino: Ino) -> Option<&[u8]> {
        self.links.get(&ino).map(|link| &link.target[..])
    }

    /// Returns the attributes of anything in the layout. Whoever mounts owns it.
    pub fn attr(&self, ino: Ino) -> Option<Attr> {
        if let Some(listed) = self.roots.get(&ino) {
            let snapshot = &listed.snapshot;
            let node = crate::format::tree::Node::Directory(snapshot.root);
            return Some(super::attr_of(ino, &snapshot.root_meta, &node));
        }
        let (kind, perm, nlink, size_bytes, time) = match (self.folders.get(&ino), self.links.get(&ino)) {
            (Some(folder), _) => {
                let is_folder = |ino: Ino| ino != NOTE_INO && !self.links.contains_key(&ino);
                let below = folder.by_name.values().filter(|child| is_folder(child.ino)).count();
                (Kind::Directory, 0o755, 2 + below as u32, 0, self.newest)
            }
            (None, Some(link)) => (Kind::Symlink, 0o777, 1, link.target.len() as u64, link.time),
            (None, None) if ino == NOTE_INO => (Kind::File, 0o444, 1, NOTE_TEXT.len() as u64, self.newest),
            (None, None) => return None,
        };
        let time = bakfs_mount::tree::Time { secs: time.secs, nanos: time.nanos };
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Some(Attr {
            ino,
            kind,
            perm,
            nlink,
            uid,
            gid,
            rdev: 0,
            size_bytes,
            blocks: 0,
            atime: time,
            mtime: time,
            ctime: time,
        })
    }

    /// Tells what is different from an earlier layout.
    pub fn changes_since(&self, old: &Layout) -> Vec<LayoutChange> {
        let inos = self.folders.keys().chain(old.folders.keys().filter(|ino| !self.folders.contains_key(ino)));
        let empty = Folder::default();
        let mut changes = Vec::new();
        for ino in inos {
            let (before, after) = (old.folders.get(ino).unwrap_or(&empty), self.folders.get(ino).unwrap_or(&empty));
            let other =
                |name: &&Vec<u8>| before.find(name).map(|child| child.ino) != after.find(name).map(|child| child.ino);
            let gone = before.by_name.keys().filter(|name| !after.by_name.contains_key(*name));
            let names: Vec<_> = after.by_name.keys().chain(gone).filter(other).cloned().collect();
            if !names.is_empty() {
                changes.push(LayoutChange { dir: *ino, names });
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::shared::listed::example;

    /// Returns where a link of a directory of the layout leads.
    fn leads(layout: &Layout, path: &str) -> Option<String> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let open = |ino: Ino, name: &str| Some(layout.folder(ino)?.find(name.as_bytes())?.ino);
        let folder = folder.split('/').filter(|name| !name.is_empty()).try_fold(ROOT_INO, open)?;
        Some(String::from_utf8(layout.target(open(folder, name)?)?.to_vec()).unwrap())
    }

    fn names(layout: &Layout, ino: Ino) -> Vec<(u64, String)> {
        let entries = layout.folder(ino).unwrap().after(0);
        entries.map(|(name, child)| (child.position, String::from_utf8(name.to_vec()).unwrap())).collect()
    }

    #[test]
    fn every_host_and_tag_has_its_own_newest_and_what_is_dated_ahead_waits_for_its_time() {
        let snapshots = vec![
            example(1, "2026-11-18T10:00:00Z", "web1", &["main", "daily"], &[]),
            example(2, "2026-11-19T11:00:00Z", "web1", &["main", "daily"], &[]),
            example(3, "2026-11-20T11:00:00Z", "web2", &["hourly", "shop"], &[]),
            example(4, "2026-11-22T10:00:00Z", "web1", &["main", "daily"], &[]),
        ];
        let now: jiff::Zoned = "2026-11-20T12:00:00[UTC]".parse().unwrap();
        let [first, second, third, ahead] =
            ["2026-11-18T10-00-00Z", "2026-11-19T11-00-00Z", "2026-11-20T11-00-00Z", "2026-11-22T10-00-00Z"];
        let before = Layout::build(&Layout::default(), snapshots.clone(), &now);
        let up = |name: &str| Some(format!("../../{name}"));
        for (path, expected) in [
            ("latest", Some(third.to_string())),
            ("today", Some(third.to_string())),
            ("yesterday", Some(second.to_string())),
            ("hosts/web1/latest", up(second)),
            ("hosts/web1/today", None),
            ("hosts/web1/yesterday", up(second)),
            ("hosts/web2/latest", up(third)),
            ("tags/main/latest", up(second)),
            ("tags/shop/latest", up(third)),
            ("tags/shop/today", up(third)),
            ("tags/shop/yesterday", None),
            // It is there all the same.
            ("tags/main/2026-11-22T10-00-00Z", up(ahead)),
            ("hosts/web1/2026-11-18T10-00-00Z", up(first)),
        ] {
            assert_eq!(leads(&before, path), expected, "{path}");
        }
        assert_eq!((before.ahead().len(), before.newest().map(|newest| newest.id.0[0])), (1, Some(3)));

        // A second before it is a day ahead, and then.
        let at = |text: &str| text.parse::<jiff::Zoned>().unwrap();
        let same_day = at("2026-11-20T23:59:59[UTC]");
        assert!(before.is_as_of(&same_day) && !before.is_as_of(&at("2026-11-21T00:00:00[UTC]")), "midnight");
        let next = Layout::build(&before, snapshots.clone(), &at("2026-11-21T09:59:59[UTC]"));
        assert!(next.is_as_of(&at("2026-11-21T09:59:59[UTC]")) && !next.is_as_of(&at("2026-11-21T10:00:00[UTC]")));
        assert_eq!((leads(&next, "tags/main/latest"), leads(&next, "tags/shop/today")), (up(second), None));
        assert_eq!(leads(&next, "tags/shop/yesterday"), up(third));
        let after = Layout::build(&next, snapshots, &at("2026-11-21T10:00:00[UTC]"));
        assert_eq!((leads(&after, "latest"), leads(&after, "tags/main/latest")), (Some(ahead.into()), up(ahead)));
        // The kernel is told of what leads elsewhere, in every directory.
        let changed: usize = after.changes_since(&next).iter().map(|change| change.names.len()).sum();
        assert_eq!(changed, 4, "latest in the root, of web1, of main and of daily");
        // A clock that is set back again.
        assert!(!after.is_as_of(&at("2026-11-21T09:00:00[UTC]")));

        // No name has moved in a listing.
        for folder in [ROOT_INO, before.folder(HOSTS_INO).unwrap().find(b"web1").unwrap().ino] {
            let (old, new) = (names(&before, folder), names(&after, folder));
            let kept =
                |(position, name): &(u64, String)| new.iter().all(|(other, known)| known != name || other == position);
            assert!(old.iter().all(kept), "{old:?} {new:?}");
        }
    }
    #[test]
    fn a_snapshot_that_is_named_latest_hides_nobodys_link() {
        let mut hostile = example(1, "2026-11-18T10:00:00Z", "web1", &[], &[]);
        std::sync::Arc::make_mut(&mut hostile.snapshot).name = "latest".into();
        let snapshots = vec![hostile, example(2, "2026-11-19T10:00:00Z", "web1", &[], &[])];
        let now: jiff::Zoned = "2026-11-25T12:00:00[UTC]".parse().unwrap();
        let mut layout = Layout::build(&Layout::default(), snapshots.clone(), &now);
        for _ in 0..2 {
            assert_eq!(leads(&layout, "latest").as_deref(), Some("2026-11-19T10-00-00Z"));
            assert_eq!(leads(&layout, "hosts/web1/latest").as_deref(), Some("../../2026-11-19T10-00-00Z"));
            for folder in [ROOT_INO, layout.folder(HOSTS_INO).unwrap().find(b"web1").unwrap().ino] {
                let all = names(&layout, folder);
                assert_eq!(all.iter().filter(|(_, name)| name == "latest").count(), 1, "{all:?}");
            }
            layout = Layout::build(&layout, snapshots.clone(), &now);
        }
    }
}
