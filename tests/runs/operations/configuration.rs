//! docs/configuration.md: its texts are configurations, and its keys are those there are.

use super::page::items_of;
use bakfs_testing::cli::Bakfs;
use bakfs_testing::process::Outcome;
use bakfs_testing::write;
use std::collections::BTreeSet;
use std::path::Path;

const PAGE: &str = "docs/configuration.md";

fn page() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).unwrap()
}

fn shown(bakfs: &Bakfs, text: &str) -> Outcome {
    write(&bakfs.path("config/bakfs.toml"), text);
    bakfs.run(["config", "show"])
}

#[test]
fn every_text_of_the_page_is_a_configuration() {
    let bakfs = Bakfs::empty();
    let texts: Vec<_> = items_of(PAGE, &page()).into_iter().filter(|item| !item.is_typed).collect();
    assert!(texts.len() >= 3, "{}", texts.len());
    for item in texts {
        // What a text takes for granted: a profile that has something to back up.
        let names = ["main", "shop"].into_iter().filter(|name| item.text.contains(&format!("[profile.{name}.")));
        let given: String = names.map(|name| format!("[profile.{name}]\nsources = ['/etc']\n")).collect();
        let outcome = shown(&bakfs, &(given + &item.text));
        assert!(outcome.code == 0 && outcome.stderr.is_empty(), "{}, {}: {outcome}", item.place, item.key);
    }
}

#[test]
fn the_page_has_the_keys_of_a_profile_that_there_are() {
    let page = page();
    let table = page.split("| key | meaning |").nth(1).unwrap().split("\n\n").next().unwrap();
    let cells = table.lines().skip(2).map(|row| row.split(" | ").next().unwrap());
    let quoted = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(|key| key.split(" = ").next().unwrap());
    let told: BTreeSet<&str> = quoted.collect();
    // The program names them all when it is given another.
    let said = shown(&Bakfs::empty(), "[profile.main]\nnonsense = 1\n").expect(2).stderr;
    let known: BTreeSet<&str> = said.trim().split("there are ").nth(1).unwrap().split(", ").collect();
    let unknown: Vec<_> = told.difference(&known).collect();
    assert!(unknown.is_empty() && told.len() > 15, "the page has keys that there are not: {unknown:?}");
    // Databases have a section of their own, and kinds of runs a row in which they are named.
    let is_told =
        |key: &str| told.contains(key) || page.contains(&format!("`{key}`")) || page.contains(&format!(".{key}]]"));
    let missing: Vec<_> = known.iter().filter(|key| !is_told(key)).collect();
    assert!(missing.is_empty(), "the page has not: {missing:?}");
}
