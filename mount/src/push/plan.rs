//! What is to be pushed next, decided from what was read and listed; does no work itself.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::tree::{Fault, Ino, Neighbour, ROOT_INO};

/// Bytes pushed ahead of a directory's readers; the next read that misses allows as many again.
const AHEAD_BYTES: u64 = 64 << 20;

/// Bytes pushed in a directory of which only its relatives say that it will be read.
const GUESS_BYTES: u64 = 1 << 20;

/// Distinct small files read in a directory before its others are pushed.
const EVIDENCE: u32 = 2;

/// Files asked for again, though read or pushed before, that mean that the kernel has dropped them.
const LOSS: u32 = 4;

/// Directories pushed because a relative was read through: at first, and doubling up to.
const CREDIT: std::ops::RangeInclusive<u32> = 16..=64;

/// Levels above a directory that count as its relatives.
const LEVELS: usize = 3;

/// Directories remembered, and directories with credit remembered.
const MAX_DIRS: usize = 32;

/// Files remembered as read or pushed, per directory.
const MAX_KNOWN: usize = 16_384;

/// A directory without a read that missed for so long is not pushed: its readers have gone, or are
/// slower than the pushing is ahead.
const FRESH: Duration = Duration::from_secs(2);

/// After so long without a read that missed, readers that come are new ones.
const REVISIT: Duration = Duration::from_secs(10);

/// What the pushing thread does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask a directory for its small files from a position on.
    List(Ino, u64),
    /// Push one file of a directory.
    Push(Ino, Neighbour),
}

/// What is to be pushed, of which directory, and how much.
#[derive(Default)]
pub(super) struct Plan {
    dirs: HashMap<Ino, Visit>,
    credits: HashMap<Ino, Credit>,
    /// Grows with every read; the directory with the highest is served first.
    clock: u64,
    /// Whether the pushing thread sleeps.
    pub(super) idle: bool,
    pub(super) stop: bool,
}

/// What was seen of the directories below one.
struct Credit {
    left: u32,
    granted: u32,
    clock: u64,
}

/// Readers going through one directory.
struct Visit {
    clock: u64,
    last_read: Instant,
    /// Files read or pushed; each is pushed once.
    known: HashSet<Ino>,
    /// Files read that were not known, in all and since the last pass ended.
    read_files: u32,
    misses: u32,
    /// Misses that start a pass. Doubles with every pass that pushed nothing new, so that a directory
    /// whose readers ask by name without listing costs in proportion to what is read there.
    needed: u32,
    /// Known files read again since the last loss, and how many mean the next one.
    repeats: u32,
    repeats_needed: u32,
    pushed_files: u32,
    budget_bytes: u64,
    course: Course,
    /// Where the listing goes on; `None` at its end.
    cursor: Option<u64>,
    ready: VecDeque<Neighbour>,
}

/// How far a directory's pass has come. It starts after a file that was read and ends there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// Looking for that file.
    Locate(Ino),
    /// From there to the end of the directory.
    Onwards(Ino),
    /// From the start of the directory to there.
    Wrapped(Ino),
    /// The whole directory from its start.
    Whole,
    /// All was pushed.
    Done,
}

impl Visit {
    fn new(now: Instant, course: Course, budget_bytes: u64) -> Visit {
        Visit {
            clock: 0,
            last_read: now,
            known: HashSet::new(),
            read_files: 0,
            misses: 0,
            needed: EVIDENCE,
            repeats: 0,
            repeats_needed: LOSS,
            pushed_files: 0,
            budget_bytes,
            course,
            cursor: Some(0),
            ready: VecDeque::new(),
        }
    }

    fn is_active(&self, now: Instant) -> bool {
        self.budget_bytes > 0 && self.course != Course::Done && now.saturating_duration_since(self.last_read) < FRESH
    }

    fn remember(&mut self, ino: Ino) -> bool {
        match self.known.len() < MAX_KNOWN {
            true => self.known.insert(ino),
            false => !self.known.contains(&ino),
        }
    }

    fn note_read(&mut self, ino: Ino) {
        if self.remember(ino) {
            self.read_files = self.read_files.saturating_add(1);
            self.misses = self.misses.saturating_add(1);
        } else {
            self.repeats += 1;
            if self.repeats < self.repeats_needed {
                return;
            }
            (self.repeats, self.repeats_needed) = (0, self.repeats_needed.saturating_mul(2));
            self.known.clear();
            self.misses = self.needed;
        }
        if self.misses >= self.needed {
            self.budget_bytes = AHEAD_BYTES;
            if self.course == Course::Done {
                (self.course, self.cursor) = (Course::Locate(ino), Some(0));
            }
        }
    }

