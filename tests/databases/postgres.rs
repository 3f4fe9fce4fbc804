//! Promise: `pg_restore` runs straight from a dump inside the mount, of any day, and a day adds about
//! what it changed.

use bakfs_testing::cli::{Bakfs, Summary};
use bakfs_testing::files_below;
use bakfs_testing::postgres::{Format, Postgres};
use std::ffi::OsStr;
use std::path::Path;

const DAY_1: &str = "2026-03-01T03:00:00Z";
const DAY_2: &str = "2026-03-02T03:00:00Z";

/// The part of one dump that a change of 1 % of the rows, all in one place, may add.
const CONTIGUOUS_SHARE_LIMIT: f64 = 0.15;

const CHANGE_ONE_PLACE: &str = "UPDATE pgbench_accounts SET abalance = abalance + aid % 1000 + 1 \
                                WHERE aid BETWEEN 300001 AND 310000";
const CHANGE_AT_RANDOM: &str = "UPDATE pgbench_accounts SET abalance = abalance + aid % 1000 + 1 \
                                WHERE (hashint4(aid) & 2147483647) % 100 = 7";

/// Makes the database `bank`: pgbench's million accounts, and a table of other types.
fn bank(postgres: &Postgres) {
    postgres.create("bank");
    postgres.client("pgbench", ["-i", "-q", "-s", "10", "bank"]).expect(0);
    postgres.sql(
        "bank",
        "CREATE TABLE notes (id serial PRIMARY KEY, at timestamptz, body text, doc jsonb, raw bytea);
         INSERT INTO notes (at, body, doc, raw) SELECT to_timestamp(i * 12345.678), repeat('n', i % 99),
           jsonb_build_object('n', i, 'odd', i % 2 = 1), decode(md5(i::text), 'hex')
           FROM generate_series(1, 20000) i;
         CREATE INDEX notes_at ON notes (at); CREATE VIEW odd AS SELECT * FROM notes WHERE id % 2 = 1;
         SELECT lo_from_bytea(424242, decode(repeat('00ff7f', 9000), 'hex'));",
    );
    assert_eq!(postgres.sql("bank", "SELECT count(*) FROM pgbench_accounts"), "1000000");
}

fn dump_all(postgres: &Postgres, dir: &Path) {
    for format in Format::ALL {
        postgres.dump("bank", format, &dir.join(format.file_name()));
    }
}

/// Restores a dump into a fresh database with the tool that is meant for its format.
fn restore(postgres: &Postgres, format: Format, dump: &Path) {
    postgres.create("fresh");
    let outcome = match format {
        Format::Plain => {
            let args = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "fresh", "-f"].map(OsStr::new);
            postgres.client("psql", args.into_iter().chain([dump.as_os_str()]))
        }
        Format::Tar => {
            let args = ["-e", "-d", "fresh"].map(OsStr::new);
            postgres.client("pg_restore", args.into_iter().chain([dump.as_os_str()]))
        }
        Format::Custom | Format::Directory | Format::DirectoryGzip => {
            let args = ["-e", "-j4", "-d", "fresh"].map(OsStr::new);
            postgres.client("pg_restore", args.into_iter().chain([dump.as_os_str()]))
        }
    };
    outcome.expect(0);
}

#[test]
fn dumps_of_two_days_restore_from_the_mount() {
    let postgres = Postgres::start();
    bank(&postgres);
    let bakfs = Bakfs::new();
    let dumps = bakfs.make_dir("dumps");
    let mut days = Vec::new();
    for (time, change) in [(DAY_1, "SELECT 1"), (DAY_2, CHANGE_ONE_PLACE)] {
        postgres.sql("bank", change);
        dump_all(&postgres, &dumps);
        let summary = bakfs.backup_at(time, &dumps);
        days.push((summary.snapshot().to_owned(), postgres.contents("bank")));
    }
    assert_ne!(days[0].1, days[1].1, "the two days should differ");

    let mount = bakfs.mount();
    for (day, expected) in &days {
        let shown = mount.at(day, &dumps);
        for format in Format::ALL {
            restore(&postgres, format, &shown.join(format.file_name()));
            assert_eq!(&postgres.contents("fresh"), expected, "{format:?} of {day}");
            postgres.remove("fresh");
        }
        lists_and_single_tables(&postgres, &shown, &dumps, expected);
    }
}

