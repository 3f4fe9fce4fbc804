//! Promise: retention rules keep what an independent reading of their definition keeps; more rules never
//! keep less; what was kept once is kept when the same rules are applied again.

use bakfs::id::ObjectId;
use bakfs::retention::group::GroupBy;
use bakfs::retention::rule::{Count, Level, Limit, Rule, TagList};
use bakfs::retention::{Reason, Snapshot, decide};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, Zoned};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// 1 January 2022, the start of all made-up histories.
const START_SECS: i64 = 1_640_995_200;

fn zone() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

fn now() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

fn snapshot(id: u8, secs: i64) -> Snapshot {
    Snapshot {
        id: ObjectId([id; 32]),
        time: Timestamp::from_second(secs).unwrap(),
        host: "h".into(),
        sources: vec![b"/etc".to_vec()],
        tags: vec![],
        is_pinned: false,
        has_errors: false,
        is_incomplete: false,
    }
}

/// A rule in the oracle's own words.
#[derive(Debug, Clone)]
enum Said {
    Last(u32),
    Newest(Level, Option<u32>, u32),
    Within(i64, char),
    EachWithin(Level, i64, char),
    Tagged(Vec<String>),
}

impl Said {
    fn rule(&self) -> Rule {
        match self {
            Said::Last(count) => Rule::Last(Limit::Count(*count)),
            Said::Newest(level, count, step) => {
                let limit = count.map_or(Limit::Unlimited, Limit::Count);
                Rule::Level(*level, Count { limit, step: *step })
            }
            Said::Within(number, unit) => Rule::Within(format!("{number}{unit}").parse().unwrap()),
            Said::EachWithin(level, number, unit) => {
                Rule::LevelWithin(*level, format!("{number}{unit}").parse().unwrap())
            }
            Said::Tagged(tags) => Rule::Tags(TagList(tags.clone())),
        }
    }
}

/// Names a period as a person would write it; several in a row by the first of them.
fn period(level: Level, step: u32, time: Timestamp) -> String {
    let mut local = time.to_zoned(zone()).datetime();
    let step = i64::from(step);
    match level {
        Level::Hourly => {
            assert_eq!(step, 1);
            local.strftime("%F %H").to_string()
        }
        Level::Daily => {
            // Days are counted from 1 January of the year 1, which is day 1 in the count of Rata Die.
            let rata_die =
                719_163 + local.date().since((jiff::Unit::Day, jiff::civil::date(1970, 1, 1))).unwrap().get_days();
            format!("day {}", (i64::from(rata_die) - 1) / step)
        }
        Level::Weekly if step == 1 => {
            let week = local.date().iso_week_date();
            format!("{}-W{}", week.year(), week.week())
        }
        Level::Weekly => {
            while local.weekday() != jiff::civil::Weekday::Monday {
                local = local.checked_sub(1.day()).unwrap();
            }
            let weeks = local.date().since((jiff::Unit::Week, jiff::civil::date(1, 1, 1))).unwrap().get_weeks();
            format!("week {}", i64::from(weeks) / step)
        }
        Level::Monthly | Level::Quarterly => {
            let length = if level == Level::Monthly { step } else { 3 * step };
            let count = i64::from(local.year()) * 12 + i64::from(local.month()) - 1;
            format!("months from {}", count - count % length)
        }
        Level::Yearly => format!("years from {}", i64::from(local.year()) - i64::from(local.year()) % step),
    }
}

fn newest_first(all: &[Snapshot]) -> Vec<&Snapshot> {
    let mut sorted: Vec<&Snapshot> = all.iter().collect();
    sorted.sort_by(|a, b| b.time.cmp(&a.time).then(b.id.cmp(&a.id)));
    sorted
}

/// Returns whether no newer snapshot of the same period is among `all`.
fn is_newest_of_its_period(one: &Snapshot, all: &[&Snapshot], level: Level, step: u32) -> bool {
    let period_of = |snapshot: &Snapshot| period(level, step, snapshot.time);
    all.iter().all(|other| (other.time, other.id) <= (one.time, one.id) || period_of(other) != period_of(one))
}

