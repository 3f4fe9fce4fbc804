//! Prune gives room back and loses nothing: beside backups and mounts, after kills, and with objects missing.

use bakfs_testing::cli::Bakfs;
use bakfs_testing::compare::{Rules, trees};
use bakfs_testing::device::Device;
use bakfs_testing::process::start;
use bakfs_testing::{SOON, noise, until};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Several frames, and more than one pack's worth of waste when half of it goes.
const FILE_BYTES: usize = 1 << 20;

fn source(bakfs: &Bakfs) -> PathBuf {
    bakfs.make_dir("source")
}

fn write_files(dir: &Path, seed: u64, count: u64) {
    for n in 0..count {
        std::fs::write(dir.join(format!("{n}")), noise(seed * 1000 + n, FILE_BYTES)).unwrap();
    }
}

/// Backs up and keeps a plain copy to compare with.
fn backup_with_copy(bakfs: &Bakfs, copies: &Path) -> String {
    let source = bakfs.path("source");
    let name = bakfs.backup([source.as_os_str()]).snapshot().to_owned();
    let copy = copies.join(&name);
    // The name of a snapshot that was pruned within this second is free again.
    let _ = std::fs::remove_dir_all(&copy);
    bakfs_testing::process::tool("cp", ["-a", source.to_str().unwrap(), copy.to_str().unwrap()]);
    name
}

fn assert_restored(bakfs: &Bakfs, copies: &Path, name: &str) {
    let to = tempfile::tempdir().unwrap();
    bakfs.ok(["restore", &format!("{name}:{}", bakfs.path("source").display()), to.path().to_str().unwrap()]);
    let restored = to.path().join(bakfs.path("source").strip_prefix("/").unwrap());
    trees(&copies.join(name), &restored, Rules::COPY).assert_same(name);
}

fn pack_bytes(bakfs: &Bakfs) -> u64 {
    bakfs.objects("packs").iter().map(|(_, len)| len).sum()
}

#[test]
fn forgotten_content_goes_and_everything_else_stays() {
    let bakfs = Bakfs::new();
    let (source, copies) = (source(&bakfs), bakfs.make_dir("copies"));
    let mut names = Vec::new();
    for day in 1..=4 {
        write_files(&source, day, 12);
        // Half of every day is what it was on the first.
        write_files(&source, 1, 6);
        names.push(backup_with_copy(&bakfs, &copies));
    }
    let before = pack_bytes(&bakfs);
    let both = bakfs.ok(["--json", "forget", &names[0], &names[2], "--prune", "--dry-run"]);
    let would = bakfs_testing::cli::json_of(both)["prune"].clone();
    bakfs.ok(["forget", &names[0], &names[2]]);
    let planned = bakfs.json(["prune", "--dry-run"]);
    assert_eq!(would, planned, "forget --prune --dry-run tells what both would do");
    assert_eq!(pack_bytes(&bakfs), before, "a dry run deletes nothing");
    let done = bakfs.json(["prune"]);
    for field in ["unused_packs", "unused_bytes", "repack_packs", "repack_bytes", "copied_plain_bytes"] {
        assert_eq!(planned[field], done[field], "{field}");
    }
    assert_eq!(done["removed_snapshots"], 2);
    let after = pack_bytes(&bakfs);
    // 12 + 6 + 6 + 6 files are stored before; 6 of the third day go, and of the first 6 that others lack.
    assert!(after < before - 10 * FILE_BYTES as u64, "{before} -> {after}");
    let deleted = done["deleted_bytes"].as_u64().unwrap();
    let copied = done["copied_packed_bytes"].as_u64().unwrap();
    assert!(before - deleted <= after && after <= before - deleted + copied, "the report tells the truth");
    bakfs.ok(["check", "--read-data"]);
    for name in [&names[1], &names[3]] {
        assert_restored(&bakfs, &copies, name);
    }
    // The next run has nothing to do and stores no pack.
    let packs = bakfs.objects("packs");
    let again = bakfs.json(["prune"]);
    assert_eq!(again["deleted_packs"], 0);
    assert_eq!(bakfs.objects("packs"), packs);
    // What is taken over from a pruned history is whole.
    let last = backup_with_copy(&bakfs, &copies);
    assert_restored(&bakfs, &copies, &last);
}

