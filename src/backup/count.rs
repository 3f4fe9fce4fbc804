//! Counts what a first backup will read, for whoever looks at its progress: by the walk of a backup, without reading.

use super::event::Event;
use super::roots::Roots;
use super::walk::{DIRECTOR_STACK_BYTES, Director};
use crate::source::Source;
use crate::source::walk::Walk;
use crossbeam_channel::Receiver;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Directories are listed by so many threads: the backup's own come first.
const THREADS: usize = 2;
/// Entries held ready.
const WINDOW_ENTRIES: usize = 1 << 12;

/// Returns the scanner threads of a count.
pub(super) fn walk<S: Source>(source: Arc<S>) -> Walk<S> {
    Walk::of(source, THREADS, WINDOW_ENTRIES)
}

/// What there is to back up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Total {
    /// Files of any type, directories among them.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Counts what a director that reads nothing, and knows of no parent, tells of; `None` where it was ended before. What dumps
/// will be is not known, and not counted; what they stand for is left out.
pub(super) fn count<S: Source>(
    mut director: Director<'_, S>,
    events: Receiver<Event>,
    roots: &Roots,
    is_ended: &AtomicBool,
) -> Option<Total> {
    std::thread::scope(|scope| {
        let walk = std::thread::Builder::new().name("count".into()).stack_size(DIRECTOR_STACK_BYTES);
        // Without a thread there is no total, and the backup goes on.
        walk.spawn_scoped(scope, move || {
            // Stopped: nobody waits for it any more.
            let _ = director.run(roots, None, &[]);
        })
        .ok()?;
        total(events, is_ended)
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
            Event::Leave | Event::LeaveEarly | Event::Reused(_) | Event::Counted(_) | Event::Trouble(..) => {}
            // The backup itself says why.
            Event::Failed(_) => return None,
        }
    }
    Some(total)
}
