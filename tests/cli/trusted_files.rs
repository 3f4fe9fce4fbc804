//! Promise: root runs no script and uses no secret that others could have written, however they are called and wherever
//! they lie; what a container is handed, where nobody can write, is used.

use bakfs_testing::device::Device;
use bakfs_testing::machine::Machine;
use bakfs_testing::process::{Outcome, run, tool};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const PROFILE: &str = "[profile.web]\nsources = ['@/source']\n";

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// A machine with something to back up and an encrypted repository.
fn machine() -> Machine {
    bakfs_testing::need_root();
    let machine = Machine::new(PROFILE);
    set_mode(&machine.path(""), 0o755);
    machine.write("source/page", "hello\n");
    machine
}

#[test]
fn a_script_that_others_could_change_is_not_run_by_root_however_it_is_called() {
    let machine = machine();
    let script = machine.write("w/hk", "touch @/ran; echo passphrase\n");
    machine.write("w/run-by", "#!@/w/hk\n");
    set_mode(&machine.path("w/run-by"), 0o755);
    let source = machine.path("source").display().to_string();
    let refused = |what: &str, outcome: Outcome, remedy: &str| {
        let told = outcome.stderr.contains(remedy) || outcome.text().contains(remedy);
        assert!(outcome.code != 0 && told, "{what}: {outcome}");
        assert!(!machine.path("ran").exists(), "{what}");
    };
    let hook = |command: &str| format!("{PROFILE}hooks = {{ before = {command} }}\n");
    let hooks = [
        "'sh @/w/hk'",
        "'/bin/sh -e @/w/hk now'",
        "['sh', '@/w/hk']",
        "['/bin/sh', '-c', 'exec sh @/w/hk']",
        "'true && . @/w/hk'",
        "'[ -e @/w/hk ] && nice sh \"@/w/hk\"'",
        "'sh < @/w/hk'",
        "'@/w/run-by'",
    ];
    let command = format!("{PROFILE}[[profile.web.command]]\nname = 'c'\nrun = 'sh @/w/hk'\n");
    let folder = machine.path("w");
    for (path, bad, well) in [(&script, 0o777, 0o644), (&script, 0o666, 0o644), (&folder, 0o777, 0o755)] {
        set_mode(path, bad);
        let remedy = format!("chmod go-w {}", path.display());
        for text in hooks {
            machine.configure(&hook(text));
            refused(text, machine.run(["run", "web"]), &remedy);
        }
        refused("config check", machine.run(["config", "check"]), &remedy);
        machine.configure(&command);
        refused("a dump", machine.run(["run", "web"]), &remedy);
        refused("a dump that is looked at", machine.run(["config", "check"]), &remedy);
        machine.configure(PROFILE);
        let line = format!("sh {}", script.display());
        refused("a password", machine.run(["--password-command", &line, "backup", &source]), &remedy);
        machine.configure(&format!("password-command = 'sh @/w/hk'\n{PROFILE}"));
        refused("a password of the configuration", machine.run(["snapshots"]), &remedy);
        // What is only handled is nobody's program.
        machine.configure(&hook("'touch @/w/hk; sudo -u nobody true @/w/hk || true; cat @/w/hk > @/w/copy'"));
        machine.ok(["run", "web"]);
        set_mode(path, well);
    }
    machine.configure(&hook("'sh @/w/hk'"));
    machine.ok(["run", "web"]);
    assert!(machine.path("ran").exists());
}

#[test]
fn secrets_that_a_container_is_handed_are_used_and_told_of() {
    let machine = machine();
    let key = std::fs::read_dir(machine.path("config/keys")).unwrap().flatten().next().unwrap().path();
    let secrets = machine.path("secrets");
    let _device = Device::memory(&secrets, 1);
    // As Kubernetes lays them out.
    let shown = machine.path("secrets/..2026_11_29");
    std::fs::create_dir(&shown).unwrap();
    std::fs::copy(&key, shown.join("pass")).unwrap();
    symlink("..2026_11_29", secrets.join("..data")).unwrap();
    symlink("..data/pass", secrets.join("pass")).unwrap();
    machine.write("secrets/hook", "#!/bin/sh\ntouch @/ran\n");
    std::fs::rename(&key, machine.path("key")).unwrap();
    for (path, bits) in [("", 0o777), ("hook", 0o777), ("..2026_11_29", 0o777), ("..2026_11_29/pass", 0o444)] {
        set_mode(&secrets.join(path), bits);
    }
    let pass = secrets.join("pass").display().to_string();
    let settings = format!("password-file = '{pass}'\n{PROFILE}hooks = {{ before = '@/secrets/hook' }}\n");
    machine.configure(&settings);
    machine.run(["snapshots"]).expect(1).says("chmod 600");
    set_mode(&shown.join("pass"), 0o400);
    machine.run(["snapshots"]).expect(1).says("chmod go-w");
    let remount = |how: &str| drop(tool("mount", ["-o", how, secrets.to_str().unwrap()]).expect(0));
    remount("remount,ro");
    assert_eq!(machine.ok(["run", "web"]).stderr, "", "its owner's alone");
    assert!(machine.path("ran").exists());
    remount("remount,rw");
    set_mode(&shown.join("pass"), 0o444);
    remount("remount,ro");
    let told = machine.ok(["run", "web"]);
    assert_eq!(told.stderr.matches("others may read the secrets in").count(), 1, "{told}");
    machine.configure(PROFILE);
    let mut named = machine.command(["snapshots"]);
    named.env("BAKFS_PASSWORD_FILE", &pass);
    run(named).expect(0).says("others may read");
    // A view that is read-only, of what others can write to elsewhere, is none that nobody can write to.
    remount("remount,rw");
    let view = machine.path("view");
    let _view = Device::read_only_view(&secrets, &view);
    machine.configure(&settings.replace("/secrets/pass", "/view/pass").replace("/secrets/hook", "/view/hook"));
    machine.run(["snapshots"]).expect(1).says("chmod 600");
    set_mode(&shown.join("pass"), 0o400);
    machine.run(["snapshots"]).expect(1).says("chmod go-w");
}
