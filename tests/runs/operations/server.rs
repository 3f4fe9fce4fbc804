//! A server with databases, uploads and a repository far away, by the section "A whole server, every night".

use super::Step::{self, Given, Text, Types, TypesWith};
use super::world::World;
use super::{done, silently};
use bakfs_testing::mariadb::Mariadb;
use bakfs_testing::postgres::Postgres;
use bakfs_testing::process::Outcome;
use bakfs_testing::servers::{PASSWORD, Server, Service, USER};
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
        for rights in text.lines().filter_map(|line| line.strip_prefix("# GRANT ")) {
            mariadb(world).sql("", &format!("GRANT {rights}"));
        }
        let sqlite = "[[profile.main.sqlite]]\npath = \"/srv/app/*.sqlite3\"\n";
        let plain = "[[profile.main.postgresql]]\nname = \"plain\"\nformat = \"plain\"\ndatabases = [\"shop\"]\n";
        let before = world.read("/etc/bakfs/bakfs.toml");
        world.write("/etc/bakfs/bakfs.toml", before + text + sqlite + plain);
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
        std::fs::copy(keys[0].path(), world.path("/mnt/kept-elsewhere.txt")).unwrap();
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
    Types("bakfs mount /mnt/history && cd /mnt/history/tags/main/latest", silently),
    Given(|world| std::fs::remove_file(world.path(PHOTO)).unwrap()),
    Types("cp -a /mnt/history/tags/shop/latest/srv/shop/media/photo.jpg /srv/shop/media/", |world, outcome| {
        silently(world, outcome);
        assert_eq!(std::fs::read(world.path(PHOTO)).unwrap(), bakfs_testing::noise(1, 300_000));
    }),
    Given(|world| drop(mariadb(world).sql("", "DROP DATABASE wiki; DROP USER editor@localhost"))),
    Types("mariadb -e 'CREATE DATABASE wiki' && mariadb wiki < databases/mysql/main/wiki.sql", |world, outcome| {
        silently(world, outcome);
        assert_eq!(mariadb(world).sql("wiki", "SELECT title FROM pages ORDER BY id"), "Start\nEnde\nFünf");
    }),
    Types("mariadb --force < databases/mysql/main/users.sql", |world, outcome| {
        outcome.expect(0);
        let grants = mariadb(world).sql("", "SHOW GRANTS FOR editor@localhost");
        assert!(grants.contains("GRANT SELECT, UPDATE ON `wiki`.*"), "{grants}");
    }),
    Given(|world| drop(world.does("rm /srv/app/db.sqlite3*"))),
    Types("cp databases/sqlite/srv/app/db.sqlite3 /srv/app/", |world, outcome| {
        silently(world, outcome);
        assert_eq!(world.does("sqlite3 /srv/app/db.sqlite3 'SELECT * FROM t'"), "1|x\n");
    }),
    Given(|world| world.write("/etc/nginx/nginx.conf", "worker_processes 2;\n")),
    Types("bakfs restore --dry-run main/latest:/etc/nginx /", |world, outcome| {
        assert!(outcome.text().contains("/etc/nginx/nginx.conf: would be replaced"), "{outcome}");
        assert_eq!(world.read("/etc/nginx/nginx.conf"), "worker_processes 2;\n");
        outcome.expect(0);
    }),
    TypesWith(
        "bakfs restore SNAP:/etc/nginx /",
        |_, line| line.replace("SNAP", "main/latest"),
        |world, outcome| {
            outcome.expect(0);
            assert_eq!(world.read("/etc/nginx/nginx.conf"), "worker_processes 1;\n");
        },
    ),
    TypesWith(
        "getfattr -n user.bakfs.fetch_bytes FILE",
        |_, line| line.replace("FILE", "etc/passwd"),
        |_, outcome| {
            let outcome = outcome.expect(0);
            assert!(outcome.text().contains("user.bakfs.fetch_bytes=\""), "{outcome}");
        },
    ),
    Types("getfattr -n user.bakfs.traffic /mnt/history", |_, outcome| {
        let outcome = outcome.expect(0);
        assert!(outcome.text().contains("user.bakfs.traffic="), "{outcome}");
    }),
    Given(|world| drop(world.does("cd; bakfs umount /mnt/history"))),
    TypesWith(
        "bakfs mount --profile main",
        |_, line| format!("{line} /mnt/history"),
        |world, outcome| {
            silently(world, outcome);
            world.does("ls /mnt/history/latest/etc/passwd && bakfs umount /mnt/history && bakfs mount --allow-other /mnt/history");
        },
    ),
    Types("d=/mnt/history/tags/main/latest/databases/postgresql/main; cd /", silently),
    Given(|world| {
        postgres(world).remove("shop");
        postgres(world).sql("postgres", "DROP ROLE keeper");
    }),
    Types("sudo -u postgres psql < $d/globals.sql", |world, outcome| {
        // The role the server was made with is there already.
        let outcome = outcome.expect(0).says("role \"postgres\" already exists");
        assert_eq!(outcome.stderr.matches("ERROR").count(), 1, "{outcome}");
        assert_eq!(postgres(world).sql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname = 'keeper'"), "1");
    }),
    Types("sudo -u postgres pg_restore -C -d postgres < $d/shop.dump", shop_is_back),
    Given(|world| postgres(world).remove("shop")),
    Types("sudo -u postgres pg_restore -C --section=pre-data -d postgres $d/shop.dump", silently),
    Types("sudo -u postgres pg_restore -j4 --section=data -d shop $d/shop.dump", silently),
    Types("sudo -u postgres pg_restore -j4 --section=post-data -d shop $d/shop.dump", shop_is_back),
    Given(|world| postgres(world).remove("shop")),
    TypesWith("sudo -u postgres psql < $d/shop.sql", of_plain_dump, |world, outcome| {
        outcome.expect(0);
        assert_eq!(postgres(world).contents("shop"), world.notes);
    }),
    Given(|world| drop(postgres(world).sql("shop", "DROP TABLE orders"))),
    Types("sudo -u postgres createdb -T template0 shop_then", silently),
    Types("sudo -u postgres pg_restore --no-subscriptions -d shop_then < $d/shop.dump", silently),
    Types(
        "sudo -u postgres pg_dump -t orders shop_then | sudo -u postgres psql -v ON_ERROR_STOP=1 shop",
        |world, outcome| {
            outcome.expect(0);
            assert_eq!(postgres(world).contents("shop"), world.notes, "with its keys, indexes and numbering");
        },
    ),
    Types("sudo -u postgres dropdb shop_then", silently),
    Given(|world| drop(postgres(world).sql("shop", "DROP TABLE orders"))),
    TypesWith(
        "pg_restore -t orders",
        |_, line| format!("sudo -u postgres {line} -d shop < $d/shop.dump"),
        |world, outcome| {
            silently(world, outcome);
            let keys = "SELECT count(*) FROM pg_constraint WHERE conrelid = 'orders'::regclass";
            assert_eq!(postgres(world).sql("shop", keys), "0", "what the page warns of");
        },
    ),
    Given(|world| postgres(world).create("other")),
    TypesWith(
        "sed -E '1,/^\\\\connect /d; /^\\\\connect /d; /^(ALTER|COMMENT ON) DATABASE |^ALTER ROLE .* IN DATABASE \
         |^(GRANT|REVOKE) .* ON DATABASE /d' $d/shop.sql | sudo -u postgres psql -v ON_ERROR_STOP=1 -d other",
        of_plain_dump,
        |world, outcome| {
            outcome.expect(0);
            assert_eq!(postgres(world).contents("other"), world.notes);
            world.does("dropdb other; dropdb shop; sudo -u postgres pg_restore -C -d postgres < $d/shop.dump");
        },
    ),
    TypesWith(
        "pg_restore -d template1",
        |_, line| format!("sudo -u postgres {line} < $d/template1.dump"),
        |world, outcome| {
            // It was dumped because somebody has put something into it, which is there.
            assert!(outcome.stderr.contains("relation \"house_rules\" already exists"), "{outcome}");
            postgres(world).sql("template1", "DROP TABLE house_rules");
            world.does("sudo -u postgres pg_restore -d template1 < $d/template1.dump");
            assert_eq!(postgres(world).sql("template1", "SELECT * FROM house_rules"), "be kind");
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
    postgres.sql("postgres", "CREATE ROLE keeper; GRANT CONNECT ON DATABASE shop TO keeper");
    postgres.sql("template1", "CREATE TABLE house_rules AS SELECT 'be kind' AS rule");
    let mariadb = world.start_mariadb();
    mariadb.sql("", "CREATE DATABASE wiki");
    mariadb.sql(
        "wiki",
        "CREATE TABLE pages (id int AUTO_INCREMENT PRIMARY KEY, title varchar(100));
         INSERT INTO pages (title) VALUES ('Start'), ('Ende'), ('Fünf');",
    );
    mariadb.sql("", "CREATE USER backup@localhost IDENTIFIED BY 'quite secret'");
    mariadb.sql("", "CREATE USER editor@localhost; GRANT SELECT, UPDATE ON wiki.* TO editor@localhost");
    world.write_secret("/etc/bakfs/mysql.cnf", "[client]\nuser = backup\npassword = quite secret\n");
    std::fs::set_permissions(world.path("/etc/bakfs"), PermissionsExt::from_mode(0o755)).unwrap();

    world.write(PHOTO, bakfs_testing::noise(1, 300_000));
    world.write("/srv/shop/media/albums/1.txt", "one\n");
    world.write("/etc/nginx/nginx.conf", "worker_processes 1;\n");
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

/// What the restored databases are compared with. The administrator is one who may do everything in PostgreSQL.
fn remember(world: &mut World) {
    world.does("export PGUSER=postgres");
    world.notes = postgres(world).contents("shop");
}

/// Asserts that a line brought the whole database back.
#[track_caller]
fn shop_is_back(world: &mut World, outcome: Outcome) {
    silently(world, outcome);
    assert_eq!(postgres(world).contents("shop"), world.notes);
}

/// Reads the plain dump, which the configuration has by another name.
fn of_plain_dump(_: &World, line: &str) -> String {
    line.replace("$d/", "/mnt/history/tags/main/latest/databases/postgresql/plain/")
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
