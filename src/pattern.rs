//! The pattern language of excludes, includes, searches and lists of databases: docs/patterns.md, which is also
//! bakfs-patterns(7).
//!
//! A pattern is read once, here: every place where one is given means the same by it. What can match nothing by its
//! form is refused with what to write in its place.

use globset::{Glob, GlobBuilder};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The most alternatives one pattern may stand for: `{a,b}` doubles them.
const MAX_ALTERNATIVES: usize = 1000;
/// Characters that mean something else than themselves.
const SPECIAL: [char; 8] = ['*', '?', '[', ']', '{', '}', ',', '\\'];

/// A pattern, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// Whether it keeps what an earlier pattern leaves out (`!`).
    pub keeps: bool,
    /// What it stands for, one for each of its alternatives.
    pub alternatives: Vec<Alternative>,
}

/// One of the things a pattern stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alternative {
    /// With a slash at the front for a whole path, else the end of one; without doubled slashes or one at the end.
    pub glob: String,
    /// Whether it means directories only.
    pub directories_only: bool,
}

impl Pattern {
    /// Reads a pattern of what is left out, which may begin with `!`; an error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix('!') {
            Some(rest) => Ok(Pattern { keeps: true, ..Pattern::parse_plain(rest)? }),
            None => Pattern::parse_plain(text),
        }
    }

    /// Reads a pattern of what is looked for, where `!` is a character like others.
    pub fn parse_plain(text: &str) -> Result<Self, String> {
        let is_blank = |c: char| matches!(c, ' ' | '\t' | '\r');
        let trimmed = text.trim_end_matches(is_blank);
        if text.contains(['\n', '\0']) {
            return Err("a line is a pattern of its own: give each by itself, or all as a file of patterns".into());
        }
        if text.starts_with(is_blank) || trimmed.len() < text.len() && !is_escaped(trimmed, text) {
            return Err("it begins or ends with a blank or tab: take that away, or write `\\ ` for one that belongs \
                        to the name"
                .into());
        }
        refuse_shell(text)?;
        let mut alternatives = Vec::new();
        for glob in expanded(text)? {
            alternatives.push(Alternative::of(&glob)?);
        }
        Ok(Pattern { keeps: false, alternatives })
    }
}

/// Returns whether of what was trimmed from a text's end one blank is left, with a backslash before it.
fn is_escaped(trimmed: &str, text: &str) -> bool {
    let escapes = trimmed.bytes().rev().take_while(|&byte| byte == b'\\').count();
    escapes % 2 == 1 && text.len() == trimmed.len() + 1
}

/// Refuses what a shell would have put something in the place of.
fn refuse_shell(text: &str) -> Result<(), String> {
    if let Some(rest) = text.strip_prefix("~/") {
        let advice = format!("write the folder's whole path, as {}", at_home(rest).display());
        return Err(format!("`~` is not replaced in patterns: {advice}, or `\\~/` for a folder called `~`"));
    }
    if text.find("[:").is_some_and(|at| text[..at].contains('[') && text[at..].contains(":]")) {
        return Err("classes as [[:digit:]] are not known in patterns: write the range, as [0-9]".into());
    }
    let name = match text.strip_prefix("${") {
        Some(rest) => rest.split_once('}').map(|(name, _)| name),
        None => text.strip_prefix('$').and_then(|rest| rest.split_once('/')).map(|(name, _)| name),
    };
    // `$RECYCLE.BIN/` and `$Extend/` are names of folders.
    let is_variable =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'));
    match name.filter(|name| is_variable(name)) {
        Some(name) => Err(format!(
            "variables as ${name} are not replaced in patterns: write the whole path, or `\\$` for a name that begins so"
        )),
        None => Ok(()),
    }
}

/// Returns a path below this user's home; below `/home/USER` where none is known.
pub fn at_home(rest: &str) -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    home.unwrap_or_else(|| PathBuf::from("/home/USER")).join(rest)
}

