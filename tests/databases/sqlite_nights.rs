//! Promise: of an SQLite database that is written to without a pause, every backup is whole in the mount.

use bakfs_testing::machine::{Machine, below, silent};
use bakfs_testing::{SOON, until};
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const BACKUPS: usize = 100;

/// A folder whose name comes before `/databases`: files in it are read before the dumps are made.
struct Early(PathBuf);

impl Early {
    fn make() -> Early {
        bakfs_testing::need_root();
        let path = PathBuf::from(format!("/bakfs-test-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Early(path)
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn furnish(database: &Path) -> Connection {
    let writer = Connection::open(database).unwrap();
    writer.busy_timeout(SOON).unwrap();
    let tables = "PRAGMA synchronous = OFF; CREATE TABLE account (id INTEGER PRIMARY KEY, amount INTEGER, note BLOB);
                  WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999)
                  INSERT INTO account SELECT i, 0, randomblob(2000) FROM n;";
    writer.execute_batch(tables).unwrap();
    writer
}

/// Moves amounts from one account to another, so that the sum of all is 0 after each transaction.
fn write_until(end: &AtomicBool, writer: Connection, moves: &AtomicU64) {
    while !end.load(Ordering::Relaxed) {
        let i = moves.fetch_add(1, Ordering::Relaxed);
        let sql = format!(
            "BEGIN IMMEDIATE; UPDATE account SET amount = amount + {i}, note = randomblob(2000) WHERE id = {};
             UPDATE account SET amount = amount - {i} WHERE id = {}; COMMIT",
            i * 7919 % 1000,
            i * 104_729 % 1000,
        );
        writer.execute_batch(&sql).unwrap();
    }
}

#[test]
fn a_hundred_backups_under_constant_writes_are_whole_in_the_mount() {
    let early = Early::make();
    let database = early.0.join("app.sqlite");
    let writer = furnish(&database);
    let machine = Machine::new(&format!(
        "[profile.app]\nsources = ['{}']\ncheck = {{ every = 'never' }}\nprune = {{ every = 'never' }}\n\
         [[profile.app.sqlite]]\npath = '{}'\n",
        early.0.display(),
        database.display()
    ));
    let (end, moves) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (end, moves) = (&end, &moves);
        scope.spawn(move || write_until(end, writer, moves));
        for _ in 0..BACKUPS {
            let before = moves.load(Ordering::Relaxed);
            until("the writer goes on", SOON, || moves.load(Ordering::Relaxed) > before);
            // A run that fails must not leave the writer running for ever.
            let outcome = machine.run(["run", "app"]);
            if outcome.code != 0 || !outcome.stderr.is_empty() {
                end.store(true, Ordering::Relaxed);
            }
            silent(&outcome.expect(0));
        }
        end.store(true, Ordering::Relaxed);
    });
    let mount = machine.mount();
    let names = machine.tagged("app");
    assert_eq!(names.len(), BACKUPS);
    for name in names {
        let snapshot = mount.path().join(&name);
        let copy = below(&snapshot.join("databases/sqlite"), &database);
        let copy = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let told: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        let sum: i64 = copy.query_row("SELECT sum(amount) FROM account", [], |row| row.get(0)).unwrap();
        assert_eq!((told.as_str(), sum), ("ok", 0), "{name}");
        assert!(!below(&snapshot, &database).exists(), "the file itself, torn, is not there to be mistaken");
    }
}
