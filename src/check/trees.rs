//! Trees: every page of every snapshot is read once, and what it says is compared with what is said of it.

use super::{Check, Subject, told};
use crate::error::{Error, Result};
use crate::format::page::Page;
use crate::format::tree::{Content, Directory, Entry, Extent, Node, add_totals};
use crate::id::{ChunkId, ObjectId};
use crate::quantity::counted;
use crate::repo::read::chunk_kind::ChunkKind;
use crate::repo::read::walk::MAX_DEPTH;
use crate::repo::shared::listed::ListedSnapshot;
use crate::store::{Object, Wait};
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, HashSet};

/// What the walk saw.
pub struct Seen {
    /// Distinct pages.
    pub pages: u64,
    /// Packs that no index object names and snapshots need.
    pub needed_spare: HashSet<ObjectId>,
}

/// What lies below a page. Of a page of extents: their number, 0, and their length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sums {
    items: u64,
    /// Files and bytes, as [`add_totals`] adds them up.
    totals: (u64, u64),
}

impl Sums {
    fn add(&mut self, other: Sums) -> Option<()> {
        self.items = self.items.checked_add(other.items)?;
        add_totals(&mut self.totals, other.totals);
        Some(())
    }
}

struct PendingDirectory {
    directory: Directory,
    depth: usize,
}

#[derive(Default)]
struct PendingDirectories {
    waiting: Vec<PendingDirectory>,
    busy: usize,
}

struct Trees<'a> {
    check: &'a Check<'a>,
    /// Pages that were read, by the first half of their ids; 128 bits of a keyed hash do not collide.
    pages: Mutex<HashMap<u128, Sums>>,
    /// Directories that were taken up, with what was said of them.
    claims: Mutex<HashSet<u128>>,
    needed_spare: Mutex<HashSet<ObjectId>>,
    jobs: Mutex<PendingDirectories>,
    changed: Condvar,
    /// The first failure that tells nothing of what is stored: then nobody can say whether it is sound.
    failure: Mutex<Option<Error>>,
}

fn short(id: &ChunkId) -> u128 {
    u128::from_le_bytes(*id.0.first_chunk().expect("32 bytes"))
}

/// Reads all trees.
pub fn check(check: &Check<'_>, snapshots: &[ListedSnapshot]) -> Result<Seen> {
    let trees = Trees {
        check,
        pages: Mutex::default(),
        claims: Mutex::default(),
        needed_spare: Mutex::default(),
        jobs: Mutex::default(),
        changed: Condvar::new(),
        failure: Mutex::default(),
    };
    let roots = snapshots.iter().rev().map(|listed| PendingDirectory { directory: listed.snapshot.root, depth: 0 });
    trees.jobs.lock().waiting.extend(roots);
    std::thread::scope(|scope| {
        for _ in 1..check.threads {
            scope.spawn(|| trees.work());
        }
        trees.work();
    });
    if let Some(error) = trees.failure.into_inner() {
        return Err(error);
    }
    Ok(Seen { pages: trees.pages.into_inner().len() as u64, needed_spare: trees.needed_spare.into_inner() })
}

