//! Promise: what profiles have in `schedule` begins by itself, by systemd or cron, when `bakfs schedule list` says so;
//! nothing that others wrote is touched.

use bakfs::settings::{Periodicity, Settings};
use bakfs_testing::cli::{Bakfs, json_of};
use bakfs_testing::process::{Outcome, run, start, tool};
use bakfs_testing::until;
use jiff::Zoned;
use serde_json::Value;
use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const ALL: &str = "[profile.web]\nsources = ['/srv/web']\nschedule = ['hourly', 'daily']\n\
    [profile.all]\nsources = ['/']\nschedule = ['daily', 'weekly', 'monthly', 'bimonthly', 'shutdown']\n";

fn configure(bakfs: &Bakfs, text: &str) -> PathBuf {
    let path = bakfs.path("config").join("bakfs.toml");
    std::fs::write(&path, format!("repo = '/srv/repo'\n{text}")).unwrap();
    path
}

/// Returns `bakfs schedule ARGS` for a machine that is a folder of the world.
fn schedule(bakfs: &Bakfs, args: &[&str]) -> Command {
    let mut command = bakfs.command(["schedule"].iter().chain(args));
    command.env("BAKFS_SYSTEM_ROOT", bakfs.path("machine"));
    command
}

fn ok(bakfs: &Bakfs, args: &[&str]) -> Outcome {
    run(schedule(bakfs, args)).expect(0)
}

fn units(bakfs: &Bakfs) -> PathBuf {
    bakfs.path("machine/etc/systemd/system")
}

fn unit_names(bakfs: &Bakfs) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(units(bakfs))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Returns the field `installed` of every periodicity in the list.
fn installed(list: &Value) -> Vec<String> {
    let word =
        |entry: &Value| format!("{} {}", entry["periodicity"].as_str().unwrap(), entry["installed"].as_str().unwrap());
    list.as_array().unwrap().iter().map(word).collect()
}

