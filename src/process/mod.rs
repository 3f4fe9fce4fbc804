//! Running other programs: in a session of their own, as another user, with a time limit, and their words kept.

mod conversation;
pub mod program;

use crate::accounts::{self, User};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::quantity::counted;
use crate::trust::{descriptors, environment, file};
pub use conversation::Conversation;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::ffi::{CString, OsStr, OsString};
use std::io::{Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// What a program says on standard error is kept up to this length: its beginning and its end.
const KEPT_BYTES: usize = 32 << 10;
/// What a program has left running in the background may hold its standard error for ever: after its end its words are
/// waited for no longer than this.
const WORDS_LIMIT: Duration = Duration::from_secs(2);
/// What of the environment programs of other users are told.
const PASSED_ON: [&str; 6] = ["PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "TERM"];
/// What a program answers on standard output, where it is asked something.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

/// What ends the programs of one job, whichever of its threads has started them. Clones end the same programs.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Mutex<Groups>>);

/// The programs that run, each in a session and so in a group of its own.
#[derive(Debug, Default)]
struct Groups {
    is_stopped: bool,
    groups: BTreeSet<u32>,
}

impl Stop {
    /// Kills all programs it is of, and lets no other one start.
    pub fn stop(&self) {
        let mut running = self.0.lock();
        running.is_stopped = true;
        running.groups.iter().for_each(|group| kill_group(*group));
    }

    /// Returns whether it has been used.
    pub fn is_stopped(&self) -> bool {
        self.0.lock().is_stopped
    }
}

/// A program that runs; it leaves the list when dropped.
struct Member {
    group: u32,
    stop: Stop,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop.0.lock().groups.remove(&self.group);
    }
}

/// The user another program runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// All groups it is in.
    pub groups: Vec<u32>,
    /// Its home.
    pub home: PathBuf,
}

impl Account {
    /// Looks up an account of this machine.
    pub fn of_name(name: &str) -> Result<Self> {
        let found = accounts::user(name.as_bytes()).context(|| format!("Cannot look up the user `{name}`"))?;
        let User { uid, gid, home } = found.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("There is no user `{name}` on this machine: check the name"))
        })?;
        Ok(Account { name: name.to_string(), uid, gid, groups: groups_of(name, gid), home })
    }
}

/// Returns the groups a user is in: the one they are known by alone where there are more than fit.
fn groups_of(name: &str, gid: u32) -> Vec<u32> {
    let Ok(name) = CString::new(name) else { return vec![gid] };
    let mut groups = vec![0; 1024];
    let mut count = 1024;
    // SAFETY: `groups` has room for `count` numbers (getgrouplist(3)).
    let filled = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &mut count) };
    groups.truncate(if filled < 0 { 0 } else { usize::try_from(count).unwrap_or(0) });
    if groups.is_empty() {
        groups.push(gid);
    }
    groups
}

/// What a program reads. It may be a secret: it is wiped when dropped, and not shown.
#[derive(Clone, Default)]
pub struct Input(Zeroizing<Vec<u8>>);

impl Input {
    /// Adds bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        // A longer one elsewhere would leave the shorter one behind.
        let mut longer = Zeroizing::new(Vec::with_capacity(self.0.len() + bytes.len()));
        longer.extend_from_slice(&self.0);
        longer.extend_from_slice(bytes);
        self.0 = longer;
    }
}

impl From<Vec<u8>> for Input {
    fn from(bytes: Vec<u8>) -> Self {
        Input(Zeroizing::new(bytes))
    }
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Input(..)")
    }
}

