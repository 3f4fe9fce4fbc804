//! Promise: `forget` hides what no rule keeps and says why, `--undo` brings it back, pins hold, and
//! nothing is forgotten by contradiction, accident or a wrong clock.

use bakfs_testing::cli::{Bakfs, json_of};
use bakfs_testing::process::{self, Outcome};
use bakfs_testing::{SOON, until};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn world() -> (Bakfs, PathBuf) {
    let bakfs = Bakfs::new();
    let source = bakfs.make_dir("source");
    std::fs::write(source.join("file"), b"content").unwrap();
    (bakfs, source)
}

/// Backs up at a time, with options; returns the snapshot's name.
fn at(bakfs: &Bakfs, source: &Path, time: &str, options: &[&str]) -> String {
    let args = ["--time", time].into_iter().chain(options.iter().copied()).chain([source.to_str().unwrap()]);
    bakfs.backup(args).snapshot().to_owned()
}

/// Backs up at three in the night of each day.
fn nights(bakfs: &Bakfs, source: &Path, days: &[&str]) -> Vec<String> {
    days.iter().map(|day| at(bakfs, source, &format!("{day}T03:00:00Z"), &[])).collect()
}

fn night(day: &str) -> String {
    format!("{day}T03-00-00Z")
}

fn visible(bakfs: &Bakfs) -> Vec<String> {
    let list = bakfs.json(["snapshots"]);
    list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// Returns the words of each line, the last column whole.
fn table(outcome: &Outcome) -> Vec<(String, String, String)> {
    let text = outcome.text();
    let rows = text.lines().filter(|line| line.starts_with("  "));
    rows.map(|line| {
        let mut columns = line.split("  ").map(str::trim).filter(|column| !column.is_empty());
        let mut next = || columns.next().unwrap_or_default().to_owned();
        let (verb, name, _time) = (next(), next(), next());
        (verb, name, next())
    })
    .collect()
}

#[test]
fn a_dry_run_names_what_keeps_each_snapshot_and_changes_nothing() {
    let (bakfs, source) = world();
    nights(&bakfs, &source, &["2026-01-30", "2026-01-31", "2026-02-01", "2026-02-02", "2026-02-03"]);
    let before = bakfs_testing::files_below(&bakfs.repo());
    let rules = ["forget", "--keep-daily", "2", "--keep-monthly", "6/2", "--keep-within", "36h", "--dry-run"];
    let shown = bakfs.ok(rules);
    let row = |verb: &str, day: &str, why: &str| (verb.to_owned(), night(day), why.to_owned());
    let expected = [
        row("keep", "2026-02-03", "daily 1 of 2, monthly 1 of 6/2, within 36h"),
        row("keep", "2026-02-02", "daily 2 of 2, within 36h"),
        row("forget", "2026-02-01", "nothing keeps it"),
        row("forget", "2026-01-31", "nothing keeps it"),
        row("keep", "2026-01-30", "monthly 2 of 6/2 (oldest)"),
    ];
    assert_eq!(table(&shown), expected, "{shown}");
    let columns: Vec<_> = shown.text().lines().filter_map(|line| line.find("2026-0")).collect();
    assert!(columns.len() == 5 && columns.iter().all(|column| *column == columns[0]), "aligned: {shown}");
    assert!(shown.text().contains("Would forget 2 snapshots; 3 would be left"), "{shown}");
    assert!(shown.text().contains(source.to_str().unwrap()), "the group is named: {shown}");
    let json = bakfs.json(rules);
    assert_eq!((json["dry_run"].as_bool(), json["groups"].as_array().unwrap().len()), (Some(true), 1));
    assert_eq!(texts(&json["forgotten"]), [night("2026-02-01"), night("2026-01-31")]);
    let first = &json["groups"][0]["snapshots"][0];
    assert_eq!(texts(&first["reasons"]), ["daily 1 of 2", "monthly 1 of 6/2", "within 36h"]);
    assert_eq!((first["kept"].as_bool(), first["time"].as_str()), (Some(true), Some("2026-02-03T03:00:00Z")));
    assert_eq!(bakfs_testing::files_below(&bakfs.repo()), before, "a dry run writes nothing");
    assert_eq!(visible(&bakfs).len(), 5);
}

#[test]
fn what_is_forgotten_is_hidden_and_can_be_brought_back() {
    let (bakfs, source) = world();
    let all = nights(&bakfs, &source, &["2026-02-01", "2026-02-02", "2026-02-03", "2026-02-04"]);
    let silent = bakfs.ok(["forget", "--keep-last", "1"]);
    assert_eq!((silent.text(), &*silent.stderr), (String::new(), ""), "cron hears of trouble only");
    assert_eq!(visible(&bakfs), all[3..]);
    bakfs.run(["ls", &all[0]]).refused();
    let back = bakfs.json(["forget", "--undo", &all[1], &all[1]]);
    assert_eq!(texts(&back["brought_back"]), [&all[1]]);
    assert_eq!(visible(&bakfs), [&*all[1], &all[3]]);
    assert_eq!(bakfs.ok(["ls", "-R", &all[1]]).text().lines().last(), source.join("file").to_str());
    let shown = bakfs.ok(["forget", "--undo", "--dry-run"]).text();
    assert_eq!(shown, format!("Would bring back {}\nWould bring back {}\n", all[0], all[2]));
    bakfs.run(["forget", "--undo", &all[3]]).refused().says(&all[3]);
    bakfs.ok(["forget", "--undo"]);
    assert_eq!(visible(&bakfs), all);
    let shown = bakfs.ok(["forget", "latest", &all[0], "--dry-run"]);
    let rows: Vec<_> = table(&shown).into_iter().map(|(verb, name, _)| (verb, name)).collect();
    assert_eq!(rows, [("forget".into(), all[3].clone()), ("forget".into(), all[0].clone())], "{shown}");
    assert_eq!(visible(&bakfs), all);
    // By name, as by rule; in a terminal the way back is told.
    let mut terminal = bakfs.wrap("script");
    let line = format!("{} forget {} {}", env!("CARGO_BIN_EXE_bakfs"), all[0], all[2]);
    terminal.args(["-qec", &line, "/dev/null"]);
    let told = process::run(terminal).expect(0);
    assert!(told.text().contains("Forgot 2 snapshots; 2 are left"), "{told}");
    assert!(told.text().contains("bakfs forget --undo"), "{told}");
    assert_eq!(visible(&bakfs), [&*all[1], &all[3]]);
    bakfs.ok(["forget", "--undo"]);
    assert_eq!(visible(&bakfs), all);
}

#[test]
fn one_snapshot_is_one() {
    let (bakfs, source) = world();
    let all = nights(&bakfs, &source, &["2026-02-01", "2026-02-02", "2026-02-03"]);
    let told = |args: &[&str]| bakfs.ok(["-v"].iter().chain(args)).text();
    assert!(told(&["forget", "-n", "latest"]).contains("Would forget 1 snapshot; 2 would be left"));
    let one = told(&["forget", &all[0]]);
    assert!(one.contains("Forgot 1 snapshot; 2 are left\nUntil a prune removes it,"), "{one}");
    assert!(one.contains(&format!("`bakfs forget --undo {}` brings it back", all[0])), "{one}");
    assert!(told(&["forget", &all[1]]).contains("Forgot 1 snapshot; 1 is left"));
    assert!(told(&["forget", "--keep-last", "1"]).contains("Nothing to forget; 1 is left"));
    let refused = bakfs.run(["forget", "--keep-last", "0", "--keep-none"]).expect(2);
    refused.says("No rule keeps any of the 1 snapshot of");
    bakfs.run(["ls", "latest~1"]).expect(1).says("There is only 1 snapshot:");
}

/// In no command: the history that is hidden is named, with what shows it again.
#[test]
fn what_is_forgotten_is_told_where_it_would_have_been_meant() {
    let (bakfs, source) = world();
    let target = bakfs.path("target");
    let target = target.to_str().unwrap();
    bakfs.run(["ls", "latest"]).expect(1).says("`bakfs backup PATH` makes the first");
    bakfs.run(["forget", "--undo", "latest"]).expect(1).says("No snapshot is forgotten");
    let options = ["--tag", "db", "--host", "web9"];
    let first = at(&bakfs, &source, "2026-02-01T03:00:00Z", &options);
    let second = at(&bakfs, &source, "2026-02-02T03:00:00Z", &[]);
    bakfs.ok(["forget", &first]);
    let way_back =
        format!("{first} is forgotten: until a prune removes it, `bakfs forget --undo {first}` brings it back");
    let before = format!("{}:/", &*first);
    let commands: [&[&str]; 9] = [
        &["ls", &first],
        &["dump", &before],
        &["restore", "db/latest", target],
        &["diff", &first, &second],
        &["pin", &first],
        &["forget", "hosts/web9/latest"],
        &["stats", "2026-02-01"],
        &["find", "--tag", "db", "*"],
        &["snapshots", "--host", "web9"],
    ];
    for command in commands {
        bakfs.run(command).expect(1).says(&way_back);
    }
    // Nothing is said where it is not what was meant.
    assert!(!bakfs.run(["ls", "2026-03-01T00-00-00Z"]).expect(1).stderr.contains("forgotten"));
    bakfs.ok(["forget", "latest"]);
    let all = "All snapshots are forgotten: until a prune removes them, `bakfs forget --undo` brings them back";
    let newest: [&[&str]; 8] = [
        &["ls", "latest"],
        &["dump", "latest:x"],
        &["restore", "latest:/x", target],
        &["diff", "latest~1", "latest"],
        &["pin", "latest"],
        &["forget", "latest"],
        &["stats", "today"],
        &["find", "*"],
    ];
    for command in newest {
        bakfs.run(command).expect(1).says(all);
    }
    bakfs.ok(["snapshots"]).says(all);
    let mounted = bakfs.path("mnt");
    bakfs.ok(["mount", mounted.to_str().unwrap()]).says(all);
    bakfs.adopt(mounted).unmount();
    bakfs.ok(["forget", "--undo"]);
    assert_eq!(visible(&bakfs), [&*first, &second]);
    bakfs.ok(["forget", &first, &second]);
    bakfs.ok(["prune"]);
    let gone = bakfs.run(["ls", "latest"]).expect(1);
    assert!(!gone.stderr.contains("undo"), "{gone}");
}

/// Puts back what a folder of the repository once held, as a copy that brings deleted objects back does.
fn put_back(bakfs: &Bakfs, saved: &[(PathBuf, Vec<u8>)]) {
    for (path, bytes) in saved.iter().filter(|(path, _)| !path.exists()) {
        std::fs::write(path, bytes).unwrap();
    }
    assert!(bakfs.objects("marks").len() >= saved.len());
}

fn save(bakfs: &Bakfs) -> Vec<(PathBuf, Vec<u8>)> {
    bakfs.objects("marks").into_iter().map(|(path, _)| (path.clone(), std::fs::read(&path).unwrap())).collect()
}

#[test]
fn what_was_brought_back_stays_when_its_old_marks_come_back() {
    let (bakfs, source) = world();
    let mut all = Vec::new();
    for day in ["2026-02-01", "2026-02-02", "2026-02-03", "2026-02-04"] {
        std::fs::write(source.join("file"), day).unwrap();
        all.extend(nights(&bakfs, &source, &[day]));
    }
    bakfs.ok(["forget", "--keep-last", "1"]);
    bakfs.ok(["pin", &all[3]]);
    let mut saved = save(&bakfs);
    // In two steps: the mark of the one that stays hidden meanwhile is taken back as well.
    bakfs.ok(["forget", "--undo", &all[0], &all[1]]);
    saved.extend(save(&bakfs));
    bakfs.ok(["forget", "--undo"]);
    bakfs.ok(["unpin", &all[3]]);
    for _ in 0..2 {
        put_back(&bakfs, &saved);
        assert_eq!(visible(&bakfs), all);
        assert!(bakfs.json(["snapshots"]).as_array().unwrap().iter().all(|one| one["pinned"] == false));
        // A prune takes the word of the undoing over.
        bakfs.ok(["prune"]);
    }
    put_back(&bakfs, &saved);
    assert_eq!(visible(&bakfs), all);
    bakfs.ok(["prune"]);
    bakfs.ok(["check", "--read-data"]);
    // What is forgotten anew is hidden, whatever was undone before.
    bakfs.ok(["forget", &all[0]]);
    assert_eq!(visible(&bakfs), all[1..]);
    bakfs.ok(["prune"]);
    put_back(&bakfs, &saved);
    bakfs.ok(["prune"]);
    assert_eq!(visible(&bakfs), all[1..]);
    bakfs.ok(["check", "--read-data"]);
}

#[test]
fn the_same_rules_again_forget_nothing() {
    let (bakfs, source) = world();
    nights(&bakfs, &source, &["2026-01-30", "2026-01-31", "2026-02-01", "2026-02-02", "2026-02-03"]);
    let rules = ["forget", "--keep-daily", "2", "--keep-monthly", "2"];
    assert_eq!(texts(&bakfs.json(rules)["forgotten"]).len(), 2);
    let marks = bakfs.objects("marks").len();
    assert!(texts(&bakfs.json(rules)["forgotten"]).is_empty());
    assert_eq!(bakfs.objects("marks").len(), marks, "nothing to forget is nothing to write");
}

#[test]
fn hosts_and_sources_are_counted_apart() {
    let (bakfs, source) = world();
    let other = bakfs.make_dir("other");
    let names = [
        at(&bakfs, &source, "2026-02-01T03:00:00Z", &["--host", "web1"]),
        at(&bakfs, &source, "2026-02-02T03:00:00Z", &["--host", "web1", "--tag", "db"]),
        at(&bakfs, &source, "2026-02-01T04:00:00Z", &["--host", "web2"]),
        at(&bakfs, &other, "2026-02-01T05:00:00Z", &["--host", "web1"]),
    ];
    let forgotten = |options: &[&str]| {
        let json = bakfs.json(["forget", "--keep-last", "1", "--dry-run"].iter().chain(options).copied());
        texts(&json["forgotten"]).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(forgotten(&[]), [&*names[0]]);
    assert_eq!(forgotten(&["--group-by", "host"]), [&*names[3], &names[0]]);
    assert_eq!(forgotten(&["--group-by", "none"]), [&*names[3], &names[2], &names[0]]);
    assert_eq!(forgotten(&["--group-by", "none", "--host", "web1"]), [&*names[3], &names[0]]);
    assert_eq!(forgotten(&["--tag", "db"]), [""; 0]);
    let shown = bakfs.ok(["forget", "--keep-tag", "db", "--keep-last", "1", "--host", "web1", "--dry-run"]);
    assert!(shown.text().contains("last 1 of 1, tag db"), "{shown}");
}

#[test]
fn a_pinned_snapshot_stays_until_it_is_unpinned() {
    let (bakfs, source) = world();
    let all = nights(&bakfs, &source, &["2026-02-01", "2026-02-02", "2026-02-03"]);
    bakfs.ok(["pin", &all[0], "--reason", "before the migration"]);
    let list = bakfs.json(["snapshots"]);
    assert_eq!((&list[0]["pinned"], &list[0]["pin_reason"]), (&true.into(), &"before the migration".into()));
    assert_eq!((&list[1]["pinned"], &list[1]["pin_reason"]), (&false.into(), &Value::Null));
    assert!(bakfs.ok(["snapshots"]).text().lines().next().unwrap().ends_with("  pinned"));
    let shown = bakfs.ok(["forget", "--keep-last", "1", "--dry-run"]);
    let whys: Vec<_> = table(&shown).into_iter().map(|(_, _, why)| why).collect();
    assert_eq!(whys, ["last 1 of 1", "nothing keeps it", "pinned: before the migration"]);
    // All or none: the other one that was named stays too.
    for options in [&["forget"][..], &["forget", "--dry-run"]] {
        let refused = bakfs.run(options.iter().copied().chain([&*all[1], &all[0]])).expect(2);
        refused.says("pinned (before the migration)").says(&format!("bakfs unpin {}", all[0]));
    }
    assert_eq!(visible(&bakfs), all);
    bakfs.ok(["forget", "--keep-last", "1"]);
    assert_eq!(visible(&bakfs), [&*all[0], &all[2]]);
    bakfs.ok(["unpin", &all[0]]);
    bakfs.run(["unpin", &all[0]]).refused().says("not pinned");
    bakfs.ok(["forget", "--keep-last", "1"]);
    assert_eq!(visible(&bakfs), all[2..]);
    bakfs.run(["pin", &all[0]]).refused();
}

#[test]
fn rules_that_keep_nothing_must_be_said_twice() {
    let (bakfs, source) = world();
    let all = nights(&bakfs, &source, &["2026-02-01", "2026-02-02", "2026-02-03"]);
    bakfs.ok(["pin", &all[1]]);
    bakfs.run(["forget"]).expect(2).says("--keep-daily 7");
    bakfs.run(["forget", "--dry-run"]).expect(2);
    for rules in [
        &["--keep-daily", "0"][..],
        &["--keep-tag", "typo"],
        &["--keep-last", "0", "--keep-yearly", "0/5"],
        &["--keep-none"],
        &["--keep-none", "--keep-tag", "typo"],
    ] {
        let refused = bakfs.run(["forget"].iter().chain(rules).copied()).expect(2);
        refused.says("keeps any of the 3 snapshots").says(source.to_str().unwrap()).says("--keep-none");
        assert_eq!(visible(&bakfs), all, "{rules:?}");
    }
    // A dry run shows first what it would be.
    let shown = bakfs.run(["forget", "--keep-tag", "typo", "--dry-run"]).expect(2);
    assert_eq!(table(&shown).len(), 3, "{shown}");
    bakfs.ok(["forget", "--keep-none", "--keep-none"]);
    assert_eq!(visible(&bakfs), [&*all[1]], "what is pinned stays");
    // Nothing would go: nothing to refuse.
    bakfs.ok(["forget", "--keep-tag", "typo"]);
}

#[test]
fn contradictions_and_nonsense_are_usage_errors_that_name_the_flag() {
    let (bakfs, source) = world();
    let all = nights(&bakfs, &source, &["2026-02-01", "2026-02-02"]);
    for (args, flag) in [
        (&["--keep-daily", "7", "--keep-daily", "unlimited"][..], "--keep-daily 7"),
        (&["--keep-monthly", "6/2", "--keep-monthly", "3/2"], "--keep-monthly 3/2"),
        (&["--keep-last", "7", "--keep-last", "8"], "--keep-last"),
        (&["--keep-within", "7d", "--keep-within", "8d"], "--keep-within"),
        (&["--keep-weekly", "-1"], "--keep-weekly"),
        (&["--keep-weekly", "seven"], "--keep-weekly"),
        (&["--keep-weekly", "4294967296"], "--keep-weekly"),
        (&["--keep-yearly", "7/0"], "--keep-yearly"),
        (&["--keep-last", "7/2"], "--keep-last"),
        (&["--keep-within", "-7d"], "--keep-within"),
        (&["--keep-within", "0d"], "--keep-within"),
        (&["--keep-within", "7"], "--keep-within"),
        (&["--keep-daily-within", "3x"], "--keep-daily-within"),
        (&["--keep-quarterly-within", "99999999999999y"], "--keep-quarterly-within"),
        (&["--keep-tag", ""], "--keep-tag"),
        (&["--keep-last", "1", "--group-by", "colour"], "--group-by"),
        (&["--keep-last", "1", "latest"], "--keep-last"),
        (&["--keep-last", "1", "--undo"], "--keep-last"),
        (&["--keep-daily", "--dry-run"], "--keep-daily"),
    ] {
        bakfs.run(["forget"].iter().chain(args).copied()).expect(2).says(flag);
    }
    assert_eq!(visible(&bakfs), all);
}

#[test]
fn a_time_is_no_name_of_what_is_forgotten() {
    let (bakfs, source) = world();
    let all = nights(&bakfs, &source, &["2026-02-01", "2026-02-02"]);
    for time in ["2026-02-03", "2026-02-02T12:00", "1 day ago"] {
        for verb in ["forget", "pin"] {
            bakfs.run([verb, time]).expect(2).says(time).says(&all[1]);
        }
    }
    assert_eq!(visible(&bakfs), all);
    let id = bakfs.json(["snapshots"])[0]["id"].as_str().unwrap()[..16].to_owned();
    bakfs.ok(["forget", &id, "latest"]);
    assert!(visible(&bakfs).is_empty());
    bakfs.ok(["forget", "--undo", &id]);
    assert_eq!(visible(&bakfs), all[..1]);
}

#[test]
fn days_are_those_of_the_machines_time_zone() {
    let (bakfs, source) = world();
    // In Berlin the second one is of the next day, and the third of the one after.
    for time in ["2026-02-01T12:00:00Z", "2026-02-01T23:30:00Z", "2026-02-02T23:30:00Z"] {
        at(&bakfs, &source, time, &[]);
    }
    for (zone, reasons) in [
        ("UTC", ["daily 1 of 3", "daily 2 of 3", "daily 3 of 3 (oldest)"]),
        ("CET-1", ["daily 1 of 3", "daily 2 of 3", "daily 3 of 3"]),
    ] {
        let mut command = bakfs.command(["--json", "forget", "--keep-daily", "3", "--dry-run"]);
        command.env("TZ", zone);
        let json = json_of(process::run(command).expect(0));
        let all = json["groups"][0]["snapshots"].as_array().unwrap();
        let each: Vec<_> = all.iter().map(|one| one["reasons"][0].as_str().unwrap()).collect();
        assert_eq!(each, reasons, "{zone}");
    }
}

#[test]
fn a_clock_ten_years_ahead_costs_no_genuine_snapshot() {
    let (bakfs, source) = world();
    let genuine = nights(&bakfs, &source, &["2025-02-01", "2025-02-02", "2025-02-03"]);
    let wrong = nights(&bakfs, &source, &["2099-02-01", "2099-02-02"]);
    for rules in [["--keep-last", "2"], ["--keep-daily", "2"], ["--keep-within", "25h"]] {
        let args = ["forget", rules[0], rules[1]];
        let outcome = bakfs.run(["--json"].iter().chain(&args).copied()).expect(0).says("2 snapshots").says(&wrong[1]);
        assert_eq!(texts(&json_of(outcome)["forgotten"]), [&genuine[0]], "{rules:?}");
        bakfs.ok(["forget", "--undo"]);
    }
    bakfs.ok(["forget", &wrong[0], &wrong[1]]);
    assert_eq!(visible(&bakfs), genuine);
}

#[test]
fn an_incomplete_backup_does_not_push_out_the_last_complete_one() {
    bakfs_testing::need_root();
    let bakfs = Bakfs::as_nobody();
    let source = bakfs.make_dir("source");
    std::fs::write(source.join("file"), b"content").unwrap();
    let complete = at(&bakfs, &source, "2026-02-01T03:00:00Z", &[]);
    std::fs::set_permissions(source.join("file"), std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let args = ["--time", "2026-02-02T03:00:00Z", source.to_str().unwrap()];
    bakfs.backup_outcome(args).expect(3);
    let shown = bakfs.ok(["forget", "--keep-last", "1", "--dry-run"]);
    assert_eq!(table(&shown)[1], ("keep".into(), complete, "newest without errors".into()), "{shown}");
    assert!(shown.text().contains("(1 error)"), "{shown}");
}

#[test]
fn a_running_mount_follows() {
    let (bakfs, source) = world();
    let all = nights(&bakfs, &source, &["2026-02-01", "2026-02-02"]);
    let mounted = bakfs.mount();
    let file = mounted.at(&all[0], &source.join("file"));
    assert_eq!(std::fs::read(&file).unwrap(), b"content");
    let listed = |name: &str| {
        std::fs::read_dir(mounted.path()).unwrap().any(|entry| entry.unwrap().file_name().to_str() == Some(name))
    };
    bakfs.ok(["forget", &all[0]]);
    until("the forgotten snapshot is hidden", SOON, || !listed(&all[0]) && !file.exists());
    assert!(listed(&all[1]));
    bakfs.ok(["forget", "--undo", &all[0]]);
    until("it is back", SOON, || listed(&all[0]) && file.exists());
    assert_eq!(std::fs::read(&file).unwrap(), b"content");
    mounted.unmount();
}