#[test]
fn a_running_backup_is_waited_for_and_keeps_what_it_relies_on() {
    let bakfs = Bakfs::new();
    let (source, copies) = (source(&bakfs), bakfs.make_dir("copies"));
    write_files(&source, 1, 8);
    let first = backup_with_copy(&bakfs, &copies);
    write_files(&source, 2, 8);
    let second = backup_with_copy(&bakfs, &copies);
    let mut command = bakfs.command(["backup", "--stdin", "/stream"]);
    command.stdin(Stdio::piped());
    let marks = bakfs.objects("marks").len();
    let mut stream = command.spawn().unwrap();
    until("the backup has announced itself", SOON, || bakfs.objects("marks").len() > marks);
    bakfs.ok(["forget", &first]);
    let held = bakfs.json(["prune"]);
    assert_eq!(held["waiting_for"].as_array().unwrap().len(), 1, "{held}");
    assert_eq!(held["deleted_packs"], 0);
    // The stream is what the forgotten snapshot had: it deduplicates against what is condemned.
    let mut input = stream.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, &std::fs::read(copies.join(&first).join("0")).unwrap()).unwrap();
    drop(input);
    assert!(stream.wait().unwrap().success());
    let done = bakfs.json(["prune"]);
    assert!(done["deleted_packs"].as_u64().unwrap() > 0, "{done}");
    bakfs.ok(["check", "--read-data"]);
    assert_restored(&bakfs, &copies, &second);
    let dumped = bakfs.ok(["dump", "latest:/stream"]);
    assert!(dumped.stdout == std::fs::read(copies.join(&first).join("0")).unwrap());
}

#[test]
fn what_killed_runs_left_is_collected() {
    let bakfs = Bakfs::new();
    let (source, copies) = (source(&bakfs), bakfs.make_dir("copies"));
    write_files(&source, 1, 4);
    let first = backup_with_copy(&bakfs, &copies);
    let clean = bakfs.objects("packs");
    let mut command = bakfs.command(["backup", "--stdin", "/stream"]);
    command.stdin(Stdio::piped());
    let mut stream = start(command, true);
    let is_mark = |path: &Path| path.file_name().unwrap().len() == 64;
    until("it has announced itself", SOON, || bakfs.objects("marks").iter().any(|(path, _)| is_mark(path)));
    stream.kill();
    until("it is dead", SOON, || stream.ended());
    // A pack that a killed run has stored, as it would be: no index names it.
    write_files(&source, 2, 4);
    bakfs.backup([source.as_os_str()]);
    let second = bakfs.objects("snapshots").len();
    assert_eq!(second, 2);
    let newest = bakfs.json(["snapshots"]).as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
    std::fs::remove_file(bakfs.repo().join("snapshots").join(newest)).unwrap();
    bakfs.run(["prune"]).refused().says("nothing is deleted");
    // Files that were being written: one long ago, one just now.
    let shard = bakfs.repo().join("packs/07");
    for name in [".tmp-old", ".tmp-new"] {
        std::fs::write(shard.join(name), b"half").unwrap();
    }
    bakfs_testing::process::tool("touch", ["-d", "2 days ago", shard.join(".tmp-old").to_str().unwrap()]);
    let done = bakfs.json(["prune", "--accept-missing"]);
    assert!(done["deleted_packs"].as_u64().unwrap() > 0, "{done}");
    assert!(!shard.join(".tmp-old").exists() && shard.join(".tmp-new").exists());
    std::fs::remove_file(shard.join(".tmp-new")).unwrap();
    assert_eq!(bakfs.objects("packs"), clean, "what the dead left is gone, and nothing else");
    let marks = bakfs.objects("marks").len();
    assert_eq!(marks, 1, "only the verdict is left of all announcements");
    bakfs.ok(["check", "--read-data"]);
    assert_restored(&bakfs, &copies, &first);
    // One that has stored nothing but its announcement leaves nothing either.
    let mut command = bakfs.command(["backup", "--stdin", "/stream"]);
    command.stdin(Stdio::piped());
    let mut stream = start(command, true);
    until("it has announced itself", SOON, || {
        bakfs.objects("marks").iter().filter(|(path, _)| is_mark(path)).count() > 1
    });
    stream.kill();
    until("it is dead", SOON, || stream.ended());
    bakfs.ok(["prune"]);
    assert_eq!(bakfs.objects("marks").iter().filter(|(path, _)| is_mark(path)).count(), 1);
}

