//! Promise: a value that is given and cannot be used is an error, and a pattern that can match nothing is told: nothing
//! of it counts as not given.

use bakfs_testing::cli::Bakfs;
use bakfs_testing::process::{Outcome, run, tool};
use bakfs_testing::write;
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// Runs `bakfs ARGS` with variables set.
fn with<S: AsRef<OsStr>>(bakfs: &Bakfs, variables: &[(&str, &[u8])], args: impl IntoIterator<Item = S>) -> Outcome {
    let mut command = bakfs.command(args);
    for (name, value) in variables {
        command.env(name, OsString::from_vec(value.to_vec()));
    }
    run(command)
}

/// Returns the paths in the newest snapshot, below a folder and without it.
fn paths(bakfs: &Bakfs, below: &Path) -> Vec<String> {
    let list = bakfs.json(["ls", "-R", "latest"]);
    let below = format!("{}/", below.display());
    let path = |entry: &Value| entry["path"].as_str().unwrap().strip_prefix(&below).map(str::to_string);
    list.as_array().unwrap().iter().filter_map(path).collect()
}

#[test]
fn a_passphrase_that_cannot_be_used_is_refused_wherever_it_comes_from() {
    let bakfs = Bakfs::empty();
    let secret = |bytes: &[u8]| {
        let path = bakfs.path("pass");
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path
    };
    let long = [b'x'; 5000];
    for bad in [&b"p\xe4ss"[..], b"other\xff", b"", b"\n", b"\r\n", b"\xff\xfep\0", &long] {
        let refused = |outcome: Outcome| {
            let outcome = outcome.expect(2).says("passphrase");
            assert!(!bakfs.repo().exists(), "{bad:?}: {outcome}");
        };
        if !bad.contains(&0) {
            refused(with(&bakfs, &[("BAKFS_PASSWORD", bad)], ["init"]));
        }
        let file = secret(bad);
        refused(bakfs.run(["--password-file", file.to_str().unwrap(), "init"]));
        refused(bakfs.run(["--password-command", &format!("cat {}", file.display()), "init"]));
    }
    let both = ["--password-file", "/x", "--password-command", "echo x", "init"];
    bakfs.run(both).expect(2).says("from one place");
    assert!(!bakfs.path("config/keys").exists());
    // What ends a line, and the mark of an editor, are no part of it.
    with(&bakfs, &[("BAKFS_PASSWORD", b"pw\n")], ["init"]).expect(0);
    with(&bakfs, &[("BAKFS_PASSWORD", b"pw")], ["snapshots"]).expect(0);
    let file = secret(b"\xef\xbb\xbfpw\r\nmore");
    bakfs.run(["--password-file", file.to_str().unwrap(), "snapshots"]).expect(0);
    with(&bakfs, &[("BAKFS_PASSWORD", b"other\xff")], ["snapshots"]).expect(2).says("not UTF-8");
    // Nor where a key file would open it.
    let keyed = Bakfs::new();
    with(&keyed, &[("BAKFS_PASSWORD", b"other\xff")], ["snapshots"]).expect(2).says("BAKFS_PASSWORD");
}