fn list(bakfs: &Bakfs) -> Value {
    json_of(ok(bakfs, &["list", "--json"]))
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let bakfs = Bakfs::empty();
    configure(&bakfs, ALL);
    ok(&bakfs, &["install", "--systemd"]);
    let names = unit_names(&bakfs);
    assert_eq!(names.len(), 11, "{names:?}");
    let paths = names.iter().map(|name| units(&bakfs).join(name).into_os_string());
    let verified = tool("systemd-analyze", ["verify".into()].into_iter().chain(paths)).expect(0);
    assert_eq!(verified.stderr, "");
    let root = format!("--root={}", bakfs.path("machine").display());
    for name in ["bakfs-daily.timer", "bakfs-bimonthly.timer", "bakfs-shutdown.service"] {
        assert_eq!(tool("systemctl", [&root, "is-enabled", name]).expect(0).text(), "enabled\n", "{name}");
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_a_users_units() {
    let bakfs = Bakfs::first_time();
    configure(&bakfs, ALL);
    let outcome = ok(&bakfs, &["install", "--systemd"]).says("loginctl enable-linger");
    let paths: Vec<_> = outcome.text().lines().map(|line| line.strip_prefix("wrote ").unwrap().to_string()).collect();
    assert_eq!(paths.len(), 11);
    assert!(paths.iter().all(|path| Path::new(path).starts_with(bakfs.path("config/systemd/user"))), "{paths:?}");
    let mut verify = bakfs.wrap("systemd-analyze");
    verify.args(["verify", "--user"]).args(paths);
    assert_eq!(run(verify).expect(0).stderr, "");
    assert!(bakfs.path("config/systemd/user/default.target.wants/bakfs-shutdown.service").is_symlink());
}

#[test]
fn paths_that_need_quotes_reach_systemd_as_they_are() {
    let bakfs = Bakfs::empty();
    let config = bakfs.make_dir("it's 100% \"$HOME\" \\ folder").join("bakfs.toml");
    std::fs::rename(configure(&bakfs, ALL), &config).unwrap();
    let mut command = schedule(&bakfs, &["install", "--systemd"]);
    command.arg("--config").arg(&config);
    run(command).expect(0);
    let path = units(&bakfs).join("bakfs-daily.service");
    let verified = tool("systemd-analyze", ["verify", path.to_str().unwrap()]).expect(0);
    assert_eq!(verified.stderr, "");
    let text = std::fs::read_to_string(path).unwrap();
    let written = config.to_str().unwrap().replace('\\', "\\\\").replace('"', "\\\"");
    let written = written.replace('%', "%%").replace('$', "$$");
    assert!(text.contains(&format!(" run --periodicity daily --config \"{written}\"\n")), "{text}");
}

/// Runs what a schedule has written as the manager does: with the variables it sets and no others of this process.
fn run_as_scheduled(bakfs: &Bakfs, variables: &[&str], line: &str) -> Outcome {
    let mut command = bakfs.wrap("env");
    command.args(["-i", "PATH=/usr/bin:/bin", "TZ=UTC"]).arg(format!("HOME={}", bakfs.path("home").display()));
    command.args(variables).args(["/bin/sh", "-c", &line.replace("\\%", "%")]);
    run(command)
}

#[test]
fn what_decides_here_decides_in_a_scheduled_run_too() {
    let bakfs = Bakfs::empty();
    let named = bakfs.make_dir("con fig 5%");
    let (states, cache, logs) = (bakfs.make_dir("st ates"), bakfs.make_dir("c"), bakfs.make_dir("l"));
    let source = bakfs.make_dir("source");
    std::fs::write(source.join("f"), "1").unwrap();
    std::fs::create_dir_all(bakfs.path("machine/etc/cron.d")).unwrap();
    let text =
        format!("[profile.p]\nsources = [{source:?}]\nschedule = ['daily', 'shutdown']\n[schedule]\njitter = 0\n");
    std::fs::write(named.join("bakfs.toml"), text).unwrap();
    let here = |args: &[&str]| {
        let mut command = schedule(&bakfs, &[]);
        command.env("BAKFS_CONFIG_DIR", &named).env("BAKFS_STATE_DIR", &states).env("BAKFS_LOG_DIR", &logs);
        command.env_remove("BAKFS_REPO").env("BAKFS_CACHE_DIR", &cache).env("BAKFS_CACHE_SIZE", "5M");
        // The first argument is `schedule`.
        let mut anew = bakfs.wrap(command.get_program());
        anew.env_clear();
        anew.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        anew.args(["--repo", "repo"]).args(args);
        anew
    };
    run(here(&["init"])).expect(0);
    let program = bakfs_testing::cli::program().display().to_string();
    for manager in ["--cron", "--systemd"] {
        let told = run(here(&["schedule", "install", manager])).expect(0);
        assert!(!told.stderr.contains("No scheduled run"), "{told}");
        let listed = json_of(run(here(&["--json", "schedule", "list"])).expect(0));
        assert_eq!(installed(&listed)[0], "daily yes", "{manager}");
        let outcome = match manager {
            "--cron" => {
                let text = std::fs::read_to_string(bakfs.path("machine/etc/cron.d/bakfs")).unwrap();
                let line = text.lines().find(|line| line.contains("* * * root ")).unwrap();
                run_as_scheduled(&bakfs, &[], line.split_once("root ").unwrap().1)
            }
            _ => {
                let path = units(&bakfs).join("bakfs-daily.service");
                assert_eq!(tool("systemd-analyze", ["verify", path.to_str().unwrap()]).expect(0).stderr, "");
                let text = std::fs::read_to_string(path).unwrap();
                let plain = |value: &str| value.trim_matches('"').replace("%%", "%");
                let set = text.lines().filter_map(|line| line.strip_prefix("Environment=")).map(plain);
                let set: Vec<String> = set.filter(|set| !set.starts_with("HOME=")).collect();
                assert!(set.contains(&"BAKFS_CACHE_SIZE=5242880".to_string()), "{set:?}");
                let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
                let set: Vec<&str> = set.iter().map(String::as_str).collect();
                run_as_scheduled(&bakfs, &set, &line.replace("%%", "%"))
            }
        };
        assert_eq!(outcome.expect(0).stderr, "", "{manager}");
        assert!(states.join("profiles/p.json").exists(), "{manager}");
        assert!(cache.read_dir().unwrap().next().is_some() && logs.join("bakfs.log").exists(), "{manager}");
        assert!(!bakfs.path("home/.cache").exists(), "{manager}");
        std::fs::remove_dir_all(states.join("profiles")).unwrap();
    }
    // What is not set any more is dropped with a word.
    let mut anew = here(&["--cache-dir", cache.to_str().unwrap(), "schedule", "install", "--systemd"]);
    anew.env_remove("BAKFS_LOG_DIR").env_remove("BAKFS_CACHE_DIR").env_remove("BAKFS_CACHE_SIZE");
    let told = run(anew).expect(0);
    told.says("scheduled runs have had BAKFS_CACHE_SIZE, BAKFS_LOG_DIR, which is not set here");
    let snapshots = json_of(run(here(&["--json", "snapshots"])).expect(0));
    assert_eq!(snapshots.as_array().unwrap().len(), 2);
    let shutdown = std::fs::read_to_string(units(&bakfs).join("bakfs-shutdown.service")).unwrap();
    assert!(shutdown.contains("Environment=\"BAKFS_STATE_DIR="), "{shutdown}");
    assert!(shutdown.contains(&format!("ExecStop={program} run")), "{shutdown}");
}

#[test]
fn secrets_stand_in_no_schedule_and_their_place_is_told() {
    let bakfs = Bakfs::empty();
    configure(&bakfs, ALL);
    let secret = "hunter2-very-secret";
    let install = |manager: &str, more: &[(&str, &str)], args: &[&str]| {
        let mut command = schedule(&bakfs, &["install", manager, "--print"]);
        command.envs(more.iter().copied()).args(args);
        let outcome = run(command).expect(0);
        assert!(!outcome.text().contains(secret) && !outcome.stderr.contains(secret), "{outcome}");
        outcome
    };
    for manager in ["--cron", "--systemd"] {
        let told = install(manager, &[("BAKFS_PASSWORD", secret)], &[]);
        told.says("BAKFS_PASSWORD").says("`password-file` in").says("config/bakfs.toml");
        let command = format!("echo {secret}");
        install(manager, &[], &["--password-command", &command]).says("write `password-command` into");
        install(manager, &[], &["--password-file", "/dev/stdin"]).says("`password-file` in");
        // A store's secrets are of no account to a folder.
        assert_eq!(install(manager, &[("AWS_SECRET_ACCESS_KEY", secret)], &[]).stderr.matches("AWS").count(), 0);
    }
    configure(&bakfs, "password-file = '/etc/bakfs/pass'\n[profile.web]\nsources = ['/srv']\nschedule = ['daily']\n");
    let told = install("--systemd", &[("BAKFS_PASSWORD", secret)], &[]);
    // Where this program was built is told too.
    assert!(told.stderr.lines().all(|line| line.contains("is in the build folder")), "{told}");
    let far =
        "repo = 's3://bucket'\npassword-file = '/etc/p'\n[profile.web]\nsources = ['/srv']\nschedule = ['daily']\n";
    std::fs::write(bakfs.path("config/bakfs.toml"), far).unwrap();
    let told = install("--systemd", &[("AWS_SECRET_ACCESS_KEY", secret), ("AWS_REGION", "x")], &[]);
    assert!(told.text().contains("Environment=AWS_REGION=x\n"), "{told}");
    told.says("as AWS_SECRET_ACCESS_KEY: write it").says("config/credentials.toml");
}

#[test]
fn systemd_and_the_list_agree_on_when_runs_begin() {
    let bakfs = Bakfs::empty();
    for times in [
        "",
        "hourly = ':00'\ndaily = '00:00'\nweekly = 'monday 00:00'\nmonthly = '28 23:59'\nbimonthly = '28 00:00'\n",
        "hourly = ':59'\ndaily = '23:59'\nweekly = 'saturday 12:30'\nmonthly = '15 07:05'\nbimonthly = '2 07:05'\n",
    ] {
        let config = configure(&bakfs, &format!("[schedule]\n{times}{ALL}"));
        let settings = Settings::read(&config).unwrap();
        let printed = json_of(ok(&bakfs, &["install", "--systemd", "--print", "--json"]));
        for periodicity in Periodicity::SCHEDULED {
            let name = units(&bakfs).join(format!("bakfs-{periodicity}.timer")).display().to_string();
            let Some(text) = printed[&name].as_str() else {
                assert_eq!(periodicity, Periodicity::Shutdown, "{printed}");
                continue;
            };
            let event = text.lines().find_map(|line| line.strip_prefix("OnCalendar=")).unwrap();
            for base in ["2026-11-21 20:00:00", "2027-01-01 00:00:00", "2028-02-29 23:59:59", "2026-12-28 23:58:30"] {
                let base_time = format!("--base-time={base} UTC");
                let answer = tool("systemd-analyze", ["calendar", &base_time, event]).expect(0).text();
                let elapse = answer.lines().find_map(|line| line.trim().strip_prefix("Next elapse: ")).unwrap();
                let now: Zoned = format!("{}[UTC]", base.replace(' ', "T")).parse().unwrap();
                let next = settings.schedule.next(periodicity, &now).unwrap();
                assert_eq!(elapse, next.strftime("%a %Y-%m-%d %H:%M:%S UTC").to_string(), "{event} after {base}");
            }
        }
    }
}

#[test]
fn systemd_and_the_list_agree_in_every_zone_whether_or_not_a_day_has_that_hour() {
    let bakfs = Bakfs::empty();
    let mut skipped = 0;
    for (zone, times) in [
        ("Europe/Berlin", "daily = '02:30'\nweekly = 'sunday 02:15'\nhourly = ':05'"),
        ("Europe/Helsinki", "daily = '03:15'\nmonthly = '28 03:00'\nweekly = 'sunday 03:59'"),
        ("America/New_York", "daily = '02:00'\nweekly = 'sunday 01:30'\nmonthly = '8 02:15'"),
        ("Australia/Lord_Howe", "daily = '02:15'\nweekly = 'sunday 02:45'"),
        ("Pacific/Chatham", "daily = '03:15'\nweekly = 'sunday 03:30'"),
        ("Antarctica/Troll", "daily = '02:30'\nweekly = 'sunday 01:00'"),
        ("Africa/Cairo", "daily = '00:30'\nweekly = 'friday 00:00'"),
        ("America/Godthab", "daily = '23:15'\nweekly = 'saturday 23:00'"),
        ("America/Santiago", "daily = '00:15'\nbimonthly = '7 00:15'\nweekly = 'sunday 00:59'"),
        ("Africa/Casablanca", "daily = '02:30'\nweekly = 'sunday 02:00'"),
        ("Asia/Kolkata", "daily = '02:30'"),
        ("Pacific/Apia", ""),
    ] {
        let config = configure(&bakfs, &format!("[schedule]\n{times}\n{ALL}"));
        let settings = Settings::read(&config).unwrap();
        let printed = json_of(ok(&bakfs, &["install", "--systemd", "--print", "--json"]));
        for (periodicity, base, count) in [
            (Periodicity::Hourly, "2026-03-28 12:00:00", 60),
            (Periodicity::Hourly, "2026-04-04 12:00:00", 60),
            (Periodicity::Hourly, "2026-09-26 12:00:00", 60),
            (Periodicity::Hourly, "2026-10-03 12:00:00", 60),
            (Periodicity::Hourly, "2026-10-24 12:00:00", 60),
            (Periodicity::Daily, "2025-12-31 12:00:00", 800),
            (Periodicity::Weekly, "2025-12-31 12:00:00", 300),
            (Periodicity::Monthly, "2020-12-31 12:00:00", 200),
            (Periodicity::Bimonthly, "2020-12-31 12:00:00", 100),
        ] {
            let name = units(&bakfs).join(format!("bakfs-{periodicity}.timer")).display().to_string();
            let event = printed[&name].as_str().unwrap();
            let event = event.lines().find_map(|line| line.strip_prefix("OnCalendar=")).unwrap();
            let mut judge = Command::new("systemd-analyze");
            judge.args(["calendar", &format!("--iterations={count}"), &format!("--base-time={base} UTC"), event]);
            let answer = run_in(judge, zone);
            let mut now: Zoned =
                format!("{}[UTC]", base.replace(' ', "T")).parse::<Zoned>().unwrap().in_tz(zone).unwrap();
            let mut told = 0;
            for line in answer.lines().filter_map(|line| line.trim().strip_prefix("(in UTC): ")) {
                let next = settings.schedule.next(periodicity, &now).unwrap();
                let utc = next.in_tz("UTC").unwrap().strftime("%a %Y-%m-%d %H:%M:%S UTC").to_string();
                assert_eq!(line, utc, "{zone} {event} after {now}");
                skipped += usize::from(periodicity == Periodicity::Daily && next.duration_since(&now).as_hours() > 26);
                now = next;
                told += 1;
            }
            assert_eq!(told, count, "{answer}");
        }
    }
    assert!(skipped >= 15, "days without that hour are among them: {skipped}");
}

/// Returns what a program says in another time zone.
fn run_in(mut command: Command, zone: &str) -> String {
    command.env("TZ", zone);
    run(command).expect(0).text()
}

#[test]
fn a_time_that_a_day_does_not_have_is_told_by_list_status_and_check() {
    let bakfs = Bakfs::empty();
    let daily = "[profile.web]\nsources = ['/srv']\nschedule = ['daily']\n";
    let shown = |config: &str, zone: &str, time: &str| {
        let path = configure(&bakfs, &format!("{config}{daily}"));
        let written = jiff::civil::date(2026, 3, 28).at(12, 0, 0, 0).in_tz("UTC").unwrap();
        std::fs::File::options().append(true).open(&path).unwrap().set_modified(written.timestamp().into()).unwrap();
        let at = |command: Command| {
            let mut clocked = Command::new("faketime");
            clocked.arg(time).arg(command.get_program()).args(command.get_args()).env_clear();
            for (name, value) in command.get_envs().filter_map(|(name, value)| Some((name, value?))) {
                clocked.env(name, value);
            }
            clocked.env("TZ", zone);
            run(clocked)
        };
        let list = at(schedule(&bakfs, &["list"])).expect(0).text();
        let status = at(bakfs.command(["status"]));
        (list, status, at(bakfs.command(["config", "check"])))
    };
    let (list, status, check) = shown("[schedule]\ndaily = '03:15'\n", "Europe/Helsinki", "2026-03-28 12:00:00");
    assert!(list.contains("daily       2026-03-30 03:15"), "{list}");
    assert!(status.text().contains("next 2026-03-30 03:15"), "{status}");
    assert!(check.text().contains("there is no 03:15 on 2026-03-29 in Europe/Helsinki"), "{check}");
    // The usual time is there every day.
    let (list, _, check) = shown("", "Europe/Helsinki", "2026-03-28 12:00:00");
    assert!(list.contains("daily       2026-03-29 05:15"), "{list}");
    assert!(!check.text().contains("there is no 05:15"), "{check}");
}

#[test]
fn what_is_left_over_or_cannot_be_is_said_to_be_so() {
    let bakfs = Bakfs::empty();
    configure(&bakfs, "[profile.web]\nsources = ['/srv']\nschedule = ['daily', 'shutdown']\n");
    std::fs::create_dir_all(bakfs.path("machine/etc/cron.d")).unwrap();
    ok(&bakfs, &["install", "--cron"]);
    let listed = ok(&bakfs, &["list"]).text();
    assert!(listed.lines().any(|line| line.starts_with("shutdown") && line.contains("cron cannot, only systemd can")));
    let check = || {
        let mut command = bakfs.command(["config", "check"]);
        command.env("BAKFS_SYSTEM_ROOT", bakfs.path("machine"));
        run(command).text()
    };
    let told = check();
    assert!(told.contains("schedule shutdown: nothing begins these runs: cron begins none"), "{told}");
    configure(&bakfs, "[profile.web]\nsources = ['/srv']\nschedule = ['weekly']\n");
    let told = check();
    assert!(told.contains("schedule daily: is left over, no profile has it"), "{told}");
    assert!(told.contains("schedule weekly: nothing begins these runs: `bakfs schedule install` does"), "{told}");
}

#[test]
fn what_no_profile_has_any_more_is_taken_away_and_the_rest_stays() {
    let bakfs = Bakfs::empty();
    configure(&bakfs, ALL);
    let all = ["hourly", "daily", "weekly", "monthly", "bimonthly", "shutdown"];
    assert_eq!(installed(&list(&bakfs)), all.map(|word| format!("{word} no")));
    ok(&bakfs, &["install", "--systemd"]);
    assert_eq!(installed(&list(&bakfs)), all.map(|word| format!("{word} yes")));

    configure(&bakfs, "[schedule]\ndaily = '01:00'\n[profile.web]\nsources = ['/srv']\nschedule = ['daily']\n");
    let outdated = all.map(|word| format!("{word} outdated"));
    assert_eq!(installed(&list(&bakfs)), outdated, "another time, and what nobody has");
    assert!(ok(&bakfs, &["list"]).text().contains("outdated: run bakfs schedule install"));
    ok(&bakfs, &["install", "--systemd"]);
    assert_eq!(unit_names(&bakfs), ["bakfs-daily.service", "bakfs-daily.timer"]);
    assert_eq!(installed(&list(&bakfs)), ["daily yes"]);
    assert!(!units(&bakfs).join("multi-user.target.wants/bakfs-shutdown.service").is_symlink());
    assert!(!units(&bakfs).join("timers.target.wants/bakfs-weekly.timer").is_symlink());

    std::fs::remove_file(units(&bakfs).join("timers.target.wants/bakfs-daily.timer")).unwrap();
    assert_eq!(installed(&list(&bakfs)), ["daily no"], "what is not enabled does not begin");
    configure(&bakfs, "this is no configuration");
    ok(&bakfs, &["remove"]);
    assert!(unit_names(&bakfs).is_empty());
    assert!(ok(&bakfs, &["remove"]).text().contains("Nothing was installed"));
}

#[test]
fn files_of_others_are_never_touched() {
    let bakfs = Bakfs::empty();
    configure(&bakfs, ALL);
    let foreign = units(&bakfs).join("bakfs-weekly.timer");
    bakfs_testing::write(&foreign, "# Written by hand\n");
    let masked = units(&bakfs).join("bakfs-daily.service");
    let cron = bakfs.path("machine/etc/cron.d/bakfs");
    bakfs_testing::write(&cron, "# Written by bakfs schedule install, but mended by me\n");
    run(schedule(&bakfs, &["install", "--systemd"])).refused().says("bakfs-weekly.timer was not written by bakfs");
    assert_eq!(unit_names(&bakfs), ["bakfs-weekly.timer"], "nothing is half installed");
    run(schedule(&bakfs, &["install", "--cron"])).refused().says("cron.d/bakfs was not written by bakfs");
    std::fs::rename(&foreign, bakfs.path("aside")).unwrap();
    for target in ["/dev/null", "/nonexistent/unit"] {
        std::os::unix::fs::symlink(target, &masked).unwrap();
        run(schedule(&bakfs, &["install", "--systemd"])).refused().says("bakfs-daily.service was not written by bakfs");
        std::fs::remove_file(&masked).unwrap();
    }
    std::fs::rename(bakfs.path("aside"), &foreign).unwrap();
    ok(&bakfs, &["remove"]);
    assert_eq!(std::fs::read_to_string(&foreign).unwrap(), "# Written by hand\n");
    assert!(cron.exists());
}

#[test]
fn one_manager_takes_over_from_the_other() {
    let bakfs = Bakfs::empty();
    configure(&bakfs, ALL);
    let cron = bakfs.path("machine/etc/cron.d/bakfs");
    std::fs::create_dir_all(cron.parent().unwrap()).unwrap();
    ok(&bakfs, &["install"]).says("`shutdown` needs systemd");
    assert!(cron.exists(), "where no systemd is, cron is usual");
    assert_eq!(list(&bakfs)[1]["manager"], "cron");
    ok(&bakfs, &["install", "--systemd"]);
    assert!(!cron.exists());
    assert_eq!(list(&bakfs)[1]["manager"], "systemd");
    bakfs_testing::write(&bakfs.path("machine/usr/lib/systemd/systemd"), "");
    ok(&bakfs, &["install", "--cron"]);
    assert!(unit_names(&bakfs).is_empty() && cron.exists());
    ok(&bakfs, &["install"]);
    assert!(!unit_names(&bakfs).is_empty() && !cron.exists(), "where systemd is, it is usual");
}

#[test]
fn profiles_without_a_schedule_install_nothing_and_say_so() {
    let bakfs = Bakfs::empty();
    configure(&bakfs, "[profile.web]\nsources = ['/srv']\n");
    ok(&bakfs, &["install"]).says("no profile has a `schedule`");
    assert!(!bakfs.path("machine").exists());
    assert_eq!(list(&bakfs), Value::Array(Vec::new()));
}

/// Runs a command in a mount namespace where some folders of the world stand for the machine's.
fn confined(bakfs: &Bakfs, mounts: &[(&str, &str)], command: &Command) -> Command {
    let mut script = String::new();
    for (name, place) in mounts {
        script.push_str(&format!("mount --bind '{}' {place} && ", bakfs.path(name).display()));
    }
    let mut confined = Command::new("unshare");
    confined.args(["-m", "sh", "-c", &format!("{script}exec \"$@\""), "sh"]);
    confined.arg(command.get_program()).args(command.get_args());
    confined.env_clear().current_dir(bakfs.path("home"));
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            confined.env(name, value);
        }
    }
    confined
}

