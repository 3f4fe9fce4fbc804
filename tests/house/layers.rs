//! Rooms depend on one another in one direction only, and three crates have one door each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What each room may use, besides itself. Verbs never use one another.
const ALLOWED: &[(&str, &[&str])] = &[
    ("id", &[]),
    ("error", &[]),
    ("clock", &[]),
    ("random", &[]),
    ("disk", &["id", "random"]),
    ("json", &["spelling"]),
    ("host", &[]),
    ("accounts", &[]),
    ("spelling", &[]),
    ("monitor", &[]),
    ("path", &[]),
    ("pattern", &[]),
    ("text", &["pattern"]),
    ("traffic", &[]),
    ("variable", &["error", "spelling"]),
    ("format", &["id", "error", "quantity"]),
    ("version", &["format"]),
    ("source", &["accounts", "error", "format", "path", "pattern", "text"]),
    ("trust", &["accounts", "error", "source"]),
    ("crypto", &["id", "error", "random", "format", "trust"]),
    ("chunk", &["crypto", "format"]),
    ("quantity", &["error"]),
    ("log", &["spelling", "trust"]),
    ("process", &["accounts", "error", "source", "trust", "quantity"]),
    ("retention", &["id", "error", "json", "clock", "quantity"]),
    ("settings", &["error", "spelling", "format", "quantity", "retention", "pattern", "text", "trust"]),
    ("state", &["error", "clock", "disk", "settings", "trust"]),
    ("database", &["error", "settings", "source", "process", "quantity", "pattern", "text", "trust"]),
    ("machine", &["source"]),
    (
        "audit",
        &["error", "machine", "settings", "source", "database", "process", "quantity", "path", "pattern", "trust"],
    ),
    ("notify", &["error", "quantity", "settings", "process", "state", "spelling", "trust", "text"]),
    ("schedule", &["error", "disk", "settings", "process", "variable", "trust"]),
    ("place", &["error"]),
    // Services by paths: no store, no objects.
    ("remote", &["id", "error", "random", "place", "text", "traffic", "trust", "quantity"]),
    ("store", &["id", "error", "disk", "random", "place", "remote", "traffic", "trust", "quantity"]),
    ("known", &["id", "error", "disk", "random", "format", "crypto", "path", "trust"]),
    (
        "repo",
        &[
            "id", "error", "clock", "disk", "host", "json", "random", "spelling", "format", "crypto", "store", "known",
            "trust", "quantity",
        ],
    ),
    (
        "backup",
        &["id", "error", "clock", "monitor", "quantity", "format", "chunk", "source", "repo", "store", "path", "text"],
    ),
    (
        "access",
        &[
            "id", "error", "crypto", "format", "place", "remote", "settings", "spelling", "state", "store", "known",
            "repo", "text", "trust", "machine", "random",
        ],
    ),
    ("restore", &["accounts", "id", "error", "monitor", "format", "source", "repo", "store", "quantity"]),
    ("check", &["id", "error", "json", "clock", "monitor", "quantity", "format", "crypto", "repo", "store", "trust"]),
    ("prune", &["id", "error", "random", "monitor", "format", "repo", "store", "quantity", "trust"]),
    ("repair", &["id", "error", "monitor", "format", "repo", "store"]),
    ("diff", &["id", "error", "json", "monitor", "format", "repo", "store"]),
    ("find", &["id", "error", "monitor", "format", "repo", "store", "pattern"]),
    ("inspect", &["id", "error", "crypto", "format", "repo", "store"]),
    ("stats", &["id", "error", "monitor", "format", "repo", "store"]),
    ("dump", &["id", "error", "monitor", "quantity", "format", "repo", "store"]),
    // One run of a profile uses the verbs, which do not know one another.
    (
        "job",
        &[
            "id",
            "error",
            "host",
            "monitor",
            "format",
            "process",
            "quantity",
            "settings",
            "state",
            "database",
            "retention",
            "repo",
            "clock",
            "source",
            "access",
            "backup",
            "check",
            "prune",
        ],
    ),
    ("view", &["id", "error", "format", "repo", "store"]),
    ("serve", &["machine", "error", "quantity", "repo", "spelling", "view"]),
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
        ("opendal", "src", "src/remote/service.rs"),
    ] {
        for (path, text) in files_under(folder) {
            let uses = text.contains(&format!("{name}::")) || text.contains(&format!("use {name}"));
            assert!(!uses || path.starts_with(door), "{path:?} uses {name}: only {door} may");
        }
    }
    assert!(files_under("src").iter().all(|(_, text)| !text.contains("fuser::")));
}

/// What is counted in texts.
const COUNTED: [&str; 40] = [
    "byte",
    "file",
    "folder",
    "directory",
    "entry",
    "name",
    "object",
    "snapshot",
    "chunk",
    "page",
    "pack",
    "table",
    "database",
    "day",
    "second",
    "minute",
    "hour",
    "error",
    "problem",
    "trouble",
    "profile",
    "host",
    "path",
    "tag",
    "item",
    "place",
    "extent",
    "segment",
    "record",
    "frame",
    "mark",
    "link",
    "request",
    "connection",
    "subvolume",
    "look",
    "run",
    "write",
    "question",
    "listing",
];

