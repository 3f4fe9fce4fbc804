//! Promise: a mount that ends leaves nothing behind, however it ends: no process, no file, and no disk that cannot be
//! unmounted; and what it has to say when it begins is said to who has typed it.

use bakfs_testing::cli::{Bakfs, is_mounted};
use bakfs_testing::device::Device;
use bakfs_testing::process::{Outcome, Running, start, tool};
use bakfs_testing::servers::{self, Service};
use bakfs_testing::{SOON, files_below, noise, until, write};
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Returns the processes that work for this world: their command lines name a path in it.
fn processes(bakfs: &Bakfs) -> Vec<String> {
    let world = bakfs.path("").display().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let line = String::from_utf8_lossy(&std::fs::read(entry.path().join("cmdline")).ok()?).replace('\0', " ");
        line.contains(world.trim_end_matches('/')).then(|| format!("{pid} {line}"))
    });
    lines.collect()
}

fn signal(name: &str, pid: u32) {
    tool("kill", [format!("-{name}"), pid.to_string()]).expect(0);
}

/// Returns everything in the folders in which programs leave things.
fn things(bakfs: &Bakfs) -> Vec<PathBuf> {
    let all = ["state", "run", "tmp", "home"].map(|name| bakfs.path(name));
    let listed = tool("find", all.iter().map(PathBuf::as_path).chain([Path::new("-mindepth"), Path::new("1")]));
    listed.text().lines().map(PathBuf::from).filter(|path| !path.starts_with(bakfs.path("state/known"))).collect()
}

/// A world whose repository is at an SFTP server, with a snapshot.
fn far_world(server: &servers::Server) -> (Bakfs, PathBuf) {
    let bakfs = Bakfs::at(&server.place());
    bakfs.make_dir("tmp");
    bakfs.ok(["init"]);
    let source = bakfs.make_dir("source");
    write(&source.join("file"), noise(1, 300_000));
    bakfs.backup([&source]);
    (bakfs, source)
}

fn command(bakfs: &Bakfs, args: &[&OsStr]) -> Running {
    let mut command = bakfs.command(args);
    command.env("TMPDIR", bakfs.path("tmp"));
    start(command, false)
}

#[test]
fn nothing_is_left_of_a_mount_however_it_ends() {
    let server = servers::Server::start(Service::Sftp);
    let (bakfs, source) = far_world(&server);
    let objects = || files_below(&server.folder().join("files"));
    let (before, kept) = (things(&bakfs), objects());
    assert_eq!(processes(&bakfs), [""; 0], "a backup leaves none");
    for (way, is_background) in
        [("bakfs", true), ("umount", true), ("TERM", true), ("INT", true), ("bakfs", false), ("INT", false)]
    {
        let dir = bakfs.path("mnt");
        let mount = bakfs.adopt(dir.clone());
        let flag = if is_background { &["mount"][..] } else { &["mount", "--foreground"] };
        let args: Vec<&OsStr> = flag.iter().map(OsStr::new).chain([dir.as_os_str()]).collect();
        let started = command(&bakfs, &args);
        let mut started = if is_background {
            started.finish().expect(0);
            None
        } else {
            Some(started)
        };
        until("it is mounted", SOON, || is_mounted(&dir));
        let path = mount.at("latest", &source).join("file");
        until("it can be read", SOON, || std::fs::read(&path).is_ok_and(|bytes| bytes == noise(1, 300_000)));
        assert!(!processes(&bakfs).is_empty() && things(&bakfs) != before, "it has a connection");
        match way {
            "bakfs" => drop(bakfs.ok([OsStr::new("umount"), dir.as_os_str()])),
            "umount" => drop(tool("umount", [&dir]).expect(0)),
            _ => mount.daemons().into_iter().for_each(|pid| signal(way, pid)),
        }
        // Who used `bakfs umount` need not wait.
        if way != "bakfs" {
            until("the server has gone", SOON, || mount.daemons().is_empty());
        }
        if let Some(started) = started.take() {
            started.finish_within(SOON).expect(0);
        }
        assert!(!is_mounted(&dir));
        assert_eq!(processes(&bakfs), [""; 0], "after {way}, in the background: {is_background}");
        assert_eq!(things(&bakfs), before, "after {way}, in the background: {is_background}");
        assert_eq!(objects(), kept);
    }
}

