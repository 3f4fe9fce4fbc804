//! Promise: what people do today with scripts, duply and cron is done by a configuration and `bakfs run`, from a fresh
//! machine to a restore through the mount. Each test is one of their workflows.

use bakfs_testing::compare::{self, Rules};
use bakfs_testing::machine::{Machine, below, silent};
use bakfs_testing::mariadb::Mariadb;
use bakfs_testing::postgres::Postgres;
use bakfs_testing::process::tool;
use std::ffi::OsStr;
use std::path::Path;

/// Makes a small database of a shop.
fn shop(postgres: &Postgres) {
    postgres.create("shop");
    postgres.sql(
        "shop",
        "CREATE TABLE orders (id serial PRIMARY KEY, what text, doc jsonb);
         INSERT INTO orders (what, doc) SELECT 'order ' || i, jsonb_build_object('n', i) FROM generate_series(1, 5000) i;
         CREATE INDEX orders_what ON orders (what); CREATE VIEW odd AS SELECT * FROM orders WHERE id % 2 = 1;",
    );
}

/// Restores a dump of the mount into a fresh database and returns what is in it.
fn restored(postgres: &Postgres, dump: &Path) -> Vec<String> {
    postgres.create("fresh");
    postgres
        .client("pg_restore", [OsStr::new("-e"), OsStr::new("-d"), OsStr::new("fresh"), dump.as_os_str()])
        .expect(0);
    let contents = postgres.contents("fresh");
    postgres.remove("fresh");
    contents
}

fn sqlite(database: &Path, sql: &str) -> String {
    tool("sqlite3", [OsStr::new("-batch"), database.as_os_str(), OsStr::new(sql)]).expect(0).text()
}

/// Runs a periodicity at a time, which must succeed without a word.
#[track_caller]
fn quietly(machine: &Machine, time: &str, args: &[&str]) {
    silent(&machine.run_at(time, ["run"].iter().chain(args)).expect(0));
}

/// "A nightly script that dumps databases to files with a timestamp and deletes those older than 14 days; another that
/// archives uploads and keeps 7 days; hourly for busy data, daily for stable data."
#[test]
fn nightly_dumps_kept_14_days_beside_uploads_kept_7_and_busy_data_by_the_hour() {
    let postgres = Postgres::start();
    shop(&postgres);
    let machine = Machine::new(&format!(
        "[defaults]\ncheck = {{ every = '7d' }}\n\
         [profile.databases]\nschedule = ['daily']\nkeep = {{ daily = 14 }}\n\
         [[profile.databases.postgresql]]\nhost = '{}'\n\
         [profile.uploads]\nsources = ['@/uploads']\nschedule = ['daily']\nkeep = {{ daily = 7 }}\n\
         [profile.busy]\nsources = ['@/busy']\nschedule = ['hourly']\nkeep = {{ hourly = 24 }}\n",
        postgres.socket().display()
    ));
    let mut days = Vec::new();
    for day in 1..=18 {
        machine.write("uploads/photo", &format!("photo of day {day}\n"));
        postgres.sql("shop", &format!("UPDATE orders SET what = 'day {day}' WHERE id = {day}"));
        quietly(&machine, &format!("2026-03-{day:02} 03:15:00"), &["--periodicity", "daily"]);
        days.push(postgres.contents("shop"));
    }
    for hour in 0..30 {
        machine.write("busy/counter", &format!("{hour}\n"));
        quietly(
            &machine,
            &format!("2026-03-{:02} {:02}:05:00", 20 + hour / 24, hour % 24),
            &["--periodicity", "hourly"],
        );
    }
    let counts = ["databases", "uploads", "busy"].map(|profile| machine.tagged(profile).len());
    assert_eq!(counts, [14, 7, 24]);

    let mount = machine.mount();
    for (name, day) in machine.tagged("databases").iter().zip(5..=18) {
        assert!(name.starts_with(&format!("2026-03-{day:02}T03-15")), "{name}");
        if day % 6 == 0 {
            let dump = mount.path().join(name).join("databases/postgresql/main/shop.dump");
            assert_eq!(restored(&postgres, &dump), days[day - 1], "day {day}");
        }
    }
    for (name, day) in machine.tagged("uploads").iter().zip(12..=18) {
        let shown = below(&mount.path().join(name), &machine.path("uploads/photo"));
        assert_eq!(std::fs::read_to_string(shown).unwrap(), format!("photo of day {day}\n"));
    }
}

