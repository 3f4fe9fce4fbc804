//! The processes of a server: they end with their guard, and with the test however it ends.

use super::super::{SOON, until};
use std::ffi::OsString;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A process, with those it starts, that listens at a port of 127.0.0.1.
pub struct Daemon {
    port: u16,
    line: Vec<OsString>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    /// Describes a process; what it says goes to a file of the folder.
    pub fn new<S: Into<OsString>>(dir: &Path, port: u16, line: impl IntoIterator<Item = S>) -> Daemon {
        super::super::need_root();
        let log = dir.join(format!("{port}.log"));
        Daemon { port, line: line.into_iter().map(Into::into).collect(), environment: Vec::new(), log, child: None }
    }

    /// Adds a variable of the process.
    pub fn with(mut self, name: &str, value: &str) -> Daemon {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts the process, in a namespace of process ids of its own: when its first process is killed, all are. That
    /// is a shell, because a process that changes its user loses the signal of its parent's death (prctl(2)).
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "it runs");
        until(&format!("port {} is free", self.port), SOON, || is_free(self.port));
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child=KILL", "--"]);
        command.args(["/bin/sh", "-c", "\"$@\"; exit $?", "sh"]);
        command.args(&self.line).envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap_or_else(|e| panic!("{:?}: {e}", self.line)));
    }

    /// Waits until the port takes connections.
    pub fn wait(&mut self) {
        until(&format!("{:?} listens", self.line[0]), SOON, || {
            let child = self.child.as_mut().expect("it was started");
            if let Some(status) = child.try_wait().unwrap() {
                let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                panic!("{:?} ended with {status}:\n{said}", self.line);
            }
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
        });
    }

    /// Kills the process and those it has started.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Returns a port nobody listens at, below those the kernel gives to outgoing connections (net.ipv4.ip_local_port_range).
pub fn free_port() -> u16 {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).unwrap();
    let mut dice = super::super::Dice::new(u64::from_le_bytes(bytes));
    (0..1000).map(|_| 12000 + dice.below(20000) as u16).find(|port| is_free(*port)).expect("a port is free")
}

/// Returns a program `tests/run` has installed for the tests alone.
pub fn program(path: &str) -> PathBuf {
    let base = match std::env::var_os("BAKFS_TEST_SERVERS") {
        Some(base) => PathBuf::from(base),
        None => PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/bakfs-test-servers"),
    };
    let program = base.join(path);
    assert!(program.exists(), "{} is missing: tests/run installs it", program.display());
    program
}

/// Lets servers that run as users of their own into a folder.
pub fn let_others_enter(dir: &Path) {
    std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
}
