//! Promise: what `--json` prints is described, key by key, and what is described is printed.

use bakfs::format::feature::Required;
use bakfs_testing::cli::Bakfs;
use bakfs_testing::features::{feature, raise_in};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Returns the words in backticks of each section of docs/json.md.
fn described() -> BTreeMap<String, BTreeSet<String>> {
    let text = include_str!("../../docs/json.md");
    let mut sections = BTreeMap::new();
    for section in text.split("\n## ").skip(1) {
        let (title, body) = section.split_once('\n').unwrap();
        // What a value may be stands in parentheses.
        let mut plain = String::new();
        let mut depth = 0;
        for char in body.chars() {
            depth += i32::from(char == '(') - i32::from(char == ')');
            if depth == 0 {
                plain.push(char);
            }
        }
        let words = plain.split('`').skip(1).step_by(2).map(str::to_owned);
        sections.insert(title.to_owned(), words.collect());
    }
    sections
}

/// Writes a file for its owner alone.
fn private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
}

fn keys(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            into.insert(key.clone());
            keys(value, into);
        }),
        Value::Array(list) => list.iter().for_each(|value| keys(value, into)),
        _ => {}
    }
}

#[test]
fn every_key_that_is_printed_is_described_and_every_described_one_is_printed() {
    let bakfs = Bakfs::empty();
    let source = bakfs.make_dir("source");
    let path = source.to_str().unwrap();
    std::fs::create_dir(source.join("sub")).unwrap();
    std::fs::write(source.join("sub/file"), b"content").unwrap();
    std::os::unix::fs::symlink("sub", source.join("link")).unwrap();
    let repo = bakfs.repo();
    let text = format!(
        "repo = \"{}\"\n[profile.p]\nsources = [\"{path}\"]\nschedule = [\"daily\"]\nkeep = {{ daily = 7 }}\n",
        repo.display()
    );
    private(&bakfs.path("config/bakfs.toml"), &text);
    private(&bakfs.path("new"), "a new passphrase\n");
    let new = bakfs.path("new").to_str().unwrap().to_owned();
    let out = bakfs.path("out").to_str().unwrap().to_owned();
    let latest = format!("latest:{path}");
    let mut printed: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut say = |section: &'static str, args: &[&str]| -> Value {
        let outcome = bakfs.run(["--json"].iter().chain(args));
        let value: Value = serde_json::from_slice(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome}"));
        keys(&value, printed.entry(section).or_default());
        value
    };
    say("init", &["init"]);
    say("backup", &["backup", path]);
    std::fs::write(source.join("another"), b"more").unwrap();
    say("backup", &["backup", path]);
    say("run", &["run", "p"]);
    say("version", &["version"]);
    say("snapshots", &["snapshots"]);
    say("ls", &["ls", &latest]);
    say("find", &["find", "*"]);
    say("diff", &["diff", "latest~2", "latest~1"]);
    say("restore", &["restore", &latest, &out]);
    say("stats", &["stats"]);
    say("stats", &["stats", "latest"]);
    say("check", &["check", "--read-data"]);
    say("forget", &["forget", "--keep-last", "2"]);
    say("prune", &["prune"]);
    say("repair", &["repair"]);
    say("status", &["status"]);
    say("config check", &["config", "check"]);
    say("schedule list", &["schedule", "list"]);
    say("pin", &["pin", "latest"]);
    say("pin", &["unpin", "latest"]);
    let added = say("key list", &["key", "add", "--new-password-file", &new]);
    say("key list", &["key", "list"]);
    say("key list", &["key", "remove", added["added"].as_str().unwrap()]);
    say("debug list", &["debug", "list"]);
    raise_in(&bakfs, &feature(9001, Required::ByNobody));
    say("debug features", &["debug", "features"]);
    say("debug why", &["debug", "why", &latest]);
    say("A failure", &["ls", "nosuch"]);
    say("forget-place", &["forget-place"]);

    let mut described = described();
    // `find` describes what it adds.
    let of_ls = described["ls"].clone();
    described.get_mut("find").unwrap().extend(of_ls);
    let mut wrong = Vec::new();
    for (section, words) in &described {
        // Names of other commands and the word for nothing are no keys.
        let is_key = |word: &&String| {
            !["null", "ls", "backup", "--json", "unpin"].contains(&&***word) && !word.starts_with("key ")
        };
        let words: BTreeSet<_> = words.iter().filter(is_key).cloned().collect();
        let printed = printed.get(&**section).unwrap_or_else(|| panic!("nothing was printed for {section}"));
        for word in words.symmetric_difference(printed) {
            wrong.push(format!(
                "{section}: `{word}` is {}",
                if words.contains(word) { "not printed" } else { "not described" }
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(described.len(), printed.len());
}
