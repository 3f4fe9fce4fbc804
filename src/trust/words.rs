//! What a command runs: its program, and the files it hands to it, in a list of words or in a line for the shell.
//!
//! A line is read for its words, as far as they can be told from it (POSIX.1-2024, XCU 2.2 and 2.9): what variables and
//! substitutions come to is not known.

use std::path::{Path, PathBuf};

/// Shells: what follows their `-c` is a line.
const SHELLS: &str = "sh ash bash dash ksh mksh yash zsh";
/// Words that stand before a program: of the shell's own, and programs that run another one as it is.
const BEFORE: &str = "\
    ! { if then elif else while until do time exec command builtin eval env nice ionice chrt nohup \
    setsid stdbuf timeout taskset unshare";
/// Programs that do something to files and run none: whose these are is of no account.
const HANDLERS: &str = "\
    [ [[ test awk basename cat chgrp chmod chown cmp cp cut date df diff dirname du echo file gawk \
    getfacl grep gzip head install jq ln logger ls mawk md5sum mkdir mv printf readlink realpath rm \
    rmdir sed setfacl sha256sum sort sqlite3 stat sync tail tee touch tr truncate uniq wc xz zstd";
/// Those of them that are told by `-f` what to do.
const SCRIPTED: &str = "awk gawk jq mawk sed";
/// Programs that run what follows elsewhere: in another root, container or machine, or as somebody else.
const ELSEWHERE: &str = "chroot docker incus kubectl lxc lxc-attach machinectl nerdctl nsenter podman ssh su";
/// Programs that run what follows as somebody else where an option that begins so says it.
const AS_ANOTHER: [(&str, &[&str]); 5] = [
    ("doas", &["-u"]),
    ("runuser", &["-"]),
    ("setpriv", &["--reuid", "--ruid", "--euid"]),
    ("sudo", &["-u", "--user"]),
    ("systemd-run", &["--uid", "-pUser=", "User=", "--property=User="]),
];
/// Lines within lines are read so deep.
const MAX_DEPTH: usize = 8;

/// Returns the absolute paths among the words of a command that decide what it runs: its programs, and what they are
/// handed, but for the files of those that only handle files, and what is run elsewhere or as another user.
pub fn run_by(words: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    simple(words, 0, &mut found);
    found
}

/// Finds the paths of one simple command.
fn simple(words: &[String], depth: usize, found: &mut Vec<PathBuf>) {
    let mut rest = words;
    // What stands before the program, with the options of it.
    while let Some((word, after)) = rest.split_first() {
        let is_number = word.starts_with(|c: char| c.is_ascii_digit());
        if !(is_of(BEFORE, name_of(word)) || word.starts_with('-') || is_assignment(word) || is_number) {
            break;
        }
        add(word, found);
        rest = after;
    }
    let Some((program, arguments)) = rest.split_first() else { return };
    add(program, found);
    let name = name_of(program);
    let as_another = AS_ANOTHER.iter().find(|(known, _)| *known == name);
    if let Some((_, options)) = as_another {
        return match arguments.iter().any(|word| options.iter().any(|option| word.starts_with(option))) {
            true => {}
            false => simple(arguments, depth, found),
        };
    }
    if is_of(ELSEWHERE, name) {
        return;
    }
    if is_of(HANDLERS, name) {
        let scripts = arguments.windows(2).filter(|pair| is_of(SCRIPTED, name) && pair[0] == "-f");
        return scripts.for_each(|pair| add(&pair[1], found));
    }
    let is_line = |word: &String| word.starts_with('-') && !word.starts_with("--") && word.ends_with('c');
    let flag = arguments.iter().position(is_line).filter(|_| is_of(SHELLS, name) && depth < MAX_DEPTH);
    for (at, word) in arguments.iter().enumerate() {
        match flag {
            Some(flag) if at == flag + 1 => line(word, depth + 1, found),
            _ => add(word, found),
        }
    }
}

/// Finds the paths of a line for the shell.
fn line(text: &str, depth: usize, found: &mut Vec<PathBuf>) {
    for command in commands(text) {
        simple(&command, depth, found);
    }
}

/// Returns whether a word is one of a list, which has a blank between them.
fn is_of(list: &str, word: &str) -> bool {
    list.split(' ').any(|known| known == word)
}