/// duply: source `/` with an exclude list, two years kept with days for the last months, databases and `sqlite3 .dump`
/// before it, run by cron.daily and silent unless something fails.
#[test]
fn the_whole_machine_without_an_exclude_list_of_ones_own() {
    let postgres = Postgres::start();
    shop(&postgres);
    let machine = Machine::new("[profile.unused]\nsources = ['/etc']\n");
    // Of this machine only /etc and the world of the test: the rest would take the test an hour.
    let text = format!(
        "[profile.main]\nsources = ['/', '@/srv']\nexclude = ['/*', '!/etc']\nschedule = ['daily']\n\
         keep = {{ daily-within = '4m', monthly-within = '2y' }}\ncheck = {{ every = '30d' }}\n\
         prune = {{ every = '30d' }}\n\
         [[profile.main.postgresql]]\nhost = '{}'\n[[profile.main.sqlite]]\npath = '@/srv/app.sqlite'\n",
        postgres.socket().display()
    );
    machine.configure(&text);
    let database = machine.path("srv/app.sqlite");
    machine.write("srv/keep/page", "hello\n");
    sqlite(&database, "PRAGMA journal_mode=WAL; CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'x'), (2, 'y')");
    let shown = machine.ok(["config", "show", "main"]).text();
    for left_out in
        ["/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/var/cache", "the data folder of each server"]
    {
        assert!(shown.contains(left_out), "{left_out} is left out: {shown}");
    }
    // A month of days, then one night a month: what two years and four months leave.
    for day in 1..=5 {
        quietly(&machine, &format!("2026-03-{day:02} 03:15:00"), &["--periodicity", "daily"]);
    }
    for month in ["2026-05", "2026-06", "2026-09", "2027-03", "2028-02", "2028-04"] {
        quietly(&machine, &format!("{month}-15 03:15:00"), &["--periodicity", "daily"]);
    }
    let kept: Vec<String> = machine.tagged("main").iter().map(|name| name[..10].to_owned()).collect();
    assert_eq!(kept, ["2026-05-15", "2026-06-15", "2026-09-15", "2027-03-15", "2028-02-15", "2028-04-15"]);

    let expected = postgres.contents("shop");
    let mount = machine.mount();
    let latest = mount.path().join(machine.tagged("main").last().unwrap());
    compare::trees(Path::new("/etc"), &latest.join("etc"), Rules::CP).assert_same("/etc in the mount");
    assert!(!latest.join("proc").exists() && !latest.join("usr").exists());
    assert_eq!(restored(&postgres, &latest.join("databases/postgresql/main/shop.dump")), expected);
    let globals = std::fs::read_to_string(latest.join("databases/postgresql/main/globals.sql")).unwrap();
    assert!(globals.contains("CREATE ROLE postgres"), "{globals}");
    let copy = below(&latest.join("databases/sqlite"), &database);
    assert_eq!(sqlite(&copy, ".dump"), sqlite(&database, ".dump"));
    let page = below(&latest, &machine.path("srv/keep/page"));
    assert_eq!(std::fs::read_to_string(page).unwrap(), "hello\n");
    mount.unmount();

    // The night the server is down: cron's mail is one message that names it, and the files are safe.
    postgres.stop();
    let outcome = machine.run(["run", "--periodicity", "daily"]).expect(3);
    assert!(outcome.stdout.is_empty());
    assert_eq!(outcome.stderr.matches("bakfs: ").count(), 1, "one message: {outcome}");
    let outcome = outcome.says("main").says("/databases/postgresql/main");
    assert!(!outcome.stderr.contains("panicked"));
    assert_eq!(machine.tagged("incomplete").len(), 1);
}

