//! Runs commands with a time limit, without pipes: a daemon that a command leaves behind can never
//! make the test wait for the end of an inherited pipe.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// No single command of a test takes longer, on any machine.
pub const LIMIT: Duration = Duration::from_secs(900);

/// What a command answered.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, as text.
    pub stderr: String,
    /// The command line, for messages.
    pub line: String,
}

impl Outcome {
    /// Returns standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Returns itself when the exit code is as expected; panics with everything said otherwise.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code of {self}");
        self
    }

    /// Returns itself when the command was refused (1 failed, 2 usage) with a message.
    #[track_caller]
    pub fn refused(self) -> Self {
        assert!(matches!(self.code, 1 | 2), "should be refused with 1 or 2: {self}");
        assert!(!self.stderr.trim().is_empty(), "refused without a word: {self}");
        assert!(!self.stderr.contains("panicked"), "a panic is no message: {self}");
        self
    }

    /// Asserts that standard error contains a text.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "should name {text:?}: {self}");
        self
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stdout = self.text();
        let head: String = stdout.chars().take(4000).collect();
        write!(f, "`{}` -> {}\nstdout: {head}\nstderr: {}", self.line, self.code, self.stderr)
    }
}

/// A started command whose output goes to unnamed files.
pub struct Running {
    child: Child,
    stdout: File,
    stderr: File,
    line: String,
}

/// Starts a command; its standard input is empty unless the caller set one with `stdin_set`.
pub fn start(mut command: Command, stdin_set: bool) -> Running {
    let stdout = tempfile::tempfile().unwrap();
    let stderr = tempfile::tempfile().unwrap();
    let line = describe(&command);
    command.stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
    if !stdin_set {
        command.stdin(Stdio::null());
    }
    let child = command.spawn().unwrap_or_else(|e| panic!("`{line}`: {e}"));
    Running { child, stdout, stderr, line }
}

impl Running {
    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns whether the command has ended.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Kills the command (SIGKILL).
    pub fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// Waits for the end, at most `limit`; then kills it and panics.
    pub fn finish_within(mut self, limit: Duration) -> Outcome {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > limit {
                let _ = self.child.kill();
                panic!("`{}`: no end within {limit:?}", self.line);
            }
            std::thread::sleep(Duration::from_millis(3));
        };
        use std::os::unix::process::ExitStatusExt;
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        let stderr = String::from_utf8_lossy(&slurp(&mut self.stderr)).into_owned();
        Outcome { code, stdout: slurp(&mut self.stdout), stderr, line: self.line }
    }

    /// Waits for the end.
    pub fn finish(self) -> Outcome {
        self.finish_within(LIMIT)
    }
}

/// Runs a command to its end.
pub fn run(command: Command) -> Outcome {
    start(command, false).finish()
}

/// Returns a command that runs one test of this executable once more, in a process of its own; `module` is the caller's
/// `module_path!()`.
pub fn test_again(module: &str, test: &str) -> Command {
    let inside = module.split_once("::").map_or_else(String::new, |(_, inside)| format!("{inside}::"));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("{inside}{test}"), "--nocapture"]);
    command
}

/// Runs a tool in the C locale and UTC, and returns what it answered.
pub fn tool<S: AsRef<std::ffi::OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> Outcome {
    let mut command = Command::new(name);
    command.args(args).env("LC_ALL", "C").env("TZ", "UTC");
    run(command)
}

fn slurp(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn describe(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

/// Returns the most memory any child of this process has had.
pub fn most_memory_bytes() -> u64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the call fills the structure it is given.
    let done = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) };
    assert_eq!(done, 0);
    // SAFETY: zeroed above, and filled by the call that succeeded.
    let usage = unsafe { usage.assume_init() };
    usage.ru_maxrss as u64 * 1024
}
