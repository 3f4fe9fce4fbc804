//! Promise: a repository gets features while other machines use it, and whoever does not know one keeps to its class, by
//! name; what is damaged, lost or put back lowers none.

use bakfs::error::ErrorKind;
use bakfs::format::feature::{Act, Feature, Required};
use bakfs::format::header::Kind;
use bakfs::format::mark::{Mark, SessionKind};
use bakfs::repo::Repository;
use bakfs::repo::features::{COPIES, raise};
use bakfs::repo::objects::{object_id, seal_object};
use bakfs::repo::shared::session::Session;
use bakfs::store::{Names, Object};
use bakfs_testing::cli::{Bakfs, json_of};
use bakfs_testing::features::{feature, open, raise_in};
use bakfs_testing::process::Outcome;
use bakfs_testing::{SOON, until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A repository with three snapshots, one of them pinned and one forgotten.
struct World {
    bakfs: Bakfs,
    source: PathBuf,
}

impl World {
    fn new() -> World {
        let (bakfs, source) = Bakfs::with_source();
        for day in 1..=3 {
            std::fs::write(source.join("file"), format!("content {day}")).unwrap();
            bakfs.backup_at(&format!("2026-11-0{day} 03:00"), &source);
        }
        bakfs.ok(["pin", "latest", "--reason", "audit"]);
        bakfs.ok(["forget", "2026-11-01T03-00-00Z"]);
        let new = bakfs.path("new");
        std::fs::write(&new, "a new passphrase\n").unwrap();
        std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let profile = format!("repo = {:?}\n[profile.p]\nsources = [{source:?}]\n", bakfs.repo());
        std::fs::write(bakfs.path("config/bakfs.toml"), profile).unwrap();
        World { bakfs, source }
    }

    fn path(&self, name: &str) -> String {
        self.bakfs.path(name).to_str().unwrap().to_owned()
    }

    fn run(&self, line: &str) -> Outcome {
        let source = self.source.to_str().unwrap();
        let words = line.split(' ').map(|word| {
            word.replace("SOURCE", source).replace("NEW", &self.path("new")).replace("OUT", &self.path("out"))
        });
        self.bakfs.run(words)
    }

    /// Returns what is stored and what it says, to see that nothing was changed.
    fn stored(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut all = Vec::new();
        for kind in ["keys", "packs", "index", "snapshots", "marks"] {
            let objects = self.bakfs.objects(kind).into_iter();
            all.extend(objects.map(|(path, _)| (path.clone(), std::fs::read(path).unwrap())));
        }
        all.sort();
        all
    }

    fn features(&self) -> Vec<Value> {
        json_of(self.run("debug features --json")).as_array().unwrap().clone()
    }

    /// Returns the records of features, by trying which objects say so.
    fn records(&self) -> Vec<PathBuf> {
        let repository = open(&self.bakfs);
        let marks = repository.listed_features().unwrap().0;
        let marks_folder = self.bakfs.repo().join("marks");
        marks.features().map(|(id, _)| marks_folder.join(id.to_hex())).collect()
    }
}

const READING: [&str; 11] = [
    "snapshots",
    "ls latest:SOURCE",
    "find file",
    "diff latest latest",
    "dump latest:SOURCE/file",
    "stats",
    "check --read-data",
    "restore latest:SOURCE OUT",
    "debug list",
    "debug marks",
    "debug why latest:SOURCE",
];
const ADDING: [&str; 3] = ["backup SOURCE", "pin latest", "key add --new-password-file NEW"];
const REMOVING: [&str; 10] = [
    "forget 2026-11-02T03-00-00Z",
    "forget --keep-last 1",
    "forget --undo 2026-11-01T03-00-00Z",
    "unpin latest",
    "prune",
    "prune --dry-run",
    "repair",
    "repair --dry-run",
    "key remove 0",
    "key passwd --new-password-file NEW",
];

/// Returns whether a command was refused because of a feature, by its name.
fn is_refused(outcome: &Outcome, feature: &Feature) -> bool {
    if !outcome.stderr.contains("has the feature") {
        return false;
    }
    let said = [&*format!("`{}`", feature.name), &format!("number {}", feature.number), &feature.text, "bakfs 99.1.0"];
    assert!(said.iter().all(|part| outcome.stderr.contains(part)), "{outcome}");
    assert_eq!(outcome.code, 1, "{outcome}");
    assert!(!outcome.stderr.contains("repair"), "nothing is damaged: {outcome}");
    true
}

#[test]
fn every_command_keeps_to_the_class_of_a_feature_that_it_does_not_know() {
    for (required, forbidden) in [
        (Required::ByNobody, [false, false, false]),
        (Required::ToRemove, [false, false, true]),
        (Required::ToWrite, [false, true, true]),
        (Required::ToRead, [true, true, true]),
    ] {
        let world = World::new();
        let feature = feature(9001, required);
        let raised = raise_in(&world.bakfs, &feature);
        assert_eq!((raised.records.len(), raised.sessions.len()), (COPIES, 0));
        // A run backs up where it may, and says what it could not prune.
        let run = world.run("run p");
        let [_, adds, removes] = forbidden;
        assert_eq!(
            (run.stderr.contains(&feature.name), run.code),
            (removes, [0, 3, 1][usize::from(adds) + usize::from(removes)]),
            "{run}"
        );
        let groups: [&[&str]; 3] = [&READING, &ADDING, &REMOVING];
        for (commands, is_forbidden) in groups.into_iter().zip(forbidden) {
            for line in commands {
                let before = world.stored();
                let outcome = world.run(line);
                // A key that is none is refused before a feature could forbid to remove it.
                if *line != "key remove 0" {
                    assert_eq!(is_refused(&outcome, &feature), is_forbidden, "{required:?}: {outcome}");
                }
                if is_forbidden {
                    assert!(world.stored() == before, "{required:?}: {line} has changed something");
                } else if commands != REMOVING {
                    outcome.expect(0);
                }
            }
        }
        // Whatever it forbids, it is shown, and who has the keys is.
        let shown = world.features();
        assert_eq!(shown.len(), 1);
        assert_eq!((shown[0]["number"].as_u64(), shown[0]["records"].as_u64()), (Some(9001), Some(COPIES as u64)));
        assert_eq!(shown[0]["is_known"], false);
        let text = world.run("debug features").expect(0).text();
        assert!(text.contains("9001") && text.contains("99.1.0") && text.contains(&feature.text), "{text}");
        world.run("key list").expect(0);
    }
}

#[test]
fn a_mount_shows_what_may_be_read_and_nothing_once_that_is_forbidden() {
    let world = World::new();
    raise_in(&world.bakfs, &feature(9001, Required::ToWrite));
    let mount = world.bakfs.mount();
    let list = || std::fs::read_dir(mount.path()).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    assert_eq!(std::fs::read_to_string(mount.at("latest", &world.source.join("file"))).unwrap(), "content 3");
    assert!(list().unwrap().len() > 2);
    raise_in_store_that_knows(&world.bakfs, &feature(9002, Required::ToRead));
    until("the listing is an error", SOON, || list().is_err());
    let log = || std::fs::read_to_string(world.bakfs.path("cache/mount.log")).unwrap_or_default();
    until("the log says why", SOON, || log().contains("write-only-keys-9002"));
    drop(mount);
    let line = ["mount".to_owned(), world.path("mnt")];
    assert!(is_refused(&world.bakfs.run(&line), &feature(9002, Required::ToRead)));
}

/// Raises a feature as a program does that knows those there are.
fn raise_in_store_that_knows(bakfs: &Bakfs, feature: &Feature) {
    put(&open(bakfs), &Mark::Feature(feature.clone()).encode());
}

/// Stores a mark of whatever kind, as a newer bakfs would.
fn put(repository: &Repository, plain: &[u8]) -> PathBuf {
    let bytes = seal_object(repository.vault(), Kind::Mark, plain);
    let id = object_id(&bytes);
    repository.store().put(Object::Mark(id), &bytes).unwrap();
    repository.store().barrier(Names::Mine).unwrap();
    Path::new("marks").join(id.to_hex())
}

#[test]
fn one_record_that_is_left_or_one_machine_that_remembers_keeps_a_feature() {
    let world = World::new();
    let feature = feature(9001, Required::ToWrite);
    raise_in(&world.bakfs, &feature);
    let [first, second, third] = &world.records()[..] else { panic!("there are three records") };
    // This machine has seen nothing yet: what is left of the records has to do.
    let mut bytes = std::fs::read(first).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(first, bytes).unwrap();
    std::fs::write(second, []).unwrap();
    assert!(is_refused(&world.run("backup SOURCE"), &feature));
    world.run("ls latest:SOURCE").expect(0);
    // From here on it has seen the feature.
    for lost in [first, second, third] {
        std::fs::remove_file(lost).unwrap();
    }
    assert!(is_refused(&world.run("backup SOURCE"), &feature));
    world.run("ls latest:SOURCE").expect(0).says("No mark tells any more of the feature `write-only-keys-9001`");
    assert_eq!(world.features()[0]["records"], 0);
    // Who has forgotten it, and finds no record, has nothing to go by.
    std::fs::remove_dir_all(world.bakfs.path("state/known")).unwrap();
    world.run("backup SOURCE").expect(0);
}

#[test]
fn records_are_written_again_and_no_recall_and_no_prune_takes_them() {
    for healer in ["prune", "repair"] {
        let world = World::new();
        let feature = feature(9001, Required::ByNobody);
        raise_in(&world.bakfs, &feature);
        world.run("snapshots").expect(0);
        for lost in world.records() {
            std::fs::remove_file(lost).unwrap();
        }
        world.run(healer);
        assert_eq!(world.records().len(), COPIES, "after {healer}");
        // Once more nothing is written.
        let before = world.records();
        world.run(healer).expect(0);
        assert_eq!(world.records(), before);
        let repository = open(&world.bakfs);
        for (id, _) in repository.listed_features().unwrap().0.features() {
            repository.recall(id).unwrap();
        }
        world.run("forget 2026-11-02T03-00-00Z").expect(0);
        world.run("prune").expect(0);
        assert_eq!(world.records().len(), COPIES, "what was raised stays raised");
    }
}

#[test]
fn two_machines_that_raise_at_once_are_both_heard() {
    let world = World::new();
    let features = [feature(9001, Required::ByNobody), feature(9002, Required::ToRemove)];
    let barrier = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        // Two of them raise the same one.
        for at in 0..4 {
            let (feature, barrier, bakfs) = (&features[at % 2], &barrier, &world.bakfs);
            scope.spawn(move || {
                let repository = open(bakfs);
                barrier.wait();
                raise(&repository, feature).unwrap();
            });
        }
    });
    let shown = world.features();
    assert_eq!(shown.iter().map(|shown| shown["number"].as_u64().unwrap()).collect::<Vec<_>>(), [9001, 9002]);
    assert!(shown.iter().all(|shown| shown["records"].as_u64().unwrap() >= COPIES as u64), "{shown:?}");
    assert!(is_refused(&world.run("prune"), &features[1]));
    // The strictest of what is said of one counts, and no later record lowers it.
    raise_in(&world.bakfs, &feature(9002, Required::ToWrite));
    raise_in_store_that_knows(&world.bakfs, &feature(9002, Required::ByNobody));
    assert!(is_refused(&world.run("backup SOURCE"), &feature(9002, Required::ToWrite)));
}

