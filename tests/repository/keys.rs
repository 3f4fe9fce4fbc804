//! Promise: the ways into a repository can be listed, added, changed and taken away, and never the last; and what is
//! stored can be looked into without a secret being shown.

use bakfs_testing::cli::{Bakfs, json_of};
use bakfs_testing::process::Outcome;
use serde_json::Value;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A repository with a passphrase and a recovery key, and one snapshot.
struct World {
    bakfs: Bakfs,
    source: PathBuf,
}

impl World {
    fn new() -> World {
        let bakfs = Bakfs::empty();
        let source = bakfs.make_dir("source");
        std::fs::write(source.join("file"), b"content").unwrap();
        let world = World { source, bakfs };
        let first = world.secret("first", "the first passphrase");
        let made = json_of(world.bakfs.run(["--json", "--password-file", &first, "init"]).expect(0));
        world.secret("recovery", made["recovery_key"].as_str().unwrap());
        world.with("first", &["backup", world.source.to_str().unwrap()]).expect(0);
        world
    }

    /// Writes a secret into a file of its own, and returns its path.
    fn secret(&self, name: &str, text: &str) -> String {
        let path = self.bakfs.path(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs a command with the secret of a file.
    fn with(&self, name: &str, args: &[&str]) -> Outcome {
        let path = self.bakfs.path(name);
        self.bakfs.run(["--password-file", path.to_str().unwrap()].iter().chain(args))
    }

    fn slots(&self, name: &str) -> Vec<(String, String, bool)> {
        let slots = json_of(self.with(name, &["--json", "key", "list"]).expect(0));
        let one = |slot: &Value| {
            let text = |key: &str| slot[key].as_str().unwrap().to_owned();
            (text("id"), text("kind"), slot["used_now"].as_bool().unwrap())
        };
        slots.as_array().unwrap().iter().map(one).collect()
    }

    /// Returns whether a secret opens the repository, so that its content is read.
    fn opens(&self, name: &str) -> bool {
        let path = format!("latest:{}", self.source.join("file").display());
        let dumped = self.with(name, &["dump", &path]);
        match dumped.stdout == b"content" {
            true => drop(dumped.expect(0)),
            false => drop(dumped.refused().says("does not open")),
        }
        self.with(name, &["snapshots"]).code == 0
    }
}

#[test]
fn a_passphrase_is_changed_and_the_old_one_opens_nothing() {
    let world = World::new();
    let new = world.secret("second", "another passphrase");
    world.with("first", &["key", "passwd", "--new-password-file", &new]).expect(0);
    assert!(world.opens("second") && world.opens("recovery"));
    assert!(!world.opens("first"));
    assert_eq!(world.slots("second").len(), 2, "one for the passphrase, one for the recovery key");

    // Who has forgotten it comes in by the recovery key, and is told what the old one was.
    let third = world.secret("third", "a third one");
    let outcome = world.with("recovery", &["key", "passwd", "--new-password-file", &third]).expect(0);
    assert!(world.opens("third") && world.opens("second"));
    let second = world.slots("second").into_iter().find(|slot| slot.2).unwrap().0;
    let outcome = outcome.says(&second[..8]);
    assert!(outcome.stderr.contains("bakfs key remove ID"), "{outcome}");
    world.with("third", &["key", "remove", &second[..8]]).expect(0);
    assert!(!world.opens("second") && world.opens("third"));
    // What was stored before is what it was.
    world.with("third", &["check", "--read-data"]).expect(0);
}

#[test]
fn a_colleague_gets_a_key_and_it_is_taken_away_again() {
    let world = World::new();
    let file = world.bakfs.path("colleague");
    world.with("first", &["key", "add", "--new-key-file", file.to_str().unwrap()]).expect(0);
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
    assert!(world.opens("colleague"));
    assert_eq!(world.slots("colleague").iter().filter(|slot| slot.2).count(), 1, "each is told which one is theirs");
    // A file that is there is nobody's new key.
    let before = std::fs::read(&file).unwrap();
    world.with("first", &["key", "add", "--new-key-file", file.to_str().unwrap()]).refused();
    assert_eq!(std::fs::read(&file).unwrap(), before);

    let theirs = world.slots("colleague").into_iter().find(|slot| slot.2).unwrap().0;
    world.with("first", &["key", "remove", &theirs]).expect(0);
    assert!(!world.opens("colleague") && world.opens("first"));
    assert!(!world.bakfs.repo().join("keys").join(&theirs).exists());
    // Twice is once.
    world.with("first", &["key", "remove", &theirs]).refused().says("bakfs key list");
}

#[test]
fn the_last_way_in_cannot_be_removed_nor_the_one_that_is_used() {
    let world = World::new();
    let objects = |world: &World| world.bakfs.objects("keys");
    let before = objects(&world);
    let own = world.slots("first").into_iter().find(|slot| slot.2).unwrap().0;
    world.with("first", &["key", "remove", &own]).refused().says("nothing was removed");
    assert_eq!(objects(&world), before);
    let other = world.slots("first").into_iter().find(|slot| !slot.2).unwrap().0;
    world.with("first", &["key", "remove", &other]).expect(0);
    world.with("first", &["key", "remove", &own]).refused().says("the only way into the repository");
    assert!(world.opens("first"));
    // Where another one is damaged it is no way in either.
    let added = world.secret("second", "another");
    world.with("first", &["key", "add", "--new-password-file", &added]).expect(0);
    let second = world.slots("second").into_iter().find(|slot| slot.2).unwrap().0;
    std::fs::write(world.bakfs.repo().join("keys").join(&second), b"not a slot any more").unwrap();
    world.with("first", &["key", "remove", &own]).refused().says("nothing was removed");
    assert!(world.opens("first"));
}

#[test]
fn what_cannot_be_a_key_is_refused_with_the_next_step() {
    let world = World::new();
    let before = world.bakfs.objects("keys");
    let empty = world.secret("empty", "");
    world.with("first", &["key", "add", "--new-password-file", &empty]).refused().says("at least a character");
    world.with("first", &["key", "add", "--new-password-file", "/nonexistent"]).refused().says("/nonexistent");
    world.with("first", &["key", "add"]).refused().says("--new-password-file");
    world.with("empty", &["key", "list"]).refused().says("empty");
    world.secret("wrong", "not the passphrase");
    world.with("wrong", &["key", "list"]).refused().says("does not open");
    world.with("first", &["key", "remove", ""]).refused().says("bakfs key list");
    assert_eq!(world.bakfs.objects("keys"), before);
    let plain = Bakfs::empty();
    plain.ok(["init", "--encryption", "none"]);
    plain.run(["key", "list"]).refused().says("not encrypted");
    let nothing = Bakfs::empty();
    nothing.run(["key", "list"]).refused().says("There is no repository");
}

/// Returns the names of objects in a folder of a repository.
fn names(repo: &Path, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(repo.join(folder)).unwrap();
    let mut found = Vec::new();
    for entry in entries.map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(names(&repo.join(folder), &name)),
            false => found.push(name),
        }
    }
    found.sort();
    found
}

