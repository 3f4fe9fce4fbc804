//! Going ahead of whoever goes through directories one after another, where every request to the store takes a
//! round trip.
//!
//! Programs that copy trees go through the directories below one in the order of their names, in which they are
//! listed, or in that of their inode numbers (coreutils, lib/savedir.h, `SAVEDIR_SORT_FASTREAD`). Which of the two it
//! is shows after a few; the small files of those that come next are then asked for before anybody lists them.

use crate::error::Result;
use crate::format::tree::{Directory, Node};
use crate::repo::Repository;
use crate::store::Wait;
use bakfs_mount::Threads;
use bakfs_mount::tree::Ino;
use lru::LruCache;
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Directories that are remembered with those below them.
const MAX_SIBLINGS: NonZeroUsize = NonZeroUsize::new(8).expect("not zero");
/// A directory with more directories below it is not gone ahead in.
pub const MAX_CHILDREN: usize = 4096;
/// Steps in an order that show that it is the reader's.
const EVIDENCE: u32 = 2;
/// How many directories ahead the first time, and at most.
const WINDOW: std::ops::Range<usize> = 4..64;
/// What all files below the directories ahead hold together, unless the next alone holds more; and half of what the
/// store takes.
const WINDOW_BYTES: u64 = 64 << 20;
/// What is looked at below one directory, and how deep.
const MAX_ENTRIES: u32 = 4096;
const MAX_LEVELS: usize = 64;
/// Requests to go ahead that wait; more are dropped.
const MAX_WAITING: usize = 16;

/// A directory below another.
#[derive(Debug, Clone, Copy)]
pub struct Child {
    /// Its number.
    pub ino: Ino,
    /// What it holds.
    pub directory: Directory,
}

/// The ways through the directories below one: in the order in which they are listed, and of their numbers.
struct Siblings {
    children: Vec<Child>,
    /// For either way the places in `children`.
    ways: [Vec<u32>; 2],
    /// How many steps in a row went along either way, and where the last one led.
    steps: [u32; 2],
    last: Option<usize>,
    asked: Vec<bool>,
    window: usize,
}

impl Siblings {
    fn new(children: Vec<Child>) -> Self {
        let listed: Vec<u32> = (0..children.len() as u32).collect();
        let mut numbered = listed.clone();
        numbered.sort_unstable_by_key(|at| children[*at as usize].ino);
        let asked = vec![false; children.len()];
        Siblings { children, ways: [listed, numbered], steps: [0; 2], last: None, asked, window: 0 }
    }

    /// Returns the directories to go ahead in now that a reader is in one: each is returned once.
    fn visit(&mut self, ino: Ino, window_bytes: u64) -> Vec<Directory> {
        let Some(here) = self.children.iter().position(|child| child.ino == ino) else { return Vec::new() };
        self.asked[here] = true;
        let last = self.last.replace(here);
        if last == Some(here) {
            return Vec::new();
        }
        let rank = |way: &[u32], child: usize| way.iter().position(|at| *at as usize == child);
        for (way, steps) in self.ways.iter().zip(&mut self.steps) {
            let goes_on = last.is_some_and(|last| rank(way, last) < rank(way, here));
            *steps = if goes_on { *steps + 1 } else { 0 };
        }
        let way = usize::from(self.steps[1] > self.steps[0]);
        if self.steps[way] < EVIDENCE {
            self.window = 0;
            return Vec::new();
        }
        self.window = (self.window * 2).clamp(WINDOW.start, WINDOW.end);
        let way = &self.ways[way];
        let next = rank(way, here).map_or(way.len(), |rank| rank + 1);
        let mut ahead_bytes: u64 = 0;
        let mut found = Vec::new();
        for at in way[next..].iter().take(self.window) {
            let directory = self.children[*at as usize].directory;
            ahead_bytes = ahead_bytes.saturating_add(directory.total_bytes);
            if ahead_bytes > window_bytes && *at != way[next] {
                break;
            }
            if !std::mem::replace(&mut self.asked[*at as usize], true) {
                found.push(directory);
            }
        }
        found
    }
}

/// Directories, and the small files of which length are asked for below them.
type Ahead = (Vec<Directory>, u64);

/// Who goes through which directories, and a thread that goes ahead.
pub struct ReadAhead {
    siblings: Mutex<LruCache<Ino, Siblings>>,
    jobs: SyncSender<Ahead>,
    window_bytes: u64,
    is_over: Arc<AtomicBool>,
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

impl ReadAhead {
    /// Starts the thread, which ends with what is made here; without one nothing is asked for.
    pub fn start(repository: Arc<Repository>, threads: &Threads) -> Self {
        let (jobs, waiting) = sync_channel(MAX_WAITING);
        let window_bytes = WINDOW_BYTES.min(repository.store().max_wanted_bytes() / 2);
        let is_over = Arc::new(AtomicBool::new(false));
        let scout = Scout { repository, max_bytes: window_bytes / 2, is_over: is_over.clone() };
        let started = threads.spawn("bakfs-ahead", move || scout.work(&waiting));
        if let Err(error) = started {
            tracing::debug!(%error, "A thread that goes ahead of readers cannot be started");
        }
        ReadAhead { siblings: Mutex::new(LruCache::new(MAX_SIBLINGS)), jobs, window_bytes, is_over }
    }

