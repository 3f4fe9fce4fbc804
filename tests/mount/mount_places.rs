//! Promise: a history can be mounted wherever one may need it: over an automount, over an empty volume, on a read-only
//! root, without a log; by mount(8) in each of its ways, whose options do what they say.

use bakfs_testing::cli::{Bakfs, is_mounted, mount_options};
use bakfs_testing::process::{self, Outcome, tool};
use bakfs_testing::{SOON, until};
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

/// A world with a snapshot of a text and a program.
fn world() -> (Bakfs, PathBuf) {
    bakfs_testing::need_root();
    let (bakfs, source) = Bakfs::with_source();
    std::fs::write(source.join("f"), "content").unwrap();
    std::fs::copy("/bin/true", source.join("true")).unwrap();
    bakfs.backup([&source]);
    (bakfs, source)
}

/// Mounts a file system; whoever drops it unmounts.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(dir: &Path, options: &str) -> Mount {
        let args = ["-t", "tmpfs", "-o", options, "tmpfs"].map(OsStr::new);
        tool("mount", args.into_iter().chain([dir.as_os_str()])).expect(0);
        Mount(dir.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        while is_mounted(&self.0) {
            tool("umount", [OsStr::new("-l"), self.0.as_os_str()]).expect(0);
        }
    }
}

/// What systemd does for `x-systemd.automount`: an autofs that waits for somebody to look, and lets only its own process
/// group through while it mounts (Documentation/filesystems/autofs.rst). 0x9360 and 0x9361 are AUTOFS_IOC_READY and
/// AUTOFS_IOC_FAIL.
const AUTOMOUNTER: &str = r#"
import ctypes, fcntl, os, struct, subprocess, sys
libc, where = ctypes.CDLL(None), sys.argv[1]
read, write = os.pipe()
data = f"fd={write},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
assert libc.mount(b"systemd-1", where.encode(), b"autofs", 0, data.encode()) == 0
root = os.open(where, os.O_RDONLY)
token = struct.unpack("=iiI", os.read(read, 512)[:12])[2]
mounted = subprocess.run(sys.argv[2:], stdin=subprocess.DEVNULL)
fcntl.ioctl(root, 0x9361 if mounted.returncode else 0x9360, token)
print("group", os.getpgrp())
sys.exit(mounted.returncode)
"#;

#[test]
fn an_automount_mounts_when_somebody_looks() {
    let (bakfs, source) = world();
    let helper = bakfs.path("mount.fuse.bakfs");
    symlink(bakfs_testing::cli::program(), &helper).unwrap();
    let dir = bakfs.path("mnt");
    let mut command = bakfs.wrap("setsid");
    command.args(["--wait", "python3", "-c", AUTOMOUNTER]).arg(&dir).arg(&helper).arg(bakfs.repo()).arg(&dir);
    command.args(["-o", "rw,noauto,x-systemd.automount,x-systemd.idle-timeout=60", "-t", "fuse.bakfs"]);
    let automounter = process::start(command, false);
    let _automount = Mount(dir.clone());
    until("there is an automount", SOON, || mount_options(&dir).is_some_and(|(_, kind)| kind == "autofs"));
    let mount = bakfs.adopt(dir.clone());
    // In a process that a test may give up: who looks in vain waits.
    let shown = mount.at("latest", &source).join("f");
    let mut look = std::process::Command::new("cat");
    look.arg(&shown);
    assert_eq!(process::start(look, false).finish_within(SOON).expect(0).text(), "content");
    let group = automounter.finish_within(SOON).expect(0).text().trim().replace("group ", "");
    for pid in mount.daemons() {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        assert!(fields[2] != group && fields[3] == pid.to_string(), "it has a session of its own: {stat}");
    }
    // Its own mount goes, the automount stays.
    bakfs.ok([OsStr::new("umount"), dir.as_os_str()]);
    let kinds = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let kinds = kinds.lines().filter(|line| line.contains(&format!(" {} ", dir.display())));
    assert_eq!(kinds.filter(|line| line.contains(" - autofs ")).count(), 1);
}

#[test]
fn an_empty_volume_is_mounted_over_and_stays() {
    let (bakfs, source) = world();
    let dir = bakfs.path("mnt");
    let _volume = Mount::tmpfs(&dir, "size=1m");
    bakfs.ok([OsStr::new("mount"), dir.as_os_str()]);
    let mount = bakfs.adopt(dir.clone());
    let shown = mount.at("latest", &source).join("f");
    assert_eq!(std::fs::read_to_string(&shown).unwrap(), "content");
    bakfs.run([OsStr::new("mount"), dir.as_os_str()]).expect(2).says("mounted");
    bakfs.ok([OsStr::new("umount"), dir.as_os_str()]);
    assert_eq!(mount_options(&dir).unwrap().1, "tmpfs", "bakfs's own is taken away");
    bakfs.run([OsStr::new("umount"), dir.as_os_str()]).expect(2).says("tmpfs");
    // What holds something is not hidden.
    std::fs::write(dir.join("data"), "").unwrap();
    bakfs.run([OsStr::new("mount"), dir.as_os_str()]).expect(2).says("not empty");
}

