//! Promise: what is backed up, and what each command says about it: excludes, standard input, listings,
//! differences, exit codes, silence.

use bakfs_testing::cli::Bakfs;
use bakfs_testing::device::Device;
use bakfs_testing::process;
use bakfs_testing::{files_below, noise, write};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Returns the paths below the source that the latest snapshot has, by `ls`.
fn saved(bakfs: &Bakfs, source: &Path) -> Vec<String> {
    let target = bakfs.path("saved");
    let _ = std::fs::remove_dir_all(&target);
    bakfs.ok([OsStr::new("restore"), OsStr::new("latest"), target.as_os_str()]);
    let root = target.join(source.strip_prefix("/").unwrap());
    let relative = |path: &Path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    files_below(&root).iter().map(|(path, _)| relative(path)).collect()
}

#[test]
fn excludes_leave_out_what_they_name_and_nothing_else() {
    let (bakfs, source) = Bakfs::with_source();
    for name in ["keep.txt", "drop.tmp", "deep/er/also.tmp", "deep/keep", "cache/data", "list/one"] {
        write(&source.join(name), name.as_bytes());
    }
    // The signature of a cache directory (https://bford.info/cachedir/).
    write(&source.join("cache/CACHEDIR.TAG"), b"Signature: 8a477f597d28d172789f06886806bc55\n# x\n");
    write(&source.join("fake/CACHEDIR.TAG"), b"not the signature");
    write(&source.join("fake/data"), b"kept");
    let file = bakfs.path("excludes");
    std::fs::write(&file, "# a comment\n\n**/list\n").unwrap();
    bakfs.backup([
        OsStr::new("--exclude"),
        OsStr::new("*.tmp"),
        OsStr::new("--exclude-file"),
        file.as_os_str(),
        OsStr::new("--exclude-caches"),
        source.as_os_str(),
    ]);
    let mut found = saved(&bakfs, &source);
    found.retain(|name| name != "cache/CACHEDIR.TAG");
    assert_eq!(found, ["deep/keep", "fake/CACHEDIR.TAG", "fake/data", "keep.txt"]);
    bakfs.backup([&source]);
    assert_eq!(saved(&bakfs, &source).len(), 9, "without the options everything is saved");
}

#[test]
fn one_file_system_stops_at_mount_points() {
    bakfs_testing::need_root();
    let (bakfs, source) = Bakfs::with_source();
    write(&source.join("here"), b"here");
    let device = Device::memory(&source.join("other"), 8);
    write(&device.path().join("there"), b"there");
    bakfs.backup([OsStr::new("--one-file-system"), source.as_os_str()]);
    assert_eq!(saved(&bakfs, &source), ["here"]);
    let mount = bakfs.mount();
    assert!(mount.at("latest", &source).join("other").is_dir(), "the mount point itself is saved");
    mount.unmount();
    bakfs.backup([&source]);
    assert_eq!(saved(&bakfs, &source), ["here", "other/there"]);
}

#[test]
fn a_stream_of_unknown_length_becomes_a_file() {
    let (bakfs, source) = Bakfs::with_source();
    let bytes = noise(8, 30_000_001);
    write(&source.join("stream"), &bytes);
    // An empty one is told: what was to write it may have failed.
    for (name, input, code) in [("/dumps/all.sql", source.join("stream"), 0), ("/dumps/empty", "/dev/null".into(), 3)] {
        let mut command = bakfs.command(["--json", "backup", "--stdin", name]);
        command.stdin(std::fs::File::open(&input).unwrap());
        process::start(command, true).finish().expect(code);
        let dump = bakfs.ok(["dump", &format!("latest:{name}")]);
        assert!(dump.stdout == std::fs::read(&input).unwrap_or_default(), "{name}");
    }
    let mount = bakfs.mount();
    assert_eq!(std::fs::metadata(mount.path().join("latest/dumps/empty")).unwrap().len(), 0);
}