    fn finish(&mut self) {
        let useful = self.pushed_files > self.misses && self.known.len() < MAX_KNOWN;
        self.needed = if useful { EVIDENCE } else { self.needed.saturating_mul(2) };
        (self.misses, self.pushed_files) = (0, 0);
        self.course = Course::Done;
        self.ready.clear();
    }

    /// Takes in a part of the listing that started at `from` and goes on at `next`.
    fn listed(&mut self, from: u64, files: Vec<Neighbour>, next: Option<u64>) {
        self.ready = files.into();
        self.cursor = next;
        if let Course::Locate(origin) = self.course {
            match self.ready.iter().position(|file| file.ino == origin) {
                Some(place) => {
                    self.ready.drain(..=place);
                    // With nothing before the origin the end of the directory ends the pass.
                    self.course = if (from, place) == (0, 0) { Course::Whole } else { Course::Onwards(origin) };
                }
                None => self.ready.clear(),
            }
        }
        if next.is_none() {
            match self.course {
                Course::Locate(_) => (self.course, self.cursor) = (Course::Whole, Some(0)),
                // What is ready now lies after the origin, and does not hold it.
                Course::Onwards(origin) => (self.course, self.cursor) = (Course::Wrapped(origin), Some(0)),
                _ => {}
            }
        }
    }
}

impl Plan {
    /// Returns whether there may be something to push.
    pub(super) fn note_read(&mut self, dir: Ino, ino: Ino, now: Instant, parent: impl Fn(Ino) -> Option<Ino>) -> bool {
        self.clock += 1;
        if !self.is_visited(dir, now) {
            let guess_bytes = self.spend_credit(dir, &parent).unwrap_or(0);
            self.visit(dir, Visit::new(now, Course::Locate(ino), guess_bytes));
        }
        let Some(visit) = self.dirs.get_mut(&dir) else {
            return false;
        };
        visit.clock = self.clock;
        visit.last_read = now;
        let read_files = visit.read_files;
        visit.note_read(ino);
        let active = visit.is_active(now);
        if visit.read_files == EVIDENCE && read_files < EVIDENCE {
            self.add_credit(dir, &parent);
        }
        active
    }

    /// Returns whether there may be something to push.
    pub(super) fn note_listed(&mut self, dir: Ino, now: Instant, parent: impl Fn(Ino) -> Option<Ino>) -> bool {
        if self.credits.is_empty() || self.is_visited(dir, now) {
            return false;
        }
        let Some(guess_bytes) = self.spend_credit(dir, parent) else {
            return false;
        };
        self.clock += 1;
        self.visit(dir, Visit::new(now, Course::Whole, guess_bytes));
        true
    }

    fn is_visited(&self, dir: Ino, now: Instant) -> bool {
        let visit = self.dirs.get(&dir);
        visit.is_some_and(|visit| now.saturating_duration_since(visit.last_read) <= REVISIT)
    }

    fn visit(&mut self, dir: Ino, visit: Visit) {
        self.dirs.remove(&dir);
        evict_oldest(&mut self.dirs, |visit| visit.clock);
        self.dirs.insert(dir, Visit { clock: self.clock, ..visit });
    }

    fn add_credit(&mut self, dir: Ino, parent: impl Fn(Ino) -> Option<Ino>) {
        for relative in relatives(dir, parent) {
            let before = self.credits.remove(&relative).map_or(0, |credit| credit.granted);
            evict_oldest(&mut self.credits, |credit| credit.clock);
            let granted = (before * 2).clamp(*CREDIT.start(), *CREDIT.end());
            self.credits.insert(relative, Credit { left: granted, granted, clock: self.clock });
        }
    }

    /// Returns the bytes that may be pushed in a directory because its relatives were read through.
    fn spend_credit(&mut self, dir: Ino, parent: impl Fn(Ino) -> Option<Ino>) -> Option<u64> {
        relatives(dir, parent).find_map(|relative| {
            let credit = self.credits.get_mut(&relative).filter(|credit| credit.left > 0)?;
            credit.left -= 1;
            Some(GUESS_BYTES)
        })
    }

    pub(super) fn next_step(&mut self, now: Instant) -> Option<Step> {
        loop {
            let active = self.dirs.iter_mut().filter(|(_, visit)| visit.is_active(now));
            let (&dir, visit) = active.max_by_key(|(_, visit)| visit.clock)?;
            match (visit.ready.pop_front(), visit.course) {
                (Some(file), Course::Wrapped(origin)) if file.ino == origin => visit.finish(),
                (Some(file), _) if visit.known.contains(&file.ino) => {}
                (Some(file), _) => return Some(Step::Push(dir, file)),
                (None, _) => match visit.cursor {
                    Some(from) => return Some(Step::List(dir, from)),
                    None => visit.finish(),
                },
            }
        }
    }

