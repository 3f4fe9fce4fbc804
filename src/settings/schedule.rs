//! When scheduled runs begin.

use super::file;
use super::periodicity::Periodicity;
use crate::error::{Error, Result};
use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, Zoned};

/// A day without a time of the schedule is looked for in so many days: a day of a month may meet a change of clocks in
/// some years only.
const LOOKED_AHEAD_DAYS: usize = 10 * 366;
/// The next run is looked for in so many days: the longest period, should its first time be skipped.
const LONGEST_DAYS: usize = 150;

/// A time of day by the machine's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// 0 to 23.
    pub hour: i8,
    /// 0 to 59.
    pub minute: i8,
}

/// When scheduled runs begin; days of months go to 28, so that every month has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The minute of hourly runs.
    pub hourly_minute: i8,
    /// The time of daily runs.
    pub daily: Clock,
    /// The day and time of weekly runs.
    pub weekly: (Weekday, Clock),
    /// The day and time of monthly runs.
    pub monthly: (i8, Clock),
    /// The day and time of runs in January, March, and so on.
    pub bimonthly: (i8, Clock),
    /// The most by which a run begins later, at random, in seconds.
    pub jitter_secs: u64,
    /// How long a machine that goes down waits for the shutdown runs, in seconds.
    pub shutdown_timeout_secs: u64,
}

/// Times that every day has in every zone: by the tz database no clock has been set forward over them since 2000, nor
/// will be (but for a station in Antarctica in 2018 and 2019, and days that were skipped as a whole).
impl Default for Schedule {
    fn default() -> Self {
        Schedule {
            hourly_minute: 5,
            daily: Clock { hour: 5, minute: 15 },
            weekly: (Weekday::Sunday, Clock { hour: 5, minute: 45 }),
            monthly: (1, Clock { hour: 6, minute: 15 }),
            bimonthly: (1, Clock { hour: 6, minute: 45 }),
            jitter_secs: 300,
            shutdown_timeout_secs: 600,
        }
    }
}

fn clock(text: &str) -> Option<Clock> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str, below: i8| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number: &i8| digits && *number < below)
    };
    Some(Clock { hour: number(hour, 24)?, minute: number(minute, 60)? })
}

fn day_of_month(text: &str) -> Option<(i8, Clock)> {
    let (day, time) = text.split_once(' ')?;
    Some((day.parse().ok().filter(|day| (1..=28).contains(day))?, clock(time)?))
}

fn weekday(text: &str) -> Option<(Weekday, Clock)> {
    const NAMES: [(&str, Weekday); 7] = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];
    let (day, time) = text.split_once(' ')?;
    let (_, day) = NAMES.iter().find(|(name, _)| *name == day.to_lowercase())?;
    Some((*day, clock(time)?))
}

fn stated<T>(text: &Option<String>, key: &str, form: &str, read: impl Fn(&str) -> Option<T>, or: T) -> Result<T> {
    match text {
        None => Ok(or),
        Some(text) => read(text.trim())
            .ok_or_else(|| Error::usage(format!("schedule.{key}: `{text}` is no time: write it as `{form}`"))),
    }
}

impl Schedule {
    /// Reads the times as they are written.
    pub fn of_file(written: &file::Schedule) -> Result<Self> {
        let or = Schedule::default();
        let minute = |text: &str| clock(&format!("00{text}")).map(|clock| clock.minute);
        if written.shutdown_timeout.is_some_and(|timeout| timeout.secs.is_none()) {
            return Err(Error::usage("schedule.shutdown-timeout: a machine that goes down waits for no one for ever"));
        }
        if written.shutdown_timeout.is_some_and(|timeout| timeout.secs == Some(0)) {
            let message = "schedule.shutdown-timeout: no run ends in no time: write `10min`, or leave `shutdown` out";
            return Err(Error::usage(message));
        }
        let month_form = "1 06:15 (a day up to 28, and a time)";
        Ok(Schedule {
            hourly_minute: stated(&written.hourly, "hourly", ":15", minute, or.hourly_minute)?,
            daily: stated(&written.daily, "daily", "05:15", clock, or.daily)?,
            weekly: stated(&written.weekly, "weekly", "sunday 05:45", weekday, or.weekly)?,
            monthly: stated(&written.monthly, "monthly", month_form, day_of_month, or.monthly)?,
            bimonthly: stated(&written.bimonthly, "bimonthly", month_form, day_of_month, or.bimonthly)?,
            jitter_secs: written.jitter.map_or(or.jitter_secs, |jitter| jitter.secs),
            shutdown_timeout_secs: written
                .shutdown_timeout
                .and_then(|timeout| timeout.secs)
                .unwrap_or(or.shutdown_timeout_secs),
        })
    }

    /// Returns when runs begin next, without the jitter; `None` where the clock does not say.
    ///
    /// As systemd reckons (systemd.time(7), `calendar_spec_next_usec`): a time that a day does not have, because the
    /// clock is set forward over it, is left out; one that it has twice is meant once.
    pub fn next(&self, periodicity: Periodicity, now: &Zoned) -> Option<Zoned> {
        let (zone, wall) = (now.time_zone(), now.datetime());
        let mut later = self.times(periodicity, wall.date(), LONGEST_DAYS).filter(|time| *time > wall);
        later.find_map(|time| existing(zone, time, now.timestamp()))
    }