fn window<'a>(sorted: &[&'a Snapshot], number: i64, unit: char) -> Vec<&'a Snapshot> {
    let span: Span = match unit {
        'h' => number.hours(),
        'd' => number.days(),
        'm' => number.months(),
        _ => number.years(),
    };
    let in_window = |end: &Snapshot| {
        let start = (&end.time.to_zoned(zone()) - span).timestamp();
        sorted.iter().filter(|one| one.time > start).copied().collect::<Vec<_>>()
    };
    let Some(newest) = sorted.first() else { return vec![] };
    match in_window(newest) {
        alone if alone.len() == 1 && sorted.len() > 1 => in_window(sorted[1]),
        some => some,
    }
}

/// Returns what one rule keeps: the definition of each, read literally.
fn oracle(all: &[Snapshot], said: &Said) -> BTreeSet<ObjectId> {
    let sorted = newest_first(all);
    let ids = |some: Vec<&Snapshot>| some.iter().map(|one| one.id).collect();
    match said {
        Said::Last(count) => ids(sorted.into_iter().take(*count as usize).collect()),
        Said::Newest(level, count, step) => {
            let count = count.map_or(usize::MAX, |count| count as usize);
            let mut kept: Vec<&Snapshot> =
                sorted.iter().filter(|one| is_newest_of_its_period(one, &sorted, *level, *step)).copied().collect();
            kept.truncate(count);
            let mut kept: BTreeSet<ObjectId> = ids(kept);
            if kept.len() < count {
                kept.extend(sorted.last().map(|oldest| oldest.id));
            }
            kept
        }
        Said::Within(number, unit) => ids(window(&sorted, *number, *unit)),
        Said::EachWithin(level, number, unit) => {
            let inside = window(&sorted, *number, *unit);
            ids(inside.iter().filter(|one| is_newest_of_its_period(one, &inside, *level, 1)).copied().collect())
        }
        Said::Tagged(tags) => {
            ids(sorted.into_iter().filter(|one| tags.iter().all(|tag| one.tags.contains(tag))).collect())
        }
    }
}

fn kept_at(all: &[Snapshot], said: &[Said], now: Timestamp) -> BTreeSet<ObjectId> {
    let rules: Vec<Rule> = said.iter().map(Said::rule).collect();
    let groups = decide(all, &rules, GroupBy::default(), &zone(), now);
    let kept = groups.iter().flat_map(|group| &group.decisions).filter(|decision| !decision.reasons.is_empty());
    kept.map(|decision| all[decision.at].id).collect()
}

fn kept(all: &[Snapshot], said: &[Said]) -> BTreeSet<ObjectId> {
    kept_at(all, said, now())
}

fn any_level() -> impl Strategy<Value = Level> {
    proptest::sample::select(Level::ALL.to_vec())
}

fn any_rule() -> impl Strategy<Value = Said> {
    let unit = || proptest::sample::select(vec!['h', 'd', 'm', 'y']);
    let count = prop_oneof![9 => (0..12_u32).prop_map(Some), 1 => Just(None)];
    let step = prop_oneof![2 => Just(1), 1 => 2..7_u32];
    let tags = proptest::sample::subsequence(vec!["a".to_owned(), "b".to_owned()], 1..=2);
    prop_oneof![
        1 => (0..12_u32).prop_map(Said::Last),
        5 => (any_level(), count, step).prop_map(|(level, count, step)| {
            Said::Newest(level, count, if level == Level::Hourly { 1 } else { step })
        }),
        1 => (1..40_i64, unit()).prop_map(|(number, unit)| Said::Within(number, unit)),
        2 => (any_level(), 1..40_i64, unit()).prop_map(|(level, number, unit)| Said::EachWithin(level, number, unit)),
        1 => tags.prop_map(Said::Tagged),
    ]
}