#[test]
fn what_a_killed_process_has_left_goes_with_the_next() {
    let server = servers::Server::start(Service::Sftp);
    let (bakfs, _) = far_world(&server);
    let before = things(&bakfs);
    // Each process of bakfs has one for its connections.
    let folders = || {
        let is_folder =
            |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".bakfs-ssh-"));
        things(&bakfs).iter().filter(is_folder).count()
    };
    let held = || {
        let connections = || processes(&bakfs).iter().filter(|line| line.contains(" -s ")).count();
        let before = connections();
        let mut command = bakfs.command(["backup", "--stdin", "/stream"]);
        let stderr = std::fs::File::create(bakfs.path("stderr")).unwrap();
        let held = command.stdin(Stdio::piped()).stderr(stderr).spawn().unwrap();
        until("it has a connection", SOON, || connections() > before);
        held
    };
    let mut other = held();
    let dir = bakfs.path("mnt");
    command(&bakfs, &[OsStr::new("mount"), dir.as_os_str()]).finish().expect(0);
    let mount = bakfs.adopt(dir.clone());
    mount.kill_daemon();
    tool("umount", [&dir]);
    assert_eq!(folders(), 2, "ssh lives on");
    bakfs.ok(["snapshots"]);
    // Whoever lives is not disturbed.
    assert_eq!(folders(), 1);
    std::io::Write::write_all(&mut other.stdin.take().unwrap(), &noise(2, 300_000)).unwrap();
    assert!(other.wait().unwrap().success());
    assert_eq!((processes(&bakfs), things(&bakfs)), (Vec::new(), before.clone()));
    // A command that is interrupted leaves nothing to anybody.
    for name in ["INT", "TERM", "HUP"] {
        let mut held = held();
        signal(name, held.id());
        assert!(held.wait().unwrap().signal().is_some(), "{name} ends it");
        assert_eq!(std::fs::read_to_string(bakfs.path("stderr")).unwrap(), "", "{name}");
        assert_eq!((processes(&bakfs), things(&bakfs)), (Vec::new(), before.clone()), "after {name}");
    }
}

#[test]
fn a_disk_can_be_unmounted_under_a_mount_that_nobody_reads_and_right_after_it() {
    bakfs_testing::need_root();
    let bakfs = Bakfs::empty();
    let [image, disk] = ["image", "disk"].map(|name| bakfs.path(name));
    let mut device = Device::format(bakfs_testing::device::FileSystem::Ext4, &image, &disk, 64);
    let repo = disk.join("repo");
    let on_disk = |args: &[&OsStr]| bakfs.run([OsStr::new("--repo"), repo.as_os_str()].iter().chain(args)).expect(0);
    on_disk(&[OsStr::new("init")]);
    let source = bakfs.make_dir("source");
    write(&source.join("file"), noise(1, 3_000_000));
    on_disk(&[OsStr::new("backup"), source.as_os_str()]);
    let dir = bakfs.path("mnt");
    let mount = bakfs.adopt(dir.clone());
    let file = mount.at("latest", &source).join("file");
    let is_right = || std::fs::read(&file).is_ok_and(|bytes| bytes == noise(1, 3_000_000));
    for _ in 0..3 {
        on_disk(&[OsStr::new("mount"), dir.as_os_str()]);
        assert!(is_right());
        on_disk(&[OsStr::new("umount"), dir.as_os_str()]);
        assert_eq!(mount.daemons(), [0; 0]);
        // As a script does, which does not wait.
        tool("umount", [&disk]).expect(0);
        tool("mount", ["-o", "loop"].map(Path::new).into_iter().chain([image.as_path(), disk.as_path()])).expect(0);
    }
    on_disk(&[OsStr::new("mount"), "--refresh=3600".as_ref(), dir.as_os_str()]);
    assert!(is_right());
    // It waits until the disk can be unmounted, and mounts it again.
    device.mount_again();
    until("the mount goes on", SOON, is_right);
    on_disk(&[OsStr::new("umount"), dir.as_os_str()]);
}

/// Starts a mount in the background with variables.
fn mount_with(bakfs: &Bakfs, global: &[&str], variables: &[(&str, &str)], program: &str) -> Outcome {
    let mut command = bakfs.wrap("sh");
    let mut command_line =
        vec!["-c".to_owned(), program.to_owned(), bakfs_testing::cli::program().display().to_string()];
    command_line.extend(global.iter().map(|argument| (*argument).to_owned()));
    command.args(command_line).envs(variables.iter().copied());
    start(command, false).finish()
}

