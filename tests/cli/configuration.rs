//! Promise: a configuration is written, shown and tested for real, and what is wrong with it is named with how to mend
//! it.

use bakfs_testing::cli::{Bakfs, json_of};
use bakfs_testing::device::Device;
use bakfs_testing::process::{self, Outcome, tool};
use bakfs_testing::write;
use serde_json::Value;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn configure(bakfs: &Bakfs, text: &str) -> PathBuf {
    let path = bakfs.path("config/bakfs.toml");
    write(&path, text);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    path
}

/// Writes a configuration of one profile `web` with the folder `source` of the world.
fn configure_web(bakfs: &Bakfs, more: &str) -> PathBuf {
    let source = bakfs.make_dir("source");
    let repo = bakfs.repo();
    let text = format!(
        "repo = '{}'\n[profile.web]\nsources = ['{}']\nschedule = ['daily']\nkeep = {{ daily = 7 }}\n{more}\n",
        repo.display(),
        source.display()
    );
    configure(bakfs, &text)
}

fn check(bakfs: &Bakfs) -> Outcome {
    bakfs.run(["config", "check"])
}

/// Runs `bakfs ARGS` on a machine that lies below a folder.
fn on_machine(bakfs: &Bakfs, root: &Path, args: &[&str]) -> Outcome {
    let mut command = bakfs.command(args);
    command.env("BAKFS_SYSTEM_ROOT", root);
    process::run(command)
}

#[test]
fn a_configuration_that_is_right_passes_in_silence() {
    let bakfs = Bakfs::new();
    configure_web(&bakfs, "");
    let told = check(&bakfs).expect(0).text();
    assert!(told.contains("`bakfs schedule install`") && told.lines().count() == 1, "{told}");
    let root = bakfs.make_dir("root");
    on_machine(&bakfs, &root, &["schedule", "install"]).expect(0);
    let outcome = on_machine(&bakfs, &root, &["config", "check"]).expect(0);
    assert_eq!((outcome.text().as_str(), outcome.stderr.as_str()), ("", ""));
    let outcome = bakfs.run(["-v", "config", "check"]).expect(0);
    for told in ["ok       repository", "can be opened", "are free", "source: can be read", "is its owner's alone"] {
        assert!(outcome.text().contains(told), "{told}: {outcome}");
    }
}

#[test]
fn each_problem_is_named_with_how_to_mend_it() {
    let bakfs = Bakfs::new();
    let readable = bakfs.path("password");
    write(&readable, "secret\n");
    for (more, told) in [
        ("sources = ['/nowhere/at-all']", "/nowhere/at-all: does not exist"),
        ("exclude = ['[']", "is no pattern"),
        ("hooks.before = ['/nowhere/program']", "there is no /nowhere/program"),
        ("hooks.finally = 'fi'", "the shell cannot read it"),
        ("notify.webhook = 'https://example.invalid/secret'", "`chmod 600 "),
        ("repository = 'far'\n[repository.far]\nrepo = '/nowhere/repo'", "`bakfs --repo far init` makes it"),
        ("repository = 'far'\n[repository.far]\nrepo = 's3://bucket'", "There are no credentials for s3://bucket"),
        ("repository = 'far'\n[repository.far]\nrepo = 'REPO'\npassword-file = 'PASSWORD'", "`chmod 600 "),
    ] {
        let more = more.replace("REPO", bakfs.repo().to_str().unwrap()).replace("PASSWORD", readable.to_str().unwrap());
        let path = configure_web(&bakfs, "");
        let mut text = std::fs::read_to_string(&path).unwrap();
        if more.starts_with("sources") {
            text = text.lines().filter(|line| !line.starts_with("sources")).map(|line| format!("{line}\n")).collect();
        }
        configure(&bakfs, &(text + &more + "\n"));
        let outcome = check(&bakfs).expect(1);
        assert!(outcome.text().starts_with("problem  ") && outcome.text().contains(told), "{told}: {outcome}");
        assert!(!outcome.text().contains("/secret"), "of a URL no more than its host is told: {outcome}");
    }
}

