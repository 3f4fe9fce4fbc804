//! What is left out unless a profile says otherwise: nothing that a restored machine would miss.
//!
//! What is temporary is left out by its contents (`/tmp/*`): the folders themselves are kept with their owners and
//! modes, for no system starts without its mount points, and no program without a `/tmp` of mode 1777.

/// Globs of the built-in list, each with why.
pub const BUILT_IN: [(&str, &str); 18] = [
    ("/dev/*", "made by the kernel"),
    ("/proc/*", "made by the kernel"),
    ("/sys/*", "made by the kernel"),
    ("/run/*", "gone after a restart"),
    ("/tmp/*", "gone after a restart"),
    ("/var/run/*", "gone after a restart"),
    ("/var/tmp/*", "temporary"),
    // Programs expect their own folder there, and make its contents.
    ("/var/cache/*/*", "made again when missed"),
    ("!/var/cache/debconf/*", "answers that were given to Debian's installer are kept"),
    ("/var/lib/apt/lists/*", "fetched again by `apt update`"),
    ("/var/lib/systemd/coredump/*", "dumps of crashed programs"),
    ("/swapfile", "memory"),
    ("/swap.img", "memory"),
    ("lost+found/", "belongs to the file system"),
    ("/home/*/.cache/*", "made again when missed"),
    ("/root/.cache/*", "made again when missed"),
    ("/home/*/.local/share/Trash/*", "thrown away"),
    ("/mnt/history/*", "a mounted history"),
];

/// Returns whether an exclude takes a folder back that the built-in list leaves out.
pub fn is_about_built_in(glob: &str) -> bool {
    glob.strip_prefix('!').is_some_and(|glob| BUILT_IN.iter().any(|(built_in, _)| folder_of(built_in) == glob))
}

/// Returns the folder whose contents a glob of the built-in list means, or what it names.
pub fn folder_of(glob: &str) -> &str {
    glob.trim_start_matches('!').trim_end_matches("/*")
}
