//! Promise: `latest` has a scope. Where several hosts and profiles share a repository, each has its own newest snapshot,
//! by command and in the mount; what is dated in the future takes nobody's place; and a restore says what it took.

use bakfs_testing::cli::{Bakfs, Mounted, is_mounted, json_of};
use bakfs_testing::machine::Machine;
use bakfs_testing::process::{self, Outcome, tool};
use bakfs_testing::{SOON, until, write};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// A server with its profiles `main` (the machine) and `shop` (its busy part), as docs/operations.md has it, and what
/// shares its repository. Each snapshot holds a file that says whose it is.
struct Server {
    machine: Machine,
    main: String,
    shop: String,
    by_hand: String,
    web2: String,
}

/// Days before this one, at a time in UTC.
fn day(before: u32, time: &str) -> String {
    let day = tool("date", ["-u", "-d", &format!("{before} days ago"), "+%F"]).expect(0).text();
    format!("{}{time}", day.trim())
}

impl Server {
    fn new() -> Server {
        let machine = Machine::new(
            "[defaults]\ncheck = { every = 'never' }\nprune = { every = 'never' }\n\
             [profile.main]\nsources = ['@/machine']\nschedule = ['daily']\ndefault-excludes = false\nhost = 'web1'\n\
             [profile.shop]\nsources = ['@/machine/srv/media']\nschedule = ['hourly']\nhost = 'web1'\n",
        );
        machine.write("machine/etc/passwd", "root\n");
        machine.write("machine/srv/media/photo", "old photo\n");
        let run = |time: &str, periodicity: &str| {
            machine.run_at(time, ["run", "--periodicity", periodicity]).expect(0);
        };
        run(&day(2, " 03:00:00"), "daily");
        run(&day(1, " 03:00:00"), "daily");
        machine.write("machine/srv/media/photo", "new photo\n");
        run(&day(1, " 04:00:00"), "hourly");
        let hand = |time: String, host: &str, source: &Path| {
            let source = source.to_str().unwrap();
            machine.json(["backup", "--tag", "shop", "--host", host, "--time", &time, source])["snapshot"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let hosts = machine.write("elsewhere/hosts", "of web2\n");
        let web2 = hand(day(1, "T05:00:00Z"), "web2", hosts.parent().unwrap());
        let nginx = machine.write("machine/etc/nginx/site", "site\n");
        let by_hand = hand(day(1, "T06:00:00Z"), "web1", nginx.parent().unwrap());
        let [main, shop] = ["main", "hourly"].map(|tag| machine.tagged(tag).pop().unwrap());
        Server { machine, main, shop, by_hand, web2 }
    }

    /// Returns the path at which a snapshot below `root` has a path of the world.
    fn below(&self, root: &Path, name: &str) -> PathBuf {
        root.join(self.machine.path(name).strip_prefix("/").unwrap())
    }

    /// Returns the snapshot that arguments lead `stats` to.
    #[track_caller]
    fn found(&self, args: &[&str]) -> String {
        let json = self.machine.json(["stats"].iter().chain(args));
        json["name"].as_str().unwrap().to_owned()
    }

    fn names(&self, args: &[&str]) -> Vec<String> {
        let json = self.machine.json(["snapshots"].iter().chain(args));
        json.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    }
}

fn list(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn leads(mount: &Mounted<'_>, link: &str) -> Option<String> {
    let target = std::fs::read_link(mount.path().join(link)).ok()?;
    // A relative link that leads somewhere.
    assert!(target.is_relative() && mount.path().join(link).join(".").is_dir(), "{link} -> {target:?}");
    Some(target.file_name().unwrap().to_str().unwrap().to_owned())
}

/// Returns where in the mount the documentation looks first.
fn documented_folder() -> String {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md")).unwrap();
    let words = page.lines().find_map(|line| line.split_once("bakfs mount /mnt/history && cd /mnt/history/"));
    let (_, rest) = words.expect("docs/operations.md goes into the mount");
    rest.split_whitespace().next().unwrap().to_owned()
}

/// Returns the line of the documentation that restores a whole machine, for another target.
fn documented_restore(target: &Path) -> String {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md")).unwrap();
    // The key is at hand here.
    let words = page.lines().find_map(|line| line.strip_prefix("bakfs --password-file recovery.txt restore "));
    let words = words.expect("docs/operations.md restores a whole machine");
    format!("bakfs restore {words}").replace("/mnt/newdisk", target.to_str().unwrap())
}

#[test]
fn the_documented_recipe_restores_the_machine_and_not_its_busy_part() {
    let server = Server::new();
    let target = server.machine.path("newdisk");
    let line = documented_restore(&target);
    assert!(!line.contains("restore latest"), "`latest` alone is the newest of all: {line}");
    let program = bakfs_testing::cli::program();
    let mut shell = server.machine.bakfs.wrap("sh");
    shell.env_remove("BAKFS_REPO").args(["-c", &line.replacen("bakfs", program.to_str().unwrap(), 1)]);
    let outcome = process::run(shell).expect(0);
    // Silent on standard output as in a script, and the snapshot named for whoever looks.
    assert_eq!(outcome.text(), "");
    for word in [&*server.main, "web1", "#main", server.machine.path("machine").to_str().unwrap()] {
        assert!(outcome.stderr.contains(word), "{word}: {outcome}");
    }
    assert!(server.below(&target, "machine/etc/passwd").exists());
    assert_eq!(std::fs::read(server.below(&target, "machine/srv/media/photo")).unwrap(), b"old photo\n");
    let mount = server.machine.mount();
    assert_eq!(leads(&mount, &documented_folder()), Some(server.main.clone()));
    mount.unmount();
}

#[test]
fn every_form_of_a_name_and_every_option_finds_whose_it_says() {
    let server = Server::new();
    let media = server.machine.path("machine/srv/media");
    let passwd = server.machine.path("machine/etc/passwd");
    let elsewhere = server.machine.path("elsewhere");
    let [media, passwd, elsewhere] = [&media, &passwd, &elsewhere].map(|path| path.to_str().unwrap());
    let first = server.machine.tagged("main")[0].clone();
    let prefix = server.machine.json(["snapshots"])[0]["id"].as_str().unwrap()[..16].to_owned();
    let second_day = day(2, "");
    for (args, expected) in [
        (&["latest"][..], &server.by_hand),
        (&["main/latest"], &server.main),
        (&["main/latest~1"], &first),
        (&["main/yesterday"], &server.main),
        (&[&format!("main/{second_day}")], &first),
        (&[&format!("main/{second_day}T03:30")], &first),
        (&[&format!("main/{first}")], &first),
        (&[&format!("main/{prefix}")], &first),
        (&["shop/latest"], &server.shop),
        (&["tags/shop/latest"], &server.by_hand),
        (&["hosts/web2/latest"], &server.web2),
        (&["hosts/web1/latest"], &server.by_hand),
        (&[&format!("tags/main/{first}")], &first),
        (&["--host", "web2", "latest"], &server.web2),
        (&["--profile", "main", "latest"], &server.main),
        (&["--profile", "shop", "yesterday"], &server.shop),
        (&["--tag", "main", "latest"], &server.main),
        (&["--tag", "shop", "--tag", "hourly", "latest"], &server.shop),
        (&["--tag", "shop", "--host", "web2", "latest"], &server.web2),
        (&["--path", passwd, "latest"], &server.main),
        (&["--path", media, "latest"], &server.shop),
        (&["--path", media, "--path", passwd, "latest"], &server.main),
        (&["--path", elsewhere, "latest"], &server.web2),
        (&["--path", "elsewhere/hosts", "latest"], &server.web2),
        (&["--host", "web2", "tags/shop/latest"], &server.web2),
    ] {
        assert_eq!(server.found(args), **expected, "{args:?}");
    }
    // In every command, alone and with a path.
    let photo = format!("{media}/photo");
    let dumped = |args: &[&str]| server.machine.ok(["dump"].iter().chain(args)).text();
    assert_eq!(dumped(&[&format!("main/latest:{photo}")]), "old photo\n");
    assert_eq!(dumped(&["--profile", "main", &format!("latest:{photo}")]), "old photo\n");
    assert_eq!(dumped(&[&format!("tags/hourly/latest:{photo}")]), "new photo\n");
    assert_eq!(dumped(&[&format!("main/{}:{photo}", day(1, "T03:00:00"))]), "old photo\n");
    assert_eq!(server.machine.ok(["ls", "--host", "web2", &format!("latest:{elsewhere}")]).text(), "hosts\n");
    assert!(server.machine.run(["diff", "main/latest", "shop/latest", &photo]).expect(1).text().starts_with("M "));
    server.machine.run(["diff", "--profile", "main", "latest~1", "latest", media]).expect(0);
    assert_eq!(server.machine.ok(["find", "photo"]).text().lines().count(), 2, "two versions");
    let of_main = server.machine.ok(["find", "--profile", "main", "photo"]).text();
    assert!(of_main.contains(&format!("{first} .. {}", server.main)) && of_main.lines().count() == 1, "{of_main}");
    server.machine.run(["find", "--host", "web2", "photo"]).expect(1);
    assert!(server.machine.ok(["find", "--snapshot", "main/latest", "photo"]).text().starts_with(&server.main));
    assert_eq!(server.names(&["--profile", "shop"]), [&*server.shop]);
    assert_eq!(server.names(&["--tag", "shop", "--host", "web1"]), [&*server.shop, &server.by_hand]);
    assert_eq!(server.names(&["--path", passwd]), [&*first, &server.main]);
    // What changes a snapshot takes the same names, and no time.
    server.machine.ok(["pin", "main/latest"]);
    let pinned = server.machine.json(["snapshots", "--profile", "main"]);
    assert_eq!((&pinned[0]["pinned"], &pinned[1]["pinned"]), (&false.into(), &true.into()));
    server.machine.ok(["unpin", "--profile", "main", "latest"]);
    server.machine.run(["forget", &format!("main/{second_day}")]).expect(2).says(&first);
    server.machine.ok(["forget", "--host", "web2", "latest"]);
    server.machine.ok(["forget", "tags/shop/latest"]);
    assert_eq!(server.names(&[]), [&*first, &server.main, &server.shop]);
    server.machine.ok(["forget", "--undo", "--host", "web2"]);
    assert_eq!(server.names(&[]).len(), 4);
}

#[test]
fn what_is_nobodys_is_an_error_that_says_whose_there_are() {
    let server = Server::new();
    let target = server.machine.path("out");
    let target = target.to_str().unwrap();
    let passwd = server.machine.path("machine/etc/passwd").display().to_string();
    for (args, told) in [
        (&["restore", "--host", "wbe2", "latest", target][..], &["`wbe2`", "did you mean `web2`?", "web1, web2"][..]),
        (&["restore", "--profile", "mian", "latest", target], &["did you mean `main`?", "main, shop"]),
        (&["restore", "mian/latest", target], &["profile `mian`", "did you mean `main`?"]),
        (&["dump", "tags/hourli/latest:/x"], &["tag `hourli`", "did you mean `hourly`?"]),
        (&["ls", "--tag", "nothing-like-it", "latest"], &["there are the tags", "daily, hourly, main, shop"]),
        (&["ls", "--path", "/srv/nowhere", "latest"], &["/srv/nowhere", "there are the sources", "elsewhere"]),
        (&["diff", "--profile", "sohp", "latest~1", "latest"], &["did you mean `shop`?"]),
        (&["find", "--host", "web3", "x"], &["did you mean `web"]),
        (&["snapshots", "--profile", "mian"], &["did you mean `main`?"]),
        (&["stats", "--host", "web3", "latest"], &["did you mean `web"]),
        (&["pin", "--tag", "dayli", "latest"], &["did you mean `daily`?"]),
        (&["forget", "--host", "web3", "latest"], &["did you mean `web"]),
        (&["forget", "--host", "web3", "--keep-last", "1"], &["did you mean `web"]),
        (&["mount", "--profile", "mian", "mnt"], &["did you mean `main`?"]),
        (&["restore", "--host", "web2", "main/latest", target], &["of the host web2 and of the profile main"]),
        (&["restore", "--host", "web2", &server.main, target], &["is not of the host web2"]),
        (&["ls", "--host", "web1", "hosts/web2/latest"], &["--host says web1"]),
        // What is not in the snapshot is perhaps in another history's.
        (&["dump", &format!("latest:{passwd}")], &["is not in the snapshot", &server.main, "`main/latest`"]),
        (&["restore", &format!("latest:{passwd}"), target], &["is not in the snapshot", "`main/latest`"]),
        (&["ls", &format!("main/latest{passwd}")], &[&format!("write `main/latest:{passwd}`")]),
        (&["stats", "--host", "web2"], &["Say which"]),
    ] {
        let outcome = server.machine.run(args).refused();
        for told in told {
            assert!(outcome.stderr.contains(told), "{told}: {outcome}");
        }
        assert!(!Path::new(target).exists(), "{args:?} wrote something");
    }
    assert!(!is_mounted(&server.machine.path("mnt")));
    assert_eq!(server.names(&[]).len(), 5, "nothing was forgotten");
}

#[test]
fn another_history_is_named_once() {
    let bakfs = Bakfs::new();
    bakfs.backup_at("2026-02-01T00:00:00Z", &bakfs.make_dir("first"));
    write(&bakfs.path("first/only"), "here");
    let first = bakfs.backup_at("2026-02-02T00:00:00Z", &bakfs.path("first"));
    bakfs.backup_at("2026-02-03T00:00:00Z", &bakfs.make_dir("second"));
    let target = bakfs.path("target");
    let told = bakfs.ok(["restore", "latest", target.to_str().unwrap()]).stderr;
    let (_, others) = told.split_once("There are also:\n  ").unwrap_or_else(|| panic!("{told}"));
    assert!(others.starts_with(&format!("{} (2026-02-02 00:00) of ", first.snapshot())), "{told}");
    assert_eq!(others.matches(first.snapshot()).count(), 1, "{told}");
    let elsewhere = format!("latest:{}", bakfs.path("first/only").display());
    let told = bakfs.run(["ls", &elsewhere]).expect(1).stderr;
    assert_eq!(told.matches(first.snapshot()).count(), 1, "{told}");
    assert!(told.contains(&format!("; it is in {} (", first.snapshot())), "{told}");
}

#[test]
fn a_restore_says_which_snapshot_it_took_and_that_there_are_others() {
    let server = Server::new();
    let restore = |args: &[&str]| {
        let target = tempfile::tempdir_in(server.machine.path("")).unwrap();
        server.machine.run(args.iter().copied().chain([target.path().to_str().unwrap()])).expect(0)
    };
    let machine = server.machine.path("machine").display().to_string();
    // Of several histories, the newest: told with what else there is, and how that is named.
    let outcome = restore(&["restore", "latest"]);
    for told in [&*server.by_hand, "nginx", "web1", "main/latest: ", &server.main, "shop/latest: ", &server.shop] {
        assert!(outcome.stderr.contains(told), "{told}: {outcome}");
    }
    assert!(outcome.stderr.contains("hosts/web2/latest: ") || outcome.stderr.contains(&server.web2), "{outcome}");
    assert!(outcome.stderr.contains("several histories"), "{outcome}");
    let minute = format!("{} 06:00", day(1, ""));
    assert!(outcome.stderr.contains(&minute), "{minute}: {outcome}");
    // Others that cannot have the path are no others.
    let passwd = format!("main/latest:{machine}/etc/passwd");
    for args in [&["restore", "main/latest"][..], &["restore", &passwd], &["restore", "--profile", "shop", "latest"]] {
        let outcome = restore(args);
        assert!(!outcome.stderr.contains("warning"), "{outcome}");
        assert!(outcome.stderr.contains("Restoring 2"), "{outcome}");
    }
    // Named exactly it goes without saying, and quietly too.
    assert_eq!(restore(&["restore", &server.main]).stderr, "");
    assert_eq!(restore(&["restore", "-q", "main/latest"]).stderr, "");
    let outcome = restore(&["restore", "-v", &server.main]);
    assert!(outcome.text().contains(&format!("Snapshot {}", server.main)), "{outcome}");
    let json = json_of(restore(&["--json", "restore", "shop/yesterday"]));
    let snapshot = &json["snapshot"];
    assert_eq!((&snapshot["name"], &snapshot["host"]), (&(&*server.shop).into(), &"web1".into()));
    assert_eq!(snapshot["tags"], serde_json::json!(["hourly", "shop"]));
    assert_eq!(snapshot["paths"], serde_json::json!([format!("{machine}/srv/media")]));
    let time = snapshot["time"].as_str().unwrap();
    assert!(snapshot["id"].as_str().unwrap().len() == 64 && time.starts_with(&day(1, "T04:00:0")), "{snapshot}");
    // What is data stays data.
    let photo = format!("latest:{machine}/etc/nginx/site");
    let outcome = server.machine.run(["dump", "-v", &photo]).expect(0);
    assert_eq!(outcome.text(), "site\n");
    outcome.says("Reading 2");
    assert_eq!(server.machine.run(["dump", &photo]).expect(0).stderr, "");
}

#[test]
fn hosts_and_tags_of_the_mount_have_their_own_newest_and_follow() {
    let server = Server::new();
    let mount = server.machine.mount();
    let today = day(0, "");
    for (link, expected) in [
        ("latest", &server.by_hand),
        ("yesterday", &server.by_hand),
        ("hosts/web1/latest", &server.by_hand),
        ("hosts/web2/latest", &server.web2),
        ("hosts/web2/yesterday", &server.web2),
        ("tags/main/latest", &server.main),
        ("tags/daily/yesterday", &server.main),
        ("tags/hourly/latest", &server.shop),
        ("tags/shop/latest", &server.by_hand),
    ] {
        if day(0, "") == today || link.ends_with("latest") {
            assert_eq!(leads(&mount, link).as_deref(), Some(&**expected), "{link}");
        }
    }
    assert_eq!(leads(&mount, "tags/main/today"), None);
    assert!(!list(&mount.path().join("tags/main")).contains(&"today".to_string()));
    let passwd = server.below(&mount.path().join("tags/main/latest"), "machine/etc/passwd");
    assert_eq!(std::fs::read(&passwd).unwrap(), b"root\n");
    // Of today, and without mounting again.
    server.machine.ok(["run", "main"]);
    let new = server.machine.tagged("main").pop().unwrap();
    assert_ne!(new, server.main);
    until("main's link has followed", SOON, || leads(&mount, "tags/main/latest").as_deref() == Some(&*new));
    until("so has the host's", SOON, || leads(&mount, "hosts/web1/latest").as_deref() == Some(&*new));
    until("a new link is listed", SOON, || list(&mount.path().join("tags/main")).contains(&"today".to_string()));
    if day(0, "") == today {
        assert_eq!(leads(&mount, "tags/main/today").as_deref(), Some(&*new));
    }
    assert_eq!(leads(&mount, "tags/hourly/latest").as_deref(), Some(&*server.shop), "nobody else's");
    assert_eq!(leads(&mount, "tags/daily/latest").as_deref(), Some(&*server.main));
    server.machine.ok(["forget", "main/latest"]);
    until("it leads back", SOON, || leads(&mount, "tags/main/latest").as_deref() == Some(&*server.main));
    until("today is gone", SOON, || !list(&mount.path().join("tags/main")).contains(&"today".to_string()));
    mount.unmount();
}

#[test]
fn a_mount_of_one_profile_shows_its_snapshots_alone() {
    let server = Server::new();
    let dir = server.machine.path("mnt");
    server.machine.ok([OsStr::new("mount"), OsStr::new("--profile=main"), dir.as_os_str()]);
    let mount = server.machine.bakfs.adopt(dir);
    let dated: Vec<_> = list(mount.path()).into_iter().filter(|name| name.starts_with('2')).collect();
    assert_eq!(dated, server.machine.tagged("main"));
    assert_eq!(leads(&mount, "latest").as_deref(), Some(&*server.main));
    assert_eq!(list(&mount.path().join("tags")), ["daily", "main"]);
    assert_eq!(list(&mount.path().join("hosts")), ["web1"]);
    server.machine.ok(["run", "shop"]);
    server.machine.ok(["run", "main"]);
    let new = server.machine.tagged("main").pop().unwrap();
    until("main's new one is shown", SOON, || leads(&mount, "latest").as_deref() == Some(&*new));
    let others = server.machine.tagged("shop").pop().unwrap();
    assert!(!list(mount.path()).contains(&others));
    mount.unmount();
}

/// A repository with snapshots of two nights, and one that a wrong clock has made.
fn with_a_future() -> (Bakfs, PathBuf, [String; 2], String) {
    let (bakfs, source) = Bakfs::with_source();
    let night = |time: &str, text: &str| {
        write(&source.join("file"), text);
        let args = ["--host", "web1", "--tag", "main", "--time", time, source.to_str().unwrap()];
        bakfs.backup(args).snapshot().to_owned()
    };
    let first = night("2026-03-01T03:00:00Z", "first");
    let future = night("2046-03-02T03:00:00Z", "future");
    let second = night("2026-03-02T03:00:00Z", "second");
    (bakfs, source, [first, second], future)
}

#[test]
fn what_is_dated_in_the_future_takes_nobodys_place_and_is_told() {
    let (bakfs, source, [first, second], future) = with_a_future();
    let file = source.join("file").display().to_string();
    let told =
        |outcome: &Outcome| outcome.stderr.matches("in the future").count() == 1 && outcome.stderr.contains(&future);
    for (name, text) in [
        ("latest", "second"),
        ("latest~1", "first"),
        ("2099-01-01", "second"),
        ("hosts/web1/latest", "second"),
        ("main/latest", "second"),
    ] {
        let outcome = bakfs.ok(["dump", &format!("{name}:{file}")]);
        assert_eq!(outcome.text(), text, "{name}");
        assert!(told(&outcome), "{name}: {outcome}");
        assert!(told(&bakfs.ok(["ls", &format!("{name}:{file}")])), "{name}");
    }
    let out = bakfs.path("out");
    for args in [
        &["stats", "latest"][..],
        &["restore", "latest", out.to_str().unwrap()],
        &["pin", "latest"],
        &["unpin", "latest"],
        &["find", "--snapshot", "latest", "file"],
    ] {
        let outcome = bakfs.ok(args);
        assert!(told(&outcome), "{args:?}: {outcome}");
    }
    let outcome = bakfs.run(["diff", "latest~1", "latest"]).expect(1);
    assert!(told(&outcome), "told once: {outcome}");
    bakfs.run(["dump", &format!("latest~2:{file}")]).refused().says("only 2 snapshots");
    // By its own name it is had as ever, without a word.
    let outcome = bakfs.ok(["dump", &format!("{future}:{file}")]);
    assert_eq!((&*outcome.text(), &*outcome.stderr), ("future", ""));
    // Lists mark it.
    let lines = bakfs.ok(["snapshots"]).text();
    let marked: Vec<_> = lines.lines().filter(|line| line.ends_with("  in the future")).collect();
    assert!(marked.len() == 1 && marked[0].starts_with(&future), "{lines}");
    let json = bakfs.json(["snapshots"]);
    assert_eq!((&json[1]["in_the_future"], &json[2]["in_the_future"]), (&false.into(), &true.into()));
    // A backup says so, and goes on from the last one that is believed.
    let outcome = bakfs.backup_outcome(["--host", "web1", source.to_str().unwrap()]).expect(0);
    assert!(told(&outcome), "{outcome}");
    assert_eq!(json_of(outcome)["parent"], *second);
    // Of another host nobody hears of it.
    let outcome = bakfs.backup_outcome(["--host", "web2", source.to_str().unwrap()]).expect(0);
    assert_eq!(outcome.stderr, "");
    let outcome = bakfs.backup_outcome(["--host", "web2", "--time", "2046-01-01T00:00:00Z", source.to_str().unwrap()]);
    outcome.expect(0).says("2046-01-01T00-00-00Z").says("in the future");
    assert_eq!(bakfs.ok(["dump", &format!("main/latest:{file}")]).text(), "second");
    assert_eq!(bakfs.ok(["dump", &format!("{first}:{file}")]).text(), "first");
}

#[test]
fn no_link_of_the_mount_leads_into_the_future() {
    let (bakfs, source, [_, second], future) = with_a_future();
    let log = bakfs.path("log");
    let dir = bakfs.path("mnt");
    let outcome = bakfs.ok(["mount", "--log", log.to_str().unwrap(), dir.to_str().unwrap()]);
    let mount = bakfs.adopt(dir);
    outcome.says("1 snapshot lies more than a day in the future").says(&future);
    let logged = || std::fs::read_to_string(&log).unwrap();
    assert_eq!(logged().matches(&future).count(), 2, "one line, with what to do: {}", logged());
    for link in ["latest", "hosts/web1/latest", "tags/main/latest"] {
        assert_eq!(leads(&mount, link).as_deref(), Some(&*second), "{link}");
    }
    // It is there all the same.
    assert!(list(mount.path()).contains(&future) && list(&mount.path().join("tags/main")).contains(&future));
    assert_eq!(std::fs::read(mount.at(&future, &source).join("file")).unwrap(), b"future");
    // Another comes while it is mounted.
    let late = bakfs.backup_at("2047-01-01T00:00:00Z", &source).snapshot().to_owned();
    until("it is shown", SOON, || list(mount.path()).contains(&late));
    until("it is told", SOON, || logged().contains("2 snapshots lie"));
    assert_eq!(leads(&mount, "latest").as_deref(), Some(&*second));
    mount.unmount();
}

#[test]
fn a_clock_at_its_beginning_believes_no_snapshot_and_says_so() {
    let machine = Machine::new("[profile.main]\nsources = ['@/source']\nschedule = ['daily']\nhost = 'web1'\n");
    let file = machine.write("source/file", "text");
    machine.run_at("2026-03-01 03:00:00", ["run", "main", "--periodicity", "daily"]).expect(0);
    let name = machine.tagged("main").pop().unwrap();
    let target = format!("latest:{}", file.display());
    machine.run_at("2001-01-01 00:00:00", ["dump", &target]).expect(1).says("2001-01-01").says(&name);
    let exact = format!("{name}:{}", file.display());
    assert_eq!(machine.run_at("2001-01-01 00:00:00", ["dump", &exact]).expect(0).text(), "text");
    // A run by such a clock takes nothing over from a snapshot that lies ahead, and is no success without a word.
    machine.write("source/file", "TEXT");
    let outcome = machine.run_at("2001-01-01 00:00:00", ["run", "main", "--periodicity", "daily"]).expect(3);
    outcome.says("in the future").says(&name);
    let early = machine.tagged("main").remove(0);
    assert_eq!(machine.ok(["dump", &format!("{early}:{}", file.display())]).text(), "TEXT");
    // By one that is merely late most of what there is lies ahead.
    machine.run_at("2026-03-02 03:00:00", ["run", "main", "--periodicity", "daily"]).expect(0);
    machine.ok(["forget", &early]);
    let outcome = machine.run_at("2026-01-15 00:00:00", ["run", "main", "--periodicity", "daily"]).expect(3);
    outcome.says("2 snapshots lie more than a day in the future");
}

#[test]
fn a_backup_by_hand_passes_for_no_run_of_a_profile() {
    let machine = Machine::new("[profile.main]\nsources = ['@/source']\nschedule = ['daily']\nhost = 'web1'\n");
    let source = machine.bakfs.make_dir("source");
    let source = source.to_str().unwrap();
    for kind in ["daily", "manual"] {
        let refused = machine.run(["backup", "--tag", "main", "--tag", kind, source]);
        refused.expect(2).says("would pass for a run of the profile `main`");
    }
    // Each by itself is a tag like any other.
    for tag in ["main", "daily"] {
        machine.ok(["backup", "--tag", tag, source]);
    }
}
