//! What is told where a command line is wrong: the mistake, what the option is for, how the command is written.

use super::output::printable;
use crate::spelling::nearest;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};
use std::ffi::OsString;

/// Returns clap's words with what they lack: the option's own help, the word that was meant, and the usage of the command
/// as it is always (clap's has what cannot go together, as if it were wanted).
pub fn told(root: Command, arguments: &[OsString], error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mut root = root;
    root.build();
    let (command, words) = called(&root, arguments);
    let invalid = context(error, ContextKind::InvalidArg);
    let mut lines = vec![first_part(&text, error.kind())];
    lines.extend(invalid.as_deref().and_then(|invalid| named(command, invalid)).and_then(explained));
    if !lines[0].contains("similar") {
        lines.extend(advice(command, &words, invalid.as_deref(), error.kind()));
    }
    let usage = match error.kind() {
        // Those say what is lacking.
        ErrorKind::MissingRequiredArgument => text.find("Usage: ").map(|at| paragraph(&text[at..]).to_string()),
        _ => None,
    };
    lines.push(usage.unwrap_or_else(|| command.clone().render_usage().to_string()));
    lines.push(format!("`{} --help` says more", command.get_bin_name().unwrap_or("bakfs")));
    lines.join("\n\n")
}

fn paragraph(text: &str) -> &str {
    text.split("\n\n").next().unwrap_or_default().trim_end()
}

/// Returns clap's text as far as it tells the mistake.
fn first_part(text: &str, kind: ErrorKind) -> String {
    let end = text.find("\n\nUsage: ").or_else(|| text.find("\n\nFor more information")).unwrap_or(text.len());
    let told = text[..end].trim_end();
    // Its tip is to take a misspelt option for a word.
    let told = told.replace("invalid digit found in string", "that is no whole number");
    match kind {
        ErrorKind::UnknownArgument if told.contains("as a value, use '-- ") => paragraph(&told).to_string(),
        _ => told,
    }
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    }
}

/// Returns the command that was called, and the words behind its name.
fn called<'a>(root: &'a Command, arguments: &[OsString]) -> (&'a Command, Vec<String>) {
    let (mut command, mut words) = (root, Vec::new());
    let mut arguments = arguments.iter().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    while let Some(word) = arguments.next() {
        if word.starts_with('-') {
            let takes_value = |option: &Arg| option.get_num_args().is_some_and(|range| range.min_values() > 0);
            if named(command, &word).is_some_and(takes_value) && !word.contains('=') {
                arguments.next();
            }
        } else if let Some(below) = command.find_subcommand(&word).filter(|_| words.is_empty()) {
            command = below;
        } else {
            words.push(word);
        }
    }
    (command, words)
}

/// Finds an option by how it was written, or an argument by how clap writes it: `--tag <TAG>`, `-r`, `[PROFILE]...`.
fn named<'a>(command: &'a Command, written: &str) -> Option<&'a Arg> {
    let word = written.split([' ', '=', '[']).next().unwrap_or_default();
    command.get_arguments().find(|argument| match word.strip_prefix("--") {
        Some(long) => argument.get_long() == Some(long),
        None if word.starts_with('-') => argument.get_short().is_some_and(|short| word[1..].starts_with(short)),
        None => argument.is_positional() && argument.to_string() == written,
    })
}

fn explained(argument: &Arg) -> Option<String> {
    let help = argument.get_help().map(StyledStr::to_string)?;
    let env = argument.get_env().map_or(String::new(), |name| format!(" (also by the variable {})", name.display()));
    Some(format!("{argument}: {help}{env}"))
}

/// Returns the next step where one is known.
fn advice(command: &Command, words: &[String], invalid: Option<&str>, kind: ErrorKind) -> Option<String> {
    match kind {
        ErrorKind::ArgumentConflict => Some("Leave one of them out".into()),
        ErrorKind::UnknownArgument => {
            let invalid = invalid?;
            if let Some(word) = invalid.strip_prefix("--") {
                let known =
                    command.get_arguments().filter(|argument| !argument.is_hide_set()).filter_map(Arg::get_long);
                return nearest(word, known).map(|meant| format!("Did you mean --{meant}?"));
            }
            let takes_path = command.get_positionals().next()?.to_string().contains(":PATH");
            let snapshot = words.iter().find(|word| *word != invalid)?;
            (takes_path && invalid.starts_with('/')).then(|| {
                format!(
                    "A path in a snapshot stands behind a colon: write `{}`",
                    printable(&format!("{snapshot}:{invalid}"))
                )
            })
        }
        ErrorKind::InvalidSubcommand => {
            let names = command.get_subcommands().filter(|below| !below.is_hide_set()).map(Command::get_name);
            Some(format!("The commands are {}", names.collect::<Vec<_>>().join(", ")))
        }
        _ => None,
    }
}
