//! What counts as done, for whom, and when.

use super::super::overdue::tests::run_at;
use super::*;

const DAY: i64 = 86_400;
const NOW: i64 = 20_000 * DAY;

fn run_to(place: &str, ended_secs: i64) -> Run {
    Run { repository: place.into(), ..run_at(ended_secs, Outcome::Success) }
}

fn belief() -> Belief {
    Belief { now_secs: NOW, ..Belief::default() }
}

#[test]
fn a_success_counts_for_the_repository_it_went_to() {
    let success =
        |state: ProfileState, place: &str, id: Option<&str>| state.of_repository(place, id).last_success(&belief());
    let mut state = ProfileState { name: "web".into(), ..ProfileState::default() };
    state.turn_to("/one", Some("aa"));
    state.add(run_to("/one", NOW - 2 * DAY));
    for (place, id, expected) in [
        ("/one", Some("aa"), Some(NOW - 2 * DAY)),
        ("/one//", None, Some(NOW - 2 * DAY)),
        // Lost and made anew, or another one.
        ("/one", Some("bb"), None),
        ("/two", Some("cc"), None),
        ("/two", None, None),
    ] {
        assert_eq!(success(state.clone(), place, id), expected, "{place} {id:?}");
    }
    // To another one and back.
    state.turn_to("/two", Some("cc"));
    state.add(run_to("/two", NOW - DAY));
    assert_eq!(success(state.clone(), "/two", Some("cc")), Some(NOW - DAY));
    assert_eq!(success(state.clone(), "/one", None), Some(NOW - 2 * DAY));
    assert_eq!(state.clone().of_repository("/two", None).runs.len(), 1);
    // Made anew: what the old one had is gone for good.
    state.turn_to("/two", Some("dd"));
    assert_eq!(success(state.clone(), "/two", None), None);
    assert_eq!((state.name.as_str(), state.runs.len()), ("web", 1));
}

#[test]
fn states_of_an_earlier_bakfs_count_where_they_were_made() {
    let mut old = ProfileState { name: "web".into(), ..ProfileState::default() };
    old.add(run_to("/one", NOW - DAY));
    old.last_started_secs.clear();
    let here = old.clone().of_repository("/one", Some("aa"));
    assert_eq!(here.last_success(&belief()), Some(NOW - DAY));
    assert_eq!(here.last_started(Periodicity::Daily, &belief()), Some(NOW - DAY - 60));
    assert_eq!(old.of_repository("/two", Some("aa")).last_success(&belief()), None);
}

#[test]
fn what_a_clock_once_said_of_the_future_is_never_believed() {
    let mut state = ProfileState::default();
    state.add(run_to("/r", NOW - 9 * DAY));
    state.add(run_to("/r", NOW + 30 * DAY));
    assert_eq!(state.last_success(&belief()), Some(NOW - 9 * DAY));
    assert_eq!(state.last_started(Periodicity::Daily, &belief()), Some(NOW - 9 * DAY - 60));
    // Its time has come, and somebody has looked before.
    let folder = tempfile::tempdir().unwrap();
    let dir = super::super::StateDir::new(folder.path());
    let mut seen = dir.belief(NOW);
    dir.note_ahead(&mut seen, state.moments());
    let later = NOW + 31 * DAY;
    let remembered = dir.belief(later);
    assert_eq!(state.last_success(&remembered), Some(NOW - 9 * DAY));
    // Nobody has looked, but a run came later that was dated before it.
    state.add(Run { outcome: Outcome::Failed, snapshot: None, ..run_to("/r", NOW) });
    let unseen = Belief { now_secs: later, ..Belief::default() };
    assert_eq!(state.last_success(&unseen), Some(NOW - 9 * DAY));
    // Noted for a kind whose run is not among the last any more.
    state.runs.remove(1);
    state.last_started_secs.insert(Periodicity::Weekly, NOW + 30 * DAY);
    assert_eq!(state.last_started(Periodicity::Weekly, &unseen), None);
    state.last_started_secs.insert(Periodicity::Weekly, NOW - 20 * DAY);
    assert_eq!(state.last_started(Periodicity::Weekly, &unseen), Some(NOW - 20 * DAY));
}

#[test]
fn a_clock_that_is_set_right_by_moments_costs_nothing() {
    let mut state = ProfileState::default();
    state.add(run_to("/r", NOW + 20));
    assert_eq!(state.last_success(&belief()), Some(NOW + 20));
}

#[test]
fn a_success_longer_ago_than_all_runs_that_are_kept_still_counts() {
    let mut state = ProfileState::default();
    state.add(run_to("/r", NOW - 200 * DAY));
    (0..150).for_each(|day| {
        state.add(Run { outcome: Outcome::Failed, snapshot: None, ..run_to("/r", NOW - (150 - day) * DAY) })
    });
    assert_eq!(state.last_success(&belief()), Some(NOW - 200 * DAY));
    assert_eq!(state.last_started(Periodicity::Daily, &belief()), Some(NOW - 200 * DAY - 60));
}
