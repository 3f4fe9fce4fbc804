//! Promise: a dump of MySQL or MariaDB is whole, or what it lacks is named, whatever option files, roles and defaults
//! of the dump program say; and what is left out of the files is what was dumped.

use bakfs::database::inspect;
use bakfs_testing::dumps::{All, all, profile};
use bakfs_testing::machine::{Machine, below, silent};
use bakfs_testing::mariadb::Mariadb;
use bakfs_testing::process::{run, tool};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const MAIN: &str = "/databases/mysql/main";
const QUIET: &str = "check = { every = 'never' }\nprune = { every = 'never' }\n";

fn section(server: &Mariadb, more: &str) -> String {
    format!("[[profile.test.mysql]]\nsocket = \"{}\"\n{more}", server.socket().display())
}

fn written(bytes: &[u8], dir: &Path) -> PathBuf {
    let to = dir.join("dump.sql");
    std::fs::write(&to, bytes).unwrap();
    to
}

fn private(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn lacking<'a>(all: &'a All, name: &str) -> &'a [String] {
    all.lacks(&format!("{MAIN}/{name}"))
}

/// Returns what `config check` finds that must be mended.
fn problems(text: &str) -> Vec<String> {
    let found = inspect(&profile(text)).inspections.into_iter();
    found.filter(|found| found.is_problem).map(|found| found.text).collect()
}

/// Users, roles, libraries and servers.
fn furnish_server(server: &Mariadb) {
    for sql in [
        "INSTALL SONAME 'auth_ed25519'",
        "CREATE USER `o'br\"ien`@`%.example.org` IDENTIFIED BY 'p''w\"\\\\%#'",
        "CREATE USER sock@localhost IDENTIFIED VIA unix_socket OR mysql_native_password USING PASSWORD('y')",
        "CREATE USER ed@localhost IDENTIFIED VIA ed25519 USING PASSWORD('z') REQUIRE SSL WITH MAX_USER_CONNECTIONS 5",
        "CREATE USER locked@localhost IDENTIFIED BY 'x' ACCOUNT LOCK PASSWORD EXPIRE INTERVAL 90 DAY",
        "CREATE ROLE r1; CREATE ROLE r2; GRANT SELECT ON rich.* TO r1; GRANT r1 TO r2 WITH ADMIN OPTION",
        "CREATE USER du@localhost; GRANT r2 TO du@localhost; SET DEFAULT ROLE r2 FOR du@localhost",
        "GRANT SELECT (id, e), UPDATE (e) ON rich.a TO du@localhost; GRANT EXECUTE ON FUNCTION rich.f1 TO du@localhost",
        "GRANT ALL ON `rich\\_%`.* TO du@localhost WITH GRANT OPTION; GRANT PROXY ON du@localhost TO sock@localhost",
        "GRANT SELECT ON rich.* TO PUBLIC",
        "CREATE SERVER far FOREIGN DATA WRAPPER mysql
            OPTIONS (HOST '127.0.0.1', PORT 3306, USER 'u', PASSWORD 'p''x', DATABASE 'd')",
    ] {
        server.sql("", sql);
    }
}

