//! Rooms depend on one another in one direction only, and three crates have one door each.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What each room may use, besides itself. Verbs never use one another.
const ALLOWED: &[(&str, &[&str])] = &[
    ("id", &[]),
    ("error", &[]),
    ("clock", &[]),
    ("spelling", &[]),
    ("monitor", &[]),
    ("path", &[]),
    ("pattern", &[]),
    ("text", &["pattern"]),
    ("variable", &["error", "spelling"]),
    ("format", &["id", "error"]),
    ("source", &["error", "format", "path", "pattern", "text"]),
    ("trust", &["error", "source"]),
    ("crypto", &["id", "error", "format", "trust"]),
    ("chunk", &["crypto", "format"]),
    ("quantity", &[]),
    ("log", &["spelling", "trust"]),
    ("process", &["error", "source", "trust"]),
    ("retention", &["id", "error", "clock"]),
    ("settings", &["error", "spelling", "format", "quantity", "retention", "pattern", "text", "trust"]),
    ("state", &["error", "clock", "settings", "trust"]),
    ("database", &["error", "settings", "source", "process", "pattern", "text", "trust"]),
    ("machine", &["source"]),
    (
        "audit",
        &["error", "machine", "settings", "source", "database", "process", "quantity", "path", "pattern", "trust"],
    ),
    ("notify", &["error", "quantity", "settings", "process", "state", "spelling", "trust", "text"]),
    ("schedule", &["error", "settings", "process", "variable", "trust"]),
    ("store", &["id", "error", "crypto", "text", "trust"]),
    ("known", &["id", "error", "format", "crypto", "path", "trust"]),
    ("repo", &["id", "error", "clock", "spelling", "format", "crypto", "store", "known", "trust"]),
    (
        "backup",
        &["id", "error", "clock", "monitor", "quantity", "format", "chunk", "source", "repo", "store", "path", "text"],
    ),
    ("restore", &["id", "error", "monitor", "format", "source", "repo", "store"]),
    ("check", &["id", "error", "monitor", "quantity", "format", "crypto", "repo", "store"]),
    ("prune", &["id", "error", "monitor", "format", "repo", "store"]),
    ("repair", &["id", "error", "monitor", "format", "repo", "store"]),
    ("diff", &["id", "error", "monitor", "format", "repo", "store"]),
    ("find", &["id", "error", "monitor", "format", "repo", "store", "pattern"]),
    ("stats", &["id", "error", "monitor", "format", "repo", "store"]),
    ("dump", &["id", "error", "monitor", "format", "repo", "store"]),
    // One run of a profile uses the verbs, which do not know one another.
    (
        "job",
        &[
            "id",
            "error",
            "monitor",
            "format",
            "process",
            "settings",
            "state",
            "database",
            "retention",
            "repo",
            "backup",
            "check",
            "prune",
        ],
    ),
    ("view", &["id", "error", "format", "repo", "store"]),
];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files_under(name: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    sources(&root().join(name), &mut files);
    let named =
        |path: PathBuf| (path.strip_prefix(root()).unwrap().to_path_buf(), std::fs::read_to_string(path).unwrap());
    files.into_iter().map(named).collect()
}

#[test]
fn rooms_depend_in_one_direction() {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let mut edges = 0;
    for (path, text) in files_under("src") {
        let room = path.components().nth(1).unwrap().as_os_str().to_string_lossy().replace(".rs", "");
        if matches!(&*room, "cli" | "lib" | "main") {
            continue;
        }
        let may = allowed.get(&*room).unwrap_or_else(|| panic!("the room {room} ({path:?}) has no place in this list"));
        for (at, _) in text.match_indices("crate::") {
            let rest = &text[at + "crate::".len()..];
            let used: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            assert!(!used.is_empty(), "{path:?} uses a list of rooms: write one line for each");
            edges += 1;
            assert!(used == room || may.contains(&&*used), "{path:?}: {room} must not use {used}");
        }
    }
    assert!(edges > 100, "the sources were found: {edges}");
}

#[test]
fn three_crates_have_one_door_each() {
    for (name, folder, door) in [
        ("bincode", "src", "src/format/codec.rs"),
        ("fuser", "mount/src", "mount/src/fuse/mod.rs"),
        ("opendal", "src", "src/store/remote/service.rs"),
    ] {
        for (path, text) in files_under(folder) {
            let uses = text.contains(&format!("{name}::")) || text.contains(&format!("use {name}"));
            assert!(!uses || path.starts_with(door), "{path:?} uses {name}: only {door} may");
        }
    }
    assert!(files_under("src").iter().all(|(_, text)| !text.contains("fuser::")));
}

#[test]
fn files_are_short() {
    for (path, text) in ["src", "mount/src", "tests"].into_iter().flat_map(files_under) {
        let lines = text.lines().count();
        assert!(lines <= 600, "{path:?} has {lines} lines: split it by subject");
    }
    let main = std::fs::read_to_string(root().join("src/main.rs")).unwrap();
    assert!(main.lines().count() < 40);
}