/// A program to run.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// The program and its arguments: no secrets, for everyone on the machine sees them.
    pub arguments: Vec<OsString>,
    /// Variables it must not be told.
    pub withheld: Vec<OsString>,
    /// What is added to the environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The user it runs as, if another one.
    pub account: Option<Account>,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// The folder it runs in; `/` without it.
    pub folder: Option<PathBuf>,
    /// What ends it; without one it runs even while its job is being stopped.
    pub stop: Option<Stop>,
    /// What it reads on standard input; nothing without it.
    pub input: Option<Input>,
    /// What runs it elsewhere, with the program and its arguments after it, as `docker exec -i db`: it is told of the
    /// variables of `environment` by env(1).
    pub exec: Vec<OsString>,
}

impl Program {
    /// Makes a program with arguments.
    pub fn new<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Self {
        let arguments = arguments.into_iter().map(|argument| argument.as_ref().to_os_string()).collect();
        Program { arguments, ..Program::default() }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_os_string());
        self
    }

    /// Adds a variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_os_string(), value.as_ref().to_os_string()));
        self
    }

    /// Has something end it.
    pub fn stopped_by(mut self, stop: &Stop) -> Self {
        self.stop = Some(stop.clone());
        self
    }

    /// Returns the program's name for people, with what runs it elsewhere.
    pub fn name(&self) -> String {
        let plain = |word: Option<&OsString>| {
            let path = word.map(Path::new).unwrap_or(Path::new("(nothing)"));
            path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
        };
        match self.exec.first() {
            None => plain(self.arguments.first()),
            exec => format!("{} (run by {})", plain(self.arguments.first()), plain(exec)),
        }
    }

    /// Returns what is run on this machine.
    fn words(&self) -> Vec<OsString> {
        let mut words = self.exec.clone();
        if !(words.is_empty() || self.environment.is_empty() && self.withheld.is_empty()) {
            words.push("env".into());
            self.withheld.iter().for_each(|name| words.extend(["-u".into(), name.clone()]));
            for (name, value) in &self.environment {
                let mut word = name.clone();
                word.push("=");
                word.push(value);
                words.push(word);
            }
        }
        words.extend(self.arguments.iter().cloned());
        words
    }

    fn command(&self) -> Result<Command> {
        if self.arguments.is_empty() {
            return Err(Error::usage("A command is empty: write a program and its arguments"));
        }
        let words = self.words();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        // Only this process is told of our secrets; another user's processes of nothing else either.
        for (name, _) in std::env::vars_os().filter(|(name, _)| environment::is_withheld(name)) {
            command.env_remove(name);
        }
        if self.account.is_some() {
            command.env_clear();
            command.envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        }
        for name in &self.withheld {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().cloned());
        command.current_dir(self.folder.as_deref().unwrap_or(Path::new("/")));
        if let Some(account) = &self.account {
            command.env("HOME", &account.home).env("USER", &account.name).env("LOGNAME", &account.name);
        }
        let account = self.account.clone();
        let set_apart = move || {
            // No terminal that it could type into (TIOCSTI; CVE-2016-2779), and no group of ours.
            rustix::process::setsid()?;
            descriptors::close_on_exec();
            account.as_ref().map_or(Ok(()), become_user)
        };
        // SAFETY: only async-signal-safe system calls are made between fork and exec (setsid, close_range or fcntl,
        // setgroups, setgid, setuid).
        unsafe { command.pre_exec(set_apart) };
        Ok(command)
    }

    /// Returns its standard input: a file in memory, which no one must write on while the program runs, and which a
    /// full disk does not keep from being made.
    fn stdin(&self) -> Result<Stdio> {
        let Some(input) = &self.input else { return Ok(Stdio::null()) };
        let making = || format!("Cannot make the input of {}", self.name());
        let memory = rustix::fs::memfd_create("bakfs-input", rustix::fs::MemfdFlags::CLOEXEC).context(making)?;
        let mut file = std::fs::File::from(memory);
        file.write_all(&input.0).context(making)?;
        file.rewind().context(making)?;
        Ok(file.into())
    }

    /// Refuses what root would run itself and others could change ([`file::require_command`]).
    pub fn refuse_changeable(&self) -> Result<()> {
        match self.account {
            Some(_) => Ok(()),
            // `exec` may lead to another place, and to the same one, as env(1) does.
            None => file::require_command(&self.words()),
        }
    }

    fn spawn(&self, command: &mut Command) -> Result<(Child, Option<Member>)> {
        self.refuse_changeable()?;
        let starting = || match self.exec.first() {
            None => format!("Cannot start {}: is it installed?", self.name()),
            Some(exec) => format!("Cannot start {} (`exec`): is it installed?", exec.to_string_lossy()),
        };
        let Some(stop) = &self.stop else { return Ok((command.spawn().context(starting)?, None)) };
        // Held while it starts, so that a stop misses none.
        let mut running = stop.0.lock();
        if running.is_stopped {
            let message = format!("{} was not started: this run is being ended", self.name());
            return Err(Error::new(ErrorKind::Io, message));
        }
        let child = command.spawn().context(starting)?;
        let group = child.id();
        running.groups.insert(group);
        Ok((child, Some(Member { group, stop: stop.clone() })))
    }

    /// Starts it with its standard output as a stream.
    pub fn stream(&self) -> Result<Output> {
        let mut command = self.command()?;
        command.stdin(self.stdin()?).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (mut child, member) = self.spawn(&mut command)?;
        let words = child.stderr.take().map(listen);
        let guard = self.timeout.map(|limit| Guard::new(child.id(), limit));
        let stdout = child.stdout.take();
        let (name, limit) = (self.name(), self.timeout);
        Ok(Output { name, child: Some(child), stdout, words, guard, limit, _member: member })
    }

    /// Runs it to its end and returns what it printed; fails where it exits with another code than 0.
    pub fn answer(&self) -> Result<String> {
        let mut text = Vec::new();
        let output = self.stream()?;
        let name = output.name.clone();
        let asking = || format!("Cannot read what {name} answers");
        let mut limited = output.take(MAX_ANSWER_BYTES);
        limited.read_to_end(&mut text).map_err(|error| Error::of_read(asking(), error))?;
        if limited.limit() == 0 {
            return Err(Error::new(ErrorKind::Io, format!("{name} answers more than is bounded for")));
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Runs it to its end, and returns how it ended with all it has said, standard output and error together.
    pub fn run(&self) -> Result<(ExitStatus, String)> {
        let (reader, writer) = std::io::pipe().context(|| "Cannot make a pipe".into())?;
        let mut command = self.command()?;
        let other = writer.try_clone().context(|| "Cannot make a pipe".into())?;
        command.stdin(self.stdin()?).stdout(writer).stderr(other);
        let (mut child, _member) = self.spawn(&mut command)?;
        // The command holds the pipe's other ends.
        drop(command);
        let guard = self.timeout.map(|limit| Guard::new(child.id(), limit));
        let words = listen(reader);
        let status = child.wait().context(|| format!("Cannot wait for {}", self.name()))?;
        let words = words.recv_timeout(WORDS_LIMIT).unwrap_or_default();
        if guard.is_some_and(Guard::has_fired) {
            return Err(self.too_long(&words));
        }
        Ok((status, words))
    }

    fn too_long(&self, words: &str) -> Error {
        too_long(&self.name(), self.timeout.unwrap_or_default(), words)
    }
}

fn too_long(name: &str, limit: Duration, words: &str) -> Error {
    let said = if words.trim().is_empty() { String::new() } else { format!("; it said: {}", words.trim()) };
    Error::new(
        ErrorKind::Io,
        format!("{name} did not end within {} and was killed{said}", counted(limit.as_secs(), "second")),
    )
}

fn become_user(account: &Account) -> std::io::Result<()> {
    let done = |result: libc::c_int| if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
    // SAFETY: the list outlives the call, and the numbers are plain values.
    unsafe {
        done(libc::setgroups(account.groups.len(), account.groups.as_ptr()))?;
        done(libc::setgid(account.gid))?;
        done(libc::setuid(account.uid))
    }
}

/// Hears what is said on a stream; it is told when the stream has ended.
fn listen(stream: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, words) = mpsc::channel();
    // Nobody may want to know any more.
    std::thread::spawn(move || sender.send(keep_words(stream)));
    words
}