/// Writes out `{a,b}`, as a shell does: braces without a comma between them are characters like others.
fn expanded(text: &str) -> Result<Vec<String>, String> {
    let mut done = Vec::new();
    let mut waiting = vec![text.to_string()];
    while let Some(text) = waiting.pop() {
        match first_group(&text)? {
            None => done.push(text),
            Some(group) => {
                let (before, after) = (&text[..group.open], &text[group.close + 1..]);
                let parts = group.parts(&text);
                waiting.extend(parts.into_iter().rev().map(|part| format!("{before}{part}{after}")));
            }
        }
        if done.len() + waiting.len() > MAX_ALTERNATIVES {
            return Err(format!("its braces stand for more than {MAX_ALTERNATIVES} patterns"));
        }
    }
    Ok(done)
}

/// Where alternatives stand in a text.
struct Group {
    open: usize,
    commas: Vec<usize>,
    close: usize,
}

impl Group {
    fn parts<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let starts = [self.open].into_iter().chain(self.commas.iter().copied());
        let ends = self.commas.iter().copied().chain([self.close]);
        starts.zip(ends).map(|(start, end)| &text[start + 1..end]).collect()
    }
}

/// Finds the first outermost braces with a comma between them.
fn first_group(text: &str) -> Result<Option<Group>, String> {
    let mut open: Vec<Group> = Vec::new();
    // The one that began first, whatever is within it.
    let mut found: Option<Group> = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '[' => {
                let end = set_end(&text[at..]).ok_or("a `[` has no `]`: write `\\[` for the character")?;
                while chars.clone().next().is_some_and(|(next, _)| next < at + end) {
                    chars.next();
                }
            }
            '{' => open.push(Group { open: at, commas: Vec::new(), close: 0 }),
            ',' => open.last_mut().into_iter().for_each(|group| group.commas.push(at)),
            '}' => {
                if let Some(group) = open.pop().filter(|group| !group.commas.is_empty())
                    && found.as_ref().is_none_or(|found| group.open < found.open)
                {
                    found = Some(Group { close: at, ..group });
                }
            }
            _ => {}
        }
    }
    match open.iter().any(|group| !group.commas.is_empty()) {
        true => Err("a `{` has no `}`: write `\\{` for the character".into()),
        false => Ok(found),
    }
}

/// Returns the length of a set in brackets.
fn set_end(text: &str) -> Option<usize> {
    let inside = text[1..].trim_start_matches(['!', '^']);
    let start = text.len() - inside.len();
    // As the first of a set `]` is a member.
    let from = start + usize::from(inside.starts_with(']'));
    text[from..].find(']').map(|at| from + at + 1)
}

impl Alternative {
    fn of(text: &str) -> Result<Self, String> {
        let directories_only = text.ends_with('/') && !text.ends_with("\\/");
        let is_anchored = text.starts_with('/');
        let components: Vec<&str> = text.split('/').filter(|component| !component.is_empty()).collect();
        if components.is_empty() {
            return Err("it names nothing".into());
        }
        if let Some(part) = components.iter().find(|part| matches!(**part, "." | "..")) {
            return Err(format!("no path here has a component `{part}`: write the whole path, or the name alone"));
        }
        let glob = format!("{}{}", if is_anchored { "/" } else { "" }, components.join("/"));
        let alternative = Alternative { glob, directories_only };
        alternative.compile(false)?;
        Ok(alternative)
    }

    /// Returns whether it means a whole path.
    pub fn is_anchored(&self) -> bool {
        self.glob.starts_with('/')
    }

    /// Compiles it, to be matched with whole paths.
    pub fn compile(&self, ignore_case: bool) -> Result<Glob, String> {
        let glob = if self.is_anchored() { self.glob.clone() } else { format!("**/{}", self.glob) };
        built(&glob, ignore_case)
    }

    /// Returns what of it stands for one path only, and the rest: all of its components but the last, up to the first
    /// with a special character. Of a directory the last one belongs to the path.
    pub fn literal_start(&self) -> (PathBuf, Option<&str>) {
        let mut start = PathBuf::from("/");
        let mut rest = self.glob.strip_prefix('/').unwrap_or(&self.glob);
        while let Some((first, after)) = rest.split_once('/')
            && let Some(name) = literal(first)
        {
            start.push(name);
            rest = after;
        }
        match literal(rest).filter(|_| self.directories_only && !rest.contains('/')) {
            Some(name) => (start.join(name), None),
            None => (start, Some(rest)),
        }
    }

