//! What the user leaves out: `--exclude` and `--exclude-file`, and directories tagged as caches.
//!
//! A pattern is matched against a file's absolute path, byte by byte, the last one that matches decides:
//!
//! | Pattern       | Matches                                                                   |
//! |---------------|---------------------------------------------------------------------------|
//! | `*.tmp`       | without a slash: a name, at any depth                                     |
//! | `/var/cache`  | leading slash: the absolute path                                          |
//! | `cache/*.bin` | inner slash: the end of the path, from any directory on                   |
//! | `node_modules/` | trailing slash: directories only                                        |
//! | `!keep.tmp`   | what an earlier pattern left out is kept after all                        |
//!
//! `*` is any run of bytes and `?` any one byte, both without `/`; `**` as a whole component crosses
//! directories; `[a-z]` and `[!a-z]` are sets, `{a,b}` alternatives; `\` takes the next character as it is.
//! What lies in an excluded directory is never looked at, so nothing inside it can be kept with `!`.
//!
//! A file of patterns has one a line; empty lines and lines that begin with `#` say nothing (`\#` and `\!`
//! begin a pattern with these characters), and spaces at the end are dropped unless the last has a `\`
//! before it. Files come before the command line, so that the command line has the last word.

use super::read;
use super::{listing::Listing, stat::Kind};
use crate::error::{Context, Error, Result};
use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// The name of a file that marks its directory as a cache (<https://bford.info/cachedir/>).
pub const CACHE_TAG_NAME: &[u8] = b"CACHEDIR.TAG";

/// What that file begins with.
pub const CACHE_TAG_SIGNATURE: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Patterns of what is left out.
#[derive(Debug, Clone, Default)]
pub struct Excludes {
    globs: GlobSet,
    /// For each of `globs`, in order.
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy)]
struct Rule {
    keeps: bool,
    directories_only: bool,
}

impl Excludes {
    /// Reads the patterns of `files` in order, then `globs`.
    ///
    /// Fails with [`crate::error::ErrorKind::Usage`] on a pattern that is none, naming it and its line.
    pub fn new(globs: &[String], files: &[PathBuf]) -> Result<Excludes> {
        Self::read("--exclude", globs, files)
    }

    /// Reads the patterns given with an option, which errors name.
    pub fn of_option(option: &str, globs: &[String]) -> Result<Excludes> {
        Self::read(option, globs, &[])
    }

    fn read(option: &str, globs: &[String], files: &[PathBuf]) -> Result<Excludes> {
        let mut set = GlobSetBuilder::new();
        let mut rules = Vec::new();
        for file in files {
            let text = std::fs::read(file).context(|| format!("cannot read the patterns in {}", file.display()))?;
            for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
                let place = || format!("{}, line {number}", file.display());
                let line = str::from_utf8(line).map_err(|error| {
                    let advice = "is not UTF-8: write ? for each byte that belongs to another encoding";
                    Error::usage(format!("{} {advice}", place())).because(error)
                })?;
                if let Some(pattern) = pattern_of(line) {
                    rules.push(add(&mut set, pattern).map_err(|reason| bad(pattern, &place(), &reason))?);
                }
            }
        }
        for pattern in globs {
            rules.push(add(&mut set, pattern).map_err(|reason| bad(pattern, option, &reason))?);
        }
        let globs =
            set.build().map_err(|error| Error::usage("the patterns are too many or too large").because(error))?;
        Ok(Excludes { globs, rules })
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
                tell(index);
                is_out = !rule.keeps;
            }
        }
        is_out
    }
}

/// Returns the pattern in a line of a file, if it holds one.
fn pattern_of(line: &str) -> Option<&str> {
    let line = line.strip_suffix('\r').unwrap_or(line);
    let trimmed = line.trim_end_matches(' ');
    let escapes = trimmed.bytes().rev().take_while(|&byte| byte == b'\\').count();
    let pattern = if escapes % 2 == 1 && trimmed.len() < line.len() { &line[..=trimmed.len()] } else { trimmed };
    (!pattern.is_empty() && !pattern.starts_with('#')).then_some(pattern)
}

fn add(set: &mut GlobSetBuilder, pattern: &str) -> Result<Rule, String> {
    let (keeps, glob) = match pattern.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let (directories_only, glob) = match glob.strip_suffix('/') {
        Some(rest) => (true, rest),
        None => (false, glob),
    };
    if glob.is_empty() {
        return Err("it names nothing".into());
    }
    if let Some(part) = glob.split('/').find(|part| matches!(*part, "." | "..")) {
        return Err(format!("no path here has a component {part}"));
    }
    let glob = if glob.starts_with('/') { glob.into() } else { format!("**/{glob}") };
    let glob =
        GlobBuilder::new(&negated_sets_without_slash(&glob)).literal_separator(true).backslash_escape(true).build();
    set.add(glob.map_err(|error| error.kind().to_string())?);
    Ok(Rule { keeps, directories_only })
}

/// Adds the slash to every `[!...]`: to globset such a set matches it, whatever `literal_separator` says.
fn negated_sets_without_slash(glob: &str) -> String {
    let mut result = String::with_capacity(glob.len());
    let mut rest = glob.chars();
    while let Some(char) = rest.next() {
        result.push(char);
        match char {
            '\\' => result.extend(rest.next()),
            '[' => {
                let is_negated = rest.as_str().starts_with(['!', '^']);
                result.extend(is_negated.then(|| rest.next()).flatten());
                // As the first of a set `]` is a member.
                result.extend(rest.as_str().starts_with(']').then(|| rest.next()).flatten());
                result.push_str(if is_negated { "/" } else { "" });
                for member in rest.by_ref() {
                    result.push(member);
                    if member == ']' {
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    result
}

fn bad(pattern: &str, place: &str, reason: &str) -> Error {
    Error::usage(format!("{place}: {pattern:?} is no pattern: {reason}"))
}

/// Returns whether the directory holds a valid [`CACHE_TAG_NAME`]: then it is kept with that file only.
///
/// Without being able to read the tag it says no, so that what might be precious is backed up.
pub fn is_tagged_cache(listing: &Listing) -> bool {
    let Ok(index) = listing.entries.binary_search_by(|entry| (*entry.name).cmp(CACHE_TAG_NAME)) else { return false };
    let stat = &listing.entries[index].stat;
    let mut start = [0; CACHE_TAG_SIGNATURE.len()];
    stat.kind == Kind::File
        && read::open(listing.fd.as_fd(), CACHE_TAG_NAME, stat)
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
            (" ", &[b"/ "], &[b"/a"]),
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
        let text = b"# a comment\n\n  \n*.bak  \r\n\\#x\n\\!y\nends\\ \n!kept.bak\nback\\\\  ";
        std::fs::write(&file, text).unwrap();
        let read = Excludes::new(&["!most.bak".into()], std::slice::from_ref(&file)).unwrap();
        let excludes = |path: &str| read.excludes(Path::new(path), false);
        for path in ["/a.bak", "/#x", "/!y", "/ends ", "/back\\"] {
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
        for pattern in ["", "/", "!", "[", "a{b", "x\\", "./a", "../a"] {
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
}