/// Histories: steps of minutes to months between snapshots, none at all now and then.
fn any_history() -> impl Strategy<Value = Vec<Snapshot>> {
    let pause = prop_oneof![
        1 => Just(0_i64),
        2 => 60..7_200_i64,
        3 => 80_000..92_000_i64,
        4 => Just(86_400),
        2 => 86_400..5_000_000_i64,
    ];
    let tags = proptest::sample::subsequence(vec!["a".to_owned(), "b".to_owned()], 0..=2);
    proptest::collection::vec((pause, tags, proptest::bool::weighted(0.05)), 0..60).prop_map(|steps| {
        let mut secs = START_SECS;
        let each = steps.into_iter().enumerate().map(|(at, (pause, tags, is_pinned))| {
            secs += pause;
            Snapshot { tags, is_pinned, ..snapshot(at as u8, secs) }
        });
        each.collect()
    })
}

fn pinned(all: &[Snapshot]) -> BTreeSet<ObjectId> {
    all.iter().filter(|one| one.is_pinned).map(|one| one.id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rules_keep_what_the_oracle_keeps(all in any_history(), said in proptest::collection::vec(any_rule(), 0..5)) {
        let mut expected = pinned(&all);
        expected.extend(said.iter().flat_map(|one| oracle(&all, one)));
        prop_assert_eq!(kept(&all, &said), expected);
    }

    #[test]
    fn more_rules_never_keep_less(
        all in any_history(), said in proptest::collection::vec(any_rule(), 0..5), more in any_rule(), at in 0..5_usize,
    ) {
        let mut longer = said.clone();
        longer.insert(at.min(said.len()), more);
        prop_assert!(kept(&all, &said).is_subset(&kept(&all, &longer)));
    }

    #[test]
    fn a_rule_never_keeps_more_than_its_number(mut all in any_history(), said in any_rule()) {
        all.iter_mut().for_each(|one| one.is_pinned = false);
        if let Said::Last(count) | Said::Newest(_, Some(count), _) = said {
            prop_assert!(kept(&all, &[said]).len() <= count as usize);
        }
    }

    #[test]
    fn the_same_rules_again_forget_nothing_more(all in any_history(), said in proptest::collection::vec(any_rule(), 1..5)) {
        let once = kept(&all, &said);
        let left: Vec<Snapshot> = all.into_iter().filter(|one| once.contains(&one.id)).collect();
        prop_assert_eq!(kept(&left, &said), once);
    }

    #[test]
    fn incomplete_snapshots_cost_no_complete_one_its_place(
        mut all in any_history(), lacking in proptest::collection::vec(any::<bool>(), 60),
        said in proptest::collection::vec(any_rule(), 1..5),
    ) {
        let as_if_whole = kept(&all, &said);
        for (one, lacks) in all.iter_mut().zip(lacking) {
            one.is_incomplete = lacks;
        }
        let complete: Vec<Snapshot> = all.iter().filter(|one| !one.is_incomplete).cloned().collect();
        let mut expected = as_if_whole;
        expected.extend(kept(&complete, &said));
        let once = kept(&all, &said);
        prop_assert_eq!(&once, &expected);
        let left: Vec<Snapshot> = all.into_iter().filter(|one| once.contains(&one.id)).collect();
        prop_assert_eq!(kept(&left, &said), once);
    }

    #[test]
    fn a_rule_that_counts_keeps_the_newest_of_every_group(
        mut all in any_history(), hosts in proptest::collection::vec(0..3_u8, 60), said in any_rule(), count in 1..5_u32,
    ) {
        for (one, host) in all.iter_mut().zip(hosts) {
            one.host = host.to_string();
        }
        let kept = kept(&all, &[said, Said::Newest(Level::Yearly, Some(count), 1)]);
        for host in ["0", "1", "2"] {
            let newest = all.iter().filter(|one| one.host == host).max_by_key(|one| (one.time, one.id));
            prop_assert!(newest.is_none_or(|newest| kept.contains(&newest.id)));
        }
    }

    #[test]
    fn the_present_only_ever_keeps_more(
        all in any_history(), said in proptest::collection::vec(any_rule(), 1..4), secs in 0..200_000_000_i64,
    ) {
        let now = Timestamp::from_second(START_SECS + secs).unwrap();
        let limit = now.checked_add(bakfs::clock::AHEAD).unwrap();
        let (believed, ahead): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|one| one.time <= limit);
        let mut expected = kept(&believed, &said);
        expected.extend(ahead.iter().map(|one| one.id));
        prop_assert_eq!(kept_at(&all, &said, now), expected);
    }
}

