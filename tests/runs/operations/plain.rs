//! A machine without a configuration, by the README's six lines and the sections on keeping, mounting and verifying.

use super::Step::{self, Cron, Given, Shows, Text, Types, TypesWith};
use super::world::World;
use super::{done, silently};
use bakfs_testing::process::Outcome;
use bakfs_testing::{SOON, noise, until};
use std::collections::BTreeSet;
use std::io::Write;

const HISTORY: &str = "/mnt/history";
const LOGO: &str = "/srv/www/logo.png";

pub const STEPS: &[Step] = &[
    Given(two_days),
    Shows("bakfs backup /etc /srv", |world, outcome, shown| {
        let said: Vec<_> = lines(&outcome).iter().map(|line| shape(line)).collect();
        for line in shown {
            assert!(said.contains(&shape(line)), "{line:?} is shown: {outcome}");
        }
        let differs = world.types("bakfs diff latest~1 latest").expect(1);
        assert_eq!(differs.text(), "- /srv/www/logo.png\nM /srv/www/site.conf\n");
    }),
    Shows("bakfs mount /mnt/history && ls /mnt/history", |_, outcome, shown| {
        let shapes = |lines: &[String]| lines.iter().map(|line| shape(line)).collect::<Vec<_>>();
        assert_eq!(shapes(&lines(&outcome)), shapes(shown), "{outcome}");
    }),
    Shows("diff -r /mnt/history/yesterday/srv /mnt/history/today/srv", |_, outcome, shown| {
        assert_eq!((outcome.code, lines(&outcome).as_slice()), (1, shown), "{outcome}");
    }),
    Types("cp -a /mnt/history/yesterday/srv/www/logo.png /srv/www/", |world, outcome| {
        silently(world, outcome);
        assert_eq!(std::fs::read(world.path(LOGO)).unwrap(), noise(2, 300_000));
    }),
    Given(|world| drop(world.does("export PGUSER=postgres"))),
    Types(
        "createdb -T template0 shop_then && pg_restore -d shop_then /mnt/history/yesterday/srv/db/shop.dump",
        |world, outcome| {
            silently(world, outcome);
            assert_eq!(world.does("psql -qtA shop_then -c 'SELECT count(*) FROM orders'"), "2000\n");
        },
    ),
    Shows("bakfs find logo.png", |_, outcome, shown| {
        let (said, shown) = (lines(&outcome), shown[0].split_once(' ').unwrap());
        let (name, rest) = said[0].split_once(' ').unwrap();
        assert_eq!((said.len(), shape(name), rest), (1, shape(shown.0), shown.1), "{outcome}");
    }),
    Text("/mnt/history/", |world, text| {
        let listed: BTreeSet<String> = names(world, HISTORY).iter().map(|name| shape(name)).collect();
        for line in text.lines().skip(1) {
            let name = line.split_whitespace().next().unwrap().split('/').next().unwrap();
            assert!(listed.contains(&shape(name)), "{line:?}: {listed:?}");
        }
        assert!(world.path("/mnt/history/latest/etc/hosts").exists());
    }),
    Types("bakfs umount /mnt/history", |world, outcome| {
        silently(world, outcome);
        assert!(names(world, HISTORY).is_empty());
    }),
    Types("bakfs key list", |_, outcome| {
        let listed = outcome.expect(0).text();
        assert!(listed.lines().count() == 1 && listed.trim_end().ends_with("key         used now"), "{listed}");
    }),
    Types("bakfs key add --new-key-file /root/colleague.key", |world, outcome| {
        done(world, outcome);
        assert!(world.does("bakfs --password-file /root/colleague.key key list").lines().count() == 2);
        world.does("(umask 077; echo 'a new passphrase' > /root/new)");
    }),
    Types("bakfs key add --new-password-file /root/new", |world, outcome| {
        done(world, outcome);
        world.does("bakfs --password-file /root/new snapshots");
    }),
    TypesWith(
        "bakfs key remove SLOT",
        |world, line| {
            let listed = world.does("bakfs --password-file /root/colleague.key key list");
            let theirs = listed.lines().find(|line| line.ends_with("used now")).unwrap().split(' ').next().unwrap();
            line.replace("SLOT", theirs)
        },
        |world, outcome| {
            done(world, outcome);
            world.types("bakfs --password-file /root/colleague.key snapshots").refused();
            world.does("mv /root/new /root/old; (umask 077; echo 'a newer one' > /root/new)");
        },
    ),
    TypesWith(
        "bakfs key passwd --new-password-file /root/new",
        |_, line| format!("BAKFS_PASSWORD_FILE=/root/old {line}"),
        |world, outcome| {
            // The old one is still in the file.
            outcome.expect(0).says("/root/old (BAKFS_PASSWORD_FILE)");
            world.does("bakfs --password-file /root/new snapshots");
            world.types("bakfs --password-file /root/old snapshots").refused();
        },
    ),
    Types("bakfs mount /mnt/history", |world, outcome| {
        silently(world, outcome);
        world.does("cmp /etc/hosts /mnt/history/latest/etc/hosts && bakfs umount /mnt/history");
    }),
    TypesWith(
        "bakfs mount --no-xattrs",
        |_, line| format!("{line} {HISTORY}"),
        |world, outcome| {
            silently(world, outcome);
            world.does("cmp /etc/hosts /mnt/history/latest/etc/hosts && bakfs umount /mnt/history");
        },
    ),
    Types("ln -s $(command -v bakfs) /sbin/mount.fuse.bakfs", silently),
    Text("/var/lib/bakfs/repo  /mnt/history  fuse.bakfs  noauto,allow_other  0 0", |world, text| {
        std::fs::File::options()
            .append(true)
            .open(world.path("/etc/fstab"))
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        world.does("mount /mnt/history && cmp /etc/hosts /mnt/history/latest/etc/hosts && umount /mnt/history");
    }),
    Text("[Service]", |world, text| {
        world.write("/etc/systemd/system/history.service", text);
        world.does("systemd-analyze verify /etc/systemd/system/history.service");
        assert!(text.contains("Type=notify"), "it says when it is ready: {text}");
        let command = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        world.does(&format!("setsid {} </dev/null >/dev/null 2>&1 &", command("ExecStart=")));
        until("the service has mounted", SOON, || world.path("/mnt/history/latest").exists());
        world.does(command("ExecStop="));
        until("the service has unmounted", SOON, || names(world, HISTORY).is_empty());
    }),
    Cron("15 3 * * *  root  bakfs backup -x / /home /srv", |world, outcome| {
        silently(world, outcome);
        let listed = world.does("bakfs ls latest:/ && bakfs ls latest:/home && bakfs ls latest:/srv");
        assert!(["etc", "anna", "shop"].iter().all(|name| listed.contains(name)), "{listed}");
        assert_eq!(world.does("bakfs ls latest:/usr"), "", "another file system");
    }),
    Cron("30 4 * * *  root  bakfs check --read-data-subset 5% --max-age 30d", silently),
    Types("bakfs check --read-data-subset 5%", silently),
    Types("bakfs check --read-data", silently),
    Types("bakfs check -v", |world, outcome| {
        assert!(outcome.text().contains("verified") || outcome.text().contains("Verified"), "{outcome}");
        done(world, outcome);
    }),
    TypesWith(
        "cd REPOSITORY && find packs index snapshots marks keys -type f ! -name '.tmp-*' -printf '%f  %p\\n' | sha256sum \
         --check --quiet",
        |world, line| {
            world.does("bakfs pin latest && bakfs unpin latest");
            line.replace("REPOSITORY", "/var/lib/bakfs/repo")
        },
        |world, outcome| {
            silently(world, outcome);
            let object = world.does("find snapshots -type f | head -1");
            let line = "find packs index snapshots -type f -printf '%f  %p\\n' | sha256sum --check --quiet";
            world.does(&format!("cp {0} /tmp/object && printf x >> {0}", object.trim()));
            let outcome = world.types(line);
            assert!(outcome.code == 1 && outcome.text().contains(object.trim()), "damage is named: {outcome}");
            world.does(&format!("cp /tmp/object {} && cd", object.trim()));
        },
    ),
    TypesWith("bakfs pin SNAP", |_, line| line.replace("SNAP", "latest"), done),
    Types("bakfs --help", |world, outcome| {
        assert!(outcome.text().contains("Usage: bakfs"), "{outcome}");
        done(world, outcome);
    }),
    TypesWith(
        "bakfs COMMAND --help",
        |_, line| line.replace("COMMAND", "restore"),
        |world, outcome| {
            assert!(outcome.text().contains("Usage: bakfs restore"), "{outcome}");
            done(world, outcome);
        },
    ),
    Given(seven_nights),
    Types("bakfs pin 2026-10-05T03-17-05Z --reason \"before the migration\"", done),
    Shows("bakfs forget --keep-daily 3 --keep-monthly 12 --dry-run", |_, outcome, shown| {
        assert_eq!((outcome.code, lines(&outcome).as_slice()), (0, shown), "{outcome}");
    }),
    Types("bakfs forget 2026-11-17T03-17-05Z", |world, outcome| {
        done(world, outcome);
        assert_eq!(forgotten(world), ["2026-11-17T03-17-05Z"]);
    }),
    Types("bakfs forget --undo 2026-11-17T03-17-05Z", |world, outcome| {
        done(world, outcome);
        assert_eq!(forgotten(world), [""; 0]);
    }),
    Given(older_nights),
    Types("bakfs forget --keep-daily-within 3m --keep-monthly-within 2y", |world, outcome| {
        done(world, outcome);
        assert_eq!(forgotten(world), ["2024-01-10T03-17-05Z", "2026-08-01T03-17-05Z", "2026-11-20T01-00-00Z"]);
    }),
    Types("bakfs forget --undo", |world, outcome| {
        done(world, outcome);
        assert_eq!(forgotten(world), [""; 0]);
    }),
    Types("bakfs forget --keep-daily 90 --keep-monthly 24", |world, outcome| {
        done(world, outcome);
        assert_eq!(forgotten(world), ["2026-11-20T01-00-00Z"]);
    }),
    Types("bakfs forget --undo", done),
    Types("bakfs forget --keep-within 7d --keep-daily 30 --keep-weekly 26 --keep-monthly 18/2", |world, outcome| {
        done(world, outcome);
        assert_eq!(forgotten(world), [""; 0]);
    }),
    Types("bakfs forget --keep-hourly 8/6 --keep-quarterly unlimited/2 --keep-tag release", |world, outcome| {
        done(world, outcome);
        assert_eq!(forgotten(world), ["2026-07-20T03-17-05Z", "2026-11-20T01-00-00Z"]);
    }),
    Types("bakfs forget --keep-daily 30 --keep-monthly 12/2 --keep-yearly 5 --dry-run", |world, outcome| {
        assert!(outcome.text().lines().last().is_some_and(|line| line.starts_with("Would forget")), "{outcome}");
        done(world, outcome);
        assert_eq!(forgotten(world).len(), 2);
    }),
    Types("bakfs prune --dry-run", |world, outcome| {
        assert!(outcome.text().contains("would be deleted"), "{outcome}");
        done(world, outcome);
    }),
    Types("bakfs backup /etc /srv; bakfs forget --keep-daily 30 --keep-monthly 12 --prune", |world, outcome| {
        done(world, outcome);
        let left = world.does("bakfs forget --undo; bakfs snapshots");
        assert!(!left.contains("2026-07-20T03-17-05Z"), "a prune has removed it for good: {left}");
        world.does("bakfs check --read-data");
    }),
    Types("bakfs prune --max-waste 100%", silently),
    Given(lose_the_newest),
    Types("bakfs prune --accept-missing", |world, outcome| {
        outcome.expect(0);
        world.does("bakfs snapshots && bakfs prune && bakfs check --read-data");
    }),
    TypesWith(
        "bakfs forget-place --repo PLACE",
        |_, line| line.replace("PLACE", "/var/lib/bakfs/repo"),
        |world, outcome| {
            let outcome = outcome.expect(0);
            assert!(
                (outcome.text() + &outcome.stderr).contains("/var/lib/bakfs/repo"),
                "it says what it forgot: {outcome}"
            );
            world.does("bakfs snapshots");
        },
    ),
];