#[test]
fn a_wrong_key_is_blamed_on_what_has_given_it() {
    let (bakfs, other) = (Bakfs::new(), Bakfs::new());
    // Quicker than a passphrase, and treated as one.
    let [(_, key), (other, _)] = [&bakfs, &other].map(|bakfs| {
        let path = files_below(&bakfs.path("config/keys")).remove(0).0;
        (std::fs::read_to_string(&path).unwrap().trim().to_owned(), path)
    });
    std::fs::remove_file(key).unwrap();
    let wrong = bakfs.path("wrong").display().to_string();
    write(Path::new(&wrong), format!("{other}\n"));
    std::fs::set_permissions(&wrong, PermissionsExt::from_mode(0o600)).unwrap();
    let command = format!("echo {other}");
    let repo = format!("repo = \"{}\"", bakfs.repo().display());
    let config = bakfs.path("config/bakfs.toml");
    let mount = "exec \"$0\" \"$@\" mount mnt";
    for (global, variables, configuration, program, words) in [
        (&["--password-file", &wrong][..], &[][..], "", mount, &[&*wrong, "--password-file"][..]),
        (&[], &[("BAKFS_PASSWORD_FILE", &*wrong)], "", mount, &[&wrong, "BAKFS_PASSWORD_FILE"]),
        (&[], &[("BAKFS_PASSWORD", &other)], "", mount, &["BAKFS_PASSWORD gives"]),
        (&["--password-command", &command], &[], "", mount, &["--password-command gives"]),
        (
            &["--password-file", "/dev/stdin"],
            &[],
            "",
            &format!("echo {other} | \"$0\" \"$@\" mount mnt"),
            &["/dev/stdin"],
        ),
        (&[], &[], &format!("{repo}\npassword-file = \"{wrong}\""), mount, &[&wrong, "of the configuration"]),
        (
            &[],
            &[],
            &format!("{repo}\npassword-command = \"{command}\""),
            mount,
            &["`password-command` of the configuration"],
        ),
        // At a terminal of its own (script(1)).
        (
            &[],
            &[],
            "",
            &format!("echo {other} | script -qefc \"'$0' mount mnt\" /dev/null"),
            &["What was typed opens nothing"],
        ),
    ] {
        write(&config, configuration);
        std::fs::set_permissions(&config, PermissionsExt::from_mode(0o600)).unwrap();
        let outcome = mount_with(&bakfs, global, variables, program).expect(1);
        let said = format!("{}{}", outcome.text(), outcome.stderr);
        for word in words {
            assert!(said.contains(word), "{word}: {outcome}");
        }
        assert!((global.contains(&"/dev/stdin") || !said.contains("/dev/stdin")), "{outcome}");
    }
}

#[test]
fn warnings_of_the_start_are_told_to_who_has_typed_the_command() {
    let bakfs = Bakfs::empty();
    let secret = bakfs.path("secret");
    write(&secret, "right\n");
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o644)).unwrap();
    let file = secret.to_str().unwrap();
    bakfs.ok(["--password-file", file, "init"]);
    let source = bakfs.make_dir("source");
    write(&source.join("file"), "content");
    bakfs.ok(["--password-file", file, "backup", "--time", "2035-01-01T00:00:00Z", source.to_str().unwrap()]);
    write(&bakfs.repo().join("snapshots").join("5".repeat(64)), "none");
    write(&bakfs.path("config/bakfs.toml"), "[profile.main]\nsource = [\"/etc\"]\n");
    std::fs::set_permissions(bakfs.path("config/bakfs.toml"), PermissionsExt::from_mode(0o600)).unwrap();
    let dir = bakfs.path("mnt");
    let (at, repo) = (dir.to_str().unwrap(), bakfs.repo().display().to_string());
    let helper = bakfs.path("mount.fuse.bakfs");
    std::os::unix::fs::symlink(bakfs_testing::cli::program(), &helper).unwrap();
    let options = format!("exec {} \"$@\"", helper.display());
    let option = format!("rw,password_file={file}");
    for (arguments, program) in
        [(&["--password-file", file, "mount", at][..], "exec \"$0\" \"$@\""), (&[&repo, at, "-o", &option], &options)]
    {
        let outcome = mount_with(&bakfs, arguments, &[("BAKFS_PASSWORDFILE", "x")], program).expect(0);
        let mount = bakfs.adopt(dir.clone());
        let lines: Vec<_> = outcome.stderr.lines().collect();
        for words in [
            "others may read the secrets",
            "did you mean BAKFS_PASSWORD_FILE",
            "no key `source`",
            &"5".repeat(64),
            "in the future",
        ] {
            let times =
                lines.iter().filter(|line| line.starts_with("bakfs: warning: ") && line.contains(words)).count();
            assert_eq!(times, 1, "{words}: {outcome}");
        }
        assert!(!outcome.stderr.contains("WARN"), "{outcome}");
        // They are written down as well, and what comes later is nobody's any more.
        let log = std::fs::read_to_string(bakfs.path("cache/mount.log")).unwrap();
        assert!(log.contains("others may read the secrets") && log.contains("in the future"), "{log}");
        std::fs::remove_file(bakfs.path("cache/mount.log")).unwrap();
        mount.unmount();
    }
}

#[test]
fn who_looks_for_a_moment_does_not_keep_a_mount_from_ending() {
    let (bakfs, source) = Bakfs::with_source();
    write(&source.join("f"), "1");
    bakfs.backup([&source]);
    let mounted = bakfs.mount();
    // As programs do that list what is mounted, and each backup of another repository.
    let looked_at = std::fs::File::open(mounted.path()).unwrap();
    let looker = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        drop(looked_at);
    });
    mounted.unmount();
    looker.join().unwrap();
}
