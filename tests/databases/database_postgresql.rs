//! Promise: a PostgreSQL cluster's dumps restore all of it, show one moment, and never look whole when they are not.

use bakfs::database::{dumps, inspect, list};
use bakfs::process::Stop;
use bakfs::source::generated::Content;
use bakfs_testing::dumps::{All, Made, Small, all, make, profile, shown};
use bakfs_testing::postgres::Postgres;
use bakfs_testing::process::tool;
use bakfs_testing::{SOON, until};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn furnish(postgres: &Postgres, database: &str, rows: u32) {
    postgres.create(database);
    postgres.sql(
        database,
        &format!(
            "CREATE SCHEMA \"Odd schema\"; CREATE TABLE \"Odd schema\".\"Ünlike\" (id serial PRIMARY KEY, note text);
             INSERT INTO \"Odd schema\".\"Ünlike\" (note) SELECT repeat('n', i % 99) FROM generate_series(1, {rows}) i;
             CREATE TABLE raw AS SELECT i, decode(md5(i::text), 'hex') AS bytes FROM generate_series(1, {rows}) i;
             CREATE VIEW few AS SELECT * FROM raw WHERE i < 5; ANALYZE;
             CREATE FUNCTION twice(i int) RETURNS int LANGUAGE sql AS 'SELECT 2 * i';
             SELECT lo_from_bytea(4711, decode(repeat('00ff7f', 900), 'hex'));"
        ),
    );
}

fn section(postgres: &Postgres, more: &str) -> String {
    format!("[[profile.test.postgresql]]\nhost = \"{}\"\n{more}", postgres.socket().display())
}

/// Restores a dump into the fresh database `fresh` and returns what is in it.
fn restored(postgres: &Postgres, dump: &Path) -> Vec<String> {
    postgres.create("fresh");
    let outcome = if dump.extension() == Some(OsStr::new("sql")) {
        // What makes a database of the old name is left out.
        let text = std::fs::read_to_string(dump).unwrap();
        let inside = text.split_once("\\connect app\n").unwrap().1;
        std::fs::write(dump, inside).unwrap();
        let args = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "fresh", "-f"].map(OsStr::new);
        postgres.client("psql", args.into_iter().chain([dump.as_os_str()]))
    } else {
        postgres.client("pg_restore", ["-e", "-d", "fresh"].map(OsStr::new).into_iter().chain([dump.as_os_str()]))
    };
    outcome.expect(0);
    let contents = postgres.contents("fresh");
    postgres.remove("fresh");
    contents
}

/// Writes a dump where programs can read it, and returns its path.
fn written(all: &All, path: &str, dir: &Path) -> std::path::PathBuf {
    let to = dir.join(Path::new(path).file_name().unwrap());
    std::fs::write(&to, all.file(path)).unwrap();
    to
}

