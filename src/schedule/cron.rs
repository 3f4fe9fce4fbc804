//! The texts of crontabs (crontab(5)).

use super::{Invocation, MARK};
use crate::error::{Error, Result};
use crate::settings::{Periodicity, Schedule, Settings};

/// The line after bakfs's own lines in a user's crontab; [`MARK`] is the one before them.
const END: &str = "# End of what bakfs schedule install has written";

/// How crontabs are written on a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Style {
    /// The words before every command, which lower its priority.
    pub launcher: Vec<String>,
    /// Whether lines name the user: in `/etc/cron.d`, not in a user's own crontab.
    pub names_user: bool,
}

/// Returns when runs begin, as the first five fields of a line; `None` where the clock does not say.
pub fn fields(schedule: &Schedule, periodicity: Periodicity) -> Option<String> {
    let event =
        |clock: crate::settings::schedule::Clock, days: String| format!("{} {} {days}", clock.minute, clock.hour);
    Some(match periodicity {
        Periodicity::Hourly => format!("{} * * * *", schedule.hourly_minute),
        Periodicity::Daily => event(schedule.daily, "* * *".into()),
        Periodicity::Weekly => event(schedule.weekly.1, format!("* * {}", schedule.weekly.0.to_sunday_zero_offset())),
        Periodicity::Monthly => event(schedule.monthly.1, format!("{} * *", schedule.monthly.0)),
        Periodicity::Bimonthly => event(schedule.bimonthly.1, format!("{} 1-11/2 *", schedule.bimonthly.0)),
        Periodicity::Shutdown | Periodicity::Manual => return None,
    })
}

/// Returns a periodicity's lines: the runs, and after a restart those that were missed. cron knows no shutdown.
pub fn lines(settings: &Settings, invocation: &Invocation, style: &Style, periodicity: Periodicity) -> Vec<String> {
    let Some(fields) = fields(&settings.schedule, periodicity) else { return Vec::new() };
    let jitter = format!("{}s", settings.schedule.jitter_secs);
    let mut arguments = vec!["--periodicity", periodicity.word()];
    if settings.schedule.jitter_secs > 0 {
        arguments.extend(["--jitter", &jitter]);
    }
    // In each line, by env(1): lines of a crontab that set variables set them for all that follow.
    let mut launched = style.launcher.clone();
    launched.extend((!invocation.environment.is_empty()).then(|| "env".to_string()));
    launched.extend(invocation.environment.iter().map(|(name, value)| format!("{name}={value}")));
    let line = |words: Vec<String>| command_line(&launched, &words);
    let run = line(invocation.run(&arguments));
    arguments.push("--catch-up");
    let catch_up = line(invocation.run(&arguments));
    let user = if style.names_user { "root " } else { "" };
    vec![format!("{fields} {user}{run}"), format!("@reboot {user}{catch_up}")]
}

/// Returns bakfs's own lines for some periodicities, with those around them; nothing where there are none.
pub fn text(settings: &Settings, invocation: &Invocation, style: &Style, wanted: &[Periodicity]) -> String {
    let lines: Vec<_> =
        wanted.iter().flat_map(|periodicity| lines(settings, invocation, style, *periodicity)).collect();
    if lines.is_empty() {
        return String::new();
    }
    let mut text = format!("{MARK}\n# `bakfs schedule remove` takes these lines away.\n");
    if style.names_user {
        text.push_str("SHELL=/bin/sh\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
    }
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    text.push_str(END);
    text.push('\n');
    text
}

/// Returns whether a line of bakfs's own begins runs of a periodicity.
pub fn begins(line: &str, periodicity: Periodicity) -> bool {
    let mut words = line.split(' ').skip_while(|word| *word != "--periodicity");
    !line.starts_with('#') && words.nth(1) == Some(periodicity.word())
}

/// A user's crontab: bakfs's own lines, and byte for byte what is before and after them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Crontab {
    /// What is before.
    pub before: Vec<u8>,
    /// bakfs's own lines, whole.
    pub own: Vec<u8>,
    /// What is after.
    pub after: Vec<u8>,
}