#[test]
fn a_variable_that_cannot_be_used_is_refused_and_a_misspelt_one_is_told() {
    let bakfs = Bakfs::new();
    for (name, value) in [
        ("BAKFS_CONFIG_DIR", &b""[..]),
        ("BAKFS_CONFIG_DIR", b"config"),
        ("BAKFS_STATE_DIR", b""),
        ("BAKFS_STATE_DIR", b"state"),
        ("BAKFS_LOG_DIR", b"log"),
        ("BAKFS_SYSTEM_ROOT", b"root"),
        ("BAKFS_SYSTEM_ROOT", b""),
        ("BAKFS_REPO", b""),
        ("BAKFS_REPO", b"~/repo"),
        ("BAKFS_REPO", b"$HOME/repo"),
        ("BAKFS_CONFIG", b""),
        ("BAKFS_CONFIG", b"~/x.toml"),
        ("BAKFS_CACHE_DIR", b"~/cache"),
        ("BAKFS_CACHE_SIZE", b"much"),
        ("BAKFS_CACHE_SIZE", b"\xff"),
        ("BAKFS_CONNECTIONS", b"0"),
        ("BAKFS_LIMIT_UPLOAD", b""),
        ("BAKFS_PASSWORD_FILE", b""),
        ("BAKFS_PASSWORD_FILE", b"${HOME}/pass"),
        ("BAKFS_CREDENTIALS_FILE", b""),
    ] {
        let outcome = with(&bakfs, &[(name, value)], ["snapshots"]);
        assert!(outcome.code == 2 && !outcome.stderr.is_empty(), "{name}={}: {outcome}", value.escape_ascii());
    }
    assert!(!bakfs.path("~").exists() && !bakfs.path("state/state").exists());
    for (name, meant) in [("BAKFS_PASWORD", "BAKFS_PASSWORD?"), ("BAKFS_REPOSITORY", "BAKFS_REPO?")] {
        with(&bakfs, &[(name, b"x")], ["snapshots"]).expect(0).says(meant);
    }
    // Those of services, where they are looked at.
    for (repo, name) in [
        ("s3://bucket/x", "AWS_SECRET_ACCESS_KEY"),
        ("s3://bucket/x", "BAKFS_CREDENTIALS_FILE"),
        ("b2://bucket/x", "B2_APPLICATION_KEY"),
        ("webdavs://host/x", "WEBDAV_PASSWORD"),
    ] {
        with(&bakfs, &[(name, b"\xff")], ["--repo", repo, "snapshots"]).expect(2).says(name);
    }
    let half = with(&bakfs, &[("AWS_ACCESS_KEY_ID", b"id")], ["--repo", "s3://bucket/x", "snapshots"]);
    half.expect(2).says("AWS_SECRET_ACCESS_KEY is not");
    let credentials = bakfs.path("config/credentials.toml");
    write(&credentials, "\u{feff}['s3://bucket']\r\naws_acces_key_id = 'x'\r\n");
    std::fs::set_permissions(&credentials, PermissionsExt::from_mode(0o600)).unwrap();
    bakfs.run(["--repo", "s3://bucket/x", "snapshots"]).expect(2).says("aws_acces_key_id");
}

#[test]
fn paths_that_no_shell_has_expanded_are_refused() {
    let (bakfs, source) = Bakfs::with_source();
    write(&source.join("f"), "1");
    bakfs.backup([&source]);
    let home = bakfs.path("home").join("repo");
    bakfs.run(["--repo", "~/repo", "init"]).expect(2).says(home.to_str().unwrap());
    for args in [
        &["--repo", "$HOME/repo", "init"][..],
        &["--repo", "${HOME}/repo", "init"],
        &["--repo", "", "init"],
        &["--cache-dir", "~/c", "snapshots"],
        &["--password-file", "~/p", "snapshots"],
        &["restore", "latest", "~/out"],
        &["restore", "latest", ""],
        &["backup", "~/x"],
        &["backup", ""],
        &["man", "~/man"],
    ] {
        let outcome = bakfs.run(args);
        assert!(outcome.code == 2, "{args:?}: {outcome}");
    }
    assert!(!bakfs.path("~").exists() && !bakfs.path("$HOME").exists());
    bakfs.ok(["--repo", "./~/repo", "init"]);
    assert!(bakfs.path("~/repo/config").exists());
}