const SPOOL: &str = "/var/spool/cron/crontabs";

fn make_spool(bakfs: &Bakfs) {
    let spool = bakfs.path("spool");
    std::fs::create_dir(&spool).unwrap();
    chown(&spool, Some(0), Some(std::fs::metadata(SPOOL).unwrap().gid())).unwrap();
    std::fs::set_permissions(&spool, PermissionsExt::from_mode(0o1730)).unwrap();
}

#[test]
fn a_users_crontab_keeps_every_byte_that_is_not_ours() {
    let bakfs = Bakfs::first_time();
    configure(&bakfs, ALL);
    make_spool(&bakfs);
    let mounts = [("spool", SPOOL)];
    let own = |args: &[&str]| run(confined(&bakfs, &mounts, &bakfs.command(["schedule"].iter().chain(args))));
    let crontab = |args: &[&OsStr]| {
        let mut command = bakfs.wrap("crontab");
        command.args(args);
        run(confined(&bakfs, &mounts, &command))
    };
    let content = || crontab(&["-l".as_ref()]).expect(0).text();
    own(&["install", "--cron"]).expect(0).says("`shutdown` needs systemd");
    let fresh = content();
    assert!(fresh.starts_with("# Written by bakfs schedule install\n"), "{fresh}");
    own(&["remove"]).expect(0);
    crontab(&["-l".as_ref()]).refused().says("no crontab for");

    let theirs = "# mine: \u{fc}\nMAILTO=me@example.org\n\n  7 7 * * *  echo 'a  b' \\% c\n";
    let file = bakfs.path("theirs");
    std::fs::write(&file, theirs).unwrap();
    crontab(&[file.as_os_str()]).expect(0);
    for _ in 0..2 {
        own(&["install", "--cron"]).expect(0);
        assert_eq!(content(), format!("{theirs}{fresh}"));
    }
    let entries = json_of(own(&["list", "--json"]).expect(0));
    assert_eq!(installed(&entries)[0], "hourly yes");
    assert_eq!(installed(&entries)[5], "shutdown no");
    std::fs::write(&file, format!("{theirs}{fresh}# after\n").replace("--jitter 300s", "--jitter 9s")).unwrap();
    crontab(&[file.as_os_str()]).expect(0);
    assert_eq!(installed(&json_of(own(&["list", "--json"]).expect(0)))[0], "hourly outdated");
    own(&["install", "--cron"]).expect(0);
    assert_eq!(content(), format!("{theirs}{fresh}# after\n"));
    own(&["remove"]).expect(0);
    assert_eq!(content(), format!("{theirs}# after\n"));

    std::fs::write(&file, format!("{theirs}# Written by bakfs schedule install\n")).unwrap();
    crontab(&[file.as_os_str()]).expect(0);
    own(&["install", "--cron"]).refused().says("crontab -e");
    assert!(content().ends_with("# Written by bakfs schedule install\n"));
}

