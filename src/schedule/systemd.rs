//! The texts of systemd's units (systemd.service(5), systemd.timer(5), systemd.exec(5)).

use super::{Invocation, MARK, profiles_of};
use crate::settings::{Periodicity, Schedule, Settings};
use jiff::civil::Weekday;

/// How long `finally` hooks have at least when a run is stopped: systemd's own default.
const MIN_STOP_SECS: u64 = 90;
/// How long they have at most: a machine that goes down does not wait for ever.
const MAX_STOP_SECS: u64 = 3600;

/// What is up while a run reads: what is named here is started before it and stopped after it.
const NEEDS: &str = "\
Wants=network-online.target
After=network-online.target nss-lookup.target systemd-resolved.service local-fs.target remote-fs.target
After=postgresql.service mysql.service mariadb.service docker.service
";

/// What a run never needs, and hooks do not either. What is not here, and why, is said where it would stand.
const HARDENING: &str = "\
# No capability is left that reaches into the kernel, the clock or the machine's power. All others stay: a run reads
# every file, becomes the user its databases trust, and its hooks may restore owners, devices and mounts.
CapabilityBoundingSet=~CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_BOOT CAP_SYS_TIME CAP_WAKE_ALARM CAP_BPF CAP_PERFMON
CapabilityBoundingSet=~CAP_SYSLOG CAP_SYS_PACCT CAP_SYS_TTY_CONFIG CAP_AUDIT_CONTROL CAP_BLOCK_SUSPEND
SystemCallFilter=~@clock @cpu-emulation @module @obsolete @raw-io @reboot @swap
SystemCallErrorNumber=EPERM
SystemCallArchitectures=native
LockPersonality=yes
RestrictRealtime=yes
# Left out with intent: ProtectSystem, ProtectHome, ProtectKernelTunables, ProtectControlGroups and PrivateTmp give the
# run mounts of its own, in which hooks that mount a disk, and sockets of databases in /tmp, are not where they are
# expected. ProtectKernelModules hides /usr/lib/modules: it would be missing in the backup. NoNewPrivileges breaks sudo
# and mail in hooks of other users, MemoryDenyWriteExecute hooks in PHP and JavaScript, RestrictSUIDSGID restores.
";

/// A unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its file's name.
    pub name: String,
    /// Its file's text.
    pub text: String,
}

/// Returns the file names a periodicity's units may have; the one that is enabled comes last.
pub fn names(periodicity: Periodicity) -> Vec<String> {
    let service = format!("bakfs-{periodicity}.service");
    match periodicity {
        Periodicity::Shutdown => vec![service],
        _ => vec![service, format!("bakfs-{periodicity}.timer")],
    }
}

/// Returns the target that wants the enabled unit of a periodicity.
pub fn wanted_by(periodicity: Periodicity, is_user: bool) -> &'static str {
    match (periodicity, is_user) {
        (Periodicity::Shutdown, false) => "multi-user.target",
        (Periodicity::Shutdown, true) => "default.target",
        _ => "timers.target",
    }
}

/// Returns when runs begin, as a calendar event (systemd.time(7)); `None` where the clock does not say.
pub fn calendar(schedule: &Schedule, periodicity: Periodicity) -> Option<String> {
    let event = |days: String, clock: crate::settings::schedule::Clock| {
        format!("{days} {:02}:{:02}:00", clock.hour, clock.minute)
    };
    Some(match periodicity {
        Periodicity::Hourly => format!("*-*-* *:{:02}:00", schedule.hourly_minute),
        Periodicity::Daily => event("*-*-*".into(), schedule.daily),
        Periodicity::Weekly => event(format!("{} *-*-*", day_name(schedule.weekly.0)), schedule.weekly.1),
        Periodicity::Monthly => event(format!("*-*-{:02}", schedule.monthly.0), schedule.monthly.1),
        Periodicity::Bimonthly => event(format!("*-01/2-{:02}", schedule.bimonthly.0), schedule.bimonthly.1),
        Periodicity::Shutdown | Periodicity::Manual => return None,
    })
}

