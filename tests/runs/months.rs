//! Promises of runs over months: what was missed is made up for, what was killed is told, what a wrong clock noted counts
//! for nothing, and a success belongs to the repository it went to.

use bakfs_testing::device::Device;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use bakfs_testing::machine::{Machine, silent};
use bakfs_testing::process::{run, tool};
use bakfs_testing::{SOON, until};

const QUIET: &str = "[defaults]\ncheck = { every = 'never' }\nprune = { every = 'never' }\n";

/// Makes a machine with a profile `web` of one file; `text` is added to the profile.
fn web(text: &str) -> Machine {
    let machine = Machine::new(&format!("{QUIET}[profile.web]\nsources = ['@/source']\n{text}"));
    machine.write("source/page", "hello\n");
    machine
}

fn status(machine: &Machine) -> serde_json::Value {
    let outcome = machine.run(["--json", "status"]);
    let mut found: serde_json::Value = serde_json::from_slice(&outcome.stdout).unwrap();
    found["exit"] = outcome.code.into();
    found
}

#[test]
fn what_was_missed_since_the_last_run_began_is_caught_up_with() {
    let machine = web("schedule = ['hourly', 'daily', 'weekly', 'monthly', 'bimonthly']\n");
    let made = |time: &str, kind: &str, catch_up: &[&str]| {
        let before = machine.tagged(kind).len();
        let args = ["run", "--periodicity", kind].into_iter().chain(catch_up.iter().copied());
        silent(&machine.run_at(time, args).expect(0));
        machine.tagged(kind).len() - before
    };
    for (kind, ran, then, expected) in [
        // 59 and 29 days are less than the longest period, and 1 March was missed all the same.
        ("bimonthly", "2025-01-01 06:45:00", "2025-03-01 07:00:00", 1),
        ("monthly", "2026-02-01 06:15:00", "2026-03-02 09:00:00", 1),
        // A run of two hours, and a restart that hides the next one.
        ("daily", "2026-03-09 05:15:00", "2026-03-10 05:40:00", 1),
        ("hourly", "2026-03-10 10:50:00", "2026-03-10 11:06:00", 1),
        // A restart within the hour, day and month costs nothing.
        ("hourly", "2026-03-11 10:06:00", "2026-03-11 11:04:00", 0),
        ("daily", "2026-03-11 05:15:00", "2026-03-11 23:00:00", 0),
        ("weekly", "2026-03-15 09:00:00", "2026-03-22 08:00:00", 1),
        ("monthly", "2026-03-23 06:15:00", "2026-03-31 23:00:00", 0),
    ] {
        assert_eq!(made(ran, kind, &[]), 1);
        assert_eq!(made(then, kind, &["--catch-up"]), expected, "{kind} {ran} {then}");
        assert_eq!(made(then, kind, &["--catch-up"]), 0, "once: {kind} {ran} {then}");
    }
    // Noted by a clock that was ahead and was set back: it counts for nothing, also when its time has come.
    assert_eq!(made("2026-05-01 05:15:00", "daily", &[]), 1);
    for (time, expected) in [("2026-04-02 12:00:00", 1), ("2026-04-02 13:00:00", 0), ("2026-05-01 06:00:00", 1)] {
        let before = machine.tagged("daily").len();
        machine.run_at(time, ["run", "--periodicity", "daily", "--catch-up"]);
        assert_eq!(machine.tagged("daily").len() - before, expected, "{time}");
    }
}