impl Crontab {
    /// Finds bakfs's own lines. A crontab with only one of the two lines around them is an error: what lies beyond
    /// might be somebody's.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut at = 0;
        let (mut begins, mut ends) = (Vec::new(), Vec::new());
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match line.strip_suffix(b"\n").unwrap_or(line) {
                text if text == MARK.as_bytes() => begins.push(at),
                text if text == END.as_bytes() => ends.push(at + line.len()),
                _ => {}
            }
            at += line.len();
        }
        match (&*begins, &*ends) {
            ([], []) => Ok(Crontab { before: bytes.to_vec(), ..Crontab::default() }),
            ([begin], [end]) if begin < end => Ok(Crontab {
                before: bytes[..*begin].to_vec(),
                own: bytes[*begin..*end].to_vec(),
                after: bytes[*end..].to_vec(),
            }),
            _ => Err(Error::usage(format!(
                "The crontab does not have the lines `{MARK}` and `{END}` once each: take bakfs's lines away with \
                 `crontab -e`, then run this again"
            ))),
        }
    }

    /// Returns the whole, with other lines of bakfs's own.
    pub fn with(&self, own: &str) -> Vec<u8> {
        let mut bytes = self.before.clone();
        if !own.is_empty() && !bytes.is_empty() && !bytes.ends_with(b"\n") {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(own.as_bytes());
        bytes.extend_from_slice(&self.after);
        bytes
    }
}

/// Writes a command for the shell, with what cron itself would take for the end of the line.
fn command_line(launcher: &[String], words: &[String]) -> String {
    let quoted = launcher.iter().chain(words).map(|word| {
        let is_plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/-_.+:,@=%".contains(c));
        let word = if is_plain { word.clone() } else { format!("'{}'", word.replace('\'', "'\\''")) };
        word.replace('%', "\\%")
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::example;
    use std::path::Path;

    fn invocation() -> Invocation {
        Invocation::new(Path::new("/usr/bin/bakfs"), None).unwrap()
    }

    #[test]
    fn a_line_names_its_time_and_what_was_missed_is_made_up_for() {
        let settings = example("[schedule]\nweekly = 'sunday 04:15'\njitter = '90s'");
        let style = Style { launcher: vec!["nice".into(), "-n".into(), "10".into()], names_user: true };
        let expected = [
            (Periodicity::Hourly, "5 * * * *"),
            (Periodicity::Daily, "15 5 * * *"),
            (Periodicity::Weekly, "15 4 * * 0"),
            (Periodicity::Monthly, "15 6 1 * *"),
            (Periodicity::Bimonthly, "45 6 1 1-11/2 *"),
        ];
        for (periodicity, fields) in expected {
            let run = format!("root nice -n 10 /usr/bin/bakfs run --periodicity {periodicity} --jitter 90s");
            let lines = lines(&settings, &invocation(), &style, periodicity);
            assert_eq!(lines, [format!("{fields} {run}"), format!("@reboot {run} --catch-up")]);
            assert!(lines.iter().all(|line| begins(line, periodicity) && !begins(line, Periodicity::Shutdown)));
        }
        assert!(lines(&settings, &invocation(), &style, Periodicity::Shutdown).is_empty());
        assert_eq!(text(&settings, &invocation(), &style, &[Periodicity::Shutdown]), "");
    }

    #[test]
    fn paths_reach_the_program_as_they_are() {
        let invocation = Invocation::new(Path::new("/opt/it's 100%/bakfs"), None).unwrap();
        let line = command_line(&[], &invocation.run(&[]));
        assert_eq!(line, r"'/opt/it'\''s 100\%/bakfs' run");
    }

    #[test]
    fn all_but_our_own_lines_of_a_crontab_stay_byte_for_byte() {
        let own = text(&example(""), &invocation(), &Style::default(), &[Periodicity::Daily]);
        for (before, after) in [("", ""), ("MAILTO=a\n", "1 * * * * b"), ("\n\n# \u{e4}\n", "\n")] {
            let whole = [before.as_bytes(), own.as_bytes(), after.as_bytes()].concat();
            let found = Crontab::parse(&whole).unwrap();
            assert_eq!((&*found.before, &*found.after), (before.as_bytes(), after.as_bytes()));
            assert_eq!(found.with(&own), whole);
            assert_eq!(found.with(""), [before, after].concat().into_bytes());
        }
        let plain = Crontab::parse(b"1 * * * * b").unwrap();
        assert_eq!(plain.with(&own), format!("1 * * * * b\n{own}").into_bytes());
        assert_eq!(plain.with(""), b"1 * * * * b");
        let (begin, end) = (format!("{MARK}\n"), format!("{END}\n"));
        for half in [begin.clone(), end.clone(), format!("{end}{begin}"), own.repeat(2)] {
            assert!(Crontab::parse(half.as_bytes()).unwrap_err().chain().contains("crontab -e"), "{half}");
        }
    }
}
