//! Promise: whatever a service reached over a network does wrong, and whatever happens on the way there, nothing is
//! reported as done that is not. Each request of each workload meets each fault in turn, at real servers behind a
//! proxy: the command succeeds with everything right, or fails in bounded time, and the next one needs nothing.

use bakfs::id::ObjectId;
use bakfs::place::Place as ParsedPlace;
use bakfs::remote::{Environment, Policy, RemoteOptions};
use bakfs::store::cached::CachedStore;
use bakfs::store::remote::RemoteStore;
use bakfs::store::{Object, ObjectKind, Store};
use bakfs_proxy::cable::Length;
use bakfs_proxy::fault::{Fault, Kind, Plan};
use bakfs_proxy::http::Proxy;
use bakfs_proxy::plain::{self, Direction, Passed, Trap, Trouble};
use bakfs_proxy::record::Record;
use bakfs_testing::library;
use bakfs_testing::servers::{Place, Server, Service};
use bakfs_testing::stores::{MemStore, Objects};
use bakfs_testing::workloads::{WORKLOADS, Workload, World};
use bakfs_testing::{Dice, SOON};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Everything that happens once and is over.
const ONCE: &[Fault] = &[
    Fault::ResetBefore,
    Fault::ResetInRequest,
    Fault::ResetAfter,
    Fault::Refuse { status: 429, retry_after_secs: None },
    Fault::Refuse { status: 500, retry_after_secs: None },
    Fault::Refuse { status: 503, retry_after_secs: Some(1) },
    Fault::FailAfter { status: 500 },
    Fault::FailAfter { status: 504 },
    Fault::CutShort,
    Fault::Shortened,
    Fault::FlipAnswer,
    Fault::FlipRequest,
    Fault::Stall,
    Fault::StallInAnswer,
    Fault::Late { after_requests: 1 },
    Fault::Late { after_requests: 5 },
    // When the command has ended.
    Fault::Late { after_requests: u64::MAX },
];

/// What goes on from a request until the end of the command: a server that is gone, an answer that is always lost.
const FOR_GOOD: &[Fault] = &[
    Fault::ResetBefore,
    Fault::ResetAfter,
    Fault::Refuse { status: 503, retry_after_secs: None },
    Fault::FailAfter { status: 500 },
    Fault::CutShort,
    Fault::Shortened,
    Fault::FlipAnswer,
    Fault::FlipRequest,
    Fault::Late { after_requests: 2 },
];

/// What speaks HTTP without encryption. Listings of Swift lag, and of no other.
const HTTP: &[Service] =
    &[Service::RcloneS3, Service::SwiftS3, Service::Swift, Service::B2, Service::WebDav, Service::Gcs, Service::Azure];

/// As the program has it, in a hurry.
const HASTY: Policy = Policy {
    max_tries: 4,
    max_elapsed: Duration::from_secs(20),
    first_pause: Duration::from_millis(2),
    max_pause: Duration::from_millis(20),
    stall: Duration::from_secs(1),
    max_lag: Duration::from_secs(5),
};

/// A server, as one that stands before it needs to know it.
struct Target {
    port: u16,
    place: Place,
}

impl Target {
    fn of(server: &Server) -> Target {
        Target { port: server.port(), place: server.place() }
    }

    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Returns a place in the server, seen through another port.
    fn place_at(&self, port: u16, below: &str) -> Place {
        let [known, other] = [self.port, port].map(|port| format!("127.0.0.1:{port}"));
        let mut place = self.place.clone().below(below);
        place.url = place.url.replace(&known, &other);
        place.environment.iter_mut().for_each(|(_, value)| *value = value.replace(&known, &other));
        place
    }
}

/// What came of one workload that met faults.
struct Run {
    /// Faults met, by name.
    faults: BTreeMap<String, u64>,
    /// The error of a command that failed.
    told: Option<String>,
    judged: Result<bool, String>,
}

/// Faults met, commands, and what was wrong.
#[derive(Default)]
struct Tally {
    runs: u64,
    succeeded: u64,
    faults: BTreeMap<String, u64>,
    wrong: Vec<String>,
}

impl Tally {
    fn add(&mut self, what: &str, run: Run) {
        self.runs += 1;
        for (fault, count) in run.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        match run.judged {
            Ok(success) => self.succeeded += u64::from(success),
            Err(wrong) => self.wrong.push(format!("{what}: {wrong} (it said {:?})", run.told)),
        }
    }

    /// Prints the figure; nothing may have gone wrong.
    fn tell(&self, name: &str) {
        let Tally { runs, succeeded, faults, wrong } = self;
        let total: u64 = faults.values().sum();
        println!("remote faults: {name}: {total} faults in {runs} commands, {succeeded} succeeded all the same");
        println!("remote faults: {name}: {faults:?}");
        println!("remote faults: {name}: {} wrong", wrong.len());
        let first: Vec<_> = wrong.iter().take(20).collect();
        assert!(wrong.is_empty(), "{first:#?}");
    }
}