#[test]
fn a_killed_run_is_a_failed_one_and_is_told_once() {
    let machine =
        web("schedule = ['daily']\nhooks = { before = 'touch @/begun; while [ -e @/hold ]; do sleep 0.05; done' }\n\
         notify = { mail = 'root@localhost', sendmail = '@/sendmail' }\n");
    let text = machine.text("config/bakfs.toml");
    std::fs::write(
        machine.path("config/bakfs.toml"),
        format!("metrics-file = '{}'\n{text}", machine.path("m").display()),
    )
    .unwrap();
    let sendmail = machine.write("sendmail", "#!/bin/sh\ncat >> @/mail\n");
    std::fs::set_permissions(&sendmail, PermissionsExt::from_mode(0o755)).unwrap();
    silent(&machine.ok(["run", "--periodicity", "daily"]));
    let kill = || {
        machine.write("hold", "");
        std::fs::remove_file(machine.path("begun")).unwrap();
        let running = machine.start(["run", "--periodicity", "daily"]);
        until("the run has begun", SOON, || machine.path("begun").exists());
        let during = status(&machine);
        assert_eq!(during["profiles"][0]["state"], "running", "{during}");
        tool("kill", ["-KILL", &running.pid().to_string()]).expect(0);
        running.finish().expect(128 + 9);
        std::fs::remove_file(machine.path("hold")).unwrap();
        let after = status(&machine);
        assert_eq!((&after["profiles"][0]["state"], &after["exit"]), (&"failed".into(), &1.into()), "{after}");
        assert!(after["profiles"][0]["problems"][0].as_str().unwrap().contains("killed"), "{after}");
        assert!(
            machine.run(["status", "--metrics"]).expect(1).text().contains("bakfs_last_run_outcome{profile=\"web\"} 2")
        );
    };
    kill();
    machine.ok(["run", "--recover"]).says("killed before it had ended");
    assert_eq!(machine.last_run("web")["outcome"], "failed");
    assert!(machine.text("m").contains("bakfs_last_run_outcome{profile=\"web\"} 2"), "{}", machine.text("m"));
    assert_eq!(machine.text("mail").matches("Subject: ").count(), 1);
    silent(&machine.ok(["run", "--recover"]));
    assert_eq!(status(&machine)["profiles"][0]["state"], "failed");
    // Told by the next run, which is well by itself.
    kill();
    machine.ok(["run", "--periodicity", "daily"]).says("killed before it had ended");
    assert_eq!(machine.text("mail").matches("Subject: ").count(), 2);
    assert_eq!(status(&machine)["profiles"][0]["state"], "ok");
    silent(&machine.ok(["run", "--periodicity", "daily"]));
}

#[test]
fn a_success_is_of_the_repository_and_the_configuration_it_was_made_for() {
    let machine = web("schedule = ['daily']\n");
    silent(&machine.ok(["run", "--periodicity", "daily"]));
    assert_eq!(status(&machine)["profiles"][0]["state"], "ok");
    let text = machine.text("config/bakfs.toml");
    let repo = machine.path("repo").display().to_string();
    let other = text.replace(&repo, &format!("{repo}2"));
    // Another configuration, with the same names and folder of states, for the same repository and for another one.
    for (name, text) in [("same.toml", &text), ("other.toml", &other)] {
        std::fs::write(machine.path(name), text).unwrap();
        let outcome = machine.run(["--config", machine.path(name).to_str().unwrap(), "--json", "status"]);
        let found: serde_json::Value = serde_json::from_slice(&outcome.stdout).unwrap();
        assert_eq!(found["profiles"][0]["last_success"], serde_json::Value::Null, "{name}: {found}");
    }
    // They do not stand in one another's way either.
    let config = machine.path("other.toml");
    let config = config.to_str().unwrap();
    machine.ok(["--config", config, "init"]);
    silent(&machine.ok(["--config", config, "run", "--periodicity", "daily"]));
    assert_eq!(machine.json(["--config", config, "status"])["profiles"][0]["state"], "ok");
    assert_eq!(status(&machine)["profiles"][0]["state"], "ok");

    // The configuration goes on to another repository, which has nothing yet.
    std::fs::write(machine.path("config/bakfs.toml"), &other).unwrap();
    assert_eq!(status(&machine)["profiles"][0]["last_success"], serde_json::Value::Null);
    silent(&machine.ok(["run", "--periodicity", "daily", "--catch-up"]));
    assert_eq!(status(&machine)["profiles"][0]["state"], "ok");
    // And back.
    std::fs::write(machine.path("config/bakfs.toml"), &text).unwrap();
    assert_eq!(status(&machine)["profiles"][0]["state"], "ok");
    // It is lost, and made anew.
    std::fs::remove_dir_all(machine.path("repo")).unwrap();
    machine.ok(["forget-place", "--repo", &repo]);
    machine.ok(["init"]);
    assert_eq!(status(&machine)["profiles"][0]["last_success"], serde_json::Value::Null);
    assert_eq!(status(&machine)["repositories"][0]["last_check"], serde_json::Value::Null);
}

