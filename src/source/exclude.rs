//! What the user leaves out: `--exclude` and `--exclude-file`, and directories tagged as caches.
//!
//! Patterns ([`crate::pattern`]) are matched against a file's absolute path, byte by byte; the last one that matches
//! decides. What lies in an excluded directory is never looked at, so nothing inside it can be kept with `!`. Files of
//! patterns come before those of the command line, which so have the last word.

use super::{Source, SourceFile, listing::Listing, stat::Kind};
use crate::error::{Context, Error, Result};
use crate::path;
use crate::pattern::{self, Alternative, Pattern};
use crate::text;
use globset::{Candidate, GlobSet, GlobSetBuilder};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The name of a file that marks its directory as a cache (<https://bford.info/cachedir/>).
pub const CACHE_TAG_NAME: &[u8] = b"CACHEDIR.TAG";

/// What that file begins with.
pub const CACHE_TAG_SIGNATURE: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Patterns of what is left out.
#[derive(Debug, Clone, Default)]
pub struct Excludes {
    written: Vec<Written>,
    globs: GlobSet,
    /// For each of `globs`, in order.
    rules: Vec<Rule>,
}

/// A pattern, and where it stands.
#[derive(Debug, Clone)]
struct Written {
    text: String,
    place: String,
    pattern: Pattern,
}

#[derive(Debug, Clone, Copy)]
struct Rule {
    /// The position of its pattern.
    pattern: usize,
    keeps: bool,
    directories_only: bool,
}

/// What is backed up: a path as it was given, and where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePath {
    /// Absolute, as the user wrote it.
    pub given: PathBuf,
    /// The same place without symbolic links.
    pub real: PathBuf,
}

/// Says where a path leads: [`crate::path::real`] on the disk, [`Source::real`] in a source.
pub type Leads<'a> = &'a dyn Fn(&Path) -> PathBuf;

/// A pattern of a whole path that lies below nothing that is backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idle {
    /// The pattern.
    pub text: String,
    /// Where it stands: an option, or a file and its line.
    pub place: String,
}

impl Excludes {
    /// Reads the patterns of `files` in order, then `globs`.
    ///
    /// Fails with [`crate::error::ErrorKind::Usage`] on a pattern that is none, naming it and its line.
    pub fn new(globs: &[String], files: &[PathBuf]) -> Result<Excludes> {
        Self::read("--exclude", globs, files)
    }

    /// Reads the patterns of a profile of the configuration, which errors name.
    pub fn in_profile(name: &str, globs: &[String], files: &[PathBuf]) -> Result<Excludes> {
        Self::read(&format!("`exclude` of the profile {name}"), globs, files)
    }

    /// Reads the patterns given with an option, which errors name.
    pub fn of_option(option: &str, globs: &[String]) -> Result<Excludes> {
        Self::read(option, globs, &[])
    }