#[test]
fn where_systemd_runs_it_is_told_and_no_shutdown_run_begins_by_the_way() {
    bakfs_testing::need_root();
    let bakfs = Bakfs::empty();
    configure(&bakfs, "[profile.a]\nsources = ['/a']\nschedule = ['daily', 'shutdown']\n");
    for name in ["units", "cron.d", "booted/systemd/system", "bin"] {
        bakfs.make_dir(name);
    }
    // What stands in for systemctl notes how it was called, and whether the unit's file is there.
    let (stub, notes, refuses) = (bakfs.path("bin/systemctl"), bakfs.path("notes"), bakfs.path("refuses"));
    let script = format!(
        "#!/bin/sh\n[ -f \"/etc/systemd/system/$2\" ] && is=' is there'\necho \"$*$is\" >>'{}'\n\
         [ ! -e '{}' ] || {{ echo 'no bus' >&2; exit 1; }}\n",
        notes.display(),
        refuses.display()
    );
    std::fs::write(&stub, script).unwrap();
    std::fs::set_permissions(&stub, PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bakfs.path("bin").display(), std::env::var("PATH").unwrap());
    let mounts = [("units", "/etc/systemd/system"), ("cron.d", "/etc/cron.d"), ("booted", "/run")];
    let schedule = |verb: &str| {
        let mut command = bakfs.command(["schedule", verb]);
        command.env("PATH", &path);
        run(confined(&bakfs, &mounts, &command))
    };
    let noted = || {
        let text = std::fs::read_to_string(&notes).unwrap();
        std::fs::remove_file(&notes).unwrap();
        text
    };
    schedule("install").expect(0);
    let restart = "restart bakfs-daily.timer is there\n";
    assert_eq!(noted(), format!("daemon-reload\n{restart}start bakfs-shutdown.service is there\n"));
    let link = std::fs::read_link(bakfs.path("units/timers.target.wants/bakfs-daily.timer")).unwrap();
    assert_eq!(link, Path::new("/etc/systemd/system/bakfs-daily.timer"));
    schedule("remove").expect(0);
    assert_eq!(noted(), "daemon-reload\nstop bakfs-daily.timer\nstop bakfs-shutdown.service\n");
    std::fs::write(&refuses, "").unwrap();
    schedule("install").refused().says("run `systemctl daemon-reload` to see why").says("no bus");
}