#[test]
fn a_mount_reads_on_while_its_packs_are_copied_and_deleted() {
    let bakfs = Bakfs::new();
    let (source, copies) = (source(&bakfs), bakfs.make_dir("copies"));
    write_files(&source, 1, 12);
    let first = backup_with_copy(&bakfs, &copies);
    for n in 0..9 {
        std::fs::remove_file(source.join(n.to_string())).unwrap();
    }
    let second = backup_with_copy(&bakfs, &copies);
    let mounted = bakfs.mount();
    assert!(mounted.at(&first, &source).join("0").exists());
    bakfs.ok(["forget", &first]);
    until("the forgotten snapshot is hidden", SOON, || !mounted.path().join(&first).exists());
    let before = bakfs.objects("packs");
    let done = bakfs.json(["prune", "--max-waste", "0%"]);
    assert!(done["repack_packs"].as_u64().unwrap() > 0, "{done}");
    let after = bakfs.objects("packs");
    let largest = before.iter().max_by_key(|(_, len)| *len).unwrap();
    assert!(!after.contains(largest), "the pack with the content was replaced under the mount");
    trees(&copies.join(&second), &mounted.at(&second, &source), Rules { layout: false, ctime: false, holes: true })
        .assert_same("through the old mount");
    mounted.unmount();
}

#[test]
fn a_listing_that_is_not_whole_deletes_nothing() {
    let bakfs = Bakfs::new();
    let (source, copies) = (source(&bakfs), bakfs.make_dir("copies"));
    for day in 1..=3 {
        write_files(&source, day, 3);
        backup_with_copy(&bakfs, &copies);
    }
    bakfs.ok(["forget", "latest~2"]);
    bakfs.ok(["prune"]);
    let packs = bakfs.objects("packs");
    let hidden = bakfs.path("hidden");
    let (victim, _) = bakfs.objects("snapshots").pop().unwrap();
    std::fs::rename(&victim, &hidden).unwrap();
    bakfs.run(["prune"]).refused().says("is gone");
    assert_eq!(bakfs.objects("packs"), packs);
    std::fs::rename(&hidden, &victim).unwrap();
    // An object that cannot be read needs nobody knows what.
    let whole = std::fs::read(&victim).unwrap();
    std::fs::remove_file(&victim).unwrap();
    std::fs::write(&victim, &whole[..whole.len() - 1]).unwrap();
    bakfs.run(["prune"]).refused();
    assert_eq!(bakfs.objects("packs"), packs);
    std::fs::remove_file(&victim).unwrap();
    std::fs::write(&victim, &whole).unwrap();
    // Nor does a prune go on when an index object or a pack is missing or damaged.
    for kind in ["index", "packs"] {
        let (victim, _) = bakfs.objects(kind).pop().unwrap();
        std::fs::rename(&victim, &hidden).unwrap();
        std::fs::write(&victim, b"not an object").unwrap();
        bakfs.run(["prune"]).refused();
        std::fs::remove_file(&victim).unwrap();
        let missing = bakfs.run(["prune"]);
        std::fs::rename(&hidden, &victim).unwrap();
        missing.refused();
        assert_eq!(bakfs.objects("packs"), packs, "{kind}");
    }
    bakfs.ok(["prune"]);
    bakfs.ok(["check", "--read-data"]);
    // Who says that what is missing is gone for good goes on, and the rest stays.
    std::fs::remove_file(&victim).unwrap();
    bakfs.ok(["prune", "--accept-missing"]);
    bakfs.ok(["prune"]);
    bakfs.ok(["check", "--read-data"]);
    assert_eq!(bakfs.json(["snapshots"]).as_array().unwrap().len(), 1);
    assert!(bakfs.objects("packs").len() < packs.len());
}