#[test]
fn who_began_before_a_feature_was_raised_is_named_and_does_not_commit() {
    let world = World::new();
    let writing = Arc::new(open(&world.bakfs));
    let session = Session::begin_backup(&writing).unwrap();
    let raised = raise_in(&world.bakfs, &feature(9001, Required::ToWrite));
    assert_eq!(raised.sessions.len(), 1, "who may not know of it is waited for");
    assert_eq!(raised.sessions[0].id, session.id());
    let error = session.check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    drop(session);
    let again = raise_in(&world.bakfs, &feature(9001, Required::ToWrite));
    assert!(again.records.is_empty() && again.sessions.is_empty(), "{again:?}");
    // Who is silent about it goes on, and who only removes less is not stopped by it.
    let world = World::new();
    let writing = Arc::new(open(&world.bakfs));
    let backup = Session::begin_backup(&writing).unwrap();
    raise_in(&world.bakfs, &feature(9001, Required::ToRemove));
    backup.check().unwrap();
    let error = Session::begin_alone(&writing, &|_| true).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    assert_eq!(open(&world.bakfs).marks().unwrap().sessions(SessionKind::Prune).count(), 0, "it has ended");
    let marks = writing.marks().unwrap();
    assert!(writing.require(Act::Add, &marks).is_ok() && writing.require(Act::Remove, &marks).is_err());
}

