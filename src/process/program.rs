//! Where this process's program is: as it was called, not where links lead from there.

use crate::error::{Context, Error, Result};
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Folders that packages and people put programs into.
const USUAL: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];
/// What says that a folder can be made again at any time (<https://bford.info/cachedir/>): Cargo writes it into its own.
const TAG: &str = "CACHEDIR.TAG";

/// The paths of one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// The one by which it was called.
    pub path: PathBuf,
    /// Others that lead to the same file.
    pub others: Vec<PathBuf>,
}

/// Finds the file of this process's program: the one that runs, or where /proc is not mounted, as on a disk that holds
/// nothing else, the one that was called.
pub fn own() -> Result<PathBuf> {
    let word = std::env::args_os().next().unwrap_or_default();
    std::env::current_exe()
        .or_else(|error| by_word(&word, &folders()).ok_or(error))
        .context(|| "Cannot find this program's own file: mount /proc, or call the program by its full path".into())
}

/// Finds the paths of this process's program.
pub fn called() -> Result<Called> {
    let own = own()?;
    if !own.is_file() {
        return Err(Error::usage(format!("{} was replaced while it ran: run this again", own.display())));
    }
    of(&own, std::env::args_os().next().as_deref(), &folders())
}

/// Returns the folders that programs are called in by their names.
fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect()
}

/// Returns where a word leads, if there is a file.
fn by_word(word: &OsStr, folders: &[PathBuf]) -> Option<PathBuf> {
    let paths = if Path::new(word).components().count() > 1 {
        std::path::absolute(word).into_iter().collect()
    } else {
        folders.iter().map(|folder| folder.join(word)).collect::<Vec<_>>()
    };
    paths.into_iter().find(|path| path.is_file())
}

/// Finds the paths of a program that was called by a word: a path, or a name in one of some folders (execvp(3)).
fn of(own: &Path, word: Option<&OsStr>, folders: &[PathBuf]) -> Result<Called> {
    let looking = || format!("Cannot look at this program's file {}", own.display());
    let wanted = std::fs::metadata(own).context(looking)?;
    let word = Path::new(word.unwrap_or_default());
    let mut paths = Vec::new();
    let in_folders = |name: &Path| folders.iter().map(|folder| folder.join(name)).collect::<Vec<_>>();
    if word.components().count() > 1 {
        // One of a folder that has another name by now is not it.
        paths.extend(std::path::absolute(word));
    } else {
        paths.extend(in_folders(word));
    }
    paths.push(own.to_path_buf());
    let name = Path::new(own.file_name().unwrap_or_default());
    paths.extend(in_folders(name));
    paths.extend(USUAL.iter().map(|folder| Path::new(folder).join(name)));
    let is_it = |found: Metadata| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino());
    paths.retain(|path| std::fs::metadata(path).is_ok_and(is_it));
    let mut others = paths.into_iter();
    let path = others.next().unwrap_or_else(|| own.to_path_buf());
    let mut others: Vec<PathBuf> = others.filter(|other| *other != path).collect();
    others.dedup();
    Ok(Called { path, others })
}

/// Returns the folder of a build that a program lies in, wherever links to it are: it is gone with the next cleaning.
pub fn build_folder(program: &Path) -> Option<PathBuf> {
    let real = program.canonicalize().ok()?;
    real.ancestors().skip(1).find(|folder| folder.join(TAG).is_file()).map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_program_is_where_it_was_called() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["build", "bin", "early"] {
            std::fs::create_dir(at(folder)).unwrap();
        }
        std::fs::write(at("build/bakfs"), "program").unwrap();
        std::fs::write(at("early/bakfs"), "another one").unwrap();
        symlink("../build/bakfs", at("bin/bakfs")).unwrap();
        let own = at("build/bakfs");
        let (folders, link) = ([at("early"), at("bin")], at("bin/bakfs"));
        for (word, path, others) in [
            ("bakfs", link.clone(), vec![own.clone()]),
            (at("bin/../bin/bakfs").to_str().unwrap(), at("bin/../bin/bakfs"), vec![own.clone(), link.clone()]),
            ("-bakfs", own.clone(), vec![link.clone()]),
            ("", own.clone(), vec![link.clone()]),
        ] {
            let found = of(&own, Some(OsStr::new(word)), &folders).unwrap();
            assert_eq!((found.path, found.others), (path, others), "{word}");
        }
        assert_eq!(build_folder(&at("bin/bakfs")), None);
        std::fs::write(at(TAG), "Signature: 8a477f597d28d172789f06886806bc55").unwrap();
        assert_eq!(build_folder(&at("bin/bakfs")), Some(dir.path().canonicalize().unwrap()));
    }
}
