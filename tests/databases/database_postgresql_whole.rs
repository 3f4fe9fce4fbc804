//! Promise: all of a PostgreSQL server comes back by the documented commands, and what is not dumped is named and kept.

use bakfs::database::inspect;
use bakfs_testing::dumps::{all, profile};
use bakfs_testing::library::size;
use bakfs_testing::machine::{Machine, below};
use bakfs_testing::postgres::{Postgres, programs};
use bakfs_testing::process::{Outcome, run};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const RICH: &str = include_str!("rich.sql");
const MAIN: &str = "databases/postgresql/main";
/// Catalogues of what is in a database, all with an oid; subscriptions are the server's, and in the definitions.
const CATALOGUES: [&str; 25] = [
    "pg_class",
    "pg_proc",
    "pg_type",
    "pg_trigger",
    "pg_policy",
    "pg_event_trigger",
    "pg_publication",
    "pg_publication_rel",
    "pg_extension",
    "pg_default_acl",
    "pg_statistic_ext",
    "pg_collation",
    "pg_cast",
    "pg_operator",
    "pg_opfamily",
    "pg_opclass",
    "pg_ts_config",
    "pg_ts_dict",
    "pg_constraint",
    "pg_attrdef",
    "pg_rewrite",
    "pg_foreign_server",
    "pg_user_mapping",
    "pg_conversion",
    "pg_namespace",
];
/// What is a database's and not in it.
const PROPERTIES: &str = "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype, \
    datconnlimit, datistemplate, datacl, shobj_description(oid, 'pg_database'), (SELECT string_agg(setrole::regrole || \
    setconfig::text, ' ' ORDER BY setrole::regrole::text) FROM pg_db_role_setting WHERE setdatabase = d.oid) \
    FROM pg_database d WHERE datname = 'shop'";

fn section(postgres: &Postgres, more: &str) -> String {
    format!("[[profile.test.postgresql]]\nhost = \"{}\"\n{more}", postgres.socket().display())
}

/// Returns every object by its catalogue, all rows, and all definitions.
fn everything(postgres: &Postgres, database: &str) -> Vec<String> {
    let of_catalogue = |catalogue: &&str| {
        format!(
            "SELECT '{catalogue} ' || i.type || ' ' || i.identity FROM {catalogue} c, \
             pg_identify_object('{catalogue}'::regclass, c.oid, 0) i WHERE c.oid >= 16384 AND i.identity !~ 'pg_toast'"
        )
    };
    let sql = CATALOGUES.iter().map(of_catalogue).collect::<Vec<_>>().join(" UNION ALL ");
    let mut lines: Vec<String> = postgres.sql(database, &sql).lines().map(str::to_owned).collect();
    // Numbers of internal triggers and constraints are the server's own.
    lines.retain(|line| !line.contains("RI_ConstraintTrigger"));
    lines.sort();
    lines.extend(postgres.contents(database));
    let text = postgres.client("pg_dump", ["-s", database]).expect(0).text();
    lines.extend(text.lines().filter(|line| !line.contains("restrict ")).map(str::to_owned));
    lines
}

#[track_caller]
fn assert_same(found: &[String], expected: &[String], what: &str) {
    let lines = |one: &[String], other: &[String]| {
        let other: BTreeSet<_> = other.iter().collect();
        one.iter().filter(|line| !other.contains(line)).cloned().collect::<Vec<_>>()
    };
    let (more, less) = (lines(found, expected), lines(expected, found));
    assert!(found == expected, "{what}: more {more:#?}, less {less:#?}");
}

/// Returns the commands of a page of docs that follow a line that begins so, up to the end of their block.
fn commands(page: &str, after: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let block = text.split(&format!("\n{after}")).nth(1).unwrap_or_else(|| panic!("no `{after}` in {page}"));
    block.split_once('\n').unwrap().1.split("```").next().unwrap().to_owned()
}