#[test]
fn what_relied_on_a_key_that_goes_is_named_and_what_failed_leaves_nothing() {
    let world = World::new();
    // A file that the configuration names holds the old passphrase afterwards.
    let first = world.bakfs.path("first").display().to_string();
    let config = format!("repo = \"{}\"\npassword-file = \"{first}\"\n", world.bakfs.repo().display());
    world.secret("config/bakfs.toml", &config);
    let new = world.secret("second", "another passphrase");
    world.bakfs.run(["key", "passwd", "--new-password-file", &new]).expect(0).says("is the old passphrase");
    // Nor is a key of this machine taken away without a word.
    let slots = world.slots("second");
    let given = slots.iter().find(|slot| slot.2).unwrap().0.clone();
    std::fs::copy(world.bakfs.path("second"), world.bakfs.path("first")).unwrap();
    world.with("recovery", &["key", "remove", &given]).expect(0).says("runs that rely on it fail");

    // A key is not kept where it is of no use, nor made twice.
    let inside = world.bakfs.repo().join("key");
    world.with("recovery", &["key", "add", "--new-key-file", inside.to_str().unwrap()]).refused().says("elsewhere");
    assert!(!inside.exists());
    world
        .with("recovery", &["key", "add", "--new-password-file", world.bakfs.path("recovery").to_str().unwrap()])
        .refused()
        .says("already");
    // A slot that was changed is told of wherever slots are listed.
    world.with("recovery", &["key", "add", "--new-password-file", &new]).expect(0);
    let slot = world.slots("second").into_iter().find(|slot| slot.2).unwrap().0;
    std::fs::write(world.bakfs.repo().join("keys").join(&slot), b"changed").unwrap();
    world.with("recovery", &["key", "list"]).expect(3).says(&slot[..8]);
    // And a wrong passphrase is one, whatever else lies there.
    world.secret("wrong", "not the passphrase");
    world.with("wrong", &["snapshots"]).refused().says("opens nothing");
}