#[test]
fn states_that_were_noted_before_still_count() {
    let machine = web("schedule = ['daily']\n");
    silent(&machine.ok(["run", "--periodicity", "daily"]));
    // As an earlier bakfs has written it.
    let path = machine.path("state/profiles/web.json");
    let mut old: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for key in ["last_started_secs", "repository", "repository_ids", "configuration"] {
        old.as_object_mut().unwrap().remove(key).unwrap_or_else(|| panic!("{key} is not there"));
    }
    std::fs::write(&path, old.to_string()).unwrap();
    assert_eq!(status(&machine)["profiles"][0]["state"], "ok");
    let moved = machine.path("moved.toml");
    std::fs::rename(machine.path("config/bakfs.toml"), &moved).unwrap();
    let found = machine.json(["--config", moved.to_str().unwrap(), "status"]);
    assert_eq!(found["profiles"][0]["state"], "ok");
    silent(&machine.ok(["--config", moved.to_str().unwrap(), "run", "--periodicity", "daily", "--catch-up"]));
    std::fs::rename(&moved, machine.path("config/bakfs.toml")).unwrap();
    assert_eq!(machine.tagged("daily").len(), 1);
}

#[test]
fn what_a_clock_said_of_the_future_makes_nothing_green_also_when_its_time_has_come() {
    let machine = Machine::new("[profile.web]\nsources = ['@/source']\nschedule = ['daily']\n");
    machine.write("source/page", "hello\n");
    let written = jiff::civil::date(2026, 3, 1).at(5, 0, 0, 0).in_tz("UTC").unwrap();
    let config = std::fs::File::options().append(true).open(machine.path("config/bakfs.toml")).unwrap();
    config.set_modified(written.timestamp().into()).unwrap();
    silent(&machine.run_at("2026-03-01 05:15:00", ["run", "--periodicity", "daily"]).expect(0));
    silent(&machine.run_at("2026-05-01 05:15:00", ["run", "--periodicity", "daily"]).expect(0));
    // The clock is right again: the first one counts, as long as it may.
    let told = machine.run_at("2026-03-01 18:00:00", ["status"]).expect(0);
    assert!(told.text().contains("web  ok ") && told.text().contains("a clock that was wrong"), "{told}");
    let told = machine.run_at("2026-03-02 19:00:00", ["status"]).expect(1);
    assert!(told.text().contains("web  overdue "), "{told}");
    assert!(told.text().contains("check overdue"), "{told}");
    // Its time has come, and backups have stopped.
    let told = machine.run_at("2026-05-01 12:00:00", ["status"]).expect(1);
    assert!(told.text().contains("web  overdue "), "{told}");
    let metrics = machine.run_at("2026-05-01 12:00:00", ["status", "--metrics"]).expect(1).text();
    assert!(metrics.contains("bakfs_overdue{profile=\"web\"} 1"), "{metrics}");
    let first = jiff::civil::date(2026, 3, 1).at(5, 15, 0, 0).in_tz("UTC").unwrap().timestamp().as_second();
    let line = metrics.lines().find(|line| line.starts_with("bakfs_last_success_timestamp_seconds{")).unwrap();
    let told: i64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((first..first + 3600).contains(&told), "{metrics}");
    // One real success mends it.
    machine.run_at("2026-05-01 12:30:00", ["run", "--periodicity", "daily"]).expect(0);
    machine.run_at("2026-05-01 13:00:00", ["status"]).expect(0);
}