#[test]
fn paths_of_the_configuration_mean_the_same_wherever_a_run_begins() {
    let bakfs = Bakfs::first_time();
    let config = bakfs.path("config/bakfs.toml");
    for text in ["repo = 'repo'\n", "repo = '~/repo'\n", "repo = '/r'\npassword-file = 'p'\n"] {
        write(&config, text);
        bakfs.run(["snapshots"]).expect(2).says("bakfs.toml");
        bakfs.run(["init"]).expect(2).says("absolute path");
        bakfs.run(["config", "check"]).expect(2).says("absolute path");
    }
    for text in ["cache-dir = 'c'\n", "state-dir = '~/s'\n"] {
        write(&config, text);
        let mut command = bakfs.command(["--repo", "other", "snapshots"]);
        command.env_remove("BAKFS_CACHE_DIR");
        run(command).expect(2).says("absolute path");
    }
    assert!(!bakfs.path("repo").exists() && !bakfs.path("c").exists() && !bakfs.path("~").exists());
    // What is named beside it needs none of that.
    write(&config, "repo = 'repo'\n");
    bakfs.ok(["--repo", bakfs.path("other").to_str().unwrap(), "init"]);
    // A link to what is not mounted is no folder without profiles.
    write(&config, format!("repo = {:?}\n[profile.p]\nsources = ['/etc/hostname']\n", bakfs.path("other")));
    symlink("nowhere", bakfs.path("config/profiles.d")).unwrap();
    bakfs.run(["status"]).refused().says("profiles.d");
}

#[test]
fn a_tag_with_a_comma_is_two_wherever_one_is_given() {
    let (bakfs, source) = Bakfs::with_source();
    write(&source.join("f"), "1");
    let backup = |args: &[&str]| bakfs.backup(args.iter().map(OsStr::new).chain([source.as_os_str()]));
    backup(&["--time", "2026-01-01T00:00:00Z", "--tag", "release,db"]);
    backup(&["--time", "2026-02-01T00:00:00Z", "--tag", "release"]);
    let count = |args: &[&str]| {
        let list = bakfs.json([&["snapshots"], args].concat());
        list.as_array().unwrap().len()
    };
    assert_eq!(bakfs.json(["snapshots"])[0]["tags"], serde_json::json!(["db", "release"]));
    assert_eq!((count(&["--tag", "release"]), count(&["--tag", "db"])), (2, 1));
    assert_eq!((count(&["--tag", "release,db"]), count(&["--tag", "release", "--tag", "db"])), (1, 1));
    let kept = bakfs.json(["forget", "--dry-run", "--keep-last", "1", "--keep-tag", "release,db"]);
    assert_eq!(kept["forgotten"], serde_json::json!([]));
    for bad in ["a,,b", ",", "", "a/b", "a,.."] {
        bakfs.run(["backup", "--tag", bad, source.to_str().unwrap()]).expect(2).says("tag");
    }
    bakfs.run(["snapshots", "--tag", ""]).expect(2);
    bakfs.run(["snapshots", "--host", ""]).expect(2);
    bakfs.run(["find", "--path", "", "f"]).expect(2);
    bakfs.run(["backup", "--host", "", source.to_str().unwrap()]).expect(2);
    write(
        &bakfs.path("config/bakfs.toml"),
        format!("[profile.p]\nsources = [{source:?}]\ntags = ['x,y']\nkeep = {{ last = 1, tag = 'x, y' }}\n"),
    );
    bakfs.ok(["run", "p"]);
    assert_eq!((count(&["--tag", "x"]), count(&["--tag", "y,p"])), (1, 1));
    bakfs.run(["snapshots", "--tag", "releas"]).expect(1).says("did you mean `release`?");
    let host = bakfs.json(["snapshots"])[0]["host"].as_str().unwrap().to_string();
    let wrong = bakfs.run(["snapshots", "--host", &format!("{host}x")]).expect(1);
    wrong.says(&format!("`{host}x`: did you mean `{host}`? there is no other host\n"));
    bakfs.run(["snapshots", "--host", "elsewhere"]).expect(1).says(&format!("there is only the host {host}\n"));
    bakfs.run(["run", "pp"]).expect(2).says("did you mean `p`?");
    bakfs.run(["ls", "q/latest"]).expect(1).says("did you mean `p`?");
}