#[test]
fn one_and_many_are_told_apart_in_one_place() {
    let plurals: Vec<String> = COUNTED
        .into_iter()
        .map(|noun| match noun.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'o', 'u'])) {
            Some(stem) => format!("{stem}ies"),
            None => format!("{noun}s"),
        })
        .collect();
    // Sums and bounds that are never one, and words that are no plurals of what stands before them.
    let fine = |line: &str| {
        let words =
            ["{MAX_", "max_bytes}", "KiB}", "names no proxy", "names {}", "{kind} runs of", "{word} runs apart"];
        let long = ["A piece of {} bytes is longer", "An index object of {plain_bytes}", "A mark of {len} bytes would"];
        words.iter().chain(&long).any(|word| line.contains(word)) || line.trim_start().starts_with("//")
    };
    for (path, text) in ["src", "mount/src"].into_iter().flat_map(files_under) {
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for line in text.lines().filter(|line| !fine(line) && !line.contains("assert")) {
            for plural in &plurals {
                let ends = |at: usize| !line[at + plural.len() + 2..].starts_with(|next: char| next.is_alphanumeric());
                let found = line.match_indices(&format!("}} {plural}")).any(|(at, _)| ends(at));
                assert!(!found, "{path:?} has a number before `{plural}`, which may be one: quantity::counted\n{line}");
            }
        }
    }
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

/// A file as a module: the names on the way to it.
type Module = Vec<String>;

fn module_of(path: &Path, folder: &str) -> Module {
    let inside = path.strip_prefix(folder).unwrap().with_extension("");
    let mut module: Module = inside.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    module.pop_if(|last| matches!(&**last, "mod" | "lib" | "main"));
    module
}

/// Calls `each` with every path of a tree of `use`, as `a::{b, c::d}`.
fn each_path(prefix: &[String], tree: &str, each: &mut dyn FnMut(&[String])) {
    let names = |text: &str| -> Module {
        let first = |name: &str| name.split(" as ").next().unwrap_or_default().trim().to_owned();
        text.split("::").map(first).filter(|name| !name.is_empty()).collect()
    };
    let Some((head, rest)) = tree.split_once('{') else { return each(&[prefix, &names(tree)].concat()) };
    let prefix = [prefix, &names(head)].concat();
    let (mut depth, mut start) = (0, 0);
    let inside = &rest[..rest.rfind('}').unwrap()];
    for (at, byte) in inside.bytes().chain([b',']).enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                let part = inside[start..at].trim();
                if !part.is_empty() {
                    each_path(&prefix, part, each);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// Returns which files each file of a crate imports; those above or below it are left out, for a folder may know what
/// is in it.
fn imports(folder: &str) -> BTreeMap<Module, BTreeSet<Module>> {
    let files = files_under(folder);
    let modules: BTreeSet<Module> = files.iter().map(|(path, _)| module_of(path, folder)).collect();
    let mut graph = BTreeMap::new();
    for (path, text) in &files {
        let module = module_of(path, folder);
        let product = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let mut used = BTreeSet::new();
        for tree in uses(product) {
            each_path(&[], tree, &mut |path| {
                let supers = path.iter().take_while(|name| *name == "super").count();
                let base = match &*path[0] {
                    "crate" => Vec::new(),
                    "super" | "self" => module[..module.len() - supers].to_vec(),
                    _ => return,
                };
                let full = [base, path[supers.max(1)..].to_vec()].concat();
                let file = (1..=full.len()).rev().map(|len| &full[..len]).find(|at| modules.contains(*at));
                used.extend(
                    file.map(<[String]>::to_vec).filter(|at| !at.starts_with(&module) && !module.starts_with(at)),
                );
            });
        }
        graph.insert(module, used);
    }
    graph
}

/// Returns the trees of all `use` of a file.
fn uses(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("use ").filter_map(|(at, word)| {
        let line = &text[text[..at].rfind('\n').map_or(0, |end| end + 1)..at];
        let is_use = matches!(line.trim_start(), "" | "pub " | "pub(crate) " | "pub(super) ");
        text[at + word.len()..].split(';').next().filter(|_| is_use)
    })
}

#[test]
fn files_import_one_another_in_no_circle() {
    for (folder, least) in [("src", 600), ("mount/src", 20)] {
        let mut graph = imports(folder);
        assert!(graph.values().map(BTreeSet::len).sum::<usize>() > least, "the imports of {folder} were found");
        // What imports nothing that is left is in no circle, and nor is what nothing imports.
        loop {
            let imported: BTreeSet<Module> = graph.values().flatten().cloned().collect();
            let is_free = |module: &Module, used: &BTreeSet<Module>| used.is_empty() || !imported.contains(module);
            let free: BTreeSet<Module> =
                graph.iter().filter(|(module, used)| is_free(module, used)).map(|(module, _)| module.clone()).collect();
            if free.is_empty() {
                break;
            }
            graph.retain(|module, _| !free.contains(module));
            graph.values_mut().for_each(|used| used.retain(|module| !free.contains(module)));
        }
        let left: Vec<_> = graph.iter().map(|(module, used)| (module.join("::"), used)).collect();
        assert!(left.is_empty(), "these files of {folder} import one another in circles: {left:?}");
    }
}
