//! A repository opened to be checked: what is checked is what is stored, and not what is kept here of it.

use super::{Options, Report, Selection};
use crate::error::Result;
use crate::monitor::Monitor;
use crate::repo::open::{self, Unlocked};
use crate::repo::read::ledger::Ledger;
use crate::repo::{Memory, Repository};
use crate::trust::folder;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is read ahead of a repository far away lies in the empty cache, and makes room for what comes next.
const READ_AHEAD_BYTES: u64 = 256 << 20;

/// A repository with an empty cache of its own, which goes with it.
pub struct Uncached {
    repository: Arc<Repository>,
    /// Where it is told which packs were verified when.
    cache_base: PathBuf,
    _cache: Option<tempfile::TempDir>,
}

impl Uncached {
    /// Loads an unlocked repository. The empty cache is made in the folder of caches, in a temporary one, or in memory.
    pub fn load(unlocked: &mut Unlocked, cache_base: &Path) -> Result<Self> {
        let fresh =
            folder::make(cache_base, folder::PRIVATE).and_then(|()| folder::scratch("check-", Some(cache_base)));
        let cache = fresh.or_else(|_| folder::scratch("bakfs-check-", None)).ok();
        let options = open::Options {
            cache_base: cache.as_ref().map(tempfile::TempDir::path),
            cache_max_bytes: READ_AHEAD_BYTES,
            memory: Memory::SMALL,
            ..open::Options::default()
        };
        let repository = Arc::new(unlocked.load(&options)?);
        Ok(Uncached { repository, cache_base: cache_base.to_path_buf(), _cache: cache })
    }

    /// Verifies the structure and what is selected, with all processors.
    pub fn check(&self, read: Option<Selection>, monitor: &dyn Monitor) -> Result<Report> {
        let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let ledger = Ledger::open(&self.cache_base, &self.id()).ok();
        super::run(&self.repository, Options { read, threads }, ledger.as_ref(), monitor)
    }
}

impl Deref for Uncached {
    type Target = Arc<Repository>;

    fn deref(&self) -> &Arc<Repository> {
        &self.repository
    }
}