#[test]
fn without_a_log_there_is_a_mount() {
    let (bakfs, _) = world();
    // A root file system that is read-only.
    let script = "set -e; mount --make-rprivate /; mount --bind \"$T\" \"$T\"; mount -o remount,bind,ro \"$T\"; \
                  \"$B\" mount \"$T/mnt\"; ls \"$T/mnt\"; \"$B\" umount \"$T/mnt\"";
    let mut command = bakfs.wrap("unshare");
    command.args(["--mount", "sh", "-c", script]).env("T", bakfs.path("")).env("B", bakfs_testing::cli::program());
    command.env("BAKFS_CACHE_DIR", bakfs.path("none"));
    let outcome = process::run(command).expect(0).says("without a log");
    assert!(outcome.text().contains("latest"), "{outcome}");
    // A file system without inodes: the folder of the cache is all there is.
    let cache = bakfs.make_dir("small");
    let _small = Mount::tmpfs(&cache, "nr_inodes=1");
    let dir = bakfs.path("mnt");
    let small = ["--cache-dir", cache.to_str().unwrap(), "mount", dir.to_str().unwrap()];
    bakfs.run(small).expect(0).says("without a log").says("No space left");
    bakfs.adopt(dir.clone()).unmount();
    // A log that was asked for is another matter.
    bakfs.run(["mount", "--log", "/proc/none/log", dir.to_str().unwrap()]).refused().says("/proc/none");
}

fn helped(bakfs: &Bakfs, helper: &Path, source: &str, options: &str) -> Outcome {
    let mut command = bakfs.wrap(helper);
    command.env_remove("BAKFS_REPO").arg(source).arg(bakfs.path("mnt")).args(["-o", options]);
    process::run(command)
}

#[test]
fn options_of_mount_do_what_they_say_and_others_are_named() {
    let (bakfs, source) = world();
    let helper = bakfs.path("mount.fuse.bakfs");
    symlink(bakfs_testing::cli::program(), &helper).unwrap();
    let repo = bakfs.repo().into_os_string().into_string().unwrap();
    for (options, flag, code) in [
        ("ro,noexec", "noexec", 126),
        ("rw,user,noauto", "noexec", 126),
        ("ro,nosymfollow", "nosymfollow", 0),
        ("rw,user,exec,strictatime,lazytime,silent,norelatime,refresh=5,fsname=backups", "", 0),
    ] {
        helped(&bakfs, &helper, &repo, options).expect(0);
        let mount = bakfs.adopt(bakfs.path("mnt"));
        let (shown, _) = mount_options(mount.path()).unwrap();
        assert_eq!(shown.split(',').any(|option| option == flag), !flag.is_empty(), "{options}: {shown}");
        assert_eq!(shown.contains("noexec"), code == 126, "{options}: {shown}");
        let dated = std::fs::read_link(mount.path().join("latest")).unwrap();
        let program = mount.at(dated.to_str().unwrap(), &source).join("true");
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "\"$0\""]).arg(program);
        process::run(command).expect(code);
        let followed = std::fs::read_dir(mount.path().join("latest")).map_err(|error| error.raw_os_error());
        assert_eq!(followed.err(), (flag == "nosymfollow").then_some(Some(libc::ELOOP)));
        let table = std::fs::read_to_string("/proc/mounts").unwrap();
        assert_eq!(table.contains(&format!("backups {} ", mount.path().display())), options.contains("fsname"));
        mount.unmount();
    }
    for (options, told) in
        [("ro,remount", "bakfs umount"), ("ro,colour=red", "colour"), ("auto_unmount", "auto_unmount")]
    {
        helped(&bakfs, &helper, &repo, options).expect(2).says(told);
        assert!(!is_mounted(&bakfs.path("mnt")));
    }
    // -f finds out, and mounts nothing.
    let mut command = bakfs.wrap(&helper);
    command.arg(bakfs.repo()).arg(bakfs.path("mnt")).args(["-f", "-o", "ro"]);
    process::run(command).expect(0);
    assert!(!is_mounted(&bakfs.path("mnt")));
}

