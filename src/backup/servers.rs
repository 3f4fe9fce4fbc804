//! Folders of database servers' files, among those that are backed up: left out where dumps stand for them, told of
//! where a server runs on them and none do.

use crate::source::generated::{Replaced, ServerFolder};
use crate::source::listing::Listing;
use crate::source::servers::{Kind, Served, served};
use crate::source::stat::Stat;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

type Keeps = fn(&OsStr, bool) -> bool;

/// What is known of them.
#[derive(Debug, Default)]
pub struct Servers {
    replaced: Vec<Replaced>,
    /// By device and inode: what dumps stand for, with what is kept of it.
    replaced_places: HashMap<(u64, u64), Option<Keeps>>,
    /// What was to be left out, and is not, for a dump is not whole.
    unsettled: HashSet<(u64, u64)>,
    /// Asked for when the first such folder is met.
    served: Option<Vec<Served>>,
    /// Paths of folders of which dumps stand for files that are not in the backup.
    pub(super) left: Vec<Vec<u8>>,
    are_told: bool,
    are_all_whole: bool,
}

impl Servers {
    /// Takes what dumps stand for. In a dry run all of them count as made.
    pub fn new(replaced: Vec<Replaced>, are_told: bool, is_dry_run: bool) -> Self {
        Servers { replaced, are_told, are_all_whole: is_dry_run, ..Servers::default() }
    }

    /// Decides what is left out, now that the dumps are made; returns the paths of files.
    pub fn settle(&mut self, whole: &HashSet<Vec<Vec<u8>>>) -> Vec<Vec<u8>> {
        let mut files = Vec::new();
        for Replaced { is_whole, by, files: own, folders } in self.replaced.drain(..) {
            if is_whole && (self.are_all_whole || by.iter().all(|dump| whole.contains(dump))) {
                files.extend(own.iter().map(|path| path.as_os_str().as_bytes().to_vec()));
                self.replaced_places.extend(folders.iter().map(|ServerFolder { place, keeps, .. }| (*place, *keeps)));
            } else {
                self.unsettled.extend(folders.iter().map(|folder| folder.place));
            }
        }
        files
    }

    /// Returns what is kept of a folder that dumps stand for.
    pub fn keeps(&self, folder: &Stat) -> Option<Keeps> {
        *self.replaced_places.get(&(folder.dev, folder.ino))?
    }

    /// Returns whether dumps stand for all of a folder.
    pub fn is_replaced(&self, stat: &Stat) -> bool {
        !self.replaced_places.is_empty() && matches!(self.replaced_places.get(&(stat.dev, stat.ino)), Some(None))
    }

    /// Returns what is to be said of a folder whose files are backed up while a server writes to them.
    pub fn told<D>(&mut self, listing: &Listing<D>) -> Option<String> {
        let has = |name: &str| listing.entries.binary_search_by(|entry| entry.name[..].cmp(name.as_bytes())).is_ok();
        let kind = Kind::of_names(has).filter(|_| self.are_told)?;
        let place = (listing.stat.dev, listing.stat.ino);
        if self.replaced_places.contains_key(&place) {
            return None;
        }
        if !self.served.get_or_insert_with(served).iter().any(|served| served.place == place) {
            return None;
        }
        let server = kind.name();
        if self.unsettled.contains(&place) {
            return Some(format!(
                "not all databases of the {server} server that runs on it were dumped: its files are backed up as they \
                 are, and such a copy may be torn"
            ));
        }
        Some(format!(
            "a {server} server runs on it that this profile does not dump whole: its files are backed up as they are, \
             and such a copy may be torn. Have `[[{}]]` dump all of it, or leave the folder out with `exclude`",
            kind.table()
        ))
    }
}
