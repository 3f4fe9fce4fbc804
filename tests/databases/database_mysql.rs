//! Promise: dumps of a MySQL or MariaDB server restore all of it, and never look whole when they are not.

use bakfs::database::{dumps, inspect, list};
use bakfs::process::Stop;
use bakfs::source::generated::Content;
use bakfs_testing::dumps::{All, Made, all, make, profile};
use bakfs_testing::mariadb::Mariadb;
use bakfs_testing::process::tool;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const MAIN: &str = "/databases/mysql/main";

fn furnish(server: &Mariadb, database: &str, rows: u32) {
    server.sql("", &format!("CREATE DATABASE `{database}` CHARACTER SET utf8mb4"));
    let sql = format!(
        "CREATE TABLE notes (id int AUTO_INCREMENT PRIMARY KEY, body text, raw varbinary(200), at timestamp(6) NULL,
             amount decimal(12, 3), doc json, kind enum('one', 'zwei'));
         INSERT INTO notes (body, raw, at, amount, doc, kind)
             SELECT CONCAT('Ünlike 😀 \\\\ ''', seq), UNHEX(MD5(seq)), FROM_UNIXTIME(seq * 1000.5), seq / 7,
                 JSON_OBJECT('n', seq), IF(seq % 2, 'one', 'zwei') FROM seq_1_to_{rows};
         CREATE TABLE `odd name` (a int, b int, PRIMARY KEY (a), FOREIGN KEY (b) REFERENCES notes (id));
         INSERT INTO `odd name` VALUES (1, 1), (2, NULL);
         CREATE VIEW few AS SELECT id, body FROM notes WHERE id < 5;
         CREATE FUNCTION twice(i int) RETURNS int DETERMINISTIC RETURN 2 * i;
         CREATE PROCEDURE noted(INOUT i int) SET i = i + 1;
         CREATE TRIGGER stamped BEFORE INSERT ON `odd name` FOR EACH ROW SET NEW.b = COALESCE(NEW.b, 1);
         CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01' DO DELETE FROM notes WHERE id < 0;
         ANALYZE TABLE notes"
    );
    server.sql(database, &sql);
}

fn section(server: &Mariadb, more: &str) -> String {
    format!("[[profile.test.mysql]]\nsocket = \"{}\"\n{more}", server.socket().display())
}

fn written(all: &All, path: &str, dir: &Path) -> PathBuf {
    let to = dir.join("dump.sql");
    std::fs::write(&to, all.file(path)).unwrap();
    to
}

