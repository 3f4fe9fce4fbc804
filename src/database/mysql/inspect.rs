//! What `bakfs config check` tells of a MySQL server.

use super::DumpProgram;
use super::rights::NEEDED;
use super::server::Server;
use crate::database::Report;
use crate::database::local::mebibytes;
use crate::settings::file::Mysql;
use crate::settings::profile::mysql_name;

/// Tries a server for real.
pub fn inspect(settings: &Mysql, report: &mut Report) {
    let subject = format!("mysql {}", mysql_name(settings));
    let server = match Server::new(settings) {
        Err(error) => return report.error(&subject, &error),
        Ok(server) => server,
    };
    let facts = match server.facts() {
        Err(error) => return report.error(&subject, &error),
        Ok(facts) => facts,
    };
    let maker = if facts.is_mariadb() { "MariaDB" } else { "MySQL" };
    report.fine(&subject, format!("connected as `{}` to {maker} {}", facts.role, facts.version));
    match DumpProgram::find(&server, &facts) {
        Err(error) => report.error(&subject, &error),
        Ok(program) => report.fine(&subject, format!("dumped by {}: {}", program.path.display(), program.version)),
    }
    if settings.databases.is_none() {
        report.replaced.extend(server.folders());
    }
    let (databases, missing) = facts.chosen(settings);
    for name in &missing {
        let text = format!("there is no database `{name}` that `{}` sees: take it out of `databases`", facts.role);
        report.problem(&subject, text);
    }
    if databases.is_empty() && missing.is_empty() {
        report.problem(&subject, "no database is dumped: look at `databases`, `exclude` and the user's rights");
    }
    if !databases.is_empty() {
        let list: Vec<_> = databases.iter().map(|(name, bytes)| format!("{name} ({})", mebibytes(*bytes))).collect();
        report.fine(&subject, format!("{} databases: {}", list.len(), list.join(", ")));
    }
    let mut is_enough = true;
    for (name, _) in &databases {
        let lacking: Vec<_> = NEEDED.into_iter().filter(|right| !facts.rights.has(right, name)).collect();
        if !lacking.is_empty() {
            is_enough = false;
            let lacking = lacking.join(", ");
            let text = format!("`{}` lacks {lacking} on `{name}`: run `GRANT {lacking} ON {name}.*`", facts.role);
            report.problem(&subject, text);
        }
    }
    let routines = "routines of others may be missing: `GRANT SELECT ON mysql.*` shows them to the user";
    if !facts.rights.sees_routines() {
        report.fine(&subject, routines);
    }
    if settings.globals.unwrap_or(true) && !facts.rights.has("SELECT", "mysql") {
        is_enough = false;
        let text = format!(
            "`{}` lacks SELECT on `mysql`, where users and rights are: grant it, or set `globals = false`",
            facts.role
        );
        report.problem(&subject, text);
    }
    if is_enough {
        report.fine(&subject, format!("`{}` may read all it is to dump", facts.role));
    }
}