    pub(super) fn listed(&mut self, dir: Ino, from: u64, found: Result<(Vec<Neighbour>, Option<u64>), Fault>) {
        // The directory may have been forgotten, or be visited anew, meanwhile.
        let Some(visit) = self.dirs.get_mut(&dir).filter(|visit| visit.cursor == Some(from)) else {
            return;
        };
        match found {
            Ok((files, next)) => visit.listed(from, files, next),
            Err(_) => visit.finish(),
        }
    }

    pub(super) fn pushed(&mut self, dir: Ino, file: Neighbour) {
        if let Some(visit) = self.dirs.get_mut(&dir) {
            visit.budget_bytes = visit.budget_bytes.saturating_sub(file.size_bytes);
            visit.pushed_files += 1;
            visit.remember(file.ino);
        }
    }

    pub(super) fn give_up(&mut self, dir: Ino) {
        if let Some(visit) = self.dirs.get_mut(&dir) {
            visit.finish();
        }
    }
}

/// Returns the directories above one, the nearest first, without the root.
fn relatives(dir: Ino, parent: impl Fn(Ino) -> Option<Ino>) -> impl Iterator<Item = Ino> {
    std::iter::successors(parent(dir), move |&dir| parent(dir)).take_while(|&dir| dir != ROOT_INO).take(LEVELS)
}