#[test]
fn a_pattern_means_what_the_path_of_a_source_means() {
    let bakfs = Bakfs::new();
    let real = std::fs::canonicalize(bakfs.make_dir("disk/www")).unwrap();
    for path in ["cache/big", "site/i"] {
        write(&real.join(path), path);
    }
    let base = real.parent().unwrap().parent().unwrap();
    std::fs::create_dir(base.join("v")).unwrap();
    symlink("../disk", base.join("v/d")).unwrap();
    let given = base.join("v/d/www");
    for pattern in ["v/d/www/cache", "v/*/www/cache", "v/d//www/cache//", "disk/www/cache"] {
        let pattern = base.join(pattern).to_str().unwrap().replace("/cache", "//cache");
        let outcome =
            bakfs.run(["backup".as_ref(), given.as_os_str(), "--exclude".as_ref(), pattern.as_ref()]).expect(0);
        assert_eq!(outcome.stderr, "", "{pattern}");
        assert_eq!(paths(&bakfs, &real), ["site", "site/i"], "{pattern}");
    }
    // The path as it was given finds the same, and so does a restore.
    let at = |path: &str| format!("latest:{}{path}", given.display());
    assert_eq!(bakfs.ok(["dump", &at("/site/i")]).text(), "site/i");
    assert_eq!(bakfs.ok(["ls", &at("/")]).text(), "site\n");
    assert_eq!(bakfs.ok(["ls", &at("/site")]).text(), "i\n");
    let out = bakfs.path("out");
    let inside = |path: &Path| out.join(path.strip_prefix("/").unwrap());
    bakfs.ok(["restore", "latest", out.to_str().unwrap()]);
    assert_eq!(std::fs::read(inside(&given).join("site/i")).unwrap(), b"site/i");
    std::fs::remove_dir_all(&out).unwrap();
    bakfs.ok(["restore", &at("/site"), out.to_str().unwrap()]);
    assert_eq!(std::fs::read(inside(&real).join("site/i")).unwrap(), b"site/i");
    let snapshots = |path: &Path| bakfs.json(["snapshots", "--path", path.to_str().unwrap()]).as_array().unwrap().len();
    assert_eq!(snapshots(&given), snapshots(&real));
    // A source that is a link itself, in a profile, with the pattern in a file.
    symlink(&real, base.join("link")).unwrap();
    let link = base.join("link");
    let patterns = bakfs.path("patterns");
    write(&patterns, format!("{}/cache\n", link.display()));
    write(
        &bakfs.path("config/bakfs.toml"),
        format!("[defaults]\nexclude = ['/srv/x']\n[profile.p]\nsources = [{link:?}]\nexclude-file = [{patterns:?}]\n"),
    );
    let told = bakfs.ok(["run", "p"]);
    assert_eq!(told.stderr, "");
    assert_eq!(paths(&bakfs, &real), ["site", "site/i"]);
    assert_eq!(bakfs.ok(["ls", &format!("latest:{}", link.display())]).text(), "site\n");
    let list = bakfs.json(["ls", "-R", &format!("latest:{}/", link.display())]);
    assert_eq!(list.as_array().unwrap().len(), 2);
    let checked = bakfs.run(["--json", "config", "check"]);
    assert!(
        checked.text().contains("`/srv/x` leaves out nothing, for it lies below no source of any profile"),
        "{checked}"
    );
    assert!(!checked.text().contains("link/cache` leaves out nothing"), "{checked}");
}

