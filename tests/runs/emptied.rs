//! Promise: a source or dump that has lost what it held is told, and costs no rule the last snapshot that has it, until
//! somebody says that it is meant so.

use bakfs_testing::machine::{Machine, silent};
use bakfs_testing::process::tool;
use std::path::Path;

/// Makes a machine that keeps two snapshots of a profile `web` of these keys.
fn keeps_two(text: &str) -> Machine {
    Machine::new(&format!(
        "[defaults]\ncheck = {{ every = 'never' }}\nprune = {{ every = 'never' }}\n\
         [profile.web]\nkeep = {{ last = 2 }}\nschedule = ['daily']\n{text}"
    ))
}

/// A disk that is mounted until it is dropped.
struct Disk(std::path::PathBuf);

impl Disk {
    fn mounted_at(path: &Path) -> Disk {
        tool("mount", ["-t", "tmpfs", "tmpfs", path.to_str().unwrap()]).expect(0);
        Disk(path.to_path_buf())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        tool("umount", [&self.0]);
    }
}

fn night(machine: &Machine, day: u32) -> bakfs_testing::process::Outcome {
    machine.run_at(&format!("2026-03-{day:02} 05:15:00"), ["run", "--periodicity", "daily"])
}

fn complete(machine: &Machine) -> Vec<String> {
    let is_complete = |(_, tags): &(String, Vec<String>)| !tags.contains(&"incomplete".to_string());
    machine.snapshots().into_iter().filter(is_complete).map(|(name, _)| name).collect()
}

fn empty(folder: &Path) {
    std::fs::remove_dir_all(folder).unwrap();
    std::fs::create_dir(folder).unwrap();
}

#[test]
fn an_emptied_source_costs_no_full_snapshot_its_place() {
    let machine = keeps_two("sources = ['@/source', '@/other']\n");
    machine.write("source/photo", "photo\n");
    machine.write("other/page", "page\n");
    silent(&night(&machine, 1).expect(0));
    let full = complete(&machine);
    empty(&machine.path("source"));
    for day in 2..=6 {
        night(&machine, day).expect(3).says("/source: has lost what it held: 0 files now").says("--allow-empty");
    }
    assert_eq!(complete(&machine), full);
    assert_eq!(machine.tagged("incomplete").len(), 2);
    let last = machine.last_run("web");
    assert_eq!(last["outcome"], "incomplete");
    // It is back.
    machine.write("source/photo", "photo\n");
    silent(&night(&machine, 7).expect(0));
    // It is meant so: said once, and the rules go on.
    empty(&machine.path("source"));
    night(&machine, 8).expect(3);
    silent(&machine.run_at("2026-03-08 12:00:00", ["run", "web", "--allow-empty"]).expect(0));
    (9..=10).for_each(|day| silent(&night(&machine, day).expect(0)));
    let kept = complete(&machine);
    assert!(kept.iter().all(|name| name > &"2026-03-08T12".to_string()), "{kept:?}");
}

#[test]
fn a_disk_that_is_not_mounted_is_noticed_wherever_it_lies() {
    bakfs_testing::need_root();
    for sources in ["sources = ['@/source/disk']\n", "sources = ['@/source']\n"] {
        let machine = keeps_two(sources);
        machine.write("source/page", "page\n");
        // Somebody has left a sign below the mount point.
        machine.write("source/disk/NOT-MOUNTED", "\n");
        {
            let _disk = Disk::mounted_at(&machine.path("source/disk"));
            (0..200).for_each(|n| drop(machine.write(&format!("source/disk/{n}"), "photo\n")));
            silent(&night(&machine, 1).expect(0));
        }
        let full = complete(&machine);
        for day in 2..=5 {
            night(&machine, day).expect(3).says("/source/disk: has lost what it held: 1 file now, 200 (");
        }
        assert_eq!(complete(&machine), full);
        {
            let _disk = Disk::mounted_at(&machine.path("source/disk"));
            (0..200).for_each(|n| drop(machine.write(&format!("source/disk/{n}"), "photo\n")));
            silent(&night(&machine, 6).expect(0));
        }
    }
}

