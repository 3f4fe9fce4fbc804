//! The examples of the manual's pages (docs/manual.md), on a machine where nothing was backed up yet.

use super::Step::{self, Given, Types};
use super::{done, silently};
use bakfs_testing::process::Outcome;

pub const STEPS: &[Step] = &[
    Given(|world| {
        world.log_in();
        world.does("rm -rf /etc/bakfs /var/lib/bakfs /var/cache/bakfs /mnt/newdisk/* /tmp/then; mkdir -p /backup");
        world.write("/etc/hostname", "web1\n");
    }),
    Types("bakfs --repo /backup/repo init", |world, outcome| {
        assert_eq!(outcome.code, 0, "{outcome}");
        assert!(world.path("/backup/repo/config").exists());
        world.does("bakfs init 2>&1 && bakfs backup --time 2026-11-01T03:00:00Z /etc /srv");
        let text = "[profile.main]\nsources = ['/etc', '/srv']\nschedule = ['daily']\n";
        world.does("mkdir -p /etc/bakfs && chmod 755 /etc/bakfs");
        world.write("/etc/bakfs/bakfs.toml", text);
    }),
    Types("bakfs config show", |_, outcome| said(outcome, "/srv")),
    Types("bakfs run main", |world, outcome| {
        assert_eq!(outcome.code, 0, "{outcome}");
        world.does("bakfs ls main/latest:/srv");
    }),
    Types("bakfs status", |_, outcome| said(outcome, "main")),
    Types("bakfs stats", |_, outcome| said(outcome, "KiB")),
    Types("bakfs check", done),
    Types("bakfs prune", |_, outcome| assert_eq!(outcome.code, 0, "{outcome}")),
    Types("bakfs backup --tag before-upgrade --exclude '*.log' /etc /srv", done),
    Types("tar -C / -c etc | bakfs backup --stdin /etc.tar", |world, outcome| {
        assert_eq!(outcome.code, 0, "{outcome}");
        assert!(world.does("bakfs dump latest:/etc.tar | tar -t").contains("etc/hostname"));
        world.does("bakfs forget latest");
    }),
    Types("bakfs snapshots", |_, outcome| said(outcome, "#before-upgrade")),
    Types("bakfs --json snapshots --tag before-upgrade", |_, outcome| {
        let list: serde_json::Value = serde_json::from_str(&outcome.expect(0).text()).unwrap();
        assert_eq!(list.as_array().unwrap().len(), 1);
        assert_eq!(list[0]["tags"][0], "before-upgrade");
    }),
    Given(|world| drop(world.does("bakfs mount /mnt/history"))),
    Types("ls /mnt/history/latest/etc", |_, outcome| said(outcome, "hostname")),
    Given(|world| drop(world.does("bakfs backup --time $(date -u -d yesterday +%Y-%m-%dT00:00:00Z) /etc /srv"))),
    Types("diff -r /mnt/history/yesterday/etc /mnt/history/today/etc", |_, outcome| {
        // Links of /etc that lead nowhere here are told.
        assert!(outcome.code < 3 && outcome.stdout.is_empty(), "nothing differs: {outcome}");
    }),
    Given(|world| drop(world.does("bakfs umount /mnt/history"))),
    Types("bakfs ls latest:/etc", |_, outcome| said(outcome, "hostname")),
    Types("bakfs find '*.conf'", |_, outcome| said(outcome, ".conf")),
    Types("bakfs dump latest:/etc/hostname", |_, outcome| assert_eq!(outcome.expect(0).text(), "web1\n")),
    Types("bakfs dump latest:/etc --archive tar | tar -t", |_, outcome| said(outcome, "hostname")),
    Types("bakfs restore latest:/etc/hostname /tmp/then", |world, outcome| {
        assert_eq!(outcome.code, 0, "{outcome}");
        assert_eq!(world.read("/tmp/then/etc/hostname"), "web1\n");
    }),
    Types("bakfs restore --dry-run latest /mnt/newdisk", |world, outcome| {
        assert_eq!(outcome.code, 0, "{outcome}");
        assert_eq!(std::fs::read_dir(world.path("/mnt/newdisk")).unwrap().count(), 0);
    }),
    Types("bakfs diff yesterday today", |_, outcome| assert_eq!(outcome.expect(0).text(), "")),
    Types("bakfs diff yesterday today /etc", |_, outcome| assert_eq!(outcome.expect(0).text(), "")),
    Types("bakfs pin latest --reason 'before the migration'", done),
    Types("bakfs forget latest", |_, outcome| drop(outcome.refused().says("before the migration"))),
    Types("bakfs unpin latest", done),
    Types("bakfs forget --keep-daily 30 --keep-monthly 12 --dry-run", |_, outcome| said(outcome, "daily")),
    Types("bakfs repair --dry-run", done),
    Types("bakfs debug list snapshots", |_, outcome| said(outcome, "snapshots/")),
    Types("bakfs debug why latest:/etc/hostname", |_, outcome| said(outcome, "packs/")),
    Types("bakfs schedule install --print", |world, outcome| {
        assert!(outcome.code == 0 && outcome.stderr.is_empty(), "{outcome}");
        assert!(!world.path("/etc/systemd/system/bakfs-daily.timer").exists(), "it only prints");
    }),
    Types("bakfs version", |_, outcome| said(outcome, "bakfs ")),
    Types("bakfs --json version", |_, outcome| said(outcome, "\"repository_features\"")),
    Types("bakfs completions bash > /usr/share/bash-completion/completions/bakfs", |world, outcome| {
        done(world, outcome);
        let line = "COMP_WORDS=(bakfs restore lat); COMP_CWORD=2; . /usr/share/bash-completion/completions/bakfs; \
                    _clap_complete_bakfs bakfs lat restore; echo \"${COMPREPLY[@]}\"";
        assert!(world.does(line).contains("latest"), "a shell completes snapshots by it");
    }),
    Types("bakfs man /usr/local/share/man", |world, outcome| {
        done(world, outcome);
        assert!(world.read("/usr/local/share/man/man1/bakfs-restore.1").contains(".SH \"EXIT STATUS\""));
    }),
    Given(|world| {
        world.does("mkdir -p /mnt/disk && cp -a /var/lib/bakfs/repo /mnt/disk/ && cp /etc/bakfs/keys/* /root/");
        world.does("cd /root && mv $(grep -l . *.key | head -1) recovery.txt; for key in *.key; do bakfs --repo /mnt/disk/repo \
                    --password-file recovery.txt snapshots >/dev/null 2>&1 || mv $key recovery.txt; done; rm -rf /var/cache/bakfs");
    }),
    Types("export BAKFS_REPO=/mnt/disk/repo", silently),
    Types("bakfs --password-file recovery.txt mount /mnt/history", silently),
    Given(|world| drop(world.does("cp /etc/hosts /root/hosts.then && echo broken > /etc/hosts"))),
    Types("cp -a /mnt/history/latest/etc/hosts /etc/", |world, outcome| {
        silently(world, outcome);
        world.does("cmp /etc/hosts /root/hosts.then && bakfs umount /mnt/history");
    }),
    Types("bakfs --password-file recovery.txt restore main/latest /mnt/newdisk", |world, outcome| {
        assert_eq!(outcome.code, 0, "{outcome}");
        world.does("cmp /mnt/newdisk/etc/hosts /etc/hosts && unset BAKFS_REPO && rm -rf /mnt/newdisk/*");
    }),
    Given(|world| drop(world.does("bakfs --repo /backup/repo snapshots"))),
    Types("bakfs --repo /backup/repo forget-place", |world, outcome| {
        assert_eq!(outcome.code, 0, "{outcome}");
        world.does("bakfs snapshots");
    }),
    Types("bakfs demo", |_, outcome| assert_eq!(outcome.code, 0, "{outcome}")),
];

/// Asserts that a line says something, among other things.
#[track_caller]
fn said(outcome: Outcome, word: &str) {
    let text = outcome.expect(0).text();
    assert!(text.contains(word), "{word}: {text}");
}