    /// Returns whether a time of the schedule lies between a run's beginning and now: it was missed.
    pub fn is_missed(&self, periodicity: Periodicity, began: Timestamp, now: &Zoned) -> bool {
        let began = began.to_zoned(now.time_zone().clone());
        self.next(periodicity, &began).is_some_and(|next| next <= *now)
    }

    /// Returns the first time from a day on that the clock is set forward over, so that nothing begins then: within ten
    /// years, and hourly runs apart. Days that a zone leaves out whole do not count.
    pub fn skipped(&self, periodicity: Periodicity, zone: &TimeZone, from: Date) -> Option<DateTime> {
        if periodicity == Periodicity::Hourly {
            return None;
        }
        let is_skipped = |time: &DateTime| match zone.to_ambiguous_zoned(*time).offset() {
            AmbiguousOffset::Gap { before, after } => after.seconds() - before.seconds() < 86_400,
            _ => false,
        };
        self.times(periodicity, from, LOOKED_AHEAD_DAYS).find(is_skipped)
    }

    /// Returns the times on the wall of a number of days.
    fn times(&self, periodicity: Periodicity, from: Date, days: usize) -> impl Iterator<Item = DateTime> {
        let schedule = *self;
        let dates = std::iter::successors(Some(from), |date| date.tomorrow().ok()).take(days);
        dates.flat_map(move |date| {
            let (clock, hours) = match periodicity {
                Periodicity::Hourly => (Clock { hour: 0, minute: schedule.hourly_minute }, 24),
                Periodicity::Daily => (schedule.daily, 1),
                Periodicity::Weekly => (schedule.weekly.1, i8::from(date.weekday() == schedule.weekly.0)),
                Periodicity::Monthly => (schedule.monthly.1, i8::from(date.day() == schedule.monthly.0)),
                Periodicity::Bimonthly => {
                    let is_day = date.month() % 2 == 1 && date.day() == schedule.bimonthly.0;
                    (schedule.bimonthly.1, i8::from(is_day))
                }
                Periodicity::Shutdown | Periodicity::Manual => (schedule.daily, 0),
            };
            (0..hours).map(move |hour| date.at(clock.hour + hour, clock.minute, 0, 0))
        })
    }
}