/// Reads to the end; keeps the beginning and the end of what is long.
fn keep_words(mut stream: impl Read) -> String {
    let mut kept: Vec<u8> = Vec::new();
    let mut left_out = 0;
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => kept.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
        if kept.len() > KEPT_BYTES {
            let surplus = kept.len() - KEPT_BYTES;
            kept.drain(KEPT_BYTES / 2..KEPT_BYTES / 2 + surplus);
            left_out += surplus;
        }
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if left_out == 0 {
        return text(&kept);
    }
    let (first, last) = kept.split_at(KEPT_BYTES / 2);
    format!("{}\n[{} left out]\n{}", text(first), counted(left_out, "byte"), text(last))
}

/// Kills a group of processes when their time is over.
struct Guard {
    end: mpsc::Sender<()>,
    thread: Option<JoinHandle<bool>>,
}

impl Guard {
    fn new(group: u32, limit: Duration) -> Self {
        let (end, ended) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let until = Instant::now() + limit;
            let left = until.saturating_duration_since(Instant::now());
            let fired = ended.recv_timeout(left) == Err(mpsc::RecvTimeoutError::Timeout);
            if fired {
                kill_group(group);
            }
            fired
        });
        Guard { end, thread: Some(thread) }
    }

    /// Ends the watch; returns whether the time was over.
    fn has_fired(mut self) -> bool {
        // A watch that has ended hears nothing.
        let _ = self.end.send(());
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or(false)
    }
}

