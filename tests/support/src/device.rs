//! Small file systems of a test's own: on a loop device, or in memory.

use super::process::tool;
use std::path::{Path, PathBuf};

/// A mounted file system; unmounted by path when dropped.
pub struct Device {
    dir: PathBuf,
    image: Option<PathBuf>,
}

/// A file system that can lose its power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// ext4(5).
    Ext4,
    /// xfs(5).
    Xfs,
}

/// `EXT4_IOC_SHUTDOWN` and `XFS_IOC_GOINGDOWN`: _IOR('X', 125, __u32) (fs/ext4/ext4.h, fs/xfs/libxfs/xfs_fs.h).
const SHUTDOWN: libc::Ioctl = 0x8004_587D_u32 as libc::Ioctl;
/// Drops everything that was not written, the log included.
const NO_LOG_FLUSH: u32 = 2;

impl Device {
    /// Makes an ext4 of `size_mib` in the image file `image` and mounts it at the new folder `dir`.
    ///
    /// `ea_inode` lets one extended attribute be up to 64 KiB (ext4(5)).
    pub fn ext4(image: &Path, dir: &Path, size_mib: u64) -> Device {
        let file = std::fs::File::create(image).unwrap();
        file.set_len(size_mib << 20).unwrap();
        let features = ["-q", "-F", "-m", "0", "-b", "4096", "-I", "256", "-O", "ea_inode"];
        tool("mkfs.ext4", features.iter().map(Path::new).chain([image])).expect(0);
        std::fs::create_dir(dir).unwrap();
        tool("mount", [Path::new("-o"), Path::new("loop"), image, dir]).expect(0);
        let _ = std::fs::remove_dir(dir.join("lost+found"));
        Device { dir: dir.to_owned(), image: None }
    }

    /// Makes a file system of `size_mib` in the image file `image` and mounts it at the new folder `dir`.
    pub fn format(kind: FileSystem, image: &Path, dir: &Path, size_mib: u64) -> Device {
        std::fs::File::create(image).unwrap().set_len(size_mib << 20).unwrap();
        let (make, options): (_, &[&str]) = match kind {
            FileSystem::Ext4 => ("mkfs.ext4", &["-q", "-F", "-m", "0"]),
            FileSystem::Xfs => ("mkfs.xfs", &["-q", "-f"]),
        };
        tool(make, options.iter().map(Path::new).chain([image])).expect(0);
        std::fs::create_dir(dir).unwrap();
        let device = Device { dir: dir.to_owned(), image: Some(image.to_owned()) };
        device.mount();
        device
    }

    fn mount(&self) {
        let image = self.image.as_ref().expect("only a device of an image is mounted again");
        tool("mount", [Path::new("-o"), Path::new("loop"), image, &self.dir]).expect(0);
    }

    /// Cuts the power: what was not written is lost, and every call fails from now on.
    pub fn cut(&self) {
        let root = std::fs::File::open(&self.dir).unwrap();
        // SAFETY: the call reads one u32 through the pointer, which is valid for it.
        let done = unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&root), SHUTDOWN, &NO_LOG_FLUSH) };
        assert_eq!(done, 0, "shutdown of {}: {}", self.dir.display(), std::io::Error::last_os_error());
    }

    /// Gives the power back.
    pub fn mount_again(&mut self) {
        // A process that is just ending may still hold it; and a mount namespace that another test has made meanwhile has
        // a mount of its own of it, with which the same file system without power would be mounted again.
        super::until("the file system has power again", super::SOON, || {
            let is_unmounted = tool("umount", [&self.dir]).code == 0;
            if is_unmounted {
                self.mount();
            }
            is_unmounted && self.has_power()
        });
    }

    fn has_power(&self) -> bool {
        let probe = self.dir.join("probe");
        std::fs::write(&probe, "").and_then(|()| std::fs::remove_file(&probe)).is_ok()
    }

    /// Mounts an empty file system of `size_mib` in memory at the new folder `dir`.
    pub fn memory(dir: &Path, size_mib: u64) -> Device {
        std::fs::create_dir(dir).unwrap();
        let size = format!("size={size_mib}m,mode=0755");
        tool("mount", ["-t", "tmpfs", "-o", &size, "tmpfs"].map(Path::new).iter().chain([&dir])).expect(0);
        Device { dir: dir.to_owned(), image: None }
    }

    /// Shows `source` read-only, without devices and setuid, at the new folder `dir`.
    pub fn read_only_view(source: &Path, dir: &Path) -> Device {
        std::fs::create_dir(dir).unwrap();
        tool("mount", [Path::new("--bind"), source, dir]).expect(0);
        let view = Device { dir: dir.to_owned(), image: None };
        let options = "remount,bind,ro,nosuid,nodev";
        tool("mount", [Path::new("-o"), Path::new(options), dir]).expect(0);
        view
    }

    /// Returns where it is mounted.
    pub fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if tool("umount", [&self.dir]).code != 0 {
            let _ = tool("umount", [Path::new("-l"), &self.dir]);
        }
    }
}
