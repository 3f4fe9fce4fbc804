//! `bakfs demo` shows what it promises and leaves nothing behind.

use std::process::Command;

#[test]
fn the_demo_shows_two_days_and_cleans_up() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bakfs")).arg("demo").env("TMPDIR", folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for shown in ["$ bakfs mount history", "yesterday -> ", "> 192.0.2.7 printer", "lamp|2", "fstab.restored"] {
        assert!(text.contains(shown), "{shown} is not in:\n{text}");
    }
    assert!(output.stderr.is_empty(), "it said: {}", String::from_utf8_lossy(&output.stderr));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn a_demo_that_is_kept_can_be_looked_at_and_ended() {
    let folder = tempfile::tempdir().unwrap();
    let bakfs = || Command::new(env!("CARGO_BIN_EXE_bakfs"));
    let output = bakfs().args(["demo", "--keep"]).env("TMPDIR", folder.path()).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let base = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let kept = base.join("history/today/etc/passwd").exists();
    let ended = bakfs().arg("umount").arg(base.join("history")).status().unwrap();
    assert!(kept && ended.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("To end it: bakfs umount"));
}