/// Periodicities side by side, of the web root and the database of one application, each by itself.
#[test]
fn periodicities_side_by_side_and_all_at_once() {
    let postgres = Postgres::start();
    shop(&postgres);
    let rules = "schedule = ['hourly', 'daily', 'weekly', 'monthly', 'bimonthly', 'shutdown']\n\
                 hourly = { keep = { last = 3 } }\ndaily = { keep = { last = 3 } }\nweekly = { keep = { last = 2 } }\n\
                 monthly = { keep = { last = 2 } }\nbimonthly = { keep = { last = 1 } }\n\
                 shutdown = { keep = { last = 1 } }\ncheck = { every = 'never' }\n";
    let machine = Machine::new(&format!("[defaults]\n{rules}"));
    machine.profile("shop-web", "sources = ['@/www']\n".replace('@', machine.path("").to_str().unwrap()).as_str());
    let cluster = format!("[[postgresql]]\nhost = '{}'\ndatabases = ['shop']\n", postgres.socket().display());
    machine.profile("shop-db", &cluster);
    machine.write("www/index.html", "<h1>shop</h1>\n");
    let kinds = ["hourly", "daily", "weekly", "monthly", "bimonthly", "shutdown"];
    for month in 1..=4 {
        for (hour, kind) in (0..).zip(kinds) {
            quietly(&machine, &format!("2026-{month:02}-01 {hour:02}:30:00"), &["--periodicity", kind]);
        }
        quietly(&machine, &format!("2026-{month:02}-01 12:00:00"), &["shop-web"]);
    }
    quietly(&machine, "2026-05-01 12:00:00", &["--all"]);
    let count = |profile: &str, kind: &str| {
        let has = |tags: &[String], tag: &str| tags.iter().any(|known| known == tag);
        machine.snapshots().iter().filter(|(_, tags)| has(tags, profile) && has(tags, kind)).count()
    };
    for (kind, kept) in kinds.iter().zip([3, 3, 2, 2, 1, 1]) {
        assert_eq!((count("shop-web", kind), count("shop-db", kind)), (kept, kept), "{kind}");
    }
    assert_eq!((count("shop-web", "manual"), count("shop-db", "manual")), (5, 1));
    let mount = machine.mount();
    for name in machine.tagged("shop-web") {
        let page = below(&mount.path().join("tags/shop-web").join(name), &machine.path("www/index.html"));
        assert_eq!(std::fs::read_to_string(page).unwrap(), "<h1>shop</h1>\n");
    }
    for name in machine.tagged("shutdown").iter().filter(|name| machine.tagged("shop-db").contains(name)) {
        let dump = mount.path().join(name).join("databases/postgresql/main/shop.dump");
        assert_eq!(restored(&postgres, &dump), postgres.contents("shop"));
    }
}

/// An `apps/` folder whose profiles are picked up by one schedule, several per application, a rolling window, logs with
/// rotation, a configuration test that says what is missing, listing databases and testing connectivity.
#[test]
fn a_folder_of_profiles_is_picked_up_by_one_schedule() {
    let postgres = Postgres::start();
    shop(&postgres);
    let machine = Machine::new(
        "[defaults]\nschedule = ['daily']\nkeep = { daily = 7, weekly = 4, monthly = 12 }\n\
         check = { every = 'never' }\nprune = { every = 'never' }\n",
    );
    let cluster = format!("[[postgresql]]\nhost = '{}'\ndatabases = ['shop']\n", postgres.socket().display());
    machine.profile("shop-db", &cluster);
    machine.profile("shop-media", "sources = ['@/media']\n");
    machine.profile("blog-media", "sources = ['@/blog']\n");
    machine.write("media/1.jpg", "jpg\n");
    // The configuration test says what is missing.
    let told = machine.run(["config", "check"]).expect(1);
    assert!(told.stderr.contains("blog-media") || told.text().contains("blog-media"), "{told}");
    machine.write("blog/1.jpg", "jpg\n");
    let told = machine.run(["config", "check", "-v"]);
    assert!(!format!("{}{}", told.text(), told.stderr).contains("does not exist"), "{told}");
    let listed = machine.ok(["config", "databases", "shop-db", "-v"]).text();
    assert!(listed.contains("shop"), "{listed}");

    for day in 0..60 {
        let day = jiff::civil::date(2026, 1, 1).checked_add(jiff::ToSpan::days(7 * day)).unwrap();
        quietly(&machine, &format!("{day} 03:15:00"), &["--periodicity", "daily", "shop-media"]);
    }
    // 7 newest days, 4 newest weeks, 12 newest months: of weekly runs 7 days hold the 4 weeks.
    let kept = machine.tagged("shop-media").len();
    assert!((17..=19).contains(&kept), "{kept}: {:?}", machine.tagged("shop-media"));
    // A new application: nothing is installed again.
    machine.profile("wiki", "sources = ['@/wiki']\n");
    machine.write("wiki/page", "page\n");
    quietly(&machine, "2027-03-01 03:15:00", &["--periodicity", "daily"]);
    assert_eq!(machine.tagged("wiki").len(), 1);
    let log = bakfs_testing::files_below(&machine.path("log"));
    assert!(!log.is_empty(), "a log is written");
    let mount = machine.mount();
    let dump = mount.path().join("tags/shop-db").join(machine.tagged("shop-db").last().unwrap());
    let dump = dump.join("databases/postgresql/main/shop.dump");
    assert_eq!(restored(&postgres, &dump), postgres.contents("shop"));
}