/// Backs up at three every night and applies the rules after each backup; returns what is left.
fn nightly(nights: i32, said: &[Said]) -> Vec<Zoned> {
    let first: Zoned = "2024-01-01T03:00:00+01:00[+01:00]".parse().unwrap();
    let mut left: Vec<Snapshot> = Vec::new();
    for night in 0..nights {
        let time = first.datetime().checked_add(night.days()).unwrap().to_zoned(zone()).unwrap();
        left.push(Snapshot { time: time.timestamp(), ..snapshot((night % 251) as u8, 0) });
        let rules: Vec<Rule> = said.iter().map(Said::rule).collect();
        let groups = decide(&left, &rules, GroupBy::default(), &zone(), now());
        let keeps: BTreeSet<usize> =
            groups[0].decisions.iter().filter(|one| !one.reasons.is_empty()).map(|one| one.at).collect();
        let mut at = 0;
        left.retain(|_| {
            at += 1;
            keeps.contains(&(at - 1))
        });
    }
    left.iter().map(|one| one.time.to_zoned(zone())).collect()
}

fn dates(left: &[Zoned]) -> Vec<String> {
    left.iter().map(|time| time.date().to_string()).collect()
}

#[test]
fn nightly_forgetting_grows_into_the_past_it_is_asked_for() {
    let rules = [
        Said::Newest(Level::Daily, Some(3), 1),
        Said::Newest(Level::Monthly, Some(2), 1),
        Said::Newest(Level::Yearly, Some(3), 1),
    ];
    assert_eq!(dates(&nightly(10, &rules)), ["2024-01-01", "2024-01-08", "2024-01-09", "2024-01-10"]);
    // The first year is not full yet: its oldest snapshot holds its place.
    assert_eq!(dates(&nightly(200, &rules)), ["2024-01-01", "2024-06-30", "2024-07-16", "2024-07-17", "2024-07-18"]);
    assert_eq!(
        dates(&nightly(366 + 365 + 100, &rules)),
        ["2024-12-31", "2025-12-31", "2026-03-31", "2026-04-08", "2026-04-09", "2026-04-10"]
    );
}

#[test]
fn every_second_month_does_not_shift_as_nights_go_by() {
    let rules = [Said::Newest(Level::Monthly, Some(4), 2)];
    for (nights, expected) in [
        (366 + 365 + 14, ["2025-08-31", "2025-10-31", "2025-12-31", "2026-01-14"]),
        (366 + 365 + 45, ["2025-08-31", "2025-10-31", "2025-12-31", "2026-02-14"]),
        (366 + 365 + 60, ["2025-10-31", "2025-12-31", "2026-02-28", "2026-03-01"]),
        (366 + 365 + 120, ["2025-10-31", "2025-12-31", "2026-02-28", "2026-04-30"]),
    ] {
        assert_eq!(dates(&nightly(nights, &rules)), expected, "{nights}");
    }
}

#[test]
fn reasons_read_as_the_rules_are_written() {
    let all = [snapshot(1, START_SECS), snapshot(2, START_SECS + 86_400)];
    let rules = [Said::Newest(Level::Monthly, Some(6), 2), Said::Within(30, 'd')].map(|said| said.rule());
    let groups = decide(&all, &rules, GroupBy::default(), &zone(), now());
    let texts: Vec<Vec<String>> =
        groups[0].decisions.iter().map(|one| one.reasons.iter().map(Reason::to_string).collect()).collect();
    assert_eq!(texts[0], ["monthly 1 of 6/2", "within 30d"]);
    assert_eq!(texts[1], ["monthly 2 of 6/2 (oldest)", "within 30d"]);
}
