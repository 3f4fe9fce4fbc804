//! How programs connect: what option files say of that, in a file of our own, and nothing else of what they say. To
//! programs that run in a container it is handed through a pipe.

use super::client::find;
use super::option_files;
use crate::database::local::Temporary;
use crate::error::{Context, Result};
use crate::process::{Account, Program};
use crate::settings::exec::Exec;
use crate::settings::file::Mysql;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use zeroize::Zeroizing;

/// The groups of option files that a dump program reads, of MySQL's and of MariaDB's.
const GROUPS: [&str; 5] = ["client", "client-server", "client-mariadb", "mysqldump", "mariadb-dump"];
/// Options of option files that say how to connect, and no word of what is dumped. What begins with `ssl` or `tls` does
/// too.
const CONNECTION: [&str; 18] = [
    "user",
    "password",
    "host",
    "port",
    "socket",
    "protocol",
    "plugin-dir",
    "default-auth",
    "connect-timeout",
    "bind-address",
    "compress",
    "compression-algorithms",
    "zstd-compression-level",
    "get-server-public-key",
    "server-public-key-path",
    "enable-cleartext-plugin",
    "max-allowed-packet",
    "net-buffer-length",
];
/// What Debian and others write for everybody, and what is so anyway.
const HARMLESS: [&str; 4] = ["quick", "quote-names", "opt", "default-character-set"];
/// Variables that would decide where programs connect, or which option files they read.
pub const ENVIRONMENT: [&str; 9] = [
    "MYSQL_HOST",
    "MYSQL_TCP_PORT",
    "MYSQL_UNIX_PORT",
    "MYSQL_PWD",
    "MYSQL_GROUP_SUFFIX",
    "MARIADB_GROUP_SUFFIX",
    "MYSQL_HOME",
    "MARIADB_HOME",
    "MYSQL_TEST_LOGIN_FILE",
];

/// What hands the first bytes of its input, as many as its first argument says, to a program as its option file, and
/// the rest as its input: option files are read first. Neither an argument nor a variable nor a file has them (a
/// here-document is a file in some shells). dd(1) reads no byte more than it is told to, as programs with buffers do.
const HANDED_IN: &str = "\
len=$1
shift
exec 4<&0
dd bs=1 count=\"$len\" <&4 2>/dev/null | { exec 3<&0 0<&4 4<&-; exec \"$@\"; }
";

/// What says how to connect, and nothing else; a file is gone when dropped.
#[derive(Clone)]
pub struct Connection {
    options: Options,
    /// The socket it names.
    pub socket: Option<PathBuf>,
    /// Whether it leads elsewhere than to the socket of this machine.
    pub is_elsewhere: bool,
    /// What else option files say, which is left aside.
    pub left_aside: Vec<String>,
}

/// Where the options of a connection are.
#[derive(Clone)]
enum Options {
    /// In a file of a folder of its own.
    Kept(Arc<TempDir>),
    /// With whom starts programs.
    Handed(Arc<Zeroizing<String>>),
}

/// The file's name.
const FILE: &str = "connection.cnf";

impl Connection {
    /// Reads what option files say of a connection: the machine's, that of the account, and `option-file`.
    pub fn read(settings: &Mysql, account: Option<&Account>, client: &Path, temporary: &Temporary) -> Result<Self> {
        let told = options(settings, account, client)?;
        let (kept, others): (Vec<&str>, Vec<&str>) =
            told.iter().map(String::as_str).partition(|option| is_of_connection(option));
        let value =
            |name: &str| kept.iter().rev().find(|option| name_of(option) == name).map(|option| value_of(option));
        let socket = value("socket").flatten().map(PathBuf::from);
        let is_local = value("host").flatten().is_none_or(|host| host == "localhost");
        let is_elsewhere =
            !is_local || value("protocol").flatten().is_some_and(|it| !it.eq_ignore_ascii_case("socket"));
        let is_told = |option: &&&str| !HARMLESS.contains(&&*name_of(option));
        let left_aside = others.iter().filter(is_told).map(|option| option.to_string()).collect();
        let text = Zeroizing::new(written(&kept));
        if !settings.exec.is_none() {
            let options = Options::Handed(Arc::new(text));
            return Ok(Connection { options, socket, is_elsewhere, left_aside });
        }
        let folder = temporary.make(account)?;
        let path = folder.path().join(FILE);
        let writing = || format!("Cannot write the options of a connection to {}", path.display());
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path).context(writing)?;
        file.write_all(text.as_bytes()).context(writing)?;
        if let Some(account) = account {
            chown(&path, Some(account.uid), Some(account.gid)).context(writing)?;
        }
        Ok(Connection { options: Options::Kept(Arc::new(folder)), socket, is_elsewhere, left_aside })
    }

    /// Makes a program that connects by it, and reads no other option file; `exec` runs it.
    pub fn program(&self, path: &Path, exec: &Exec) -> Program {
        // The option must be the first.
        match &self.options {
            Options::Kept(folder) => {
                let mut argument = std::ffi::OsString::from("--defaults-file=");
                argument.push(folder.path().join(FILE));
                Program::new([path.as_os_str()]).arg(argument)
            }
            Options::Handed(text) => {
                let mut program = Program::new([path.as_os_str()]).arg("--defaults-file=/dev/fd/3");
                let (handed_in, len) = (["sh", "-c", HANDED_IN, "bakfs"], text.len().to_string());
                program.exec = exec.words();
                program.exec.extend(handed_in.into_iter().chain([&*len]).map(Into::into));
                program.input = Some(text.as_bytes().to_vec().into());
                program
            }
        }
    }
}

