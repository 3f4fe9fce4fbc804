//! Promise: a mount shows what there is, whoever tells of changes or does not: disks that go and come, folders of other
//! machines, a kernel without watches; and attributes that came after it began.

use bakfs::format::header::Suite;
use bakfs::view::View;
use bakfs_mount::tree::Tree;
use bakfs_testing::cli::{Bakfs, Mounted, is_mounted};
use bakfs_testing::device::Device;
use bakfs_testing::library::{self, Source, TINY_CHUNKS};
use bakfs_testing::process::{self, tool};
use bakfs_testing::stores::MemStore;
use bakfs_testing::users::{self, acting_as};
use bakfs_testing::{SOON, until};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Unmounts a path when dropped.
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        if is_mounted(&self.0) {
            tool("umount", [OsStr::new("-l"), self.0.as_os_str()]);
        }
    }
}

/// Backs up a new text, and waits until `latest` shows it.
fn follows(bakfs: &Bakfs, mount: &Mounted<'_>, source: &Path, text: &str) {
    std::fs::write(source.join("f"), text).unwrap();
    bakfs.backup([source]);
    shows(mount, source, text);
}

fn shows(mount: &Mounted<'_>, source: &Path, text: &str) {
    let shown = mount.at("latest", &source.join("f"));
    until("the mount shows the new snapshot", SOON, || std::fs::read_to_string(&shown).is_ok_and(|is| is == text));
}

#[test]
fn a_disk_that_was_away_and_folders_that_are_others_are_followed() {
    bakfs_testing::need_root();
    let (bakfs, source) = Bakfs::with_source();
    std::fs::write(source.join("f"), "1").unwrap();
    let [image, disk] = ["image", "disk"].map(|name| bakfs.path(name));
    let device = Device::ext4(&image, &disk, 64);
    let on_disk = disk.join("repo");
    std::fs::rename(bakfs.repo(), bakfs.path("moved")).unwrap();
    tool("cp", [OsStr::new("-a"), bakfs.path("moved").as_os_str(), on_disk.as_os_str()]).expect(0);
    std::os::unix::fs::symlink(&on_disk, bakfs.repo()).unwrap();
    bakfs.backup([&source]);
    // Nothing but the watch can show it soon enough.
    let mount = bakfs.mount_with(&["--refresh", "3600"], bakfs.path("mnt"));
    follows(&bakfs, &mount, &source, "2");

    // Readers keep packs open: it is unmounted as a disk is that is pulled out.
    tool("umount", [OsStr::new("-l"), disk.as_os_str()]).expect(0);
    until("the disk is away", SOON, || std::fs::read_dir(mount.path()).is_err() || !is_mounted(&disk));
    tool("mount", [OsStr::new("-o"), OsStr::new("loop"), image.as_os_str(), disk.as_os_str()]).expect(0);
    mount.unmount();

    let log = bakfs.path("log");
    let mount = bakfs.mount_with(&["--refresh", "3600", "--log", log.to_str().unwrap()], bakfs.path("mnt"));
    // Nothing of it is open yet.
    tool("umount", [&disk]).expect(0);
    until("it is missed", SOON, || std::fs::read_to_string(&log).unwrap().contains("repeated: 10 times"));
    tool("mount", [OsStr::new("-o"), OsStr::new("loop"), image.as_os_str(), disk.as_os_str()]).expect(0);
    until("it is back", SOON, || std::fs::read_to_string(&log).unwrap().contains("can be looked at again"));
    follows(&bakfs, &mount, &source, "3");
    let text = std::fs::read_to_string(&log).unwrap();
    let lines = text.lines().filter(|line| line.contains("New snapshots cannot be shown")).count();
    assert!((2..=5).contains(&lines), "once, and with counts: {text}");

    // The repository is renamed away and back; the folder of snapshots becomes another one.
    std::fs::rename(&on_disk, disk.join("away")).unwrap();
    std::fs::rename(disk.join("away"), &on_disk).unwrap();
    follows(&bakfs, &mount, &source, "4");
    let [snapshots, other] = ["snapshots", "other"].map(|name| on_disk.join(name));
    tool("cp", [OsStr::new("-a"), snapshots.as_os_str(), other.as_os_str()]).expect(0);
    std::fs::rename(&snapshots, on_disk.join("old")).unwrap();
    std::fs::rename(&other, &snapshots).unwrap();
    follows(&bakfs, &mount, &source, "5");
    mount.unmount();
    drop(device);
}

