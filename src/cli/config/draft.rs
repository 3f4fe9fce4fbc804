//! The text of a first configuration. A line that begins with `#` and no space is one to be used by taking the sign
//! away: each is right by itself, and all are together.

use crate::machine::{Cluster, MysqlServer};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Further SQLite databases are not written down.
const MAX_SQLITE: usize = 50;

/// What a configuration is made for.
#[derive(Debug, Default)]
pub struct Draft {
    /// The repository.
    pub repo: String,
    /// The profile's name.
    pub name: &'static str,
    /// Its sources.
    pub sources: Vec<PathBuf>,
    /// The clusters that were found.
    pub postgresql: Vec<Cluster>,
    /// The server that was found.
    pub mysql: Option<MysqlServer>,
    /// The databases that were found.
    pub sqlite: Vec<PathBuf>,
    /// The web roots that were found.
    pub web_roots: Vec<PathBuf>,
}

impl Draft {
    /// Makes one of a user's home.
    pub fn of_home(home: PathBuf) -> Self {
        Draft { name: "home", sources: vec![home], ..Draft::default() }
    }
}

/// Returns a text as a TOML string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            // A String takes all that is written to it.
            _ if char.is_control() => drop(write!(quoted, "\\u{:04X}", u32::from(char))),
            _ => quoted.push(char),
        }
    }
    quoted + "\""
}

fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

fn list(paths: &[PathBuf]) -> String {
    format!("[{}]", paths.iter().map(|it| path(it)).collect::<Vec<_>>().join(", "))
}

/// Writes the configuration.
pub fn draft(draft: &Draft) -> String {
    let mut text = head(draft);
    profile(&mut text, draft);
    databases(&mut text, draft);
    text
}

fn head(draft: &Draft) -> String {
    let example = draft.web_roots.first().map_or_else(|| "/srv/shop".into(), |root| root.to_string_lossy());
    format!(
        r#"# The configuration of bakfs. `bakfs config show` tells what it means with everything that profiles inherit,
# `bakfs config check` tests all of it. Further profiles may be files of their own in `profiles.d`.
#
# A line that begins with `#` and no space is an example: take the sign away to use it.

# Where backups are kept: a folder, or a URL as s3://bucket/prefix or sftp://user@host/path. A backup on the same disk
# does not survive the disk: use another machine, or a second repository as below.
repo = {repo}
# The passphrase's file, if the repository has one; without it the key file of this machine is used.
#password-file = "/etc/bakfs/password"

# A second repository; a profile names it by `repository = "far"`.
#repository.far = {{ repo = "sftp://backup@backup.example.org/srv/bakfs", password-file = "/etc/bakfs/far-password" }}

# Metrics for Prometheus's node exporter.
#metrics-file = "/var/lib/prometheus/node-exporter/bakfs.prom"

# A web root by itself, every hour; its database can be a profile of its own too.
#profile.web = {{ sources = [{example}], schedule = ["hourly"], keep = {{ hourly = 24, daily = 7 }} }}

# When scheduled runs begin: `bakfs schedule install` makes timers of it.
[schedule]
daily = "05:15"
#hourly = ":05"
#weekly = "sunday 05:45"
#monthly = "1 06:15"
#jitter = "5min"

# What all profiles have that say nothing else.
[defaults]
schedule = ["daily"]
# What is kept: the same rules as the options of `bakfs forget`.
keep = {{ daily = 14, weekly = 8, monthly = 12, yearly = 2 }}
# Left out, beside the built-in list (`bakfs config show`).
#exclude = ["*.tmp", "node_modules/", "/var/lib/docker/overlay2"]
# The age of the last success from which `bakfs status` calls a profile overdue.
#max-age = "2d"
# The part of what is stored that runs verify, and how often; how often they give back room.
#check = {{ every = "1d", share = "4%" }}
#prune = {{ every = "7d" }}
# Who is told when something is wrong; a URL here makes this file a secret (mode 0600).
#notify.mail = "root"
#notify.webhook = "https://chat.example.org/hooks/secret"
#notify.ping-start = "https://ping.example.org/secret/start"
#notify.ping-success = "https://ping.example.org/secret"
#notify.ping-failure = "https://ping.example.org/secret/fail"
"#,
        repo = quoted(&draft.repo),
        example = quoted(&example),
    )
}

