//! Promise: bad input gets a clear error that names the object and the next step, the exit code says
//! what happened, and nothing is lost.

use bakfs_testing::cli::{Bakfs, json_of};
use bakfs_testing::compare::{self, Rules};
use bakfs_testing::process::Outcome;
use bakfs_testing::{files_below, noise, write};
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Gives a world a source of one file.
fn with_source(bakfs: Bakfs) -> (Bakfs, PathBuf) {
    let source = bakfs.make_dir("source");
    std::fs::write(source.join("file"), b"content").unwrap();
    (bakfs, source)
}

/// A world with a repository and a source of one file.
fn small_world() -> (Bakfs, PathBuf) {
    with_source(Bakfs::new())
}

/// A world with a source of one file and no repository.
fn empty_world() -> (Bakfs, PathBuf) {
    with_source(Bakfs::empty())
}

/// Runs the commands that need a repository, each with its own arguments.
fn all_commands(bakfs: &Bakfs, source: &Path) -> Vec<Outcome> {
    let mnt = bakfs.path("mnt");
    let target = bakfs.path("target");
    let os = OsStr::new;
    [
        vec![os("snapshots")],
        vec![os("ls"), os("latest")],
        vec![os("find"), os("*")],
        vec![os("stats")],
        vec![os("check")],
        vec![os("mount"), mnt.as_os_str()],
        vec![os("restore"), os("latest"), target.as_os_str()],
        vec![os("backup"), source.as_os_str()],
    ]
    .map(|args| bakfs.run(args))
    .into()
}

#[test]
fn a_missing_repository() {
    let (bakfs, source) = empty_world();
    for args in [&["snapshots"][..], &["ls", "latest"], &["check"], &["stats"], &["find", "x"]] {
        let outcome = bakfs.run(args).refused().says(bakfs.repo().to_str().unwrap());
        let advises = ["bakfs init", "bakfs backup"].iter().any(|next| outcome.stderr.contains(next));
        assert!(advises && outcome.code == 1, "should say what makes one: {outcome}");
    }
    bakfs.run([OsStr::new("mount"), bakfs.path("mnt").as_os_str()]).refused();
    // A name that was given may be mistyped, or its disk not mounted: nothing is made there unasked.
    bakfs.run([OsStr::new("backup"), source.as_os_str()]).refused().says("bakfs init");
    assert!(!bakfs.repo().exists());
}

#[test]
fn a_foreign_folder_is_left_alone() {
    let (bakfs, source) = empty_world();
    std::fs::create_dir(bakfs.repo()).unwrap();
    std::fs::write(bakfs.repo().join("thesis.txt"), b"precious").unwrap();
    std::fs::create_dir(bakfs.repo().join("data")).unwrap();
    for outcome in all_commands(&bakfs, &source).into_iter().chain([bakfs.run(["init"])]) {
        outcome.refused().says(bakfs.repo().to_str().unwrap());
    }
    assert_eq!(files_below(&bakfs.repo()), [(bakfs.repo().join("thesis.txt"), 8)]);
}

#[test]
fn a_file_where_the_repository_should_be() {
    let (bakfs, source) = empty_world();
    std::fs::write(bakfs.repo(), b"precious").unwrap();
    for outcome in all_commands(&bakfs, &source).into_iter().chain([bakfs.run(["init"])]) {
        outcome.refused().says(bakfs.repo().to_str().unwrap());
    }
    assert_eq!(std::fs::read(bakfs.repo()).unwrap(), b"precious");
}

/// Where the format's version is in every object (docs/format.md).
const VERSION_AT: usize = 8;

