//! Promise: the mount lives with its machine: readers, writers, new snapshots, busy unmounts, a killed
//! daemon, ordinary users and fstab.

use bakfs_testing::cli::{Bakfs, Mounted, NOBODY, is_mounted};
use bakfs_testing::compare::{self, Rules};
use bakfs_testing::process::{self, tool};
use bakfs_testing::users::acting_as;
use bakfs_testing::{SOON, noise, tools, until, users};
use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// A folder with many small files and some large ones.
fn plant(dir: &Path, seed: u64) {
    for folder in 0..30 {
        let path = dir.join(format!("folder-{folder}"));
        std::fs::create_dir_all(&path).unwrap();
        for file in 0..80 {
            let text = format!("{seed} {folder} {file}\n").repeat(1 + file * 3);
            std::fs::write(path.join(format!("file-{file}")), text).unwrap();
        }
    }
    for large in 0..4 {
        std::fs::write(dir.join(format!("large-{large}")), noise(seed + large, 5 << 20)).unwrap();
    }
}

/// A world with one small source folder.
fn small_world() -> (Bakfs, PathBuf) {
    let bakfs = Bakfs::new();
    let source = bakfs.make_dir("source");
    std::fs::write(source.join("same"), b"the same on all days").unwrap();
    std::fs::write(source.join("changes"), b"day 1").unwrap();
    (bakfs, source)
}

fn at<'a>(time: &'a str, source: &'a Path) -> [&'a OsStr; 3] {
    [OsStr::new("--time"), OsStr::new(time), source.as_os_str()]
}