fn kill_group(group: u32) {
    if let Some(pid) = i32::try_from(group).ok().and_then(rustix::process::Pid::from_raw) {
        // A group that has gone needs no end.
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
}

/// What a program prints, as a stream. The read at its end fails where the program has: so what was read is whole, or
/// known not to be.
pub struct Output {
    name: String,
    child: Option<Child>,
    stdout: Option<ChildStdout>,
    words: Option<mpsc::Receiver<String>>,
    guard: Option<Guard>,
    limit: Option<Duration>,
    _member: Option<Member>,
}

impl Output {
    /// Waits for the program's end.
    fn finish(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        drop(self.stdout.take());
        let status = child.wait().context(|| format!("Cannot wait for {}", self.name))?;
        let words = self.words.take().and_then(|words| words.recv_timeout(WORDS_LIMIT).ok()).unwrap_or_default();
        if self.guard.take().is_some_and(Guard::has_fired) {
            return Err(too_long(&self.name, self.limit.unwrap_or_default(), &words));
        }
        if status.success() {
            if !words.trim().is_empty() {
                tracing::info!("{} said: {}", self.name, words.trim());
            }
            return Ok(());
        }
        Err(failed(&self.name, status, &words))
    }
}

/// Makes the error of a program that has failed, with what it said.
pub fn failed(name: &str, status: ExitStatus, words: &str) -> Error {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "failed".into(),
    };
    let words = words.trim();
    let said = if words.is_empty() { String::new() } else { format!(": {words}") };
    Error::new(ErrorKind::Io, format!("{name} {how}{said}"))
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(stdout) = &mut self.stdout else { return Ok(0) };
        match stdout.read(buffer)? {
            0 if !buffer.is_empty() => match self.finish() {
                Ok(()) => Ok(0),
                Err(error) => Err(std::io::Error::other(error)),
            },
            len => Ok(len),
        }
    }
}

impl Drop for Output {
    /// Ends a program whose output is not wanted any more.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            kill_group(child.id());
            // It was killed.
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> Program {
        Program::new(["/bin/sh", "-c", line])
    }

