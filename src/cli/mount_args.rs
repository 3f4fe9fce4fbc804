//! Options of `bakfs mount`, for its rooms.

use super::scope;
use std::path::PathBuf;

/// Options of `bakfs mount`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An empty directory
    #[arg(value_name = "MOUNTPOINT")]
    pub(super) mountpoint: PathBuf,
    /// Stay in the foreground and log to standard error, as systemd wants it (`Type=notify`)
    #[arg(long, short)]
    pub(super) foreground: bool,
    /// Let other users in, by the modes of the files
    #[arg(long)]
    pub(super) allow_other: bool,
    /// Let no program in the mount be run
    #[arg(long)]
    pub(super) noexec: bool,
    /// Let no symbolic link in the mount be followed, `latest` among them
    #[arg(long)]
    pub(super) nosymfollow: bool,
    /// Show no extended attributes and ACLs, which makes copying many files up to three times as fast
    #[arg(long)]
    pub(super) no_xattrs: bool,
    /// Answer requests that wait for a disk this long with an error
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) io_deadline: u64,
    /// Look for new snapshots this often, whatever tells of them by itself [default: 10, of a repository far away 60]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) refresh: Option<u64>,
    /// Write the log there [default: mount.log in the cache directory, in the foreground standard error]
    #[arg(long, value_name = "FILE")]
    pub(super) log: Option<PathBuf>,
    /// The source that df and /proc/mounts show [default: the repository]
    #[arg(long, value_name = "NAME", hide = true)]
    pub(super) fs_name: Option<String>,
    /// Find out whether it could be mounted, and do not mount (mount(8), -f)
    #[arg(long, hide = true)]
    pub(super) fake: bool,
    /// What has given the passphrase that comes by standard input, for messages
    #[arg(long, hide = true, value_name = "WORDS")]
    pub(super) passphrase_from: Option<String>,
    /// Say on standard output when the mount answers, then close it
    #[arg(long, hide = true, requires = "foreground")]
    pub(super) say_ready: bool,
    #[command(flatten)]
    pub(super) scope: scope::Args,
}
