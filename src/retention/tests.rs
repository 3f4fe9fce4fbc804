use super::*;

const FAR: &str = "2100-01-01T00:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn snapshot(time: &str) -> Snapshot {
    Snapshot {
        id: ObjectId([0; 32]),
        time: at(time),
        host: "web1".into(),
        sources: vec![b"/etc".to_vec(), b"/srv".to_vec()],
        tags: vec![],
        is_pinned: false,
        has_errors: false,
        is_incomplete: false,
    }
}

fn snapshots(times: &[&str]) -> Vec<Snapshot> {
    times.iter().map(|time| snapshot(time)).collect()
}

/// Winter and summer time of central Europe, whatever the machine knows of time zones.
fn berlin() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

fn every(level: Level, count: &str) -> Rule {
    Rule::Level(level, count.parse().unwrap())
}

fn last(count: &str) -> Rule {
    Rule::Last(count.parse().unwrap())
}

fn within(window: &str) -> Rule {
    Rule::Within(window.parse().unwrap())
}

fn each_within(level: Level, window: &str) -> Rule {
    Rule::LevelWithin(level, window.parse().unwrap())
}

fn tags(tags: &[&str]) -> Rule {
    Rule::Tags(rule::TagList(tags.iter().map(ToString::to_string).collect()))
}

/// Returns for each snapshot, in the order given, what keeps it.
fn reasons_by(zone: &TimeZone, snapshots: &[Snapshot], rules: &[Rule], now: &str) -> Vec<String> {
    let mut texts = vec![String::new(); snapshots.len()];
    for group in decide(snapshots, rules, GroupBy::default(), zone, at(now)) {
        for Decision { at, reasons } in group.decisions {
            texts[at] = reasons.iter().map(Reason::to_string).collect::<Vec<_>>().join(", ");
        }
    }
    texts
}

fn reasons(snapshots: &[Snapshot], rules: &[Rule]) -> Vec<String> {
    reasons_by(&TimeZone::UTC, snapshots, rules, FAR)
}

#[test]
fn rules_keep_what_their_tables_say() {
    let days = [
        "2026-11-20T12:00:00Z",
        "2026-11-20T03:00:00Z",
        "2026-11-19T03:00:00Z",
        "2026-11-16T03:00:00Z",
        "2026-11-15T03:00:00Z",
        "2026-10-31T03:00:00Z",
        "2026-08-01T03:00:00Z",
        "2026-07-01T03:00:00Z",
        "2025-12-31T03:00:00Z",
        "2025-12-30T03:00:00Z",
    ];
    let table: &[(Rule, [&str; 10])] = &[
        (last("2"), ["last 1 of 2", "last 2 of 2", "", "", "", "", "", "", "", ""]),
        (last("0"), [""; 10]),
        (every(Level::Daily, "3"), ["daily 1 of 3", "", "daily 2 of 3", "daily 3 of 3", "", "", "", "", "", ""]),
        (every(Level::Weekly, "3"), ["weekly 1 of 3", "", "", "", "weekly 2 of 3", "weekly 3 of 3", "", "", "", ""]),
        (
            every(Level::Monthly, "4"),
            ["monthly 1 of 4", "", "", "", "", "monthly 2 of 4", "monthly 3 of 4", "monthly 4 of 4", "", ""],
        ),
        (
            // November with December, October with September, July with August, December with November.
            every(Level::Monthly, "4/2"),
            ["monthly 1 of 4/2", "", "", "", "", "monthly 2 of 4/2", "monthly 3 of 4/2", "", "monthly 4 of 4/2", ""],
        ),
        (every(Level::Quarterly, "2"), ["quarterly 1 of 2", "", "", "", "", "", "quarterly 2 of 2", "", "", ""]),
        (
            every(Level::Yearly, "3"),
            ["yearly 1 of 3", "", "", "", "", "", "", "", "yearly 2 of 3", "yearly 3 of 3 (oldest)"],
        ),
        (every(Level::Yearly, "2"), ["yearly 1 of 2", "", "", "", "", "", "", "", "yearly 2 of 2", ""]),
        (
            every(Level::Yearly, "unlimited"),
            [
                "yearly 1 of unlimited",
                "",
                "",
                "",
                "",
                "",
                "",
                "",
                "yearly 2 of unlimited",
                "yearly 3 of unlimited (oldest)",
            ],
        ),
        (within("4d9h"), ["within 4d9h", "within 4d9h", "within 4d9h", "", "", "", "", "", "", ""]),
        (within("4d10h"), ["within 4d10h", "within 4d10h", "within 4d10h", "within 4d10h", "", "", "", "", "", ""]),
        (
            each_within(Level::Monthly, "4m"),
            ["monthly within 4m", "", "", "", "", "monthly within 4m", "monthly within 4m", "", "", ""],
        ),
        (each_within(Level::Daily, "2d"), ["daily within 2d", "", "daily within 2d", "", "", "", "", "", "", ""]),
    ];
    for (rule, expected) in table {
        assert_eq!(reasons(&snapshots(&days), std::slice::from_ref(rule)), expected, "{rule:?}");
    }
}

