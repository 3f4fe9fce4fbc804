//! Promise: every line of docs/operations.md, docs/manual.md and README.md that a person would type does what the page says.
//!
//! A chapter is a table of steps; a step types a line of a page as it stands there, in a world where all paths are the
//! page's, and compares what comes of it. What cannot be typed here is in `ELSEWHERE`, with the test that stands for it.

mod configuration;
mod elsewhere;
mod manual;
mod page;
mod plain;
mod rescue;
mod server;
mod world;

use bakfs_testing::process::Outcome;
use elsewhere::ELSEWHERE;
use page::Item;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::World;

/// What is done, in this order.
const CHAPTERS: [&[Step]; 4] = [server::STEPS, plain::STEPS, rescue::STEPS, manual::STEPS];

/// A step of a chapter. Lines and texts are named as `Item::key` has them.
enum Step {
    /// What the page takes for granted.
    Given(fn(&mut World)),
    /// A line is typed by root, in the shell that typed the last one; then what came of it is compared.
    Types(&'static str, fn(&mut World, Outcome)),
    /// The same, once words that stand for others are replaced (`REPOSITORY`, a key's `...`, a server's address).
    TypesWith(&'static str, fn(&World, &str) -> String, fn(&mut World, Outcome)),
    /// The same at a terminal, beside what the page shows below the line.
    Shows(&'static str, fn(&mut World, Outcome, &[String])),
    /// A crontab's line, run as cron does it.
    Cron(&'static str, fn(&mut World, Outcome)),
    /// A text, put where the page says.
    Text(&'static str, fn(&mut World, &str)),
}

impl Step {
    fn key(&self) -> Option<&'static str> {
        match self {
            Step::Given(_) => None,
            Step::Types(key, _) | Step::TypesWith(key, ..) | Step::Shows(key, _) => Some(key),
            Step::Cron(key, _) | Step::Text(key, _) => Some(key),
        }
    }

    fn act(&self, world: &mut World, item: Option<&Item>) {
        match (self, item) {
            (Step::Given(act), _) => act(world),
            (Step::Types(_, judge), Some(item)) => {
                let outcome = world.types(&item.text);
                judge(world, outcome);
            }
            (Step::TypesWith(_, edit, judge), Some(item)) => {
                let outcome = world.types(&edit(world, &item.text));
                judge(world, outcome);
            }
            (Step::Shows(_, judge), Some(item)) => {
                let outcome = world.types_at_terminal(&item.text);
                judge(world, outcome, &item.shown);
            }
            (Step::Cron(_, judge), Some(item)) => {
                let outcome = world.runs_by_cron(&item.text);
                judge(world, outcome);
            }
            (Step::Text(_, put), Some(item)) => put(world, &item.text),
            (_, None) => panic!("no page has this line any more: take the step away, or change it with the page"),
        }
    }
}

/// Asserts that a line did what it should without a word.
#[track_caller]
fn silently(_: &mut World, outcome: Outcome) {
    assert!(outcome.code == 0 && outcome.stdout.is_empty() && outcome.stderr.is_empty(), "not in silence: {outcome}");
}

/// Asserts that a line succeeded.
#[track_caller]
fn done(_: &mut World, outcome: Outcome) {
    assert!(outcome.code == 0 && outcome.stderr.is_empty(), "not well: {outcome}");
}

#[test]
fn every_line_of_the_pages_has_a_cover() {
    let items = page::items();
    let of_pages: BTreeSet<&str> = items.iter().map(|item| &*item.key).collect();
    let typed = CHAPTERS.iter().flat_map(|steps| steps.iter()).filter_map(Step::key);
    let elsewhere = ELSEWHERE.iter().flat_map(|cover| cover.lines).copied();
    let covered: BTreeSet<&str> = typed.chain(elsewhere).collect();
    let lacking = items.iter().filter(|item| !covered.contains(&*item.key));
    let lacking: Vec<_> = lacking.map(|item| format!("{}: {}", item.place, item.key)).collect();
    let hint = "a step in a chapter of tests/runs/operations, or a place in its ELSEWHERE";
    assert!(lacking.is_empty(), "these lines lack a cover ({hint}):\n{}", lacking.join("\n"));
    let stale: Vec<_> = covered.difference(&of_pages).copied().collect();
    assert!(stale.is_empty(), "no page has these lines any more:\n{}", stale.join("\n"));
}

#[test]
fn what_is_covered_elsewhere_is_so_by_a_test() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for cover in ELSEWHERE {
        let (file, test) = cover.test.split_once("::").unwrap();
        let source = std::fs::read_to_string(root.join(file)).unwrap_or_else(|_| panic!("{file} is named"));
        assert!(source.contains(&format!("#[test]\nfn {test}(")), "{} is no test", cover.test);
        assert!(!cover.why.is_empty() && !cover.lines.is_empty());
    }
}

/// Goes on after a line that failed, so that all of them are told.
#[test]
fn what_the_pages_say_is_what_happens() {
    let items = page::items();
    let mut world = World::new();
    let mut failed = Vec::new();
    for step in CHAPTERS.into_iter().flatten() {
        let item = step.key().and_then(|key| items.iter().find(|item| item.key == key));
        let act = AssertUnwindSafe(|| step.act(&mut world, item));
        if let Err(panic) = catch_unwind(act) {
            let said = panic.downcast_ref::<String>().map(|said| &**said);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            failed.push(format!("--- {}\n{said}", step.key().unwrap_or("what the page takes for granted")));
        }
    }
    drop(world);
    assert!(failed.is_empty(), "{} lines failed:\n{}", failed.len(), failed.join("\n"));
}
