//! What monitoring reads: the text format of Prometheus (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use super::Outcome;
use super::overdue::{ProfileHistory, States, judge_profile};
use crate::settings::Settings;
use jiff::Zoned;
use std::fmt::Write;

/// A number of each profile or repository that has it.
struct Gauge {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    values: Vec<(String, i128)>,
}

/// Returns a label's value as it stands between quotes.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl Gauge {
    fn write(&self, text: &mut String) {
        if self.values.is_empty() {
            return;
        }
        // A String takes all that is written to it.
        let _ = writeln!(text, "# HELP {} {}\n# TYPE {} gauge", self.name, self.help, self.name);
        for (of, value) in &self.values {
            let _ = writeln!(text, "{}{{{}=\"{}\"}} {value}", self.name, self.label, escaped(of));
        }
    }
}

/// Returns all metrics. What is not known yet is left out, but for successes: an alert on their age rings for a profile
/// that never had one (0, which is 1970).
pub fn metrics(settings: &Settings, states: &States, now: &Zoned) -> String {
    let of_profiles = |name, help, value: &dyn Fn(&ProfileHistory) -> Option<i128>| {
        let values = states.profiles.iter().filter_map(|(name, known)| Some((name.clone(), value(known)?)));
        Gauge { name, help, label: "profile", values: values.collect() }
    };
    let of_repositories = |name, help, value: &dyn Fn(&super::RepositoryState) -> Option<i128>| {
        let values = states.repositories.iter().filter_map(|(place, state)| Some((place.clone(), value(state)?)));
        Gauge { name, help, label: "repository", values: values.collect() }
    };
    let outcome = |outcome| match outcome {
        Outcome::Success => 0,
        Outcome::Incomplete => 1,
        Outcome::Failed => 2,
    };
    let is_overdue = |known: &ProfileHistory| {
        let profile = settings.profiles.get(&known.state.name)?;
        Some(i128::from(judge_profile(settings, profile, known, now).is_overdue))
    };
    let gauges = [
        of_profiles("bakfs_last_success_timestamp_seconds", "When a run last succeeded; 0 where none has.", &|known| {
            Some(known.state.last_success(&known.belief(now)).unwrap_or(0).into())
        }),
        of_profiles("bakfs_last_run_timestamp_seconds", "When the last run ended.", &|known| {
            Some(known.state.last()?.ended_secs.into())
        }),
        of_profiles("bakfs_last_run_outcome", "How the last run ended: 0 success, 1 incomplete, 2 failed.", &|known| {
            Some(outcome(known.state.last()?.outcome))
        }),
        of_profiles("bakfs_last_run_duration_seconds", "How long the last run took.", &|known| {
            let run = known.state.last()?;
            Some(i128::from(run.ended_secs) - i128::from(run.started_secs))
        }),
        of_profiles("bakfs_snapshot_bytes", "The length of what the last snapshot holds.", &|known| {
            Some(known.last_snapshot()?.content_bytes.into())
        }),
        of_profiles("bakfs_snapshot_files", "The files of every type in the last snapshot.", &|known| {
            Some(known.last_snapshot()?.files.into())
        }),
        of_profiles("bakfs_added_bytes", "What the last snapshot added to the repository, as stored.", &|known| {
            Some(known.last_snapshot()?.packed_bytes.into())
        }),
        of_profiles("bakfs_overdue", "Whether the last success is too long ago.", &is_overdue),
        of_repositories("bakfs_last_check_timestamp_seconds", "When a run last verified stored data.", &|state| {
            state.last_check_secs.map(i128::from)
        }),
        of_repositories("bakfs_damaged", "Whether the last verification found damage.", &|state| {
            Some(i128::from(state.is_damaged))
        }),
        of_repositories(
            "bakfs_oldest_verified_timestamp_seconds",
            "When the data that was verified longest ago was; missing where some never was.",
            &|state| state.oldest_verified_secs.map(i128::from),
        ),
        of_repositories("bakfs_last_prune_timestamp_seconds", "When a run last gave back room.", &|state| {
            state.last_prune_secs.map(i128::from)
        }),
    ];
    let mut text = String::new();
    gauges.iter().for_each(|gauge| gauge.write(&mut text));
    text
}

