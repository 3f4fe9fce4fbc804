//! What `bakfs config check` tells of a cluster.

use super::choice::{Choice, choose, is_untouched};
use super::programs::{Programs, Version};
use super::rights::lacking;
use super::server::{Facts, Server, ServerDatabase};
use super::{GLOBALS, dropped, files};
use crate::database::Report;
use crate::database::local::{Temporary, mebibytes};
use crate::process::Stop;
use crate::quantity::counted;
use crate::settings::file::{PgFormat, Postgresql};
use crate::settings::profile::postgresql_name;

/// Tries a cluster for real.
pub fn inspect(settings: &Postgresql, temporary: &Temporary, report: &mut Report) {
    let subject = format!("postgresql {}", postgresql_name(settings));
    let server = match Server::new(settings, &Stop::default()) {
        Err(error) => return report.error(&subject, &error),
        Ok(server) => server,
    };
    let facts = match server.facts() {
        Err(error) => return report.error(&subject, &error),
        Ok(facts) => facts,
    };
    report.fine(&subject, format!("connected as `{}` to PostgreSQL {}", facts.role, facts.version));
    let programs = Programs::find(Version { number: facts.version_num }, settings, server.account.as_ref());
    match &programs {
        Err(error) => report.error(&subject, error),
        Ok(programs) => {
            report.fine(&subject, format!("dumped by {} {}", programs.pg_dump.display(), programs.version));
        }
    }
    let is_untouched =
        |known: &ServerDatabase| programs.as_ref().is_ok_and(|programs| is_untouched(&server, programs, &known.name));
    let choice = choose(settings, &facts, is_untouched);
    told(&choice, &subject, report);
    let databases = choice.databases;
    if choice.is_whole && programs.is_ok() {
        report.replaced.extend(files::folders(&server, &facts));
    }
    let size = |name: &String| facts.databases.iter().find(|known| known.name == *name)?.bytes;
    let shown = |name: &String| match size(name) {
        Some(bytes) => format!("{name} ({})", mebibytes(bytes)),
        None => name.clone(),
    };
    if !databases.is_empty() {
        let list: Vec<_> = databases.iter().map(shown).collect();
        report.fine(&subject, format!("{}: {}", counted(list.len(), "database"), list.join(", ")));
    }
    rights(&server, &facts, &databases, &subject, report);
    if settings.globals.unwrap_or(true) && !facts.reads_passwords {
        let text = format!(
            "`{}` may not read the passwords of roles: {GLOBALS} is dumped without them. Dump as a superuser to have \
             them, or set `globals = false`",
            facts.role
        );
        report.fine(&subject, text);
    }
    if settings.format == PgFormat::Directory {
        let largest = databases.iter().filter_map(size).max().unwrap_or(0);
        match temporary.check_room(largest) {
            Err(error) => report.error(&subject, &error),
            Ok(()) => report.fine(&subject, format!("there is room for it in {}", temporary.folder.display())),
        }
    }
}

/// Tells what is not dumped, and what to do about it.
fn told(choice: &Choice, subject: &str, report: &mut Report) {
    for name in &choice.missing {
        let text = format!("there is no database `{name}` that accepts connections: take it out of `databases`");
        report.problem(subject, text);
    }
    for name in &choice.refusing {
        let text = format!(
            "the database `{name}` refuses connections and cannot be dumped: run `ALTER DATABASE \"{name}\" \
             ALLOW_CONNECTIONS true`, or name it in `exclude`"
        );
        report.problem(subject, text);
    }
    choice.dropped.iter().for_each(|name| report.problem(subject, dropped(name)));
    for pattern in &choice.idle {
        report.hint(subject, format!("`{pattern}` in `exclude` matches no database: look at how it is written"));
    }
    if choice.databases.is_empty() && choice.missing.is_empty() {
        report.problem(subject, "no database is dumped: look at `databases` and `exclude`");
    }
}

fn rights(server: &Server, facts: &Facts, databases: &[String], subject: &str, report: &mut Report) {
    if facts.is_superuser {
        return report.fine(subject, format!("`{}` may read everything", facts.role));
    }
    let mut is_enough = true;
    for database in databases {
        match lacking(server, facts, database) {
            Err(error) => report.problem(subject, format!("database `{database}`: {}", error.chain())),
            Ok(lacking) => {
                is_enough &= lacking.texts.is_empty();
                let text = |text: String| format!("database `{database}`: {text}");
                lacking.texts.into_iter().for_each(|it| report.problem(subject, text(it)));
                lacking.notes.into_iter().for_each(|it| report.hint(subject, text(it)));
            }
        }
    }
    if is_enough {
        report.fine(subject, format!("`{}` may read all it is to dump", facts.role));
    }
}
