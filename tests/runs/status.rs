//! Promise: `bakfs status` says how every profile and repository stands, and its exit code tells monitoring.

use bakfs::settings::Periodicity;
use bakfs::state::{Outcome, ProfileState, RepositoryState, Run, StateDir};
use bakfs_testing::cli::{Bakfs, json_of};
use std::time::Duration;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn now_secs() -> i64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64
}

fn configure(bakfs: &Bakfs, text: &str) {
    bakfs_testing::write(&bakfs.path("config/bakfs.toml"), text);
}

fn states(bakfs: &Bakfs) -> StateDir {
    StateDir::new(bakfs.path("state"))
}

/// Keeps a profile's runs: how many seconds ago they ended, and how.
fn keep_runs(bakfs: &Bakfs, profile: &str, runs: &[(i64, Outcome)]) {
    let mut state = ProfileState { name: profile.into(), ..ProfileState::default() };
    for (age_secs, outcome) in runs {
        let ended_secs = now_secs() - age_secs;
        let is_failed = *outcome == Outcome::Failed;
        state.add(Run {
            profile: profile.into(),
            periodicity: Periodicity::Daily,
            repository: bakfs.repo().display().to_string(),
            started_secs: ended_secs - 60,
            ended_secs,
            outcome: *outcome,
            snapshot: (!is_failed).then(|| "2026-11-21_03-15-00".into()),
            snapshot_id: None,
            notes: Vec::new(),
            problems: if *outcome == Outcome::Success { vec![] } else { vec!["shop.dump is missing\x1b".into()] },
            files: 12,
            content_bytes: 5 << 20,
            added_bytes: 3 << 20,
            packed_bytes: 1 << 20,
            dumps: vec![],
            forgotten: 2,
            checked: true,
            pruned: false,
        });
    }
    states(bakfs).keep_profile(&state).unwrap();
}

fn keep_repository(bakfs: &Bakfs, checked_age_secs: i64, is_damaged: bool) {
    let state = RepositoryState {
        place: bakfs.repo().display().to_string(),
        last_check_secs: Some(now_secs() - checked_age_secs),
        is_damaged,
        pack_bytes: 4 << 20,
        verified_bytes: 1 << 20,
        oldest_verified_secs: None,
        last_prune_secs: Some(now_secs() - 3 * DAY),
    };
    states(bakfs).keep_repository(&state, None).unwrap();
}

const TWO: &str = "[defaults]\nsources = ['/srv']\nschedule = ['daily']\n[profile.web]\n[profile.db]\n";

#[test]
fn all_is_well_while_every_profile_has_succeeded_in_time() {
    let bakfs = Bakfs::empty();
    configure(&bakfs, TWO);
    for profile in ["web", "db"] {
        keep_runs(&bakfs, profile, &[(8 * DAY, Outcome::Success), (5 * HOUR, Outcome::Success)]);
    }
    keep_repository(&bakfs, 5 * HOUR, false);
    let outcome = bakfs.run(["status"]).expect(0);
    let lines: Vec<String> = outcome.text().lines().map(String::from).collect();
    assert_eq!(lines.len(), 7, "{outcome}");
    assert!(lines[0].starts_with("db   ok ") && lines[2].starts_with("web  ok "), "{outcome}");
    assert!(lines[..4].iter().all(|line| line.len() <= 80), "{outcome}");
    for told in ["(5 h ago)", "  next 2"] {
        assert!(lines[2].contains(told), "{told}: {outcome}");
    }
    assert!(lines[3].ends_with("     5.0 MiB, +1.0 MiB, +1.0 MiB in 7 days, 2 snapshots forgotten"), "{outcome}");
    for (at, told) in
        ["sound  last check 2", "1.0 MiB of 4.0 MiB ever verified", "last prune 2"].into_iter().enumerate()
    {
        assert!(lines[4 + at].contains(told), "{told}: {outcome}");
    }
    assert!(lines[6].contains("(3 d ago)"), "{outcome}");
}

