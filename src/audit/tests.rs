//! Single checks, each with what it names and what it lets pass.

use super::*;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

fn settings(folder: &Path, text: &str) -> Settings {
    let path = folder.join("bakfs.toml");
    std::fs::write(&path, text).unwrap();
    Settings::read(&path).unwrap()
}

fn audited(folder: &Path, text: &str) -> Vec<Finding> {
    let settings = settings(folder, text);
    let mut budget = Budget::new(1000, Duration::from_secs(3600));
    profile(&settings.profiles["web"], &Machine::at(folder), &mut budget)
}

/// Returns what is not fine.
fn bad(findings: &[Finding]) -> Vec<String> {
    let bad = findings.iter().filter(|finding| finding.severity > Severity::Fine);
    bad.map(|finding| format!("{} {}: {}", finding.severity.word(), finding.subject, finding.text)).collect()
}

const KEPT: &str = "schedule = ['daily']\nkeep = { daily = 7 }\n";

#[test]
fn each_trouble_of_a_profile_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    std::fs::create_dir(root.join("data")).unwrap();
    std::fs::write(root.join("plain"), "").unwrap();
    let at = |name: &str| root.join(name).display().to_string();
    let sources = format!("sources = ['{}']\n{KEPT}", at("data"));
    for (text, told) in [
        (sources.clone(), ""),
        (format!("sources = ['{}']\n{KEPT}", at("none")), "problem web: source"),
        (format!("{sources}exclude = ['a{{b,c']"), "problem web: exclude: `exclude` of the profile web: \"a{b,c\" is"),
        (format!("{sources}exclude = ['/nosuch/x']"), "hint web: exclude: `/nosuch/x` leaves out nothing"),
        (format!("{sources}exclude = ['~/x']"), "problem web: exclude: "),
        (format!("{sources}exclude = ['!/tmp', '{}/x']", at("data")), ""),
        (format!("{sources}exclude-file = ['{}']", at("none")), "problem web: exclude: cannot read the patterns"),
        (format!("{sources}exclude = ['{}']", at("data")), "hint web: source"),
        (format!("{sources}exclude = ['{}/']", root.display()), "hint web: source"),
        (format!("{sources}hooks.before = ['{}']", at("none")), "problem web: hook before: there is no"),
        (format!("{sources}hooks.after = ['{}']", at("plain")), "problem web: hook after: "),
        (
            format!("{sources}hooks.finally = ['no-such-program-at-all']"),
            "problem web: hook finally: there is no program",
        ),
        (format!("{sources}hooks.finally = ['sh', '-c', 'x']"), ""),
        (format!("{sources}hooks.on-failure = 'if true'"), "problem web: hook on-failure: the shell cannot read it"),
        (format!("{sources}hooks.on-failure = 'exit 1'"), ""),
        (format!("{sources}hooks.before = ' '"), "problem web: hook before: is empty"),
        (format!("{sources}hooks.before = []"), "problem web: hook before: is empty"),
        (sources.replace("['daily']", "[]"), "hint web: no schedule ever runs it"),
        (sources.replace("keep =", "weekly.keep ="), "hint web: it has no `keep`"),
    ] {
        let found = bad(&audited(root, &format!("[profile.web]\n{text}")));
        match told {
            "" => assert!(found.is_empty(), "{text}: {found:?}"),
            told => assert!(found.iter().any(|it| it.starts_with(told)), "{text}: {found:?}"),
        }
        assert!(found.len() <= 1, "{text}: {found:?}");
    }
}

#[test]
fn files_of_a_server_that_does_not_run_are_files() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let source = format!("[profile.web]\nsources = ['{}']\n{KEPT}", root.display());
    for path in ["var/lib/postgresql/15/main/PG_VERSION", "var/lib/postgresql/15/main/global", "var/lib/mysql/ibdata1"]
    {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
    }
    assert!(bad(&audited(root, &source)).is_empty());
}

#[test]
fn a_database_that_is_not_dumped_and_what_could_be_left_out_are_pointed_out() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let mut page = b"SQLite format 3\0".to_vec();
    page.resize(4096, 0);
    for number in 0..12 {
        std::fs::write(root.join(format!("{number:02}.db")), &page).unwrap();
    }
    let source = format!("[profile.web]\nsources = ['{}']\n{KEPT}", root.display());
    let found = bad(&audited(root, &source));
    assert_eq!(found.len(), 11, "{found:?}");
    assert!(found[0].contains("00.db") && found[10].contains("and 2 SQLite databases more"), "{found:?}");
    let dumped = format!("{source}[[profile.web.sqlite]]\npath = '{}/[01]?.db'\n", root.display());
    assert!(bad(&audited(root, &dumped)).iter().all(|it| !it.contains("SQLite")));
    let one = format!("{source}[[profile.web.sqlite]]\npath = '{}/00.db'\n", root.display());
    assert!(bad(&audited(root, &one)).iter().any(|it| it.contains("and 1 SQLite database more")));
}

#[test]
fn secrets_are_their_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    assert_eq!(secrets::check("x", &path), None);
    std::fs::write(&path, "").unwrap();
    for (mode, severity) in [(0o600, Severity::Fine), (0o400, Severity::Fine), (0o640, Severity::Problem)] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let found = secrets::check("x", &path).unwrap();
        assert_eq!(found.severity, severity, "{mode:o}");
        assert_eq!(found.text.contains("`chmod 600 "), severity == Severity::Problem);
    }
    let url = "[defaults.notify]\nwebhook = 'https://x/y'\n[profile.web]\nsources = ['/']\n";
    let found = files(&settings(folder.path(), url));
    assert!(found.len() == 1 && found[0].severity == Severity::Problem, "{found:?}");
    assert!(files(&settings(folder.path(), "[profile.web]\nsources = ['/']\n")).is_empty());
}

#[test]
fn two_profiles_that_do_the_same_are_pointed_out() {
    let folder = tempfile::tempdir().unwrap();
    let two = "[profile.one]\nsources = ['/srv']\n[profile.two]\nsources = ['/srv']\n";
    let found = together(&settings(folder.path(), two));
    assert!(found.len() == 1 && found[0].text.contains("`two`"), "{found:?}");
    for other in ["exclude = ['x']\n", "[[profile.two.command]]\nname = 'x'\nrun = 'x'\n"] {
        assert!(together(&settings(folder.path(), &format!("{two}{other}"))).is_empty(), "{other}");
    }
}
