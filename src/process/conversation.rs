//! A program that is told lines and answers with lines.

use super::{Member, Program, failed, keep_words, kill_group};
use crate::error::{Error, ErrorKind, Result};
use crate::quantity::counted;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A program that has closed its output is waited for so long.
const END_LIMIT: Duration = Duration::from_secs(2);
/// The longest line that is heard.
const MAX_LINE_BYTES: u64 = 64 << 10;
/// Lines that are kept until somebody listens.
const MAX_LINES: usize = 64;

/// A running program at the other end of two pipes. It is killed when this is dropped, and reads the end of its input
/// when this process is killed.
pub struct Conversation {
    name: String,
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    words: Option<JoinHandle<String>>,
    _member: Option<Member>,
}

impl Program {
    /// Starts it for a conversation; its time limit does not count.
    pub fn converse(&self) -> Result<Conversation> {
        let mut command = self.command()?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (mut child, member) = self.spawn(&mut command)?;
        let words = child.stderr.take().map(|stderr| std::thread::spawn(move || keep_words(stderr)));
        let stdin = child.stdin.take().expect("its standard input is a pipe");
        let stdout = child.stdout.take().expect("its standard output is a pipe");
        let (sender, lines) = sync_channel(MAX_LINES);
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = Vec::new();
            while stdout.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_string();
                line.clear();
                if sender.send(text).is_err() {
                    break;
                }
            }
        });
        Ok(Conversation { name: self.name(), child, stdin, lines, words, _member: member })
    }
}

impl Conversation {
    /// Sends a line.
    pub fn say(&mut self, line: &str) -> Result<()> {
        let said = self.stdin.write_all(line.as_bytes()).and_then(|()| self.stdin.write_all(b"\n"));
        // A program that has gone tells why.
        said.map_err(|error| self.end().unwrap_or_else(|| Error::io(format!("Cannot tell {}", self.name), error)))
    }

    /// Waits for the next line; fails where the program has ended, with what it said.
    pub fn hear(&mut self, limit: Duration) -> Result<String> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => {
                let limit = counted(limit.as_secs(), "second");
                Err(Error::new(ErrorKind::Io, format!("{} has not answered within {limit}", self.name)))
            }
            Err(RecvTimeoutError::Disconnected) => {
                let ended = Error::new(ErrorKind::Io, format!("{} has ended without an answer", self.name));
                Err(self.end().unwrap_or(ended))
            }
        }
    }

    /// Ends the program; returns why it has failed, if it has told.
    fn end(&mut self) -> Option<Error> {
        let words = self.words.take()?;
        let until = Instant::now() + END_LIMIT;
        let status = loop {
            match self.child.try_wait().ok()? {
                Some(status) => break status,
                None if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
                None => {
                    kill_group(self.child.id());
                    break self.child.wait().ok()?;
                }
            }
        };
        Some(failed(&self.name, status, &words.join().ok()?))
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            kill_group(self.child.id());
            // It was killed.
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_heard_line_by_line_and_its_end_is_told() {
        let program = Program::new(["/bin/sh", "-c", "while read line; do echo \"<$line>\"; done"]);
        let mut talk = program.converse().unwrap();
        for word in ["one", "two"] {
            talk.say(word).unwrap();
            assert_eq!(talk.hear(Duration::from_secs(60)).unwrap(), format!("<{word}>"));
        }
        let mut ends = Program::new(["/bin/sh", "-c", "read line; echo why >&2; exit 3"]).converse().unwrap();
        ends.say("go").unwrap();
        let error = ends.hear(Duration::from_secs(60)).unwrap_err().chain();
        assert!(error.contains("sh failed with exit code 3: why"), "{error}");
        let mut silent = Program::new(["/bin/cat"]).converse().unwrap();
        let pid = silent.child.id();
        assert!(silent.hear(Duration::from_millis(1)).unwrap_err().chain().contains("has not answered"));
        drop(silent);
        assert!(!std::path::Path::new(&format!("/proc/{pid}/stat")).exists());
    }
}