#[test]
fn a_folder_in_which_others_write_is_looked_at_again() {
    bakfs_testing::need_root();
    let (bakfs, source) = Bakfs::with_source();
    std::fs::write(source.join("f"), "1").unwrap();
    bakfs.backup([&source]);
    // What goes on behind a FUSE or network file system the kernel does not tell.
    let share = bakfs.make_dir("share");
    tool("bindfs", [&bakfs.repo(), &share]).expect(0);
    let _share = Mount(share.clone());
    let dir = bakfs.path("mnt");
    let options = ["--repo", share.to_str().unwrap(), "mount", "--refresh", "1", dir.to_str().unwrap()];
    bakfs.ok(options);
    let mount = bakfs.adopt(dir.clone());
    follows(&bakfs, &mount, &source, "2");
    mount.unmount();
}

#[test]
fn without_any_watch_there_is_a_mount_that_follows() {
    bakfs_testing::need_root();
    let (bakfs, source) = Bakfs::with_source();
    std::fs::write(source.join("f"), "1").unwrap();
    bakfs.backup([&source]);
    // A user namespace of its own has a count of its own (namespaces(7), /proc/sys/user).
    let script = "set -e; echo 0 >/proc/sys/user/max_inotify_instances; \"$B\" mount --refresh 1 \"$M\"; \
                  echo 2 >\"$S/f\"; \"$B\" backup -q \"$S\"; n=0; \
                  until [ \"$(cat \"$M/latest$S/f\")\" = 2 ]; do n=$((n+1)); [ $n -lt 600 ]; sleep 0.1; done; \"$B\" umount \"$M\"";
    let mut command = bakfs.wrap("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
    command.env("B", bakfs_testing::cli::program()).env("M", bakfs.path("mnt")).env("S", &source);
    process::start(command, false).finish_within(SOON).expect(0);
}

#[test]
fn a_log_is_put_aside_before_it_fills_a_disk() {
    let (bakfs, source) = Bakfs::with_source();
    std::fs::write(source.join("f"), "1").unwrap();
    bakfs.backup([&source]);
    let log = bakfs.path("cache/mount.log");
    std::fs::write(&log, "old\n".repeat(300_000)).unwrap();
    let mount = bakfs.mount();
    let name = "5".repeat(64);
    std::fs::write(bakfs.repo().join("snapshots").join(&name), b"no snapshot").unwrap();
    let aside = bakfs.path("cache/mount.log.1");
    until("the log is put aside", SOON, || aside.exists());
    assert!(std::fs::read_to_string(&aside).unwrap().contains(&name));
    mount.unmount();
}

#[test]
fn a_place_that_does_not_tell_its_room_is_neither_full_nor_broken() {
    let source = Source::new();
    let store = Arc::new(MemStore::default());
    library::init(&*store, Suite::Plain, 0, TINY_CHUNKS).unwrap();
    let writer = library::open(store.clone()).unwrap();
    library::back_up(&writer, &source.path(), 0).unwrap();
    let view = View::new(library::open(store).unwrap(), false, Box::new(|| false)).unwrap();
    let told = view.usage();
    assert!(told.total_bytes > told.free_bytes && told.free_bytes == told.available_bytes, "{told:?}");
    assert!(told.available_bytes > told.total_bytes / 10 * 9 && told.free_files > told.files / 10 * 9, "{told:?}");
}

/// Gives a file of the source an access list.
fn late_list(source: &Path) {
    tool("setfacl", ["-m".as_ref(), "u:1234:rw".as_ref(), source.join("f").as_os_str()]).expect(0);
}

fn has_xattrs(path: &Path) -> bool {
    rustix::fs::listxattr(path, &mut [0u8; 256]).is_ok_and(|len| len > 0)
}

#[test]
fn attributes_that_come_later_are_shown_as_soon_as_nobody_is_in_the_mount() {
    bakfs_testing::need_root();
    let (bakfs, source) = Bakfs::with_source();
    std::fs::write(source.join("f"), "1").unwrap();
    let first = bakfs.backup([&source]).snapshot().to_owned();
    let mount = bakfs.mount();
    let shown = mount.at("latest", &source.join("f"));
    let note = mount.path().join("ATTRIBUTES-HIDDEN.txt");
    let open = std::fs::File::open(mount.at(&first, &source.join("f"))).unwrap();
    late_list(&source);
    let outcome = bakfs.run([OsStr::new("backup"), source.as_os_str()]).expect(0);
    outcome.says("hides the extended attributes").says(mount.path().to_str().unwrap());
    assert!(!has_xattrs(&shown));
    assert!(std::fs::read_to_string(&note).unwrap().contains("as soon as nobody uses it"));
    let names = || std::fs::read_dir(mount.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert!(names().contains(&"ATTRIBUTES-HIDDEN.txt".into()));
    assert_eq!(std::io::read_to_string(&open).unwrap(), "1", "who is in it reads on");
    drop(open);
    until("they are shown", SOON, || has_xattrs(&shown));
    assert!(!note.exists() && !names().contains(&"ATTRIBUTES-HIDDEN.txt".into()));
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(table.matches(&format!(" {} ", mount.path().display())).count(), 1, "one mount is there: {table}");
    // It goes on as before: snapshots come, and one command ends it.
    follows(&bakfs, &mount, &source, "3");
    assert_eq!(bakfs.run([OsStr::new("backup"), source.as_os_str()]).expect(0).stderr, "");
    mount.unmount();
}

#[test]
fn a_working_directory_keeps_a_mount_and_a_run_names_it() {
    bakfs_testing::need_root();
    let (bakfs, source) = Bakfs::with_source();
    std::fs::write(source.join("f"), "1").unwrap();
    bakfs.backup([&source]);
    let text = format!("[profile.main]\nsources = ['{}']\nschedule = ['daily']\n", source.display());
    std::fs::write(bakfs.path("config/bakfs.toml"), text).unwrap();
    let mount = bakfs.mount();
    let mut shell = Command::new("sleep");
    shell.arg("600").current_dir(mount.path());
    let mut shell = process::start(shell, false);
    late_list(&source);
    let outcome = bakfs.run(["run", "main"]).expect(0);
    outcome.says("hides the extended attributes").says(mount.path().to_str().unwrap());
    shell.kill();
    until("they are shown", SOON, || has_xattrs(&mount.at("latest", &source.join("f"))));
    mount.unmount();
    // Whoever asked for none hears nothing.
    let mount = bakfs.mount_with(&["--no-xattrs"], bakfs.path("mnt"));
    assert_eq!(bakfs.run(["run", "main"]).expect(0).stderr, "");
    assert!(!mount.path().join("ATTRIBUTES-HIDDEN.txt").exists());
    mount.unmount();
}

#[test]
fn an_ordinary_users_mount_begins_anew_too() {
    let bakfs = Bakfs::as_nobody();
    let source = bakfs.make_dir("source");
    acting_as(users::NOBODY, || std::fs::write(source.join("f"), "1").unwrap());
    bakfs.backup([&source]);
    let mount = bakfs.mount();
    late_list(&source);
    bakfs.backup([&source]);
    let shown = mount.at("latest", &source.join("f"));
    until("they are shown", SOON, || acting_as(users::NOBODY, || has_xattrs(&shown)));
    mount.unmount();
}

#[test]
fn a_repository_that_is_away_or_another_one_is_an_error_and_no_old_list() {
    let (bakfs, source) = Bakfs::with_source();
    std::fs::write(source.join("file"), b"content").unwrap();
    bakfs.backup([&source]);
    let mounted = bakfs.mount();
    let list = || std::fs::read_dir(mounted.path()).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let latest = || std::fs::read_dir(mounted.path().join("latest")).map(|_| ());
    let before = list().unwrap().len();
    assert!(before > 3);
    let (repo, away) = (bakfs.repo(), bakfs.path("away"));
    std::fs::rename(&repo, &away).unwrap();
    until("the listing of a repository that is away is an error", SOON, || list().is_err() && latest().is_err());
    std::fs::create_dir(&repo).unwrap();
    until("an empty folder in its place is one too", SOON, || list().is_err());
    std::fs::remove_dir(&repo).unwrap();

    // Another repository in its place has snapshots of its own: none of them, and no empty history, is shown.
    let other = Bakfs::new();
    other.backup([&source]);
    std::fs::rename(other.repo(), &repo).unwrap();
    let log = || std::fs::read_to_string(bakfs.path("cache/mount.log")).unwrap();
    until("another repository is named", SOON, || log().contains("is another one"));
    assert!(list().is_err() && latest().is_err());
    std::fs::rename(&repo, bakfs.path("other")).unwrap();
    std::fs::rename(&away, &repo).unwrap();
    until("all is shown again", SOON, || list().is_ok_and(|entries| entries.len() == before) && latest().is_ok());
}