fn day_name(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "Mon",
        Weekday::Tuesday => "Tue",
        Weekday::Wednesday => "Wed",
        Weekday::Thursday => "Thu",
        Weekday::Friday => "Fri",
        Weekday::Saturday => "Sat",
        Weekday::Sunday => "Sun",
    }
}

/// Returns the units of a periodicity, in the order of [`names`]. Those of a user have no part in what only the
/// machine's own manager may do.
pub fn units(settings: &Settings, invocation: &Invocation, periodicity: Periodicity, is_user: bool) -> Vec<Unit> {
    let mut names = names(periodicity).into_iter();
    let mut units = Vec::new();
    let mut add = |text: String| units.extend(names.next().map(|name| Unit { name, text }));
    add(service(settings, invocation, periodicity, is_user));
    if let Some(calendar) = calendar(&settings.schedule, periodicity) {
        let jitter_secs = settings.schedule.jitter_secs;
        add(format!(
            "{MARK}\n\
             [Unit]\n\
             Description=Begin the {periodicity} backups of bakfs\n\
             \n\
             [Timer]\n\
             OnCalendar={calendar}\n\
             RandomizedDelaySec={jitter_secs}s\n\
             AccuracySec=1min\n\
             # A run that was due while the machine was down begins when it is up again.\n\
             Persistent=true\n\
             \n\
             [Install]\n\
             WantedBy={}\n",
            wanted_by(periodicity, is_user)
        ));
    }
    units
}

fn service(settings: &Settings, invocation: &Invocation, periodicity: Periodicity, is_user: bool) -> String {
    let run = command_line(&invocation.run(&["--periodicity", periodicity.word()]));
    let recover = command_line(&invocation.run(&["--recover"]));
    let is_shutdown = periodicity == Periodicity::Shutdown;
    let needs = if is_user { "" } else { NEEDS };
    let mut text = format!("{MARK}\n[Unit]\nDescription=The {periodicity} backups of bakfs\n{needs}\n[Service]\n");
    text.push_str("Type=oneshot\n");
    if is_shutdown {
        let timeout_secs = settings.schedule.shutdown_timeout_secs;
        text.push_str(&format!(
            "# The run is what happens when this is stopped: what was started before it is stopped only afterwards.\n\
             RemainAfterExit=yes\nExecStart=/bin/true\nExecStop={run}\nTimeoutStopSec={timeout_secs}s\n"
        ));
    } else {
        let timeout_secs = stop_secs(settings, periodicity);
        text.push_str(&format!("ExecStart={run}\nTimeoutStartSec=infinity\nTimeoutStopSec={timeout_secs}s\n"));
    }
    text.push_str(&format!(
        "# What a killed run still owes, as the end of a maintenance mode.\nExecStopPost={recover}\n\
         # A stopped run ends by itself; what it leaves behind is killed.\nKillMode=mixed\n\
         Nice=10\nCPUSchedulingPolicy=batch\n\
         # Not `idle`: on a disk that is never idle the run would never end.\n\
         IOSchedulingClass=best-effort\nIOSchedulingPriority=7\n"
    ));
    for (name, value) in &invocation.environment {
        text.push_str(&format!("Environment={}\n", quoted(&format!("{name}={value}"))));
    }
    if !is_user {
        text.push_str("Environment=HOME=%h\n");
        text.push_str(HARDENING);
    }
    if is_shutdown {
        text.push_str(&format!("\n[Install]\nWantedBy={}\n", wanted_by(periodicity, is_user)));
    }
    text
}

/// Returns how long a run's last hooks have when it is stopped, in seconds.
fn stop_secs(settings: &Settings, periodicity: Periodicity) -> u64 {
    let hooks = profiles_of(settings, periodicity).map(|profile| &profile.hooks);
    let owed = hooks.filter(|hooks| hooks.finally.is_some());
    let longest = owed.map(|hooks| hooks.timeout_secs.unwrap_or(MAX_STOP_SECS)).max().unwrap_or(0);
    (MIN_STOP_SECS + longest).min(MAX_STOP_SECS)
}

