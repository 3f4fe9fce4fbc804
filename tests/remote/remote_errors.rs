//! Promise: what goes wrong at a place far away is told in a sentence that says what to do next, in bounded time, and
//! costs no more than that: what was uploaded before is found again.

use bakfs_testing::cli::Bakfs;
use bakfs_testing::process::{Outcome, start};
use bakfs_testing::servers::{Place, Server, Service, swift};
use bakfs_testing::{SOON, files_below, noise, until, write};
use std::path::Path;
use std::time::Duration;

/// No answer takes longer than the tries of one request: at most 8 within 120 s, and those of a listing afterwards.
const BOUND: Duration = Duration::from_secs(300);

fn run_at(place: &Place, args: &[&str]) -> Outcome {
    start(Bakfs::at(place).command(args), false).finish_within(BOUND)
}

/// Is refused with an advice, and never shows a secret.
#[track_caller]
fn refuses(place: &Place, args: &[&str], advice: &str) {
    let outcome = run_at(place, args).refused().says(advice);
    for secret in ["testing-password", "another-password", "dGVzdGluZy1wYXNzd29yZHRlc3Rpbmct"] {
        assert!(!outcome.stderr.contains(secret), "a secret is shown: {outcome}");
    }
}

/// Asks one server with each of its settings wrong.
fn is_refused(service: Service, secret: &str, advice: &str) {
    let server = Server::start(service);
    let place = server.place();
    Bakfs::at(&place).ok(["init"]);
    // A key of another form than the service's would not even be sent.
    let wrong = if service == Service::Azure { "YW5vdGhlci1wYXNzd29yZA==" } else { "another-password" };
    refuses(&place.clone().with(secret, wrong), &["snapshots"], advice);
    refuses(&place.clone().with(secret, wrong), &["init"], advice);
    let elsewhere = Place { url: place.url.replacen("bucket", "no-such-bucket", 1), ..place.clone() };
    refuses(&elsewhere, &["snapshots"], "");
    if !matches!(service, Service::WebDav) {
        refuses(&elsewhere, &["init"], "make it first");
    }
}

#[test]
fn s3_names_wrong_keys_and_missing_buckets() {
    is_refused(Service::RcloneS3, "AWS_SECRET_ACCESS_KEY", "check AWS_ACCESS_KEY_ID");
}

#[test]
fn swift_names_wrong_keys_missing_containers_missing_rights_full_quotas_and_clocks() {
    let server = Server::start(Service::Swift);
    let place = server.place();
    let bakfs = Bakfs::at(&place);
    bakfs.ok(["init"]);
    refuses(&place.clone().with("ST_KEY", "another-password"), &["snapshots"], "ST_");
    let elsewhere = Place { url: place.url.replacen("bucket", "no-such-bucket", 1), ..place.clone() };
    refuses(&elsewhere, &["init"], "make it first");
    // A user of the account whom no container lets in.
    refuses(&place.clone().with("ST_USER", "test:reader"), &["snapshots"], "may list, read, write and delete");

    let source = bakfs.make_dir("source");
    write(&source.join("file"), noise(1, 3_000_000));
    swift::limit_container(server.port(), "bucket", 1_000_000);
    let full = bakfs.run(["backup", source.to_str().unwrap()]).expect(1);
    assert!(full.stderr.contains("make room there"), "{full}");
    swift::limit_container(server.port(), "bucket", 1 << 30);
    bakfs.backup([&source]);

    // The same server by its S3 API, which takes signatures of 15 minutes (Swift, s3api, allowable_clock_skew).
    let s3 = swift::place_of_s3(server.port());
    let over_s3 = Bakfs::at(&s3);
    let mut command = over_s3.wrap("faketime");
    command.args(["-f", "+2h", env!("CARGO_BIN_EXE_bakfs"), "snapshots"]);
    let skewed = start(command, false).finish_within(BOUND).refused();
    assert!(skewed.stderr.contains("clock"), "{skewed}");
}

#[test]
fn b2_names_wrong_keys_and_missing_buckets() {
    is_refused(Service::B2, "B2_APPLICATION_KEY", "check B2_APPLICATION_KEY_ID");
}

#[test]
fn azure_names_wrong_keys_and_missing_containers() {
    is_refused(Service::Azure, "AZURE_STORAGE_KEY", "check AZURE_STORAGE_ACCOUNT");
}

#[test]
fn webdav_names_wrong_passwords_and_unknown_certificates() {
    is_refused(Service::WebDav, "WEBDAV_PASSWORD", "check WEBDAV_USER");
    let server = Server::start(Service::WebDavTls);
    let place = server.place();
    refuses(&place, &["init"], "SSL_CERT_FILE");
    let known = place.with("SSL_CERT_FILE", server.folder().join("cert.pem").to_str().unwrap());
    Bakfs::at(&known).ok(["init"]);
}

