//! What a first backup stored before it was killed is not stored again.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn packs_of_a_killed_first_backup_are_used_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let bakfs = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bakfs"));
        for (variable, name) in [("BAKFS_REPO", "repo"), ("BAKFS_CACHE_DIR", "cache"), ("BAKFS_CONFIG_DIR", "config")] {
            command.env(variable, path(name));
        }
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    std::fs::create_dir(path("source")).unwrap();
    for n in 0..40u8 {
        std::fs::write(path("source").join(n.to_string()), vec![n; 20_000]).unwrap();
    }
    let source = path("source").to_str().unwrap().to_string();
    bakfs(&["init"]);
    bakfs(&["backup", &source]);
    // As if it had been killed between its last pack and its index.
    for kind in ["index", "snapshots"] {
        files(&path("repo").join(kind)).iter().for_each(|file| std::fs::remove_file(file).unwrap());
    }
    std::fs::remove_dir_all(path("cache")).unwrap();
    let before = files(&path("repo/packs"));
    let summary: serde_json::Value = serde_json::from_str(&bakfs(&["backup", "--json", &source])).unwrap();
    assert_eq!(summary["read_bytes"], 800_000);
    let after = files(&path("repo/packs"));
    assert!(before.iter().all(|pack| after.contains(pack)));
    // Nothing was stored again: at most a pack of the pages whose directories changed since.
    assert!(summary["added_bytes"].as_u64().unwrap() < 20_000, "{summary}");
    bakfs(&["check", "--read-data"]);
    let restored = path("restored");
    bakfs(&["restore", "latest", restored.to_str().unwrap()]);
    let file = restored.join(source.trim_start_matches('/')).join("39");
    assert_eq!(std::fs::read(file).unwrap(), vec![39; 20_000]);
}
