//! Standard input becomes a file of a snapshot, however it comes and ends.

use bakfs_testing::cli::{Bakfs, json_of};
use bakfs_testing::process::{self, Outcome};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// Stores what a shell command prints.
fn store(bakfs: &Bakfs, printing: &str, args: &[&str]) -> Outcome {
    let mut shell = bakfs.wrap("sh");
    shell.args(["-c", &format!("{printing} \"$0\" \"$@\"")]).arg(bakfs.command([""]).get_program());
    process::run(shell_with(shell, args))
}

fn shell_with(mut shell: std::process::Command, args: &[&str]) -> std::process::Command {
    shell.args(["--json", "backup", "--stdin"]).args(args);
    shell
}

#[test]
fn standard_input_is_stored_as_a_file_in_folders_everybody_may_pass() {
    let bakfs = Bakfs::new();
    let before = std::time::SystemTime::now();
    let summary = json_of(store(&bakfs, "printf one |", &["/srv/db/shop.sql", "--tag", "shop"]).expect(0));
    assert_eq!((&summary["files_new"], &summary["read_bytes"]), (&1.into(), &3.into()), "{summary}");
    let listed = bakfs.json(["snapshots"]);
    assert_eq!(listed[0]["paths"], serde_json::json!(["/srv/db/shop.sql"]), "{listed}");
    let mount = bakfs.mount();
    let at = |path: &str| mount.path().join("latest").join(path);
    let folders = ["", "srv", "srv/db"].map(at).map(|path| path.metadata().unwrap());
    for folder in &folders {
        assert_eq!((folder.permissions().mode() & 0o7777, folder.uid(), folder.is_dir()), (0o755, 0, true));
        assert!(folder.modified().unwrap() >= before - std::time::Duration::from_secs(1), "made when it was stored");
    }
    let file = at("srv/db/shop.sql");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(std::fs::read(file).unwrap(), b"one");
    drop(mount);

    // Each night's is a new one, however little of it is left.
    let summary = json_of(store(&bakfs, "printf x |", &["/srv/db/shop.sql", "--tag", "shop"]).expect(0));
    assert_eq!((&summary["files_new"], &summary["files_changed"]), (&1.into(), &0.into()), "{summary}");
    assert_eq!(summary["parent"], listed[0]["name"], "{summary}");
    // An empty one is told, whatever is allowed.
    store(&bakfs, "printf '' |", &["/srv/db/shop.sql", "--allow-empty"]).expect(3).says("standard input was empty");
    let listed = bakfs.json(["snapshots"]);
    assert_eq!(listed[2]["tags"], serde_json::json!(["incomplete"]), "{listed}");
}

#[test]
fn standard_input_that_breaks_off_commits_nothing() {
    let bakfs = Bakfs::new();
    // A folder cannot be read (EISDIR).
    let mut shell = bakfs.wrap("sh");
    shell.args(["-c", "exec \"$0\" \"$@\" <\"$HOME\""]).arg(bakfs.command([""]).get_program());
    let outcome = process::run(shell_with(shell, &["/shop.sql"])).expect(1);
    outcome.says("The stream could not be read to its end, nothing was committed");
    assert_eq!(bakfs.json(["snapshots"]), serde_json::json!([]));
}
