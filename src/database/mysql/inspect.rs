//! What `bakfs config check` tells of a MySQL server.

use super::dumping::{broken, orphaned};
use super::program::{DumpProgram, Wishes};
use super::rights::NEEDED;
use super::server::Server;
use super::{Source, files};
use crate::database::Report;
use crate::database::local::{Temporary, mebibytes};
use crate::process::Stop;
use crate::quantity::counted;
use crate::settings::file::Mysql;
use crate::settings::profile::mysql_name;

/// Tries a server for real.
pub fn inspect(settings: &Mysql, temporary: &Temporary, report: &mut Report) {
    let subject = format!("mysql {}", mysql_name(settings));
    let mut server = match Server::new(settings, temporary, &Stop::default()) {
        Err(error) => return report.error(&subject, &error),
        Ok(server) => server,
    };
    let facts = match server.facts() {
        Err(error) => return report.error(&subject, &error),
        Ok(facts) => facts,
    };
    let maker = if facts.is_mariadb() { "MariaDB" } else { "MySQL" };
    report.fine(&subject, format!("connected as `{}` to {maker} {}", facts.role, facts.version));
    if !server.connection.left_aside.is_empty() {
        let options = server.connection.left_aside.join(", ");
        let text = format!(
            "option files say `{options}` of dumps, which is left aside: they decide how to connect, and nothing else. \
             Write into `options` what is meant so"
        );
        report.hint(&subject, text);
    }
    let program = match DumpProgram::find(&server, &facts) {
        Err(error) => return report.error(&subject, &error),
        Ok(program) => program,
    };
    report.fine(&subject, format!("dumped by {}: {}", program.path.display(), program.version));
    let source = Source { server, facts, program };
    let facts = &source.facts;
    let has_users = settings.globals.unwrap_or(true);
    if settings.databases.is_none() && has_users && facts.rights.sees_all_databases() {
        report.replaced.extend(files::folders(&source.server));
    }
    let choice = facts.chosen(settings);
    for name in &choice.missing {
        let text = format!("there is no database `{name}` that `{}` sees: take it out of `databases`", facts.role);
        report.problem(&subject, text);
    }
    for pattern in &choice.idle {
        report.hint(&subject, format!("`{pattern}` in `exclude` matches no database: look at how it is written"));
    }
    for folder in &facts.folders {
        report.fine(&subject, format!("`{folder}` is a folder among the data and no database: it is left out"));
    }
    let databases = choice.databases;
    if databases.is_empty() && choice.missing.is_empty() {
        report.problem(&subject, "no database is dumped: look at `databases`, `exclude` and the user's rights");
    }
    if !databases.is_empty() {
        let list: Vec<_> = databases.iter().map(|(name, bytes)| format!("{name} ({})", mebibytes(*bytes))).collect();
        report.fine(&subject, format!("{}: {}", counted(list.len(), "database"), list.join(", ")));
    }
    let (mut is_enough, mut hints) = (true, Vec::new());
    let mut problem = |text: String| {
        is_enough = false;
        report.problem(&subject, text);
    };
    for (name, _) in &databases {
        let wishes = Wishes::of(&settings.options, name);
        let is_needed = |right: &&str| !(*right == "TRIGGER" && wishes.lacks("triggers"));
        let lacking = NEEDED.into_iter().filter(is_needed).filter(|right| !facts.rights.has(right, name));
        let lacking: Vec<_> = lacking.collect();
        if !lacking.is_empty() {
            let lacking = lacking.join(", ");
            problem(format!("`{}` lacks {lacking} on `{name}`: run `GRANT {lacking} ON {name}.*`", facts.role));
            continue;
        }
        match source.look(name, &wishes) {
            Err(error) => problem(error.chain()),
            Ok((contents, tried)) => {
                hints.extend(orphaned(&tried).map(|text| format!("`{name}`: {text}")));
                tried.broken.iter().for_each(|(table, why)| problem(broken(name, table, why)));
                source.lost_history(&contents, &wishes).into_iter().for_each(&mut problem);
            }
        }
    }
    if has_users && !facts.rights.has("SELECT", "mysql") {
        problem(format!(
            "`{}` lacks SELECT on `mysql`, where users and rights are: grant it, or set `globals = false`",
            facts.role
        ));
    } else if !facts.rights.sees_routines()
        && databases.iter().any(|(name, _)| !Wishes::of(&settings.options, name).lacks("routines"))
    {
        problem("routines of others may be missing: `GRANT SELECT ON mysql.proc` shows them to the user".into());
    }
    hints.into_iter().for_each(|text| report.hint(&subject, text));
    if is_enough {
        report.fine(&subject, format!("`{}` may read all it is to dump", facts.role));
    }
}
