//! Promise: what README says of installing is so, in bare roots: the package in Debian 12 and 13, the static binary where
//! there is nothing else, the image.
#![allow(clippy::unwrap_used)]

mod root;

use bakfs_testing::process::{Outcome, run, tool};
use bakfs_testing::{need_root, noise};
use root::Root;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const README: &str = include_str!("../../README.md");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs packaging/build with the program that is tested.
fn build(out: &Path, words: &[&str]) -> Outcome {
    need_root();
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/build"));
    command.args(["--profile", "dev", "--out"]).arg(out).arg("--binary").arg(bakfs_testing::cli::program()).args(words);
    run(command).expect(0)
}

fn package(out: &Path) -> PathBuf {
    build(out, &["deb"]);
    out.join(format!("bakfs_{VERSION}_amd64.deb"))
}

/// Makes the same package of another version, with a file that is gone later.
fn earlier(package: &Path, out: &Path) -> PathBuf {
    let (files, name) = (out.join("earlier"), "bakfs_0.1.0_amd64.deb");
    tool("dpkg-deb", [Path::new("--raw-extract"), package, &files]).expect(0);
    let control = std::fs::read_to_string(files.join("DEBIAN/control")).unwrap();
    std::fs::write(files.join("DEBIAN/control"), control.replace(&format!("Version: {VERSION}\n"), "Version: 0.1.0\n"))
        .unwrap();
    std::fs::write(files.join("usr/share/doc/bakfs/gone-later"), "").unwrap();
    let to = out.join(name);
    tool("dpkg-deb", [Path::new("-Znone"), Path::new("--root-owner-group"), Path::new("--build"), &files, &to])
        .expect(0);
    to
}

/// What README has a person type: the line stands there.
#[track_caller]
fn says(line: &str) -> &str {
    assert!(README.contains(line), "README does not say {line:?}");
    line
}

/// What a newcomer does first, by README's lines.
fn first_half_hour(root: &Root) {
    root.types("mkdir -p /srv /mnt/history && echo 'port = 80' > /srv/site.conf");
    let shown = root.types(says("bakfs demo"));
    assert!(shown.contains("which is gone again"), "{shown}");
    root.types(says("bakfs config init"));
    root.types(says("bakfs init"));
    root.types(says("bakfs backup /etc /srv"));
    let listed = root.types(says("bakfs mount /mnt/history && ls /mnt/history"));
    assert!(listed.contains("latest"), "{listed}");
    root.types("rm /srv/site.conf && cp -a /mnt/history/latest/srv/site.conf /srv/ && grep -q 80 /srv/site.conf");
    root.types("bakfs umount /mnt/history");
}

fn installs_in(suite: &str) {
    let dir = tempfile::tempdir().unwrap();
    let package = package(dir.path());
    let earlier = earlier(&package, dir.path());
    let root = Root::debian(suite);
    let before = root.files();
    for file in [&earlier, &package] {
        std::fs::copy(file, root.path(&format!("root/{}", file.file_name().unwrap().display()))).unwrap();
    }
    root.types("cd /root && apt-get install -y ./bakfs_0.1.0_amd64.deb");
    root.types("bakfs init && bakfs backup --tag of-before /etc");
    root.types(&format!("cd /root && {}", says(&format!("apt-get install ./bakfs_{VERSION}_amd64.deb"))));
    assert!(root.types("dpkg-query -W -f '${Version}' bakfs") == VERSION);
    assert!(!root.path("usr/share/doc/bakfs/gone-later").exists());
    assert!(root.types("bakfs snapshots").contains("#of-before"), "what the version before has stored");
    root.types("rm -r /var/lib/bakfs /etc/bakfs /var/cache/bakfs");
    first_half_hour(&root);
    // Units are what `schedule install` writes, and systemd understands them.
    let units = root.path("usr/lib/systemd/system");
    let daily = std::fs::read_to_string(units.join("bakfs-daily.service")).unwrap();
    assert!(daily.contains("\nExecStart=/usr/bin/bakfs run --periodicity daily\n"), "{daily}");
    let verified = tool(
        "systemd-analyze",
        [
            "verify",
            "--man=no",
            &format!("--root={}", root.path("").display()),
            "bakfs-daily.timer",
            "bakfs-shutdown.service",
        ],
    );
    // The bare root has no systemd of its own, whose targets they name.
    let is_of_root = |line: &str| line.is_empty() || line.ends_with("Unit sysinit.target not found.");
    assert!(verified.stderr.lines().all(is_of_root), "{verified}");
    for file in [
        "usr/sbin/mount.fuse.bakfs",
        "usr/share/man/man1/bakfs-restore.1.gz",
        "usr/share/man/man5/bakfs.toml.5.gz",
        "usr/share/man/man7/bakfs-patterns.7.gz",
        "usr/share/man/man8/mount.fuse.bakfs.8.gz",
        "usr/share/bash-completion/completions/bakfs",
        "usr/share/zsh/vendor-completions/_bakfs",
        "usr/share/fish/vendor_completions.d/bakfs.fish",
        "usr/share/doc/bakfs/copyright",
        "usr/share/doc/bakfs/changelog.gz",
        "usr/share/doc/bakfs/operations.md.gz",
        "usr/share/doc/bakfs/examples/bakfs.toml",
    ] {
        let path = root.path(file);
        assert!(path.exists() && path.metadata().unwrap().uid() == 0, "{file}");
    }
    root.types("bakfs --config /usr/share/doc/bakfs/examples/bakfs.toml config show main");
    root.types("apt-get purge -y bakfs && rm -r /root/*.deb /srv/site.conf /mnt/history /etc/bakfs /var/lib/bakfs /var/cache/bakfs");
    // What apt and dpkg keep for themselves.
    let own = ["/var/lib/dpkg/", "/var/lib/apt/", "/var/log/", "/var/cache/apt/", "/var/cache/debconf/"];
    let is_left = |path: &&String| !before.contains(*path) && !own.iter().any(|folder| path.starts_with(folder));
    let after = root.files();
    let left: Vec<&String> = after.iter().filter(is_left).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_package_installs_upgrades_and_goes_in_debian_12() {
    installs_in("bookworm");
}

#[test]
fn the_package_installs_upgrades_and_goes_in_debian_13() {
    installs_in("trixie");
}

#[test]
fn lintian_finds_no_error_in_the_package() {
    let dir = tempfile::tempdir().unwrap();
    let package = package(dir.path());
    let mut command = Command::new("lintian");
    command.args(["--fail-on", "error", "--allow-root", "--tag-display-limit", "0"]).arg(&package);
    let found = run(command);
    assert_eq!(found.code, 0, "{found}");
}

#[test]
fn the_static_binary_needs_nothing_but_the_device() {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path(), &["static"]);
    let name = format!("bakfs-{VERSION}-x86_64-linux");
    says(&format!("cp {name} /usr/local/bin/bakfs && chmod 755 /usr/local/bin/bakfs"));
    let program = dir.path().join(&name);
    // Not even /proc and /tmp are there.
    let root = Root::empty();
    std::fs::copy(&program, root.path("bakfs")).unwrap();
    std::fs::create_dir(root.path("files")).unwrap();
    std::fs::write(root.path("files/noise"), noise(3, 300_000)).unwrap();
    root.runs(&["/bakfs", "version"]);
    root.runs(&["/bakfs", "--repo", "/repo", "init"]);
    root.runs(&["/bakfs", "--repo", "/repo", "backup", "/files"]);
    std::fs::create_dir(root.path("history")).unwrap();
    root.runs(&["/bakfs", "--repo", "/repo", "mount", "/history"]);
    assert_eq!(std::fs::read(root.path("history/latest/files/noise")).unwrap(), noise(3, 300_000));
    root.runs(&["/bakfs", "umount", "/history"]);
    assert!(!root.path("history/latest").exists());
    root.runs(&["/bakfs", "--repo", "/repo", "restore", "latest", "/then"]);
    assert_eq!(std::fs::read(root.path("then/files/noise")).unwrap(), noise(3, 300_000));
    root.runs(&["/bakfs", "--repo", "/repo", "check", "--read-data"]);
}

