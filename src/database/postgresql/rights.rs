//! What a role may not read of a database, found out by asking for each object, and what would help.
//!
//! pg_dump fails as a whole at the first object it may not read: such objects are left out by its options, and named.

use super::server::{Facts, Server};
use crate::error::Result;
use crate::quantity::counted;
use serde::Deserialize;

/// The most objects that are left out one by one; where there are more, pg_dump says so itself.
const MAX_LEFT_OUT: usize = 1000;
/// So many are told one by one.
const MAX_TOLD: usize = 5;
/// Options by which somebody has chosen what is dumped, and what not.
const SELECTING: [&str; 10] =
    ["-n", "-N", "-t", "-T", "--schema", "--table", "--exclude-", "--extension", "--filter", "--include-"];

/// What a dump lacks.
#[derive(Debug, Default)]
pub struct Lacking {
    /// Each object, with the grant or option that helps.
    pub texts: Vec<String>,
    /// What may be lacking and cannot be told for certain.
    pub notes: Vec<String>,
    /// The options by which pg_dump leaves them out.
    pub options: Vec<String>,
}

#[derive(Deserialize)]
struct Denied {
    objects: Vec<Object>,
    large_objects: u64,
    denied_large_objects: u64,
    first_large_object: Option<u64>,
    subscriptions: Vec<String>,
    hidden_mappings: u64,
}

#[derive(Deserialize)]
struct Object {
    schema: String,
    name: String,
    kind: String,
    why: String,
}

/// pg_dump locks tables, reads sequences and large objects, and sets `row_security` off (pg_dump(1), Notes). Large
/// objects' rights are not part of `pg_read_all_data`.
const DENIED: &str = "SELECT json_build_object(
    'objects', (SELECT coalesce(json_agg(json_build_object('schema', schema, 'name', name, 'kind', kind, 'why', why)
            ORDER BY schema, name), '[]')
        FROM (SELECT n.nspname AS schema, c.relname AS name, c.relkind::text AS kind, CASE
                WHEN NOT has_schema_privilege(n.oid, 'USAGE') THEN 'schema'
                WHEN NOT CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'SELECT')
                    ELSE has_table_privilege(c.oid, 'SELECT') END THEN 'select'
                WHEN c.relkind = 'r' AND row_security_active(c.oid) THEN 'rows' END AS why
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p', 'S') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_') found
        WHERE why IS NOT NULL),
    'large_objects', (SELECT count(*) FROM pg_largeobject_metadata),
    'denied_large_objects', lo.denied, 'first_large_object', lo.first,
    'subscriptions', (SELECT coalesce(json_agg(subname ORDER BY subname), '[]') FROM pg_subscription
        WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())),
    'hidden_mappings', (SELECT count(*) FROM pg_user_mappings WHERE umoptions IS NULL))
    FROM (SELECT count(*) AS denied, min(m.oid::bigint) AS first FROM pg_largeobject_metadata m
        WHERE NOT current_setting('lo_compat_privileges')::bool AND NOT pg_has_role(m.lomowner, 'USAGE')
            AND NOT EXISTS (SELECT 1 FROM aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT'
                AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))) lo";

/// Asks what the role may not read of a database: nothing for superusers, and nothing where options choose what is
/// dumped, for pg_dump says what it cannot read of that.
pub fn lacking(server: &Server, facts: &Facts, database: &str) -> Result<Lacking> {
    let options = &server.settings.options;
    let is_chosen = options.iter().any(|option| SELECTING.iter().any(|word| option.starts_with(word)));
    if facts.is_superuser || is_chosen {
        return Ok(Lacking::default());
    }
    let denied = server.ask::<Denied>(database, DENIED)?;
    let shows_part = options.iter().any(|option| option == "--enable-row-security");
    Ok(denied.explained(&facts.role, shows_part))
}

/// Quotes a name for SQL, and for a pattern of pg_dump (psql(1), Patterns).
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Object {
    /// Returns what is missing, and the option that leaves it out.
    fn explained(&self, role: &str) -> (String, String) {
        let Object { schema, name, kind, why } = self;
        let shown = format!("{schema}.{name}");
        let (pattern, role_name) = (format!("{}.{}", quoted(schema), quoted(name)), quoted(role));
        let is_sequence = kind == "S";
        let what = if is_sequence { "the value of the sequence" } else { "the table" };
        let reads_all = format!("or `GRANT pg_read_all_data TO {role_name}` (PostgreSQL 14 and later)");
        let text = match &**why {
            "rows" => format!(
                "the rows of the table {shown} are missing, for row-level security hides some of them from `{role}`: \
                 run `ALTER ROLE {role_name} BYPASSRLS`, or have those it sees by \
                 `options = [\"--enable-row-security\"]`"
            ),
            "schema" => format!(
                "{what} {shown} is missing, for `{role}` may not use its schema: run `GRANT USAGE ON SCHEMA {} TO \
                 {role_name}`, {reads_all}",
                quoted(schema)
            ),
            _ => format!(
                "{what} {shown} is missing, for `{role}` may not read it: run `GRANT SELECT ON {pattern} TO \
                 {role_name}`, {reads_all}"
            ),
        };
        // Its definition can be had without reading a sequence, and a table's without its rows; of a table that may not
        // be read at all it cannot, for pg_dump locks it.
        let option = if is_sequence || why == "rows" { "--exclude-table-data" } else { "--exclude-table" };
        (text, format!("{option}={pattern}"))
    }
}

impl Denied {
    fn explained(self, role: &str, shows_part: bool) -> Lacking {
        let mut lacking = Lacking::default();
        let is_lacking = |object: &&Object| !(shows_part && object.why == "rows");
        let objects: Vec<_> = self.objects.iter().filter(is_lacking).map(|object| object.explained(role)).collect();
        if objects.len() <= MAX_LEFT_OUT {
            let more = objects.len().saturating_sub(MAX_TOLD);
            for (text, option) in objects {
                lacking.options.push(option);
                if lacking.texts.len() < MAX_TOLD {
                    lacking.texts.push(text);
                }
            }
            if more > 0 {
                lacking.texts.push(format!("and {} more that `{role}` may not read", counted(more, "object")));
            }
        }
        if self.denied_large_objects > 0 {
            lacking.options.push("--no-blobs".into());
            let first = self.first_large_object.unwrap_or(0);
            lacking.texts.push(format!(
                "all {} large objects are missing, for `{role}` may not read {} of them: run `GRANT SELECT ON LARGE \
                 OBJECT {first} TO {}` (and so on), or dump as a superuser",
                self.large_objects,
                self.denied_large_objects,
                quoted(role)
            ));
        }
        if !self.subscriptions.is_empty() {
            let names = self.subscriptions.join(", ");
            lacking.texts.push(format!("the subscriptions {names} are missing: pg_dump has them for superusers only"));
        }
        if self.hidden_mappings > 0 {
            let text = "the options of user mappings for foreign servers may be missing: they are shown to superusers";
            lacking.notes.push(format!("{text} (`{role}` sees none of {} of them)", self.hidden_mappings));
        }
        lacking
    }
}
