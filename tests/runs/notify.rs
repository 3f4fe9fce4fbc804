//! Promise: people are told of a run that begins, ends or fails; what cannot be told is said so without secrets, and
//! never more than that.

use bakfs::error::Error;
use bakfs::notify;
use bakfs::settings::Periodicity;
use bakfs::settings::file::Notify;
use bakfs::settings::values::Strings;
use bakfs::state::{Outcome, Run};
use bakfs_testing::process::tool;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What no error and no log may name.
const SECRET: &str = "2f1c-very-secret";

/// A request as it came.
#[derive(Debug, Clone, Default)]
struct Request {
    /// Method and path.
    line: String,
    headers: String,
    body: String,
}

/// A server on loopback that answers in turn as it is told, then always with 200.
struct Server {
    base: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    fn new(answers: &[&str]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let mut answers: Vec<String> = answers.iter().rev().map(|answer| answer.to_string()).collect();
        let kept = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                // Who only connects has asked for nothing.
                if let Some(request) = read_request(&stream) {
                    kept.lock().unwrap().push(request);
                    answer(&stream, &answers.pop().unwrap_or("200".into()));
                }
            }
        });
        Server { base, requests }
    }

    fn url(&self, path: &str) -> Option<String> {
        Some(format!("{}/{SECRET}/{path}", self.base))
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Returns method and last name of the path of every request.
    fn lines(&self) -> Vec<String> {
        let short = |request: &Request| request.line.replace(&format!("/{SECRET}"), "");
        self.requests().iter().map(short).collect()
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut request = Request::default();
    reader.read_line(&mut request.line).ok().filter(|bytes| *bytes > 0)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        request.headers.push_str(&line.to_lowercase());
    }
    let length = request.headers.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    request.body = String::from_utf8(body).unwrap();
    request.line = request.line.trim().trim_end_matches(" HTTP/1.1").to_string();
    Some(request)
}

/// Answers with a status, which may be followed by a place to go; `hang up` is no answer.
fn answer(mut stream: &TcpStream, answer: &str) {
    if answer == "hang up" {
        return;
    }
    let (status, place) = answer.split_once(' ').unwrap_or((answer, ""));
    let location = if place.is_empty() { String::new() } else { format!("Location: {place}\r\n") };
    let text = format!("HTTP/1.1 {status} x\r\n{location}Content-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).unwrap();
}

fn run(outcome: Outcome, problems: &[&str]) -> Run {
    Run {
        profile: "shop".into(),
        periodicity: Periodicity::Daily,
        repository: "/srv/repo".into(),
        started_secs: 1_790_000_000,
        ended_secs: 1_790_000_060,
        outcome,
        snapshot: Some("2026-11-21_031500".into()),
        snapshot_id: Some("0123abcd".into()),
        problems: problems.iter().map(|problem| problem.to_string()).collect(),
        notes: Vec::new(),
        files: 1,
        content_bytes: 1,
        added_bytes: 1,
        packed_bytes: 1,
        dumps: Vec::new(),
        forgotten: 0,
        checked: false,
        pruned: false,
    }
}

fn told(errors: &[Error]) -> String {
    let all: Vec<_> = errors.iter().map(|error| format!("{error:?} {}", error.chain())).collect();
    let text = all.join("\n");
    assert!(!text.contains(SECRET), "a secret is told: {text}");
    text
}

/// Makes a `sendmail` that keeps what it gets, with the arguments before it.
fn sink(folder: &Path, end: &str) -> (Notify, PathBuf) {
    let (program, mails) = (folder.join("sendmail"), folder.join("mails"));
    let script = format!("#!/bin/sh\n{{ echo \"$@\"; cat; }} >> '{}'\n{end}\n", mails.display());
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let notify = Notify {
        mail: Some(Strings::Many(vec!["root@example.org".into(), "ops@example.org".into()])),
        sendmail: Some(program),
        ..Notify::default()
    };
    (notify, mails)
}

#[test]
fn a_run_pings_when_it_begins_and_by_how_it_ends() {
    let server = Server::new(&[]);
    let notify = Notify {
        ping_start: server.url("start"),
        ping_success: server.url("success"),
        ping_failure: server.url("failure"),
        ..Notify::default()
    };
    assert_eq!(told(&notify::start(&notify)), "");
    let long = "\u{e4}".repeat(20_000);
    for (outcome, problems) in [
        (Outcome::Success, &[][..]),
        (Outcome::Incomplete, &["shop.dump is missing"]),
        (Outcome::Failed, &[&*long; 20]),
    ] {
        assert_eq!(told(&notify::ended(&notify, "web1", &run(outcome, problems))), "");
    }
    assert_eq!(server.lines(), ["GET /start", "POST /success", "POST /failure", "POST /failure"]);
    let requests = server.requests();
    assert_eq!(requests[0].body, "");
    assert!(requests[1].body.contains("`shop` on web1 has done all it should"), "{}", requests[1].body);
    assert!(requests[2].body.contains("- shop.dump is missing"), "{}", requests[2].body);
    assert!((9_990..=10_000).contains(&requests[3].body.len()), "{}", requests[3].body.len());
}

#[test]
fn a_ping_that_fails_is_tried_again_and_a_message_is_told_once() {
    let server = Server::new(&["hang up", "500", "200", "500"]);
    let notify = Notify { ping_start: server.url("start"), webhook: server.url("hook"), ..Notify::default() };
    assert_eq!(told(&notify::start(&notify)), "");
    let text = told(&notify::ended(&notify, "web1", &run(Outcome::Failed, &["why"])));
    assert!(text.contains("webhook") && text.contains("500"), "{text}");
    assert_eq!(server.lines(), ["GET /start", "GET /start", "GET /start", "POST /hook"]);
}

#[test]
fn what_cannot_be_told_is_an_error_that_names_only_the_host() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::new(&["404", "500", "500", "500"]);
    let host = server.base.strip_prefix("http://").unwrap().to_string();
    let with_user = Some(format!("http://{SECRET}:{SECRET}@{host}/x?key={SECRET}"));
    for (url, expected) in [
        (with_user, format!("ping-start at {}", server.base)),
        (server.url("x"), format!("ping-start at {} of the run: it answers 500", server.base)),
        (Some(format!("http://{closed}/{SECRET}")), "Connection refused".into()),
        (Some(format!("ftp://{host}/{SECRET}")), "notify.ping-start is no URL".into()),
        (Some(SECRET.into()), "notify.ping-start is no URL".into()),
    ] {
        let errors = notify::start(&Notify { ping_start: url, ..Notify::default() });
        assert_eq!(errors.len(), 1);
        let text = told(&errors);
        assert!(text.contains(&expected), "{expected}: {text}");
    }
    assert_eq!(server.requests().len(), 4, "404 is not tried again");
}

