//! Promise: a run that is killed costs that run and nothing else. The real binary is killed (SIGKILL) at random
//! moments: the next run needs nothing, earlier snapshots are what they were, and leftovers are collected.

use bakfs_testing::cli::Bakfs;
use bakfs_testing::device::Device;
use bakfs_testing::ledger::{Ledger, Work};
use bakfs_testing::process::{run, start};
use bakfs_testing::{Dice, SOON, library};
use parking_lot::Mutex;
use std::time::{Duration, Instant};

const WORKS: &[Work] = &[Work::Backup, Work::Backup, Work::Backup, Work::Forget, Work::Prune, Work::Repair, Work::Init];

/// Runs a piece of work and kills it after a random part of the time it was seen to take.
fn killed(ledger: &Ledger<'_>, work: Work, dice: &mut Dice, longest: Duration) -> i32 {
    let moment = longest.mul_f64(dice.below(1 << 20) as f64 / f64::from(1 << 20));
    let begun = Instant::now();
    let mut running = start(ledger.command(work, None), false);
    while begun.elapsed() < moment && !running.ended() {
        std::thread::yield_now();
    }
    running.kill();
    running.finish_within(SOON).code
}

#[test]
fn a_killed_run_costs_nothing_else() {
    bakfs_testing::need_root();
    let seed = library::size("SEED", 5, 5);
    let trials = library::size("KILLS", 1000, 100_000);
    let tally = Mutex::new((0u64, 0u64, Vec::new()));
    library::in_parallel(2, |worker| {
        let bakfs = Bakfs::empty();
        let disk = Device::memory(&bakfs.path("disk"), 256);
        let mut ledger = Ledger::new(&bakfs, &disk.path().join("here"), &disk.path().join("source"));
        let mut dice = Dice::new(seed + worker);
        // How long each takes when it is left alone.
        let longest = WORKS.iter().map(|work| {
            ledger.prepare(*work);
            let begun = Instant::now();
            run(ledger.command(*work, None)).expect(0);
            let longest = begun.elapsed();
            ledger.judge(*work, 0).unwrap();
            longest
        });
        let longest: Vec<_> = longest.collect();
        for trial in 0..trials / 2 {
            let at = dice.below(WORKS.len() as u64) as usize;
            let work = if ledger.snapshots() > 6 { Work::Prune } else { WORKS[at] };
            ledger.prepare(work);
            let code = killed(&ledger, work, &mut dice, longest[at]);
            let mut failure = ledger.judge(work, code).err();
            if !matches!(code, 0 | 137) {
                failure = Some(format!("exit code {code}"));
            }
            let mut tally = tally.lock();
            tally.0 += u64::from(code == 137);
            tally.1 += u64::from(code == 0);
            tally.2.extend(failure.map(|failure| format!("seed {seed}+{worker}, trial {trial}, {work:?}: {failure}")));
            if tally.2.len() > 5 {
                return;
            }
        }
        // What the killed ones left is collected, and the repository is as good as new.
        ledger.prepare(Work::Prune);
        run(ledger.command(Work::Prune, None)).expect(0);
        ledger.judge(Work::Prune, 0).unwrap();
        let leftovers = library::check(
            &library::open(std::sync::Arc::new(bakfs::store::local::LocalStore::new(&ledger.repo()))).unwrap(),
        )
        .unwrap()
        .leftover_packs;
        assert_eq!(leftovers, 0, "prune collects the packs of killed runs");
    });
    let (killed, ended, failures) = tally.into_inner();
    println!("kills: seed {seed}, {killed} runs killed, {ended} ended before, {} promises broken", failures.len());
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(killed > trials / 4, "most runs are killed: {killed}");
}