/// Logs in on a machine that bakfs was never told of, with a site and a dump of yesterday in its history.
fn two_days(world: &mut World) {
    world.log_in();
    world.does("umount -l /mnt/history; mv /etc/bakfs /etc/bakfs-of-the-server; rm -rf /mnt/newdisk/*");
    world.write(LOGO, noise(2, 300_000));
    world.write("/srv/www/site.conf", "port = 80\n");
    // It is noon, or so: no line is typed on another day than the one before it.
    world.does("[ $(date +%H) -ge 06 ] && [ $(date +%H) -lt 18 ] || export TZ=NOON-12");
    world.does("touch -d '2026-11-02 16:40' /srv/www/logo.png");
    world.does("mkdir /srv/db && pg_dump -U postgres -Fc -Z0 -f /srv/db/shop.dump shop");
    world.does("bakfs backup --time $(date -u -d '24 hours ago' +%FT%TZ) /etc /srv");
    world.does("rm /srv/www/logo.png; echo 'port = 8080' > /srv/www/site.conf");
}

/// Takes a snapshot away that this machine has seen: what deletes stops, and it is named.
fn lose_the_newest(world: &mut World) {
    world.log_in();
    world.does("bakfs backup /etc && bakfs snapshots && rm $(ls -t /var/lib/bakfs/repo/snapshots/* | head -1)");
    world.types("bakfs snapshots").expect(3).says("snapshots/");
    world.types("bakfs prune").expect(1).says("--accept-missing");
}