fn told_of_server(server: &Mariadb) -> String {
    let own = "user NOT IN ('root', 'mariadb.sys')";
    let mut told = server.sql(
        "",
        &format!(
            "SELECT user, host, default_role FROM mysql.user WHERE {own} ORDER BY 1, 2; SHOW GRANTS FOR PUBLIC;
             SELECT * FROM mysql.roles_mapping ORDER BY 1, 2, 3; SELECT host, db, user FROM mysql.db ORDER BY 1, 2, 3;
             SELECT host, db, user, table_name, table_priv, column_priv FROM mysql.tables_priv ORDER BY 1, 2, 3, 4;
             SELECT host, db, user, table_name, column_name, column_priv FROM mysql.columns_priv
                ORDER BY 1, 2, 3, 4, 5;
             SELECT host, db, user, routine_name, proc_priv FROM mysql.procs_priv ORDER BY 1, 2, 3, 4;
             SELECT host, user, proxied_host, proxied_user FROM mysql.proxies_priv WHERE {own} ORDER BY 1, 2, 3, 4;
             SELECT * FROM mysql.servers; SELECT * FROM mysql.plugin WHERE name = 'ed25519'"
        ),
    );
    let users =
        format!("SELECT CONCAT('`', user, '`@`', host, '`') FROM mysql.user WHERE {own} AND is_role = 'N' ORDER BY 1");
    for user in server.sql("", &users).lines() {
        told += &server.sql("", &format!("SHOW CREATE USER {user}; SHOW GRANTS FOR {user}"));
    }
    // The order of columns is not told the same twice.
    told.lines().filter(|line| !line.contains(" (`")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn one_of_everything_comes_back_by_the_documented_commands_object_by_object() {
    let (server, fresh) = (Mariadb::start(), Mariadb::start());
    let dir = tempfile::tempdir().unwrap();
    server.sql("", "CREATE DATABASE rich CHARACTER SET latin1 COLLATE latin1_german1_ci COMMENT 'it''s'");
    server.restore("rich", Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/databases/everything.sql")));
    furnish_server(&server);
    let expected = server.everything("rich");
    for told in
        ["latin1_german1_ci", "it''s", "PACKAGE BODY", "AGGREGATE", "nextval(`DB`.`sq`)", "ENGINE=ARCHIVE", "ev 1"]
    {
        assert!(expected.iter().any(|text| text.contains(told)), "{told}");
    }
    let history = expected.iter().find(|text| text.starts_with("SYSTEM VERSIONED ver:")).unwrap();
    assert_eq!(history.lines().count(), 4, "{history}");
    let dumped = all(&section(&server, "role = \"root\"\n"));
    assert!(dumped.failed.is_empty(), "{:?}", dumped.failed);
    assert_eq!(lacking(&dumped, "rich.sql"), [""; 0]);
    let notes = dumped.manifest(&format!("{MAIN}/rich.sql"))["notes"].to_string();
    assert!(notes.contains("the rows of 1 table are kept elsewhere and not dumped: mrg"), "{notes}");

    let dump = written(dumped.file(&format!("{MAIN}/rich.sql")), dir.path());
    fresh.sql("", "INSTALL SONAME 'ha_archive'");
    for name in ["rich", "other"] {
        fresh.sql("", &format!("CREATE DATABASE {name}"));
        fresh.restore(name, &dump);
    }
    let restored = fresh.everything("rich");
    for (one, other) in expected.iter().zip(&restored) {
        assert_eq!(one, other);
    }
    assert_eq!(expected.len(), restored.len());
    // The name of the first is kept where definitions have it: in the default that asks a sequence.
    let elsewhere: Vec<_> = fresh.everything("other").iter().map(|text| text.replace("`rich`", "`DB`")).collect();
    for (one, other) in expected.iter().zip(&elsewhere) {
        assert_eq!(one, other);
    }

    let users = String::from_utf8(dumped.file(&format!("{MAIN}/users.sql")).to_vec()).unwrap();
    let force = |users: &str| {
        let file = written(users.as_bytes(), dir.path());
        let line = format!(
            "mariadb --no-defaults -uroot --socket='{}' --force < '{}'",
            fresh.socket().display(),
            file.display()
        );
        tool("sh", ["-c", &line])
    };
    // A library that the new server does not have costs its users, and nobody else.
    force(&users.replace("auth_ed25519.so", "no_such.so"));
    let without = told_of_server(&fresh);
    assert!(
        without.contains("du\tlocalhost") && without.contains("far") && !without.contains("\ned\tlocalhost"),
        "{without}"
    );
    force(&users).expect(0);
    assert_eq!(told_of_server(&fresh), told_of_server(&server));

    // What is left out of the files is the folder of the server that was dumped, and nothing of another.
    for server in [&server, &fresh] {
        std::fs::write(server.data().join("server-key.pem"), "key").unwrap();
    }
    let machine = Machine::new(&format!(
        "[profile.test]\nsources = ['{}', '{}']\n{QUIET}{}",
        server.data().display(),
        fresh.data().display(),
        section(&server, "role = \"root\"\n")
    ));
    let outcome = machine.run(["run", "test"]).expect(3);
    let told = outcome.stderr.clone();
    assert!(told.contains("a MySQL server runs on it that this profile does not dump whole"), "{told}");
    let mount = machine.mount();
    let latest = mount.path().join("latest");
    assert!(below(&latest, &fresh.data()).join("ibdata1").exists() && !told.contains(server.data().to_str().unwrap()));
    let kept: Vec<_> =
        std::fs::read_dir(below(&latest, &server.data())).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(kept, ["server-key.pem"], "what people put there is no part of any dump");
}

#[test]
fn what_cannot_be_read_costs_itself_alone_is_named_and_found_beforehand() {
    let server = Mariadb::start();
    let sql = |database: &str, sql: &str| server.sql(database, sql);
    for database in ["shop", "app", "App", "la", "lâ", "many1", "many2"] {
        sql(
            "",
            &format!(
                "CREATE DATABASE `{database}`; CREATE TABLE `{database}`.t (i int); INSERT INTO `{database}`.t VALUES (1)"
            ),
        );
    }
    sql("shop", "CREATE TABLE old (i int); CREATE VIEW broken AS SELECT * FROM old; DROP TABLE old");
    sql("shop", "CREATE DEFINER = gone@localhost VIEW fine AS SELECT * FROM t");
    sql("shop", "CREATE TABLE crashed (i int) ENGINE = MyISAM; INSERT INTO crashed VALUES (1); FLUSH TABLES");
    std::fs::remove_file(server.data().join("shop/crashed.MYD")).unwrap();
    sql(
        "shop",
        "CREATE TABLE precise (x int, a bigint unsigned GENERATED ALWAYS AS ROW START, b bigint unsigned
        GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (a, b)) WITH SYSTEM VERSIONING",
    );
    sql(
        "shop",
        "INSERT INTO precise (x) VALUES (1); UPDATE precise SET x = 2; CREATE VIEW above AS SELECT x FROM precise",
    );
    let lost = server.data().join("lost+found");
    std::fs::create_dir(&lost).unwrap();
    std::fs::set_permissions(&lost, PermissionsExt::from_mode(0o700)).unwrap();
    let text = section(&server, "role = \"root\"\nexclude = [\"many*\", \"nosuch\"]\n");
    let dumped = all(&text);
    assert!(dumped.failed.is_empty(), "{:?}", dumped.failed);
    let names = ["App.sql", "app.sql", "la.sql", "lâ.sql", "shop.sql", "users.sql"];
    assert_eq!(dumped.dumps(), names.map(|name| format!("{MAIN}/{name}")), "names differ by case and accents");
    let lacks = lacking(&dumped, "shop.sql");
    let told = [
        "the view `broken` cannot be read (ERROR 1356",
        "accept that by `options = [\"--ignore-table=shop.broken\"]`",
        "the table `crashed` cannot be read (ERROR ",
        "the history of the system-versioned tables precise is not in the dump: it is told by transactions",
    ];
    for told in told {
        assert!(lacks.iter().any(|lack| lack.contains(told)), "{told}: {lacks:?}");
        assert!(problems(&text).iter().any(|problem| problem.contains(told)), "{told}: {:?}", problems(&text));
    }
    assert_eq!((lacks.len(), problems(&text).len()), (3, 3), "{lacks:?}");
    assert!(names.iter().all(|name| *name == "shop.sql" || lacking(&dumped, name).is_empty()));
    let hints: Vec<_> = inspect(&profile(&text)).inspections.into_iter().filter(|found| found.is_hint).collect();
    assert!(hints.len() == 2 && hints[0].text.contains("`nosuch` in `exclude` matches no database"), "{hints:?}");
    assert!(hints[1].text.contains("the definer of the views fine does not exist"), "{hints:?}");
    // A run says so, and keeps the server's own files; what is accepted is no trouble.
    let accepted =
        "options = [\"--ignore-table=shop.broken\", \"--ignore-table=shop.crashed\", \"--skip-dump-history\"]\n";
    let machine = Machine::new("");
    for (more, code, is_kept) in [("", 3, true), (accepted, 0, false)] {
        machine.configure(&format!("[profile.test]\nsources = ['{}']\n{QUIET}{text}{more}", server.data().display()));
        let outcome = machine.run(["run", "test"]).expect(code);
        let told = outcome.stderr.clone();
        assert!(told.contains("the view `broken` cannot be read") == is_kept, "{told}");
        assert_eq!(told.contains("not all databases of the MySQL server"), is_kept, "{told}");
        let mount = machine.mount();
        let latest = mount.path().join("latest");
        assert_eq!(below(&latest, &server.data()).join("ibdata1").exists(), is_kept);
        assert!(latest.join("databases/mysql/main/shop.sql").exists());
    }
    let dir = tempfile::tempdir().unwrap();
    sql("", "DROP DATABASE shop; CREATE DATABASE shop");
    server.restore("shop", &written(dumped.file(&format!("{MAIN}/shop.sql")), dir.path()));
    assert_eq!(sql("shop", "SHOW TABLES"), "above\nfine\nprecise\nt");
    assert_eq!(sql("shop", "SELECT x FROM above; SELECT i FROM t"), "2\n1");
}

#[test]
fn no_option_file_role_or_default_decides_what_is_in_a_dump() {
    let server = Mariadb::start();
    server.sql("", "CREATE DATABASE shop; CREATE TABLE shop.t (i int); CREATE TABLE shop.u (i int)");
    server.sql(
        "shop",
        "CREATE TRIGGER audit BEFORE INSERT ON t FOR EACH ROW SET NEW.i = NEW.i + 1; INSERT INTO t VALUES (1)",
    );
    server.sql(
        "shop",
        "CREATE EVENT ev ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM u; CREATE PROCEDURE pr() SELECT 1",
    );
    server
        .sql("", "CREATE USER keeper@localhost IDENTIFIED BY 'a#b%c\"d\\\\e f'; GRANT ALL ON *.* TO keeper@localhost");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("my.cnf");
    let precious = dir.path().join("precious");
    private(&precious, "kept", 0o600);
    let content = format!(
        "[mysqldump]\nno-data\nskip-triggers\nskip-routines\nwhere=0\ndatabases\nignore-table=shop.u\nforce\n\
         [mariadb-dump]\nskip-events\nresult-file={}\n",
        precious.display()
    );
    private(&file, &format!("[client]\nuser=keeper\npassword='a#b%c\"d\\\\e f'\ndatabase=shop\n{content}"), 0o600);
    let machine = Machine::new(&format!(
        "[profile.test]\n{QUIET}{}",
        section(&server, &format!("option-file = \"{}\"\n", file.display()))
    ));
    private(&machine.path("home/.my.cnf"), &content, 0o600);
    let mut command = machine.command(["run", "test"]);
    for (name, value) in
        [("MYSQL_HOST", "nowhere"), ("MYSQL_TCP_PORT", "1"), ("MYSQL_PWD", "x"), ("MYSQL_GROUP_SUFFIX", "x")]
    {
        command.env(name, value);
    }
    silent(&run(command).expect(0));
    let mount = machine.mount();
    let dump = std::fs::read_to_string(mount.path().join("latest/databases/mysql/main/shop.sql")).unwrap();
    for made in ["INSERT INTO `t`", "TRIGGER audit", "CREATE TABLE `u`", "EVENT `ev`", "PROCEDURE `pr`"] {
        assert!(dump.contains(made), "{made}: {dump}");
    }
    assert!(!dump.contains("CREATE DATABASE") && !dump.contains("LOCK TABLES"), "{dump}");
    let check = machine.run(["config", "check"]);
    let told = check.text();
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "kept", "no program writes where an option file says");
    assert!(told.contains("option files say `--database=shop, --no-data, ") && told.contains("left aside"), "{check}");

    // A role that is granted and not active, or a narrower grant, shows no trigger.
    server.sql("", "CREATE ROLE monitoring; GRANT PROCESS ON *.* TO monitoring");
    let rights = "SELECT, LOCK TABLES, SHOW VIEW, EVENT";
    for (user, grants) in [
        ("rolled", format!("GRANT {rights} ON *.* TO rolled@localhost; GRANT monitoring TO rolled@localhost")),
        (
            "narrow",
            format!(
                "GRANT {rights}, TRIGGER ON `sh%`.* TO narrow@localhost; GRANT {rights} ON shop.* TO narrow@localhost"
            ),
        ),
    ] {
        server.sql("", &format!("CREATE USER {user}@localhost; {grants}"));
        let text = section(&server, &format!("role = \"{user}\"\ndatabases = [\"shop\"]\nglobals = false\n"));
        let error = all(&text).error(&format!("{MAIN}/shop.sql")).to_string();
        assert!(error.contains(&format!("`{user}@localhost` lacks TRIGGER on it")), "{error}");
        assert!(problems(&text)[0].contains("lacks TRIGGER on `shop`"), "{:?}", problems(&text));
    }

    // A program that leaves something out without a word.
    let bin = tempfile::tempdir().unwrap();
    let less = "/usr/bin/mariadb-dump \"$@\" | sed -e '/^INSERT INTO/,/;$/d' -e 's/TRIGGER audit/TRIGGER other/' \
                -e 's/PROCEDURE `pr`/PROCEDURE `other`/' -e 's/EVENT `ev`/EVENT `other`/' -e '/^CREATE TABLE `u`/,/;$/d'";
    private(&bin.path().join("mariadb-dump"), &format!("#!/bin/sh\n{less}\n"), 0o755);
    let more =
        format!("role = \"root\"\ndatabases = [\"shop\"]\nglobals = false\nbin-dir = \"{}\"\n", bin.path().display());
    let dumped = all(&section(&server, &more));
    let told = ["table `u`", "rows of the table `t`", "trigger `audit`", "procedure `pr`", "event `ev`"];
    let expected = told.map(|what| format!("the {what} is not in the dump, and the server has it"));
    let lacks = lacking(&dumped, "shop.sql");
    assert!(lacks.len() == 5 && lacks.iter().zip(expected).all(|(lack, told)| lack.starts_with(&told)), "{lacks:?}");
    assert!(dumped.file(&format!("{MAIN}/shop.sql")).ends_with(b"-- Dump completed\n"), "and the dump is there");
}
