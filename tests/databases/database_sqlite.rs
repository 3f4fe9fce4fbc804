//! Promise: copies of SQLite databases are whole whatever others write meanwhile, and so is what commands print, or
//! there is none.

use bakfs::database::{dumps, inspect, list};
use bakfs::process::Stop;
use bakfs_testing::dumps::{All, Made, Small, all, make, profile, shown};
use bakfs_testing::machine::{Machine, silent};
use bakfs_testing::process::{Running, start, tool};
use bakfs_testing::{SOON, until};
use rusqlite::{Connection, OpenFlags};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Moves amounts between two accounts and notes each move, in transactions that keep the sum 0, and never stops.
const WRITER: &str = r#"
import itertools, sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=600, isolation_level=None)
db.execute("PRAGMA synchronous = NORMAL")
for i in itertools.count():
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE account SET amount = amount + ? WHERE id = ?", (i % 97, i % 50))
    db.execute("INSERT INTO move (amount, note) VALUES (?, ?)", (i % 97, "n" * (i % 3000)))
    db.execute("UPDATE account SET amount = amount - ? WHERE id = ?", (i % 97, 50 + i % 50))
    db.execute("DELETE FROM move WHERE id < (SELECT max(id) FROM move) - 2000")
    db.execute("COMMIT")
"#;

fn sqlite(database: &Path, sql: &str) -> String {
    tool("sqlite3", [database.to_str().unwrap(), sql]).expect(0).text().trim().to_owned()
}

fn furnish(database: &Path, mode: &str) {
    std::fs::create_dir_all(database.parent().unwrap()).unwrap();
    let sql = format!(
        "PRAGMA journal_mode = {mode}; CREATE TABLE account (id INTEGER PRIMARY KEY, amount INTEGER);
         CREATE TABLE move (id INTEGER PRIMARY KEY AUTOINCREMENT, amount INTEGER, note TEXT);
         CREATE INDEX by_amount ON move (amount);
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99)
             INSERT INTO account SELECT i, 0 FROM n;"
    );
    sqlite(database, &sql);
}

fn section(path: &Path, more: &str) -> String {
    format!("[[profile.test.sqlite]]\npath = \"{}\"\n{more}", path.display())
}

fn dump_path(path: &Path) -> String {
    format!("/databases/sqlite{}", path.display())
}

/// Writes a copy where it cannot be written to, as in a mount, and opens it.
fn opened(all: &All, path: &Path, dir: &Path) -> Connection {
    let copy = dir.join("copy.db");
    std::fs::write(&copy, all.file(&dump_path(path))).unwrap();
    let copy = format!("file:{}?mode=ro&immutable=1", copy.display());
    Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI).unwrap()
}

/// A program that is killed when dropped.
struct Writer(Running);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.kill();
    }
}

fn copies_under_writers(mode: &str) {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = dir.path().join("app.db");
    furnish(&path, mode);
    let mut command = Command::new("python3");
    command.args(["-c", WRITER]).arg(&path).stdin(Stdio::null());
    let mut writer = Writer(start(command, true));
    let text = section(&path, "");
    let moves = |copy: &Connection| -> i64 {
        copy.query_row("SELECT coalesce(max(id), 0) FROM move", [], |row| row.get(0)).unwrap()
    };
    until("the writer writes", SOON, || moves(&opened(&all(&text), &path, copies.path())) > 100);
    let mut seen = Vec::new();
    for _ in 0..100 {
        let all = all(&text);
        let copy = opened(&all, &path, copies.path());
        let faults: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        let sum: i64 = copy.query_row("SELECT sum(amount) FROM account", [], |row| row.get(0)).unwrap();
        assert_eq!((&*faults, sum), ("ok", 0));
        let manifest = all.manifest(&dump_path(&path));
        assert_eq!((&manifest["journal_mode"], &manifest["error"]), (&mode.into(), &serde_json::Value::Null));
        let bytes = manifest["page_bytes"].as_u64().unwrap() * manifest["page_count"].as_u64().unwrap();
        assert_eq!(manifest["dump_bytes"], bytes, "{manifest}");
        seen.push(moves(&copy));
    }
    assert!(!writer.0.ended(), "the writer was not disturbed");
    let changed = seen.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!(changed > 50 && seen.is_sorted(), "others wrote meanwhile: {seen:?}");
}