impl Trees<'_> {
    fn work(&self) {
        let mut jobs = self.jobs.lock();
        loop {
            let Some(job) = jobs.waiting.pop() else {
                if jobs.busy == 0 {
                    return;
                }
                self.changed.wait(&mut jobs);
                continue;
            };
            jobs.busy += 1;
            drop(jobs);
            self.directory(&job);
            jobs = self.jobs.lock();
            jobs.busy -= 1;
            if jobs.busy == 0 {
                self.changed.notify_all();
            }
        }
    }

    fn directory(&self, job: &PendingDirectory) {
        let Directory { page, entries, total_files, total_bytes } = job.directory;
        let mut claim = blake3::Hasher::new();
        claim.update(&page.0);
        for number in [entries, total_files, total_bytes] {
            claim.update(&number.to_le_bytes());
        }
        let claim = u128::from_le_bytes(*claim.finalize().as_bytes().first_chunk().expect("32 bytes"));
        if !self.claims.lock().insert(claim) {
            return;
        }
        if job.depth > MAX_DEPTH {
            return self.bad_page(&page, format!("it lies more than {MAX_DEPTH} directories deep"));
        }
        let mut below = Vec::new();
        let sums = self.page(&page, u32::MAX, None, &mut below);
        if !below.is_empty() {
            let mut jobs = self.jobs.lock();
            jobs.waiting
                .extend(below.into_iter().map(|directory| PendingDirectory { directory, depth: job.depth + 1 }));
            drop(jobs);
            self.changed.notify_all();
        }
        let said = Sums { items: entries, totals: (total_files, total_bytes) };
        if let Some(sums) = sums
            && sums != said
        {
            self.bad_page(&page, format!("its directory is said to be {said:?} and is {sums:?}"));
        }
    }

    fn bad_page(&self, id: &ChunkId, problem: String) {
        self.check.bad_chunk(id, format!("tree page {id}: {problem}"));
    }

    fn unreadable(&self, id: &ChunkId, error: Error) {
        if self.check.repository.is_damage(&error) {
            return self.bad_page(id, told(&error));
        }
        self.jobs.lock().waiting.clear();
        self.failure.lock().get_or_insert(error);
    }

    /// Checks a page of a directory and those below it; levels bound the recursion. `None`: damage, told.
    fn page(&self, id: &ChunkId, above: u32, first: Option<&[u8]>, below: &mut Vec<Directory>) -> Option<Sums> {
        if let Some(sums) = self.pages.lock().get(&short(id)) {
            return Some(*sums);
        }
        if self.check.damage.lock().has_chunk(id) || self.failure.lock().is_some() {
            return None;
        }
        self.place(ChunkKind::Page, id, None);
        let page = match self.check.repository.page(id, Wait::Allowed) {
            Ok(page) => page,
            Err(error) => {
                self.unreadable(id, error);
                return None;
            }
        };
        let mut sums = Sums::default();
        let (level, name) = match &*page {
            Page::Leaf(entries) => {
                for entry in entries {
                    if sums.add(self.entry(entry, below)).is_none() {
                        self.bad_page(id, "its sizes do not add up".into());
                        return None;
                    }
                }
                (0, entries.first().map(|entry| &entry.name[..]))
            }
            Page::Inner { level, children } => {
                if *level >= above {
                    self.bad_page(id, "it is of the wrong level".into());
                    return None;
                }
                let mut whole = true;
                for child in children {
                    match self.page(&child.page, *level, Some(&child.first), below) {
                        Some(found) => {
                            if found.items != child.items {
                                self.bad_page(&child.page, "its number of entries is not what is said of it".into());
                                whole = false;
                            }
                            whole &= sums.add(found).is_some();
                        }
                        None => whole = false,
                    }
                }
                if !whole {
                    return None;
                }
                (*level, children.first().map(|child| &child.first[..]))
            }
        };
        if level >= above || (first.is_some() && first != name) {
            self.bad_page(id, "its level or first name is not what is said of it".into());
            return None;
        }
        self.pages.lock().insert(short(id), sums);
        Some(sums)
    }

    fn entry(&self, entry: &Entry, below: &mut Vec<Directory>) -> Sums {
        match &entry.node {
            Node::Directory(directory) => below.push(*directory),
            Node::File(content) => self.content(content, entry.meta.size_bytes),
            _ => {}
        }
        Sums { items: 1, totals: entry.totals() }
    }

    fn content(&self, content: &Content, size_bytes: u64) {
        match content {
            Content::Extents(extents) => extents.iter().for_each(|extent| self.extent(extent)),
            Content::List(id) => {
                if let Some(Sums { totals: (_, bytes), .. }) = self.list(id, u32::MAX)
                    && bytes != size_bytes
                {
                    let problem = format!("its extents add up to {} instead of {size_bytes}", counted(bytes, "byte"));
                    self.bad_page(id, problem);
                }
            }
        }
    }

    fn extent(&self, extent: &Extent) {
        if !extent.is_hole() {
            self.place(ChunkKind::Data, &extent.chunk, Some(extent.len_bytes));
        }
    }

    fn list(&self, id: &ChunkId, above: u32) -> Option<Sums> {
        if let Some(sums) = self.pages.lock().get(&short(id)) {
            return Some(*sums);
        }
        if self.check.damage.lock().has_chunk(id) || self.failure.lock().is_some() {
            return None;
        }
        self.place(ChunkKind::Page, id, None);
        let page = match self.check.repository.extent_page(id, Wait::Allowed) {
            Ok(page) => page,
            Err(error) => {
                self.unreadable(id, error);
                return None;
            }
        };
        let mut sums = Sums::default();
        match &*page {
            Page::Leaf(extents) => {
                for extent in extents {
                    self.extent(extent);
                    sums.add(Sums { items: 1, totals: (0, extent.len_bytes) })?;
                }
            }
            Page::Inner { level, children } => {
                if *level >= above {
                    self.bad_page(id, "it is of the wrong level".into());
                    return None;
                }
                for child in children {
                    let found = self.list(&child.page, *level)?;
                    if (found.items, found.totals.1) != (child.items, child.content_bytes) {
                        self.bad_page(&child.page, "its extents are not what is said of it".into());
                        return None;
                    }
                    sums.add(found)?;
                }
            }
        }
        self.pages.lock().insert(short(id), sums);
        Some(sums)
    }

    /// Checks that the index names a chunk, of the right kind and length.
    fn place(&self, kind: ChunkKind, id: &ChunkId, len_bytes: Option<u64>) {
        let check = self.check;
        let location = check.index.find(id).or_else(|| {
            let location = check.spare.find(id)?;
            if self.needed_spare.lock().insert(location.pack.id) {
                let pack = Object::Pack(location.pack.id);
                check.damage.lock().add(Subject::Index, format!("no index object names {pack}, which snapshots need"));
            }
            Some(location)
        });
        match location {
            None => check.bad_chunk(id, format!("no pack has chunk {id}")),
            Some(location) => {
                let len = u64::from(location.chunk.len_bytes);
                if location.pack.kind != kind.pack_kind() || len_bytes.is_some_and(|wanted| wanted != len) {
                    check.bad_chunk(id, format!("chunk {id} is of another kind or length than its use says"));
                }
            }
        }
    }
}