fn list(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_damaged_snapshot_is_told_once_in_the_log() {
    let (bakfs, source) = small_world();
    bakfs.backup(at("2026-03-01T03:00:00Z", &source));
    let log = bakfs.path("log");
    let mount = bakfs.mount_with(&["--log", log.to_str().unwrap()], bakfs.path("mnt"));
    let name = "5".repeat(64);
    std::fs::write(bakfs.repo().join("snapshots").join(&name), b"no snapshot").unwrap();
    let told = || std::fs::read_to_string(&log).unwrap().matches(&name).count();
    until("it is told", SOON, || told() > 0);
    let times = told();
    // Each look at the snapshots meets it again.
    for day in ["2026-03-02T03:00:00Z", "2026-03-03T03:00:00Z"] {
        let new = bakfs.backup(at(day, &source));
        until("the new one is shown", SOON, || list(mount.path()).iter().any(|name| *name == new.snapshot()));
    }
    mount.unmount();
    assert_eq!(told(), times);
}

#[test]
fn a_copy_a_reader_and_a_backup_at_once() {
    let bakfs = Bakfs::new();
    let source = bakfs.make_dir("source");
    plant(&source, 1);
    let first = bakfs.backup([&source]);
    let pristine = bakfs.path("pristine");
    tools::copy(&source, &pristine);
    plant(&source.join("more"), 9);
    let mount = bakfs.mount();
    let shown = mount.at(first.snapshot(), &source);

    let copy = bakfs.path("copy");
    let mut cp = std::process::Command::new("cp");
    cp.arg("-a").arg(&shown).arg(&copy);
    let mut cp = process::start(cp, false);
    let mut writer = bakfs.start([OsStr::new("backup"), source.as_os_str()]);
    let expected = std::fs::read(pristine.join("large-2")).unwrap();
    let single = bakfs.path("single");
    let mut rounds = 0;
    while rounds < 10 || !cp.ended() || !writer.ended() {
        std::fs::copy(shown.join("large-2"), &single).unwrap();
        assert!(std::fs::read(&single).unwrap() == expected, "round {rounds}");
        rounds += 1;
    }
    cp.finish().expect(0);
    writer.finish().expect(0);
    compare::trees(&pristine, &copy, Rules::CP).assert_same("cp -a during a backup");

    let before = first.snapshot().to_owned();
    let latest = mount.path().join("latest");
    until("the new snapshot is the latest", SOON, || {
        std::fs::read_link(&latest).is_ok_and(|target| target != Path::new(&before))
    });
    compare::trees(&source, &mount.at("latest", &source), Rules::MOUNT).assert_same("the new one");
    compare::trees(&pristine, &shown, Rules::COPY).assert_same("the old one");
}

#[test]
fn a_new_snapshot_appears_in_the_running_mount() {
    let (bakfs, source) = small_world();
    let first = bakfs.backup(at("2026-03-01T03:00:00Z", &source));
    let mount = bakfs.mount();
    assert!(list(mount.path()).contains(&first.snapshot().to_owned()));
    // The kernel is told of a name that is not there yet, and must not keep that answer.
    assert!(!mount.path().join("2026-03-02T03-00-00Z").exists());
    std::fs::write(source.join("changes"), b"day 2").unwrap();
    let second = bakfs.backup(at("2026-03-02T03:00:00Z", &source));
    assert_eq!(second.snapshot(), "2026-03-02T03-00-00Z");
    until("the snapshot can be opened", SOON, || {
        std::fs::read(mount.at(second.snapshot(), &source).join("changes")).is_ok_and(|bytes| bytes == b"day 2")
    });
    until("it is listed", SOON, || list(mount.path()).contains(&second.snapshot().to_owned()));
    until("it is the latest", SOON, || {
        std::fs::read_link(mount.path().join("latest")).unwrap() == Path::new(second.snapshot())
    });
    let old = mount.at(first.snapshot(), &source).join("changes");
    assert_eq!(std::fs::read(old).unwrap(), b"day 1");
}

#[test]
fn names_never_shift_and_no_snapshot_hides_another() {
    let (bakfs, source) = small_world();
    let mut names = Vec::new();
    let mut objects = Vec::new();
    for round in 0..3 {
        std::fs::write(source.join("changes"), format!("round {round}")).unwrap();
        let known: Vec<_> = if round == 0 { Vec::new() } else { bakfs.objects("snapshots") };
        names.push(bakfs.backup(at("2026-03-01T03:00:00Z", &source)).snapshot().to_owned());
        let new = bakfs.objects("snapshots").into_iter().find(|object| !known.contains(object));
        objects.push(new.unwrap().0);
        let mount = bakfs.mount();
        let shown = list(mount.path());
        for (earlier, name) in names.iter().enumerate() {
            assert!(shown.contains(name), "{name} is hidden: {shown:?}");
            let text = std::fs::read_to_string(mount.at(name, &source).join("changes")).unwrap();
            assert_eq!(text, format!("round {earlier}"), "{name} has shifted");
        }
        mount.unmount();
    }
    assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2], "{names:?}");
    // The first one goes: the names of the others stay.
    std::fs::remove_file(&objects[0]).unwrap();
    let mount = bakfs.mount();
    for (round, name) in names.iter().enumerate().skip(1) {
        let text = std::fs::read_to_string(mount.at(name, &source).join("changes")).unwrap();
        assert_eq!(text, format!("round {round}"), "{name} has shifted");
    }
}

#[test]
fn an_unchanged_file_is_one_inode_on_all_days_and_after_a_remount() {
    let (bakfs, source) = small_world();
    std::fs::write(source.join("touched"), b"same bytes").unwrap();
    std::fs::create_dir(source.join("folder")).unwrap();
    std::fs::write(source.join("folder/deep"), noise(1, 400_000)).unwrap();
    let first = bakfs.backup(at("2026-03-01T03:00:00Z", &source));
    std::fs::write(source.join("changes"), b"day 2").unwrap();
    tool("chmod", ["0600".as_ref(), source.join("touched").as_os_str()]).expect(0);
    let second = bakfs.backup(at("2026-03-02T03:00:00Z", &source));
    let numbers = |mount: &Mounted<'_>| {
        let number =
            |day: &str, name: &str| std::fs::symlink_metadata(mount.at(day, &source).join(name)).unwrap().ino();
        ["same", "folder/deep", "changes", "touched"]
            .map(|name| (name, number(first.snapshot(), name), number(second.snapshot(), name)))
    };
    let mount = bakfs.mount();
    let seen = numbers(&mount);
    for (name, one, two) in seen {
        let unchanged = matches!(name, "same" | "folder/deep");
        assert_eq!(one == two, unchanged, "{name}: inodes {one} and {two}");
    }
    mount.unmount();
    let mount = bakfs.mount();
    // In another order than the first time.
    let _ = std::fs::symlink_metadata(mount.at(second.snapshot(), &source).join("changes"));
    assert_eq!(numbers(&mount), seen, "after a remount");
}