#[test]
fn a_hundred_copies_under_constant_writes_are_whole_in_wal_mode() {
    copies_under_writers("wal");
}

#[test]
fn a_hundred_copies_under_constant_writes_are_whole_in_delete_mode() {
    copies_under_writers("delete");
}

#[test]
fn a_copy_is_the_same_every_night_has_its_owner_and_leaves_the_source_alone() {
    bakfs_testing::need_root();
    let dir = tempfile::tempdir().unwrap();
    chown(dir.path(), Some(33), Some(33)).unwrap();
    for mode in ["delete", "wal"] {
        let path = dir.path().join(mode);
        furnish(&path, mode);
        chown(&path, Some(33), Some(34)).unwrap();
        let state = || (std::fs::read(&path).unwrap(), path.metadata().unwrap().mtime_nsec());
        let before = state();
        let text = section(&path, "");
        let generated = dumps(&profile(&text), &Stop::default()).generated;
        assert!(generated.iter().all(|generated| generated.owner == (33, 34)));
        let [one, other] = [(); 2].map(|()| all(&text).file(&dump_path(&path)).to_vec());
        assert!(one == other && state() == before, "{mode}");
        // The format's versions for reading and writing: 2 is WAL, which does not open where nothing can be written.
        assert_eq!(one[18..20], [1, 1], "{mode}");
        for (beside, _) in bakfs_testing::files_below(dir.path()) {
            let name = beside.file_name().unwrap().to_str().unwrap().to_owned();
            assert!(["delete", "wal", "wal-shm", "wal-wal"].contains(&&*name), "{name}");
            // What reading has made belongs to the database's owner, who could not write it otherwise.
            assert_eq!(beside.metadata().unwrap().uid(), 33, "{name}");
        }
    }
}

#[test]
fn globs_find_databases_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["one/app.db", "two/app.db", "two/deep/er/app.db", "two/[odd].db", "two/app.sqlite"] {
        furnish(&at(name), "delete");
    }
    std::fs::write(at("two/text.db"), "no database").unwrap();
    std::fs::write(at("two/empty.db"), "").unwrap();
    std::os::unix::fs::symlink(at("one/app.db"), at("two/link.db")).unwrap();
    tool("mkfifo", [at("two/pipe.db")]).expect(0);
    let found = |path: PathBuf| {
        let (listed, failed) = list(&profile(&section(&path, "")));
        assert!(listed.iter().all(|database| database.bytes > Some(4096)));
        assert!(failed.is_empty(), "{failed:?}");
        let from = dump_path(dir.path());
        let name = |path: PathBuf| path.strip_prefix(&from).unwrap().to_str().unwrap().to_owned();
        listed.into_iter().map(|database| name(database.path)).collect::<Vec<_>>()
    };
    assert_eq!(found(at("*/app.db")), ["one/app.db", "two/app.db"]);
    assert_eq!(found(at("two/*.{db,sqlite}")), ["two/[odd].db", "two/app.db", "two/app.sqlite"]);
    assert_eq!(found(at("two/**/app.db")), ["two/app.db", "two/deep/er/app.db"]);
    assert_eq!(found(at("two/[odd].db")), ["two/[odd].db"], "a file that is there is taken by its name");
    assert_eq!(found(at("two/link.db")), ["two/link.db"]);
    assert_eq!(found(at("nothing*")), Vec::<String>::new());
    let twice = all(&(section(&at("one/*.db"), "") + &section(&at("one/app.db"), "")));
    assert!(twice.dumps().len() == 1 && twice.failed.is_empty());
    for (name, told) in [
        ("gone.db", "Cannot look at the SQLite database"),
        ("two/text.db", "is no SQLite database: put it under `sources`"),
        ("two/pipe.db", "is no SQLite database"),
        ("gone/*.db", "Cannot look for SQLite databases in"),
    ] {
        let failed = all(&section(&at(name), "")).failed;
        assert!(failed.len() == 1 && failed[0].1.contains(told), "{failed:?}");
        assert!(inspect(&profile(&section(&at(name), ""))).inspections[0].is_problem);
    }
}

