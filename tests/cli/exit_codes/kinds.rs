//! One real failure for each kind of error that a person may meet.

use super::error_of;
use bakfs::error::ErrorKind;
use bakfs_testing::cli::Bakfs;
use bakfs_testing::device::Device;
use bakfs_testing::process::start;
use bakfs_testing::{SOON, noise, until, write};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Stdio};

fn kind_of<S: AsRef<OsStr>>(bakfs: &Bakfs, args: impl IntoIterator<Item = S>) -> (String, i32) {
    let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
    error_of(bakfs.run([OsStr::new("--json").to_owned()].into_iter().chain(args)))
}

fn failed(word: &str) -> (String, i32) {
    (word.to_owned(), 1)
}

#[test]
fn every_kind_has_one_word_and_stands_in_the_documents() {
    let words: BTreeSet<_> = ErrorKind::ALL.iter().map(|kind| kind.word()).collect();
    assert_eq!(words.len(), ErrorKind::ALL.len());
    let page = std::fs::read_to_string("docs/operations.md").unwrap();
    for word in words {
        assert!(page.contains(&format!("`{word}`")), "docs/operations.md does not name {word}");
    }
}

#[test]
fn what_is_not_there_or_not_right_has_its_kind() {
    let bakfs = Bakfs::empty();
    assert_eq!(kind_of(&bakfs, ["snapshots"]), failed("no-repository"));
    assert_eq!(kind_of(&bakfs, ["snapshots", "--nosuch"]), ("usage".into(), 2));
    bakfs.ok(["init"]);
    assert_eq!(kind_of(&bakfs, ["init"]), failed("exists"));
    assert_eq!(kind_of(&bakfs, ["ls", "latest"]).0, "not-found");
    assert_eq!(kind_of(&bakfs, ["restore", "latest", "t", "--include", "a["]), ("usage".into(), 2));
    write(&bakfs.make_dir("other").join("file"), "x");
    assert_eq!(kind_of(&bakfs, ["--repo", bakfs.path("other").to_str().unwrap(), "snapshots"]), failed("unsupported"));
    let repo = bakfs.repo();
    std::fs::rename(&repo, bakfs.path("away")).unwrap();
    assert_eq!(kind_of(&bakfs, ["snapshots"]), failed("no-repository"));
    // Another repository in its place.
    let stranger = Bakfs::new();
    std::fs::rename(stranger.repo(), &repo).unwrap();
    assert_eq!(kind_of(&bakfs, ["snapshots"]), failed("exchanged"));
}

#[test]
fn keys_that_are_wrong_or_not_there_say_where_they_came_from() {
    let bakfs = Bakfs::new();
    let with = |variables: &[(&str, &str)], args: &[&str]| {
        let mut command = bakfs.command(["--json", "snapshots"].iter().chain(args));
        command.envs(variables.iter().copied());
        start(command, false).finish()
    };
    let key = std::fs::read_dir(bakfs.path("config/keys")).unwrap().next().unwrap().unwrap().path();
    let left = with(&[("BAKFS_PASSWORD", "left over")], &[])
        .says("BAKFS_PASSWORD")
        .says("take BAKFS_PASSWORD away")
        .says(key.to_str().unwrap());
    assert!(!left.stderr.contains("left over"), "{left}");
    assert_eq!(error_of(left), failed("wrong-key"));
    write(&bakfs.path("pass"), "wrong");
    std::fs::set_permissions(bakfs.path("pass"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let pass = bakfs.path("pass").to_str().unwrap().to_owned();
    assert_eq!(error_of(with(&[], &["--password-file", &pass]).says("--password-file")), failed("wrong-key"));
    assert_eq!(
        error_of(with(&[], &["--password-command", "echo wrong"]).says("--password-command")),
        failed("wrong-key")
    );
    write(
        &bakfs.path("config/bakfs.toml"),
        format!("repo = {:?}\npassword-file = {pass:?}\n", bakfs.repo().to_str().unwrap()),
    );
    assert_eq!(error_of(with(&[], &[]).says("`password-file` of the configuration")), failed("wrong-key"));
    std::fs::remove_file(bakfs.path("config/bakfs.toml")).unwrap();
    std::fs::remove_file(&key).unwrap();
    assert_eq!(kind_of(&bakfs, ["snapshots"]), failed("no-key"));
}

#[test]
fn damage_rights_room_and_networks_have_their_kinds() {
    bakfs_testing::need_root();
    let (bakfs, source) = Bakfs::with_source();
    write(&source.join("file"), noise(1, 300_000));
    bakfs.backup([&source]);
    let config = bakfs.repo().join("config");
    let honest = std::fs::read(&config).unwrap();
    let mut bent = honest.clone();
    *bent.last_mut().unwrap() ^= 1;
    std::fs::remove_file(&config).unwrap();
    write(&config, bent);
    std::fs::remove_dir_all(bakfs.path("config/known")).ok();
    std::fs::remove_dir_all(bakfs.path("state/known")).ok();
    assert_eq!(kind_of(&bakfs, ["snapshots"]), failed("damaged"));
    std::fs::remove_file(&config).unwrap();
    write(&config, honest);
    let user = Bakfs::as_nobody();
    std::fs::set_permissions(user.repo().join("config"), std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    std::os::unix::fs::chown(user.repo().join("config"), Some(0), Some(0)).unwrap();
    assert_eq!(kind_of(&user, ["snapshots"]), failed("denied"));
    let disk = Device::memory(&bakfs.path("disk"), 2);
    let small = disk.path().join("repo");
    write(&source.join("large"), noise(2, 9_000_000));
    bakfs.ok(["--repo", small.to_str().unwrap(), "init"]);
    assert_eq!(
        kind_of(&bakfs, ["--repo", small.to_str().unwrap(), "backup", source.to_str().unwrap()]),
        failed("full")
    );
    let mut far = bakfs.command(["--json", "--repo", "s3://bucket/r", "snapshots"]);
    far.envs([("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:1")]);
    assert_eq!(error_of(start(far, false).finish()), failed("unreachable"));
}

#[test]
fn what_another_program_is_in_the_way_of_is_busy() {
    let (bakfs, source) = Bakfs::with_source();
    bakfs.backup([&source]);
    bakfs.ok(["pin", "latest"]);
    let marks = || std::fs::read_dir(bakfs.repo().join("marks")).unwrap().map(|mark| mark.unwrap().path());
    let pin = marks().next().unwrap();
    let before = marks().count();
    let mut backup: Command = bakfs.command(["backup", "--stdin", "/stream"]);
    let mut backup = backup.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the backup has begun", SOON, || marks().count() > before);
    let mut bytes = std::fs::read(&pin).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::remove_file(&pin).unwrap();
    write(&pin, bytes);
    assert_eq!(kind_of(&bakfs, ["repair"]), failed("busy"));
    backup.stdin.take().unwrap().write_all(b"x").unwrap();
    backup.wait().unwrap();
}
