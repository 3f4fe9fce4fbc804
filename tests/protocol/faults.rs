//! Promise: an I/O error is never success. Every call of a store fails in turn, in every way, once and from
//! then on, under every workload: what was said to be done is there after a power cut, what was there
//! before still is, and the next run needs nothing.

use bakfs_testing::library;
use bakfs_testing::stores::{Fault, FaultStore, MemStore, Plan};
use bakfs_testing::workloads::{WORKLOADS, Workload, World};
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a store does otherwise than with EIO, the real binary meets in `faults_real`.
const FAULTS: [Fault; 4] = [Fault::Io, Fault::NoSpace, Fault::LostReply, Fault::Short];

/// Runs a workload with one plan. Returns the store with the calls it saw, and whether the workload said that it
/// succeeded.
fn run(world: &World, (name, _, run): &Workload, plan: Plan) -> (FaultStore, Result<bool, String>) {
    let memory = Arc::new(MemStore::with_unsynced(world.durable.clone(), world.unsynced.clone()));
    let store = Arc::new(FaultStore::new(memory.clone(), plan));
    let judged = catch_unwind(AssertUnwindSafe(|| {
        let claim = run(world, store.clone());
        world.judge(name, claim, store.failed().is_empty(), &memory)
    }));
    let judged = judged.unwrap_or_else(|_| Err("panicked".into()));
    (Arc::into_inner(store).expect("the workload has ended"), judged)
}

#[test]
fn no_failed_call_of_the_store_is_success() {
    let panics = library::count_panics();
    let (mut runs, mut successes, mut failures) = (0u64, 0u64, Vec::new());
    for workload in WORKLOADS {
        let (name, world, _) = workload;
        let world = world();
        let (store, judged) = run(&world, workload, Plan::NONE);
        assert_eq!(judged, Ok(true), "{name} without faults");
        let calls = store.calls();
        assert!(calls > 5, "{name} makes {calls} calls");
        let plans: Vec<Plan> = (1..=calls)
            .flat_map(|call| FAULTS.iter().map(move |fault| (call, *fault)))
            .flat_map(|(call, fault)| [false, true].map(|goes_on| Plan { call, fault, goes_on }))
            .collect();
        let tally = Mutex::new((0u64, 0u64, Vec::new()));
        library::in_parallel(plans.len() as u64, |number| {
            let plan = plans[number as usize];
            let (store, judged) = run(&world, workload, plan);
            let mut tally = tally.lock();
            tally.0 += u64::from(!store.failed().is_empty());
            match judged {
                Ok(success) => tally.1 += u64::from(success),
                Err(failure) => tally.2.push(format!("{name}, {plan:?} ({:?}): {failure}", store.failed())),
            }
        });
        let (faults, fine, wrong) = tally.into_inner();
        println!("faults: {name}: {calls} calls, {faults} runs with a fault, {fine} succeeded all the same");
        runs += faults;
        successes += fine;
        failures.extend(wrong);
    }
    let panics = panics.load(Ordering::Relaxed);
    println!(
        "faults: {runs} runs in which a call failed, {successes} successes, {} of them untrue, {panics} panics",
        failures.len()
    );
    let first: Vec<_> = failures.iter().take(20).collect();
    assert!(failures.is_empty() && panics == 0, "{panics} panics, {first:#?}");
    assert!(runs > 500, "{runs}");
}