#[test]
fn what_is_damaged_locked_or_without_room_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    furnish(&path, "delete");
    sqlite(
        &path,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999) \
                   INSERT INTO move (amount, note) SELECT i, printf('%.*c', 300, 'n') FROM n",
    );
    let fine = inspect(&profile(&section(&path, ""))).inspections;
    assert!(fine.len() == 1 && !fine[0].is_problem && fine[0].text.contains("journal mode delete"), "{fine:?}");
    let small = Small::new("1m");
    let text = format!("temporary-dir = \"{}\"\n{}", small.path().display(), section(&path, ""));
    let error = all(&text).error(&dump_path(&path)).to_string();
    assert!(error.contains("Cannot dump the SQLite database") && error.contains("set `temporary-dir`"), "{error}");
    assert!(error.contains(small.path().to_str().unwrap()), "{error}");
    assert!(inspect(&profile(&text)).inspections[1].is_problem);
    assert_eq!(std::fs::read_dir(small.path()).unwrap().count(), 0);

    let mut command = Command::new("python3");
    let hold = "import sqlite3, sys, time; db = sqlite3.connect(sys.argv[1]); db.execute('BEGIN EXCLUSIVE'); \
                open(sys.argv[2], 'w'); time.sleep(600)";
    let held = dir.path().join("held");
    command.args(["-c", hold]).arg(&path).arg(&held);
    let holder = Writer(start(command, false));
    until("the database is locked", SOON, || held.exists());
    let error = all(&section(&path, "busy-timeout = \"1s\"\n")).error(&dump_path(&path)).to_string();
    assert!(error.contains("others hold a lock, set a longer `busy-timeout`"), "{error}");
    drop(holder);

    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20_000].fill(0x55);
    std::fs::write(&path, bytes).unwrap();
    let damaged = all(&section(&path, ""));
    let error = damaged.error(&dump_path(&path));
    assert!(error.contains("SQLite's integrity_check finds it damaged: "), "{error}");
    assert_eq!(damaged.manifest(&dump_path(&path))["error"], error);
    all(&section(&path, "integrity-check = false\n")).file(&dump_path(&path));
}