/// `pg_restore -l` says the same from the mount, and one table comes back alone.
fn lists_and_single_tables(postgres: &Postgres, shown: &Path, dumps: &Path, expected: &[String]) {
    for format in [Format::Custom, Format::Directory, Format::Tar] {
        let list = |dir: &Path| {
            let dump = dir.join(format.file_name());
            let outcome = postgres.client("pg_restore", [OsStr::new("-l"), dump.as_os_str()]);
            let text = outcome.expect(0).text();
            let entries = text.lines().filter(|line| !line.starts_with(';'));
            entries.map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(list(shown).len() > 10);
        assert_eq!(list(shown), list(dumps), "the table of contents of {format:?}");

        postgres.create("fresh");
        let dump = shown.join(format.file_name());
        let args = ["-e", "-d", "fresh", "-t", "pgbench_branches"].map(OsStr::new);
        postgres.client("pg_restore", args.into_iter().chain([dump.as_os_str()])).expect(0);
        let tables = postgres.contents("fresh");
        let wanted = expected.iter().find(|line| line.contains("pgbench_branches ")).unwrap();
        assert!(tables.contains(wanted), "{wanted} is not in {tables:?}");
        assert!(!tables.iter().any(|line| line.contains("pgbench_accounts")), "{tables:?}");
        postgres.remove("fresh");
    }
}

/// What a second day added to a repository of one format's dumps alone.
struct Added {
    share: f64,
    packed_share: f64,
}

/// Backs up the dump of a database before and after a change, each format into its own repository.
fn second_day(postgres: &Postgres, change: &str) -> Vec<(Format, Added)> {
    let worlds: Vec<_> = Format::ALL.map(|format| (format, Bakfs::new())).into();
    let day = |time: &str| -> Vec<Summary> {
        let backup = |(format, bakfs): &(Format, Bakfs)| {
            let dumps = bakfs.make_dir("dumps");
            postgres.dump("bank", *format, &dumps.join(format.file_name()));
            bakfs.backup_at(time, &dumps)
        };
        worlds.iter().map(backup).collect()
    };
    let first = day(DAY_1);
    postgres.sql("bank", change);
    let second = day(DAY_2);
    let added = worlds.iter().zip(first.iter().zip(&second)).map(|((format, bakfs), (one, two))| {
        let dump_bytes: u64 = files_below(&bakfs.path("dumps")).iter().map(|(_, len)| len).sum();
        let share = two.number("added_bytes") as f64 / dump_bytes as f64;
        let packed = two.number("packed_bytes") as f64 / one.number("packed_bytes") as f64;
        (*format, Added { share, packed_share: packed })
    });
    added.collect()
}

#[test]
fn a_day_of_changes_in_one_place_adds_a_small_share() {
    let postgres = Postgres::start();
    bank(&postgres);
    for (format, added) in second_day(&postgres, CHANGE_ONE_PLACE) {
        let (share, packed) = (added.share * 100.0, added.packed_share * 100.0);
        eprintln!("one place: {format:?} adds {share:.1} % of the dump, {packed:.1} % packed");
        // gzip makes all that follows a change differ; the others keep their bytes.
        if format != Format::DirectoryGzip {
            assert!(added.share < CONTIGUOUS_SHARE_LIMIT, "{format:?} adds {share:.1} %");
        }
        assert!(added.share > 0.0, "{format:?}: the change must have been noticed");
    }
    for (format, added) in second_day(&postgres, CHANGE_AT_RANDOM) {
        let (share, packed) = (added.share * 100.0, added.packed_share * 100.0);
        eprintln!("at random: {format:?} adds {share:.1} % of the dump, {packed:.1} % packed");
    }
}

#[test]
fn a_streamed_dump_restores_from_the_mount() {
    let postgres = Postgres::start();
    bank(&postgres);
    let expected = postgres.contents("bank");
    let bakfs = Bakfs::new();
    let file = bakfs.path("streamed");
    postgres.dump("bank", Format::Custom, &file);
    let mut command = bakfs.command(["backup", "--stdin", "/dumps/bank.custom"]);
    command.stdin(std::fs::File::open(&file).unwrap());
    bakfs_testing::process::start(command, true).finish().expect(0);
    let mount = bakfs.mount();
    let shown = mount.path().join("latest/dumps/bank.custom");
    restore(&postgres, Format::Custom, &shown);
    assert_eq!(postgres.contents("fresh"), expected);
}

#[test]
fn the_contents_of_databases_are_compared_in_full() {
    let postgres = Postgres::start();
    bank(&postgres);
    let before = postgres.contents("bank");
    let dump = tempfile::tempdir().unwrap();
    for format in Format::ALL {
        let path = dump.path().join(format.file_name());
        postgres.dump("bank", format, &path);
        restore(&postgres, format, &path);
        assert_eq!(postgres.contents("fresh"), before, "{format:?}, without bakfs");
        postgres.remove("fresh");
    }
    for change in [
        "UPDATE pgbench_accounts SET abalance = 1 WHERE aid = 999999",
        "DELETE FROM notes WHERE id = 7",
        "SELECT lo_put(424242, 100, '\\x01')",
        "CREATE INDEX another ON notes (body)",
    ] {
        let before = postgres.contents("bank");
        postgres.sql("bank", change);
        assert_ne!(postgres.contents("bank"), before, "{change}");
    }
}
