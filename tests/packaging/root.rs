//! Roots to install in, each in a mount namespace of its own.

use bakfs_testing::need_root;
use bakfs_testing::process::{run, tool};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A root file system. Nothing of this machine is mounted in it, so that removing it removes nothing else.
pub struct Root {
    path: PathBuf,
    /// Whether the folder was made for it.
    is_own: bool,
}

/// Has this thread and the programs it starts mount for themselves alone.
fn apart() {
    need_root();
    // SAFETY: it changes what this thread and its children see mounted; descriptors stay as they are.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
    tool("mount", ["--make-rprivate", "/"]).expect(0);
}

/// What programs expect in /dev, with the numbers of the kernel (Documentation/admin-guide/devices.txt).
const DEVICES: [(&str, u32, u32); 7] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
    ("fuse", 10, 229),
];

fn mount(kind: &str, target: &Path) {
    tool("mount", [Path::new("-t"), Path::new(kind), Path::new(kind), target]).expect(0);
}

impl Drop for Root {
    fn drop(&mut self) {
        // What is left ends with this process's mounts.
        let targets = if self.is_own { vec![self.path.clone()] } else { vec![self.path("proc"), self.path("dev")] };
        for target in targets {
            tool("umount", [Path::new("--lazy"), &target]);
        }
        if self.is_own {
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

impl Root {
    /// Takes a folder.
    pub fn at(path: PathBuf) -> Root {
        apart();
        Root { path, is_own: false }.furnished()
    }

    /// Makes an empty one in memory.
    fn fresh() -> Root {
        apart();
        let path = tempfile::Builder::new().prefix("bakfs-root-").tempdir().unwrap().keep();
        mount("tmpfs", &path);
        Root { path, is_own: true }
    }

    /// Mounts what every system has.
    fn furnished(self) -> Root {
        for name in ["proc", "dev", "tmp", "root"] {
            std::fs::create_dir_all(self.path(name)).unwrap();
        }
        mount("proc", &self.path("proc"));
        mount("tmpfs", &self.path("dev"));
        DEVICES.iter().for_each(|device| self.device(device));
        self
    }

    fn device(&self, (name, major, minor): &(&str, u32, u32)) {
        let path = self.path("dev").join(name);
        let (major, minor) = (major.to_string(), minor.to_string());
        tool("mknod", ["--mode=666", path.to_str().unwrap(), "c", &major, &minor]).expect(0);
    }

    /// Makes one of a release of Debian, with apt and what is essential.
    pub fn debian(suite: &str) -> Root {
        let servers = std::env::var_os("BAKFS_TEST_SERVERS").expect("tests/run sets it");
        let archive = Path::new(&servers).join("roots").join(format!("{suite}.tar"));
        assert!(archive.exists(), "tests/run makes {}", archive.display());
        let root = Root::fresh();
        let into = root.path.to_str().unwrap();
        tool("tar", ["--numeric-owner", "-xf", archive.to_str().unwrap(), "-C", into]).expect(0);
        root.furnished()
    }

    /// Makes one that has busybox alone.
    pub fn busybox() -> Root {
        let root = Root::fresh().furnished();
        for name in ["bin", "etc"] {
            std::fs::create_dir(root.path(name)).unwrap();
        }
        std::fs::copy("/bin/busybox", root.path("bin/busybox")).unwrap();
        std::fs::write(root.path("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
        root.runs(&["/bin/busybox", "--install", "-s", "/bin"]);
        root
    }

    /// Makes one that has the device of FUSE alone.
    pub fn empty() -> Root {
        let root = Root::fresh();
        std::fs::create_dir(root.path("dev")).unwrap();
        root.device(&("fuse", 10, 229));
        root
    }

    /// Returns where the test finds a path of it.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.path.join(inside)
    }

    /// Runs a program in it, which must succeed.
    #[track_caller]
    pub fn runs(&self, words: &[&str]) -> String {
        let mut command = Command::new("chroot");
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin").env("HOME", "/root");
        command.arg(&self.path).args(words);
        run(command).expect(0).text()
    }

    /// Types a line, which must succeed.
    #[track_caller]
    pub fn types(&self, line: &str) -> String {
        self.runs(&["/bin/sh", "-c", line])
    }

    /// Returns the paths of all its files.
    pub fn files(&self) -> BTreeSet<String> {
        let listed = self.types("find / -xdev -not -path '/proc/*' -not -path '/dev/*' -not -path '/tmp/*'");
        listed.lines().map(str::to_owned).collect()
    }
}
