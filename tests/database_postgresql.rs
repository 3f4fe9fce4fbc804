//! Promise: a PostgreSQL cluster's dumps restore all of it, show one moment, and never look whole when they are not.
#![allow(clippy::unwrap_used)]

mod support;

use std::ffi::OsStr;
use std::path::Path;
use support::dumps::{All, all};
use support::postgres::Postgres;

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
    assert!(one == other, "a plain dump of the same data is the same");
    assert!(!String::from_utf8_lossy(&one).contains("CREATE DATABASE"));
}
