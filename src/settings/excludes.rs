//! What is left out unless a profile says otherwise: nothing that a restored machine would miss.

/// Globs of the built-in list, each with why.
pub const BUILT_IN: [(&str, &str); 17] = [
    ("/dev", "made by the kernel"),
    ("/proc", "made by the kernel"),
    ("/sys", "made by the kernel"),
    ("/run", "gone after a restart"),
    ("/tmp", "gone after a restart"),
    ("/var/run", "gone after a restart"),
    ("/var/tmp", "temporary"),
    ("/var/cache", "made again when missed"),
    ("/var/lib/apt/lists", "fetched again by `apt update`"),
    ("/var/lib/systemd/coredump", "dumps of crashed programs"),
    ("/swapfile", "memory"),
    ("/swap.img", "memory"),
    ("lost+found/", "belongs to the file system"),
    ("/home/*/.cache", "made again when missed"),
    ("/root/.cache", "made again when missed"),
    ("/home/*/.local/share/Trash", "thrown away"),
    ("/mnt/history", "a mounted history"),
];
