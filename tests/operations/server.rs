//! A server with databases, uploads and a repository far away, by the section "A whole server, every night".

use super::Step::{self, Given, Text, Types, TypesWith};
use super::support::compare::{self, Rules};
use super::support::mariadb::Mariadb;
use super::support::postgres::Postgres;
use super::support::servers::{PASSWORD, Server, Service, USER};
use super::world::World;
use super::{done, silently};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

const PHOTO: &str = "/srv/shop/media/photo.jpg";
const STATE: &str = "/srv/drupal/state";

pub const STEPS: &[Step] = &[
    Given(furnish),
    Types("bakfs config init", |world, outcome| {
        let text = world.read("/etc/bakfs/bakfs.toml");
        for found in ["machine.postgresql]]", "machine.mysql]]", "/srv/app/db.sqlite3", "sources = [\"/\"]"] {
            assert!(text.contains(found), "{found} is found: {text}");
        }
        outcome.expect(0).says("make the repository with `bakfs init`");
    }),
    Text("[\"s3://bucket/web1\"]", |world, text| {
        let text = text.replacen("\"...\"", &format!("\"{USER}\""), 1);
        world.write_secret("/etc/bakfs/credentials.toml", &text.replacen("\"...\"", &format!("\"{PASSWORD}\""), 1));
    }),
    Text("repo = \"s3://bucket/web1\"", |world, text| {
        // Nobody is pinged who lives elsewhere, and what the world has borrowed is no part of it.
        let text = text.replace("https://example.org", &listen());
        world.write(
            "/etc/bakfs/bakfs.toml",
            text.replace("sources = [\"/\"]", "sources = [\"/\"]\nexclude = [\"/usr\"]"),
        );
    }),
    Text("[[profile.main.mysql]]", |world, text| {
        let sqlite = "[[profile.main.sqlite]]\npath = \"/srv/app/*.sqlite3\"\n";
        let before = world.read("/etc/bakfs/bakfs.toml");
        world.write("/etc/bakfs/bakfs.toml", before + text + sqlite);
    }),
    Types("bakfs config check", |_, outcome| {
        // That is what is to be mended, and what the next line does.
        let said = outcome.text();
        let problems: Vec<_> = said.lines().filter(|line| line.starts_with("problem")).collect();
        assert!(outcome.code == 1 && problems.len() == 1 && problems[0].contains("`bakfs init` makes it"), "{outcome}");
    }),
    Types("bakfs init", |world, outcome| {
        let outcome = outcome.expect(0);
        let keys: Vec<_> = std::fs::read_dir(world.path("/etc/bakfs/keys")).unwrap().map(|it| it.unwrap()).collect();
        assert!(keys.len() == 1 && keys[0].metadata().unwrap().mode() & 0o7777 == 0o600);
        let said = outcome.text() + &outcome.stderr;
        assert!(said.contains(keys[0].file_name().to_str().unwrap()), "the key's file is named: {outcome}");
    }),
    Types("bakfs config check", done),
    Types("bakfs run --all", |world, outcome| {
        silently(world, outcome);
        assert_eq!(snapshots(world), ["main", "shop"]);
        let drush = "www-data: state:set system.maintenance_mode ";
        assert_eq!(world.read(STATE), format!("{drush}1\n{drush}0\n"), "the site stood still, and goes on");
    }),
    Types("bakfs schedule install", |world, outcome| {
        // The page says it: cron knows no shutdown.
        let outcome = outcome.expect(0).says("`shutdown` needs systemd");
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
        let lines = world.read("/etc/cron.d/bakfs");
        assert!(lines.contains("run --periodicity hourly") && lines.contains("run --periodicity daily"), "{lines}");
    }),
    Types("bakfs schedule list", |world, outcome| {
        assert!(outcome.text().contains("daily") && outcome.text().contains("hourly"), "{outcome}");
        done(world, outcome);
    }),
    Types("bakfs schedule remove", |world, outcome| {
        done(world, outcome);
        assert!(!world.path("/etc/cron.d/bakfs").exists());
    }),
    Given(remember),
    Types("bakfs mount /mnt/history && cd /mnt/history/latest", silently),
    Given(|world| std::fs::remove_file(world.path(PHOTO)).unwrap()),
    Types("cp -a srv/shop/media/photo.jpg /srv/shop/media/", |world, outcome| {
        silently(world, outcome);
        assert_eq!(std::fs::read(world.path(PHOTO)).unwrap(), super::support::noise(1, 300_000));
    }),
    Given(|world| drop(postgres(world).sql("shop", "DROP TABLE orders"))),
    Types("pg_restore -d shop -t orders < databases/postgresql/main/shop.dump", |world, outcome| {
        silently(world, outcome);
        assert_eq!(postgres(world).sql("shop", "SELECT count(*), max(what) FROM orders"), "2000|order 999");
    }),
    Given(|world| postgres(world).remove("shop")),
    Types(
        "psql -f databases/postgresql/main/globals.sql && createdb shop && pg_restore -d shop < \
         databases/postgresql/main/shop.dump",
        |world, outcome| {
            assert_eq!(outcome.code, 0, "{outcome}");
            assert_eq!(postgres(world).contents("shop"), world.notes);
        },
    ),
    Given(|world| drop(mariadb(world).sql("wiki", "DELETE FROM pages"))),
    Types("mariadb wiki < databases/mysql/main/wiki.sql", |world, outcome| {
        silently(world, outcome);
        assert_eq!(mariadb(world).sql("wiki", "SELECT title FROM pages ORDER BY id"), "Start\nEnde\nFünf");
    }),
    Given(|world| drop(world.does("rm /srv/app/db.sqlite3*"))),
    Types("cp databases/sqlite/srv/app/db.sqlite3 /srv/app/", |world, outcome| {
        silently(world, outcome);
        assert_eq!(world.does("sqlite3 /srv/app/db.sqlite3 'SELECT * FROM t'"), "1|x\n");
    }),
    Types("bakfs restore latest /mnt/newdisk", |world, outcome| {
        silently(world, outcome);
        for folder in ["/etc", "/srv/drupal/vendor", "/root", "/srv/shop/media/albums"] {
            let (source, restored) = (world.path(folder), world.path("/mnt/newdisk").join(&folder[1..]));
            compare::trees(&source, &restored, Rules::COPY).assert_same(folder);
        }
    }),
    TypesWith(
        "getfattr -n user.bakfs.fetch_bytes FILE",
        |_, line| line.replace("FILE", "etc/passwd"),
        |_, outcome| {
            assert!(outcome.expect(0).text().contains("user.bakfs.fetch_bytes=\"0\""), "it was read by the restore");
        },
    ),
    Types("getfattr -n user.bakfs.traffic /mnt/history", |_, outcome| {
        let outcome = outcome.expect(0);
        assert!(outcome.text().contains("user.bakfs.traffic="), "{outcome}");
    }),
    Given(|world| drop(world.does("cd; bakfs umount /mnt/history; bakfs mount --allow-other /mnt/history"))),
    Given(|world| postgres(world).remove("shop")),
    Given(|world| postgres(world).create("shop")),
    Types(
        "sudo -u postgres pg_restore -j4 -d shop /mnt/history/latest/databases/postgresql/main/shop.dump",
        |world, outcome| {
            // sudo leaves another user where root is.
            let said = "could not change directory to \"/root\": Permission denied\n";
            assert!(outcome.code == 0 && outcome.stdout.is_empty() && outcome.stderr == said, "{outcome}");
            assert_eq!(postgres(world).contents("shop"), world.notes);
        },
    ),
    Types("set -o pipefail", silently),
    Types("pg_dump -Fc -Z0 shop | bakfs backup --stdin /db/shop.dump", |world, outcome| {
        silently(world, outcome);
        let listed = world.does("bakfs dump latest:/db/shop.dump | pg_restore --list");
        assert!(listed.contains("TABLE public orders"), "{listed}");
    }),
    Given(|world| drop(world.does("bakfs umount /mnt/history"))),
    Given(|world| world.log_in()),
    TypesWith(
        "export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... AWS_REGION=us-east-1 AWS_ENDPOINT_URL=http://127.0.0.1:9000",
        |world, line| {
            let line = line.replacen("...", USER, 1).replacen("...", PASSWORD, 1);
            line.replace("9000", &world.far.as_ref().unwrap().port().to_string())
        },
        silently,
    ),
    Types("bakfs --repo s3://bucket/some/repo init", |world, outcome| {
        outcome.expect(0);
        assert!(world.far.as_ref().unwrap().folder().join("files/bucket/some/repo/config").exists());
    }),
];

