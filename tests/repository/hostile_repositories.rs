//! Promise: whoever can write a repository, keys and all, cannot harm who reads it. What no honest writer stores
//! is refused or shown harmless by every command and the mount: nothing is written outside the target, nothing
//! panics, memory and time are bounded, and the other snapshots stay readable.

use crate::attacks::{ATTACKS, Attack};
use bakfs::format::header::Suite;
use bakfs::monitor::Silent;
use bakfs::repo::objects::object_id;
use bakfs::store::local::LocalStore;
use bakfs_testing::cli::Bakfs;
use bakfs_testing::device::Device;
use bakfs_testing::library::{self, Source};
use bakfs_testing::process::{Outcome, most_memory_bytes, start};
use bakfs_testing::stores::MemStore;
use bakfs_testing::{SOON, files_below, noise};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// No command takes more memory, stacks included, whatever a repository says.
const MAX_MEMORY_BYTES: u64 = 384 << 20;
/// What matches is sorted before it is shown: a million matches at most.
const MAX_FIND_BYTES: u64 = 1 << 30;
/// What goes on as long as there is something to show is stopped after this.
const ENDLESS: Duration = Duration::from_secs(1);
/// A command that takes longer does not end; the slowest takes seconds where nobody else works.
const PATIENCE: Duration = Duration::from_secs(600);
/// No listing is looked at further.
const MAX_SHOWN: usize = 3000;

/// The disk goes first: what was restored is not removed name by name.
struct World {
    disk: Device,
    bakfs: Bakfs,
    source: Source,
}

impl World {
    /// An honest snapshot and, a day later, the attack.
    fn new(attack: &Attack) -> World {
        bakfs_testing::need_root();
        let bakfs = Bakfs::empty();
        let disk = Device::memory(&bakfs.path("disk"), 128);
        let source = Source::new();
        let store = Arc::new(LocalStore::new(&bakfs.repo()));
        store.create_folders().unwrap();
        library::init(&*store, Suite::Plain, 0, library::TINY_CHUNKS).unwrap();
        let repository = library::open(store).unwrap();
        library::back_up(&repository, &source.path(), 0).unwrap();
        (attack.store)(&repository, &outside(&disk));
        for name in ["outside", "target"] {
            std::fs::create_dir(disk.path().join(name)).unwrap();
        }
        World { disk, bakfs, source }
    }