#[test]
fn a_database_whose_writer_was_killed_is_copied_as_it_was_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    furnish(&path, "delete");
    // Less memory than the change needs: pages are written before the commit, and a journal is left to roll back.
    let half = "import os, sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('PRAGMA cache_size = 5'); \
                [db.execute('INSERT INTO move (amount, note) VALUES (?, ?)', (i, 'n' * 3000)) for i in range(999)]; \
                db.execute('UPDATE account SET amount = 7'); os.kill(os.getpid(), 9)";
    let killed = tool("python3", ["-c", half, path.to_str().unwrap()]);
    assert_eq!(killed.code, 128 + 9);
    assert!(dir.path().join("app.db-journal").metadata().unwrap().len() > 0);
    let copies = tempfile::tempdir().unwrap();
    let copy = opened(&all(&section(&path, "")), &path, copies.path());
    let sums = "SELECT (SELECT count(*) FROM move) + (SELECT sum(amount) FROM account)";
    assert_eq!(copy.query_row(sums, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

#[test]
fn an_empty_file_is_a_database_a_damaged_one_stays_as_it_is_and_reading_leaves_nothing_behind() {
    let machine = Machine::new("");
    let folder = machine.bakfs.make_dir("source");
    let at = |name: &str| folder.join(name);
    std::fs::write(at("empty.db"), "").unwrap();
    furnish(&at("idle.db"), "wal");
    furnish(&at("damaged.db"), "wal");
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999) \
                INSERT INTO move SELECT i, i, i FROM n";
    sqlite(&at("damaged.db"), many);
    let mut bytes = std::fs::read(at("damaged.db")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 9000].fill(0x55);
    std::fs::write(at("damaged.db"), &bytes).unwrap();
    let profile = |names: &[&str]| {
        let sections = names.iter().map(|name| format!("[[profile.test.sqlite]]\npath = '{}'\n", at(name).display()));
        let quiet = "check = { every = 'never' }\nprune = { every = 'never' }";
        machine
            .configure(&format!("[profile.test]\nsources = ['@/source']\n{quiet}\n{}", sections.collect::<String>()));
    };
    let names = || {
        let mount = machine.mount();
        let shown = |root: &Path| {
            let files = bakfs_testing::files_below(&root.join(folder.strip_prefix("/").unwrap()));
            let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
            let mut names: Vec<_> = files.into_iter().map(|(path, _)| name(path)).collect();
            names.sort();
            names
        };
        let latest = mount.path().join("latest");
        let raw = std::fs::read(latest.join(at("damaged.db").strip_prefix("/").unwrap())).unwrap_or_default();
        (shown(&latest), shown(&latest.join("databases/sqlite")), raw)
    };
    profile(&["empty.db", "idle.db"]);
    silent(&machine.run(["run", "test"]).expect(0));
    let expected = ["empty.db", "empty.db.json", "idle.db", "idle.db.json"].map(String::from).to_vec();
    assert_eq!(names(), (vec!["damaged.db".into()], expected, bytes.clone()));
    let mut live: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    live.sort();
    assert_eq!(live, ["damaged.db", "empty.db", "idle.db"], "no -wal and no -shm is left beside an idle database");

    profile(&["idle.db", "damaged.db"]);
    let told = machine.run(["run", "test"]).expect(3).stderr;
    assert!(told.contains("Cannot dump the SQLite database") && told.contains("damaged.db"), "{told}");
    let (files, dumps, raw) = names();
    assert_eq!(dumps, ["damaged.db.json", "idle.db", "idle.db.json"]);
    assert!(files.contains(&"damaged.db".into()) && !files.contains(&"idle.db".into()) && raw == bytes, "{files:?}");
}

#[test]
fn what_a_command_prints_is_stored_unless_it_fails() {
    bakfs_testing::need_root();
    let command = |name: &str, more: &str| format!("[[profile.test.command]]\nname = \"{name}\"\n{more}\n");
    let text = [
        command("good", "run = \"seq 100000\""),
        command("list", "run = [\"id\", \"-un\"]\nuser = \"nobody\""),
        command("bad", "run = \"seq 100000; echo why >&2; exit 3\""),
        command("slow", "run = \"echo begun; sleep 1000\"\ntimeout = \"1s\""),
        command("gone", "run = [\"/nonexistent/tool\"]"),
        command("whose", "run = \"true\"\nuser = \"no-such-user\""),
        command("a", "run = \"true\""),
        command("a.json", "run = \"true\""),
    ]
    .concat();
    let all = all(&text);
    let at = |name: &str| format!("/databases/command/{name}");
    assert_eq!(all.file(&at("good")).len(), 588_895);
    assert_eq!(all.manifest(&at("good"))["dump_bytes"], 588_895);
    assert_eq!(all.file(&at("list")), b"nobody\n");
    for (name, told) in [
        ("bad", "Cannot dump the output of the command `bad`: sh failed with exit code 3: why"),
        ("slow", "did not end within 1 second and was killed"),
        ("gone", "Cannot start tool: is it installed?"),
        ("whose", "There is no user `no-such-user`"),
        ("a.json", "would be written under one name"),
    ] {
        assert!(all.error(&at(name)).contains(told), "{}", all.error(&at(name)));
    }
    let owners: Vec<_> =
        dumps(&profile(&text), &Stop::default()).generated.iter().map(|made| (shown(made), made.owner)).collect();
    assert!(owners.contains(&(at("list"), (65534, 65534))) && owners.contains(&(at("good"), (0, 0))));
    let found = inspect(&profile(&text)).inspections;
    let problems: Vec<_> = found.iter().filter(|found| found.is_problem).map(|found| &*found.subject).collect();
    assert_eq!(problems, ["command gone", "command whose"]);
    let mut left = dumps(&profile(&command("left", "run = \"true\"")), &Stop::default()).generated;
    let Made::File(manifest) = make(left.remove(1).content) else { panic!("a manifest") };
    assert!(String::from_utf8(manifest).unwrap().contains("the dump was not begun"));
}

#[test]
fn only_readable_files_are_asked_for_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pass");
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let text =
        |path: &Path| format!("[[profile.test.mysql]]\noption-file = \"{}\"\nsocket = \"/nowhere\"\n", path.display());
    let main = "/databases/mysql/main";
    assert!(all(&text(dir.path())).error(main).contains("is no regular file"));
    assert!(all(&text(&dir.path().join("gone"))).error(main).contains("Cannot look at the file of passwords"));
    assert!(all(&text(&file)).error(main).contains("check that the server runs"));
}
