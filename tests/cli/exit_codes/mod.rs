//! Promise: the exit code, and with `--json` the kind of error, tell what happened: what was not taken whole is no
//! success, what a store does not give is neither damaged nor lost nor done, and every kind has a word of its own.

mod kinds;
mod stores;

use bakfs_testing::cli::{Bakfs, json_of};
use bakfs_testing::process::{Outcome, run, start, tool};
use bakfs_testing::{noise, write};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Runs a command whose standard output is something else than a file of the test's.
fn run_into(mut command: Command, stdout: impl Into<Stdio>) -> (i32, String) {
    let output = command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!stderr.contains("panicked"), "{stderr}");
    (output.status.code().unwrap_or(-1), stderr)
}

/// A pipe whose reader has gone.
fn deserted() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// Returns commands with how they end where the reader of standard output has gone.
fn commands(file: &str, source: &str, target: &str) -> Vec<(Vec<String>, i32)> {
    let whole = 1;
    let listings =
        ["--help", "--version", "help", "backup --help", "snapshots", "ls -R latest", "find *", "stats", "man"];
    let wholes = [
        "--json snapshots",
        "--json ls -R latest",
        "--json find *",
        "--json stats",
        "--json check",
        "--json backup SOURCE",
        "--json restore latest TARGET",
        "--json prune",
        "--json forget --keep-last 9",
        "--json pin latest",
        "dump latest:FILE",
        "dump --archive tar latest:SOURCE",
        "backup --dry-run SOURCE",
        "restore --dry-run latest TARGET",
        "prune --dry-run",
        "repair --dry-run",
        "forget --keep-last 1 --dry-run",
        "completions bash",
        "diff 2026-01-01T12:00:00Z 2026-01-02T12:00:00Z",
    ];
    let words = |line: &str| {
        let place = |word: &str| word.replace("FILE", file).replace("SOURCE", source).replace("TARGET", target);
        line.split(' ').map(place).collect()
    };
    let listings = listings.iter().map(|line| (words(line), 0));
    listings.chain(wholes.iter().map(|line| (words(line), whole))).collect()
}

/// Makes a repository with two snapshots of a source; returns a large file of it, and a place for restores.
fn two_snapshots() -> (Bakfs, PathBuf, [String; 2]) {
    let (bakfs, source) = Bakfs::with_source();
    write(&source.join("big"), noise(1, 3_000_000));
    bakfs.backup_at("2026-01-01T00:00:00Z", &source);
    write(&source.join("small"), "more");
    bakfs.backup_at("2026-01-02T00:00:00Z", &source);
    let paths = [source.join("big"), bakfs.path("target")].map(|path| path.to_str().unwrap().to_owned());
    (bakfs, source, paths)
}

#[test]
fn what_was_not_taken_whole_is_no_success_but_for_listings() {
    let (bakfs, source, [file, target]) = two_snapshots();
    for (args, of_deserted) in commands(&file, source.to_str().unwrap(), &target) {
        let (code, stderr) = run_into(bakfs.command(&args), deserted());
        assert_eq!(code, of_deserted, "{args:?} into a pipe without a reader: {stderr}");
        assert_eq!(code == 0, stderr.is_empty(), "{args:?}: {stderr}");
        let (code, stderr) = run_into(bakfs.command(&args), full());
        assert!(code == 1 && stderr.contains("No space left"), "{args:?} into /dev/full: {code} {stderr}");
    }
    // What was done stays done, and that it could not be told is told.
    let (code, stderr) = run_into(bakfs.command(["-v", "backup", source.to_str().unwrap()]), full());
    assert!(code == 0 && stderr.contains("warning: Standard output could not be written"), "{code} {stderr}");
    // A FIFO whose reader goes after a few bytes.
    let fifo = bakfs.path("fifo");
    tool("mkfifo", [&fifo]).expect(0);
    let mut reader = Command::new("head").args(["-c", "10"]).arg(&fifo).stdout(Stdio::null()).spawn().unwrap();
    let (code, stderr) = run_into(
        bakfs.command(["dump", &format!("latest:{file}")]),
        OpenOptions::new().write(true).open(&fifo).unwrap(),
    );
    reader.wait().unwrap();
    assert!(code == 1 && stderr.contains("Broken pipe"), "{code} {stderr}");
}