#[test]
fn dumps_of_all_formats_restore_the_whole_database() {
    let postgres = Postgres::start();
    furnish(&postgres, "app", 5000);
    let expected = postgres.contents("app");
    let dir = tempfile::tempdir().unwrap();
    let snapshots = |all: &All, name: &str| {
        let manifest = all.manifest(name);
        assert_eq!(manifest["error"], serde_json::Value::Null, "{manifest}");
        assert_eq!(manifest["notes"], serde_json::json!([]), "{manifest}");
        assert!(manifest["database_bytes"].as_u64().unwrap() > 1 << 20, "{manifest}");
        assert!(manifest["dump_bytes"].as_u64().unwrap() > 100_000, "{manifest}");
        assert!(manifest["server_version"].as_str().unwrap().starts_with("15."), "{manifest}");
        assert!(manifest["program"].as_str().unwrap().starts_with("pg_dump 15."), "{manifest}");
        let rows = |name: &str| {
            let tables = manifest["tables"].as_array().unwrap();
            tables.iter().find(|table| table["name"] == name).unwrap()["estimated_rows"].as_u64().unwrap()
        };
        assert_eq!((rows("public.raw"), rows("Odd schema.Ünlike")), (5000, 5000));
        assert!(!manifest["snapshot"].as_str().unwrap().is_empty());
    };
    for (format, suffix) in [("custom", "dump"), ("directory", "dir"), ("plain", "sql")] {
        let all = all(&section(&postgres, &format!("format = \"{format}\"\njobs = 2\n")));
        let folder = "/databases/postgresql/main";
        let names =
            [format!("{folder}/app.{suffix}"), format!("{folder}/globals.sql"), format!("{folder}/postgres.{suffix}")];
        assert_eq!(all.dumps(), names);
        assert_eq!(all.paths().len(), 6);
        assert!(all.failed.is_empty());
        snapshots(&all, &names[0]);
        let dump = match format {
            "directory" => all.folder(&names[0]).to_path_buf(),
            _ => written(&all, &names[0], dir.path()),
        };
        assert_eq!(restored(&postgres, &dump), expected, "{format}");
    }
    let text = section(&postgres, "format = \"plain\"\nglobals = false\ndatabases = [\"app\"]\n");
    let [one, other] = [(); 2].map(|()| all(&text).file("/databases/postgresql/main/app.sql").to_vec());
    // But for the word by which it is fenced, which must not be known beforehand (CVE-2025-8714).
    let told = |dump: &[u8]| {
        let text = String::from_utf8_lossy(dump).into_owned();
        text.lines().filter(|line| !line.contains("restrict ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(told(&one) == told(&other), "a plain dump of the same data is the same");
    assert!(String::from_utf8_lossy(&one).contains("CREATE DATABASE app"), "its properties are in it");
}

const MAIN: &str = "/databases/postgresql/main";

/// Returns how many connections bakfs has open.
fn connections(postgres: &Postgres) -> u32 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bakfs'";
    postgres.sql("postgres", sql).parse().unwrap()
}

/// Counts in two databases, first in `a` and then in `b`, some hundred times a second until told to stop.
fn count(postgres: &Postgres, stop: &AtomicBool) -> u32 {
    let mut sessions = ["a", "b"].map(|database| {
        let mut command = Command::new(bakfs_testing::postgres::programs().join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-d", database]).env("PGHOST", postgres.socket());
        let command = command.env("PGUSER", "postgres").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        (child, stdin, stdout)
    });
    let mut line = String::new();
    while !stop.load(Ordering::Relaxed) {
        for (_, stdin, stdout) in &mut sessions {
            stdin.write_all(b"UPDATE counter SET n = n + 1 RETURNING n;\n").unwrap();
            line.clear();
            stdout.read_line(&mut line).unwrap();
        }
        // The pace of a busy site; no moment is the same for two sessions where commits come without a pause.
        std::thread::sleep(Duration::from_millis(3));
    }
    for (mut child, stdin, _) in sessions {
        drop(stdin);
        child.wait().unwrap();
    }
    line.trim().parse().unwrap()
}

#[test]
fn all_dumps_of_a_cluster_show_one_moment_while_others_write() {
    let postgres = Postgres::start();
    for database in ["a", "b"] {
        postgres.create(database);
        postgres.sql(database, "CREATE TABLE counter (n int); INSERT INTO counter VALUES (0)");
    }
    let text = section(&postgres, "format = \"plain\"\nglobals = false\n");
    let counter = |all: &All, path: &str| -> i64 {
        let text = String::from_utf8(all.file(path).to_vec()).unwrap();
        let rows = text.split("COPY public.counter (n) FROM stdin;\n").nth(1).unwrap();
        rows.lines().next().unwrap().parse().unwrap()
    };
    let stop = AtomicBool::new(false);
    let (seen, counted) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| count(&postgres, &stop));
        let seen: Vec<_> = (0..10)
            .map(|_| {
                let all = all(&text);
                let [a, b] = ["a", "b"].map(|name| format!("{MAIN}/{name}.sql"));
                let moments = [&a, &b].map(|path| all.manifest(path)["moment"].clone());
                let notes = all.manifest(&a)["notes"].clone();
                (counter(&all, &a), counter(&all, &b), moments, notes)
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        (seen, writer.join().unwrap())
    });
    let last = seen.last().unwrap();
    assert!(i64::from(counted) >= last.0 && last.0 > seen[0].0 + 10, "others wrote meanwhile: {seen:?}");
    let mut exact = 0;
    for (a, b, [moment, other], notes) in &seen {
        if moment == other {
            assert!(*b == *a || *b + 1 == *a, "one moment: {seen:?}");
            assert_eq!(notes, &serde_json::json!([]));
            exact += 1;
        } else {
            assert!(notes[0].as_str().unwrap().contains("were taken within"), "{notes}");
        }
    }
    assert!(exact >= 5, "one moment is found: {seen:?}");
    until("all sessions have ended", SOON, || connections(&postgres) == 0);
}

#[test]
fn a_dump_that_dies_half_way_is_no_dump() {
    let postgres = Postgres::start();
    furnish(&postgres, "app", 100_000);
    let path = format!("{MAIN}/app.dump");
    let text = section(&postgres, "globals = false\ndatabases = [\"app\"]\n");
    let at_server = || {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY %' AND pid <> \
                   pg_backend_pid()";
        assert_eq!(postgres.sql("postgres", sql), "t");
    };
    let here = || {
        let (parent, line) = (std::process::id().to_string(), format!("pg_dump .*{}", postgres.socket().display()));
        tool("pkill", ["-KILL", "-P", &parent, "-f", &line]).expect(0);
    };
    let ways: [(&dyn Fn(), &str); 2] = [
        (&at_server, "failed with exit code 1: pg_dump: error: Dumping the contents of"),
        (&here, "killed by signal 9"),
    ];
    for (end, told) in ways {
        let mut generated = dumps(&profile(&text), &Stop::default()).generated.into_iter();
        let (dump, manifest) = (generated.next().unwrap(), generated.next().unwrap());
        assert_eq!(shown(&dump), path);
        let Content::Stream(start) = dump.content else { panic!("a stream") };
        let mut stream = start().unwrap();
        let mut some = vec![0; 100_000];
        stream.read_exact(&mut some).unwrap();
        end();
        let error = stream.read_to_end(&mut some).unwrap_err().downcast::<bakfs::error::Error>().unwrap().chain();
        let whole = "Cannot dump the database `app` of the PostgreSQL cluster `main`: pg_dump ";
        assert!(error.starts_with(whole) && error.contains(told), "{error}");
        let Made::File(manifest) = make(manifest.content) else { panic!("a manifest") };
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["error"], error);
        until("its sessions have ended", SOON, || connections(&postgres) == 0);
    }
}

#[test]
fn sessions_begin_with_the_first_dump_and_end_with_the_last_however_it_ends() {
    let postgres = Postgres::start();
    postgres.create("a");
    postgres.create("b");
    postgres.sql("postgres", "ALTER SYSTEM SET idle_in_transaction_session_timeout = '50ms'");
    postgres.sql("postgres", "SELECT pg_reload_conf()");
    let text = section(&postgres, "globals = false\n");
    let mut generated = dumps(&profile(&text), &Stop::default()).generated.into_iter();
    assert_eq!(connections(&postgres), 0);
    let first = make(generated.next().unwrap().content);
    assert!(matches!(first, Made::File(_)));
    until("the first's session has ended", SOON, || connections(&postgres) == 2);
    let old = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND \
               state_change < clock_timestamp() - interval '200ms'";
    until("they outlive the server's limit", SOON, || postgres.sql("postgres", old) == "2");
    drop(generated);
    until("the others' sessions have ended", SOON, || connections(&postgres) == 0);
}

#[test]
fn names_that_are_no_file_names_and_roles_with_little_rights_are_dumped_and_told() {
    let postgres = Postgres::start();
    for database in ["a/b", "it's a=b", ".hidden", "globals", "left out", "-dash"] {
        postgres.sql("postgres", &format!("CREATE DATABASE \"{database}\" TEMPLATE template0"));
    }
    // A name with `=` is a connection string to psql.
    let connection = r"dbname='it\'s a=b'";
    postgres.sql(connection, "CREATE TABLE t AS SELECT 1 AS i");
    postgres.sql("postgres", "CREATE ROLE reader LOGIN IN ROLE pg_read_all_data; CREATE ROLE poor LOGIN PASSWORD 'x'");
    postgres.sql(connection, "REVOKE EXECUTE ON FUNCTION pg_export_snapshot FROM PUBLIC");
    let more = "role = \"reader\"\nformat = \"plain\"\nexclude = [\"left out\", \"postgres\"]\n";
    let dumped = all(&section(&postgres, more));
    let names = ["%2Ehidden.sql", "%67lobals.sql", "-dash.sql", "a%2Fb.sql", "globals.sql", "it's a=b.sql"];
    assert_eq!(dumped.dumps(), names.map(|name| format!("{MAIN}/{name}")));
    let odd = format!("{MAIN}/it's a=b.sql");
    assert!(String::from_utf8_lossy(dumped.file(&odd)).contains("CREATE TABLE public.t"));
    let notes = dumped.manifest(&odd)["notes"].to_string();
    assert!(notes.contains("permission denied for function pg_export_snapshot"), "{notes}");
    assert!(dumped.manifest(&odd)["snapshot"].is_null());
    assert!(dumped.manifest(&format!("{MAIN}/a%2Fb.sql"))["snapshot"].is_string());
    let globals = format!("{MAIN}/globals.sql");
    assert!(String::from_utf8_lossy(dumped.file(&globals)).contains("SCRAM-SHA-256"));

    let more = "role = \"poor\"\ndatabases = [\"it's a=b\", \"gone\"]\n";
    let poor = all(&section(&postgres, more));
    let text = String::from_utf8_lossy(poor.file(&globals)).into_owned();
    assert!(text.contains("CREATE ROLE poor") && !text.contains("SCRAM-SHA-256"), "{text}");
    assert!(poor.manifest(&globals)["notes"].to_string().contains("without their passwords"));
    let lacks = poor.lacks(&format!("{MAIN}/it's a=b.dump"));
    assert!(lacks.len() == 1 && lacks[0].contains("GRANT SELECT ON \"public\".\"t\" TO \"poor\""), "{lacks:?}");
    let error = poor.error(&format!("{MAIN}/gone.dump"));
    assert!(error.contains("no database `gone` in the PostgreSQL cluster `main`"), "{error}");
    let found = inspect(&profile(&section(&postgres, more))).inspections;
    let problems: Vec<_> = found.iter().filter(|found| found.is_problem).map(|found| &*found.text).collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("no database `gone`"), "{problems:?}");
    assert!(problems[1].contains("database `it's a=b`: the table public.t is missing, for `poor` may not read it"));
    let found = inspect(&profile(&section(&postgres, "role = \"reader\"\nformat = \"directory\"\n"))).inspections;
    assert!(found.iter().all(|found| !found.is_problem && found.subject == "postgresql main"), "{found:?}");
    let texts: Vec<_> = found.iter().map(|found| &*found.text).collect();
    for told in ["connected as `reader` to PostgreSQL 15.", "pg_dump 15.", "7 databases: ", "may read all", "room"] {
        assert!(texts.iter().any(|text| text.contains(told)), "{told}: {texts:?}");
    }
    let (listed, failed) = list(&profile(&section(&postgres, "databases = [\"a/b\", \"gone\"]\nglobals = false\n")));
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].path, Path::new(&format!("{MAIN}/a%2Fb.dump")));
    assert!(listed[0].bytes.unwrap() > 1 << 20);
    assert_eq!(failed.len(), 1);
}