#[test]
fn a_first_backup_says_where_repository_and_key_are() {
    let bakfs = Bakfs::first_time();
    let source = bakfs.make_dir("source");
    write(&source.join("file"), b"content");
    let outcome = bakfs.ok([OsStr::new("backup"), source.as_os_str()]);
    let text = format!("{}{}", outcome.text(), outcome.stderr);
    assert!(text.contains(bakfs.repo().to_str().unwrap()), "where the repository is: {text}");
    let keys = files_below(&bakfs.path("config"));
    assert_eq!(keys.len(), 1, "one key file: {keys:?}");
    assert!(text.contains(keys[0].0.to_str().unwrap()), "where the key is: {text}");
    assert!(text.contains("copy"), "that a copy belongs elsewhere: {text}");
    assert_eq!(std::fs::metadata(&keys[0].0).unwrap().permissions().mode() & 0o777, 0o600);
    // The second time there is nothing to say: cron mails only trouble.
    let outcome = bakfs.ok([OsStr::new("backup"), source.as_os_str()]);
    assert_eq!((outcome.text().as_str(), outcome.stderr.as_str()), ("", ""), "{outcome}");
    // Without the key nothing opens.
    std::fs::rename(bakfs.path("config"), bakfs.path("config-away")).unwrap();
    bakfs.run(["snapshots"]).refused();
}

#[test]
fn nothing_of_the_source_is_in_the_repository_in_the_clear() {
    for (encryption, hidden) in [("aes256", true), ("none", false)] {
        let bakfs = Bakfs::empty();
        let source = bakfs.make_dir("source");
        let secret = b"a sentence that nobody may read in the repository".repeat(3);
        let mut bytes = noise(3, 9000);
        bytes.extend(&secret);
        write(&source.join("a-name-nobody-may-read"), &bytes);
        bakfs.ok(["init", "--encryption", encryption]);
        bakfs.backup([&source]);
        let all = files_below(&bakfs.repo()).into_iter().map(|(path, _)| std::fs::read(path).unwrap());
        let all = all.collect::<Vec<_>>().concat();
        let shows = |text: &[u8]| all.windows(text.len()).any(|window| window == text);
        let seen = shows(&secret[..49]) || shows(b"a-name-nobody-may-read");
        assert_eq!(seen, !hidden, "--encryption {encryption}");
    }
}

/// Returns of each pack of content: its length, and the numbers of frames and chunks in its trailer, which nobody needs a
/// key for (docs/format.md, section 6).
fn packs_as_seen(bakfs: &Bakfs) -> BTreeSet<(usize, u32, u32)> {
    let mut seen = BTreeSet::new();
    for (path, _) in bakfs.objects("packs") {
        let pack = std::fs::read(path).unwrap();
        let number = |at: usize| u32::from_le_bytes(pack[pack.len() - 24 + at..][..4].try_into().unwrap());
        let (plain_bytes, frames) = (number(8), number(12));
        if pack[9] == 3 {
            seen.insert((pack.len(), frames, (plain_bytes - 8 - 16 * frames) / 44));
        }
    }
    seen
}

#[test]
fn lengths_of_packs_tell_what_the_documents_say() {
    let (bakfs, source) = Bakfs::with_source();
    let mut before = BTreeSet::new();
    let mut added = || {
        bakfs.backup([&source]);
        let now = packs_as_seen(&bakfs);
        let added: Vec<_> = now.difference(&before).copied().collect();
        before = now;
        added
    };
    // The number of small files.
    for number in 0..40 {
        std::fs::write(source.join(format!("{number}")), noise(number, 500)).unwrap();
    }
    let [(_, 1, 40)] = added()[..] else { panic!("forty chunks in a frame") };
    // The length of a new file, to the byte.
    for length in [1_000, 50_777] {
        std::fs::write(source.join(format!("new-{length}")), noise(length as u64, length)).unwrap();
        assert_eq!(added(), [(length + 236, 1, 1)]);
    }
    // That content was there.
    std::fs::copy(source.join("new-1000"), source.join("again")).unwrap();
    assert!(added().is_empty());
    // How much of a secret its neighbour has guessed.
    let lengths = ["correct horse battery staple", "anything else of that length"].map(|guess| {
        let text = |night: &str, token: &str| format!("{night}\n{}token = {token}\n", "as always\n".repeat(20));
        std::fs::write(source.join("x-secret"), text(guess, "correct horse battery staple")).unwrap();
        std::fs::write(source.join("y-guess"), text("", guess)).unwrap();
        let [(length, 1, 2)] = added()[..] else { panic!("two chunks in a frame") };
        length
    });
    assert!(lengths[0] < lengths[1], "{lengths:?}");
}