/// What lasts until somebody changes it is no alarm of every night: a snapshot of the future, and an object that somebody
/// without the key has put among the snapshots.
#[test]
fn what_lasts_and_is_in_the_way_of_nothing_is_noted_and_alarms_nobody() {
    let machine = Machine::new(
        "[profile.web]\nsources = ['@/source']\nschedule = ['daily']\ncheck = { every = '1s' }\nprune = { every = '1s' }\n",
    );
    machine.write("source/page", "hello\n");
    silent(&machine.ok(["run", "--periodicity", "daily"]));
    let source = machine.path("source").display().to_string();
    let future =
        machine.json(["backup", "--time", "2046-01-01T00:00:00Z", &source])["snapshot"].as_str().unwrap().to_owned();
    let junk = b"nobody's";
    let name = bakfs::repo::objects::object_id(junk).to_hex();
    machine.write(&format!("repo/snapshots/{name}"), "nobody's");
    for night in 0..2 {
        let outcome = machine.ok(["run", "--periodicity", "daily"]);
        assert_eq!(outcome.stderr, "", "{night}");
        assert_eq!(machine.last_run("web")["outcome"], "success", "{night}");
        let log = machine.text("log/bakfs.log");
        let noted =
            log.lines().filter(|line| line.contains("note: ") && line.contains(&format!("`bakfs forget {future}`")));
        assert_eq!(noted.count(), night + 1, "{log}");
        let told = machine.ok(["status"]).text();
        assert!(told.contains("web  ok ") && told.contains("note: 1 snapshot lies"), "{told}");
        assert!(told.contains("`bakfs repair` removes it"), "{told}");
        let told = status(&machine);
        assert_eq!(told["profiles"][0]["notes"].as_array().unwrap().len(), 2, "{told}");
    }
    machine.ok(["repair"]);
    machine.ok(["forget", &future]);
    silent(&machine.ok(["run", "--periodicity", "daily"]));
    assert_eq!(status(&machine)["profiles"][0]["notes"], serde_json::json!([]));
}

#[test]
fn nobody_who_is_told_holds_up_a_backup() {
    // It takes every connection and answers none.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x", deaf.local_addr().unwrap());
    let machine = web(&format!(
        "notify = {{ ping-start = '{url}', ping-success = '{url}', webhook = '{url}', on-success = true, \
         mail = 'root', sendmail = '@/sendmail' }}\n[profile.zoo]\nsources = ['@/source']\n"
    ));
    let sendmail = machine.write("sendmail", "#!/bin/sh\necho $$ >> @/mailing; exec sleep 1000\n");
    std::fs::set_permissions(&sendmail, PermissionsExt::from_mode(0o755)).unwrap();
    let mut running = machine.start(["run", "--all"]);
    until("both profiles are backed up", SOON, || machine.snapshots().len() == 2);
    // The one that is told of is still being told.
    assert!(!running.ended());
    tool("kill", ["-KILL", &running.pid().to_string()]).expect(0);
    running.finish().expect(128 + 9);
    for pid in machine.text("mailing").lines() {
        tool("kill", ["-KILL", pid]);
    }
}

#[test]
fn the_beginning_is_told_before_the_end() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", server.local_addr().unwrap());
    let machine = web(&format!("notify = {{ ping-start = '{base}/start', ping-success = '{base}/end' }}\n"));
    let lines = std::thread::spawn(move || {
        use std::io::{BufRead, BufReader, Read, Write};
        let mut lines = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = server.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut length) = (String::new(), 0);
            reader.read_line(&mut line).unwrap();
            loop {
                let mut header = String::new();
                reader.read_line(&mut header).unwrap();
                if let Some(value) = header.to_lowercase().strip_prefix("content-length: ") {
                    length = value.trim().parse().unwrap();
                }
                if header.trim().is_empty() {
                    break;
                }
            }
            reader.read_exact(&mut vec![0; length]).unwrap();
            lines.push(line.split(' ').nth(1).unwrap().to_string());
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        }
        lines
    });
    silent(&machine.ok(["run", "web"]));
    assert_eq!(lines.join().unwrap(), ["/start", "/end"]);
}