fn profile(text: &mut String, draft: &Draft) {
    let name = draft.name;
    *text += &format!(
        r#"
# Everything, with what to leave out named.
[profile.{name}]
sources = {sources}
# Runs beside the daily ones, each a history of its own.
#weekly = {{ keep = {{ last = 8 }} }}
#shutdown = {{ keep = {{ last = 3 }} }}
# A site in maintenance mode meanwhile: `finally` runs always, also after a run that was killed.
#hooks.before = ["/usr/local/bin/maintenance", "on"]
#hooks.finally = ["/usr/local/bin/maintenance", "off"]
#hooks.on-failure = "logger -p user.err backup of $BAKFS_PROFILE has failed"
#hooks.timeout = "10min"
# Anything else that can print itself.
#command = [{{ name = "packages.txt", run = ["dpkg-query", "--list"] }}]
"#,
        sources = list(&draft.sources)
    );
    if draft.postgresql.iter().all(|cluster| !is_used(cluster)) {
        *text += "# A PostgreSQL cluster, all databases of it.\n#postgresql = [{ name = \"main\", port = 5432 }]\n";
    }
    if draft.mysql.is_none() {
        *text += "# A MySQL or MariaDB server, all databases of it; the option file holds user and password.\n\
                  #mysql = [{ option-file = \"/root/.my.cnf\" }]\n";
    }
    if draft.sqlite.is_empty() {
        *text += "# SQLite databases, copied while they are written to.\n\
                  #sqlite = [{ path = \"/srv/*/data/*.sqlite3\" }]\n";
    }
}

/// Returns whether a cluster is there to be dumped: one that nobody starts has files that can be copied as they are.
fn is_used(cluster: &Cluster) -> bool {
    cluster.has_socket || cluster.is_automatic
}

fn databases(text: &mut String, draft: &Draft) {
    let name = draft.name;
    let used: Vec<_> = draft.postgresql.iter().filter(|cluster| is_used(cluster)).collect();
    for cluster in &draft.postgresql {
        let version = cluster.version.as_ref().map_or(String::new(), |version| format!(" {version}"));
        if !is_used(cluster) {
            *text +=
                &format!("\n# The cluster{version} {} is never started: it is not dumped.\n", quoted(&cluster.name));
            continue;
        }
        // Two versions may each have a cluster `main`.
        let is_alone = used.iter().filter(|other| other.name == cluster.name).count() == 1;
        let unique = match &cluster.version {
            Some(version) if !is_alone => format!("{version}-{}", cluster.name),
            _ => cluster.name.clone(),
        };
        let state = if cluster.has_socket { "running" } else { "not running now" };
        *text += &format!(
            "\n# PostgreSQL{version}, {state}: all databases.\n[[profile.{name}.postgresql]]\nname = {}\nport = {}\n\
             #exclude = [\"scratch\"]\n#format = \"directory\"\n#jobs = 4\n",
            quoted(&unique),
            cluster.port
        );
    }
    if let Some(server) = &draft.mysql {
        let state = if server.socket.is_some() { "running" } else { "not running now" };
        *text += &format!("\n# MySQL or MariaDB, {state}: all databases.\n[[profile.{name}.mysql]]\nname = \"main\"\n");
        if let Some(socket) = &server.socket {
            *text += &format!("socket = {}\n", path(socket));
        }
        *text += "# User and password, where root is not let in by the socket (mode 0600).\n\
                  #option-file = \"/root/.my.cnf\"\n#exclude = [\"scratch\"]\n";
    }
    let known: Vec<_> = draft.sqlite.iter().filter(|path| path.to_str().is_some()).collect();
    if !known.is_empty() {
        *text += "\n# SQLite databases, copied while they are written to.\n";
    }
    for database in known.iter().take(MAX_SQLITE) {
        *text += &format!("[[profile.{name}.sqlite]]\npath = {}\n", path(&glob_free(database)));
    }
    if known.len() > MAX_SQLITE {
        *text += &format!("# {} more were found: a `path` may be a glob.\n", known.len() - MAX_SQLITE);
    }
}