#[test]
fn a_repository_of_a_newer_format() {
    let (bakfs, source) = small_world();
    bakfs.backup([&source]);
    let config = bakfs.repo().join("config");
    let mut bytes = std::fs::read(&config).unwrap();
    bytes[VERSION_AT] += 1;
    overwrite(&config, &bytes);
    let before = files_below(&bakfs.repo());
    for outcome in all_commands(&bakfs, &source) {
        outcome.refused().says("newer bakfs").says(bakfs.repo().to_str().unwrap());
    }
    assert_eq!(files_below(&bakfs.repo()), before, "nothing may be written to it");
}

/// Replaces an object, which is not writable as such.
fn overwrite(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_half_made_repository_is_finished_by_init() {
    let (bakfs, source) = empty_world();
    bakfs.ok(["init"]);
    std::fs::remove_file(bakfs.repo().join("config")).unwrap();
    let outcome = bakfs.run(["snapshots"]).refused().says(bakfs.repo().to_str().unwrap());
    outcome.says("bakfs init");
    bakfs.ok(["init"]);
    bakfs.backup([&source]);
    bakfs.ok(["check", "--read-data"]);
}

#[test]
fn a_repository_that_lost_its_configuration_is_not_made_anew() {
    let (bakfs, source) = small_world();
    bakfs.backup([&source]);
    let config = bakfs.repo().join("config");
    let bytes = std::fs::read(&config).unwrap();
    std::fs::remove_file(&config).unwrap();
    let before = files_below(&bakfs.repo());
    for outcome in all_commands(&bakfs, &source) {
        outcome.refused().says("config");
    }
    bakfs.run(["init"]).refused().says(bakfs.repo().to_str().unwrap());
    assert_eq!(files_below(&bakfs.repo()), before);
    std::fs::write(&config, bytes).unwrap();
    bakfs.ok(["check", "--read-data"]);
}

#[test]
fn a_damaged_configuration_or_key() {
    let (bakfs, source) = small_world();
    bakfs.backup([&source]);
    let keys = bakfs.objects("keys");
    let objects = [bakfs.repo().join("config")].into_iter().chain(keys.into_iter().map(|key| key.0));
    for object in objects {
        let bytes = std::fs::read(&object).unwrap();
        for damage in [flipped(&bytes, bytes.len() - 20), bytes[..bytes.len() / 2].to_vec()] {
            overwrite(&object, &damage);
            // One key slot of two may be lost: then everything still works.
            let outcome = bakfs.run(["snapshots"]);
            if outcome.code != 0 || object.ends_with("config") {
                outcome.refused();
            }
        }
        overwrite(&object, &bytes);
    }
    bakfs.ok(["check"]);
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    damaged[at] ^= 0x10;
    damaged
}

fn with_password(bakfs: &Bakfs, password: &str, args: &[&OsStr]) -> Outcome {
    let file = bakfs.path("password");
    std::fs::write(&file, password).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    bakfs.run([OsStr::new("--password-file"), file.as_os_str()].iter().chain(args))
}

#[test]
fn a_wrong_passphrase_gets_one_answer_whatever_is_wrong_about_it() {
    let (bakfs, source) = empty_world();
    let backup = [OsStr::new("backup"), source.as_os_str()];
    let list = [OsStr::new("snapshots")];
    with_password(&bakfs, "correct horse battery\n", &[OsStr::new("init")]).expect(0);
    with_password(&bakfs, "correct horse battery\n", &backup).expect(0);
    let wrong = [
        "correct horse",
        "horse battery",
        "correct horse batterz",
        "Correct horse battery",
        "correct horse battery ",
        "something else entirely, and much longer than the right one",
    ];
    let answers: Vec<_> = wrong
        .map(|password| {
            let outcome = with_password(&bakfs, password, &list).refused();
            assert_eq!(outcome.code, 1);
            assert!(!outcome.stderr.contains(password), "no secret in errors: {outcome}");
            outcome.stderr
        })
        .into();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    with_password(&bakfs, "correct horse battery", &list).expect(0);
    // None at all, and one that cannot be read.
    bakfs.run(["snapshots"]).refused();
    let missing = bakfs.path("no-such-file");
    let args = [OsStr::new("--password-file"), missing.as_os_str(), OsStr::new("snapshots")];
    bakfs.run(args).refused().says("no-such-file");
    with_password(&bakfs, "", &list).refused();
}

#[test]
fn bad_mount_points() {
    let (bakfs, source) = small_world();
    bakfs.backup([&source]);
    let full = bakfs.make_dir("full");
    std::fs::write(full.join("file"), b"precious").unwrap();
    std::fs::create_dir(bakfs.repo().join("mnt")).unwrap();
    for (what, dir) in [
        ("missing", bakfs.path("missing")),
        ("not a folder", full.join("file")),
        ("not empty", full.clone()),
        ("inside the repository", bakfs.repo().join("mnt")),
        ("the repository", bakfs.repo()),
    ] {
        let outcome = bakfs.run([OsStr::new("mount"), dir.as_os_str()]);
        if bakfs_testing::cli::is_mounted(&dir) {
            bakfs.adopt(dir.clone()).unmount();
            panic!("a mount point that is {what} was taken: {outcome}");
        }
        outcome.refused().says(dir.to_str().unwrap());
    }
    assert_eq!(std::fs::read(full.join("file")).unwrap(), b"precious");
    assert!(!bakfs.path("missing").exists());
    bakfs.run([OsStr::new("umount"), full.as_os_str()]).refused().says(full.to_str().unwrap());
}

/// Whoever backs up `/` has no other place: refused with a reason, or taken, said and left out of backups.
#[test]
fn a_mount_point_inside_the_source() {
    let (bakfs, source) = small_world();
    let dir = source.join("mnt");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(source.join("large"), noise(1, 3 << 20)).unwrap();
    bakfs.backup([&source]);
    let outcome = bakfs.run([OsStr::new("mount"), dir.as_os_str()]);
    let mount = bakfs.adopt(dir);
    let outcome = outcome.says(source.to_str().unwrap());
    if outcome.code != 0 {
        outcome.refused();
        return;
    }
    assert!(mount.at("latest", &source).join("large").exists());
    let summary = bakfs.backup([&source]);
    assert_eq!(summary.number("files_new"), 0, "the mount itself must not be backed up");
    assert!(!mount.at(summary.snapshot(), &source).join("mnt/latest").exists());
    mount.unmount();
}

#[test]
fn two_backups_at_once() {
    let bakfs = Bakfs::new();
    let sources = ["one", "two", "shared"].map(|name| bakfs.make_dir(name));
    for (seed, source) in sources.iter().enumerate() {
        for file in 0..20 {
            let bytes = noise(seed as u64 * 100 + file, 300_000);
            std::fs::write(source.join(format!("file-{file}")), bytes).unwrap();
        }
    }
    let run = |own: &PathBuf| {
        let args = [OsStr::new("backup"), own.as_os_str(), sources[2].as_os_str()];
        bakfs.start(args)
    };
    let running = [run(&sources[0]), run(&sources[1]), run(&sources[1])];
    for outcome in running.map(bakfs_testing::process::Running::finish) {
        outcome.expect(0);
    }
    let snapshots = bakfs.json(["snapshots"]);
    let names: std::collections::BTreeSet<_> =
        snapshots.as_array().unwrap().iter().map(|each| each["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 3, "{snapshots}");
    bakfs.ok(["check", "--read-data"]);
    let mount = bakfs.mount();
    for name in names {
        let shown = mount.at(name, &sources[2]);
        compare::trees(&sources[2], &shown, Rules::MOUNT).assert_same(name);
    }
}

#[test]
fn two_first_backups_at_once_make_one_repository() {
    for _ in 0..5 {
        let (bakfs, source) = with_source(Bakfs::first_time());
        let args = [OsStr::new("backup"), source.as_os_str()];
        let running = [bakfs.start(args), bakfs.start(args), bakfs.start(args)];
        let outcomes = running.map(bakfs_testing::process::Running::finish);
        let done = outcomes.iter().filter(|outcome| outcome.code == 0).count();
        for outcome in outcomes.into_iter().filter(|outcome| outcome.code != 0) {
            outcome.refused();
        }
        assert!(done >= 1);
        assert_eq!(bakfs.json(["snapshots"]).as_array().unwrap().len(), done);
        bakfs.ok(["check", "--read-data"]);
    }
}

#[test]
fn a_clock_that_was_set_back() {
    let (bakfs, source) = small_world();
    let at = |time: &str, text: &str| {
        std::fs::write(source.join("file"), text).unwrap();
        bakfs.backup_at(time, &source).snapshot().to_owned()
    };
    let later = at("2040-05-02T03:00:00Z", "later");
    let earlier = at("2026-05-01T03:00:00Z", "earlier");
    std::fs::write(source.join("file"), "now").unwrap();
    bakfs_testing::until_settled(&source);
    let now = bakfs.backup([&source]).snapshot().to_owned();
    let unchanged = bakfs.backup([&source]);
    assert_eq!(unchanged.number("read_bytes"), 0, "the clock must not cost a whole read");
    let mount = bakfs.mount();
    for (name, text) in [(&later, "later"), (&earlier, "earlier"), (&now, "now")] {
        let shown = mount.at(name, &source).join("file");
        assert_eq!(std::fs::read_to_string(shown).unwrap(), text, "{name}");
    }
    let latest = std::fs::read_link(mount.path().join("latest")).unwrap();
    assert_ne!(latest, Path::new(&now));
    assert_eq!(latest, Path::new(unchanged.snapshot()), "the newest that is not dated in the future");
    bakfs.ok(["check", "--read-data"]);
}

#[test]
fn unreadable_parts_of_the_source_are_named_and_the_rest_is_saved() {
    let bakfs = Bakfs::as_nobody();
    let source = bakfs.make_dir("source");
    let user = bakfs_testing::users::NOBODY;
    bakfs_testing::users::acting_as(user, || {
        std::fs::create_dir(source.join("closed")).unwrap();
        for name in ["readable", "secret\nname", "closed/inside"] {
            std::fs::write(source.join(name), name).unwrap();
        }
        let close = |name: &str| {
            std::fs::set_permissions(source.join(name), PermissionsExt::from_mode(0o000)).unwrap();
        };
        close("secret\nname");
        close("closed");
    });
    let outcome = bakfs.backup_outcome([&source]).expect(3);
    let raw_newline = outcome.stderr.contains("secret\nname");
    assert!(!raw_newline, "names must not break lines: {outcome}");
    let outcome = outcome.says("secret").says("closed");
    assert_eq!(json_of(outcome)["errors"], 2);
    let mount = bakfs.mount();
    let shown = mount.at("latest", &source);
    bakfs_testing::users::acting_as(user, || {
        assert_eq!(std::fs::read_to_string(shown.join("readable")).unwrap(), "readable");
        assert!(std::fs::read(shown.join("secret\nname")).is_err(), "it must not look empty");
    });
}

#[test]
fn a_source_that_does_not_exist() {
    let (bakfs, source) = small_world();
    let missing = bakfs.path("no-such-source");
    bakfs.backup_outcome([&missing]).refused().says("no-such-source");
    let names = || match bakfs.run(["--json", "snapshots"]) {
        outcome if outcome.code == 0 => json_of(outcome).as_array().unwrap().len(),
        _ => 0,
    };
    assert_eq!(names(), 0, "nothing may be committed");
    // Beside one that exists: saved with exit code 3, or refused as a whole; named in any case.
    let outcome = bakfs.backup_outcome([&source, &missing]).says("no-such-source");
    assert!(matches!((outcome.code, names()), (3, 1) | (1 | 2, 0)), "{outcome}");
}

#[test]
fn snapshot_names_that_match_nothing_or_two() {
    let (bakfs, source) = small_world();
    for round in 0..18 {
        std::fs::write(source.join("file"), format!("{round}")).unwrap();
        bakfs.backup([&source]);
    }
    for name in ["nosuch", "1999-12-31", "latest~99", "ffffffffffffffff", "latest~x", "", "-1 days"] {
        let outcome = bakfs.run(["ls", "--", name]).refused();
        assert!(outcome.stdout.is_empty(), "{outcome}");
        bakfs.run(["diff", "--", "latest", name]).refused();
    }
    bakfs.run(["ls", "nosuch"]).refused().says("nosuch").says("bakfs snapshots");
    let missing = format!("latest:{}/no-such-path", source.display());
    bakfs.run(["dump", &missing]).refused().says("no-such-path");
    bakfs.run(["ls", &missing]).refused().says("no-such-path");
    let target = bakfs.path("target").into_os_string();
    let args: [OsString; 3] = ["restore".into(), missing.into(), target];
    bakfs.run(args).refused().says("no-such-path");

    // 18 ids have 16 first digits: some digit begins two of them.
    let snapshots = bakfs.json(["snapshots"]);
    let ids: Vec<_> = snapshots.as_array().unwrap().iter().map(|each| each["id"].as_str().unwrap()).collect();
    let shared = "0123456789abcdef".chars().find(|digit| ids.iter().filter(|id| id.starts_with(*digit)).count() > 1);
    bakfs.run(["ls", &shared.unwrap().to_string()]).refused();
    bakfs.ok(["ls", ids[3]]);
    bakfs.ok(["ls", &ids[3][..12.min(ids[3].len())]]);
}

#[test]
fn wrong_usage() {
    let (bakfs, source) = empty_world();
    for args in [&["no-such-command"][..], &["backup", "--no-such-option"], &[], &["mount"]] {
        bakfs.run(args).expect(2);
    }
    let wrong_time = [OsStr::new("--time"), OsStr::new("yesterdayish"), source.as_os_str()];
    bakfs.backup_outcome(wrong_time).expect(2).says("yesterdayish");
    bakfs.run(["init", "--encryption", "rot13"]).expect(2).says("rot13");
    assert!(!bakfs.repo().exists());
    bakfs.ok(["init"]);
    bakfs.run(["backup", "--stdin", "relative/name"]).expect(2).says("relative/name");
}

#[test]
fn nobody_waits_for_who_may_write_to_a_fifo_in_a_repository() {
    let (bakfs, source) = Bakfs::with_source();
    write(&source.join("a"), b"a");
    bakfs.backup([source.as_os_str()]);
    // The key that opens is another one.
    for (folder, code) in [("marks", 3), ("snapshots", 3), ("keys", 0)] {
        let fifo = bakfs.repo().join(folder).join("a".repeat(64));
        std::fs::create_dir_all(fifo.parent().unwrap()).unwrap();
        bakfs_testing::process::tool("mkfifo", [fifo.as_os_str()]).expect(0);
        let told = bakfs.run(["snapshots"]);
        assert!(told.code == code && told.stderr.contains("aaaaaaaa"), "{folder}: {told}");
        std::fs::remove_file(&fifo).unwrap();
    }
}

#[test]
fn what_no_reader_would_take_is_not_written() {
    let (bakfs, source) = Bakfs::with_source();
    write(&source.join("a"), b"a");
    for time in ["3000 years ago", "-000100-01-01T00:00:00Z"] {
        let option = format!("--time={time}");
        bakfs.run(["backup".as_ref(), option.as_ref(), source.as_os_str()]).expect(2).says("is no time");
    }
    bakfs.run(["backup".as_ref(), "--tag=incomplete".as_ref(), source.as_os_str()]).expect(2).says("lacks something");
    assert!(bakfs.json(["snapshots"]).as_array().unwrap().is_empty());
}
