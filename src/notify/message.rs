//! What people are told of a run.

use crate::quantity::{counted, size};
use crate::spelling::is_unsafe_to_show;
use crate::state::{Outcome, Run};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt::Write as _;

/// The most problems a message names.
const MAX_PROBLEMS: usize = 50;
/// A problem is told up to this length.
const MAX_PROBLEM_CHARS: usize = 2000;
/// A subject tells a problem up to this length.
const MAX_SUBJECT_CHARS: usize = 120;
/// The most dumps a message names.
const MAX_DUMPS: usize = 100;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its subject: one line.
    pub subject: String,
    /// Its text: no control characters but ends of lines.
    pub body: String,
}

/// Writes what a host's run did, what went wrong, and what to do next.
pub fn message(host: &str, run: &Run) -> Message {
    let cause = match (run.problems.first(), run.outcome) {
        (Some(problem), _) => one_line(problem, MAX_SUBJECT_CHARS),
        (None, Outcome::Success) => run.snapshot.clone().unwrap_or_else(|| "done".into()),
        (None, _) => "no reason was told".into(),
    };
    let (host, profile) = (one_line(host, MAX_SUBJECT_CHARS), one_line(&run.profile, MAX_SUBJECT_CHARS));
    let subject = format!("bakfs: {host}/{profile} {}: {}", run.outcome.word(), one_line(&cause, MAX_SUBJECT_CHARS));
    let mut body = format!("{}\n", opening(&host, &profile, run));
    if !run.problems.is_empty() {
        body.push_str("\nWhat went wrong:\n");
        for problem in run.problems.iter().take(MAX_PROBLEMS) {
            let _ = writeln!(body, "- {}", cut(problem.trim(), MAX_PROBLEM_CHARS).replace('\n', "\n  "));
        }
        let surplus = run.problems.len().saturating_sub(MAX_PROBLEMS);
        if surplus > 0 {
            let _ = writeln!(body, "- and {surplus} more");
        }
    }
    if !run.notes.is_empty() {
        body.push_str("\nWhat is so for longer, and was in the way of nothing:\n");
        for note in run.notes.iter().take(MAX_PROBLEMS) {
            let _ = writeln!(body, "- {}", cut(note.trim(), MAX_PROBLEM_CHARS).replace('\n', "\n  "));
        }
    }
    body.push_str("\nWhat was done:\n");
    for (name, value) in facts(run) {
        let _ = writeln!(body, "  {name:<11}{value}");
    }
    let _ = writeln!(body, "\nWhat to do next:\n  {}", advice(&profile, run.outcome));
    Message { subject, body: clean(&body) }
}

/// Returns the run's record with its host, and the message as `text`, as chats take it.
pub fn record(host: &str, run: &Run) -> serde_json::Value {
    let message = message(host, run);
    let mut bounded = run.clone();
    bounded.problems = run.problems.iter().take(MAX_PROBLEMS).map(|text| cut(text, MAX_PROBLEM_CHARS)).collect();
    bounded.notes = run.notes.iter().take(MAX_PROBLEMS).map(|text| cut(text, MAX_PROBLEM_CHARS)).collect();
    bounded.dumps.truncate(MAX_DUMPS);
    let mut record = serde_json::to_value(bounded).unwrap_or_default();
    record["host"] = host.into();
    record["text"] = format!("{}\n\n{}", message.subject, message.body).into();
    record
}

fn opening(host: &str, profile: &str, run: &Run) -> String {
    let what = format!("The {} run of `{profile}` on {host}", run.periodicity);
    match run.outcome {
        Outcome::Success => format!("{what} has done all it should."),
        Outcome::Incomplete if run.snapshot.is_some() => {
            format!("{what} is incomplete: its snapshot can be restored from, but not all was done.")
        }
        Outcome::Incomplete => format!("{what} is incomplete."),
        Outcome::Failed => format!("{what} has failed: it made no snapshot."),
    }
}

fn advice(profile: &str, outcome: Outcome) -> String {
    match outcome {
        Outcome::Success => "Nothing.".into(),
        Outcome::Incomplete | Outcome::Failed => format!(
            "Mend what is named above, and run it again: bakfs run {profile}\n  \
             `bakfs config check` tries what a run needs, `bakfs status` shows what is overdue."
        ),
    }
}