    /// Runs a command, which must end with a proper exit code; an endless one is stopped.
    fn run(&self, args: &[&OsStr], is_endless: bool) -> Result<Option<Outcome>, String> {
        // Nobody reads on for ever.
        let script = r#"("$@"; echo $? >&2) | { head -c 200000; head -c 20000000 >/dev/null; }"#;
        let is_find = args.contains(&OsStr::new("find"));
        let limit = format!("--data={}", if is_find { MAX_FIND_BYTES } else { MAX_MEMORY_BYTES });
        let mut command = self.bakfs.wrap("prlimit");
        command.args([&limit, "sh", "-c", script, "sh"]).arg(env!("CARGO_BIN_EXE_bakfs")).args(args);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut running = start(command, false);
        let begun = Instant::now();
        while !running.ended() {
            let limit = if is_endless { ENDLESS } else { PATIENCE };
            if begun.elapsed() > limit {
                let group = rustix::process::Pid::from_raw(running.pid() as i32).unwrap();
                rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
                running.finish_within(SOON);
                return if is_endless { Ok(None) } else { Err(format!("{args:?} does not end")) };
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut outcome = running.finish_within(SOON);
        let code = outcome.stderr.lines().last().and_then(|line| line.parse().ok());
        outcome.code = code.ok_or_else(|| format!("{args:?}: no exit code: {outcome}"))?;
        let leads_out = |name: &[u8]| outcome.stdout.windows(name.len()).any(|window| window == name);
        if leads_out(b"../planted") || leads_out(b"/../") {
            return Err(format!("{args:?} shows a name that leads out: {outcome}"));
        }
        if !matches!(outcome.code, 0..=3) || outcome.stderr.contains("panicked") {
            return Err(format!("{args:?}: {outcome}"));
        }
        Ok(Some(outcome))
    }

    fn every_command(&self, attack: &Attack) -> Result<(), String> {
        let target = self.disk.path().join("target");
        let cache = self.disk.path().join("cache");
        let source = self.source.path();
        let commands: &[(&[&OsStr], bool)] = &[
            (&["check".as_ref()], false),
            (&["check".as_ref(), "--read-data".as_ref()], false),
            (&["snapshots".as_ref()], false),
            (&["stats".as_ref()], false),
            (&["ls".as_ref(), "-lR".as_ref(), "latest".as_ref()], true),
            (&["--json".as_ref(), "ls".as_ref(), "-R".as_ref(), "latest".as_ref()], true),
            (&["find".as_ref(), "*planted*".as_ref()], true),
            (&["diff".as_ref(), "latest~1".as_ref(), "latest".as_ref()], true),
            (&["dump".as_ref(), "latest:/".as_ref(), "--archive".as_ref(), "tar".as_ref()], true),
            (&["restore".as_ref(), "latest".as_ref(), target.as_ref()], true),
            (&["prune".as_ref(), "--max-waste".as_ref(), "0%".as_ref()], false),
            (&["backup".as_ref(), "--host".as_ref(), "host".as_ref(), source.as_ref()], false),
        ];
        for (args, may_go_on) in commands {
            let cache = [OsStr::new("--cache-dir"), cache.as_os_str()];
            let args: Vec<&OsStr> = cache.into_iter().chain(args.iter().copied()).collect();
            self.run(&args, *may_go_on && attack.is_endless)?;
        }
        // Each of the others, from the honest backup just made down to the honest first.
        for back in 1..files_below(&self.bakfs.repo().join("snapshots")).len() {
            let name = format!("latest~{back}");
            for args in [&["restore", &name, target.to_str().unwrap()][..], &["diff", &name, "latest"]] {
                let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
                self.run(&args, attack.is_endless)?;
            }
        }
        let outside = files_below(&outside(&self.disk));
        if !outside.is_empty() {
            return Err(format!("written outside the target: {outside:?}"));
        }
        let names: Vec<_> =
            std::fs::read_dir(self.disk.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let mine = |name: &OsString| ["outside", "target", "cache"].iter().any(|mine| name == mine);
        if !names.iter().all(mine) {
            return Err(format!("written beside the target: {names:?}"));
        }
        Ok(())
    }

    /// Reads through the mount what an ordinary program would.
    fn mount(&self) -> Result<(), String> {
        let mount = self.bakfs.mount();
        let mut pending = vec![mount.path().to_owned()];
        let mut shown = 0;
        while let Some(dir) = pending.pop().filter(|_| shown < MAX_SHOWN) {
            let Ok(entries) = std::fs::read_dir(&dir) else { continue };
            for entry in entries.take(MAX_SHOWN).map_while(Result::ok) {
                shown += 1;
                let name = entry.file_name();
                let bytes = name.as_encoded_bytes();
                if bytes.is_empty() || bytes.contains(&b'/') || bytes == b".." {
                    return Err(format!("the mount shows {name:?}"));
                }
                let path = entry.path();
                let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
                if metadata.is_dir() && path.components().count() < 200 {
                    pending.push(path);
                } else if metadata.is_file() {
                    read_some(&path);
                }
            }
        }
        let honest = mount.path().join("2026-03-01T03-00-00Z").join(self.source.path().strip_prefix("/").unwrap());
        for (path, _) in files_below(&self.source.path()) {
            let shown = honest.join(path.strip_prefix(self.source.path()).unwrap());
            if std::fs::read(&shown).ok() != Some(std::fs::read(&path).unwrap()) {
                return Err(format!("{} is not readable any more", shown.display()));
            }
        }
        mount.unmount();
        let logs = files_below(&self.bakfs.path("state"));
        match logs.iter().find(|(log, _)| std::fs::read_to_string(log).unwrap_or_default().contains("panicked")) {
            Some((log, _)) => Err(format!("the mount panicked: {}", std::fs::read_to_string(log).unwrap())),
            None => Ok(()),
        }
    }
}

fn outside(disk: &Device) -> std::path::PathBuf {
    disk.path().join("outside")
}

/// Reads the beginning, the middle and the end of a file, whatever comes of it.
fn read_some(path: &Path) {
    use std::os::unix::fs::FileExt;
    let Ok(file) = std::fs::File::open(path) else { return };
    let len = file.metadata().map_or(0, |metadata| metadata.len());
    let mut buffer = vec![0; 64 << 10];
    for at in [0, len / 2, len.saturating_sub(100)] {
        let _ = file.read_at(&mut buffer, at);
    }
}

#[test]
fn no_hostile_repository_harms_its_reader() {
    let failures = parking_lot::Mutex::new(Vec::new());
    library::in_parallel(ATTACKS.len() as u64, |number| {
        let attack = &ATTACKS[number as usize];
        let world = World::new(attack);
        for judged in [world.every_command(attack), world.mount()] {
            failures.lock().extend(judged.err().map(|failure| format!("{}: {failure}", attack.name)));
        }
    });
    let failures = failures.into_inner();
    for failure in &failures {
        println!("{failure}");
    }
    let memory = most_memory_bytes();
    println!(
        "hostile repositories: {} attacks by 12 commands and the mount, {} harmful, at most {} MiB of memory",
        ATTACKS.len(),
        failures.len(),
        memory >> 20
    );
    assert!(failures.is_empty());
}

/// Puts bytes under their own name, as somebody does who may store objects and has no key.
fn plant(bakfs: &Bakfs, folder: &str, bytes: &[u8]) {
    let folder = bakfs.repo().join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(object_id(bytes).to_hex()), bytes).unwrap();
}

/// Bytes that begin like an object of this repository, and are none.
fn forged(bakfs: &Bakfs, folder: &str, number: u64) -> Vec<u8> {
    let genuine = std::fs::read(&bakfs.objects(folder)[0].0).unwrap();
    let mut bytes = genuine.clone();
    let end = bytes.len();
    match number % 4 {
        0 => return noise(number, 100),
        1 => bytes[40..64].copy_from_slice(&noise(number, 24)),
        2 => bytes[end - 20..].copy_from_slice(&noise(number, 20)),
        _ => bytes.truncate(80 + number as usize % 8),
    }
    bytes
}

#[test]
fn what_does_not_verify_says_nothing_costs_a_line_and_is_cleared() {
    let (bakfs, source) = Bakfs::with_source();
    for day in 1..=3 {
        std::fs::write(source.join("file"), noise(day, 300_000)).unwrap();
        bakfs.backup_at(&format!("2026-03-0{day}T03:00:00Z"), &source);
    }
    bakfs.ok(["pin", "--reason", "audit", "latest~2"]);
    let honest = files_below(&bakfs.repo());
    for (folder, count) in [("marks", 20), ("snapshots", 20), ("keys", 4)] {
        for number in 0..count {
            // A slot with another salt is one that might open.
            let number = if folder == "keys" { number * 4 } else { number };
            plant(&bakfs, folder, &forged(&bakfs, folder, number));
        }
    }
    // A whole object of another kind.
    plant(&bakfs, "marks", &std::fs::read(&bakfs.objects("index")[0].0).unwrap());
    let planted = files_below(&bakfs.repo()).len() - honest.len();
    assert!(planted >= 20);

    let lines = |outcome: &Outcome| outcome.stderr.lines().count();
    let shown = bakfs.run(["snapshots"]).expect(3).says("objects in marks/ are not of this repository");
    assert!(shown.stderr.contains("objects in snapshots/ are not") && lines(&shown) == 3, "{shown}");
    let before = bakfs.repo_bytes();
    let again = bakfs.backup_outcome([&source]).expect(0).says("not of this repository");
    assert!(lines(&again) <= 3, "{again}");
    assert!(bakfs.repo_bytes() - before < 50_000, "everything was stored again");
    bakfs.run(["forget", "--keep-last", "2"]).expect(3);
    bakfs.ok(["prune"]);
    let checked = bakfs.run(["check", "--read-data"]).expect(3).says("not of this repository");
    assert!(checked.stdout.is_empty(), "{checked}");

    let told = bakfs.ok(["repair", "--dry-run"]);
    let names = |outcome: &Outcome| String::from_utf8_lossy(&outcome.stdout).matches("not of this repository").count();
    assert_eq!(names(&told), planted, "{told}");
    let kept = files_below(&bakfs.repo());
    assert_eq!(names(&bakfs.ok(["repair"])), planted);
    let left = files_below(&bakfs.repo());
    assert_eq!(left.len(), kept.len() - planted, "nothing else is removed");
    assert_eq!(bakfs.ok(["snapshots"]).stderr, "");
    bakfs.ok(["check", "--read-data"]);
}

#[test]
fn a_mark_that_may_be_damaged_is_still_heeded() {
    let (bakfs, source) = Bakfs::with_source();
    std::fs::write(source.join("file"), noise(1, 300_000)).unwrap();
    bakfs.backup([&source]);
    bakfs.ok(["pin", "--reason", "audit", "latest"]);
    let (pin, _) = bakfs.objects("marks").remove(0);
    let mut bytes = std::fs::read(&pin).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&pin, &bytes).unwrap();
    let before = bakfs.repo_bytes();
    bakfs.backup_outcome([&source]).expect(0).says("cannot be read");
    assert!(bakfs.repo_bytes() - before > 250_000, "what a mark may condemn is stored again");
    bakfs.run(["prune"]).expect(1).says("run `bakfs repair`");
    bakfs.run(["check"]).expect(1);
    bakfs.ok(["repair"]);
    bakfs.ok(["prune"]);
}

#[test]
fn hostile_key_slots_take_neither_memory_nor_time_and_the_honest_one_opens() {
    let bakfs = Bakfs::empty();
    let with = |args: &[&str]| {
        let mut command = bakfs.command(args);
        command.env("BAKFS_PASSWORD", "correct horse");
        start(command, false).finish_within(SOON)
    };
    with(&["init"]).expect(0);
    let keys = bakfs.objects("keys");
    // Derivation 0, the passphrase's, then memory, passes and lanes (docs/format.md section 3).
    let slot = keys.iter().map(|(path, _)| std::fs::read(path).unwrap()).find(|slot| slot[64..68] == [0; 4]).unwrap();
    let beyond: [(u32, u32, u32); 6] = [
        (4 << 20, 2, 1),
        (4 << 20, 64, 4),
        (1 << 20, 11, 4),
        (2 << 20, 3, 4),
        (8, 64, 1),
        (u32::MAX, u32::MAX, u32::MAX),
    ];
    for (number, (memory_kib, passes, lanes)) in (0..).zip(beyond) {
        let mut hostile = slot.clone();
        hostile[32..64].copy_from_slice(&noise(number, 32));
        for (at, value) in [(68, memory_kib), (72, passes), (76, lanes)] {
            hostile[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        plant(&bakfs, "keys", &hostile);
    }
    // Those within the bounds come after the honest one, and are not tried.
    for number in 0..100 {
        let mut costly = slot.clone();
        costly[32..64].copy_from_slice(&noise(100 + number, 32));
        costly[68..72].copy_from_slice(&(1_u32 << 20).to_le_bytes());
        costly[72..76].copy_from_slice(&10_u32.to_le_bytes());
        plant(&bakfs, "keys", &costly);
        plant(&bakfs, "keys", &noise(300 + number, 200));
    }
    let mut damaged = slot.clone();
    damaged[10] ^= 0xff;
    std::fs::write(bakfs.repo().join("keys").join("ab".repeat(32)), &damaged).unwrap();
    let shown = with(&["snapshots"]).expect(0).says("106 objects in keys/ are not of this repository").says("abababab");
    assert_eq!(shown.stderr.lines().count(), 2, "{shown}");
    let memory = most_memory_bytes();
    println!("hostile key slots: at most {} MiB of memory", memory >> 20);
    assert!(memory < MAX_MEMORY_BYTES, "{memory}");
    // What is damaged is told, and stays as what may be somebody's does.
    let repaired = with(&["repair"]).expect(3);
    assert!(String::from_utf8_lossy(&repaired.stdout).contains("Lost:\nkeys/abababab"), "{repaired}");
    assert_eq!(bakfs.objects("keys").len(), keys.len() + 101);
}

#[test]
fn a_repair_under_the_configuration_of_another_repository_removes_no_snapshot() {
    let (store, other) = (Arc::new(MemStore::default()), MemStore::default());
    let source = Source::new();
    library::init(&*store, Suite::Plain, 0, library::TINY_CHUNKS).unwrap();
    library::init(&other, Suite::Plain, 1, library::TINY_CHUNKS).unwrap();
    for day in 0..2 {
        library::back_up(&library::open(store.clone()).unwrap(), &source.path(), day).unwrap();
    }
    let honest = store.objects();
    let mut swapped = honest.clone();
    swapped.insert("config".into(), other.objects()["config"].clone());
    let store = Arc::new(MemStore::of(swapped));
    for day in 2..4 {
        let repository = library::open(store.clone()).unwrap();
        let report = library::check(&repository).unwrap();
        assert!(!report.findings.is_empty(), "day {day}");
        let done = bakfs::repair::run(&repository, &bakfs::repair::Options::default(), &Silent).unwrap();
        assert!(done.foreign.is_empty() && done.left_foreign >= 2, "{done:?}");
        // Even where there are snapshots of the other one by now.
        library::back_up(&repository, &source.path(), day).unwrap();
    }
    let mut objects = store.objects();
    let is_kept = |path: &&String| path.starts_with("snapshots/") || path.starts_with("packs/");
    assert!(honest.keys().filter(is_kept).all(|path| objects.contains_key(path)));
    objects.insert("config".into(), honest["config"].clone());
    let history = library::read_all(&library::open(Arc::new(MemStore::of(objects))).unwrap()).unwrap();
    assert_eq!(history.snapshots.len(), 2);
    assert!(history.snapshots.values().all(|(_, shown)| shown.errors.is_empty()), "{:?}", history.warnings);
}