fn evict_oldest<V>(map: &mut HashMap<Ino, V>, age: impl Fn(&V) -> u64) {
    if map.len() >= MAX_DIRS
        && let Some(&oldest) = map.iter().min_by_key(|(_, value)| age(value)).map(|(key, _)| key)
    {
        map.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::push::MAX_FILE_BYTES;

    /// Two levels: directory 10 below 5 below the root, files from 100 on.
    fn parent(dir: Ino) -> Option<Ino> {
        match dir {
            10..20 => Some(5),
            _ => Some(ROOT_INO),
        }
    }

    fn files(inos: std::ops::Range<Ino>) -> Vec<Neighbour> {
        inos.map(|ino| Neighbour { ino, size_bytes: 4096 }).collect()
    }

    /// Lists and pushes as the thread does, for a directory of the given files, until nothing is left.
    fn drain(plan: &mut Plan, dir: Ino, all: &[Neighbour], batch: usize, now: Instant) -> Vec<Ino> {
        let mut pushed = Vec::new();
        while let Some(step) = plan.next_step(now) {
            match step {
                Step::List(of, from) => {
                    assert_eq!(of, dir);
                    let (start, end) = (from as usize, (from as usize + batch).min(all.len()));
                    let next = (end < all.len()).then_some(end as u64);
                    plan.listed(of, from, Ok((all[start..end].to_vec(), next)));
                }
                Step::Push(of, file) => {
                    pushed.push(file.ino);
                    plan.pushed(of, file);
                }
            }
        }
        pushed
    }

    #[test]
    fn one_read_starts_nothing_and_two_push_the_rest_once_from_the_reader_on() {
        for batch in [1, 3, 7, 100] {
            let (mut plan, now) = (Plan::default(), Instant::now());
            let all = files(100..120);
            assert!(!plan.note_read(10, 105, now, parent));
            assert_eq!(plan.next_step(now), None);
            assert!(!plan.note_read(10, 105, now, parent), "the same file again is no evidence");
            assert!(plan.note_read(10, 106, now, parent));
            let expected: Vec<Ino> = (107..120).chain(100..105).collect();
            assert_eq!(drain(&mut plan, 10, &all, batch, now), expected, "in batches of {batch}");
            assert_eq!(plan.next_step(now), None);
        }
    }

    #[test]
    fn a_reader_at_the_start_needs_no_second_round() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        plan.note_read(10, 100, now, parent);
        plan.note_read(10, 101, now, parent);
        assert_eq!(drain(&mut plan, 10, &files(100..110), 4, now), (102..110).collect::<Vec<_>>());
    }

    #[test]
    fn a_file_the_tree_does_not_list_still_leads_to_the_others() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        plan.note_read(10, 500, now, parent);
        plan.note_read(10, 501, now, parent);
        assert_eq!(drain(&mut plan, 10, &files(100..110), 4, now), (100..110).collect::<Vec<_>>());
    }

    #[test]
    fn bytes_ahead_are_bounded_until_a_read_misses_again() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        let big: Vec<_> = (100..1400).map(|ino| Neighbour { ino, size_bytes: MAX_FILE_BYTES }).collect();
        let ahead = (AHEAD_BYTES / MAX_FILE_BYTES) as usize;
        plan.note_read(10, 100, now, parent);
        plan.note_read(10, 101, now, parent);
        let first = drain(&mut plan, 10, &big, 50, now);
        assert_eq!(first.len(), ahead);
        assert!(plan.note_read(10, 102 + ahead as Ino, now, parent));
        let second = drain(&mut plan, 10, &big, 50, now);
        assert_eq!((second[0], second.len()), (103 + ahead as Ino, ahead));
    }

    #[test]
    fn reading_by_name_without_listing_costs_in_proportion_to_the_reads() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        let all = files(100..4100);
        let mut passes = 0;
        // 2053 has no factor in common with 4000: every file once, in no order.
        for i in 0..4000usize {
            let place = i * 2053 % 4000;
            if plan.note_read(10, all[place].ino, now, parent) {
                passes += 1;
                let mut read: Vec<_> = (0..=i).map(|i| all[i * 2053 % 4000]).collect();
                read.sort_by_key(|file| file.ino);
                assert_eq!(drain(&mut plan, 10, &read, 128, now), [0; 0]);
            }
        }
        assert!((5..15).contains(&passes), "{passes} passes for 4000 reads");
    }

    #[test]
    fn a_reader_that_lists_a_part_at_a_time_is_served_part_by_part() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        let all = files(100..2100);
        let mut asked = 0;
        for listed in (200..=2000).step_by(200) {
            for place in listed - 200..listed {
                let known = plan.dirs.get(&10).is_some_and(|v| v.known.contains(&all[place].ino));
                if !known {
                    asked += 1;
                    plan.note_read(10, all[place].ino, now, parent);
                    drain(&mut plan, 10, &all[..listed], 128, now);
                }
            }
        }
        assert_eq!(asked, 2 * 10);
    }

    #[test]
    fn pages_that_were_dropped_are_pushed_again_ever_more_rarely() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        let all = files(100..110);
        let mut passes = 0;
        for _ in 0..100 {
            for file in &all {
                plan.note_read(10, file.ino, now, parent);
                passes += u32::from(!drain(&mut plan, 10, &all, 128, now).is_empty());
            }
        }
        assert!((3..12).contains(&passes), "{passes} passes for 1000 reads");
    }

    #[test]
    fn relatives_of_a_directory_read_through_start_at_once_while_credit_lasts() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        assert!(!plan.note_listed(12, now, parent), "a listing alone starts nothing");
        plan.note_read(10, 100, now, parent);
        plan.note_read(10, 101, now, parent);
        drain(&mut plan, 10, &files(100..103), 10, now);
        assert!(plan.note_read(11, 200, now, parent), "a sibling starts at its first read");
        assert_eq!(drain(&mut plan, 11, &files(200..203), 10, now), [201, 202]);
        assert!(plan.note_listed(12, now, parent), "or when it was listed");
        assert_eq!(drain(&mut plan, 12, &files(300..303), 10, now), [300, 301, 302]);
        assert!(!plan.note_listed(12, now, parent), "but once");
        let started = (0..100).filter(|i| plan.note_listed(5000 + i, now, |_| Some(5))).count();
        assert_eq!(started, *CREDIT.start() as usize - 2);
        assert!(!plan.note_listed(6000, now, |_| Some(ROOT_INO)), "the root makes no relatives");
    }

    #[test]
    fn the_directory_read_last_goes_first_and_one_not_read_of_late_waits() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        for (dir, ino) in [(10, 100), (10, 101), (11, 200), (11, 201)] {
            plan.note_read(dir, ino, now, parent);
        }
        assert_eq!(plan.next_step(now), Some(Step::List(11, 0)));
        plan.note_read(10, 102, now, parent);
        assert_eq!(plan.next_step(now), Some(Step::List(10, 0)));
        assert_eq!(plan.next_step(now + FRESH), None);
        plan.note_read(11, 202, now + FRESH, parent);
        assert_eq!(plan.next_step(now + FRESH), Some(Step::List(11, 0)));
    }

    #[test]
    fn the_memory_of_directories_is_bounded() {
        let (mut plan, now) = (Plan::default(), Instant::now());
        for dir in 1000..3000 {
            plan.note_read(dir, dir * 10, now, |dir| Some(dir / 2));
            plan.note_read(dir, dir * 10 + 1, now, |dir| Some(dir / 2));
        }
        assert!(plan.dirs.len() <= MAX_DIRS && plan.credits.len() <= MAX_DIRS);
    }
}