    /// Takes note that somebody reads the small files of a directory, up to `max_bytes` each. `children` lists those
    /// below its parent, unless they are known; none if there are more than [`MAX_CHILDREN`], and `None` if they cannot
    /// be listed now.
    pub fn visit(&self, parent: Ino, dir: Ino, max_bytes: u64, children: impl FnOnce() -> Option<Vec<Child>>) {
        let is_known = self.siblings.lock().contains(&parent);
        // Listing may wait for the store: nothing is locked meanwhile.
        let Some(children) = (if is_known { Some(Vec::new()) } else { children() }) else { return };
        let found = {
            let mut siblings = self.siblings.lock();
            siblings.get_or_insert_mut(parent, || Siblings::new(children)).visit(dir, self.window_bytes)
        };
        if !found.is_empty() {
            // A hint: where many wait already the store is busy anyway.
            let _ = self.jobs.try_send((found, max_bytes));
        }
    }
}

/// The thread that goes ahead.
struct Scout {
    repository: Arc<Repository>,
    /// What is asked for below one directory.
    max_bytes: u64,
    is_over: Arc<AtomicBool>,
}

impl Scout {
    fn work(&self, jobs: &Receiver<Ahead>) {
        while let Ok((directories, max_file_bytes)) = jobs.recv() {
            directories.iter().for_each(|directory| self.repository.want_page(&directory.page));
            for directory in directories {
                if self.is_over.load(Ordering::Relaxed) {
                    return;
                }
                if let Err(error) = self.want_below(directory, max_file_bytes) {
                    tracing::debug!("Going ahead of a reader ends: {}", error.chain());
                }
            }
        }
    }

    /// Asks for the small files below a directory, the first ones first, up to a bound.
    fn want_below(&self, directory: Directory, max_file_bytes: u64) -> Result<()> {
        let (mut entries, mut bytes) = (0, 0);
        let mut pending = vec![(directory, 0)];
        while let Some((directory, mut position)) = pending.pop() {
            while let Some(leaf) = self.repository.leaf_at(&directory, position, Wait::Allowed)? {
                let mut below = None;
                while let Some(entry) = leaf.entry(position).filter(|_| below.is_none()) {
                    (position, entries) = (position + 1, entries + 1);
                    if entries > MAX_ENTRIES || bytes > self.max_bytes {
                        return Ok(());
                    }
                    let size_bytes = entry.meta.size_bytes;
                    match &entry.node {
                        Node::Directory(directory) => below = Some(*directory),
                        Node::File(content) if (1..=max_file_bytes).contains(&size_bytes) => {
                            bytes += size_bytes;
                            self.repository.want_content(content, 0..size_bytes);
                        }
                        _ => {}
                    }
                }
                if let Some(below) = below.filter(|_| pending.len() < MAX_LEVELS) {
                    pending.push((directory, position));
                    pending.push((below, 0));
                    break;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tree::HOLE;

    const MIB: u64 = 1 << 20;

    /// Directories whose numbers go up and down, of so many bytes each.
    fn siblings(count: u64, total_bytes: u64) -> Siblings {
        let child = |at: u64| {
            let directory = Directory { page: HOLE, entries: at, total_files: 1, total_bytes };
            Child { ino: number(at), directory }
        };
        Siblings::new((0..count).map(child).collect())
    }

    fn number(at: u64) -> Ino {
        (at * 7919) % 1009
    }

    /// Goes through directories; returns which were asked for at each.
    fn visit(siblings: &mut Siblings, order: &[u64]) -> Vec<Vec<u64>> {
        let asked =
            |at: &u64| siblings.visit(number(*at), WINDOW_BYTES).iter().map(|directory| directory.entries).collect();
        order.iter().map(asked).collect()
    }

    #[test]
    fn a_reader_in_either_order_is_gone_ahead_of() {
        let by_name: Vec<u64> = (0..100).collect();
        let mut by_number = by_name.clone();
        by_number.sort_by_key(|at| number(*at));
        for order in [by_name, by_number] {
            let asked = visit(&mut siblings(100, 1000), &order);
            assert!(asked[..2].iter().all(Vec::is_empty), "{asked:?}");
            assert_eq!(asked[2], order[3..7]);
            let all: Vec<u64> = asked.concat();
            assert_eq!(all, order[3..], "in order, and each once");
            for (step, asked) in asked.iter().enumerate() {
                assert!(asked.iter().all(|at| order[step + 1..].contains(at)), "only what comes");
            }
        }
    }

    #[test]
    fn who_jumps_about_is_left_alone() {
        let asked = visit(&mut siblings(100, 1000), &[50, 3, 80, 20, 60, 1, 99, 40, 70, 10]);
        assert!(asked.concat().len() <= 12, "{asked:?}");
        assert!(visit(&mut siblings(100, 1000), &[5, 5, 5, 5]).concat().is_empty());
        assert!(siblings(10, 1000).visit(u64::MAX, WINDOW_BYTES).is_empty());
    }

    #[test]
    fn no_more_is_asked_for_than_the_bound() {
        let order: Vec<u64> = (0..100).collect();
        let asked = visit(&mut siblings(100, 20 * MIB), &order);
        for (step, _) in asked.iter().enumerate() {
            let ahead = asked[..=step].concat().into_iter().filter(|at| *at > step as u64).count();
            assert!(ahead as u64 * 20 * MIB <= WINDOW_BYTES, "{ahead} at {step}");
        }
        assert_eq!(visit(&mut siblings(100, u64::MAX), &order).concat(), order[3..], "one at a time");
    }
}
