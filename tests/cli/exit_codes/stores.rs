//! What a store does not give, or does not take, is neither damage nor success.

use bakfs_testing::cli::Bakfs;
use bakfs_testing::process::{Outcome, start};
use bakfs_testing::{SOON, files_below, noise, write};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What network file systems and FUSE servers answer, and rights that are not there.
const ERRORS: [(&str, &str); 5] = [
    ("EPIPE", "Broken pipe"),
    ("EACCES", "Permission denied"),
    ("ESTALE", "Stale file handle"),
    ("ENOTCONN", "Transport endpoint is not connected"),
    ("EIO", "Input/output error"),
];

fn traced(bakfs: &Bakfs, options: &[&str], args: &[&str]) -> Outcome {
    let mut strace = bakfs.wrap("strace");
    let calls = "trace=open,openat,read,pread64,getdents64,fsync,fdatasync";
    strace.args(["-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", calls]).args(options);
    strace.arg(bakfs.command([""]).get_program()).args(args);
    start(strace, false).finish_within(SOON)
}

/// Fails by the store's own words and says nothing of damage.
#[track_caller]
fn is_what_it_is(outcome: Outcome, words: &str) {
    assert_eq!(outcome.code, 1, "{outcome}");
    let said = format!("{}{}", outcome.text(), outcome.stderr);
    assert!(said.contains(words), "{outcome}");
    for wrong in
        ["amaged", "Lost", "is lost", "lost:", "is missing", "are missing", "Nothing to", "No damage", "panicked"]
    {
        assert!(!said.contains(wrong), "{wrong}: {outcome}");
    }
}

fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files_below(folder).into_iter().map(|(path, _)| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn what_cannot_be_read_is_no_damage() {
    let (bakfs, source) = Bakfs::with_source();
    write(&source.join("file"), noise(1, 400_000));
    bakfs.backup([&source]);
    bakfs.ok(["pin", "latest"]);
    let objects = ["keys", "index", "snapshots", "marks", "packs"].map(|kind| bakfs.objects(kind)[0].0.clone());
    let honest = contents(&bakfs.repo());
    for (number, (error, words)) in ERRORS.into_iter().enumerate() {
        for (at, object) in objects.iter().enumerate() {
            // Each kind of object with each error, the commands in turn.
            let commands: [&[&str]; 3] =
                [&["check", "--read-data"], &["repair", "--dry-run", "--read-data"], &["repair", "--read-data"]];
            let command = commands[(number + at) % commands.len()];
            let call = if (number + at).is_multiple_of(2) { "open,openat" } else { "open,openat,pread64,read" };
            let inject = format!("inject={call}:error={error}");
            let outcome = traced(&bakfs, &["-P", object.to_str().unwrap(), "-e", &inject], command);
            is_what_it_is(outcome, words);
            assert!(contents(&bakfs.repo()) == honest, "{command:?} has changed something after {error}");
        }
        let folder = bakfs.repo().join(["snapshots", "index", "packs/00", "marks", "keys"][number]);
        let inject = format!("inject=getdents64:error={error}");
        is_what_it_is(traced(&bakfs, &["-P", folder.to_str().unwrap(), "-e", &inject], &["check"]), words);
    }
    // Another snapshot is not taken for the one that cannot be read.
    write(&source.join("file"), "new");
    let before = bakfs.objects("snapshots");
    bakfs.backup([&source]);
    let newest = bakfs.objects("snapshots").into_iter().find(|object| !before.contains(object)).unwrap().0;
    std::fs::remove_dir_all(bakfs.path("cache")).unwrap();
    let hide = ["-P", newest.to_str().unwrap(), "-e", "inject=open,openat:error=ESTALE"];
    let target = bakfs.path("target");
    is_what_it_is(traced(&bakfs, &hide, &["restore", "latest", target.to_str().unwrap()]), "Stale file handle");
    assert!(!target.exists());
    bakfs.ok(["check", "--read-data"]);
}

#[test]
fn what_cannot_be_stored_is_not_done() {
    let (bakfs, source) = Bakfs::with_source();
    write(&source.join("file"), noise(1, 400_000));
    bakfs.backup_at("2026-01-01T00:00:00Z", &source);
    write(&source.join("file"), noise(2, 400_000));
    bakfs.backup_at("2026-01-02T00:00:00Z", &source);
    let source = source.to_str().unwrap();
    let commands: [&[&str]; 5] =
        [&["backup", source], &["forget", "--keep-last", "1"], &["pin", "latest"], &["prune"], &["init"]];
    for (error, words) in ERRORS {
        for command in commands {
            let inject = format!("inject=fsync,fdatasync:error={error}");
            let place = bakfs.path(error);
            let place = if command == ["init"] { place } else { bakfs.repo() };
            let args: Vec<_> = ["--repo", place.to_str().unwrap()].iter().chain(command).copied().collect();
            let outcome = traced(&bakfs, &["-e", &inject], &args);
            assert!(outcome.stderr.contains(words), "{outcome}");
            assert_eq!(outcome.code, 1, "{outcome}");
        }
        // What was begun is finished, and was no repository before.
        let place = bakfs.path(error);
        let place = place.to_str().unwrap();
        bakfs.run(["--repo", place, "snapshots"]).expect(1);
        bakfs.ok(["--repo", place, "init"]);
        assert_eq!(bakfs.json(["--repo", place, "snapshots"]).as_array().map(Vec::len), Some(0));
    }
    assert_eq!(bakfs.json(["snapshots"]).as_array().map(Vec::len), Some(2));
    bakfs.ok(["check", "--read-data"]);
}