/// Writes a program for a folder of programs.
fn program(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn dumps_restore_the_whole_database_under_another_name_and_users_at_another_server() {
    let server = Mariadb::start();
    furnish(&server, "app", 3000);
    furnish(&server, "-a.b/c", 10);
    server.sql("", "CREATE DATABASE users; CREATE DATABASE `left out`");
    server.sql("users", "CREATE TABLE old (i int) ENGINE=MyISAM");
    server.sql("", "CREATE USER web@localhost IDENTIFIED BY 'quite secret'; GRANT ALL ON app.* TO web@localhost");
    let dumped = all(&section(&server, "role = \"root\"\nexclude = [\"left out\"]\n"));
    assert!(dumped.failed.is_empty(), "{:?}", dumped.failed);
    let names = ["%75sers.sql", "-a.b%2Fc.sql", "app.sql", "users.sql"];
    assert_eq!(dumped.dumps(), names.map(|name| format!("{MAIN}/{name}")));
    let dir = tempfile::tempdir().unwrap();
    for (database, name) in [("app", "app.sql"), ("-a.b/c", "-a.b%2Fc.sql")] {
        let expected = server.contents(database);
        assert!(expected.iter().any(|line| line.contains("nightly")), "{expected:?}");
        server.sql("", "CREATE DATABASE fresh CHARACTER SET utf8mb4");
        server.restore("fresh", &written(&dumped, &format!("{MAIN}/{name}"), dir.path()));
        assert_eq!(server.contents("fresh"), expected);
        server.sql("", "DROP DATABASE fresh");
    }
    let manifest = dumped.manifest(&format!("{MAIN}/app.sql"));
    assert!(manifest["server_version"].as_str().unwrap().contains("MariaDB"), "{manifest}");
    assert!(manifest["program"].as_str().unwrap().contains("Distrib"), "{manifest}");
    assert_eq!((&manifest["error"], &manifest["notes"]), (&serde_json::Value::Null, &serde_json::json!([])));
    assert_eq!(manifest["tables"][0], serde_json::json!({ "name": "notes", "estimated_rows": 3000 }));
    assert!(manifest["database_bytes"].as_u64().unwrap() > 100_000, "{manifest}");
    let notes = dumped.manifest(&format!("{MAIN}/%75sers.sql"))["notes"].to_string();
    assert!(notes.contains("1 table is of engines without transactions") && notes.contains("old"), "{notes}");

    let other = Mariadb::start();
    other.restore("", &written(&dumped, &format!("{MAIN}/users.sql"), dir.path()));
    assert_eq!(other.sql("", "SHOW GRANTS FOR web@localhost"), server.sql("", "SHOW GRANTS FOR web@localhost"));
    let again = all(&section(&server, "role = \"root\"\nexclude = [\"left out\"]\n"));
    for path in dumped.dumps() {
        assert!(dumped.file(path) == again.file(path), "{path}: a dump of the same data is the same");
    }
}

#[test]
fn users_are_dumped_where_the_program_cannot() {
    let server = Mariadb::start();
    server.sql("", "CREATE USER web@localhost IDENTIFIED BY 'quite secret'; GRANT SELECT ON mysql.* TO web@localhost");
    server.sql("", "CREATE USER 'o`dd'@'10.%'; CREATE USER ''@localhost");
    let dir = tempfile::tempdir().unwrap();
    program(dir.path(), "mariadb-dump", "/usr/bin/mariadb-dump \"$@\" | sed s/--system/--other/");
    let text = section(&server, &format!("role = \"root\"\nbin-dir = \"{}\"\n", dir.path().display()));
    let users = written(&all(&text), &format!("{MAIN}/users.sql"), dir.path());
    let other = Mariadb::start();
    other.restore("", &users);
    for user in ["web@localhost", "'o`dd'@'10.%'", "''@localhost"] {
        let grants = format!("SHOW GRANTS FOR {user}");
        assert_eq!(other.sql("", &grants), server.sql("", &grants));
    }
}

#[test]
fn a_dump_that_dies_half_way_is_no_dump() {
    let server = Mariadb::start();
    furnish(&server, "app", 60_000);
    let text = section(&server, "role = \"root\"\nglobals = false\ndatabases = [\"app\"]\n");
    let at_server = || {
        let find = "SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT /*!40001%'";
        server.sql("", &format!("KILL {}", server.sql("", find)));
    };
    let here = || {
        let (parent, line) = (std::process::id().to_string(), format!("mariadb-dump .*{}", server.socket().display()));
        tool("pkill", ["-KILL", "-P", &parent, "-f", &line]).expect(0);
    };
    let ways: [(&dyn Fn(), &str); 2] = [(&at_server, "failed with exit code 3"), (&here, "killed by signal 9")];
    for (end, told) in ways {
        let mut generated = dumps(&profile(&text), &Stop::default()).generated.into_iter();
        let (dump, manifest) = (generated.next().unwrap(), generated.next().unwrap());
        let Content::Stream(start) = dump.content else { panic!("a stream") };
        let mut stream = start().unwrap();
        let mut some = vec![0; 10_000];
        stream.read_exact(&mut some).unwrap();
        end();
        let error = stream.read_to_end(&mut some).unwrap_err().downcast::<bakfs::error::Error>().unwrap().chain();
        assert!(
            error.starts_with("Cannot dump the database `app` of the MySQL server `main`: mariadb-dump"),
            "{error}"
        );
        assert!(error.contains(told), "{error}");
        let Made::File(manifest) = make(manifest.content) else { panic!("a manifest") };
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["error"], error);
    }
    let dir = tempfile::tempdir().unwrap();
    program(dir.path(), "mariadb-dump", "/usr/bin/mariadb-dump \"$@\" | head -c -10");
    let text = format!("{text}bin-dir = \"{}\"\n", dir.path().display());
    let cut = all(&text);
    let error = cut.error(&format!("{MAIN}/app.sql"));
    assert!(error.contains("The dump breaks off"), "{error}");
    assert_eq!(cut.manifest(&format!("{MAIN}/app.sql"))["error"], error);
    let silent = all(&format!("{text}options = [\"--skip-comments\"]\n"));
    silent.file(&format!("{MAIN}/app.sql"));
}