#[test]
fn a_pattern_that_can_match_nothing_is_told() {
    let (bakfs, source) = Bakfs::with_source();
    let source = std::fs::canonicalize(&source).unwrap();
    for path in ["a.log", "b.bak", "c.tmp", "{guid}/x", "keep", "back slash "] {
        write(&source.join(path), path);
    }
    let backup = |options: &[&str]| {
        let args = ["backup"].iter().map(OsStr::new).chain(options.iter().map(OsStr::new)).chain([source.as_os_str()]);
        bakfs.run(args)
    };
    for bad in ["~/x", "$HOME/x", "${HOME}/x", "./c.tmp", "../c.tmp", " c.tmp", "c.tmp\t", "c.tmp\r", "", "/", "a{b,c"]
    {
        backup(&["--exclude", bad]).expect(2).says("--exclude");
    }
    for beside in ["/nosuch/x", "/nosuch//x/", "/nosuch/*", source.to_str().unwrap(), "!/nosuch/x"] {
        backup(&["--exclude", beside]).expect(0).says(&format!("`{beside}` leaves out nothing"));
    }
    for fine in ["x", "no/such", "/**/x", "/*/*/*/x*", "{/nosuch,}/**/x"] {
        assert_eq!(backup(&["--exclude", fine]).expect(0).stderr, "", "{fine}");
    }
    // A file as editors and people leave it.
    let patterns = bakfs.path("patterns");
    write(&patterns, "\u{feff}*.log\r\n\t*.bak \t\r\n  # said\r\n{guid}\r\nback slash\\ \r\n");
    backup(&["--exclude-file", patterns.to_str().unwrap()]).expect(0);
    assert_eq!(paths(&bakfs, &source), ["c.tmp", "keep"]);
    for (option, values) in [("--exclude", ["{guid}", "*.{log,bak}"]), ("--exclude", ["{guid}/", "*.[lb]*"])] {
        backup(&[option, values[0], option, values[1]]).expect(0);
        assert_eq!(paths(&bakfs, &source), ["back slash ", "c.tmp", "keep"]);
    }
    std::fs::write(&patterns, b"\xff\xfe*\0").unwrap();
    backup(&["--exclude-file", patterns.to_str().unwrap()]).expect(2).says("UTF-16");
    for option in [&["--exclude", "x"][..], &["--exclude-file", "/x"], &["--dry-run"], &["-x"], &["--exclude-caches"]] {
        bakfs.run([&["backup", "--stdin", "/x"], option].concat()).expect(2);
    }
    // In a profile: told by the log of each run and by the check, and no failure; what all profiles share is not asked of each.
    let profile = format!(
        "[defaults]\nexclude = ['/srv/*.o', '/etc/x']\n[profile.p]\nsources = [{source:?}]\n\
         exclude = ['/nosuch/x', '!/tmp', '*.log']\n[profile.q]\nsources = ['/etc/hostname', '/etc']\nexclude = ['/']\n"
    );
    write(&bakfs.path("config/bakfs.toml"), profile.replace("exclude = ['/']\n", ""));
    let told = bakfs.run(["run", "p"]).expect(0);
    assert!(!told.stderr.contains("`!/tmp`") && !told.stderr.contains("/srv"), "{told}");
    assert!(!paths(&bakfs, &source).contains(&"a.log".into()));
    let checked = bakfs.run(["--json", "config", "check"]).text();
    assert!(checked.contains("`/nosuch/x` leaves out nothing"), "{checked}");
    assert!(checked.contains("`/srv/*.o` leaves out nothing") && !checked.contains("`/etc/x` leaves"), "{checked}");
    write(&bakfs.path("config/bakfs.toml"), profile);
    bakfs.run(["run", "q"]).says("names nothing").expect(1);
}