fn object(path: &str) -> Object {
    let Some((folder, rest)) = path.split_once('/') else { return Object::Config };
    let kind = ObjectKind::ALL.into_iter().find(|kind| kind.folder() == folder).unwrap();
    kind.object(ObjectId::from_hex(rest.rsplit('/').next().unwrap()).unwrap())
}

/// Stores objects in an empty place.
fn fill(store: &RemoteStore, objects: &Objects) {
    store.prepare().unwrap();
    for (path, bytes) in objects {
        store.put(object(path), bytes).unwrap();
    }
}

/// Reads back whatever is in a place.
fn drain(store: &RemoteStore) -> Objects {
    let mut names = vec![Object::Config];
    for kind in ObjectKind::ALL {
        names.extend(store.list(kind).unwrap().into_iter().map(|listed| kind.object(listed.id)));
    }
    names.into_iter().map(|name| (name.path(), Arc::new(store.read_whole(name, u64::MAX).unwrap()))).collect()
}

fn open(place: &Place, policy: Policy) -> RemoteStore {
    let ParsedPlace::Remote(remote) = ParsedPlace::parse(&place.url).unwrap() else { panic!("{} is far", place.url) };
    let pairs = place.environment.iter().map(|(name, value)| (&**name, &**value));
    RemoteStore::with_policy(&remote, &RemoteOptions::default(), Environment::of(pairs), policy).unwrap()
}

/// Runs a workload in a place of its own, reached through a port, between what begins and what ends the faults; every
/// other time with a cache, as the program has it.
fn attempt(
    target: &Target,
    port: u16,
    world: &World,
    (name, _, work): &Workload,
    begin: impl FnOnce(),
    end: impl FnOnce() -> BTreeMap<String, u64>,
) -> Run {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let below = format!("run-{number}");
    let clean = open(&target.place_at(target.port, &below), Policy::default());
    fill(&clean, &world.durable.clone().into_iter().chain(world.unsynced.clone()).collect());

    let cache = tempfile::tempdir().unwrap();
    let far: Arc<dyn Store> = Arc::new(open(&target.place_at(port, &below), HASTY));
    let store: Arc<dyn Store> = match number % 2 {
        0 => far,
        _ => Arc::new(CachedStore::open(far, Some(cache.path()), 1 << 30)),
    };
    begin();
    let start = Instant::now();
    let claim = catch_unwind(AssertUnwindSafe(|| work(world, store)));
    let took = start.elapsed();
    let faults = end();

    let Ok(claim) = claim else { return Run { faults, told: None, judged: Err("panicked".into()) } };
    let told = claim.as_ref().err().map(|error| error.chain());
    let judged = if took > SOON {
        Err(format!("took {took:?}"))
    } else if told.as_ref().is_some_and(|told| told.trim().len() < 20) {
        Err(format!("failed with no more than {told:?}"))
    } else {
        world.judge(name, claim, true, &MemStore::of(drain(&clean)))
    };
    Run { faults, told, judged }
}

/// Runs a workload with one plan for its requests.
fn run(target: &Target, world: &World, workload: &Workload, plan: Plan) -> (Run, Record) {
    let proxy = Proxy::start(target.address(), Length::default()).unwrap();
    let mut record = Record::default();
    let calm = || {
        proxy.calm();
        record = proxy.take_record();
        record.faults()
    };
    let run = attempt(target, proxy.address().port(), world, workload, || proxy.set(plan), calm);
    (run, record)
}

/// Runs a workload with one trap for its bytes.
fn run_plain(target: &Target, world: &World, workload: &Workload, trap: Option<Trap>) -> (Run, Passed) {
    let proxy = plain::Proxy::start(target.address(), Length::default()).unwrap();
    let mut passed = Passed::default();
    let calm = || {
        proxy.release();
        passed = proxy.take_passed();
        let name = trap.map_or(String::new(), |trap| format!("{:?} {:?}", trap.trouble, trap.direction));
        BTreeMap::from([(name, passed.troubles)])
    };
    let begin = || trap.into_iter().for_each(|trap| proxy.set(trap));
    let run = attempt(target, proxy.address().port(), world, workload, begin, calm);
    (run, passed)
}

/// Returns all workloads' worlds.
fn worlds() -> Vec<World> {
    WORKLOADS.iter().map(|(_, world, _)| world()).collect()
}

