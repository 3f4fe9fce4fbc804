//! The documents name tests; the tests exist.

use std::path::Path;

/// Returns what is wrong with a test that is named.
fn missing_test(root: &Path, file: &str, test: &str) -> Option<String> {
    let Ok(source) = std::fs::read_to_string(root.join(file)) else { return Some(format!("there is no {file}")) };
    // Those of `proptest!` are indented.
    let source = source.lines().map(str::trim_start).collect::<Vec<_>>().join("\n");
    let is_there = source.contains(&format!("#[test]\nfn {test}("));
    (!is_there).then(|| format!("{file}::{test} is no test"))
}

#[test]
fn every_test_that_a_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = 0;
    let documents = [
        "semantics",
        "operations",
        "configuration",
        "patterns",
        "prune",
        "security",
        "json",
        "compatibility",
        "manual",
    ]
    .map(|name| format!("docs/{name}.md"));
    for document in documents.iter().map(|name| &**name).chain(["README.md"]) {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        for part in text.split('`').skip(1).step_by(2) {
            let Some((file, test)) = part.split_once("::").filter(|(file, _)| file.ends_with(".rs")) else { continue };
            named += 1;
            let problem = missing_test(root, file, test);
            assert!(problem.is_none(), "{document}: {}", problem.unwrap());
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

/// The lists of faults that were found in the field, with the names of their findings.
const FINDINGS: &[(&str, &str, &[u32])] = &[
    ("security", "S", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]),
    ("databases", "F", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
    ("backup", "", &[1, 2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14]),
    ("people", "", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
    ("mount", "F", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ("tools", "F", &[1, 2, 3, 4, 5]),
    ("remote", "", &[1, 2, 3, 4, 7, 9, 10]),
    ("time", "F", &[1, 2, 4, 5, 7, 8]),
];

#[test]
fn every_fault_from_the_field_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("tests/field.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut held: std::collections::BTreeMap<&str, Vec<&str>> = Default::default();
    for line in lines {
        let mut words = line.split_whitespace();
        let finding = words.next().unwrap();
        let tests: Vec<_> = words.collect();
        assert!(held.insert(finding, tests).is_none(), "{finding} stands twice");
    }
    for (list, letter, numbers) in FINDINGS {
        for number in *numbers {
            let finding = format!("{list}.{letter}{number}");
            let tests = held.remove(&*finding).unwrap_or_else(|| panic!("{finding} has no line in tests/field.txt"));
            assert!(!tests.is_empty(), "{finding} has no test");
            for test in tests {
                if test.strip_prefix("issue-").is_some_and(|number| number.parse::<u32>().is_ok()) {
                    continue;
                }
                let (file, test) = test.split_once("::").unwrap_or_else(|| panic!("{finding}: `{test}` is no test"));
                let problem = missing_test(root, file, test);
                assert!(problem.is_none(), "{finding}: {}", problem.unwrap());
            }
        }
    }
    assert!(held.is_empty(), "findings of no list: {held:?}");
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