#[test]
fn a_key_or_passphrase_that_does_not_open_the_repository_is_found_out() {
    let bakfs = Bakfs::new();
    configure_web(&bakfs, "");
    let keys = bakfs.path("config/keys");
    let key = std::fs::read_dir(&keys).unwrap().next().unwrap().unwrap().path();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o640)).unwrap();
    let outcome = check(&bakfs).expect(1);
    assert!(outcome.text().contains(&format!("`chmod 600 {}`", key.display())), "{outcome}");
    let away = bakfs.path("key");
    std::fs::rename(&key, &away).unwrap();
    let outcome = check(&bakfs).expect(1);
    assert!(outcome.text().contains("nothing here unlocks it: there is no key file"), "{outcome}");
    // The key as a passphrase's file is as good as a key file.
    std::fs::set_permissions(&away, PermissionsExt::from_mode(0o600)).unwrap();
    let text = std::fs::read_to_string(bakfs.path("config/bakfs.toml")).unwrap();
    configure(&bakfs, &format!("password-file = '{}'\n{text}", away.display()));
    check(&bakfs).expect(0);
    write(&away, "another passphrase\n");
    assert!(check(&bakfs).expect(1).text().contains("problem  repository"));
}

#[test]
fn a_disk_that_fills_is_told_in_time() {
    bakfs_testing::need_root();
    let bakfs = Bakfs::new();
    let small = Device::memory(&bakfs.path("small"), 64);
    configure_web(&bakfs, &format!("repository = 'small'\n[repository.small]\nrepo = '{}/r'", small.path().display()));
    let outcome = check(&bakfs).expect(1);
    assert!(outcome.text().contains("room: only ") && outcome.text().contains("of 64.0 MiB are free"), "{outcome}");
}

#[test]
fn only_the_profiles_that_were_named_are_tested() {
    let bakfs = Bakfs::new();
    configure_web(&bakfs, "[profile.gone]\nsources = ['/nowhere']\nschedule = ['daily']\nkeep = { last = 1 }\n");
    check(&bakfs).expect(1);
    bakfs.run(["config", "check", "web"]).expect(0);
    let json = json_of(bakfs.run(["--json", "config", "check", "gone"]).expect(1));
    let problem = |finding: &&Value| finding["severity"] == "problem";
    let problems: Vec<_> = json.as_array().unwrap().iter().filter(problem).collect();
    assert_eq!(problems.len(), 1, "{json}");
    assert_eq!(problems[0]["subject"], "gone: source /nowhere");
}

#[test]
fn a_configuration_that_cannot_be_read_exits_with_2_and_names_line_and_key() {
    let bakfs = Bakfs::new();
    check(&bakfs).expect(2).says("`bakfs config init` writes one");
    configure(&bakfs, "repo = '/r'\n\n[profile.web]\nsuorces = ['/']\n");
    for args in [["config", "check"], ["config", "show"], ["config", "databases"]] {
        let outcome = bakfs.run(args).expect(2);
        assert!(outcome.stderr.contains("bakfs.toml, line 4: there is no key `suorces`: did you mean `sources`?"));
    }
    configure_web(&bakfs, "");
    bakfs.run(["config", "check", "wbe"]).expect(2).says("did you mean `web`?");
}

#[test]
fn what_the_configuration_means_is_shown_whole() {
    let bakfs = Bakfs::new();
    configure_web(
        &bakfs,
        "exclude = ['*.tmp']\nweekly = { keep = { last = 8 } }\nhooks.before = ['true']\n\
         notify = { mail = 'root', webhook = 'https://chat.example.org/hooks/secret' }\n\
         [[profile.web.postgresql]]\ndatabases = ['shop']\n",
    );
    let outcome = bakfs.ok(["config", "show"]);
    let text = outcome.text();
    for told in [
        "/proc/*                        made by the kernel",
        "*.tmp",
        "--keep-daily 7",
        "weekly runs apart: --keep-last 8",
        "daily      next 2",
        "postgresql main: shop, custom",
        "mail to root",
        "webhook https://chat.example.org/...",
        "config/bakfs.toml",
    ] {
        assert!(text.contains(told), "{told}: {outcome}");
    }
    assert!(!text.contains("secret"), "{outcome}");
    let json = bakfs.json(["config", "show", "web"]);
    assert_eq!(json["profiles"][0]["keep"], "--keep-daily 7");
    assert_eq!(json["profiles"][0]["separate"]["weekly"], "--keep-last 8");
    assert_eq!(json["state_dir"], bakfs.path("state").to_str().unwrap());
    assert_eq!(json["log_dir"], bakfs.path("log").to_str().unwrap());
    assert!(!json.to_string().contains("secret"));
}