#[test]
fn what_is_wrong_is_named_and_exits_with_1() {
    use Outcome::{Failed, Incomplete, Success};
    for (runs, word, told) in [
        (&[(2 * DAY, Success)][..], "overdue", "(2 d ago)"),
        (&[(DAY, Success), (HOUR, Failed)], "failed", "failed: shop.dump is missing\\u{1b}"),
        (&[(DAY, Success), (HOUR, Incomplete)], "incomplete", "incomplete: shop.dump is missing\\u{1b}"),
        (&[(HOUR, Failed)], "failed", "no success yet"),
    ] {
        let bakfs = Bakfs::empty();
        configure(&bakfs, TWO);
        keep_runs(&bakfs, "db", &[(HOUR, Success)]);
        keep_runs(&bakfs, "web", runs);
        keep_repository(&bakfs, HOUR, false);
        let outcome = bakfs.run(["status"]).expect(1);
        assert!(outcome.text().contains(&format!("\nweb  {word} ")) && outcome.text().contains(told), "{outcome}");
        bakfs.run(["status", "db"]).expect(0);
        let metrics = bakfs.run(["status", "--metrics"]).expect(1).text();
        let is_overdue = u8::from(word == "overdue");
        assert!(metrics.contains(&format!("\nbakfs_overdue{{profile=\"web\"}} {is_overdue}\n")), "{metrics}");
        assert!(metrics.contains(&format!("bakfs_damaged{{repository=\"{}\"}} 0\n", bakfs.repo().display())));
        let json = json_of(bakfs.run(["--json", "status", "web"]).expect(1));
        assert_eq!((&json["profiles"][0]["profile"], &json["profiles"][0]["state"]), (&"web".into(), &word.into()));
        assert_eq!(json["profiles"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn damage_and_a_check_that_does_not_happen_are_told() {
    for (age_secs, is_damaged, told) in [(HOUR, true, "DAMAGED"), (2 * DAY, false, "check overdue")] {
        let bakfs = Bakfs::empty();
        configure(&bakfs, TWO);
        keep_runs(&bakfs, "web", &[(HOUR, Outcome::Success)]);
        keep_runs(&bakfs, "db", &[(HOUR, Outcome::Success)]);
        keep_repository(&bakfs, age_secs, is_damaged);
        let outcome = bakfs.run(["status"]).expect(1);
        assert!(outcome.text().contains(told), "{outcome}");
        let json = json_of(bakfs.run(["--json", "status"]).expect(1));
        assert_eq!(json["repositories"][0]["damaged"], is_damaged);
        assert_eq!(json["repositories"][0]["check_overdue"], !is_damaged);
    }
}

#[test]
fn a_profile_that_has_not_run_yet_is_no_trouble_before_its_time() {
    let bakfs = Bakfs::empty();
    configure(&bakfs, TWO);
    let outcome = bakfs.run(["status"]).expect(0);
    assert!(outcome.text().contains("web  never run   no success yet  next 2"), "{outcome}");
    let old = std::fs::File::options().write(true).open(bakfs.path("config/bakfs.toml")).unwrap();
    old.set_modified(std::time::SystemTime::now() - Duration::from_secs(3 * 86_400)).unwrap();
    let outcome = bakfs.run(["status"]).expect(1);
    assert!(outcome.text().contains("web  overdue "), "{outcome}");
}

#[test]
fn a_run_under_way_is_shown_and_not_disturbed() {
    let bakfs = Bakfs::empty();
    configure(&bakfs, TWO);
    let lock = states(&bakfs).lock("web", Periodicity::Daily, Duration::ZERO).unwrap();
    let outcome = bakfs.run(["status"]).expect(0);
    assert!(outcome.text().contains("web  running ") && outcome.text().contains("now: daily since 2"), "{outcome}");
    drop(lock);
    let outcome = bakfs.run(["status"]).expect(0);
    assert!(outcome.text().contains("web  never run "), "{outcome}");
}

#[test]
fn a_state_that_is_damaged_counts_as_none_and_is_said_to_be_so() {
    let bakfs = Bakfs::empty();
    configure(&bakfs, TWO);
    bakfs_testing::write(&bakfs.path("state/profiles/web.json"), "{ \"name\":");
    bakfs.run(["status"]).expect(0).says("web.json");
}

#[test]
fn a_configuration_that_cannot_be_read_exits_with_2() {
    let bakfs = Bakfs::empty();
    bakfs.run(["status"]).expect(2).says("bakfs config init");
    configure(&bakfs, TWO);
    bakfs.run(["status", "wbe"]).expect(2).says("did you mean `web`?");
}