#[test]
fn cron_runs_what_is_due_and_after_a_restart_what_was_missed() {
    bakfs_testing::need_root();
    let bakfs = Bakfs::empty();
    let folder = bakfs.make_dir("it's 100% a folder");
    let now = Zoned::now();
    // One minute is too soon where its beginning is near.
    let ahead_mins = if now.second() > 45 { 2 } else { 1 };
    let minute = (now.minute() + ahead_mins) % 60;
    let config = folder.join("bakfs.toml");
    let profile = "[profile.web]\nsources = ['/srv']\nschedule = ['hourly']\n";
    std::fs::write(&config, format!("[schedule]\nhourly = ':{minute:02}'\njitter = '7s'\n{profile}")).unwrap();
    for name in ["cron.d", "empty"] {
        bakfs.make_dir(name);
    }
    make_spool(&bakfs);
    // What stands in for bakfs notes how it was called.
    let (stub, notes) = (bakfs.path("stub"), bakfs.path("notes"));
    let script = format!("#!/bin/sh\nprintf '<%s>' \"$@\" \"$(nice)\" >>'{0}'\necho >>'{0}'\n", notes.display());
    std::fs::write(&stub, script).unwrap();
    std::fs::set_permissions(&stub, PermissionsExt::from_mode(0o755)).unwrap();
    let mounts = [("cron.d", "/etc/cron.d"), ("spool", SPOOL), ("empty", "/run")];
    let mut install = bakfs.command(["schedule", "install", "--cron", "--config"]);
    install.arg(&config);
    run(confined(&bakfs, &mounts, &install)).expect(0);
    assert!(bakfs.path("cron.d/bakfs").exists());

    let mut cron = Command::new("unshare");
    let binary = env!("CARGO_BIN_EXE_bakfs");
    let script = format!("mount --bind '{}' '{binary}' && exec cron -f", stub.display());
    cron.args(["--pid", "--fork", "--kill-child", "sh", "-c", &script]);
    cron.env("PATH", std::env::var_os("PATH").unwrap());
    let mut running = start(confined(&bakfs, &mounts, &cron), false);
    let config = config.display();
    let due = format!("<run><--periodicity><hourly><--jitter><7s><--config><{config}><10>\n");
    let missed = due.replace("<7>", "<7><--catch-up>");
    let noted = || std::fs::read_to_string(&notes).unwrap_or_default();
    until("cron has run both lines", Duration::from_secs(180), || {
        assert!(!running.ended(), "cron has ended");
        noted().contains(&due) && noted().contains(&missed)
    });
    running.kill();
    assert_eq!(noted().lines().count(), 2, "{}", noted());
}