#[test]
fn states_that_cannot_be_kept_are_trouble() {
    bakfs_testing::need_root();
    let machine = web("schedule = ['daily']\n");
    let small = machine.path("small");
    let _device = Device::memory(&small, 1);
    let text = machine
        .text("config/bakfs.toml")
        .replace(&machine.path("state").display().to_string(), &small.join("state").display().to_string());
    std::fs::write(machine.path("config/bakfs.toml"), text).unwrap();
    assert_eq!(status(&machine)["exit"], 0);
    std::fs::create_dir(small.join("state")).unwrap();
    std::fs::write(small.join("filler"), vec![1; 2 << 20]).unwrap_err();
    let told = machine.run(["status"]).expect(1);
    told.says("cannot be noted");
    std::fs::remove_file(small.join("filler")).unwrap();
    machine.ok(["status"]);
    tool("mount", ["-o", "remount,ro", small.to_str().unwrap()]).expect(0);
    machine.run(["status"]).expect(1).says("cannot be noted");
    machine.run(["run", "web"]).expect(3).says("cannot be noted");
    assert_eq!(machine.tagged("web").len(), 1, "the snapshot is made all the same");
    tool("mount", ["-o", "remount,rw", small.to_str().unwrap()]).expect(0);
}

#[test]
fn a_machine_whose_own_folders_are_full_or_read_only_is_backed_up_and_says_so() {
    bakfs_testing::need_root();
    let hooks = "[profile.web.hooks]\nbefore = 'echo on >> @/mode'\nfinally = 'echo off >> @/mode'\n";
    let machine =
        web(&format!("schedule = ['daily']\n[profile.web.notify]\nmail = 'root'\nsendmail = '@/sendmail'\n{hooks}"));
    machine.write("sendmail", "#!/bin/sh\ncat > @/mail\n");
    std::fs::set_permissions(machine.path("sendmail"), PermissionsExt::from_mode(0o755)).unwrap();
    let small = machine.path("small");
    let _device = Device::memory(&small, 1);
    let own = |folder: &str| small.join(folder).display().to_string();
    let text = machine.text("config/bakfs.toml");
    let text = text.replace(&machine.path("state").display().to_string(), &own("state"));
    let text = text.replace(&machine.path("log").display().to_string(), &own("log"));
    let configure = |metrics: &str| {
        let text = format!("cache-dir = '{}'\nmetrics-file = '{metrics}'\n{text}", own("cache"));
        std::fs::write(machine.path("config/bakfs.toml"), text).unwrap();
    };
    let remount = |how: &str| drop(tool("mount", ["-o", how, small.to_str().unwrap()]).expect(0));
    let fill = || drop(std::fs::write(small.join("filler"), vec![1; 2 << 20]).unwrap_err());
    let run_once = || {
        let mut command = machine.command(["run", "--periodicity", "daily"]);
        command.env_remove("BAKFS_CACHE_DIR");
        run(command)
    };
    let mut nights = 0;
    let mut night = |how: &str| {
        std::fs::remove_file(machine.path("mode")).ok();
        let outcome = run_once().expect(3).says("cannot be noted").says("/small/state");
        nights += 1;
        assert_eq!(machine.tagged("web").len(), nights, "{how}: {outcome}");
        assert_eq!(outcome.stderr.matches("- What this run does").count(), 1, "{how}: {outcome}");
        assert_eq!(machine.text("mode"), "on\noff\n", "{how}");
        assert!(machine.text("mail").contains("cannot be noted"), "{how}");
        let metrics = machine.text("metrics/bakfs.prom");
        assert!(metrics.contains("bakfs_last_run_outcome{profile=\"web\"} 1\n"), "{how}: {metrics}");
        machine.run(["status"]).expect(1).says("cannot be noted");
    };
    let metrics = machine.path("metrics/bakfs.prom").display().to_string();
    configure(&metrics);
    // Before anything of this machine's own was ever made.
    remount("remount,ro");
    night("read-only and empty");
    remount("remount,rw");
    fill();
    night("full and empty");
    std::fs::remove_file(small.join("filler")).unwrap();
    silent(&run_once().expect(0));
    nights += 1;
    let mut night = |how: &str| {
        let outcome = run_once().expect(3).says("cannot be noted");
        nights += 1;
        assert_eq!(machine.tagged("web").len(), nights, "{how}: {outcome}");
        outcome
    };
    fill();
    night("full");
    remount("remount,ro");
    night("read-only");
    configure(&own("metrics/bakfs.prom"));
    night("no metrics either").says("small/metrics");
}