#[test]
fn searches_and_restores_speak_the_same_language() {
    let (bakfs, source) = Bakfs::with_source();
    let source = std::fs::canonicalize(&source).unwrap();
    for path in ["{guid}/x.conf", "nginx/x.conf", "y.conf"] {
        write(&source.join(path), path);
    }
    bakfs.backup([&source]);
    let found = |glob: &str| {
        let list: Value = serde_json::from_slice(&bakfs.run(["--json", "find", glob]).stdout).unwrap();
        let path =
            |entry: &Value| entry["path"].as_str().unwrap().strip_prefix(source.to_str().unwrap()).unwrap().to_string();
        list.as_array().unwrap().iter().map(path).collect::<Vec<_>>()
    };
    for (glob, wanted) in [
        ("{guid}", &["/{guid}"][..]),
        ("nginx/", &["/nginx"]),
        ("y.conf/", &[]),
        ("nginx//*.conf", &["/nginx/x.conf"]),
        ("{x,y}.conf", &["/nginx/x.conf", "/y.conf", "/{guid}/x.conf"]),
    ] {
        assert_eq!(found(glob), wanted, "{glob}");
    }
    for bad in ["~/x", "$HOME/x", "./x", "", "x ", "[a"] {
        bakfs.run(["find", bad]).expect(2).says("is no pattern");
        bakfs.run(["restore", "latest", "out", "--include", bad]).expect(2).says("--include");
        bakfs.run(["restore", "latest", "out", "--exclude", bad]).expect(2).says("--exclude");
    }
    let out = bakfs.path("out");
    bakfs
        .ok(["restore", "latest", out.to_str().unwrap(), "--include", "{guid}", "--exclude", "nosuch"])
        .says("--exclude nosuch matched nothing");
    assert!(out.join(source.strip_prefix("/").unwrap()).join("{guid}/x.conf").exists());
}

#[test]
fn the_pattern_language_is_a_page_of_the_manual() {
    let bakfs = Bakfs::empty();
    let pages = bakfs.path("man");
    bakfs.ok(["man", pages.to_str().unwrap()]);
    let page = pages.join("man7/bakfs-patterns.7");
    let shown = tool("groff", ["-man", "-Tascii", "-ww", "-P-cbou", page.to_str().unwrap()]).expect(0);
    assert_eq!(shown.stderr, "");
    for part in ["bakfs-patterns(7)", "SYMBOLIC LINKS", "node_modules/", "{a,b}", "\\*", "~", "$HOME"] {
        assert!(shown.text().contains(part), "{part}: {shown}");
    }
    for command in ["backup", "restore", "find"] {
        assert!(bakfs.ok([command, "--help"]).text().contains("bakfs-patterns(7)"), "{command}");
    }
}

#[test]
fn a_repository_this_machine_knows_and_does_not_find_is_asked_for() {
    let (bakfs, source) = Bakfs::with_source();
    write(&source.join("f"), "1");
    let disk = bakfs.make_dir("disk");
    let disk_link = bakfs.path("media");
    symlink(&disk, &disk_link).unwrap();
    let text = format!(
        "repo = {:?}\n[repository.disk2]\nrepo = {:?}\n[profile.p]\nsources = [{source:?}]\nrepository = 'disk2'\n",
        bakfs.repo(),
        disk_link.join("repo")
    );
    write(&bakfs.path("config/bakfs.toml"), text);
    bakfs.ok(["--repo", "disk2", "init"]);
    bakfs.ok(["run", "p"]);
    // Not mounted, and then not even its folder.
    std::fs::rename(&disk, bakfs.path("away")).unwrap();
    for is_there in [true, false] {
        if is_there {
            std::fs::create_dir(&disk).unwrap();
        }
        for args in [&["--repo", "disk2", "snapshots"][..], &["--repo", "disk2", "backup", "source"], &["run", "p"]] {
            let told = bakfs.run(args).expect(1).says("is its disk mounted?").says("it was there on 20");
            assert!(told.stderr.contains(disk.to_str().unwrap()), "{told}");
        }
        let checked = bakfs.run(["config", "check"]).expect(1);
        assert!(checked.text().contains("is its disk mounted?"), "{checked}");
        if is_there {
            std::fs::remove_dir(&disk).unwrap();
        }
    }
    // By the states of runs alone.
    std::fs::remove_dir_all(bakfs.path("config/known")).unwrap_or(());
    std::fs::remove_dir_all(bakfs.path("state/known")).unwrap_or(());
    bakfs.run(["run", "p"]).expect(1).says("is its disk mounted?");
    for args in
        [&["--repo", "disc2", "snapshots"][..], &["--repo", "disc2", "init"], &["--repo", "dsik2", "backup", "source"]]
    {
        let told = bakfs.run(args).refused().says("did you mean `disk2`?");
        assert!(!told.stderr.contains("init` makes one"), "{told}");
    }
    assert!(!bakfs.path("disc2").exists() && !disk.exists());
    bakfs.run(["--repo", "elsewhere", "snapshots"]).expect(1).says("`bakfs init` makes one");
}

