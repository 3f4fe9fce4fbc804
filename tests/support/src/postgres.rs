//! A PostgreSQL server of a test's own: fresh data, a socket in a temporary folder, TCP where a test asks for it.

use super::process::{Outcome, run, tool};
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A running server; stopped when dropped.
pub struct Postgres {
    dir: tempfile::TempDir,
    programs: PathBuf,
    port: u16,
}

impl Postgres {
    /// Makes a cluster and starts its server. Durability is off: the server lives as long as a test.
    pub fn start() -> Postgres {
        super::need_root();
        let dir = tempfile::Builder::new().prefix("bakfs-pg-").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let owner = |flag: &str| -> u32 { tool("id", [flag, "postgres"]).expect(0).text().trim().parse().unwrap() };
        chown(dir.path(), Some(owner("-u")), Some(owner("-g"))).unwrap();
        let postgres = Postgres { dir, programs: programs(), port: 5432 };
        let data = postgres.data();
        let initdb = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-N", "-D"];
        postgres.as_owner("initdb", initdb.map(OsStr::new).into_iter().chain([data.as_os_str()]));
        let settings = format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nport = 5432\nfsync = off\n\
             synchronous_commit = off\nfull_page_writes = off\nautovacuum = off\n\
             wal_level = minimal\nmax_wal_senders = 0\nmax_wal_size = 4GB\n\
             shared_buffers = 256MB\nmaintenance_work_mem = 128MB\nwork_mem = 64MB\n",
            postgres.dir.path().display()
        );
        let file = data.join("postgresql.auto.conf");
        std::fs::write(&file, settings).unwrap();
        postgres.pg_ctl(&["-w", "-t", "120", "start"]);
        postgres
    }

    /// Returns the folder of its files.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn pg_ctl(&self, args: &[&str]) {
        let (data, log) = (self.data(), self.dir.path().join("log"));
        let places = [OsStr::new("-D"), data.as_os_str(), OsStr::new("-l"), log.as_os_str()];
        self.as_owner("pg_ctl", places.into_iter().chain(args.iter().map(OsStr::new)));
    }

    /// Runs a program of the server as its owner; root may not run it.
    fn as_owner<'a>(&self, program: &str, args: impl IntoIterator<Item = &'a OsStr>) {
        self.as_owner_in(&self.programs, program, args);
    }

    fn as_owner_in<'a>(&self, dir: impl AsRef<Path>, program: &str, args: impl IntoIterator<Item = &'a OsStr>) {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]);
        command.arg(dir.as_ref().join(program)).args(args);
        command.env("LC_ALL", "C").current_dir(self.dir.path());
        run(command).expect(0);
    }

    /// Runs a client program against this server.
    pub fn client<S: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> Outcome {
        let mut command = Command::new(self.programs.join(program));
        command.args(args).env("PGHOST", self.dir.path()).env("PGUSER", "postgres");
        command.env("LC_ALL", "C").env("PGPORT", self.port.to_string()).current_dir(self.dir.path());
        run(command)
    }

    /// Runs SQL that must succeed, and returns the unaligned answer.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let args = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql];
        self.client("psql", args).expect(0).text().trim().to_owned()
    }

    /// Returns the folder of its socket.
    pub fn socket(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the server anew with a TCP port on loopback, where roles log in by password; returns the port.
    pub fn listen(&mut self) -> u16 {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = self.data().join("postgresql.auto.conf");
        let settings = std::fs::read_to_string(&file).unwrap();
        let settings = settings.replace("listen_addresses = ''", "listen_addresses = '127.0.0.1'");
        std::fs::write(&file, settings.replace("port = 5432", &format!("port = {port}"))).unwrap();
        let rules = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(self.data().join("pg_hba.conf"), rules).unwrap();
        self.pg_ctl(&["-w", "-t", "120", "-m", "fast", "restart"]);
        self.port = port;
        port
    }

    /// Makes a folder beside its files that belongs to the server.
    pub fn make_folder(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        self.as_owner_in("/bin", "mkdir", [path.as_os_str()]);
        path
    }

    /// Starts the server anew.
    pub fn restart(&self) {
        self.pg_ctl(&["-w", "-t", "120", "-m", "fast", "restart"]);
    }

    /// Stops the server.
    pub fn stop(&self) {
        self.pg_ctl(&["-w", "-m", "fast", "stop"]);
    }

    /// Makes an empty database.
    pub fn create(&self, database: &str) {
        self.sql("postgres", &format!("CREATE DATABASE {database} TEMPLATE template0"));
    }

    /// Removes a database.
    pub fn remove(&self, database: &str) {
        self.sql("postgres", &format!("DROP DATABASE {database}"));
    }

    /// Dumps a database in one of the formats.
    pub fn dump(&self, database: &str, format: Format, to: &Path) {
        let _ = std::fs::remove_dir_all(to);
        let _ = std::fs::remove_file(to);
        let mut args: Vec<OsString> = format.options().iter().map(OsString::from).collect();
        args.extend(["-f".into(), to.into(), database.into()]);
        self.client("pg_dump", args).expect(0);
    }

    /// Returns all that is in a database: every table's rows, the large objects and the definitions,
    /// as one line for each, independent of the order in which rows are stored.
    pub fn contents(&self, database: &str) -> Vec<String> {
        let tables = self.sql(
            database,
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname NOT IN \
             ('pg_catalog', 'information_schema') ORDER BY 1",
        );
        let mut lines = Vec::new();
        for table in tables.lines() {
            let rows = format!(
                "SELECT count(*) || ' ' || coalesce(md5(string_agg(h, '' ORDER BY h)), '-') \
                 FROM (SELECT md5(t::text) AS h FROM {table} t) rows"
            );
            lines.push(format!("{table} {}", self.sql(database, &rows)));
        }
        let objects = "SELECT coalesce(string_agg(oid || ' ' || md5(lo_get(oid)), ',' ORDER BY oid), \
                       '-') FROM pg_largeobject_metadata";
        lines.push(format!("large objects {}", self.sql(database, objects)));
        let schema = self.client("pg_dump", ["-s", database]).expect(0).stdout;
        // Since 15.14, plain dumps are fenced by \restrict with a random word (CVE-2025-8714).
        let text = String::from_utf8_lossy(&schema);
        let kept = text.lines().filter(|line| !line.contains("restrict "));
        let hash = blake3::hash(kept.collect::<Vec<_>>().join("\n").as_bytes());
        lines.push(format!("definitions {}", hash.to_hex()));
        lines
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let (data, owner) = (self.data(), ["--reuid=postgres", "--regid=postgres", "--init-groups"]);
        let mut command = Command::new("setpriv");
        command.args(owner).arg("--").arg(self.programs.join("pg_ctl"));
        command.arg("-D").arg(&data).args(["-m", "immediate", "-w", "stop"]);
        command.current_dir(self.dir.path());
        let _ = run(command);
    }
}