fn utc_day(words: &str) -> String {
    tool("date", ["-u", "-d", words, "+%F"]).expect(0).text().trim().to_owned()
}

#[test]
fn latest_today_yesterday_hosts_and_tags_lead_to_snapshots() {
    let (bakfs, source) = small_world();
    let mut day = utc_day("today");
    let (first, second, third) = loop {
        let backup = |time: String, options: &[&str]| {
            let mut args = vec![OsStr::new("--time"), OsStr::new(&time), source.as_os_str()];
            args.extend(options.iter().map(OsStr::new));
            bakfs.backup(args).snapshot().to_owned()
        };
        let old = backup("2026-01-05T10:00:00Z".into(), &["--host", "alpha", "--tag", "weekly"]);
        let one = backup(format!("{}T00:00:01Z", utc_day("yesterday")), &["--host", "beta"]);
        let two = backup(format!("{day}T00:00:02Z"), &["--host", "alpha", "--tag", "daily"]);
        if utc_day("today") == day {
            break (old, one, two);
        }
        // Midnight has passed in between.
        day = utc_day("today");
    };
    let mount = bakfs.mount();
    let leads = |link: &str| mount.path().join(link).canonicalize().unwrap();
    let snapshot = |name: &str| mount.path().join(name).canonicalize().unwrap();
    assert!(std::fs::symlink_metadata(mount.path().join("latest")).unwrap().is_symlink());
    assert_eq!(leads("latest"), snapshot(&third));
    if utc_day("today") == day {
        assert_eq!(leads("today"), snapshot(&third));
        assert_eq!(leads("yesterday"), snapshot(&second));
    }
    let hosts = mount.path().join("hosts");
    assert_eq!(list(&hosts), ["alpha", "beta"]);
    assert!(list(&hosts.join("alpha")).contains(&first) && list(&hosts.join("alpha")).contains(&third));
    assert!(!list(&hosts.join("beta")).contains(&first));
    let tags = mount.path().join("tags");
    assert_eq!(list(&tags), ["daily", "weekly"]);
    for dir in [hosts.join("beta").join(&second), tags.join("weekly").join(&first)] {
        let file = dir.join(source.strip_prefix("/").unwrap()).join("same");
        assert_eq!(std::fs::read(file).unwrap(), b"the same on all days");
    }
}

#[test]
fn hostile_tags_and_hosts_do_no_harm() {
    let (bakfs, source) = small_world();
    bakfs.backup([&source]);
    for (option, text) in [("--tag", "a/b"), ("--tag", ".."), ("--tag", ""), ("--host", "../up"), ("--host", "x\ny")] {
        // Refused, or taken and shown under a name that works.
        let args = [OsStr::new(option), OsStr::new(text), source.as_os_str()];
        let outcome = bakfs.backup_outcome(args);
        assert!(matches!(outcome.code, 0..=2), "{outcome}");
    }
    let mount = bakfs.mount();
    for kind in ["hosts", "tags"] {
        let dir = mount.path().join(kind);
        for name in if dir.exists() { list(&dir) } else { Vec::new() } {
            for snapshot in list(&dir.join(&name)) {
                let inside = dir.join(&name).join(&snapshot).join(source.strip_prefix("/").unwrap());
                assert!(inside.join("same").exists(), "{kind}/{name:?}/{snapshot}");
            }
        }
    }
}

#[test]
fn a_busy_mount_says_so_and_lives_on() {
    let (bakfs, source) = small_world();
    bakfs.backup([&source]);
    let mount = bakfs.mount();
    let path = mount.at("latest", &source).join("same");
    let open = std::fs::File::open(&path).unwrap();
    let refused = bakfs.run([OsStr::new("umount"), mount.path().as_os_str()]).refused();
    assert!(["busy", "in use"].iter().any(|words| refused.stderr.contains(words)), "{refused}");
    let refused = refused.says(mount.path().to_str().unwrap());
    assert_eq!(refused.code, 1);
    assert_eq!(std::fs::read(&path).unwrap(), b"the same on all days");
    assert_eq!(std::io::read_to_string(&open).unwrap(), "the same on all days");
    drop(open);
    mount.unmount();
}