#[test]
fn the_default_repository_is_not_made_again_where_this_machine_has_used_one() {
    let bakfs = Bakfs::first_time();
    bakfs.make_dir("source");
    bakfs.ok(["backup", "source"]);
    let (repo, away) = (bakfs.repo(), bakfs.path("away"));
    std::fs::rename(&repo, &away).unwrap();
    bakfs.make_dir("data/bakfs/repo");
    let is_empty = || std::fs::read_dir(&repo).unwrap().next().is_none();
    bakfs.run(["backup", "source"]).expect(1).says("is its disk mounted?");
    assert!(is_empty());
    // Also where what is known lay on that disk too: the key and the cache did not.
    for folder in ["state", "config/known"] {
        std::fs::remove_dir_all(bakfs.path(folder)).unwrap_or(());
    }
    bakfs.run(["backup", "source"]).expect(1).says("if its disk is not mounted");
    assert!(is_empty());
    // And where the key alone is left.
    for folder in ["cache", "state", "config/known"] {
        std::fs::remove_dir_all(bakfs.path(folder)).unwrap_or(());
    }
    bakfs
        .run(["backup", "source"])
        .expect(1)
        .says("if its disk is not mounted, mount it")
        .says("`bakfs init` makes a new");
    assert!(is_empty());
    std::fs::remove_dir(&repo).unwrap();
    std::fs::rename(&away, &repo).unwrap();
    bakfs.ok(["backup", "source"]);
}

#[test]
fn no_time_needs_no_unit_and_a_bare_number_is_told_its_own() {
    let bakfs = Bakfs::new();
    let source = bakfs.make_dir("source");
    let check = |text: &str| {
        let head = format!("repo = {:?}\n[profile.p]\nsources = [{source:?}]\nschedule = ['daily']\n", bakfs.repo());
        write(&bakfs.path("config/bakfs.toml"), format!("{head}{text}"));
        bakfs.run(["config", "show"])
    };
    let sqlite = "[[profile.p.sqlite]]\npath = '/srv/*.db'\nbusy-timeout = ";
    for zero in ["0", "'0'", "'0 min'", "'0s'", "'0 h'", "'0w'"] {
        for key in ["[schedule]\njitter = ", "[profile.p.check]\nevery = ", "[profile.p.prune]\nevery = ", sqlite] {
            check(&format!("{key}{zero}\n")).expect(0);
        }
        for (key, told) in [
            ("[profile.p.hooks]\ntimeout = ", "hooks.timeout: nothing ends in no time: write `10min`, or `never`"),
            ("[defaults.hooks]\ntimeout = ", "hooks.timeout: nothing ends in no time"),
            ("[[profile.p.command]]\nname = 'c'\nrun = 'true'\ntimeout = ", "command.timeout: nothing ends"),
            ("[[profile.p.postgresql]]\ntimeout = ", "postgresql.timeout: nothing ends"),
            ("[[profile.p.mysql]]\ntimeout = ", "mysql.timeout: nothing ends"),
            ("[schedule]\nshutdown-timeout = ", "leave `shutdown` out"),
        ] {
            check(&format!("{key}{zero}\n")).expect(2).says(told);
        }
    }
    for (text, told) in [
        ("[schedule]\njitter = 90", "`90` has no unit: write 90s, 90min, 90h or 90d"),
        ("[profile.p.hooks]\ntimeout = 600", "`600` has no unit: write 600s"),
        ("[profile.p.check]\nevery = 7", "`7` has no unit"),
        ("[profile.p.check]\nevery = 1.5", "`1.5` is no length of time: write 90s"),
        ("[profile.p.check]\nshare = 5", "`5` has no unit: write `5%`"),
        ("[profile.p.check]\nshare = 0", "`every = \"never\"` in a profile"),
        ("[profile.p.check]\nshare = '0%'", "`every = \"never\"` in a profile"),
        ("[profile.p.check]\nmax-age = 30", "`30` is no duration: write 12h, 7d"),
        ("[profile.q]\nsources = ['/']\nmax-age = 0", "`0` is no duration: write 12h, 7d"),
    ] {
        check(&format!("{text}\n")).expect(2).says(told);
    }
    std::fs::remove_file(bakfs.path("config/bakfs.toml")).unwrap();
    bakfs.ok(["--cache-size", "0", "snapshots"]);
    bakfs.run(["--limit-upload", "0", "snapshots"]).expect(2).says("leave it out for no limit");
    with(&bakfs, &[("BAKFS_LIMIT_DOWNLOAD", b"0K")], ["snapshots"]).expect(2).says("leave it out for no limit");
    bakfs.ok(["prune", "--max-waste", "0", "--dry-run"]);
    bakfs.run(["check", "--read-data-subset", "0"]).expect(2).says("write `5%`");
}

