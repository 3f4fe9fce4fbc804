//! Mail, handed to the machine's own `sendmail`.

use super::message::Message;
use crate::error::{Error, ErrorKind, Result};
use crate::process::{Program, failed};
use crate::settings::file::Notify;
use crate::trust::file::require_program;
use base64::Engine;
use jiff::Zoned;
use rustix::fs::{Access, access};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where `sendmail` is on most machines (FHS 3.0, 3.6).
const USUAL: [&str; 2] = ["/usr/sbin/sendmail", "/usr/lib/sendmail"];
/// It takes no longer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Lines of a mail are no longer, in bytes; 998 are the most (RFC 5322, 2.1.1).
const MAX_LINE_BYTES: usize = 900;
/// The text in an encoded word of a header: with its frame it is at most 75 long (RFC 2047, 2).
const MAX_WORD_BYTES: usize = 45;

/// Hands a mail to `sendmail`.
pub fn send(notify: &Notify, addresses: &[String], host: &str, message: &Message) -> Result<()> {
    check(notify, addresses)?;
    let mut program = Program::new([sendmail(notify)]).arg("-t").arg("-oi");
    program.timeout = Some(TIMEOUT);
    program.input = Some(compose(&sender(notify), addresses, host, message).into_bytes().into());
    let (status, words) = program.run()?;
    if status.success() {
        return Ok(());
    }
    let attempt = Error::new(ErrorKind::Io, format!("Cannot send mail to {}", addresses.join(", ")));
    Err(attempt.because(failed(&program.name(), status, &words)))
}

/// Tries what [`send`] needs, and sends nothing.
pub fn check(notify: &Notify, addresses: &[String]) -> Result<()> {
    for address in addresses.iter().chain(&notify.mail_from) {
        if address.trim().is_empty() || address.chars().any(char::is_control) {
            return Err(Error::usage(format!("{address:?} is no mail address: write it as name@example.org")));
        }
    }
    let program = sendmail(notify);
    let asked = access(&program, Access::EXEC_OK);
    if asked.is_ok() && program.is_file() {
        return require_program(&program);
    }
    let message = format!(
        "There is no program {} to send mail with: install one, as msmtp-mta, or name it by `notify.sendmail`",
        program.display()
    );
    Err(Error::new(ErrorKind::NotFound, message))
}

fn sendmail(notify: &Notify) -> PathBuf {
    let usual = || USUAL.iter().map(Path::new).find(|path| path.exists()).unwrap_or(Path::new(USUAL[0]));
    notify.sendmail.clone().unwrap_or_else(|| usual().to_path_buf())
}

/// Returns who the mail is from: without a setting, the account's bare name, which the mail system completes as it does
/// for cron.
fn sender(notify: &Notify) -> String {
    let account = || match rustix::process::geteuid().is_root() {
        true => "root".to_string(),
        false => std::env::var("LOGNAME").ok().filter(|name| is_atom(name)).unwrap_or_else(|| "bakfs".into()),
    };
    notify.mail_from.clone().unwrap_or_else(|| format!("bakfs <{}>", account()))
}

fn is_atom(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// Writes a mail (RFC 5322). Addresses have been checked; of all other texts, none can begin a header of its own.
fn compose(from: &str, addresses: &[String], host: &str, message: &Message) -> String {
    let now = Zoned::now();
    let domain: String =
        host.chars().map(|c| if c.is_ascii_alphanumeric() || "-.".contains(c) { c } else { '-' }).collect();
    let id = format!("<{}.{}@{domain}>", now.timestamp().as_nanosecond(), std::process::id());
    let encoding = if message.body.is_ascii() { "7bit" } else { "8bit" };
    let headers = [
        ("From", from.to_string()),
        ("To", addresses.join(",\n ")),
        ("Subject", encoded(&message.subject)),
        ("Date", now.strftime("%a, %d %b %Y %H:%M:%S %z").to_string()),
        ("Message-ID", id),
        ("MIME-Version", "1.0".into()),
        ("Content-Type", "text/plain; charset=utf-8".into()),
        ("Content-Transfer-Encoding", encoding.into()),
        // No reply by a machine is wanted (RFC 3834, 5).
        ("Auto-Submitted", "auto-generated".into()),
    ];
    let mut mail: String = headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    for line in message.body.lines() {
        for part in pieces(line, MAX_LINE_BYTES) {
            mail.push('\n');
            mail.push_str(part);
        }
    }
    mail.push('\n');
    mail
}

/// Writes a header's text in encoded words where it is not plain (RFC 2047).
fn encoded(text: &str) -> String {
    let is_plain = text.chars().all(|c| c.is_ascii() && !c.is_ascii_control()) && !text.contains("=?");
    if is_plain && text.len() <= MAX_LINE_BYTES {
        return text.to_string();
    }
    let word = |part: &str| format!("=?utf-8?B?{}?=", base64::engine::general_purpose::STANDARD.encode(part));
    pieces(text, MAX_WORD_BYTES).into_iter().map(word).collect::<Vec<_>>().join("\n ")
}

/// Splits a text into pieces of at most so many bytes, between characters; an empty one is one piece.
fn pieces(mut text: &str, max_bytes: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    while text.len() > max_bytes {
        let mut end = max_bytes;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, rest) = text.split_at(end);
        pieces.push(piece);
        text = rest;
    }
    pieces.push(text);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_begins_a_header_of_its_own() {
        let wild = "x\r\nBcc: thief@example.org\n\nbody\u{0}";
        let message = Message { subject: wild.into(), body: format!("{wild}\n.\n{}", "\u{e4}".repeat(2000)) };
        let mail = compose("a@example.org", &["b@example.org".into(), "c@example.org".into()], wild, &message);
        let (headers, body) = mail.split_once("\n\n").unwrap();
        assert!(headers.lines().all(|line| !line.starts_with("Bcc") && line.len() <= 998), "{headers}");
        assert_eq!(headers.lines().filter(|line| !line.starts_with(' ')).count(), 9, "{headers}");
        assert!(body.lines().all(|line| line.len() <= MAX_LINE_BYTES));
        let addresses = ["b@example.org\nBcc: thief@example.org".to_string()];
        assert!(check(&Notify::default(), &addresses).unwrap_err().chain().contains("is no mail address"));
    }

    #[test]
    fn a_plain_subject_is_left_as_it_is() {
        assert_eq!(encoded("bakfs: web1/shop failed"), "bakfs: web1/shop failed");
        let text = "\u{fc}ber ".repeat(40);
        assert!(encoded(&text).lines().all(|line| line.trim_start().len() <= 75));
    }
}