/// How pg_dump(1) writes a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One file, not compressed.
    Custom,
    /// One file for each table, not compressed.
    Directory,
    /// One file for each table, as pg_dump does it when not asked otherwise: gzip.
    DirectoryGzip,
    /// SQL.
    Plain,
    /// A tar archive.
    Tar,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 5] = [Format::Custom, Format::Directory, Format::DirectoryGzip, Format::Plain, Format::Tar];

    fn options(self) -> &'static [&'static str] {
        match self {
            Format::Custom => &["-Fc", "-Z0"],
            Format::Directory => &["-Fd", "-Z0"],
            Format::DirectoryGzip => &["-Fd"],
            Format::Plain => &["-Fp"],
            Format::Tar => &["-Ft"],
        }
    }

    /// The name of a dump of this format.
    pub fn file_name(self) -> &'static str {
        match self {
            Format::Custom => "dump.custom",
            Format::Directory => "dump.dir",
            Format::DirectoryGzip => "dump.dir-gzip",
            Format::Plain => "dump.sql",
            Format::Tar => "dump.tar",
        }
    }
}

/// Returns where Debian keeps the server's programs.
pub fn programs() -> PathBuf {
    let dir = PathBuf::from("/usr/lib/postgresql/15/bin");
    assert!(dir.join("initdb").exists(), "PostgreSQL 15 is missing: run tests/run");
    dir
}
