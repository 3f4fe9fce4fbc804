//! Option files as client programs read them (<https://mariadb.com/kb/en/configuring-mariadb-with-option-files/>), where
//! the program is not installed that prints what is in them.

use crate::error::{Context, Error, Result};
use crate::process::Account;
use crate::text;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How deep files may include one another.
const MAX_DEPTH: usize = 10;
/// No option file is longer.
const MAX_BYTES: u64 = 1 << 20;
/// The words before the list of files in a program's help.
const FILES_FOLLOW: &str = "Default options are read from the following files in the given order:";

/// Reads the options of some groups, as `--name=value`: from the machine's files that a program's help lists, from one
/// that is named, and from that of the account's home.
pub fn read(help: &str, account: Option<&Account>, named: Option<&Path>, groups: &[&str]) -> Result<Vec<String>> {
    let mut lines = help.lines().skip_while(|line| line.trim_end() != FILES_FOLLOW);
    let listed = lines.nth(1).unwrap_or_default().split_whitespace();
    let (homes, files): (Vec<&str>, Vec<&str>) = listed.partition(|path| path.starts_with("~/"));
    let mut options = Vec::new();
    let mut add = |text: Option<String>| {
        text.into_iter().for_each(|text| parse(&text, groups, 0, &mut options));
    };
    files.iter().for_each(|path| add(text_of(Path::new(path), None)));
    if let Some(path) = named {
        let reading = || format!("Cannot read the option file {}", path.display());
        let bytes = std::fs::read(path).context(reading)?;
        add(Some(text::of_file(&bytes).map_err(|why| Error::usage(format!("{}: {why}", reading())))?));
    }
    let home = account.map(|account| account.home.clone()).or_else(|| std::env::var_os("HOME").map(PathBuf::from));
    for path in homes {
        // Another user must not have us read what they may not.
        let text = home.as_ref().and_then(|home| text_of(&home.join(&path[2..]), account.map(|account| account.uid)));
        add(text);
    }
    Ok(options)
}

/// Returns a file's text; where an owner is asked for, no link is followed and nobody else's file is read.
fn text_of(path: &Path, owner: Option<u32>) -> Option<String> {
    let flags = if owner.is_some() { libc::O_NOFOLLOW } else { 0 };
    let file = File::options().read(true).custom_flags(flags | libc::O_NONBLOCK).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    let is_right = metadata.is_file() && owner.is_none_or(|owner| metadata.uid() == owner);
    let mut bytes = Vec::new();
    is_right.then(|| file.take(MAX_BYTES).read_to_end(&mut bytes))?.ok()?;
    text::of_file(&bytes).ok()
}

fn parse(text: &str, groups: &[&str], depth: usize, options: &mut Vec<String>) {
    let mut is_wanted = false;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        if let Some(folder) = line.strip_prefix("!includedir ").filter(|_| depth < MAX_DEPTH) {
            let entries = std::fs::read_dir(folder.trim()).into_iter().flatten().flatten().map(|entry| entry.path());
            let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "cnf")).collect();
            files.sort();
            files
                .iter()
                .filter_map(|path| text_of(path, None))
                .for_each(|text| parse(&text, groups, depth + 1, options));
        } else if let Some(path) = line.strip_prefix("!include ").filter(|_| depth < MAX_DEPTH) {
            let text = text_of(Path::new(path.trim()), None);
            text.into_iter().for_each(|text| parse(&text, groups, depth + 1, options));
        } else if let Some(group) = line.strip_prefix('[') {
            is_wanted = group.split(']').next().is_some_and(|group| groups.contains(&group));
        } else if is_wanted {
            let line = without_comment(line);
            options.push(match line.split_once('=') {
                None => format!("--{}", line.trim()),
                Some((name, value)) => format!("--{}={}", name.trim(), plain(value.trim())),
            });
        }
    }
}

/// Returns a line up to a `#` that is not within quotes.
fn without_comment(line: &str) -> &str {
    let (mut quote, mut is_escaped) = (None, false);
    for (at, c) in line.char_indices() {
        match c {
            '\'' | '"' if !is_escaped && quote.is_none() => quote = Some(c),
            _ if !is_escaped && quote == Some(c) => quote = None,
            '#' if quote.is_none() => return &line[..at],
            _ => {}
        }
        is_escaped = quote.is_some() && c == '\\' && !is_escaped;
    }
    line
}

/// Returns a value without its quotes and escapes.
fn plain(value: &str) -> String {
    let quoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    let mut text = String::new();
    let mut rest = quoted.unwrap_or(value).chars();
    while let Some(c) = rest.next() {
        match (c, rest.clone().next()) {
            ('\\', Some(escaped @ ('n' | 't' | 'r' | 'b' | 's' | '"' | '\'' | '\\'))) => {
                rest.next();
                text.push(match escaped {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'b' => '\u{8}',
                    's' => ' ',
                    other => other,
                });
            }
            _ => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_files_are_read_as_programs_read_them() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("more")).unwrap();
        std::fs::write(at("more/a.cnf"), "[client]\nport = 1 # not 2\n").unwrap();
        std::fs::write(at("more/b.txt"), "[client]\nport = 3\n").unwrap();
        std::fs::write(at("named.cnf"), "; x\n[client]\npassword='a#b%c\"d\\\\e f'\n[mysqld]\nport=9\n").unwrap();
        let main = format!("[client]\nuser=u\nskip-ssl\n[mysqldump]\nno-data\n!includedir {}\n", at("more").display());
        std::fs::write(at("main.cnf"), main).unwrap();
        let help = format!("x\n{FILES_FOLLOW}\n/nonexistent {} ~/.nothing\n", at("main.cnf").display());
        let options = read(&help, None, Some(&at("named.cnf")), &["client", "mysqldump"]).unwrap();
        let expected = ["--user=u", "--skip-ssl", "--no-data", "--port=1", "--password=a#b%c\"d\\e f"];
        assert_eq!(options, expected);
        assert!(read(&help, None, Some(&at("gone.cnf")), &["client"]).is_err());
    }
}