    #[test]
    fn an_answer_is_whole_or_an_error() {
        assert_eq!(shell("echo yes; echo no >&2").answer().unwrap(), "yes\n");
        let error = shell("echo partly; echo why >&2; exit 3").answer().unwrap_err().chain();
        assert!(error.contains("sh failed with exit code 3: why"), "{error}");
        let error = shell("echo partly; kill -TERM $$").answer().unwrap_err().chain();
        assert!(error.contains("signal 15"), "{error}");
        let error = Program::new(["/nonexistent/tool"]).answer().unwrap_err().chain();
        assert!(error.contains("Cannot start tool: is it installed?"), "{error}");
        assert!(Program::default().answer().is_err());
    }

    #[test]
    fn input_of_any_length_is_read_whole() {
        let mut program = Program::new(["wc", "-c"]);
        assert_eq!(program.answer().unwrap(), "0\n");
        program.input = Some(vec![b'x'; 1 << 20].into());
        assert_eq!(program.answer().unwrap(), "1048576\n");
        assert_eq!(program.run().unwrap().1, "1048576\n");
    }

    #[test]
    fn what_hangs_is_killed_with_all_it_started() {
        let mut program = shell("echo begun; sleep 1000 & sleep 1000");
        program.timeout = Some(Duration::from_millis(200));
        let error = program.run().unwrap_err().chain();
        assert!(error.contains("sh did not end within 0 seconds and was killed; it said: begun"), "{error}");
        let error = program.answer().unwrap_err().chain();
        assert!(error.contains("was killed"), "{error}");
        // What is left behind is not waited for.
        assert_eq!(shell("echo yes; sleep 1000 >/dev/null &").answer().unwrap(), "yes\n");
    }

    #[test]
    fn a_stop_ends_the_programs_of_one_job_and_no_others() {
        let (stop, other) = (Stop::default(), Stop::default());
        let waiting = |stop: &Stop| shell("echo begun; exec sleep 1000").stopped_by(stop).stream().unwrap();
        let (mut stopped, mut running) = (waiting(&stop), waiting(&other));
        let mut begun = [0; 6];
        for output in [&mut stopped, &mut running] {
            output.read_exact(&mut begun).unwrap();
            assert_eq!(&begun, b"begun\n");
        }
        stop.clone().stop();
        let ended = stopped.read(&mut begun).unwrap_err().to_string();
        assert!(ended.contains("signal 9"), "{ended}");
        let refused = shell("true").stopped_by(&stop).answer().unwrap_err().chain();
        assert!(refused.contains("this run is being ended"), "{refused}");
        assert!(stop.is_stopped() && !other.is_stopped());
        assert_eq!(running.child.as_mut().unwrap().try_wait().unwrap(), None, "what another job runs goes on");
        assert_eq!(shell("echo last").answer().unwrap(), "last\n", "what nothing ends goes on too");
        assert!(other.0.lock().groups.len() == 1 && stop.0.lock().groups.len() == 1);
        drop((stopped, running));
        assert!(other.0.lock().groups.is_empty() && stop.0.lock().groups.is_empty());
    }

    #[test]
    fn words_are_kept_within_bounds() {
        let (status, words) = shell("echo first; seq 100000; echo last >&2; exit 1").run().unwrap();
        assert_eq!(status.code(), Some(1));
        assert!(words.starts_with("first\n1\n") && words.ends_with("last\n"), "{words}");
        assert!(words.len() < KEPT_BYTES + 100 && words.contains("bytes left out]"));
    }

    #[test]
    fn programs_run_as_whom_they_should() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let mut program = shell("id -un; id -Gn; echo $HOME");
        program.account = Some(Account::of_name("nobody").unwrap());
        assert_eq!(program.answer().unwrap(), "nobody\nnogroup\n/nonexistent\n");
        assert!(Account::of_name("no-such-user-here").unwrap_err().chain().contains("no-such-user-here"));
    }
}