/// Runs a command as another machine would: one that knows nothing of the repository.
fn elsewhere(bakfs: &Bakfs, args: &[&str]) -> bakfs_testing::process::Outcome {
    let mut command = bakfs.command(args);
    for variable in ["BAKFS_STATE_DIR", "BAKFS_CACHE_DIR"] {
        command.env(variable, bakfs.path("elsewhere").join(variable));
    }
    bakfs_testing::process::run(command)
}

fn newest_snapshot(bakfs: &Bakfs) -> PathBuf {
    let list = bakfs.json(["snapshots"]);
    let id = list.as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
    bakfs.repo().join("snapshots").join(id)
}

#[test]
fn a_prune_that_deletes_nothing_leaves_word_of_what_it_has_seen() {
    let bakfs = Bakfs::new();
    let source = source(&bakfs);
    for day in 1..=3 {
        write_files(&source, day, 1);
        bakfs.backup([source.as_os_str()]);
    }
    let before = bakfs_testing::files_below(&bakfs.repo()).len();
    bakfs.ok(["prune"]);
    let after = bakfs_testing::files_below(&bakfs.repo());
    assert_eq!((after.len() - before, bakfs.objects("marks").len()), (1, 1), "one mark says what there is");
    bakfs.ok(["prune"]);
    assert_eq!(bakfs_testing::files_below(&bakfs.repo()), after, "a repeated prune writes nothing");
    let (victim, hidden) = (newest_snapshot(&bakfs), bakfs.path("hidden"));
    std::fs::rename(&victim, &hidden).unwrap();
    elsewhere(&bakfs, &["prune"]).expect(1).says("is gone");
    std::fs::rename(&hidden, &victim).unwrap();
    bakfs.ok(["check", "--read-data"]);
    // A later snapshot is remembered as well, in the place of that mark.
    write_files(&source, 4, 1);
    bakfs.backup([source.as_os_str()]);
    bakfs.ok(["prune"]);
    assert_eq!(bakfs.objects("marks").len(), 1, "the last prune's word replaces the one before");
    let victim = newest_snapshot(&bakfs);
    std::fs::rename(&victim, &hidden).unwrap();
    elsewhere(&bakfs, &["prune"]).expect(1).says("is gone");
    // Who says that it is gone for good is not asked again, and finds it where it comes back all the same.
    elsewhere(&bakfs, &["prune", "--accept-missing", "--max-waste", "100%"]).expect(0);
    elsewhere(&bakfs, &["prune"]).expect(0);
    std::fs::rename(&hidden, &victim).unwrap();
    let shown = elsewhere(&bakfs, &["--json", "snapshots"]);
    assert_eq!(bakfs_testing::cli::json_of(shown).as_array().unwrap().len(), 4);
}

#[test]
fn a_parent_that_no_prune_has_removed_is_missed() {
    let bakfs = Bakfs::new();
    let source = source(&bakfs);
    let mut names = Vec::new();
    for day in 1..=3 {
        write_files(&source, day, 1);
        names.push(bakfs.backup([source.as_os_str()]).snapshot().to_owned());
    }
    let second = bakfs.json(["snapshots"])[1]["id"].as_str().unwrap().to_owned();
    let (victim, hidden) = (bakfs.repo().join("snapshots").join(second), bakfs.path("hidden"));
    let packs = bakfs.objects("packs");
    std::fs::rename(&victim, &hidden).unwrap();
    elsewhere(&bakfs, &["prune"]).expect(1).says(&format!("{} is gone", names[1]));
    assert_eq!(bakfs.objects("packs"), packs);
    std::fs::rename(&hidden, &victim).unwrap();
    // One that a prune has removed is not.
    bakfs.ok(["forget", &names[1]]);
    bakfs.ok(["prune"]);
    elsewhere(&bakfs, &["prune"]).expect(0);
    bakfs.ok(["check", "--read-data"]);
}

