//! A container without an engine: a file system that only those see who are in it, and a program `docker` that goes
//! there, takes no variable along, and has some that lead astray.

use super::need_root;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where in a container the folder of a server is. Outside it there is nothing.
pub const INSIDE: &str = "/media/server";

/// A running container; it ends when dropped.
pub struct Container {
    dir: tempfile::TempDir,
    inside: Child,
}

impl Container {
    /// Makes one with a server's folder at [`INSIDE`].
    pub fn of(server: &Path) -> Container {
        need_root();
        let dir = tempfile::tempdir().unwrap();
        let line = format!(
            "mount -t tmpfs inside /media && mkdir {INSIDE} && mount --bind \"$0\" {INSIDE} && echo ready && \
             exec sleep infinity"
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &line]).arg(server);
        let mut inside = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(inside.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n");
        let container = Container { inside, dir };
        let pid = container.inside.id();
        let script = format!(
            "#!/bin/sh\necho \"$@\" >>{}\n[ \"$1 $2 $3\" = 'exec -i db' ] || exit 125\nshift 3\n\
             exec nsenter --mount=/proc/{pid}/ns/mnt -- env -i PATH=/usr/bin:/bin PGPORT=1 PGHOST=nowhere.invalid MYSQL_PWD=x \"$@\"\n",
            container.log().display()
        );
        std::fs::write(container.engine(), script).unwrap();
        std::fs::set_permissions(container.engine(), PermissionsExt::from_mode(0o755)).unwrap();
        container
    }

    /// Returns the program that stands for `docker`; its container's name is `db`.
    pub fn engine(&self) -> PathBuf {
        self.dir.path().join("docker")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Returns the line of a configuration.
    pub fn exec(&self) -> String {
        format!("exec = [\"{}\", \"exec\", \"-i\", \"db\"]\n", self.engine().display())
    }

    /// Returns all arguments that the engine was given.
    pub fn arguments(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // It is this process's own.
        let _ = self.inside.kill();
        let _ = self.inside.wait();
    }
}