/// As a shell starts a program without some of its standard streams, or with an output that can only be read.
fn without(bakfs: &Bakfs, streams: &str, args: &[String]) -> Outcome {
    let mut shell = bakfs.wrap("sh");
    shell.args(["-c", &format!("exec \"$0\" \"$@\" {streams}")]).arg(bakfs.command([""]).get_program()).args(args);
    run(shell)
}

#[test]
fn nothing_is_written_where_there_is_no_standard_output() {
    let (bakfs, source, [file, target]) = two_snapshots();
    for (number, (args, _)) in commands(&file, source.to_str().unwrap(), &target).into_iter().enumerate() {
        let streams = ["1>&-", "1</dev/null", "0<&- 1>&-"][number % 3];
        without(&bakfs, streams, &args).expect(1).says("Bad file descriptor");
        assert_eq!(without(&bakfs, "1>&- 2>&-", &args).code, 1, "{args:?}");
    }
    // What is done stays done, and needs no output.
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let backup = words(&format!("backup {}", source.display()));
    let before = bakfs.objects("snapshots").len();
    for streams in ["1>&-", "2>&-", "0<&- 1>&- 2>&-", "1>&- 2>&-"] {
        assert_eq!(without(&bakfs, streams, &backup).expect(0).stderr, "");
    }
    without(&bakfs, "1>&-", &[words("-v"), backup].concat()).expect(0).says("warning: Standard output could not be");
    assert_eq!(bakfs.objects("snapshots").len(), before + 5);
    bakfs.ok(["check", "--read-data"]);
    // No file of the repository takes the place of a stream: /dev/null does.
    let mount = bakfs.path("mnt");
    let mut shell = bakfs.wrap("sh");
    shell.args(["-c", "exec \"$0\" mount --foreground \"$1\" 0<&- 1>&- 2>&-"]);
    shell.arg(bakfs.command([""]).get_program()).arg(&mount);
    let running = start(shell, false);
    bakfs_testing::until("it is mounted", bakfs_testing::SOON, || bakfs_testing::cli::is_mounted(&mount));
    let mounted = bakfs.adopt(mount);
    for number in 0..3 {
        let link = format!("/proc/{}/fd/{number}", mounted.daemons()[0]);
        assert_eq!(std::fs::read_link(link).unwrap().to_str(), Some("/dev/null"));
    }
    mounted.unmount();
    running.finish().expect(0);
}

#[test]
fn an_empty_standard_input_is_named_and_its_snapshot_takes_nobodys_place() {
    let bakfs = Bakfs::new();
    let args = ["--json", "backup", "--stdin", "/db/shop.sql", "--tag", "db"];
    for closing in ["</dev/null", "<&-"] {
        let mut shell = bakfs.wrap("sh");
        shell.args(["-c", &format!("exec \"$0\" \"$@\" {closing}")]).arg(bakfs.command([""]).get_program()).args(args);
        let outcome = run(shell).expect(3).says("/db/shop.sql: standard input was empty");
        assert_eq!(json_of(outcome)["errors"], 1);
    }
    let listed = bakfs.json(["snapshots"]);
    assert_eq!(listed[0]["tags"], serde_json::json!(["db", "incomplete"]), "{listed}");
    let mut command = bakfs.command(args);
    write(&bakfs.path("dump"), "x");
    command.stdin(File::open(bakfs.path("dump")).unwrap());
    start(command, true).finish().expect(0);
}

#[test]
fn names_that_are_no_text_are_told_apart_in_json() {
    let (bakfs, source) = Bakfs::with_source();
    let names: [&[u8]; 3] = [b"a\xff", b"a\\xff", b"a\xfe"];
    for name in names {
        write(&source.join(OsStr::from_bytes(name)), "");
        let link = [b"link-", name].concat();
        std::os::unix::fs::symlink(OsStr::from_bytes(name), source.join(OsStr::from_bytes(&link))).unwrap();
    }
    bakfs.backup([&source]);
    let lossless = |entry: &Value, field: &str| -> Vec<u8> {
        use base64::Engine;
        match entry[format!("{field}_bytes")].as_str() {
            Some(text) => base64::engine::general_purpose::STANDARD.decode(text).unwrap(),
            None => entry[field].as_str().unwrap().as_bytes().to_vec(),
        }
    };
    let below = format!("latest:{}", source.display());
    let listed = bakfs.json(["ls", &below]);
    let found = bakfs.json(["find", "a*"]);
    let path = |name: &[u8]| [source.as_os_str().as_bytes(), b"/", name].concat();
    for name in names {
        let of_file = |entry: &&Value| lossless(entry, "path") == path(name);
        assert_eq!(listed.as_array().unwrap().iter().filter(of_file).count(), 1, "{listed}");
        assert_eq!(found.as_array().unwrap().iter().filter(of_file).count(), 1, "{found}");
        let of_link = |entry: &&Value| !entry["target"].is_null() && lossless(entry, "target") == name;
        assert_eq!(listed.as_array().unwrap().iter().filter(of_link).count(), 1, "{listed}");
    }
    // A source of such a name.
    let odd = bakfs.path("x").with_file_name(OsStr::from_bytes(b"s\xff"));
    std::fs::create_dir(&odd).unwrap();
    bakfs.backup([&odd]);
    let all = bakfs.json(["snapshots"]);
    assert!(all[0].get("paths_bytes").is_none() && all[1]["paths_bytes"].is_array(), "{all}");
}

