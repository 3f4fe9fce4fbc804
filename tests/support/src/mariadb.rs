//! A MariaDB server of a test's own: fresh data, a socket in a temporary folder, no TCP.

use super::process::{Outcome, run, tool};
use super::{SOON, until};
use std::ffi::OsStr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running server; stopped when dropped.
pub struct Mariadb {
    dir: tempfile::TempDir,
    server: Child,
}

impl Mariadb {
    /// Makes an empty server and starts it, as the user mysql; root logs in without a password. Durability is off.
    pub fn start() -> Mariadb {
        super::need_root();
        let dir = tempfile::Builder::new().prefix("bakfs-my-").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let owner = |flag: &str| -> u32 { tool("id", [flag, "mysql"]).expect(0).text().trim().parse().unwrap() };
        chown(dir.path(), Some(owner("-u")), Some(owner("-g"))).unwrap();
        let data = format!("--datadir={}", dir.path().join("data").display());
        // A server that starts removes the temporary tables it finds there, also those of others.
        let temporary = format!("--tmpdir={}", dir.path().display());
        let login = "--auth-root-authentication-method=normal";
        let args = ["--no-defaults", "--user=mysql", &data, &temporary, "--skip-test-db", "--skip-name-resolve", login];
        tool("mariadb-install-db", args).expect(0);
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--reuid=mysql", "--regid=mysql", "--init-groups", "--", "mariadbd", "--no-defaults", &data]);
        command.arg(format!("--socket={}", dir.path().join("socket").display()));
        command.arg(&temporary).arg(format!("--pid-file={}", dir.path().join("pid").display()));
        command.args(["--skip-networking", "--skip-log-bin", "--event-scheduler=OFF"]);
        command.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M"]);
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let server = Mariadb { server: command.spawn().unwrap(), dir };
        until("MariaDB answers", SOON, || server.client("mariadb", ["-e", "SELECT 1"]).code == 0);
        server
    }

    /// Returns the folder of its databases.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Returns its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// Runs a client program as the server's root.
    pub fn client<S: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> Outcome {
        let mut command = Command::new(program);
        command.arg("--no-defaults").arg(format!("--socket={}", self.socket().display()));
        command.args(["--user=root", "--default-character-set=utf8mb4"]).args(args);
        run(command)
    }