#[test]
fn reasons_add_up() {
    let all = snapshots(&["2026-11-20T03:00:00Z", "2026-11-19T03:00:00Z"]);
    let rules = [last("1"), every(Level::Daily, "2"), within("1y")];
    assert_eq!(reasons(&all, &rules), ["last 1 of 1, daily 1 of 2, within 1y", "daily 2 of 2, within 1y"]);
    assert_eq!(reasons(&all, &[]), ["", ""]);
}

#[test]
fn tags_of_one_rule_must_all_be_there_and_of_several_one_suffices() {
    let mut all = snapshots(&["2026-11-20T03:00:00Z", "2026-11-19T03:00:00Z", "2026-11-18T03:00:00Z"]);
    all[1].tags = vec!["db".into(), "release".into()];
    all[2].tags = vec!["db".into()];
    assert_eq!(reasons(&all, &[tags(&["release", "db"])]), ["", "tag release,db", ""]);
    assert_eq!(reasons(&all, &[tags(&["release"]), tags(&["db"])]), ["", "tag release, tag db", "tag db"]);
}

#[test]
fn periods_are_those_of_the_time_zone() {
    // 23:30 UTC is the next day in Berlin; on 25 October the hour from two to three comes twice.
    let days = snapshots(&["2026-11-19T23:30:00Z", "2026-11-19T12:00:00Z"]);
    let daily = [every(Level::Daily, "2")];
    assert_eq!(reasons_by(&berlin(), &days, &daily, FAR), ["daily 1 of 2", "daily 2 of 2"]);
    assert_eq!(reasons(&days, &daily), ["daily 1 of 2", "daily 2 of 2 (oldest)"]);
    let hours = snapshots(&[
        "2026-10-25T02:10:00Z",
        "2026-10-25T01:10:00Z",
        "2026-10-25T00:10:00Z",
        "2026-10-24T23:10:00Z",
        "2026-10-24T22:10:00Z",
    ]);
    let kept = reasons_by(&berlin(), &hours, &[every(Level::Hourly, "3")], FAR);
    assert_eq!(kept, ["hourly 1 of 3", "hourly 2 of 3", "", "hourly 3 of 3", ""]);
}

#[test]
fn groups_are_counted_apart() {
    let mut all = snapshots(&["2026-11-20T03:00:00Z", "2026-11-19T03:00:00Z", "2026-11-18T03:00:00Z"]);
    all[1].host = "web2".into();
    all[2].sources.reverse();
    all[2].tags = vec!["db".into()];
    let kept = |by: &str| {
        let groups = decide(&all, &[last("1")], by.parse().unwrap(), &TimeZone::UTC, at(FAR));
        let each = |group: &Group| group.decisions.iter().map(|one| (one.at, one.reasons.len())).collect();
        groups.iter().map(each).collect::<Vec<Vec<_>>>()
    };
    assert_eq!(kept("host,sources"), [vec![(0, 1), (2, 0)], vec![(1, 1)]]);
    assert_eq!(kept("host,sources,tags"), [vec![(0, 1)], vec![(2, 1)], vec![(1, 1)]]);
    assert_eq!(kept("none"), [vec![(0, 1), (1, 0), (2, 0)]]);
    assert_eq!(kept("tags"), [vec![(0, 1), (1, 0)], vec![(2, 1)]]);
}

#[test]
fn windows_count_back_from_the_newest_snapshot() {
    let all = snapshots(&["2020-01-10T00:00:00Z", "2020-01-09T00:00:00Z", "2020-01-01T00:00:00Z"]);
    assert_eq!(reasons(&all, &[within("7d")]), ["within 7d", "within 7d", ""]);
}

#[test]
fn the_first_backup_after_a_pause_does_not_cost_the_history_before_it() {
    let times = ["2026-11-20T00:00:00Z", "2020-01-10T00:00:00Z", "2020-01-09T00:00:00Z", "2020-01-01T00:00:00Z"];
    let week = "within 7d";
    assert_eq!(reasons(&snapshots(&times), &[within("7d")]), [week, week, week, ""]);
    let daily = "daily within 7d";
    assert_eq!(reasons(&snapshots(&times), &[each_within(Level::Daily, "7d")]), [daily, daily, daily, ""]);
    assert_eq!(reasons(&snapshots(&times[..1]), &[within("7d")]), [week]);
    let second = ["2026-11-21T00:00:00Z"].iter().chain(&times).copied().collect::<Vec<_>>();
    assert_eq!(reasons(&snapshots(&second), &[within("7d")]), [week, week, "", "", ""]);
}