#[test]
fn sftp_names_unknown_servers_and_wrong_keys() {
    let server = Server::start(Service::Sftp);
    let place = server.place();
    let bakfs = Bakfs::at(&place);
    bakfs.ok(["init"]);
    let known_hosts = server.folder().join("known_hosts");
    let known = std::fs::read(&known_hosts).unwrap();
    write(&known_hosts, "");
    refuses(&place, &["snapshots"], "compare the fingerprint");
    write(&known_hosts, known);
    write(&server.folder().join("authorized_keys"), "");
    refuses(&place, &["snapshots"], "ssh-agent");
    std::fs::copy(server.folder().join("id.pub"), server.folder().join("authorized_keys")).unwrap();
    bakfs.ok(["snapshots"]);
}

#[test]
fn a_full_disk_behind_sftp_is_not_filled_with_parts_of_packs() {
    let disk = tempfile::tempdir().unwrap();
    bakfs_testing::process::tool("mount", ["-t", "tmpfs", "-o", "size=6m", "none", disk.path().to_str().unwrap()])
        .expect(0);
    let _unmounted = Unmounted(disk.path());
    let server = Server::start_in(Service::Sftp, disk.path());
    let bakfs = Bakfs::at(&server.place());
    bakfs.ok(["init"]);
    let source = bakfs.make_dir("source");
    write(&source.join("file"), noise(1, 9_000_000));
    let running = bakfs.start(["backup", source.to_str().unwrap()]);
    let full = running.finish_within(BOUND).expect(1);
    assert!(full.stderr.contains("disk or quota is full"), "{full}");
    let left = files_below(&server.folder().join("files"));
    assert!(!left.iter().any(|(path, _)| path.to_string_lossy().contains("/.tmp-")), "{left:?}");
}

fn stored_bytes(folder: &Path) -> u64 {
    files_below(folder).iter().map(|(_, len)| len).sum()
}

#[test]
fn a_backup_goes_on_after_its_server_was_killed() {
    let mut server = Server::start(Service::RcloneS3);
    let bakfs = Bakfs::at(&server.place());
    bakfs.ok(["init"]);
    let source = bakfs.make_dir("source");
    const FILES: u64 = 24;
    const FILE_BYTES: u64 = 5_000_000;
    for number in 0..FILES {
        write(&source.join(number.to_string()), noise(number, FILE_BYTES as usize));
    }
    let packs = server.folder().join("files/bucket/some/repo/packs");
    let args = ["--connections", "1", "--limit-upload", "20M", "backup", source.to_str().unwrap()];
    let running = bakfs.start(args);
    until("two packs are stored", SOON, || packs.is_dir() && stored_bytes(&packs) > 10 * FILE_BYTES);
    server.kill();
    let failed = running.finish_within(BOUND).expect(1);
    assert!(failed.stderr.contains("check the host") || failed.stderr.contains("try again later"), "{failed}");
    let before = stored_bytes(&packs);
    server.resume();
    let summary = bakfs.backup([&source]);
    let sent_bytes = summary.0["traffic"]["sent_bytes"].as_u64().unwrap();
    let total_bytes = FILES * FILE_BYTES;
    assert!(
        sent_bytes + before / 2 < total_bytes,
        "{sent_bytes} of {total_bytes} were sent again, {before} were there"
    );
    assert_eq!(bakfs.json(["check", "--read-data"])["damaged"], false);
}

#[test]
fn a_cache_that_cannot_be_used_costs_time_and_nothing_else() {
    let server = Server::start(Service::RcloneS3);
    let bakfs = Bakfs::at(&server.place());
    bakfs.ok(["init"]);
    let source = bakfs.make_dir("source");
    write(&source.join("file"), noise(1, 3_000_000));
    bakfs.backup([&source]);
    let cache = bakfs.path("cache");
    for (path, _) in files_below(&cache) {
        let len_bytes = std::fs::metadata(&path).unwrap().len();
        write(&path, noise(7, len_bytes as usize));
    }
    let reads = |cache: &str| {
        let target = tempfile::tempdir().unwrap();
        bakfs.ok(["--cache-dir", cache, "restore", "latest", target.path().join("to").to_str().unwrap()]);
        let (path, _) = files_below(target.path()).pop().unwrap();
        assert!(std::fs::read(path).unwrap() == noise(1, 3_000_000));
    };
    reads(cache.to_str().unwrap());
    // A file stands where the folder should be made: not even root may write there.
    write(&bakfs.path("file"), "");
    reads(bakfs.path("file/cache").to_str().unwrap());
    // A device that is full after a megabyte.
    let small = bakfs.make_dir("small");
    bakfs_testing::process::tool("mount", ["-t", "tmpfs", "-o", "size=1m", "none", small.to_str().unwrap()]).expect(0);
    let unmounted = Unmounted(&small);
    reads(small.to_str().unwrap());
    bakfs.ok(["--cache-dir", small.to_str().unwrap(), "check", "--read-data"]);
    drop(unmounted);
}

/// Unmounts a path when dropped.
struct Unmounted<'a>(&'a Path);

impl Drop for Unmounted<'_> {
    fn drop(&mut self) {
        let _ = bakfs_testing::process::tool("umount", ["-l", self.0.to_str().unwrap()]);
    }
}