#[test]
fn stored_objects_are_decoded_and_no_secret_is_shown() {
    let world = World::new();
    let repo = world.bakfs.repo();
    let listed = world.with("first", &["debug", "list"]).expect(0).text();
    for folder in ["keys", "packs", "index", "snapshots"] {
        let names = names(&repo, folder);
        assert!(!names.is_empty());
        for name in names {
            let len = bakfs_testing::files_below(&repo.join(folder))
                .into_iter()
                .find(|(path, _)| path.ends_with(&name))
                .unwrap()
                .1;
            assert!(listed.contains(&format!("{name}  {len}\n")), "{folder}/{name} in {listed}");
            let shown = world.with("first", &["debug", "cat", &format!("{folder}/{}", &name[..12])]).expect(0);
            let _: Value = serde_json::from_slice(&shown.stdout).unwrap();
        }
    }
    let shown = |object: &str| -> Value {
        serde_json::from_slice(&world.with("first", &["debug", "cat", object]).expect(0).stdout).unwrap()
    };
    let snapshot = shown(&format!("snapshots/{}", names(&repo, "snapshots")[0]));
    assert_eq!(snapshot["sources"][0], world.source.to_str().unwrap());
    assert_eq!(shown("config")["is_encrypted"], true);
    let key = shown(&format!("keys/{}", names(&repo, "keys")[0]));
    assert!(key.as_object().unwrap().keys().all(|key| matches!(&**key, "kind" | "argon2id")), "{key}");
    // A repository without encryption keeps its key in the configuration, and that is not shown either.
    let plain = Bakfs::empty();
    plain.ok(["init", "--encryption", "none"]);
    let config = plain.ok(["debug", "cat", "config"]).text();
    assert!(!config.contains("key"), "{config}");
    world.with("first", &["debug", "cat", "packs/"]).refused().says("bakfs debug list");
    world.with("first", &["debug", "cat", "nonsense"]).refused().says("bakfs debug list");
    let marks = world.with("first", &["debug", "marks"]).expect(0).text();
    assert_eq!(marks.lines().count(), names(&repo, "marks").len());
    let index = world.with("first", &["debug", "index"]).expect(0).text();
    let packs = names(&repo, "packs");
    assert!(packs.iter().all(|pack| index.contains(pack)), "{index}");
}

#[test]
fn a_path_is_told_the_packs_it_needs_and_those_that_are_gone() {
    let world = World::new();
    let file = world.source.join("file");
    let (of_file, of_all) = (format!("latest:{}", file.display()), "latest");
    let why = |path: &str| json_of(world.with("first", &["--json", "debug", "why", path]));
    let (needs, all) = (why(&of_file), why(of_all));
    let packs = |needs: &Value, kind: &str| -> Vec<String> {
        let packs = needs["packs"].as_array().unwrap().iter().filter(|pack| pack["kind"] == kind);
        packs.map(|pack| pack["pack"].as_str().unwrap().to_owned()).collect()
    };
    let data = packs(&needs, "data");
    assert_eq!((data.len(), packs(&needs, "tree").len()), (1, 1));
    let bytes = |needs: &Value| -> u64 {
        needs["packs"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|pack| pack["kind"] == "data")
            .map(|p| p["plain_bytes"].as_u64().unwrap())
            .sum()
    };
    assert_eq!((bytes(&needs), bytes(&all)), (7, 7));
    let chunks = |needs: &Value| -> u64 {
        needs["packs"].as_array().unwrap().iter().map(|pack| pack["chunks"].as_u64().unwrap()).sum()
    };
    assert!(chunks(&all) >= chunks(&needs));
    // Judged by taking the pack away: the file cannot be read without it, and its path can still be told.
    let repo = world.bakfs.repo();
    let pack =
        bakfs_testing::files_below(&repo.join("packs")).into_iter().find(|(path, _)| path.ends_with(&data[0])).unwrap();
    std::fs::remove_file(pack.0).unwrap();
    world.with("first", &["dump", &of_file]).refused();
    world.with("first", &["ls", &format!("latest:{}", world.source.display())]).expect(0);
    let told = json_of(world.with("first", &["--json", "debug", "why", &of_file]).expect(1));
    assert_eq!(told["missing_packs"][0], data[0].as_str());
    world.with("first", &["debug", "why", "latest:/nothing/there"]).refused();
}