fn facts(run: &Run) -> Vec<(&'static str, String)> {
    let took_secs = run.ended_secs.saturating_sub(run.started_secs).max(0);
    let took = format!("{}h {:02}min {:02}s", took_secs / 3600, took_secs / 60 % 60, took_secs % 60);
    let mut facts =
        vec![("began", local(run.started_secs)), ("ended", format!("{}, after {took}", local(run.ended_secs)))];
    facts.push(("repository", one_line(&run.repository, MAX_PROBLEM_CHARS)));
    match (&run.snapshot, &run.snapshot_id) {
        (Some(name), Some(id)) => facts.push(("snapshot", format!("{name} ({id})"))),
        (Some(name), None) => facts.push(("snapshot", name.clone())),
        (None, _) => facts.push(("snapshot", "none".into())),
    }
    if run.snapshot.is_some() {
        let (content, added, packed) = (size(run.content_bytes), size(run.added_bytes), size(run.packed_bytes));
        facts.push(("content", format!("{}, {content}", counted(run.files, "file"))));
        facts.push(("new", format!("{added}, stored as {packed}")));
    }
    let dumps = run.dumps.iter().take(MAX_DUMPS);
    facts.extend(
        dumps.map(|(path, bytes)| ("dump", format!("{}, {}", one_line(path, MAX_PROBLEM_CHARS), size(*bytes)))),
    );
    let surplus = run.dumps.len().saturating_sub(MAX_DUMPS);
    if surplus > 0 {
        facts.push(("dump", format!("and {surplus} more")));
    }
    if run.forgotten > 0 {
        facts.push(("forgotten", counted(run.forgotten, "snapshot")));
    }
    let done = [(run.checked, "stored data was verified"), (run.pruned, "room was given back")];
    facts.extend(done.into_iter().filter(|(is_done, _)| *is_done).map(|(_, what)| ("also", what.to_string())));
    facts
}

/// Writes a time by this machine's clock.
fn local(secs: i64) -> String {
    let time = Timestamp::from_second(secs).unwrap_or_default().to_zoned(TimeZone::system());
    time.strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
}

fn cut(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}

/// Returns the first line of a text, without control characters.
fn one_line(text: &str, max_chars: usize) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    cut(&line.replace(is_unsafe_to_show, " "), max_chars)
}

/// Takes control characters away, but not the ends of lines.
fn clean(text: &str) -> String {
    text.chars().map(|c| if is_unsafe_to_show(c) && c != '\n' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Periodicity;

    fn run(outcome: Outcome, problems: &[&str]) -> Run {
        Run {
            profile: "shop".into(),
            periodicity: Periodicity::Daily,
            repository: "s3://bucket/shop".into(),
            started_secs: 1_000,
            ended_secs: 1_000 + 3_723,
            outcome,
            snapshot: (outcome != Outcome::Failed).then(|| "2026-11-21_031500".into()),
            snapshot_id: (outcome != Outcome::Failed).then(|| "0123abcd".into()),
            problems: problems.iter().map(|problem| problem.to_string()).collect(),
            notes: Vec::new(),
            files: 12,
            content_bytes: 3 << 20,
            added_bytes: 2048,
            packed_bytes: 1024,
            dumps: vec![("databases/postgresql/main/shop.dump".into(), 1 << 20)],
            forgotten: 2,
            checked: true,
            pruned: false,
        }
    }

    #[test]
    fn a_message_says_what_failed_what_was_done_and_what_to_do() {
        let problem = "databases/postgresql/main/shop.dump is missing\npg_dump: error: no route";
        let told = message("web1", &run(Outcome::Incomplete, &[problem, "second"]));
        assert_eq!(told.subject, "bakfs: web1/shop incomplete: databases/postgresql/main/shop.dump is missing");
        for text in [
            "The daily run of `shop` on web1 is incomplete",
            "- databases/postgresql/main/shop.dump is missing\n  pg_dump: error: no route\n- second\n",
            "2026-11-21_031500 (0123abcd)",
            "after 1h 02min 03s",
            "12 files, 3.0 MiB",
            "stored as 1.0 KiB",
            "shop.dump, 1.0 MiB",
            "2 snapshots",
            "stored data was verified",
            "bakfs run shop",
        ] {
            assert!(told.body.contains(text), "{text:?} in {}", told.body);
        }
        let told = message("web1", &run(Outcome::Success, &[]));
        assert_eq!(told.subject, "bakfs: web1/shop success: 2026-11-21_031500");
        assert!(!told.body.contains("What went wrong") && told.body.contains("Nothing."));
        let told = message("web1", &run(Outcome::Failed, &[]));
        assert!(told.body.contains("it made no snapshot") && told.subject.ends_with("no reason was told"));
    }

    #[test]
    fn texts_are_bounded_and_hold_no_control_characters() {
        let long = "x".repeat(1 << 20);
        let problems = vec![&*long; 200];
        let mut wild = run(Outcome::Failed, &problems);
        wild.profile = "a\r\nb\u{1b}[31m".into();
        let told = message("h\nost\u{7}", &wild);
        assert!(told.subject.chars().count() < 500 && !told.subject.contains(char::is_control));
        assert!(told.body.len() < 200_000 && told.body.contains("and 150 more"));
        assert!(!told.body.contains(|c: char| c.is_control() && c != '\n'));
        let record = record("host", &wild);
        assert_eq!(record["problems"].as_array().unwrap().len(), MAX_PROBLEMS);
        assert!(record.to_string().len() < 400_000);
        assert_eq!(record["outcome"], "failed");
    }
}