#[cfg(test)]
mod tests {
    use super::super::overdue::tests::run_at;
    use super::super::{ProfileState, RepositoryState, Run};
    use super::*;

    /// Reads a line as the format's grammar has it: a name, one label, a number.
    fn parsed(line: &str) -> (String, String, i64) {
        let (name, rest) = line.split_once('{').unwrap();
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
        let (label, rest) = rest.split_once("=\"").unwrap();
        assert!(matches!(label, "profile" | "repository"), "{line}");
        let (mut value, mut chars) = (String::new(), rest.chars());
        loop {
            match chars.next().unwrap() {
                '"' => break,
                '\\' => value.push(match chars.next().unwrap() {
                    'n' => '\n',
                    plain => plain,
                }),
                plain => value.push(plain),
            }
        }
        (name.into(), value, chars.as_str().strip_prefix("} ").unwrap().parse().unwrap())
    }

    #[test]
    fn every_line_is_a_metric_that_was_announced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bakfs.toml");
        std::fs::write(&path, "[profile.web]\nsources = ['/srv']\nmax-age = '1d'\n").unwrap();
        let settings = Settings::read(&path).unwrap();
        let now: Zoned = "2026-11-21T20:00:00[UTC]".parse().unwrap();
        let now_secs = now.timestamp().as_second();
        let run = |outcome, ended_secs, snapshot: Option<&str>| Run {
            started_secs: ended_secs - 60,
            snapshot: snapshot.map(str::to_string),
            content_bytes: u64::MAX / 2,
            packed_bytes: 7,
            ..run_at(ended_secs, outcome)
        };
        let mut state = ProfileState { name: "web".into(), ..ProfileState::default() };
        state.add(run(Outcome::Success, now_secs - 2 * 86_400, Some("a")));
        state.add(run(Outcome::Failed, now_secs - 100, None));
        let place = "/r \"x\"\\\n".to_string();
        let known = ProfileHistory { state, repository: place.clone(), ..ProfileHistory::default() };
        let repository = RepositoryState { place: place.clone(), is_damaged: true, ..RepositoryState::default() };
        let states = States {
            profiles: [("web".to_string(), known)].into(),
            repositories: [(place.clone(), repository)].into(),
        };
        let text = metrics(&settings, &states, &now);
        let mut announced = Vec::new();
        let mut found = Vec::new();
        for line in text.lines() {
            match line.strip_prefix("# ") {
                Some(comment) => announced.push(comment.split(' ').nth(1).unwrap().to_string()),
                None => found.push(parsed(line)),
            }
        }
        assert!(text.ends_with('\n'));
        let value = |name: &str, of: &str| {
            assert_eq!(announced.iter().filter(|announced| *announced == name).count(), 2, "{name}: HELP and TYPE");
            found.iter().find(|(found, label, _)| found == name && label == of).map(|(_, _, value)| *value)
        };
        for (name, expected) in [
            ("bakfs_last_success_timestamp_seconds", now_secs - 2 * 86_400),
            ("bakfs_last_run_timestamp_seconds", now_secs - 100),
            ("bakfs_last_run_outcome", 2),
            ("bakfs_last_run_duration_seconds", 60),
            ("bakfs_snapshot_bytes", i64::MAX),
            ("bakfs_added_bytes", 7),
            ("bakfs_overdue", 1),
        ] {
            assert_eq!(value(name, "web"), Some(expected), "{name}\n{text}");
        }
        assert_eq!(value("bakfs_damaged", &place), Some(1));
        assert!(!text.contains("bakfs_last_check"), "what is not known is left out");
    }
}