#[test]
fn passwords_come_from_a_file_nobody_else_reads_and_what_is_wrong_is_named() {
    let mut server = Mariadb::start();
    furnish(&server, "app", 10);
    server.sql("", "CREATE USER keeper@localhost IDENTIFIED BY 'quite secret'; GRANT ALL ON *.* TO keeper@localhost");
    server.sql("", "CREATE USER poor@localhost IDENTIFIED BY 'quite secret'");
    server.sql("", "GRANT SELECT, LOCK TABLES, SHOW VIEW, EVENT ON app.* TO poor@localhost");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("my.cnf");
    let keep = |user: &str, password: &str, mode: u32| {
        std::fs::write(&file, format!("[client]\nuser = {user}\npassword = {password}\n")).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
    };
    let text = section(&server, &format!("option-file = \"{}\"\n", file.display()));
    keep("keeper", "quite secret", 0o600);
    let good = all(&text);
    assert!(good.failed.is_empty() && good.file(&format!("{MAIN}/app.sql")).ends_with(b"-- Dump completed\n"));
    let found = inspect(&profile(&text)).inspections;
    assert!(found.iter().all(|found| !found.is_problem && found.subject == "mysql main"), "{found:?}");
    for told in ["connected as `keeper@localhost` to MariaDB 1", "mariadb-dump", "1 database: app (", "may read all"] {
        assert!(found.iter().any(|found| found.text.contains(told)), "{told}: {found:?}");
    }
    let (listed, failed) = list(&profile(&format!("{text}databases = [\"app\", \"gone\"]\nglobals = false\n")));
    assert!(listed.len() == 1 && listed[0].path == Path::new(&format!("{MAIN}/app.sql")) && listed[0].bytes > Some(0));
    assert!(failed.len() == 1 && failed[0].0 == Path::new(&format!("{MAIN}/gone.sql")), "{failed:?}");
    assert!(failed[0].1.chain().contains("no database `gone` at the MySQL server `main`"), "{failed:?}");

    keep("poor", "quite secret", 0o600);
    let poor = all(&format!("{text}globals = false\n"));
    let error = poor.error(&format!("{MAIN}/app.sql"));
    assert!(error.contains("`poor@localhost` lacks TRIGGER on it"), "{error}");
    let found = inspect(&profile(&text)).inspections;
    let problems: Vec<_> = found.iter().filter(|found| found.is_problem).map(|found| &*found.text).collect();
    assert!(problems[0].contains("lacks TRIGGER on `app`: run `GRANT TRIGGER ON app.*`"), "{problems:?}");
    assert!(problems[1].contains("lacks SELECT on `mysql`, where users and rights are"), "{problems:?}");
    let without = all(&format!("{text}globals = false\noptions = [\"--skip-triggers\"]\n"));
    let notes = without.manifest(&format!("{MAIN}/app.sql"))["notes"].to_string();
    assert!(notes.contains("routines that `poor@localhost` has not made may be missing"), "{notes}");

    let refused = |text: &str, told: &[&str]| {
        let error = all(text).error(MAIN).to_string();
        for told in told {
            assert!(error.contains(told) && !error.contains("secret"), "{told}: {error}");
        }
        let found = inspect(&profile(text)).inspections;
        let mut problems = found.iter().filter(|found| found.is_problem);
        assert!(problems.next().unwrap().text == error && problems.next().is_none(), "{found:?}");
    };
    keep("keeper", "wrong secret", 0o600);
    refused(&text, &["check the user, and the password in `option-file`", "Access denied for user 'keeper'"]);
    keep("keeper", "quite secret", 0o604);
    refused(&text, &["Others may read the passwords in", "chmod 600"]);
    keep("keeper", "quite secret", 0o600);
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    refused(&format!("{text}bin-dir = \"{}\"\n", empty.display()), &["no mariadb-dump or mysqldump in", "install"]);
    refused(&format!("{text}options = [\"-pquite secret\"]\n"), &["A password belongs into `option-file`"]);
    server.stop();
    refused(&text, &["Cannot ask the MySQL server `main`: check that the server runs"]);
}
