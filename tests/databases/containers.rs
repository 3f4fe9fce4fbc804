//! Promise: databases in containers are dumped by the programs in them, as whole as those of this machine, and what
//! opens them is seen by no one.

use bakfs::database::{dumps, inspect};
use bakfs::process::Stop;
use bakfs_testing::container::{Container, INSIDE};
use bakfs_testing::dumps::{Made, all, profile};
use bakfs_testing::mariadb::Mariadb;
use bakfs_testing::postgres::Postgres;
use std::path::Path;

fn is_elsewhere() {
    assert!(!Path::new(INSIDE).exists(), "only those in the container see it");
}

#[test]
fn a_cluster_in_a_container_is_dumped_and_restores() {
    let server = Postgres::start();
    server.create("shop");
    server.sql(
        "shop",
        "CREATE TABLE t (a int PRIMARY KEY, b text); INSERT INTO t SELECT g, 'Ü' || g FROM generate_series(1, 5000) g",
    );
    let container = Container::of(server.socket());
    is_elsewhere();
    let text = format!("[[profile.test.postgresql]]\nhost = \"{INSIDE}\"\n{}", container.exec());
    let made = all(&text);
    assert!(made.failed.is_empty(), "{:?}", made.failed);
    let expected = server.contents("shop");
    let dir = tempfile::tempdir_in(server.socket()).unwrap();
    let dump = dir.path().join("shop.dump");
    std::fs::write(&dump, made.file("/databases/postgresql/main/shop.dump")).unwrap();
    server.create("back");
    server.client("pg_restore", ["--exit-on-error", "-d", "back", dump.to_str().unwrap()]).expect(0);
    assert_eq!(server.contents("back"), expected);
    let globals = String::from_utf8_lossy(made.file("/databases/postgresql/main/globals.sql")).into_owned();
    assert!(globals.contains("CREATE ROLE postgres"), "{globals}");
    // All programs went the same way, and were told of what decides their answers.
    let told = container.arguments();
    let dumping = told.lines().find(|line| line.contains("--format=custom")).unwrap_or_else(|| panic!("{told}"));
    assert!(dumping.starts_with("exec -i db env ") && dumping.contains("PGOPTIONS=-c role=none"), "{dumping}");
    assert!(dumping.contains("--snapshot="), "the moment of all is theirs too: {dumping}");
    let found = inspect(&profile(&text)).inspections;
    assert!(found.iter().all(|it| !it.is_problem) && found.len() > 3, "{found:?}");
}

#[test]
fn a_server_of_mysql_in_a_container_is_dumped_and_its_password_is_in_no_argument() {
    let server = Mariadb::start();
    server.sql("", "CREATE DATABASE shop CHARACTER SET utf8mb4; CREATE USER b@localhost IDENTIFIED BY 'hidden word'");
    server.sql("", "GRANT ALL ON *.* TO b@localhost");
    server.sql(
        "shop",
        "CREATE TABLE t (a int PRIMARY KEY, b text); INSERT INTO t SELECT seq, 'Ünlike' FROM seq_1_to_3000",
    );
    server.sql("shop", "CREATE VIEW v AS SELECT a FROM t; CREATE PROCEDURE p() SELECT 1");
    let container = Container::of(server.socket().parent().unwrap());
    is_elsewhere();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("db.cnf");
    std::fs::write(&file, "[client]\nuser = b\npassword = \"hidden word\"\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let text = format!(
        "[[profile.test.mysql]]\nsocket = \"{INSIDE}/socket\"\noption-file = \"{}\"\n{}",
        file.display(),
        container.exec()
    );
    let made = all(&text);
    assert!(made.failed.is_empty(), "{:?}", made.failed);
    let expected = server.contents("shop");
    let dump = dir.path().join("shop.sql");
    std::fs::write(&dump, made.file("/databases/mysql/main/shop.sql")).unwrap();
    server.sql("", "CREATE DATABASE back CHARACTER SET utf8mb4");
    server.restore("back", &dump);
    assert_eq!(server.contents("back"), expected);
    assert!(!made.file("/databases/mysql/main/users.sql").is_empty());
    let found = inspect(&profile(&text)).inspections;
    assert!(found.iter().all(|it| !it.is_problem) && found.len() > 3, "{found:?}");
    let told = container.arguments();
    assert!(told.contains("mariadb-dump --defaults-file=/dev/fd/3"), "{told}");
    assert!(!told.contains("hidden"), "{told}");
}

#[test]
fn what_a_command_prints_in_a_container_is_stored_and_its_failure_is_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("words"), "only inside\n").unwrap();
    let container = Container::of(dir.path());
    let command = |name: &str, run: &str| {
        format!("[[profile.test.command]]\nname = \"{name}\"\nrun = {run}\n{}", container.exec())
    };
    let text = [
        command("words", &format!("[\"cat\", \"{INSIDE}/words\"]")),
        command("piped", &format!("\"cat {INSIDE}/words | tr a-z A-Z\"")),
        command("fails", "[\"false\"]"),
    ];
    let made = all(&text.concat());
    assert_eq!(made.file("/databases/command/words"), b"only inside\n");
    assert_eq!(made.file("/databases/command/piped"), b"ONLY INSIDE\n");
    assert!(made.error("/databases/command/fails").contains("false (run by docker) failed with exit code 1"));
    let found = inspect(&profile(&text.concat())).inspections;
    assert!(found.iter().all(|it| !it.is_problem && it.text.contains("docker")), "{found:?}");
}

#[test]
fn a_container_that_is_not_there_is_named_with_what_leads_to_it() {
    for kind in ["postgresql", "mysql"] {
        let none = format!("[[profile.test.{kind}]]\nexec = [\"docker-of-nobody\", \"exec\", \"-i\", \"db\"]\n");
        let failed = dumps(&profile(&none), &Stop::default()).failed;
        assert_eq!(failed.len(), 1, "{failed:?}");
        let error = failed[0].1.chain();
        assert!(error.contains("docker-of-nobody (`exec`): is it installed?"), "{error}");
    }
    // `config check` looks for what leads there.
    let text = "[[profile.test.command]]\nname = \"x\"\nrun = [\"date\"]\nexec = [\"docker-of-nobody\", \"run\"]\n";
    let found = inspect(&profile(text)).inspections;
    assert!(found.iter().any(|it| it.is_problem && it.text.contains("no program docker-of-nobody")), "{found:?}");
    let dir = tempfile::tempdir().unwrap();
    let container = Container::of(dir.path());
    let stopped = container.exec().replace("\"db\"", "\"other\"");
    let text = format!("[[profile.test.command]]\nname = \"x\"\nrun = [\"date\"]\n{stopped}");
    assert!(matches!(&all(&text).made["/databases/command/x"], Made::Failed(error) if error.contains("exit code 125")));
}
