//! Which packs go: those nothing needs, and those whose waste is worth copying the rest.

use super::catalog::{Catalog, Copy};
use super::usage::Usage;
use crate::format::header::Kind;
use crate::format::pack::TARGET_PACK_BYTES;
use crate::id::ObjectId;
use crate::repo::index::location::locate;
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// Packs shorter than this are small.
const SMALL_PACK_BYTES: u64 = TARGET_PACK_BYTES as u64 / 8;
/// So many small packs of a kind are copied together, whatever their waste: every object costs a request.
const MANY_SMALL_PACKS: usize = 64;

/// How full a pack is, in plaintext but for its length; about 80 bytes of memory for each pack.
#[derive(Debug, Clone, Copy)]
struct Fill {
    kind: Kind,
    len_bytes: u64,
    all_bytes: u64,
    used_bytes: u64,
    used_chunks: u64,
}

impl Fill {
    /// Estimates the stored bytes nothing needs: frames are compressed, so only their plaintext is counted exactly.
    fn waste_bytes(&self) -> u64 {
        let share = u128::from(self.all_bytes.saturating_sub(self.used_bytes)) * u128::from(self.len_bytes);
        share.checked_div(u128::from(self.all_bytes)).map_or(self.len_bytes, |bytes| bytes as u64)
    }
}

/// Which packs a prune would delete.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Packs nothing needs.
    pub unused: Vec<ObjectId>,
    /// Packs to delete once what is needed of them is copied.
    pub repack: HashSet<ObjectId>,
    /// The plan in numbers.
    pub sizes: Sizes,
}

/// What a prune would do, in numbers.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Sizes {
    /// Packs there are.
    pub packs: u64,
    /// Their stored length.
    pub pack_bytes: u64,
    /// Packs nothing needs.
    pub unused_packs: u64,
    /// Their stored length.
    pub unused_bytes: u64,
    /// Packs that are copied in part and deleted.
    pub repack_packs: u64,
    /// Their stored length.
    pub repack_bytes: u64,
    /// What of these is copied, before compression.
    pub copied_plain_bytes: u64,
    /// Chunks that are copied.
    pub copied_chunks: u64,
    /// Packs no index object names, of interrupted backups or of ones that are running.
    #[serde(skip)]
    pub unnamed_packs: u64,
    /// What nothing needs and stays, estimated.
    pub waste_bytes: u64,
}

/// Plans a prune that leaves at most `max_waste` (a share, from 0 to 1) of the packs' length unused.
///
/// Packs no index object names are deleted only where `take_unnamed` says that nobody can be about to name them.
pub fn plan(catalog: &Catalog, usage: &Usage, max_waste: f64, take_unnamed: bool) -> Plan {
    let mut fills: HashMap<ObjectId, Fill> = HashMap::new();
    for (object, (_, segment)) in catalog.objects().enumerate() {
        // A pack that two index objects name is counted in the first.
        let counted: Vec<bool> = (0..segment.pack_count())
            .map(|at| {
                let Some(pack) = segment.pack(at).filter(|pack| catalog.has(pack)) else { return false };
                let empty =
                    Fill { kind: pack.kind, len_bytes: pack.len_bytes, all_bytes: 0, used_bytes: 0, used_chunks: 0 };
                let known = fills.contains_key(&pack.id);
                fills.entry(pack.id).or_insert(empty);
                !known
            })
            .collect();
        for record in 0..segment.chunk_count() {
            let Some(chunk) = segment.chunk(record) else { continue };
            let Some(place) = locate(segment, chunk) else { continue };
            let Some(fill) = fills.get_mut(&place.pack.id) else { continue };
            let len = u64::from(chunk.len_bytes);
            let is_first = counted.get(place.frame.pack as usize).copied().unwrap_or(false);
            if is_first {
                fill.all_bytes += len;
            }
            let copy = Copy { object, record, pack: place.pack, len_bytes: chunk.len_bytes };
            if usage.keeps(&copy) {
                fill.used_bytes += len;
                fill.used_chunks += 1;
            }
        }
    }
    catalog.release_memory();
    let unnamed = catalog.unnamed();
    let mut plan = Plan::default();
    plan.sizes.packs = catalog.packs().len() as u64;
    plan.sizes.pack_bytes = catalog.packs().values().sum();
    plan.sizes.unnamed_packs = unnamed.len() as u64;
    let unneeded = fills.iter().filter(|(_, fill)| fill.used_chunks == 0).map(|(id, _)| *id);
    plan.unused = unneeded.chain(unnamed.into_iter().filter(|_| take_unnamed)).collect();
    plan.unused.sort();
    plan.sizes.unused_packs = plan.unused.len() as u64;
    plan.sizes.unused_bytes = plan.unused.iter().filter_map(|id| catalog.packs().get(id)).sum();
    choose_repack(&fills, max_waste, &mut plan);
    plan
}

/// Adds the packs to copy the rest of, the most wasteful first, and then small ones where there are many.
fn choose_repack(fills: &HashMap<ObjectId, Fill>, max_waste: f64, plan: &mut Plan) {
    let mut partly: Vec<_> = fills.iter().filter(|(_, fill)| fill.used_chunks > 0).collect();
    // The most wasteful first; ids make the order the same on every machine.
    let key = |(id, fill): &(&ObjectId, &Fill)| {
        let share = (u128::from(fill.waste_bytes()) << 32) / u128::from(fill.len_bytes.max(1));
        (std::cmp::Reverse(share), **id)
    };
    partly.sort_by_key(key);
    let mut waste: u64 = partly.iter().map(|(_, fill)| fill.waste_bytes()).sum();
    let mut kept: u64 = partly.iter().map(|(_, fill)| fill.len_bytes).sum();
    for (id, fill) in &partly {
        if fill.waste_bytes() == 0 || waste as f64 <= kept as f64 * max_waste {
            break;
        }
        waste -= fill.waste_bytes();
        kept -= fill.waste_bytes();
        plan.repack.insert(**id);
    }
    for kind in [Kind::DataPack, Kind::TreePack] {
        let is_small = |fill: &Fill| fill.kind == kind && fill.len_bytes < SMALL_PACK_BYTES;
        let small: Vec<_> = partly.iter().filter(|(_, fill)| is_small(fill)).map(|(id, _)| **id).collect();
        // Who accepts any waste has no room to copy.
        if small.len() >= MANY_SMALL_PACKS && max_waste < 1.0 {
            plan.repack.extend(small);
        }
    }
    for fill in plan.repack.iter().filter_map(|id| fills.get(id)) {
        plan.sizes.repack_packs += 1;
        plan.sizes.repack_bytes += fill.len_bytes;
        plan.sizes.copied_plain_bytes += fill.used_bytes;
        plan.sizes.copied_chunks += fill.used_chunks;
    }
    plan.sizes.waste_bytes =
        partly.iter().filter(|(id, _)| !plan.repack.contains(id)).map(|(_, fill)| fill.waste_bytes()).sum();
}
