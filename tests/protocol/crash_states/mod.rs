//! Promise: a crash at any moment costs nothing that was reported. What every sequence of runs stores is
//! replayed on a disk in memory that keeps of the names which were not synced any subset; a run may also be
//! killed anywhere, the next one works on what it left, and the power goes after that. Each state is opened
//! without a cache, read whole and checked; of some, the next backup and prune follow.

mod disk;
mod judge;
mod work;

use bakfs::format::header::Suite;
use bakfs_testing::stores::Objects;
use bakfs_testing::{Dice, library};
use disk::{Disk, Flaw, Step};
use judge::{Expected, Seen};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use work::{Act, World, in_folder};

/// What there is before an act: what was done completely, and at most one act that was killed.
#[derive(Clone)]
struct Node {
    told: String,
    disk: Disk,
    expected: Expected,
    day: i64,
    is_killed: bool,
}

/// How the changes of a run reach the disk, where that is not as they were made.
type Reorder = fn(Vec<Step>) -> Vec<Step>;

/// Changes in the order in which they were made.
const AS_MADE: Reorder = |steps| steps;

struct Campaign {
    world: World,
    acts: &'static [Act],
    /// Runs are added until so many distinct states were seen.
    max_states: u64,
    /// One of so many states is gone on from.
    sample: u128,
    reorder: Reorder,
    /// What each state shows; equal answers are kept once.
    seen: Mutex<HashMap<u128, Arc<Seen>>>,
    answers: Mutex<HashSet<Arc<Seen>>>,
    runs: AtomicU64,
    continued: AtomicU64,
    breaches: Mutex<Vec<String>>,
}

impl Campaign {
    fn new(acts: &'static [Act], max_states: u64, sample: u128, reorder: Reorder) -> Self {
        Campaign {
            world: World::new(),
            acts,
            max_states,
            sample,
            reorder,
            seen: Mutex::default(),
            answers: Mutex::default(),
            runs: AtomicU64::new(0),
            continued: AtomicU64::new(0),
            breaches: Mutex::default(),
        }
    }

    fn states(&self) -> u64 {
        self.seen.lock().len() as u64
    }

    fn is_enough(&self) -> bool {
        self.states() >= self.max_states || self.breaches.lock().len() >= 20
    }

    /// Looks at a state, or remembers what it shows. The second value tells whether it is new.
    fn look(&self, key: u128, objects: &dyn Fn() -> Objects) -> (Arc<Seen>, bool) {
        if let Some(seen) = self.seen.lock().get(&key) {
            return (seen.clone(), false);
        }
        let seen = Arc::new(judge::look(objects()));
        let seen = {
            let mut answers = self.answers.lock();
            let known = answers.get(&seen).cloned();
            known.unwrap_or_else(|| {
                answers.insert(seen.clone());
                seen
            })
        };
        let is_new = self.seen.lock().insert(key, seen.clone()).is_none();
        (seen, is_new)
    }

    fn breach(&self, told: &str, what: &[String]) {
        self.breaches.lock().push(format!("{told}: {what:?}"));
    }

    /// Looks at every state a power cut may leave now.
    fn cut(&self, told: &str, disk: &Disk, expected: &Expected, judged: &mut HashSet<u128>, dice: &mut Dice) {
        disk.states(10, 256, dice, &mut |key, objects| {
            if !judged.insert(key) {
                return;
            }
            let (seen, is_new) = self.look(key, objects);
            let breaches = seen.breaches(expected, &self.world);
            if !breaches.is_empty() {
                self.breach(told, &breaches);
            } else if is_new && key.is_multiple_of(self.sample) {
                self.continued.fetch_add(1, Ordering::Relaxed);
                if let Err(breach) = judge::goes_on(&self.world, objects(), expected) {
                    self.breach(told, &[breach]);
                }
            }
        });
    }