const NIGHTS: [&str; 7] =
    ["2026-11-20", "2026-11-19", "2026-11-18", "2026-11-17", "2026-10-31", "2026-10-05", "2026-09-30"];

/// Makes the history of web1 that the page shows, seen from where it was written on that day.
fn seven_nights(world: &mut World) {
    world.log_in();
    world.does("export BAKFS_REPO=/var/lib/bakfs/nights TZ=Europe/Berlin FAKETIME='@2026-11-20 12:00:00'");
    world.does("export LD_PRELOAD=$(echo /usr/lib/*/faketime/libfaketimeMT.so.1) && bakfs init");
    for night in NIGHTS {
        world.does(&format!("bakfs backup --host web1 --time {night}T03:17:05Z /etc /srv"));
    }
}

/// Makes it longer.
fn older_nights(world: &mut World) {
    for (time, tag) in [
        ("2026-11-20T01:00:00Z", "second"),
        ("2026-08-15T03:17:05Z", "night"),
        ("2026-08-01T03:17:05Z", "release"),
        ("2026-07-20T03:17:05Z", "night"),
        ("2024-01-10T03:17:05Z", "night"),
    ] {
        world.does(&format!("bakfs backup --host web1 --tag {tag} --time {time} /etc /srv"));
    }
}

/// Returns the names of the snapshots that are forgotten and could be brought back, sorted.
fn forgotten(world: &World) -> Vec<String> {
    let all: BTreeSet<String> = names(world, "/var/lib/bakfs/nights/snapshots").into_iter().collect();
    let listed: serde_json::Value = serde_json::from_str(&world.does("bakfs --json snapshots")).unwrap();
    let shown: Vec<_> = listed.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect();
    let known = NIGHTS.iter().map(|night| format!("{night}T03-17-05Z"));
    let older = ["2026-11-20T01-00-00Z", "2026-08-15T03-17-05Z", "2026-08-01T03-17-05Z", "2026-07-20T03-17-05Z"];
    let known = known.chain(older.map(str::to_owned)).chain(["2024-01-10T03-17-05Z".to_owned()]).take(all.len());
    let mut gone: Vec<_> = known.filter(|name| !shown.contains(name)).collect();
    assert_eq!(gone.len() + shown.len(), all.len(), "{shown:?}");
    gone.sort();
    gone
}

