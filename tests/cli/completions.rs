//! Promise: a shell completes commands, options, and the snapshots, profiles, tags and hosts that there are; nobody is
//! asked for a passphrase by it, and no command is run for one.

use bakfs_testing::cli::Bakfs;
use bakfs_testing::process::run;
use bakfs_testing::write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// Two snapshots, of a profile and by hand.
fn furnished() -> (Bakfs, PathBuf) {
    let (bakfs, source) = Bakfs::with_source();
    write(&source.join("f"), "1");
    let text = format!(
        "repo = {:?}\n[profile.shop]\nsources = [{source:?}]\n[profile.site]\nsources = ['/srv']\n",
        bakfs.repo()
    );
    write(&bakfs.path("config/bakfs.toml"), text);
    let path = source.to_str().unwrap();
    bakfs.backup(["--time", "2026-03-01T03:00:00Z", "--tag", "before-upgrade", "--host", "web1", path]);
    bakfs.backup(["--time", "2026-03-02T03:00:00Z", "--tag", "shop,odd tag", path]);
    symlink(bakfs_testing::cli::program(), bakfs.make_dir("bin").join("bakfs")).unwrap();
    (bakfs, source)
}

/// Returns what bash offers for the last word of a line.
fn bash(bakfs: &Bakfs, words: &[&str]) -> Vec<String> {
    let script = r#"source <(bakfs completions bash)
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_TYPE=9
        _clap_complete_bakfs bakfs "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let mut command = bakfs.wrap("bash");
    command.args(["-c", script, "bash"]).args(words);
    command.env("PATH", format!("{}:/usr/bin:/bin", bakfs.path("bin").display()));
    let outcome = run(command).expect(0);
    assert_eq!(outcome.stderr, "", "nothing is said while somebody types");
    outcome.text().lines().map(str::to_owned).filter(|line| !line.is_empty()).collect()
}

#[test]
fn snapshots_profiles_tags_and_hosts_are_completed() {
    let (bakfs, _) = furnished();
    let offered = |words: &[&str]| bash(&bakfs, words);
    let snapshots = offered(&["bakfs", "restore", "2026-"]);
    assert_eq!(snapshots, ["2026-03-02T03-00-00Z", "2026-03-01T03-00-00Z"], "the newest first");
    assert_eq!(offered(&["bakfs", "ls", "la"]), ["latest"]);
    assert_eq!(offered(&["bakfs", "diff", "latest", "2026-03-01"]), ["2026-03-01T03-00-00Z"]);
    assert_eq!(offered(&["bakfs", "dump", "sh"]), ["shop/latest"]);
    assert_eq!(offered(&["bakfs", "forget", "y"]), ["yesterday"]);
    assert_eq!(offered(&["bakfs", "run", "s"]), ["shop", "site"]);
    assert_eq!(offered(&["bakfs", "snapshots", "--tag", "b"]), ["before-upgrade"]);
    assert!(offered(&["bakfs", "snapshots", "--tag", "od"]).is_empty(), "a tag of two words would be taken for two");
    assert_eq!(offered(&["bakfs", "snapshots", "--host", "w"]), ["web1"]);
    assert_eq!(offered(&["bakfs", "snap"]), ["snapshots"]);
    assert_eq!(offered(&["bakfs", "check", "--read-data-s"]), ["--read-data-subset"]);
}

#[test]
fn the_repository_of_the_line_is_asked_and_one_that_cannot_be_opened_says_nothing() {
    let (bakfs, source) = furnished();
    let other = bakfs.path("other");
    let named = other.to_str().unwrap();
    bakfs.ok(["--repo", named, "init"]);
    bakfs.ok(["--repo", named, "backup", "--time", "2025-01-01T00:00:00Z", source.to_str().unwrap()]);
    assert_eq!(bash(&bakfs, &["bakfs", "--repo", named, "restore", "20"]), ["2025-01-01T00-00-00Z"]);
    assert_eq!(bash(&bakfs, &["bakfs", "restore", "--repo", named, "20"]), ["2025-01-01T00-00-00Z"]);
    assert!(bash(&bakfs, &["bakfs", "--repo", "/nowhere", "restore", "20"]).is_empty());
    // A command for the passphrase may ask, wait, or do something.
    let ran = bakfs.path("ran");
    let ask = format!("touch {}; echo secret", ran.display());
    assert!(bash(&bakfs, &["bakfs", "--password-command", &ask, "restore", "20"]).is_empty());
    let text = format!("repo = {:?}\npassword-command = {ask:?}\n", bakfs.repo());
    write(&bakfs.path("config/bakfs.toml"), text);
    assert!(bash(&bakfs, &["bakfs", "restore", "20"]).is_empty());
    assert!(!ran.exists());
}

#[test]
fn zsh_and_fish_complete_the_same() {
    let (bakfs, _) = furnished();
    let path = format!("{}:/usr/bin:/bin", bakfs.path("bin").display());
    let mut fish = bakfs.wrap("fish");
    fish.args(["--no-config", "-c", "bakfs completions fish | source; complete -C 'bakfs restore 2026-'"]);
    fish.env("PATH", &path);
    let offered = run(fish).expect(0).text();
    let names: Vec<&str> = offered.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(names, ["2026-03-02T03-00-00Z", "2026-03-01T03-00-00Z"], "{offered}");
    assert!(offered.contains("web1 #before-upgrade"), "with what tells them apart: {offered}");
    // zsh asks only a terminal what it offers: here its function is called in the place of that.
    let script = "autoload -Uz compinit && compinit -D; source <(bakfs completions zsh); \
                  _describe() { print -l -- ${(P)${@[-1]}}; }; compadd() { print -l -- $@; }; \
                  words=(bakfs restore 2026-); CURRENT=3; _clap_dynamic_completer_bakfs";
    let mut zsh = bakfs.wrap("zsh");
    zsh.args(["-f", "-c", script]).env("PATH", &path);
    let offered = run(zsh).expect(0).text();
    assert!(offered.contains("2026-03-02T03-00-00Z") && offered.contains("2026-03-01T03-00-00Z"), "{offered}");
}