/// Runs documented commands against a server, those of `sudo -u postgres` as its superuser.
fn documented(postgres: &Postgres, commands: &str, dumps: &Path) -> Outcome {
    let path = format!("{}:{}", programs().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    let script = format!("set -euo pipefail\nsudo() {{ shift 2; \"$@\"; }}\nd={}\ncd /\n{commands}", dumps.display());
    command.arg("-c").arg(script).env("PATH", path).env("PGHOST", postgres.socket()).env("PGUSER", "postgres");
    command.env("LC_ALL", "C.UTF-8");
    run(command)
}

#[test]
fn one_of_everything_comes_back_by_the_documented_commands() {
    let postgres = Postgres::start();
    postgres.sql("postgres", "CREATE ROLE rr; CREATE ROLE keeper");
    postgres.sql(
        "postgres",
        "CREATE DATABASE shop TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8' OWNER keeper CONNECTION LIMIT 33",
    );
    postgres.sql(
        "postgres",
        "ALTER DATABASE shop SET timezone = 'Asia/Tokyo'; ALTER DATABASE shop SET search_path = public, \"S é\";
         GRANT CONNECT ON DATABASE shop TO rr; REVOKE ALL ON DATABASE shop FROM public;
         COMMENT ON DATABASE shop IS 'the shop'; ALTER ROLE rr IN DATABASE shop SET work_mem = '7MB'",
    );
    postgres.sql("shop", RICH);
    let expected = everything(&postgres, "shop");
    let properties = postgres.sql("postgres", PROPERTIES);
    let machine = Machine::new("");
    let configure = |format: &str| {
        machine.configure(&format!(
            "[profile.main]\n[[profile.main.postgresql]]\nhost = '{}'\ndatabases = ['shop']\nformat = '{format}'\n",
            postgres.socket().display()
        ));
        machine.ok(["run", "main"]);
    };
    let page = "docs/operations.md";
    let ways = [
        ("custom", "# A database, with what is its own"),
        ("custom", "# The same with four jobs"),
        ("directory", "# The same with four jobs"),
        ("plain", "# The same of a plain dump"),
    ];
    let mut made = "";
    for (format, after) in ways {
        if made != format {
            configure(format);
            made = format;
        }
        let mount = machine.mount();
        let dumps = mount.path().join("latest").join(MAIN);
        let suffix = if format == "directory" { "shop.dir" } else { "shop.dump" };
        let commands = commands(page, after).replace("shop.dump", suffix);
        if format == "plain" {
            // It must not be mistaken for one of another database: what is there already is left alone.
            let refused = documented(&postgres, &commands, &dumps);
            assert!(refused.code != 0 && refused.stderr.contains("already exists"), "{refused}");
            assert_same(&everything(&postgres, "shop"), &expected, "what was there already");
        }
        // Triggers of partitioned tables fire for rows that a parallel restore loads too late.
        let times = if after.contains("four jobs") { size("RESTORES", 2, 20) } else { 1 };
        for _ in 0..times {
            postgres.sql("shop", "ALTER SUBSCRIPTION sub SET (slot_name = NONE); DROP SUBSCRIPTION sub");
            postgres.remove("shop");
            documented(&postgres, &commands, &dumps).expect(0);
            assert_same(&everything(&postgres, "shop"), &expected, &format!("{format}: {after}"));
            assert_eq!(postgres.sql("postgres", PROPERTIES), properties, "{format}: {after}");
        }
        let manifest = std::fs::read_to_string(dumps.join(if format == "plain" {
            "shop.sql.json"
        } else {
            if format == "custom" { "shop.dump.json" } else { "shop.dir.json" }
        }));
        let manifest: serde_json::Value = serde_json::from_str(&manifest.unwrap()).unwrap();
        assert_eq!(manifest["properties"]["owner"], "keeper");
        assert_eq!(manifest["properties"]["comment"], "the shop");
        assert_eq!(manifest["lacks"], serde_json::Value::Null, "{manifest}");
        if format == "plain" {
            postgres.sql("postgres", "CREATE DATABASE other TEMPLATE template0 LOCALE 'C.UTF-8'");
            // Without it, rows with times read otherwise.
            postgres.sql("postgres", "ALTER DATABASE other SET timezone = 'Asia/Tokyo'");
            documented(&postgres, &commands_under_another_name(page), &dumps).expect(0);
            assert_same(&everything(&postgres, "other"), &expected, "under another name");
            assert_eq!(postgres.sql("postgres", PROPERTIES), properties, "the other one's are as they were");
            postgres.sql("other", "ALTER SUBSCRIPTION sub SET (slot_name = NONE); DROP SUBSCRIPTION sub");
            postgres.remove("other");
        }
        mount.unmount();
    }

    // One table, which somebody has dropped.
    configure("custom");
    let mount = machine.mount();
    let dumps = mount.path().join("latest").join(MAIN);
    postgres.sql("shop", "DROP TABLE orders");
    assert_ne!(everything(&postgres, "shop"), expected);
    documented(&postgres, &commands(page, "# One table, with its keys"), &dumps).expect(0);
    assert_same(&everything(&postgres, "shop"), &expected, "with the table");
    postgres.sql("shop", "INSERT INTO orders (who) VALUES (1)");
}

fn commands_under_another_name(page: &str) -> String {
    commands(page, "# A plain dump under another name")
}

#[test]
fn what_is_left_out_as_dumped_is_the_data_folder_of_a_server_that_is_dumped_whole() {
    let (one, other) = (Postgres::start(), Postgres::start());
    other.create("crm");
    other.sql("crm", "CREATE TABLE customers AS SELECT 1 AS i");
    let space = one.make_folder("space");
    one.sql("postgres", &format!("CREATE TABLESPACE fast LOCATION '{}'", space.display()));
    one.sql("postgres", "CREATE DATABASE tenant TEMPLATE template0 TABLESPACE fast");
    one.sql("tenant", "CREATE TABLE seed AS SELECT 7 AS i");
    one.sql("postgres", "ALTER DATABASE tenant IS_TEMPLATE true");
    let machine = Machine::new("");
    let configure = |more: &str, cluster: &str| {
        machine.configure(&format!(
            "[profile.main]\nsources = ['{}', '{}']\n{more}[[profile.main.postgresql]]\nhost = '{}'\n{cluster}",
            one.socket().display(),
            other.socket().display(),
            one.socket().display()
        ));
    };
    configure("", "");
    // Returns whether the newest snapshot has a path.
    let has = |path: &Path| {
        let mount = machine.mount();
        let found = below(&mount.path().join("latest"), path).exists();
        mount.unmount();
        found
    };
    let other_data = other.data().display().to_string();
    let check = |told: &[&str]| {
        let found = machine.run(["config", "check"]).expect(1).text();
        told.iter().for_each(|told| assert!(found.contains(told), "{told}: {found}"));
        found
    };
    let found = check(&[&other_data]);
    assert!(!found.contains(one.data().to_str().unwrap()), "{found}");
    let outcome = machine.run(["run", "main"]).expect(3).says(&other_data).says("does not dump whole");
    assert!(!outcome.stderr.contains(&one.data().display().to_string()), "{outcome}");
    assert!(machine.tagged("incomplete").is_empty(), "nothing is missing of it");
    assert!(!has(&one.data().join("base")) && !has(&one.data().join("PG_VERSION")));
    assert!(has(&one.data().join("postgresql.auto.conf")), "what people have written is in no dump");
    assert!(has(&space) && std::fs::read_dir(&space).unwrap().flatten().all(|entry| !has(&entry.path())));
    assert!(has(&other.data().join("base")) && has(&other.data().join("PG_VERSION")));
    assert!(has(&Path::new("/").join(MAIN).join("tenant.dump")), "templates of users are dumped");
    assert!(!has(&Path::new("/").join(MAIN).join("template1.dump")), "nobody has changed it");

    // Left out by name, all is well; what an interrupted drop has left is no matter for a night.
    let left_out = format!("exclude = ['{other_data}']\n");
    configure(&left_out, "exclude = ['none*']\n");
    one.create("half");
    one.sql("postgres", "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half'");
    check(&["DROP DATABASE \"half\"", "`none*`"]);
    machine.ok(["run", "main"]);
    one.sql("postgres", "UPDATE pg_database SET datconnlimit = -1 WHERE datname = 'half'");
    one.remove("half");
    one.sql("template1", "CREATE TABLE defaults AS SELECT 1 AS i");
    machine.ok(["run", "main"]);
    assert!(has(&Path::new("/").join(MAIN).join("template1.dump")), "somebody has changed it");
    assert!(!has(&one.data().join("base")));

    // A database that nobody can dump is named, and its files are kept.
    one.sql("postgres", "CREATE DATABASE archive2019 TEMPLATE template0 ALLOW_CONNECTIONS false");
    check(&["archive2019", "ALLOW_CONNECTIONS true"]);
    let outcome = machine.run(["run", "main"]).expect(3);
    outcome.says("archive2019").says("ALLOW_CONNECTIONS true").says("its files are backed up as they are");
    assert!(has(&one.data().join("base")));
    assert_eq!(machine.tagged("incomplete").len(), 1);
    configure(&left_out, "exclude = ['archive*']\n");
    machine.ok(["run", "main"]);
    assert!(!has(&one.data().join("base")), "it is left out by the user's own word");

    // Not all databases, not the folder; and a server that does not run has but files.
    configure(&left_out, "databases = ['tenant']\n");
    machine.run(["run", "main"]).expect(3);
    assert!(has(&one.data().join("base")));
    other.stop();
    configure("", "exclude = ['archive*']\n");
    machine.ok(["run", "main"]);
    assert!(has(&other.data().join("base")) && !has(&one.data().join("base")));
}

#[test]
fn what_a_role_may_not_read_costs_itself_and_settings_and_few_connections_nothing() {
    let postgres = Postgres::start();
    postgres.sql("postgres", "CREATE ROLE bk LOGIN IN ROLE pg_read_all_data; CREATE ROLE poor LOGIN");
    postgres.create("rights");
    postgres.sql(
        "rights",
        "SELECT lo_from_bytea(4242, '\\x010203');
         CREATE TABLE open (i serial); INSERT INTO open DEFAULT VALUES;
         CREATE TABLE rls (i int); INSERT INTO rls VALUES (1), (2);
         ALTER TABLE rls ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON rls USING (i = 1);
         GRANT SELECT ON open TO poor; CREATE TABLE \"Shut\" (i int);
         CREATE SCHEMA closed; CREATE TABLE closed.t (i int); GRANT SELECT ON closed.t TO poor",
    );
    let dump = format!("/{MAIN}/rights.sql");
    let text = |role: &str, more: &str| {
        section(
            &postgres,
            &format!("role = '{role}'\nformat = 'plain'\ndatabases = ['rights']\nglobals = false\n{more}"),
        )
    };
    let told = |role: &str| {
        let found = inspect(&profile(&text(role, ""))).inspections;
        let problems: Vec<String> = found.into_iter().filter(|it| it.is_problem).map(|it| it.text).collect();
        let all = all(&text(role, ""));
        let notes = all.manifest(&dump)["notes"].to_string();
        for problem in &problems {
            let problem = problem.split_once(": ").unwrap().1;
            assert!(notes.contains(&problem.replace('"', "\\\"")), "a run tells it too: {problem} in {notes}");
            assert!(all.lacks(&dump).iter().any(|lack| lack == problem), "{problem}");
        }
        (problems, String::from_utf8(all.file(&dump).to_vec()).unwrap())
    };
    let (problems, sql) = told("bk");
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("rows of the table public.rls") && problems[0].contains("BYPASSRLS"), "{problems:?}");
    assert!(
        problems[1].contains("1 large objects") && problems[1].contains("LARGE OBJECT 4242 TO \"bk\""),
        "{problems:?}"
    );
    assert!(sql.contains("CREATE TABLE public.rls") && !sql.contains("COPY public.rls"), "{sql}");
    assert!(sql.contains("COPY public.open") && sql.contains("COPY closed.t") && !sql.contains("lo_create"), "{sql}");
    let (problems, sql) = told("poor");
    for lacking in
        ["closed.t", "closed\" TO \"poor\"", "public.Shut", "\"Shut\" TO \"poor\"", "public.rls", "open_i_seq"]
    {
        assert!(problems.iter().any(|problem| problem.contains(lacking)), "{lacking}: {problems:?}");
    }
    assert!(sql.contains("COPY public.open") && sql.contains("CREATE SEQUENCE public.open_i_seq"), "{sql}");
    // What helps does.
    postgres.sql("postgres", "ALTER ROLE bk BYPASSRLS");
    postgres.sql("rights", "GRANT SELECT ON LARGE OBJECT 4242 TO bk");
    assert_eq!(told("bk").0.len(), 0);
    assert!(all(&text("bk", "")).lacks(&dump).is_empty());

    // A role's settings, and a database's, decide nothing.
    postgres.sql(
        "rights",
        "CREATE SCHEMA x; CREATE FUNCTION x.row_security_active(oid) RETURNS bool LANGUAGE sql AS 'SELECT true'",
    );
    let plain = |all: bakfs_testing::dumps::All| {
        let text = String::from_utf8(all.file(&dump).to_vec()).unwrap();
        text.lines().filter(|line| !line.contains("restrict ")).map(str::to_owned).collect::<Vec<_>>()
    };
    postgres.sql("rights", "CREATE TABLE euro AS SELECT '\u{20ac}'::text AS sign");
    let expected = plain(all(&text("bk", "")));
    for setting in [
        "statement_timeout = '1ms'",
        "lock_timeout = '1ms'",
        "idle_in_transaction_session_timeout = '1ms'",
        "search_path = 'x', pg_catalog",
        "client_encoding = 'LATIN1'",
        "default_transaction_read_only = on",
        "row_security = off",
        "role = 'poor'",
        "bytea_output = 'escape'",
        "datestyle = 'German'",
    ] {
        postgres.sql("postgres", "GRANT poor TO bk");
        postgres.sql("postgres", &format!("ALTER ROLE bk SET {setting}"));
        let found = all(&text("bk", ""));
        assert!(found.failed.is_empty() && found.lacks(&dump).is_empty(), "{setting}: {:?}", found.failed);
        assert_eq!(plain(found), expected, "{setting}");
        postgres.sql("postgres", "ALTER ROLE bk RESET ALL");
    }

    // More databases than connections: all are dumped, and others still get in.
    postgres.sql("postgres", "ALTER SYSTEM SET max_connections = 20");
    postgres.restart();
    for at in 0..size("DATABASES", 12, 24) {
        postgres.create(&format!("many{at}"));
    }
    let most = std::sync::atomic::AtomicU64::new(0);
    let done = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::SeqCst;
    let made = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(order) {
                let count =
                    postgres.sql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bakfs'");
                most.fetch_max(count.parse().unwrap(), order);
            }
        });
        let made = std::panic::catch_unwind(|| all(&section(&postgres, "")));
        done.store(true, order);
        made
    });
    let made = made.unwrap();
    let moments: BTreeSet<String> = made
        .dumps()
        .iter()
        .map(|path| {
            let manifest = made.manifest(path);
            assert!(manifest["error"].is_null(), "{manifest}");
            manifest["notes"].to_string()
        })
        .collect();
    assert!(moments.iter().any(|notes| notes.contains("its server spares")), "{moments:?}");
    let most = most.load(order);
    assert!((2..=11).contains(&most), "half of what is free is left to others: {most}");
}