    /// Runs SQL that must succeed, in a database or in none, and returns the answer's lines with tabs between values.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let database = (!database.is_empty()).then_some(database);
        let args = ["--batch", "--skip-column-names", "-e", sql, "--"].into_iter().chain(database);
        self.client("mariadb", args).expect(0).text().trim_end().to_owned()
    }

    /// Reads SQL from a file that must succeed.
    #[track_caller]
    pub fn restore(&self, database: &str, dump: &Path) {
        let line = r#"exec mariadb --no-defaults --socket="$0" --user=root -- ${1:+"$1"} < "$2""#;
        let socket = self.socket();
        let args = [OsStr::new("-c"), OsStr::new(line), socket.as_os_str(), OsStr::new(database), dump.as_os_str()];
        tool("sh", args).expect(0);
    }

    /// Returns all that is in a database: its tables with their rows, its views, routines, triggers and events.
    pub fn contents(&self, database: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for table in self.sql(database, "SHOW FULL TABLES").lines() {
            let (name, kind) = table.split_once('\t').unwrap();
            lines.push(self.sql(database, &format!("SHOW CREATE TABLE `{name}`")));
            if kind == "BASE TABLE" {
                let rows = self.sql(database, &format!("SELECT * FROM `{name}` ORDER BY 1"));
                lines.push(format!("{name} {} {}", rows.lines().count(), blake3::hash(rows.as_bytes())));
            }
        }
        for (kind, from) in [("routine", "ROUTINES"), ("trigger", "TRIGGERS"), ("event", "EVENTS")] {
            let name = |of: &str| {
                self.sql(database, &format!(
                "SELECT {kind}_NAME, {of} FROM information_schema.{from} WHERE {kind}_SCHEMA = DATABASE() ORDER BY 1"
            ))
            };
            let text = match kind {
                "routine" => "ROUTINE_TYPE, ROUTINE_DEFINITION, SECURITY_TYPE",
                "trigger" => "ACTION_STATEMENT, ACTION_TIMING, EVENT_MANIPULATION",
                _ => "EVENT_DEFINITION, INTERVAL_VALUE, INTERVAL_FIELD",
            };
            lines.push(format!("{kind} {}", name(text)));
        }
        lines
    }

    /// Returns all that is in a database, object by object, as the server itself tells it: how each was made, the rows
    /// of all times, checksums. The database's name is written `DB`.
    pub fn everything(&self, database: &str) -> Vec<String> {
        let made = self.sql("", &format!("SHOW CREATE DATABASE `{database}`"));
        let mut told = vec![made.split_once('\t').unwrap().1.to_owned()];
        let names = |what: &str, from: &str, of: &str| -> Vec<String> {
            let sql = format!("SELECT {what} FROM information_schema.{from} WHERE {of}_SCHEMA = DATABASE() ORDER BY 1");
            self.sql(database, &sql).lines().map(|line| line.replace('`', "``")).collect()
        };
        for table in names("CONCAT(TABLE_TYPE, '|', TABLE_NAME)", "TABLES", "TABLE") {
            let (kind, name) = table.split_once('|').unwrap();
            told.push(self.sql(database, &format!("SHOW CREATE TABLE `{name}`")));
            if kind != "VIEW" {
                let history = match kind {
                    "SYSTEM VERSIONED" => " FOR SYSTEM_TIME ALL",
                    _ => "",
                };
                let invisible = self.sql(
                    database,
                    &format!(
                        "SELECT IFNULL(GROUP_CONCAT(CONCAT(', `', COLUMN_NAME, '`') ORDER BY 1 SEPARATOR ''), '')
                     FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '{}'
                     AND EXTRA LIKE '%INVISIBLE%'",
                        name.replace("``", "`")
                    ),
                );
                let times =
                    if kind == "SYSTEM VERSIONED" && invisible.is_empty() { ", row_start, row_end" } else { "" };
                let rows = self.sql(database, &format!("SELECT *{invisible}{times} FROM `{name}`{history}"));
                let mut rows: Vec<&str> = rows.lines().collect();
                rows.sort_unstable();
                told.push(format!("{kind} {name}: {}", rows.join("\n")));
                told.push(self.sql(database, &format!("CHECKSUM TABLE `{name}`")));
            }
        }
        for trigger in names("TRIGGER_NAME", "TRIGGERS", "TRIGGER") {
            let made = self.sql(database, &format!("SHOW CREATE TRIGGER `{trigger}`"));
            // The last is when it was made.
            told.push(made.rsplit_once('\t').unwrap().0.to_owned());
        }
        told.extend(names("CONCAT_WS('|', ACTION_ORDER, TRIGGER_NAME, EVENT_OBJECT_TABLE)", "TRIGGERS", "TRIGGER"));
        for routine in names("CONCAT(ROUTINE_TYPE, ' `', REPLACE(ROUTINE_NAME, '`', '``'), '`')", "ROUTINES", "ROUTINE")
        {
            told.push(self.sql(database, &format!("SHOW CREATE {}", routine.replace("``", "`"))));
        }
        for event in names("EVENT_NAME", "EVENTS", "EVENT") {
            told.push(self.sql(database, &format!("SHOW CREATE EVENT `{event}`")));
        }
        told.into_iter()
            .map(|text| text.replace(&format!("`{database}`"), "`DB`").replace(&format!("{database}."), "DB."))
            .collect()
    }

    /// Stops the server.
    pub fn stop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.server.id() as i32).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        let _ = self.server.wait();
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        self.stop();
    }
}
