//! Packs, index and snapshot are durable, file and folder, each before the next is stored.

use bakfs_testing::cli::Bakfs;
use bakfs_testing::process::run;

/// What happened to one object or folder, in the order of the system calls.
#[derive(Debug, PartialEq)]
enum Step {
    Synced(String),
    Renamed(String),
}

/// Joins the two halves of calls that others interrupted in the trace: what counts is when they ended.
fn whole_calls(trace: &str) -> Vec<String> {
    let mut begun = std::collections::HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        if let Some(start) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, start.to_string());
        } else if let Some((_, end)) = call.split_once(" resumed>") {
            calls.push(begun.remove(thread).unwrap() + end);
        } else {
            calls.push(call.to_string());
        }
    }
    calls
}

fn steps(trace: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for line in whole_calls(trace).iter().filter(|line| line.contains(" = 0")) {
        // With `-y` strace writes descriptors as 7</path>.
        let path = |from: &str| line.split(from).nth(1).and_then(|rest| rest.split('>').next()).map(str::to_string);
        if line.contains("fsync(") || line.contains("fdatasync(") {
            steps.extend(path("<").map(Step::Synced));
        } else if line.contains("renameat2(") {
            let target = line.split('"').nth(3).unwrap();
            steps.push(Step::Renamed(target.to_string()));
        }
    }
    steps
}

#[test]
fn every_object_is_durable_before_the_next_kind_needs_it() {
    let (bakfs, source) = Bakfs::with_source();
    for n in 0..50 {
        std::fs::write(source.join(n.to_string()), vec![n; 3000 * usize::from(n)]).unwrap();
    }
    let trace = bakfs.path("trace");
    let mut backup = bakfs.wrap("strace");
    backup.args(["-f", "-y", "-e", "trace=fsync,fdatasync,renameat2", "-o"]).arg(&trace);
    backup.args([env!("CARGO_BIN_EXE_bakfs"), "backup"]).arg(&source);
    run(backup).expect(0);

    let steps = steps(&std::fs::read_to_string(trace).unwrap());
    let at = |wanted: &dyn Fn(&Step) -> bool| steps.iter().position(wanted);
    let last = |wanted: &dyn Fn(&Step) -> bool| steps.iter().rposition(wanted);
    let renamed = |kind: &'static str| move |step: &Step| matches!(step, Step::Renamed(path) if path.contains(kind));
    let in_repo = |kind: &str| bakfs.repo().join(kind).to_str().unwrap().to_string();
    let snapshot = at(&renamed("/snapshots/")).expect("a snapshot is stored");
    let index = last(&renamed("/index/")).expect("an index segment is stored");
    let pack = last(&renamed("/packs/")).expect("packs are stored");
    assert!(pack < index && index < snapshot, "{steps:#?}");

    // Each object's bytes are synced under the temporary name just before it gets its own.
    let objects = steps.iter().enumerate().filter_map(|(at, step)| match step {
        Step::Renamed(path) if path.contains("/repo/") => Some((at, path)),
        _ => None,
    });
    for (at, path) in objects {
        let folder = &path[..path.rfind('/').unwrap()];
        let synced = steps[..at]
            .iter()
            .any(|step| matches!(step, Step::Synced(synced) if synced.starts_with(&format!("{folder}/.tmp-"))));
        assert!(synced, "{path} was renamed before its bytes were synced");
    }
    // Every pack's folder is synced between its rename and the index; the index's before the snapshot.
    for (at, step) in steps.iter().enumerate() {
        let Step::Renamed(path) = step else { continue };
        let (kind, before) = if path.contains("/repo/packs/") {
            ("packs", index)
        } else if path.contains("/repo/index/") {
            ("index", snapshot)
        } else if path.contains("/repo/snapshots/") {
            ("snapshots", steps.len())
        } else {
            continue;
        };
        let folder = path[..path.rfind('/').unwrap()].to_string();
        assert!(folder.starts_with(&in_repo(kind)));
        assert!(
            steps[at..before].contains(&Step::Synced(folder)),
            "the folder of {path} is synced too late:\n{steps:#?}"
        );
    }
}