#[test]
fn a_webhook_gets_the_record_and_of_success_only_when_asked() {
    let server = Server::new(&[]);
    let mut notify = Notify { webhook: server.url("hook"), ..Notify::default() };
    assert_eq!(told(&notify::ended(&notify, "web1", &run(Outcome::Success, &[]))), "");
    assert!(server.requests().is_empty());
    assert_eq!(told(&notify::ended(&notify, "web1", &run(Outcome::Incomplete, &["a \"quoted\"\nwhy"]))), "");
    notify.on_success = Some(true);
    assert_eq!(told(&notify::ended(&notify, "web1", &run(Outcome::Success, &[]))), "");
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[0].headers.contains("content-type: application/json"), "{}", requests[0].headers);
    let record: Value = serde_json::from_str(&requests[0].body).unwrap();
    assert_eq!(record["host"], "web1");
    assert_eq!(record["profile"], "shop");
    assert_eq!(record["outcome"], "incomplete");
    assert_eq!(record["problems"][0], "a \"quoted\"\nwhy");
    assert!(record["text"].as_str().unwrap().starts_with("bakfs: web1/shop incomplete: a \"quoted\"\n\n"), "{record}");
}

#[test]
fn a_redirect_never_loses_the_message_nor_tells_the_url() {
    let elsewhere = Server::new(&[]);
    let place = format!("{}/there", elsewhere.base);
    let server = Server::new(&[&format!("302 {place}"), &format!("307 {place}"), &format!("301 {place}")]);
    let notify = Notify { webhook: server.url("hook"), ping_start: server.url("start"), ..Notify::default() };
    let failed = run(Outcome::Failed, &["why"]);
    let text = told(&notify::ended(&notify, "web1", &failed));
    assert!(text.contains("it answers 302: write the URL it leads to"), "{text}");
    assert_eq!(told(&notify::ended(&notify, "web1", &failed)), "");
    assert_eq!(told(&notify::start(&notify)), "");
    assert_eq!(elsewhere.lines(), ["POST /there", "GET /there"]);
    let requests = elsewhere.requests();
    assert!(requests[0].body.contains("\"why\""), "{}", requests[0].body);
    assert!(requests.iter().all(|request| !request.headers.contains(SECRET)), "{requests:?}");
}