    fn read(option: &str, globs: &[String], files: &[PathBuf]) -> Result<Excludes> {
        let mut written = Vec::new();
        let mut add = |text: &str, place: String| -> Result<()> {
            let pattern = Pattern::parse(text)
                .map_err(|reason| Error::usage(format!("{place}: {text:?} is no pattern: {reason}")))?;
            written.push(Written { text: text.to_string(), place, pattern });
            Ok(())
        };
        for file in files {
            let bytes = std::fs::read(file).context(|| format!("cannot read the patterns in {}", file.display()))?;
            let bytes = text::without_mark(&bytes)
                .map_err(|reason| Error::usage(format!("the patterns in {}: {reason}", file.display())))?;
            for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
                let place = || format!("{}, line {number}", file.display());
                let line = str::from_utf8(line).map_err(|error| {
                    let advice = "is not UTF-8: write ? for each byte that belongs to another encoding";
                    Error::usage(format!("{} {advice}", place())).because(error)
                })?;
                if let Some(pattern) = pattern::of_line(line) {
                    add(pattern, place())?;
                }
            }
        }
        for pattern in globs {
            add(pattern, option.to_string())?;
        }
        Self::compiled(written, &[], &path::real)
    }

    /// Compiles patterns, with what they mean through symbolic links.
    fn compiled(written: Vec<Written>, sources: &[SourcePath], leads: Leads<'_>) -> Result<Excludes> {
        let mut set = GlobSetBuilder::new();
        let mut rules = Vec::new();
        for (at, one) in written.iter().enumerate() {
            for alternative in one.pattern.alternatives.iter().flat_map(|it| meanings(it, sources, leads)) {
                let glob = alternative.compile(false);
                let bad = |reason| Error::usage(format!("{}: {:?} is no pattern: {reason}", one.place, one.text));
                set.add(glob.map_err(bad)?);
                let directories_only = alternative.directories_only;
                rules.push(Rule { pattern: at, keeps: one.pattern.keeps, directories_only });
            }
        }
        let globs =
            set.build().map_err(|error| Error::usage("the patterns are too many or too large").because(error))?;
        Ok(Excludes { written, globs, rules })
    }

    /// Returns the same patterns with what they mean through symbolic links: a path in a pattern leads where that of a
    /// source would lead.
    pub fn through_links(&self, sources: &[SourcePath], leads: Leads<'_>) -> Result<Excludes> {
        Self::compiled(self.written.clone(), sources, leads)
    }

    /// Returns the patterns of whole paths that lie below none of the sources, and so leave out nothing.
    pub fn idle(&self, sources: &[SourcePath], leads: Leads<'_>) -> Vec<Idle> {
        let matches_below = |alternative: &Alternative| {
            !alternative.is_anchored()
                || meanings(alternative, sources, leads)
                    .iter()
                    .any(|meaning| sources.iter().any(|source| !meaning.below(&source.real).is_empty()))
        };
        let idle = self.written.iter().filter(|one| !one.pattern.alternatives.iter().any(matches_below));
        idle.map(|one| Idle { text: one.text.clone(), place: one.place.clone() }).collect()
    }

    /// Returns whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Returns whether the file at this absolute path is left out, with all below it if it is a directory.
    pub fn excludes(&self, path: &Path, is_directory: bool) -> bool {
        self.excludes_telling(path, is_directory, |_| {})
    }

    /// The same, and tells the positions of all patterns that match.
    pub fn excludes_telling(&self, path: &Path, is_directory: bool, mut tell: impl FnMut(usize)) -> bool {
        if self.rules.is_empty() {
            return false;
        }
        let mut is_out = false;
        // In ascending order.
        for index in self.globs.matches_candidate(&Candidate::new(path)) {
            let rule = self.rules[index];
            if is_directory || !rule.directories_only {
                tell(rule.pattern);
                is_out = !rule.keeps;
            }
        }
        is_out
    }
}

/// Returns what an alternative stands for: itself, and what that is where a link leads elsewhere.
fn meanings(alternative: &Alternative, sources: &[SourcePath], leads: Leads<'_>) -> Vec<Alternative> {
    if !alternative.is_anchored() {
        return vec![alternative.clone()];
    }
    let directories_only = alternative.directories_only;
    let at = |real: &Path, rest: Option<&str>| {
        let start = pattern::escaped(real);
        let glob = match rest {
            Some(rest) => format!("{}/{rest}", start.trim_end_matches('/')),
            None => start,
        };
        Alternative { glob, directories_only }
    };
    let mut more = BTreeSet::new();
    let (start, rest) = alternative.literal_start();
    let real = leads(&start);
    if real != start {
        more.insert(at(&real, rest));
    }
    for source in sources.iter().filter(|source| source.given != source.real) {
        more.extend(alternative.below(&source.given).iter().map(|rest| at(&source.real, Some(rest))));
    }
    more.remove(alternative);
    [alternative.clone()].into_iter().chain(more).collect()
}

