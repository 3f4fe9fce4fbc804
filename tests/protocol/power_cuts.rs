//! Promise: what was reported as committed survives a power cut at that moment, and whatever was there before
//! is as it was, with no repair. A file system on a loop device loses its power (the shutdown ioctl of ext4 and
//! XFS drops everything that was not written) at random system calls and moments of the real binary.

use bakfs::error::Result;
use bakfs::format::header::Suite;
use bakfs::store::local::LocalStore;
use bakfs::store::{Decorator, Names, Store};
use bakfs_testing::cli::Bakfs;
use bakfs_testing::device::{Device, FileSystem};
use bakfs_testing::ledger::{Ledger, Work};
use bakfs_testing::process::start;
use bakfs_testing::{Dice, SOON, library};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

const WORKS: &[Work] = &[Work::Backup, Work::Backup, Work::Backup, Work::Forget, Work::Prune, Work::Repair, Work::Init];
/// Where [`Work::Prune`] is among them.
const PRUNE: usize = 4;
/// The calls that change a disk.
const CALLS: &str = "write,pwrite64,fsync,fdatasync,syncfs,renameat2,unlink,unlinkat,mkdir,mkdirat";

/// Runs a piece of work and cuts the power: at a random system call, or at a random moment of the time that it
/// was seen to take, which is what it takes now where it has ended before.
fn run_and_cut(ledger: &Ledger<'_>, work: Work, longest: &mut Duration, disk: &Device, dice: &mut Dice) -> i32 {
    if dice.below(2) == 0 {
        // No thread makes many more of them; making the folders of a repository takes hundreds.
        let most = if work == Work::Init { 560 } else { 28 };
        let when = 1 + dice.below(most);
        let options = ["-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e"].map(str::to_string).into_iter();
        let trace = [format!("trace={CALLS}"), "-e".into(), format!("inject={CALLS}:signal=SIGKILL:when={when}")];
        let options: Vec<String> = options.chain(trace).collect();
        let outcome = start(ledger.command(work, Some(("strace", &options))), false).finish_within(SOON);
        disk.cut();
        return outcome.code;
    }
    let moment = longest.mul_f64(dice.below(1 << 20) as f64 / f64::from(1 << 20));
    let begun = Instant::now();
    let mut running = start(ledger.command(work, None), false);
    while begun.elapsed() < moment {
        if running.ended() {
            *longest = begun.elapsed();
            break;
        }
        std::thread::yield_now();
    }
    disk.cut();
    // It lives on without its disk, until it notices; what it says then counts too.
    running.finish_within(SOON).code
}

#[test]
fn what_was_committed_survives_power_cuts() {
    bakfs_testing::need_root();
    let seed = library::size("SEED", 11, 11);
    let cuts = library::size("POWER_CUTS", 600, 20_000);
    let tally = Mutex::new((0u64, 0u64, Vec::new()));
    library::in_parallel(2, |worker| {
        let bakfs = Bakfs::empty();
        let memory = Device::memory(&bakfs.path("memory"), 512);
        let file_system = [FileSystem::Ext4, FileSystem::Xfs][worker as usize];
        let mut disk = Device::format(file_system, &memory.path().join("image"), &bakfs.path("disk"), 320);
        let mut ledger = Ledger::new(&bakfs, disk.path(), &memory.path().join("source"));
        let mut dice = Dice::new(seed + worker);
        let longest = WORKS.iter().map(|work| {
            ledger.prepare(*work);
            let begun = Instant::now();
            start(ledger.command(*work, None), false).finish_within(SOON).expect(0);
            let longest = begun.elapsed();
            ledger.judge(*work, 0).unwrap();
            longest
        });
        let mut longest: Vec<_> = longest.collect();
        for cut in 0..cuts / 2 {
            let at = dice.below(WORKS.len() as u64) as usize;
            let at = if ledger.snapshots() > 6 { PRUNE } else { at };
            let work = WORKS[at];
            ledger.prepare(work);
            let code = run_and_cut(&ledger, work, &mut longest[at], &disk, &mut dice);
            disk.mount_again();
            let judged = ledger.judge(work, code);
            let mut tally = tally.lock();
            tally.0 += 1;
            tally.1 += u64::from(code == 0);
            if let Err(failure) = judged {
                tally.2.push(format!("{file_system:?}, seed {seed}+{worker}, cut {cut}, {work:?}: {failure}"));
                return;
            }
        }
    });
    let (cuts, acknowledged, failures) = tally.into_inner();
    println!(
        "power cuts: seed {seed}, {cuts} cuts on ext4 and xfs, {acknowledged} runs had ended, {} promises broken",
        failures.len()
    );
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(acknowledged > 5 && acknowledged < cuts * 4 / 5, "{acknowledged}");
}

/// A local folder whose barriers sync no folder.
struct WithoutFolderSync(LocalStore);

impl Decorator for WithoutFolderSync {
    fn inner(&self) -> &dyn Store {
        &self.0
    }
    fn barrier(&self, _: Names) -> Result<()> {
        Ok(())
    }
}

/// Backs up into a store, cuts the power after the backup has ended, and returns how many of `cuts` snapshots
/// are gone.
fn lost(file_system: FileSystem, cuts: i64, store: impl Fn(LocalStore) -> Arc<dyn Store>) -> usize {
    let bakfs = Bakfs::empty();
    let memory = Device::memory(&bakfs.path("memory"), 512);
    let mut disk = Device::format(file_system, &memory.path().join("image"), &bakfs.path("disk"), 320);
    let source = memory.path().join("source");
    library::plant(&source, 0);
    let repo = disk.path().join("repo");
    let made = LocalStore::new(&repo);
    made.create_folders().unwrap();
    library::init(&made, Suite::Plain, 0, library::TINY_CHUNKS).unwrap();
    drop(made);
    let mut lost = 0;
    for day in 0..cuts {
        library::plant(&source, day as u64);
        let repository = library::open(store(LocalStore::new(&repo))).unwrap();
        let name = library::back_up(&repository, &source, day).unwrap().snapshot.name;
        drop(repository);
        disk.cut();
        disk.mount_again();
        let history = library::read_all(&library::open(Arc::new(LocalStore::new(&repo))).unwrap()).unwrap();
        lost += usize::from(!history.snapshots.get(&name).is_some_and(|(_, shown)| shown.errors.is_empty()));
    }
    lost
}

/// The campaign sees what it is for: without the sync of folders acknowledged snapshots are lost.
#[test]
fn without_the_sync_of_folders_snapshots_are_lost() {
    bakfs_testing::need_root();
    for file_system in [FileSystem::Ext4, FileSystem::Xfs] {
        let without = lost(file_system, 5, |store| Arc::new(WithoutFolderSync(store)));
        let with = lost(file_system, 5, |store| Arc::new(store));
        println!(
            "power cuts, control on {file_system:?}: {without} of 5 lost without the sync of folders, {with} with it"
        );
        assert!(without > 0 && with == 0, "{file_system:?}");
    }
}