/// Reads a mail as mail programs do.
const PARSE: &str = "import sys, json, email, email.policy
mail = email.message_from_binary_file(open(sys.argv[1], 'rb'), policy=email.policy.default)
print(json.dumps({'headers': dict(mail.items()), 'names': mail.keys(), 'body': mail.get_content(),
    'defects': [str(d) for d in mail.defects]}))";

#[test]
fn mail_reaches_sendmail_whole_and_no_text_becomes_a_header() {
    let folder = tempfile::tempdir().unwrap();
    let (mut notify, mails) = sink(folder.path(), "");
    notify.mail_from = Some("bakfs <backup@example.org>".into());
    assert_eq!(told(&notify::ended(&notify, "web1", &run(Outcome::Success, &[]))), "");
    assert!(!mails.exists(), "success is silent");
    let mut wild = run(Outcome::Failed, &["dump \u{2014} died\r\nBcc: thief@example.org\r\n\r\n.\nFrom here"]);
    wild.profile = "shop\r\nBcc: thief@example.org".into();
    assert_eq!(told(&notify::ended(&notify, "web1\nCc: thief@example.org", &wild)), "");
    let text = std::fs::read_to_string(&mails).unwrap();
    let (arguments, mail) = text.split_once('\n').unwrap();
    assert_eq!(arguments, "-t -oi");
    let path = folder.path().join("mail");
    std::fs::write(&path, mail).unwrap();
    let parsed = tool("python3", ["-c", PARSE, path.to_str().unwrap()]).expect(0).text();
    let parsed: Value = serde_json::from_str(&parsed).unwrap();
    let names: Vec<_> = parsed["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let expected = ["From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type"];
    assert_eq!(names, [&expected[..], &["Content-Transfer-Encoding", "Auto-Submitted"]].concat());
    let headers = &parsed["headers"];
    assert_eq!(headers["From"], "bakfs <backup@example.org>");
    assert_eq!(headers["To"], "root@example.org, ops@example.org");
    assert_eq!(headers["Subject"], "bakfs: web1/shop failed: dump \u{2014} died");
    assert_eq!(headers["Auto-Submitted"], "auto-generated");
    assert!(parsed["body"].as_str().unwrap().contains("- dump \u{2014} died"), "{parsed}");
    assert_eq!(parsed["defects"].as_array().unwrap().len(), 0, "{parsed}");
}

#[test]
fn a_sendmail_that_fails_or_is_missing_is_told_with_the_rest_still_done() {
    let folder = tempfile::tempdir().unwrap();
    let (mut notify, _) = sink(folder.path(), "echo 'no such relay' >&2; exit 75");
    let server = Server::new(&[]);
    notify.ping_failure = server.url("failure");
    let text = told(&notify::ended(&notify, "web1", &run(Outcome::Failed, &["why"])));
    assert!(text.contains("Cannot send mail to root@example.org, ops@example.org"), "{text}");
    assert!(text.contains("exit code 75: no such relay"), "{text}");
    notify.sendmail = Some(folder.path().join("none"));
    let text = told(&notify::ended(&notify, "web1", &run(Outcome::Failed, &["why"])));
    assert!(text.contains("none to send mail with: install one"), "{text}");
    assert_eq!(server.lines(), ["POST /failure", "POST /failure"]);
}

#[test]
fn a_check_tries_everything_and_tells_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (mut notify, mails) = sink(folder.path(), "");
    let server = Server::new(&[]);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    notify.ping_start = server.url("start");
    notify.ping_success = Some(format!("http://{closed}/{SECRET}"));
    notify.ping_failure = Some(format!("http://no-such-host.invalid/{SECRET}"));
    notify.webhook = Some(SECRET.into());
    let found = notify::check(&notify);
    let wrong: Vec<_> = found.iter().map(|(_, error)| error.is_some()).collect();
    assert_eq!(wrong, [false, true, true, true, false], "{found:?}");
    assert!(!format!("{found:?}").contains(SECRET), "{found:?}");
    assert_eq!(found[0].0, format!("ping-start at {}", server.base));
    assert_eq!(found[2].0, "ping-failure at http://no-such-host.invalid");
    std::fs::set_permissions(notify.sendmail.as_ref().unwrap(), PermissionsExt::from_mode(0o644)).unwrap();
    let (_, mail) = notify::check(&notify).pop().unwrap();
    assert!(mail.unwrap().chain().contains("to send mail with"));
    assert!(!mails.exists() && server.requests().is_empty());
}