/// Returns a path as one that is no glob.
fn glob_free(path: &Path) -> PathBuf {
    crate::machine::reproducible::pattern(path).map_or_else(|| path.to_path_buf(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn drafts() -> Vec<Draft> {
        let cluster = |version: &str, name: &str, port, has_socket, is_automatic| Cluster {
            version: Some(version.into()),
            name: name.into(),
            port,
            has_socket,
            is_automatic,
        };
        let postgresql = vec![
            cluster("13", "old", 5434, false, false),
            cluster("15", "main", 5432, true, true),
            cluster("16", "main", 5433, false, true),
        ];
        let full = Draft {
            repo: "/srv/\"re\\po\"".into(),
            name: "machine",
            sources: vec!["/".into()],
            postgresql,
            mysql: Some(MysqlServer { socket: Some("/run/mysqld/mysqld.sock".into()) }),
            sqlite: (0..60).map(|number| PathBuf::from(format!("/srv/{number}\n\"[x].db"))).collect(),
            web_roots: vec!["/var/www/ht\"ml".into()],
        };
        let empty = Draft { repo: "/r".into(), ..Draft::of_home("/home/ann".into()) };
        vec![full, empty]
    }

    fn read(text: &str) -> Settings {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bakfs.toml");
        std::fs::write(&path, text).unwrap();
        Settings::read(&path).unwrap_or_else(|error| panic!("{}\n{text}", error.chain()))
    }

    #[test]
    fn a_draft_says_what_was_found() {
        let [full, empty] = &drafts()[..] else { panic!("two drafts") };
        let settings = read(&draft(full));
        let machine = &settings.profiles["machine"];
        assert_eq!(settings.default_repository.repo, "/srv/\"re\\po\"");
        assert_eq!(machine.sources, [PathBuf::from("/")]);
        let clusters: Vec<_> = machine.postgresql.iter().map(|it| (it.name.clone().unwrap(), it.port)).collect();
        assert_eq!(clusters, [("15-main".to_string(), Some(5432)), ("16-main".to_string(), Some(5433))]);
        assert_eq!(machine.mysql[0].socket, Some("/run/mysqld/mysqld.sock".into()));
        assert_eq!(machine.sqlite.len(), MAX_SQLITE);
        assert_eq!(machine.sqlite[7].path, PathBuf::from("/srv/7\n\"\\[x\\].db"));
        assert!(machine.keep.is_some() && !machine.schedule.is_empty());
        assert_eq!(read(&draft(empty)).profiles["home"].sources, [PathBuf::from("/home/ann")]);
    }

    #[test]
    fn every_example_is_right_by_itself_and_all_are_together() {
        for case in drafts() {
            let text = draft(&case);
            let is_example = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && *line != "#";
            let examples: Vec<&str> = text.lines().filter(is_example).collect();
            assert!(examples.len() > 20, "{}", examples.len());
            for example in &examples {
                read(&text.replace(example, &example[1..]));
            }
            let all: String =
                text.lines().map(|line| if is_example(&line) { &line[1..] } else { line }.to_string() + "\n").collect();
            let settings = read(&all);
            assert_eq!(settings.profiles.len(), 2);
            assert_eq!(settings.repositories.len(), 1);
            assert!(settings.profiles.values().any(|profile| profile.hooks.finally.is_some()));
        }
    }
}
