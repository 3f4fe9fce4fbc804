//! Whether hooks can be run at all.

use super::Finding;
use crate::process::Program;
use crate::settings::Profile;
use crate::settings::values::Command;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The shell needs no longer than this to read a line.
const SHELL_TIMEOUT: Duration = Duration::from_secs(10);

/// Looks at each hook of a profile; none is run.
pub fn check(profile: &Profile) -> Vec<Finding> {
    let hooks = [
        ("before", &profile.hooks.before),
        ("after", &profile.hooks.after),
        ("on-failure", &profile.hooks.on_failure),
        ("finally", &profile.hooks.finally),
    ];
    let given = hooks.into_iter().filter_map(|(name, command)| Some((name, command.as_ref()?)));
    given.map(|(name, command)| one(&format!("{}: hook {name}", profile.name), command)).collect()
}

fn one(subject: &str, command: &Command) -> Finding {
    let program = Program::new(command.arguments());
    if let Err(error) = program.refuse_changeable() {
        return Finding::problem(subject, error.chain());
    }
    match command {
        Command::Line(line) if line.trim().is_empty() => Finding::problem(subject, "is empty: write a command"),
        Command::Line(line) => shell(subject, line),
        Command::Program(words) => match words.first() {
            None => Finding::problem(subject, "is empty: write a program and its arguments"),
            Some(program) => match find(program) {
                Ok(path) => Finding::fine(subject, format!("is {}", path.display())),
                Err(text) => Finding::problem(subject, text),
            },
        },
    }
}

/// Lets the shell read a line without running it.
fn shell(subject: &str, line: &str) -> Finding {
    let mut program = Program::new(["/bin/sh", "-n", "-c", line]);
    program.timeout = Some(SHELL_TIMEOUT);
    match program.run() {
        Ok((status, _)) if status.success() => Finding::fine(subject, "is a line the shell can read"),
        Ok((_, words)) => Finding::problem(subject, format!("the shell cannot read it: {}: mend it", words.trim())),
        Err(error) => Finding::problem(subject, error.chain()),
    }
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// Finds a program by its path, or else by its name in the PATH.
fn find(program: &str) -> Result<PathBuf, String> {
    if program.contains('/') {
        let path = PathBuf::from(program);
        return match path.exists() {
            _ if is_executable(&path) => Ok(path),
            true => Err(format!("{program} cannot be executed: `chmod +x {program}`")),
            false => Err(format!("there is no {program}: correct the path, or install it")),
        };
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| is_executable(path));
    found.ok_or_else(|| format!("there is no program `{program}` in the PATH: write its full path, or install it"))
}
