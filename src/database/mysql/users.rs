//! Users and their rights as SQL, where the dump program does not write them.

use super::server::Server;
use crate::error::Result;

/// How many users are asked for at once: the question is an argument, whose length is bounded.
const USERS_AT_ONCE: usize = 100;

/// Returns an identifier as SQL.
fn quoted(name: &str) -> String {
    if name.is_empty() { "''".into() } else { format!("`{}`", name.replace('`', "``")) }
}

/// Writes the users of a server and their rights; users that are there already are left.
pub fn sql(server: &Server, is_mariadb: bool) -> Result<String> {
    let of_mariadb = if is_mariadb { " WHERE is_role = 'N'" } else { "" };
    let users = server.ask(&format!("SELECT user, host FROM mysql.user{of_mariadb} ORDER BY user, host"))?;
    let is_own = |user: &str| user == "mariadb.sys" || user.starts_with("mysql.");
    let users: Vec<_> = users
        .iter()
        .filter_map(|row| match &**row {
            [user, host] if !is_own(user) => Some(format!("{}@{}", quoted(user), quoted(host))),
            _ => None,
        })
        .collect();
    let mut sql = String::from("-- Users and their rights\n");
    for some in users.chunks(USERS_AT_ONCE) {
        let ask = |user: &String| format!("SHOW CREATE USER {user}; SHOW GRANTS FOR {user};");
        // Hashes of MySQL 8 are no text; older servers do not know the variable.
        let hex = if is_mariadb { "" } else { "/*!80017 SET SESSION print_identified_with_as_hex = ON */;" };
        let question = format!("{hex}{}", some.iter().map(ask).collect::<String>());
        for line in server.ask(&question)?.into_iter().flatten() {
            sql.push_str(&line.replacen("CREATE USER ", "CREATE USER IF NOT EXISTS ", 1));
            sql.push_str(";\n");
        }
    }
    sql.push_str("-- Dump completed\n");
    Ok(sql)
}
