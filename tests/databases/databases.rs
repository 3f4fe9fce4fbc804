//! Promise: programs that are particular about their files work on the mount: SQLite and git.

use bakfs_testing::cli::Bakfs;
use bakfs_testing::process::{Outcome, run, tool};
use std::path::Path;
use std::process::Command;

const QUERY: &str = "SELECT count(*), sum(amount), max(length(note)), \
                     hex(substr(group_concat(hex(raw)), -32)) FROM (SELECT * FROM entries ORDER BY id); \
                     SELECT owner, count(*), sum(amount) FROM entries GROUP BY owner ORDER BY owner LIMIT 5;";

fn sqlite(database: &str, sql: &str) -> Outcome {
    tool("sqlite3", ["-batch", database, sql])
}

fn make_database(path: &Path) {
    let sql = "PRAGMA page_size = 4096; CREATE TABLE entries (id INTEGER PRIMARY KEY, owner TEXT, \
               amount INTEGER, note TEXT, raw BLOB); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL \
               SELECT i + 1 FROM n WHERE i < 60000) INSERT INTO entries SELECT i, 'owner ' || (i * 7919 % 97), \
               i * 31 % 1009, printf('%.*c', i % 300, 'n'), randomblob(64) FROM n; \
               CREATE INDEX by_owner ON entries (owner, amount);";
    sqlite(path.to_str().unwrap(), sql).expect(0);
}

#[test]
fn an_sqlite_database_opens_on_the_mount_of_both_days() {
    let bakfs = Bakfs::new();
    let source = bakfs.make_dir("source");
    let database = source.join("ledger.sqlite");
    make_database(&database);
    let mut days = Vec::new();
    for change in ["SELECT 1", "UPDATE entries SET amount = amount + 1 WHERE id % 500 = 3"] {
        let path = database.to_str().unwrap();
        sqlite(path, change).expect(0);
        let summary = bakfs.backup([&source]);
        days.push((summary.snapshot().to_owned(), sqlite(path, QUERY).expect(0).text()));
    }
    assert_ne!(days[0].1, days[1].1);
    let mount = bakfs.mount();
    for (day, expected) in days {
        let shown = mount.at(&day, &database);
        let address = format!("file:{}?immutable=1&mode=ro", shown.display());
        let check = sqlite(&address, "PRAGMA integrity_check").expect(0);
        assert_eq!(check.text().trim(), "ok");
        assert_eq!(sqlite(&address, QUERY).expect(0).text(), expected, "{day}");
        let refused = sqlite(&address, "DELETE FROM entries");
        assert_ne!(refused.code, 0, "a write must fail: {refused}");
    }
}

fn git(bakfs: &Bakfs, dir: &Path, args: &[&str]) -> Outcome {
    let mut command: Command = bakfs.wrap("git");
    command.arg("-C").arg(dir).args(args);
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_OPTIONAL_LOCKS", "0");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "Tester");
        command.env(format!("GIT_{role}_EMAIL"), "tester@example.org");
    }
    run(command)
}

/// Makes a repository with packed and loose objects, branches, a tag and a merge.
fn make_repository(bakfs: &Bakfs, dir: &Path) {
    let ok = |args: &[&str]| git(bakfs, dir, args).expect(0);
    ok(&["init", "-q", "-b", "main"]);
    for round in 0..12_u64 {
        for file in 0..20 {
            let text = format!("round {round} of file {file}\n").repeat(1 + file * 10);
            std::fs::write(dir.join(format!("file-{file}.txt")), text).unwrap();
        }
        std::fs::write(dir.join("blob.bin"), bakfs_testing::noise(round, 200_000)).unwrap();
        ok(&["add", "-A"]);
        ok(&["commit", "-q", "-m", &format!("round {round}")]);
        if round == 5 {
            ok(&["branch", "side"]);
            ok(&["tag", "-a", "-m", "half", "half"]);
            ok(&["gc", "-q"]);
        }
    }
    ok(&["checkout", "-q", "side"]);
    std::fs::write(dir.join("side.txt"), "side\n").unwrap();
    ok(&["add", "-A"]);
    ok(&["commit", "-q", "-m", "side"]);
    ok(&["checkout", "-q", "main"]);
    ok(&["merge", "-q", "-m", "merge", "side"]);
}

#[test]
fn a_git_repository_on_the_mount_passes_fsck() {
    let bakfs = Bakfs::new();
    std::fs::write(bakfs.path("home").join(".gitconfig"), "[safe]\n\tdirectory = *\n").unwrap();
    let source = bakfs.make_dir("source");
    make_repository(&bakfs, &source);
    bakfs.backup([&source]);
    let mount = bakfs.mount();
    let shown = mount.at("latest", &source);
    let fsck = git(&bakfs, &shown, &["fsck", "--full", "--strict"]).expect(0);
    assert!(!fsck.text().contains("missing"), "{fsck}");
    for args in [
        &["log", "--all", "--graph", "--format=%H %an %s", "--stat"][..],
        &["status", "--porcelain"],
        &["show", "half:file-3.txt"],
        &["for-each-ref"],
    ] {
        let answers = [&source, &shown].map(|dir| git(&bakfs, dir, args).expect(0).stdout);
        assert_eq!(answers[0], answers[1], "git {args:?}");
    }
    let clone = bakfs.path("clone");
    let mut command = bakfs.wrap("git");
    command.args(["clone", "-q", "--no-hardlinks"]).arg(&shown).arg(&clone);
    run(command).expect(0);
    assert_eq!(
        git(&bakfs, &clone, &["rev-parse", "HEAD"]).expect(0).stdout,
        git(&bakfs, &source, &["rev-parse", "HEAD"]).expect(0).stdout
    );
}