fn two_days() -> (Bakfs, PathBuf) {
    let (bakfs, source) = Bakfs::with_source();
    for name in ["same", "content", "mode", "gone", "type", "folder/inside", "folder/deep/leaf"] {
        write(&source.join(name), name.as_bytes());
    }
    let at = |time: &str| bakfs.backup_at(time, &source);
    at("2026-03-01T03:00:00Z");
    write(&source.join("content"), b"other content");
    std::fs::set_permissions(source.join("mode"), PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::remove_file(source.join("gone")).unwrap();
    std::fs::remove_file(source.join("type")).unwrap();
    std::os::unix::fs::symlink("same", source.join("type")).unwrap();
    write(&source.join("new/file"), b"new");
    at("2026-03-02T03:00:00Z");
    (bakfs, source)
}

#[test]
fn diff_names_what_differs_and_its_exit_code_tells() {
    let (bakfs, source) = two_days();
    let outcome = bakfs.run(["diff", "2026-03-01", "2026-03-02"]).expect(1);
    let text = outcome.text();
    let path = |name: &str| source.join(name).to_str().unwrap().to_owned();
    for name in ["content", "mode", "gone", "type", "new/file"] {
        assert!(text.contains(&path(name)), "{name} is missing: {text}");
    }
    for name in ["same", "folder/inside", "folder/deep"] {
        assert!(!text.contains(&path(name)), "{name} did not change: {text}");
    }
    bakfs.run(["diff", "2026-03-01", "2026-03-01"]).expect(0);
    let folder = source.join("folder");
    let args = ["diff", "2026-03-01", "2026-03-02"].map(OsStr::new);
    bakfs.run(args.into_iter().chain([folder.as_os_str()])).expect(0);
    let json = bakfs.run(["--json", "diff", "2026-03-01", "2026-03-02"]).expect(1).text();
    let lines: Vec<_> = json.lines().collect();
    let whole: Result<serde_json::Value, _> = serde_json::from_str(&json);
    let each = lines.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
    assert!(whole.is_ok() || each, "neither JSON nor JSON lines: {json}");
    assert!(json.contains("content") && json.contains("gone"), "{json}");
}

#[test]
fn snapshots_ls_find_dump_and_stats() {
    let (bakfs, source) = two_days();
    let snapshots = bakfs.json(["snapshots"]);
    let all = snapshots.as_array().unwrap();
    assert_eq!(all.len(), 2);
    for field in ["name", "id", "time", "host", "tags", "paths"] {
        assert!(all.iter().all(|each| !each[field].is_null()), "{field} is missing: {snapshots}");
    }
    assert_eq!(all[0]["name"], "2026-03-01T03-00-00Z");
    assert_eq!(all[1]["paths"][0], source.to_str().unwrap());

    let inside = format!("latest:{}", source.display());
    let listing = bakfs.ok(["ls", &inside]).text();
    for name in ["same", "content", "folder", "new"] {
        assert!(listing.contains(name), "{name} is missing: {listing}");
    }
    assert!(!listing.contains("gone"));
    let json = bakfs.ok(["--json", "ls", &inside]).text();
    assert!(json.contains("\"same\"") || json.contains("/same\""), "{json}");
    let old = bakfs.ok(["ls", &format!("2026-03-01:{}", source.display())]).text();
    assert!(old.contains("gone"));

    let found = bakfs.ok(["find", "gon*"]).text();
    assert!(found.contains(source.join("gone").to_str().unwrap()), "{found}");
    assert!(found.contains("2026-03-01T03-00-00Z") && !found.contains("2026-03-02T"), "{found}");

    for (day, expected) in [("2026-03-01", "content"), ("2026-03-02", "other content")] {
        let what = format!("{day}:{}", source.join("content").display());
        assert_eq!(bakfs.ok(["dump", &what]).text(), expected);
    }
    assert!(bakfs.json(["stats"]).is_object());
    bakfs.ok(["check"]);
    bakfs.ok(["check", "--read-data"]);
}

#[test]
fn names_of_snapshots_are_understood() {
    let (bakfs, source) = two_days();
    let text = |name: &str| -> String {
        let what = format!("{name}:{}", source.join("content").display());
        bakfs.ok(["dump", "--", &what]).text()
    };
    let ids: Vec<String> = bakfs
        .json(["snapshots"])
        .as_array()
        .unwrap()
        .iter()
        .map(|each| each["id"].as_str().unwrap().to_owned())
        .collect();
    let first = [
        "2026-03-01",
        "2026-03-01T03-00-00Z",
        "latest~1",
        "2026-03-01T15:00",
        "2026-03-02T02:59",
        &ids[0],
        &ids[0][..8],
    ];
    for name in first {
        assert_eq!(text(name), "content", "{name}");
    }
    for name in ["latest", "2026-03-02", "latest~0", "2026-03-02T03:00", "2026-05-01", &ids[1]] {
        assert_eq!(text(name), "other content", "{name}");
    }
}

#[test]
fn a_dry_run_changes_nothing() {
    let (bakfs, source) = two_days();
    let before = files_below(&bakfs.repo());
    write(&source.join("fresh"), b"fresh");
    bakfs.ok([OsStr::new("backup"), OsStr::new("--dry-run"), source.as_os_str()]);
    assert_eq!(files_below(&bakfs.repo()), before);
}

/// A name may carry commands for a terminal; pipes get it as it is, as from ls(1).
#[test]
fn names_give_no_commands_to_terminals_and_json() {
    let (bakfs, source) = Bakfs::with_source();
    let name = "evil\u{1b}]0;title\u{7}\nname";
    write(&source.join(name), b"evil");
    bakfs.backup([&source]);
    let inside = format!("latest:{}", source.display());
    for args in [&["ls", &inside][..], &["find", "evil*"], &["diff", "latest", "latest"]] {
        let mut command = bakfs.wrap("script");
        let line = args.iter().map(|arg| format!(" '{arg}'")).collect::<String>();
        command.args(["-q", "-e", "-c", &format!("{}{line}", env!("CARGO_BIN_EXE_bakfs")), "/dev/null"]);
        let outcome = process::run(command).expect(0);
        assert_eq!(outcome.text().contains("evil"), args[0] != "diff", "{outcome}");
        assert!(!outcome.text().contains("\u{1b}]0;"), "a terminal was given a command: {outcome}");
    }
    let json = bakfs.ok(["--json", "ls", &inside]);
    assert!(json.text().contains("evil") && !json.stdout.contains(&0x1b), "{json}");
}

#[test]
fn everything_has_a_help_text() {
    let bakfs = Bakfs::new();
    let help = bakfs.ok(["--help"]).text();
    for verb in [
        "demo",
        "init",
        "backup",
        "snapshots",
        "ls",
        "find",
        "dump",
        "stats",
        "diff",
        "restore",
        "mount",
        "umount",
        "check",
    ] {
        assert!(help.contains(verb), "{verb} is missing: {help}");
        bakfs.ok([verb, "--help"]);
    }
    assert!(bakfs.ok(["--version"]).text().starts_with("bakfs "));
}

/// What a person may type wrong, and what tells them how to go on.
const WRONG: [(&str, &[&str]); 17] = [
    (
        "status --metrics x",
        &["--metrics: Print metrics", "Leave one of them out", "Usage: bakfs status [OPTIONS] [PROFILE]..."],
    ),
    ("ls latest /etc", &["write `latest:/etc`", "Usage: bakfs ls [OPTIONS] <SNAP[:PATH]>"]),
    ("dump main/latest /etc/x", &["write `main/latest:/etc/x`"]),
    ("restore latest /a /b", &["unexpected argument '/b'", "<SNAP[:PATH]> <TARGET>"]),
    ("stats a b", &["unexpected argument 'b'", "Usage: bakfs stats [OPTIONS] [SNAP]"]),
    ("snapshots a", &["unexpected argument 'a'", "Usage: bakfs snapshots [OPTIONS]\n"]),
    ("backup --exclude", &["--exclude <GLOB>: Leave out what matches", "Usage: bakfs backup [OPTIONS]"]),
    ("backup / --tag", &["--tag <TAG>: Add a tag"]),
    ("backup / --compression 30", &["30 is not in 1..=19", "--compression <LEVEL>: zstd's level"]),
    ("mount --refresh x /mnt", &["that is no whole number", "--refresh <SECONDS>: Look for new snapshots"]),
    ("backup -n --stdin /x", &["Leave one of them out", "--dry-run: Show what would be done"]),
    ("forget latest --keep-daily 3", &["Leave one of them out", "Usage: bakfs forget [OPTIONS] [SNAP]..."]),
    ("ls --recusive latest", &["a similar argument exists: '--recursive'"]),
    ("schedule begin", &["The commands are install, list, remove, help"]),
    ("schedule install x", &["unexpected argument 'x'", "Usage: bakfs schedule install [OPTIONS]"]),
    ("init --encryption", &["possible values: aes256, none", "--encryption <ENCRYPTION>: "]),
    ("check --read-data --read-data-subset 5%", &["Leave one of them out", "Usage: bakfs check [OPTIONS]\n"]),
];

#[test]
fn what_is_typed_wrong_is_answered_with_what_is_right() {
    let bakfs = Bakfs::new();
    for (line, texts) in WRONG {
        let wrong = bakfs.run(line.split(' ')).expect(2);
        for text in texts {
            assert!(wrong.stderr.contains(text), "`{line}` should be answered with {text:?}: {wrong}");
        }
        let verbs: Vec<_> = line.split(' ').take_while(|word| !word.starts_with('-')).collect();
        let verb = if verbs[0] == "schedule" && verbs[1] == "install" { "schedule install" } else { verbs[0] };
        assert!(wrong.stderr.ends_with(&format!("`bakfs {verb} --help` says more\n")), "{wrong}");
    }
}

/// What a person types wrong is told as if nothing were set in the environment, and a command's own options come first.
#[test]
fn help_begins_with_a_commands_own_options_and_usage_has_nothing_of_the_environment() {
    let bakfs = Bakfs::new();
    for verb in ["backup", "restore", "snapshots", "check", "run", "mount"] {
        let help = bakfs.ok([verb, "--help"]).text();
        let every = help.find("\nOptions of every command:").unwrap_or_else(|| panic!("{verb}: {help}"));
        for option in ["--repo", "--config", "--json", "--password-file", "--cache-size"] {
            assert!(help.find(option).is_some_and(|at| at > every), "{verb}: {option} in {help}");
        }
        assert!(help.find("--help").is_some_and(|at| at < every), "{verb}: {help}");
        assert!(help.contains("BAKFS_PASSWORD ") && help.contains("BAKFS_REPO"), "{verb}: {help}");
    }
    // The tests' own environment names the repository.
    let wrong = bakfs.run(["restore"]).expect(2);
    assert!(wrong.stderr.contains("Usage: bakfs restore <SNAP[:PATH]> <TARGET>"), "{wrong}");
    let nothing = bakfs.run::<&str>([]).expect(2);
    assert!(nothing.stderr.contains("Commands:") && !nothing.stderr.contains("error:"), "{nothing}");
    let mut command = bakfs.command(["snapshots"]);
    let wrong = process::run({
        command.env("BAKFS_CONNECTIONS", "many");
        command
    });
    assert!(wrong.expect(2).stderr.contains("many"));
}

#[test]
fn counts_are_of_files_and_have_their_number() {
    let (bakfs, source) = Bakfs::with_source();
    write(&source.join("one"), b"1");
    assert!(bakfs.ok(["backup", "-n", source.to_str().unwrap()]).text().contains("Would back up 1 file ("));
    bakfs.backup([&source]);
    assert!(bakfs.ok(["restore", "-n", "latest", bakfs.path("out").to_str().unwrap()]).text().contains("1 file, 1 B"));
    let listed = bakfs.ok(["snapshots"]).text();
    assert_eq!(listed.split_whitespace().nth(2), Some("1"), "{listed}");
    let missing = source.parent().unwrap().join("nosuch");
    let mut command = bakfs.command(["backup", "nosuch"]);
    command.arg(&source).current_dir(source.parent().unwrap());
    let partly = process::run(command).expect(3);
    assert!(partly.stderr.contains(&format!("bakfs: {}: ", missing.display())), "{partly}");
    let file = bakfs.path("a-file");
    write(&file, b"");
    let wrong = bakfs.run(["restore", "latest", file.to_str().unwrap()]).expect(1);
    assert!(wrong.stderr.contains("bakfs dump"), "{wrong}");
    assert!(bakfs.run(["check", "--read-data-subset", "5"]).expect(2).stderr.contains("5%"));
}
