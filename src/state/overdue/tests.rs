//! Profiles and repositories in every state, judged at one moment.

use super::*;

const NOW: &str = "2026-11-21T20:00:00[UTC]";
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Makes a run that took a minute.
pub fn run_at(ended_secs: i64, outcome: Outcome) -> Run {
    Run {
        profile: "web".into(),
        periodicity: Periodicity::Daily,
        repository: "/r".into(),
        started_secs: ended_secs - 60,
        ended_secs,
        outcome,
        snapshot: (outcome != Outcome::Failed).then(|| "2026-11-21_03-15-00".into()),
        snapshot_id: None,
        problems: Vec::new(),
        notes: Vec::new(),
        files: 3,
        content_bytes: 1000,
        added_bytes: 20,
        packed_bytes: 10,
        dumps: Vec::new(),
        forgotten: 0,
        checked: false,
        pruned: false,
    }
}

fn settings(profile: &str) -> Settings {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bakfs.toml");
    std::fs::write(&path, format!("[profile.web]\nsources = ['/srv']\n{profile}\n")).unwrap();
    Settings::read(&path).unwrap()
}

/// Makes what is known after runs that ended so many seconds ago; the configuration is ten years old.
fn known(now: &Zoned, runs: &[(i64, Outcome)]) -> ProfileHistory {
    let now_secs = now.timestamp().as_second();
    let mut known = ProfileHistory {
        written_secs: Some(now_secs - 3650 * DAY),
        repository: "/r".into(),
        ..ProfileHistory::default()
    };
    runs.iter().for_each(|(age_secs, outcome)| known.state.add(run_at(now_secs - age_secs, *outcome)));
    known
}

#[test]
fn a_profile_is_overdue_after_one_and_a_half_periods_and_an_hour() {
    use Outcome::{Failed, Incomplete, Success};
    let now: Zoned = NOW.parse().unwrap();
    let daily = "schedule = ['daily', 'weekly', 'shutdown']";
    for (profile, runs, standing, is_trouble) in [
        (daily, &[(37 * HOUR - 1, Success)][..], Standing::Ok, false),
        (daily, &[(37 * HOUR + 1, Success)], Standing::Overdue, true),
        (daily, &[(38 * HOUR, Success), (HOUR, Failed)], Standing::Overdue, true),
        (daily, &[(DAY, Success), (HOUR, Failed)], Standing::Failed, true),
        (daily, &[(DAY, Success), (HOUR, Incomplete)], Standing::Incomplete, true),
        (daily, &[(DAY, Failed), (HOUR, Success)], Standing::Ok, false),
        (daily, &[(-60, Success)], Standing::Ok, false),
        // Noted by a clock that was wrong: the one before counts.
        (daily, &[(-HOUR, Success)], Standing::Overdue, true),
        (daily, &[(DAY, Success), (-HOUR, Success)], Standing::Ok, false),
        (daily, &[(38 * HOUR, Success), (-HOUR, Success)], Standing::Overdue, true),
        (daily, &[(38 * HOUR, Success), (-300 * DAY, Success), (HOUR, Failed)], Standing::Overdue, true),
        // Its time has come meanwhile, but a run that came later was dated before it.
        (daily, &[(HOUR, Success), (40 * HOUR, Success)], Standing::Overdue, true),
        ("schedule = ['hourly']", &[(HOUR * 5 / 2 - 1, Success)], Standing::Ok, false),
        ("schedule = ['hourly']", &[(HOUR * 5 / 2 + 1, Success)], Standing::Overdue, true),
        ("schedule = ['bimonthly']", &[(93 * DAY, Success)], Standing::Ok, false),
        ("schedule = ['bimonthly']", &[(94 * DAY, Success)], Standing::Overdue, true),
        ("schedule = ['daily']\nmax-age = '3d'", &[(3 * DAY - 1, Success)], Standing::Ok, false),
        ("schedule = ['daily']\nmax-age = '3d'", &[(3 * DAY + 1, Success)], Standing::Overdue, true),
        ("max-age = '3d'", &[(3 * DAY + 1, Success)], Standing::Overdue, true),
        ("schedule = ['shutdown']", &[(3000 * DAY, Success)], Standing::Ok, false),
        ("", &[(3000 * DAY, Success)], Standing::Ok, false),
        ("", &[(3000 * DAY, Failed)], Standing::Failed, true),
        ("", &[], Standing::NeverRun, false),
    ] {
        let settings = settings(profile);
        let judged = judge_profile(&settings, &settings.profiles["web"], &known(&now, runs), &now);
        assert_eq!((judged.standing, judged.is_trouble), (standing, is_trouble), "{profile} {runs:?}");
    }
}

