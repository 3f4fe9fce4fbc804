//! The servers of the tests answer another client, rclone, as services do.

use bakfs_testing::noise;
use bakfs_testing::servers::{BUCKET, Server, Service};

/// Stores a file by rclone, lists, reads and removes it; then once more after the server was killed.
fn serves(service: Service) {
    let mut server = Server::start(service);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, noise(1, 3_000_000)).unwrap();
    let base = if service == Service::Sftp {
        format!("there:{}/files/{BUCKET}", server.folder().display())
    } else {
        format!("there:{BUCKET}")
    };
    let there = format!("{base}/folder/file");
    for _ in 0..2 {
        server.rclone(&["copyto", file.to_str().unwrap(), &there]).expect(0);
        let listed = server.rclone(&["lsf", &format!("{base}/folder")]).expect(0).text();
        assert_eq!(listed, "file\n");
        if service.is_durable() {
            server.kill();
            server.resume();
        }
        let read = server.rclone(&["cat", "--offset", "1000000", "--count", "500", &there]).expect(0).stdout;
        assert_eq!(read, noise(1, 3_000_000)[1_000_000..1_000_500]);
        server.rclone(&["deletefile", &there]).expect(0);
        let listed = server.rclone(&["lsf", "-R", "--files-only", &base]).expect(0).text();
        assert_eq!(listed, "");
    }
}

#[test]
fn rclone_serves_s3() {
    serves(Service::RcloneS3);
}

#[test]
fn moto_serves_s3() {
    serves(Service::Moto);
}

#[test]
fn swift_serves_itself_and_s3() {
    serves(Service::Swift);
    serves(Service::SwiftS3);
}

#[test]
fn our_imitation_serves_b2() {
    serves(Service::B2);
}

#[test]
fn openssh_serves_sftp() {
    serves(Service::Sftp);
}

#[test]
fn apache_serves_webdav() {
    serves(Service::WebDav);
}

#[test]
fn an_emulator_serves_gcs() {
    serves(Service::Gcs);
}

#[test]
fn azurite_serves_azure() {
    serves(Service::Azure);
}
