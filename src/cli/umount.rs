//! `bakfs umount`, and what is told of mounts in passing.

use super::Status;
use super::output::readable_path;
use crate::serve::point;
use std::path::PathBuf;

/// What is said where updatedb(8) would walk through every snapshot of a mount.
pub const PRUNE: &str =
    "it would walk through all snapshots of a mounted history: add `fuse.bakfs` to PRUNEFS in /etc/updatedb.conf";
/// Options of `bakfs umount`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where a history is mounted
    #[arg(value_name = "MOUNTPOINT")]
    mountpoint: PathBuf,
    /// Take the directory away at once, and end the mount when its last user has gone
    #[arg(long, short = 'z')]
    lazy: bool,
}

/// Names the mounts of this machine that show a snapshot without its extended attributes and ACLs, as they began before
/// there were any and are in use.
pub(super) fn tell_hiding(snapshot: &str) {
    for path in point::hiding(snapshot) {
        let at = readable_path(&path);
        warn!(
            "bakfs: warning: The mount at {at} hides the extended attributes and ACLs of this snapshot: it began before there \
             were any, and shows them as soon as nobody uses it (fuser -vm {at} lists by whom)"
        );
    }
}

/// Runs `bakfs umount`.
pub fn run(args: &Args) -> anyhow::Result<Status> {
    let Some(server) = point::unmount(&args.mountpoint, args.lazy)? else { return Ok(Status::Done) };
    let at = readable_path(&args.mountpoint);
    let process = server.pid().map_or("its process".into(), |pid| format!("its process {pid}"));
    let secs = point::MAX_END.as_secs();
    warn!(
        "bakfs: warning: {at} is unmounted, but {process} has not ended after {secs} s: it may wait for a disk or a \
         network, and keeps files of the repository and the cache open until then"
    );
    Ok(Status::Incomplete)
}
