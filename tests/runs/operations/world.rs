//! A machine to type in: a root file system of its own in a mount namespace of its own, with this machine's `/usr` and a
//! copy of its `/etc`, so that every path of the pages is used as it stands and nothing of it is left afterwards.

use bakfs_testing::mariadb::Mariadb;
use bakfs_testing::postgres::Postgres;
use bakfs_testing::process::{Outcome, run, tool};
use bakfs_testing::servers::Server;
use bakfs_testing::{cli, need_root, write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folders a Debian system has, with their modes.
const FOLDERS: [(&str, u32); 26] = [
    ("usr", 0o755),
    ("dev", 0o755),
    ("proc", 0o755),
    ("sys", 0o755),
    ("run", 0o755),
    ("run/postgresql", 0o755),
    ("run/mysqld", 0o755),
    ("run/sshd", 0o755),
    ("tmp", 0o1777),
    ("root", 0o700),
    ("home", 0o755),
    ("home/anna", 0o755),
    ("srv", 0o755),
    ("mnt", 0o755),
    ("mnt/history", 0o755),
    ("mnt/newdisk", 0o755),
    ("opt", 0o755),
    ("var", 0o755),
    ("var/backups", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/lib/postgresql", 0o755),
    ("var/lib/mysql", 0o755),
    ("var/log", 0o755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
];

/// Of a shell that has typed lines: its variables, its options and its folder, for the next line.
const SHELL: &str = "run/shell-of-the-test";

/// The world; its mounts and processes end with it.
pub struct World {
    base: PathBuf,
    /// Its PostgreSQL server, at the socket where clients look for it.
    pub postgres: Option<Postgres>,
    /// Its MariaDB server, likewise.
    pub mariadb: Option<Mariadb>,
    /// A server far away.
    pub far: Option<Server>,
    /// What a chapter wants to remember.
    pub notes: Vec<String>,
}

fn mount(args: &[&str], source: &Path, target: &Path) {
    tool("mount", args.iter().map(Path::new).chain([source, target])).expect(0);
}

impl World {
    /// Makes a world for this thread and the programs it starts.
    pub fn new() -> World {
        need_root();
        // SAFETY: it changes what this thread and its children see mounted; descriptors stay as they are.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
        tool("mount", ["--make-rprivate", "/"]).expect(0);
        let base = tempfile::Builder::new().prefix("bakfs-world-").tempdir().unwrap().keep();
        let world = World { base, postgres: None, mariadb: None, far: None, notes: Vec::new() };
        world.furnish();
        world
    }

    fn furnish(&self) {
        mount(&["-t", "tmpfs", "-o", "mode=0755"], Path::new("tmpfs"), &self.base);
        let root = self.base.join("root");
        let layers = ["root", "upper", "work"].map(|name| self.base.join(name));
        layers.iter().for_each(|layer| std::fs::create_dir(layer).unwrap());
        mount(&["-t", "tmpfs", "-o", "mode=0755"], Path::new("tmpfs"), &root);
        for (name, mode) in FOLDERS {
            std::fs::create_dir(root.join(name)).unwrap();
            std::fs::set_permissions(root.join(name), PermissionsExt::from_mode(mode)).unwrap();
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            symlink(Path::new("usr").join(name), root.join(name)).unwrap();
        }
        symlink("/run", root.join("var/run")).unwrap();
        let options = format!("lowerdir=/usr,upperdir={},workdir={}", layers[1].display(), layers[2].display());
        mount(&["-t", "overlay", "-o", &options], Path::new("overlay"), &root.join("usr"));
        for name in ["dev", "dev/pts", "proc", "sys"] {
            mount(&["--bind"], &Path::new("/").join(name), &root.join(name));
        }
        mount(&["-t", "tmpfs", "-o", "mode=1777"], Path::new("tmpfs"), &root.join("dev/shm"));
        tool("cp", ["-a", "/etc"].map(Path::new).iter().chain([&&*root])).expect(0);
        // sudo says so where it cannot find out where it is.
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let hosts = std::fs::read_to_string(root.join("etc/hosts")).unwrap_or_default();
        write(&root.join("etc/hosts"), format!("127.0.0.1 localhost {host}\n{hosts}"));
        for traces in ["etc/bakfs", "etc/cron.d/bakfs"] {
            let _ = std::fs::remove_dir_all(root.join(traces));
            let _ = std::fs::remove_file(root.join(traces));
        }
        // Where a package would put it. A copy would take the memory of a file system in it.
        write(&root.join("usr/bin/bakfs"), "");
        mount(&["--bind"], &cli::program(), &root.join("usr/bin/bakfs"));
    }

    /// Returns where the test finds a path of the world.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.base.join("root").join(inside.trim_start_matches('/'))
    }

    /// Writes a file of the world.
    pub fn write(&self, inside: &str, text: impl AsRef<[u8]>) {
        write(&self.path(inside), text);
    }

    /// Writes a file of the world that only root reads.
    pub fn write_secret(&self, inside: &str, text: &str) {
        self.write(inside, text);
        std::fs::set_permissions(self.path(inside), PermissionsExt::from_mode(0o600)).unwrap();
    }

    /// Writes a program of the world.
    pub fn write_program(&self, inside: &str, text: &str) {
        self.write(inside, text);
        std::fs::set_permissions(self.path(inside), PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// Reads a text of the world.
    #[track_caller]
    pub fn read(&self, inside: &str) -> String {
        std::fs::read_to_string(self.path(inside)).unwrap_or_else(|error| panic!("{inside}: {error}"))
    }

    /// Starts the server of PostgreSQL, whose socket is where clients look for it.
    pub fn start_postgres(&mut self) -> &Postgres {
        let server = Postgres::start();
        mount(&["--bind"], server.socket(), &self.path("/run/postgresql"));
        self.postgres.insert(server)
    }

    /// Starts the server of MariaDB, whose socket is where clients look for it.
    pub fn start_mariadb(&mut self) -> &Mariadb {
        let server = Mariadb::start();
        let socket = server.socket();
        symlink("socket", socket.with_file_name("mysqld.sock")).unwrap();
        mount(&["--bind"], socket.parent().unwrap(), &self.path("/run/mysqld"));
        self.mariadb.insert(server)
    }

    /// Begins anew: a root who has just logged in.
    pub fn log_in(&self) {
        let _ = std::fs::remove_file(self.path(SHELL));
    }

    /// Types a line where the last one has left the shell, which is bash, as root.
    pub fn types(&self, line: &str) -> Outcome {
        self.shell(&[], line)
    }

    /// Types a line at a terminal; what it shows is on standard output.
    pub fn types_at_terminal(&self, line: &str) -> Outcome {
        self.write("/run/line-of-the-test", "stty cols 120\n".to_owned() + &self.script(line));
        self.command(&["script", "-qefc", "bash /run/line-of-the-test", "/dev/null"], line)
    }

    /// Runs the command of a crontab's line as cron does: by sh, in root's home, with little in the environment.
    pub fn runs_by_cron(&self, line: &str) -> Outcome {
        let mut rest = line;
        for _ in 0..6 {
            rest = rest.split_once(' ').unwrap_or_else(|| panic!("{line:?} is no line of a crontab")).1.trim_start();
        }
        self.command(&["env", "-i", "HOME=/root", "PATH=/usr/bin:/bin", "sh", "-c", &format!("cd; {rest}")], line)
    }

    /// Runs what the page does not say, which must succeed: it returns what was said.
    #[track_caller]
    pub fn does(&self, line: &str) -> String {
        self.shell(&["LC_ALL=C.UTF-8"], line).expect(0).text()
    }

    fn script(&self, line: &str) -> String {
        format!(
            "if [ -e /{SHELL} ]; then . /{SHELL}; else cd; fi\nset -a\n{line}\nstatus=$?\nset +a\n\
             {{ export -p; set +o; printf 'cd %q\\n' \"$PWD\"; }} >/{SHELL}\nexit $status\n"
        )
    }

    fn shell(&self, variables: &[&str], line: &str) -> Outcome {
        let script = self.script(line);
        let words: Vec<&str> = ["env"].iter().chain(variables).copied().chain(["bash", "-c", &*script]).collect();
        self.command(&words, line)
    }

    fn command(&self, words: &[&str], line: &str) -> Outcome {
        let mut command = Command::new("chroot");
        command.arg(self.base.join("root")).args(words).env_clear().current_dir("/");
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.envs([("HOME", "/root"), ("USER", "root"), ("LOGNAME", "root"), ("TZ", "UTC"), ("LANG", "C.UTF-8")]);
        let start = std::time::Instant::now();
        let mut outcome = run(command);
        println!("{:.2?} {line}", start.elapsed());
        outcome.line = line.to_owned();
        outcome
    }
}

impl Drop for World {
    fn drop(&mut self) {
        (self.postgres, self.mariadb, self.far) = (None, None, None);
        let here = std::fs::read_link("/proc/thread-self/ns/mnt").ok();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            if pid != std::process::id()
                && here.is_some()
                && std::fs::read_link(entry.path().join("ns/mnt")).ok() == here
            {
                let _ = tool("kill", ["-KILL".to_owned(), pid.to_string()]);
            }
        }
        // Never by a walk: this machine's /dev and /usr are mounted below.
        let is_gone = tool("umount", [Path::new("-l"), &self.base]).code == 0;
        if is_gone {
            let _ = std::fs::remove_dir(&self.base);
        }
    }
}
