//! Texts that people write: in files of every editor, and in environment variables.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The bytes with which some editors begin a file of UTF-8 (Unicode 16, section 23.8): no part of its text.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Returns a file's bytes without the mark that some editors begin it with; an error says what else they are.
pub fn without_mark(bytes: &[u8]) -> Result<&[u8], String> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err("it is UTF-16: save it as UTF-8".into());
    }
    Ok(bytes.strip_prefix(MARK).unwrap_or(bytes))
}

/// Returns the text in a file: without that mark, and with lines that end as they do on this system.
pub fn of_file(bytes: &[u8]) -> Result<String, String> {
    let bytes = without_mark(bytes)?;
    let text = str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line} is not UTF-8 text")
    })?;
    Ok(text.replace("\r\n", "\n"))
}

/// Returns the first line, without what ends it.
pub fn first_line(bytes: &[u8]) -> &[u8] {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Returns what a path should have been where it begins with something that only a shell replaces: `~` and variables.
pub fn unexpanded(path: &Path) -> Option<String> {
    let bytes = path.as_os_str().as_bytes();
    if let Some(rest) = bytes.strip_prefix(b"~")
        && let Some(rest) = if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
    {
        let meant = crate::pattern::at_home(&String::from_utf8_lossy(rest));
        return Some(format!("no shell has replaced the `~`: write {}", meant.display()));
    }
    let rest = bytes.strip_prefix(b"$")?;
    let rest = rest.strip_prefix(b"{").unwrap_or(rest);
    let name: Vec<u8> = rest.iter().copied().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').collect();
    if name.is_empty() {
        return None;
    }
    let name = OsStr::from_bytes(&name);
    let value = std::env::var_os(name).map(PathBuf::from).filter(|value| value.is_absolute());
    let advice = value.map_or("write the whole path".into(), |value| format!("it is {} here", value.display()));
    Some(format!("no shell has replaced the variable ${}: {advice}", name.display()))
}

/// Says why a path that was given cannot be used: empty, or as only a shell understands it.
pub fn refused(path: &Path) -> Option<String> {
    if path.as_os_str().is_empty() {
        return Some("the path is empty".into());
    }
    Some(format!("{}: {}; ./{0} is one that is called so", path.display(), unexpanded(path)?))
}

/// Says why a text cannot be the address of a server: libraries leave out what should not be in it (WHATWG URL Standard,
/// section 4.4), or take another server for meant.
pub fn refused_address(text: &str) -> Option<&'static str> {
    text.contains(|char: char| char.is_whitespace() || char.is_control())
        .then_some("holds a blank, a line break or another character that no address has: write it without")
}

/// Says why a text cannot be a URL of a repository, whose path may have blanks in it.
pub fn refused_url(text: &str) -> Option<&'static str> {
    let is_url = text.contains("://");
    (is_url && (text.trim() != text || text.contains(char::is_control)))
        .then_some("begins or ends with a blank, or holds a line break or another control character: write it without")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_text_is_that_without_what_editors_add() {
        assert_eq!(of_file(b"\xef\xbb\xbfa\r\nb\n").unwrap(), "a\nb\n");
        assert!(of_file(b"\xff\xfea\0").unwrap_err().contains("UTF-16"));
        assert!(of_file(b"a\nb\xff\n").unwrap_err().contains("line 2"));
        assert_eq!(first_line(b"secret\r\nmore"), b"secret");
        assert_eq!(first_line(b""), b"");
    }

    #[test]
    fn addresses_have_no_blanks_and_urls_none_around_them() {
        for text in
            [" http://a", "http://a ", "http://a b", "http://a\n", "http://\ta", "http://a\u{a0}", "http://a\x7f"]
        {
            assert!(refused_address(text).is_some(), "{text:?}");
        }
        for (text, is_refused) in [
            ("s3://bucket/my files", false),
            ("/srv/ my files ", false),
            (" s3://bucket", true),
            ("s3://bucket/x ", true),
            ("sftp://host/a\nb", true),
        ] {
            assert_eq!(refused_url(text).is_some(), is_refused, "{text:?}");
        }
        assert_eq!(refused_address("http://[::1]:9000/x"), None);
    }

    #[test]
    fn what_a_shell_should_have_replaced_is_told() {
        for path in ["~", "~/repo", "$HOME/repo", "${HOME}/repo", "$repo"] {
            assert!(refused(Path::new(path)).unwrap().contains("no shell has replaced"), "{path}");
        }
        for path in ["/~/x", "./~/x", "~user", "a$b", "$", "$(x)", "repo"] {
            assert_eq!(refused(Path::new(path)), None, "{path}");
        }
        assert!(refused(Path::new("")).unwrap().contains("empty"));
    }
}