#[test]
fn an_ordinary_users_options_reach_the_kernel_too() {
    let bakfs = Bakfs::as_nobody();
    let source = bakfs.make_dir("source");
    bakfs.backup([&source]);
    let mount = bakfs.mount_with(&["--noexec"], bakfs.path("mnt"));
    assert!(mount_options(mount.path()).unwrap().0.contains("noexec"));
    mount.unmount();
}

#[test]
fn the_helper_may_be_a_link_a_copy_another_name_or_that_of_fuse3() {
    let (bakfs, source) = world();
    let program = bakfs_testing::cli::program();
    let [link, copy, name] = ["a", "b", "c"].map(|dir| bakfs.make_dir(dir).join("mount.bakfs"));
    symlink(&program, &link).unwrap();
    std::fs::copy(&program, &copy).unwrap();
    std::fs::hard_link(&copy, &name).unwrap();
    let repo = bakfs.repo().into_os_string().into_string().unwrap();
    let look = |how: &str| {
        let mount = bakfs.adopt(bakfs.path("mnt"));
        assert_eq!(std::fs::read_to_string(mount.at("latest", &source).join("f")).unwrap(), "content", "{how}");
        mount.unmount();
    };
    for helper in [&link, &copy, &name] {
        helped(&bakfs, helper, &repo, "ro").expect(0);
        look(&helper.display().to_string());
    }

    // fuse3's own finds `bakfs` in the PATH.
    let programs = bakfs.make_dir("programs");
    symlink(&program, programs.join("bakfs")).unwrap();
    let text = format!("repo = '{repo}'\n[repository.offsite]\nrepo = '{repo}'\n");
    std::fs::write(bakfs.path("config/bakfs.toml"), text).unwrap();
    let by_fuse3 = |place: &str| {
        let mut command = bakfs.wrap("mount.fuse3");
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env_remove("BAKFS_REPO");
        command.arg(format!("bakfs#{place}")).arg(bakfs.path("mnt")).args(["-o", "rw,noexec"]);
        process::run(command)
    };
    for place in [&repo, "none", "offsite", ""] {
        by_fuse3(place).expect(0);
        assert!(mount_options(&bakfs.path("mnt")).unwrap().0.contains("noexec"), "{place:?}");
        look(place);
    }
    let outcome = by_fuse3("s3://bucket/web1");
    assert!(outcome.code != 0 && !outcome.stderr.contains("unrecognized"), "{outcome}");
    outcome.says("s3://bucket/web1");
}

#[test]
fn a_service_manager_hears_when_the_mount_answers_and_when_it_ends() {
    let (bakfs, source) = world();
    let path = bakfs.path("notify");
    let name = format!("bakfs-test-{}", std::process::id());
    let sockets = [
        (UnixDatagram::bind(&path).unwrap(), path.display().to_string()),
        (UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(), format!("@{name}")),
    ];
    for (socket, address) in sockets {
        socket.set_read_timeout(Some(SOON)).unwrap();
        let hear = || {
            let mut buffer = [0; 512];
            let len = socket.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..len]).into_owned()
        };
        let dir = bakfs.path("mnt");
        let mut command = bakfs.command([OsStr::new("mount"), OsStr::new("--foreground"), dir.as_os_str()]);
        command.env("NOTIFY_SOCKET", &address);
        let running = process::start(command, false);
        let mount = bakfs.adopt(dir.clone());
        assert!(hear().lines().any(|line| line == "READY=1"));
        assert_eq!(std::fs::read_to_string(mount.at("latest", &source).join("f")).unwrap(), "content");
        tool("kill", ["-TERM".to_owned(), running.pid().to_string()]).expect(0);
        assert_eq!(hear(), "STOPPING=1");
        running.finish_within(SOON).expect(0);
    }
}

#[test]
fn who_walks_every_night_through_all_snapshots_is_told_of() {
    let (bakfs, source) = world();
    let text = format!("[profile.main]\nsources = ['{}']\nschedule = ['daily']\n", source.display());
    std::fs::write(bakfs.path("config/bakfs.toml"), text).unwrap();
    let root = bakfs.make_dir("root");
    bakfs_testing::write(&root.join("etc/updatedb.conf"), "PRUNEFS=\"NFS fuse.sshfs\"\n");
    let check = || {
        let mut command = bakfs.command(["config", "check"]);
        command.env("BAKFS_SYSTEM_ROOT", &root);
        process::run(command).text()
    };
    assert!(check().contains("add `fuse.bakfs` to PRUNEFS"), "{}", check());
    bakfs_testing::write(&root.join("etc/updatedb.conf"), "PRUNEFS=\"NFS fuse.bakfs\"\n");
    assert!(!check().contains("updatedb"));
}
