//! Promise: a disk that fills up in the middle of a backup costs that backup, nothing else, and the next
//! run succeeds without repair once there is room.

use bakfs_testing::cli::Bakfs;
use bakfs_testing::compare::{self, Rules};
use bakfs_testing::device::Device;
use bakfs_testing::noise;
use bakfs_testing::process::tool;
use std::path::{Path, PathBuf};

fn plant(dir: &Path, seed: u64, files: u64, file_bytes: usize) {
    std::fs::create_dir_all(dir).unwrap();
    for file in 0..files {
        let bytes = noise(seed * 1000 + file, file_bytes);
        std::fs::write(dir.join(format!("file-{file}")), bytes).unwrap();
    }
}

/// Fills the disk in the middle of a backup, makes room, and goes on.
fn fill_up(bakfs: &Bakfs, device: &Device, make_room: impl FnOnce(&Path)) {
    let source: PathBuf = bakfs.make_dir("source");
    plant(&source.join("old"), 1, 20, 1 << 20);
    let first = bakfs.backup([&source]);
    let pristine = bakfs.path("pristine");
    bakfs_testing::tools::copy(&source, &pristine);

    plant(&source.join("new"), 2, 80, 1 << 20);
    for attempt in 0..2 {
        let outcome = bakfs.backup_outcome([&source]).expect(1);
        let text = outcome.stderr.to_lowercase();
        let clear = ["no space", "full", "no room"].iter().any(|words| text.contains(words));
        assert!(clear, "attempt {attempt} should say that the disk is full: {outcome}");
        outcome.says(device.path().to_str().unwrap());
    }

    let names = bakfs.json(["snapshots"]);
    assert_eq!(names.as_array().unwrap().len(), 1, "nothing is committed: {names}");
    bakfs.ok(["check", "--read-data"]);
    let mount = bakfs.mount();
    let shown = mount.at(first.snapshot(), &source);
    compare::trees(&pristine.join("old"), &shown.join("old"), Rules::CP).assert_same("the old snapshot on a full disk");
    mount.unmount();

    make_room(device.path());
    bakfs.backup([&source]);
    bakfs.ok(["check", "--read-data"]);
    let mount = bakfs.mount();
    compare::trees(&source, &mount.at("latest", &source), Rules::MOUNT).assert_same("the new one");
    let shown = mount.at(first.snapshot(), &source);
    compare::trees(&pristine.join("old"), &shown.join("old"), Rules::CP).assert_same("the old one");
    mount.unmount();
}

#[test]
fn memory_that_is_full() {
    bakfs_testing::need_root();
    let bakfs = Bakfs::empty();
    let device = Device::memory(&bakfs.repo(), 64);
    bakfs.ok(["init"]);
    fill_up(&bakfs, &device, |dir| {
        let args = ["-o".as_ref(), "remount,size=256m".as_ref(), dir.as_os_str()];
        tool("mount", args).expect(0);
    });
}

#[test]
fn an_ext4_that_is_full() {
    bakfs_testing::need_root();
    let bakfs = Bakfs::empty();
    let device = Device::ext4(&bakfs.path("image"), &bakfs.repo(), 256);
    bakfs.ok(["init"]);
    // Other files on the same disk take the room, and give it back.
    let ballast = device.path().join("ballast");
    let free = rustix::fs::statvfs(device.path()).unwrap();
    let ballast_bytes = free.f_bavail * free.f_frsize - (60 << 20);
    tool("fallocate", ["-l", &ballast_bytes.to_string(), ballast.to_str().unwrap()]).expect(0);
    fill_up(&bakfs, &device, |_| std::fs::remove_file(&ballast).unwrap());
}