/// Makes a machine with an application below a folder.
fn make_machine(bakfs: &Bakfs) -> PathBuf {
    let root = bakfs.make_dir("machine");
    let database = root.join("srv/shop/data/shop.sqlite3");
    write(&root.join("var/www/html/index.html"), "<p>");
    write(&root.join("srv/shop/app.py"), "print(1)");
    std::fs::create_dir_all(database.parent().unwrap()).unwrap();
    tool("sqlite3", [database.as_os_str(), OsStr::new("CREATE TABLE t (x); INSERT INTO t VALUES (1)")]).expect(0);
    root
}

#[test]
fn a_first_configuration_fits_the_machine_and_passes() {
    bakfs_testing::need_root();
    let bakfs = Bakfs::new();
    let root = make_machine(&bakfs);
    let path = bakfs.path("config/bakfs.toml");
    let printed = on_machine(&bakfs, &root, &["config", "init", "--print"]).expect(0).text();
    assert!(!path.exists());
    on_machine(&bakfs, &root, &["config", "init"]).expect(0).says("bakfs config check");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), printed);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let database = root.join("srv/shop/data/shop.sqlite3");
    assert!(printed.contains(&format!("path = \"{}\"", database.display())), "{printed}");
    assert!(printed.contains(&format!("sources = [\"{}", root.display())), "{printed}");
    assert!(printed.contains(&format!("repo = \"{}\"", bakfs.repo().display())), "{printed}");
    on_machine(&bakfs, &root, &["schedule", "install"]).expect(0);
    let outcome = on_machine(&bakfs, &root, &["config", "check"]).expect(0);
    assert_eq!(outcome.text(), "", "nothing is left to mend or to point out");
    write(&path, "# mine\n");
    on_machine(&bakfs, &root, &["config", "init"]).expect(1).says("--force");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "# mine\n");
    on_machine(&bakfs, &root, &["config", "init", "--force"]).expect(0);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), printed);
}

#[test]
fn servers_of_databases_are_found_and_written_down() {
    bakfs_testing::need_root();
    let bakfs = Bakfs::new();
    let root = make_machine(&bakfs);
    write(&root.join("etc/postgresql/15/main/postgresql.conf"), "port = 5433\n");
    write(&root.join("var/lib/postgresql/15/main/PG_VERSION"), "15\n");
    write(&root.join("run/mysqld/mysqld.sock"), "");
    write(&root.join("var/lib/mysql/ibdata1"), "");
    on_machine(&bakfs, &root, &["config", "init"]).expect(0);
    let json = bakfs.json(["config", "show", "machine"]);
    let databases = json["profiles"][0]["databases"].to_string();
    assert!(databases.contains("postgresql main: all databases") && databases.contains("mysql main"), "{databases}");
    // No server runs on those files, so they are files; `database_postgresql_whole.rs` has one that runs.
    let text = std::fs::read_to_string(bakfs.path("config/bakfs.toml")).unwrap();
    let without: String = text.split("\n# PostgreSQL 15").next().unwrap().into();
    configure(&bakfs, &without);
    let outcome = on_machine(&bakfs, &root, &["config", "check"]).expect(0);
    assert!(outcome.text().contains("hint     machine: "), "{outcome}");
}

#[test]
fn an_ordinary_user_gets_their_home() {
    let bakfs = Bakfs::as_nobody();
    bakfs.ok(["config", "init"]);
    let json = bakfs.json(["config", "show", "home"]);
    assert_eq!(json["profiles"][0]["sources"][0], bakfs.path("home").to_str().unwrap());
    check(&bakfs).expect(0);
}
