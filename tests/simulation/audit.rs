//! What must hold at every moment, and at the end.

use crate::actors::{content, open, pieces, prune_once};
use crate::store::SimStore;
use crate::world::{Role, World};
use bakfs::error::{Error, Result};
use bakfs::format::tree::{Content, Node};
use bakfs::repo::Repository;
use bakfs::repo::shared::listed::ListedSnapshot;
use bakfs::store::ObjectKind;
use std::collections::HashSet;
use std::sync::Arc;

/// Reads a snapshot whole and compares every byte.
pub fn read_all(repository: &Repository, listed: &ListedSnapshot) -> Result<Vec<u8>> {
    let mut extents = Vec::new();
    let pieces = pieces(repository, &listed.snapshot)?;
    repository.for_each_entry(&listed.snapshot.root, |entry| {
        if let Node::File(Content::Extents(found)) = &entry.node {
            extents.extend(found.iter().copied());
        }
        Ok(())
    })?;
    for (number, extent) in pieces.iter().zip(&extents) {
        let mut bytes = Vec::new();
        repository.read_extent(extent, &mut bytes)?;
        if bytes != content(*number) {
            return Err(Error::damaged(format!("piece {number} has other bytes")));
        }
    }
    Ok(pieces)
}

/// Looks at the store as it is, while nobody acts: what was acknowledged and not forgotten is listed, and
/// whatever is listed can be read.
pub fn everything(world: &Arc<World>, me: usize) {
    let store = SimStore::start(world, me, Role::Auditor);
    if let Err(error) = check(world, &store) {
        world.violation(format!("an audit fails: {}", error.chain()));
    }
    store.end();
}

fn check(world: &Arc<World>, store: &Arc<SimStore>) -> Result<()> {
    let repository = open(store)?;
    let listed = repository.snapshots()?;
    let live = world.now().live();
    for promised in &live {
        if !listed.iter().any(|listed| listed.id == promised.id) {
            world.violation(format!("the acknowledged snapshot {} is not listed", promised.id));
        }
    }
    for listed in &listed {
        let promised = live.iter().find(|live| live.id == listed.id);
        match read_all(&repository, listed) {
            Ok(pieces) if promised.is_some_and(|promised| promised.chunks != pieces) => {
                world.violation(format!("snapshot {} holds other pieces", listed.id));
            }
            Ok(_) => {}
            Err(error) => {
                let promise = if promised.is_some() { "acknowledged" } else { "visible" };
                world.violation(format!("chunks of the {promise} snapshot {} are lost: {}", listed.id, error.chain()));
            }
        }
    }
    Ok(())
}

/// After everybody has ended: nothing is lost, a prune of the rest succeeds, and leaves nothing that is not needed.
pub fn last(world: &Arc<World>, me: usize) {
    everything(world, me);
    for part in [2, 1] {
        {
            let mut state = world.now();
            for _ in 0..state.late.len().div_ceil(part) {
                state.deliver(0);
            }
        }
        everything(world, me);
        for _ in 0..2 {
            let store = SimStore::start(world, me, Role::Auditor);
            if let Err(error) = prune_once(&store, 0.0, &|_| true) {
                world.violation(format!("the last prune fails: {}", error.chain()));
            }
            store.end();
        }
        everything(world, me);
        if let Err(error) = garbage(world, me) {
            world.violation(format!("the last look fails: {}", error.chain()));
        }
    }
}

fn garbage(world: &Arc<World>, me: usize) -> Result<()> {
    let store = SimStore::start(world, me, Role::Auditor);
    let repository = open(&store)?;
    let mut needed = HashSet::new();
    for listed in repository.all_snapshots()? {
        needed.insert(listed.snapshot.root.page);
        for number in pieces(&repository, &listed.snapshot)? {
            needed.insert(repository.keys().chunk_id(&content(number)));
        }
    }
    let index = repository.index();
    let packs: HashSet<_> = needed.iter().flat_map(|id| index.find_all(id)).map(|place| place.pack.id).collect();
    for pack in bakfs::store::Store::list(&*store, ObjectKind::Pack)? {
        if !packs.contains(&pack.id) {
            world.violation(format!("pack {} is not needed and stays", pack.id));
        }
    }
    if let Some((_, condemn)) = repository.marks()?.condemned().next() {
        world.violation(format!("{condemn:?} stays"));
    }
    store.end();
    Ok(())
}
