//! What looks as if it could be made or fetched again: caches of packages, what compilers write, images, core dumps.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Something of which a copy is seldom worth its room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// What it is, for people.
    pub what: &'static str,
    /// The exclude that leaves it out.
    pub exclude: String,
}

/// Names of folders that tell what is in them.
const NAMES: [(&str, &str); 3] =
    [("node_modules", "packages of npm"), ("__pycache__", "compiled Python"), (".venv", "a Python environment")];
/// Ends of paths that do.
const ENDS: [(&str, &str); 8] = [
    (".npm/_cacache", "npm's cache"),
    (".cargo/registry", "cargo's cache"),
    (".m2/repository", "Maven's cache"),
    (".gradle/caches", "Gradle's cache"),
    ("go/pkg/mod", "Go's module cache"),
    (".nuget/packages", "NuGet's cache"),
    (".composer/cache", "Composer's cache"),
    (".cache", "caches of programs"),
];
/// Places of the machine that do.
const PLACES: [(&str, &str); 4] = [
    ("/usr/src", "sources of packages"),
    ("/var/lib/docker/overlay2", "layers of container images"),
    ("/var/lib/containerd", "layers of container images"),
    ("/var/lib/snapd", "packages of snapd"),
];

/// Returns a path as a pattern that matches it alone; `None` where it is no UTF-8.
pub fn pattern(path: &Path) -> Option<String> {
    let mut pattern = String::new();
    for char in path.to_str()?.chars() {
        if matches!(char, '*' | '?' | '[' | ']' | '{' | '}' | '\\') {
            pattern.push('\\');
        }
        pattern.push(char);
    }
    Some(pattern)
}

/// Judges a folder; `root` is the machine's.
pub fn of_folder(path: &Path, root: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?;
    if let Some((name, what)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(Kind { what, exclude: format!("{name}/") });
    }
    let here = |what| Some(Kind { what, exclude: pattern(path)? });
    match name {
        "target" if path.join(".rustc_info.json").exists() => return here("what cargo has built"),
        "venv" if path.join("pyvenv.cfg").exists() => return here("a Python environment"),
        _ => {}
    }
    if let Some((_, what)) = ENDS.iter().find(|(end, _)| path.ends_with(end)) {
        return here(what);
    }
    let place = path.strip_prefix(root).ok()?;
    let known = PLACES.iter().find(|(known, _)| known.strip_prefix('/').is_some_and(|known| Path::new(known) == place));
    known.and_then(|(_, what)| here(what))
}

/// Judges a large regular file.
pub fn of_file(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?;
    let here = |what| Some(Kind { what, exclude: pattern(path)? });
    if name.to_ascii_lowercase().ends_with(".iso") {
        return here("an image of a disc");
    }
    if (name == "core" || name.starts_with("core.")) && is_core_dump(path) {
        return here("the memory of a program that crashed");
    }
    None
}

/// Returns whether a file is an ELF core dump, of either byte order (elf(5): `e_ident`, `e_type`).
fn is_core_dump(path: &Path) -> bool {
    let mut header = [0; 18];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    read.is_ok() && header.starts_with(b"\x7fELF") && matches!(header[16..], [4, 0] | [0, 4])
}