#[test]
fn runs_take_turns_also_where_no_lock_can_be_made() {
    bakfs_testing::need_root();
    let machine = web("schedule = ['daily']\n[profile.web.hooks]\n\
         before = 'echo on >> @/mode; while [ -e @/hold ]; do sleep 0.05; done'\nfinally = 'echo off >> @/mode'\n");
    let small = machine.path("small");
    let _device = Device::memory(&small, 1);
    let text = machine.text("config/bakfs.toml");
    let text = text.replace(&machine.path("state").display().to_string(), &small.join("state").display().to_string());
    std::fs::write(machine.path("config/bakfs.toml"), text).unwrap();
    let remount = |how: &str| drop(tool("mount", ["-o", how, small.to_str().unwrap()]).expect(0));
    // By the configuration, and by a lock file that can only be read.
    for held in ["bakfs.toml", "state/locks/web"] {
        remount("remount,ro");
        machine.write("hold", "");
        machine.write("mode", "");
        let first = machine.start(["run", "--periodicity", "daily"]);
        until("the first run has begun", SOON, || machine.text("mode") == "on\n");
        let second = machine.start(["run", "web"]);
        let waits = || {
            let files = std::fs::read_dir(format!("/proc/{}/fd", second.pid())).into_iter().flatten().flatten();
            files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|path| path.ends_with(held))
        };
        until("the second run waits", SOON, waits);
        std::fs::remove_file(machine.path("hold")).unwrap();
        first.finish().expect(3);
        second.finish().expect(3);
        assert_eq!(machine.text("mode"), "on\noff\non\noff\n", "{held}");
        remount("remount,rw");
        machine.ok(["run", "web"]);
    }
}

#[test]
fn what_others_must_read_can_be_read_whatever_the_umask() {
    bakfs_testing::need_root();
    let machine = web("");
    let path = machine.path("var/prometheus/node-exporter/bakfs.prom");
    std::fs::set_permissions(machine.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    let text = machine
        .text("config/bakfs.toml")
        .replace(&machine.path("state").display().to_string(), &machine.path("deep/er/state").display().to_string());
    std::fs::write(machine.path("config/bakfs.toml"), format!("metrics-file = '{}'\n{text}", path.display())).unwrap();
    let inner = machine.command(["run", "web"]);
    let mut command = machine.bakfs.wrap("sh");
    command.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    command.env_remove("BAKFS_REPO");
    silent(&run(command).expect(0));
    let mode = |name: &str| std::fs::metadata(machine.path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("var"), mode("var/prometheus"), mode("var/prometheus/node-exporter")), (0o755, 0o755, 0o755));
    assert_eq!(mode("var/prometheus/node-exporter/bakfs.prom"), 0o644);
    // A private folder does not close what it lies in.
    assert_eq!((mode("deep"), mode("deep/er")), (0o755, 0o755));
    assert_eq!(mode("deep/er/state") & 0o077, 0);
    let read = tool("setpriv", ["--reuid=65534", "--clear-groups", "cat", path.to_str().unwrap()]).expect(0).text();
    assert!(read.contains("bakfs_last_success_timestamp_seconds{profile=\"web\"} 1"), "{read}");
}

#[test]
fn a_profile_without_a_success_and_a_kind_without_a_profile_are_told() {
    let machine = web("schedule = ['daily']\n");
    let metrics = machine.ok(["status", "--metrics"]).text();
    assert!(metrics.contains("bakfs_last_success_timestamp_seconds{profile=\"web\"} 0\n"), "{metrics}");
    machine.ok(["run", "--periodicity", "weekly"]).says("no profile has `weekly`");
    assert!(machine.snapshots().is_empty());
}