#[test]
fn a_killed_daemon_is_no_empty_folder_and_a_remount_works() {
    let (bakfs, source) = small_world();
    bakfs.backup([&source]);
    let mount = bakfs.mount();
    let path = mount.at("latest", &source).join("same");
    assert!(path.exists());
    mount.kill_daemon();
    let listing = tool("ls", [mount.path()]);
    assert_ne!(listing.code, 0, "a dead mount must not look empty: {listing}");
    bakfs.ok([OsStr::new("mount"), mount.path().as_os_str()]);
    assert_eq!(std::fs::read(&path).unwrap(), b"the same on all days");
    let same_place = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let times = same_place.matches(&format!(" {} ", mount.path().display())).count();
    assert_eq!(times, 1, "the dead mount is gone, not covered");
    mount.unmount();
}

#[test]
fn a_second_mount_at_the_same_place_is_refused() {
    let (bakfs, source) = small_world();
    bakfs.backup([&source]);
    let mount = bakfs.mount();
    let again = bakfs.run([OsStr::new("mount"), mount.path().as_os_str()]).refused();
    again.says(mount.path().to_str().unwrap());
    assert!(mount.at("latest", &source).join("same").exists());
}

#[test]
fn mount_lets_go_of_its_callers_pipe_and_terminal() {
    let (bakfs, source) = small_world();
    bakfs.backup([&source]);
    let mut shell = bakfs.wrap("sh");
    shell.args(["-c", "\"$0\" mount \"$1\" 2>&1 | cat", env!("CARGO_BIN_EXE_bakfs")]);
    shell.arg(bakfs.path("mnt"));
    let mount = bakfs.adopt(bakfs.path("mnt"));
    process::start(shell, false).finish_within(SOON).expect(0);
    assert!(mount.at("latest", &source).join("same").exists());
    let pids = mount.daemons();
    assert!(!pids.is_empty());
    for pid in pids {
        let dir = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
        assert_eq!(dir, Path::new("/"), "the daemon must not hold its caller's folder");
    }
}

#[test]
fn a_mount_in_the_foreground_ends_with_sigterm() {
    let (bakfs, source) = small_world();
    bakfs.backup([&source]);
    let dir = bakfs.path("mnt");
    let mut running = bakfs.start([OsStr::new("mount"), OsStr::new("--foreground"), dir.as_os_str()]);
    let mount = bakfs.adopt(dir.clone());
    let path = mount.at("latest", &source).join("same");
    until("the mount answers", SOON, || running.ended() || (is_mounted(&dir) && path.exists()));
    assert!(!running.ended(), "{}", running.finish());
    tool("kill", ["-TERM".to_owned(), running.pid().to_string()]).expect(0);
    running.finish_within(SOON).expect(0);
    assert!(!is_mounted(&dir));
}

#[test]
fn an_ordinary_user_backs_up_and_mounts() {
    let bakfs = Bakfs::as_nobody();
    let source = bakfs.make_dir("source");
    acting_as(users::NOBODY, || plant(&source, 3));
    let summary = bakfs.backup([&source]);
    assert_eq!(summary.number("errors"), 0);
    let mount = bakfs.mount();
    let shown = mount.at("latest", &source);
    acting_as(users::NOBODY, || {
        compare::trees(&source, &shown, Rules::MOUNT).assert_same("as an ordinary user");
    });
    assert!(std::fs::read_dir(mount.path()).is_err(), "root is another user: the mount is private");
    let owner = std::fs::metadata(bakfs.repo()).unwrap().uid();
    assert_eq!(owner, NOBODY);
    mount.unmount();
    // Killed and mounted again, all without root.
    let mount = bakfs.mount();
    mount.kill_daemon();
    bakfs.ok([OsStr::new("mount"), mount.path().as_os_str()]);
    acting_as(users::NOBODY, || assert!(shown.join("large-1").exists()));
    mount.unmount();
}