/// Writes a command as systemd reads it back (systemd.service(5), "Command lines"). The program's own path knows no
/// variables.
fn command_line(words: &[String]) -> String {
    let words = words.iter().enumerate().map(|(at, word)| match at {
        0 => quoted(word),
        _ => quoted(&word.replace('$', "$$")),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Writes a word as systemd reads it back (systemd.syntax(7), "Quoting"; systemd.unit(5), "Specifiers").
fn quoted(word: &str) -> String {
    let word = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    let is_plain = word.chars().all(|c| c.is_alphanumeric() || "/-_.+:,@=%$".contains(c));
    if is_plain { word } else { format!("\"{word}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::example;
    use std::path::Path;

    fn invocation() -> Invocation {
        Invocation::new(Path::new("/opt/b f/bakfs"), Some(Path::new("/etc/100%/$x\"\\.toml"))).unwrap()
    }

    #[test]
    fn a_timed_run_has_a_service_and_a_timer() {
        let units = units(&example("[schedule]\ndaily = '23:59'"), &invocation(), Periodicity::Daily, false);
        assert_eq!(units.iter().map(|unit| &*unit.name).collect::<Vec<_>>(), names(Periodicity::Daily));
        assert!(units.iter().all(|unit| unit.text.starts_with("# Written by bakfs schedule install\n")));
        let words = r#""/opt/b f/bakfs" run --periodicity daily --config "/etc/100%%/$$x\"\\.toml""#;
        assert!(units[0].text.contains(&format!("\nExecStart={words}\n")), "{}", units[0].text);
        assert!(units[0].text.contains("\nExecStopPost=\"/opt/b f/bakfs\" run --recover --config"));
        for line in ["Type=oneshot", "TimeoutStartSec=infinity", "KillMode=mixed", "Nice=10", "TimeoutStopSec=90s"] {
            assert!(units[0].text.contains(&format!("\n{line}\n")), "{line}");
        }
        for line in ["OnCalendar=*-*-* 23:59:00", "Persistent=true", "RandomizedDelaySec=300s"] {
            assert!(units[1].text.contains(&format!("\n{line}\n")), "{line}");
        }
    }

    #[test]
    fn the_shutdown_run_happens_when_its_unit_is_stopped() {
        let units = units(&example(""), &invocation(), Periodicity::Shutdown, false);
        assert_eq!(units.len(), 1);
        for text in ["\nRemainAfterExit=yes\n", "run --periodicity shutdown", "\nTimeoutStopSec=600s\n"] {
            assert!(units[0].text.contains(text), "{text}");
        }
        assert!(units[0].text.contains("\nExecStop=\"/opt") && !units[0].text.contains("\nExecStart=\""));
    }

    #[test]
    fn a_stopped_run_has_the_time_its_last_hooks_need() {
        let mut settings = example("");
        let web = settings.profiles.get_mut("web").unwrap();
        web.hooks.finally = Some(crate::settings::values::Command::Line("maintenance off".into()));
        web.hooks.timeout_secs = Some(200);
        assert_eq!(stop_secs(&settings, Periodicity::Daily), 290);
        assert_eq!(stop_secs(&settings, Periodicity::Weekly), 90);
        settings.profiles.get_mut("web").unwrap().hooks.timeout_secs = None;
        assert_eq!(stop_secs(&settings, Periodicity::Daily), MAX_STOP_SECS);
    }

    #[test]
    fn a_users_units_ask_for_nothing_that_only_root_may_have() {
        for unit in units(&example(""), &invocation(), Periodicity::Daily, true) {
            for word in ["Capability", "SystemCall", "network-online", "Restrict"] {
                assert!(!unit.text.contains(word), "{word} in {}", unit.name);
            }
        }
    }
}
