//! A mount that shows no extended attributes gives nobody more than the ACLs it hides.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn hidden_lists_narrow_the_modes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let bakfs = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bakfs"));
        for (variable, name) in [("BAKFS_REPO", "repo"), ("BAKFS_CACHE_DIR", "cache"), ("BAKFS_CONFIG_DIR", "config")] {
            command.env(variable, path(name));
        }
        run(command.args(arguments))
    };
    std::fs::create_dir_all(path("source")).unwrap();
    std::fs::create_dir_all(path("history")).unwrap();
    let (listed, plain) = (path("source/listed"), path("source/plain"));
    std::fs::write(&listed, "secret").unwrap();
    std::fs::write(&plain, "open").unwrap();
    for file in [&listed, &plain] {
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o644)).unwrap();
    }
    run(Command::new("setfacl").args(["-m", "u:1234:rwx,u:1235:---"]).arg(&listed));
    assert_eq!(mode(&listed), 0o674, "the group bits of a file with a list are its mask");
    bakfs(&["init"]);
    bakfs(&["backup", path("source").to_str().unwrap()]);
    let history = path("history");
    let below = history.join("latest").join(listed.parent().unwrap().strip_prefix("/").unwrap());
    let shown = |more: &[&str]| {
        bakfs(&[&["mount"], more, &[history.to_str().unwrap()]].concat());
        let modes = (mode(&below.join("listed")), mode(&below.join("plain")));
        let mut names = [0u8; 256];
        let xattrs = rustix::fs::listxattr(below.join("listed"), &mut names);
        bakfs(&["umount", history.to_str().unwrap()]);
        (modes, xattrs)
    };
    let (modes, xattrs) = shown(&[]);
    assert_eq!(modes, (0o674, 0o644));
    assert!(xattrs.unwrap() > 0);
    let (modes, xattrs) = shown(&["--no-xattrs"]);
    // User 1235 is shut out by the list: neither as one of the group nor of the others may it come in.
    assert_eq!(modes, (0o600, 0o644));
    assert_eq!(xattrs, Err(rustix::io::Errno::OPNOTSUPP));
}
