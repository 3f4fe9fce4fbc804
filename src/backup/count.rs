//! Counts what a first backup will read, for whoever looks at its progress: by the walk of a backup, without reading.

use super::emptied::MountPoints;
use super::fresh::Freshness;
use super::generated::Making;
use super::kept::Held;
use super::roots::Roots;
use super::servers::Servers;
use super::walk::{Director, Event};
use super::{Budget, MAX_EVENTS, Options};
use crate::repo::{Repository, names};
use crate::source::exclude::Excludes;
use crate::source::generated::Replaced;
use crate::source::owners::Owners;
use crate::source::walk::Walk;
use crossbeam_channel::{Receiver, bounded};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

/// Directories are listed by so many threads: the backup's own come first.
const THREADS: usize = 2;
/// Entries held ready.
const WINDOW_ENTRIES: usize = 1 << 12;

/// What there is to back up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Total {
    /// Files of any type, directories among them.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Counts what is below the sources; `None` where it was ended before. What dumps will be is not known, and not counted;
/// what they stand for is left out.
pub(super) fn count(
    repository: &Repository,
    options: &Options,
    excludes: &Excludes,
    roots: &Roots,
    replaced: &[Replaced],
    making: Making<'_>,
    is_ended: &AtomicBool,
) -> Option<Total> {
    let budget = Budget::new(0);
    let (events, events_in) = bounded::<Event>(MAX_EVENTS);
    std::thread::scope(|scope| {
        let mut director = Director {
            repository,
            options,
            excludes,
            freshness: Freshness::new(repository, None, names::time(jiff::Timestamp::now())),
            walk: Walk::new(THREADS, WINDOW_ENTRIES),
            events,
            jobs: None,
            budget: &budget,
            owners: Owners::default(),
            apart: options.apart.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect(),
            servers: Servers::new(replaced.to_vec(), false, true),
            linked: Default::default(),
            path: Vec::new(),
            held: Held::default(),
            subvolumes: Default::default(),
            mount_points: MountPoints::of_machine(),
            unmounted: Vec::new(),
            making,
        };
        let walk = std::thread::Builder::new().name("count".into()).stack_size(super::DIRECTOR_STACK_BYTES);
        // Without a thread there is no total, and the backup goes on.
        walk.spawn_scoped(scope, move || {
            // Stopped: nobody waits for it any more.
            let _ = director.run(roots, None, &[]);
        })
        .ok()?;
        total(events_in, is_ended)
    })
}

fn total(events: Receiver<Event>, is_ended: &AtomicBool) -> Option<Total> {
    let mut total = Total::default();
    for event in events {
        if is_ended.load(Ordering::Relaxed) {
            return None;
        }
        match event {
            Event::Enter(..) | Event::Entry(..) | Event::Link(..) => total.files += 1,
            Event::File { stat, .. } => {
                total.files += 1;
                total.bytes = total.bytes.saturating_add(stat.size_bytes);
            }
            Event::Leave | Event::LeaveEarly | Event::Kept(_) | Event::Counted(_) | Event::Trouble(..) => {}
            // The backup itself says why.
            Event::Failed(_) => return None,
        }
    }
    Some(total)
}
