//! The standard tools as judges of two trees: each returns what it finds different, as text.

use super::process::{Outcome, tool};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Subdirectories of the roots that a tool is not asked about.
pub type LeaveOut<'a> = &'a [&'a str];

fn words(parts: &[&str]) -> Vec<OsString> {
    parts.iter().map(OsString::from).collect()
}

/// Returns a path with a slash at its end: the folder's contents, to rsync.
fn contents(dir: &Path) -> OsString {
    let mut path = dir.as_os_str().to_owned();
    path.push("/");
    path
}

/// `rsync -aHAXn --checksum --itemize-changes --delete` would change nothing.
///
/// rsync cannot handle paths longer than `PATH_MAX`, and reads every byte of a hole.
pub fn rsync(left: &Path, right: &Path, leave_out: LeaveOut<'_>) -> String {
    let mut args = words(&["-aHAXn", "--checksum", "--itemize-changes", "--delete"]);
    args.extend(leave_out.iter().map(|name| format!("--exclude=/{name}").into()));
    args.extend([contents(left), contents(right)]);
    findings(tool("rsync", args), 0)
}

/// `diff -r --no-dereference` finds nothing.
///
/// diff calls any two special files different, and knows paths up to `PATH_MAX`.
pub fn diff(left: &Path, right: &Path, leave_out: LeaveOut<'_>) -> String {
    let mut args = words(&["-r", "--no-dereference"]);
    args.extend(leave_out.iter().map(|name| format!("--exclude={name}").into()));
    args.extend([left.into(), right.into()]);
    findings(tool("diff", args), 0)
}

/// An archive of `left`, made with everything tar knows, compares equal in `right`.
///
/// tar archives paths of any length, but compares only those that fit into `PATH_MAX`.
pub fn tar_compare(left: &Path, right: &Path, archive: &Path, leave_out: LeaveOut<'_>) -> String {
    let create = tar_create(left, archive, leave_out);
    let mut args = words(&["--compare", "--xattrs", "--xattrs-include=*", "--acls"]);
    args.extend(["-f".into(), archive.into(), "-C".into(), right.into()]);
    create + &findings(tool("tar", args), 0)
}

/// Makes an archive with `tar -S`; returns what tar complained about, sockets excepted.
pub fn tar_create(root: &Path, archive: &Path, leave_out: LeaveOut<'_>) -> String {
    let mut args = words(&["-c", "-S", "--xattrs", "--xattrs-include=*", "--acls", "--sort=name"]);
    args.extend(leave_out.iter().map(|name| format!("--exclude=./{name}").into()));
    args.extend(["-f".into(), archive.into(), "-C".into(), root.into(), ".".into()]);
    let mut outcome = tool("tar", args);
    let is_trouble = |line: &&str| !line.ends_with(": socket ignored");
    outcome.stderr = outcome.stderr.lines().filter(is_trouble).collect();
    findings(outcome, 0)
}

/// `find -printf` of every field that must be equal, record by record.
pub fn find(left: &Path, right: &Path, with_layout: bool) -> String {
    // Of directories, size, blocks and links depend on the file system: for copies, files only.
    let format = match with_layout {
        true => r"%P|%y|%m|%U|%G|%s|%b|%k|%n|%l|%T@|%C@\0",
        false => r"%P|%y|%m|%U|%G|%l|%T@\0",
    };
    let list = |root: &Path| {
        let args = [root.as_os_str(), OsStr::new("-printf"), OsStr::new(format)];
        let outcome = tool("find", args);
        let mut trouble = BTreeSet::new();
        if outcome.code != 0 || !outcome.stderr.is_empty() {
            trouble.insert(outcome.to_string().into_bytes());
        }
        (records(&outcome), trouble)
    };
    let (left, right) = (list(left), list(right));
    unequal(&left.0, &right.0) + &unequal(&left.1, &BTreeSet::new()) + &unequal(&right.1, &left.1)
}

/// `du` counts the same, allocated and apparent, for every name.
pub fn du(left: &Path, right: &Path) -> String {
    let count = |root: &Path, option: &str| {
        // Without -l a file of several names counts where it is met first, in no certain order.
        let args = ["-a", "-l", "-0", option].map(OsStr::new);
        let mut command = std::process::Command::new("du");
        command.args(args).arg(".").current_dir(root).env("LC_ALL", "C");
        let outcome = super::process::run(command);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome}");
        records(&outcome)
    };
    ["--bytes", "--block-size=1"].map(|option| unequal(&count(left, option), &count(right, option))).concat()
}

fn records(outcome: &Outcome) -> BTreeSet<Vec<u8>> {
    outcome.stdout.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

fn unequal(left: &BTreeSet<Vec<u8>>, right: &BTreeSet<Vec<u8>>) -> String {
    let show = |sign: &'static str, record: &Vec<u8>| {
        let tail = &record[record.len().saturating_sub(500)..];
        format!("{sign}{}\n", tail.escape_ascii())
    };
    let gone = left.difference(right).map(|record| show("- ", record));
    let new = right.difference(left).map(|record| show("+ ", record));
    gone.chain(new).take(60).collect()
}

/// Returns all a tool said, if it said anything or ended with another code.
fn findings(outcome: Outcome, code: i32) -> String {
    if outcome.code == code && outcome.stdout.is_empty() && outcome.stderr.is_empty() {
        return String::new();
    }
    outcome.to_string()
}

/// Asserts that a tool found nothing.
#[track_caller]
pub fn nothing(tool: &str, findings: String) {
    assert!(findings.is_empty(), "{tool} finds differences:\n{findings}");
}

/// Copies a tree with `cp -a`, holes kept.
pub fn copy(from: &Path, to: &Path) {
    tool("cp", [OsStr::new("-a"), OsStr::new("--"), from.as_os_str(), to.as_os_str()]).expect(0);
}

/// Copies all but some subdirectories of a folder into a new folder with one `cp -a`.
pub fn copy_without(from: &Path, to: &Path, leave_out: LeaveOut<'_>) {
    std::fs::create_dir(to).unwrap();
    let mut args = words(&["-a", "--"]);
    for entry in std::fs::read_dir(from).unwrap() {
        let name = entry.unwrap().file_name();
        if !leave_out.iter().any(|left_out| name == **left_out) {
            args.push(from.join(name).into());
        }
    }
    args.push(to.into());
    tool("cp", args).expect(0);
    let mut reference = OsString::from("--reference=");
    reference.push(from);
    for program in ["chown", "chmod", "touch"] {
        tool(program, [reference.as_os_str(), to.as_os_str()]).expect(0);
    }
}
