//! What belongs to a server and to none of its databases, as SQL, as far as the dump program does not write it.

use super::server::{Server, quoted};
use crate::error::Result;

/// How many users are asked for at once: the question is an argument, whose length is bounded.
const USERS_AT_ONCE: usize = 100;
/// What functions of libraries return, by the number that mysql.func has.
const RETURNS: [(&str, &str); 4] = [("0", "STRING"), ("1", "REAL"), ("2", "INTEGER"), ("4", "DECIMAL")];

/// Returns a part of a user's name as SQL.
fn part(name: &str) -> String {
    if name.is_empty() { "''".into() } else { quoted(name) }
}

/// Returns a text as SQL, whatever the SQL mode says of backslashes in texts without any.
fn text(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// Writes what the dump program leaves out: what everybody may (MariaDB, since 10.11), and the definitions of other
/// servers, which it does not quote right.
pub fn others(server: &Server, is_mariadb: bool) -> Result<String> {
    let question =
        "SELECT Server_name, Wrapper, Host, Db, Username, Password, Port, Socket, Owner FROM mysql.servers ORDER BY 1";
    let mut sql = String::new();
    if is_mariadb {
        for line in server.try_all("SHOW GRANTS FOR PUBLIC;\n".into())?.into_iter().flatten() {
            sql += &format!("{line};\n");
        }
    }
    for row in server.ask(question)? {
        let [name, wrapper, values @ ..] = &row[..] else { continue };
        let names = ["HOST", "DATABASE", "USER", "PASSWORD", "PORT", "SOCKET", "OWNER"];
        let is_given = |(name, value): &(&&str, &String)| !(value.is_empty() || **name == "PORT" && *value == "0");
        let given = names.iter().zip(values).filter(is_given);
        let options: Vec<String> = given
            .map(|(name, value)| match *name {
                "PORT" => format!("{name} {value}"),
                _ => format!("{name} {}", text(value)),
            })
            .collect();
        sql += &format!(
            "CREATE SERVER /*M!100103 IF NOT EXISTS */ {} FOREIGN DATA WRAPPER {} OPTIONS ({});\n",
            quoted(name),
            quoted(wrapper),
            options.join(", ")
        );
    }
    Ok(sql)
}

/// Writes the libraries of plugins and functions, which users may need: MariaDB's program writes them with a word at a
/// place where no server takes it. What is there already is left.
pub fn libraries(server: &Server) -> Result<String> {
    let mut sql = String::from("-- Libraries, users and their rights\n");
    for row in server.ask("SELECT name, dl FROM mysql.plugin ORDER BY name")? {
        let [name, library] = &row[..] else { continue };
        sql += &format!("INSTALL PLUGIN /*M!100401 IF NOT EXISTS */ {} SONAME {};\n", quoted(name), text(library));
    }
    for row in server.ask("SELECT name, ret, dl, type FROM mysql.func ORDER BY name")? {
        let [name, returns, library, kind] = &row[..] else { continue };
        let aggregate = if kind == "aggregate" { "AGGREGATE " } else { "" };
        let returns = RETURNS.iter().find(|(number, _)| number == returns).map_or("STRING", |(_, word)| word);
        let (name, library) = (quoted(name), text(library));
        sql += &format!(
            "CREATE {aggregate}FUNCTION /*M!100103 IF NOT EXISTS */ {name} RETURNS {returns} SONAME {library};\n"
        );
    }
    // MySQL's since 8.
    for component in server.try_all("SELECT component_urn FROM mysql.component;\n".into())?.into_iter().flatten() {
        sql += &format!("INSTALL COMPONENT {};\n", text(&component));
    }
    Ok(sql)
}

/// Writes users and their rights, in an order that a new server takes: what others need comes first. Users that are
/// there already are left.
pub fn sql(server: &Server, is_mariadb: bool) -> Result<String> {
    let mut sql = String::new();
    if is_mariadb {
        let question = "SELECT user FROM mysql.user WHERE is_role = 'Y' AND user <> 'PUBLIC' ORDER BY user";
        for role in server.ask(question)?.into_iter().flatten() {
            sql += &format!("CREATE ROLE IF NOT EXISTS {};\n", quoted(&role));
        }
    }
    let users = users(server, is_mariadb)?;
    let hex = if is_mariadb { "" } else { "/*!80017 SET SESSION print_identified_with_as_hex = ON */;" };
    for what in ["SHOW CREATE USER", "SHOW GRANTS FOR"] {
        for some in users.chunks(USERS_AT_ONCE) {
            // Hashes of MySQL 8 are no text; older servers do not know the variable. A role has no password.
            let asked = some.iter().filter(|user| user.contains('@') || what != "SHOW CREATE USER");
            let question: String = asked.map(|user| format!("{what} {user};")).collect();
            if question.is_empty() {
                continue;
            }
            for line in server.ask(&format!("{hex}{question}"))?.into_iter().flatten() {
                sql += &format!("{};\n", line.replacen("CREATE USER ", "CREATE USER IF NOT EXISTS ", 1));
            }
        }
    }
    if is_mariadb {
        let question = "SELECT user, host, default_role FROM mysql.user WHERE default_role <> '' ORDER BY user, host";
        for row in server.ask(question)? {
            let [user, host, role] = &row[..] else { continue };
            sql += &format!("SET DEFAULT ROLE {} FOR {}@{};\n", quoted(role), part(user), part(host));
        }
    }
    sql.push_str("-- Dump completed\n");
    Ok(sql)
}

/// Lists users as SQL, roles first: MySQL's are users, and what a user is made with may name them.
fn users(server: &Server, is_mariadb: bool) -> Result<Vec<String>> {
    let known = "SELECT user, host FROM mysql.user";
    let mut users = match is_mariadb {
        true => server.ask(&format!("{known} WHERE is_role = 'Y' AND user <> 'PUBLIC' ORDER BY user"))?,
        // Servers before 8 have no roles.
        false => server.try_all("SELECT DISTINCT FROM_USER, FROM_HOST FROM mysql.role_edges;\n".into())?,
    };
    let of_mariadb = if is_mariadb { " WHERE is_role = 'N'" } else { "" };
    for user in server.ask(&format!("{known}{of_mariadb} ORDER BY user, host"))? {
        if !users.contains(&user) {
            users.push(user);
        }
    }
    let is_own = |user: &str| user == "mariadb.sys" || user.starts_with("mysql.");
    let named = users.iter().filter_map(|row| match &**row {
        [user, host] if is_own(user) || user.is_empty() && host.is_empty() => None,
        [role, host] if host.is_empty() && is_mariadb => Some(quoted(role)),
        [user, host] => Some(format!("{}@{}", part(user), part(host))),
        _ => None,
    });
    Ok(named.collect())
}