#[test]
fn a_profile_that_never_ran_is_overdue_when_its_configuration_is_old_enough() {
    let now: Zoned = NOW.parse().unwrap();
    let settings = settings("schedule = ['daily']");
    for (written_age_secs, standing) in [
        (Some(36 * HOUR), Standing::NeverRun),
        (Some(38 * HOUR), Standing::Overdue),
        (Some(-HOUR), Standing::NeverRun),
        (Some(-25 * HOUR), Standing::Overdue),
        (None, Standing::NeverRun),
    ] {
        let written_secs = written_age_secs.map(|age| now.timestamp().as_second() - age);
        let known = ProfileHistory { written_secs, ..ProfileHistory::default() };
        let judged = judge_profile(&settings, &settings.profiles["web"], &known, &now);
        assert_eq!(judged.standing, standing, "{written_age_secs:?}");
        assert_eq!(judged.next.unwrap().to_string(), "2026-11-22T05:15:00+00:00[UTC]");
    }
}

#[test]
fn a_run_under_way_hides_no_trouble() {
    let now: Zoned = NOW.parse().unwrap();
    let settings = settings("schedule = ['daily']");
    let running = Some("daily since 2026-11-21 19:00:00, process 1".to_string());
    for (age_secs, is_trouble) in [(DAY, false), (50 * HOUR, true)] {
        let known = ProfileHistory { running: running.clone(), ..known(&now, &[(age_secs, Outcome::Success)]) };
        let judged = judge_profile(&settings, &settings.profiles["web"], &known, &now);
        assert_eq!((judged.standing, judged.is_trouble), (Standing::Running, is_trouble));
    }
}

#[test]
fn growth_is_that_of_seven_days() {
    let now: Zoned = NOW.parse().unwrap();
    let settings = settings("");
    let runs = [(8 * DAY, Outcome::Success), (6 * DAY, Outcome::Incomplete), (DAY, Outcome::Success)];
    let judged = judge_profile(&settings, &settings.profiles["web"], &known(&now, &runs), &now);
    assert_eq!(judged.week_packed_bytes, 20);
}

#[test]
fn a_repository_is_overdue_when_no_run_has_verified_it_for_too_long() {
    let now: Zoned = NOW.parse().unwrap();
    let now_secs = now.timestamp().as_second();
    let succeeded = &[(HOUR, Outcome::Success)][..];
    for (profile, runs, checked_age_secs, is_damaged, is_overdue, is_trouble) in [
        ("schedule = ['daily']", succeeded, Some(36 * HOUR), false, false, false),
        ("schedule = ['daily']", succeeded, Some(38 * HOUR), false, true, true),
        ("schedule = ['daily']", succeeded, Some(HOUR), true, false, true),
        ("schedule = ['daily']", succeeded, None, false, true, true),
        ("schedule = ['daily']", &[], None, false, false, false),
        ("schedule = ['daily']\ncheck = { every = '7d' }", succeeded, Some(10 * DAY), false, false, false),
        ("schedule = ['daily']\ncheck = { every = '7d' }", succeeded, Some(11 * DAY), false, true, true),
        ("schedule = ['daily']\ncheck = { every = 'never' }", succeeded, None, false, false, false),
        // It is asked for every day, but there is a run in a week only.
        ("schedule = ['weekly']", succeeded, Some(9 * DAY), false, false, false),
        ("schedule = ['weekly']", succeeded, Some(11 * DAY), false, true, true),
        ("", succeeded, None, false, false, false),
    ] {
        let settings = settings(profile);
        let state = RepositoryState {
            last_check_secs: checked_age_secs.map(|age| now_secs - age),
            is_damaged,
            ..RepositoryState::default()
        };
        let states = States {
            profiles: [("web".to_string(), known(&now, runs))].into(),
            repositories: [("/r".to_string(), state)].into(),
        };
        let judged = judge_repository(&settings, &states, "/r", &now);
        let expected = RepositoryStanding { is_check_overdue: is_overdue, is_trouble };
        assert_eq!(judged, expected, "{profile} {checked_age_secs:?}");
    }
}