#[test]
fn no_fault_at_any_request_is_success() {
    let panics = library::count_panics();
    let server = Server::start(Service::RcloneS3);
    let target = Target::of(&server);
    let mut cases = Vec::new();
    let worlds = worlds();
    for (at, workload) in WORKLOADS.iter().enumerate() {
        let (clean, record) = run(&target, &worlds[at], workload, Plan::none());
        assert_eq!(clean.judged, Ok(true), "{} without faults: {:?}", workload.0, clean.told);
        let suiting =
            |fault: Fault| Kind::ALL.iter().filter(|kind| fault.suits(**kind)).map(|kind| record.of(*kind)).sum();
        for (faults, times) in [(ONCE, 1), (FOR_GOOD, u64::MAX)] {
            for fault in faults {
                let requests: u64 = suiting(*fault);
                cases.extend((1..=requests).map(|n| (at, *fault, n, times)));
            }
        }
        println!("remote faults: {}: {} requests", workload.0, record.requests());
    }
    let all = cases.len();
    // Fisher and Yates.
    let seed = library::size("SEED", 4, 4);
    let mut dice = Dice::new(seed);
    for last in (1..cases.len()).rev() {
        cases.swap(last, dice.below(last as u64 + 1) as usize);
    }
    cases.truncate(library::size("REMOTE_FAULTS", 150, u64::MAX) as usize);
    let tally = Mutex::new(Tally::default());
    library::in_parallel(cases.len() as u64, |number| {
        let (at, fault, n, times) = cases[number as usize];
        let (done, _) = run(&target, &worlds[at], &WORKLOADS[at], Plan::from_nth_for(n, times, fault));
        let what = format!("{}, {} at {n} for {times}", WORKLOADS[at].0, fault.name());
        tally.lock().add(&what, done);
    });
    println!("remote faults: {} of {all} cases, seed {seed}", cases.len());
    tally.into_inner().tell("one by one");
    assert_eq!(panics.load(Ordering::Relaxed), 0, "panics");
}

#[test]
fn no_mixture_of_faults_is_success() {
    let panics = library::count_panics();
    let count = library::size("REMOTE_FAULTS", 12, 2000);
    let seed = library::size("SEED", 4, 4);
    for service in HTTP {
        let server = Server::start(*service);
        let target = Target::of(&server);
        let mut faults = ONCE.to_vec();
        if *service == Service::Swift {
            faults.push(Fault::Stale { times: 3 });
        }
        let worlds = worlds();
        let (clean, record) = run(&target, &worlds[0], &WORKLOADS[0], Plan::none());
        assert_eq!(clean.judged, Ok(true), "{service:?} without faults: {:?}", clean.told);
        assert!(record.requests() > 10, "{service:?} is reached beside the proxy: {record:?}");
        let tally = Mutex::new(Tally::default());
        library::in_parallel(count, |number| {
            let mut dice = Dice::new(seed ^ number << 8);
            let at = dice.below(WORKLOADS.len() as u64) as usize;
            let per_mille = [10, 30, 100, 300][dice.below(4) as usize];
            let plan = Plan::dice(dice.roll(), per_mille, faults.clone());
            let (done, _) = run(&target, &worlds[at], &WORKLOADS[at], plan);
            tally.lock().add(&format!("{}, mixture {number} of {per_mille} per mille", WORKLOADS[at].0), done);
        });
        tally.into_inner().tell(&format!("mixtures, {service:?}, seed {seed}"));
    }
    assert_eq!(panics.load(Ordering::Relaxed), 0, "panics");
}

/// The programs that connect look for `ssh` in this process's own PATH: the test runs once more in a child with the
/// server's.
#[test]
fn no_broken_connection_of_ssh_is_success() {
    const PLACE: &str = "BAKFS_REMOTE_FAULTS_PLACE";
    let Ok(url) = std::env::var(PLACE) else {
        let server = Server::start(Service::Sftp);
        let mut command = bakfs_testing::process::test_again(module_path!(), "no_broken_connection_of_ssh_is_success");
        command.envs(server.environment()).env(PLACE, server.url());
        let outcome = bakfs_testing::process::run(command);
        println!("{}", outcome.text());
        assert!(outcome.code == 0 && outcome.text().contains("1 passed"), "{outcome}");
        return;
    };
    let port = url.split("127.0.0.1:").nth(1).and_then(|rest| rest.split('/').next()).unwrap().parse().unwrap();
    let environment = vec![("PATH".to_owned(), std::env::var("PATH").unwrap())];
    let target = Target { port, place: Place { url, environment } };
    let panics = library::count_panics();
    let count = library::size("REMOTE_FAULTS", 12, 2000);
    let seed = library::size("SEED", 4, 4);
    let worlds = worlds();
    let clean: Vec<Passed> = WORKLOADS
        .iter()
        .zip(&worlds)
        .map(|(workload, world)| {
            let (run, passed) = run_plain(&target, world, workload, None);
            assert_eq!(run.judged, Ok(true), "{} without faults: {:?}", workload.0, run.told);
            passed
        })
        .collect();
    let tally = Mutex::new(Tally::default());
    library::in_parallel(count, |number| {
        let mut dice = Dice::new(seed ^ number << 8);
        let at = dice.below(WORKLOADS.len() as u64) as usize;
        let (direction, bytes) = match dice.below(2) {
            0 => (Direction::Up, clean[at].up_bytes),
            _ => (Direction::Down, clean[at].down_bytes),
        };
        let trouble = if dice.below(3) == 0 { Trouble::Stall } else { Trouble::Reset };
        let trap = Trap { direction, after_bytes: dice.below(bytes.max(1)), trouble };
        let (done, _) = run_plain(&target, &worlds[at], &WORKLOADS[at], Some(trap));
        tally.lock().add(&format!("{}, {trap:?}", WORKLOADS[at].0), done);
    });
    tally.into_inner().tell(&format!("SFTP, seed {seed}"));
    assert_eq!(panics.load(Ordering::Relaxed), 0, "panics");
}
