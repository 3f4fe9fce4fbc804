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

/// Returns the folder whose contents a glob of the built-in list means, or what it names.
pub fn folder_of(glob: &str) -> &str {
    glob.trim_start_matches('!').trim_end_matches("/*")
}

/// Returns the glob that leaves out what is in a folder, and keeps the folder.
pub fn contents_of(folder: &str) -> String {
    format!("{folder}/*")
}

/// Folders of a server's raw files, whose contents are left out where the profile dumps that kind of database: a copy of them taken
/// while the server runs is no database.
pub const RAW_POSTGRESQL: [&str; 2] = ["/var/lib/postgresql", "/var/lib/pgsql"];
/// The same of MySQL and MariaDB.
pub const RAW_MYSQL: [&str; 1] = ["/var/lib/mysql"];
