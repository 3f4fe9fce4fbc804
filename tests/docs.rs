//! The documents name tests; the tests exist.
#![allow(clippy::unwrap_used)]

use std::path::Path;

#[test]
fn every_test_that_a_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = 0;
    let documents =
        ["semantics", "operations", "configuration", "prune", "security"].map(|name| format!("docs/{name}.md"));
    for document in documents.iter().map(|name| &**name).chain(["README.md"]) {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        for part in text.split('`').skip(1).step_by(2) {
            let Some((file, test)) = part.split_once("::").filter(|(file, _)| file.ends_with(".rs")) else { continue };
            named += 1;
            let source = std::fs::read_to_string(root.join(file)).unwrap_or_else(|_| panic!("{document} names {file}"));
            // Those of `proptest!` are indented.
            let source = source.lines().map(str::trim_start).collect::<Vec<_>>().join("\n");
            let function = format!("#[test]\nfn {test}(");
            assert!(source.contains(&function), "{document} names {file}::{test}, which is no test");
        }
    }
    assert!(named > 40, "the documents were read: {named}");
}

#[test]
fn every_promise_names_a_test() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/semantics.md")).unwrap();
    let promises: Vec<_> = text.split("\n\n").filter(|paragraph| paragraph.starts_with("**")).collect();
    assert!(promises.len() > 15);
    for promise in promises {
        assert!(promise.contains("Tests: `"), "no test is named for: {}", promise.lines().next().unwrap());
    }
}

#[test]
fn a_promise_has_a_name_of_its_own() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/semantics.md")).unwrap();
    let mut names: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("**")?.split(' ').next())
        .map(|name| name.trim_end_matches("**"))
        .collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all, "two promises have one name");
}

/// The last cell of a row is its test.
#[test]
fn every_row_of_the_threat_model_names_a_test_or_says_that_it_is_not_defended() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md")).unwrap();
    let mut rows = 0;
    for section in
        text.split("\n\n").filter(|section| section.lines().next().is_some_and(|head| head.ends_with("| test |")))
    {
        for row in section.lines().skip(2) {
            let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            assert_eq!(cells.len(), 3, "a row has three cells: {row}");
            let is_tested = cells[2].starts_with('`') && cells[2].contains(".rs::");
            assert!(is_tested || cells[2].starts_with("not defended"), "no test, and not said to be open: {row}");
            rows += 1;
        }
    }
    assert!(rows > 25, "the tables were read: {rows}");
}