/// Returns the moment a time on the wall names after `now`; `None` where the clock is set forward over it.
fn existing(zone: &TimeZone, time: DateTime, now: Timestamp) -> Option<Zoned> {
    let named = zone.to_ambiguous_zoned(time);
    match named.offset() {
        AmbiguousOffset::Unambiguous { .. } => named.compatible().ok(),
        AmbiguousOffset::Gap { .. } => None,
        AmbiguousOffset::Fold { before, after } => {
            let mut moments = [before, after].into_iter().filter_map(|offset| offset.to_timestamp(time).ok());
            moments.find(|moment| *moment > now).map(|moment| moment.to_zoned(zone.clone()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_or_refused_with_an_example() {
        let text = |text: &str| Some(text.to_string());
        let written = file::Schedule {
            hourly: text(":45"),
            daily: text("23:59"),
            weekly: text("Monday 00:00"),
            monthly: text("28 12:30"),
            ..file::Schedule::default()
        };
        let schedule = Schedule::of_file(&written).unwrap();
        assert_eq!(schedule.hourly_minute, 45);
        assert_eq!(schedule.daily, Clock { hour: 23, minute: 59 });
        assert_eq!(schedule.weekly, (Weekday::Monday, Clock { hour: 0, minute: 0 }));
        assert_eq!(schedule.monthly, (28, Clock { hour: 12, minute: 30 }));
        for wrong in ["24:00", "3:15", "03:60", "03", "", "29 03:15", "0 03:15", "someday 03:15", ":99"] {
            for set in [
                |schedule: &mut file::Schedule, text| schedule.hourly = text,
                |schedule: &mut file::Schedule, text| schedule.daily = text,
                |schedule: &mut file::Schedule, text| schedule.weekly = text,
                |schedule: &mut file::Schedule, text| schedule.monthly = text,
            ] {
                let mut written = file::Schedule::default();
                set(&mut written, text(wrong));
                let error = Schedule::of_file(&written).unwrap_err().chain();
                assert!(error.contains("write it as"), "{wrong}: {error}");
            }
        }
    }

    #[test]
    fn the_next_run_is_found_in_the_calendar() {
        let now: Zoned = "2026-11-21T20:00:00[UTC]".parse().unwrap();
        let schedule = Schedule::default();
        for (periodicity, expected) in [
            (Periodicity::Hourly, Some("2026-11-21T20:05:00[UTC]")),
            (Periodicity::Daily, Some("2026-11-22T05:15:00[UTC]")),
            (Periodicity::Weekly, Some("2026-11-22T05:45:00[UTC]")),
            (Periodicity::Monthly, Some("2026-12-01T06:15:00[UTC]")),
            (Periodicity::Bimonthly, Some("2027-01-01T06:45:00[UTC]")),
            (Periodicity::Shutdown, None),
        ] {
            let expected = expected.map(|text| text.parse::<Zoned>().unwrap());
            assert_eq!(schedule.next(periodicity, &now), expected, "{periodicity}");
        }
        let now: Zoned = "2026-11-21T20:05:00[UTC]".parse().unwrap();
        let next = schedule.next(Periodicity::Hourly, &now).unwrap();
        assert_eq!(next.to_string(), "2026-11-21T21:05:00+00:00[UTC]");
    }

    #[test]
    fn no_zone_sets_its_clock_forward_over_the_usual_times() {
        let (first, last): (Timestamp, Timestamp) =
            ("2000-01-01T00:00:00Z".parse().unwrap(), "2041-01-01T00:00:00Z".parse().unwrap());
        let usual = Schedule::default();
        let clocks = [usual.daily, usual.weekly.1, usual.monthly.1, usual.bimonthly.1];
        let mut looked_at = 0;
        for name in jiff::tz::db().available().map(|name| name.to_string()).filter(|name| name != "Antarctica/Casey") {
            let zone = TimeZone::get(&name).unwrap();
            let mut before = zone.to_offset(first).seconds();
            for change in zone.following(first).take_while(|change| change.timestamp() < last) {
                let after = change.offset().seconds();
                looked_at += 1;
                if (1..86_400).contains(&(after - before)) {
                    let day = zone.to_datetime(change.timestamp()).date();
                    for time in clocks.iter().flat_map(|clock| {
                        [day.yesterday().unwrap(), day, day.tomorrow().unwrap()]
                            .map(|day| day.at(clock.hour, clock.minute, 0, 0))
                    }) {
                        assert!(
                            !matches!(zone.to_ambiguous_zoned(time).offset(), AmbiguousOffset::Gap { .. }),
                            "{name} {time}"
                        );
                    }
                }
                before = after;
            }
        }
        assert!(looked_at > 10_000, "{looked_at}");
    }

    #[test]
    fn a_run_is_missed_when_one_of_its_times_has_passed_since_it_began() {
        let schedule = Schedule {
            daily: Clock { hour: 3, minute: 15 },
            weekly: (Weekday::Sunday, Clock { hour: 4, minute: 15 }),
            monthly: (1, Clock { hour: 5, minute: 15 }),
            bimonthly: (1, Clock { hour: 6, minute: 15 }),
            ..Schedule::default()
        };
        use Periodicity::{Bimonthly, Daily, Hourly, Monthly, Shutdown, Weekly};
        for (periodicity, began, now, is_missed) in [
            (Monthly, "2026-02-01T05:15", "2026-03-02T09:00", true),
            (Monthly, "2026-02-01T05:15", "2026-03-01T05:14", false),
            (Bimonthly, "2026-01-01T06:16", "2026-03-01T06:15", true),
            (Bimonthly, "2026-01-01T06:16", "2026-02-28T23:00", false),
            (Weekly, "2026-03-01T09:00", "2026-03-08T08:00", true),
            (Weekly, "2026-03-01T09:00", "2026-03-08T04:14", false),
            (Daily, "2026-03-09T03:15", "2026-03-10T03:40", true),
            (Daily, "2026-03-09T03:15", "2026-03-10T03:10", false),
            (Daily, "2026-03-09T03:14", "2026-03-09T03:16", true),
            (Hourly, "2026-03-09T10:05", "2026-03-09T10:50", false),
            (Hourly, "2026-03-09T10:20", "2026-03-09T11:10", true),
            (Shutdown, "2020-01-01T00:00", "2026-03-09T11:10", false),
        ] {
            let at = |text: &str| format!("{text}:00[UTC]").parse::<Zoned>().unwrap();
            let answer = schedule.is_missed(periodicity, at(began).timestamp(), &at(now));
            assert_eq!(answer, is_missed, "{periodicity} {began} {now}");
        }
    }

    #[test]
    fn a_time_that_days_lack_is_found_years_ahead() {
        let day = "2026-11-21".parse().unwrap();
        let zone = |name: &str| TimeZone::get(name).unwrap();
        let schedule = Schedule { daily: Clock { hour: 2, minute: 30 }, ..Schedule::default() };
        let skipped = schedule.skipped(Periodicity::Daily, &zone("Europe/Berlin"), day);
        assert_eq!(skipped, Some("2027-03-28T02:30:00".parse().unwrap()));
        assert_eq!(schedule.skipped(Periodicity::Daily, &zone("UTC"), day), None);
        assert_eq!(schedule.skipped(Periodicity::Weekly, &zone("Europe/Berlin"), day), None);
        let schedule = Schedule { monthly: (28, Clock { hour: 3, minute: 0 }), ..Schedule::default() };
        let skipped = schedule.skipped(Periodicity::Monthly, &zone("Europe/Helsinki"), day);
        assert_eq!(skipped, Some("2027-03-28T03:00:00".parse().unwrap()));
    }
}