    /// Runs an act on what there is and looks at all its crashes. Returns what there is after it, and after it was
    /// killed at each of its changes.
    fn run(&self, mut node: Node, act: Act, seed: u64) -> Vec<Node> {
        match (act, &node.expected.damaged) {
            // It says that a repair must come first.
            (Act::Prune, Some(_)) => return Vec::new(),
            (Act::Repair, None) => {
                let Some(victim) = in_folder(node.disk.visible(), "index/").pop_first() else { return Vec::new() };
                let bytes = &node.disk.visible()[&victim];
                let damaged = bytes[..bytes.len() - 1].to_vec();
                node.disk.damage(&victim, damaged);
                node.expected.damaged = Some(victim);
            }
            _ => {}
        }
        let told = format!("{} {act:?}", node.told);
        let done = match self.world.run(act, node.day, node.disk.visible(), &node.expected) {
            Ok(Some(done)) => done,
            Ok(None) => return Vec::new(),
            Err(error) => {
                self.breach(&told, &[error.chain()]);
                return Vec::new();
            }
        };
        self.runs.fetch_add(1, Ordering::Relaxed);
        let process = u32::try_from(node.day).expect("few days");
        let (mut disk, mut dice, mut judged, mut next) =
            (node.disk.clone(), Dice::new(seed), HashSet::new(), Vec::new());
        let steps = (self.reorder)(done.steps);
        for (at, step) in steps.iter().enumerate() {
            disk.apply(process, step);
            let told = format!("{told} killed after {} of {}", at + 1, steps.len());
            self.cut(&told, &disk, &done.during, &mut judged, &mut dice);
            if !node.is_killed && at + 1 < steps.len() {
                let (disk, expected) = (disk.clone(), done.during.clone());
                next.push(Node { told, disk, expected, day: node.day + 1, is_killed: true });
            }
        }
        self.cut(&told, &disk, &done.after, &mut HashSet::new(), &mut dice);
        next.push(Node { told, disk, expected: done.after, day: node.day + 1, is_killed: node.is_killed });
        next
    }

    /// Runs every act on every node.
    fn level(&self, nodes: &[Node], seed: u64) -> Vec<Node> {
        let next = Mutex::new(Vec::new());
        let mut jobs: Vec<(usize, Act)> =
            (0..nodes.len()).flat_map(|node| self.acts.iter().map(move |act| (node, *act))).collect();
        let mut dice = Dice::new(seed);
        for at in (1..jobs.len()).rev() {
            jobs.swap(at, dice.below(at as u64 + 1) as usize);
        }
        library::in_parallel(jobs.len() as u64, |number| {
            let (node, act) = jobs[number as usize];
            if !self.is_enough() {
                let found = self.run(nodes[node].clone(), act, seed ^ number);
                next.lock().extend(found);
            }
        });
        next.into_inner()
    }

    /// Goes through all sequences of `depth` acts, then those with a killed act among them.
    fn explore(&self, suite: Suite, days: i64, depth: usize, flaw: Flaw, seed: u64) {
        let (objects, expected) = self.world.start(suite, days);
        let start = Node {
            told: format!("{suite:?}, {days} days:"),
            disk: Disk::of(objects, flaw),
            expected,
            day: days,
            is_killed: false,
        };
        let (mut whole, mut killed) = (vec![start], Vec::new());
        for level in 0..depth {
            let (stopped, complete): (Vec<_>, Vec<_>) =
                self.level(&whole, seed + level as u64).into_iter().partition(|node| node.is_killed);
            killed.push(stopped);
            whole = complete;
        }
        // The acts after a killed one: the shortest sequences first.
        for (level, mut nodes) in killed.into_iter().enumerate() {
            for after in level + 1..depth {
                nodes = self.level(&nodes, seed + 100 * (level + 1) as u64 + after as u64);
            }
        }
    }

    fn figure(&self) -> String {
        format!(
            "{} distinct states of {} runs, {} gone on from, {} violations",
            self.states(),
            self.runs.load(Ordering::Relaxed),
            self.continued.load(Ordering::Relaxed),
            self.breaches.lock().len()
        )
    }
}

