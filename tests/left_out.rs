//! What a backup never contains: itself, and what the kernel only pretends to keep.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Sandbox {
    folder: tempfile::TempDir,
}

impl Sandbox {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn bakfs(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_bakfs"))
            .args(arguments)
            .env("BAKFS_REPO", self.path("source/repo"))
            .env("BAKFS_CACHE_DIR", self.path("source/cache"))
            .env("BAKFS_CONFIG_DIR", self.path("config"))
            .output()
            .unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.bakfs(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_repository_its_cache_and_mounts_of_histories_are_left_out() {
    let sandbox = Sandbox { folder: tempfile::tempdir().unwrap() };
    let (source, history) = (sandbox.path("source"), sandbox.path("source/history"));
    std::fs::create_dir_all(&history).unwrap();
    std::fs::write(source.join("file"), "kept").unwrap();
    sandbox.ok(&["init"]);
    sandbox.ok(&["backup", source.to_str().unwrap()]);
    sandbox.ok(&["mount", history.to_str().unwrap()]);
    let again = sandbox.bakfs(&["backup", source.to_str().unwrap()]);
    let below = history.join("latest").join(source.strip_prefix("/").unwrap());
    let kept = std::panic::catch_unwind(|| names(&below));
    sandbox.ok(&["umount", history.to_str().unwrap()]);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(kept.unwrap(), ["file"]);
}

#[test]
fn kernel_file_systems_are_kept_as_empty_directories() {
    let sandbox = Sandbox { folder: tempfile::tempdir().unwrap() };
    let source = sandbox.path("tree");
    std::fs::create_dir_all(source.join("proc")).unwrap();
    std::fs::create_dir_all(sandbox.path("source")).unwrap();
    std::fs::write(source.join("file"), "kept").unwrap();
    let mounted = Command::new("mount").args(["-t", "proc", "proc"]).arg(source.join("proc")).status().unwrap();
    assert!(mounted.success(), "this test mounts proc, which takes root");
    sandbox.ok(&["init"]);
    let backup = sandbox.bakfs(&["backup", "--json", source.to_str().unwrap()]);
    let unmounted = Command::new("umount").arg(source.join("proc")).status().unwrap();
    assert!(unmounted.success() && backup.status.success(), "{}", String::from_utf8_lossy(&backup.stderr));
    let summary: serde_json::Value = serde_json::from_slice(&backup.stdout).unwrap();
    assert_eq!(summary["files_new"], 1, "{summary}");
    assert_eq!(summary["read_bytes"], 4);
}