#[test]
fn mount_dot_fuse_dot_bakfs_is_a_mount_helper() {
    let (bakfs, source) = small_world();
    bakfs.backup([&source]);
    let helper = bakfs.path("mount.fuse.bakfs");
    symlink(env!("CARGO_BIN_EXE_bakfs"), &helper).unwrap();
    for options in ["rw", "ro,noauto,nosuid,nodev,_netdev", "rw,allow_other"] {
        let mut command = bakfs.wrap(&helper);
        command.env_remove("BAKFS_REPO");
        command.arg(bakfs.repo()).arg(bakfs.path("mnt")).args(["-o", options]);
        process::run(command).expect(0);
        let mount = bakfs.adopt(bakfs.path("mnt"));
        assert!(mount.at("latest", &source).join("same").exists(), "-o {options}");
        let (shown, _) = bakfs_testing::cli::mount_options(mount.path()).unwrap();
        assert!(shown.split(',').any(|option| option == "ro"), "-o {options} gives {shown}");
        mount.unmount();
    }
    // mount(8) passes further flags: -s sloppy, -n no mtab, -v verbose, -f fake.
    let mut command = bakfs.wrap(&helper);
    command.arg(bakfs.repo()).arg(bakfs.path("mnt")).args(["-n", "-v", "-s", "-o", "rw,strange=1"]);
    process::run(command).expect(0);
    bakfs.adopt(bakfs.path("mnt")).unmount();
}

/// A link in /usr/sbin, where mount(8) looks for helpers; removed when dropped.
struct Helper(PathBuf);

impl Helper {
    fn install() -> Helper {
        let link = PathBuf::from("/usr/sbin/mount.fuse.bakfs");
        let here = env!("CARGO_BIN_EXE_bakfs");
        // A link that an interrupted test has left behind is this one's.
        if std::fs::read_link(&link).is_ok_and(|target| target == Path::new(here)) {
            std::fs::remove_file(&link).unwrap();
        }
        symlink(here, &link).unwrap_or_else(|e| panic!("{}: {e}", link.display()));
        Helper(link)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn mount_and_fstab_know_the_type() {
    bakfs_testing::need_root();
    let (bakfs, source) = small_world();
    bakfs.backup([&source]);
    let _helper = Helper::install();
    let dir = bakfs.path("mnt");
    let mut command = bakfs.wrap("mount");
    command.args(["-t", "fuse.bakfs"]).arg(bakfs.repo()).arg(&dir);
    process::run(command).expect(0);
    let mount = bakfs.adopt(dir.clone());
    assert!(mount.at("latest", &source).join("same").exists());
    tool("umount", [&dir]).expect(0);
    until("umount(8) unmounts it", SOON, || !is_mounted(&dir));

    let table = bakfs.path("fstab");
    let line = format!("{} {} fuse.bakfs noauto,ro 0 0\n", bakfs.repo().display(), dir.display());
    std::fs::write(&table, line).unwrap();
    let mut command = bakfs.wrap("mount");
    command.arg("--fstab").arg(&table).arg(&dir);
    process::run(command).expect(0);
    assert!(mount.at("latest", &source).join("same").exists());
    mount.unmount();
}

#[test]
fn df_tells_the_truth() {
    let (bakfs, source) = small_world();
    std::fs::write(source.join("large"), noise(1, 8 << 20)).unwrap();
    bakfs.backup([&source]);
    let mount = bakfs.mount();
    let shown = rustix::fs::statvfs(mount.path()).unwrap();
    assert!(
        shown.f_blocks > 0 && shown.f_files > 0 && shown.f_namemax == 255,
        "{} blocks, {} files",
        shown.f_blocks,
        shown.f_files
    );
    // It tells of the disk the history is on: how full that is, to whoever watches it.
    let under = rustix::fs::statvfs(bakfs.repo()).unwrap();
    let bytes = |told: &rustix::fs::StatVfs| told.f_blocks * told.f_frsize;
    assert!(bytes(&shown).abs_diff(bytes(&under)) < 4096);
    assert_eq!(shown.f_files, under.f_files);
    assert!(shown.f_bavail > 0 && shown.f_ffree > 0, "a monitor would take it for full");
    tool("df", ["-h".as_ref(), mount.path().as_os_str()]).expect(0);
}
