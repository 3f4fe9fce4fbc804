//! What a profile dumps, made as a backup makes it: one after the other, each read to its end.

use bakfs::database::{Dumps, dumps};
use bakfs::settings::{Profile, Settings};
use bakfs::source::generated::{Content, Generated};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Reads a profile `test` as it is written below `[profile.test]`.
pub fn profile(text: &str) -> Profile {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bakfs.toml");
    std::fs::write(&path, format!("repo = \"/nowhere\"\n[profile.test]\n{text}")).unwrap();
    let settings = Settings::read(&path).unwrap_or_else(|error| panic!("{}", error.chain()));
    settings.profile("test").unwrap().clone()
}

/// A dump that was made.
pub enum Made {
    /// A file.
    File(Vec<u8>),
    /// A folder.
    Folder(TempDir),
    /// An error with its causes.
    Failed(String),
}

/// What a profile has dumped.
pub struct All {
    /// By path.
    pub made: BTreeMap<String, Made>,
    /// What could not be begun, with why.
    pub failed: Vec<(PathBuf, String)>,
    /// What dumps lack, by path.
    lacks: BTreeMap<String, Vec<String>>,
}

/// Returns a dump's path.
pub fn shown(generated: &Generated) -> String {
    let names = generated.path.iter().map(|name| format!("/{}", String::from_utf8_lossy(name)));
    names.collect()
}

/// Makes one dump.
pub fn make(content: Content) -> Made {
    let chain = |error: std::io::Error| match error.downcast::<bakfs::error::Error>() {
        Ok(error) => error.chain(),
        Err(error) => error.to_string(),
    };
    match content {
        Content::Folder(fill) => fill().map_or_else(|error| Made::Failed(error.chain()), Made::Folder),
        Content::Stream(start) | Content::Input(start) => match start() {
            Err(error) => Made::Failed(error.chain()),
            Ok(mut stream) => {
                let mut bytes = Vec::new();
                match stream.read_to_end(&mut bytes) {
                    Ok(_) => Made::File(bytes),
                    Err(error) => Made::Failed(chain(error)),
                }
            }
        },
    }
}

/// Makes all dumps of a profile.
pub fn all(text: &str) -> All {
    let Dumps { generated, failed, .. } = dumps(&profile(text), &bakfs::process::Stop::default());
    assert!(generated.is_sorted_by(|one, other| one.path < other.path), "sorted, and each path once");
    let (mut made, mut lacks) = (BTreeMap::new(), BTreeMap::new());
    for generated in generated {
        let path = shown(&generated);
        made.insert(path.clone(), make(generated.content));
        lacks.insert(path, generated.lacks.lock().clone());
    }
    All { made, lacks, failed: failed.into_iter().map(|(path, error)| (path, error.chain())).collect() }
}

impl All {
    /// Returns the paths.
    pub fn paths(&self) -> Vec<&str> {
        self.made.keys().map(String::as_str).collect()
    }

    /// Returns the paths of dumps, without manifests.
    pub fn dumps(&self) -> Vec<&str> {
        self.paths().into_iter().filter(|path| !path.ends_with(".json")).collect()
    }

    /// Returns a file.
    #[track_caller]
    pub fn file(&self, path: &str) -> &[u8] {
        match self.made.get(path) {
            Some(Made::File(bytes)) => bytes,
            Some(Made::Failed(error)) => panic!("{path}: {error}"),
            _ => panic!("no file {path} in {:?}: {:?}", self.paths(), self.failed),
        }
    }

    /// Returns a folder.
    #[track_caller]
    pub fn folder(&self, path: &str) -> &Path {
        match self.made.get(path) {
            Some(Made::Folder(folder)) => folder.path(),
            Some(Made::Failed(error)) => panic!("{path}: {error}"),
            _ => panic!("no folder {path} in {:?}: {:?}", self.paths(), self.failed),
        }
    }

    /// Returns why a dump failed.
    #[track_caller]
    pub fn error(&self, path: &str) -> &str {
        match (self.failed.iter().find(|(failed, _)| failed == Path::new(path)), self.made.get(path)) {
            (Some((_, error)), _) | (None, Some(Made::Failed(error))) => error,
            (None, Some(_)) => panic!("{path} was made"),
            (None, None) => panic!("no {path} in {:?}: {:?}", self.paths(), self.failed),
        }
    }

    /// Returns what a dump lacks.
    pub fn lacks(&self, path: &str) -> &[String] {
        &self.lacks[path]
    }

    /// Returns the manifest of a dump.
    #[track_caller]
    pub fn manifest(&self, path: &str) -> Value {
        serde_json::from_slice(self.file(&format!("{path}.json"))).unwrap()
    }
}

/// A file system of few bytes; gone when dropped.
pub struct Small {
    dir: TempDir,
}

impl Small {
    /// Mounts one of a size as `2m`.
    pub fn new(size: &str) -> Small {
        super::need_root();
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size},mode=1777");
        let args = ["-t", "tmpfs", "-o", &options, "tmpfs", dir.path().to_str().unwrap()];
        super::process::tool("mount", args).expect(0);
        Small { dir }
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        super::process::tool("umount", [self.dir.path()]);
    }
}
