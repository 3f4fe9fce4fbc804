//! When scheduled runs begin.

use super::file;
use super::periodicity::Periodicity;
use crate::error::{Error, Result};
use jiff::civil::{Date, Weekday};
use jiff::{ToSpan, Zoned};

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

impl Default for Schedule {
    fn default() -> Self {
        Schedule {
            hourly_minute: 5,
            daily: Clock { hour: 3, minute: 15 },
            weekly: (Weekday::Sunday, Clock { hour: 4, minute: 15 }),
            monthly: (1, Clock { hour: 5, minute: 15 }),
            bimonthly: (1, Clock { hour: 6, minute: 15 }),
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
        let month_form = "1 05:15 (a day up to 28, and a time)";
        Ok(Schedule {
            hourly_minute: stated(&written.hourly, "hourly", ":15", minute, or.hourly_minute)?,
            daily: stated(&written.daily, "daily", "03:15", clock, or.daily)?,
            weekly: stated(&written.weekly, "weekly", "sunday 04:15", weekday, or.weekly)?,
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
    pub fn next(&self, periodicity: Periodicity, now: &Zoned) -> Option<Zoned> {
        let at = |date: Date, clock: Clock| date.at(clock.hour, clock.minute, 0, 0).to_zoned(now.time_zone().clone());
        let first = |mut date: Date, clock: Clock, is_day: &dyn Fn(Date) -> bool| {
            loop {
                if is_day(date) {
                    let found = at(date, clock).ok()?;
                    if found > *now {
                        return Some(found);
                    }
                }
                date = date.tomorrow().ok()?;
            }
        };
        let today = now.date();
        match periodicity {
            Periodicity::Hourly => {
                let hour = now.with().minute(self.hourly_minute).second(0).subsec_nanosecond(0).build().ok()?;
                if hour > *now { Some(hour) } else { hour.checked_add(1.hour()).ok() }
            }
            Periodicity::Daily => first(today, self.daily, &|_| true),
            Periodicity::Weekly => first(today, self.weekly.1, &|date| date.weekday() == self.weekly.0),
            Periodicity::Monthly => first(today, self.monthly.1, &|date| date.day() == self.monthly.0),
            Periodicity::Bimonthly => {
                let is_day = |date: Date| date.month() % 2 == 1 && date.day() == self.bimonthly.0;
                first(today, self.bimonthly.1, &is_day)
            }
            Periodicity::Shutdown | Periodicity::Manual => None,
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
            (Periodicity::Daily, Some("2026-11-22T03:15:00[UTC]")),
            (Periodicity::Weekly, Some("2026-11-22T04:15:00[UTC]")),
            (Periodicity::Monthly, Some("2026-12-01T05:15:00[UTC]")),
            (Periodicity::Bimonthly, Some("2027-01-01T06:15:00[UTC]")),
            (Periodicity::Shutdown, None),
        ] {
            let expected = expected.map(|text| text.parse::<Zoned>().unwrap());
            assert_eq!(schedule.next(periodicity, &now), expected, "{periodicity}");
        }
        let now: Zoned = "2026-11-21T20:05:00[UTC]".parse().unwrap();
        let next = schedule.next(Periodicity::Hourly, &now).unwrap();
        assert_eq!(next.to_string(), "2026-11-21T21:05:00+00:00[UTC]");
    }
}