    /// Returns what of it can match below a path: the ends of it that are left when its beginning has matched all of
    /// the path. Empty where it can match nothing below.
    pub fn below(&self, path: &Path) -> Vec<String> {
        let components: Vec<&str> = self.glob.split('/').skip(1).collect();
        let mut at: Vec<usize> = vec![0];
        for name in path.iter().skip(1) {
            let mut next: Vec<usize> = Vec::new();
            let mut pending = at;
            while let Some(position) = pending.pop() {
                let Some(component) = components.get(position) else { continue };
                if *component == "**" {
                    next.push(position);
                    pending.push(position + 1);
                } else if matches_name(component, name) {
                    next.push(position + 1);
                }
            }
            next.sort_unstable();
            next.dedup();
            at = next;
        }
        let rests = at.into_iter().filter(|position| *position < components.len());
        rests.map(|position| components[position..].join("/")).collect()
    }
}

fn matches_name(component: &str, name: &OsStr) -> bool {
    built(component, false).is_ok_and(|glob| glob.compile_matcher().is_match(Path::new(name)))
}

/// Compiles what has no alternatives any more.
fn built(glob: &str, ignore_case: bool) -> Result<Glob, String> {
    let glob = for_globset(glob);
    let mut builder = GlobBuilder::new(&glob);
    builder.literal_separator(true).backslash_escape(true).case_insensitive(ignore_case);
    builder.build().map_err(|error| error.kind().to_string())
}