/// Database and folder together in one consistent set, encrypted, listed and restored by id, for administrators only,
/// with the site in maintenance mode meanwhile.
#[test]
fn database_and_folder_are_one_set_while_the_site_is_in_maintenance_mode() {
    let postgres = Postgres::start();
    shop(&postgres);
    let machine = Machine::new(&format!(
        "[profile.site]\nsources = ['@/site']\n\
         [profile.site.hooks]\nbefore = 'touch @/maintenance'\nfinally = 'rm @/maintenance'\n\
         [[profile.site.postgresql]]\nhost = '{}'\ndatabases = ['shop']\n\
         [[profile.site.command]]\nname = 'mode'\nrun = 'ls @/maintenance'\n",
        postgres.socket().display()
    ));
    machine.write("site/files/1", "one\n");
    let noise = bakfs_testing::noise(1, 200_000);
    std::fs::write(machine.path("site/files/2"), &noise).unwrap();
    silent(&machine.ok(["run", "site"]));
    assert!(!machine.path("maintenance").exists());
    let first = postgres.contents("shop");
    postgres.sql("shop", "DELETE FROM orders WHERE id % 2 = 0");
    std::fs::remove_file(machine.path("site/files/1")).unwrap();
    silent(&machine.ok(["run", "site"]));

    let listed = machine.json(["snapshots"]);
    let id = listed[0]["id"].as_str().unwrap();
    machine.ok([OsStr::new("restore"), OsStr::new(&id[..12]), machine.path("back").as_os_str()]);
    let page = below(&machine.path("back"), &machine.path("site/files/1"));
    assert_eq!(std::fs::read_to_string(page).unwrap(), "one\n");
    assert_eq!(restored(&postgres, &machine.path("back/databases/postgresql/main/shop.dump")), first);
    let mode = std::fs::read_to_string(machine.path("back/databases/command/mode")).unwrap();
    assert!(mode.contains("maintenance"), "it was on while data was read: {mode}");

    // Readable by whom the dump was made as, and by root.
    let mount = machine.mount();
    let dump = mount.path().join("latest/databases/postgresql/main/shop.dump");
    let shown = std::fs::metadata(&dump).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!(shown.mode() & 0o7777, 0o600);
    let folder = std::fs::metadata(mount.path().join("latest/databases/postgresql/main")).unwrap();
    assert_eq!(folder.mode() & 0o007, 0, "nobody else looks in");
    // Nothing readable is stored, not even what does not compress.
    for (path, _) in machine.bakfs.objects("packs") {
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(32).any(|window| window == &noise[1000..1032]), "{}", path.display());
    }
}

/// The same site with MySQL, whose password is in an option file: dumped every night beside its files, restored under
/// another name.
#[test]
fn a_site_with_mysql_and_uploads_comes_back() {
    use std::os::unix::fs::PermissionsExt;
    let server = Mariadb::start();
    server.sql("", "CREATE DATABASE site");
    server.sql(
        "site",
        "CREATE TABLE node (id int AUTO_INCREMENT PRIMARY KEY, title varchar(100));
         INSERT INTO node (title) SELECT CONCAT('node ', seq) FROM seq_1_to_2000;
         CREATE PROCEDURE noted(INOUT i int) SET i = i + 1",
    );
    server.sql("", "CREATE USER backup@localhost IDENTIFIED BY 'correct horse'");
    server.sql("", "GRANT SELECT, LOCK TABLES, SHOW VIEW, TRIGGER, EVENT, SHOW DATABASES ON *.* TO backup@localhost");
    let machine = Machine::new(&format!(
        "[profile.site]\nsources = ['@/files']\nschedule = ['daily']\nkeep = {{ daily = 7 }}\n\
         check = {{ every = 'never' }}\n\
         [[profile.site.mysql]]\nsocket = '{}'\noption-file = '@/my.cnf'\n",
        server.socket().display()
    ));
    machine.write("files/logo.png", "png\n");
    let secret = machine.write("my.cnf", "[client]\nuser = backup\npassword = correct horse\n");
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
    let mut nights = Vec::new();
    for day in 1..=2 {
        quietly(&machine, &format!("2026-03-{day:02} 03:15:00"), &["--periodicity", "daily"]);
        nights.push(server.contents("site"));
        server.sql("site", "DELETE FROM node WHERE id % 3 = 0; INSERT INTO node (title) VALUES ('new')");
    }
    let mount = machine.mount();
    for (name, expected) in machine.tagged("site").iter().zip(&nights) {
        let snapshot = mount.path().join(name);
        server.sql("", "CREATE DATABASE fresh");
        server.restore("fresh", &snapshot.join("databases/mysql/main/site.sql"));
        assert_eq!(&server.contents("fresh"), expected, "{name}");
        server.sql("", "DROP DATABASE fresh");
        let logo = below(&snapshot, &machine.path("files/logo.png"));
        assert_eq!(std::fs::read_to_string(logo).unwrap(), "png\n");
    }
    assert_ne!(nights[0], nights[1]);
}
