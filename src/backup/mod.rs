//! Backing up, in three steps: a plan decides what of, and compared with which snapshot (`plan`); a pipeline reads and
//! stores the tree (`pipeline`); a commit makes a snapshot of it (`commit`).
//!
//! In the pipeline a director walks the source, readers read what is new, the assembler builds the tree.
//!
//! ```text
//!  scanners -> director --events, in tree order--> assembler -> Writer (frames, packs, index)
//!                  \--jobs--> readers --pieces of each file-->/
//! ```
//!
//! The director and the readers work ahead within a budget of bytes; the assembler takes everything in
//! the order of the tree, so content lies in the packs in directory order.

mod assemble;
mod budget;
mod commit;
mod content;
mod count;
mod emptied;
mod event;
mod fresh;
mod generated;
mod make;
mod parent;
mod pipeline;
mod plan;
mod report;
mod roots;
mod servers;
mod subvolumes;
mod unchanged;
mod walk;

use crate::error::Result;
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Meta, Time};
use crate::id::ObjectId;
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::repo::shared::dated;
use crate::repo::write::WriteOptions;
use crate::source::Source;
use crate::source::disk::Disk;
use crate::source::empty::Empty;
use crate::source::exclude::Excludes;
use crate::source::walk::raise_open_files_limit;
pub use generated::Dumps;
use plan::Plan;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// See [`Options::is_ended`].
pub type IsEnded = Arc<dyn Fn() -> bool + Send + Sync>;

/// What to back up, and how.
#[derive(Default)]
pub struct Options {
    /// Paths as the user wrote them.
    pub paths: Vec<PathBuf>,
    /// What is left out.
    pub excludes: Excludes,
    /// Those of them that are told of where they lie below none of the paths, and so leave out nothing.
    pub told_excludes: Excludes,
    /// Whether directories tagged as caches are left out.
    pub exclude_caches: bool,
    /// Whether other file systems are left out.
    pub one_file_system: bool,
    /// Tags of the snapshot.
    pub tags: Vec<String>,
    /// The host it is of.
    pub host: String,
    /// The time it stands for, instead of now.
    pub time: Option<Time>,
    /// What is no part of what is backed up: the repository, its cache, and where histories are mounted.
    pub apart: Vec<PathBuf>,
    /// Whether folders a database server runs on are told of, where they are backed up as files.
    pub tells_servers: bool,
    /// Whether sources and dumps may have lost what they held in the last complete snapshot.
    pub allow_empty: bool,
    /// Whether nothing is read or written.
    pub dry_run: bool,
    /// Tells whether the run is being ended, asked before the snapshot is committed: what was read after its last hook
    /// is not what was meant.
    pub is_ended: Option<IsEnded>,
    /// How to write.
    pub write: WriteOptions,
}

/// What came of a backup.
#[derive(Debug)]
pub struct Outcome {
    /// The snapshot's object; `None` in a dry run.
    pub id: Option<ObjectId>,
    /// The snapshot.
    pub snapshot: Snapshot,
    /// What is worth a word, and makes the backup no less whole.
    pub notes: Vec<String>,
}

/// Backs up paths of this machine's disk into a snapshot.
pub fn run(repository: &Arc<Repository>, options: &Options, monitor: &dyn Monitor) -> Result<Outcome> {
    run_with(repository, options, Dumps::default(), monitor)
}

/// Backs up paths of this machine's disk, and dumps, into a snapshot.
pub fn run_with(
    repository: &Arc<Repository>,
    options: &Options,
    dumps: Dumps,
    monitor: &dyn Monitor,
) -> Result<Outcome> {
    raise_open_files_limit();
    run_from(&Arc::new(Disk::default()), repository, options, dumps, monitor)
}

/// Backs up standard input, or another stream of unknown length, as the file `name`, an absolute path. One that breaks
/// off commits nothing; an empty one is stored, told, and makes the snapshot an incomplete one.
pub fn run_input(
    repository: &Arc<Repository>,
    options: &Options,
    name: &Path,
    input: Box<dyn Read + Send>,
    monitor: &dyn Monitor,
) -> Result<Outcome> {
    let dumps = Dumps::of_input(name, input)?;
    let source = Empty::new(&made(0o755, own_ids(), 2));
    run_from(&Arc::new(source), repository, options, dumps, monitor)
}

/// Backs up paths of a source, and dumps, into a snapshot. One that lacks a dump, or one of the paths, has the tag
/// [`crate::format::snapshot::INCOMPLETE_TAG`]; nothing is committed where there is nothing but dumps and none of them
/// could be made.
pub fn run_from<S: Source>(
    source: &Arc<S>,
    repository: &Arc<Repository>,
    options: &Options,
    dumps: Dumps,
    monitor: &dyn Monitor,
) -> Result<Outcome> {
    let plan = Plan::new(&**source, repository, options, &dumps, monitor)?;
    let (assembled, walked) = pipeline::run(source, repository, &plan, dumps, monitor)?;
    commit::commit(repository, plan, assembled, walked, monitor)
}

fn now() -> Time {
    dated::time(jiff::Timestamp::now())
}

/// Returns the user and group this program runs as.
fn own_ids() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// Describes something that is made while it is backed up.
fn made(mode: u32, (uid, gid): (u32, u32), nlink: u32) -> Meta {
    let time = now();
    Meta { mode, uid, gid, mtime: time, ctime: time, nlink, ..Meta::default() }
}