#[test]
fn the_static_binary_gives_the_first_half_hour_on_a_disk_with_busybox() {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path(), &["static"]);
    let root = Root::busybox();
    let name = format!("bakfs-{VERSION}-x86_64-linux");
    std::fs::copy(dir.path().join(&name), root.path(&format!("root/{name}"))).unwrap();
    root.types(&format!(
        "mkdir -p /usr/local/bin && cd /root && {}",
        says(&format!("cp {name} /usr/local/bin/bakfs && chmod 755 /usr/local/bin/bakfs"))
    ));
    first_half_hour(&root);
}

#[test]
fn the_image_has_the_programs_of_databases_and_runs() {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path(), &["image"]);
    let archive = dir.path().join(format!("bakfs-{VERSION}-oci.tar"));
    says(&format!("podman load < bakfs-{VERSION}-oci.tar"));
    // Judges: what reads images reads this one, and what unpacks them finds a root that runs.
    let named = format!("oci-archive:{}:localhost/bakfs:{VERSION}", archive.display());
    let told: serde_json::Value =
        serde_json::from_str(&tool("skopeo", ["inspect", "--config", &named]).expect(0).text()).unwrap();
    assert_eq!(told["config"]["Entrypoint"], serde_json::json!(["/usr/bin/bakfs"]), "{told}");
    let layout = dir.path().join("layout");
    std::fs::create_dir(&layout).unwrap();
    tool("tar", ["-xf", archive.to_str().unwrap(), "-C", layout.to_str().unwrap()]).expect(0);
    let bundle = dir.path().join("bundle");
    let image = format!("{}:localhost/bakfs:{VERSION}", layout.display());
    tool("umoci", ["unpack", "--image", &image, bundle.to_str().unwrap()]).expect(0);
    let root = Root::at(bundle.join("rootfs"));
    for program in [
        "bakfs --version",
        "pg_dump --version",
        "mariadb-dump --version",
        "ssh -V",
        "test -s /etc/ssl/certs/ca-certificates.crt",
    ] {
        root.types(program);
    }
    root.types("bakfs init && bakfs backup /etc && bakfs check --read-data");
}

#[test]
fn the_example_for_containers_is_one_that_bakfs_understands() {
    let servers = std::env::var_os("BAKFS_TEST_SERVERS").expect("tests/run sets it");
    let python = Path::new(&servers).join("python/bin/python");
    let read = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/compose.yaml");
    let text = tool(python.to_str().unwrap(), ["-c", read, file]).expect(0).text();
    let composed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(composed["services"]["nightly"]["image"], format!("localhost/bakfs:{VERSION}"));
    let bakfs = bakfs_testing::cli::Bakfs::empty();
    let config = bakfs.path("config/bakfs.toml");
    std::fs::write(&config, composed["configs"]["bakfs"]["content"].as_str().unwrap()).unwrap();
    let shown = bakfs.ok(["config", "show", "shop"]).text();
    assert!(shown.contains("postgresql shop: all databases"), "{shown}");
}
