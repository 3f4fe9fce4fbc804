//! Programs whose standard output is stored.

use super::local::{account, dump_limit, is_program, owner};
use super::manifest::{Manifest, Subject, names};
use super::{Plan, Report};
use crate::error::{Error, Result};
use crate::process::{Program, Stop};
use crate::settings::file::CommandSource;
use std::path::Path;

fn program(source: &CommandSource, stop: &Stop) -> Result<Program> {
    let mut program = Program::new(source.run.arguments()).stopped_by(stop);
    if program.arguments.is_empty() {
        return Err(Error::usage(format!("The command `{}` is empty: write a program in `run`", source.name)));
    }
    program.account = account(source.user.as_deref())?;
    program.exec = source.exec.words();
    program.timeout = dump_limit(source.timeout);
    Ok(program)
}

/// Adds a command's output to what is dumped.
pub fn plan(source: &CommandSource, stop: &Stop, plan: &mut Plan) {
    let path = names("command", &[source.name.as_bytes()]);
    let program = match program(source, stop) {
        Err(error) => return plan.fail(&path, error),
        Ok(program) => program,
    };
    let subject = Subject {
        path,
        owner: owner(program.account.as_ref()),
        title: format!("the output of the command `{}`", source.name),
        manifest: Manifest {
            kind: "command",
            database: source.name.clone(),
            format: "output",
            program: Some(program.name()),
            ..Manifest::default()
        },
    };
    plan.units.push(subject.stream(move |_| Ok(Box::new(program.stream()?))));
}

/// Tells whether a command can be run.
pub fn inspect(source: &CommandSource, report: &mut Report) {
    let subject = format!("command {}", source.name);
    let program = match program(source, &Stop::default()) {
        Err(error) => return report.error(&subject, &error),
        Ok(program) => program,
    };
    if let Err(error) = program.refuse_changeable() {
        return report.error(&subject, &error);
    }
    // Of a container only what leads to it is seen here.
    let named = Path::new(program.exec.first().unwrap_or(&program.arguments[0]));
    let found = if named.components().count() > 1 {
        is_program(named)
    } else {
        super::local::folders(None).iter().any(|folder| is_program(&folder.join(named)))
    };
    if found && !program.exec.is_empty() {
        let text = format!("is run by {}: whether it can be is seen when it is dumped", named.display());
        report.fine(&subject, text);
    } else if found {
        report.fine(&subject, format!("runs {}", named.display()));
    } else {
        report.problem(&subject, format!("there is no program {}: check its path, or install it", named.display()));
    }
}
