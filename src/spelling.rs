//! Misspelt words, and characters that are not what they look like.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
/// Returns whether a character gives commands to a terminal, ends a line, or turns the text around it: it is escaped
/// wherever a name is shown. Those of Unicode's bidirectional algorithm (UAX 9, 2.1 to 2.6), its line and paragraph
/// separators, and all control characters.
pub fn is_unsafe_to_show(character: char) -> bool {
    let turns =
        matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}');
    turns || matches!(character, '\u{2028}' | '\u{2029}') || character.is_control()
}

/// Adds a character to a text that is shown: escaped where it is unsafe.
pub fn push_shown(text: &mut String, character: char) {
    match is_unsafe_to_show(character) {
        true => text.extend(character.escape_default()),
        false => text.push(character),
    }
}

/// Writes a path or name for a person: what could upset a terminal is escaped.
pub fn readable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|character| push_shown(&mut text, character));
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Writes a path for a person.
pub fn readable_path(path: &Path) -> String {
    readable(path.as_os_str().as_bytes())
}

/// Longer words are near to none.
const MAX_WORD_BYTES: usize = 256;

/// Returns the word that is nearest to a misspelt one, if any is near.
pub fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = given.replace('_', "-").to_lowercase();
    let near = known
        .filter(|word| word.len() <= MAX_WORD_BYTES && given.len() <= MAX_WORD_BYTES)
        .map(|word| (distance(&plain, word), word));
    let (edits, word) = near.min_by_key(|(edits, _)| *edits)?;
    (edits <= 1 + word.chars().count() / 4 || word.starts_with(&plain) && plain.len() > 2).then_some(word)
}

/// Counts the edits between two words, a swap of neighbours as one (Damerau, 1964).
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows = vec![vec![0; other.len() + 1]; one.len() + 1];
    for i in 0..=one.len() {
        for j in 0..=other.len() {
            rows[i][j] = match (i, j) {
                (0, edits) | (edits, 0) => edits,
                _ => {
                    let same = usize::from(one[i - 1] != other[j - 1]);
                    let plain = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + same);
                    let swapped = i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1];
                    if swapped { plain.min(rows[i - 2][j - 2] + 1) } else { plain }
                }
            };
        }
    }
    rows[one.len()][other.len()]
}

/// Splits a list of words at commas, each without blanks around it; an error says which makes none.
pub fn list(what: &str, text: &str) -> Result<Vec<String>, String> {
    let words: Vec<String> = text.split(',').map(|word| word.trim().to_string()).collect();
    words.iter().try_for_each(|word| check_word(what, word))?;
    Ok(words)
}

/// Refuses what would not be a safe name of a directory in the mount.
pub fn check_word(what: &str, word: &str) -> Result<(), String> {
    let fits = !word.is_empty() && word.len() <= 200 && !word.contains('/') && !word.chars().any(char::is_control);
    if fits && word != "." && word != ".." {
        return Ok(());
    }
    Err(match word {
        "" => format!("an empty {what} is none: write one, or leave it out"),
        _ => format!("`{word}` cannot be a {what}: it must be a name without slashes"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_was_meant_is_found_and_no_other() {
        let known = ["main", "shop", "web1"];
        for (given, meant) in [
            ("mian", Some("main")),
            ("Main", Some("main")),
            ("sho", Some("shop")),
            ("web2", Some("web1")),
            ("elsewhere", None),
        ] {
            assert_eq!(nearest(given, known.into_iter()), meant, "{given}");
        }
        let long = "x".repeat(1 << 20);
        assert_eq!(nearest(&long, [&*long].into_iter()), None);
    }
}