fn names(world: &World, folder: &str) -> Vec<String> {
    let listed = std::fs::read_dir(world.path(folder)).into_iter().flatten();
    listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Returns what a terminal shows in the end, by lines.
fn lines(outcome: &Outcome) -> Vec<String> {
    let text = outcome.text().replace("\r\n", "\n");
    let mut lines = Vec::new();
    for line in text.lines() {
        // A bar is drawn over itself, and wiped away.
        let mut plain = String::new();
        let mut chars = line.rsplit('\r').next().unwrap_or(line).chars();
        while let Some(char) = chars.next() {
            match char {
                '\u{1b}' => drop(chars.by_ref().find(char::is_ascii_alphabetic)),
                _ => plain.push(char),
            }
        }
        if !plain.trim().is_empty() {
            lines.push(plain.trim_end().to_owned());
        }
    }
    lines
}

/// Returns a line with every number, and the unit after it, as `#`, and single spaces.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    for word in line.split_whitespace() {
        let mut part = String::new();
        for char in word.chars() {
            match char {
                '0'..='9' | '.' if part.ends_with('#') => {}
                '0'..='9' => part.push('#'),
                _ => part.push(char),
            }
        }
        let part = match part.as_str() {
            "KiB" | "MiB" | "B," | "KiB," | "MiB," => if part.ends_with(',') { "B," } else { "B" }.to_owned(),
            _ => part,
        };
        // Thousands are set apart by a space.
        if !(part == "#" && shape.ends_with('#')) {
            shape.push_str(if shape.is_empty() { "" } else { " " });
            shape.push_str(&part);
        }
    }
    shape
}

#[test]
fn the_shape_of_a_line_is_free_of_its_numbers() {
    assert_eq!(shape("Files     0 new, 1 064 unmodified"), "Files # new, # unmodified");
    assert_eq!(shape("Added  893 B, 1.4 KiB compressed"), "Added # B, # B compressed");
    assert_eq!(shape("2026-11-19T08-07-01Z  latest"), "#-#-#T#-#-#Z latest");
}