fn name_of(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

fn is_assignment(word: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    word.split_once('=').is_some_and(|(name, _)| is_name(name))
}

/// Adds a word that is an absolute path, or whose value is one (`--file=/path`, `LD_PRELOAD=/path`).
fn add(word: &str, found: &mut Vec<PathBuf>) {
    let value = word.split_once('=').map(|(_, value)| value);
    let paths = [Some(word), value].into_iter().flatten().map(Path::new).filter(|path| path.is_absolute());
    found.extend(paths.map(Path::to_path_buf));
}

/// Parts a line into simple commands and these into words. A file that is written to is no word of them.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut word: Option<String> = None;
    // What closes the quotes that are open.
    let mut quote = None;
    let mut is_target = false;
    let mut chars = text.chars().peekable();
    loop {
        let next = chars.next();
        let is_end = match (next, quote) {
            (None, _) => true,
            (Some('\''), Some('\'')) | (Some('"'), Some('"')) => {
                quote = None;
                continue;
            }
            (Some(char), Some('\'')) => {
                word.get_or_insert_default().push(char);
                continue;
            }
            (Some('\\'), _) => {
                match chars.next() {
                    Some('\n') | None => {}
                    Some(char) => word.get_or_insert_default().push(char),
                }
                continue;
            }
            // A substitution is a command also within quotes.
            (Some('`' | '(' | ')'), _) => true,
            (Some(char), Some(_)) => {
                word.get_or_insert_default().push(char);
                continue;
            }
            (Some(char @ ('\'' | '"')), None) => {
                quote = Some(char);
                word.get_or_insert_default();
                continue;
            }
            (Some('#'), None) if word.is_none() => {
                while chars.next_if(|char| *char != '\n').is_some() {}
                continue;
            }
            (Some(char), None) => {
                if !(char.is_whitespace() || ";&|<>".contains(char)) {
                    word.get_or_insert_default().push(char);
                    continue;
                }
                matches!(char, ';' | '&' | '|' | '\n')
            }
        };
        if let Some(word) = word.take()
            && !std::mem::take(&mut is_target)
        {
            all.last_mut().expect("there is a command").push(word);
        }
        match next {
            None => break,
            Some('>') => is_target = true,
            // `>&2` names a descriptor.
            Some('&') if is_target => {}
            _ if is_end => {
                is_target = false;
                all.push(Vec::new());
            }
            _ => {}
        }
    }
    all.retain(|command| !command.is_empty());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(words: &[&str]) -> Vec<String> {
        let words: Vec<String> = words.iter().map(|word| word.to_string()).collect();
        let mut found: Vec<_> = run_by(&words).iter().map(|path| path.display().to_string()).collect();
        found.retain(|path| path.starts_with("/w/"));
        found
    }

    fn of_line(text: &str) -> Vec<String> {
        paths(&["/bin/sh", "-c", text])
    }

    #[test]
    fn what_a_command_runs_is_found_however_it_is_written() {
        for text in [
            "/w/hk",
            "/w/hk now",
            "sh /w/hk",
            "bash -eu /w/hk now",
            "cd /srv && /w/hk",
            "true; /w/hk",
            "/usr/bin/python3 -u /w/hk",
            "nice -n 10 ionice -c3 sh '/w/hk'",
            "if [ -e /w/flag ]; then /w/hk; fi",
            "echo \"it is $(/w/hk)\" > /w/log",
            "echo `/w/hk` >> /w/log 2>&1",
            "( /w/hk ) & wait",
            "LANG=C sh \"/w/hk\" >/w/log",
            "bash -c 'exec /w/hk'",
            "sh < /w/hk",
            ". /w/hk",
            "timeout 5m /w/hk",
            "sudo /w/hk",
            "env -i A=b sh /w/hk # /w/comment",
            "LD_PRELOAD=/w/hk true",
            "rsync --rsh=/w/hk a b",
            "test -x /w/flag && \\\n /w/hk",
            "xargs sh /w/hk",
            "sed -f /w/hk /w/data",
            "sqlite3 /w/data.db 'select 1' | /w/hk",
        ] {
            assert_eq!(of_line(text), ["/w/hk"], "{text}");
        }
        assert_eq!(of_line("sh '/w/my hook'"), ["/w/my hook"]);
        assert_eq!(of_line("/w/a\\ b | /w/c"), ["/w/a b", "/w/c"]);
        assert_eq!(paths(&["/w/hk", "/w/data"]), ["/w/hk", "/w/data"]);
        assert_eq!(paths(&["sh", "-c", "/w/hk now"]), ["/w/hk"]);
        assert_eq!(paths(&["/bin/bash", "-ec", "sh -c \"sh -c /w/hk\""]), ["/w/hk"]);
    }

    #[test]
    fn files_that_are_only_handled_and_what_runs_as_somebody_else_are_passed_over() {
        for text in [
            "touch /w/flag",
            "rm -f -- /w/flag && echo off > /w/mode",
            "[ -d /w/dir ] || mkdir -p /w/dir",
            "sudo -u www-data php /w/occ maintenance:mode --on",
            "su - www-data -s /bin/sh -c 'php /w/occ'",
            "runuser -u www-data -- /w/occ",
            "docker exec web php /w/occ",
            "nice ssh web2 /w/occ",
            "sed -i s/0/1/ /w/env; sqlite3 /w/data.db .dump > /w/dump",
            "chown www-data /w/flag; cat /w/list",
            "true # /w/hk",
            "true > /w/log 2>/w/errors",
            "",
        ] {
            assert!(of_line(text).is_empty(), "{text}: {:?}", of_line(text));
        }
    }

    #[test]
    fn no_line_is_too_odd() {
        for text in ["'", "\"$(", "\\", "((((", "sh -c", ">", "& & ;;", "a=", "-c -c -c", "'\u{0}'"] {
            of_line(text);
        }
    }
}