#[test]
fn two_prunes_at_once_and_a_backup() {
    let bakfs = Bakfs::new();
    let (source, copies) = (source(&bakfs), bakfs.make_dir("copies"));
    let mut names = Vec::new();
    for day in 1..=4 {
        write_files(&source, day, 6);
        names.push(backup_with_copy(&bakfs, &copies));
    }
    bakfs.ok(["forget", &names[0], &names[1]]);
    let running: Vec<_> = (0..3).map(|_| bakfs.start(["prune", "--max-waste", "0%"])).collect();
    let backup = bakfs.start(["backup", source.to_str().unwrap()]);
    let outcomes: Vec<_> = running.into_iter().map(|running| running.finish()).collect();
    backup.finish().expect(0);
    assert!(
        outcomes.iter().all(|outcome| outcome.code == 0 || outcome.stderr.contains("Another prune or repair runs"))
    );
    bakfs.ok(["prune"]);
    bakfs.ok(["check", "--read-data"]);
    for name in &names[2..] {
        assert_restored(&bakfs, &copies, name);
    }
}

#[test]
fn a_repository_that_cannot_be_written_can_be_read() {
    let bakfs = Bakfs::new();
    let (source, copies) = (source(&bakfs), bakfs.make_dir("copies"));
    write_files(&source, 1, 2);
    let name = backup_with_copy(&bakfs, &copies);
    bakfs_testing::need_root();
    let view = Device::read_only_view(&bakfs.repo(), &bakfs.path("view"));
    let on_view = |args: &[&str]| bakfs.run(["--repo", view.path().to_str().unwrap()].iter().chain(args));
    let to = bakfs.path("restored");
    let mnt = bakfs.path("mnt");
    let (name, source_text) = (&*name, source.to_str().unwrap());
    let refused = [&["prune"][..], &["forget", name], &["backup", source_text]].map(on_view);
    let read = [
        &["check", "--read-data"][..],
        &["ls", name],
        &["snapshots"],
        &["prune", "--dry-run"],
        &["restore", name, to.to_str().unwrap()],
        &["mount", mnt.to_str().unwrap()],
    ]
    .map(on_view);
    let mounted = bakfs.adopt(mnt);
    let rules = Rules { layout: false, ctime: false, holes: true };
    trees(&copies.join(name), &mounted.at(name, &source), rules).assert_same("a mount of a read-only repository");
    trees(&copies.join(name), &to.join(source.strip_prefix("/").unwrap()), Rules::COPY).assert_same("restored from it");
    mounted.unmount();
    refused.into_iter().for_each(|outcome| drop(outcome.refused().says("Read-only")));
    read.into_iter().for_each(|outcome| drop(outcome.expect(0)));
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_a_prune() {
    bakfs_testing::need_root();
    let bakfs = Bakfs::empty();
    let device = Device::memory(&bakfs.repo(), 40);
    bakfs.ok(["init", "--encryption", "none"]);
    let (source, copies) = (source(&bakfs), bakfs.make_dir("copies"));
    write_files(&source, 1, 24);
    let first = backup_with_copy(&bakfs, &copies);
    // Of the first day's pack 18 files in 24 stay: to copy them takes more room than there is.
    for n in 0..6 {
        std::fs::remove_file(source.join(n.to_string())).unwrap();
    }
    let second = backup_with_copy(&bakfs, &copies);
    bakfs.ok(["forget", &first]);
    bakfs.run(["prune", "--max-waste", "0%"]).expect(1).says("--max-waste 100%");
    bakfs.ok(["check", "--read-data"]);
    assert_restored(&bakfs, &copies, &second);
    // What the failed copy left is found by the next prune, which needs no room.
    bakfs.ok(["prune", "--max-waste", "100%"]);
    assert!(pack_bytes(&bakfs) < 26 << 20, "{}", pack_bytes(&bakfs));
    bakfs.ok(["check", "--read-data"]);
    assert_restored(&bakfs, &copies, &second);
    drop(device);
}

#[test]
fn a_clock_ten_years_off_costs_a_backup_elsewhere_its_work_and_nobody_data() {
    let bakfs = Bakfs::new();
    let (source, copies) = (source(&bakfs), bakfs.make_dir("copies"));
    write_files(&source, 1, 3);
    let first = backup_with_copy(&bakfs, &copies);
    write_files(&source, 2, 3);
    let second = backup_with_copy(&bakfs, &copies);
    bakfs.ok(["forget", &first]);
    let is_mark = |path: &Path| path.file_name().unwrap().len() == 64;
    let mut dice = bakfs_testing::Dice::new(1);
    let marks = || bakfs.objects("marks").iter().filter(|(path, _)| is_mark(path)).count();
    for (shift, is_elsewhere) in [("+10y", false), ("-10y", false), ("+10y", true), ("-10y", true)] {
        // Something to delete, each time.
        std::fs::write(source.join("extra"), noise(dice.roll(), FILE_BYTES)).unwrap();
        let gone = bakfs.backup([source.as_os_str()]);
        std::fs::remove_file(source.join("extra")).unwrap();
        bakfs.ok(["forget", gone.snapshot()]);
        let before = marks();
        let mut command = match is_elsewhere {
            false => bakfs.command(["backup", "--stdin", "/stream"]),
            // In a namespace of processes of its own, as on another machine: nobody sees whether it lives.
            true => {
                let mut command = bakfs.wrap("unshare");
                command.args(["--pid", "--fork", env!("CARGO_BIN_EXE_bakfs"), "backup", "--stdin", "/stream"]);
                command
            }
        };
        command.stdin(Stdio::piped());
        let mut stream = command.spawn().unwrap();
        until("the backup has announced itself", SOON, || marks() > before);
        let mut prune = bakfs.wrap("faketime");
        prune.args(["-f", shift, env!("CARGO_BIN_EXE_bakfs"), "--json", "prune"]);
        let pruned = bakfs_testing::cli::json_of(bakfs_testing::process::run(prune).expect(0));
        let waits = !pruned["waiting_for"].as_array().unwrap().is_empty();
        assert_eq!(waits, !is_elsewhere, "only who is seen to live is waited for: {pruned}");
        // An empty stream would be told, whoever commits it.
        std::io::Write::write_all(&mut stream.stdin.take().unwrap(), b"a dump").unwrap();
        assert_eq!(stream.wait().unwrap().success(), waits, "who was taken for dead commits nothing");
        bakfs.ok(["check", "--read-data"]);
        assert_restored(&bakfs, &copies, &second);
    }
}

#[test]
fn many_small_objects_become_few() {
    let bakfs = Bakfs::new();
    let (source, copies) = (source(&bakfs), bakfs.make_dir("copies"));
    let mut last = String::new();
    for day in 0..70 {
        std::fs::write(source.join("changing"), noise(day, 3000)).unwrap();
        let name = bakfs.backup([source.as_os_str()]).snapshot().to_owned();
        last = name;
    }
    bakfs_testing::process::tool("cp", ["-a", source.to_str().unwrap(), copies.join(&last).to_str().unwrap()]);
    assert!(bakfs.objects("index").len() >= 70 && bakfs.objects("packs").len() >= 140);
    // Strays are nobody's objects: left alone, and no reason to stop.
    let strays = ["packs/stray", "packs/07/stray", "index/stray", "marks/stray", "stray"];
    strays.iter().for_each(|stray| std::fs::write(bakfs.repo().join(stray), b"stray").unwrap());
    let packs = bakfs.objects("packs");
    bakfs.ok(["prune", "--max-waste", "100%"]);
    assert_eq!(bakfs.objects("packs"), packs, "who accepts any waste may have no room to copy");
    bakfs.ok(["prune"]);
    strays.iter().for_each(|stray| std::fs::remove_file(bakfs.repo().join(stray)).unwrap());
    assert!(bakfs.objects("index").len() <= 2, "{:?}", bakfs.objects("index"));
    assert!(bakfs.objects("packs").len() <= 4, "{:?}", bakfs.objects("packs"));
    bakfs.ok(["check", "--read-data"]);
    assert_restored(&bakfs, &copies, &last);
}