#[test]
fn a_dump_that_is_suddenly_empty_is_no_good_one() {
    let machine = keeps_two("[[profile.web.command]]\nname = 'ldap.ldif'\nrun = 'cat @/dump'\n");
    machine.write("dump", &"entry\n".repeat(100_000));
    silent(&night(&machine, 1).expect(0));
    let full = complete(&machine);
    for (day, text, told) in
        [(2, "", "the dump is empty"), (3, "-- nothing\n", "has lost what it held: "), (4, "", "empty")]
    {
        machine.write("dump", text);
        night(&machine, day)
            .expect(3)
            .says(&format!("/databases/command/ldap.ldif: {}", if day == 4 { "the dump is " } else { "" }))
            .says(told);
    }
    assert_eq!(complete(&machine), full);
}

#[test]
fn a_first_dump_that_is_empty_is_named_unless_it_is_meant_so() {
    let command = "[[profile.web.command]]\nname = 'ldap.ldif'\nrun = 'true'\n";
    let machine = keeps_two(command);
    night(&machine, 1).expect(3).says("/databases/command/ldap.ldif: the dump is empty");
    assert!(complete(&machine).is_empty());
    silent(&night(&keeps_two(&format!("allow-empty = true\n{command}")), 1).expect(0));
}

#[test]
fn what_is_excluded_from_now_on_and_folders_without_files_are_not_missed() {
    let (bakfs, source) = bakfs_testing::cli::Bakfs::with_source();
    (0..200).for_each(|n| bakfs_testing::write(&source.join(format!("cache/{n}")), b"x"));
    bakfs_testing::write(&source.join("page"), b"page");
    bakfs.backup([&source]);
    bakfs.backup([source.as_os_str(), "--exclude".as_ref(), "cache/*".as_ref()]);
    std::fs::remove_dir_all(source.join("cache")).unwrap();
    std::fs::remove_file(source.join("page")).unwrap();
    // What is not excluded is missed all the same.
    bakfs.backup_outcome([source.as_os_str(), "--exclude".as_ref(), "cache/*".as_ref()]).expect(3);
    let (bakfs, source) = bakfs_testing::cli::Bakfs::with_source();
    (0..200).for_each(|n| std::fs::create_dir(source.join(format!("{n}"))).unwrap());
    bakfs.backup([&source]);
    (0..200).for_each(|n| std::fs::remove_dir(source.join(format!("{n}"))).unwrap());
    bakfs.backup([&source]);
}

#[test]
fn a_file_that_a_program_dumps_into_and_what_is_empty_by_rights() {
    let machine = keeps_two("sources = ['@/source', '@/spool', '@/dump.gz']\n");
    machine.write("source/page", "page\n");
    machine.write("dump.gz", &"x".repeat(200_000));
    std::fs::create_dir(machine.path("spool")).unwrap();
    silent(&night(&machine, 1).expect(0));
    // Half of it, and a spool that was always empty.
    machine.write("dump.gz", &"x".repeat(100_000));
    silent(&night(&machine, 2).expect(0));
    machine.write("dump.gz", &"x".repeat(20));
    night(&machine, 3).expect(3).says("/dump.gz: has lost what it held: 20 B now");
    machine.write("dump.gz", &"x".repeat(90_000));
    machine.write("spool/mail", "mail\n");
    silent(&night(&machine, 4).expect(0));
    empty(&machine.path("spool"));
    night(&machine, 5).expect(3).says("/spool: has lost");
    let text = machine.text("config/bakfs.toml").replace("keep = {", "allow-empty = true\nkeep = {");
    std::fs::write(machine.path("config/bakfs.toml"), text).unwrap();
    silent(&night(&machine, 6).expect(0));
}

#[test]
fn backups_by_hand_are_looked_at_too() {
    let (bakfs, source) = bakfs_testing::cli::Bakfs::with_source();
    std::fs::write(source.join("file"), "x").unwrap();
    bakfs.backup([&source]);
    std::fs::remove_file(source.join("file")).unwrap();
    let outcome = bakfs.backup_outcome([&source]).expect(3);
    outcome.says("has lost what it held");
    let tags = |at: usize| bakfs.json(["snapshots"])[at]["tags"].to_string();
    assert!(tags(1).contains("incomplete"), "{}", tags(1));
    bakfs.backup([source.as_os_str(), "--allow-empty".as_ref()]);
    bakfs.backup([&source]);
    assert!(!tags(2).contains("incomplete") && !tags(3).contains("incomplete"));
}