#[test]
fn a_cluster_of_very_many_databases_is_dumped_at_several_moments() {
    let postgres = Postgres::start();
    for at in 0..50 {
        postgres.create(&format!("db{at}"));
    }
    let mut generated =
        dumps(&profile(&section(&postgres, "globals = false\n")), &Stop::default()).generated.into_iter();
    assert_eq!(generated.len(), 2 * 51);
    assert!(matches!(make(generated.next().unwrap().content), Made::File(_)));
    let most = connections(&postgres);
    assert!((20..=46).contains(&most), "half of what is free is left to others: {most}");
    let Made::File(manifest) = make(generated.next().unwrap().content) else { panic!("a manifest") };
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    assert!(manifest["snapshot"].is_string() && manifest["error"].is_null());
    assert!(manifest["notes"][0].as_str().unwrap().contains("do not show one moment"), "{manifest}");
    let rest: Vec<_> = generated.map(|generated| make(generated.content)).collect();
    assert!(rest.iter().all(|made| matches!(made, Made::File(_))));
    until("no session is left", SOON, || connections(&postgres) == 0);
}

#[test]
fn passwords_come_from_a_file_nobody_else_reads_and_what_is_wrong_is_named() {
    let mut postgres = Postgres::start();
    furnish(&postgres, "app", 100);
    postgres.sql("postgres", "CREATE ROLE keeper SUPERUSER LOGIN PASSWORD 'quite secret'");
    let port = postgres.listen();
    let dir = tempfile::tempdir().unwrap();
    let pgpass = dir.path().join("pgpass");
    let keep = |password: &str, mode: u32| {
        std::fs::write(&pgpass, format!("127.0.0.1:{port}:*:keeper:{password}\n")).unwrap();
        std::fs::set_permissions(&pgpass, PermissionsExt::from_mode(mode)).unwrap();
    };
    let server = format!(
        "[[profile.test.postgresql]]\nhost = \"127.0.0.1\"\nport = {port}\nrole = \"keeper\"\npgpass = \"{}\"\n",
        pgpass.display()
    );
    keep("quite secret", 0o600);
    let good = all(&server);
    assert!(good.file(&format!("{MAIN}/app.dump")).starts_with(b"PGDMP"));
    assert!(String::from_utf8_lossy(good.file(&format!("{MAIN}/globals.sql"))).contains("SCRAM-SHA-256"));
    let refused = |text: &str, told: &[&str]| {
        let error = all(text).error(MAIN).to_string();
        for told in told {
            assert!(error.contains(told) && !error.contains("secret"), "{told}: {error}");
        }
        let found = inspect(&profile(text)).inspections;
        let mut problems = found.iter().filter(|found| found.is_problem);
        assert!(problems.next().unwrap().text == error && problems.next().is_none(), "{found:?}");
    };
    keep("wrong", 0o600);
    refused(&server, &["check the role's password", "password authentication failed for user \"keeper\""]);
    keep("quite secret", 0o640);
    refused(&server, &["Others may read the passwords in", "chmod 600"]);
    keep("quite secret", 0o600);
    refused(&format!("{server}user = \"nobody\"\n"), &["`nobody` reads the passwords in", "chown"]);
    refused(&format!("{server}bin-dir = \"{}\"\n", dir.path().display()), &["no pg_dump", "postgresql-client-15"]);
    refused(&format!("{server}options = [\"-f\", \"/tmp/x\"]\n"), &["The option `-f` of pg_dump is set by bakfs"]);
    refused(&server.replace("keeper\"\npg", "nobody-here\"\npg"), &["no password supplied"]);
    let old = dir.path().join("pg_dump");
    std::fs::write(&old, "#!/bin/sh\necho 'pg_dump (PostgreSQL) 14.9'\n").unwrap();
    std::fs::set_permissions(&old, PermissionsExt::from_mode(0o755)).unwrap();
    refused(&format!("{server}bin-dir = \"{}\"\n", dir.path().display()), &["no pg_dump of that version or a newer"]);
    postgres.stop();
    refused(&server, &["Cannot ask the PostgreSQL cluster `main`: check that the server runs", "Connection refused"]);
}

#[test]
fn a_folder_without_room_is_named_before_the_dump_begins() {
    let postgres = Postgres::start();
    furnish(&postgres, "app", 100);
    let small = Small::new("2m");
    let more = "format = \"directory\"\ndatabases = [\"app\"]\nglobals = false\n";
    let text = format!("temporary-dir = \"{}\"\n{}", small.path().display(), section(&postgres, more));
    let error = all(&text).error(&format!("{MAIN}/app.dir")).to_string();
    assert!(error.contains("are needed: set `temporary-dir`") && error.contains("app"), "{error}");
    assert!(error.contains(small.path().to_str().unwrap()), "{error}");
    assert_eq!(std::fs::read_dir(small.path()).unwrap().count(), 0);
}