#[test]
fn a_time_in_the_future_takes_nobodys_place() {
    let now = "2026-11-20T12:00:00Z";
    let mut times = ["2036-11-22T03:00:00Z", "2036-11-21T03:00:00Z", "2026-11-20T03:00:00Z"].to_vec();
    times.extend(["2026-11-19T03:00:00Z", "2026-11-18T03:00:00Z"]);
    let ahead = "time in the future";
    for (rule, expected) in [
        (last("1"), ["last 1 of 1", "", ""]),
        (every(Level::Daily, "2"), ["daily 1 of 2", "daily 2 of 2", ""]),
        (within("2d"), ["within 2d", "within 2d", ""]),
    ] {
        let kept = reasons_by(&TimeZone::UTC, &snapshots(&times), &[rule], now);
        assert_eq!(kept[..2], [ahead, ahead]);
        assert_eq!(kept[2..], expected);
    }
    // A present that is itself too early keeps everything; another machine's clock may be a day ahead.
    let kept = reasons_by(&TimeZone::UTC, &snapshots(&times), &[last("1")], "2016-11-20T12:00:00Z");
    assert_eq!(kept, [ahead; 5]);
    let near = snapshots(&["2026-11-21T11:00:00Z", "2026-11-20T03:00:00Z"]);
    assert_eq!(reasons_by(&TimeZone::UTC, &near, &[last("1")], now), ["last 1 of 1", ""]);
}

#[test]
fn the_newest_without_errors_stays() {
    let mut all = snapshots(&["2026-11-20T03:00:00Z", "2026-11-19T03:00:00Z", "2026-11-18T03:00:00Z"]);
    all[0].has_errors = true;
    assert_eq!(reasons(&all, &[last("1")]), ["last 1 of 1", "newest without errors", ""]);
    assert_eq!(reasons(&all, &[last("2")]), ["last 1 of 2", "last 2 of 2", ""]);
    assert_eq!(reasons(&all, &[last("0")]), ["", "", ""]);
    all[0].tags = vec!["db".into()];
    assert_eq!(reasons(&all, &[tags(&["db"])]), ["tag db", "newest without errors", ""]);
    all[0].has_errors = false;
    assert_eq!(reasons(&all, &[tags(&["db"])]), ["tag db", "", ""]);
    all.iter_mut().for_each(|snapshot| snapshot.has_errors = true);
    assert_eq!(reasons(&all, &[last("1")]), ["last 1 of 1", "", ""]);
}

#[test]
fn pins_keep_and_a_group_that_no_rule_keeps_is_told() {
    let mut all = snapshots(&["2026-11-20T03:00:00Z", "2026-11-19T03:00:00Z"]);
    all[1].is_pinned = true;
    assert_eq!(reasons(&all, &[last("1")]), ["last 1 of 1", "pinned"]);
    let emptied =
        |all: &[Snapshot], rule| decide(all, &[rule], GroupBy::default(), &TimeZone::UTC, at(FAR))[0].is_emptied();
    assert!(!emptied(&all, last("1")));
    assert!(emptied(&all, tags(&["typo"])));
    assert!(!emptied(&all[1..], tags(&["typo"])), "nothing goes");
}

#[test]
fn equal_times_are_told_apart_by_id() {
    let mut all = snapshots(&["2026-11-20T03:00:00Z"; 3]);
    for (at, first) in [2, 3, 1].into_iter().enumerate() {
        all[at].id = ObjectId([first; 32]);
    }
    assert_eq!(reasons(&all, &[last("1")]), ["", "last 1 of 1", ""]);
}

#[test]
fn incomplete_snapshots_take_no_place_from_complete_ones() {
    let times = ["2026-03-06", "2026-03-05", "2026-03-04", "2026-03-03", "2026-03-02", "2026-03-01"];
    let mut all = snapshots(&times.map(|day| format!("{day}T03:00:00Z")).iter().map(|t| &**t).collect::<Vec<_>>());
    for snapshot in &mut all[..3] {
        snapshot.is_incomplete = true;
    }
    let rules = [every(Level::Daily, "2")];
    let kept = |all: &[Snapshot]| reasons_by(&berlin(), all, &rules, FAR);
    assert_eq!(kept(&all), ["daily 1 of 2", "daily 2 of 2", "", "daily 1 of 2", "daily 2 of 2", ""]);
    // The first complete night afterwards: what lacks the database goes as the rules say.
    all[0].is_incomplete = false;
    assert_eq!(kept(&all), ["daily 1 of 2", "daily 2 of 2", "", "daily 2 of 2", "", ""]);
    all.iter_mut().for_each(|snapshot| snapshot.is_incomplete = true);
    assert_eq!(kept(&all), ["daily 1 of 2", "daily 2 of 2", "", "", "", ""]);
}