#[test]
fn extended_attributes_can_be_left_out_of_a_restore() {
    bakfs_testing::need_root();
    let bakfs = Bakfs::as_nobody();
    let source = bakfs.make_dir("source");
    let file = source.join("file");
    write(&file, "content");
    std::os::unix::fs::chown(&file, Some(bakfs_testing::cli::NOBODY), Some(bakfs_testing::cli::NOBODY)).unwrap();
    for attribute in ["user.kept", "user.other"] {
        tool(
            "setfattr",
            [OsStr::new("-n"), OsStr::new(attribute), OsStr::new("-v"), OsStr::new("1"), file.as_os_str()],
        )
        .expect(0);
    }
    tool("setfacl", [OsStr::new("-m"), OsStr::new("u:1:r"), file.as_os_str()]).expect(0);
    tool("setfattr", [OsStr::new("-n"), OsStr::new("trusted.t"), OsStr::new("-v"), OsStr::new("1"), file.as_os_str()])
        .expect(0);
    // Only root sees trusted attributes (xattr(7)), so only root can have them in a snapshot.
    let mut as_root = Command::new(bakfs.path("bakfs"));
    // A folder of nobody's is none that root's configuration lies in.
    let config = tempfile::tempdir().unwrap();
    let keys = config.path().join("keys");
    tool("cp", [OsStr::new("-r"), bakfs.path("config/keys").as_os_str(), keys.as_os_str()]).expect(0);
    tool("chown", [OsStr::new("-R"), OsStr::new("root"), keys.as_os_str()]).expect(0);
    as_root.env("BAKFS_CONFIG_DIR", config.path()).env("BAKFS_CACHE_DIR", bakfs.path("root-cache"));
    run_ok(as_root.args(["--repo", bakfs.repo().to_str().unwrap(), "backup"]).arg(&source));
    tool("chown", ["-R", "nobody", bakfs.repo().to_str().unwrap(), bakfs.path("config").to_str().unwrap()]).expect(0);
    let restored = |options: &[&str], code: i32| -> String {
        let target = bakfs.make_dir(&format!("target{}", options.join("").replace('*', "_")));
        let target = target.to_str().unwrap();
        bakfs.run(["restore"].iter().chain(options).chain(&["latest", target])).expect(code);
        let path = format!("{target}{}", file.display());
        tool("getfattr", ["-d", "-m", "-", "--absolute-names", &path]).expect(0).text()
    };
    let all = restored(&[], 3);
    assert!(all.contains("user.kept") && all.contains("posix_acl_access"), "{all}");
    let some = restored(&["--exclude-xattr", "trusted.*", "--exclude-xattr", "user.o*"], 0);
    assert!(some.contains("user.kept") && !some.contains("user.other") && some.contains("posix_acl_access"), "{some}");
    let none = restored(&["--no-xattrs"], 0);
    assert!(!none.contains("user.") && none.contains("posix_acl_access"), "{none}");
}

fn run_ok(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs with `--json` and returns the kind of error and the exit code.
fn error_of(outcome: Outcome) -> (String, i32) {
    let code = outcome.code;
    let told = json_of(outcome);
    assert_eq!(told["exit_code"], code, "{told}");
    assert!(told["message"].as_str().is_some_and(|text| !text.is_empty()), "{told}");
    (told["error"].as_str().unwrap_or_default().to_owned(), code)
}