#[test]
fn marks_that_a_feature_adds_say_nothing_and_others_of_newer_kinds_are_no_damage() {
    let world = World::new();
    let own = |kind: u32| [&kind.to_le_bytes()[..], b"what a newer bakfs says"].concat();
    let explained = put(&open(&world.bakfs), &own(40));
    // Of a kind that nothing explains.
    world.run("prune").refused().says("mark of kind 40, which a newer bakfs has written: install the newest");
    world.run("forget 2026-11-02T03-00-00Z").refused().says("mark of kind 40");
    world.run("repair").refused().says("mark of kind 40");
    world.run("repair --dry-run").refused().says("mark of kind 40");
    let check = world.run("check");
    assert_ne!(check.code, 0, "{check}");
    assert!(!format!("{check}").contains("bakfs repair"), "{check}");
    world.run("ls latest:SOURCE").expect(0);
    // The feature names it, and may be unknown.
    raise_in(&world.bakfs, &feature(9001, Required::ByNobody));
    for line in ["backup SOURCE", "check", "forget 2026-11-02T03-00-00Z", "prune", "repair", "check"] {
        let outcome = world.run(line).expect(0);
        assert!(outcome.stderr.trim().is_empty(), "{outcome}");
    }
    assert!(world.bakfs.repo().join(&explained).is_file(), "what it does not know it leaves");
    let unexplained = put(&open(&world.bakfs), &own(41));
    world.run("prune").refused().says("mark of kind 41");
    assert!(world.bakfs.repo().join(&unexplained).is_file());
}