/// Returns whether the directory holds a valid [`CACHE_TAG_NAME`]: then it is kept with that file only.
///
/// Without being able to read the tag it says no, so that what might be precious is backed up.
pub fn is_tagged_cache<S: Source>(source: &S, listing: &Listing<S::Dir>) -> bool {
    let Ok(index) = listing.entries.binary_search_by(|entry| (*entry.name).cmp(CACHE_TAG_NAME)) else { return false };
    let stat = &listing.entries[index].stat;
    let mut start = [0; CACHE_TAG_SIGNATURE.len()];
    stat.kind == Kind::File
        && source
            .open(&listing.dir, CACHE_TAG_NAME, stat)
            .and_then(|tag| tag.read_at(0, &mut start))
            .is_ok_and(|len| len == start.len() && start == *CACHE_TAG_SIGNATURE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::ErrorKind;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    fn excludes(globs: &[&str], path: &[u8]) -> bool {
        let globs: Vec<String> = globs.iter().map(|glob| glob.to_string()).collect();
        let is_directory = path.ends_with(b"/");
        let path = path.strip_suffix(b"/").unwrap_or(path);
        Excludes::new(&globs, &[]).unwrap().excludes(Path::new(OsStr::from_bytes(path)), is_directory)
    }

    #[test]
    fn patterns_match_as_described() {
        // Pattern, paths it leaves out, paths it does not; a path with a slash at the end is a directory.
        type Paths<'a> = &'a [&'a [u8]];
        let table: &[(&str, Paths<'_>, Paths<'_>)] = &[
            (
                "*.tmp",
                &[b"/a.tmp", b"/x/y/.tmp", b"/d.tmp/", b"/x/\xff\xfe.tmp", b"/x/a\nb.tmp"],
                &[b"/a.tmp/b", b"/a.tmpx"],
            ),
            ("name", &[b"/name", b"/a/name", b"/a/name/"], &[b"/a/names", b"/name/a", b"/aname"]),
            ("/var/cache", &[b"/var/cache", b"/var/cache/"], &[b"/x/var/cache", b"/var/cache/a", b"/var/cache2"]),
            ("/*", &[b"/a", b"/b/"], &[b"/a/b"]),
            ("cache/*.bin", &[b"/cache/a.bin", b"/u/x/cache/b.bin"], &[b"/cache/d/a.bin", b"/xcache/a.bin"]),
            ("node_modules/", &[b"/node_modules/", b"/a/node_modules/"], &[b"/a/node_modules"]),
            ("/a/**/z", &[b"/a/z", b"/a/b/z", b"/a/b/c/z"], &[b"/b/a/z", b"/a/bz"]),
            ("/a/**", &[b"/a/b", b"/a/b/c"], &[b"/a", b"/ab"]),
            ("b/**/z", &[b"/b/z", b"/x/b/c/d/z"], &[b"/xb/z"]),
            ("?", &[b"/a", b"/x/\xff", b"/x/\n"], &[b"/ab", b"/x/\xc3\xa9"]),
            ("a?b", &[b"/a\xffb"], &[b"/a/b", b"/ab"]),
            ("[ab]x", &[b"/ax", b"/bx"], &[b"/cx"]),
            ("[!ab]x", &[b"/cx", b"/d/[x"], &[b"/ax", b"/x", b"/d/x"]),
            ("a[!]b]c\\[!d]", &[b"/axc[!d]"], &[b"/a/c[!d]", b"/a]c[!d]", b"/abc[!d]", b"/axc[e"]),
            ("{one,two}.o", &[b"/one.o", b"/d/two.o"], &[b"/three.o"]),
            ("\\*", &[b"/*", b"/a/*"], &[b"/a"]),
            ("\\!x", &[b"/!x"], &[b"/x"]),
            ("\\ ", &[b"/ "], &[b"/a"]),
            ("{guid}", &[b"/{guid}", b"/a/{guid}/"], &[b"/guid"]),
            ("/var//cache/", &[b"/var/cache/"], &[b"/var/cache"]),
            ("{/a,/b}/c", &[b"/a/c", b"/b/c"], &[b"/x/a/c"]),
            ("\u{e9}t\u{e9}", &["/\u{e9}t\u{e9}".as_bytes()], &[b"/\xe9t\xe9"]),
        ];
        for (pattern, left_out, kept) in table {
            for path in *left_out {
                assert!(excludes(&[pattern], path), "{pattern:?} leaves out {}", path.escape_ascii());
            }
            for path in *kept {
                assert!(!excludes(&[pattern], path), "{pattern:?} keeps {}", path.escape_ascii());
            }
        }
    }

    #[test]
    fn the_last_match_decides() {
        assert!(!excludes(&["*.log", "!keep.log"], b"/a/keep.log"));
        assert!(excludes(&["*.log", "!keep.log"], b"/a/lose.log"));
        assert!(excludes(&["!keep.log", "*.log"], b"/a/keep.log"));
        assert!(excludes(&["*", "!*/", "x"], b"/x/"));
        assert!(!excludes(&["*", "!*/"], b"/y/"));
        assert!(excludes(&["*", "!*/"], b"/y"));
        assert!(!excludes(&[], b"/y"));
    }

    #[test]
    fn files_of_patterns_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("patterns");
        let text = b"\xef\xbb\xbf*.log\n# a comment\n\n  \n\t*.bak \t\r\n\\#x\n\\!y\nends\\ \n!kept.bak\nback\\\\  ";
        std::fs::write(&file, text).unwrap();
        let read = Excludes::new(&["!most.bak".into()], std::slice::from_ref(&file)).unwrap();
        let excludes = |path: &str| read.excludes(Path::new(path), false);
        for path in ["/a.log", "/a.bak", "/#x", "/!y", "/ends ", "/back\\"] {
            assert!(excludes(path), "{path:?} is left out");
        }
        for path in ["/kept.bak", "/most.bak", "/# a comment", "/ends", "/x", "/back"] {
            assert!(!excludes(path), "{path:?} is kept");
        }
        assert!(!read.is_empty());
        assert!(Excludes::new(&[], &[]).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_pattern_is_named_with_its_place() {
        for pattern in ["", "/", "!", "[", "a{b,c", "x\\", "./a", "../a", "a ", "~/a"] {
            let error = Excludes::new(&[pattern.to_string()], &[]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{pattern:?}");
            assert!(error.chain().contains("--exclude"), "{}", error.chain());
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("patterns");
        for bad in [&b"good\n[z-a]\n"[..], b"good\n\xff\xfe\n"] {
            std::fs::write(&file, bad).unwrap();
            let error = Excludes::new(&[], std::slice::from_ref(&file)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.chain().contains("patterns, line 2"), "{}", error.chain());
        }
        let missing = Excludes::new(&[], &[dir.path().join("none")]).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn patterns_mean_what_paths_of_sources_mean() {
        let folder = tempfile::tempdir().unwrap();
        let base = std::fs::canonicalize(folder.path()).unwrap();
        std::fs::create_dir_all(base.join("disk/www")).unwrap();
        std::fs::create_dir(base.join("v")).unwrap();
        std::os::unix::fs::symlink("../disk", base.join("v/d")).unwrap();
        let given = |path: &str| base.join(path).to_str().unwrap().to_string();
        let source = SourcePath { given: base.join("v/d/www"), real: base.join("disk/www") };
        for (pattern, is_out) in [
            ("v/d/www/cache", true),
            ("v/*/www/cache", true),
            ("v/d/*/cache", true),
            ("v/**/cache", true),
            ("disk/www/cache", true),
            ("v/d/www/cache/", true),
            ("v/d/other", false),
            ("v/d/www", false),
        ] {
            let read = Excludes::new(&[given(pattern)], &[]).unwrap();
            let meant = read.through_links(std::slice::from_ref(&source), &path::real).unwrap();
            assert_eq!(meant.excludes(&base.join("disk/www/cache"), true), is_out, "{pattern}");
            assert_eq!(read.idle(std::slice::from_ref(&source), &path::real).is_empty(), is_out, "{pattern}");
        }
        let relative = Excludes::new(&["x/y".into(), "*.o".into()], &[]).unwrap();
        assert_eq!(relative.idle(&[source], &path::real), []);
    }
}
