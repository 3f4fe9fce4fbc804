//! Small file systems of a test's own: on a loop device, or in memory.

use super::process::tool;
use std::path::{Path, PathBuf};

/// A mounted file system; unmounted by path when dropped.
pub struct Device {
    dir: PathBuf,
}

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
        Device { dir: dir.to_owned() }
    }

    /// Mounts an empty file system of `size_mib` in memory at the new folder `dir`.
    pub fn memory(dir: &Path, size_mib: u64) -> Device {
        std::fs::create_dir(dir).unwrap();
        let size = format!("size={size_mib}m,mode=0755");
        tool("mount", ["-t", "tmpfs", "-o", &size, "tmpfs"].map(Path::new).iter().chain([&dir])).expect(0);
        Device { dir: dir.to_owned() }
    }

    /// Shows `source` read-only, without devices and setuid, at the new folder `dir`.
    pub fn read_only_view(source: &Path, dir: &Path) -> Device {
        std::fs::create_dir(dir).unwrap();
        tool("mount", [Path::new("--bind"), source, dir]).expect(0);
        let view = Device { dir: dir.to_owned() };
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
