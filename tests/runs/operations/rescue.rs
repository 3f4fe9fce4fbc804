//! The whole machine, on a new disk and from a rescue system, by the sections "The whole machine" and "Over what is
//! there".

use super::Step::{self, Given, Types, TypesWith};
use super::world::World;
use super::{done, silently};
use bakfs_testing::compare::{self, Rules};
use bakfs_testing::servers::{PASSWORD, USER};
use std::os::unix::fs::MetadataExt;

/// What the world has in place of a boot loader writes down how it was called.
const CALLED: &str = "/run/called-of-the-test";
const NEW_DISK: &str = "/mnt/newdisk";

pub const STEPS: &[Step] = &[
    Given(boot_the_rescue_system),
    TypesWith(
        "sfdisk /dev/sda < disk.layout && mkfs.ext4 /dev/sda2 && mount /dev/sda2 /mnt/newdisk",
        on_disk,
        |_, outcome| {
            outcome.expect(0);
        },
    ),
    TypesWith(
        "export BAKFS_REPO=s3://bucket/web1 AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...",
        |world, line| {
            let line = line.replacen("...", USER, 1).replacen("...", PASSWORD, 1);
            let port = world.far.as_ref().unwrap().port();
            format!("{line} AWS_REGION=us-east-1 AWS_ENDPOINT_URL=http://127.0.0.1:{port}")
        },
        silently,
    ),
    Types("bakfs --password-file recovery.txt snapshots", |world, outcome| {
        assert!(outcome.text().contains("#main") && outcome.text().contains("#shop"), "{outcome}");
        done(world, outcome);
    }),
    Types("bakfs --password-file recovery.txt restore main/latest /mnt/newdisk", |world, outcome| {
        outcome.expect(0);
        for folder in ["/etc/ssl", "/etc/skel", "/srv/shop/media/albums", "/srv/drupal/vendor"] {
            compare::trees(&world.path(folder), &world.path(&format!("{NEW_DISK}{folder}")), Rules::COPY)
                .assert_same(folder);
        }
        let configuration = world.read("/etc/bakfs-of-the-server/bakfs.toml");
        assert_eq!(world.read("/mnt/newdisk/etc/bakfs/bakfs.toml"), configuration);
        let state = std::fs::metadata(world.path("/mnt/newdisk/srv/drupal/state")).unwrap();
        assert_eq!(state.uid(), 33, "the number of the restored www-data, who has another one here");
        let modes = ["proc", "dev", "tmp", "var/lib/postgresql"].map(|folder| {
            std::fs::metadata(world.path(&format!("{NEW_DISK}/{folder}"))).map(|folder| folder.mode() & 0o7777).ok()
        });
        assert_eq!(modes[2..], [Some(0o1777), Some(0o755)], "folders of what was left out are there");
        assert!(modes[0].is_some() && modes[1].is_some(), "{modes:?}");
    }),
    // `/usr` was borrowed, and is no part of the snapshot.
    Given(|world| drop(world.does("mkdir -p /mnt/newdisk/usr && mount --rbind /usr /mnt/newdisk/usr"))),
    Types(
        "for d in dev proc sys run; do mount --rbind /$d /mnt/newdisk/$d; done && chroot /mnt/newdisk",
        |_, outcome| {
            // A shell that has nobody to talk to.
            outcome.expect(0);
        },
    ),
    TypesWith("blkid", inside, |world, outcome| {
        let uuid = world.does(&format!("blkid -o value -s UUID {}", world.notes[1]));
        assert!(outcome.code == 0 && outcome.text().contains(uuid.trim()), "{outcome}");
    }),
    TypesWith("fallocate -l 2G /swapfile && chmod 600 /swapfile && mkswap /swapfile", inside, |world, outcome| {
        outcome.expect(0);
        let file = std::fs::metadata(world.path("/mnt/newdisk/swapfile")).unwrap();
        assert_eq!((file.len(), file.mode() & 0o777), (2 << 30, 0o600));
    }),
    TypesWith("update-initramfs -u -k all && grub-install /dev/sda && update-grub", inside, |world, outcome| {
        silently(world, outcome);
        assert_eq!(world.read(CALLED), "update-initramfs -u -k all\ngrub-install /dev/sda\nupdate-grub \n");
    }),
    TypesWith("pg_dropcluster 15 main; pg_createcluster 15 main --start", inside, |world, outcome| {
        assert_eq!(outcome.code, 0, "{outcome}");
        let dumps = "/databases/postgresql/main";
        let psql = "setpriv --reuid=postgres --regid=postgres --init-groups";
        world.does(&format!(
            "chroot /mnt/newdisk sh -c 'cd / && {psql} psql -q -f {dumps}/globals.sql 2>&1; {psql} createdb shop && {psql} \
             pg_restore -d shop {dumps}/shop.dump'"
        ));
        let count =
            format!("chroot /mnt/newdisk {psql} psql -qtA -d shop -c 'SELECT count(*), max(what) FROM orders' 2>&1");
        assert!(world.does(&count).ends_with("2000|order 999\n"));
        world.does("chroot /mnt/newdisk pg_ctlcluster 15 main stop -m immediate");
    }),
    TypesWith("mariadb-install-db --user=mysql", inside, |world, outcome| {
        outcome.expect(0);
        assert!(world.path("/mnt/newdisk/var/lib/mysql/mysql").is_dir());
    }),
    TypesWith("rm -r /databases", inside, silently),
    Types("bakfs --password-file recovery.txt restore shop/latest /mnt/newdisk", |world, outcome| {
        outcome.expect(0);
        assert!(world.path("/mnt/newdisk/databases/postgresql/main/shop.dump").exists());
    }),
    Given(|world| {
        world.does(&format!("umount -R -l /mnt/newdisk; losetup -d {}", world.notes.join(" ")));
    }),
];

/// Goes to another machine: it has what the administrator has kept, and none of the folders of bakfs.
fn boot_the_rescue_system(world: &mut World) {
    world.log_in();
    world.does("cp /mnt/kept-elsewhere.txt recovery.txt && chmod 600 recovery.txt");
    world.does("rm -rf /etc/bakfs /var/cache/bakfs /var/lib/bakfs /mnt/newdisk/*");
    world.does("sed -i 's/^www-data:x:33:33:/www-data:x:1733:33:/' /etc/passwd");
    world.write("/root/disk.layout", "label: gpt\nsize=8MiB\nsize=+\n");
    for program in ["update-initramfs", "grub-install", "update-grub"] {
        let text = format!("#!/bin/sh\necho \"${{0##*/}} $*\" >> {CALLED}\n");
        world.write_program(&format!("/usr/sbin/{program}"), &text);
    }
    if let Some(postgres) = &world.postgres {
        postgres.stop();
    }
    world.does("truncate -s 3G /tmp/disk");
    // Not every kernel reads tables of partitions here: the second begins at 9 MiB by the layout above.
    let loops = ["", "--offset 9MiB"].map(|offset| world.does(&format!("losetup --find --show {offset} /tmp/disk")));
    world.notes = loops.map(|device| device.trim().to_owned()).into();
}

/// Names the disk that there is.
fn on_disk(world: &World, line: &str) -> String {
    line.replace("/dev/sda2", &world.notes[1]).replace("/dev/sda", &world.notes[0])
}

/// Types in the new root, where the line before has led.
fn inside(_: &World, line: &str) -> String {
    format!("chroot {NEW_DISK} bash -c '{line}'")
}