/// Returns what option files say to a dump program: asked of the program that prints it, or read where there is none.
fn options(settings: &Mysql, account: Option<&Account>, client: &Path) -> Result<Vec<String>> {
    let named = settings.option_file.as_deref();
    if !settings.exec.is_none() {
        // Those of this machine are not meant.
        return option_files::read("", None, named, &GROUPS);
    }
    let ask = |path: &Path, arguments: &[&str], file: Option<&Path>| {
        let mut program = Program::new([path.as_os_str()]).env("LC_ALL", "C");
        program.withheld = ENVIRONMENT.map(Into::into).to_vec();
        if let Some(file) = file {
            let mut argument = std::ffi::OsString::from("--defaults-extra-file=");
            argument.push(file);
            program = program.arg(argument);
        }
        program.account = account.cloned();
        program.timeout = Some(Duration::from_secs(60));
        arguments.iter().fold(program, |program, argument| program.arg(argument)).answer()
    };
    let bin_dir = settings.bin_dir.as_deref();
    let Ok(path) = find(&["my_print_defaults"], bin_dir).or_else(|_| find(&["my_print_defaults"], None)) else {
        let help = ask(client, &["--no-defaults", "--help"], None)?;
        return option_files::read(&help, account, named, &GROUPS);
    };
    // MySQL's hides passwords unless it is told otherwise; MariaDB's does not know that option.
    let shows = ask(&path, &["--help"], None)?.contains("--show");
    let arguments: Vec<&str> = shows.then_some("--show").into_iter().chain(GROUPS).collect();
    Ok(ask(&path, &arguments, named)?.lines().map(str::to_string).collect())
}

/// Returns an option's name, as programs understand it.
fn name_of(option: &str) -> String {
    let name = option.trim_start_matches('-').split('=').next().unwrap_or_default().replace('_', "-");
    name.strip_prefix("loose-").map_or(name.clone(), str::to_string)
}

fn value_of(option: &str) -> Option<String> {
    option.split_once('=').map(|(_, value)| value.to_string())
}

/// Returns whether an option says how to connect. Option files may shorten names.
fn is_of_connection(option: &str) -> bool {
    let name = name_of(option);
    let negated = ["skip-", "disable-", "enable-"].into_iter().find_map(|prefix| name.strip_prefix(prefix));
    let name = if CONNECTION.contains(&&*name) { &*name } else { negated.unwrap_or(&name) };
    name.starts_with("ssl")
        || name.starts_with("tls")
        || CONNECTION.iter().any(|known| *known == name || name.len() >= 4 && known.starts_with(name))
}

/// Writes options as an option file has them (<https://mariadb.com/kb/en/configuring-mariadb-with-option-files/>).
fn written(options: &[&str]) -> String {
    let mut text = String::from("[client]\n");
    for option in options {
        let option = option.trim_start_matches('-');
        match option.split_once('=') {
            None => text.push_str(option),
            Some((name, value)) => {
                text.push_str(name);
                text.push_str("=\"");
                for c in value.chars() {
                    match c {
                        '\\' | '"' => text.extend(['\\', c]),
                        '\t' => text.push_str("\\t"),
                        '\n' => text.push_str("\\n"),
                        '\u{8}' => text.push_str("\\b"),
                        '\r' => text.push_str("\\r"),
                        c => text.push(c),
                    }
                }
                text.push('"');
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_files_say_how_to_connect_and_nothing_else() {
        let kept =
            ["--user=u", "--pass=p", "--max_allowed_packet=1G", "--ssl-ca=/x", "--skip-ssl", "--loose-tls-version=1"];
        assert!(kept.into_iter().all(is_of_connection));
        let others =
            ["--no-data", "--where=0", "--databases", "--skip-triggers", "--p=1", "--force", "--database=x", "--"];
        assert!(!others.into_iter().any(is_of_connection));
        assert_eq!(written(&["--password=a\nhost=b"]), "[client]\npassword=\"a\\nhost=b\"\n");
        let text = written(&["--password=a#b%c\"d\\e f", "--skip-ssl"]);
        assert_eq!(text, "[client]\npassword=\"a#b%c\\\"d\\\\e f\"\nskip-ssl\n");
    }
}