/// Makes the machine: two servers of databases with something in them, uploads, a site, a program with SQLite.
fn furnish(world: &mut World) {
    world.log_in();
    let postgres = world.start_postgres();
    postgres.create("shop");
    postgres.sql(
        "shop",
        "CREATE TABLE customers (id serial PRIMARY KEY, name text);
         CREATE TABLE orders (id serial PRIMARY KEY, customer int REFERENCES customers, what text);
         INSERT INTO customers (name) SELECT 'customer ' || i FROM generate_series(1, 50) i;
         INSERT INTO orders (customer, what) SELECT i % 50 + 1, 'order ' || i FROM generate_series(1, 2000) i;
         CREATE INDEX orders_what ON orders (what);",
    );
    let mariadb = world.start_mariadb();
    mariadb.sql("", "CREATE DATABASE wiki");
    mariadb.sql(
        "wiki",
        "CREATE TABLE pages (id int AUTO_INCREMENT PRIMARY KEY, title varchar(100));
         INSERT INTO pages (title) VALUES ('Start'), ('Ende'), ('Fünf');",
    );
    let rights = "SELECT, RELOAD, PROCESS, LOCK TABLES, SHOW VIEW, EVENT, TRIGGER, SHOW DATABASES";
    mariadb.sql(
        "",
        &format!(
            "CREATE USER backup@localhost IDENTIFIED BY 'quite secret'; GRANT {rights} ON *.* TO backup@localhost"
        ),
    );
    world.write_secret("/etc/bakfs/mysql.cnf", "[client]\nuser = backup\npassword = quite secret\n");
    std::fs::set_permissions(world.path("/etc/bakfs"), PermissionsExt::from_mode(0o755)).unwrap();

    world.write(PHOTO, super::support::noise(1, 300_000));
    world.write("/srv/shop/media/albums/1.txt", "one\n");
    std::fs::create_dir_all(world.path("/srv/app")).unwrap();
    world.does(
        "sqlite3 /srv/app/db.sqlite3 \"PRAGMA journal_mode=WAL; CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'x')\"",
    );
    let drush = format!("#!/bin/sh\necho \"$(id -un): $*\" >> {STATE}\n");
    world.write_program("/srv/drupal/vendor/bin/drush", &drush);
    world.write(STATE, "");
    chown(world.path(STATE), Some(33), Some(33)).unwrap();
    for folder in ["/srv", "/srv/drupal", "/srv/drupal/vendor", "/srv/drupal/vendor/bin"] {
        std::fs::set_permissions(world.path(folder), PermissionsExt::from_mode(0o755)).unwrap();
    }
    world.write_program("/usr/sbin/sendmail", "#!/bin/sh\ncat >> /var/mail-of-the-test\n");
    let far = Server::start(Service::RcloneS3);
    world.does(&format!("export AWS_REGION=us-east-1 AWS_ENDPOINT_URL=http://127.0.0.1:{}", far.port()));
    world.far = Some(far);
}

/// What the restored databases are compared with. Of all snapshots the machine's is the newest; the administrator is one
/// who may do everything in PostgreSQL.
fn remember(world: &mut World) {
    world.does("bakfs run main; export PGUSER=postgres");
    world.notes = postgres(world).contents("shop");
}

fn postgres(world: &World) -> &Postgres {
    world.postgres.as_ref().unwrap()
}

fn mariadb(world: &World) -> &Mariadb {
    world.mariadb.as_ref().unwrap()
}

/// Answers every request, for ever; returns the address.
fn listen() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = BufReader::new(stream.try_clone().unwrap()).lines();
            while head.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let _ = stream.write_all(b"HTTP/1.1 200 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    address
}

/// Returns of each snapshot, the oldest first, its profile.
fn snapshots(world: &World) -> Vec<String> {
    let listed: serde_json::Value = serde_json::from_str(&world.does("bakfs --json snapshots")).unwrap();
    let profile = |snapshot: &serde_json::Value| {
        let tags: Vec<_> = snapshot["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap()).collect();
        tags.iter().find(|tag| ["main", "shop"].contains(tag)).unwrap_or(&"-").to_string()
    };
    listed.as_array().unwrap().iter().map(profile).collect()
}