#[test]
fn no_crash_costs_anything_that_was_reported() {
    let max_states = library::size("CRASH_STATES", 50_000, 2_000_000);
    let seed = library::size("SEED", 1, 1);
    let campaign = Campaign::new(&Act::ALL, max_states, 128, AS_MADE);
    let start = std::time::Instant::now();
    let depth = if library::is_long() { 4 } else { 3 };
    for (suite, days) in [(Suite::Aes256GcmSiv, 4), (Suite::Plain, 6)] {
        campaign.explore(suite, days, depth, Flaw::None, seed);
    }
    println!("crash states: {} (seed {seed}, {:?})", campaign.figure(), start.elapsed());
    let states = campaign.states();
    let breaches = campaign.breaches.into_inner();
    assert!(breaches.is_empty(), "{breaches:#?}");
    assert!(states >= max_states, "{states} of {max_states}");
}

#[test]
fn whatever_a_killed_forget_and_a_killed_prune_leave_the_next_prune_finishes() {
    let campaign = Campaign::new(&[Act::Forget, Act::Prune], u64::MAX, 1, AS_MADE);
    campaign.explore(Suite::Plain, 3, 2, Flaw::None, 1);
    println!("crash states of forget and prune: {}", campaign.figure());
    let breaches = campaign.breaches.into_inner();
    assert!(breaches.is_empty(), "{breaches:#?}");
}

/// Makes changes `is_early` tells of before the first that `is_late` tells of.
fn hoist(steps: Vec<Step>, is_early: fn(&Step) -> bool, is_late: fn(&Step) -> bool) -> Vec<Step> {
    let Some(first) = steps.iter().position(is_late) else { return steps };
    let (before, after) = steps.split_at(first);
    let (early, late): (Vec<_>, Vec<_>) = after.iter().cloned().partition(is_early);
    before.iter().cloned().chain(early).chain(late).collect()
}

#[test]
fn what_breaks_the_promise_is_found_out() {
    let snapshot_first: Reorder = |steps| {
        let is_snapshot = |step: &Step| matches!(step, Step::Put(path, _) if path.starts_with("snapshots/"));
        hoist(steps, is_snapshot, |step| matches!(step, Step::Put(path, _) if path.starts_with("packs/")))
    };
    let packs_first: Reorder = |steps| {
        let is_pack = |step: &Step| matches!(step, Step::Delete(path) if path.starts_with("packs/"));
        hoist(steps, is_pack, |step| matches!(step, Step::Delete(path) if path.starts_with("index/")))
    };
    let late_barriers: Reorder = |mut steps| {
        steps.retain(|step| !matches!(step, Step::Barrier(_)));
        steps.push(Step::Barrier(bakfs::store::Names::Mine));
        steps
    };
    let cases: [(&str, &'static [Act], Flaw, Reorder); 5] = [
        ("barriers that do nothing", &[Act::Backup, Act::Forget], Flaw::NoBarriers, AS_MADE),
        ("one barrier at the end", &[Act::Prune], Flaw::None, late_barriers),
        ("a snapshot stored before its packs", &[Act::Backup], Flaw::None, snapshot_first),
        ("packs removed before the index that names them", &[Act::Prune], Flaw::None, packs_first),
        ("removals by killed runs that nobody syncs", &[Act::Prune], Flaw::ForgetfulDeletes, AS_MADE),
    ];
    for (name, acts, flaw, reorder) in cases {
        let campaign = Campaign::new(acts, 20_000, u128::MAX, reorder);
        campaign.explore(Suite::Aes256GcmSiv, 4, 2, flaw, 1);
        let figure = campaign.figure();
        let breaches = campaign.breaches.into_inner();
        println!("crash states: {name}: {figure}, the first: {:?}", breaches.first());
        assert!(!breaches.is_empty(), "{name} is not found out");
    }
}