#[test]
fn a_configuration_is_read_once_by_each_command() {
    let bakfs = Bakfs::empty();
    let source = bakfs.make_dir("source");
    write(&source.join("page"), b"page");
    write(
        &bakfs.path("config/bakfs.toml"),
        format!("repo = '{}'\nstate-dir = '{}'\n", bakfs.repo().display(), bakfs.path("state").display()).as_bytes(),
    );
    write(
        &bakfs.path("config/profiles.d/web.toml"),
        format!("sources = ['{}']\nschedule = ['daily']\n", source.display()).as_bytes(),
    );
    for (args, reads_profiles) in [
        (&["init", "--encryption", "none"][..], false),
        (&["run", "web"], true),
        (&["status"], true),
        (&["config", "show"], true),
        (&["snapshots"], false),
        (&["restore", "latest", bakfs.path("out").to_str().unwrap()], false),
    ] {
        let trace = bakfs.path("trace");
        let mut command = bakfs.wrap("strace");
        command
            .args(["-f", "-qq", "-e", "trace=openat", "-o"])
            .arg(&trace)
            .arg(bakfs_testing::cli::program())
            .args(args);
        command.env_remove("BAKFS_REPO");
        run(command).expect(0);
        let trace = std::fs::read_to_string(&trace).unwrap();
        let opened = |name: &str| {
            trace.lines().filter(|line| line.contains(name) && line.contains("O_RDONLY|O_CLOEXEC)")).count()
        };
        assert_eq!(opened("config/bakfs.toml\""), 1, "{args:?}:\n{trace}");
        assert_eq!(opened("profiles.d/web.toml\""), usize::from(reads_profiles), "{args:?}");
    }
}

#[test]
fn a_jitter_longer_than_what_is_between_runs_is_told() {
    let bakfs = Bakfs::new();
    let source = bakfs.make_dir("source");
    let check = |jitter: &str| {
        let text = format!(
            "[schedule]\njitter = \"{jitter}\"\n[profile.p]\nsources = [\"{}\"]\nschedule = [\"hourly\"]\n",
            source.display()
        );
        std::fs::write(bakfs.path("config/bakfs.toml"), text).unwrap();
        std::fs::set_permissions(bakfs.path("config/bakfs.toml"), PermissionsExt::from_mode(0o600)).unwrap();
        bakfs.run(["config", "check"]).text()
    };
    assert!(check("3d").contains("later than the next hourly"));
    assert!(!check("5min").contains("jitter"));
}
