//! The threads of a backup: scanners and the director, readers, the assembler, and the writer's own.

use super::assemble::{Assembled, Assembler};
use super::budget::Budget;
use super::content::{Cutter, FileToRead};
use super::count;
use super::emptied::MountPoints;
use super::event::Event;
use super::fresh::{Freshness, Parent};
use super::generated::{Dumps, PendingDumps};
use super::plan::Plan;
use super::servers::Servers;
use super::unchanged::Unchanged;
use super::walk::{DIRECTOR_STACK_BYTES, Director, Walked};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::repo::shared::listed::ListedSnapshot;
use crate::repo::write::Writer;
use crate::source::Source;
use crate::source::generated::Generated;
use crate::source::owners::Owners;
use crate::source::walk::{DEFAULT_THREADS, DEFAULT_WINDOW_ENTRIES, Walk};
use crossbeam_channel::{Sender, bounded, unbounded};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Threads that read files: with small files on a cold disk, waiting is all there is to do.
const READERS: usize = 16;
/// Events on their way from the director to the assembler.
const MAX_EVENTS: usize = 4096;

/// What the threads share.
struct Shared<'a, S> {
    source: &'a S,
    repository: &'a Repository,
    plan: &'a Plan<'a>,
    cutter: Cutter,
    budget: Budget,
    mount_points: MountPoints,
}

impl<'a, S: Source> Shared<'a, S> {
    fn director<'b>(
        &'b self,
        compared: Option<&'b ListedSnapshot>,
        walk: Walk<S>,
        events: Sender<Event>,
        jobs: Option<Sender<FileToRead<S::Dir>>>,
        servers: Servers,
        generated: Vec<Generated>,
    ) -> Director<'b, S> {
        let parent = compared.map(|listed| Parent { id: listed.id, snapshot: &listed.snapshot });
        let options = self.plan.options;
        Director {
            repository: self.repository,
            source: self.source,
            options,
            excludes: &self.plan.excludes,
            freshness: Freshness::new(self.repository, self.source, parent, self.plan.started),
            walk,
            events,
            jobs,
            budget: &self.budget,
            owners: Owners::default(),
            skipped_paths: options.apart.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect(),
            servers,
            linked: Default::default(),
            path: Vec::new(),
            unchanged: Unchanged::default(),
            subvolumes: Default::default(),
            mount_points: &self.mount_points,
            unmounted: Vec::new(),
            dumps: PendingDumps::new(generated, &self.cutter),
        }
    }
}

/// Reads what is planned and stores it: the whole tree, not yet in a snapshot, and what its walk has met.
pub fn run<S: Source>(
    source: &Arc<S>,
    repository: &Arc<Repository>,
    plan: &Plan<'_>,
    dumps: Dumps,
    monitor: &dyn Monitor,
) -> Result<(Assembled, Walked)> {
    let Dumps { generated, failed, replaced } = dumps;
    let options = plan.options;
    let shared = Shared {
        source: &**source,
        repository,
        plan,
        cutter: Cutter::new(repository.clone()),
        budget: Budget::default(),
        mount_points: MountPoints::of(&**source),
    };
    let shared = &shared;
    let (events, events_in) = bounded::<Event>(MAX_EVENTS);
    let (jobs, jobs_in) = unbounded();
    let writer = (!options.dry_run).then(|| Writer::new(repository.clone(), options.write));
    let is_stored = &AtomicBool::new(false);
    // Where there is nothing but dumps nothing is scanned and no file is read.
    let has_paths = !plan.roots.paths.is_empty();
    std::thread::scope(|scope| {
        if has_paths && plan.parent_of_same().is_none() && monitor.is_watched() {
            let (counted, counted_in) = bounded::<Event>(MAX_EVENTS);
            let servers = Servers::new(replaced.clone(), false, true);
            let walk = count::walk(source.clone());
            let counting = shared.director(None, walk, counted, None, servers, Vec::new());
            scope.spawn(move || {
                let total = count::count(counting, counted_in, &plan.roots, is_stored);
                total.into_iter().for_each(|total| monitor.expect(total.files, total.bytes));
            });
        }
        let director = shared.director(
            plan.compared(),
            Walk::of(source.clone(), if has_paths { DEFAULT_THREADS } else { 0 }, DEFAULT_WINDOW_ENTRIES),
            events,
            (!options.dry_run).then_some(jobs),
            Servers::new(replaced, options.tells_servers, options.dry_run),
            if options.dry_run { Vec::new() } else { generated },
        );
        let walk = std::thread::Builder::new().name("walk".into()).stack_size(DIRECTOR_STACK_BYTES);
        let parent_root = plan.compared().map(|parent| parent.snapshot.root);
        let failed = &failed;
        let walking = walk.spawn_scoped(scope, move || director.walk_all(&plan.roots, parent_root, failed));
        let walking = walking.context(|| "Cannot start a thread".into())?;
        for _ in 0..if options.dry_run || !has_paths { 0 } else { READERS } {
            let reader = std::thread::Builder::new().name("read".into());
            let jobs_in = jobs_in.clone();
            let read = move || shared.cutter.serve(shared.source, &jobs_in);
            reader.spawn_scoped(scope, read).context(|| "Cannot start a thread".into())?;
        }
        drop(jobs_in);
        let assembled = Assembler::new(writer, &shared.budget, monitor).run(events_in);
        is_stored.store(true, Ordering::Relaxed);
        if assembled.is_err() {
            // The director may be waiting for room.
            shared.budget.end();
        }
        let walked = walking.join().map_err(|_| Error::new(ErrorKind::Io, "The walk panicked"))?;
        Ok((assembled?, walked))
    })
}