/// Adds the slash to every `[!...]`: to globset such a set matches it, whatever `literal_separator` says. Braces are
/// characters like others here.
fn for_globset(glob: &str) -> String {
    let mut result = String::with_capacity(glob.len());
    let mut rest = glob.chars();
    while let Some(char) = rest.next() {
        if matches!(char, '{' | '}') {
            result.push('\\');
        }
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

/// Returns the name that a component stands for, where it is only one.
fn literal(component: &str) -> Option<String> {
    let mut name = String::new();
    let mut rest = component.chars();
    while let Some(char) = rest.next() {
        match char {
            '\\' => name.push(rest.next()?),
            '*' | '?' | '[' => return None,
            _ => name.push(char),
        }
    }
    Some(name)
}

/// Writes a path as a pattern that matches it. Bytes that are no text become `?`.
pub fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for char in chunk.valid().chars() {
            if SPECIAL.contains(&char) {
                text.push('\\');
            }
            text.push(char);
        }
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    text
}

/// Returns the pattern in a line of a file, if it holds one: blanks around it are dropped, but for one with a backslash
/// before it, and lines that begin with `#` say nothing.
pub fn of_line(line: &str) -> Option<&str> {
    let is_blank = |c: char| matches!(c, ' ' | '\t' | '\r');
    let line = line.trim_start_matches(is_blank);
    let trimmed = line.trim_end_matches(is_blank);
    let kept = &line[..line.len().min(trimmed.len() + 1)];
    let pattern = if is_escaped(trimmed, kept) { kept } else { trimmed };
    (!pattern.is_empty() && !pattern.starts_with('#')).then_some(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alternatives(text: &str) -> Vec<String> {
        let slash = |it: &Alternative| if it.directories_only { "/" } else { "" };
        Pattern::parse(text).unwrap().alternatives.iter().map(|it| format!("{}{}", it.glob, slash(it))).collect()
    }

    #[test]
    fn classes_of_characters_are_refused_and_ranges_are_not() {
        for text in ["[[:digit:]]*", "a/[^[:space:]]"] {
            assert!(Pattern::parse(text).unwrap_err().contains("[0-9]"), "{text}");
        }
        for text in ["[0-9]*", "a:b", "x[:]y"] {
            Pattern::parse(text).unwrap();
        }
    }

    #[test]
    fn braces_are_those_of_a_shell() {
        // What bash makes of each.
        for (text, meant) in [
            ("{a,b}.o", &["a.o", "b.o"][..]),
            ("x{,y}", &["x", "xy"]),
            ("{a,{b,c}d}", &["a", "bd", "cd"]),
            ("{a,b}{1,2}", &["a1", "a2", "b1", "b2"]),
            ("{guid}", &["{guid}"]),
            ("{}", &["{}"]),
            ("{x{a,b}y}", &["{xay}", "{xby}"]),
            ("a}b", &["a}b"]),
            ("a{b", &["a{b"]),
            ("\\{a,b}", &["\\{a,b}"]),
            ("[{,}]x", &["[{,}]x"]),
            ("{/a,/b}/c", &["/a/c", "/b/c"]),
            ("/x/{a/b,c/}", &["/x/a/b", "/x/c/"]),
        ] {
            assert_eq!(alternatives(text), meant, "{text}");
        }
        assert!(Pattern::parse("a{b,c").is_err() && Pattern::parse("[a").is_err());
        assert!(Pattern::parse(&"{a,b}".repeat(11)).unwrap_err().contains("1000"));
    }

    #[test]
    fn what_can_match_nothing_by_its_form_is_refused_with_what_to_write() {
        for (text, told) in [
            ("", "names nothing"),
            ("/", "names nothing"),
            ("//", "names nothing"),
            ("!", "names nothing"),
            ("./a", "component `.`"),
            ("/a/../b", "component `..`"),
            ("a/.", "component `.`"),
            (" a", "begins or ends with a blank"),
            ("a\t", "begins or ends with a blank"),
            ("a\r", "begins or ends with a blank"),
            ("a\\  ", "begins or ends with a blank"),
            ("~/x", "/x, or `\\~/`"),
            ("$HOME/x", "$HOME are not replaced"),
            ("${HOME}/x", "$HOME are not replaced"),
            ("!~/x", "is not replaced"),
            ("a\nb", "a pattern of its own"),
        ] {
            let error = Pattern::parse(text).unwrap_err();
            assert!(error.contains(told), "{text:?}: {error}");
        }
        for text in
            ["~", "~x", "~snapshot/", "$RECYCLE.BIN/", "$Extend/", "\\~/x", "\\$HOME/x", "a\\ ", "\\ a", "$A", "a b"]
        {
            assert!(Pattern::parse(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn slashes_are_counted_once() {
        assert_eq!(alternatives("//var//cache//"), ["/var/cache/"]);
        assert_eq!(alternatives("a//b"), ["a/b"]);
    }

    #[test]
    fn lines_lose_the_blanks_around_them() {
        for (line, pattern) in [
            ("*.bak  ", Some("*.bak")),
            ("\t*.bak\t \r", Some("*.bak")),
            ("\\ x", Some("\\ x")),
            ("ends\\ ", Some("ends\\ ")),
            ("ends\\   ", Some("ends\\ ")),
            ("back\\\\  ", Some("back\\\\")),
            ("  # said", None),
            (" \t\r", None),
            ("\\#x", Some("\\#x")),
        ] {
            assert_eq!(of_line(line), pattern, "{line:?}");
        }
    }

    #[test]
    fn what_is_below_a_path_is_what_is_left_of_a_pattern() {
        for (pattern, path, left) in [
            ("/srv/www/cache", "/srv/www", &["cache"][..]),
            ("/srv/*/cache", "/srv/www", &["cache"]),
            ("/srv/www", "/srv/www", &[]),
            ("/srv", "/srv/www", &[]),
            ("/home/x", "/srv", &[]),
            ("/**/x", "/srv", &["**/x"]),
            ("/srv/**/cache/x", "/srv/www/cache", &["**/cache/x", "x"]),
            ("/x/y", "/", &["x/y"]),
            ("/a\\*/b", "/a*", &["b"]),
        ] {
            let mut found = Pattern::parse(pattern).unwrap().alternatives[0].below(Path::new(path));
            found.sort();
            assert_eq!(found, left, "{pattern} below {path}");
        }
    }

    #[test]
    fn the_literal_start_of_a_pattern_is_a_path() {
        for (pattern, start, rest) in [
            ("/v/d/www/cache", "/v/d/www", Some("cache")),
            ("/v/d/www/", "/v/d/www", None),
            ("/v/*/x", "/v", Some("*/x")),
            ("/a\\[b/{c}/d*", "/a[b/{c}", Some("d*")),
            ("/x", "/", Some("x")),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            assert_eq!(pattern.alternatives[0].literal_start(), (PathBuf::from(start), rest));
        }
        let path = Path::new("/a*[b]/{c}\\d");
        let escaped = Pattern::parse(&escaped(path)).unwrap();
        assert!(escaped.alternatives[0].compile(false).unwrap().compile_matcher().is_match(path));
    }
}
